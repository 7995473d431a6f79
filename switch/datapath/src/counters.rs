//! Counters of ports: each worker has a set of its own for each port, control adds them up.

use std::sync::atomic::{AtomicU64, Ordering};

use vswitch_api::view::PortCounters;

use crate::port::Sent;

/// A counter with one writer. Others read it at any time.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `n`; only the worker that owns the counter may. No locked instruction is needed for that.
    #[inline]
    pub fn add(&self, n: u64) {
        self.0
            .store(self.0.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
    }

    /// The value.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Why a frame was dropped. Counters, events and docs use the same words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DropReason {
    /// Ingress: the virtio-net header does not fit the frame, or the kernel could not make one (UDP segments before Linux 6.2).
    Malformed,
    /// Ingress: shorter than an Ethernet header.
    Runt,
    /// Ingress: longer than the MTU of the port allows, or than any frame may be.
    Oversize,
    /// Ingress: the port is administratively down.
    PortDown,
    /// Ingress: a group address as source; no station has one (IEEE 802.1Q-2022 clause 8.8.1).
    MulticastSource,
    /// Ingress: 00:00:00:00:00:00 as source.
    ZeroSource,
    /// Ingress: for 01-80-C2-00-00-0x, which a bridge does not forward (IEEE 802.1Q-2022 table 8-1).
    ReservedMulticast,
    /// Ingress: the destination is behind the port that the frame came from.
    SamePort,
    /// Ingress: a VLAN tag where the port accepts none.
    VlanTagged,
    /// Ingress: no VLAN tag where the port accepts tagged frames only or has no native VLAN.
    VlanUntagged,
    /// Ingress: of a VLAN that this port, or the one of the destination, is not in (IEEE 802.1Q-2022 clause 8.6.2).
    VlanFiltered,
    /// Ingress: the source MAC address, or the one that DHCP is asked for, is not one that is pinned to the port.
    PinMac,
    /// Ingress: the source IP address is not one that is pinned to the port.
    PinIp,
    /// Ingress: ARP with a sender that is not pinned to the port.
    PinArp,
    /// Ingress: neighbour discovery for an address that is not pinned to the port.
    PinNd,
    /// Ingress: router advertisement, redirect or answer of a DHCP server, which the port has no permission for.
    PinRouter,
    /// Ingress: the port has pinned addresses, rules or VLANs, and the frame can't be read as far as they look: too many tags or
    /// IPv6 extension headers, or headers that do not fit the frame.
    UnreadableIn,
    /// Ingress: a fragment made so that rules can't see the header behind IP (RFC 1858, 3128).
    TinyFragmentIn,
    /// Ingress: a rule of the port denies it.
    AclIn,
    /// Above the rate of a rule that polices what the port sends.
    AclPolicedIn,
    /// Ingress: the port is locked and the station not known to be behind it.
    Locked,
    /// Ingress: the port or the VLAN has as many stations as it may.
    MacLimit,
    /// Ingress: the destination is behind a port from which this one is isolated.
    Isolated,
    /// Ingress: a probe of this switch, which tells of a loop.
    LoopProbe,
    /// Ingress: an agent of the switch has taken it.
    Punted,
    /// Ingress: the port is the destination of a mirror, which carries copies only.
    MirrorPort,
    /// Ingress: the kernel had more frames for the daemon than its queue holds.
    Overrun,
    /// Ingress: above the rate of the port's policer.
    Policed,
    /// Ingress: to be flooded, above the rate of the port's storm control.
    Storm,
    /// Ingress: to be flooded, while the loop guard holds floods to look for a loop.
    LoopGuard,
    /// Ingress: lost by impairment.
    ImpairLossIn,
    /// Ingress: more frames than the limit of the impairment wait already.
    ImpairQueueIn,
    /// Ingress: the impairment that held the frame was taken away.
    ImpairFlushedIn,
    /// Egress: a rule of the port denies it.
    AclOut,
    /// Egress: the port has rules, and the frame can't be read as far as they look.
    UnreadableOut,
    /// Egress: a fragment made so that rules can't see the header behind IP.
    TinyFragmentOut,
    /// Above the rate of a rule that polices what the port gets.
    AclPolicedOut,
    /// Egress: longer than the MTU of the port.
    Mtu,
    /// Egress: the queue of the port is full.
    QueueFull,
    /// Egress: the interface is down or gone.
    LinkDown,
    /// Egress: the kernel does not take the frame, or it can't be segmented.
    Rejected,
    /// Egress: lost by impairment.
    ImpairLossOut,
    /// Egress: more frames than the limit of the impairment wait already.
    ImpairQueueOut,
    /// Egress: the impairment that held the frame was taken away.
    ImpairFlushedOut,
}

