//! Ports, their addresses and routes.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use vswitch_api::lab::{Port, Route};
use vswitch_api::name::PortName;
use vswitch_api::request::{
    AclAdd, AclSelect, AddressAdd, AddressSelect, ChangeOptions, Condition, PortPatch, RouteSelect, SwitchFilter,
};
use vswitch_api::view::{AddressView, Changes, PortAclView, PortView};

use super::api::{Tagged, edit, tagged};
use super::error::{Failure, Reply};
use super::extract::{Body, Edit, Path, Query};
use crate::control::{Control, Subject};

/// All ports, or those of one switch
#[utoipa::path(
    get, path = "/v1/ports", tag = "ports", operation_id = "list_ports",
    params(SwitchFilter), responses((status = 200, description = "OK", body = Vec<PortView>), Failure)
)]
pub(super) async fn list(
    State(control): State<Arc<Control>>,
    Query(filter): Query<SwitchFilter>,
) -> Reply<Vec<PortView>> {
    Ok(Json(control.ports(filter.switch.as_ref()).await?))
}

/// Add a port, with its namespace, interface, addresses and routes
#[utoipa::path(
    post, path = "/v1/ports", tag = "ports", operation_id = "add_port",
    params(ChangeOptions, Condition), request_body = Port, responses((status = 200, description = "What was done", body = Changes), Failure)
)]
pub(super) async fn add(
    State(control): State<Arc<Control>>,
    Edit(options): Edit,
    Body(port): Body<Port>,
) -> Reply<Changes> {
    edit(async move { control.add_port(port, options).await }).await
}

/// One port
#[utoipa::path(
    get, path = "/v1/ports/{name}", tag = "ports", operation_id = "get_port",
    params(("name" = PortName, Path, description = "Name of the port")),
    responses((status = 200, description = "OK", body = PortView, headers(("ETag" = String, description = "Tag of its settings, for `If-Match`"))), Failure)
)]
pub(super) async fn get(
    State(control): State<Arc<Control>>,
    Path(name): Path<PortName>,
) -> Result<Tagged<PortView>, Failure> {
    tagged(&control, Subject::Port(&name), control.port(&name)).await
}

/// The access control lists of a port, with hits
#[utoipa::path(
    get, path = "/v1/ports/{name}/acl", tag = "ports", operation_id = "get_acl",
    params(("name" = PortName, Path, description = "Name of the port")),
    responses((status = 200, description = "OK", body = PortAclView, headers(("ETag" = String, description = "Tag of its settings, for `If-Match`"))), Failure)
)]
pub(super) async fn acl(
    State(control): State<Arc<Control>>,
    Path(name): Path<PortName>,
) -> Result<Tagged<PortAclView>, Failure> {
    tagged(&control, Subject::Port(&name), control.acl(&name)).await
}

/// Put a rule into an access control list of a port
#[utoipa::path(
    post, path = "/v1/ports/{name}/acl", tag = "ports", operation_id = "add_acl_rule",
    params(("name" = PortName, Path, description = "Name of the port"), ChangeOptions, Condition),
    request_body = AclAdd, responses((status = 200, description = "What was done", body = Changes), Failure)
)]
pub(super) async fn acl_add(
    State(control): State<Arc<Control>>,
    Path(name): Path<PortName>,
    Edit(options): Edit,
    Body(add): Body<AclAdd>,
) -> Reply<Changes> {
    edit(async move { control.acl_add(&name, add, options).await }).await
}

/// Take a rule out of an access control list of a port, or all
#[utoipa::path(
    delete, path = "/v1/ports/{name}/acl", tag = "ports", operation_id = "remove_acl_rules",
    params(("name" = PortName, Path, description = "Name of the port"), AclSelect, ChangeOptions, Condition),
    responses((status = 200, description = "What was done", body = Changes), Failure)
)]
pub(super) async fn acl_remove(
    State(control): State<Arc<Control>>,
    Path(name): Path<PortName>,
    Query(select): Query<AclSelect>,
    Edit(options): Edit,
) -> Reply<Changes> {
    edit(async move { control.acl_remove(&name, select, options).await }).await
}

