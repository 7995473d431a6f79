//! Topologies of Mininet's editor (`examples/miniedit.py`), which are JSON.

use std::collections::HashMap;

use ipnet::IpNet;
use serde_json::{Map, Value, json};
use vswitch_api::traffic::{Impairment, MAX_DELAY_US, MAX_LIMIT, MAX_RATE};

use super::topology::{Kind, Node, Notes, Tip, Topology, Wire, shown, text};

/// What hosts have addresses of if nothing else is said (`ipBase`).
const IP_BASE: &str = "10.0.0.0/8";
/// Keys of hosts and switches that say nothing about the network.
const OF_NO_MATTER: [&str; 12] = [
    "hostname",
    "nodeNum",
    "sched",
    "cores",
    "cpu",
    "ip",
    "defaultRoute",
    "switchType",
    "controllers",
    "dpid",
    "netflow",
    "sflow",
];

/// Reads a topology.
///
/// # Errors
/// It is none.
pub fn read(value: &Value) -> Result<Topology, String> {
    let list = |key: &str| value.get(key).and_then(Value::as_array);
    let (Some(hosts), Some(switches)) = (list("hosts"), list("switches")) else {
        return Err("it has no lists `hosts` and `switches`".to_owned());
    };
    let application = value.get("application");
    let base = application
        .and_then(|application| application.get("ipBase"))
        .and_then(text);
    let mut topology = Topology::default();
    let base = base
        .unwrap_or_else(|| IP_BASE.to_owned())
        .parse::<IpNet>()
        .unwrap_or_else(|_| {
            topology.notes.add("`ipBase`, which is no network");
            IpNet::default()
        });
    if list("controllers").is_some_and(|all| !all.is_empty()) {
        topology.notes.add("controllers: switches learn by themselves");
    }
    let mut places = HashMap::new();
    for (n, host) in (1..).zip(hosts) {
        add_host(&mut topology, host, n, base, &mut places);
    }
    for switch in switches {
        add_switch(&mut topology, switch, &mut places);
    }
    let mut tips = vec![0; topology.nodes.len()];
    for link in list("links").into_iter().flatten() {
        add_link(&mut topology, link, &places, &mut tips);
    }
    Ok(topology)
}

/// A node's name and settings.
fn parts<'a>(node: &'a Value, notes: &mut Notes) -> Option<(String, &'a Map<String, Value>)> {
    let opts = node.get("opts").and_then(Value::as_object);
    let found = opts.and_then(|opts| Some((opts.get("hostname").and_then(text)?, opts)));
    if found.is_none() {
        notes.add(format!(
            "a node without `hostname`: {}",
            shown(node).chars().take(60).collect::<String>()
        ));
    }
    found
}

fn add_host(topology: &mut Topology, host: &Value, n: u32, base: IpNet, places: &mut HashMap<String, usize>) {
    let notes = &mut topology.notes;
    let Some((name, opts)) = parts(host, notes) else { return };
    let mut node = Node::new(&name, Kind::Namespace);
    // As Mininet counts: the first host has the first address.
    let number = opts
        .get("nodeNum")
        .and_then(|number| text(number)?.parse().ok())
        .unwrap_or(n);
    match opts.get("ip").and_then(text).filter(|ip| !ip.is_empty()) {
        Some(ip) => {
            let full = if ip.contains('/') {
                ip.clone()
            } else {
                format!("{ip}/{}", base.prefix_len())
            };
            match full.parse() {
                Ok(address) => node.addresses.push((None, address)),
                Err(_) => notes.about(format!("address {ip}"), &name),
            }
        }
        None => {
            let address = nth(base, number).and_then(|address| address.parse().ok());
            node.addresses.extend(address.map(|address| (None, address)));
        }
    }
    if let Some(via) = opts.get("defaultRoute").and_then(text).filter(|via| !via.is_empty()) {
        let via = via.trim_start_matches("via ").parse().ok();
        let to = if via.is_some_and(|via: std::net::IpAddr| via.is_ipv6()) {
            "::/0"
        } else {
            "0.0.0.0/0"
        };
        match (via, to.parse()) {
            (Some(via), Ok(to)) => node.routes.push((None, to, Some(via))),
            _ => notes.about("`defaultRoute`", &name),
        }
    }
    left_out(opts, &name, notes);
    places.insert(name, topology.nodes.len());
    topology.nodes.push(node);
}

/// The address of a number in a network, with its length.
fn nth(base: IpNet, n: u32) -> Option<String> {
    let IpNet::V4(net) = base else { return None };
    let address = u32::from(net.network()).checked_add(n)?;
    let address = std::net::Ipv4Addr::from(address);
    (net.contains(&address) && n > 0).then(|| format!("{address}/{}", net.prefix_len()))
}

