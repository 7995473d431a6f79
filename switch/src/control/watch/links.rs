//! Interfaces that come, go, or are not what they were.

use vswitch_api::view::{MissingAs, PortState};
use vswitch_api::{Port, Stands};

use crate::control::after_down::Outage;
use crate::control::attach::state_of;
use crate::control::kinds::{carries, facts, heard_by_near_end, ifname};
use crate::control::place::Place;
use crate::control::{Inner, LivePort};
use crate::port::BackEnd;
use vswitch_linux::{KernelError, LinkChange};

/// Smallest MTU that IPv6 is to be had with.
const IPV6_MIN_MTU: u32 = 1280;

impl Inner {
    /// `number`: that of what was told.
    pub(super) async fn link_changed(&mut self, number: u64, change: &LinkChange) {
        let near = |live: &LivePort| change.nsid.is_none() && live.near == Some(change.index);
        let inside =
            |live: &LivePort| live.nsid.is_some() && live.nsid == change.nsid && live.inside == Some(change.index);
        let found = self.live.ports.iter().find(|(_, live)| near(live) || inside(live));
        let Some((name, live)) = found else {
            // An interface that a port waits for?
            if !change.gone && change.nsid.is_some() && change.nsid == self.host.home_nsid {
                let back = |port: &Port| facts(port.kind).taken_over && ifname(port).as_str() == change.name;
                self.reattach_missing(back).await;
            }
            // An end of a cable?
            self.live.cables_unsure |= change.gone && !self.store.state.lab.cables.is_empty();
            return;
        };
        if live.state == PortState::Missing {
            return;
        }
        let Some(port) = self.store.port(name).cloned() else {
            return;
        };
        let (inside, by_near) = (inside(live), heard_by_near_end(&port));
        // That an interface was down before it was given its settings is no reason to give them again: somebody may have taken one away since.
        let is_of_before = number < live.heard_from;
        if change.gone {
            if inside || by_near {
                self.follow(&port).await;
            } else {
                // The near end beside a device, without which nothing passes.
                tracing::warn!(port = %port.name, "port {}: its near end is gone; it is attached again", port.name);
                self.attach_again(&port).await;
            }
            return;
        }
        if inside && (change.name != live.ifname || (change.mtu != live.mtu && change.mtu > 0)) {
            self.follow(&port).await;
            return;
        }
        if inside && facts(port.kind).taken_over {
            self.keep_promiscuous(&port).await;
        }
        if inside && port.kind.stands() != Stands::WithDaemon {
            self.look_at_mac(&port).await;
        }
        // A veth port is watched by its near end, the others where they are. That it was down is told by the interface itself: the near
        // end of one that is up again at once may tell of neither.
        if inside == by_near {
            if inside && !change.up {
                self.look_whether_it_carries(&port, !is_of_before).await;
            }
            return;
        }
        let Some(live) = self.live.ports.get(&port.name) else {
            return;
        };
        self.look_for_xdp(&port, live).await;
        let told = carries(port.kind, change.up, change.carrier);
        if state_of(&port, &live.ifname, told).0 == live.state {
            return;
        }
        // What was told is as old as the command that ran meanwhile: the kernel knows better by now. Of an interface that is
        // not there, or can't be looked at, it says nothing.
        self.look_whether_it_carries(&port, !told && !is_of_before).await;
    }

    /// The interface of a port was given all of its settings just now: that it was down before has cost it nothing, and what somebody takes away
    /// from here on is his doing.
    pub(in crate::control) async fn has_settings_again(&mut self, port: &Port) {
        let heard_from = self.host.heard_by_now();
        if let Some(live) = self.live.ports.get_mut(&port.name) {
            live.heard_from = heard_from;
        }
        if let Some(live) = self.live.ports.get(&port.name)
            && let Ok(Some(carries)) = self.carries_now(port, live).await
        {
            let (state, reason) = state_of(port, &live.ifname, carries);
            self.set_state(&port.name, state, reason);
        }
    }

