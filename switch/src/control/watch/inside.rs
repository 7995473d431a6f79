//! Addresses and routes of ports that others take away, or that the kernel takes away and somebody has to give back.

use std::time::{Duration, Instant};

use ipnet::IpNet;
use vswitch_api::view::Lack;
use vswitch_api::{EventKind, Port, PortName};

use crate::control::after_down::{Outage, is_ipv6};
use crate::control::lacks::{has_ipv6_address, in_words, missing};
use crate::control::repair::Retry;
use crate::control::{Inner, LivePort};
use crate::logging::Repeated;
use vswitch_linux::{Inside, InsideChange, KernelError};

/// What is taken away again from the leg of the host is given back after this, then after twice that, and so on.
const GIVEN_AGAIN: Duration = Duration::from_secs(2);
/// For so long after an interface was down nobody can be said to have taken away what it lacks: what else is told of it may be on its way. Its
/// stack has an address of the link alone no sooner than a second after that (RFC 4862 section 5.4).
const SETTLED: Duration = Duration::from_millis(500);

/// How the leg of the host got back what somebody had taken away.
#[derive(Debug, Default)]
pub(in crate::control) struct GivenBack {
    /// When it may be again.
    retry: Option<Retry>,
    /// How often it was of late.
    times: u32,
    failure: Repeated,
}

impl GivenBack {
    fn is_due(&self) -> bool {
        self.retry.as_ref().is_none_or(Retry::is_due)
    }

    /// It is given back now.
    fn again(&mut self) {
        if self.retry.as_ref().is_some_and(Retry::was_good) {
            self.times = 0;
        }
        self.times = self.times.saturating_add(1);
        self.retry = Some(Retry::next(self.retry.take(), GIVEN_AGAIN));
    }
}

impl Inner {
    /// Takes note of what was told of something inside: it is looked into with the next tick, however often it is told. Gives the port whose stack
    /// got or lost IPv6, perhaps, which is looked into at once.
    pub(super) fn note_inside(&mut self, number: u64, change: &InsideChange) -> Option<Port> {
        let mut ports = self.live.ports.iter_mut();
        let (name, live) = ports.find(|(_, live)| {
            live.id.is_some() && live.nsid.is_some() && live.nsid == change.nsid && live.inside == Some(change.index)
        })?;
        let port = self.store.port(name).filter(|port| port.kind.has_stack())?;
        let own = change.what.and_then(|what| own(port, &what));
        if let (None, Some(Inside::Route(to))) = (&own, &change.what)
            && !reaches_own(port, to)
        {
            return None;
        }
        // Somebody may lead a route of its another way.
        let replaced = matches!(own, Some(Lack::Route { .. })) && number >= live.heard_from;
        if let Some(own) = own.filter(|_| number >= live.heard_from) {
            live.taken.retain(|taken| *taken != own);
            // The kernel does not tell of the IPv4 routes that go with a link, and of what is of IPv6 only after the link: somebody has taken it away.
            if change.lost && !(change.down && is_ipv6(&own)) {
                live.taken.push(own);
            }
        }
        if change.link_local && change.lost && !change.down {
            // It is the last that goes when IPv6 is turned off, and with that went what was just told.
            let LivePort { taken, lacks, .. } = live;
            taken.retain(|taken| !is_ipv6(taken) || lacks.contains(taken));
        }
        let has_ipv6 = port.addresses.iter().any(|address| address.ip().is_ipv6());
        let link_local = change.link_local && has_ipv6;
        if change.lost || replaced || (!live.lacks.is_empty() && !link_local) {
            self.live.unlooked.insert(name.clone());
        }
        // One that went with the link says nothing of IPv6.
        let of_ipv6 = link_local && !(change.lost && change.down);
        of_ipv6.then(|| port.clone())
    }

    /// The stack of a port has got or lost an address of the link alone.
    pub(super) async fn link_local_changed(&mut self, lost: bool, port: &Port) {
        if !lost {
            // What was taken away before is not to be taken for what went with IPv6.
            let live = self.live.ports.get(&port.name);
            if live.is_some_and(|live| self.has_settled(live)) && self.live.unlooked.remove(&port.name) {
                self.look_at_the_unlooked(std::slice::from_ref(&port.name)).await;
            }
            // IPv6 was off there, perhaps, and is on again.
            self.after_outage(Outage::Ipv6, port).await;
        } else if self.live.ports.get(&port.name).is_some_and(|live| !live.lost_ipv6) {
            self.look_for_ipv6(port).await;
        }
    }

    /// At most so many of those of whose interface something was told that is to be looked into now.
    pub(super) fn take_unlooked(&mut self, most: usize) -> Vec<PortName> {
        let is_due = |name: &&PortName| {
            self.live.ports.get(*name).is_none_or(|live| {
                let given_back = || self.live.given_back.get(*name).is_none_or(GivenBack::is_due);
                // What it lacks is shown while it waits.
                self.has_settled(live) && (live.lacks.is_empty() || given_back())
            })
        };
        let due: Vec<_> = self.live.unlooked.iter().filter(is_due).take(most).cloned().collect();
        for name in &due {
            self.live.unlooked.remove(name);
        }
        due
    }

