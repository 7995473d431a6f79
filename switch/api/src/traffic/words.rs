//! How settings of traffic are read: as the strings of the command line (`"20ms"`, `"1%"`, `"10mbit"`) or as the numbers
//! that the API writes.
//!
//! Beside the keys that name their unit (`delay_us`) there are the words of the options (`delay`), which want a string
//! where a bare number would not say what it counts.

use std::fmt;
use std::marker::PhantomData;
use std::str::FromStr;

use serde::de::value::{MapAccessDeserializer, StringDeserializer};
use serde::de::{self, Deserialize, DeserializeSeed, Deserializer, IntoDeserializer, MapAccess, Visitor};
use serde_json::{Map, Value};
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{ObjectBuilder, OneOfBuilder, Schema, Type};

use super::quantity::{bytes, either_rate, frames};
use super::{Impairment, RateLimit, Share, quantity};
use crate::number::Whole;
use crate::strict::Strict;

/// A word for a setting.
struct Word {
    /// The word, as the option of the command line has it.
    word: &'static str,
    /// The key that it stands for.
    key: &'static str,
    /// An example of its value, if a bare number would not say what it counts.
    text: Option<&'static str>,
}

const fn word(word: &'static str, key: &'static str, text: Option<&'static str>) -> Word {
    Word { word, key, text }
}

const IMPAIRMENT: [Word; 5] = [
    word("delay", "delay_us", Some("20ms")),
    word("jitter", "jitter_us", Some("5ms")),
    word("rate", "rate_bps", Some("10mbit")),
    word("pps", "rate_pps", None),
    word("burst", "burst_bytes", None),
];
/// A message of serde about a key of an impairment that there is none of, with those that there are as they are written.
pub(super) fn unknown_in_words(message: &str) -> String {
    let mut quoted = message.split('`').skip(1).step_by(2);
    let (Some(key), true) = (quoted.next(), message.starts_with("unknown field")) else {
        return message.to_owned();
    };
    let spelt = |key| {
        IMPAIRMENT
            .iter()
            .find(|word| word.key == key)
            .map_or(key, |word| word.word)
    };
    format!(
        "there is no {key:?}; there are {}",
        quoted.map(spelt).collect::<Vec<_>>().join(", ")
    )
}

const RATE_LIMIT: [Word; 3] = [
    word("rate", "rate_bps", Some("10mbit")),
    word("pps", "rate_pps", None),
    word("burst", "burst_bytes", None),
];

/// Adds to the schema of this name what is taken besides the keys that the type has: their words, and for a rate limit the text that is
/// all of it.
pub fn with_words(name: &str, schema: &mut RefOr<Schema>) {
    let words = match name {
        "Impairment" => &IMPAIRMENT[..],
        "RateLimit" => &RATE_LIMIT,
        _ => return,
    };
    let RefOr::T(Schema::Object(object)) = schema else {
        return;
    };
    for Word { word, key, text } in words {
        let Some(of_key) = object.properties.get(*key) else {
            continue;
        };
        let property = match text {
            Some(example) => {
                let about = format!("The same as `{key}`, as a text with its unit.");
                let text = ObjectBuilder::new().schema_type(Type::String).description(Some(about));
                Schema::Object(text.examples([*example]).build()).into()
            }
            None => of_key.clone(),
        };
        object.properties.insert((*word).to_owned(), property);
    }
    if name == "RateLimit" {
        let about = "All of it as a text: `100pps`, `10mbit burst 64k`.";
        let text = ObjectBuilder::new().schema_type(Type::String).description(Some(about));
        let either = OneOfBuilder::new()
            .description(object.description.clone())
            .item(text.examples(["10mbit burst 64k"]))
            .item(object.clone());
        *schema = Schema::OneOf(either.build()).into();
    }
}

