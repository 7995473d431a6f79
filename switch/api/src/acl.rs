//! Access control lists: ordered rules on what a port lets in and out.
//!
//! A rule is one line, the same in `vswitchctl`, in lab files and in the API:
//!
//! ```text
//! deny tcp from any to 10.0.0.0/8 port 22
//! permit udp from 10.0.0.1 port 53
//! count from 02:00:00:00:00:01 vlan 10
//! deny tcp flags syn,!ack
//! deny icmp type 8
//! permit udp fragment
//! mirror span tcp to any port 443
//! police 10mbit burst 64k udp
//! permit any
//! ```
//!
//! The first rule that permits or denies a frame decides; what no rule decides passes. Those that match before it count
//! the frame, copy it or hold it to a rate. What is dropped uses nothing of a rate.
//!
//! Only the first fragment of an IP packet has ports, flags and types. A later one is matched by rules without them, and by
//! those with the word `fragment`, which match nothing else; a rule with ports neither permits nor denies it.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::name::{InvalidValue, Mac, MirrorName};
use crate::number::{in_base, whole};
use crate::policy::{VlanId, is_default};
use crate::reply::is_read_leniently;
use crate::traffic::RateLimit;
use crate::traffic::quantity::{bytes, either_rate, frames};

/// Most rules of one list.
pub const ACL_MAX: usize = 4096;

/// The lists of a port.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PortAcl {
    /// For frames from the port into the switch.
    #[serde(rename = "in", skip_serializing_if = "is_default")]
    #[schema(value_type = Vec<String>, example = json!(["deny tcp to 10.0.0.0/8 port 22"]))]
    pub ingress: Vec<AclRule>,
    /// For frames out of the switch to the port.
    #[serde(rename = "out", skip_serializing_if = "is_default")]
    #[schema(value_type = Vec<String>)]
    pub egress: Vec<AclRule>,
}

/// What a rule does with a frame that it matches.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AclAction {
    /// The frame passes; no later rule is looked at.
    Permit,
    /// The frame is dropped.
    Deny,
    /// The frame is counted; later rules decide.
    Count,
    /// The frame is copied to the destination of this mirror of the switch, if there is one; later rules decide.
    Mirror(MirrorName),
    /// The frame is dropped if it is above the rate; else later rules decide. A GSO frame has its size on a wire.
    Police(RateLimit),
    /// A rule with words of a newer daemon, in what that says ([`crate::reply`]): the text of it, with nothing more told of the frames
    /// that it is for. No request and no file has it.
    Other(String),
}

impl AclAction {
    /// Whether a frame that such a rule matches is decided on.
    pub fn decides(&self) -> bool {
        matches!(self, Self::Permit | Self::Deny)
    }
}

impl fmt::Display for AclAction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Permit => f.write_str("permit"),
            Self::Deny => f.write_str("deny"),
            Self::Count => f.write_str("count"),
            Self::Mirror(name) => write!(f, "mirror {name}"),
            Self::Police(limit) => write!(f, "police {limit}"),
            Self::Other(rule) => f.write_str(rule),
        }
    }
}

/// A range of ports, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PortRange {
    /// First.
    pub first: u16,
    /// Last.
    pub last: u16,
}

/// TCP flags (RFC 9293 section 3.1) that must be set, and that must not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct TcpFlags {
    /// Bits that must be set.
    pub set: u8,
    /// Bits that must be clear.
    pub clear: u8,
}

/// One rule; what is none matches everything.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AclRule {
    /// What it does.
    pub action: AclAction,
    /// EtherType behind the tags.
    pub ethertype: Option<u16>,
    /// IP protocol.
    pub protocol: Option<u8>,
    /// Source station.
    pub src_mac: Option<Mac>,
    /// Destination station or group.
    pub dst_mac: Option<Mac>,
    /// Source IP network.
    pub src: Option<IpNet>,
    /// Destination IP network.
    pub dst: Option<IpNet>,
    /// Source port of TCP or UDP.
    pub src_port: Option<PortRange>,
    /// Destination port of TCP or UDP.
    pub dst_port: Option<PortRange>,
    /// VLAN that the frame is in.
    pub vlan: Option<VlanId>,
    /// TCP flags.
    pub flags: Option<TcpFlags>,
    /// Type of an ICMP message.
    pub icmp_type: Option<u8>,
    /// Only fragments of IP packets but the first.
    pub fragment: bool,
}

