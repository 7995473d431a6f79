//! What is counted.

use std::hint::black_box;
use std::sync::Arc;

use anyhow::{Context, Result, anyhow};
use vswitch_api::acl::AclRule;
use vswitch_api::policy::{AcceptFrames, PortVlan, TagKind, Trunk};
use vswitch_datapath::acl::Acl;
use vswitch_datapath::batch::{Batch, MAX_BATCH};
use vswitch_datapath::forward::{OutputLists, forward};
use vswitch_datapath::frame::VNET_HDR_LEN;
use vswitch_datapath::memory::MemoryPort;
use vswitch_datapath::policy::{PLAIN, PortPolicy};
use vswitch_datapath::snapshot::{PortEntry, Snapshot};
use vswitch_datapath::vlan::VlanPort;
use vswitch_datapath::{Datapath, DatapathConfig, PortSettings, PortSetup, SwitchSettings, SwitchSetup};

const BATCHES: u64 = 200;
/// Of a case.
pub const FRAMES: u64 = BATCHES * MAX_BATCH as u64;
/// Seconds of the datapath's clock.
const NOW: u32 = 1_000;
/// A flood goes to all but the first of them.
const PORTS: usize = 9;
/// A station that is known to be behind the second port.
const KNOWN: [u8; 6] = [2, 0, 0, 0, 0, 9];
const VLAN: u16 = 10;

/// Policies of the first port, where the frames come in, and of the others.
type Policies = Result<[Option<PortPolicy>; 2]>;

/// What is measured.
pub struct Case {
    pub name: &'static str,
    policies: fn() -> Policies,
    /// The n-th frame.
    frame: fn(u64) -> Vec<u8>,
}

pub const CASES: [Case; 7] = [
    Case {
        name: "plain",
        policies: || Ok([None, None]),
        frame: |n| udp(KNOWN, n % 64),
    },
    Case {
        name: "flood to 8 ports",
        policies: || Ok([None, None]),
        frame: |n| udp([0xff; 6], n % 64),
    },
    Case {
        name: "learn",
        policies: || Ok([None, None]),
        frame: |n| udp(KNOWN, n),
    },
    Case {
        name: "policy",
        policies: || {
            let mut policy = PLAIN.clone();
            policy.learning.limit = Some(1_000);
            Ok([Some(policy), None])
        },
        frame: |n| udp(KNOWN, n % 64),
    },
    Case {
        name: "trunk to access port",
        policies: || {
            let trunk = PortVlan::Trunk(Trunk {
                allowed: "10,20-29".parse()?,
                native: None,
                tag: TagKind::default(),
            });
            Ok([Some(vlan(&trunk)), Some(vlan(&PortVlan::Access("10".parse()?)))])
        },
        frame: |n| {
            let mut frame = udp(KNOWN, n % 64);
            frame.splice(12..12, [0x81, 0x00, 0, VLAN as u8]);
            frame
        },
    },
    Case {
        name: "1000 rules of one shape",
        policies: || acl(|n| format!("deny udp to 10.{}.{}.0/24 port 53", n >> 8, n & 255)),
        frame: |n| udp(KNOWN, n % 64),
    },
    Case {
        name: "1000 rules of ten shapes",
        policies: || {
            acl(|n| {
                format!(
                    "deny udp to 10.{}.{}.{}/{} port 53",
                    n >> 8,
                    n & 255,
                    n % 2,
                    23 + n % 10
                )
            })
        },
        frame: |n| udp(KNOWN, n % 64),
    },
];

fn vlan(vlan: &PortVlan) -> PortPolicy {
    PortPolicy {
        vlan: VlanPort::new(vlan, AcceptFrames::All),
        vlan_aware: true,
        ..PLAIN.clone()
    }
}

fn acl(rule: impl Fn(u32) -> String) -> Policies {
    let rules = (0..1_000).map(|n| rule(n).parse::<AclRule>());
    let policy = PortPolicy {
        acl_in: Some(Arc::new(Acl::new(&rules.collect::<Result<Vec<_>, _>>()?))),
        ..PLAIN.clone()
    };
    Ok([Some(policy), None])
}

/// A UDP frame of 60 bytes, to an address and a port that no rule names.
fn udp(dst: [u8; 6], station: u64) -> Vec<u8> {
    let [a, b, c, d, ..] = station.to_le_bytes();
    let mut frame = [&dst[..], &[2, 1, a, b, c, d], &[0x08, 0x00]].concat();
    frame.extend([0x45, 0, 0, 46, 0, 0, 0, 0, 64, 17, 0, 0, 10, 200, 0, 1, 10, 200, 0, 2]);
    frame.extend([0x10, 0, 0x20, 0, 0, 26, 0, 0]);
    frame.resize(60, 0);
    frame
}

/// Makes a switch and lets it decide on the frames of `case`.
pub fn run(case: &Case) -> Result<()> {
    let datapath = Datapath::by_hand(&DatapathConfig::default())?;
    let switch = datapath.add_switch(SwitchSetup {
        fdb_capacity: 65_536,
        settings: SwitchSettings::default(),
    });
    let [first, others] = (case.policies)()?;
    let mut ports = Vec::new();
    for n in 0..PORTS {
        let policy = if n == 0 { &first } else { &others };
        ports.push(datapath.add_port(PortSetup {
            switch,
            io: MemoryPort::new(true)?.0,
            settings: PortSettings {
                mtu: 1500,
                up: true,
                offload: true,
                policy: policy.clone().map(Arc::new),
            },
        })?);
    }
    for vlan in [0, VLAN] {
        let added = datapath.fdb_add_static(switch, vlan, vswitch_api::Mac(KNOWN), ports[1].id);
        added.map_err(|_| anyhow!("the FDB has no room"))?;
    }
    let snapshot = datapath.snapshot();
    let port = snapshot.find(ports[0]).context("the port is gone")?;
    let mut lists = OutputLists::default();
    lists.resize(ports.len());
    let mut batch = Batch::new();
    for n in 0..BATCHES {
        batch.clear();
        for i in 0..MAX_BATCH as u64 {
            let frame = (case.frame)(n * MAX_BATCH as u64 + i);
            let tail = batch.tail();
            tail[..VNET_HDR_LEN].fill(0);
            tail[VNET_HDR_LEN..][..frame.len()].copy_from_slice(&frame);
            batch.push(VNET_HDR_LEN + frame.len());
        }
        measured_way(&mut batch, &snapshot, port, &mut lists);
    }
    Ok(())
}

/// Callgrind counts from here to its return.
#[inline(never)]
fn measured_way(batch: &mut Batch, snapshot: &Snapshot, port: &PortEntry, lists: &mut OutputLists) {
    forward(batch, snapshot, port, 0, NOW, lists, |_| {});
    lists.drain(|port, list| {
        black_box((port, list));
    });
}