    /// Looks what their interfaces lack. It was told while they were up: whoever took it away did so on purpose.
    pub(super) async fn look_at_the_unlooked(&mut self, names: &[PortName]) {
        for name in names {
            let (Some(port), Some(live)) = (self.store.port(name).cloned(), self.live.ports.get(name)) else {
                continue;
            };
            let known = live.lacks.clone();
            if self.look_inside(&port).await
                && self.live.ports.get(name).is_some_and(|live| !self.is_down_ahead(live))
                && let Some(LivePort { lacks, taken, .. }) = self.live.ports.get_mut(name)
            {
                let new = lacks
                    .iter()
                    .filter(|lack| !known.contains(lack) && !taken.contains(lack));
                let new: Vec<_> = new.cloned().collect();
                taken.extend(new);
            }
        }
    }

    /// Whether what an interface lacks was taken away by somebody, and did not go with its link.
    fn has_settled(&self, live: &LivePort) -> bool {
        live.down_at.is_none_or(|at| at.elapsed() >= SETTLED) && !self.is_down_ahead(live)
    }

    /// Whether it was told that an interface was down, which is to be looked into yet.
    fn is_down_ahead(&self, live: &LivePort) -> bool {
        let (Some(hearing), Some(index)) = (&self.host.hearing, live.inside) else {
            return false;
        };
        live.nsid.is_some() && hearing.is_down_ahead(live.nsid, index)
    }

    /// The stack has no address of the link alone any more: looks whether that is so because all of IPv6 has gone there.
    async fn look_for_ipv6(&mut self, port: &Port) {
        let Some(live) = self.live.ports.get(&port.name) else {
            return;
        };
        let gone = async {
            match self.place_of(port, live).await? {
                // With a link that is down the address goes too.
                Some(place) => Ok(place.link.up && !has_ipv6_address(port, &place).await?),
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
    /// of the host by which all stations get out is the switch's own, and is put back. Whether the interface is there and up.
    pub(in crate::control) async fn look_inside(&mut self, port: &Port) -> bool {
        let (lacks, up) = match self.lacks_now(port).await {
            Ok(Some(found)) => found,
            // That it is gone is told of elsewhere.
            Ok(None) => return false,
            Err(error) => {
                tracing::debug!(port = %port.name, "can't look what an interface has: {error}");
                return false;
            }
        };
        let is_gateway = self.is_gateway(port);
        let Some(live) = self.live.ports.get_mut(&port.name) else {
            return false;
        };
        if !up {
            // It gets it back with its link.
            (live.lacks_down, live.down_at) = (lacks, Some(Instant::now()));
            return false;
        }
        live.taken.retain(|taken| lacks.contains(taken));
        if is_gateway && !lacks.is_empty() {
            self.give_back(port, lacks).await;
            return true;
        }
        if live.lacks == lacks {
            return true;
        }
        let what = match &lacks[..] {
            [] => "its interface lacks nothing any more".to_owned(),
            lacks => format!("its interface lacks {}", in_words(lacks)),
        };
        live.lacks = lacks;
        self.tell_changed(port, what);
        true
    }

    /// The leg of the host gets back what somebody has taken away; ever later, as long as somebody takes it away again.
    async fn give_back(&mut self, port: &Port, lacks: Vec<Lack>) {
        let name = &port.name;
        let given_back = self.live.given_back.entry(name.clone()).or_default();
        let is_due = given_back.is_due();
        if is_due {
            given_back.again();
        }
        let times = given_back.times;
        let given = match is_due {
            true => self.give_back_settings(port).await.map(|_| true),
            false => Ok(false),
        };
        let is_given = matches!(given, Ok(true));
        let what = match times {
            1 => Some(format!(
                "it got back {}, which somebody had taken away",
                in_words(&lacks)
            )),
            2 => Some(format!(
                "somebody has taken away {} again, which it gets back ever later from now on; see what else configures its interface",
                in_words(&lacks)
            )),
            _ => None,
        };
        if let Err(error) = given
            && let Some(given_back) = self.live.given_back.get_mut(name)
        {
            given_back.failure.error(format!(
                "port {name}: its interface lacks {}: {error}",
                in_words(&lacks)
            ));
        }
        if let Some(live) = self.live.ports.get_mut(name) {
            live.lacks = if is_given { Vec::new() } else { lacks };
        }
        if !is_given {
            self.live.unlooked.insert(name.clone());
        } else if let Some(what) = what {
            self.tell_changed(port, what);
        }
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

    pub(in crate::control) fn is_gateway(&self, port: &Port) -> bool {
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

/// What of a port this is, if it is its own.
fn own(port: &Port, what: &Inside) -> Option<Lack> {
    match what {
        Inside::Address(net) => {
            let mut addresses = port.addresses.iter();
            let own = addresses.find(|own| own.ip() == net.addr() && own.prefix_len() == net.prefix_len());
            own.map(|address| Lack::Address { address: *address })
        }
        Inside::Route(to) => {
            let own = port.routes.iter().find(|route| route.to.trunc() == *to);
            own.map(|route| Lack::Route { to: route.to })
        }
    }
}

/// Whether by a route to there addresses of a port are reached that are neighbours of its.
fn reaches_own(port: &Port, to: &IpNet) -> bool {
    let mut own = port.addresses.iter();
    own.any(|address| to.prefix_len() <= address.prefix_len() && to.contains(&address.ip()))
}
