//! A switch whose stations are in the hand of the test. No root, no threads: when a call returns, all frames have gone their way.

use std::sync::Arc;

use vswitch_api::Mac;
use vswitch_api::policy::{AcceptFrames, PortVlan, TagKind, Trunk};
use vswitch_api::view::PortCounters;
use vswitch_datapath::acl::Acl;
use vswitch_datapath::frame::{VNET_HDR_LEN, VnetHeader};
use vswitch_datapath::memory::{MemoryPort, MemoryStation};
use vswitch_datapath::policy::{PLAIN, PortPolicy};
use vswitch_datapath::punt::AgentId;
use vswitch_datapath::trace::Stage;
use vswitch_datapath::vlan::VlanPort;
use vswitch_datapath::{
    Datapath, DatapathConfig, DropReason, PortId, PortRef, PortSettings, PortSetup, SwitchId, SwitchSettings,
    SwitchSetup, guard,
};

pub struct Lab {
    pub datapath: Datapath,
    pub switch: SwitchId,
}

/// A port, and the station behind it.
pub struct Port {
    pub id: PortRef,
    station: MemoryStation,
}

impl Lab {
    pub fn new() -> Self {
        Self::with(SwitchSettings::default())
    }

    pub fn with(settings: SwitchSettings) -> Self {
        let datapath = Datapath::by_hand(&DatapathConfig::default()).unwrap();
        datapath.set_punts(&[guard::punt(AgentId(0))]);
        let fdb_capacity = 1024;
        let switch = datapath.add_switch(SwitchSetup { fdb_capacity, settings });
        Self { datapath, switch }
    }

    /// A port that takes all frames as they are.
    pub fn port(&self) -> Port {
        self.port_with(settings())
    }

    pub fn ports<const N: usize>(&self) -> [Port; N] {
        std::array::from_fn(|_| self.port())
    }

    /// A port with this policy.
    pub fn port_under(&self, policy: PortPolicy) -> Port {
        self.port_with(PortSettings {
            policy: Some(Arc::new(policy)),
            ..settings()
        })
    }

    pub fn port_with(&self, settings: PortSettings) -> Port {
        let (io, station) = MemoryPort::new(true).unwrap();
        let switch = self.switch;
        let id = self.datapath.add_port(PortSetup { switch, io, settings }).unwrap();
        Port { id, station }
    }

    /// Sends a frame with nothing left to be done, and lets it go its way.
    pub fn send(&self, from: &Port, frame: &[u8]) {
        self.send_with(from, &VnetHeader::default(), frame);
    }

    pub fn send_with(&self, from: &Port, header: &VnetHeader, frame: &[u8]) {
        assert!(from.station.send_with(header, frame));
        while self.datapath.turn() {}
    }

    /// Sends a frame, and holds what each of `ports` got against what is expected; those that are not named there get nothing.
    #[track_caller]
    pub fn check(&self, ports: &[&Port], from: &Port, frame: &[u8], expected: &[(&Port, &[u8])]) {
        self.send(from, frame);
        for port in ports {
            let named = expected.iter().filter(|(to, _)| to.id == port.id);
            let wanted: Vec<_> = named.map(|(_, frame)| frame.to_vec()).collect();
            assert_eq!(port.received(), wanted, "at {:?}", port.id);
        }
    }

    /// Behind which port a station is.
    pub fn place(&self, vlan: u16, station: Mac) -> Option<PortId> {
        let all = self.datapath.fdb(self.switch).into_iter();
        let mut known = all.filter(|entry| entry.vlan == vlan && entry.mac == station);
        known.next().map(|entry| entry.port)
    }

    pub fn counters(&self, port: &Port) -> PortCounters {
        self.datapath.counters(port.id)
    }

    /// How often frames from a port were dropped for a reason.
    pub fn drops(&self, port: &Port, reason: DropReason) -> u64 {
        let counters = self.counters(port);
        let drops = if reason.is_egress() {
            counters.tx_drops
        } else {
            counters.rx_drops
        };
        drops.get(reason.as_str()).copied().unwrap_or(0)
    }

    pub fn trace(&self, port: &Port, frame: &[u8]) -> Vec<Stage> {
        let wire = [&[0; VNET_HDR_LEN][..], frame].concat();
        self.datapath.trace(port.id, &wire).unwrap()
    }
}

impl Port {
    /// Frames that came out of the switch, with their virtio-net headers.
    pub fn received_with(&self) -> Vec<(VnetHeader, Vec<u8>)> {
        let all = std::iter::from_fn(|| self.station.receive());
        all.map(|wire| {
            let (header, frame) = wire.split_first_chunk().unwrap();
            (VnetHeader::parse(header).unwrap(), frame.to_vec())
        })
        .collect()
    }

    /// Frames that came out of the switch.
    pub fn received(&self) -> Vec<Vec<u8>> {
        self.received_with().into_iter().map(|(_, frame)| frame).collect()
    }
}

/// Of a port that takes all frames as they are.
pub fn settings() -> PortSettings {
    PortSettings {
        mtu: 1500,
        up: true,
        offload: true,
        policy: None,
    }
}

/// What a port lets through whose VLANs are these.
pub fn vlan(vlan: &PortVlan) -> PortPolicy {
    PortPolicy {
        vlan: VlanPort::new(vlan, AcceptFrames::All),
        vlan_aware: true,
        ..PLAIN.clone()
    }
}

pub fn access(id: &str) -> PortPolicy {
    vlan(&PortVlan::Access(id.parse().unwrap()))
}

pub fn trunk(allowed: &str, native: Option<&str>) -> PortPolicy {
    vlan(&PortVlan::Trunk(Trunk {
        allowed: allowed.parse().unwrap(),
        native: native.map(|id| id.parse().unwrap()),
        tag: TagKind::Customer,
    }))
}

pub fn acl(rules: &[&str]) -> Option<Arc<Acl>> {
    let rules: Vec<_> = rules.iter().map(|rule| rule.parse().unwrap()).collect();
    Some(Arc::new(Acl::new(&rules)))
}

/// The n-th station.
pub fn mac(n: u8) -> Mac {
    Mac([2, 0, 0, 0, 0, n])
}

/// A frame of 60 bytes that is told from others by `mark`.
pub fn frame(dst: Mac, src: Mac, mark: u8) -> Vec<u8> {
    [&dst.0[..], &src.0, &[0x88, 0xb6], &[mark; 46]].concat()
}

/// A frame with a tag in front of its EtherType.
pub fn tagged(frame: &[u8], tpid: u16, tci: u16) -> Vec<u8> {
    [&frame[..12], &tpid.to_be_bytes(), &tci.to_be_bytes(), &frame[12..]].concat()
}
