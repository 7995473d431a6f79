//! Value parsers for what the API types do not check by themselves. Each error is a whole sentence:
//! what was given, what is wrong with it, what would be right.

use std::net::{IpAddr, Ipv4Addr};
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use clap::ValueEnum;
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use ipnet::IpNet;
use vswitch_api::lab::{MAX_MTU, MIN_MTU};
use vswitch_api::name::{InvalidValue, NAME_MAX};
use vswitch_api::number::{Whole, decimal, in_base, no_whole, whole};
use vswitch_api::policy::{Isolation, VLAN_MAX, VlanId};
use vswitch_api::settings::is_back;
use vswitch_api::traffic::Impairment;
use vswitch_api::{IfAddr, IfName, Mac, NsName, PortKind, ReservedMulticast};

use super::policy::{Pinned, VlanOrAll};

fn number(what: &str, unit: &str, text: &str, range: RangeInclusive<u32>) -> Result<u32, String> {
    match whole::<u32>(text) {
        Some(value) if range.contains(&value) => Ok(value),
        _ => Err(format!(
            "{what} {text:?} is out of range; give a number from {} to {} ({unit})",
            range.start(),
            range.end()
        )),
    }
}

/// A whole number.
pub fn count<T: Whole>(text: &str) -> Result<T, String> {
    whole(text).ok_or_else(|| no_whole::<T>(text))
}

/// The most of something; 0 is no limit, as is what there is if nothing is said.
pub fn limit(text: &str) -> Result<u32, String> {
    match is_back(text) {
        true => Ok(0),
        false => count(text),
    }
}

/// A number of things of which there is at least one, or the place of one among them.
pub fn from_one<T: Whole + PartialEq>(text: &str) -> Result<T, String> {
    let zero = whole::<T>("0");
    let value = whole(text).filter(|value| Some(*value) != zero);
    value.ok_or_else(|| format!("{text:?} is not a whole number from 1 to {}", T::MAX))
}

/// The VLAN id of a tag, which may be that of none.
pub fn tag_id(text: &str) -> Result<u16, String> {
    let id = whole(text).filter(|id| *id <= VLAN_MAX);
    id.ok_or_else(|| format!("VLAN id {text:?} is not a number from 0 to {VLAN_MAX}"))
}

/// The length of a frame.
pub fn frame_size(text: &str) -> Result<u32, String> {
    number("size", "bytes from the destination address on", text, 14..=65_557)
}

/// How much of a frame is kept.
pub fn snaplen(text: &str) -> Result<u32, String> {
    number("length", "bytes", text, 1..=262_144)
}

/// An address of an interface, or that one is to be chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Addr {
    /// This one.
    Given(IfAddr),
    /// The next free one of the subnets that are in use.
    Auto,
}

impl FromStr for Addr {
    type Err = InvalidValue;
    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        match text {
            "auto" => Ok(Self::Auto),
            address => address.parse().map(Self::Given),
        }
    }
}

/// A subnet, out of which addresses are chosen.
pub fn subnet(text: &str) -> Result<IpNet, String> {
    let Ok(net) = text.parse::<IpNet>() else {
        return Err(format!(
            "{text:?} is not a subnet; write it as 192.168.15.0/24 or fd00:15::/64"
        ));
    };
    if net.trunc() != net {
        return Err(format!(
            "{text} is an address in a subnet; the subnet is {}, and --addr {text} gives this very address",
            net.trunc()
        ));
    }
    Ok(net)
}

/// An IP address.
pub fn ip(text: &str) -> Result<IpAddr, String> {
    let ip = text.parse();
    ip.map_err(|_| format!("{text:?} is not an IP address; write it as 192.168.15.1 or fd00::1"))
}

/// An IPv4 address.
pub fn ipv4(text: &str) -> Result<Ipv4Addr, String> {
    let ip = text.parse();
    ip.map_err(|_| format!("{text:?} is not an IPv4 address; write it as 192.168.15.1"))
}

/// An MTU that a port can have.
pub fn mtu(text: &str) -> Result<u32, String> {
    number("MTU", "bytes of layer-3 payload", text, MIN_MTU..=MAX_MTU)
}

/// An EtherType.
pub fn ethertype(text: &str) -> Result<u16, String> {
    let value = match text.strip_prefix("0x") {
        Some(hex) => in_base(hex, 16).and_then(|value| u16::try_from(value).ok()),
        None => whole(text),
    };
    value.ok_or_else(|| format!("EtherType {text:?} is no number up to 65535; write it as 0x88cc"))
}

/// A length of time.
pub fn seconds(text: &str) -> Result<Duration, String> {
    let (digits, unit) = in_unit(text);
    let unit = match unit {
        "ms" => Some(0.001),
        unit => whole_unit(unit).map(f64::from),
    };
    let seconds = decimal(digits).zip(unit).map(|(number, unit)| number * unit);
    let duration = seconds
        .filter(|seconds| *seconds > 0.0)
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    duration
        .ok_or_else(|| format!("time {text:?} is no time above 0; write it as 10 or 0.5 (seconds), 200ms, 10s or 5m"))
}