/// Words for EtherTypes (IEEE 802 numbers).
const ETHERTYPES: [(&str, u16); 3] = [("ipv4", 0x0800), ("arp", 0x0806), ("ipv6", 0x86dd)];
/// Words for IP protocols (IANA).
const PROTOCOLS: [(&str, u8); 5] = [("icmp", 1), ("tcp", 6), ("udp", 17), ("icmp6", 58), ("sctp", 132)];
/// Words for TCP flags, lowest bit first.
const FLAGS: [&str; 6] = ["fin", "syn", "rst", "psh", "ack", "urg"];

impl AclRule {
    fn any(action: AclAction) -> Self {
        Self {
            action,
            ethertype: None,
            protocol: None,
            src_mac: None,
            dst_mac: None,
            src: None,
            dst: None,
            src_port: None,
            dst_port: None,
            vlan: None,
            flags: None,
            icmp_type: None,
            fragment: false,
        }
    }

    /// What can match nothing is refused.
    fn check(&self, text: &str) -> Result<(), InvalidValue> {
        let wrong = |cause: &str| Err(InvalidValue::new(format!("rule {text:?}: {cause}")));
        let ports = self.src_port.is_some() || self.dst_port.is_some();
        if ports && !matches!(self.protocol, Some(6 | 17 | 132)) {
            return wrong("ports belong to tcp, udp or sctp; name one");
        }
        if self.flags.is_some() && self.protocol != Some(6) {
            return wrong("flags belong to tcp");
        }
        if self.icmp_type.is_some() && !matches!(self.protocol, Some(1 | 58)) {
            return wrong("a type belongs to icmp or icmp6");
        }
        if self.fragment && (ports || self.flags.is_some() || self.icmp_type.is_some()) {
            return wrong("\"fragment\" is for those without ports, flags and types: leave either out");
        }
        if let (Some(src), Some(dst)) = (self.src, self.dst)
            && src.addr().is_ipv4() != dst.addr().is_ipv4()
        {
            return wrong("source and destination are of different IP versions");
        }
        Ok(())
    }
}

impl FromStr for AclRule {
    type Err = InvalidValue;
    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        let wrong = |cause: String| InvalidValue::new(format!("rule {text:?}: {cause}"));
        let mut words = text.split_whitespace().peekable();
        let action = match words.next() {
            Some("permit") => AclAction::Permit,
            Some("deny") => AclAction::Deny,
            Some("count") => AclAction::Count,
            Some("mirror") => {
                let name = words.next().unwrap_or_default();
                AclAction::Mirror(
                    name.parse()
                        .map_err(|error| wrong(format!("mirror wants the name of one: {error}")))?,
                )
            }
            Some("police") => {
                let mut limit = either_rate(words.next().unwrap_or_default()).map_err(wrong)?;
                if words.next_if_eq(&"burst").is_some() {
                    let burst = words.next().unwrap_or_default();
                    match limit.rate_bps {
                        Some(_) => limit.burst_bytes = Some(bytes(burst).map_err(wrong)?),
                        None => limit.burst_frames = Some(frames(burst).map_err(wrong)?),
                    }
                }
                AclAction::Police(limit)
            }
            _ => {
                let words = "it begins with none of permit, deny, count, mirror and police";
                return Err(wrong(words.to_owned()));
            }
        };
        let mut rule = Self::any(action);
        let mut towards = None;
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or_else(|| wrong(format!("{word:?} wants a value")));
            match word {
                "any" => {}
                "fragment" => rule.fragment = true,
                "from" | "to" => {
                    towards = Some(word == "to");
                    let (mac, net) = match word {
                        "to" => (&mut rule.dst_mac, &mut rule.dst),
                        _ => (&mut rule.src_mac, &mut rule.src),
                    };
                    endpoint(value()?, mac, net).map_err(wrong)?;
                }
                "port" => {
                    let range = Some(value()?.parse().map_err(wrong)?);
                    match towards {
                        Some(true) => rule.dst_port = range,
                        Some(false) => rule.src_port = range,
                        None => return Err(wrong("a port comes behind from or to".to_owned())),
                    }
                }
                "vlan" => rule.vlan = Some(value()?.parse()?),
                "flags" => rule.flags = Some(value()?.parse().map_err(wrong)?),
                "type" => rule.icmp_type = Some(number(value()?, "ICMP type").map_err(wrong)?),
                "proto" => rule.protocol = Some(number(value()?, "IP protocol").map_err(wrong)?),
                "ethertype" => {
                    let value = value()?;
                    let hex = value
                        .strip_prefix("0x")
                        .and_then(|hex| u16::try_from(in_base(hex, 16)?).ok());
                    rule.ethertype =
                        Some(hex.ok_or_else(|| wrong(format!("EtherType {value:?} is none such as 0x88cc")))?);
                }
                word => {
                    let ethertype = ETHERTYPES.iter().find(|(name, _)| *name == word);
                    let protocol = PROTOCOLS.iter().find(|(name, _)| *name == word);
                    match (ethertype, protocol) {
                        (Some((_, ethertype)), _) => rule.ethertype = Some(*ethertype),
                        (_, Some((_, protocol))) => rule.protocol = Some(*protocol),
                        _ => {
                            return Err(wrong(format!(
                                "{word:?} is not understood; a rule is such as \"deny tcp from any to 10.0.0.0/8 port 22\""
                            )));
                        }
                    }
                }
            }
        }
        rule.check(text)?;
        Ok(rule)
    }
}