impl DropReason {
    /// All reasons, ingress first.
    pub const ALL: [Self; 44] = [
        Self::Malformed,
        Self::Runt,
        Self::Oversize,
        Self::PortDown,
        Self::MulticastSource,
        Self::ZeroSource,
        Self::ReservedMulticast,
        Self::SamePort,
        Self::VlanTagged,
        Self::VlanUntagged,
        Self::VlanFiltered,
        Self::PinMac,
        Self::PinIp,
        Self::PinArp,
        Self::PinNd,
        Self::PinRouter,
        Self::UnreadableIn,
        Self::TinyFragmentIn,
        Self::AclIn,
        Self::AclPolicedIn,
        Self::Locked,
        Self::MacLimit,
        Self::Isolated,
        Self::LoopProbe,
        Self::Punted,
        Self::MirrorPort,
        Self::Overrun,
        Self::Policed,
        Self::Storm,
        Self::LoopGuard,
        Self::ImpairLossIn,
        Self::ImpairQueueIn,
        Self::ImpairFlushedIn,
        Self::AclOut,
        Self::UnreadableOut,
        Self::TinyFragmentOut,
        Self::AclPolicedOut,
        Self::Mtu,
        Self::QueueFull,
        Self::LinkDown,
        Self::Rejected,
        Self::ImpairLossOut,
        Self::ImpairQueueOut,
        Self::ImpairFlushedOut,
    ];

    /// The word for it in the API; what can happen both ways has one word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::Runt => "runt",
            Self::Oversize => "oversize",
            Self::PortDown => "port-down",
            Self::MulticastSource => "multicast-source",
            Self::ZeroSource => "zero-source",
            Self::ReservedMulticast => "reserved-multicast",
            Self::SamePort => "same-port",
            Self::VlanTagged => "vlan-tagged",
            Self::VlanUntagged => "vlan-untagged",
            Self::VlanFiltered => "vlan-filtered",
            Self::PinMac => "pin-mac",
            Self::PinIp => "pin-ip",
            Self::PinArp => "pin-arp",
            Self::PinNd => "pin-nd",
            Self::PinRouter => "pin-router",
            Self::UnreadableIn | Self::UnreadableOut => "unreadable",
            Self::TinyFragmentIn | Self::TinyFragmentOut => "tiny-fragment",
            Self::AclIn => "acl-in",
            Self::AclPolicedIn | Self::AclPolicedOut => "acl-policed",
            Self::Locked => "locked",
            Self::MacLimit => "mac-limit",
            Self::Isolated => "isolated",
            Self::LoopProbe => "loop-probe",
            Self::Punted => "punted",
            Self::MirrorPort => "mirror-port",
            Self::Overrun => "overrun",
            Self::AclOut => "acl-out",
            Self::Mtu => "mtu",
            Self::QueueFull => "queue-full",
            Self::LinkDown => "link-down",
            Self::Rejected => "rejected",
            Self::Policed => "policed",
            Self::Storm => "storm",
            Self::LoopGuard => "loop-guard",
            Self::ImpairLossIn | Self::ImpairLossOut => "impair-loss",
            Self::ImpairQueueIn | Self::ImpairQueueOut => "impair-queue",
            Self::ImpairFlushedIn | Self::ImpairFlushedOut => "impair-flushed",
        }
    }

    /// Whether the frame was dropped on its way out of the port rather than on its way in.
    pub fn is_egress(self) -> bool {
        self as usize >= Self::AclOut as usize
    }
}

