//! HTTP over the daemon's unix socket. One connection for each request: on a unix socket that costs
//! next to nothing, and a daemon that was restarted in between does no harm.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::header::{ACCEPT, CONTENT_TYPE, ETAG, HOST, HeaderValue, IF_MATCH};
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use nix::unistd::{Gid, Group};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;
use tokio::time::error::Elapsed;
use tokio::time::timeout;
use vswitch_api::{ApiError, ErrorCode};

use crate::failure::{EXIT_UNREACHABLE, Failure};
use crate::progress;

/// Something that the daemon answers without looking at ports, whatever it is busy with.
const SIGN_OF_LIFE: &str = "/v1/openapi.json";
/// How long to wait before a full queue of connections is tried again.
const RETRY: Duration = Duration::from_millis(20);

/// A request without a body.
pub const NO_BODY: Option<&()> = None;

/// The daemon as seen through its control socket.
pub struct Client {
    socket: PathBuf,
    /// How long the daemon may be silent.
    patience: Duration,
    /// Whether to show how far edits are.
    shows_progress: bool,
}

impl Client {
    /// A client of the daemon behind this socket. Nothing is connected yet.
    pub fn new(socket: PathBuf, patience: Duration) -> Self {
        Self {
            socket,
            patience,
            shows_progress: false,
        }
    }

    /// Whether to show a bar while an edit is under way that takes longer.
    pub fn showing_progress(self, shows_progress: bool) -> Self {
        Self { shows_progress, ..self }
    }

    /// Reads something.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        self.send(Method::GET, path, NO_BODY).await
    }

    /// Reads something with its tag, for [`Self::send_if`].
    pub async fn get_tagged<T: DeserializeOwned>(&self, path: &str) -> Result<(T, Option<HeaderValue>), Failure> {
        self.exchange(Method::GET, path, None, NO_BODY).await
    }

    /// The tag alone.
    pub async fn tag(&self, path: &str) -> Result<Option<HeaderValue>, Failure> {
        let head = self
            .while_alive(self.request(Method::HEAD, path, None, NO_BODY))
            .await?;
        Ok(head.headers().get(ETAG).cloned())
    }

    /// Sends a request and reads the reply.
    pub async fn send<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&impl Serialize>,
    ) -> Result<T, Failure> {
        self.send_if(method, path, None, body).await
    }

    /// The same on the condition that what is changed still has this tag.
    pub async fn send_if<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        tag: Option<&HeaderValue>,
        body: Option<&impl Serialize>,
    ) -> Result<T, Failure> {
        Ok(self.exchange(method, path, tag, body).await?.0)
    }

    /// Sends a request, and gives what is replied with its tag.
    async fn exchange<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        tag: Option<&HeaderValue>,
        body: Option<&impl Serialize>,
    ) -> Result<(T, Option<HeaderValue>), Failure> {
        // A question is answered at once.
        let shows_progress = self.shows_progress && method != Method::GET;
        let exchange = self.while_alive(self.exchange_once(method, path, tag, body));
        match shows_progress {
            true => progress::shown(self, exchange).await,
            false => exchange.await,
        }
    }

    /// Sends a request and reads the reply, however long that takes.
    pub async fn once<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&impl Serialize>,
    ) -> Result<T, Failure> {
        Ok(self.exchange_once(method, path, None, body).await?.0)
    }

    async fn exchange_once<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        tag: Option<&HeaderValue>,
        body: Option<&impl Serialize>,
    ) -> Result<(T, Option<HeaderValue>), Failure> {
        let reply = self.request(method, path, tag, body).await?;
        let tag = reply.headers().get(ETAG).cloned();
        let bytes = reply
            .into_body()
            .collect()
            .await
            .map_err(|e| self.broken(&e))?
            .to_bytes();
        let value = serde_json::from_slice(&bytes)
            .map_err(|e| foreign(path, &format!("a reply that is not understood: {e}")))?;
        Ok((value, tag))
    }

    /// Waits for an answer as long as the daemon lives: one that is busy with a large lab answers other requests meanwhile.
    async fn while_alive<T>(&self, exchange: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
        let mut exchange = pin!(exchange);
        loop {
            if let Ok(answer) = timeout(self.patience, exchange.as_mut()).await {
                return answer;
            }
            let sign = timeout(self.patience, self.request(Method::GET, SIGN_OF_LIFE, None, NO_BODY));
            tokio::select! {
                // The answer may come first.
                answer = exchange.as_mut() => return answer,
                sign = sign => if !is_life(&sign) {
                    return Err(Failure::unreachable(
                        self.name(),
                        format!("it gave no answer and no sign of life for {:?}", 2 * self.patience),
                        "what was asked for may still be done: see its log, and `vswitchctl show`; --timeout has it wait longer",
                    ));
                },
            }
        }
    }

    /// Opens a stream, such as one of server-sent events.
    pub async fn stream(&self, path: &str) -> Result<Incoming, Failure> {
        Ok(self.open(path).await?.into_body())
    }

    /// The same with the head of the answer.
    pub async fn open(&self, path: &str) -> Result<Response<Incoming>, Failure> {
        self.while_alive(self.request(Method::GET, path, None, NO_BODY)).await
    }

    /// Asks for the end of something, with no answer but that it ends.
    pub async fn end(&self, path: &str) -> Result<(), Failure> {
        self.while_alive(self.request(Method::DELETE, path, None, NO_BODY))
            .await
            .map(drop)
    }

    /// What to say when the connection ends in the middle.
    pub fn broken(&self, cause: &dyn std::error::Error) -> Failure {
        let mut text = cause.to_string();
        let mut next = cause.source();
        while let Some(source) = next {
            text = format!("{text}: {source}");
            next = source.source();
        }
        Failure::unreachable(
            self.name(),
            format!("the connection broke: {text}"),
            "did the daemon stop? `vswitchctl show` tells what it had done",
        )
    }

    /// Sends a request; a reply that is an error becomes one.
    async fn request(
        &self,
        method: Method,
        path: &str,
        tag: Option<&HeaderValue>,
        body: Option<&impl Serialize>,
    ) -> Result<Response<Incoming>, Failure> {
        let stream = self.connect().await?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|e| self.broken(&e))?;
        // Ends with the last of sender and reply; its errors show there too.
        tokio::spawn(connection);

        let content = match body {
            Some(body) => serde_json::to_vec(body).map_err(|e| foreign(path, &e.to_string()))?,
            None => Vec::new(),
        };
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, "vswitchd")
            .header(ACCEPT, "*/*");
        if body.is_some() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        if let Some(tag) = tag {
            request = request.header(IF_MATCH, tag);
        }
        let request = request
            .body(Full::new(Bytes::from(content)))
            .map_err(|e| foreign(path, &e.to_string()))?;
        let reply = sender.send_request(request).await.map_err(|e| self.broken(&e))?;
        if reply.status().is_success() {
            return Ok(reply);
        }
        let status = reply.status();
        let bytes = reply
            .into_body()
            .collect()
            .await
            .map_err(|e| self.broken(&e))?
            .to_bytes();
        Err(match serde_json::from_slice::<ApiError>(&bytes) {
            Ok(error) => error.into(),
            Err(_) => foreign(
                path,
                &format!("HTTP {status} {}", String::from_utf8_lossy(&bytes).trim()),
            ),
        })
    }

    /// A queue of connections that is full has room again soon, or [`Self::while_alive`] gives up.
    async fn connect(&self) -> Result<UnixStream, Failure> {
        loop {
            match UnixStream::connect(&self.socket).await {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => tokio::time::sleep(RETRY).await,
                connected => return connected.map_err(|e| unreachable_socket(&self.socket, &e)),
            }
        }
    }

    fn name(&self) -> String {
        format!("vswitchd at {}", self.socket.display())
    }
}

