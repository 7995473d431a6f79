//! Counters of ports: each worker has a set of its own for each port, control adds them up.

use std::sync::atomic::{AtomicU64, Ordering};

use vswitch_api::view::PortCounters;

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
    /// Ingress: the virtio-net header does not fit the frame.
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
    /// Ingress: the port is the destination of a mirror, which carries copies only.
    MirrorPort,
    /// Ingress: the kernel had more frames for the daemon than its queue holds.
    Overrun,
    /// Egress: longer than the MTU of the port.
    Mtu,
    /// Egress: the queue of the port is full.
    QueueFull,
    /// Egress: the interface is down or gone.
    LinkDown,
    /// Egress: the kernel does not take the frame, or it can't be segmented.
    Rejected,
}

impl DropReason {
    /// All reasons, ingress first.
    pub const ALL: [Self; 14] = [
        Self::Malformed,
        Self::Runt,
        Self::Oversize,
        Self::PortDown,
        Self::MulticastSource,
        Self::ZeroSource,
        Self::ReservedMulticast,
        Self::SamePort,
        Self::MirrorPort,
        Self::Overrun,
        Self::Mtu,
        Self::QueueFull,
        Self::LinkDown,
        Self::Rejected,
    ];

    /// The word for it in the API.
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
            Self::MirrorPort => "mirror-port",
            Self::Overrun => "overrun",
            Self::Mtu => "mtu",
            Self::QueueFull => "queue-full",
            Self::LinkDown => "link-down",
            Self::Rejected => "rejected",
        }
    }

    /// Whether the frame was dropped on its way out of the port rather than on its way in.
    pub fn is_egress(self) -> bool {
        matches!(self, Self::Mtu | Self::QueueFull | Self::LinkDown | Self::Rejected)
    }
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
    pub(super) tx_frames: Counter,
    pub(super) tx_bytes: Counter,
    drops: [Counter; DropReason::ALL.len()],
}

impl WorkerCounters {
    /// Counts a dropped frame.
    #[inline]
    pub fn drop_frame(&self, reason: DropReason) {
        self.drop_frames(reason, 1);
    }

    /// Counts `n` dropped frames.
    pub fn drop_frames(&self, reason: DropReason, n: u64) {
        self.drops[reason as usize].add(n);
    }

    /// Adds these to `total`.
    pub fn add_to(&self, total: &mut PortCounters) {
        total.rx_frames += self.rx_frames.get();
        total.rx_bytes += self.rx_bytes.get();
        total.rx_forwarded += self.rx_forwarded.get();
        total.rx_flooded += self.rx_flooded.get();
        total.flood_copies += self.flood_copies.get();
        total.mirror_copies += self.mirror_copies.get();
        total.tx_frames += self.tx_frames.get();
        total.tx_bytes += self.tx_bytes.get();
        for reason in DropReason::ALL {
            let count = self.drops[reason as usize].get();
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
            assert_eq!(
                DropReason::ALL.iter().filter(|r| r.as_str() == reason.as_str()).count(),
                1
            );
        }
    }
}
