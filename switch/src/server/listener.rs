//! Accepts connections and speaks HTTP/1.1 on them.

use std::io;
use std::os::fd::OwnedFd;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::body::HttpBody;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::UnixStream;
use tokio::sync::watch;
use tracing::Instrument;

use super::api::router;
use super::metrics::MetricsListener;
use super::patience::{self, Patient};
use super::roles::Caller;
use super::slots::{Client, Slots};
use super::socket::ControlSocket;
use crate::control::Control;
use crate::handover::Restart;
use crate::logging::{LogHandle, Repeated};
use vswitch_api::error::{ApiError, ErrorCode};

/// How long a client may take to send the head of a request, and how long an idle connection is kept.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a client may leave unread what is sent to it. A capture whose reader is stopped for longer ends.
const WRITE_TIMEOUT: Duration = Duration::from_secs(60);
/// How long requests may go on after the daemon was told to stop.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a request is waited for, when the daemon stops, that may be on its way by a connection on which there was none yet.
const FIRST_REQUEST: Duration = Duration::from_millis(200);
/// How often it is looked whether it was read.
const FIRST_REQUEST_TICK: Duration = Duration::from_millis(1);
/// How often it is seen to that the socket is where clients look for it.
const SOCKET_TICK: Duration = Duration::from_secs(2);
/// Pause after an accept that failed for lack of file descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What is served, and where besides the control socket.
#[derive(Debug)]
pub struct Served {
    /// Settings that metrics show as labels.
    pub labels: Arc<[String]>,
    /// Metrics over TCP.
    pub metrics: Option<MetricsListener>,
    /// The log, whose level can be changed.
    pub log: LogHandle,
    /// By which the daemon is made to begin anew.
    pub restart: Arc<Restart>,
}

/// Serves the API on `socket` until `stop` completes; then removes the socket, ends event streams and waits a while for
/// requests under way. If it says that another goes on, gives the socket for that, if it can be left.
pub async fn serve(
    mut socket: ControlSocket,
    control: Arc<Control>,
    served: Served,
    stop: impl Future<Output = bool>,
) -> Option<OwnedFd> {
    let (stopping, stopping_seen) = watch::channel(false);
    let Served {
        labels,
        metrics,
        log,
        restart,
    } = served;
    if let Some(metrics) = metrics {
        tokio::spawn(metrics.serve(control.clone(), labels.clone(), stopping_seen.clone()));
    }
    let service = TowerToHyperService::new(router(control, labels, (log, restart), stopping_seen));
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT);
    // A client may close its sending side behind its last request, as `nc -N` does: it still gets its answer.
    http.half_close(true);
    let graceful = GracefulShutdown::new();
    let slots = Slots::default();

    let mut failure = Repeated::default();
    let accept_all = async {
        loop {
            let accepted = match tokio::time::timeout(SOCKET_TICK, socket.accept()).await {
                Ok(accepted) => accepted,
                Err(_) => {
                    keep(&mut socket, &mut failure);
                    continue;
                }
            };
            let stream = match accepted {
                Ok(stream) => stream,
                Err(error) => {
                    tracing::warn!("a connection to the control socket could not be accepted: {error}");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let span = client_span(&stream);
            let slot = match slots.enter(Client::of(stream.peer_cred().ok())) {
                Ok(slot) => slot,
                Err(cause) => {
                    span.in_scope(|| tracing::warn!("a connection to the control socket is refused: {cause}"));
                    refuse(&stream, cause);
                    continue;
                }
            };
            let caller = Arc::new(Caller::of(&stream, &socket.gate));
            let hang_up = patience::watch(&stream);
            let (place, service) = (slot.place.clone(), service.clone());
            let answer = service_fn(move |mut request: Request<Incoming>| {
                // Of a request with a body more is to come: who reads it says when it is there.
                if request.body().is_end_stream() {
                    place.begin();
                } else {
                    place.wait();
                }
                request.extensions_mut().insert(place.clone());
                request.extensions_mut().insert(caller.clone());
                let (place, answer) = (place.clone(), service.call(request));
                async move {
                    let answer = answer.await;
                    place.wait();
                    answer
                }
            });
            let connection =
                graceful.watch(http.serve_connection(TokioIo::new(Patient::new(stream, WRITE_TIMEOUT)), answer));
            let task = async move {
                // What nobody waits for any more is dropped, a request that has begun to change something excepted.
                tokio::select! {
                    biased;
                    () = patience::hung_up(hang_up) => tracing::debug!("connection ended: the client has hung up"),
                    () = slot.closed() => tracing::debug!("connection ended: its place is needed"),
                    result = pin!(connection) => if let Err(error) = result {
                        tracing::debug!("connection ended: {error}");
                    },
                }
            };
            tokio::spawn(task.instrument(span));
        }
    };
    let goes_on = tokio::select! {
        () = accept_all => false,
        goes_on = stop => goes_on,
    };

    let left = match goes_on {
        true => socket.leave(),
        false => {
            drop(socket);
            None
        }
    };
    // Who connects asks at once; what was not read would be lost.
    let all_read = async {
        while slots.any_new() {
            tokio::time::sleep(FIRST_REQUEST_TICK).await;
        }
    };
    let _ = tokio::time::timeout(FIRST_REQUEST, all_read).await;
    let _ = stopping.send(true);
    if tokio::time::timeout(DRAIN_TIMEOUT, graceful.shutdown()).await.is_err() {
        tracing::warn!(
            "requests still ran {} s after the stop; their connections are closed",
            DRAIN_TIMEOUT.as_secs()
        );
    }
    left
}

/// Answers without reading the request; whoever does not take it at once gets none.
fn refuse(stream: &UnixStream, cause: String) {
    let error =
        ApiError::new(ErrorCode::Conflict, "control socket", cause).hint("close some connections, or try again");
    let body = serde_json::to_string(&error).unwrap_or_default();
    let head = format!(
        "content-type: application/json\r\nconnection: close\r\ncontent-length: {}",
        body.len()
    );
    let answer = format!("HTTP/1.1 503 Service Unavailable\r\n{head}\r\n\r\n{body}");
    let _: io::Result<usize> = stream.try_write(answer.as_bytes());
}

/// Makes the socket again if somebody removed it.
fn keep(socket: &mut ControlSocket, failure: &mut Repeated) {
    match socket.put_back() {
        None => {}
        Some(Ok(())) => tracing::warn!("the control socket was gone and is back"),
        Some(Err(error)) => failure.error(format!("the control socket is gone and can't be put back: {error}")),
    }
}

/// Says in the log who asked.
fn client_span(stream: &UnixStream) -> tracing::Span {
    match stream.peer_cred() {
        Ok(peer) => tracing::info_span!("client", pid = peer.pid(), uid = peer.uid()),
        Err(_) => tracing::info_span!("client"),
    }
}