/// A number and its unit, which may be empty.
fn in_unit(text: &str) -> (&str, &str) {
    text.split_at(text.trim_end_matches(|c: char| c.is_ascii_alphabetic()).len())
}

/// Seconds of a unit.
fn whole_unit(unit: &str) -> Option<u32> {
    match unit {
        "" | "s" => Some(1),
        "m" | "min" => Some(60),
        "h" => Some(3600),
        _ => None,
    }
}

/// The time that a command has to be ready.
pub fn ready_secs(text: &str) -> Result<u32, String> {
    whole_seconds("time to be ready", text, 1..=vswitch_api::command::MAX_READY_SECS)
}

/// The time that a command has to end.
pub fn stop_secs(text: &str) -> Result<u32, String> {
    whole_seconds("time to end", text, 0..=vswitch_api::command::MAX_STOP_SECS)
}

/// For how long stations flap until the loop guard acts.
pub fn flap_secs(text: &str) -> Result<u32, String> {
    whole_seconds("time of flapping", text, 0..=u32::MAX)
}

/// Seconds of something that goes by whole ones.
fn whole_seconds(what: &str, text: &str, range: RangeInclusive<u32>) -> Result<u32, String> {
    let (digits, unit) = in_unit(text);
    let seconds = whole::<u32>(digits)
        .zip(whole_unit(unit))
        .and_then(|(number, unit)| number.checked_mul(unit));
    let (from, to) = (range.start(), range.end());
    seconds
        .filter(|seconds| range.contains(seconds))
        .ok_or_else(|| format!("{what} {text:?} is no time from {from} to {to} seconds; write it as 60, 60s, 5m or 1h"))
}

/// An ageing time.
pub fn ageing(text: &str) -> Result<u32, String> {
    whole_seconds("ageing time (0: never)", text, 0..=u32::MAX)
}

/// A capacity of the FDB.
pub fn fdb_capacity(text: &str) -> Result<u32, String> {
    number("FDB capacity", "entries", text, 1..=u32::MAX)
}

/// A MAC address that a station can have.
pub fn unicast_mac(text: &str) -> Result<Mac, String> {
    let mac: Mac = text.parse().map_err(|e| format!("{e}"))?;
    if mac.is_multicast() {
        return Err(format!(
            "MAC address {mac} is a multicast address, which no station can have; make the first octet even, such as 02"
        ));
    }
    if !mac.is_unicast() {
        return Err(format!(
            "MAC address {mac} is all zeros, which no station can have; try 02:00:00:00:00:01"
        ));
    }
    Ok(mac)
}

/// The name of a namespace that is to be made. One made elsewhere may be longer.
pub fn new_namespace(text: &str) -> Result<NsName, String> {
    let name: NsName = text.parse().map_err(|e| format!("{e}"))?;
    if text.len() > NAME_MAX {
        return Err(format!(
            "namespace name {text:?} has {} bytes, at most {NAME_MAX} are allowed; choose a shorter one",
            text.len()
        ));
    }
    Ok(name)
}

/// The address of a next hop: one host, no prefix length.
pub fn next_hop(text: &str) -> Result<IpAddr, String> {
    if text.parse::<IpNet>().is_ok() {
        let host = text.split('/').next().unwrap_or_default();
        return Err(format!(
            "next hop {text} has a prefix length, but it is one host; try {host}"
        ));
    }
    let ip: IpAddr = text
        .parse()
        .map_err(|_| format!("next hop {text:?} is not an IP address; write it as 192.168.15.1 or fd00::1"))?;
    if ip.is_unspecified() || ip.is_multicast() {
        return Err(format!(
            "next hop {text} is not the address of a host; give the router's own address"
        ));
    }
    Ok(ip)
}

/// Where a route leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Destination {
    /// Everywhere; the next hop tells the address family.
    Default,
    /// One network or host.
    Net(IpNet),
}

impl FromStr for Destination {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        if text == "default" {
            return Ok(Self::Default);
        }
        if let Ok(host) = text.parse::<IpAddr>() {
            return Ok(Self::Net(host.into()));
        }
        let net: IpNet = text.parse().map_err(|_| {
            format!("destination {text:?} is not a network; write it as 10.0.0.0/8, fd00::/8 or default")
        })?;
        if net != net.trunc() {
            return Err(format!(
                "destination {text} has bits set beyond its prefix length; try {}",
                net.trunc()
            ));
        }
        Ok(Self::Net(net))
    }
}

impl Destination {
    /// The network itself; `default` is that of IPv4 unless the next hop is IPv6.
    pub fn net(self, via: Option<IpAddr>) -> IpNet {
        match self {
            Self::Net(net) => net,
            Self::Default if via.is_some_and(|ip| ip.is_ipv6()) => IpNet::V6(ipnet::Ipv6Net::default()),
            Self::Default => IpNet::V4(ipnet::Ipv4Net::default()),
        }
    }
}

/// A route in one word: `default,10.1.0.2`, or `10.9.0.0/16` on the link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RouteArg {
    /// Where it leads.
    pub to: Destination,
    /// Next hop.
    pub via: Option<IpAddr>,
}

