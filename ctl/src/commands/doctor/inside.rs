//! What a stack says of itself: interfaces, neighbours, settings and filters of a namespace. Read by `ip` and the tools of the
//! filters, which people use too, so that what is shown can be looked up by hand.

use std::collections::BTreeMap;
use std::fs;
use std::net::IpAddr;
use std::process::{Command, Stdio};
use std::thread;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use vswitch_api::policy::VlanId;
use vswitch_api::view::Stack;
use vswitch_api::{ApiError, ErrorCode, Mac};

pub use super::filters::{Filter, filters};
use crate::commands::exec;
use crate::failure::Failure;

/// Settings of interfaces that stop packets.
const OF_INTERFACES: [&str; 4] = ["rp_filter", "arp_ignore", "arp_filter", "forwarding"];
/// Kinds of interfaces that speak on the wire of another one, without a tag.
const TWINS: [&str; 2] = ["macvlan", "ipvlan"];
/// Settings of the whole stack.
const OF_STACK: [&str; 2] = ["ipv4/icmp_echo_ignore_all", "ipv6/icmp/echo_ignore_all"];

/// A stack from inside.
#[derive(Clone, Debug, Default)]
pub struct Inside {
    /// Its interfaces.
    pub links: Vec<Link>,
    /// Its ARP and ND tables.
    pub neighbours: Vec<Neighbour>,
    /// Settings below /proc/sys/net.
    pub settings: BTreeMap<String, i64>,
    /// Rules and policies of its filters by which packets are dropped.
    pub filters: Vec<Filter>,
}

/// An interface.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Link {
    /// Its name.
    #[serde(rename = "ifname", default)]
    pub name: String,
    /// What is set and found.
    #[serde(default)]
    pub flags: Vec<String>,
    /// Longest packet.
    #[serde(default)]
    pub mtu: u32,
    /// Its MAC address, if it has one.
    #[serde(rename = "address", default)]
    pub mac: Option<String>,
    /// Its addresses.
    #[serde(rename = "addr_info", default)]
    pub addresses: Vec<Address>,
    /// The interface that it lies on, if it does.
    #[serde(rename = "link", default)]
    pub on: Option<String>,
    /// The bridge that it is a port of, if it is.
    #[serde(rename = "master", default)]
    pub bridge: Option<String>,
    /// The VLAN whose frames it takes from there and gives a tag, if it is a VLAN device (802.1Q).
    #[serde(skip)]
    pub tag: Option<VlanId>,
    /// Whether it is another one on the same wire, as MACVLANs and IPVLANs are.
    #[serde(skip)]
    pub is_twin: bool,
}

/// What is asked for by itself: the list of all does not tell it, and with all details not each version of `ip` writes a list that can be read.
#[derive(Deserialize)]
struct VlanDevice {
    ifname: String,
    linkinfo: LinkInfo,
}

#[derive(Deserialize)]
struct LinkInfo {
    info_data: VlanInfo,
}

#[derive(Deserialize)]
struct VlanInfo {
    protocol: String,
    id: VlanId,
}

/// An address.
#[derive(Clone, Debug, Deserialize)]
pub struct Address {
    /// It.
    #[serde(rename = "local")]
    pub ip: IpAddr,
    /// Length of its prefix.
    #[serde(rename = "prefixlen")]
    pub prefix: u8,
    /// `global`, `link` or `host`.
    #[serde(default)]
    pub scope: String,
    /// Somebody else has it (RFC 4862 section 5.4).
    #[serde(default, rename = "dadfailed")]
    pub is_duplicate: bool,
}

/// An entry of an ARP or ND table.
#[derive(Clone, Debug, Deserialize)]
pub struct Neighbour {
    /// Who is asked for.
    pub dst: IpAddr,
    /// By which interface.
    #[serde(default)]
    pub dev: String,
    /// Who has answered.
    #[serde(rename = "lladdr", default)]
    pub mac: Option<Mac>,
    /// The kernel's words for how well it is known.
    #[serde(default)]
    pub state: Vec<String>,
}