/// Whether there was any answer, be it an error.
fn is_life<T>(sign: &Result<Result<T, Failure>, Elapsed>) -> bool {
    match sign {
        Ok(Ok(_)) => true,
        Ok(Err(failure)) => failure.exit_code() != EXIT_UNREACHABLE,
        Err(_) => false,
    }
}

/// A path with its query, or with more of it; names may contain `+` and addresses contain `/`.
pub fn with_query(path: &str, query: &impl Serialize) -> Result<String, Failure> {
    match serde_urlencoded::to_string(query) {
        Ok(query) if query.is_empty() => Ok(path.to_owned()),
        Ok(query) if path.contains('?') => Ok(format!("{path}&{query}")),
        Ok(query) => Ok(format!("{path}?{query}")),
        Err(e) => Err(foreign(path, &e.to_string())),
    }
}

/// Something that two programs of the same version never say to each other.
fn foreign(path: &str, cause: &str) -> Failure {
    ApiError::new(ErrorCode::Internal, format!("request {path}"), cause.trim())
        .hint(
            "are vswitchctl and vswitchd of the same version? compare `vswitchctl --version` and `vswitchd --version`",
        )
        .into()
}

fn unreachable_socket(socket: &Path, error: &io::Error) -> Failure {
    let object = format!("vswitchd at {}", socket.display());
    match error.kind() {
        io::ErrorKind::NotFound => Failure::unreachable(
            object,
            "there is no such socket",
            "is vswitchd running? start it with `systemctl start vswitchd` or `vswitchd &`, or name its socket by --socket",
        ),
        io::ErrorKind::ConnectionRefused => Failure::unreachable(
            object,
            "nobody listens on the socket",
            "is vswitchd running? start it with `systemctl start vswitchd` or `vswitchd &`",
        ),
        io::ErrorKind::PermissionDenied => Failure::unreachable(object, "permission denied", permission_hint(socket)),
        _ => Failure::unreachable(object, error.to_string(), "is this vswitchd's control socket?"),
    }
}

fn permission_hint(socket: &Path) -> String {
    // Being in root's group is no way for an ordinary user.
    let group = std::fs::metadata(socket)
        .ok()
        .filter(|meta| meta.gid() != 0)
        .and_then(|meta| Group::from_gid(Gid::from_raw(meta.gid())).ok().flatten());
    match group {
        Some(group) => format!(
            "the socket is for root and group {0}; run it as root, or join with `usermod -aG {0} USER` and log in again",
            group.name
        ),
        None => "run it as root, or set a group for the socket in vswitchd.toml".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_survives_plus_and_slash() {
        let path = with_query("/v1/x", &[("port", "a+b"), ("address", "fd00::1/64")]).unwrap();
        assert_eq!(path, "/v1/x?port=a%2Bb&address=fd00%3A%3A1%2F64");
        assert_eq!(with_query("/v1/x", &[("", ""); 0]).unwrap(), "/v1/x");
    }
}
