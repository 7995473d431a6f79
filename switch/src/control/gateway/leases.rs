//! What was leased by DHCP, and to whom: it is listed with the addresses, and a port that is pinned to its own addresses may use it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::slice;
use std::time::{SystemTime, UNIX_EPOCH};

use ipnet::{IpNet, Ipv6Net};
use vswitch_api::view::AddressView;
use vswitch_api::{ApiError, Lab, Mac, Port, PortName, Switch, SwitchName};
use vswitch_datapath::SwitchId;

use super::super::published::View;
use super::super::{Inner, text};
use super::names::make_folder;
use super::outside::Outside;
use super::serve::{self, Lease, lease_file, leased, leases, put};

/// What is told of addresses that are all leased begins so.
const EXHAUSTED: &str = "DHCP has no address left ";

/// The files of leases as they were read last, and those that were gone since and are back: whoever writes them writes to the old ones.
#[derive(Debug, Default)]
pub(in super::super) struct Kept {
    lines: Lines,
    stale: BTreeSet<SwitchName>,
}

type Lines = BTreeMap<SwitchName, String>;

fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |now| now.as_secs())
}

/// The switches whose addresses are leased.
fn served(lab: &Lab) -> impl Iterator<Item = &Switch> {
    lab.switches
        .iter()
        .filter(|switch| switch.dhcp && switch.gateway.is_on())
}

/// The leases that hold, with their switches. `kept`: what was read last, if a file is gone.
fn all<'a>(run_dir: &'a Path, lab: &'a Lab, kept: Option<&'a Kept>) -> impl Iterator<Item = (&'a Switch, Lease)> {
    let now = now();
    let of = move |switch: &'a Switch| {
        let lines = fs::read_to_string(lease_file(run_dir, &switch.name)).unwrap_or_else(|_| {
            let lines = kept.and_then(|kept| kept.lines.get(&switch.name));
            lines.cloned().unwrap_or_default()
        });
        leases(&lines).into_iter().map(move |lease| (switch, lease))
    };
    served(lab)
        .flat_map(of)
        .filter(move |(_, lease)| lease.until == 0 || lease.until > now)
}

/// What is told of the subnets of which all that can be leased is leased or some port's.
fn exhausted(lab: &Lab, held: &[(&Switch, Lease)]) -> Vec<String> {
    let mut told = Vec::new();
    for switch in served(lab) {
        let ports = lab.ports.iter().filter(|port| port.switch == switch.name);
        let of_ports = ports.flat_map(|port| {
            let pins = port.pin.ip.iter().flatten();
            let single = pins.filter(|net| net.prefix_len() == net.max_prefix_len());
            let addresses = port.addresses.iter().map(|address| address.ip());
            addresses.chain(single.map(IpNet::addr))
        });
        let leased_ones = held.iter().filter(|(of, _)| of.name == switch.name);
        let taken: BTreeSet<_> = of_ports.chain(leased_ones.map(|(_, lease)| lease.ip.into())).collect();
        let ranges = switch.subnets.iter().filter_map(|net| match net {
            IpNet::V4(net) => leased(net),
            IpNet::V6(_) => None,
        });
        for (first, last) in ranges {
            let inside = taken.range(IpAddr::V4(first)..=IpAddr::V4(last)).count();
            if inside as u64 > u64::from(u32::from(last) - u32::from(first)) {
                told.push(words(switch, first, last));
            }
        }
    }
    told
}

fn words(switch: &Switch, first: Ipv4Addr, last: Ipv4Addr) -> String {
    let name = &switch.name;
    format!(
        "{EXHAUSTED}on switch \"{name}\": all from {first} to {last} are taken, and another station gets none; a larger subnet has more: \
         `vswitchctl set switch {name} subnets=NET`"
    )
}

fn owner<'a>(lab: &'a Lab, switch: &Switch, mac: Mac) -> Option<&'a Port> {
    let mut ports = lab.ports.iter().filter(|port| port.switch == switch.name);
    ports.find(|port| port.mac == Some(mac))
}

