//! Processes that the daemon looks after, and what they write.

use std::sync::Arc;

use axum::body::{Body as Bytestream, Bytes};
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use futures::{StreamExt, stream};
use vswitch_api::command::ProcessView;
use vswitch_api::request::LogOptions;

use super::api::Shared;
use super::error::{Failure, Reply};
use super::extract::{Path, Query};
use super::slots::Streaming;
use crate::control::Control;

/// All processes: the commands of labs, and what the daemon itself needs beside it
#[utoipa::path(
    get, path = "/v1/processes", tag = "namespaces", operation_id = "list_processes",
    responses((status = 200, description = "OK", body = Vec<ProcessView>), Failure)
)]
pub(super) async fn list(State(control): State<Arc<Control>>) -> Reply<Vec<ProcessView>> {
    Ok(axum::Json(control.processes()))
}

/// One process
#[utoipa::path(
    get, path = "/v1/processes/{name}", tag = "namespaces", operation_id = "get_process",
    params(("name" = String, Path, description = "Name of the process; that of the command")),
    responses((status = 200, description = "OK", body = ProcessView), Failure)
)]
pub(super) async fn get(State(control): State<Arc<Control>>, Path(name): Path<String>) -> Reply<ProcessView> {
    Ok(axum::Json(control.process(&name)?))
}

/// The last lines that a process wrote on its standard output and error; with `follow` also what it goes on to write, until it is removed.
/// Lines that begin with `--- ` are the daemon's own.
#[utoipa::path(
    get, path = "/v1/processes/{name}/log", tag = "namespaces", operation_id = "log", extensions(("x-role" = json!("admin"))),
    params(("name" = String, Path, description = "Name of the process; that of the command"), LogOptions),
    responses((status = 200, description = "OK", content_type = "text/plain", body = String), Failure)
)]
pub(super) async fn log(
    _: Streaming,
    State(shared): State<Shared>,
    Path(name): Path<String>,
    Query(options): Query<LogOptions>,
) -> Result<impl IntoResponse, Failure> {
    let log = shared.control().log(&name, &options)?;
    let mut stopping = shared.stopping.clone();
    let chunks = stream::unfold(log, async |mut log| {
        let chunk = log.next().await?;
        Some((Ok::<_, std::convert::Infallible>(Bytes::from(chunk)), log))
    });
    let chunks = chunks.take_until(async move { stopping.wait_for(|stopping| *stopping).await.is_ok() });
    Ok((
        [(CONTENT_TYPE, "text/plain; charset=utf-8")],
        Bytestream::from_stream(chunks),
    ))
}
