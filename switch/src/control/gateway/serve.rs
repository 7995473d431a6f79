//! DHCP, router advertisements and DNS at gateways, by `dnsmasq`: which of them run, and what they are told.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use ipnet::{IpNet, Ipv4Net};
use vswitch_api::lab::DEFAULT_MTU;
use vswitch_api::{ApiError, ErrorCode, IfName, Lab, Port, Ready, Switch, SwitchName};

use super::super::kinds::ifname;
use super::super::processes::Process;
use crate::files::gone_is_fine;

const PROGRAM: &str = "dnsmasq";
/// Where it is looked for beside `PATH`.
const FOLDERS: [&str; 2] = ["/usr/sbin", "/usr/local/sbin"];
const LEASE: &str = "1h";
/// So many it leases at most unless it is told (dnsmasq(8), --dhcp-lease-max).
const LEASES: u64 = 1000;
/// Names that are no port's, whatever ports are called: those of every host, and systemd's (nss-myhostname(8)).
const NEVER: [&str; 12] = [
    "localhost",
    "localhost4",
    "localhost6",
    "ip6-localhost",
    "ip6-loopback",
    "ip6-localnet",
    "ip6-mcastprefix",
    "ip6-allnodes",
    "ip6-allrouters",
    "ip6-allhosts",
    "_gateway",
    "_outbound",
];
/// What dnsmasq reads as something else where a name may stand in a reservation.
const WORDS: [&str; 2] = ["ignore", "infinite"];
/// Who an address is reserved for that nobody is to get: a client id, which no client can have while dnsmasq does not look at theirs.
const NOBODY: &str = "id:nobody";

/// The services of one switch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) struct Served {
    pub switch: SwitchName,
    pub gateway: IfName,
    /// Addresses of the gateway.
    addresses: Vec<IpAddr>,
    subnets: Vec<IpNet>,
    /// What its gateway takes, if that is not what stations take for granted.
    mtu: Option<u32>,
    pub dhcp: bool,
    pub dns: bool,
}

/// Which there are in a lab.
pub(super) fn served(lab: &Lab) -> Vec<Served> {
    let of = |switch: &Switch| {
        let gateway = lab.gateway_of(switch).filter(|_| switch.dhcp || switch.dns)?;
        Some(Served {
            switch: switch.name.clone(),
            gateway: ifname(gateway),
            addresses: gateway.addresses.iter().map(|address| address.ip()).collect(),
            subnets: switch.subnets.clone(),
            mtu: gateway.mtu.filter(|mtu| switch.dhcp && *mtu != DEFAULT_MTU),
            dhcp: switch.dhcp,
            dns: switch.dns,
        })
    };
    lab.switches.iter().filter_map(of).collect()
}

/// The addresses of a subnet that are leased: its upper half. Ports take theirs from below.
pub(super) fn leased(subnet: &Ipv4Net) -> Option<(Ipv4Addr, Ipv4Addr)> {
    let (first, last) = (u32::from(subnet.network()), u32::from(subnet.broadcast()));
    let middle = first + (last - first) / 2 + 1;
    (middle < last).then(|| (middle.into(), (last - 1).into()))
}

/// How many addresses of a subnet can be leased, also to those that it is reserved for.
fn stations(subnet: &IpNet) -> u64 {
    match subnet {
        IpNet::V4(net) => 1 << (net.max_prefix_len() - net.prefix_len()),
        IpNet::V6(_) => 0,
    }
}

/// Where what it is told of ports and what it leases is kept.
pub(in super::super) fn folder(run_dir: &Path) -> PathBuf {
    run_dir.join("names")
}

/// All names of ports with their addresses.
pub(in super::super) fn names_file(run_dir: &Path) -> PathBuf {
    folder(run_dir).join("ports")
}

fn hosts_file(run_dir: &Path, switch: &SwitchName) -> PathBuf {
    folder(run_dir).join(format!("{switch}.dhcp"))
}

pub(in super::super) fn lease_file(run_dir: &Path, switch: &SwitchName) -> PathBuf {
    folder(run_dir).join(format!("{switch}.leases"))
}

impl Served {
    /// How its process is called.
    pub fn process_name(&self) -> String {
        format!("{PROGRAM}:{}", self.switch)
    }

