//! Reading values so that an object is an object. serde's derived types take an array for a struct, field by field in the order
//! of the source: `[]` would be a whole lab, and `[1400]` an MTU. Here that is an error, at any depth and in any format.

use std::fmt;

use serde::de::{
    Deserialize, DeserializeOwned, DeserializeSeed, Deserializer, EnumAccess, Error, IgnoredAny, IntoDeserializer,
    MapAccess, SeqAccess, Unexpected, VariantAccess, Visitor,
};

use crate::reply::is_read_leniently;

/// Why a value can't be read: where it is wrong, and how.
pub type PathError<E> = serde_path_to_error::Error<E>;

/// Reads JSON.
///
/// # Errors
/// The text is no JSON, or not of a `T`.
pub fn from_json<T: DeserializeOwned>(text: &[u8]) -> Result<T, PathError<serde_json::Error>> {
    let mut json = serde_json::Deserializer::from_slice(text);
    let value = from_deserializer(&mut json)?;
    json.end()
        .map_err(|error| PathError::new(serde_path_to_error::Track::new().path(), error))?;
    Ok(value)
}

/// Reads a JSON value.
///
/// # Errors
/// It is not of a `T`.
pub fn from_value<T: DeserializeOwned>(value: serde_json::Value) -> Result<T, PathError<serde_json::Error>> {
    from_deserializer(value)
}

/// Reads from any deserializer, and tells the path of what is wrong.
///
/// # Errors
/// What comes is not of a `T`.
pub fn from_deserializer<'de, T: Deserialize<'de>, D: Deserializer<'de>>(from: D) -> Result<T, PathError<D::Error>> {
    serde_path_to_error::deserialize(Strict(from))
}

/// A deserializer, or a part of one, that takes no array for a struct.
pub struct Strict<T>(pub T);

/// Passes on everything that a visitor may be shown. With keys it waits for a struct that has those, and a sequence is none.
struct Watch<V>(V, Option<&'static [&'static str]>);

/// The members of an object; with keys only those that have one of them.
struct Members<A>(A, Option<&'static [&'static str]>);

macro_rules! forward {
    ($($method:ident($($arg:ident: $type:ty),*))*) => {
        $(fn $method<V: Visitor<'de>>(self, $($arg: $type,)* visitor: V) -> Result<V::Value, D::Error> {
            self.0.$method($($arg,)* Watch(visitor, None))
        })*
    };
}

impl<'de, D: Deserializer<'de>> Deserializer<'de> for Strict<D> {
    type Error = D::Error;

    forward! {
        deserialize_any() deserialize_bool() deserialize_i8() deserialize_i16() deserialize_i32() deserialize_i64()
        deserialize_i128() deserialize_u8() deserialize_u16() deserialize_u32() deserialize_u64() deserialize_u128()
        deserialize_f32() deserialize_f64() deserialize_char() deserialize_str() deserialize_string() deserialize_bytes()
        deserialize_byte_buf() deserialize_option() deserialize_unit() deserialize_seq() deserialize_map()
        deserialize_identifier() deserialize_ignored_any() deserialize_unit_struct(name: &'static str)
        deserialize_newtype_struct(name: &'static str) deserialize_tuple(len: usize)
        deserialize_tuple_struct(name: &'static str, len: usize)
        deserialize_enum(name: &'static str, variants: &'static [&'static str])
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.0.deserialize_struct(name, fields, Watch(visitor, Some(fields)))
    }

    fn is_human_readable(&self) -> bool {
        self.0.is_human_readable()
    }
}

macro_rules! show {
    ($($method:ident($type:ty))*) => {
        $(fn $method<E: Error>(self, value: $type) -> Result<V::Value, E> {
            self.0.$method(value)
        })*
    };
}

impl<'de, V: Visitor<'de>> Visitor<'de> for Watch<V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.expecting(f)
    }

    show! {
        visit_bool(bool) visit_i8(i8) visit_i16(i16) visit_i32(i32) visit_i64(i64) visit_i128(i128) visit_u8(u8)
        visit_u16(u16) visit_u32(u32) visit_u64(u64) visit_u128(u128) visit_f32(f32) visit_f64(f64) visit_char(char)
        visit_str(&str) visit_borrowed_str(&'de str) visit_string(String) visit_bytes(&[u8]) visit_borrowed_bytes(&'de [u8])
        visit_byte_buf(Vec<u8>)
    }

    fn visit_none<E: Error>(self) -> Result<V::Value, E> {
        self.0.visit_none()
    }

    fn visit_unit<E: Error>(self) -> Result<V::Value, E> {
        self.0.visit_unit()
    }

    fn visit_some<D: Deserializer<'de>>(self, inner: D) -> Result<V::Value, D::Error> {
        self.0.visit_some(Strict(inner))
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, inner: D) -> Result<V::Value, D::Error> {
        self.0.visit_newtype_struct(Strict(inner))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, elements: A) -> Result<V::Value, A::Error> {
        if self.1.is_some() {
            return Err(A::Error::invalid_type(Unexpected::Seq, &"an object"));
        }
        self.0.visit_seq(Strict(elements))
    }

    fn visit_map<A: MapAccess<'de>>(self, members: A) -> Result<V::Value, A::Error> {
        self.0
            .visit_map(Members(members, self.1.filter(|_| is_read_leniently())))
    }

    fn visit_enum<A: EnumAccess<'de>>(self, variant: A) -> Result<V::Value, A::Error> {
        self.0.visit_enum(Strict(variant))
    }
}

