//! Namespaces.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use vswitch_api::name::NsName;
use vswitch_api::request::{ChangeOptions, Condition, NamespaceAdd};
use vswitch_api::view::{Changes, NamespaceSummary, NamespaceView};

use super::api::edit;
use super::error::{Failure, Reply};
use super::extract::{Body, Edit, Path};
use crate::control::Control;

/// All namespaces: those that are there and those that the lab names
#[utoipa::path(
    get, path = "/v1/namespaces", tag = "namespaces", operation_id = "list_namespaces",
    responses((status = 200, description = "OK", body = Vec<NamespaceSummary>), Failure)
)]
pub(super) async fn list(State(control): State<Arc<Control>>) -> Reply<Vec<NamespaceSummary>> {
    Ok(Json(control.namespaces().await?))
}

/// Add a namespace
#[utoipa::path(
    post, path = "/v1/namespaces", tag = "namespaces", operation_id = "add_namespace",
    params(ChangeOptions, Condition), request_body = NamespaceAdd, responses((status = 200, description = "What was done", body = Changes), Failure)
)]
pub(super) async fn add(
    State(control): State<Arc<Control>>,
    Edit(options): Edit,
    Body(add): Body<NamespaceAdd>,
) -> Reply<Changes> {
    edit(async move { control.add_namespace(add.name, options).await }).await
}

/// A namespace from inside: interfaces, addresses, routes, neighbours
#[utoipa::path(
    get, path = "/v1/namespaces/{name}", tag = "namespaces", operation_id = "get_namespace",
    params(("name" = NsName, Path, description = "Name of the namespace")),
    responses((status = 200, description = "OK", body = NamespaceView), Failure)
)]
pub(super) async fn get(State(control): State<Arc<Control>>, Path(name): Path<NsName>) -> Reply<NamespaceView> {
    Ok(Json(control.namespace(&name).await?))
}

/// Remove a namespace that vswitch made
#[utoipa::path(
    delete, path = "/v1/namespaces/{name}", tag = "namespaces", operation_id = "remove_namespace",
    params(("name" = NsName, Path, description = "Name of the namespace"), ChangeOptions, Condition),
    responses((status = 200, description = "What was done", body = Changes), Failure)
)]
pub(super) async fn remove(
    State(control): State<Arc<Control>>,
    Path(name): Path<NsName>,
    Edit(options): Edit,
) -> Reply<Changes> {
    edit(async move { control.remove_namespace(&name, options).await }).await
}
