//! What happens, as it happens.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use serde::Deserialize;
use vswitch_api::event::EVENT_KINDS;
use vswitch_api::{Event, reply};

use crate::body::Body;
use crate::error::Error;
use crate::sse;

/// Events, until the daemon ends or this is dropped. It is also a [`futures_core::Stream`].
///
/// Who was too slow gets an event of kind `missed`. Who comes again asks for those [`since`](vswitch_api::event::EventSelect::since) the
/// last that they had, by its `id`.
#[derive(Debug)]
pub struct Events {
    body: Body,
    parser: sse::Parser,
    texts: VecDeque<String>,
}

impl Events {
    pub(crate) fn new(body: Body) -> Self {
        Self {
            body,
            parser: sse::Parser::default(),
            texts: VecDeque::new(),
        }
    }

    /// The next event; none: the daemon has ended the stream. Nothing is lost if the future is dropped. Kinds that a later daemon knows and
    /// this version doesn't are passed over.
    ///
    /// # Errors
    /// The connection broke, or it is no event.
    pub async fn next(&mut self) -> Option<Result<Event, Error>> {
        poll_fn(|context| self.poll(context)).await
    }

    /// The same as the daemon has written it: one line of JSON.
    ///
    /// # Errors
    /// The connection broke.
    pub async fn next_text(&mut self) -> Option<Result<String, Error>> {
        poll_fn(|context| self.poll_text(context)).await
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Event, Error>>> {
        loop {
            let text = match ready!(self.poll_text(context)) {
                Some(Ok(text)) => text,
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => return Poll::Ready(None),
            };
            match reply::from_json(text.as_bytes()) {
                Ok(event) => return Poll::Ready(Some(Ok(event))),
                Err(_) if is_of_later_kind(&text) => {}
                Err(error) => {
                    let cause = format!("event {text}: {error}");
                    return Poll::Ready(Some(Err(Error::foreign(self.body.path(), cause))));
                }
            }
        }
    }

    fn poll_text(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<String, Error>>> {
        loop {
            if let Some(text) = self.texts.pop_front() {
                return Poll::Ready(Some(Ok(text)));
            }
            match ready!(self.body.poll(context)) {
                Some(Ok(bytes)) => self.texts.extend(self.parser.feed(&bytes)),
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => return Poll::Ready(None),
            }
        }
    }
}

impl futures_core::Stream for Events {
    type Item = Result<Event, Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll(context)
    }
}

/// Whether this is an event of a kind that there is not yet in this version.
fn is_of_later_kind(text: &str) -> bool {
    #[derive(Deserialize)]
    struct Kind {
        kind: String,
    }
    serde_json::from_str::<Kind>(text).is_ok_and(|one| !EVENT_KINDS.contains(&one.kind.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_later_kind_is_told_from_nonsense() {
        assert!(is_of_later_kind(r#"{"seq": 1, "kind": "port-danced", "port": "red"}"#));
        assert!(!is_of_later_kind(r#"{"seq": 1, "kind": "port-added"}"#));
        assert!(!is_of_later_kind("{}"));
    }
}
