//! What the routes and rules of a stack say of a packet, as `ip` tells it.

use std::cmp::Reverse;
use std::net::IpAddr;
use std::process::{Command, Stdio};

use ipnet::IpNet;
use serde::Deserialize;
use vswitch_api::view::Stack;

use super::inside::{Route, ask, no_ip, within};
use crate::failure::Failure;

/// Kinds of routes, and of rules, by which a packet goes nowhere.
const STOPS: [&str; 3] = ["blackhole", "unreachable", "prohibit"];

/// Why a stack has no way for a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoWay {
    /// In the kernel's words.
    pub told: String,
    /// What says so, if something does.
    pub stop: Option<Stop>,
}

/// An entry that stops packets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stop {
    /// `route` or `rule`.
    pub what: &'static str,
    /// The entry, such as `blackhole 10.0.0.2`.
    pub text: String,
    /// The command that takes it away.
    pub undo: String,
}

/// An entry of a table.
#[derive(Debug, Deserialize)]
struct Entry {
    #[serde(rename = "type", default)]
    kind: Option<String>,
    dst: String,
    #[serde(default)]
    gateway: Option<IpAddr>,
    #[serde(default)]
    dev: Option<String>,
    #[serde(default)]
    table: Option<String>,
    #[serde(default)]
    metric: u32,
}

/// A rule of policy routing (ip-rule(8)).
#[derive(Debug, Default, Deserialize)]
struct Rule {
    priority: u32,
    #[serde(default)]
    src: Option<String>,
    #[serde(default)]
    srclen: Option<u8>,
    #[serde(default)]
    dst: Option<String>,
    #[serde(default)]
    dstlen: Option<u8>,
    #[serde(default)]
    table: Option<String>,
    #[serde(default)]
    action: Option<String>,
    // Of packets that are marked, come in by an interface, or are of one protocol alone.
    #[serde(default)]
    fwmark: Option<String>,
    #[serde(default)]
    iif: Option<String>,
    #[serde(default)]
    oif: Option<String>,
    #[serde(default)]
    ipproto: Option<String>,
    #[serde(default)]
    tos: Option<String>,
    #[serde(default)]
    not: Option<serde_json::Value>,
}

/// What the stack would do with a packet for an address, from this one of its own if it sends it itself.
pub fn route(stack: Option<&Stack>, from: Option<IpAddr>, to: IpAddr) -> Result<Result<Route, NoWay>, Failure> {
    within(stack, || {
        let told = match get(from, to)? {
            Ok(route) => return Ok(Ok(route)),
            Err(told) => told,
        };
        let stop = stop(from, to)?;
        // The address may just not be there, which is told elsewhere.
        if let (None, Some(_)) = (&stop, from)
            && let Ok(route) = get(None, to)?
        {
            return Ok(Ok(route));
        }
        Ok(Err(NoWay { told, stop }))
    })?
}

/// `ip route get`, or what it says instead.
fn get(from: Option<IpAddr>, to: IpAddr) -> Result<Result<Route, String>, Failure> {
    let get = |words: &[&str]| {
        let mut command = Command::new("ip");
        command.args(["-j", "route", "get"]).args(words).arg(to.to_string());
        if let Some(from) = from {
            command.args(["from", &from.to_string()]);
        }
        command.stdin(Stdio::null()).output().map_err(|e| no_ip(&e))
    };
    let output = get(&[])?;
    let routes: Vec<Route> = serde_json::from_slice(&output.stdout).unwrap_or_default();
    let Some(mut route) = routes.into_iter().next() else {
        let told = String::from_utf8_lossy(&output.stderr);
        let told = told.lines().next().unwrap_or("no route");
        return Ok(Err(told.trim_start_matches("RTNETLINK answers: ").to_owned()));
    };
    let entries: Vec<Entry> = serde_json::from_slice(&get(&["fibmatch"])?.stdout).unwrap_or_default();
    route.entry = entries.first().map(Entry::words);
    Ok(Ok(route))
}

/// The first rule, or the route of the first table that has one, where that stops the packet.
fn stop(from: Option<IpAddr>, to: IpAddr) -> Result<Option<Stop>, Failure> {
    let family = if to.is_ipv4() { "-4" } else { "-6" };
    let rules: Vec<Rule> = ask(&[family, "rule", "show"])?;
    for rule in rules.iter().filter(|rule| rule.is_about(from, to)) {
        if rule.action.as_deref().is_some_and(|action| STOPS.contains(&action)) {
            return Ok(Some(Stop {
                what: "rule",
                text: rule.words(),
                undo: format!("ip {family} rule del priority {}", rule.priority),
            }));
        }
        let Some(table) = rule.table.as_deref().filter(|table| *table != "local") else {
            continue;
        };
        let matching: Vec<Entry> = ask(&[family, "route", "show", "table", table, "match", &to.to_string()])?;
        let Some(closest) = matching.into_iter().min_by_key(Entry::nearness) else {
            continue;
        };
        return Ok(match closest.kind.as_deref() {
            Some("throw") => continue,
            Some(kind) if STOPS.contains(&kind) => {
                let entry = Entry {
                    table: Some(table.to_owned()).filter(|table| table != "main"),
                    ..closest
                };
                let text = entry.words();
                let ip = if to.is_ipv4() { "ip" } else { "ip -6" };
                Some(Stop {
                    what: "route",
                    undo: format!("{ip} route del {text}"),
                    text,
                })
            }
            _ => None,
        });
    }
    Ok(None)
}

