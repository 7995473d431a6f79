//! Capturing the frames of a port. `GET /v1/ports/{name}/capture`

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::name::{InvalidValue, PortName};

/// Field of the head of an answer: the number by which the capture can be ended. `DELETE /v1/captures/{id}`
pub const CAPTURE_ID: &str = "capture-id";

/// Which frames of a port are meant, as the port sees them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// Those that come in from the port.
    #[serde(alias = "in")]
    Rx,
    /// Those that go out to the port.
    #[serde(alias = "out")]
    Tx,
    /// Both.
    #[default]
    Both,
}

impl Direction {
    /// Whether frames that come in are meant.
    pub fn rx(self) -> bool {
        matches!(self, Self::Rx | Self::Both)
    }

    /// Whether frames that go out are meant.
    pub fn tx(self) -> bool {
        matches!(self, Self::Tx | Self::Both)
    }

    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Rx => "rx",
            Self::Tx => "tx",
            Self::Both => "both",
        }
    }
}

/// Ports beside the one that a request names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Also {
    /// None.
    #[default]
    None,
    /// All.
    All,
    /// These.
    Ports(Vec<PortName>),
}

impl Also {
    /// There are none.
    pub fn is_none(&self) -> bool {
        *self == Self::None
    }
}

impl FromStr for Also {
    type Err = InvalidValue;
    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        match text {
            "" => Ok(Self::None),
            "*" => Ok(Self::All),
            names => names
                .split(',')
                .map(str::parse)
                .collect::<Result<_, _>>()
                .map(Self::Ports),
        }
    }
}

impl TryFrom<String> for Also {
    type Error = InvalidValue;
    fn try_from(text: String) -> Result<Self, InvalidValue> {
        text.parse()
    }
}

impl From<Also> for String {
    fn from(also: Also) -> Self {
        also.to_string()
    }
}

impl fmt::Display for Also {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => Ok(()),
            Self::All => f.write_str("*"),
            Self::Ports(names) => {
                let names: Vec<_> = names.iter().map(PortName::as_str).collect();
                f.write_str(&names.join(","))
            }
        }
    }
}

/// What is captured and how it is written. Without any option: all frames, whole, until the client goes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub struct CaptureOptions {
    /// Other ports whose frames come into the same file, with an interface there for each: their names with commas between,
    /// or `*` for all that there are and that are not missing.
    #[serde(skip_serializing_if = "Also::is_none")]
    #[schema(value_type = String, example = "blue,green")]
    #[param(value_type = String, example = "blue,green")]
    pub also: Also,
    /// Only frames that this classic BPF program wants: the output of `tcpdump -ddd -y EN10MB EXPRESSION` with commas
    /// for its line ends. It sees frames as they cross the switch: a GSO frame once, before it is cut up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub filter: Option<String>,
    /// Only frames that go this way.
    pub direction: Direction,
    /// Bytes of each frame to keep; none: all.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 262144)]
    #[param(minimum = 1, maximum = 262144)]
    #[serde(deserialize_with = "crate::number::optional")]
    pub snaplen: Option<u32>,
    /// Cut GSO frames into the frames that a wire would carry; otherwise they are written whole.
    pub segment: bool,
    /// End after so many frames.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[serde(deserialize_with = "crate::number::optional")]
    pub count: Option<u64>,
    /// End after so many milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[serde(deserialize_with = "crate::number::optional")]
    pub duration_ms: Option<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_ports_are_read_as_they_are_written() {
        for text in ["", "*", "blue", "blue,green+1"] {
            assert_eq!(text.parse::<Also>().unwrap().to_string(), text);
        }
        for text in [",", "blue,", "blue, green", "*,blue"] {
            assert!(text.parse::<Also>().is_err(), "{text}");
        }
    }
}
