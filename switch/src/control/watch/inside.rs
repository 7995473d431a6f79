//! Addresses and routes of ports that others take away, or that the kernel takes away and somebody has to give back.

use std::time::{Duration, Instant};

use ipnet::IpNet;
use vswitch_api::view::Lack;
use vswitch_api::{EventKind, Port, PortName};

use crate::control::after_down::Outage;
use crate::control::lacks::{has_ipv6_address, in_words, missing};
use crate::control::repair::Retry;
use crate::control::{Inner, LivePort};
use crate::logging::Repeated;
use vswitch_linux::{InsideChange, KernelError};

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
    pub(super) fn note_inside(&mut self, change: &InsideChange) -> Option<Port> {
        let mut ports = self.live.ports.iter_mut();
        let (name, live) = ports.find(|(_, live)| {
            live.id.is_some() && live.nsid.is_some() && live.nsid == change.nsid && live.inside == Some(change.index)
        })?;
        let port = self.store.port(name).filter(|port| port.kind.has_stack())?;
        if let Some(to) = change.to {
            let is_own = port.routes.iter().any(|route| route.to.trunc() == to);
            if !is_own && !reaches_own(port, &to) {
                return None;
            }
            let lack = Lack::Route { to };
            live.taken.retain(|taken| *taken != lack);
            // The kernel does not tell of the IPv4 routes that go with a link: somebody has taken this one away.
            if is_own && change.lost && to.addr().is_ipv4() {
                live.taken.push(lack);
            }
        }
        let has_ipv6 = port.addresses.iter().any(|address| address.ip().is_ipv6());
        let link_local = change.link_local && has_ipv6;
        if change.lost || (!live.lacks.is_empty() && !link_local) {
            self.live.unlooked.insert(name.clone());
        }
        link_local.then(|| port.clone())
    }

    /// The stack of a port has got or lost an address of the link alone.
    pub(super) async fn link_local_changed(&mut self, lost: bool, port: &Port) {
        if !lost {
            // What was taken away before is not to be taken for what went with IPv6.
            if self.live.ports.get(&port.name).is_some_and(has_settled) && self.live.unlooked.remove(&port.name) {
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
                has_settled(live) && (live.lacks.is_empty() || given_back())
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

fn has_settled(live: &LivePort) -> bool {
    live.down_at.is_none_or(|at| at.elapsed() >= SETTLED)
}

/// Whether by a route to there addresses of a port are reached that are neighbours of its.
fn reaches_own(port: &Port, to: &IpNet) -> bool {
    let mut own = port.addresses.iter();
    own.any(|address| to.prefix_len() <= address.prefix_len() && to.contains(&address.ip()))
}
