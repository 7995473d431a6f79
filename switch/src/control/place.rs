//! Where the interface of a port is. Whoever is root there may rename it, or move it to another namespace: it is followed by
//! what it is, not by how it is called.
//!
//! Of a veth the near end tells where the far end is, of a TAP device an open queue. A daemon that starts has no queues yet: so
//! near ends and TAP devices bear a mark, by which they are found, with the place where they were made: one that lies elsewhere
//! was moved, while one that lies there still belongs to a namespace that has lost its name if the name leads elsewhere by now.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use vswitch_api::{NsName, Port, PortName};

use super::{Inner, LivePort};
use vswitch_linux::{Found, KernelError, Link, NetNs, NetNsId, Netlink, Presence, with_processes};

/// What the alias of an interface of ours begins with.
pub(super) const MARK: &str = "vswitch:";

/// How the mark of the interfaces of a port begins, whichever daemon made it.
pub(super) fn named_mark(port: &PortName) -> String {
    format!("{MARK}{port}:")
}

/// An interface and the namespace that it is in, which it keeps alive: not for keeping.
pub(super) struct Place {
    pub netns: NetNs,
    pub link: Link,
}

/// Where an interface is that is not where its port has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Moved {
    /// In words.
    pub to: String,
    /// The namespace, if it has a name.
    pub namespace: Option<NsName>,
    /// A process in it, if it has none.
    pub process: Option<u32>,
}

/// What keeps a namespace alive that is not the daemon itself.
enum Keeper {
    Host,
    Name(String),
    Process(u32),
    Nobody,
}

impl Inner {
    /// The namespace of the interface of a port that is attached, and its index there, by the shortest way.
    pub(super) async fn where_inside(&self, port: &Port, live: &LivePort) -> Result<Option<(NetNs, u32)>, KernelError> {
        if live.moved.is_none() && !live.unnamed {
            return Ok(self.find_netns_of(port)?.zip(live.inside));
        }
        let place = self.place_of(port, live).await?;
        Ok(place.map(|place| (place.netns, place.link.index)))
    }

    /// The other end of a near end, wherever it is.
    ///
    /// # Errors
    /// NotFound: it is where it can't be got at, in a namespace without name and process.
    pub(super) async fn far_end(&self, port: &Port, near: &Link, own: &Netlink) -> Result<Option<Place>, KernelError> {
        let (Some(index), Some(nsid)) = (near.peer_index, near.peer_nsid) else {
            return Ok(None);
        };
        let netns = self.namespace_of_id(nsid, port, own).await?;
        let link = netns.netlink().await?.link_by_index(index).await?;
        Ok(link.map(|link| Place { netns, link }))
    }

    async fn namespace_of_id(&self, nsid: i32, port: &Port, own: &Netlink) -> Result<NetNs, KernelError> {
        // Where it ought to be comes first: that it is elsewhere is rare.
        let likely = self.find_netns_of(port).ok().flatten();
        for netns in likely.into_iter().chain([self.host.home.clone()]) {
            if own.nsid_if_known(&netns).await? == Some(nsid) {
                return Ok(netns);
            }
        }
        let (others, unsure) = self.all_others();
        for netns in others {
            if own.nsid_if_known(&netns).await? == Some(nsid) {
                return Ok(netns);
            }
        }
        let step = format!("find the namespace of the interface of port {}", port.name);
        let cause = "it has no name and no process, so that it can't be entered";
        Err(unsure.unwrap_or_else(|| KernelError::new(step, io::Error::new(io::ErrorKind::NotFound, cause))))
    }

    /// The namespaces that have a name or a process, without the host's, and why there may be more of them.
    pub(super) fn all_others(&self) -> (Vec<NetNs>, Option<KernelError>) {
        let Found { netns, mut unsure } = self.host.named.all();
        let mut seen: BTreeSet<_> = netns.values().map(NetNs::id).collect();
        seen.insert(self.host.home.id());
        let mut others: Vec<_> = netns
            .into_values()
            .filter(|netns| netns.id() != self.host.home.id())
            .collect();
        let with_processes = with_processes().unwrap_or_else(|error| {
            unsure = Some(error);
            BTreeMap::new()
        });
        for (_, pid) in with_processes.into_iter().filter(|(id, _)| !seen.contains(id)) {
            match NetNs::of_process(pid) {
                Presence::Here(netns) => others.push(netns),
                Presence::Gone => {}
                Presence::Unknown(error) => unsure = Some(error),
            }
        }
        (others, unsure)
    }

    /// Where the interface of a port is if not where the port has it, and whether that namespace has no name.
    pub(super) fn moved(&self, port: &Port, netns: &NetNs) -> (Option<Moved>, bool) {
        let wanted = self.find_netns_of(port).ok().flatten();
        if wanted.is_some_and(|wanted| wanted.id() == netns.id()) {
            return (None, false);
        }
        let keeper = self.keeper(netns.id()).unwrap_or(Keeper::Nobody);
        let process = match keeper {
            Keeper::Process(pid) => Some(pid),
            _ => None,
        };
        let (to, namespace, unnamed) = match keeper {
            Keeper::Host => ("the host's namespace".to_owned(), None, false),
            Keeper::Name(name) => (format!("namespace {}", name.escape_debug()), name.parse().ok(), false),
            Keeper::Process(pid) => (format!("the namespace of process {pid}"), None, true),
            Keeper::Nobody => ("a namespace without a name".to_owned(), None, true),
        };
        let moved = Moved { to, namespace, process };
        (Some(moved), unnamed)
    }

    /// Whether a namespace has a name or a process: else only the daemon may be what holds it.
    ///
    /// # Errors
    /// It can't be told.
    pub(super) fn lives(&self, id: NetNsId) -> Result<bool, KernelError> {
        Ok(!matches!(self.keeper(id)?, Keeper::Nobody))
    }

    fn keeper(&self, id: NetNsId) -> Result<Keeper, KernelError> {
        if id == self.host.home.id() {
            return Ok(Keeper::Host);
        }
        let Found { netns, unsure } = self.host.named.all();
        if let Some((name, _)) = netns.into_iter().find(|(_, netns)| netns.id() == id) {
            return Ok(Keeper::Name(name));
        }
        match (with_processes()?.get(&id), unsure) {
            (Some(pid), _) => Ok(Keeper::Process(*pid)),
            (None, Some(error)) => Err(error),
            (None, None) => Ok(Keeper::Nobody),
        }
    }
}
