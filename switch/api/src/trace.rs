//! What the switch would do with a frame, and why. `POST /v1/ports/{name}/trace`

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::name::{Mac, PortName};

/// A frame to trace. It is neither sent nor counted, and nothing is learned from it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TraceRequest {
    /// The frame in hexadecimal, from the destination address on, without the frame check sequence. Colons, spaces
    /// and line ends are passed over.
    pub frame: String,
}

impl TraceRequest {
    /// This frame, in hexadecimal.
    pub fn new(frame: impl Into<String>) -> Self {
        Self { frame: frame.into() }
    }
}

/// Which real frames to trace. `GET /v1/ports/{name}/trace`
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub struct LiveOptions {
    /// End after so many frames; none: go on until the client goes.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[serde(deserialize_with = "crate::number::optional")]
    pub count: Option<u64>,
    /// Only frames that this program wants, see [`crate::capture::CaptureOptions::filter`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub filter: Option<String>,
}

/// The way of a frame, step by step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TraceReport {
    /// What becomes of it in the end. Copies of mirrors do not count.
    pub outcome: TraceOutcome,
    /// Why it is dropped: a word of the drop counters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Ports that it goes out of.
    pub ports: Vec<PortName>,
    /// The steps, in order.
    pub steps: Vec<TraceStep>,
}

/// What becomes of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum TraceOutcome {
    /// It goes to the one port where its destination is.
    Forwarded,
    /// It goes to all other ports.
    Flooded,
    /// It goes nowhere.
    Dropped,
    /// None that this version knows; the daemon is newer.
    #[serde(other)]
    Unknown,
}

/// One step of the way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TraceStep {
    /// Where in the pipeline.
    pub stage: TraceStage,
    /// The port that it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<PortName>,
    /// Why the frame ends here: a word of the drop counters; none: it goes on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dropped: Option<String>,
    /// What was found, in words.
    pub detail: String,
}

/// A place in the pipeline, in the order it is walked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum TraceStage {
    /// The stack that would send the frame: its routes and neighbours. Only `vswitchctl` looks there.
    Sender,
    /// The port that the frame comes in from.
    Ingress,
    /// Impairment of the wire.
    Impair,
    /// The policer of the ingress port.
    Police,
    /// The checks that every frame has to pass.
    Admit,
    /// The VLAN that it is in.
    Vlan,
    /// Pinned addresses and access control list of the ingress port.
    Rules,
    /// A probe of the loop guard: of this switch it is taken out, of another one it goes on.
    Punt,
    /// What its source address teaches.
    Learn,
    /// Where its destination address is.
    LookUp,
    /// Storm control of the ingress port.
    Storm,
    /// Copies.
    Mirror,
    /// The way out of a port.
    Egress,
    /// None that this version knows; the daemon is newer.
    #[serde(other)]
    Unknown,
}

impl TraceStage {
    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sender => "sender",
            Self::Ingress => "ingress",
            Self::Impair => "impair",
            Self::Police => "police",
            Self::Storm => "storm",
            Self::Admit => "admit",
            Self::Vlan => "vlan",
            Self::Rules => "rules",
            Self::Punt => "punt",
            Self::Learn => "learn",
            Self::LookUp => "look-up",
            Self::Mirror => "mirror",
            Self::Egress => "egress",
            Self::Unknown => "unknown",
        }
    }
}

/// A real frame that came in, and its way. One line of JSON each.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LiveTrace {
    /// Nanoseconds since the Unix epoch.
    pub time_ns: u64,
    /// The frame in hexadecimal.
    pub frame: String,
    /// Frames that came before and were left out because the reader was too slow.
    pub lost_before: u64,
    /// Its way, by the tables as they are just after it passed.
    pub report: TraceReport,
}

/// Which address is asked about. `GET /v1/ports/{name}/way`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct WayQuery {
    /// The address.
    #[schema(value_type = String, example = "192.168.15.2")]
    #[param(value_type = String, example = "192.168.15.2")]
    pub to: IpAddr,
}

impl WayQuery {
    /// The way to this address.
    pub fn new(to: IpAddr) -> Self {
        Self { to }
    }
}

/// What the stack that has the interface of a port would do with a packet for an address. `GET /v1/ports/{name}/way`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "way", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum WayView {
    /// It has no route there.
    NoRoute,
    /// It is an address of its own.
    Own,
    /// It goes out of another interface.
    Elsewhere {
        /// Name of that.
        dev: String,
    },
    /// It goes out of the interface of the port.
    Here {
        /// Who has to take it on the link: the address itself, or a router.
        #[schema(value_type = String)]
        next_hop: IpAddr,
        /// MAC address of that, if the stack knows it now.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        mac: Option<Mac>,
        /// Kernel's word for how well it knows it: `reachable`, `stale`, `failed`, ...
        #[serde(default, skip_serializing_if = "Option::is_none")]
        state: Option<String>,
    },
    /// The stack behind the port is not this machine's, or out of reach, so that it can't be told; or a newer daemon tells it in a word
    /// that this version does not know.
    #[serde(other)]
    Unknown,
}
