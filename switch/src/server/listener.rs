//! Accepts connections and speaks HTTP/1.1 on them.

use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::UnixStream;
use tokio::sync::{Semaphore, watch};
use tracing::Instrument;

use super::api::router;
use super::socket::ControlSocket;
use crate::control::Control;
use crate::logging::Repeated;

/// Connections at the same time. Bounded so that clients can't use up the file descriptors that ports need.
const MAX_CONNECTIONS: usize = 256;
/// How long a client may take to send the head of a request, and how long an idle connection is kept.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// How long requests may go on after the daemon was told to stop.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);
/// How often it is seen to that the socket is where clients look for it.
const SOCKET_TICK: Duration = Duration::from_secs(2);
/// Pause after an accept that failed for lack of file descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves the API on `socket` until `stop` completes; then removes the socket, ends event streams and waits a while for
/// requests under way.
pub async fn serve(mut socket: ControlSocket, control: Arc<Control>, stop: impl Future<Output = ()>) {
    let (stopping, stopping_seen) = watch::channel(false);
    let service = TowerToHyperService::new(router(control, stopping_seen));
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT);
    // A client may close its sending side behind its last request, as `nc -N` does: it still gets its answer.
    http.half_close(true);
    let graceful = GracefulShutdown::new();
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));

    let mut failure = Repeated::default();
    let accept_all = async {
        loop {
            let Ok(slot) = slots.clone().acquire_owned().await else {
                return;
            };
            let accepted = match tokio::time::timeout(SOCKET_TICK, socket.listener.accept()).await {
                Ok(accepted) => accepted,
                Err(_) => {
                    keep(&mut socket, &mut failure);
                    continue;
                }
            };
            let stream = match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!("a connection to the control socket could not be accepted: {error}");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let span = client_span(&stream);
            let connection = graceful.watch(http.serve_connection(TokioIo::new(stream), service.clone()));
            let task = async move {
                if let Err(error) = connection.await {
                    tracing::debug!("connection ended: {error}");
                }
                drop(slot);
            };
            tokio::spawn(task.instrument(span));
        }
    };
    tokio::select! {
        () = accept_all => {}
        () = stop => {}
    }

    drop(socket);
    let _ = stopping.send(true);
    if tokio::time::timeout(DRAIN_TIMEOUT, graceful.shutdown()).await.is_err() {
        tracing::warn!(
            "requests still ran {} s after the stop; their connections are closed",
            DRAIN_TIMEOUT.as_secs()
        );
    }
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
