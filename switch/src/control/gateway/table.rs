//! The one table of nftables that is ours, as the JSON that `nft -j -f -` takes (libnftables-json(5)). It is replaced as a whole, in one
//! transaction, so there is never a moment without its rules.

use ipnet::IpNet;
use serde_json::{Value, json};
use vswitch_api::IfName;

use super::outside::{Outside, Published, Way};

/// The group of interfaces that gateways with NAT are in, of all daemons of a machine: what passes by one its own daemon decides on.
pub(super) const GATEWAYS: u32 = 0x7673;

/// What the host lets through beyond what it did, which has to be narrowed down to the gateways.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Opened {
    /// Interfaces that forward IPv4, and did not.
    pub v4: Vec<IfName>,
    /// The same of IPv6.
    pub v6: Vec<IfName>,
    /// All interfaces forward IPv6, and did not.
    pub all_v6: bool,
}

/// The table of this name anew, or gone if there is nothing to be in it. `followed`: the interfaces of the default routes.
pub(super) fn commands(table: &str, outside: &Outside, followed: &[IfName], opened: &Opened) -> Value {
    let named = json!({"family": "inet", "name": table});
    // Deleting needs it to be there.
    let mut commands = vec![json!({"add": {"table": &named}}), json!({"delete": {"table": &named}})];
    if !outside.ways.is_empty() {
        let mut rules = Rules {
            table,
            commands: vec![json!({"add": {"table": &named}})],
        };
        rules.fill(outside, followed, opened);
        commands.extend(rules.commands);
    }
    json!({"nftables": commands})
}

/// How many chains and rules there are among commands, or in what is listed.
pub(super) fn chains_and_rules(objects: &Value) -> [usize; 2] {
    let objects = objects.as_array().map_or(&[][..], Vec::as_slice);
    ["chain", "rule"].map(|kind| {
        let is_one = |object: &&Value| !object[kind].is_null() || !object["add"][kind].is_null();
        objects.iter().filter(is_one).count()
    })
}

struct Rules<'a> {
    table: &'a str,
    commands: Vec<Value>,
}

