//! Access control lists, compiled so that the cost of a frame depends on the number of shapes of rules, not of rules.
//!
//! Rules that look at the same fields with the same prefix lengths form a *shape* (tuple space search, Srinivasan,
//! Suri, Varghese 1999): the fields of a frame, masked to the shape, are one key of its hash table, and the table has the
//! rules with that key. Ranges of ports and flags are checked at the few rules found. Shapes are looked at in the order
//! of their first rule, so that one which can't decide earlier any more is not looked at.

use std::collections::HashMap;
use std::hash::BuildHasherDefault;
use std::sync::atomic::{AtomicU64, Ordering};

use ipnet::IpNet;
use rustc_hash::FxHasher;
use vswitch_api::acl::{AclAction, AclRule, PortRange};

use crate::frame::{EthernetView, mac_to_u64};

const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_IPV6: u16 = 0x86dd;
/// IPv6 extension headers that are walked over: hop-by-hop, routing, destination options (RFC 8200 section 4).
const EXTENSIONS: [u8; 3] = [0, 43, 60];
/// IPv6 fragment header.
const FRAGMENT: u8 = 44;

/// The fields of a frame that rules look at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Fields {
    src: u128,
    dst: u128,
    src_mac: u64,
    dst_mac: u64,
    /// 4, 6; 0: no IP.
    version: u8,
    /// IP protocol, if `version` is not 0.
    protocol: u8,
    ethertype: u16,
    vlan: u16,
}

/// What is behind the IP header; a fragment but the first has none of it.
#[derive(Clone, Copy, Debug, Default)]
struct Transport {
    ports: Option<(u16, u16)>,
    flags: Option<u8>,
    icmp_type: Option<u8>,
}

impl Fields {
    fn of(frame: &[u8], vlan: u16) -> Option<(Self, Transport)> {
        let view = EthernetView::new_checked(frame).ok()?;
        let mut fields = Self {
            src_mac: mac_to_u64(view.src()),
            dst_mac: mac_to_u64(view.dst()),
            ethertype: view.ethertype(),
            vlan,
            ..Self::default()
        };
        let packet = &frame[view.payload_offset()..];
        let behind = match view.ethertype() {
            ETHERTYPE_IPV4 => fields.take_v4(packet),
            ETHERTYPE_IPV6 => fields.take_v6(packet),
            _ => None,
        };
        let transport = behind.map_or_else(Transport::default, |bytes| Transport::of(fields.protocol, bytes));
        Some((fields, transport))
    }

    fn take_v4<'a>(&mut self, packet: &'a [u8]) -> Option<&'a [u8]> {
        let header = packet.first_chunk::<20>()?;
        self.version = 4;
        self.protocol = header[9];
        self.src = u32::from_be_bytes([header[12], header[13], header[14], header[15]]).into();
        self.dst = u32::from_be_bytes([header[16], header[17], header[18], header[19]]).into();
        let fragment_offset = u16::from_be_bytes([header[6], header[7]]) & 0x1fff;
        packet
            .get(usize::from(header[0] & 0x0f) * 4..)
            .filter(|_| fragment_offset == 0)
    }

    fn take_v6<'a>(&mut self, packet: &'a [u8]) -> Option<&'a [u8]> {
        let header = packet.first_chunk::<40>()?;
        self.version = 6;
        self.src = u128::from_be_bytes(*header[8..].first_chunk()?);
        self.dst = u128::from_be_bytes(*header[24..].first_chunk()?);
        self.protocol = header[6];
        let mut at = 40;
        loop {
            let rest = packet.get(at..)?;
            if self.protocol == FRAGMENT {
                let header = rest.first_chunk::<8>()?;
                self.protocol = header[0];
                if u16::from_be_bytes([header[2], header[3]]) & 0xfff8 != 0 {
                    return None;
                }
                at += 8;
            } else if EXTENSIONS.contains(&self.protocol) {
                let [next, units] = *rest.first_chunk::<2>()?;
                self.protocol = next;
                at += (usize::from(units) + 1) * 8;
            } else {
                return Some(rest);
            }
        }
    }
}

impl Transport {
    fn of(protocol: u8, bytes: &[u8]) -> Self {
        let mut transport = Self::default();
        match protocol {
            6 | 17 | 132 => {
                let ports = bytes.first_chunk::<4>();
                transport.ports = ports.map(|p| (u16::from_be_bytes([p[0], p[1]]), u16::from_be_bytes([p[2], p[3]])));
                transport.flags = bytes.get(13).copied().filter(|_| protocol == 6);
            }
            1 | 58 => transport.icmp_type = bytes.first().copied(),
            _ => {}
        }
        transport
    }
}

