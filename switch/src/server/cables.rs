//! Cables: direct links between two namespaces.

use std::sync::Arc;

use axum::extract::State;
use vswitch_api::change::ObjectKind;
use vswitch_api::name::NsName;
use vswitch_api::request::{CablePatch, CableSelect};
use vswitch_api::view::Changes;
use vswitch_api::{Cable, CableView};

use super::api::{Tagged, tagged};
use super::error::{Failure, Reply};
use super::extract::{Body, Done, Edit, Made, Path, Query};
use crate::control::{Control, Subject};

/// All cables
#[utoipa::path(
    get, path = "/v1/cables", tag = "namespaces", operation_id = "list_cables",
    responses((status = 200, description = "OK", body = Vec<CableView>, headers(("ETag" = String, description = "Tag of the lab, for `If-Match`"))), Failure)
)]
pub(super) async fn list(State(control): State<Arc<Control>>) -> Result<Tagged<Vec<CableView>>, Failure> {
    tagged(&control, Subject::Lab, control.cables()).await
}

/// Join two namespaces directly
#[utoipa::path(
    post, path = "/v1/cables", tag = "namespaces", operation_id = "add_cable",
    params(Edit), request_body = Cable, responses(Made, Failure)
)]
pub(super) async fn add(change: Edit, Body(cable): Body<Cable>) -> Result<Made, Failure> {
    change
        .add("/v1/cables", ObjectKind::Cable, |control, options| async move {
            control.add_cable(cable, options).await
        })
        .await
}

/// The cables between two namespaces
#[utoipa::path(
    get, path = "/v1/cables/{a}/{b}", tag = "namespaces", operation_id = "get_cables",
    params(
        ("a" = NsName, Path, description = "Namespace of one end"),
        ("b" = NsName, Path, description = "Namespace of the other end")
    ),
    responses((status = 200, description = "OK", body = Vec<CableView>, headers(("ETag" = String, description = "Tag of their settings, for `If-Match`"))), Failure)
)]
pub(super) async fn get(
    State(control): State<Arc<Control>>,
    Path((a, b)): Path<(NsName, NsName)>,
) -> Result<Tagged<Vec<CableView>>, Failure> {
    tagged(&control, Subject::Cables(&a, &b), control.cables_between(&a, &b)).await
}

/// Change the settings of a cable between two namespaces
#[utoipa::path(
    patch, path = "/v1/cables/{a}/{b}", tag = "namespaces", operation_id = "patch_cable",
    params(
        ("a" = NsName, Path, description = "Namespace of one end"),
        ("b" = NsName, Path, description = "Namespace of the other end"),
        CableSelect,
        Edit
    ),
    request_body(content((CablePatch = "application/merge-patch+json"), (CablePatch = "application/json"))), responses(Done, Failure)
)]
pub(super) async fn patch(
    Path((a, b)): Path<(NsName, NsName)>,
    Query(select): Query<CableSelect>,
    change: Edit,
    Body(patch): Body<CablePatch>,
) -> Reply<Changes> {
    change
        .make(|control, options| async move { control.patch_cable(&a, &b, select, patch, options).await })
        .await
}

/// Remove a cable between two namespaces
#[utoipa::path(
    delete, path = "/v1/cables/{a}/{b}", tag = "namespaces", operation_id = "remove_cable",
    params(
        ("a" = NsName, Path, description = "Namespace of one end"),
        ("b" = NsName, Path, description = "Namespace of the other end"),
        CableSelect,
        Edit
    ),
    responses(Done, Failure)
)]
pub(super) async fn remove(
    Path((a, b)): Path<(NsName, NsName)>,
    Query(select): Query<CableSelect>,
    change: Edit,
) -> Reply<Changes> {
    change
        .make(|control, options| async move { control.remove_cable(&a, &b, select, options).await })
        .await
}