    /// Which services these are, in words.
    pub fn what(&self) -> &'static str {
        match (self.dhcp, self.dns) {
            (true, true) => "DHCP and DNS",
            (true, false) => "DHCP",
            _ => "DNS",
        }
    }

    /// What is to run.
    pub fn process(&self, run_dir: &Path) -> Process {
        let shown = |path: PathBuf| path.display().to_string();
        let mut argv: Vec<String> = [
            PROGRAM,
            "--keep-in-foreground",
            "--conf-file=/dev/null",
            "--log-facility=-",
            // Bound to the gateway alone: what else the host has is none of its business.
            "--bind-dynamic",
            "--except-interface=lo",
            "--no-hosts",
            // None.
            "--pid-file=",
        ]
        .map(str::to_owned)
        .into();
        argv.push(format!("--interface={}", self.gateway));
        if self.dns {
            // Names without a dot are ports', and nobody else's: no server's outside, and below no client's of DHCP.
            argv.extend(["--domain-needed".to_owned(), "--bogus-priv".to_owned()]);
            argv.push(format!("--addn-hosts={}", shown(names_file(run_dir))));
        } else {
            argv.push("--port=0".to_owned());
        }
        if self.dhcp {
            argv.extend(self.dhcp_arguments());
            argv.push(format!("--dhcp-hostsfile={}", shown(hosts_file(run_dir, &self.switch))));
            argv.push(format!("--dhcp-leasefile={}", shown(lease_file(run_dir, &self.switch))));
        }
        let tcp_addr = self.addresses.first().copied();
        Process {
            ready: tcp_addr.filter(|_| self.dns).map(|tcp_addr| Ready {
                run: None,
                tcp: Some(53),
                tcp_addr: Some(tcp_addr),
                done: false,
                within_secs: 20,
            }),
            ..Process::new(self.process_name(), None, argv)
        }
    }

    fn dhcp_arguments(&self) -> Vec<String> {
        // A client is who its MAC address says, which pins hold it to: by names it would take those of others, by ids all addresses.
        let always = ["--dhcp-authoritative", "--dhcp-ignore-names", "--dhcp-ignore-clid"];
        let mut arguments = Vec::from(always.map(str::to_owned));
        for subnet in &self.subnets {
            match subnet {
                IpNet::V4(net) => {
                    let range = leased(net).map(|(first, last)| format!("{first},{last},{},{LEASE}", net.netmask()));
                    let fixed = || format!("{},static,{},{LEASE}", net.network(), net.netmask());
                    arguments.push(format!("--dhcp-range={}", range.unwrap_or_else(fixed)));
                }
                IpNet::V6(net) => {
                    let mode = if self.dns { "ra-stateless" } else { "ra-only" };
                    arguments.push("--enable-ra".to_owned());
                    // Without a time stations kept their addresses of it for ever, also when the switch had another.
                    arguments.push(format!(
                        "--dhcp-range={},{mode},{},{LEASE}",
                        net.network(),
                        net.prefix_len()
                    ));
                }
            }
        }
        // A gateway on the link of the subnet is not its own, which is what is told else.
        let v4 = self.addresses.iter().find(|ip| ip.is_ipv4());
        arguments.extend(v4.map(|ip| format!("--dhcp-option=option:router,{ip}")));
        // Router advertisements have it anyway.
        let mtu = self.mtu.filter(|_| v4.is_some());
        arguments.extend(mtu.map(|mtu| format!("--dhcp-option=option:mtu,{mtu}")));
        let most: u64 = self.subnets.iter().map(stations).sum();
        arguments.extend((most > LEASES).then(|| format!("--dhcp-lease-max={most}")));
        arguments
    }
}

/// # Errors
/// The program is not there.
pub(super) fn check_program() -> Result<(), ApiError> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders = std::env::split_paths(&path).chain(FOLDERS.iter().map(PathBuf::from));
    if folders.any(|folder| folder.join(PROGRAM).is_file()) {
        return Ok(());
    }
    Err(ApiError::new(
        ErrorCode::NotPermitted,
        PROGRAM,
        "the program dnsmasq, which DHCP and DNS are done by, is not there",
    )
    .hint("install it (Debian: apt install dnsmasq-base), or do without --dhcp and --dns"))
}

/// The file `/etc/hosts` of the host.
pub(in super::super) fn own_hosts() -> String {
    fs::read_to_string("/etc/hosts").unwrap_or_default()
}

