//! Frames of a port, as they come by.

use vswitch_api::capture::CAPTURE_ID;

use crate::body::Body;
use crate::error::Error;
use crate::http::Client;
use crate::pcapng::{Item, Parser};

/// A capture, until it has what it was to have, is ended, or this is dropped.
#[derive(Debug)]
pub struct Capture {
    client: Client,
    body: Body,
    parser: Parser,
}

/// What came at once.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Part {
    /// A piece of a pcapng file: one after the other they are all of it.
    pub bytes: Vec<u8>,
    /// What is complete with it.
    pub items: Vec<Item>,
}

impl Capture {
    pub(crate) fn new(client: Client, body: Body) -> Self {
        Self {
            client,
            body,
            parser: Parser::default(),
        }
    }

    /// The next part; none: the capture is over, or the daemon has ended it. Nothing is lost if the future is dropped.
    ///
    /// # Errors
    /// The connection broke, or it is no pcapng.
    pub async fn next(&mut self) -> Option<Result<Part, Error>> {
        let bytes = match self.body.next().await? {
            Ok(bytes) => Vec::from(bytes),
            Err(error) => return Some(Err(error)),
        };
        let items = self.parser.feed(&bytes);
        Some(match items {
            Ok(items) => Ok(Part { bytes, items }),
            Err(cause) => Err(Error::foreign(self.body.path(), cause)),
        })
    }

    /// Asks for its end: what is captured already still comes, and then the end of the file.
    ///
    /// # Errors
    /// The daemon says no, as when it is over already, or can't be reached.
    pub async fn end(&self) -> Result<(), Error> {
        let id = self.body.field(CAPTURE_ID).unwrap_or_default();
        self.client.end(&format!("/v1/captures/{id}")).await
    }
}
