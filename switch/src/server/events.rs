//! Events as they happen, as server-sent events (WHATWG HTML, section 9.2).

use std::time::{SystemTime, UNIX_EPOCH};

use axum::extract::State;
use axum::response::sse::{Event as Message, KeepAlive, Sse};
use futures::{Stream, StreamExt};
use tokio_stream::wrappers::BroadcastStream;
use tokio_stream::wrappers::errors::BroadcastStreamRecvError::Lagged;
use vswitch_api::event::{Event, EventKind};

use super::api::Shared;

/// What happens, as it happens: one server-sent event each, named by its kind. A reader that is too slow gets `missed`
#[utoipa::path(
    get, path = "/v1/events", tag = "daemon",
    responses((status = 200, description = "OK", content_type = "text/event-stream", body = Event))
)]
pub(super) async fn events(State(shared): State<Shared>) -> Sse<impl Stream<Item = Result<Message, axum::Error>>> {
    let mut stopping = shared.stopping.clone();
    let events = BroadcastStream::new(shared.control().subscribe())
        .map(|event| message(&event.unwrap_or_else(|Lagged(count)| missed(count))))
        .take_until(async move { stopping.wait_for(|stopping| *stopping).await.is_ok() });
    Sse::new(events).keep_alive(KeepAlive::default())
}

fn missed(count: u64) -> Event {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Event {
        time_ms: u64::try_from(now.as_millis()).unwrap_or(u64::MAX),
        kind: EventKind::Missed { count },
    }
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

    async fn text(events: Vec<Event>) -> String {
        let stream = futures::stream::iter(events).map(|event| message(&event));
        let body = Sse::new(stream).into_response().into_body();
        String::from_utf8(axum::body::to_bytes(body, 10_000).await.unwrap().to_vec()).unwrap()
    }

    #[tokio::test]
    async fn an_event_is_named_by_its_kind() {
        let event = Event {
            time_ms: 7,
            kind: EventKind::SwitchAdded {
                switch: "main".parse().unwrap(),
            },
        };
        let expected = "event: switch-added\ndata: {\"kind\":\"switch-added\",\"switch\":\"main\",\"time_ms\":7}\n\n";
        assert_eq!(text(vec![event]).await, expected);
        assert!(text(vec![missed(3)]).await.contains("\"count\":3"));
    }
}