impl Entry {
    /// The least is taken: the longest prefix, and of these the least metric. `ip` lists them the one way for IPv4, the other for IPv6.
    fn nearness(&self) -> (Reverse<u8>, u32) {
        let len = match (self.dst.as_str(), self.dst.rsplit_once('/')) {
            ("default", _) => 0,
            (_, Some((_, len))) => len.parse().unwrap_or(0),
            // A host's is written without it.
            _ => u8::MAX,
        };
        (Reverse(len), self.metric)
    }

    fn words(&self) -> String {
        let mut words: Vec<String> = self.kind.iter().cloned().collect();
        words.push(self.dst.clone());
        words.extend(self.gateway.map(|via| format!("via {via}")));
        words.extend(self.dev.as_ref().map(|dev| format!("dev {dev}")));
        let table = self
            .table
            .as_ref()
            .filter(|table| *table != "main" && *table != "local");
        words.extend(table.map(|table| format!("table {table}")));
        words.join(" ")
    }
}

impl Rule {
    /// Whether it is about each packet from the one to the other, as far as can be told.
    fn is_about(&self, from: Option<IpAddr>, to: IpAddr) -> bool {
        let others = [&self.fwmark, &self.iif, &self.oif, &self.ipproto, &self.tos];
        others.iter().all(|other| other.is_none())
            && self.not.is_none()
            && has(self.src.as_deref(), self.srclen, from)
            && has(self.dst.as_deref(), self.dstlen, Some(to))
    }

    fn words(&self) -> String {
        let net = |net: &str, len: Option<u8>| len.map_or_else(|| net.to_owned(), |len| format!("{net}/{len}"));
        let mut words = vec![format!(
            "from {}",
            net(self.src.as_deref().unwrap_or("all"), self.srclen)
        )];
        words.extend(self.dst.as_deref().map(|dst| format!("to {}", net(dst, self.dstlen))));
        words.extend(self.action.clone());
        words.join(" ")
    }
}

/// Whether what a rule says of addresses is true of one.
fn has(net: Option<&str>, len: Option<u8>, ip: Option<IpAddr>) -> bool {
    let Some(net) = net.filter(|net| *net != "all") else {
        return true;
    };
    let (Ok(first), Some(ip)) = (net.parse::<IpAddr>(), ip) else {
        return false;
    };
    let len = len.unwrap_or(if first.is_ipv4() { 32 } else { 128 });
    IpNet::new(first, len).is_ok_and(|net| net.contains(&ip))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_about_what_they_say() {
        let text = r#"[{"priority":0,"src":"all","table":"local"},
            {"priority":1,"src":"all","dst":"10.0.4.0","dstlen":24,"iif":"eth0","action":"unreachable"},
            {"priority":2,"src":"10.0.0.1","dst":"10.0.0.3","table":"100"},
            {"priority":3,"src":"all","dst":"10.0.4.0","dstlen":24,"action":"blackhole"}]"#;
        let rules: Vec<Rule> = serde_json::from_str(text).unwrap();
        let about = |from: Option<&str>, to: &str| {
            let from = from.map(|from| from.parse().unwrap());
            let about = rules.iter().filter(|rule| rule.is_about(from, to.parse().unwrap()));
            about.map(|rule| rule.priority).collect::<Vec<_>>()
        };
        assert_eq!(about(None, "10.0.4.9"), [0, 3]);
        assert_eq!(about(Some("10.0.0.1"), "10.0.0.3"), [0, 2]);
        assert_eq!(about(None, "10.0.0.3"), [0]);
        assert_eq!(rules[3].words(), "from all to 10.0.4.0/24 blackhole");
    }

    /// As it was, the first of IPv6's was never looked at: the way to the own subnet.
    #[test]
    fn the_closest_entry_is_taken_in_whatever_order_they_are_listed() {
        let text = r#"[{"type":"blackhole","dst":"fd07::1","metric":1024},{"dst":"fd07::/64","dev":"eth0","metric":256},
            {"type":"prohibit","dst":"fd07::/64","metric":1},{"dst":"default","dev":"eth0"}]"#;
        let mut all: Vec<Entry> = serde_json::from_str(text).unwrap();
        for _ in 0..2 {
            all.sort_by_key(Entry::nearness);
            let order: Vec<_> = all.iter().map(|entry| (entry.dst.as_str(), entry.metric)).collect();
            assert_eq!(
                order,
                [("fd07::1", 1024), ("fd07::/64", 1), ("fd07::/64", 256), ("default", 0)]
            );
            all.reverse();
        }
    }

    #[test]
    fn an_entry_is_written_as_it_is_taken_away() {
        let words = |text: &str| serde_json::from_str::<Entry>(text).unwrap().words();
        assert_eq!(
            words(r#"{"dst":"10.0.1.0/24","gateway":"10.0.0.99","dev":"eth0","table":"100","flags":[]}"#),
            "10.0.1.0/24 via 10.0.0.99 dev eth0 table 100"
        );
        assert_eq!(
            words(r#"{"type":"local","dst":"10.0.0.8","dev":"lo","table":"local","flags":[]}"#),
            "local 10.0.0.8 dev lo"
        );
    }
}
