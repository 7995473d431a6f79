//! HTTP over the daemon's unix socket. One connection for each request: on a unix socket that costs
//! next to nothing, and a daemon that was restarted in between does no harm.

use std::error::Error as _;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::str::FromStr;
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::header::{ACCEPT, CONTENT_TYPE, ETAG, HOST, HeaderValue, IF_MATCH, InvalidHeaderValue};
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::Value;
use tokio::net::UnixStream;
use tokio::time::{sleep, timeout};
use vswitch_api::request::ChangeOptions;
use vswitch_api::view::{Progress, Status};
use vswitch_api::{ApiError, DEFAULT_SOCKET, reply};

use crate::body::Body;
use crate::error::Error;
use crate::progress::Watcher;

/// Names the socket of [`Client::from_env`].
const SOCKET_VARIABLE: &str = "VSWITCH_SOCKET";
/// How long the daemon may be silent if nothing else is said.
const PATIENCE: Duration = Duration::from_secs(10);
/// Something that the daemon answers without looking at ports, whatever it is busy with.
const SIGN_OF_LIFE: &str = "/v1/openapi.json";
/// How long to wait before a full queue of connections is tried again.
const RETRY: Duration = Duration::from_millis(20);

/// A request without a body.
pub const NO_BODY: Option<&()> = None;

/// The daemon as seen through its control socket. A clone is a client of the same daemon.
#[derive(Clone, Debug)]
pub struct Client {
    socket: PathBuf,
    /// How long the daemon may be silent.
    patience: Duration,
    /// Who is told how far edits are.
    watcher: Option<Watcher>,
}

/// The `ETag` of something as it was read. As text it can be kept for later.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tag(HeaderValue);

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.to_str().unwrap_or_default())
    }
}

impl FromStr for Tag {
    type Err = InvalidHeaderValue;

    fn from_str(text: &str) -> Result<Self, InvalidHeaderValue> {
        HeaderValue::from_str(text).map(Self)
    }
}

impl Client {
    /// A client of the daemon behind this socket. Nothing is connected yet.
    pub fn new(socket: impl Into<PathBuf>) -> Self {
        Self {
            socket: socket.into(),
            patience: PATIENCE,
            watcher: None,
        }
    }

    /// A client of the daemon that the environment names (`VSWITCH_SOCKET`), else of the one at [`DEFAULT_SOCKET`].
    pub fn from_env() -> Self {
        let named = std::env::var_os(SOCKET_VARIABLE).filter(|path| !path.is_empty());
        Self::new(named.unwrap_or_else(|| DEFAULT_SOCKET.into()))
    }

    /// How long the daemon may give neither an answer nor a sign of life before it is given up: 10 seconds, unless it is set.
    #[must_use]
    pub fn patience(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    /// Calls `tell` now and then with how far the daemon is, while an edit takes long; with none when nothing is under way any more.
    #[must_use]
    pub fn on_progress(self, tell: impl Fn(Option<Progress>) + Send + Sync + 'static) -> Self {
        Self {
            watcher: Some(Watcher::new(tell)),
            ..self
        }
    }

    /// Reads something.
    ///
    /// # Errors
    /// The daemon says no, or can't be reached.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Error> {
        self.send(Method::GET, path, NO_BODY).await
    }

    /// Reads something with its tag, for [`Self::send_if`].
    ///
    /// # Errors
    /// As those of [`Client::get`].
    pub async fn get_tagged<T: DeserializeOwned>(&self, path: &str) -> Result<(T, Option<Tag>), Error> {
        self.exchange(Method::GET, path, None, NO_BODY).await
    }

    /// The tag alone.
    ///
    /// # Errors
    /// As those of [`Client::get`].
    pub async fn tag(&self, path: &str) -> Result<Option<Tag>, Error> {
        match self.while_alive(self.request(Method::HEAD, path, None, NO_BODY)).await {
            Ok(head) => Ok(head.headers().get(ETAG).cloned().map(Tag)),
            // An answer to HEAD has no body, and so does not say what is wrong.
            Err(Error::Foreign { .. }) => self.get_tagged::<IgnoredAny>(path).await.map(|(_, tag)| tag),
            Err(error) => Err(error),
        }
    }

