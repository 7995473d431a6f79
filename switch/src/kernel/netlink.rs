//! The rtnetlink client: one socket in one namespace, for a few requests.

use std::fmt::Display;
use std::io;

use futures::StreamExt;
use rtnetlink::packet_core::{NLM_F_ACK, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::nsid::{NsidAttribute, NsidMessage};
use rtnetlink::{Error, Handle};
use std::os::fd::{AsFd, AsRawFd};
use tokio::task::AbortHandle;

use super::error::KernelError;
use super::netns::NetNs;

/// Index of `lo` in every namespace (the kernel's LOOPBACK_IFINDEX).
const LOOPBACK: u32 = 1;

/// A netlink connection into a namespace; closed on drop. While it is open the namespace can't end.
///
/// In a [`KernelError`] of its methods `source` is the kernel's error number: EEXIST for what is there
/// already, EPERM without CAP_NET_ADMIN over the namespace, and for what is gone see [`KernelError::is_gone`].
pub struct Netlink {
    pub(super) handle: Handle,
    task: AbortHandle,
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
                rtnetlink::new_connection()
            })
            .await?;
        let (connection, handle, _) =
            opened.map_err(|e| KernelError::new(format!("open a netlink socket in {self}"), e))?;
        let task = tokio::spawn(connection).abort_handle();
        Ok(Netlink {
            handle,
            task,
            netns: self.clone(),
        })
    }

    pub(super) async fn set_loopback_up(&self) -> Result<(), KernelError> {
        self.netlink().await?.set_up(LOOPBACK).await
    }
}

impl Netlink {
    /// Wraps an error of rtnetlink: `what` was tried in this connection's namespace.
    pub(super) fn failed(&self, what: impl Display) -> impl FnOnce(Error) -> KernelError {
        move |error| KernelError::new(format!("{what} in {}", self.netns), io_error(error))
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
        if let Some(id) = self.known_nsid(other).await.map_err(self.failed(&what))? {
            return Ok(id);
        }
        const ANY_FREE: i32 = -1;
        let fd = NsidAttribute::Fd(raw_fd(other));
        let assign = RouteNetlinkMessage::NewNsId(nsid_message(vec![fd, NsidAttribute::Id(ANY_FREE)]));
        match self.request(assign, 0).await.map_err(self.failed(&what)) {
            // EEXIST: another process was faster.
            Err(e) if !e.is_exists() => return Err(e),
            _ => {}
        }
        let id = self.known_nsid(other).await.map_err(self.failed(&what))?;
        id.ok_or_else(|| KernelError::new(what, io::Error::other("the kernel assigned none")))
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

/// The kernel's error number where there is one, so that callers can tell the cases apart.
fn io_error(error: Error) -> io::Error {
    match error {
        Error::NetlinkError(message) => message.to_io(),
        other => io::Error::other(other.to_string()),
    }
}
