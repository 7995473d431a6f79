//! What a port does to its traffic: impairment of the wire, an ingress policer, storm control. All are part of
//! [`crate::Port`]; one that does nothing is as good as none.
//!
//! Their text forms ([`std::fmt::Display`]) are what `vswitchctl` takes and shows: `delay 20ms, loss 1%`. Files and requests
//! may have those strings too (`loss = "1%"`, `delay = "20ms"`, `rate = "10mbit"`); numbers are what is written.

pub mod quantity;
mod text;
mod words;

use std::str::FromStr;

use serde::{Deserialize, Serialize, Serializer};
use utoipa::ToSchema;

use crate::name::InvalidValue;
use crate::policy::is_default;

pub use text::{Bits, Bytes, Micros};
pub(crate) use words::to_keys;
pub use words::with_words;

/// Frames that may wait in an impairment if nothing else is said.
pub const DEFAULT_LIMIT: u32 = 1000;
/// Most frames that may be let wait in one direction of a port.
pub const MAX_LIMIT: u32 = 100_000;
/// Longest delay and jitter, in microseconds.
pub const MAX_DELAY_US: u32 = 60_000_000;
/// Traffic classes of strict priority.
pub const CLASSES: usize = 8;
/// Highest rate, in bit/s or frames/s.
pub const MAX_RATE: u64 = 1_000_000_000_000;

/// A share of all frames, in steps of a millionth: a percentage (`"1%"`), or a fraction from 0.0 to 1.0, as it is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, ToSchema)]
#[schema(value_type = ShareForm, example = 0.01)]
pub struct Share(u32);

impl Share {
    /// None of them.
    pub const NONE: Self = Self(0);
    /// All of them.
    pub const ALL: Self = Self(Self::WHOLE);
    /// The millionths of [`Share::ALL`].
    pub const WHOLE: u32 = 1_000_000;

    /// A share in millionths; none above [`Share::WHOLE`].
    pub const fn from_ppm(ppm: u32) -> Option<Self> {
        if ppm <= Self::WHOLE { Some(Self(ppm)) } else { None }
    }

    /// A share as a fraction; none if it is not from 0 to 1, or too small to be told from nothing.
    pub fn from_fraction(fraction: f64) -> Option<Self> {
        let ppm = (fraction * f64::from(Self::WHOLE)).round();
        let fits = (0.0..=1.0).contains(&fraction) && (ppm > 0.0 || fraction == 0.0);
        fits.then_some(Self(ppm as u32))
    }

    /// In millionths.
    pub const fn ppm(self) -> u32 {
        self.0
    }

    /// As a fraction.
    pub fn fraction(self) -> f64 {
        f64::from(self.0) / f64::from(Self::WHOLE)
    }

    /// Nothing at all.
    pub const fn is_none(&self) -> bool {
        self.0 == 0
    }
}

impl Serialize for Share {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(self.fraction())
    }
}

/// The forms of a [`Share`], for the API's description.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
pub enum ShareForm {
    /// A fraction from 0 to 1.
    Fraction(f64),
    /// A percentage, such as `1%`.
    Percentage(String),
}

/// The forms of a quantity, for the API's description.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
pub enum QuantityForm {
    /// A number in the unit of the key.
    Number(u64),
    /// A text with its unit, such as `20ms`, `10mbit` or `64k`.
    Text(String),
}

/// How delays spread around the one that is set. Jitter is the standard deviation, of `uniform` the greatest deviation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Distribution {
    /// All delays from `delay - jitter` to `delay + jitter` alike.
    #[default]
    Uniform,
    /// The normal distribution, cut off at four deviations.
    Normal,
    /// Most delays a little shorter, few much longer (shape 3), cut off at four deviations.
    Pareto,
}