    /// Sends a request and reads the reply.
    ///
    /// # Errors
    /// As those of [`Client::get`].
    pub async fn send<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&impl Serialize>,
    ) -> Result<T, Error> {
        self.send_if(method, path, None, body).await
    }

    /// The same on the condition that what is changed still has this tag.
    ///
    /// # Errors
    /// As those of [`Client::get`]; [`Error::is_changed`] if it has another.
    pub async fn send_if<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        tag: Option<&Tag>,
        body: Option<&impl Serialize>,
    ) -> Result<T, Error> {
        Ok(self.exchange(method, path, tag, body).await?.0)
    }

    /// Sends a request, and gives what is replied with its tag.
    async fn exchange<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        tag: Option<&Tag>,
        body: Option<&impl Serialize>,
    ) -> Result<(T, Option<Tag>), Error> {
        // A question is answered at once.
        let watcher = self.watcher.as_ref().filter(|_| method != Method::GET);
        let exchange = self.while_alive(self.exchange_once(method, path, tag, body));
        match watcher {
            Some(watcher) => watcher.watching(self, exchange).await,
            None => exchange.await,
        }
    }

    /// The daemon's status, however long that takes.
    pub(crate) async fn status_once(&self) -> Result<Status, Error> {
        Ok(self.exchange_once(Method::GET, "/v1/status", None, NO_BODY).await?.0)
    }

    async fn exchange_once<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        tag: Option<&Tag>,
        body: Option<&impl Serialize>,
    ) -> Result<(T, Option<Tag>), Error> {
        let reply = self.request(method, path, tag, body).await?;
        let tag = reply.headers().get(ETAG).cloned().map(Tag);
        let bytes = reply
            .into_body()
            .collect()
            .await
            .map_err(|e| broken(&self.socket, &e))?
            .to_bytes();
        let value = reply::from_json(&bytes)
            .map_err(|e| Error::foreign(path, format!("a reply that is not understood: {e}")))?;
        Ok((value, tag))
    }

    /// Waits for an answer as long as the daemon lives: one that is busy with a large lab answers other requests meanwhile.
    async fn while_alive<T>(&self, exchange: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        let mut exchange = pin!(exchange);
        loop {
            if let Ok(answer) = timeout(self.before_sign(), exchange.as_mut()).await {
                return answer;
            }
            tokio::select! {
                // The answer may come first.
                answer = exchange.as_mut() => return answer,
                is_alive = self.is_alive() => if !is_alive {
                    return Err(self.silent());
                },
            }
        }
    }

    /// Silence after which a sign of life is asked for, and waited for as long.
    pub(crate) fn before_sign(&self) -> Duration {
        self.patience / 2
    }

    /// Whether the daemon gives a sign of life.
    pub(crate) async fn is_alive(&self) -> bool {
        let sign = async {
            // Its socket may be gone for a moment: it puts it back, and a restart makes a new one.
            while !is_life(&self.request(Method::GET, SIGN_OF_LIFE, None, NO_BODY).await) {
                sleep(RETRY).await;
            }
        };
        timeout(self.patience - self.before_sign(), sign).await.is_ok()
    }

    /// It gave none.
    pub(crate) fn silent(&self) -> Error {
        Error::Silent {
            socket: self.socket.clone(),
            waited: self.patience,
        }
    }

    /// The connection ended in the middle.
    pub(crate) fn broken(&self, error: &hyper::Error) -> Error {
        broken(&self.socket, error)
    }

    /// Opens an answer that comes in parts.
    ///
    /// # Errors
    /// As those of [`Client::get`].
    pub async fn open(&self, path: &str) -> Result<Body, Error> {
        let request = self.request(Method::GET, path, None, NO_BODY);
        let answer = self.while_alive(request).await?;
        Ok(Body::new(answer, self.clone(), path))
    }

    /// Asks for the end of something, with no answer but that it ends.
    ///
    /// # Errors
    /// As those of [`Client::get`].
    pub async fn end(&self, path: &str) -> Result<(), Error> {
        self.while_alive(self.request(Method::DELETE, path, None, NO_BODY))
            .await
            .map(drop)
    }

    /// Sends a request; a reply that is an error becomes one.
    async fn request(
        &self,
        method: Method,
        path: &str,
        tag: Option<&Tag>,
        body: Option<&impl Serialize>,
    ) -> Result<Response<Incoming>, Error> {
        if !path.starts_with('/') {
            return Err(Error::request(path, "a path begins with /, such as /v1/status"));
        }
        let stream = self.connect().await?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|e| broken(&self.socket, &e))?;
        // Ends with the last of sender and reply; its errors show there too.
        tokio::spawn(connection);

        let content = match body {
            Some(body) => serde_json::to_vec(body).map_err(|e| Error::request(path, e))?,
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
            request = request.header(IF_MATCH, &tag.0);
        }
        let request = request
            .body(Full::new(Bytes::from(content)))
            .map_err(|e| Error::request(path, e))?;
        let reply = sender
            .send_request(request)
            .await
            .map_err(|e| broken(&self.socket, &e))?;
        if reply.status().is_success() {
            return Ok(reply);
        }
        let status = reply.status();
        let bytes = reply
            .into_body()
            .collect()
            .await
            .map_err(|e| broken(&self.socket, &e))?
            .to_bytes();
        Err(match refusal(&bytes) {
            Some(error) => error.into(),
            None => Error::foreign(
                path,
                format!("HTTP {status} {}", String::from_utf8_lossy(&bytes).trim()),
            ),
        })
    }

    /// A queue of connections that is full has room again soon, or [`Self::while_alive`] gives up.
    async fn connect(&self) -> Result<UnixStream, Error> {
        loop {
            match UnixStream::connect(&self.socket).await {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => tokio::time::sleep(RETRY).await,
                connected => {
                    return connected.map_err(|cause| Error::Connect {
                        socket: self.socket.clone(),
                        cause,
                    });
                }
            }
        }
    }
}

