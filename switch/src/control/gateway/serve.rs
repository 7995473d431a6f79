//! DHCP, router advertisements and DNS at gateways, by `dnsmasq`: which of them run, and what they are told.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use ipnet::{IpNet, Ipv4Net};
use vswitch_api::{ApiError, ErrorCode, IfName, Lab, Ready, Switch, SwitchName};

use super::super::kinds::ifname;
use super::super::processes::Process;

const PROGRAM: &str = "dnsmasq";
/// Where it is looked for beside `PATH`.
const FOLDERS: [&str; 2] = ["/usr/sbin", "/usr/local/sbin"];
const LEASE: &str = "1h";
/// Names that are no port's, whatever ports are called.
const NEVER: [&str; 4] = ["localhost", "ip6-localhost", "ip6-loopback", "ip6-allnodes"];

/// The services of one switch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) struct Served {
    pub switch: SwitchName,
    pub gateway: IfName,
    /// Addresses of the gateway.
    addresses: Vec<IpAddr>,
    subnets: Vec<IpNet>,
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
            // Names without a dot are ports', and nobody else's.
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
        let mut arguments = vec!["--dhcp-authoritative".to_owned()];
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
                    arguments.push(format!("--dhcp-range={},{mode},{}", net.network(), net.prefix_len()));
                }
            }
        }
        // A gateway on the link of the subnet is not its own, which is what is told else.
        let v4 = self.addresses.iter().find(|ip| ip.is_ipv4());
        arguments.extend(v4.map(|ip| format!("--dhcp-option=option:router,{ip}")));
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

/// Lines of `/etc/hosts` with the names of all ports and, where no port has it, of namespaces.
pub(in super::super) fn names(lab: &Lab) -> String {
    let (mut text, mut seen) = (String::new(), BTreeSet::new());
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
            if before.contains(name) || NEVER.contains(&name) {
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

/// Which addresses the ports of a switch have, so that they get the same by DHCP, and nobody else.
fn reservations(lab: &Lab, switch: &Switch) -> String {
    let mut text = String::new();
    for port in lab.ports.iter().filter(|port| port.switch == switch.name) {
        let mut addresses = port.addresses.iter().map(|address| address.ip());
        let own = addresses.find(|ip| ip.is_ipv4() && switch.subnets.iter().any(|net| net.contains(ip)));
        if let (Some(mac), Some(ip)) = (port.mac, own) {
            let _ = writeln!(text, "{mac},{ip},{}", port.name);
        }
    }
    text
}

/// Writes what the lab says of names and reservations, and removes what is of no lab any more. Whether something has changed.
pub(super) fn write(run_dir: &Path, lab: &Lab) -> io::Result<bool> {
    let mut files = Vec::new();
    for switch in lab.switches.iter().filter(|switch| switch.gateway.is_on()) {
        if switch.dns {
            files.push((names_file(run_dir), names(lab)));
        }
        if switch.dhcp {
            files.push((hosts_file(run_dir, &switch.name), reservations(lab, switch)));
        }
    }
    let mut changed = false;
    for (path, text) in &files {
        changed |= put(path, text)?;
    }
    let mut wanted: BTreeSet<_> = files.into_iter().map(|(path, _)| path).collect();
    let with_dhcp = lab
        .switches
        .iter()
        .filter(|switch| switch.dhcp && switch.gateway.is_on());
    wanted.extend(with_dhcp.map(|switch| lease_file(run_dir, &switch.name)));
    for entry in fs::read_dir(folder(run_dir)).into_iter().flatten().flatten() {
        let (path, name) = (entry.path(), entry.file_name());
        let name = name.to_string_lossy();
        let is_ours = name == "ports" || name.ends_with(".dhcp") || name.ends_with(".leases");
        if is_ours && !wanted.contains(&path) {
            fs::remove_file(path)?;
        }
    }
    Ok(changed)
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

/// The leases of a switch.
pub(in super::super) fn leases(run_dir: &Path, switch: &SwitchName) -> Vec<Lease> {
    let text = fs::read_to_string(lease_file(run_dir, switch)).unwrap_or_default();
    text.lines().filter_map(lease).collect()
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
                {"name": "localhost", "namespace": "x", "addresses": ["10.0.0.66/24"]}
            ]
        }))
        .unwrap();
        let lines = names(&lab);
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

    #[test]
    fn leases_are_read() {
        let found = lease("1790000000 02:76:73:00:00:01 10.10.0.130 vm 01:02:76:73:00:00:01");
        assert_eq!(found.unwrap().ip, Ipv4Addr::new(10, 10, 0, 130));
        for line in ["", "duid 00:01", "1790000000 1234 fd10::5 * 00:01"] {
            assert_eq!(lease(line), None);
        }
    }
}