/// The names in a file of hosts, in lower case.
fn names_in(hosts: &str) -> BTreeSet<String> {
    let lines = hosts.lines().filter_map(|line| line.split('#').next());
    let names = lines.flat_map(|line| line.split_whitespace().skip(1));
    names.map(str::to_ascii_lowercase).collect()
}

/// Whether others may be told that this is the name of a port or namespace: root's programs ask for names too. None with a dot, which
/// the world's have, none that is read as an address, and none that the host has itself.
fn may_be_told(name: &str, of_host: &BTreeSet<String>) -> bool {
    let is_number = |name: &str| name.chars().all(|c| c.is_ascii_digit()) || name.starts_with("0x");
    let name = name.to_ascii_lowercase();
    !name.contains('.') && !is_number(&name) && !NEVER.contains(&&*name) && !of_host.contains(&name)
}

/// Whether dnsmasq takes it for a name where it may be something else: a host's label, and no word of its own. A time begins with a digit.
fn is_plain(name: &str) -> bool {
    let is_word = WORDS.iter().any(|word| word.eq_ignore_ascii_case(name));
    name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
        && !is_word
}

/// Lines of `/etc/hosts` with the names of all ports and, where no port has it, of namespaces. `own`: the host's own lines.
pub(in super::super) fn names(lab: &Lab, own: &str) -> String {
    let (mut text, mut seen) = (String::new(), BTreeSet::new());
    let of_host = names_in(own);
    let ports = lab.ports.iter().map(|port| (port.name.as_str(), &port.addresses));
    let of_namespaces = lab
        .ports
        .iter()
        .filter_map(|port| Some((port.named_namespace()?.as_str(), &port.addresses)));
    let ends = lab.cables.iter().flat_map(|cable| [&cable.a, &cable.b]);
    let of_ends = ends.map(|end| (end.namespace.as_str(), &end.addresses));
    for group in [ports.collect::<Vec<_>>(), of_namespaces.chain(of_ends).collect()] {
        let before = seen.clone();
        for (name, addresses) in group {
            if before.contains(name) || !may_be_told(name, &of_host) {
                continue;
            }
            seen.insert(name);
            for address in addresses {
                // Cannot fail.
                let _ = writeln!(text, "{} {name}", address.ip());
            }
        }
    }
    text
}

/// Which addresses the ports of a switch have or are pinned to, so that they get one of them by DHCP, and nobody else any. `own`: the
/// host's own lines of names.
fn reservations(lab: &Lab, switch: &Switch, own: &str) -> String {
    let of_host = names_in(own);
    let is_inside = |ip: &IpAddr| ip.is_ipv4() && switch.subnets.iter().any(|net| net.contains(ip));
    let addresses = |port: &Port| Vec::from_iter(port.addresses.iter().map(|address| address.ip()).filter(is_inside));
    let pins = |port: &Port| {
        let pins = port.pin.ip.iter().flatten();
        let single = pins.filter(|net| net.prefix_len() == net.max_prefix_len());
        Vec::from_iter(single.map(IpNet::addr).filter(is_inside))
    };
    let ports = || lab.ports.iter().filter(|port| port.switch == switch.name);
    let (mut text, mut served, mut reserved) = (String::new(), BTreeSet::new(), BTreeSet::new());
    // What a port has comes before what another is pinned to.
    let wanted = ports().map(|port| (port, addresses(port)));
    for (port, ips) in wanted.chain(ports().map(|port| (port, pins(port)))) {
        let free = ips.into_iter().find(|ip| !reserved.contains(ip));
        if let (Some(mac), Some(ip), false) = (port.mac, free, served.contains(&port.name)) {
            let name = Some(port.name.as_str()).filter(|name| is_plain(name) && may_be_told(name, &of_host));
            let name = name.map(|name| format!(",{name}")).unwrap_or_default();
            let _ = writeln!(text, "{mac},{ip}{name}");
            reserved.insert(ip);
            served.insert(&port.name);
        }
    }
    for ip in ports().flat_map(|port| [addresses(port), pins(port)].concat()) {
        if reserved.insert(ip) {
            let _ = writeln!(text, "{NOBODY},{ip}");
        }
    }
    text
}

