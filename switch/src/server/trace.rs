//! Traces: what would become of a frame, or becomes of real ones.

use std::sync::Arc;

use axum::Json;
use axum::body::{Body as Bytestream, Bytes};
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use futures::{StreamExt, stream};
use vswitch_api::name::PortName;
use vswitch_api::trace::{LiveOptions, LiveTrace, TraceReport, TraceRequest, WayQuery, WayView};

use super::api::Shared;
use super::error::{Failure, Reply};
use super::extract::{Body, Path, Query};
use super::slots::Streaming;
use crate::control::Control;

/// What the switch would do with a frame that came in from a port, step by step; it is not sent and nothing is learned
#[utoipa::path(
    post, path = "/v1/ports/{name}/trace", tag = "ports", operation_id = "trace", extensions(("x-role" = json!("read-only"))),
    params(("name" = PortName, Path, description = "Name of the port")),
    request_body = TraceRequest, responses((status = 200, description = "OK", body = TraceReport), Failure)
)]
pub(super) async fn trace(
    State(control): State<Arc<Control>>,
    Path(name): Path<PortName>,
    Body(request): Body<TraceRequest>,
) -> Reply<TraceReport> {
    Ok(Json(control.trace(&name, &request).await?))
}

/// What the stack that has the port's interface would do with a packet for an address: its route and its neighbour
#[utoipa::path(
    get, path = "/v1/ports/{name}/way", tag = "ports", operation_id = "way",
    params(("name" = PortName, Path, description = "Name of the port"), WayQuery),
    responses((status = 200, description = "OK", body = WayView), Failure)
)]
pub(super) async fn way(
    State(control): State<Arc<Control>>,
    Path(name): Path<PortName>,
    Query(query): Query<WayQuery>,
) -> Reply<WayView> {
    Ok(Json(control.way(&name, query.to).await?))
}

/// What the switch does with the frames that come in from a port, as they come: a line of JSON each. Empty lines are signs of life
#[utoipa::path(
    get, path = "/v1/ports/{name}/trace", tag = "ports", operation_id = "trace_live", extensions(("x-role" = json!("admin"))),
    params(("name" = PortName, Path, description = "Name of the port"), LiveOptions),
    responses((status = 200, description = "OK", content_type = "application/x-ndjson", body = LiveTrace), Failure)
)]
pub(super) async fn live(
    _: Streaming,
    State(shared): State<Shared>,
    State(control): State<Arc<Control>>,
    Path(name): Path<PortName>,
    Query(options): Query<LiveOptions>,
) -> Result<impl IntoResponse, Failure> {
    let live = control.trace_live(&name, options).await?;
    let mut stopping = shared.stopping.clone();
    let lines = stream::unfold(live, async |mut live| {
        let trace = live.next().await?;
        // An empty line is the sign of life.
        let line = trace.map_or_else(|| Ok(String::new()), |trace| serde_json::to_string(&trace));
        let line = line.map(|line| Bytes::from(line + "\n"));
        Some((line, live))
    });
    let lines = lines.take_until(async move { stopping.wait_for(|stopping| *stopping).await.is_ok() });
    Ok(([(CONTENT_TYPE, "application/x-ndjson")], Bytestream::from_stream(lines)))
}
