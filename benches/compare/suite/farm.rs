//! A switch with any number of ports, a namespace behind each.

use anyhow::{Context, Result, bail};
use std::fs;
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::command::run;
use crate::generator::{Generator, Range, link_address, plain_frame};
use crate::lab::{INTERFACE, Lab, in_namespace};
use crate::peers::vswitch::FastPath;
use crate::peers::{Peer, Running, bridge, ovs, vswitch};

/// As long as a counter has to stand still to be taken for final.
const SETTLE: Duration = Duration::from_millis(30);
/// No queue here is as long.
const PATIENCE: Duration = Duration::from_secs(20);

/// How many stations the switch is to know.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Table {
    /// As it comes.
    Usual,
    /// A quarter of a million.
    Large,
}

/// A peer and the stations around it.
pub struct Farm {
    /// One behind each port.
    pub stations: Vec<Station>,
    // Before the lab, whose directory it uses until it has stopped.
    running: Running,
    _lab: Lab,
    /// Namespaces that are ours to delete.
    own: Vec<String>,
}

/// The far end of a port.
pub struct Station {
    /// Its namespace.
    pub ns: String,
    /// Its own address.
    pub mac: [u8; 6],
}

impl Farm {
    /// Starts the peer with `count` ports. The switch knows where the stations are; these are silent.
    ///
    /// # Errors
    /// If a step of it fails, or for a peer that has two ports only.
    pub fn new(peer: Peer, count: usize, table: Table) -> Result<Self> {
        let mut farm = Self {
            stations: Vec::new(),
            running: Running::default(),
            _lab: Lab::new()?,
            own: Vec::new(),
        };
        let names: Vec<_> = (0..count).map(|n| format!("cmp-{n}")).collect();
        farm.attach(peer, &names, table)?;
        for name in names {
            farm.stations.push(Station::new(name)?);
        }
        farm.running.check_alive()?;
        for station in &farm.stations {
            let hello = plain_frame([0xff; 6], station.mac, 60);
            station.generator(vec![hello])?.send(1, None, PATIENCE)?;
        }
        farm.received()?;
        Ok(farm)
    }

    fn attach(&mut self, peer: Peer, names: &[String], table: Table) -> Result<()> {
        match peer {
            Peer::Bridge => {
                bridge::start()?;
                for (n, ns) in names.iter().enumerate() {
                    self.make(ns)?;
                    bridge::attach(&format!("p{n}"), ns)?;
                }
            }
            Peer::VswitchTap | Peer::VswitchVeth | Peer::VswitchVethUser => {
                let (kind, fast) = match peer {
                    Peer::VswitchTap => ("tap", FastPath::On),
                    Peer::VswitchVeth => ("veth", FastPath::On),
                    _ => ("veth", FastPath::Off),
                };
                let (running, ctl) = vswitch::start(&self._lab, fast)?;
                self.running = running;
                let capacity = match table {
                    Table::Usual => "",
                    Table::Large => "--fdb-capacity 262144",
                };
                run(&format!("{ctl} switch add farm {capacity}"))?;
                for ns in names {
                    run(&format!("{ctl} add-port {ns} --type {kind} --switch farm"))?;
                }
            }
            Peer::Ovs | Peer::OvsTap | Peer::OvsTso | Peer::OvsTapTso => {
                let (ports, tso) = match peer {
                    Peer::OvsTap => (ovs::Ports::Tap, ovs::Tso::Off),
                    Peer::OvsTso => (ovs::Ports::Veth, ovs::Tso::On),
                    Peer::OvsTapTso => (ovs::Ports::Tap, ovs::Tso::On),
                    _ => (ovs::Ports::Veth, ovs::Tso::Off),
                };
                let (running, vsctl) = ovs::start(&self._lab, tso)?;
                self.running = running;
                if table == Table::Large {
                    run(&format!("{vsctl} set bridge br0 other_config:mac-table-size=262144"))?;
                }
                for (n, ns) in names.iter().enumerate() {
                    self.make(ns)?;
                    ovs::attach(&vsctl, &format!("p{n}"), ns, ports, tso)?;
                }
            }
            Peer::Vde
            | Peer::Cable
            | Peer::TapLoop
            | Peer::VswitchDevice
            | Peer::VswitchDeviceUser
            | Peer::VswitchDeviceXdp => {
                bail!("{} is joined to two ends only", peer.name())
            }
            Peer::BridgeBig | Peer::VswitchVethBig => bail!("{} differs in TCP alone", peer.name()),
        }
        Ok(())
    }

