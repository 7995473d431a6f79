//! `/metrics` over TCP, for a Prometheus that can't reach the control socket. Nothing else is answered there.
//!
//! A page that a browser shows may make it ask any address, by a name of its own that it lets lead there (DNS rebinding). So a request
//! is answered only if it was made to an address, to `localhost`, or to a name that is configured.

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr, TcpListener as StdListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::body::Body;
use axum::http::header::{ALLOW, CONTENT_TYPE, HOST};
use axum::http::{HeaderMap, Method, Request, Response, StatusCode, Uri};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};

use super::{Format, Snapshot};
use crate::config::Metrics;
use crate::control::Control;
use crate::logging::Repeated;

/// Connections at a time. Each is for one request.
const MAX_CONNECTIONS: usize = 16;
/// How long a client may take to send its request.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a connection may last in all.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Pause after an accept that failed for lack of file descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How often an address is tried again that could not be listened on.
const BIND_TICK: Duration = Duration::from_secs(2);

/// Connections that were turned away.
static REFUSED: AtomicU64 = AtomicU64::new(0);

pub(super) fn refused() -> u64 {
    REFUSED.load(Ordering::Relaxed)
}

/// The address where metrics are to be had over TCP.
#[derive(Debug)]
pub struct MetricsListener {
    /// Or why it can't be had yet.
    bound: Result<StdListener, String>,
    address: SocketAddr,
    hosts: Arc<[String]>,
}

impl MetricsListener {
    /// Takes the address, if one is configured. One that is taken, or not of this machine yet, is tried again while it is served: the switch
    /// goes on without.
    pub fn bind(config: &Metrics) -> Option<Self> {
        let address = config.listen?;
        if !address.ip().is_loopback() {
            tracing::warn!("metrics are open to the network at {address}, to whoever reaches it");
        }
        Some(Self {
            bound: bind(address),
            address,
            hosts: config.hosts.clone().into(),
        })
    }

    /// Serves until the daemon stops.
    pub(in super::super) async fn serve(
        self,
        control: Arc<Control>,
        labels: Arc<[String]>,
        mut stopping: watch::Receiver<bool>,
    ) {
        let Self { bound, address, hosts } = self;
        let listener = tokio::select! {
            listener = until_bound(bound, address, &control) => listener,
            _ = stopping.wait_for(|stopping| *stopping) => return,
        };
        // With the port that the kernel has chosen, if it was to.
        let address = listener.local_addr().unwrap_or(address);
        tracing::info!("metrics are at http://{address}/metrics");
        let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        let accept_all = async {
            loop {
                let stream = match listener.accept().await {
                    Ok((stream, _)) => stream,
                    Err(error) => {
                        tracing::warn!("a connection to the metrics could not be accepted: {error}");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                        continue;
                    }
                };
                // Closed at once: who asks again later is answered.
                let Ok(place) = places.clone().try_acquire_owned() else {
                    REFUSED.fetch_add(1, Ordering::Relaxed);
                    continue;
                };
                let connection = serve_one(stream, control.clone(), labels.clone(), hosts.clone());
                tokio::spawn(async move {
                    if tokio::time::timeout(TIMEOUT, connection).await.is_err() {
                        tracing::debug!("a connection to the metrics took too long");
                    }
                    drop(place);
                });
            }
        };
        tokio::select! {
            () = accept_all => {}
            _ = stopping.wait_for(|stopping| *stopping) => {}
        }
    }
}

fn bind(address: SocketAddr) -> Result<StdListener, String> {
    let bound = StdListener::bind(address).and_then(|listener| listener.set_nonblocking(true).map(|()| listener));
    bound.map_err(|error| {
        format!(
            "metrics at {address}: the address can't be listened on, which is tried again every few seconds: {error}; choose another for \
             listen under [metrics] in vswitchd.toml, or take it out"
        )
    })
}

/// Tries until the address can be listened on, and has the status tell meanwhile why it can't be.
async fn until_bound(mut bound: Result<StdListener, String>, address: SocketAddr, control: &Control) -> TcpListener {
    let mut failure = Repeated::default();
    loop {
        let listener = bound.and_then(|listener| TcpListener::from_std(listener).map_err(|error| error.to_string()));
        match listener {
            Ok(listener) => {
                control.tell_of_metrics(None);
                return listener;
            }
            Err(error) => {
                failure.error(error.clone());
                control.tell_of_metrics(Some(error));
            }
        }
        tokio::time::sleep(BIND_TICK).await;
        bound = bind(address);
    }
}

