//! Captures as a stream of bytes.

use std::sync::Arc;

use axum::body::{Body as Bytestream, Bytes};
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderName, StatusCode};
use axum::response::IntoResponse;
use futures::{StreamExt, stream};
use vswitch_api::capture::{CAPTURE_ID, CaptureOptions};
use vswitch_api::name::PortName;
use vswitch_api::view::Changes;

use super::api::Shared;
use super::error::Failure;
use super::extract::{Edit, Path, Query};
use super::slots::Streaming;
use crate::control::{Control, Editing};

/// The frames of a port, live, as a pcapng file that ends with the capture. What a slow reader misses is counted in it.
///
/// The field `Capture-Id` of the answer's head has the number by which the capture can be ended.
#[utoipa::path(
    get, path = "/v1/ports/{name}/capture", tag = "ports", operation_id = "capture", extensions(("x-role" = json!("admin"))),
    params(("name" = PortName, Path, description = "Name of the port"), CaptureOptions),
    responses((status = 200, description = "OK", content_type = "application/x-pcapng", body = String), Failure)
)]
pub(super) async fn capture(
    _: Streaming,
    State(shared): State<Shared>,
    Path(name): Path<PortName>,
    Query(options): Query<CaptureOptions>,
) -> Result<impl IntoResponse, Failure> {
    let capture = shared.control().capture(&name, options).await?;
    let mut stopping = shared.stopping.clone();
    let id = capture.id.to_string();
    let chunks = stream::unfold(capture, async |mut capture| {
        let chunk = capture.next().await?;
        Some((Ok::<_, std::convert::Infallible>(Bytes::from(chunk)), capture))
    });
    let chunks = chunks.take_until(async move { stopping.wait_for(|stopping| *stopping).await.is_ok() });
    Ok((
        [
            (CONTENT_TYPE, "application/x-pcapng".to_owned()),
            (HeaderName::from_static(CAPTURE_ID), id),
        ],
        Bytestream::from_stream(chunks),
    ))
}

/// End a capture: its reader gets what was captured so far, and the end of the file
#[utoipa::path(
    delete, path = "/v1/captures/{id}", tag = "ports", operation_id = "end_capture",
    params(("id" = u64, Path, description = "Number of the capture"), Edit),
    responses((status = 204, description = "It ends"), Failure)
)]
pub(super) async fn end(Path(id): Path<u64>, change: Edit) -> Result<StatusCode, Failure> {
    let end = async move |control: Arc<Control>, how: Editing| {
        let dry_run = how.dry_run;
        control.end_capture(id, how).await?;
        Ok(Changes {
            done: vec![format!("ended capture {id}")],
            dry_run,
            ..Changes::default()
        })
    };
    change.make(end).await.map(|_| StatusCode::NO_CONTENT)
}