/// What the daemon says if it says no. A code that only a later version knows is none of ours to act on: `internal`.
fn refusal(bytes: &[u8]) -> Option<ApiError> {
    if let Ok(error) = serde_json::from_slice(bytes) {
        return Some(error);
    }
    let mut value: Value = serde_json::from_slice(bytes).ok()?;
    *value.get_mut("code").filter(|code| code.is_string())? = Value::from("internal");
    serde_json::from_value(value).ok()
}

/// Whether there was any answer, be it an error.
fn is_life<T>(sign: &Result<T, Error>) -> bool {
    sign.as_ref().map_or_else(|error| !error.is_unreachable(), |_| true)
}

/// A path with its query, or with more of it; names may contain `+` and addresses contain `/`.
///
/// # Errors
/// It has no form as a query.
pub fn with_query(path: &str, query: &impl Serialize) -> Result<String, Error> {
    match serde_urlencoded::to_string(query) {
        Ok(query) if query.is_empty() => Ok(path.to_owned()),
        Ok(query) if path.contains('?') => Ok(format!("{path}&{query}")),
        Ok(query) => Ok(format!("{path}?{query}")),
        Err(e) => Err(Error::request(path, e)),
    }
}

/// A path with options, if any is set.
///
/// # Errors
/// They have no form as a query.
pub fn with_options(path: &str, options: ChangeOptions) -> Result<String, Error> {
    match options == ChangeOptions::default() {
        true => Ok(path.to_owned()),
        false => with_query(path, &options),
    }
}

/// The connection ended in the middle.
fn broken(socket: &Path, error: &hyper::Error) -> Error {
    let mut cause = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        cause = format!("{cause}: {source}");
        next = source.source();
    }
    Error::Broken {
        socket: socket.to_owned(),
        cause,
    }
}

#[cfg(test)]
mod tests {
    use vswitch_api::ErrorCode;

    use super::*;

    #[test]
    fn an_error_with_a_code_of_tomorrow_still_says_what_it_says() {
        let error = refusal(br#"{"code": "too-late", "object": "port \"red\"", "cause": "it is"}"#).unwrap();
        assert_eq!((error.code, error.cause.as_str()), (ErrorCode::Internal, "it is"));
        let error = refusal(br#"{"code": "conflict", "object": "port \"red\"", "cause": "it is there"}"#).unwrap();
        assert_eq!(error.code, ErrorCode::Conflict);
        assert!(refusal(b"<html>").is_none() && refusal(b"{}").is_none());
    }

    #[test]
    fn a_query_survives_plus_and_slash() {
        let path = with_query("/v1/x", &[("port", "a+b"), ("address", "fd00::1/64")]).unwrap();
        assert_eq!(path, "/v1/x?port=a%2Bb&address=fd00%3A%3A1%2F64");
        assert_eq!(with_query("/v1/x", &[("", ""); 0]).unwrap(), "/v1/x");
    }
}
