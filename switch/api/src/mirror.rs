//! Mirrors: copies of frames to a port (SPAN). Part of the lab; `GET /v1/mirrors` shows them at work.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::capture::Direction;
use crate::name::{MirrorName, PortName, SwitchName};
use crate::policy::{VlanId, VlanSet};

/// Copies of the frames of some ports of a switch to another port of it (SPAN) or into a VLAN (RSPAN).
///
/// A destination port carries copies only: it is flooded nothing, nothing is learned there, and what comes in from it is
/// dropped (`mirror-port`). A frame is copied once, however many of the ports it passes.
///
/// Copies into a VLAN go out of all ports that a setting has put into it but the one that the frame came from, with its tag in the place of the
/// one that says the frame's own VLAN. This switch and each other on their way must have the VLAN among its
/// [`crate::Switch::rspan_vlans`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Mirror {
    /// Unique name.
    pub name: MirrorName,
    /// Switch whose frames are copied.
    #[serde(default = "crate::lab::default_switch")]
    pub switch: SwitchName,
    /// Ports whose frames are copied; none: all but the destinations of mirrors.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<PortName>,
    /// Only what rules of access lists copy here, and nothing by port; then `ports` is empty.
    #[serde(default, skip_serializing_if = "crate::policy::is_default")]
    pub rules_only: bool,
    /// Which frames of these ports.
    #[serde(default)]
    pub direction: Direction,
    /// Only frames of these VLANs: those that the switch put them into, or, where it tells none apart, of their tags. None: of all and of none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vlans: Option<VlanSet>,
    /// The port that the copies go to. Either this or `to_vlan`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<PortName>,
    /// The VLAN that the copies go into.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to_vlan: Option<VlanId>,
    /// Only frames that this filter wants; none: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filter: Option<MirrorFilter>,
}

impl Mirror {
    /// Where the copies go, in words: `mon`, `VLAN 999`.
    pub fn destination(&self) -> String {
        match (&self.to, self.to_vlan) {
            (Some(port), _) => port.to_string(),
            (None, Some(vlan)) => format!("VLAN {vlan}"),
            (None, None) => "nowhere".to_owned(),
        }
    }
}

/// A filter of frames.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MirrorFilter {
    /// The expression as it was given, for people.
    pub expression: String,
    /// The classic BPF program that was made of it, as in [`crate::capture::CaptureOptions::filter`].
    pub program: String,
}

/// A mirror and what it did. `GET /v1/mirrors`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MirrorView {
    /// Its settings.
    #[serde(flatten)]
    pub mirror: Mirror,
    /// False: the destination is missing, so that nothing is copied.
    pub active: bool,
    /// Frames copied since it was added or the daemon started. What of them did not fit through the destination is
    /// among its `tx_drops`.
    pub frames: u64,
    /// Bytes of those.
    pub bytes: u64,
}
