//! In which order the steps of a plan are carried out: what has an inverse, then what has none.

use std::collections::HashSet;
use std::net::IpAddr;

use ipnet::IpNet;
use vswitch_api::{CableEnd, CommandName, IfName, Mac, Namespace, NsName, Port, PortName, Route, SwitchName};

use super::super::kinds::ifname;
use super::super::plan::Step;
use super::super::processes::Process;

/// Ports that are made together; after each lot the daemon looks whether it is to stop.
const PORTS_AT_ONCE: usize = 128;

/// The steps of a plan by the time at which they come.
pub(super) struct Order {
    /// Namespaces to be made: the state must tell of them, and what they are is known only when they are there.
    pub first: Vec<NsName>,
    /// The rest of what has an inverse, in the order of the plan. Before it routes are taken away that lead elsewhere then.
    pub then: Vec<Step>,
    /// What has none, and nothing waits for.
    pub last: Vec<Step>,
    /// The namespaces that go, when all that was in them has gone.
    pub namespaces: Vec<NsName>,
}

impl Order {
    pub fn of(steps: Vec<Step>) -> Self {
        let (mut first, mut rest) = (Vec::new(), Vec::new());
        for step in steps {
            match step {
                Step::AddNamespace(name) => first.push(name),
                step => rest.push(step),
            }
        }
        let wanted = Wanted::of(&rest);
        let mut order = Self {
            first,
            then: Vec::new(),
            last: Vec::new(),
            namespaces: Vec::new(),
        };
        let (parting, rest): (Vec<_>, Vec<_>) = rest.iter().map(|step| wanted.part(step)).unzip();
        order.then.extend(parting.into_iter().flatten());
        for step in &rest {
            let waits_for_none = match step {
                Step::RemoveNamespace(name) => {
                    order.namespaces.push(name.clone());
                    continue;
                }
                Step::RemovePorts(ports) => {
                    let (then, last): (Vec<_>, Vec<_>) =
                        ports.iter().cloned().partition(|port| wanted.needs_gone(port));
                    order.then.extend(removal(then));
                    order.last.extend(removal(last));
                    continue;
                }
                Step::StopCommands(commands) => {
                    let (then, last): (Vec<_>, Vec<_>) = commands
                        .iter()
                        .cloned()
                        .partition(|command| wanted.commands.contains(&command.name));
                    let stop = |commands: Vec<_>| (!commands.is_empty()).then_some(Step::StopCommands(commands));
                    order.then.extend(stop(then));
                    order.last.extend(stop(last));
                    continue;
                }
                Step::RemoveCable(cable) => ![&cable.a, &cable.b].into_iter().any(|end| wanted.has_end(end)),
                Step::RemoveSwitch(_) => true,
                _ => false,
            };
            if waits_for_none {
                order.last.push(step.clone());
                continue;
            }
            match (order.then.last_mut(), step) {
                (Some(Step::AddPorts(ports)), Step::AddPort(port)) if ports.len() < PORTS_AT_ONCE => {
                    ports.push(port.clone());
                }
                (_, Step::AddPort(port)) => order.then.push(Step::AddPorts(vec![port.clone()])),
                (_, step) => order.then.push(step.clone()),
            }
        }
        order
    }

    /// Whether each of the steps has its inverse.
    pub fn can_be_taken_back(&self) -> bool {
        self.last.is_empty() && self.namespaces.is_empty()
    }

    /// Commands that are started and are to be ready.
    pub fn awaited(&self) -> Vec<Process> {
        let started = self.then.iter().flat_map(|step| match step {
            Step::StartCommands(commands) => &commands[..],
            _ => &[],
        });
        started.filter(|one| one.ready.is_some()).map(Process::from).collect()
    }

    /// How much of the work it is.
    pub fn size(&self) -> usize {
        let steps = self.then.iter().chain(&self.last);
        self.first.len() + self.namespaces.len() + steps.map(Step::size).sum::<usize>()
    }
}

/// Where a route is: the kernel has one in a namespace.
fn way(namespace: Option<&Namespace>, route: &Route) -> Way {
    (namespace.cloned(), route.to.trunc())
}

type Way = (Option<Namespace>, IpNet);

fn removal(ports: Vec<Port>) -> Option<Step> {
    (!ports.is_empty()).then_some(Step::RemovePorts(ports))
}

/// What is to be there when a plan is carried out, and can't be there twice.
#[derive(Default)]
struct Wanted<'a> {
    names: HashSet<&'a PortName>,
    places: HashSet<(Option<Namespace>, IfName)>,
    /// Also those by which the ends of cables are known.
    macs: HashSet<Mac>,
    addresses: HashSet<IpAddr>,
    routes: HashSet<Way>,
    /// Their tables are made anew, which needs them to be empty.
    resized: HashSet<&'a SwitchName>,
    commands: HashSet<&'a CommandName>,
}

