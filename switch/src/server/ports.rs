//! Ports, their addresses and routes.

use std::sync::Arc;

use axum::extract::State;
use vswitch_api::change::ObjectKind;
use vswitch_api::lab::{Port, Route};
use vswitch_api::name::PortName;
use vswitch_api::request::{
    AclAdd, AclSelect, AddressAdd, AddressSelect, PortPatch, PortsAdd, RouteSelect, SwitchFilter,
};
use vswitch_api::view::{AddressView, Changes, PortAclView, PortView};

use super::api::{Tagged, tagged};
use super::error::{Failure, Reply};
use super::extract::{Body, Done, Edit, Made, Path, Query};
use crate::control::{Control, Subject};

/// All ports, or those of one switch
#[utoipa::path(
    get, path = "/v1/ports", tag = "ports", operation_id = "list_ports",
    params(SwitchFilter), responses((status = 200, description = "OK", body = Vec<PortView>, headers(("ETag" = String, description = "Tag of the lab, for `If-Match`"))), Failure)
)]
pub(super) async fn list(
    State(control): State<Arc<Control>>,
    Query(filter): Query<SwitchFilter>,
) -> Result<Tagged<Vec<PortView>>, Failure> {
    tagged(&control, Subject::Lab, control.ports(filter.switch.as_ref())).await
}

/// Add a port, with its namespace, interface, addresses and routes
#[utoipa::path(
    post, path = "/v1/ports", tag = "ports", operation_id = "add_port",
    params(Edit), request_body = Port, responses(Made, Failure)
)]
pub(super) async fn add(change: Edit, Body(port): Body<Port>) -> Result<Made, Failure> {
    change
        .add("/v1/ports", ObjectKind::Port, |control, options| async move {
            control.add_port(port, options).await
        })
        .await
}

/// Add several ports, all or none; each can be given the next free address of subnets
#[utoipa::path(
    post, path = "/v1/lab/ports", tag = "ports", operation_id = "add_ports",
    params(Edit), request_body = PortsAdd, responses(Made, Failure)
)]
pub(super) async fn add_several(change: Edit, Body(ports): Body<PortsAdd>) -> Result<Made, Failure> {
    change
        .add("/v1/ports", ObjectKind::Port, |control, options| async move {
            control.add_ports(ports, options).await
        })
        .await
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
    tagged(&control, Subject::Port(&name), async { control.acl(&name) }).await
}

/// Put a rule into an access control list of a port
#[utoipa::path(
    post, path = "/v1/ports/{name}/acl", tag = "ports", operation_id = "add_acl_rule",
    params(("name" = PortName, Path, description = "Name of the port"), Edit),
    request_body = AclAdd, responses(Done, Failure)
)]
pub(super) async fn acl_add(Path(name): Path<PortName>, change: Edit, Body(add): Body<AclAdd>) -> Reply<Changes> {
    change
        .make(|control, options| async move { control.acl_add(&name, add, options).await })
        .await
}

/// Take a rule out of an access control list of a port, or all
#[utoipa::path(
    delete, path = "/v1/ports/{name}/acl", tag = "ports", operation_id = "remove_acl_rules",
    params(("name" = PortName, Path, description = "Name of the port"), AclSelect, Edit),
    responses(Done, Failure)
)]
pub(super) async fn acl_remove(
    Path(name): Path<PortName>,
    Query(select): Query<AclSelect>,
    change: Edit,
) -> Reply<Changes> {
    change
        .make(|control, options| async move { control.acl_remove(&name, select, options).await })
        .await
}

/// Change the settings of a port
#[utoipa::path(
    patch, path = "/v1/ports/{name}", tag = "ports", operation_id = "patch_port",
    params(("name" = PortName, Path, description = "Name of the port"), Edit),
    request_body(content((PortPatch = "application/merge-patch+json"), (PortPatch = "application/json"))), responses(Done, Failure)
)]
pub(super) async fn patch(Path(name): Path<PortName>, change: Edit, Body(patch): Body<PortPatch>) -> Reply<Changes> {
    change
        .make(|control, options| async move { control.patch_port(&name, patch, options).await })
        .await
}

/// Remove a port and what was made for it
#[utoipa::path(
    delete, path = "/v1/ports/{name}", tag = "ports", operation_id = "remove_port",
    params(("name" = PortName, Path, description = "Name of the port"), Edit),
    responses(Done, Failure)
)]
pub(super) async fn remove(Path(name): Path<PortName>, change: Edit) -> Reply<Changes> {
    change
        .make(|control, options| async move { control.remove_port(&name, options).await })
        .await
}

/// The addresses that vswitch gave, of all ports or those of one switch
#[utoipa::path(
    get, path = "/v1/addresses", tag = "ports", operation_id = "list_addresses",
    params(SwitchFilter), responses((status = 200, description = "OK", body = Vec<AddressView>, headers(("ETag" = String, description = "Tag of the lab, for `If-Match`"))), Failure)
)]
pub(super) async fn addresses(
    State(control): State<Arc<Control>>,
    Query(filter): Query<SwitchFilter>,
) -> Result<Tagged<Vec<AddressView>>, Failure> {
    tagged(&control, Subject::Lab, async {
        control.addresses(filter.switch.as_ref())
    })
    .await
}

/// Give an address to the interface of a port, and announce it
#[utoipa::path(
    post, path = "/v1/ports/{name}/addresses", tag = "ports", operation_id = "add_address",
    params(("name" = PortName, Path, description = "Name of the port"), Edit),
    request_body = AddressAdd, responses(Done, Failure)
)]
pub(super) async fn add_address(
    Path(name): Path<PortName>,
    change: Edit,
    Body(add): Body<AddressAdd>,
) -> Reply<Changes> {
    change
        .make(|control, options| async move { control.add_address(&name, add.address, options).await })
        .await
}

/// Take one address from the interface of a port, or all
#[utoipa::path(
    delete, path = "/v1/ports/{name}/addresses", tag = "ports", operation_id = "remove_addresses",
    params(("name" = PortName, Path, description = "Name of the port"), AddressSelect, Edit),
    responses(Done, Failure)
)]
pub(super) async fn remove_addresses(
    Path(name): Path<PortName>,
    Query(select): Query<AddressSelect>,
    change: Edit,
) -> Reply<Changes> {
    change
        .make(|control, options| async move { control.remove_addresses(&name, select.address, options).await })
        .await
}

/// Add a route through the interface of a port
#[utoipa::path(
    post, path = "/v1/ports/{name}/routes", tag = "ports", operation_id = "add_route",
    params(("name" = PortName, Path, description = "Name of the port"), Edit),
    request_body = Route, responses(Done, Failure)
)]
pub(super) async fn add_route(Path(name): Path<PortName>, change: Edit, Body(route): Body<Route>) -> Reply<Changes> {
    change
        .make(|control, options| async move { control.add_route(&name, route, options).await })
        .await
}

/// Remove a route through the interface of a port
#[utoipa::path(
    delete, path = "/v1/ports/{name}/routes", tag = "ports", operation_id = "remove_route",
    params(("name" = PortName, Path, description = "Name of the port"), RouteSelect, Edit),
    responses(Done, Failure)
)]
pub(super) async fn remove_route(
    Path(name): Path<PortName>,
    Query(select): Query<RouteSelect>,
    change: Edit,
) -> Reply<Changes> {
    change
        .make(|control, options| async move { control.remove_route(&name, select.to, options).await })
        .await
}
