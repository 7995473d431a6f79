//! What happens, as it happens.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use vswitch_api::Event;

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

    /// The next event; none: the daemon has ended the stream. Nothing is lost if the future is dropped.
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
        let text = ready!(self.poll_text(context));
        let read = |text: String| {
            serde_json::from_str(&text)
                .map_err(|error| Error::foreign(self.body.path(), format!("event {text}: {error}")))
        };
        Poll::Ready(text.map(|text| text.and_then(read)))
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
