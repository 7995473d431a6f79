//! Events as they happen, as server-sent events (WHATWG HTML, section 9.2) or as lines of JSON.

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::HeaderMap;
use axum::http::header::{ACCEPT, CONTENT_TYPE};
use axum::response::sse::{Event as Message, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures::StreamExt;
use vswitch_api::error::{ApiError, ErrorCode};
use vswitch_api::event::{Event, EventSelect};

use super::api::Shared;
use super::error::Failure;
use super::extract::Query;
use super::slots::Streaming;
use crate::control::EventReader;

/// One object a line (github.com/ndjson/ndjson-spec).
const LINES: &str = "application/x-ndjson";
/// What a browser sends that was connected before (WHATWG HTML, section 9.2.4).
const LAST_EVENT_ID: &str = "last-event-id";

/// What happens, as it happens: one server-sent event each, named by its kind, or with `Accept: application/x-ndjson` one line each. A
/// reader that is too slow gets `missed`. One that comes again says what it read last, and gets what it missed, as far as it is kept
#[utoipa::path(
    get, path = "/v1/events", tag = "daemon",
    params(EventSelect, ("Last-Event-ID" = Option<String>, Header, description = "`id` of the event that was read last, the same as `since`")),
    responses(
        (status = 200, description = "OK", content((Event = "text/event-stream"), (Event = "application/x-ndjson"))), Failure
    )
)]
pub(super) async fn events(
    _: Streaming,
    State(shared): State<Shared>,
    Query(mut wanted): Query<EventSelect>,
    head: HeaderMap,
) -> Result<Response, Failure> {
    if let (None, Some(id)) = (&wanted.since, head.get(LAST_EVENT_ID)) {
        let id = id.to_str().unwrap_or_default().parse();
        wanted.since =
            Some(id.map_err(|cause: String| ApiError::new(ErrorCode::Invalid, "field Last-Event-ID", cause))?);
    }
    let mut stopping = shared.stopping.clone();
    let reader = shared.control().subscribe_to(wanted);
    let next = |mut reader: EventReader| async { reader.next().await.map(|event| (event, reader)) };
    let events = futures::stream::unfold(reader, next)
        .take_until(async move { stopping.wait_for(|stopping| *stopping).await.is_ok() });
    let accepts_lines = |value: &axum::http::HeaderValue| value.to_str().is_ok_and(|value| value.contains(LINES));
    if head.get_all(ACCEPT).iter().any(accepts_lines) {
        let lines = events.map(|event| line(&event));
        return Ok(([(CONTENT_TYPE, LINES)], Body::from_stream(lines)).into_response());
    }
    let messages = events.map(|event| message(&event));
    Ok(Sse::new(messages).keep_alive(KeepAlive::default()).into_response())
}

/// The name of the event is its `kind`, so that a browser can listen for one kind.
fn message(event: &Event) -> Result<Message, axum::Error> {
    let message = Message::default().event(event.kind.as_str()).id(&event.id);
    message.json_data(event)
}

fn line(event: &Event) -> Result<Bytes, serde_json::Error> {
    let mut line = serde_json::to_vec(event)?;
    line.push(b'\n');
    Ok(line.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use vswitch_api::EventKind;

    async fn text(events: Vec<Event>) -> String {
        let stream = futures::stream::iter(events).map(|event| message(&event));
        let body = Sse::new(stream).into_response().into_body();
        String::from_utf8(axum::body::to_bytes(body, 10_000).await.unwrap().to_vec()).unwrap()
    }

    #[tokio::test]
    async fn an_event_is_named_by_its_kind() {
        let event = Event {
            seq: 3,
            id: "1f-3".to_owned(),
            time_ms: 7,
            description: Default::default(),
            kind: EventKind::SwitchAdded {
                switch: "main".parse().unwrap(),
            },
        };
        let data = r#"{"seq":3,"id":"1f-3","time_ms":7,"kind":"switch-added","switch":"main"}"#;
        let expected = format!("event: switch-added\nid: 1f-3\ndata: {data}\n\n");
        assert_eq!(line(&event).unwrap(), format!("{data}\n"));
        assert_eq!(text(vec![event]).await, expected);
    }
}
