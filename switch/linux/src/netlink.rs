//! The rtnetlink client: one socket in one namespace, for a few requests.

use std::fmt::Display;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures::StreamExt;
use rtnetlink::packet_core::{NLM_F_ACK, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::nsid::{NsidAttribute, NsidMessage};
use rtnetlink::sys::Socket;
use rtnetlink::{Error, Handle};
use tokio::task::AbortHandle;

use super::error::KernelError;
use super::link_read::open_reader;
use super::netns::NetNs;

/// A netlink connection into a namespace; closed on drop. While it is open the namespace can't end.
///
/// In a [`KernelError`] of its methods `source` is the kernel's error number: EEXIST for what is there
/// already, EPERM without CAP_NET_ADMIN over the namespace, and for what is gone see [`KernelError::is_gone`].
pub struct Netlink {
    pub(super) handle: Handle,
    /// The connection has ended.
    broken: Arc<AtomicBool>,
    task: AbortHandle,
    /// For what rtnetlink can't read ([`super::link_read`]).
    reader: Socket,
    netns: NetNs,
}

impl Drop for Netlink {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl NetNs {
    /// Opens a netlink connection inside the namespace.
    ///
    /// # Errors
    /// Those of [`NetNs::run`].
    pub async fn netlink(&self) -> Result<Netlink, KernelError> {
        let runtime = tokio::runtime::Handle::current();
        let opened = self
            .run(move || {
                // The socket stays in this thread's namespace; the runtime is entered to register it for polling.
                let _entered = runtime.enter();
                Ok((rtnetlink::new_connection()?, open_reader()?))
            })
            .await?;
        let ((connection, handle, _), reader) =
            opened.map_err(|e: io::Error| KernelError::new(format!("open a netlink socket in {self}"), e))?;
        let broken = Arc::new(AtomicBool::new(false));
        let task = tokio::spawn({
            let broken = Arc::clone(&broken);
            async move {
                let mut connection = pin!(connection);
                connection.as_mut().await;
                // Before the connection is dropped, and with it the answers that are waited for.
                broken.store(true, Ordering::Release);
            }
        });
        Ok(Netlink {
            handle,
            broken,
            task: task.abort_handle(),
            reader,
            netns: self.clone(),
        })
    }
}

impl Netlink {
    /// The kernel's answer to a request: `what` was tried in this connection's namespace.
    ///
    /// To rtnetlink an answer ends with the connection, so that a request that was never sent has an empty one, which looks as if
    /// all went well.
    pub(super) fn answer<T>(&self, what: impl Display, answer: Result<T, Error>) -> Result<T, KernelError> {
        let source = match answer {
            Ok(answer) if !self.broken.load(Ordering::Acquire) => return Ok(answer),
            // The kernel's error number, so that callers can tell the cases apart.
            Err(Error::NetlinkError(message)) => message.to_io(),
            Ok(_) | Err(Error::RequestFailed) => io::Error::other("the netlink socket could not send it"),
            Err(other) => io::Error::other(other.to_string()),
        };
        Err(self.failed(what, source))
    }

    /// `what` was tried in this connection's namespace.
    pub(super) fn failed(&self, what: impl Display, source: io::Error) -> KernelError {
        KernelError::new(format!("{what} in {}", self.netns), source)
    }

    pub(super) fn reader(&self) -> &Socket {
        &self.reader
    }

    /// Sends a request that rtnetlink has no builder for and returns the answers.
    pub(super) async fn request(
        &self,
        message: RouteNetlinkMessage,
        flags: u16,
    ) -> Result<Vec<RouteNetlinkMessage>, Error> {
        let mut message = NetlinkMessage::from(message);
        message.header.flags = NLM_F_REQUEST | NLM_F_ACK | flags;
        let mut answers = Vec::new();
        let mut stream = self.handle.clone().request(message)?;
        while let Some(answer) = stream.next().await {
            match answer.payload {
                NetlinkPayload::Error(error) => return Err(Error::NetlinkError(error)),
                NetlinkPayload::InnerMessage(inner) => answers.push(inner),
                _ => {}
            }
        }
        Ok(answers)
    }

    /// The id by which this connection's namespace knows another; the kernel gives one if there is none.
    ///
    /// Link events come only from namespaces that have one ([`super::LinkMonitor`]).
    pub async fn nsid_of(&self, other: &NetNs) -> Result<i32, KernelError> {
        let what = format!("assign an id to {other}");
        if let Some(id) = self.answer(&what, self.known_nsid(other).await)? {
            return Ok(id);
        }
        const ANY_FREE: i32 = -1;
        let fd = NsidAttribute::Fd(raw_fd(other));
        let assign = RouteNetlinkMessage::NewNsId(nsid_message(vec![fd, NsidAttribute::Id(ANY_FREE)]));
        match self.answer(&what, self.request(assign, 0).await) {
            // EEXIST: another process was faster.
            Err(e) if !e.is_exists() => return Err(e),
            _ => {}
        }
        let id = self.answer(&what, self.known_nsid(other).await)?;
        id.ok_or_else(|| KernelError::new(what, io::Error::other("the kernel assigned none")))
    }

    /// The same if there is one already.
    pub async fn nsid_if_known(&self, other: &NetNs) -> Result<Option<i32>, KernelError> {
        let known = self.known_nsid(other).await;
        self.answer(format_args!("ask for the id of {other}"), known)
    }

    async fn known_nsid(&self, other: &NetNs) -> Result<Option<i32>, Error> {
        let get = RouteNetlinkMessage::GetNsId(nsid_message(vec![NsidAttribute::Fd(raw_fd(other))]));
        let answers = self.request(get, 0).await?;
        Ok(answers.iter().find_map(|answer| match answer {
            RouteNetlinkMessage::NewNsId(message) => message.attributes.iter().find_map(|a| match a {
                NsidAttribute::Id(id) if *id >= 0 => Some(*id),
                _ => None,
            }),
            _ => None,
        }))
    }
}

fn nsid_message(attributes: Vec<NsidAttribute>) -> NsidMessage {
    let mut message = NsidMessage::default();
    message.attributes = attributes;
    message
}

fn raw_fd(netns: &NetNs) -> u32 {
    // An open descriptor is never negative.
    netns.as_fd().as_raw_fd().cast_unsigned()
}
