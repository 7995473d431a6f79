//! What a port lets in and out, the same for `add-port` and `set port`.

use clap::{Args, ValueEnum};
use ipnet::IpNet;
use vswitch_api::Mac;
use vswitch_api::policy::{
    AcceptFrames, BeyondLimit, Flooding, Isolation, Learning, Pin, PortVlan, TagKind, Trunk, VlanId, VlanSet,
};

use super::parse::{self, Switched};

/// Heading of these options in the help.
const HEADING: &str = "What the port lets in and out";

/// Options that say what a port lets in and out. What is not said stays as it is.
#[derive(Args, Clone, Debug, Default)]
#[group(skip)]
pub struct PolicyArgs {
    /// Access port of this VLAN, untagged; `all`: no VLAN setting
    #[arg(long, value_name = "VLAN|all", value_parser = parse::vlan_or_all, conflicts_with_all = ["trunk", "tunnel"], help_heading = HEADING)]
    pub vlan: Option<VlanOrAll>,
    /// Trunk port of these VLANs, tagged, such as 10,20-29
    #[arg(long, value_name = "VLANS", conflicts_with = "tunnel", help_heading = HEADING)]
    pub trunk: Option<VlanSet>,
    /// VLAN of untagged frames on a trunk (default: none, they are dropped)
    #[arg(long, value_name = "VLAN", requires = "trunk", help_heading = HEADING)]
    pub native: Option<VlanId>,
    /// Tags of a trunk: 802.1Q (0x8100) or, for tunnels, 802.1ad (0x88a8)
    #[arg(long, value_enum, value_name = "TAG", requires = "trunk", help_heading = HEADING)]
    pub tag: Option<Tag>,
    /// Tunnel port (QinQ): all frames, with whatever tags, are carried inside this service VLAN
    #[arg(long, value_name = "VLAN", help_heading = HEADING)]
    pub tunnel: Option<VlanId>,
    /// Accept frames by their tag
    #[arg(long, value_enum, value_name = "FRAMES", help_heading = HEADING)]
    pub accept: Option<Accept>,
    /// Learn the stations behind the port
    #[arg(long, value_enum, value_name = "on|off", help_heading = HEADING)]
    pub learning: Option<Switched>,
    /// What is learned neither moves nor ages
    #[arg(long, value_enum, value_name = "on|off", help_heading = HEADING)]
    pub sticky: Option<Switched>,
    /// Only stations known to be behind the port may send
    #[arg(long, value_enum, value_name = "on|off", help_heading = HEADING)]
    pub locked: Option<Switched>,
    /// Most stations that are learned on the port, 0 = no limit
    #[arg(long, value_name = "N", help_heading = HEADING)]
    pub mac_limit: Option<u32>,
    /// What happens to frames from stations beyond the limit
    #[arg(long, value_enum, value_name = "WHAT", help_heading = HEADING)]
    pub beyond_limit: Option<Beyond>,
    /// What is flooded to the port, of unknown-unicast, multicast, broadcast; or all, none
    #[arg(long, value_delimiter = ',', value_enum, value_name = "CLASSES", help_heading = HEADING)]
    pub flood: Option<Vec<FloodClass>>,
    /// Frames may go back out of the port that they came in at
    #[arg(long, value_enum, value_name = "on|off", help_heading = HEADING)]
    pub hairpin: Option<Switched>,
    /// Whom the port exchanges frames with: promiscuous (all), isolated (promiscuous ports only), or the number of a community
    #[arg(long, value_name = "WHOM", value_parser = parse::isolation, help_heading = HEADING)]
    pub isolation: Option<Isolation>,
    /// Source MAC addresses the port may use: own (the one vswitch gave it), a list, or any
    #[arg(long, value_name = "MACS", value_parser = parse::pinned::<Mac>, help_heading = HEADING)]
    pub pin_mac: Option<Pinned<Mac>>,
    /// Source IP addresses the port may use: own (those vswitch gave it), a list of addresses or networks, or any. The IPv6 link-local
    /// address made from its MAC address is one of them; others, as of RFC 7217, have to be in the list (fe80::/10: all)
    #[arg(long, value_name = "IPS", value_parser = parse::pinned::<parse::HostOrNet>, help_heading = HEADING)]
    pub pin_ip: Option<Pinned<parse::HostOrNet>>,
    /// A port with pinned addresses may send router advertisements and redirects
    #[arg(long, value_enum, value_name = "on|off", help_heading = HEADING)]
    pub allow_ra: Option<Switched>,
}

/// Names of the options, for the group of settings that `set port` wants one of.
pub const NAMES: [&str; 17] = [
    "vlan",
    "trunk",
    "native",
    "tag",
    "tunnel",
    "accept",
    "learning",
    "sticky",
    "locked",
    "mac_limit",
    "beyond_limit",
    "flood",
    "hairpin",
    "isolation",
    "pin_mac",
    "pin_ip",
    "allow_ra",
];