fn number(text: &str, what: &str) -> Result<u8, String> {
    whole(text).ok_or_else(|| format!("{what} {text:?} is not a number from 0 to 255"))
}

fn endpoint(text: &str, mac: &mut Option<Mac>, net: &mut Option<IpNet>) -> Result<(), String> {
    if text == "any" {
        return Ok(());
    }
    if let Ok(ip) = text.parse::<IpAddr>() {
        *net = Some(ip.into());
    } else if let Ok(network) = text.parse::<IpNet>() {
        *net = Some(network.trunc());
    } else if let Ok(address) = text.parse() {
        *mac = Some(address);
    } else {
        return Err(format!("{text:?} is no IP address, network or MAC address"));
    }
    Ok(())
}

impl FromStr for PortRange {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        match (whole(first), whole(last)) {
            (Some(first), Some(last)) if first <= last => Ok(Self { first, last }),
            _ => Err(format!(
                "port {text:?} is neither a number to 65535 nor a range such as 1000-1999"
            )),
        }
    }
}

impl FromStr for TcpFlags {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let mut flags = Self::default();
        for word in text.split(',') {
            let (bits, name) = match word.strip_prefix('!') {
                Some(name) => (&mut flags.clear, name),
                None => (&mut flags.set, word),
            };
            let bit = FLAGS.iter().position(|flag| *flag == name);
            *bits |= 1 << bit.ok_or_else(|| format!("{word:?} is none of the flags {}", FLAGS.join(", ")))?;
        }
        if flags.set & flags.clear != 0 {
            return Err(format!("flags {text:?} want a flag both set and clear"));
        }
        Ok(flags)
    }
}

impl fmt::Display for AclRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.action)?;
        if matches!(self.action, AclAction::Other(_)) {
            return Ok(());
        }
        if *self == Self::any(self.action.clone()) {
            return f.write_str(" any");
        }
        if let Some(ethertype) = self.ethertype {
            match ETHERTYPES.iter().find(|(_, number)| *number == ethertype) {
                Some((word, _)) => write!(f, " {word}")?,
                None => write!(f, " ethertype 0x{ethertype:04x}")?,
            }
        }
        if let Some(protocol) = self.protocol {
            match PROTOCOLS.iter().find(|(_, number)| *number == protocol) {
                Some((word, _)) => write!(f, " {word}")?,
                None => write!(f, " proto {protocol}")?,
            }
        }
        write_endpoint(f, "from", self.src_mac, self.src, self.src_port)?;
        write_endpoint(f, "to", self.dst_mac, self.dst, self.dst_port)?;
        if let Some(vlan) = self.vlan {
            write!(f, " vlan {vlan}")?;
        }
        if let Some(flags) = self.flags {
            let word = |bits: u8, sign: &'static str| {
                let set = FLAGS.iter().enumerate().filter(move |(bit, _)| bits & 1 << bit != 0);
                set.map(move |(_, name)| format!("{sign}{name}"))
            };
            let words: Vec<_> = word(flags.set, "").chain(word(flags.clear, "!")).collect();
            write!(f, " flags {}", words.join(","))?;
        }
        if let Some(kind) = self.icmp_type {
            write!(f, " type {kind}")?;
        }
        if self.fragment {
            f.write_str(" fragment")?;
        }
        Ok(())
    }
}

