//! The daemon, and the lab as a whole.

use std::sync::Arc;

use axum::extract::State;
use axum::{Extension, Json};
use vswitch_api::lab::Lab;
use vswitch_api::request::LabSelect;
use vswitch_api::view::{Changes, Status};

use super::api::{Tagged, tagged};
use super::error::{Failure, Reply};
use super::extract::{Body, Done, Edit, Query};
use super::roles::Caller;
use crate::control::{Control, Editing, Subject};

/// The daemon itself: version, workers, what does not work on this machine
#[utoipa::path(get, path = "/v1/status", tag = "daemon", responses((status = 200, description = "OK", body = Status), Failure))]
pub(super) async fn status(
    State(control): State<Arc<Control>>,
    Extension(caller): Extension<Arc<Caller>>,
) -> Reply<Status> {
    let status = control.status();
    Ok(Json(Status {
        role: caller.role,
        ..status
    }))
}

/// The desired state, complete enough to be applied elsewhere
#[utoipa::path(get, path = "/v1/lab", tag = "daemon", operation_id = "get_lab", responses((status = 200, description = "OK", body = Lab, headers(("ETag" = String, description = "Tag of its settings, for `If-Match`"))), Failure))]
pub(super) async fn get(State(control): State<Arc<Control>>) -> Result<Tagged<Lab>, Failure> {
    tagged(&control, Subject::Lab, async { Ok(control.lab()) }).await
}

/// Replace the desired state: what is not in the new one is removed
#[utoipa::path(
    put, path = "/v1/lab", tag = "daemon", operation_id = "apply_lab",
    params(LabSelect, Edit), request_body = Lab, responses(Done, Failure)
)]
pub(super) async fn apply(Query(select): Query<LabSelect>, change: Edit, Body(lab): Body<Lab>) -> Reply<Changes> {
    change
        .make(|control, options| async move {
            let options = Editing {
                lab: select.lab,
                ..options
            };
            control.apply(lab, options).await
        })
        .await
}

/// Remove everything that vswitch made, and nothing else
#[utoipa::path(post, path = "/v1/reset", tag = "daemon", params(Edit), responses(Done, Failure))]
pub(super) async fn reset(change: Edit) -> Reply<Changes> {
    change
        .make(|control, options| async move { control.reset(options).await })
        .await
}
