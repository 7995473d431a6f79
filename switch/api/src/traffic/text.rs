//! The settings in words, with the units that `vswitchctl` takes.

use std::fmt;

use super::{Distribution, Impairment, RateLimit, Share};

/// A time in microseconds: `20ms`, `1.5ms`, `200us`, `1s`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Micros(pub u32);

/// A rate in bit/s: `100mbit`, `1.5gbit`, `64kbit`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bits(pub u64);

/// A size in bytes: `64k`, `1m` (1024 and 1024²), `1500b`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bytes(pub u32);

/// `value / scale` if three decimals are enough for it.
fn decimal(value: u64, scale: u64) -> Option<String> {
    let (whole, rest) = (value / scale, value % scale);
    let thousandths = u128::from(rest) * 1000;
    if whole == 0 || thousandths % u128::from(scale) != 0 {
        return None;
    }
    let text = format!("{whole}.{:03}", thousandths / u128::from(scale));
    Some(text.trim_end_matches('0').trim_end_matches('.').to_owned())
}

impl fmt::Display for Micros {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = u64::from(self.0);
        match (decimal(value, 1_000_000), decimal(value, 1000)) {
            (Some(seconds), _) => write!(f, "{seconds}s"),
            (None, Some(millis)) => write!(f, "{millis}ms"),
            (None, None) => write!(f, "{value}us"),
        }
    }
}

impl fmt::Display for Bits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [("gbit", 1_000_000_000), ("mbit", 1_000_000), ("kbit", 1000)];
        match units
            .iter()
            .find_map(|(unit, scale)| Some((unit, decimal(self.0, *scale)?)))
        {
            Some((unit, number)) => write!(f, "{number}{unit}"),
            None => write!(f, "{}bit", self.0),
        }
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            bytes if bytes > 0 && bytes % (1 << 20) == 0 => write!(f, "{}m", bytes >> 20),
            bytes if bytes > 0 && bytes % (1 << 10) == 0 => write!(f, "{}k", bytes >> 10),
            bytes => write!(f, "{bytes}b"),
        }
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = format!("{}.{:04}", self.ppm() / 10_000, self.ppm() % 10_000);
        write!(f, "{}%", text.trim_end_matches('0').trim_end_matches('.'))
    }
}

impl fmt::Display for Distribution {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Uniform => "uniform",
            Self::Normal => "normal",
            Self::Pareto => "pareto",
        })
    }
}

/// `delay 20ms, loss 1%`: each setting by the name of its option.
impl fmt::Display for Impairment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut words = Vec::new();
        let mut say = |set: bool, name: &str, value: String| {
            if set {
                words.push(format!("{name} {value}"));
            }
        };
        let spread = self.distribution != Distribution::default();
        say(self.delay_us > 0, "delay", Micros(self.delay_us).to_string());
        say(self.jitter_us > 0, "jitter", Micros(self.jitter_us).to_string());
        say(spread, "distribution", self.distribution.to_string());
        say(!self.loss.is_none(), "loss", self.loss.to_string());
        say(
            self.loss_burst.is_some(),
            "loss-burst",
            self.loss_burst.unwrap_or(0).to_string(),
        );
        say(!self.duplicate.is_none(), "duplicate", self.duplicate.to_string());
        say(!self.reorder.is_none(), "reorder", self.reorder.to_string());
        say(!self.corrupt.is_none(), "corrupt", self.corrupt.to_string());
        say(
            self.rate_bps.is_some(),
            "rate",
            Bits(self.rate_bps.unwrap_or(0)).to_string(),
        );
        say(self.rate_pps.is_some(), "pps", self.rate_pps.unwrap_or(0).to_string());
        say(self.burst_bytes > 0, "burst", Bytes(self.burst_bytes).to_string());
        if self.priority {
            words.push("priority".to_owned());
        }
        let mut say = |set: bool, name: &str, value: String| {
            if set {
                words.push(format!("{name} {value}"));
            }
        };
        say(self.limit.is_some(), "limit", self.limit.unwrap_or(0).to_string());
        say(self.seed.is_some(), "seed", self.seed.unwrap_or(0).to_string());
        f.write_str(&or_none(&words))
    }
}

/// `100mbit burst 64k, 1000pps`.
impl fmt::Display for RateLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let burst = |text: Option<String>| text.map_or_else(String::new, |text| format!(" burst {text}"));
        let bytes = || burst(self.burst_bytes.map(|bytes| Bytes(bytes).to_string()));
        let frames = || burst(self.burst_frames.map(|frames| frames.to_string()));
        let bits = self.rate_bps.map(|bps| format!("{}{}", Bits(bps), bytes()));
        let pps = self.rate_pps.map(|pps| format!("{pps}pps{}", frames()));
        f.write_str(&or_none(&bits.into_iter().chain(pps).collect::<Vec<_>>()))
    }
}

fn or_none(words: &[String]) -> String {
    if words.is_empty() {
        "none".to_owned()
    } else {
        words.join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_the_unit_that_keeps_them_short_and_exact() {
        for (value, text) in [
            (0, "0us"),
            (200, "200us"),
            (20_000, "20ms"),
            (1500, "1.5ms"),
            (2_000_000, "2s"),
        ] {
            assert_eq!(Micros(value).to_string(), text);
        }
        assert_eq!(Micros(1_000_001).to_string(), "1000.001ms");
        for (value, text) in [
            (999, "999bit"),
            (64_000, "64kbit"),
            (100_000_000, "100mbit"),
            (1_500_000_000, "1.5gbit"),
        ] {
            assert_eq!(Bits(value).to_string(), text);
        }
        assert_eq!(Bits(1_000_001).to_string(), "1000.001kbit");
        for (value, text) in [(0, "0b"), (1500, "1500b"), (65_536, "64k"), (1 << 20, "1m")] {
            assert_eq!(Bytes(value).to_string(), text);
        }
        for (ppm, text) in [
            (0, "0%"),
            (1, "0.0001%"),
            (10_000, "1%"),
            (1_000_000, "100%"),
            (123_400, "12.34%"),
        ] {
            assert_eq!(Share::from_ppm(ppm).unwrap().to_string(), text);
        }
    }

    #[test]
    fn a_setting_is_said_by_the_name_of_its_option() {
        let impairment = Impairment {
            delay_us: 20_000,
            loss: Share::from_ppm(10_000).unwrap(),
            loss_burst: Some(5),
            rate_bps: Some(100_000_000),
            ..Impairment::default()
        };
        assert_eq!(
            impairment.to_string(),
            "delay 20ms, loss 1%, loss-burst 5, rate 100mbit"
        );
        assert_eq!(Impairment::default().to_string(), "none");
        let limit = RateLimit {
            rate_bps: Some(100_000_000),
            rate_pps: Some(1000),
            burst_bytes: Some(65_536),
            burst_frames: None,
        };
        assert_eq!(limit.to_string(), "100mbit burst 64k, 1000pps");
    }
}
