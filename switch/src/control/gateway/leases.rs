//! What was leased by DHCP, and to whom: it is listed with the addresses, and a port that is pinned to its own addresses may use it.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::{SystemTime, UNIX_EPOCH};

use vswitch_api::view::AddressView;
use vswitch_api::{Lab, Mac, Port, PortName, Switch};
use vswitch_datapath::SwitchId;

use super::super::Inner;
use super::super::published::View;
use super::serve::{Lease, leases};

fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |now| now.as_secs())
}

/// Those that hold, with their switches.
fn all<'a>(run_dir: &'a std::path::Path, lab: &'a Lab) -> impl Iterator<Item = (&'a Switch, Lease)> {
    let now = now();
    let served = lab
        .switches
        .iter()
        .filter(|switch| switch.dhcp && switch.gateway.is_on());
    let of = move |switch: &'a Switch| {
        leases(run_dir, &switch.name)
            .into_iter()
            .map(move |lease| (switch, lease))
    };
    served
        .flat_map(of)
        .filter(move |(_, lease)| lease.until == 0 || lease.until > now)
}

fn owner<'a>(lab: &'a Lab, switch: &Switch, mac: Mac) -> Option<&'a Port> {
    let mut ports = lab.ports.iter().filter(|port| port.switch == switch.name);
    ports.find(|port| port.mac == Some(mac))
}

impl Inner {
    /// Looks whether ports were leased other addresses than before.
    pub(in super::super) fn look_at_leases(&mut self) {
        let lab = &self.store.state.lab;
        let mut by_port: BTreeMap<PortName, Vec<Ipv4Addr>> = BTreeMap::new();
        for (switch, lease) in all(&self.host.run_dir, lab) {
            if let Some(port) = owner(lab, switch, lease.mac) {
                by_port.entry(port.name.clone()).or_default().push(lease.ip);
            }
        }
        if by_port == self.live.leases {
            return;
        }
        let before = std::mem::replace(&mut self.live.leases, by_port);
        let pinned = self.store.state.lab.ports.iter().filter(|port| port.pin.ip.is_some());
        for port in pinned {
            if before.get(&port.name) != self.live.leases.get(&port.name) {
                self.update_in_datapath(port);
            }
        }
    }

    /// What a port was leased.
    pub(in super::super) fn leases_of(&self, port: &Port) -> &[Ipv4Addr] {
        self.live.leases.get(&port.name).map_or(&[], Vec::as_slice)
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
            })
        };
        all(&self.run_dir, lab).filter_map(view).collect()
    }

    fn learned_behind(&self, switch: SwitchId, mac: Mac) -> Option<PortName> {
        let found = self.datapath.fdb(switch).into_iter().find(|record| record.mac == mac)?;
        let mut ports = self.ports.iter();
        let port = ports.find(|(_, live)| live.id.is_some_and(|id| id.id == found.port));
        port.map(|(name, _)| name.clone())
    }
}
