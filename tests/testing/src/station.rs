//! One end of the switch with its addresses: what sits behind a port.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use vswitch_api::{Mac, PortKind, Stands};

use crate::lab::Lab;
use crate::netns::{Place, run};
use crate::raw::RawSocket;
use crate::wait::wait_for;

/// An interface that reaches the switch, and where it is.
#[derive(Clone, Debug)]
pub struct Station {
    /// Name of its port.
    pub port: String,
    /// Namespace of the interface.
    pub place: Place,
    /// Name of the interface.
    pub ifname: String,
    /// 10.7.0.n/24
    pub v4: Ipv4Addr,
    /// fd07::n/64
    pub v6: Ipv6Addr,
}

/// All kinds of ports that have a station.
pub const ALL_KINDS: [PortKind; 4] = [PortKind::Veth, PortKind::Tap, PortKind::Device, PortKind::Internal];

impl Station {
    /// Adds port `name` of this kind with the addresses number `n`.
    #[track_caller]
    pub fn add(lab: &Lab, name: &str, kind: PortKind, n: u8) -> Self {
        Self::add_with(lab, name, kind, n, "")
    }

    /// The same with more options of `add-port`.
    #[track_caller]
    pub fn add_with(lab: &Lab, name: &str, kind: PortKind, n: u8, options: &str) -> Self {
        let (v4, v6) = (
            Ipv4Addr::new(10, 7, 0, n),
            Ipv6Addr::new(0xfd07, 0, 0, 0, 0, 0, 0, n.into()),
        );
        let addresses = format!("--addr {v4}/24 --addr {v6}/64");
        let (place, ifname) = match kind {
            PortKind::Device => {
                make_device(name);
                (Place::named(&far_end(name)), "eth0")
            }
            kind => match kind.stands() {
                Stands::InNamespace => (Place::named(name), "eth0"),
                Stands::OnHost => (Place::Home, name),
                Stands::WithDaemon => panic!("no station is behind a {} port", kind.word()),
            },
        };
        let station = Self {
            port: name.to_owned(),
            place,
            ifname: ifname.to_owned(),
            v4,
            v6,
        };
        match kind {
            PortKind::Device => {
                station.place.run_ok(&format!("ip addr add {v4}/24 dev eth0"));
                station.place.run_ok(&format!("ip addr add {v6}/64 dev eth0 nodad"));
                lab.ok(&format!("add-port {name} --type device {options}"))
            }
            kind => lab.ok(&format!("add-port {name} --type {} {addresses} {options}", kind.word())),
        };
        station
    }

    /// One station of each kind, named `veth`, `tap`, `device` and `internal`, with the addresses 1 to 4.
    pub fn one_of_each(lab: &Lab) -> Vec<Self> {
        let add = |(kind, n): (PortKind, u8)| Self::add(lab, kind.word(), kind, n);
        ALL_KINDS.into_iter().zip(1..).map(add).collect()
    }

    /// Its address of this family.
    pub fn ip(&self, v6: bool) -> IpAddr {
        if v6 { self.v6.into() } else { self.v4.into() }
    }

    /// MAC address of its interface.
    #[track_caller]
    pub fn mac(&self) -> Mac {
        let links: serde_json::Value =
            serde_json::from_str(&self.place.run_ok(&format!("ip -j link show {}", self.ifname))).unwrap();
        links[0]["address"].as_str().unwrap().parse().unwrap()
    }

    /// A raw socket on its interface.
    #[track_caller]
    pub fn raw(&self, vnet: bool) -> RawSocket {
        RawSocket::open(&self.place, &self.ifname, vnet)
    }

    /// One echo request and its answer.
    #[track_caller]
    pub fn ping(&self, to: impl Into<IpAddr>) {
        self.place.run_ok(&format!("ping -n -c 1 -W 10 {}", to.into()));
    }

    /// Pings until an answer comes: for what the network has yet to find out.
    #[track_caller]
    pub fn ping_soon(&self, to: impl Into<IpAddr>) {
        let line = format!("ping -n -c 1 -W 1 {}", to.into());
        wait_for(&line, || self.place.output(&line).status.success());
    }

    /// Whether one echo request is answered within a second.
    pub fn reaches(&self, to: impl Into<IpAddr>) -> bool {
        self.place
            .output(&format!("ping -n -c 1 -W 1 {}", to.into()))
            .status
            .success()
    }

    /// Its stack sends nothing by itself any more: for tests that count frames. IPv4 without traffic is silent already.
    #[track_caller]
    pub fn silence(&self) {
        let path = format!("/proc/sys/net/ipv6/conf/{}/disable_ipv6", self.ifname);
        self.place
            .run(|| fs::write(&path, "1"))
            .unwrap_or_else(|e| panic!("{path}: {e}"));
    }

    /// Turns features of its interface on or off, such as `tx off gro off`.
    #[track_caller]
    pub fn ethtool(&self, features: &str) {
        self.place.run_ok(&format!("ethtool -K {} {features}", self.ifname));
    }
}

/// Namespace behind the device `name`.
pub fn far_end(name: &str) -> String {
    format!("far-{name}")
}

/// An interface `name` in the home namespace that stands for a real one: what comes out of it arrives at
/// eth0 of the namespace `far-NAME`.
#[track_caller]
pub fn make_device(name: &str) {
    let far = far_end(name);
    if !std::path::Path::new("/run/netns").join(&far).exists() {
        run(&format!("ip netns add {far}"));
    }
    run(&format!(
        "ip link add name {name} up type veth peer name eth0 netns {far}"
    ));
    run(&format!("ip -n {far} link set eth0 up"));
}