/// What happens to the frames of one direction of a port, as on a bad or slow wire. What is left out does not happen.
///
/// Where frames are to be lost, doubled, changed, reordered or slowed down, GSO frames are cut into the frames of a wire
/// first, and each of those has its own fate.
///
/// Quantities are written as numbers, in the unit of their key, and may be given as strings with their unit, also by the
/// names of the options: `"delay": "20ms"`, `"rate": "10mbit"`, `"pps": 1000`, `"burst": "64k"`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default, remote = "Self")]
pub struct Impairment {
    /// Microseconds that a frame is held back, 60 s at most.
    #[serde(skip_serializing_if = "is_zero")]
    #[serde(deserialize_with = "words::micros")]
    #[schema(value_type = QuantityForm)]
    pub delay_us: u32,
    /// Microseconds by which the delay varies; a delay never falls below 0. Frames may overtake each other.
    #[serde(skip_serializing_if = "is_zero")]
    #[serde(deserialize_with = "words::micros")]
    #[schema(value_type = QuantityForm)]
    pub jitter_us: u32,
    /// How the delay varies.
    #[serde(skip_serializing_if = "is_default")]
    pub distribution: Distribution,
    /// Share of frames lost.
    #[serde(skip_serializing_if = "Share::is_none")]
    pub loss: Share,
    /// Frames lost in a row, on average (Gilbert model); none: each frame is lost or not by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[serde(deserialize_with = "words::count")]
    #[schema(value_type = Option<QuantityForm>)]
    pub loss_burst: Option<u32>,
    /// Share of frames that arrive twice.
    #[serde(skip_serializing_if = "Share::is_none")]
    pub duplicate: Share,
    /// Share of frames that are not delayed, and so overtake those that are.
    #[serde(skip_serializing_if = "Share::is_none")]
    pub reorder: Share,
    /// Share of frames of which one bit is flipped, after their checksums are complete.
    #[serde(skip_serializing_if = "Share::is_none")]
    pub corrupt: Share,
    /// Bit/s that pass; a frame counts from its destination address to its last byte, without preamble and FCS.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[serde(deserialize_with = "words::bits")]
    #[schema(value_type = Option<QuantityForm>)]
    pub rate_bps: Option<u64>,
    /// Frames/s that pass.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[serde(deserialize_with = "words::pps")]
    #[schema(value_type = Option<QuantityForm>)]
    pub rate_pps: Option<u64>,
    /// Bytes that pass at once after a pause, with `rate_bps`; 0: each frame takes the time that a wire would need.
    #[serde(skip_serializing_if = "is_zero")]
    #[serde(deserialize_with = "words::size")]
    #[schema(value_type = QuantityForm)]
    pub burst_bytes: u32,
    /// The highest of eight traffic classes goes first, and when the queue is full the lowest loses. The class comes from the
    /// priority in the VLAN tag that the frame came with by table 8-5 of IEEE 802.1Q (1 is the lowest, then 0, 2 to 7), without a tag
    /// or with priority 0 from the class selector bits of an IP packet's DSCP (RFC 2474). Needs a rate: without one no frame waits for
    /// its turn.
    #[serde(skip_serializing_if = "is_default")]
    pub priority: bool,
    /// Frames, as on a wire, that may wait; more are dropped. What is due as it comes takes no room, and a line that holds nothing
    /// takes any GSO frame. None: 1000.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[serde(deserialize_with = "words::limit")]
    #[schema(value_type = Option<QuantityForm>)]
    pub limit: Option<u32>,
    /// Start of the random numbers, for runs that are to be the same; none: each run has its own. An edit of the port that says the
    /// impairment begins them anew, also if it says what is so already; the lab as a whole does not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seed: Option<u32>,
}

impl Serialize for Impairment {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Self::serialize(self, serializer)
    }
}

impl Serialize for RateLimit {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Self::serialize(self, serializer)
    }
}

impl Impairment {
    /// It changes nothing: as good as none.
    pub fn is_noop(&self) -> bool {
        self.delay_us == 0 && self.jitter_us == 0 && !self.needs_wire_frames()
    }

    /// GSO frames have to be cut into wire frames for it.
    pub fn needs_wire_frames(&self) -> bool {
        let shares = [self.loss, self.duplicate, self.reorder, self.corrupt];
        self.rate_bps.is_some() || self.rate_pps.is_some() || shares.iter().any(|share| !share.is_none())
    }

    /// Frames that may wait.
    pub fn limit(&self) -> u32 {
        self.limit.unwrap_or(DEFAULT_LIMIT)
    }
}

impl FromStr for Impairment {
    type Err = InvalidValue;