impl FromStr for RouteArg {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let (to, via) = match text.split_once(',') {
            Some((to, via)) => (to, Some(next_hop(via)?)),
            None => (text, None),
        };
        Ok(Self { to: to.parse()?, via })
    }
}

/// A kind of ports that `add-port` makes; the two ends of a link are made at once, by `link add`.
pub fn kind() -> impl TypedValueParser<Value = PortKind> {
    const KINDS: &[PortKind] = &PortKind::ALL;
    let made = || KINDS.iter().filter(|kind| **kind != PortKind::Link);
    PossibleValuesParser::new(made().map(|kind| PossibleValue::new(kind.word()).help(kind.help()))).try_map(
        move |word| {
            made()
                .find(|kind| kind.word() == word)
                .copied()
                .ok_or("there is no such kind")
        },
    )
}

/// [`ReservedMulticast`] with its words and help texts.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Reserved {
    /// Frames for 01-80-C2-00-00-0x are never forwarded, as IEEE 802.1Q says
    Never,
    /// Only LLDP is forwarded
    Lldp,
    /// All are forwarded: STP, LACP, 802.1X, PAUSE and LLDP reach the other ports
    All,
    /// As if nothing was said
    #[value(hide = true, alias = "none")]
    Default,
}

impl From<Reserved> for ReservedMulticast {
    fn from(reserved: Reserved) -> Self {
        match reserved {
            Reserved::Never => Self::Never,
            Reserved::Lldp => Self::Lldp,
            Reserved::All => Self::All,
            Reserved::Default => Self::default(),
        }
    }
}

/// On or off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Toggle {
    /// Frames cross as they are, however large, with their checksums still to do
    On,
    /// Frames go out as on a wire: cut to the MTU, with complete checksums
    Off,
    /// As if nothing was said
    #[value(hide = true, alias = "none")]
    Default,
}

/// On or off, of what needs no more words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Switched {
    /// On
    On,
    /// Off
    Off,
    /// As if nothing was said
    #[value(hide = true, alias = "none")]
    Default,
}

impl Switched {
    /// What it says; none: as if nothing was said.
    pub fn said(self) -> Option<bool> {
        match self {
            Self::On => Some(true),
            Self::Off => Some(false),
            Self::Default => None,
        }
    }
}

/// Name of an interface.
pub fn ifname(text: &str) -> Result<IfName, String> {
    text.parse().map_err(|error: InvalidValue| error.to_string())
}

/// What an option says: a value, or that it is what it is if nothing is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said<T> {
    /// `none` or `default`.
    Back,
    /// The value.
    To(T),
}

impl<T> Said<T> {
    /// The value, if there is one.
    pub fn to(self) -> Option<T> {
        match self {
            Self::Back => None,
            Self::To(value) => Some(value),
        }
    }
}

/// A value, or `none` or `default`.
pub fn said<T>(text: &str, parser: fn(&str) -> Result<T, String>) -> Result<Said<T>, String> {
    match is_back(text) {
        true => Ok(Said::Back),
        false => parser(text).map(Said::To),
    }
}

/// What happens to frames, as `delay=20ms,loss=1%`.
pub fn impairment(text: &str) -> Result<Impairment, String> {
    text.parse().map_err(|error: InvalidValue| error.to_string())
}

/// A VLAN.
pub fn vlan(text: &str) -> Result<VlanId, String> {
    text.parse().map_err(|error: InvalidValue| error.to_string())
}

/// A VLAN, or `all`.
pub fn vlan_or_all(text: &str) -> Result<VlanOrAll, String> {
    if text == "all" || is_back(text) {
        return Ok(VlanOrAll::All);
    }
    text.parse()
        .map(VlanOrAll::One)
        .map_err(|error| format!("{error}, or all"))
}

/// Whom a port exchanges frames with.
pub fn isolation(text: &str) -> Result<Isolation, String> {
    match text {
        text if is_back(text) => Ok(Isolation::default()),
        "promiscuous" => Ok(Isolation::Promiscuous),
        "isolated" => Ok(Isolation::Isolated),
        community => whole(community)
            .map(Isolation::Community)
            .ok_or_else(|| format!("{text:?} is none of promiscuous, isolated and a community from 0 to 65535")),
    }
}

/// `own`, `any`, or a list with commas.
pub fn pinned<T: FromStr>(text: &str) -> Result<Pinned<T>, String>
where
    T::Err: std::fmt::Display,
{
    match text {
        "own" => Ok(Pinned::Own),
        text if text == "any" || is_back(text) => Ok(Pinned::Any),
        list => {
            let items = list
                .split(',')
                .map(|item| item.parse().map_err(|error: T::Err| error.to_string()));
            items.collect::<Result<_, _>>().map(Pinned::These)
        }
    }
}

/// A file of a namespace with its inode in front.
pub fn entrance(text: &str) -> Result<vswitch_api::view::Entrance, String> {
    let parts = text
        .split_once(',')
        .map(|(inode, path)| (inode.parse(), path.to_owned()));
    match parts {
        Some((Ok(inode), path)) => Ok(vswitch_api::view::Entrance { path, inode }),
        _ => Err(format!("{text:?} is no inode and file")),
    }
}
