//! What a port lets in and out, the same for `add-port` and `set port`.

use std::str::FromStr;

use clap::{Args, Command, Id, ValueEnum};
use vswitch_api::Mac;
use vswitch_api::name::InvalidValue;
use vswitch_api::policy::{AcceptFrames, BeyondLimit, HostOrNet, Isolation, PortVlan, TagKind, Trunk, VlanId, VlanSet};
use vswitch_api::settings::is_back;

use super::parse::{self, Said, Switched, said};

/// Heading of these options in the help.
const HEADING: &str = "What the port lets in and out";

/// Options that say what a port lets in and out. What is not said stays as it is.
#[derive(Args, Clone, Debug, Default)]
#[group(skip)]
pub struct PolicyArgs {
    /// Access port of this VLAN, untagged; `all`: no VLAN setting
    #[arg(long, value_name = "VLAN|all", value_parser = parse::vlan_or_all, conflicts_with_all = ["trunk", "tunnel"], help_heading = HEADING)]
    pub vlan: Option<VlanOrAll>,
    /// Trunk port of these VLANs, tagged, such as 10,20-29; on a trunk +30 adds VLAN 30, and -30 takes it away
    #[arg(long, value_name = "VLANS", allow_hyphen_values = true, conflicts_with = "tunnel", help_heading = HEADING)]
    pub trunk: Option<TrunkVlans>,
    /// VLAN of untagged frames on a trunk (default: none, they are dropped)
    #[arg(long, value_name = "VLAN", value_parser = |text: &str| said(text, parse::vlan), requires = "trunk", conflicts_with_all = ["vlan", "tunnel"], help_heading = HEADING)]
    pub native: Option<Said<VlanId>>,
    /// Tags of a trunk: 802.1Q (0x8100) or, for tunnels, 802.1ad (0x88a8)
    #[arg(long, value_enum, value_name = "TAG", requires = "trunk", conflicts_with_all = ["vlan", "tunnel"], help_heading = HEADING)]
    pub tag: Option<Tag>,
    /// Tunnel port (QinQ): all frames, with whatever tags, are carried inside this service VLAN
    #[arg(long, value_name = "VLAN", value_parser = |text: &str| said(text, parse::vlan), help_heading = HEADING)]
    pub tunnel: Option<Said<VlanId>>,
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
    #[arg(long, value_name = "N", value_parser = parse::limit, help_heading = HEADING)]
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
    #[arg(long, value_name = "IPS", value_parser = parse::pinned::<HostOrNet>, help_heading = HEADING)]
    pub pin_ip: Option<Pinned<HostOrNet>>,
    /// A port with pinned addresses may send router advertisements and redirects
    #[arg(long, value_enum, value_name = "on|off", help_heading = HEADING)]
    pub allow_ra: Option<Switched>,
}

/// Names of the options, for the group of settings that `set port` wants one of.
pub fn names() -> Vec<Id> {
    let options = PolicyArgs::augment_args(Command::new("policy"));
    options.get_arguments().map(|option| option.get_id().clone()).collect()
}

/// A VLAN, or no setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VlanOrAll {
    /// No setting.
    All,
    /// One VLAN.
    One(VlanId),
}

/// VLANs of a trunk: all of them, or how they change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TrunkVlans {
    /// It is no trunk.
    Back,
    /// These and no others.
    These(VlanSet),
    /// Those that it has and these, without those.
    Change {
        /// What is added.
        add: Option<VlanSet>,
        /// What is taken away.
        remove: Option<VlanSet>,
    },
}

impl FromStr for TrunkVlans {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if is_back(text) {
            return Ok(Self::Back);
        }
        let parts: Vec<_> = text.split(',').map(str::trim).collect();
        let of_sign = |sign: char| -> Result<Option<VlanSet>, String> {
            let parts: Vec<_> = parts.iter().filter_map(|part| part.strip_prefix(sign)).collect();
            let set = (!parts.is_empty()).then(|| parts.join(",").parse::<VlanSet>());
            set.transpose().map_err(|error| error.to_string())
        };
        if !text.contains(['+']) && parts.iter().all(|part| !part.starts_with('-')) {
            return text
                .parse()
                .map(Self::These)
                .map_err(|error: InvalidValue| error.to_string());
        }
        if let Some(part) = parts.iter().find(|part| !part.starts_with(['+', '-'])) {
            return Err(format!(
                "VLANs {text:?}: {part:?} has no sign, and others have; write +{part} to add it, or all without signs to \
                 replace the list"
            ));
        }
        let (add, remove) = (of_sign('+')?, of_sign('-')?);
        if let (Some(add), Some(remove)) = (&add, &remove)
            && add.without(remove).as_ref() != Some(add)
        {
            return Err(format!(
                "VLANs {text:?}: one of them is both added and taken away; say one of the two"
            ));
        }
        Ok(Self::Change { add, remove })
    }
}

