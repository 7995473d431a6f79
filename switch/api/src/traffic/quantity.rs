//! Numbers with units, as tc(8) takes them: `20ms`, `1%`, `100mbit`, `64k`. Each error is a whole sentence.

use super::{MAX_DELAY_US, MAX_LIMIT, MAX_RATE, RateLimit, Share};
use crate::number::{decimal, whole};

/// A number and its unit, in lower case; the number in steps of `1 / scale` for the scale that `units` gives it.
fn scaled(text: &str, units: &[(&str, u64)]) -> Option<f64> {
    let lower = text.trim().to_ascii_lowercase();
    let digits = lower
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(lower.len());
    let (number, unit) = lower.split_at(digits);
    let (_, scale) = units.iter().find(|(name, _)| *name == unit)?;
    let value = decimal(number)? * *scale as f64;
    value.is_finite().then(|| value.round())
}

/// A time, in microseconds.
pub fn micros(text: &str) -> Result<u32, String> {
    let value = scaled(text, &[("us", 1), ("ms", 1000), ("s", 1_000_000)]).ok_or_else(|| {
        format!("time {text:?} is not understood; give a number with its unit, such as 20ms, 500us or 1s")
    })?;
    if value > f64::from(MAX_DELAY_US) {
        return Err(format!("time {text:?} is out of range; give 60s or less"));
    }
    Ok(value as u32)
}

/// A share of the frames.
pub fn share(text: &str) -> Result<Share, String> {
    let wrong = |what: &str| format!("share {text:?} {what}; give a percentage from 0% to 100%, such as 1% or 0.1%");
    let number = text
        .trim()
        .strip_suffix('%')
        .ok_or_else(|| wrong("has no percent sign"))?;
    let percent = decimal(number).ok_or_else(|| wrong("is not understood"))?;
    Share::from_fraction(percent / 100.0).ok_or_else(|| wrong("is out of range"))
}

const BITS: [(&str, u64); 5] = [
    ("bit", 1),
    ("kbit", 1000),
    ("mbit", 1_000_000),
    ("gbit", 1_000_000_000),
    ("tbit", 1_000_000_000_000),
];

/// A rate in bit/s.
pub fn bits(text: &str) -> Result<u64, String> {
    let value = scaled(text, &BITS).ok_or_else(|| {
        format!("rate {text:?} is not understood; give it in bit/s with its unit, such as 100mbit, 1.5gbit or 64kbit")
    })?;
    in_range("rate", text, value)
}

/// A rate in frames/s.
pub fn pps(text: &str) -> Result<u64, String> {
    let value = scaled(text, &[("", 1), ("pps", 1)])
        .ok_or_else(|| format!("rate {text:?} is not understood; give it in frames/s, such as 1000pps"))?;
    if text.contains('.') {
        return Err(format!(
            "rate {text:?} has part of a frame; give a whole number of frames/s, such as 1000"
        ));
    }
    in_range("rate", text, value)
}

fn in_range(what: &str, text: &str, value: f64) -> Result<u64, String> {
    if (1.0..=MAX_RATE as f64).contains(&value) {
        Ok(value as u64)
    } else {
        Err(format!(
            "{what} {text:?} is out of range; give 1 to {MAX_RATE} a second"
        ))
    }
}

/// A rate in bit/s or frames/s.
pub fn either_rate(text: &str) -> Result<RateLimit, String> {
    let mut limit = RateLimit::default();
    if text.trim().to_ascii_lowercase().ends_with("pps") {
        limit.rate_pps = Some(pps(text)?);
    } else {
        let value = scaled(text, &BITS).ok_or_else(|| {
            format!("rate {text:?} is not understood; give frames/s or bit/s with the unit, such as 100pps or 1mbit")
        })?;
        limit.rate_bps = Some(in_range("rate", text, value)?);
    }
    Ok(limit)
}

/// A size in bytes; `k` and `m` are 1024 and 1024² bytes, as in tc.
pub fn bytes(text: &str) -> Result<u32, String> {
    let units = [
        ("", 1),
        ("b", 1),
        ("k", 1 << 10),
        ("kb", 1 << 10),
        ("m", 1 << 20),
        ("mb", 1 << 20),
    ];
    let value = scaled(text, &units)
        .ok_or_else(|| format!("size {text:?} is not understood; give bytes, such as 1500, 64k or 1m"))?;
    if value > f64::from(u32::MAX) {
        return Err(format!("size {text:?} is out of range; give less than 4096m"));
    }
    Ok(value as u32)
}

/// A number of frames that pass at once.
pub fn frames(text: &str) -> Result<u32, String> {
    match whole(text) {
        Some(value) if value > 0 => Ok(value),
        _ => Err(format!(
            "burst {text:?} is not understood; give a number of frames, such as 100"
        )),
    }
}

/// A number of frames that may wait.
pub fn limit(text: &str) -> Result<u32, String> {
    match whole(text) {
        Some(value) if (1..=MAX_LIMIT).contains(&value) => Ok(value),
        _ => Err(format!("limit {text:?} is out of range; give 1 to {MAX_LIMIT} frames")),
    }
}

#[cfg(test)]
mod tests {
    use crate::traffic::{Bits, Bytes, Micros};
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_has_no_unit_or_another_is_refused_with_an_example() {
        for (error, part) in [
            (micros("20").unwrap_err(), "20ms"),
            (micros("61s").unwrap_err(), "60s or less"),
            (micros("-1ms").unwrap_err(), "20ms"),
            (share("1").unwrap_err(), "has no percent sign"),
            (share("101%").unwrap_err(), "out of range"),
            (share("x%").unwrap_err(), "not understood"),
            (bits("100").unwrap_err(), "100mbit"),
            (bits("0mbit").unwrap_err(), "out of range"),
            (bits("100mbps").unwrap_err(), "100mbit"),
            (either_rate("100").unwrap_err(), "100pps"),
            (pps("1.5").unwrap_err(), "part of a frame"),
            (either_rate("1.4pps").unwrap_err(), "part of a frame"),
            (bytes("5x").unwrap_err(), "64k"),
            (bytes("4096m").unwrap_err(), "out of range"),
            (limit("0").unwrap_err(), "1 to 100000"),
        ] {
            assert!(error.contains(part), "{error}");
        }
        assert_eq!(micros("1.5ms"), Ok(1500));
        assert_eq!(bits("1.5Gbit"), Ok(1_500_000_000));
        assert_eq!(either_rate("100pps").unwrap().rate_pps, Some(100));
        assert_eq!(share("0.1%").unwrap().ppm(), 1000);
    }

    proptest! {
        #[test]
        fn what_is_shown_can_be_given_again(us in 0..=MAX_DELAY_US, bps in 1..=MAX_RATE, size: u32, ppm in 0..=1_000_000u32) {
            prop_assert_eq!(micros(&Micros(us).to_string()), Ok(us));
            prop_assert_eq!(bits(&Bits(bps).to_string()), Ok(bps));
            prop_assert_eq!(bytes(&Bytes(size).to_string()), Ok(size));
            let share_of = Share::from_ppm(ppm).unwrap();
            prop_assert_eq!(share(&share_of.to_string()), Ok(share_of));
        }

        #[test]
        fn no_text_makes_a_parser_panic(text: String) {
            let _ = (micros(&text), share(&text), bits(&text), either_rate(&text), bytes(&text), limit(&text));
        }
    }
}