async fn serve_one(stream: TcpStream, control: Arc<Control>, labels: Arc<[String]>, hosts: Arc<[String]>) {
    let answer = service_fn(move |request: Request<Incoming>| {
        let (control, labels, hosts) = (control.clone(), labels.clone(), hosts.clone());
        async move {
            let answer = match refusal(request.method(), request.uri(), request.headers(), &hosts) {
                Some((status, cause)) => plain(status, cause),
                None => scrape(&control, labels, request.headers()).await,
            };
            Ok::<_, Infallible>(answer)
        }
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT);
    // Each scrape has a connection of its own, so that none stays open for nothing.
    http.keep_alive(false);
    if let Err(error) = http.serve_connection(TokioIo::new(stream), answer).await {
        tracing::debug!("a connection to the metrics ended: {error}");
    }
}

/// Why a request is not answered.
fn refusal(method: &Method, uri: &Uri, head: &HeaderMap, hosts: &[String]) -> Option<(StatusCode, &'static str)> {
    let mut named = head.get_all(HOST).iter().map(|host| host.to_str().unwrap_or_default());
    let host = match (uri.authority(), named.next(), named.next()) {
        (Some(authority), _, None) => authority.as_str(),
        (None, Some(host), None) => host,
        _ => return Some((StatusCode::BAD_REQUEST, "the request names no host, or several")),
    };
    if !is_ours(host, hosts) {
        let cause = "this host is not known here; ask by address, or add it to hosts under [metrics] in vswitchd.toml";
        return Some((StatusCode::FORBIDDEN, cause));
    }
    if uri.path() != "/metrics" {
        return Some((StatusCode::NOT_FOUND, "there is only /metrics"));
    }
    let is_read = method == Method::GET || method == Method::HEAD;
    (!is_read).then_some((StatusCode::METHOD_NOT_ALLOWED, "metrics can only be read"))
}

/// Whether a host, with or without a port, may be meant by who asks.
fn is_ours(host: &str, hosts: &[String]) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split_once(']').map_or("", |(ip, _)| ip),
        None => host.split_once(':').map_or(host, |(name, _)| name),
    };
    let is_named = |known: &String| known.eq_ignore_ascii_case(name);
    name.parse::<IpAddr>().is_ok() || name.eq_ignore_ascii_case("localhost") || hosts.iter().any(is_named)
}

async fn scrape(control: &Control, labels: Arc<[String]>, head: &HeaderMap) -> Response<Body> {
    let text = match Snapshot::of(control, labels).await {
        Ok(snapshot) => snapshot.text().map_err(|error| error.to_string()),
        Err(error) => Err(error.to_string()),
    };
    match text {
        Ok(text) => {
            let format = Format::accepted(head);
            let mut answer = Response::new(Body::from(format.write(text)));
            let content_type = axum::http::HeaderValue::from_static(format.content_type());
            answer.headers_mut().insert(CONTENT_TYPE, content_type);
            answer
        }
        Err(error) => {
            tracing::error!("metrics can't be told: {error}");
            plain(
                StatusCode::INTERNAL_SERVER_ERROR,
                "they can't be told; the log has the reason",
            )
        }
    }
}

fn plain(status: StatusCode, cause: &'static str) -> Response<Body> {
    let mut answer = Response::new(Body::from(format!("{cause}\n")));
    *answer.status_mut() = status;
    let text = axum::http::HeaderValue::from_static("text/plain; charset=utf-8");
    answer.headers_mut().insert(CONTENT_TYPE, text);
    if status == StatusCode::METHOD_NOT_ALLOWED {
        let allowed = axum::http::HeaderValue::from_static("GET, HEAD");
        answer.headers_mut().insert(ALLOW, allowed);
    }
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_means_this_host_is_answered() {
        let hosts = ["metrics.example".to_owned()];
        for host in [
            "127.0.0.1",
            "127.0.0.1:9",
            "[::1]:9",
            "[::1]",
            "LOCALHOST:9",
            "10.0.0.1",
            "Metrics.example:80",
        ] {
            assert!(is_ours(host, &hosts), "{host}");
        }
        for host in [
            "",
            "evil.example",
            "evil.example:9",
            "127.0.0.1.evil.example",
            "localhost.evil",
            "[evil]",
            "[",
        ] {
            assert!(!is_ours(host, &hosts), "{host}");
        }
    }

    #[test]
    fn nothing_but_metrics_is_read() {
        let ask = |method: Method, uri: &str, hosts: &[&str]| {
            let mut head = HeaderMap::new();
            for host in hosts {
                head.append(HOST, host.parse().unwrap());
            }
            refusal(&method, &uri.parse().unwrap(), &head, &[]).map(|(status, _)| status.as_u16())
        };
        let local = ["localhost"];
        assert_eq!(ask(Method::GET, "/metrics", &local), None);
        assert_eq!(ask(Method::HEAD, "/metrics?x", &local), None);
        assert_eq!(ask(Method::POST, "/metrics", &local), Some(405));
        assert_eq!(ask(Method::GET, "/v1/ports", &local), Some(404));
        assert_eq!(ask(Method::GET, "/metrics", &["evil.example"]), Some(403));
        assert_eq!(ask(Method::GET, "http://evil.example/metrics", &local), Some(403));
        assert_eq!(ask(Method::GET, "/metrics", &[]), Some(400));
        assert_eq!(ask(Method::GET, "/metrics", &["localhost", "localhost"]), Some(400));
    }
}
