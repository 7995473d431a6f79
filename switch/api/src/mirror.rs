//! Mirrors: copies of frames to a port (SPAN). Part of the lab; `GET /v1/mirrors` shows them at work.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::capture::Direction;
use crate::name::{MirrorName, PortName, SwitchName};

/// Copies of the frames of some ports of a switch to another port of it.
///
/// The destination carries copies only: it is flooded nothing, nothing is learned there, and what comes in from it is
/// dropped (`mirror-port`). A frame is copied once, however many of the ports it passes.
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
    /// Where the copies go.
    pub to: PortName,
    /// Only frames that this filter wants; none: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filter: Option<MirrorFilter>,
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
