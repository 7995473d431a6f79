//! What is known of the way between two ports, all of it at one time.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use vswitch_api::lab::Lab;
use vswitch_api::policy::VlanId;
use vswitch_api::view::{FdbEntry, PortAclView, PortState, PortView, Stack};
use vswitch_api::{ApiError, Namespace, Port, PortKind, PortName, Stands, SwitchName};

use super::frames::vlan_of;
use super::inside::{Address, Inside, Link};
use super::routes::NoWay;

/// Everything that the checks look at.
#[derive(Default)]
pub struct Picture {
    /// All ports.
    pub ports: Vec<PortView>,
    /// What was asked for.
    pub lab: Lab,
    /// Where stations are.
    pub fdb: Vec<FdbEntry>,
    /// Lists of those ports that have some.
    pub acls: BTreeMap<PortName, PortAclView>,
    /// Names of the two ports.
    pub ends: [Option<PortName>; 2],
    /// Namespaces from inside; none: that of the host.
    pub inside: BTreeMap<Option<Stack>, Inside>,
    /// Why those that are there can't be entered.
    pub shut_off: BTreeMap<Option<Stack>, ApiError>,
    /// What the two say to each other, IPv4 first.
    pub talks: Vec<Talk>,
}

/// One IP version of it.
pub struct Talk {
    /// Address of the one.
    pub from: IpAddr,
    /// Address of the other.
    pub to: IpAddr,
    /// Way of a packet from the one to the other, and back.
    pub walks: [Walk; 2],
    /// Whether a ping was answered, from the one and from the other.
    pub answered: [bool; 2],
}

/// The way of a packet through the stacks.
#[derive(Debug, Default)]
pub struct Walk {
    /// From port to port.
    pub hops: Vec<Hop>,
    /// How it ends.
    pub end: Option<End>,
}

/// One link of it.
#[derive(Clone, Debug)]
pub struct Hop {
    /// The port that sends.
    pub from: PortName,
    /// The interface by which it does.
    pub dev: String,
    /// Its address there.
    pub source: IpAddr,
    /// Who takes it.
    pub next_hop: IpAddr,
    /// The port that has that.
    pub to: PortName,
    /// The interface that it has it at; none: it is out of sight.
    pub to_dev: Option<String>,
    /// Why the switch does not let it through.
    pub stopped: Option<Stopped>,
}

/// Where the switch stops a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stopped {
    /// Which frame: `question by ARP`.
    pub what: String,
    /// The port by which it came into the switch that stops it.
    pub ingress: PortName,
    /// The port that it is about.
    pub port: PortName,
    /// A word of the drop counters; none: it goes elsewhere.
    pub reason: Option<String>,
    /// In the daemon's words.
    pub detail: String,
    /// Ports that it goes out of.
    pub goes_to: Vec<PortName>,
}

/// How a way through the stacks ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// Where it was to go.
    Arrives,
    /// A stack has no route.
    NoRoute { port: PortName, why: NoWay },
    /// It leaves by an interface that is no port.
    Elsewhere {
        port: PortName,
        dev: String,
        entry: Option<String>,
    },
    /// No port has the address that is asked for.
    Nobody {
        port: PortName,
        next_hop: IpAddr,
        entry: Option<String>,
    },
    /// It is taken for the stack's own, though it is to go to another.
    Own { port: PortName, entry: Option<String> },
    /// A stack that is to pass it on does not.
    NoForwarding { port: PortName },
    /// It comes to a port out of sight, or back to where it was.
    Lost { port: PortName },
}

impl End {
    /// The port whose stack sends it no further, or not out of a port.
    fn port(&self) -> Option<&PortName> {
        match self {
            Self::Arrives => None,
            Self::NoRoute { port, .. }
            | Self::Elsewhere { port, .. }
            | Self::Nobody { port, .. }
            | Self::Own { port, .. }
            | Self::NoForwarding { port }
            | Self::Lost { port } => Some(port),
        }
    }
}

/// The word for an IP version.
pub fn family(ip: IpAddr) -> &'static str {
    if ip.is_ipv4() { "v4" } else { "v6" }
}

impl Picture {
    /// A port of this name.
    pub fn port(&self, name: &PortName) -> Option<&PortView> {
        self.ports.iter().find(|view| view.port.name == *name)
    }

    /// The two ports.
    pub fn both(&self) -> impl Iterator<Item = &PortView> {
        self.ends.iter().flatten().filter_map(|name| self.port(name))
    }

