//! Numbers as text: digits and nothing else. Rust's own parsers take a sign, by which `--trunk +30` once meant "only 30".
//!
//! Everything that reads a number from a text (an option, a rule, a query) does it here, so that a sign, a space or an
//! exponent is refused in all places alike.

use std::fmt;
use std::marker::PhantomData;
use std::str::FromStr;

use serde::de::{self, Deserializer, Visitor};

/// A whole number that types of settings hold.
pub trait Whole: Copy + FromStr + TryFrom<u64> + fmt::Display {
    /// The greatest one.
    const MAX: Self;
}

macro_rules! whole {
    ($($type:ty),*) => {
        $(impl Whole for $type {
            const MAX: Self = <$type>::MAX;
        })*
    };
}

whole!(u8, u16, u32, u64, usize);

/// A whole number in decimal digits; none if there is anything else, or if it does not fit.
pub fn whole<T: Whole>(text: &str) -> Option<T> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

/// A whole number in digits of this base.
pub fn in_base(text: &str, base: u32) -> Option<u32> {
    let digits = text.chars().all(|digit| digit.is_digit(base));
    digits.then(|| u32::from_str_radix(text, base).ok()).flatten()
}

/// A number in decimal digits, perhaps with a point among them.
pub fn decimal(text: &str) -> Option<f64> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    digits.then(|| text.parse().ok()).flatten()
}

/// What is wrong with a text that [`whole`] does not take.
pub fn no_whole<T: Whole>(text: &str) -> String {
    format!("{text:?} is not a whole number from 0 to {}", T::MAX)
}

/// What serde says of a number that its type does not hold (``invalid value: integer `70000`, expected u16``), without the words of
/// Rust; None of any other message.
pub fn does_not_fit(message: &str) -> Option<String> {
    let (number, of_type) = message
        .strip_prefix("invalid value: integer `")?
        .split_once("`, expected ")?;
    let greatest = match of_type {
        "u8" => u64::from(u8::MAX),
        "u16" => u64::from(u16::MAX),
        "u32" => u64::from(u32::MAX),
        "u64" | "usize" => u64::MAX,
        _ => return None,
    };
    Some(format!("{number} is not a whole number from 0 to {greatest}"))
}

/// Reads a whole number, or its digits as text, as queries have them.
///
/// # Errors
/// A sign, another form, or a number that does not fit.
pub fn deserialize<'de, D: Deserializer<'de>, T: Whole>(deserializer: D) -> Result<T, D::Error> {
    struct Reader<T>(PhantomData<T>);

    impl<T: Whole> Visitor<'_> for Reader<T> {
        type Value = T;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "a whole number from 0 to {}", T::MAX)
        }

        fn visit_u64<E: de::Error>(self, number: u64) -> Result<T, E> {
            T::try_from(number).map_err(|_| E::custom(no_whole::<T>(&number.to_string())))
        }

        fn visit_i64<E: de::Error>(self, number: i64) -> Result<T, E> {
            let positive = u64::try_from(number).map_err(|_| E::custom(no_whole::<T>(&number.to_string())))?;
            self.visit_u64(positive)
        }

        fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
            whole(text).ok_or_else(|| E::custom(no_whole::<T>(text)))
        }
    }

    deserializer.deserialize_any(Reader(PhantomData))
}

/// The same for what may be left out.
///
/// # Errors
/// Those of [`deserialize`].
pub fn optional<'de, D: Deserializer<'de>, T: Whole>(deserializer: D) -> Result<Option<T>, D::Error> {
    struct Reader<T>(PhantomData<T>);

    impl<'de, T: Whole> Visitor<'de> for Reader<T> {
        type Value = Option<T>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "a whole number from 0 to {}", T::MAX)
        }

        fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Option<T>, D::Error> {
            self::deserialize(deserializer).map(Some)
        }

        fn visit_none<E>(self) -> Result<Option<T>, E> {
            Ok(None)
        }

        fn visit_unit<E>(self) -> Result<Option<T>, E> {
            Ok(None)
        }
    }

    deserializer.deserialize_option(Reader(PhantomData))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::acl::AclRule;
    use crate::name::{IfAddr, Mac};
    use crate::policy::{VlanId, VlanSet};
    use crate::traffic::quantity;

    /// No text form of a number takes a sign, an exponent or a blank inside (faults A6).
    #[test]
    fn a_sign_is_part_of_no_number() {
        let refused = |what: &str, text: &str, taken: bool| assert!(!taken, "{what} {text:?} was taken");
        for sign in ["+", "-"] {
            let with = |text: &str| format!("{sign}{text}");
            refused("whole", &with("1"), whole::<u16>(&with("1")).is_some());
            refused("decimal", &with("1"), decimal(&with("1")).is_some());
            refused("hex", &with("1"), in_base(&with("1"), 16).is_some());
            refused("VLAN", &with("10"), with("10").parse::<VlanId>().is_ok());
            for set in ["10", "10,20", "20-29"] {
                refused("VLANs", &with(set), with(set).parse::<VlanSet>().is_ok());
            }
            let range = format!("20-{sign}29");
            refused("VLANs", &range, range.parse::<VlanSet>().is_ok());
            for rule in [
                format!("deny tcp to any port {sign}22"),
                format!("deny tcp to any port 1-{sign}22"),
                format!("deny any vlan {sign}10"),
                format!("deny icmp type {sign}8"),
                format!("deny proto {sign}89"),
                format!("deny ethertype 0x{sign}8cc"),
                format!("deny from 10.0.0.0/{sign}8"),
                format!("police {sign}10mbit any"),
                format!("police 10mbit burst {sign}64k any"),
                format!("police 10pps burst {sign}64 any"),
            ] {
                refused("rule", &rule, rule.parse::<AclRule>().is_ok());
            }
            refused("time", &with("1ms"), quantity::micros(&with("1ms")).is_ok());
            refused("share", &with("1%"), quantity::share(&with("1%")).is_ok());
            refused("rate", &with("1mbit"), quantity::bits(&with("1mbit")).is_ok());
            refused("rate", &with("1pps"), quantity::pps(&with("1pps")).is_ok());
            refused("rate", &with("1pps"), quantity::either_rate(&with("1pps")).is_ok());
            refused("size", &with("64k"), quantity::bytes(&with("64k")).is_ok());
            refused("burst", &with("5"), quantity::frames(&with("5")).is_ok());
            refused("limit", &with("5"), quantity::limit(&with("5")).is_ok());
            let address = format!("10.0.0.1/{sign}24");
            refused("address", &address, address.parse::<IfAddr>().is_ok());
            let mac = format!("{sign}2:00:00:00:00:01");
            refused("MAC", &mac, mac.parse::<Mac>().is_ok());
        }
        for text in ["1e1%", "inf%", "NaN%", "1e3us", "0x1s", "1_000pps"] {
            refused("share", text, quantity::share(text).is_ok());
            refused("time", text, quantity::micros(text).is_ok());
            refused("rate", text, quantity::pps(text).is_ok());
        }
        assert_eq!((whole::<u16>("010"), whole::<u16>("65536")), (Some(10), None));
    }
}