    /// A device takes all frames as long as it is a port, whoever says otherwise: else what is for stations behind it would stay away.
    async fn keep_promiscuous(&mut self, port: &Port) {
        let Some(live) = self.live.ports.get(&port.name) else {
            return;
        };
        let io = live.id.and_then(|id| self.datapath.io::<BackEnd>(id));
        if io.is_none_or(|io| io.shadow().is_none()) {
            return;
        }
        let kept = async {
            match self.place_of(port, live).await? {
                Some(place) if !place.link.promiscuous => {
                    let nl = place.netns.netlink().await?;
                    nl.set_promiscuous(place.link.index, true).await?;
                    Ok(true)
                }
                _ => Ok::<_, KernelError>(false),
            }
        };
        match kept.await {
            Ok(true) => {
                tracing::warn!(port = %port.name, "port {}: its device was made to take its own frames only, and takes all again", port.name)
            }
            Ok(false) => {}
            Err(error) => tracing::debug!(port = %port.name, "can't look whether a device takes all frames: {error}"),
        }
    }

    /// `was_down`: it is told that it is down, or was.
    async fn look_whether_it_carries(&mut self, port: &Port, was_down: bool) {
        let Some(live) = self.live.ports.get(&port.name) else {
            return;
        };
        let was_down = was_down || live.state == PortState::NoCarrier;
        match self.carries_now(port, live).await {
            Ok(Some(now)) => {
                let (state, reason) = state_of(port, &live.ifname, now);
                self.set_state(&port.name, state, reason);
                if was_down && now {
                    self.after_outage(Outage::Down, port).await;
                } else if state == PortState::NoCarrier && port.kind.has_stack() {
                    // The kernel does not tell of the routes that go with a link.
                    self.look_inside(port).await;
                }
            }
            Ok(None) => {}
            Err(error) => {
                tracing::debug!(port = %port.name, "can't look whether an interface carries: {error}");
                self.live.unsure.insert(port.name.clone());
            }
        }
    }

    /// Looks again at those of which something was told that could not be looked into then, as for want of descriptors: it is
    /// not told again.
    pub(in crate::control) async fn look_at_the_unsure(&mut self) {
        for name in std::mem::take(&mut self.live.unsure) {
            let Some(port) = self.store.port(&name).cloned() else {
                continue;
            };
            let missing = |live: &LivePort| live.state == PortState::Missing;
            if self.live.ports.get(&name).is_none_or(missing) {
                continue;
            }
            self.follow(&port).await;
            if !self.live.ports.get(&name).is_none_or(missing) {
                self.look_whether_it_carries(&port, false).await;
                self.give_back_lost(Outage::Down, &port).await;
            }
        }
    }

    /// What is told of an interface does not say that its MAC is another one.
    async fn look_at_mac(&mut self, port: &Port) {
        let Some(live) = self.live.ports.get(&port.name) else {
            return;
        };
        let found = async {
            let Some((netns, index)) = self.where_inside(port, live).await? else {
                return Ok(None);
            };
            netns.netlink().await?.link_by_index(index).await
        };
        match found.await {
            // Whether it is this one that has another is seen where it is followed to.
            Ok(Some(link)) if link.mac.is_some() && link.mac != live.mac => self.follow(port).await,
            Ok(_) => {}
            Err(error) => tracing::debug!(port = %port.name, "can't look which MAC an interface has: {error}"),
        }
    }

    /// Something happened to the interface of a port: it is looked for, and what has changed is taken note of.
    ///
    /// Nothing is believed of what was told. The kernel tells late, and gives the numbers by which it tells, a namespace's id and an
    /// interface's index, to what is made next.
    pub(super) async fn follow(&mut self, port: &Port) {
        let Some(live) = self.live.ports.get(&port.name).filter(|live| live.id.is_some()) else {
            return;
        };
        let found = async {
            let Some(place) = self.place_of(port, live).await? else {
                return Ok(None);
            };
            let nsid = self.host.own.netlink().await?.nsid_of(&place.netns).await?;
            Ok::<_, KernelError>(Some((place, nsid)))
        };
        match found.await {
            // It can't be told: that does not make it gone.
            Err(error) => {
                tracing::debug!(port = %port.name, "can't look where an interface is: {error}");
                self.live.unsure.insert(port.name.clone());
            }
            Ok(None) => self.interface_gone(port, "its interface is gone").await,
            Ok(Some((place, nsid))) => self.found_at(port, place, nsid).await,
        }
    }