impl<'de, A: SeqAccess<'de>> SeqAccess<'de> for Strict<A> {
    type Error = A::Error;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, A::Error> {
        self.0.next_element_seed(Strict(seed))
    }

    fn size_hint(&self) -> Option<usize> {
        self.0.size_hint()
    }
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Members<A> {
    type Error = A::Error;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, A::Error> {
        let Some(known) = self.1 else {
            return self.0.next_key_seed(seed);
        };
        while let Some(key) = self.0.next_key::<String>()? {
            if known.contains(&key.as_str()) {
                return seed.deserialize(key.into_deserializer()).map(Some);
            }
            self.0.next_value::<IgnoredAny>()?;
        }
        Ok(None)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, A::Error> {
        self.0.next_value_seed(Strict(seed))
    }

    fn size_hint(&self) -> Option<usize> {
        self.0.size_hint()
    }
}

impl<'de, A: EnumAccess<'de>> EnumAccess<'de> for Strict<A> {
    type Error = A::Error;
    type Variant = Strict<A::Variant>;

    fn variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<(S::Value, Strict<A::Variant>), A::Error> {
        let (value, variant) = self.0.variant_seed(seed)?;
        Ok((value, Strict(variant)))
    }
}

impl<'de, A: VariantAccess<'de>> VariantAccess<'de> for Strict<A> {
    type Error = A::Error;

    fn unit_variant(self) -> Result<(), A::Error> {
        self.0.unit_variant()
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, A::Error> {
        self.0.newtype_variant_seed(Strict(seed))
    }

    fn tuple_variant<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, A::Error> {
        self.0.tuple_variant(len, Watch(visitor, None))
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, A::Error> {
        self.0.struct_variant(fields, Watch(visitor, Some(fields)))
    }
}

impl<'de, S: DeserializeSeed<'de>> DeserializeSeed<'de> for Strict<S> {
    type Value = S::Value;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<S::Value, D::Error> {
        self.0.deserialize(Strict(from))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::{Lab, Port};

    /// Arrays in the place of objects removed a whole lab and set MTUs (`PUT /v1/lab` with `[]`).
    #[test]
    fn an_array_is_no_object_at_any_depth() {
        for wrong in [
            "[]",
            "[[]]",
            r#"{"ports":[["red"]]}"#,
            r#"{"ports":[{"name":"red","pin":[]}]}"#,
            r#"{"ports":[{"name":"red","learning":[false]}]}"#,
            r#"{"ports":[{"name":"red","vlan":{"trunk":["10"]}}]}"#,
            r#"{"ports":[{"name":"red","impair":{"in":[5]}}]}"#,
            r#"{"ports":[{"name":"red","police":[5]}]}"#,
            r#"{"cables":[{"a":["red"],"b":{"namespace":"blue"}}]}"#,
            r#"{"cables":[[{"namespace":"red"},{"namespace":"blue"}]]}"#,
        ] {
            assert!(serde_json::from_str::<serde_json::Value>(wrong).is_ok(), "{wrong}");
            let error = from_json::<Lab>(wrong.as_bytes()).unwrap_err().to_string();
            assert!(error.contains("expected an object"), "{wrong}: {error}");
        }
        let right = r#"{"ports":[{"name":"red","addresses":["10.0.0.1/24"],"vlan":{"trunk":{"allowed":"10"}}}]}"#;
        assert_eq!(
            from_json::<Lab>(right.as_bytes()).unwrap(),
            serde_json::from_str(right).unwrap()
        );
    }

    #[test]
    fn a_lab_file_is_read_as_strictly() {
        let read = |text: &str| from_deserializer::<Lab, _>(toml::Deserializer::parse(text).unwrap());
        assert!(
            read("ports = [[\"red\"]]")
                .unwrap_err()
                .to_string()
                .contains("expected an object")
        );
        assert_eq!(read("[[ports]]\nname = \"red\"").unwrap().ports.len(), 1);
    }

    #[test]
    fn what_is_wrong_is_named_with_its_place() {
        let error = from_json::<Lab>(br#"{"ports":[{"name":"red"},{"name":"a/b"}]}"#).unwrap_err();
        assert_eq!(error.path().to_string(), "ports[1].name");
        assert!(from_json::<Port>(br#"{"name":"red"} {"#).is_err());
        assert!(from_json::<Port>(b"{\"name\":\"red\"} \n").is_ok());
    }
}