/// What a stack would do with a packet.
#[derive(Clone, Debug, Deserialize)]
pub struct Route {
    /// `local` for an own address, also `unreachable`, `blackhole`, `prohibit`.
    #[serde(rename = "type", default)]
    pub kind: Option<String>,
    /// The interface that it leaves by.
    #[serde(default)]
    pub dev: Option<String>,
    /// The next router.
    #[serde(default)]
    pub gateway: Option<IpAddr>,
    /// The address that it would have.
    #[serde(default)]
    pub prefsrc: Option<IpAddr>,
    /// The entry of the table that says so, as `ip route del` takes it.
    #[serde(skip)]
    pub entry: Option<String>,
}

impl Link {
    /// Whether a flag is set.
    pub fn has(&self, flag: &str) -> bool {
        self.flags.iter().any(|other| other == flag)
    }

    /// Its MAC address.
    pub fn mac(&self) -> Option<Mac> {
        self.mac.as_ref().and_then(|text| text.parse().ok())
    }
}

impl Address {
    /// Whether it holds beyond the link.
    pub fn is_global(&self) -> bool {
        self.scope == "global"
    }

    /// Whether another one is in the same subnet.
    pub fn subnet_has(&self, ip: IpAddr) -> bool {
        ipnet::IpNet::new(self.ip, self.prefix).is_ok_and(|net| net.contains(&ip))
    }
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.ip, self.prefix)
    }
}

impl Inside {
    /// A setting of an interface, which is the greater of its own and that of all (Documentation/networking/ip-sysctl.rst).
    pub fn setting(&self, dev: &str, name: &str) -> i64 {
        let of = |dev: &str| self.settings.get(&format!("ipv4/conf/{dev}/{name}")).copied();
        of(dev).max(of("all")).unwrap_or_default()
    }

    /// Whether it passes packets on that come in by an interface.
    pub fn passes_on(&self, dev: &str, to: IpAddr) -> bool {
        match to {
            IpAddr::V4(_) => self.value(&format!("ipv4/conf/{dev}/forwarding")) > 0,
            // The setting of one interface is about router advertisements alone, but for the younger of the two.
            IpAddr::V6(_) => {
                self.value("ipv6/conf/all/forwarding") > 0
                    || self.value(&format!("ipv6/conf/{dev}/force_forwarding")) > 0
            }
        }
    }

    /// Any setting.
    pub fn value(&self, path: &str) -> i64 {
        self.settings.get(path).copied().unwrap_or_default()
    }

    /// Who it takes an address for.
    pub fn neighbour(&self, ip: IpAddr) -> Option<&Neighbour> {
        self.neighbours.iter().find(|entry| entry.dst == ip)
    }
}

/// Runs something inside a namespace, on a thread of its own so that there is nothing to put back.
pub fn within<T: Send>(stack: Option<&Stack>, f: impl FnOnce() -> T + Send) -> Result<T, Failure> {
    let Some(stack) = stack else { return Ok(f()) };
    let run = || exec::enter_network(stack).map(|()| f());
    thread::scope(|scope| scope.spawn(run).join())
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        .map_err(Failure::from)
}

/// Looks into a namespace; none: that of the host.
pub fn look(stack: Option<&Stack>) -> Result<Inside, Failure> {
    within(stack, || {
        let mut links: Vec<Link> = ask(&["addr", "show"])?;
        if links.iter().any(|link| link.on.is_some()) {
            let devices: Vec<VlanDevice> = ask(&["-d", "link", "show", "type", "vlan"])?;
            for device in devices
                .iter()
                .filter(|device| device.linkinfo.info_data.protocol == "802.1Q")
            {
                let mut links = links.iter_mut();
                if let Some(link) = links.find(|link| link.name == device.ifname) {
                    link.tag = Some(device.linkinfo.info_data.id);
                }
            }
            for kind in TWINS {
                let twins: Vec<Link> = ask(&["link", "show", "type", kind])?;
                for link in &mut links {
                    link.is_twin |= twins.iter().any(|twin| twin.name == link.name);
                }
            }
        }
        if links.iter().any(|link| link.bridge.is_some()) {
            // Others have a master too: VRFs, bonds.
            let bridges: Vec<Link> = ask(&["link", "show", "type", "bridge"])?;
            let is_one = |name: &String| bridges.iter().any(|bridge| bridge.name == *name);
            for link in &mut links {
                link.bridge = link.bridge.take().filter(is_one);
            }
        }
        let settings = settings(&links);
        Ok(Inside {
            neighbours: ask(&["neigh", "show"])?,
            filters: filters(),
            settings,
            links,
        })
    })?
}

