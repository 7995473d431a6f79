//! Switches and their forwarding databases.

use std::sync::Arc;

use axum::extract::State;
use vswitch_api::change::ObjectKind;
use vswitch_api::lab::Switch;
use vswitch_api::name::SwitchName;
use vswitch_api::request::{FdbAdd, FdbSelect, SwitchPatch};
use vswitch_api::view::{Changes, FdbEntry, SwitchView};

use super::api::{Tagged, tagged};
use super::error::{Failure, Reply};
use super::extract::{Body, Done, Edit, Made, Path, Query};
use crate::control::{Control, Subject};

/// All switches
#[utoipa::path(
    get, path = "/v1/switches", tag = "switches", operation_id = "list_switches",
    responses((status = 200, description = "OK", body = Vec<SwitchView>, headers(("ETag" = String, description = "Tag of the lab, for `If-Match`"))), Failure)
)]
pub(super) async fn list(State(control): State<Arc<Control>>) -> Result<Tagged<Vec<SwitchView>>, Failure> {
    tagged(&control, Subject::Lab, async { Ok(control.switches()) }).await
}

/// Add a switch
#[utoipa::path(
    post, path = "/v1/switches", tag = "switches", operation_id = "add_switch",
    params(Edit), request_body = Switch, responses(Made, Failure)
)]
pub(super) async fn add(change: Edit, Body(switch): Body<Switch>) -> Result<Made, Failure> {
    change
        .add("/v1/switches", ObjectKind::Switch, |control, options| async move {
            control.add_switch(switch, options).await
        })
        .await
}

/// One switch
#[utoipa::path(
    get, path = "/v1/switches/{name}", tag = "switches", operation_id = "get_switch",
    params(("name" = SwitchName, Path, description = "Name of the switch")),
    responses((status = 200, description = "OK", body = SwitchView, headers(("ETag" = String, description = "Tag of its settings, for `If-Match`"))), Failure)
)]
pub(super) async fn get(
    State(control): State<Arc<Control>>,
    Path(name): Path<SwitchName>,
) -> Result<Tagged<SwitchView>, Failure> {
    tagged(&control, Subject::Switch(&name), async { control.switch(&name) }).await
}

/// Change the settings of a switch
#[utoipa::path(
    patch, path = "/v1/switches/{name}", tag = "switches", operation_id = "patch_switch",
    params(("name" = SwitchName, Path, description = "Name of the switch"), Edit),
    request_body(content((SwitchPatch = "application/merge-patch+json"), (SwitchPatch = "application/json"))), responses(Done, Failure)
)]
pub(super) async fn patch(
    Path(name): Path<SwitchName>,
    change: Edit,
    Body(patch): Body<SwitchPatch>,
) -> Reply<Changes> {
    change
        .make(|control, options| async move { control.patch_switch(&name, patch, options).await })
        .await
}

/// Remove a switch that has no ports
#[utoipa::path(
    delete, path = "/v1/switches/{name}", tag = "switches", operation_id = "remove_switch",
    params(("name" = SwitchName, Path, description = "Name of the switch"), Edit),
    responses(Done, Failure)
)]
pub(super) async fn remove(Path(name): Path<SwitchName>, change: Edit) -> Reply<Changes> {
    change
        .make(|control, options| async move { control.remove_switch(&name, options).await })
        .await
}

/// The forwarding database of a switch
#[utoipa::path(
    get, path = "/v1/switches/{name}/fdb", tag = "switches", operation_id = "list_fdb",
    params(("name" = SwitchName, Path, description = "Name of the switch")),
    responses((status = 200, description = "OK", body = Vec<FdbEntry>, headers(("ETag" = String, description = "Tag of its settings, for `If-Match`"))), Failure)
)]
pub(super) async fn fdb(
    State(control): State<Arc<Control>>,
    Path(name): Path<SwitchName>,
) -> Result<Tagged<Vec<FdbEntry>>, Failure> {
    tagged(&control, Subject::Stations(&name, None), async { control.fdb(&name) }).await
}

/// Put a station behind a port: a static FDB entry, part of the lab
#[utoipa::path(
    put, path = "/v1/switches/{name}/fdb", tag = "switches", operation_id = "add_fdb_entry",
    params(("name" = SwitchName, Path, description = "Name of the switch"), Edit),
    request_body = FdbAdd, responses(Done, Failure)
)]
pub(super) async fn fdb_add(Path(name): Path<SwitchName>, change: Edit, Body(entry): Body<FdbAdd>) -> Reply<Changes> {
    change
        .make(|control, options| async move { control.fdb_add(&name, entry, options).await })
        .await
}

/// Remove FDB entries: one address, what was learned from one port, or all that was learned
#[utoipa::path(
    delete, path = "/v1/switches/{name}/fdb", tag = "switches", operation_id = "remove_fdb_entries",
    params(("name" = SwitchName, Path, description = "Name of the switch"), FdbSelect, Edit),
    responses(Done, Failure)
)]
pub(super) async fn fdb_remove(
    Path(name): Path<SwitchName>,
    Query(select): Query<FdbSelect>,
    change: Edit,
) -> Reply<Changes> {
    change
        .make(|control, options| async move { control.fdb_remove(&name, select, options).await })
        .await
}