    pub(super) async fn interface_gone(&mut self, port: &Port, reason: &str) {
        self.lose(|other| other.name == port.name, reason, MissingAs::NoInterface)
            .await;
        if facts(port.kind).taken_over {
            // It may be back under another index before we hear that the old one is gone.
            self.reattach_missing(|other| other.name == port.name).await;
        } else {
            self.deleted(&port.name).await;
        }
    }

    /// The interface of a port is there. What it is called, its MTU and its MAC may be as others have set them.
    pub(super) async fn found_at(&mut self, port: &Port, Place { netns, link }: Place, nsid: i32) {
        let Some(live) = self.live.ports.get(&port.name) else {
            return;
        };
        let moved_now = live.nsid != Some(nsid) || live.inside != Some(link.index);
        let (mut told, mut has_ipv6_again) = (Vec::new(), false);
        if moved_now {
            let (moved, unnamed) = self.moved(port, &netns);
            told.push(match &moved {
                Some(moved) => format!("interface {} was moved to {}", link.name.escape_debug(), moved.to),
                None => format!("interface {} was moved back", link.name.escape_debug()),
            });
            if let Some(live) = self.live.ports.get_mut(&port.name) {
                (live.nsid, live.inside) = (Some(nsid), Some(link.index));
                (live.moved, live.unnamed) = (moved, unnamed);
                live.ifname.clone_from(&link.name);
                live.mtu = link.mtu;
            }
            // The kernel takes down what is moved, with its addresses and routes.
            if !facts(port.kind).taken_over {
                match self.give_back_settings(port).await {
                    Ok(_) => self.has_settings_again(port).await,
                    Err(error) => {
                        tracing::warn!(port = %port.name, "an interface that was moved lacks settings: {error}")
                    }
                }
            }
        }
        let Some(live) = self.live.ports.get_mut(&port.name) else {
            return;
        };
        if live.ifname != link.name {
            told.push(format!(
                "interface {} was renamed to {}",
                live.ifname.escape_debug(),
                link.name.escape_debug()
            ));
            live.ifname.clone_from(&link.name);
        }
        if !moved_now && live.mtu != link.mtu {
            told.push(format!(
                "interface {} has an MTU of {} now",
                link.name.escape_debug(),
                link.mtu
            ));
            // With less the kernel gives IPv6 up, addresses and routes and all (RFC 8200 section 5).
            has_ipv6_again = live.mtu < IPV6_MIN_MTU && link.mtu >= IPV6_MIN_MTU;
            live.lost_ipv6 |= has_ipv6_again;
            live.mtu = link.mtu;
            let near = live.near;
            if let Some(near) = near
                && let Err(error) = async { self.host.own.netlink().await?.set_mtu(near, link.mtu).await }.await
            {
                tracing::warn!(port = %port.name, "port {}: its near end has another MTU: {error}", port.name);
            }
            self.update_in_datapath(port);
        }
        let Some(live) = self.live.ports.get_mut(&port.name) else {
            return;
        };
        if let Some(mac) = link.mac
            && !moved_now
            && port.kind.stands() != Stands::WithDaemon
            && live.mac != Some(mac)
        {
            let ifname = link.name.escape_debug();
            told.push(format!("interface {ifname} has the MAC {mac} now"));
            live.mac = Some(mac);
        }
        for what in told {
            self.tell_changed(port, what);
        }
        if let Some(live) = self.live.ports.get(&port.name)
            && let Ok(Some(carries)) = self.carries_now(port, live).await
        {
            let was_down = live.state == PortState::NoCarrier;
            let (state, reason) = state_of(port, &live.ifname, carries);
            self.set_state(&port.name, state, reason);
            if was_down && carries {
                self.after_outage(Outage::Down, port).await;
            } else if state == PortState::NoCarrier && port.kind.has_stack() {
                self.look_inside(port).await;
            } else if has_ipv6_again {
                self.after_outage(Outage::Ipv6, port).await;
            }
        }
    }
}