    /// Reads `delay=20ms,loss=1%,priority`: keys and values as a document has them; a key alone is one that is true.
    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        let mut document = serde_json::Map::new();
        for part in text.split(',') {
            let (key, value) = part.split_once('=').unwrap_or((part, ""));
            let value = match (key, value) {
                ("priority", "" | "true") => true.into(),
                ("priority", "false") => false.into(),
                (_, "") => {
                    let cause = format!("{part:?} has no value; write it as delay=20ms");
                    return Err(InvalidValue::new(cause));
                }
                (_, value) => value.parse().map_or_else(|_| value.into(), serde_json::Value::Number),
            };
            if document.insert(key.to_owned(), value).is_some() {
                return Err(InvalidValue::new(format!("{key} is given twice")));
            }
        }
        serde_json::from_value(document.into())
            .map_err(|error| InvalidValue::new(words::unknown_in_words(&error.to_string())))
    }
}

/// The impairments of a port, by direction as seen from the switch.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Impairments {
    /// Of what comes into the switch: what the namespace sends.
    #[serde(rename = "in", skip_serializing_if = "Option::is_none")]
    pub inward: Option<Impairment>,
    /// Of what goes out of the switch: what the namespace gets.
    #[serde(rename = "out", skip_serializing_if = "Option::is_none")]
    pub outward: Option<Impairment>,
}

impl Impairments {
    /// No direction is impaired.
    pub fn is_none(&self) -> bool {
        self.inward.is_none() && self.outward.is_none()
    }

    /// Those that are there, with the word of their direction.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, &Impairment)> {
        let both = [("in", &self.inward), ("out", &self.outward)];
        both.into_iter().filter_map(|(word, one)| Some((word, one.as_ref()?)))
    }
}

/// A rate above which frames are dropped; with both rates, both have to hold.
///
/// A GSO frame counts with all the bytes and frames that it takes on a wire. It passes or is dropped as a whole: it
/// passes if its first wire frame would, and what it is over is owed.
///
/// It may be given as a string too: `"10mbit burst 64k"`, `"100pps"`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default, remote = "Self")]
pub struct RateLimit {
    /// Bit/s; a frame counts from its destination address to its last byte, without preamble and FCS.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[serde(deserialize_with = "words::bits")]
    #[schema(value_type = Option<QuantityForm>)]
    pub rate_bps: Option<u64>,
    /// Frames/s.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[serde(deserialize_with = "words::pps")]
    #[schema(value_type = Option<QuantityForm>)]
    pub rate_pps: Option<u64>,
    /// Bytes that pass at once after a pause. None: what passes in a quarter of a second, at least 1 MiB, as TCP sends in bursts
    /// and slows down by much more than the rate where they are cut.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[serde(deserialize_with = "words::sizes")]
    #[schema(value_type = Option<QuantityForm>)]
    pub burst_bytes: Option<u32>,
    /// Frames that pass at once after a pause. None: what passes in a quarter of a second, at least 500, for the same reason; of storm
    /// control what passes in 10 ms, at least 16.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[serde(deserialize_with = "words::count")]
    #[schema(value_type = Option<QuantityForm>)]
    pub burst_frames: Option<u32>,
}

impl RateLimit {
    /// It limits nothing: as good as none.
    pub fn is_noop(&self) -> bool {
        self.rate_bps.is_none() && self.rate_pps.is_none()
    }

    /// Bytes that pass at once, for this rate in bit/s.
    pub fn burst_bytes(&self, bps: u64) -> u64 {
        let default = (bps / 32).max(1 << 20);
        self.burst_bytes.map_or(default, u64::from)
    }

    /// Frames that pass at once, for this rate in frames/s.
    pub fn burst_frames(&self, pps: u64) -> u64 {
        self.burst_frames.map_or((pps / 4).max(500), u64::from)
    }

    /// The same limit for frames that are flooded, of which no burst has to pass: no TCP is among them.
    pub fn of_floods(self) -> Self {
        let short = |pps: u64| u32::try_from((pps / 100).max(16)).unwrap_or(u32::MAX);
        Self {
            burst_frames: self.burst_frames.or(self.rate_pps.map(short)),
            ..self
        }
    }
}