/// Change the settings of a port
#[utoipa::path(
    patch, path = "/v1/ports/{name}", tag = "ports", operation_id = "patch_port",
    params(("name" = PortName, Path, description = "Name of the port"), ChangeOptions, Condition),
    request_body(content((PortPatch = "application/merge-patch+json"), (PortPatch = "application/json"))), responses((status = 200, description = "What was done", body = Changes), Failure)
)]
pub(super) async fn patch(
    State(control): State<Arc<Control>>,
    Path(name): Path<PortName>,
    Edit(options): Edit,
    Body(patch): Body<PortPatch>,
) -> Reply<Changes> {
    edit(async move { control.patch_port(&name, patch, options).await }).await
}

/// Remove a port and what was made for it
#[utoipa::path(
    delete, path = "/v1/ports/{name}", tag = "ports", operation_id = "remove_port",
    params(("name" = PortName, Path, description = "Name of the port"), ChangeOptions, Condition),
    responses((status = 200, description = "What was done", body = Changes), Failure)
)]
pub(super) async fn remove(
    State(control): State<Arc<Control>>,
    Path(name): Path<PortName>,
    Edit(options): Edit,
) -> Reply<Changes> {
    edit(async move { control.remove_port(&name, options).await }).await
}

/// The addresses that vswitch gave, of all ports or those of one switch
#[utoipa::path(
    get, path = "/v1/addresses", tag = "ports", operation_id = "list_addresses",
    params(SwitchFilter), responses((status = 200, description = "OK", body = Vec<AddressView>), Failure)
)]
pub(super) async fn addresses(
    State(control): State<Arc<Control>>,
    Query(filter): Query<SwitchFilter>,
) -> Reply<Vec<AddressView>> {
    Ok(Json(control.addresses(filter.switch.as_ref()).await?))
}

/// Give an address to the interface of a port, and announce it
#[utoipa::path(
    post, path = "/v1/ports/{name}/addresses", tag = "ports", operation_id = "add_address",
    params(("name" = PortName, Path, description = "Name of the port"), ChangeOptions, Condition),
    request_body = AddressAdd, responses((status = 200, description = "What was done", body = Changes), Failure)
)]
pub(super) async fn add_address(
    State(control): State<Arc<Control>>,
    Path(name): Path<PortName>,
    Edit(options): Edit,
    Body(add): Body<AddressAdd>,
) -> Reply<Changes> {
    edit(async move { control.add_address(&name, add.address, options).await }).await
}

/// Take one address from the interface of a port, or all
#[utoipa::path(
    delete, path = "/v1/ports/{name}/addresses", tag = "ports", operation_id = "remove_addresses",
    params(("name" = PortName, Path, description = "Name of the port"), AddressSelect, ChangeOptions, Condition),
    responses((status = 200, description = "What was done", body = Changes), Failure)
)]
pub(super) async fn remove_addresses(
    State(control): State<Arc<Control>>,
    Path(name): Path<PortName>,
    Query(select): Query<AddressSelect>,
    Edit(options): Edit,
) -> Reply<Changes> {
    edit(async move { control.remove_addresses(&name, select.address, options).await }).await
}

/// Add a route through the interface of a port
#[utoipa::path(
    post, path = "/v1/ports/{name}/routes", tag = "ports", operation_id = "add_route",
    params(("name" = PortName, Path, description = "Name of the port"), ChangeOptions, Condition),
    request_body = Route, responses((status = 200, description = "What was done", body = Changes), Failure)
)]
pub(super) async fn add_route(
    State(control): State<Arc<Control>>,
    Path(name): Path<PortName>,
    Edit(options): Edit,
    Body(route): Body<Route>,
) -> Reply<Changes> {
    edit(async move { control.add_route(&name, route, options).await }).await
}

/// Remove a route through the interface of a port
#[utoipa::path(
    delete, path = "/v1/ports/{name}/routes", tag = "ports", operation_id = "remove_route",
    params(("name" = PortName, Path, description = "Name of the port"), RouteSelect, ChangeOptions, Condition),
    responses((status = 200, description = "What was done", body = Changes), Failure)
)]
pub(super) async fn remove_route(
    State(control): State<Arc<Control>>,
    Path(name): Path<PortName>,
    Query(select): Query<RouteSelect>,
    Edit(options): Edit,
) -> Reply<Changes> {
    edit(async move { control.remove_route(&name, select.to, options).await }).await
}
