//! Mirrors.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use vswitch_api::mirror::{Mirror, MirrorView};
use vswitch_api::name::MirrorName;
use vswitch_api::request::ChangeOptions;
use vswitch_api::view::Changes;

use super::api::edit;
use super::error::{Failure, Reply};
use super::extract::{Body, Path, Query};
use crate::control::Control;

/// All mirrors
#[utoipa::path(
    get, path = "/v1/mirrors", tag = "switches", operation_id = "list_mirrors",
    responses((status = 200, description = "OK", body = Vec<MirrorView>), Failure)
)]
pub(super) async fn list(State(control): State<Arc<Control>>) -> Reply<Vec<MirrorView>> {
    Ok(Json(control.mirrors().await?))
}

/// Add a mirror: copies of the frames of some ports go to another
#[utoipa::path(
    post, path = "/v1/mirrors", tag = "switches", operation_id = "add_mirror",
    params(ChangeOptions), request_body = Mirror, responses((status = 200, description = "What was done", body = Changes), Failure)
)]
pub(super) async fn add(
    State(control): State<Arc<Control>>,
    Query(options): Query<ChangeOptions>,
    Body(mirror): Body<Mirror>,
) -> Reply<Changes> {
    edit(async move { control.add_mirror(mirror, options).await }).await
}

/// One mirror
#[utoipa::path(
    get, path = "/v1/mirrors/{name}", tag = "switches", operation_id = "get_mirror",
    params(("name" = MirrorName, Path, description = "Name of the mirror")),
    responses((status = 200, description = "OK", body = MirrorView), Failure)
)]
pub(super) async fn get(State(control): State<Arc<Control>>, Path(name): Path<MirrorName>) -> Reply<MirrorView> {
    Ok(Json(control.mirror(&name).await?))
}

/// Remove a mirror; its destination is an ordinary port again
#[utoipa::path(
    delete, path = "/v1/mirrors/{name}", tag = "switches", operation_id = "remove_mirror",
    params(("name" = MirrorName, Path, description = "Name of the mirror"), ChangeOptions),
    responses((status = 200, description = "What was done", body = Changes), Failure)
)]
pub(super) async fn remove(
    State(control): State<Arc<Control>>,
    Path(name): Path<MirrorName>,
    Query(options): Query<ChangeOptions>,
) -> Reply<Changes> {
    edit(async move { control.remove_mirror(&name, options).await }).await
}