    /// The two ports as they were asked for.
    pub fn wanted(&self, name: &PortName) -> Option<&Port> {
        self.lab.port(name)
    }

    /// The stack that has the interface of a port, if it can be looked into: not where somebody has moved it to.
    pub fn stack(&self, port: &Port) -> Option<&Inside> {
        if self.port(&port.name).is_some_and(|view| view.moved_to.is_some()) {
            return None;
        }
        match port.kind.stands() {
            Stands::InNamespace => self.inside.get(&Some(self.port(&port.name)?.stack()?)),
            Stands::OnHost if port.kind.has_stack() => self.inside.get(&None),
            Stands::OnHost | Stands::WithDaemon => None,
        }
    }

    /// The interface of a port.
    pub fn link(&self, port: &Port) -> Option<&Link> {
        let ifname = self.ifname(port);
        self.stack(port)?.links.iter().find(|link| link.name == ifname)
    }

    /// The name of the interface of a port.
    pub fn ifname<'a>(&self, port: &'a Port) -> &'a str {
        port.ifname.as_ref().map_or(port.name.as_str(), |name| name.as_str())
    }

    /// The interface by which what takes a link of the way comes into the stack of the port at its end.
    pub fn comes_by<'a>(&self, hop: &'a Hop, to: &'a Port) -> &'a str {
        hop.to_dev.as_deref().unwrap_or_else(|| self.ifname(to))
    }

    /// The interface of a port, and those that speak through it: VLAN devices, MACVLANs and IPVLANs on it, and the bridge that it is a port of.
    pub fn legs(&self, port: &Port) -> Vec<&Link> {
        let Some(own) = self.link(port) else {
            return Vec::new();
        };
        let all = self.stack(port).map_or(&[][..], |stack| &stack.links);
        let is_on = |link: &Link| link.on.as_ref() == Some(&own.name) && (link.tag.is_some() || link.is_twin);
        let speaks = |link: &&Link| is_on(link) || own.bridge.as_ref() == Some(&link.name);
        std::iter::once(own).chain(all.iter().filter(speaks)).collect()
    }

    /// One of these by its name.
    pub fn leg(&self, port: &Port, dev: &str) -> Option<&Link> {
        self.legs(port).into_iter().find(|link| link.name == dev)
    }

    /// That of these which has an address.
    pub fn leg_with(&self, port: &Port, ip: IpAddr) -> Option<&Link> {
        let mut legs = self.legs(port).into_iter();
        legs.find(|link| link.addresses.iter().any(|address| address.ip == ip))
    }

    /// The VLAN that frames of an address of a port are in.
    pub fn vlan_at(&self, port: &Port, ip: IpAddr) -> Option<VlanId> {
        self.leg_with(port, ip)
            .and_then(|link| link.tag)
            .or_else(|| vlan_of(port))
    }

    /// Addresses by which a port is reached: those of its interface, and of what speaks through it, beside the link-local ones.
    pub fn addresses(&self, port: &Port) -> Vec<Address> {
        let all = self.legs(port).into_iter().flat_map(|link| &link.addresses);
        all.filter(|address| address.is_global()).cloned().collect()
    }

    /// The interfaces at both ends of a link of the way.
    pub fn ends_of(&self, hop: &Hop) -> [Option<(&PortView, &Link)>; 2] {
        let end = |port: &PortName, dev: &str| {
            let view = self.port(port)?;
            Some((view, self.leg(&view.port, dev)?))
        };
        let to = hop.to_dev.as_deref().and_then(|dev| end(&hop.to, dev));
        [end(&hop.from, &hop.dev), to]
    }

    /// Ports of the links between switches.
    pub fn links(&self) -> impl Iterator<Item = &PortView> {
        self.ports.iter().filter(|view| view.port.kind == PortKind::Link)
    }

    /// Switches that can be come to from one over links, and over working ones only if so asked; itself first.
    pub fn joined(&self, switch: &SwitchName, working: bool) -> Vec<SwitchName> {
        joined(&self.ports, switch, working)
    }

    /// IP versions in which pings are answered both ways.
    pub fn reached(&self) -> Vec<&'static str> {
        let answered = self.talks.iter().filter(|talk| talk.answered == [true; 2]);
        answered.map(|talk| family(talk.from)).collect()
    }

    /// Whether all pings are answered, so that no way is shut.
    pub fn is_proven(&self) -> bool {
        !self.talks.is_empty() && self.reached().len() == self.talks.len()
    }

    /// What was said in vain.
    pub fn failed(&self) -> impl Iterator<Item = &Talk> {
        self.talks.iter().filter(|talk| talk.answered != [true; 2])
    }

    /// Those of the two whose stack can't be looked into.
    pub fn out_of_sight(&self) -> Vec<PortName> {
        let hidden = self.both().filter(|view| self.stack(&view.port).is_none());
        hidden.map(|view| view.port.name.clone()).collect()
    }

    /// All links of the switch that what was said in vain was to take, with the addresses of the whole way.
    pub fn failed_hops(&self) -> impl Iterator<Item = &Hop> {
        self.failed()
            .flat_map(|talk| talk.walks.iter().flat_map(|walk| &walk.hops))
    }

    /// The two ports, and those of routers that what was said in vain comes by, or is to leave by where it goes no further.
    pub fn passed(&self) -> Vec<&PortView> {
        let mut ports: Vec<_> = self.both().collect();
        for talk in self.failed() {
            for (walk, to) in talk.walks.iter().zip([talk.to, talk.from]) {
                let names = walk.hops.iter().flat_map(|hop| [&hop.from, &hop.to]);
                ports.extend(names.filter_map(|name| self.port(name)));
                let last = walk.end.as_ref().and_then(End::port);
                ports.extend(last.into_iter().flat_map(|port| self.leading_to(port, to)));
            }
        }
        without_doubles(ports)
    }

    /// Ports of the stack of another by which their addresses and routes lead to an address.
    fn leading_to(&self, port: &PortName, to: IpAddr) -> impl Iterator<Item = &PortView> {
        let at = self.port(port).map(|view| &view.port.namespace);
        let leads = move |port: &Port| {
            let mut nets = port.addresses.iter().map(|address| address.net());
            nets.any(|net| net.contains(&to)) || port.routes.iter().any(|route| route.to.contains(&to))
        };
        let with_stack = self.ports.iter().filter(|view| view.port.kind.has_stack());
        with_stack.filter(move |view| Some(&view.port.namespace) == at && leads(&view.port))
    }

    /// The ports that frames between the two pass: their own, those of routers, and those of links between switches.
    pub fn on_the_way(&self) -> Vec<&PortView> {
        let mut ports = self.passed();
        let hops = self
            .talks
            .iter()
            .flat_map(|talk| &talk.walks)
            .flat_map(|walk| &walk.hops);
        let mut links: Vec<_> = hops.map(|hop| [&hop.from, &hop.to]).collect();
        if let ([Some(from), Some(to)], true) = (&self.ends, links.is_empty()) {
            links.push([from, to]);
        }
        for link in links {
            let [Some(from), Some(to)] = link.map(|name| self.port(name)) else {
                continue;
            };
            ports.extend([from, to]);
            if from.port.switch != to.port.switch {
                let near = self.joined(&from.port.switch, false);
                ports.extend(self.links().filter(|view| near.contains(&view.port.switch)));
            }
        }
        without_doubles(ports)
    }
}