/// Writes what the lab says of reservations, and `named` of names. Whether something has changed, and the first error: what can be written is.
pub(super) fn write(run_dir: &Path, lab: &Lab, named: &Lab) -> (bool, Option<io::Error>) {
    let own = own_hosts();
    let (mut changed, mut failed) = (false, None);
    let mut keep = |path: PathBuf, text: String| match put(&path, &text) {
        Ok(new) => changed |= new,
        Err(error) => _ = failed.get_or_insert(error),
    };
    let routed = || lab.switches.iter().filter(|switch| switch.gateway.is_on());
    if routed().any(|switch| switch.dns) {
        keep(names_file(run_dir), names(named, &own));
    }
    for switch in routed().filter(|switch| switch.dhcp) {
        keep(hosts_file(run_dir, &switch.name), reservations(lab, switch, &own));
    }
    (changed, failed)
}

/// Removes what is of no switch of the lab any more, leases too.
pub(super) fn remove_stale(run_dir: &Path, lab: &Lab) {
    let routed = || lab.switches.iter().filter(|switch| switch.gateway.is_on());
    let mut wanted: BTreeSet<_> = routed()
        .filter(|switch| switch.dhcp)
        .flat_map(|switch| [hosts_file(run_dir, &switch.name), lease_file(run_dir, &switch.name)])
        .collect();
    if routed().any(|switch| switch.dns) {
        wanted.insert(names_file(run_dir));
    }
    for entry in fs::read_dir(folder(run_dir)).into_iter().flatten().flatten() {
        let (path, name) = (entry.path(), entry.file_name());
        let name = name.to_string_lossy();
        let is_ours = name == "ports" || name.ends_with(".dhcp") || name.ends_with(".leases");
        if is_ours
            && !wanted.contains(&path)
            && let Err(error) = gone_is_fine(fs::remove_file(&path))
        {
            tracing::warn!("{} is left: {error}", path.display());
        }
    }
}

/// In place: who looks at it by another name or mount sees it too.
pub(in super::super) fn put(path: &Path, text: &str) -> io::Result<bool> {
    if fs::read_to_string(path).is_ok_and(|there| there == text) {
        return Ok(false);
    }
    fs::write(path, text)?;
    // dnsmasq gives up its rights before it looks.
    fs::set_permissions(path, fs::Permissions::from_mode(0o644))?;
    Ok(true)
}

/// An address that was leased, and to whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) struct Lease {
    pub mac: vswitch_api::Mac,
    pub ip: Ipv4Addr,
    /// Seconds since the Unix epoch; 0: never.
    pub until: u64,
}

/// The leases of a switch, as the lines of its file tell them.
pub(super) fn leases(lines: &str) -> Vec<Lease> {
    lines.lines().filter_map(lease).collect()
}

