//! From the lab's word on policies to what the datapath runs.

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use vswitch_api::acl::AclRule;
use vswitch_api::{Port, Switch};

use super::{Inner, LivePort};
use vswitch_datapath::acl::Acl;
use vswitch_datapath::pin::PinTable;
use vswitch_datapath::policy::{PLAIN, PortPolicy};
use vswitch_datapath::{PortSettings, SwitchSettings};

/// What the datapath is told of a switch.
pub(super) fn switch_settings(switch: &Switch) -> SwitchSettings {
    SwitchSettings {
        reserved: switch.reserved_multicast,
        vlan_limit: switch.vlan_limit,
        rspan: switch.rspan_vlans.as_slice().into(),
    }
}

/// What the datapath is told of a port whose interface has this MTU. `before`: what it was told last; a list that stays as
/// it is goes on counting, and rules that stay have used of their rates what they had.
/// `leased`: addresses that it was given by DHCP.
pub(super) fn port_settings(port: &Port, leased: &[IpAddr], mtu: u32, shut: bool, before: &PortPolicy) -> PortSettings {
    let policy = PortPolicy {
        learning: port.learning,
        flooding: port.flooding,
        isolation: port.isolation,
        pin: pin_table(port, leased),
        acl_in: acl(&port.acl.ingress, before.acl_in.as_ref()),
        acl_out: acl(&port.acl.egress, before.acl_out.as_ref()),
        ..PortPolicy::of_vlans(&port.vlan, port.accept)
    };
    PortSettings {
        mtu,
        up: port.up && !shut,
        offload: port.offload,
        policy: (policy != *PLAIN).then(|| Arc::new(policy)),
    }
}

fn acl(rules: &[AclRule], before: Option<&Arc<Acl>>) -> Option<Arc<Acl>> {
    match before {
        Some(before) if before.rules() == rules => Some(before.clone()),
        _ => (!rules.is_empty()).then(|| Arc::new(Acl::going_on(rules, before.map(|before| &**before)))),
    }
}

/// An empty list stands for the addresses that vswitch gave the port.
fn pin_table(port: &Port, leased: &[IpAddr]) -> Option<PinTable> {
    let own_mac = Vec::from_iter(port.mac);
    let macs = port
        .pin
        .mac
        .as_ref()
        .map(|macs| if macs.is_empty() { &own_mac } else { macs });
    let given = port.addresses.iter().map(|address| address.ip());
    let own_ips: Vec<_> = given.chain(leased.iter().copied()).map(IpNet::from).collect();
    let ips = port
        .pin
        .ip
        .as_ref()
        .map(|ips| if ips.is_empty() { &own_ips } else { ips });
    let table = || PinTable::new(macs.map(Vec::as_slice), ips.map(Vec::as_slice)).with_router(port.pin.allow_ra);
    (macs.is_some() || ips.is_some()).then(table)
}

impl Inner {
    /// Tells the datapath what the lab and the moment want of a port.
    pub(super) fn update_in_datapath(&self, port: &Port) {
        if let Some(LivePort { id: Some(id), mtu, .. }) = self.live.ports.get(&port.name) {
            let shut = self.shut.contains(&port.name);
            let snapshot = self.datapath.snapshot();
            let before = snapshot.find(*id).map_or(&*PLAIN, |port| port.policy());
            self.datapath
                .update_port(*id, port_settings(port, self.leases_of(port), *mtu, shut, before));
        }
    }
}