fn write_endpoint(
    f: &mut fmt::Formatter<'_>,
    word: &str,
    mac: Option<Mac>,
    net: Option<IpNet>,
    port: Option<PortRange>,
) -> fmt::Result {
    if let Some(mac) = mac {
        write!(f, " {word} {mac}")?;
    }
    match net {
        Some(net) if net.prefix_len() == net.max_prefix_len() => write!(f, " {word} {}", net.addr())?,
        Some(net) => write!(f, " {word} {net}")?,
        None if port.is_some() && mac.is_none() => write!(f, " {word} any")?,
        None => {}
    }
    match port {
        Some(PortRange { first, last }) if first == last => write!(f, " port {first}"),
        Some(PortRange { first, last }) => write!(f, " port {first}-{last}"),
        None => Ok(()),
    }
}

impl TryFrom<String> for AclRule {
    type Error = InvalidValue;
    fn try_from(text: String) -> Result<Self, InvalidValue> {
        let is_shown = is_read_leniently() && !text.contains(char::is_control);
        text.parse().or_else(|error| match is_shown {
            true => Ok(Self::any(AclAction::Other(text))),
            false => Err(error),
        })
    }
}

impl From<AclRule> for String {
    fn from(rule: AclRule) -> Self {
        rule.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_is_written_as_it_is_read() {
        for text in [
            "permit any",
            "deny tcp to 10.0.0.0/8 port 22",
            "permit udp from 10.0.0.1 port 53",
            "count from 02:00:00:00:00:01 vlan 10",
            "deny tcp flags syn,!ack",
            "deny icmp type 8",
            "deny arp",
            "deny ethertype 0x88cc",
            "permit ipv6 tcp from fd00::/64 to fd00::1 port 1000-1999",
            "deny proto 89",
            "deny udp to any port 53",
            "deny from 02:00:00:00:00:01 from 10.0.0.1",
            "mirror span tcp to any port 443",
            "mirror span any",
            "permit fragment",
            "deny udp to 10.0.0.1 fragment",
            "police 10mbit udp",
            "police 10mbit burst 64k udp",
            "police 100pps burst 5 any",
        ] {
            assert_eq!(text.parse::<AclRule>().unwrap().to_string(), text);
        }
        let loose: AclRule = "deny  tcp from any to 10.1.2.3/8 port 22".parse().unwrap();
        assert_eq!(loose.to_string(), "deny tcp to 10.0.0.0/8 port 22");
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (text, word) in [
            ("", "permit, deny, count, mirror and police"),
            ("allow any", "permit, deny, count, mirror and police"),
            ("mirror", "wants the name"),
            ("mirror a/b any", "wants the name"),
            ("police", "is not understood"),
            ("police fast any", "is not understood"),
            ("police 100pps burst 0 any", "burst"),
            ("police 1mbit burst", "is not understood"),
            ("deny tcp port 22", "behind from or to"),
            ("deny to any port 22", "tcp, udp or sctp"),
            ("deny udp flags syn", "belong to tcp"),
            ("deny tcp type 8", "icmp"),
            ("deny udp to any port 53 fragment", "leave either out"),
            ("deny tcp to any port 70000", "65535"),
            ("deny tcp flags syn,!syn", "both set and clear"),
            ("deny from 10.0.0.1 to fd00::1", "different IP versions"),
            ("deny from", "wants a value"),
            ("deny http", "not understood"),
            ("deny vlan 5000", "4094"),
        ] {
            let error = text.parse::<AclRule>().unwrap_err().to_string();
            assert!(error.contains(word), "{text}: {error}");
        }
    }
}
