//! Cables: direct links between two namespaces.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use vswitch_api::lab::Cable;
use vswitch_api::name::NsName;
use vswitch_api::request::{CableSelect, ChangeOptions, Condition};
use vswitch_api::view::Changes;

use super::api::edit;
use super::error::{Failure, Reply};
use super::extract::{Body, Edit, Path, Query};
use crate::control::Control;

/// All cables
#[utoipa::path(
    get, path = "/v1/cables", tag = "namespaces", operation_id = "list_cables",
    responses((status = 200, description = "OK", body = Vec<Cable>), Failure)
)]
pub(super) async fn list(State(control): State<Arc<Control>>) -> Reply<Vec<Cable>> {
    Ok(Json(control.cables().await?))
}

/// Join two namespaces directly
#[utoipa::path(
    post, path = "/v1/cables", tag = "namespaces", operation_id = "add_cable",
    params(ChangeOptions, Condition), request_body = Cable, responses((status = 200, description = "What was done", body = Changes), Failure)
)]
pub(super) async fn add(
    State(control): State<Arc<Control>>,
    Edit(options): Edit,
    Body(cable): Body<Cable>,
) -> Reply<Changes> {
    edit(async move { control.add_cable(cable, options).await }).await
}

/// Remove a cable between two namespaces
#[utoipa::path(
    delete, path = "/v1/cables/{a}/{b}", tag = "namespaces", operation_id = "remove_cable",
    params(
        ("a" = NsName, Path, description = "Namespace of one end"),
        ("b" = NsName, Path, description = "Namespace of the other end"),
        CableSelect,
        ChangeOptions,
        Condition
    ),
    responses((status = 200, description = "What was done", body = Changes), Failure)
)]
pub(super) async fn remove(
    State(control): State<Arc<Control>>,
    Path((a, b)): Path<(NsName, NsName)>,
    Query(select): Query<CableSelect>,
    Edit(options): Edit,
) -> Reply<Changes> {
    edit(async move { control.remove_cable(&a, &b, select, options).await }).await
}