/// Which port of a switch has which addresses, as the lab has it.
struct Claims<'a> {
    single: BTreeMap<(&'a SwitchName, IpAddr), Vec<&'a PortName>>,
    nets: Vec<(&'a SwitchName, &'a IpNet, &'a PortName)>,
}

impl<'a> Claims<'a> {
    fn of(lab: &'a Lab) -> Self {
        let (mut single, mut nets) = (BTreeMap::<_, Vec<_>>::new(), Vec::new());
        for port in &lab.ports {
            let switch = lab.switches.iter().find(|switch| switch.name == port.switch);
            let subnets = switch.map_or(&[][..], |switch| &switch.subnets);
            for address in &port.addresses {
                single.entry((&port.switch, address.ip())).or_default().push(&port.name);
            }
            for net in port.pin.ip.iter().flatten() {
                if net.prefix_len() == net.max_prefix_len() {
                    single.entry((&port.switch, net.addr())).or_default().push(&port.name);
                } else if !subnets.iter().any(|subnet| net.contains(subnet)) {
                    // Who may use any address of a subnet has none of them to itself.
                    nets.push((&port.switch, net, &port.name));
                }
            }
        }
        Self { single, nets }
    }

    /// Whether another port has the address.
    fn is_anothers(&self, port: &Port, ip: IpAddr) -> bool {
        let others = self.single.get(&(&port.switch, ip));
        let is_single = others.is_some_and(|names| names.iter().any(|name| **name != port.name));
        is_single
            || self
                .nets
                .iter()
                .any(|(switch, net, name)| **switch == port.switch && **name != port.name && net.contains(&ip))
    }
}

/// What of the leases is ports'. None is whose address another port has: a server may know less than the lab, and what it leases becomes
/// what a pinned port may use. It leases an address to one at a time.
fn by_port<'a>(lab: &'a Lab, held: impl Iterator<Item = (&'a Switch, Lease)>) -> BTreeMap<PortName, Vec<IpAddr>> {
    let mut by_port: BTreeMap<PortName, Vec<IpAddr>> = BTreeMap::new();
    let mut claims = None;
    for (switch, lease) in held {
        let Some(port) = owner(lab, switch, lease.mac) else {
            continue;
        };
        let claims = claims.get_or_insert_with(|| Claims::of(lab));
        if !claims.is_anothers(port, lease.ip.into()) {
            by_port.entry(port.name.clone()).or_default().push(lease.ip.into());
        }
    }
    for (port, ip) in advertised(lab) {
        let claims = claims.get_or_insert_with(|| Claims::of(lab));
        if !claims.is_anothers(port, ip) {
            by_port.entry(port.name.clone()).or_default().push(ip);
        }
    }
    by_port
}

/// What ports that are pinned to their own addresses make for themselves of router advertisements of their gateways, and of the MAC
/// addresses that are theirs.
fn advertised(lab: &Lab) -> Vec<(&Port, IpAddr)> {
    let served = lab.switches.iter().filter(|s| s.dhcp && s.gateway.is_on());
    let served: BTreeMap<_, _> = served.map(|switch| (&switch.name, switch)).collect();
    let mut found = Vec::new();
    for port in lab
        .ports
        .iter()
        .filter(|port| port.pin.ip.as_ref().is_some_and(Vec::is_empty))
    {
        let subnets = served.get(&port.switch).into_iter().flat_map(|switch| &switch.subnets);
        let listed = port.pin.mac.as_deref().filter(|macs| !macs.is_empty());
        let macs = listed.unwrap_or(port.mac.as_slice());
        for subnet in subnets {
            if let IpNet::V6(net) = subnet {
                found.extend(macs.iter().map(|mac| (port, made_of(*mac, net))));
            }
        }
    }
    found
}

/// RFC 4291 appendix A.
fn made_of(mac: Mac, net: &Ipv6Net) -> IpAddr {
    let [a, b, c, d, e, f] = mac.0;
    let id = u64::from_be_bytes([a ^ 2, b, c, 0xff, 0xfe, d, e, f]);
    IpAddr::V6((u128::from(net.network()) | u128::from(id)).into())
}

impl Inner {
    /// Looks whether ports were leased, or made of what is advertised, other addresses than before.
    pub(in super::super) fn look_at_leases(&mut self) {
        self.keep_lease_files();
        let lab = &self.store.state.lab;
        let held: Vec<_> = all(&self.host.run_dir, lab, Some(&self.live.gateways.kept_leases)).collect();
        let exhausted = exhausted(lab, &held);
        let by_port = by_port(lab, held.into_iter());
        self.tell_limits(EXHAUSTED, exhausted);
        if by_port == self.live.gateways.leases {
            return;
        }
        let before = std::mem::replace(&mut self.live.gateways.leases, by_port);
        let pinned = self.store.state.lab.ports.iter().filter(|port| port.pin.ip.is_some());
        for port in pinned {
            if before.get(&port.name) != self.live.gateways.leases.get(&port.name) {
                self.update_in_datapath(port);
            }
        }
        // Those are called by their names.
        let lab = self.store.state.lab.clone();
        self.fit_names(&lab);
    }

    /// Puts the files of leases back that somebody took away: without them those who hold one would be cut off, and others get theirs.
    fn keep_lease_files(&mut self) {
        let run_dir = &self.host.run_dir;
        let names: BTreeSet<_> = served(&self.store.state.lab)
            .map(|switch| switch.name.clone())
            .collect();
        let Kept { lines, stale } = &mut self.live.gateways.kept_leases;
        lines.retain(|name, _| names.contains(name));
        stale.retain(|name| names.contains(name));
        for name in names {
            let file = lease_file(run_dir, &name);
            match fs::read_to_string(&file) {
                Ok(text) => _ = lines.insert(name, text),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    let Some(text) = lines.get(&name) else { continue };
                    match make_folder(run_dir).and_then(|()| put(&file, text)) {
                        Ok(_) => tracing::warn!("{} was gone and is back", file.display()),
                        Err(error) => tracing::warn!("{} is gone and can't be put back: {error}", file.display()),
                    }
                    stale.insert(name);
                }
                Err(error) => tracing::debug!("{}: {error}", file.display()),
            }
        }
    }

    /// Has those that write files of leases that are gone begin anew, with the files that are there.
    pub(in super::super) async fn renew_lease_files(&mut self) {
        let stale = std::mem::take(&mut self.live.gateways.kept_leases.stale);
        if stale.is_empty() {
            return;
        }
        // What else they read may be gone too.
        if let (_, Some(error)) = serve::write(
            &self.host.run_dir,
            &self.store.state.lab,
            &self.with_leases(&self.store.state.lab),
        ) {
            tracing::warn!("dnsmasq is not told of all ports: {error}");
        }
        let services = Outside::of(&self.store.state.lab).services;
        for served in services.iter().filter(|served| stale.contains(&served.switch)) {
            let served = slice::from_ref(served);
            let mut warnings = Vec::new();
            let renewed = async {
                self.change_services(served, &[], &mut warnings).await?;
                self.change_services(&[], served, &mut warnings).await
            };
            if let Err(error) = renewed.await {
                tracing::warn!("dnsmasq is tried again soon: {error}");
                self.live.gateways.kept_leases.stale.insert(served[0].switch.clone());
            }
            warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
        }
    }

    /// Refuses to give a port, in a lab that follows on `before`, an address that another was leased and may use.
    pub(in super::super) fn refuse_leased(&self, before: &Lab, after: &Lab) -> Result<(), ApiError> {
        if after.switches.iter().all(|switch| !switch.dhcp) {
            return Ok(());
        }
        let had = |name: &PortName, address| {
            before
                .ports
                .iter()
                .any(|port| port.name == *name && port.addresses.contains(address))
        };
        let new = after
            .ports
            .iter()
            .flat_map(|port| port.addresses.iter().map(move |address| (port, address)));
        let mut held = None;
        for (port, address) in new.filter(|(port, address)| !had(&port.name, address)) {
            let held: &Vec<_> = held.get_or_insert_with(|| {
                all(&self.host.run_dir, before, Some(&self.live.gateways.kept_leases)).collect()
            });
            let its = |(switch, lease): &&(&Switch, Lease)| {
                switch.name == port.switch && IpAddr::from(lease.ip) == address.ip()
            };
            let Some((switch, lease)) = held.iter().find(its).filter(|(_, lease)| port.mac != Some(lease.mac)) else {
                continue;
            };
            let whose = match owner(before, switch, lease.mac) {
                Some(owner) => text::port(&owner.name),
                None => format!("station {}", lease.mac),
            };
            let cause = format!("address {} is leased by DHCP to {whose}", address.ip());
            return Err(text::conflict(text::port(&port.name), cause)
                .hint("choose another one; `vswitchctl addr list` shows which are taken"));
        }
        Ok(())
    }

    /// What a port was leased, and what it makes of what is advertised.
    pub(in super::super) fn leases_of(&self, port: &Port) -> &[IpAddr] {
        self.live.gateways.leases.get(&port.name).map_or(&[], Vec::as_slice)
    }
}