/// Which fields a rule looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Shape {
    src_mac: bool,
    dst_mac: bool,
    ethertype: bool,
    vlan: bool,
    protocol: bool,
    /// A rule with an address or a protocol looks at IP of one version, or of both.
    version: bool,
    src: u128,
    dst: u128,
}

impl Shape {
    fn of(rule: &AclRule) -> Self {
        let net = |net: Option<IpNet>| net.map_or(0, mask);
        Self {
            src_mac: rule.src_mac.is_some(),
            dst_mac: rule.dst_mac.is_some(),
            ethertype: rule.ethertype.is_some(),
            vlan: rule.vlan.is_some(),
            protocol: rule.protocol.is_some(),
            version: rule.src.or(rule.dst).is_some(),
            src: net(rule.src),
            dst: net(rule.dst),
        }
    }

    fn key(&self, fields: &Fields) -> Fields {
        Fields {
            src: fields.src & self.src,
            dst: fields.dst & self.dst,
            src_mac: if self.src_mac { fields.src_mac } else { 0 },
            dst_mac: if self.dst_mac { fields.dst_mac } else { 0 },
            version: if self.version { fields.version } else { 0 },
            protocol: if self.protocol { fields.protocol } else { 0 },
            ethertype: if self.ethertype { fields.ethertype } else { 0 },
            vlan: if self.vlan { fields.vlan } else { 0 },
        }
    }
}

fn mask(net: IpNet) -> u128 {
    match net {
        IpNet::V4(net) => u32::from(net.netmask()).into(),
        IpNet::V6(net) => net.netmask().into(),
    }
}

fn bits(net: Option<IpNet>) -> u128 {
    match net {
        Some(IpNet::V4(net)) => u32::from(net.network()).into(),
        Some(IpNet::V6(net)) => net.network().into(),
        None => 0,
    }
}

fn key_of(rule: &AclRule) -> Fields {
    let address = rule.src.or(rule.dst);
    Fields {
        src: bits(rule.src),
        dst: bits(rule.dst),
        src_mac: rule.src_mac.map_or(0, mac_to_u64),
        dst_mac: rule.dst_mac.map_or(0, mac_to_u64),
        version: address.map_or(0, |net| if net.addr().is_ipv4() { 4 } else { 6 }),
        protocol: rule.protocol.unwrap_or(0),
        ethertype: rule.ethertype.unwrap_or(0),
        vlan: rule.vlan.map_or(0, |id| id.get()),
    }
}

/// The part of a rule that no key can hold.
fn matches_rest(rule: &AclRule, fields: &Fields, transport: &Transport) -> bool {
    let within = |range: Option<PortRange>, port: Option<u16>| match (range, port) {
        (None, _) => true,
        (Some(range), Some(port)) => (range.first..=range.last).contains(&port),
        (Some(_), None) => false,
    };
    // Protocol 0 is a protocol too (hop-by-hop options of IPv4, which nobody sends): only of IP.
    (rule.protocol.is_none() || fields.version != 0)
        && within(rule.src_port, transport.ports.map(|(src, _)| src))
        && within(rule.dst_port, transport.ports.map(|(_, dst)| dst))
        && rule.flags.is_none_or(|wanted| {
            transport
                .flags
                .is_some_and(|flags| flags & wanted.set == wanted.set && flags & wanted.clear == 0)
        })
        && (rule.icmp_type.is_none() || rule.icmp_type == transport.icmp_type)
}

struct Table {
    shape: Shape,
    /// The earliest of its rules.
    first: u32,
    /// Rules by key, the earliest first.
    rules: HashMap<Fields, Vec<u32>, BuildHasherDefault<FxHasher>>,
}

/// Tables of some rules, the one with the earliest rule first.
#[derive(Default)]
struct Tables(Vec<Table>);

