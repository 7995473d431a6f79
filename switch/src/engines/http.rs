//! As much HTTP as a question to an engine takes: one connection each, and nothing of an answer is taken for small.

use std::io;
use std::path::Path;

use http_body_util::{BodyExt, Empty, Limited};
use hyper::Request;
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::header::HOST;
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tokio::task::JoinHandle;

/// Longest answer. One of a container with a thousand networks has some hundred KiB.
const BODY_MAX: usize = 4 << 20;
/// Longest line of a stream of events.
const LINE_MAX: usize = 64 << 10;

/// The body of an answer, and the connection that it comes by, which ends with it.
pub struct Body {
    incoming: Incoming,
    connection: Connection,
}

struct Connection(JoinHandle<()>);

impl Drop for Connection {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Asks, and gives the status of the answer with its body. `path` was made of checked parts alone.
pub async fn get(socket: &Path, path: &str) -> io::Result<(u16, Body)> {
    let stream = UnixStream::connect(socket).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
    let connection = Connection(tokio::spawn(async move {
        // What is wrong with it whoever reads from it is told.
        let _ = connection.await;
    }));
    let request = Request::get(path).header(HOST, "localhost").body(Empty::<Bytes>::new());
    let request = request.map_err(io::Error::other)?;
    let response = sender.send_request(request).await.map_err(io::Error::other)?;
    let status = response.status().as_u16();
    let incoming = response.into_body();
    Ok((status, Body { incoming, connection }))
}

/// All of a body.
pub async fn whole(body: Body) -> io::Result<Bytes> {
    let Body { incoming, connection } = body;
    let collected = Limited::new(incoming, BODY_MAX).collect().await;
    drop(connection);
    Ok(collected.map_err(io::Error::other)?.to_bytes())
}

/// A stream of lines that has no end.
pub struct Lines {
    body: Body,
    /// Bytes of the line that has begun.
    begun: usize,
}

impl Lines {
    pub(super) fn new(body: Body) -> Self {
        Self { body, begun: 0 }
    }

    /// Waits until there was a line, or more than one. What is in them does not matter.
    ///
    /// # Errors
    /// The stream has ended, or what comes is no lines.
    pub async fn next(&mut self) -> io::Result<()> {
        loop {
            let frame = self.body.incoming.frame().await;
            let frame = frame.ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))?;
            let Ok(data) = frame.map_err(io::Error::other)?.into_data() else {
                continue;
            };
            match data.iter().rposition(|byte| *byte == b'\n') {
                Some(end) => {
                    self.begun = data.len() - end - 1;
                    return Ok(());
                }
                None => self.begun += data.len(),
            }
            if self.begun > LINE_MAX {
                return Err(io::Error::other("a line without end"));
            }
        }
    }
}