impl Rules<'_> {
    fn fill(&mut self, outside: &Outside, followed: &[IfName], opened: &Opened) {
        self.chain("publish", "nat", "prerouting", -100);
        self.chain("publish-local", "nat", "output", -100);
        self.chain("translate", "nat", "postrouting", 100);
        self.chain("pass", "filter", "forward", 0);
        for way in &outside.ways {
            for published in &way.published {
                self.publish(*published);
            }
            let uplinks = match &way.uplinks[..] {
                [] => followed,
                named => named,
            };
            self.translate(way, uplinks);
            self.pass(way, uplinks);
        }
        let drop = json!({"drop": null});
        for (version, interfaces) in [("ipv4", &opened.v4), ("ipv6", &opened.v6)] {
            if !interfaces.is_empty() {
                let others = no_gateway("oifgroup");
                self.rule("pass", [of(version), iif("==", interfaces), others, drop.clone()]);
            }
        }
        if opened.all_v6 {
            let (from, to) = (no_gateway("iifgroup"), no_gateway("oifgroup"));
            self.rule("pass", [of("ipv6"), from, to, drop]);
        }
    }

    fn chain(&mut self, name: &str, kind: &str, hook: &str, priority: i32) {
        let chain = json!({
            "family": "inet", "table": self.table, "name": name, "type": kind, "hook": hook, "prio": priority, "policy": "accept"
        });
        self.commands.push(json!({"add": {"chain": chain}}));
    }

    fn rule<const N: usize>(&mut self, chain: &str, parts: [Value; N]) {
        self.rules(chain, parts.into());
    }

    fn rules(&mut self, chain: &str, parts: Vec<Value>) {
        let rule = json!({"family": "inet", "table": self.table, "chain": chain, "expr": parts});
        self.commands.push(json!({"add": {"rule": rule}}));
    }

    /// What comes for the host's number goes to the port's. Of what the host itself sends only that for its own addresses, and not
    /// from one loopback address to another: its answers would find no way back.
    fn publish(&mut self, Published { publish, to }: Published) {
        let version = if to.is_ipv4() { "ipv4" } else { "ipv6" };
        let family = if to.is_ipv4() { "ip" } else { "ip6" };
        let loopback: IpNet = match to.is_ipv4() {
            true => IpNet::V4(ipnet::Ipv4Net::new_assert(std::net::Ipv4Addr::new(127, 0, 0, 0), 8)),
            false => IpNet::V6(ipnet::Ipv6Net::from(std::net::Ipv6Addr::LOCALHOST)),
        };
        let local =
            json!({"match": {"op": "==", "left": {"fib": {"result": "type", "flags": ["daddr"]}}, "right": "local"}});
        let number = json!({"match": {
            "op": "==",
            "left": {"payload": {"protocol": publish.protocol.word(), "field": "dport"}},
            "right": publish.outside
        }});
        let dnat = json!({"dnat": {"family": family, "addr": to.to_string(), "port": publish.inside}});
        let outer = address(family, "daddr", "!=", &[loopback]);
        self.rule("publish", [of(version), local.clone(), number.clone(), dnat.clone()]);
        self.rule("publish-local", [of(version), outer, local, number, dnat]);
    }

    fn translate(&mut self, way: &Way, uplinks: &[IfName]) {
        let masquerade = json!({"masquerade": null});
        for (version, family, subnets) in way.versions() {
            if subnets.is_empty() {
                continue;
            }
            let from = address(family, "saddr", "==", &subnets);
            if !uplinks.is_empty() {
                let out = oif("==", uplinks);
                self.rule("translate", [of(version), from.clone(), out, masquerade.clone()]);
            }
            // From one station to what another one publishes: the answer has to come back this way.
            let back = oif("==", std::slice::from_ref(&way.gateway));
            self.rule("translate", [of(version), from, back, published(), masquerade.clone()]);
        }
    }

    /// As a router with NAT does: out goes what comes from the subnets, in come answers and what is published.
    fn pass(&mut self, way: &Way, uplinks: &[IfName]) {
        let (accept, drop) = (json!({"accept": null}), json!({"drop": null}));
        let gateway = std::slice::from_ref(&way.gateway);
        let known = json!({"match": {
            "op": "in", "left": {"ct": {"key": "state"}}, "right": ["established", "related"]
        }});
        for (version, family, subnets) in way.versions() {
            let mut parts = vec![of(version), iif("==", gateway)];
            // Nobody's address but its own.
            if !subnets.is_empty() {
                parts.push(address(family, "saddr", "!=", &subnets));
            }
            parts.push(drop.clone());
            self.rules("pass", parts);
        }
        self.rule("pass", [iif("==", gateway), known.clone(), accept.clone()]);
        self.rule("pass", [iif("==", gateway), published(), accept.clone()]);
        // Nowhere but out: no other switch, and not back.
        if !uplinks.is_empty() {
            self.rule("pass", [iif("==", gateway), oif("==", uplinks), accept.clone()]);
        }
        self.rule("pass", [iif("==", gateway), drop.clone()]);
        self.rule("pass", [oif("==", gateway), known, accept.clone()]);
        self.rule("pass", [oif("==", gateway), published(), accept]);
        self.rule("pass", [oif("==", gateway), drop]);
    }
}

impl Way {
    /// Its subnets by IP version.
    fn versions(&self) -> [(&'static str, &'static str, Vec<IpNet>); 2] {
        [("ipv4", "ip", true), ("ipv6", "ip6", false)].map(|(version, family, v4)| {
            let subnets = self.subnets.iter().filter(|net| net.addr().is_ipv4() == v4);
            (version, family, subnets.copied().collect())
        })
    }
}

fn of(version: &str) -> Value {
    json!({"match": {"op": "==", "left": {"meta": {"key": "nfproto"}}, "right": version}})
}

fn iif(op: &str, names: &[IfName]) -> Value {
    interface("iifname", op, names)
}

fn oif(op: &str, names: &[IfName]) -> Value {
    interface("oifname", op, names)
}

/// Interfaces that are gateways of no daemon; those of our own are decided on before.
fn no_gateway(key: &str) -> Value {
    json!({"match": {"op": "!=", "left": {"meta": {"key": key}}, "right": GATEWAYS}})
}

fn interface(key: &str, op: &str, names: &[IfName]) -> Value {
    let names = names.iter().map(|name| Value::from(name.as_str())).collect();
    json!({"match": {"op": op, "left": {"meta": {"key": key}}, "right": any_of(names)}})
}

fn address(family: &str, field: &str, op: &str, nets: &[IpNet]) -> Value {
    let prefix = |net: &IpNet| json!({"prefix": {"addr": net.network().to_string(), "len": net.prefix_len()}});
    let nets = nets.iter().map(prefix).collect();
    json!({"match": {"op": op, "left": {"payload": {"protocol": family, "field": field}}, "right": any_of(nets)}})
}

/// One, or a set of several.
fn any_of(mut values: Vec<Value>) -> Value {
    match (values.len(), values.pop()) {
        (1, Some(one)) => one,
        (_, last) => {
            values.extend(last);
            json!({"set": values})
        }
    }
}

fn published() -> Value {
    json!({"match": {"op": "in", "left": {"ct": {"key": "status"}}, "right": "dnat"}})
}
