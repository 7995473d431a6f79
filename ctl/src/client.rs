//! HTTP over the daemon's unix socket. One connection for each request: on a unix socket that costs
//! next to nothing, and a daemon that was restarted in between does no harm.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::header::{ACCEPT, CONTENT_TYPE, HOST};
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use nix::unistd::{Gid, Group};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;
use vswitch_api::{ApiError, ErrorCode};

use crate::failure::Failure;

/// How long a reply may take: `apply` of a lab with some thousand ports ends within it, at up to 50 ms a port.
const REPLY_TIMEOUT: Duration = Duration::from_secs(120);

/// A request without a body.
pub const NO_BODY: Option<&()> = None;

/// The daemon as seen through its control socket.
pub struct Client {
    socket: PathBuf,
}

impl Client {
    /// A client of the daemon behind this socket. Nothing is connected yet.
    pub fn new(socket: PathBuf) -> Self {
        Self { socket }
    }

    /// Reads something.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        self.send(Method::GET, path, NO_BODY).await
    }

    /// Sends a request and reads the reply.
    pub async fn send<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&impl Serialize>,
    ) -> Result<T, Failure> {
        let exchange = async {
            let reply = self.request(method, path, body).await?;
            let bytes = reply
                .into_body()
                .collect()
                .await
                .map_err(|e| self.broken(&e))?
                .to_bytes();
            serde_json::from_slice(&bytes).map_err(|e| foreign(path, &format!("a reply that is not understood: {e}")))
        };
        match tokio::time::timeout(REPLY_TIMEOUT, exchange).await {
            Ok(reply) => reply,
            Err(_) => Err(Failure::unreachable(
                self.name(),
                format!("no answer within {} s", REPLY_TIMEOUT.as_secs()),
                "`vswitchctl status` tells how far it came; it goes on by itself",
            )),
        }
    }

    /// Opens a stream, such as one of server-sent events.
    pub async fn stream(&self, path: &str) -> Result<Incoming, Failure> {
        Ok(self.open(path).await?.into_body())
    }

    /// The same with the head of the answer.
    pub async fn open(&self, path: &str) -> Result<Response<Incoming>, Failure> {
        self.request(Method::GET, path, NO_BODY).await
    }

    /// Asks for the end of something, with no answer but that it ends.
    pub async fn end(&self, path: &str) -> Result<(), Failure> {
        self.request(Method::DELETE, path, NO_BODY).await.map(drop)
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
        body: Option<&impl Serialize>,
    ) -> Result<Response<Incoming>, Failure> {
        let stream = UnixStream::connect(&self.socket)
            .await
            .map_err(|e| unreachable_socket(&self.socket, &e))?;
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

    fn name(&self) -> String {
        format!("vswitchd at {}", self.socket.display())
    }
}

/// A path with its query; names may contain `+` and addresses contain `/`.
pub fn with_query(path: &str, query: &impl Serialize) -> Result<String, Failure> {
    match serde_urlencoded::to_string(query) {
        Ok(query) if query.is_empty() => Ok(path.to_owned()),
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
