//! The body of an answer, part by part.

use std::future::{Future as _, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use http_body_util::BodyExt;
use hyper::Response;
use hyper::body::{Body as _, Bytes, Incoming};
use tokio::task::JoinHandle;
use tokio::time::{Sleep, sleep};

use crate::error::Error;
use crate::http::Client;

/// An answer that comes in parts, such as a log that is followed. It is also a [`futures_core::Stream`].
#[derive(Debug)]
pub struct Body {
    answer: Response<Incoming>,
    client: Client,
    path: String,
    /// Until a sign of life is asked for.
    pause: Pin<Box<Sleep>>,
    /// Something came since the pause began.
    was_heard: bool,
    /// Whether the daemon lives.
    sign: Option<JoinHandle<bool>>,
}

impl Body {
    pub(crate) fn new(answer: Response<Incoming>, client: Client, path: &str) -> Self {
        Self {
            pause: Box::pin(sleep(client.before_sign())),
            answer,
            client,
            path: path.to_owned(),
            was_heard: false,
            sign: None,
        }
    }

    /// A field of the head of the answer.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.answer.headers().get(name)?.to_str().ok()
    }

    /// The next part; none: the daemon has ended the answer. Nothing is lost if the future is dropped.
    ///
    /// # Errors
    /// The connection broke, or the daemon gives no sign of life.
    pub async fn next(&mut self) -> Option<Result<Bytes, Error>> {
        poll_fn(|context| self.poll(context)).await
    }

    /// All of it, as text.
    ///
    /// # Errors
    /// The connection broke.
    pub async fn text(self) -> Result<String, Error> {
        let Self { answer, client, .. } = self;
        let body = answer.into_body().collect().await;
        let body = body.map_err(|error| client.broken(&error))?;
        Ok(String::from_utf8_lossy(&body.to_bytes()).into_owned())
    }

    /// What was asked for.
    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    pub(crate) fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, Error>>> {
        loop {
            let Poll::Ready(frame) = Pin::new(self.answer.body_mut()).poll_frame(context) else {
                return self.poll_silence(context).map(|error| Some(Err(error)));
            };
            self.was_heard = true;
            match frame {
                // Fields behind a body are none of ours.
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(bytes) => return Poll::Ready(Some(Ok(bytes))),
                    Err(_) => continue,
                },
                Some(Err(error)) => return Poll::Ready(Some(Err(self.client.broken(&error)))),
                None => return Poll::Ready(None),
            }
        }
    }

    /// Waits for the daemon to give no sign of life: a stream of which nothing comes may have nothing to say.
    fn poll_silence(&mut self, context: &mut Context<'_>) -> Poll<Error> {
        loop {
            match &mut self.sign {
                Some(sign) => {
                    // It can't fail but by the end of the runtime.
                    let is_alive = ready!(Pin::new(sign).poll(context)).unwrap_or(true);
                    self.sign = None;
                    self.pause = Box::pin(sleep(self.client.before_sign()));
                    if !is_alive && !self.was_heard {
                        return Poll::Ready(self.client.silent());
                    }
                }
                None => {
                    ready!(self.pause.as_mut().poll(context));
                    if std::mem::take(&mut self.was_heard) {
                        self.pause = Box::pin(sleep(self.client.before_sign()));
                    } else {
                        let client = self.client.clone();
                        self.sign = Some(tokio::spawn(async move { client.is_alive().await }));
                    }
                }
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

#[cfg(test)]
mod tests;
