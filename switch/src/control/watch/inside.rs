//! Addresses and routes of ports that others take away, or that the kernel takes away and somebody has to give back.

use vswitch_api::view::Lack;
use vswitch_api::{EventKind, Port};

use crate::control::Inner;
use crate::control::after_down::Outage;
use crate::control::lacks::{has_ipv6_address, in_words, missing};
use vswitch_linux::{InsideChange, KernelError};

impl Inner {
    pub(super) async fn inside_changed(&mut self, change: InsideChange) {
        let found = self.live.ports.iter().find(|(_, live)| {
            live.id.is_some() && live.nsid.is_some() && live.nsid == change.nsid && live.inside == Some(change.index)
        });
        let Some((name, live)) = found else { return };
        let Some(port) = self.store.port(name).filter(|port| port.kind.has_stack()).cloned() else {
            return;
        };
        let has_ipv6 = port.addresses.iter().any(|address| address.ip().is_ipv6());
        if !change.lost && change.link_local && has_ipv6 {
            // IPv6 was off there, perhaps, and is on again.
            self.after_outage(Outage::Ipv6, &port).await;
            return;
        }
        if change.lost && change.link_local && has_ipv6 && !live.lost_ipv6 {
            self.look_for_ipv6(&port).await;
        }
        if change.lost
            || self
                .live
                .ports
                .get(&port.name)
                .is_some_and(|live| !live.lacks.is_empty())
        {
            self.look_inside(&port).await;
        }
    }

    /// The stack has no address of the link alone any more: looks whether that is so because all of IPv6 has gone there.
    async fn look_for_ipv6(&mut self, port: &Port) {
        let Some(live) = self.live.ports.get(&port.name) else {
            return;
        };
        let gone = async {
            match self.place_of(port, live).await? {
                Some(place) => Ok(!has_ipv6_address(port, &place).await?),
                None => Ok::<_, KernelError>(false),
            }
        };
        match gone.await {
            Ok(gone) => {
                if let Some(live) = self.live.ports.get_mut(&port.name) {
                    live.lost_ipv6 = gone;
                }
            }
            Err(error) => tracing::debug!(port = %port.name, "can't look whether an interface has IPv6: {error}"),
        }
    }

    /// Looks what the interface of a port lacks of what it was given, and tells of it. What somebody has taken away is left to him; but the leg
    /// of the host by which all stations get out is the switch's own, and is put back.
    pub(in crate::control) async fn look_inside(&mut self, port: &Port) {
        let (lacks, up) = match self.lacks_now(port).await {
            Ok(Some(found)) => found,
            // That it is gone is told of elsewhere.
            Ok(None) => return,
            Err(error) => {
                tracing::debug!(port = %port.name, "can't look what an interface has: {error}");
                return;
            }
        };
        if !up {
            // It gets it back with its link.
            if let Some(live) = self.live.ports.get_mut(&port.name) {
                live.lacks_down = lacks;
            }
            return;
        }
        let known = self.live.ports.get(&port.name).map(|live| &live.lacks);
        if known.is_none_or(|known| *known == lacks) {
            return;
        }
        if !lacks.is_empty() && self.is_gateway(port) {
            match self.give_back_settings(port).await {
                Ok(_) => {
                    self.tell_changed(
                        port,
                        format!("it got back {}, which somebody had taken away", in_words(&lacks)),
                    );
                    return;
                }
                Err(error) => tracing::warn!("{error}"),
            }
        }
        let what = match &lacks[..] {
            [] => "its interface lacks nothing any more".to_owned(),
            lacks => format!("its interface lacks {}", in_words(lacks)),
        };
        if let Some(live) = self.live.ports.get_mut(&port.name) {
            live.lacks = lacks;
        }
        self.tell_changed(port, what);
    }

    /// What the interface of a port lacks, and whether it is up; none: it is not there.
    async fn lacks_now(&self, port: &Port) -> Result<Option<(Vec<Lack>, bool)>, KernelError> {
        let Some(live) = self.live.ports.get(&port.name) else {
            return Ok(None);
        };
        let Some(place) = self.place_of(port, live).await? else {
            return Ok(None);
        };
        let missing = missing(&port.addresses, &port.routes, &place).await?;
        Ok(Some((missing.lacks(), place.link.up)))
    }

    fn is_gateway(&self, port: &Port) -> bool {
        let lab = &self.store.state.lab;
        let switch = lab.switches.iter().find(|switch| switch.name == port.switch);
        let gateway = switch.and_then(|switch| lab.gateway_of(switch));
        gateway.is_some_and(|gateway| gateway.name == port.name)
    }

    /// Tells of something about a port that others have changed, or that was given back.
    pub(in crate::control) fn tell_changed(&self, port: &Port, what: String) {
        tracing::info!(port = %port.name, "port {}: {what}", port.name);
        self.emit(EventKind::PortChanged {
            port: port.name.clone(),
            what,
        });
    }
}
