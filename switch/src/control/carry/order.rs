//! In which order the steps of a plan are carried out: what has an inverse, then what has none.

use std::collections::HashSet;
use std::net::IpAddr;

use vswitch_api::{CableEnd, CommandName, IfName, Mac, Namespace, NsName, Port, PortName, Route, SwitchName};

use super::super::kinds::ifname;
use super::super::plan::Step;

/// Ports that are made together; after each lot the daemon looks whether it is to stop.
const PORTS_AT_ONCE: usize = 128;

/// The steps of a plan by the time at which they come.
pub(super) struct Order {
    /// Namespaces to be made: the state must tell of them, and what they are is known only when they are there.
    pub first: Vec<NsName>,
    /// The rest of what has an inverse, in the order of the plan.
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
}

/// The IP versions of default routes: whether it is IPv4.
fn defaults<'a>(routes: impl Iterator<Item = &'a Route>) -> impl Iterator<Item = bool> {
    routes
        .filter(|route| route.to.prefix_len() == 0)
        .map(|route| route.to.addr().is_ipv4())
}

fn removal(ports: Vec<Port>) -> Option<Step> {
    (!ports.is_empty()).then_some(Step::RemovePorts(ports))
}

/// What is to be there when a plan is carried out, and can't be there twice.
#[derive(Default)]
struct Wanted<'a> {
    names: HashSet<&'a PortName>,
    places: HashSet<(Option<Namespace>, IfName)>,
    macs: HashSet<Mac>,
    /// By which the ends of cables are known in their namespaces.
    ends: HashSet<(&'a NsName, Mac)>,
    addresses: HashSet<IpAddr>,
    /// Where there is to be a default route, and of which IP version.
    defaults: HashSet<(Option<Namespace>, bool)>,
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
                    wanted.add_defaults(port.namespace.as_ref(), &port.routes, &[]);
                }
                Step::ChangePort { before, after } => {
                    wanted.add_addresses(after);
                    wanted.add_defaults(after.namespace.as_ref(), &after.routes, &before.routes);
                }
                Step::AddCable(cable) => {
                    let ends = [&cable.a, &cable.b].into_iter();
                    let known = ends.clone().filter_map(|end| Some((&end.namespace, end.mac?)));
                    wanted.ends.extend(known);
                    for end in ends.clone() {
                        wanted.add_defaults(Some(&end.namespace.clone().into()), &end.routes, &[]);
                    }
                    wanted
                        .places
                        .extend(ends.filter_map(|end| Some((Some(end.namespace.clone().into()), end.ifname.clone()?))));
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

    fn add_defaults(&mut self, namespace: Option<&Namespace>, routes: &[Route], had: &[Route]) {
        let new = routes.iter().filter(|route| !had.contains(route));
        self.defaults.extend(defaults(new).map(|v4| (namespace.cloned(), v4)));
    }

    /// The kernel has one in a namespace.
    fn has_default(&self, namespace: Option<&Namespace>, routes: &[Route]) -> bool {
        defaults(routes.iter()).any(|v4| self.defaults.contains(&(namespace.cloned(), v4)))
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
            || self.has_default(old.namespace.as_ref(), &old.routes)
    }

    fn has_end(&self, end: &CableEnd) -> bool {
        let place = end
            .ifname
            .clone()
            .map(|ifname| (Some(end.namespace.clone().into()), ifname));
        place.is_some_and(|place| self.places.contains(&place))
            || end.mac.is_some_and(|mac| self.ends.contains(&(&end.namespace, mac)))
            || self.has_default(Some(&end.namespace.clone().into()), &end.routes)
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
