//! Access control lists, compiled so that the cost of a frame depends on the number of shapes of rules, not of rules.
//!
//! Rules that look at the same fields with the same prefix lengths form a *shape* (tuple space search, Srinivasan,
//! Suri, Varghese 1999): the fields of a frame, masked to the shape, are one key of its hash table, and the table has the
//! rules with that key. Ranges of ports and flags are checked at the few rules found. Shapes are looked at in the order
//! of their first rule, so that one which can't decide earlier any more is not looked at.

mod fields;

use std::collections::HashMap;
use std::hash::BuildHasherDefault;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ipnet::IpNet;
use rustc_hash::FxHasher;
use vswitch_api::MirrorName;
use vswitch_api::acl::{AclAction, AclRule, PortRange};

use super::DropReason;
use super::traffic::Limiter;
use crate::frame::{Reading, WireSize, mac_to_u64};
use fields::{Depth, Fields, Transport};

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
        && (!rule.fragment || transport.later)
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

    /// The first rule that matches.
    fn first(&self, rules: &[AclRule], frame: &(Fields, Transport)) -> Option<u32> {
        let mut bound = u32::MAX;
        for table in &self.0 {
            if table.first >= bound {
                break;
            }
            let Some(candidates) = table.rules.get(&table.shape.key(&frame.0)) else {
                continue;
            };
            let before = candidates.iter().take_while(|index| **index < bound);
            let mut matching = before.filter(|index| matches_rest(&rules[**index as usize], &frame.0, &frame.1));
            bound = matching.next().copied().unwrap_or(bound);
        }
        Some(bound).filter(|bound| *bound != u32::MAX)
    }

    /// Calls `found` with each rule that matches and comes before `bound`.
    fn each(&self, rules: &[AclRule], frame: &(Fields, Transport), bound: u32, mut found: impl FnMut(u32)) {
        for table in self.0.iter().take_while(|table| table.first < bound) {
            // Not `get`: that is inlined where the first is looked for, and is so only while nobody else calls it.
            let Some((_, candidates)) = table.rules.get_key_value(&table.shape.key(&frame.0)) else {
                continue;
            };
            let before = candidates.iter().take_while(|index| **index < bound);
            before
                .filter(|index| matches_rest(&rules[**index as usize], &frame.0, &frame.1))
                .for_each(|index| found(*index));
        }
    }
}

/// A compiled list.
pub struct Acl {
    rules: Vec<AclRule>,
    hits: Box<[AtomicU64]>,
    /// The rules that police, by their place.
    limiters: Box<[Option<Arc<Limiter>>]>,
    deciding: Tables,
    /// Rules that do something on the way to the one that decides.
    passing: Tables,
    /// Those of them that copy to a mirror.
    copying: Tables,
    /// How far it has to be able to look.
    depth: Depth,
}

/// Why a list does not let a frame through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// A rule denies it.
    Denied,
    /// It is above the rate of a rule.
    Policed,
    /// It can't be read as far as the rules look.
    Unreadable,
    /// It is a fragment that hides from the rules what they look at.
    TinyFragment,
}

impl Refused {
    /// The reason by which a frame from a port into the switch is counted.
    pub fn ingress(self) -> DropReason {
        match self {
            Self::Denied => DropReason::AclIn,
            Self::Policed => DropReason::AclPolicedIn,
            Self::Unreadable => DropReason::UnreadableIn,
            Self::TinyFragment => DropReason::TinyFragmentIn,
        }
    }

    /// The reason by which a frame out of the switch to a port is counted.
    pub fn egress(self) -> DropReason {
        match self {
            Self::Denied => DropReason::AclOut,
            Self::Policed => DropReason::AclPolicedOut,
            Self::Unreadable => DropReason::UnreadableOut,
            Self::TinyFragment => DropReason::TinyFragmentOut,
        }
    }
}

impl Acl {
    /// Compiles a list.
    pub fn new(rules: &[AclRule]) -> Self {
        Self::going_on(rules, None)
    }

    /// Compiles a list that takes the place of another: what rules of both have used of their rates stays used.
    pub fn going_on(rules: &[AclRule], before: Option<&Self>) -> Self {
        let tables = |wanted: fn(&AclAction) -> bool| {
            Tables::new((0..).zip(rules).filter(move |(_, rule)| wanted(&rule.action)))
        };
        let mut old: Vec<_> = before.map_or_else(Vec::new, |before| before.policing().collect());
        let limiter = |rule: &AclRule| match rule.action {
            // Each counts for one rule, should two be equal.
            AclAction::Police(limit) => Some(match old.iter().position(|(other, _)| *other == rule) {
                Some(at) => old.remove(at).1.clone(),
                None => Arc::new(Limiter::new(limit)),
            }),
            _ => None,
        };
        Self {
            deciding: tables(AclAction::decides),
            // What a rule is for that is not understood is not known.
            passing: tables(|action| !action.decides() && !matches!(action, AclAction::Other(_))),
            copying: tables(|action| matches!(action, AclAction::Mirror(_))),
            depth: rules
                .iter()
                .filter(|rule| rule.action.decides() || matches!(rule.action, AclAction::Police(_)))
                .map(Depth::of)
                .max()
                .unwrap_or_default(),
            hits: rules.iter().map(|_| AtomicU64::new(0)).collect(),
            limiters: rules.iter().map(limiter).collect(),
            rules: rules.to_vec(),
        }
    }

