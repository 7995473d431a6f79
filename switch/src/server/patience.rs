//! A connection with bounded patience: a client that does not read what is sent to it is given up, and one that has hung up is
//! noticed at once.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::UnixStream;
use tokio::time::{Sleep, sleep};

use vswitch_linux::poll;

/// Returns when the client has closed its end of the connection; that it sends no more (as `nc -N`) is not that.
pub(super) async fn hung_up(watch: io::Result<AsyncFd<OwnedFd>>) {
    let told = match &watch {
        Ok(fd) => fd.ready(Interest::PRIORITY).await.is_ok(),
        Err(_) => false,
    };
    if !told {
        // Without descriptors the next write or read finds out.
        std::future::pending::<()>().await;
    }
}

/// What [`hung_up`] looks at.
pub(super) fn watch(stream: &UnixStream) -> io::Result<AsyncFd<OwnedFd>> {
    poll::hung_up(stream.as_fd().try_clone_to_owned()?)
}

/// A stream on which writing fails when the other side does not read for too long.
pub(super) struct Patient<S> {
    stream: S,
    limit: Duration,
    /// Runs while a write waits.
    timer: Option<Pin<Box<Sleep>>>,
}

impl<S> Patient<S> {
    /// `limit`: how long the other side may leave unread what is sent to it.
    pub fn new(stream: S, limit: Duration) -> Self {
        Self {
            stream,
            limit,
            timer: None,
        }
    }

    fn bounded(&mut self, context: &mut Context<'_>, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if written.is_ready() {
            self.timer = None;
            return written;
        }
        let limit = self.limit;
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep(limit)));
        ready!(timer.as_mut().poll(context));
        Poll::Ready(Err(io::Error::new(
            io::ErrorKind::TimedOut,
            format!("the client has not read for {limit:?}"),
        )))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Patient<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Patient<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.bounded(context, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, parts);
        self.bounded(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream as Plain;

    use tokio::io::AsyncWriteExt;
    use tokio::time::timeout;

    use super::*;

    fn pair() -> (UnixStream, Plain) {
        let (ours, theirs) = Plain::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        (UnixStream::from_std(ours).unwrap(), theirs)
    }

    #[tokio::test]
    async fn a_client_that_only_sends_no_more_has_not_hung_up() {
        let (ours, theirs) = pair();
        theirs.shutdown(std::net::Shutdown::Write).unwrap();
        let watched = watch(&ours);
        let waited = timeout(Duration::from_millis(50), hung_up(watched)).await;
        assert!(waited.is_err());
        drop(theirs);
        hung_up(watch(&ours)).await;
    }

    /// Readers that never read had held their place for ever.
    #[tokio::test]
    async fn a_client_that_never_reads_is_given_up() {
        let (ours, _theirs) = pair();
        let mut patient = Patient::new(ours, Duration::from_millis(10));
        let error = loop {
            if let Err(error) = patient.write_all(&[0; 1 << 16]).await {
                break error;
            }
        };
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }
}
