//! What differs between the kinds of ports. Nothing else of control looks at the kind of a port.
//!
//! A kind is its facts, by which lab, rules and plan go (methods of [`PortKind`], and [`Facts`]); a file here that opens its interface, finds it again, changes and
//! removes it; and a back end in [`crate::port`] that moves its frames. All of them meet in the matches of this file, where the
//! compiler names what a new kind lacks.

mod device;
mod link;
mod splice;
mod tap;
mod veth;

use vswitch_api::view::Lack;
use vswitch_api::{ApiError, DEFAULT_IFNAME, IfName, Port, PortKind, Stands};

use super::attach::{Adopt, Made};
use super::interface::mtu;
use super::place::Place;
use super::state::DeviceBefore;
use super::{Inner, LivePort, text};
use crate::port::BackEnd;
use vswitch_datapath::PortRef;
use vswitch_linux::{KernelError, Netlink};

/// What all ports of a kind have in common that is nobody's affair but control's; the rest are methods of [`PortKind`].
#[derive(Debug)]
pub(super) struct Facts {
    /// Its interface is somebody else's, taken over as it is and given back in the end; else it is made and removed.
    pub taken_over: bool,
    /// Whether an interface with the name of the port stands in the daemon's own namespace.
    pub near_end: NearEnd,
    /// Its interface is a TAP device, which tells by an open queue where it is, and by a mark whose it was.
    pub tap: bool,
}

/// When a port has a near end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NearEnd {
    Never,
    /// A splice, with the kernel fast path alone.
    WithFastPath,
    /// It is the other end of the port's interface, or that itself, and tells of it.
    Always,
}

/// The facts of a kind.
pub(super) fn facts(kind: PortKind) -> &'static Facts {
    match kind {
        PortKind::Veth => &veth::FACTS,
        PortKind::Tap | PortKind::Internal => &tap::FACTS,
        PortKind::Device => &device::FACTS,
        PortKind::Link => &link::FACTS,
        PortKind::Other(_) => &UNKNOWN,
    }
}

/// Of a kind that is not known here; [`check`] refuses each such port before anything is done for it.
const UNKNOWN: Facts = Facts {
    taken_over: false,
    near_end: NearEnd::Never,
    tap: false,
};

/// A port that is open, but not in the datapath yet.
pub(super) struct Opened {
    pub io: BackEnd,
    /// Index of the near end, if it has one.
    pub near: Option<u32>,
    /// Where its interface is.
    pub place: Place,
    /// Id of that namespace in the own one, if the kernel has told it on the way.
    pub nsid: Option<i32>,
    /// Why it has no AF_XDP though it was to have it.
    pub xdp_refused: Option<String>,
    /// What its interface was to have and could not be given.
    pub lacks: Vec<Lack>,
}

/// Name of the port's interface as its user sees it.
pub(super) fn ifname(port: &Port) -> IfName {
    let default = if port.kind.stands() == Stands::InNamespace {
        DEFAULT_IFNAME
    } else {
        port.name.as_str()
    };
    #[expect(
        clippy::unwrap_used,
        reason = "a port name keeps to the same rules as an interface name"
    )]
    port.ifname.clone().unwrap_or_else(|| default.parse().unwrap())
}

/// Whether there is to be a near end of the port.
pub(super) fn has_near_end(port: &Port, fast_path: bool) -> bool {
    match facts(port.kind).near_end {
        NearEnd::Always => true,
        NearEnd::WithFastPath => fast_path,
        NearEnd::Never => false,
    }
}

/// Whether a near end is where the state of the port's interface is heard of.
pub(super) fn heard_by_near_end(port: &Port) -> bool {
    facts(port.kind).near_end == NearEnd::Always
}

/// The MTU that the interface of a port is to have; none: its own.
pub(super) fn wanted_mtu(port: &Port) -> Option<u32> {
    if facts(port.kind).taken_over {
        port.mtu
    } else {
        Some(mtu(port))
    }
}

/// Whether a port whose interface (or near end, if that is where it is heard of) is so can carry frames.
pub(super) fn carries(kind: PortKind, up: bool, carrier: bool) -> bool {
    match kind {
        // The near end has carrier while the far end is up.
        PortKind::Veth | PortKind::Link => carrier,
        PortKind::Device => up && carrier,
        PortKind::Tap | PortKind::Internal => up,
        PortKind::Other(_) => false,
    }
}

