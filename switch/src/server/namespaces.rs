//! Namespaces.

use std::sync::Arc;

use axum::extract::State;
use vswitch_api::change::ObjectKind;
use vswitch_api::name::NsName;
use vswitch_api::request::{NamespaceAdd, NamespacePatch};
use vswitch_api::view::{Changes, NamespaceSummary, NamespaceView};

use super::api::{Tagged, tagged};
use super::error::{Failure, Reply};
use super::extract::{Body, Done, Edit, Made, Path};
use crate::control::{Control, Subject};

/// All namespaces: those that are there and those that the lab names
#[utoipa::path(
    get, path = "/v1/namespaces", tag = "namespaces", operation_id = "list_namespaces",
    responses((status = 200, description = "OK", body = Vec<NamespaceSummary>, headers(("ETag" = String, description = "Tag of the lab, for `If-Match`"))), Failure)
)]
pub(super) async fn list(State(control): State<Arc<Control>>) -> Result<Tagged<Vec<NamespaceSummary>>, Failure> {
    tagged(&control, Subject::Lab, async { Ok(control.namespaces().await) }).await
}

/// Add a namespace
#[utoipa::path(
    post, path = "/v1/namespaces", tag = "namespaces", operation_id = "add_namespace",
    params(Edit), request_body = NamespaceAdd, responses(Made, Failure)
)]
pub(super) async fn add(change: Edit, Body(add): Body<NamespaceAdd>) -> Result<Made, Failure> {
    change
        .add("/v1/namespaces", ObjectKind::Namespace, |control, options| async move {
            control.add_namespace(add.name, options).await
        })
        .await
}

/// A namespace from inside: interfaces, addresses, routes, neighbours
#[utoipa::path(
    get, path = "/v1/namespaces/{name}", tag = "namespaces", operation_id = "get_namespace",
    params(("name" = NsName, Path, description = "Name of the namespace")),
    responses((status = 200, description = "OK", body = NamespaceView, headers(("ETag" = String, description = "Tag of its settings, for `If-Match`"))), Failure)
)]
pub(super) async fn get(
    State(control): State<Arc<Control>>,
    Path(name): Path<NsName>,
) -> Result<Tagged<NamespaceView>, Failure> {
    tagged(&control, Subject::Namespace(&name), control.namespace(&name)).await
}

/// Change the settings of a namespace: those of the kernel in it, and its files under /etc/netns
#[utoipa::path(
    patch, path = "/v1/namespaces/{name}", tag = "namespaces", operation_id = "patch_namespace",
    params(("name" = NsName, Path, description = "Name of the namespace"), Edit),
    request_body(content((NamespacePatch = "application/merge-patch+json"), (NamespacePatch = "application/json"))), responses(Done, Failure)
)]
pub(super) async fn patch(Path(name): Path<NsName>, change: Edit, Body(patch): Body<NamespacePatch>) -> Reply<Changes> {
    change
        .make(|control, options| async move { control.patch_namespace(&name, patch, options).await })
        .await
}

/// Remove a namespace that vswitch made
#[utoipa::path(
    delete, path = "/v1/namespaces/{name}", tag = "namespaces", operation_id = "remove_namespace",
    params(("name" = NsName, Path, description = "Name of the namespace"), Edit),
    responses(Done, Failure)
)]
pub(super) async fn remove(Path(name): Path<NsName>, change: Edit) -> Reply<Changes> {
    change
        .make(|control, options| async move { control.remove_namespace(&name, options).await })
        .await
}
