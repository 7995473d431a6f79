//! The body of an answer, part by part.

use std::future::poll_fn;
use std::path::PathBuf;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use http_body_util::BodyExt;
use hyper::Response;
use hyper::body::{Body as _, Bytes, Incoming};

use crate::error::Error;
use crate::http::broken;

/// An answer that comes in parts, such as a log that is followed. It is also a [`futures_core::Stream`].
#[derive(Debug)]
pub struct Body {
    answer: Response<Incoming>,
    socket: PathBuf,
    path: String,
}

impl Body {
    pub(crate) fn new(answer: Response<Incoming>, socket: PathBuf, path: &str) -> Self {
        Self {
            answer,
            socket,
            path: path.to_owned(),
        }
    }

    /// A field of the head of the answer.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.answer.headers().get(name)?.to_str().ok()
    }

    /// The next part; none: the daemon has ended the answer. Nothing is lost if the future is dropped.
    ///
    /// # Errors
    /// The connection broke.
    pub async fn next(&mut self) -> Option<Result<Bytes, Error>> {
        poll_fn(|context| self.poll(context)).await
    }

    /// All of it, as text.
    ///
    /// # Errors
    /// The connection broke.
    pub async fn text(self) -> Result<String, Error> {
        let Self { answer, socket, .. } = self;
        let body = answer.into_body().collect().await;
        let body = body.map_err(|error| broken(&socket, &error))?;
        Ok(String::from_utf8_lossy(&body.to_bytes()).into_owned())
    }

    /// What was asked for.
    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    pub(crate) fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, Error>>> {
        loop {
            let frame = ready!(Pin::new(self.answer.body_mut()).poll_frame(context));
            match frame {
                // Fields behind a body are none of ours.
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(bytes) => return Poll::Ready(Some(Ok(bytes))),
                    Err(_) => continue,
                },
                Some(Err(error)) => return Poll::Ready(Some(Err(broken(&self.socket, &error)))),
                None => return Poll::Ready(None),
            }
        }
    }
}

impl futures_core::Stream for Body {
    type Item = Result<Bytes, Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll(context)
    }
}