impl<'a> Wanted<'a> {
    fn of(steps: &'a [Step]) -> Self {
        let mut wanted = Self::default();
        for step in steps {
            match step {
                Step::AddPort(port) => {
                    wanted.names.insert(&port.name);
                    wanted.places.insert((port.namespace.clone(), ifname(port)));
                    wanted.add_addresses(port);
                    wanted.add_routes(port.namespace.as_ref(), &port.routes, &[]);
                }
                Step::ChangePort { before, after } => {
                    wanted.add_addresses(after);
                    wanted.add_routes(after.namespace.as_ref(), &after.routes, &before.routes);
                }
                Step::AddCable(cable) => {
                    for end in [&cable.a, &cable.b] {
                        let namespace = Namespace::from(end.namespace.clone());
                        wanted.macs.extend(end.mac);
                        wanted.add_routes(Some(&namespace), &end.routes, &[]);
                        let ifname = end.ifname.clone();
                        wanted.places.extend(ifname.map(|ifname| (Some(namespace), ifname)));
                    }
                }
                Step::ChangeCable { before, after } => {
                    for (old, new) in [(&before.a, &after.a), (&before.b, &after.b)] {
                        wanted.add_routes(Some(&new.namespace.clone().into()), &new.routes, &old.routes);
                    }
                }
                Step::StartCommands(commands) => wanted.commands.extend(commands.iter().map(|command| &command.name)),
                Step::ChangeSwitch { before, after } if before.fdb_capacity != after.fdb_capacity => {
                    wanted.resized.insert(&after.name);
                }
                _ => {}
            }
        }
        wanted
    }

    fn add_addresses(&mut self, port: &Port) {
        self.macs.extend(port.mac);
        self.addresses.extend(port.addresses.iter().map(|address| address.ip()));
    }

    fn add_routes(&mut self, namespace: Option<&Namespace>, routes: &[Route], had: &[Route]) {
        let new = routes.iter().filter(|route| !had.contains(route));
        self.routes.extend(new.map(|route| way(namespace, route)));
    }

    fn has_route(&self, namespace: Option<&Namespace>, routes: &[Route]) -> bool {
        routes.iter().any(|route| self.routes.contains(&way(namespace, route)))
    }

    /// A change in two, if routes go by it that others are to have: first these go, and then comes the rest.
    fn part(&self, step: &Step) -> (Option<Step>, Step) {
        match step {
            Step::ChangePort { before, after } => {
                let mut parted = before.clone();
                self.take_routes(&mut parted.routes, &after.routes, after.namespace.as_ref());
                if parted == *before {
                    return (None, step.clone());
                }
                let (before, after) = (before.clone(), after.clone());
                let rest = Step::ChangePort {
                    before: parted.clone(),
                    after,
                };
                (Some(Step::ChangePort { before, after: parted }), rest)
            }
            Step::ChangeCable { before, after } => {
                let mut parted = before.clone();
                for (end, new) in [(&mut parted.a, &after.a), (&mut parted.b, &after.b)] {
                    self.take_routes(&mut end.routes, &new.routes, Some(&new.namespace.clone().into()));
                }
                if parted == *before {
                    return (None, step.clone());
                }
                let (before, after) = (before.clone(), after.clone());
                let rest = Step::ChangeCable {
                    before: parted.clone(),
                    after,
                };
                (Some(Step::ChangeCable { before, after: parted }), rest)
            }
            _ => (None, step.clone()),
        }
    }

    /// Takes out of `routes` those to where another is to have one. What is to have it by itself has it by another way, and no other.
    fn take_routes(&self, routes: &mut Vec<Route>, after: &[Route], namespace: Option<&Namespace>) {
        let stays = |route: &Route| after.iter().any(|new| new.to.trunc() == route.to.trunc());
        routes.retain(|route| stays(route) || !self.routes.contains(&way(namespace, route)));
    }

    /// Whether a port has to go before all of it can be there.
    fn needs_gone(&self, old: &Port) -> bool {
        self.names.contains(&old.name)
            || self.places.contains(&(old.namespace.clone(), ifname(old)))
            || old.mac.is_some_and(|mac| self.macs.contains(&mac))
            || old
                .addresses
                .iter()
                .any(|address| self.addresses.contains(&address.ip()))
            || self.resized.contains(&old.switch)
            || self.has_route(old.namespace.as_ref(), &old.routes)
    }

    fn has_end(&self, end: &CableEnd) -> bool {
        let place = end
            .ifname
            .clone()
            .map(|ifname| (Some(end.namespace.clone().into()), ifname));
        place.is_some_and(|place| self.places.contains(&place))
            || end.mac.is_some_and(|mac| self.macs.contains(&mac))
            || self.has_route(Some(&end.namespace.clone().into()), &end.routes)
    }
}

#[cfg(test)]
mod tests {
    use vswitch_api::Cable;

    use super::*;

    /// A cable is found by the MAC address of its end, whatever that is called: two with it can't be in one namespace.
    #[test]
    fn a_cable_goes_before_another_gets_its_address() {
        let cable = |ifname: &str, to: &str, mac: &str| -> Cable {
            let end = serde_json::json!({ "namespace": "a", "ifname": ifname, "mac": mac });
            serde_json::from_value(serde_json::json!({ "a": end, "b": { "namespace": to, "ifname": "eth0" } })).unwrap()
        };
        let old = Step::RemoveCable(cable("eth1", "b", "02:00:00:00:00:0a"));
        for (mac, goes_first) in [("02:00:00:00:00:0a", true), ("02:00:00:00:00:0b", false)] {
            let new = Step::AddCable(cable("eth2", "c", mac));
            let order = Order::of(vec![old.clone(), new.clone()]);
            let (then, last) = match goes_first {
                true => (vec![old.clone(), new], vec![]),
                false => (vec![new], vec![old.clone()]),
            };
            assert_eq!((order.then, order.last), (then, last));
        }
    }
}