impl TrunkVlans {
    /// The trunk, if it is to be one, made of what the port is `before`.
    fn trunk(&self, before: &PortVlan) -> Result<Option<Trunk>, String> {
        let new = |allowed: &VlanSet| Trunk {
            allowed: allowed.clone(),
            native: None,
            tag: TagKind::Customer,
        };
        match (self, before) {
            (Self::Back, _) => Ok(None),
            (Self::These(allowed), _) => Ok(Some(new(allowed))),
            (Self::Change { add, remove }, PortVlan::Trunk(trunk)) => {
                let mut trunk = trunk.clone();
                if let Some(add) = add {
                    trunk.allowed = trunk.allowed.with(add);
                }
                if let Some(remove) = remove {
                    let left = trunk.allowed.without(remove);
                    trunk.allowed = left.ok_or_else(|| {
                        format!(
                            "it would have no VLAN left of {}; give it another setting, such as --vlan",
                            trunk.allowed
                        )
                    })?;
                }
                Ok(Some(trunk))
            }
            (Self::Change { .. }, _) => {
                Err("it is no trunk, so that VLANs can't be added to it or taken away; give all of them, such as --trunk 10,20".to_owned())
            }
        }
    }
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

/// [`TagKind`] with its words and help texts.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Tag {
    /// 802.1Q, TPID 0x8100
    Customer,
    /// 802.1ad, TPID 0x88a8
    Service,
    /// As if nothing was said
    #[value(hide = true, alias = "none")]
    Default,
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
    /// As if nothing was said
    #[value(hide = true, alias = "none")]
    Default,
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
    /// As if nothing was said
    #[value(hide = true, alias = "none")]
    Default,
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
    /// As if nothing was said
    #[value(hide = true)]
    Default,
}

impl Beyond {
    /// What it says.
    pub fn beyond(self) -> BeyondLimit {
        match self {
            Self::Flood => BeyondLimit::Flood,
            Self::Drop => BeyondLimit::Drop,
            Self::Shut => BeyondLimit::Shut,
            Self::Default => BeyondLimit::default(),
        }
    }
}

impl FloodClass {
    /// Whether a class is flooded if this is said.
    pub fn has(said: &[Self], class: Self) -> bool {
        // What is flooded if nothing is said is everything.
        said.iter().any(|one| [Self::All, Self::Default, class].contains(one))
    }
}

impl PolicyArgs {
    /// Whether what is said can only be told from what a port has now.
    pub fn needs_before(&self) -> bool {
        matches!(self.trunk, Some(TrunkVlans::Change { .. }))
    }

    /// Why what is said can't be meant: of classes that are flooded, one word says all of it.
    pub fn wrong(&self) -> Option<String> {
        let classes = self.flood.as_deref().unwrap_or_default();
        let whole = classes.iter().find_map(|class| match class {
            FloodClass::All => Some("all"),
            FloodClass::None => Some("none"),
            FloodClass::Default => Some("default"),
            FloodClass::UnknownUnicast | FloodClass::Multicast | FloodClass::Broadcast => None,
        });
        whole
            .filter(|_| classes.len() > 1)
            .map(|whole| format!("--flood {whole} says it of all classes, and others are named beside it"))
    }

    /// The VLAN setting, if one was given, made of what it is `before`.
    ///
    /// # Errors
    /// VLANs are added to what is no trunk, or none is left.
    pub fn port_vlan(&self, before: &PortVlan) -> Result<Option<PortVlan>, String> {
        let Some(vlans) = &self.trunk else {
            return Ok(self.untrunked());
        };
        let Some(mut trunk) = vlans.trunk(before)? else {
            return Ok(Some(PortVlan::All));
        };
        if let Some(native) = self.native {
            trunk.native = native.to();
        }
        match self.tag {
            Some(Tag::Service) => trunk.tag = TagKind::Service,
            Some(Tag::Customer | Tag::Default) => trunk.tag = TagKind::Customer,
            None => {}
        }
        Ok(Some(PortVlan::Trunk(trunk)))
    }

    fn untrunked(&self) -> Option<PortVlan> {
        match (self.tunnel, self.vlan) {
            (Some(Said::To(id)), _) => Some(PortVlan::Tunnel(id)),
            (Some(Said::Back), _) => Some(PortVlan::All),
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
            Accept::Default => AcceptFrames::default(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(change: &str, before: &str) -> Result<String, String> {
        let before = PortVlan::Trunk(Trunk {
            allowed: before.parse().unwrap(),
            native: None,
            tag: TagKind::Service,
        });
        let trunk = change.parse::<TrunkVlans>()?.trunk(&before)?.ok_or("none")?;
        Ok(trunk.allowed.to_string())
    }

    /// A sign says that the list changes, and is never part of a number (faults A6).
    #[test]
    fn signs_change_the_list_of_a_trunk() {
        for (change, result) in [
            ("30", "30"),
            ("30-39,50", "30-39,50"),
            ("all", "all"),
            ("+30", "10,20,30"),
            ("-20", "10"),
            ("+30-39,-20", "10,30-39"),
            ("-20,+30,+40", "10,30,40"),
            ("+10", "10,20"),
            ("-99", "10,20"),
            ("+all", "all"),
        ] {
            assert_eq!(after(change, "10,20").as_deref(), Ok(result), "{change}");
        }
        for (wrong, part) in [
            ("+30,40", "write +40"),
            ("30,-40", "\"30\" has no sign"),
            ("++30", "\"+30\""),
            ("+-30", "not a number"),
            ("-", "not a number"),
            ("+", "not a number"),
            ("+20-+29", "+29"),
            ("+20--29", "-29"),
            ("+30,-30", "both"),
            ("-10,-20", "no VLAN left of 10,20"),
            ("-all", "no VLAN left"),
            ("10-+20", "sign"),
        ] {
            let error = after(wrong, "10,20").expect_err(wrong);
            assert!(error.contains(part), "{wrong}: {error}");
        }
        let change: TrunkVlans = "+30".parse().unwrap();
        assert!(change.trunk(&PortVlan::All).unwrap_err().contains("no trunk"));
    }
}
