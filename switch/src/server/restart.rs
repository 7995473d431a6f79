//! The daemon begins anew, as the program that is installed by now.

use axum::extract::State;
use vswitch_api::change::{Change, ChangeAction, ObjectKind};
use vswitch_api::request::ChangeOptions;
use vswitch_api::view::Changes;

use super::api::Shared;
use super::error::{Failure, Reply};
use super::extract::{Done, Edit};

/// Restart the daemon, as the program that is installed by now
///
/// The answer comes before; then requests under way are answered and event streams end. `run` of the status is another when it is back.
/// Frames wait meanwhile, and ports, stations and counters stay. It is refused if that program would not start.
#[utoipa::path(
    post,
    path = "/v1/restart",
    tag = "daemon",
    operation_id = "restart",
    params(ChangeOptions),
    responses(Done, Failure)
)]
pub(super) async fn restart(State(shared): State<Shared>, edit: Edit) -> Reply<Changes> {
    edit.make(async move |control, how| {
        let restart = shared.restart;
        restart.check().await?;
        // One that is under way would be undone.
        control.after_edits().await?;
        if !how.dry_run {
            restart.ask();
        }
        Ok(Changes {
            dry_run: how.dry_run,
            done: vec![format!("restarted vswitchd as {}", restart.program().display())],
            changes: vec![Change::new(ChangeAction::Restarted, ObjectKind::Daemon, "vswitchd")],
            ..Changes::default()
        })
    })
    .await
}