    /// Whether a frame of this VLAN passes. For rules that police: `size`, what it takes on the wire, and `now`, in nanoseconds.
    ///
    /// # Errors
    /// Why not.
    pub fn check(
        &self,
        frame: &Reading<'_>,
        size: impl Fn() -> WireSize,
        now: impl Fn() -> u64,
        vlan: u16,
    ) -> Result<(), Refused> {
        self.depth.can_see(frame)?;
        let Some(fields) = Fields::of(frame, vlan) else {
            return Ok(());
        };
        let decision = self.decision(&fields);
        let denied = self.denies(decision);
        let mut polices = false;
        let bound = decision.unwrap_or(u32::MAX);
        if !self.passing.0.is_empty() {
            self.passing.each(&self.rules, &fields, bound, |index| {
                self.hit(index);
                polices |= self.limiters[index as usize].is_some();
            });
        }
        decision.into_iter().for_each(|index| self.hit(index));
        if denied {
            return Err(Refused::Denied);
        }
        if polices {
            let (size, now) = (size(), now());
            self.ask(&fields, bound, size, now)?;
            self.limiters(&fields, bound, &mut |limiter| limiter.charge(now, size));
        }
        Ok(())
    }

    /// Whether it would pass, without counting it or using anything of a rate.
    ///
    /// # Errors
    /// Why not.
    pub fn would_check(
        &self,
        frame: &Reading<'_>,
        size: impl Fn() -> WireSize,
        now: impl Fn() -> u64,
        vlan: u16,
    ) -> Result<(), Refused> {
        self.depth.can_see(frame)?;
        let Some(fields) = Fields::of(frame, vlan) else {
            return Ok(());
        };
        let decision = self.decision(&fields);
        if self.denies(decision) {
            return Err(Refused::Denied);
        }
        if self.policing().next().is_none() {
            return Ok(());
        }
        self.ask(&fields, decision.unwrap_or(u32::MAX), size(), now())
    }

    /// Asks the rules that police, before any is charged: a frame that one of them drops uses nothing of the others.
    fn ask(&self, fields: &(Fields, Transport), bound: u32, size: WireSize, now: u64) -> Result<(), Refused> {
        let mut passes = true;
        self.limiters(fields, bound, &mut |limiter| {
            passes = passes && limiter.would_admit(now, size)
        });
        if passes { Ok(()) } else { Err(Refused::Policed) }
    }

    /// Calls `found` with the rates of rules that a frame comes to.
    #[cold]
    #[inline(never)]
    fn limiters(&self, fields: &(Fields, Transport), bound: u32, found: &mut dyn FnMut(&Limiter)) {
        self.passing.each(&self.rules, fields, bound, |index| {
            if let Some(limiter) = &self.limiters[index as usize] {
                found(limiter);
            }
        });
    }

    /// The rules that police, with what has been used of their rates.
    fn policing(&self) -> impl Iterator<Item = (&AclRule, &Arc<Limiter>)> {
        let all = self.rules.iter().zip(&self.limiters);
        all.filter_map(|(rule, limiter)| Some((rule, limiter.as_ref()?)))
    }

    /// Whether a rule copies a frame to this mirror before one decides.
    pub fn copies(&self, frame: &[u8], vlan: u16, mirror: &MirrorName) -> bool {
        let Some(fields) = Fields::of(&Reading::of(frame), vlan) else {
            return false;
        };
        let bound = self.decision(&fields).unwrap_or(u32::MAX);
        let mut copies = false;
        self.copying.each(&self.rules, &fields, bound, |index| {
            copies |= matches!(&self.rules[index as usize].action, AclAction::Mirror(name) if name == mirror);
        });
        copies
    }

    /// Whether any rule copies frames to a mirror.
    pub fn has_copies(&self) -> bool {
        !self.copying.0.is_empty()
    }

    fn decision(&self, fields: &(Fields, Transport)) -> Option<u32> {
        self.deciding.first(&self.rules, fields)
    }

    fn denies(&self, decision: Option<u32>) -> bool {
        decision.is_some_and(|index| matches!(self.rules[index as usize].action, AclAction::Deny))
    }

    fn hit(&self, index: u32) {
        self.hits[index as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// The rules, in order.
    pub fn rules(&self) -> &[AclRule] {
        &self.rules
    }

    /// Goes on from what rules before these, the same ones, have matched.
    pub fn add_hits(&self, before: &[u64]) {
        for (hits, before) in self.hits.iter().zip(before) {
            hits.fetch_add(*before, Ordering::Relaxed);
        }
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
mod tests;