/// A VLAN, or no setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VlanOrAll {
    /// No setting.
    All,
    /// One VLAN.
    One(VlanId),
}

/// Addresses that a port may use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pinned<T> {
    /// Any.
    Any,
    /// Those that vswitch gave it.
    Own,
    /// These.
    These(Vec<T>),
}

impl<T> Pinned<T> {
    fn into_list<U: From<T>>(self) -> Option<Vec<U>> {
        match self {
            Self::Any => None,
            Self::Own => Some(Vec::new()),
            Self::These(list) => Some(list.into_iter().map(U::from).collect()),
        }
    }
}

/// [`TagKind`] with its words and help texts.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Tag {
    /// 802.1Q, TPID 0x8100
    Customer,
    /// 802.1ad, TPID 0x88a8
    Service,
}

/// [`AcceptFrames`] with its words and help texts.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Accept {
    /// With and without a VLAN tag
    All,
    /// Only with a VLAN tag
    Tagged,
    /// Only without one
    Untagged,
}

/// [`BeyondLimit`] with its words and help texts.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Beyond {
    /// They pass; the station is not learned
    Flood,
    /// They are dropped
    Drop,
    /// They are dropped and the port is shut until `set port NAME --up`
    Shut,
}

/// What may be flooded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum FloodClass {
    /// Everything
    All,
    /// Nothing
    None,
    /// To stations that are not known
    UnknownUnicast,
    /// To groups
    Multicast,
    /// To all
    Broadcast,
}

impl PolicyArgs {
    /// The VLAN setting, if one was given.
    pub fn port_vlan(&self) -> Option<PortVlan> {
        if let Some(allowed) = &self.trunk {
            let tag = match self.tag {
                Some(Tag::Service) => TagKind::Service,
                _ => TagKind::Customer,
            };
            return Some(PortVlan::Trunk(Trunk {
                allowed: allowed.clone(),
                native: self.native,
                tag,
            }));
        }
        match (self.tunnel, self.vlan) {
            (Some(id), _) => Some(PortVlan::Tunnel(id)),
            (None, Some(VlanOrAll::One(id))) => Some(PortVlan::Access(id)),
            (None, Some(VlanOrAll::All)) => Some(PortVlan::All),
            (None, None) => None,
        }
    }

    /// Which frames come in, if it was said.
    pub fn accept_frames(&self) -> Option<AcceptFrames> {
        self.accept.map(|accept| match accept {
            Accept::All => AcceptFrames::All,
            Accept::Tagged => AcceptFrames::Tagged,
            Accept::Untagged => AcceptFrames::Untagged,
        })
    }

    /// `before` with what was said of learning; none if nothing was.
    pub fn learning(&self, before: Learning) -> Option<Learning> {
        let mut learning = before;
        set(&mut learning.enabled, self.learning);
        set(&mut learning.sticky, self.sticky);
        set(&mut learning.locked, self.locked);
        if let Some(limit) = self.mac_limit {
            learning.limit = Some(limit).filter(|limit| *limit > 0);
        }
        if let Some(beyond) = self.beyond_limit {
            learning.beyond = match beyond {
                Beyond::Flood => BeyondLimit::Flood,
                Beyond::Drop => BeyondLimit::Drop,
                Beyond::Shut => BeyondLimit::Shut,
            };
        }
        let said = self.learning.is_some()
            || self.sticky.is_some()
            || self.locked.is_some()
            || self.mac_limit.is_some()
            || self.beyond_limit.is_some();
        said.then_some(learning)
    }

    /// `before` with what was said of flooding; none if nothing was.
    pub fn flooding(&self, before: Flooding) -> Option<Flooding> {
        let mut flooding = before;
        if let Some(classes) = &self.flood {
            let all = classes.contains(&FloodClass::All);
            let has = |class| all || classes.contains(&class);
            flooding.unknown_unicast = has(FloodClass::UnknownUnicast);
            flooding.multicast = has(FloodClass::Multicast);
            flooding.broadcast = has(FloodClass::Broadcast);
        }
        set(&mut flooding.hairpin, self.hairpin);
        (self.flood.is_some() || self.hairpin.is_some()).then_some(flooding)
    }

    /// `before` with what was said of pinned addresses; none if nothing was.
    pub fn pin(&self, before: Pin) -> Option<Pin> {
        let mut pin = before;
        if let Some(pinned) = &self.pin_mac {
            pin.mac = pinned.clone().into_list();
        }
        if let Some(pinned) = &self.pin_ip {
            pin.ip = pinned.clone().into_list::<IpNet>();
        }
        set(&mut pin.allow_ra, self.allow_ra);
        (self.pin_mac.is_some() || self.pin_ip.is_some() || self.allow_ra.is_some()).then_some(pin)
    }
}

fn set(value: &mut bool, said: Option<Switched>) {
    if let Some(said) = said {
        *value = said == Switched::On;
    }
}