fn add_switch(topology: &mut Topology, switch: &Value, places: &mut HashMap<String, usize>) {
    let notes = &mut topology.notes;
    let Some((name, opts)) = parts(switch, notes) else {
        return;
    };
    let is_router = opts.get("switchType").and_then(Value::as_str) == Some("legacyRouter");
    if is_router {
        notes.about("routers: the namespace is there, and does not forward by itself", &name);
    }
    left_out(opts, &name, notes);
    let kind = if is_router { Kind::Namespace } else { Kind::Switch };
    places.insert(name.clone(), topology.nodes.len());
    topology.nodes.push(Node::new(&name, kind));
}

fn left_out(opts: &Map<String, Value>, name: &str, notes: &mut Notes) {
    for (key, value) in opts {
        let is_nothing = match value {
            Value::Null | Value::Bool(false) => true,
            Value::String(text) => text.is_empty(),
            Value::Array(items) => items.is_empty(),
            _ => false,
        };
        if !is_nothing && !OF_NO_MATTER.contains(&key.as_str()) {
            let shown: String = shown(value).chars().take(60).collect();
            notes.about(format!("`{key}` ({shown})"), name);
        }
    }
}

fn add_link(topology: &mut Topology, link: &Value, places: &HashMap<String, usize>, tips: &mut [usize]) {
    let end = |key: &str| {
        let name = link.get(key).and_then(text)?;
        Some((*places.get(&name)?, name))
    };
    let (Some((a, from)), Some((b, to))) = (end("src"), end("dest")) else {
        let shown: String = link.to_string().chars().take(80).collect();
        topology
            .notes
            .add(format!("link {shown}, as its ends are not both there"));
        return;
    };
    let whole = format!("link {from} - {to}");
    let opts = link.get("opts").and_then(Value::as_object);
    let impair = opts.and_then(|opts| impairment(opts, &whole, &mut topology.notes));
    let tip = |node: usize, name: &str, tips: &mut [usize]| {
        // Interfaces of a node are counted from 0, as they are made.
        let n = tips.get(node).copied().unwrap_or_default();
        if let Some(count) = tips.get_mut(node) {
            *count += 1;
        }
        Tip {
            node,
            ifname: Some(format!("{name}-eth{n}")),
        }
    };
    let ends = [tip(a, &from, tips), tip(b, &to, tips)];
    topology.wires.push(Wire {
        ends,
        mtu: None,
        impair,
    });
}

/// What happens on a link (`mininet.link.TCIntf`), each way.
fn impairment(opts: &Map<String, Value>, whole: &str, notes: &mut Notes) -> Option<Impairment> {
    let mut all = Map::new();
    for (key, value) in opts {
        let number = text(value).and_then(|text| text.parse::<f64>().ok());
        if text(value).is_some_and(|text| text.is_empty()) || number == Some(0.0) {
            continue;
        }
        let meant = match (key.as_str(), number) {
            // Mbit/s, percent, frames.
            ("bw", Some(bw)) if bw > 0.0 => Some(("rate_bps", json!((bw * 1e6).round() as u64))),
            ("loss", Some(loss)) => Some(("loss", json!(loss / 100.0))),
            ("max_queue_size", Some(size)) if size >= 1.0 => Some(("limit", json!(size as u64))),
            // tc takes a bare number for microseconds.
            ("delay", Some(delay)) if delay > 0.0 => Some(("delay_us", json!(delay.round() as u64))),
            ("jitter", Some(jitter)) if jitter > 0.0 => Some(("jitter_us", json!(jitter.round() as u64))),
            ("delay", None) => Some(("delay", value.clone())),
            ("jitter", None) => Some(("jitter", value.clone())),
            _ => None,
        };
        let mut tried = all.clone();
        let is_taken = meant.is_some_and(|(key, value)| {
            tried.insert(key.to_owned(), value);
            let read = serde_json::from_value::<Impairment>(Value::Object(tried.clone()));
            read.is_ok_and(|read| is_possible(&read))
        });
        match is_taken {
            true => all = tried,
            false => notes.about(format!("`{key}` ({})", shown(value)), whole),
        }
    }
    let read = serde_json::from_value::<Impairment>(Value::Object(all)).ok()?;
    (!read.is_noop()).then_some(read)
}

fn is_possible(impairment: &Impairment) -> bool {
    impairment.delay_us <= MAX_DELAY_US
        && impairment.jitter_us <= MAX_DELAY_US
        && impairment.rate_bps.is_none_or(|rate| (1..=MAX_RATE).contains(&rate))
        && impairment.limit.is_none_or(|limit| (1..=MAX_LIMIT).contains(&limit))
}