/// How many frames from a port are flooded, by class; none: as many as come. It counts frames that came in, not the
/// copies that they are flooded as.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct StormControl {
    /// Frames for ff:ff:ff:ff:ff:ff.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub broadcast: Option<RateLimit>,
    /// Frames for other group addresses.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub multicast: Option<RateLimit>,
    /// Frames for a station that is not in the FDB.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unknown_unicast: Option<RateLimit>,
}

impl StormControl {
    /// Nothing is limited.
    pub fn is_none(&self) -> bool {
        self.iter().next().is_none()
    }

    /// The limits that are there, with the word of their class.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, &RateLimit)> {
        let all = [
            ("broadcast", &self.broadcast),
            ("multicast", &self.multicast),
            ("unknown-unicast", &self.unknown_unicast),
        ];
        all.into_iter().filter_map(|(word, one)| Some((word, one.as_ref()?)))
    }
}

/// What became of the frames in the impairments of a port, beyond those dropped (see the rule at
/// [`crate::view::PortCounters`]).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct ImpairCounters {
    /// Frames from the port that wait now; they are counted as received when they come out.
    pub rx_waiting: u64,
    /// Frames to the port that wait now.
    pub tx_waiting: u64,
    /// Frames from the port that were doubled; `rx_frames` counts both.
    pub rx_duplicates: u64,
    /// Frames to the port that were doubled.
    pub tx_duplicates: u64,
    /// Frames that came to be in addition where GSO frames to the port were cut: a GSO frame of 10 is 9 more.
    pub tx_segments: u64,
    /// Frames from the port with a flipped bit.
    pub rx_corrupted: u64,
    /// Frames to the port with a flipped bit.
    pub tx_corrupted: u64,
    /// Frames from the port that were not delayed.
    pub rx_reordered: u64,
    /// Frames to the port that were not delayed.
    pub tx_reordered: u64,
    /// With strict priority: what became of the frames from the port, lowest class first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rx_classes: Option<[ClassCounters; CLASSES]>,
    /// The same for frames to the port.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tx_classes: Option<[ClassCounters; CLASSES]>,
}

/// What became of the frames of a traffic class, since the direction was impaired.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ClassCounters {
    /// Frames that wait for their turn.
    pub waiting: u64,
    /// Frames that had their turn.
    pub sent: u64,
    /// Frames for which the queue had no room.
    pub dropped: u64,
}

impl ImpairCounters {
    /// Nothing has happened.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

fn is_zero(value: &u32) -> bool {
    *value == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_key_is_told_with_those_that_there_are_as_they_are_written() {
        let error = "dela=20ms".parse::<Impairment>().unwrap_err().to_string();
        assert!(
            error.starts_with("there is no \"dela\"; there are delay, jitter, "),
            "{error}"
        );
        assert!(!error.contains("_us") && !error.contains("_bps"), "{error}");
    }

    #[test]
    fn priority_is_said_by_its_name_alone_too() {
        for (text, is_set) in [("priority", true), ("priority=true", true), ("priority=false", false)] {
            let read: Impairment = format!("rate=10mbit,{text}").parse().unwrap();
            assert_eq!((read.priority, read.rate_bps), (is_set, Some(10_000_000)), "{text}");
        }
        assert!("delay".parse::<Impairment>().is_err() && "priority=5".parse::<Impairment>().is_err());
    }

    #[test]
    fn a_share_is_a_fraction_in_json() {
        let impairment: Impairment = serde_json::from_str(r#"{"loss":0.01,"corrupt":1.0}"#).unwrap();
        assert_eq!((impairment.loss.ppm(), impairment.corrupt), (10_000, Share::ALL));
        assert_eq!(
            serde_json::to_string(&impairment).unwrap(),
            r#"{"loss":0.01,"corrupt":1.0}"#
        );
        for wrong in ["1.01", "-0.1", "0.0000001"] {
            let error = serde_json::from_str::<Share>(wrong).unwrap_err().to_string();
            assert!(error.contains("0.0 to 1.0"), "{error}");
        }
    }

    #[test]
    fn nothing_set_is_nothing_done() {
        assert!(Impairment::default().is_noop() && RateLimit::default().is_noop() && StormControl::default().is_none());
        let delayed = Impairment {
            delay_us: 1,
            ..Impairment::default()
        };
        assert!(!delayed.is_noop() && !delayed.needs_wire_frames());
    }
}
