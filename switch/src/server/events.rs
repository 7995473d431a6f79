//! Events as they happen, as server-sent events (WHATWG HTML, section 9.2).

use axum::extract::State;
use axum::response::sse::{Event as Message, KeepAlive, Sse};
use futures::{Stream, StreamExt};
use vswitch_api::event::Event;

use super::api::Shared;
use super::slots::Streaming;
use crate::control::EventReader;

/// What happens, as it happens: one server-sent event each, named by its kind. A reader that is too slow gets `missed`
#[utoipa::path(
    get, path = "/v1/events", tag = "daemon",
    responses((status = 200, description = "OK", content_type = "text/event-stream", body = Event))
)]
pub(super) async fn events(
    _: Streaming,
    State(shared): State<Shared>,
) -> Sse<impl Stream<Item = Result<Message, axum::Error>>> {
    let mut stopping = shared.stopping.clone();
    let reader = shared.control().subscribe();
    let next = |mut reader: EventReader| async { reader.next().await.map(|event| (message(&event), reader)) };
    let events = futures::stream::unfold(reader, next)
        .take_until(async move { stopping.wait_for(|stopping| *stopping).await.is_ok() });
    Sse::new(events).keep_alive(KeepAlive::default())
}

/// The name of the event is its `kind`, so that a browser can listen for one kind.
fn message(event: &Event) -> Result<Message, axum::Error> {
    let data = serde_json::to_value(event).map_err(axum::Error::new)?;
    let kind = data["kind"].as_str().unwrap_or("message").to_owned();
    Message::default().event(kind).json_data(data)
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::response::IntoResponse;
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
            time_ms: 7,
            description: Default::default(),
            kind: EventKind::SwitchAdded {
                switch: "main".parse().unwrap(),
            },
        };
        let expected =
            "event: switch-added\ndata: {\"kind\":\"switch-added\",\"seq\":3,\"switch\":\"main\",\"time_ms\":7}\n\n";
        assert_eq!(text(vec![event]).await, expected);
    }
}