    fn make(&mut self, ns: &str) -> Result<()> {
        run(&format!("ip netns add {ns}"))?;
        self.own.push(ns.to_owned());
        Ok(())
    }

    /// Frames that each station has received so far, once no more come.
    ///
    /// # Errors
    /// If the counters can't be read, or never stand still.
    pub fn received(&self) -> Result<Vec<u64>> {
        let read = || self.stations.iter().map(Station::received).collect::<Result<Vec<_>>>();
        let (start, mut last) = (Instant::now(), read()?);
        loop {
            sleep(SETTLE);
            let now = read()?;
            if now == last {
                return Ok(now);
            }
            if start.elapsed() > PATIENCE {
                bail!("frames come in without end");
            }
            last = now;
        }
    }

    /// What `work` says, and what came to each station of what it sent.
    ///
    /// # Errors
    /// What `work` says, or if the switch has ended meanwhile.
    pub fn watch<T>(&mut self, work: impl FnOnce(&[Station]) -> Result<T>) -> Result<(T, Vec<u64>)> {
        let before = self.received()?;
        let result = work(&self.stations);
        self.running.check_alive()?;
        let result = result?;
        let came = self
            .received()?
            .into_iter()
            .zip(before)
            .map(|(now, before)| now - before);
        Ok((result, came.collect()))
    }
}

impl Drop for Farm {
    fn drop(&mut self) {
        for ns in &self.own {
            let _ = run(&format!("ip netns del {ns}"));
        }
    }
}

impl Station {
    fn new(ns: String) -> Result<Self> {
        let mac = in_namespace(&ns, || {
            fs::write(format!("/proc/sys/net/ipv6/conf/{INTERFACE}/disable_ipv6"), "1")?;
            link_address(INTERFACE)?.addr().context("no MAC address")
        })?;
        run(&format!("ip -n {ns} link set dev {INTERFACE} up"))?;
        Ok(Self { ns, mac })
    }

    /// Sends these frames in turn.
    ///
    /// # Errors
    /// Without CAP_NET_RAW.
    pub fn generator(&self, frames: Vec<Vec<u8>>) -> Result<Generator> {
        in_namespace(&self.ns, || Generator::with_frames(INTERFACE, frames, false))
    }

    /// The same with the frames of many stations.
    ///
    /// # Errors
    /// As [`Station::generator`].
    pub fn range_generator(&self, range: Range) -> Result<Generator> {
        in_namespace(&self.ns, || Generator::with_range(INTERFACE, range))
    }

    /// The same with frames that begin with a virtio-net header.
    ///
    /// # Errors
    /// As [`Station::generator`].
    pub fn gso_generator(&self, frames: Vec<Vec<u8>>) -> Result<Generator> {
        in_namespace(&self.ns, || Generator::with_frames(INTERFACE, frames, true))
    }

    fn received(&self) -> Result<u64> {
        in_namespace(&self.ns, || {
            let devices = fs::read_to_string("/proc/thread-self/net/dev")?;
            let mark = format!("{INTERFACE}:");
            let line = devices.lines().find_map(|line| line.trim().strip_prefix(&mark));
            let count = line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok());
            count.with_context(|| format!("/proc/net/dev has no {INTERFACE}"))
        })
    }
}
