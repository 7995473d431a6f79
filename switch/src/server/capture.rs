//! Captures as a stream of bytes.

use axum::body::{Body as Bytestream, Bytes};
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use futures::{StreamExt, stream};
use vswitch_api::capture::CaptureOptions;
use vswitch_api::name::PortName;

use super::api::Shared;
use super::error::Failure;
use super::extract::{Path, Query};

/// The frames of a port, live, as a pcapng file that ends with the capture. What a slow reader misses is counted in it
#[utoipa::path(
    get, path = "/v1/ports/{name}/capture", tag = "ports", operation_id = "capture",
    params(("name" = PortName, Path, description = "Name of the port"), CaptureOptions),
    responses((status = 200, description = "OK", content_type = "application/x-pcapng", body = String), Failure)
)]
pub(super) async fn capture(
    State(shared): State<Shared>,
    Path(name): Path<PortName>,
    Query(options): Query<CaptureOptions>,
) -> Result<impl IntoResponse, Failure> {
    let capture = shared.control().capture(&name, options).await?;
    let mut stopping = shared.stopping.clone();
    let chunks = stream::unfold(capture, async |mut capture| {
        let chunk = capture.next().await?;
        Some((Ok::<_, std::convert::Infallible>(Bytes::from(chunk)), capture))
    });
    let chunks = chunks.take_until(async move { stopping.wait_for(|stopping| *stopping).await.is_ok() });
    Ok((
        [(CONTENT_TYPE, "application/x-pcapng")],
        Bytestream::from_stream(chunks),
    ))
}
