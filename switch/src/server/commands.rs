//! Commands that run in namespaces.

use std::sync::Arc;

use axum::extract::State;
use vswitch_api::Command;
use vswitch_api::change::ObjectKind;
use vswitch_api::name::CommandName;
use vswitch_api::view::Changes;

use super::api::{Tagged, tagged};
use super::error::{Failure, Reply};
use super::extract::{Body, Done, Edit, Made, Path};
use crate::control::{Control, Subject};

/// All commands, as they were asked for; how they are tells `GET /v1/processes`
#[utoipa::path(
    get, path = "/v1/commands", tag = "namespaces", operation_id = "list_commands",
    responses((status = 200, description = "OK", body = Vec<Command>, headers(("ETag" = String, description = "Tag of the lab, for `If-Match`"))), Failure)
)]
pub(super) async fn list(State(control): State<Arc<Control>>) -> Result<Tagged<Vec<Command>>, Failure> {
    tagged(&control, Subject::Lab, async { Ok(control.commands()) }).await
}

/// Run a command in a namespace, as long as it is in the lab. The answer comes when it is ready
#[utoipa::path(
    post, path = "/v1/commands", tag = "namespaces", operation_id = "add_command",
    params(Edit), request_body = Command, responses(Made, Failure)
)]
pub(super) async fn add(change: Edit, Body(command): Body<Command>) -> Result<Made, Failure> {
    change
        .add("/v1/commands", ObjectKind::Command, |control, options| async move {
            control.add_command(command, options).await
        })
        .await
}

/// One command, as it was asked for
#[utoipa::path(
    get, path = "/v1/commands/{name}", tag = "namespaces", operation_id = "get_command",
    params(("name" = CommandName, Path, description = "Name of the command")),
    responses((status = 200, description = "OK", body = Command, headers(("ETag" = String, description = "Tag of its settings, for `If-Match`"))), Failure)
)]
pub(super) async fn get(
    State(control): State<Arc<Control>>,
    Path(name): Path<CommandName>,
) -> Result<Tagged<Command>, Failure> {
    tagged(&control, Subject::Command(&name), async { control.command(&name) }).await
}

/// End a command, and all that descends from it
#[utoipa::path(
    delete, path = "/v1/commands/{name}", tag = "namespaces", operation_id = "remove_command",
    params(("name" = CommandName, Path, description = "Name of the command"), Edit),
    responses(Done, Failure)
)]
pub(super) async fn remove(Path(name): Path<CommandName>, change: Edit) -> Reply<Changes> {
    change
        .make(|control, options| async move { control.remove_command(&name, options).await })
        .await
}

/// End a command and start it again; its log goes on. The answer comes when it is ready
#[utoipa::path(
    post, path = "/v1/commands/{name}/restart", tag = "namespaces", operation_id = "restart_command",
    params(("name" = CommandName, Path, description = "Name of the command"), Edit),
    responses(Done, Failure)
)]
pub(super) async fn restart(Path(name): Path<CommandName>, change: Edit) -> Reply<Changes> {
    change
        .make(|control, options| async move { control.restart_command(&name, options).await })
        .await
}
