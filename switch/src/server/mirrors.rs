//! Mirrors.

use std::sync::Arc;

use axum::extract::State;
use vswitch_api::change::ObjectKind;
use vswitch_api::mirror::{Mirror, MirrorView};
use vswitch_api::name::MirrorName;
use vswitch_api::request::MirrorPatch;
use vswitch_api::view::Changes;

use super::api::{Tagged, tagged};
use super::error::{Failure, Reply};
use super::extract::{Body, Done, Edit, Made, Path};
use crate::control::{Control, Subject};

/// All mirrors
#[utoipa::path(
    get, path = "/v1/mirrors", tag = "switches", operation_id = "list_mirrors",
    responses((status = 200, description = "OK", body = Vec<MirrorView>, headers(("ETag" = String, description = "Tag of the lab, for `If-Match`"))), Failure)
)]
pub(super) async fn list(State(control): State<Arc<Control>>) -> Result<Tagged<Vec<MirrorView>>, Failure> {
    tagged(&control, Subject::Lab, async { Ok(control.mirrors()) }).await
}

/// Add a mirror: copies of the frames of some ports go to another
#[utoipa::path(
    post, path = "/v1/mirrors", tag = "switches", operation_id = "add_mirror",
    params(Edit), request_body = Mirror, responses(Made, Failure)
)]
pub(super) async fn add(change: Edit, Body(mirror): Body<Mirror>) -> Result<Made, Failure> {
    change
        .add("/v1/mirrors", ObjectKind::Mirror, |control, options| async move {
            control.add_mirror(mirror, options).await
        })
        .await
}

/// One mirror
#[utoipa::path(
    get, path = "/v1/mirrors/{name}", tag = "switches", operation_id = "get_mirror",
    params(("name" = MirrorName, Path, description = "Name of the mirror")),
    responses((status = 200, description = "OK", body = MirrorView, headers(("ETag" = String, description = "Tag of its settings, for `If-Match`"))), Failure)
)]
pub(super) async fn get(
    State(control): State<Arc<Control>>,
    Path(name): Path<MirrorName>,
) -> Result<Tagged<MirrorView>, Failure> {
    tagged(&control, Subject::Mirror(&name), async { control.mirror(&name) }).await
}

/// Change settings of a mirror, by a JSON merge patch
#[utoipa::path(
    patch, path = "/v1/mirrors/{name}", tag = "switches", operation_id = "set_mirror",
    params(("name" = MirrorName, Path, description = "Name of the mirror"), Edit),
    request_body(content((MirrorPatch = "application/merge-patch+json"), (MirrorPatch = "application/json"))), responses(Done, Failure)
)]
pub(super) async fn patch(
    Path(name): Path<MirrorName>,
    change: Edit,
    Body(patch): Body<MirrorPatch>,
) -> Reply<Changes> {
    change
        .make(|control, options| async move { control.patch_mirror(&name, patch, options).await })
        .await
}

/// Remove a mirror; its destination is an ordinary port again
#[utoipa::path(
    delete, path = "/v1/mirrors/{name}", tag = "switches", operation_id = "remove_mirror",
    params(("name" = MirrorName, Path, description = "Name of the mirror"), Edit),
    responses(Done, Failure)
)]
pub(super) async fn remove(Path(name): Path<MirrorName>, change: Edit) -> Reply<Changes> {
    change
        .make(|control, options| async move { control.remove_mirror(&name, options).await })
        .await
}