impl Tables {
    fn new<'a>(rules: impl Iterator<Item = (u32, &'a AclRule)>) -> Self {
        let mut tables: Vec<Table> = Vec::new();
        for (index, rule) in rules {
            let shape = Shape::of(rule);
            let at = tables.iter().position(|table| table.shape == shape);
            let at = at.unwrap_or_else(|| {
                tables.push(Table {
                    shape,
                    first: index,
                    rules: HashMap::default(),
                });
                tables.len() - 1
            });
            tables[at].rules.entry(key_of(rule)).or_default().push(index);
        }
        Self(tables)
    }

    /// Calls `found` with the first rule of each shape that matches and comes before `bound()`; with `all`, with each rule.
    fn search(
        &self,
        rules: &[AclRule],
        frame: &(Fields, Transport),
        mut bound: u32,
        all: bool,
        mut found: impl FnMut(u32),
    ) {
        for table in &self.0 {
            if table.first >= bound {
                return;
            }
            let Some(candidates) = table.rules.get(&table.shape.key(&frame.0)) else {
                continue;
            };
            for &index in candidates.iter().take_while(|index| **index < bound) {
                if matches_rest(&rules[index as usize], &frame.0, &frame.1) {
                    found(index);
                    if !all {
                        bound = index;
                        break;
                    }
                }
            }
        }
    }
}

/// A compiled list.
pub struct Acl {
    rules: Vec<AclRule>,
    hits: Box<[AtomicU64]>,
    deciding: Tables,
    counting: Tables,
}

impl Acl {
    /// Compiles a list.
    pub fn new(rules: &[AclRule]) -> Self {
        let of = |counts: bool| {
            let rules = (0..).zip(rules);
            Tables::new(rules.filter(move |(_, rule)| (rule.action == AclAction::Count) == counts))
        };
        Self {
            deciding: of(false),
            counting: of(true),
            hits: rules.iter().map(|_| AtomicU64::new(0)).collect(),
            rules: rules.to_vec(),
        }
    }

    /// Whether a frame of this VLAN passes; `count`: whether it counts as a hit.
    pub fn permits(&self, frame: &[u8], vlan: u16, count: bool) -> bool {
        let Some(fields) = Fields::of(frame, vlan) else {
            return true;
        };
        let mut decision = None;
        self.deciding
            .search(&self.rules, &fields, u32::MAX, false, |index| decision = Some(index));
        if count {
            let hit = |index: u32| {
                self.hits[index as usize].fetch_add(1, Ordering::Relaxed);
            };
            self.counting
                .search(&self.rules, &fields, decision.unwrap_or(u32::MAX), true, hit);
            decision.into_iter().for_each(hit);
        }
        decision.is_none_or(|index| self.rules[index as usize].action == AclAction::Permit)
    }

    /// The rules, in order.
    pub fn rules(&self) -> &[AclRule] {
        &self.rules
    }

    /// Frames that each rule has matched.
    pub fn hits(&self) -> Vec<u64> {
        self.hits.iter().map(|hits| hits.load(Ordering::Relaxed)).collect()
    }
}

impl std::fmt::Debug for Acl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list()
            .entries(self.rules.iter().map(ToString::to_string))
            .finish()
    }
}

/// Two lists with the same rules do the same.
impl PartialEq for Acl {
    fn eq(&self, other: &Self) -> bool {
        self.rules == other.rules
    }
}

impl Eq for Acl {}

#[cfg(test)]
mod tests {
    use etherparse::PacketBuilder;
    use proptest::prelude::*;

    use super::*;

    const A: [u8; 6] = [2, 0, 0, 0, 0, 1];
    const B: [u8; 6] = [2, 0, 0, 0, 0, 2];

    fn list(rules: &[&str]) -> Acl {
        Acl::new(&rules.iter().map(|rule| rule.parse().unwrap()).collect::<Vec<_>>())
    }

    fn tcp(src: [u8; 4], dst: [u8; 4], sport: u16, dport: u16) -> Vec<u8> {
        let mut frame = Vec::new();
        PacketBuilder::ethernet2(A, B)
            .ipv4(src, dst, 64)
            .tcp(sport, dport, 1, 100)
            .syn()
            .write(&mut frame, b"x")
            .unwrap();
        frame
    }

    #[test]
    fn the_first_rule_that_decides_counts() {
        let acl = list(&[
            "count from 10.0.0.0/8",
            "permit tcp from 10.0.0.1 to any port 22",
            "deny tcp to any port 20-30",
            "count any",
            "deny from 10.9.0.0/16",
        ]);
        assert!(acl.permits(&tcp([10, 0, 0, 1], [10, 0, 0, 2], 9, 22), 0, true));
        assert!(!acl.permits(&tcp([10, 0, 0, 3], [10, 0, 0, 2], 9, 22), 0, true));
        assert!(acl.permits(&tcp([10, 0, 0, 3], [10, 0, 0, 2], 9, 80), 0, true));
        assert!(!acl.permits(&tcp([10, 9, 0, 3], [10, 0, 0, 2], 9, 80), 0, true));
        assert!(acl.permits(&tcp([11, 0, 0, 3], [10, 0, 0, 2], 9, 80), 0, false));
        assert_eq!(acl.hits(), [4, 1, 1, 2, 1]);
    }