/// A map in which words stand for keys.
struct Worded<A> {
    map: A,
    words: &'static [Word],
    /// The word of the value that comes next.
    last: Option<&'static Word>,
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Worded<A> {
    type Error = A::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, A::Error> {
        self.last = None;
        let key = Key {
            seed,
            words: self.words,
            last: &mut self.last,
        };
        self.map.next_key_seed(key)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, A::Error> {
        match self.last.and_then(|word| Some((word.word, word.text?))) {
            Some((word, example)) => self.map.next_value_seed(Text { seed, word, example }),
            None => self.map.next_value_seed(seed),
        }
    }
}

struct Key<'a, K> {
    seed: K,
    words: &'static [Word],
    last: &'a mut Option<&'static Word>,
}

impl<'de, K: DeserializeSeed<'de>> DeserializeSeed<'de> for Key<'_, K> {
    type Value = K::Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<K::Value, D::Error> {
        let mut key = String::deserialize(deserializer)?;
        *self.last = self.words.iter().find(|word| word.word == key);
        if let Some(word) = self.last {
            word.key.clone_into(&mut key);
        }
        self.seed.deserialize(key.into_deserializer())
    }
}

/// A value that has to be text.
struct Text<V> {
    seed: V,
    word: &'static str,
    example: &'static str,
}

impl<'de, V: DeserializeSeed<'de>> DeserializeSeed<'de> for Text<V> {
    type Value = V::Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<V::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

fn with_unit(word: &str, example: &str) -> String {
    format!("{word} with its unit, as a string: {example:?}, for a number alone may count anything")
}

impl<'de, V: DeserializeSeed<'de>> Visitor<'de> for Text<V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&with_unit(self.word, self.example))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<V::Value, E> {
        let text: StringDeserializer<E> = text.to_owned().into_deserializer();
        self.seed.deserialize(text)
    }
}

/// A whole number, or a text that says one with its unit.
struct Reader<T> {
    read: fn(&str) -> Result<T, String>,
}

impl<T: Whole> Visitor<'_> for Reader<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "a whole number from 0 to {}, or a string such as the command line takes",
            T::MAX
        )
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<T, E> {
        let unexpected = de::Unexpected::Unsigned(number);
        T::try_from(number).map_err(|_| E::invalid_value(unexpected, &self))
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<T, E> {
        match u64::try_from(number) {
            Ok(number) => self.visit_u64(number),
            Err(_) => Err(E::invalid_value(de::Unexpected::Signed(number), &self)),
        }
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        (self.read)(text).map_err(E::custom)
    }
}

impl<'de, T: Whole> DeserializeSeed<'de> for Reader<T> {
    type Value = T;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<T, D::Error> {
        deserializer.deserialize_any(self)
    }
}

/// The same for what may be left out.
struct Optional<T>(Reader<T>);

impl<'de, T: Whole> Visitor<'de> for Optional<T> {
    type Value = Option<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.expecting(f)
    }

    fn visit_none<E>(self) -> Result<Option<T>, E> {
        Ok(None)
    }

    fn visit_unit<E>(self) -> Result<Option<T>, E> {
        Ok(None)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Option<T>, D::Error> {
        self.0.deserialize(deserializer).map(Some)
    }

    /// Behind a word there is always a value.
    fn visit_str<E: de::Error>(self, text: &str) -> Result<Option<T>, E> {
        self.0.visit_str(text).map(Some)
    }
}

macro_rules! readers {
    ($($name:ident: $type:ty, $read:path;)*) => {
        $(pub(super) fn $name<'de, D: Deserializer<'de>>(deserializer: D) -> Result<$type, D::Error> {
            Reader { read: $read }.deserialize(deserializer)
        })*
    };
}

macro_rules! optional_readers {
    ($($name:ident: $type:ty, $read:path;)*) => {
        $(pub(super) fn $name<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<$type>, D::Error> {
            deserializer.deserialize_option(Optional(Reader { read: $read }))
        })*
    };
}

readers! {
    micros: u32, quantity::micros;
    size: u32, quantity::bytes;
}

optional_readers! {
    bits: u64, quantity::bits;
    pps: u64, quantity::pps;
    sizes: u32, quantity::bytes;
    count: u32, quantity::frames;
    limit: u32, quantity::limit;
}

impl<'de> Deserialize<'de> for Share {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ShareReader)
    }
}

/// `"1%"`, or a fraction with a decimal point, as the API writes it. A whole number may be meant as either, so it is
/// refused but for 0.
struct ShareReader;

