//! Entries of the forwarding database: what they are found by, what they hold, and what is said of them.

use vswitch_api::Mac;

use crate::PortId;

/// What is looked up: VLAN id (0 while the switch has none) and station.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FdbKey(pub(super) u64);

impl FdbKey {
    /// The key of a station. 00:00:00:00:00:00 is nobody's address: its key is that of no entry.
    #[inline]
    pub fn new(vlan: u16, mac: u64) -> Self {
        Self(u64::from(vlan) << 48 | mac)
    }

    /// It is no station's: without a VLAN its word is that of a free slot.
    pub(super) fn is_nobody(self) -> bool {
        self.0 << 16 == 0
    }

    /// The VLAN.
    pub fn vlan(self) -> u16 {
        (self.0 >> 48) as u16
    }

    /// The station.
    pub fn mac(self) -> Mac {
        let [_, _, mac @ ..] = self.0.to_be_bytes();
        Mac(mac)
    }
}

/// Where a station is, packed into the word that readers load at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place(pub(super) u64);

impl Place {
    const STATIC: u64 = 1 << 32;
    const STICKY: u64 = 1 << 33;
    pub(super) const KIND: u64 = Self::STATIC | Self::STICKY;

    pub(super) fn new(port: PortId, seen: u32, kind: EntryKind) -> Self {
        let kind = match kind {
            EntryKind::Learned => 0,
            EntryKind::Sticky => Self::STICKY,
            EntryKind::Static => Self::STATIC,
        };
        Self(u64::from(port.0) << 48 | kind | u64::from(seen))
    }

    pub(super) fn kind(self) -> EntryKind {
        match self.0 & Self::KIND {
            0 => EntryKind::Learned,
            Self::STICKY => EntryKind::Sticky,
            _ => EntryKind::Static,
        }
    }

    pub(super) fn port(self) -> PortId {
        PortId((self.0 >> 48) as u16)
    }

    /// It stays where it is.
    pub(super) fn is_fixed(self) -> bool {
        self.0 & Self::KIND != 0
    }

    pub(super) fn seen(self) -> u32 {
        self.0 as u32
    }
}

/// How an entry came into the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// By a frame from the station: it moves and ages.
    Learned,
    /// The same on a sticky port: it does neither.
    Sticky,
    /// By hand: it does neither, and is kept on disk.
    Static,
}

/// What may be learned on a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LearnRule {
    /// Most entries of the port.
    pub port_limit: u32,
    /// Most entries of the VLAN.
    pub vlan_limit: u32,
    /// [`EntryKind::Learned`] or [`EntryKind::Sticky`].
    pub kind: EntryKind,
}

impl LearnRule {
    /// Whatever comes.
    pub const PLAIN: Self = Self {
        port_limit: u32::MAX,
        vlan_limit: u32::MAX,
        kind: EntryKind::Learned,
    };

    /// Whether nothing but the table itself bounds what is learned.
    pub(super) fn is_unlimited(self) -> bool {
        self.port_limit == u32::MAX && self.vlan_limit == u32::MAX
    }
}

/// Which learned entries to remove.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FdbFilter {
    /// Only those behind this port.
    pub port: Option<PortId>,
    /// Only those of this VLAN.
    pub vlan: Option<u16>,
    /// Those on sticky ports too.
    pub sticky: bool,
}

impl FdbFilter {
    /// What was learned on a port, but for sticky stations.
    pub fn of_port(port: PortId) -> Self {
        Self {
            port: Some(port),
            ..Self::default()
        }
    }
}

/// What learning a source address did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Learned {
    /// Nothing new.
    Known,
    /// The station was not known before.
    New,
    /// It was behind this port before.
    Moved(PortId),
    /// It is not known, and the table is full.
    Full,
    /// It is not known here, and the port or the VLAN has as many as it may.
    Limited,
}

/// The table is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FdbFull;

/// An entry as control sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FdbRecord {
    /// The station.
    pub mac: Mac,
    /// Its VLAN; 0 for none.
    pub vlan: u16,
    /// The port behind which it is.
    pub port: PortId,
    /// Seconds since it was last seen; none for an entry set by hand.
    pub age_secs: Option<u32>,
    /// How it came.
    pub kind: EntryKind,
}