/// What became of the frames of one batch.
#[derive(Default)]
pub(crate) struct Tally {
    pub bytes: u64,
    pub forwarded: u64,
    pub flooded: u64,
    pub copies: u64,
}

/// The counters that one worker keeps for one port, on cache lines of their own.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct WorkerCounters {
    pub(super) rx_frames: Counter,
    pub(super) rx_bytes: Counter,
    pub(super) rx_forwarded: Counter,
    pub(super) rx_flooded: Counter,
    pub(super) flood_copies: Counter,
    pub(super) mirror_copies: Counter,
    pub(super) probes: Counter,
    pub(super) tx_frames: Counter,
    pub(super) tx_bytes: Counter,
    pub(super) rx_duplicates: Counter,
    pub(super) tx_duplicates: Counter,
    pub(super) tx_segments: Counter,
    pub(super) rx_corrupted: Counter,
    pub(super) tx_corrupted: Counter,
    pub(super) rx_reordered: Counter,
    pub(super) tx_reordered: Counter,
    drops: Drops,
}

/// A counter for each reason.
#[derive(Debug)]
struct Drops([Counter; DropReason::ALL.len()]);

impl Default for Drops {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Counter::default()))
    }
}

impl WorkerCounters {
    /// Counts a dropped frame.
    #[inline]
    pub fn drop_frame(&self, reason: DropReason) {
        self.drop_frames(reason, 1);
    }

    /// Counts `n` dropped frames.
    pub fn drop_frames(&self, reason: DropReason, n: u64) {
        self.drops.0[reason as usize].add(n);
    }

    /// Counts what became of `given` frames that a port was given.
    #[inline]
    pub(super) fn sent(&self, sent: &Sent, given: usize) {
        self.tx_frames.add(sent.frames);
        self.tx_bytes.add(sent.bytes);
        for (error, count) in sent.failures(given) {
            self.drop_frames(error.into(), count);
        }
    }

    /// Adds these to `total`.
    pub fn add_to(&self, total: &mut PortCounters) {
        total.rx_frames += self.rx_frames.get();
        total.rx_bytes += self.rx_bytes.get();
        total.rx_forwarded += self.rx_forwarded.get();
        total.rx_flooded += self.rx_flooded.get();
        total.flood_copies += self.flood_copies.get();
        total.mirror_copies += self.mirror_copies.get();
        total.probes += self.probes.get();
        total.tx_frames += self.tx_frames.get();
        total.tx_bytes += self.tx_bytes.get();
        total.impair.rx_duplicates += self.rx_duplicates.get();
        total.impair.tx_duplicates += self.tx_duplicates.get();
        total.impair.tx_segments += self.tx_segments.get();
        total.impair.rx_corrupted += self.rx_corrupted.get();
        total.impair.tx_corrupted += self.tx_corrupted.get();
        total.impair.rx_reordered += self.rx_reordered.get();
        total.impair.tx_reordered += self.tx_reordered.get();
        for reason in DropReason::ALL {
            let count = self.drops.0[reason as usize].get();
            if count > 0 {
                let drops = if reason.is_egress() {
                    &mut total.tx_drops
                } else {
                    &mut total.rx_drops
                };
                *drops.entry(reason.as_str().to_owned()).or_default() += count;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_has_its_place_and_word() {
        for (i, reason) in DropReason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, i);
            let word = |reason: DropReason| (reason.is_egress(), reason.as_str());
            assert_eq!(DropReason::ALL.iter().filter(|r| word(**r) == word(reason)).count(), 1);
        }
    }
}