    #[test]
    fn flags_types_tags_and_fragments() {
        let acl = list(&["deny tcp flags syn,!ack"]);
        let mut frame = tcp([10, 0, 0, 1], [10, 0, 0, 2], 1, 2);
        assert!(!acl.permits(&frame, 0, true));
        frame[14 + 20 + 13] |= 0x10;
        assert!(acl.permits(&frame, 0, true));
        // A later fragment has no ports: a rule on ports does not match it.
        let acl = list(&["deny tcp to any port 2", "deny vlan 7"]);
        let mut fragment = tcp([10, 0, 0, 1], [10, 0, 0, 2], 1, 2);
        assert!(!acl.permits(&fragment, 0, true));
        fragment[14 + 7] = 3;
        assert!(acl.permits(&fragment, 0, true));
        assert!(!acl.permits(&fragment, 7, true));
        let mut echo = Vec::new();
        PacketBuilder::ethernet2(A, B)
            .ipv6([1; 16], [2; 16], 64)
            .icmpv6_echo_request(1, 1)
            .write(&mut echo, b"x")
            .unwrap();
        assert!(!list(&["deny icmp6 type 128"]).permits(&echo, 0, true));
        assert!(list(&["deny icmp6 type 129", "deny ipv4", "deny udp"]).permits(&echo, 0, true));
    }

    #[test]
    fn a_thousand_rules_of_one_shape_are_one_table() {
        let rules: Vec<AclRule> = (0..1000)
            .map(|n| {
                format!("deny tcp from 10.0.{}.{} to any port 80", n / 250, n % 250)
                    .parse()
                    .unwrap()
            })
            .collect();
        let acl = Acl::new(&rules);
        assert_eq!(acl.deciding.0.len(), 1);
        assert!(!acl.permits(&tcp([10, 0, 3, 249], [1, 2, 3, 4], 5, 80), 0, true));
        assert!(acl.permits(&tcp([10, 0, 3, 250], [1, 2, 3, 4], 5, 80), 0, true));
    }

    fn naive(rules: &[AclRule], frame: &[u8], vlan: u16) -> bool {
        let (fields, transport) = Fields::of(frame, vlan).unwrap();
        let decided = rules.iter().find(|rule| {
            rule.action != AclAction::Count
                && Shape::of(rule).key(&fields) == key_of(rule)
                && matches_rest(rule, &fields, &transport)
        });
        decided.is_none_or(|rule| rule.action == AclAction::Permit)
    }

    fn rule() -> impl Strategy<Value = AclRule> {
        let action = prop::sample::select(vec!["permit", "deny", "count"]);
        let what = prop::sample::select(vec!["", "tcp", "udp", "arp", "ipv4"]);
        let from = prop::sample::select(vec!["", "from 10.0.0.0/30", "from 10.0.0.1", "from 02:00:00:00:00:01"]);
        let to = prop::sample::select(vec!["", "to 10.0.0.0/31", "to 10.0.0.2"]);
        let vlan = prop::sample::select(vec!["", "vlan 1", "vlan 2"]);
        (action, what, from, to, vlan).prop_map(|(a, b, c, d, e)| format!("{a} {b} {c} {d} {e}").parse().unwrap())
    }

    proptest! {
        #[test]
        fn it_decides_as_a_walk_over_the_rules(
            rules in prop::collection::vec(rule(), 0..30),
            src in 0u8..5, dst in 0u8..5, vlan in 0u16..3,
        ) {
            let frame = tcp([10, 0, 0, src], [10, 0, 0, dst], 1, 2);
            prop_assert_eq!(Acl::new(&rules).permits(&frame, vlan, true), naive(&rules, &frame, vlan));
        }

        #[test]
        fn no_frame_makes_it_panic(mut frame in prop::collection::vec(any::<u8>(), 0..120), v6: bool) {
            if frame.len() >= 14 {
                frame[12..14].copy_from_slice(if v6 { &[0x86, 0xdd] } else { &[8, 0] });
            }
            list(&["deny tcp to any port 22", "count icmp6 type 1"]).permits(&frame, 0, true);
        }
    }
}