impl View {
    /// What was leased behind which port: the one whose address the client has, or behind which it was learned.
    pub(in super::super) fn leases(&self) -> Vec<AddressView> {
        let lab = &self.state.lab;
        let now = now();
        let view = |(switch, lease): (&Switch, Lease)| {
            let port = match owner(lab, switch, lease.mac) {
                Some(port) => port.name.clone(),
                None => self.learned_behind(*self.switches.get(&switch.name)?, lease.mac)?,
            };
            let subnet = switch
                .subnets
                .iter()
                .find(|net| net.contains(&std::net::IpAddr::V4(lease.ip)))?;
            Some(AddressView {
                port,
                switch: switch.name.clone(),
                address: format!("{}/{}", lease.ip, subnet.prefix_len()).parse().ok()?,
                lease_secs: Some(lease.until.saturating_sub(now)),
                missing: false,
            })
        };
        all(&self.run_dir, lab, None).filter_map(view).collect()
    }

    fn learned_behind(&self, switch: SwitchId, mac: Mac) -> Option<PortName> {
        let found = self.datapath.fdb(switch).into_iter().find(|record| record.mac == mac)?;
        let mut ports = self.ports.iter();
        let port = ports.find(|(_, live)| live.id.is_some_and(|id| id.id == found.port));
        port.map(|(name, _)| name.clone())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// A pinned station had another's address leased to it, and spoofed it.
    #[test]
    fn a_lease_of_what_another_port_has_widens_no_pin() {
        let lab: Lab = serde_json::from_value(json!({
            "switches": [{"name": "lab", "subnets": ["10.0.0.0/24"]}, {"name": "other"}],
            "ports": [
                {"name": "red", "switch": "lab", "mac": "02:00:00:00:00:01", "addresses": ["10.0.0.1/24"], "pin": {"ip": "own"}},
                {"name": "multi", "switch": "lab", "mac": "02:00:00:00:00:02", "addresses": ["10.0.0.5/24", "10.0.0.200/24"]},
                {"name": "vm", "switch": "lab", "pin": {"ip": ["10.0.0.201/32", "10.0.0.208/29"]}},
                {"name": "any", "switch": "lab", "pin": {"ip": ["10.0.0.0/24"]}},
                {"name": "there", "switch": "other", "addresses": ["10.0.0.220/24"]}
            ]
        }))
        .unwrap();
        let leases = [1, 200, 201, 210, 220, 230].map(|last| Lease {
            mac: "02:00:00:00:00:01".parse().unwrap(),
            ip: Ipv4Addr::new(10, 0, 0, last),
            until: 0,
        });
        let held = leases.into_iter().map(|lease| (&lab.switches[0], lease));
        let found = by_port(&lab, held);
        let own = [1, 220, 230].map(|last| IpAddr::from([10, 0, 0, last])).to_vec();
        assert_eq!(found, BTreeMap::from([("red".parse().unwrap(), own)]));
    }

    #[test]
    fn a_range_that_is_all_taken_is_told_of() {
        let lab: Lab = serde_json::from_value(json!({
            "switches": [{"name": "lab", "subnets": ["10.0.0.0/29", "fd00::/64"], "gateway": true, "dhcp": true}],
            "ports": [
                {"name": "red", "switch": "lab", "addresses": ["10.0.0.5/29", "10.0.0.2/29"]},
                {"name": "vm", "switch": "lab", "pin": {"ip": ["10.0.0.5/32"]}}
            ]
        }))
        .unwrap();
        let leases = [4, 5, 6].map(|last| Lease {
            mac: "02:00:00:00:00:01".parse().unwrap(),
            ip: Ipv4Addr::new(10, 0, 0, last),
            until: 0,
        });
        let held: Vec<_> = leases.into_iter().map(|lease| (&lab.switches[0], lease)).collect();
        let told = exhausted(&lab, &held);
        assert!(
            told.len() == 1 && told[0].contains("from 10.0.0.4 to 10.0.0.6"),
            "{told:?}"
        );
        assert_eq!(exhausted(&lab, &held[..2]), [""; 0]);
    }

    /// The switch advertised the subnet, and the pin dropped what came from the address that the station made of it.
    #[test]
    fn a_station_that_is_pinned_to_its_own_may_use_what_it_makes_of_what_is_advertised() {
        let lab = |dhcp: bool| -> Lab {
            serde_json::from_value(json!({
                "switches": [{"name": "lab", "subnets": ["10.0.0.0/24", "fd10::/64"], "gateway": true, "dhcp": dhcp}],
                "ports": [
                    {"name": "red", "switch": "lab", "mac": "02:00:00:00:00:01", "pin": {"ip": "own"}},
                    {"name": "vm", "switch": "lab", "mac": "02:00:00:00:00:02", "pin": {"ip": "own", "mac": ["52:54:00:00:00:09"]}},
                    {"name": "listed", "switch": "lab", "mac": "02:00:00:00:00:03", "pin": {"ip": ["10.0.0.9/32"]}},
                    {"name": "other", "switch": "main", "mac": "02:00:00:00:00:04", "pin": {"ip": "own"}}
                ]
            }))
            .unwrap()
        };
        let may = |name: &str, ip: &str| (name.parse::<PortName>().unwrap(), vec![ip.parse::<IpAddr>().unwrap()]);
        let expected = BTreeMap::from([may("red", "fd10::ff:fe00:1"), may("vm", "fd10::5054:ff:fe00:9")]);
        assert_eq!(by_port(&lab(true), [].into_iter()), expected);
        assert!(by_port(&lab(false), [].into_iter()).is_empty());
    }
}