/// The same ports in the same order, each once.
fn without_doubles(mut ports: Vec<&PortView>) -> Vec<&PortView> {
    let mut seen = BTreeSet::new();
    ports.retain(|view| seen.insert(&view.port.name));
    ports
}

/// Switches that can be come to from one over links of these ports, and over working ones only if so asked; itself first.
pub fn joined(ports: &[PortView], switch: &SwitchName, working: bool) -> Vec<SwitchName> {
    let mut seen = vec![switch.clone()];
    let mut next = 0;
    while let Some(at) = seen.get(next).cloned() {
        next += 1;
        let links = ports.iter().filter(|view| view.port.kind == PortKind::Link);
        for view in links.filter(|view| view.port.switch == at) {
            let peer = view.port.peer.as_ref();
            let peer = peer.and_then(|peer| ports.iter().find(|view| view.port.name == *peer));
            let Some(peer) = peer else { continue };
            let works = [view, peer].iter().all(|view| view.state == PortState::Up);
            if (works || !working) && !seen.contains(&peer.port.switch) {
                seen.push(peer.port.switch.clone());
            }
        }
    }
    seen
}

/// How a command is run in the stack of a port.
pub fn run_in(port: &Port, command: &str) -> String {
    match &port.namespace {
        Some(Namespace::Name(name)) => format!("vswitchctl ns exec {name} {command}"),
        Some(_) => format!("vswitchctl ns exec {} {command}", port.name),
        None => command.to_owned(),
    }
}