/// A line of dnsmasq's: when it ends, MAC, address, name, client id.
fn lease(line: &str) -> Option<Lease> {
    let mut words = line.split_whitespace();
    Some(Lease {
        until: words.next()?.parse().ok()?,
        mac: words.next()?.parse().ok()?,
        ip: words.next()?.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_upper_half_is_leased() {
        for (net, range) in [
            ("10.10.0.0/24", Some(("10.10.0.128", "10.10.0.254"))),
            ("10.10.0.0/29", Some(("10.10.0.4", "10.10.0.6"))),
            ("10.10.0.0/30", Some(("10.10.0.2", "10.10.0.2"))),
        ] {
            let range = range.map(|(a, b)| (a.parse().unwrap(), b.parse().unwrap()));
            assert_eq!(leased(&net.parse().unwrap()), range, "{net}");
        }
    }

    #[test]
    fn a_name_is_that_of_a_port_before_that_of_a_namespace() {
        let lab: Lab = serde_json::from_value(json!({
            "ports": [
                {"name": "red", "namespace": "red", "addresses": ["10.0.0.1/24", "fd00::1/64"]},
                {"name": "r1", "namespace": "router", "addresses": ["10.0.0.9/24"]},
                {"name": "r2", "namespace": "router", "addresses": ["10.1.0.9/24"]},
                {"name": "LocalHost", "namespace": "x", "addresses": ["10.0.0.66/24"]},
                {"name": "deb.debian.org", "addresses": ["10.0.0.66/24"]},
                {"name": "ip6-allrouters", "addresses": ["10.0.0.66/24"]},
                {"name": "1.2.3.4", "addresses": ["10.0.0.66/24"]},
                {"name": "30", "addresses": ["10.0.0.66/24"]},
                {"name": "BOX", "addresses": ["10.0.0.66/24"]}
            ]
        }))
        .unwrap();
        let lines = names(&lab, "127.0.1.1 box.example Box # red\n");
        let lines: Vec<_> = lines.lines().collect();
        assert_eq!(
            lines,
            [
                "10.0.0.1 red",
                "fd00::1 red",
                "10.0.0.9 r1",
                "10.1.0.9 r2",
                "10.0.0.9 router",
                "10.1.0.9 router",
                "10.0.0.66 x"
            ]
        );
    }

    /// `ignore` got no lease, and the second address of a port was leased to another.
    #[test]
    fn what_ports_have_is_reserved_for_them_whatever_they_are_called() {
        let port = |number: usize, name: &str| json!({"name": name, "switch": "lab", "mac": format!("02:00:00:00:00:{number:02x}"), "addresses": [format!("10.0.0.{number}/24")]});
        let names = [
            "web-1",
            "ignore",
            "Infinite",
            "30",
            "2h",
            "a@b",
            "id+x",
            "1.2.3.4",
            "wpad_0",
            "Box",
            "localhost",
        ];
        let mut ports: Vec<_> = names.iter().enumerate().map(|(i, name)| port(i + 1, name)).collect();
        ports[0]["addresses"] = json!(["10.0.0.1/24", "10.0.0.200/24", "fd00::1/64", "10.9.0.1/24"]);
        ports[0]["pin"] = json!({"ip": ["10.0.0.1/32", "10.0.0.222/32", "10.0.0.0/24"]});
        ports.push(json!({"name": "vm", "switch": "lab", "mac": "02:00:00:00:00:aa", "pin": {"ip": ["10.0.0.1/32", "10.0.0.201/32"]}}));
        ports.push(
            json!({"name": "there", "switch": "other", "mac": "02:00:00:00:00:bb", "addresses": ["10.0.0.77/24"]}),
        );
        let lab: Lab = serde_json::from_value(json!({
            "switches": [{"name": "lab", "subnets": ["10.0.0.0/24", "fd00::/64"]}, {"name": "other"}],
            "ports": ports
        }))
        .unwrap();
        let text = reservations(&lab, &lab.switches[0], "127.0.1.1 box\n");
        let mut expected = vec!["02:00:00:00:00:01,10.0.0.1,web-1".to_owned()];
        expected.extend((2..=11).map(|number| format!("02:00:00:00:00:{number:02x},10.0.0.{number}")));
        expected.push("02:00:00:00:00:aa,10.0.0.201,vm".to_owned());
        expected.extend(["id:nobody,10.0.0.200", "id:nobody,10.0.0.222"].map(str::to_owned));
        assert_eq!(text.lines().collect::<Vec<_>>(), expected);
    }

    /// Stations kept their addresses of a prefix that the switch had before.
    #[test]
    fn addresses_of_either_version_are_given_for_a_time() {
        let lab: Lab = serde_json::from_value(json!({
            "switches": [{"name": "lab", "subnets": ["10.0.0.0/24", "10.9.0.0/31", "fd00::/64"], "gateway": "on", "dhcp": true}],
            "ports": [{"name": "lab-gw", "switch": "lab", "kind": "internal", "addresses": ["10.0.0.1/24", "fd00::1/64"]}]
        }))
        .unwrap();
        let arguments = served(&lab)[0].dhcp_arguments();
        let ranges = arguments
            .iter()
            .filter_map(|argument| argument.strip_prefix("--dhcp-range="));
        let ranges = Vec::from_iter(ranges);
        assert_eq!(ranges.len(), 3);
        assert!(ranges.iter().all(|range| range.ends_with(",1h")), "{ranges:?}");
    }

    #[test]
    fn leases_are_read() {
        let found = lease("1790000000 02:76:73:00:00:01 10.10.0.130 vm 01:02:76:73:00:00:01");
        assert_eq!(found.unwrap().ip, Ipv4Addr::new(10, 10, 0, 130));
        for line in ["", "duid 00:01", "1790000000 1234 fd10::5 * 00:01"] {
            assert_eq!(lease(line), None);
        }
    }
}