/// Refuses what the kind of a port can't have.
pub(super) fn check(port: &Port) -> Result<(), ApiError> {
    let (kind, object) = (port.kind, text::port(&port.name));
    if let PortKind::Other(_) = kind {
        return Err(unknown(port));
    }
    if !kind.has_stack() {
        let given = [
            ("a MAC address", port.mac.is_some()),
            ("addresses", !port.addresses.is_empty()),
            ("routes", !port.routes.is_empty()),
        ];
        if let Some((what, _)) = given.iter().find(|(_, given)| *given) {
            return Err(text::invalid(
                object,
                format!(
                    "a {} port can't be given {what}: it is a cable, not a host",
                    kind.word()
                ),
            )
            .hint("give the host a leg of its own: vswitchctl add-port gw --type internal --addr ..."));
        }
    }
    if port.xdp && !facts(kind).taken_over {
        return Err(text::invalid(object, "only a device port can have AF_XDP")
            .hint("choose --type device, or leave --xdp out: other ports have faster ways"));
    }
    let whose = match kind.stands() {
        Stands::InNamespace => None,
        Stands::OnHost => Some("a device or internal port is the host's and has no namespace"),
        Stands::WithDaemon => Some("a link is between two switches and has no namespace"),
    };
    if let Some(cause) = whose.filter(|_| port.namespace.is_some()) {
        return Err(text::invalid(object, cause).hint("leave --netns out, or choose --type veth or tap"));
    }
    if port.peer.is_some() && port.kind != PortKind::Link {
        let cause = format!("a {} port is no end of a link and has no peer", kind.word());
        return Err(text::invalid(object, cause)
            .hint("leave peer out, or keep kind=link; `vswitchctl link add` makes both ends of a link"));
    }
    Ok(())
}

fn unknown(port: &Port) -> ApiError {
    let cause = format!("this daemon has no ports of kind {}", port.kind.word());
    text::invalid(text::port(&port.name), cause)
}

impl Inner {
    /// Notes what a later daemon has to know of the interface of a port before it is touched.
    pub(super) async fn note_before(&mut self, port: &Port) -> Result<(), ApiError> {
        match port.kind {
            PortKind::Device => self.note_device_before(port).await,
            PortKind::Veth | PortKind::Tap | PortKind::Internal | PortKind::Link | PortKind::Other(_) => Ok(()),
        }
    }

    /// Makes, adopts or takes over the interface of a port and sets it up. What has to be undone should a later step fail goes into
    /// `made`. `own`: a connection into the own namespace.
    pub(super) async fn open_interface(
        &self,
        port: &Port,
        own: &Netlink,
        adopt: Adopt,
        made: &mut Vec<Made>,
    ) -> Result<Opened, ApiError> {
        let netns = self.netns_of(port)?;
        match port.kind {
            PortKind::Veth => self.open_veth(port, &netns, own, adopt, made).await,
            PortKind::Tap | PortKind::Internal => self.open_tap(port, &netns, own, adopt, made).await,
            PortKind::Device => self.open_device(port, &netns, made).await,
            PortKind::Link => self.open_link(port, own, made).await,
            PortKind::Other(_) => Err(unknown(port)),
        }
    }

    /// Where the interface of a port is that is attached; none if it is gone.
    pub(super) async fn place_of(&self, port: &Port, live: &LivePort) -> Result<Option<Place>, KernelError> {
        match port.kind {
            PortKind::Veth => self.place_of_veth(port, live).await,
            PortKind::Tap | PortKind::Internal => self.place_of_tap(live).await,
            PortKind::Device => self.place_of_device(live).await,
            PortKind::Link => self.place_of_link(live).await,
            PortKind::Other(_) => Ok(None),
        }
    }

    /// Shows whoever is behind the port a carrier or none.
    pub(super) async fn set_carrier(
        &self,
        port: &Port,
        id: PortRef,
        live: &LivePort,
        warnings: &mut Vec<String>,
    ) -> Result<(), ApiError> {
        match port.kind {
            PortKind::Veth | PortKind::Link => self.set_carrier_of_near_end(port, live).await,
            PortKind::Tap | PortKind::Internal => self.set_carrier_of_tap(port, id),
            PortKind::Device => self.set_carrier_of_device(port, live, warnings).await,
            PortKind::Other(_) => Ok(()),
        }
    }

    /// What can be found only while a port is attached, to remove its interface afterwards.
    pub(super) async fn find_removable(&self, port: &Port) -> Result<Option<Place>, KernelError> {
        match port.kind {
            PortKind::Tap | PortKind::Internal => self.find_tap(port).await,
            PortKind::Veth | PortKind::Device | PortKind::Link | PortKind::Other(_) => Ok(None),
        }
    }

    /// Removes the interface of a port, or gives it back. `found`: see [`Inner::find_removable`].
    pub(super) async fn remove_interface(
        &self,
        port: &Port,
        found: Result<Option<Place>, KernelError>,
    ) -> Result<(), KernelError> {
        match port.kind {
            PortKind::Veth | PortKind::Link => self.delete_near_end(port).await,
            PortKind::Tap | PortKind::Internal => tap::delete(found?).await,
            PortKind::Device => self.give_back_device(port, self.store.device_of(port), true).await,
            PortKind::Other(_) => Ok(()),
        }
    }

    /// Removes what a command that was changing the place of a port left in the other place.
    pub(super) async fn remove_left(&self, noted: &Port, before: Option<DeviceBefore>) -> Result<(), KernelError> {
        match noted.kind {
            // Its near end has the name of the port, and is made anew if it does not fit.
            PortKind::Veth | PortKind::Link => self.delete_left_near_end(noted).await,
            PortKind::Tap | PortKind::Internal => self.delete_left_tap(noted).await,
            PortKind::Device => {
                self.delete_left_near_end(noted).await?;
                self.give_back_device(noted, before, false).await
            }
            PortKind::Other(_) => Ok(()),
        }
    }
}
