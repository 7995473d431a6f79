//! Values as lines of JSON.

use std::future::poll_fn;
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use serde::de::DeserializeOwned;
use vswitch_api::reply;

use crate::body::Body;
use crate::error::Error;

/// Values that come one a line, until the daemon ends them or this is dropped. It is also a [`futures_core::Stream`].
#[derive(Debug)]
pub struct Lines<T> {
    body: Body,
    rest: Vec<u8>,
    /// What is read of a line, and owned by nobody yet.
    values: PhantomData<fn() -> T>,
}

impl<T: DeserializeOwned> Lines<T> {
    pub(crate) fn new(body: Body) -> Self {
        Self {
            body,
            rest: Vec::new(),
            values: PhantomData,
        }
    }

    /// The next value, with the line that it was; none: the daemon has ended them. Nothing is lost if the future is dropped.
    ///
    /// # Errors
    /// The connection broke, or the line is not understood.
    pub async fn next(&mut self) -> Option<Result<(T, String), Error>> {
        poll_fn(|context| self.poll(context)).await
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<(T, String), Error>>> {
        loop {
            if let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.rest.drain(..=end).collect();
                // An empty one says that the daemon is still there.
                if line == b"\n" {
                    continue;
                }
                let value = reply::from_json(&line).map_err(|error| Error::foreign(self.body.path(), error));
                let line = String::from_utf8_lossy(&line).into_owned();
                return Poll::Ready(Some(value.map(|value| (value, line))));
            }
            match ready!(self.body.poll(context)) {
                Some(Ok(bytes)) => self.rest.extend_from_slice(&bytes),
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => return Poll::Ready(None),
            }
        }
    }
}

impl<T: DeserializeOwned> futures_core::Stream for Lines<T> {
    type Item = Result<T, Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let next = ready!(self.poll(context));
        Poll::Ready(next.map(|next| next.map(|(value, _)| value)))
    }
}