/// Whether a ping from one address to another is answered.
pub fn ping(stack: Option<&Stack>, from: IpAddr, to: IpAddr, wait: u32) -> Result<bool, Failure> {
    within(stack, || exec::is_answered(Some(from), to, wait))?
}

pub(super) fn ask<T: DeserializeOwned>(words: &[&str]) -> Result<Vec<T>, Failure> {
    let mut command = Command::new("ip");
    command.arg("-j").args(words).stdin(Stdio::null());
    let output = command.output().map_err(|e| no_ip(&e))?;
    // Lists with nothing in them are no text at all, and entries that are no addresses (`ip neigh` of other families) are
    // left out.
    let entries: Vec<serde_json::Value> = serde_json::from_slice(&output.stdout).unwrap_or_default();
    Ok(entries
        .into_iter()
        .filter_map(|one| serde_json::from_value(one).ok())
        .collect())
}

pub(super) fn no_ip(error: &std::io::Error) -> Failure {
    ApiError::new(ErrorCode::NotPermitted, "ip", format!("it can't be run: {error}"))
        .hint("install it (apt install iproute2)")
        .into()
}

/// /proc/sys/net shows the namespace of the thread that reads it.
fn settings(links: &[Link]) -> BTreeMap<String, i64> {
    let devices = links.iter().map(|link| link.name.as_str()).chain(["all"]);
    let mut paths: Vec<_> = OF_STACK.iter().map(|path| (*path).to_owned()).collect();
    for dev in devices {
        paths.extend(OF_INTERFACES.iter().map(|name| format!("ipv4/conf/{dev}/{name}")));
        paths.push(format!("ipv6/conf/{dev}/disable_ipv6"));
        paths.push(format!("ipv6/conf/{dev}/forwarding"));
        paths.push(format!("ipv6/conf/{dev}/force_forwarding"));
    }
    let read = |path: String| {
        let text = fs::read_to_string(format!("/proc/sys/net/{path}")).ok()?;
        Some((path, text.trim().parse().ok()?))
    };
    paths.into_iter().filter_map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_of_ip_are_read() {
        let text = r#"{"ifname":"eth0","flags":["UP"],"mtu":1500,"address":"02:00:00:00:00:01","addr_info":[
            {"family":"inet6","local":"fd00::1","prefixlen":64,"scope":"global","dadfailed":true}]}"#;
        let link: Link = serde_json::from_str(text).unwrap();
        assert!(link.has("UP") && link.addresses[0].is_duplicate && link.mac().is_some());
        assert!(link.addresses[0].subnet_has("fd00::7".parse().unwrap()));
        let text = r#"{"ifindex":3,"link":"eth0","ifname":"eth0.10","flags":["UP"],"mtu":1500,"linkinfo":{"info_kind":"vlan",
            "info_data":{"protocol":"802.1Q","id":10,"flags":["REORDER_HDR"]}}}"#;
        let link: Link = serde_json::from_str(text).unwrap();
        let device: VlanDevice = serde_json::from_str(text).unwrap();
        assert_eq!((link.on.as_deref(), device.ifname.as_str()), (Some("eth0"), "eth0.10"));
        assert_eq!(device.linkinfo.info_data.id, "10".parse().unwrap());
    }
}
