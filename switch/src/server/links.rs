//! Links between two switches.

use std::sync::Arc;

use axum::extract::State;
use vswitch_api::change::ObjectKind;
use vswitch_api::link::{Link, LinkView};
use vswitch_api::name::PortName;
use vswitch_api::request::PortPatch;
use vswitch_api::view::Changes;

use super::api::{Tagged, tagged};
use super::error::{Failure, Reply};
use super::extract::{Body, Done, Edit, Made, Path};
use crate::control::{Control, Subject};

/// All links
#[utoipa::path(
    get, path = "/v1/links", tag = "switches", operation_id = "list_links",
    responses((status = 200, description = "OK", body = Vec<LinkView>, headers(("ETag" = String, description = "Tag of the lab, for `If-Match`"))), Failure)
)]
pub(super) async fn list(State(control): State<Arc<Control>>) -> Result<Tagged<Vec<LinkView>>, Failure> {
    tagged(&control, Subject::Lab, async { Ok(control.links()) }).await
}

/// Join two switches
#[utoipa::path(
    post, path = "/v1/links", tag = "switches", operation_id = "add_link",
    params(Edit), request_body = Link, responses(Made, Failure)
)]
pub(super) async fn add(change: Edit, Body(link): Body<Link>) -> Result<Made, Failure> {
    change
        .add("/v1/links", ObjectKind::Port, |control, options| async move {
            control.add_link(link, options).await
        })
        .await
}

/// The link that has a port
#[utoipa::path(
    get, path = "/v1/links/{port}", tag = "switches", operation_id = "get_link",
    params(("port" = PortName, Path, description = "The port at one of its ends")),
    responses((status = 200, description = "OK", body = LinkView, headers(("ETag" = String, description = "Tag of the port's settings, for `If-Match`"))), Failure)
)]
pub(super) async fn get(
    State(control): State<Arc<Control>>,
    Path(port): Path<PortName>,
) -> Result<Tagged<LinkView>, Failure> {
    tagged(&control, Subject::Port(&port), async { control.link(&port) }).await
}

/// Change settings of both ports of a link
#[utoipa::path(
    patch, path = "/v1/links/{port}", tag = "switches", operation_id = "patch_link",
    params(("port" = PortName, Path, description = "The port at one of its ends"), Edit),
    request_body(content((PortPatch = "application/merge-patch+json"), (PortPatch = "application/json"))), responses(Done, Failure)
)]
pub(super) async fn patch(Path(port): Path<PortName>, change: Edit, Body(patch): Body<PortPatch>) -> Reply<Changes> {
    change
        .make(|control, options| async move { control.patch_link(&port, patch, options).await })
        .await
}

/// Remove the link that has a port, with both its ports
#[utoipa::path(
    delete, path = "/v1/links/{port}", tag = "switches", operation_id = "remove_link",
    params(("port" = PortName, Path, description = "The port at one of its ends"), Edit),
    responses(Done, Failure)
)]
pub(super) async fn remove(Path(port): Path<PortName>, change: Edit) -> Reply<Changes> {
    change
        .make(|control, options| async move { control.remove_link(&port, options).await })
        .await
}