impl Visitor<'_> for ShareReader {
    type Value = Share;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a share of the frames: a percentage such as \"1%\", or a fraction from 0.0 to 1.0")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Share, E> {
        quantity::share(text).map_err(E::custom)
    }

    fn visit_f64<E: de::Error>(self, fraction: f64) -> Result<Share, E> {
        Share::from_fraction(fraction).ok_or_else(|| {
            E::custom(format!(
                "{fraction} is no share of the frames; give a percentage such as \"1%\", or a fraction from 0.0 to 1.0 in \
                 steps of 0.000001"
            ))
        })
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<Share, E> {
        match number {
            0 => Ok(Share::NONE),
            _ => Err(E::custom(format!(
                "a share of {number} may be meant as a percentage or as a fraction; write \"{number}%\", with the percent \
                 sign and as a string"
            ))),
        }
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<Share, E> {
        match u64::try_from(number) {
            Ok(number) => self.visit_u64(number),
            Err(_) => Err(E::invalid_value(de::Unexpected::Signed(number), &self)),
        }
    }
}

/// Reads a map by the words of its kind.
struct MapReader<T> {
    words: &'static [Word],
    what: &'static str,
    /// Reads the map as the keys have it.
    kind: PhantomData<T>,
}

/// What is a map with words for keys, and perhaps a text.
trait Settings: Sized {
    fn by_keys<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error>;
    fn by_text(text: &str) -> Option<Result<Self, String>>;
}

impl<'de, T: Settings> Visitor<'de> for MapReader<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.what)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
        T::by_keys(Strict(MapAccessDeserializer::new(Worded {
            map,
            words: self.words,
            last: None,
        })))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        match T::by_text(text) {
            Some(read) => read.map_err(E::custom),
            None => Err(E::invalid_type(de::Unexpected::Str(text), &self)),
        }
    }
}

impl Settings for Impairment {
    fn by_keys<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::deserialize(deserializer)
    }

    fn by_text(_: &str) -> Option<Result<Self, String>> {
        None
    }
}

impl Settings for RateLimit {
    fn by_keys<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::deserialize(deserializer)
    }

    fn by_text(text: &str) -> Option<Result<Self, String>> {
        Some(text.parse())
    }
}

impl<'de> Deserialize<'de> for Impairment {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(MapReader {
            words: &IMPAIRMENT,
            what: "an object with the settings of an impairment, such as { delay = \"20ms\", loss = \"1%\" }",
            kind: PhantomData,
        })
    }
}

impl<'de> Deserialize<'de> for RateLimit {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(MapReader {
            words: &RATE_LIMIT,
            what: "an object with a rate, such as { rate = \"10mbit\" }, or a string such as \"100pps\" or \"10mbit burst 64k\"",
            kind: PhantomData,
        })
    }
}

/// Puts keys for words in a merge patch of a port: what is there already has keys, and is not to be said a second time.
///
/// # Errors
/// A number behind a word that wants a unit, or the same by word and by key.
pub(crate) fn to_keys(port: &mut Map<String, Value>) -> Result<(), String> {
    for (name, words) in [("impair", &IMPAIRMENT[..]), ("storm", &RATE_LIMIT)] {
        for (part, settings) in port.get_mut(name).and_then(Value::as_object_mut).into_iter().flatten() {
            rename(words, settings).map_err(|cause| format!("{name}.{part}.{cause}"))?;
        }
    }
    let police = port.get_mut("police").map(|settings| rename(&RATE_LIMIT, settings));
    police.unwrap_or(Ok(())).map_err(|cause| format!("police.{cause}"))
}

fn rename(words: &[Word], settings: &mut Value) -> Result<(), String> {
    let Value::Object(settings) = settings else {
        return Ok(());
    };
    for Word { word, key, text } in words {
        let Some(value) = settings.remove(*word) else { continue };
        if let Some(example) = text
            && !(value.is_string() || value.is_null())
        {
            let expected = with_unit(word, example);
            return Err(format!("{word}: invalid value {value}, expected {expected}"));
        }
        if settings.insert((*key).to_owned(), value).is_some() {
            return Err(format!("{word}: duplicate of {key}; give one of them"));
        }
    }
    Ok(())
}

/// As it is shown: `100mbit burst 64k, 1000pps`.
impl FromStr for RateLimit {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut limit = Self::default();
        for part in text.split(',') {
            let mut words = part.split_whitespace();
            let rate = either_rate(words.next().unwrap_or_default())?;
            let burst = match (words.next(), words.next(), words.next()) {
                (None, ..) => None,
                (Some("burst"), Some(burst), None) => Some(burst),
                _ => {
                    return Err(format!(
                        "rate {text:?} is not understood; write it as 100pps or 10mbit burst 64k"
                    ));
                }
            };
            let twice = || Err(format!("rate {text:?} names two rates of one kind; give one"));
            if rate.rate_bps.is_some() {
                if limit.rate_bps.is_some() {
                    return twice();
                }
                limit.rate_bps = rate.rate_bps;
                limit.burst_bytes = burst.map(bytes).transpose()?;
            } else {
                if limit.rate_pps.is_some() {
                    return twice();
                }
                limit.rate_pps = rate.rate_pps;
                limit.burst_frames = burst.map(frames).transpose()?;
            }
        }
        Ok(limit)
    }
}

#[cfg(test)]
mod tests;
