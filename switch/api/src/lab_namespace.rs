//! What a lab says of a namespace beside its name: settings of the kernel in it, and files that its commands see in /etc.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::de::value::MapAccessDeserializer;
use serde::de::{self, Deserializer, MapAccess, Visitor};
use serde::{Deserialize, Serialize, Serializer};
use utoipa::ToSchema;

use crate::lab::Lab;
use crate::name::{InvalidValue, NsName};
use crate::patch::NamespacePatch;
use crate::strict::Strict;

/// Longest value of a kernel setting.
const MAX_VALUE: usize = 255;
/// Longest file.
pub const MAX_FILE: usize = 64 * 1024;
/// Folders that a file may be in, and the file itself.
const MAX_PARTS: usize = 3;

/// A namespace of a lab. Without anything but a name it is written as that alone.
#[derive(Clone, Debug, PartialEq, Eq, ToSchema)]
pub struct LabNamespace {
    /// Its name.
    pub name: NsName,
    /// Settings of the kernel in it, such as `net.ipv4.ip_forward`. Only those of `net`.
    #[schema(required = false, value_type = std::collections::HashMap<String, serde_json::Value>, example = json!({"net.ipv4.ip_forward": 1}))]
    pub sysctls: BTreeMap<SysctlKey, SysctlValue>,
    /// Files under `/etc/netns/NAME`, which commands in it see in /etc: by name or path, what is in them.
    #[schema(required = false, value_type = std::collections::HashMap<String, String>, example = json!({"hosts": "10.0.0.1 red\n"}))]
    pub files: BTreeMap<EtcPath, String>,
}

/// How a namespace may be written.
#[derive(ToSchema)]
#[schema(as = NamespaceForm)]
#[serde(untagged)]
#[expect(dead_code, reason = "it tells in the schema what the reader below takes")]
pub(crate) enum Form {
    /// Its name alone.
    Name(NsName),
    /// With settings.
    Table(LabNamespace),
}

impl LabNamespace {
    /// One about which nothing is said.
    pub fn new(name: NsName) -> Self {
        Self {
            name,
            sysctls: BTreeMap::new(),
            files: BTreeMap::new(),
        }
    }

    /// Whether nothing is said of it but its name.
    pub fn is_plain(&self) -> bool {
        self.sysctls.is_empty() && self.files.is_empty()
    }

    /// What is wrong with it.
    pub fn wrong(&self) -> Option<String> {
        let long = self.files.iter().find(|(_, text)| text.len() > MAX_FILE);
        long.map(|(path, text)| format!("file {path} has {} bytes; at most {MAX_FILE} are allowed", text.len()))
    }
}

impl Lab {
    /// Whether it asks for a namespace by itself.
    pub fn asks_for(&self, name: &NsName) -> bool {
        self.namespace(name).is_some()
    }

    /// What it says of a namespace.
    pub fn namespace(&self, name: &NsName) -> Option<&LabNamespace> {
        self.namespaces.iter().find(|namespace| namespace.name == *name)
    }
}

impl NamespacePatch {
    /// `before` with the changes.
    ///
    /// # Errors
    /// Those of [`MergePatch::apply`](crate::patch::MergePatch::apply).
    pub fn apply(&self, before: &LabNamespace) -> Result<LabNamespace, String> {
        let LabNamespace { name, sysctls, files } = before.clone();
        let Table { name, sysctls, files } = self.0.apply(&Table { name, sysctls, files }, &[])?;
        Ok(LabNamespace { name, sysctls, files })
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename = "LabNamespace")]
struct Table {
    name: NsName,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    sysctls: BTreeMap<SysctlKey, SysctlValue>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    files: BTreeMap<EtcPath, String>,
}

impl Serialize for LabNamespace {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.is_plain() {
            return self.name.serialize(serializer);
        }
        let Self { name, sysctls, files } = self.clone();
        Table { name, sysctls, files }.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for LabNamespace {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;

        impl<'de> Visitor<'de> for Reader {
            type Value = LabNamespace;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the name of a namespace, or a table with it")
            }

            fn visit_str<E: de::Error>(self, name: &str) -> Result<LabNamespace, E> {
                name.parse().map(LabNamespace::new).map_err(E::custom)
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<LabNamespace, A::Error> {
                let Table { name, sysctls, files } = Table::deserialize(Strict(MapAccessDeserializer::new(map)))?;
                Ok(LabNamespace { name, sysctls, files })
            }
        }

        deserializer.deserialize_any(Reader)
    }
}

macro_rules! text_type {
    ($type:ident) => {
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl $type {
            /// As text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
    };
}

macro_rules! key_serde {
    ($type:ident) => {
        impl TryFrom<String> for $type {
            type Error = InvalidValue;
            fn try_from(text: String) -> Result<Self, InvalidValue> {
                text.parse()
            }
        }

        impl From<$type> for String {
            fn from(key: $type) -> Self {
                key.0
            }
        }
    };
}

/// Name of a setting of the kernel below `net`, with points between its parts.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SysctlKey(String);

text_type!(SysctlKey);
key_serde!(SysctlKey);

impl SysctlKey {
    /// Its file below /proc/sys.
    pub fn path(&self) -> String {
        self.0.replace('.', "/")
    }
}

impl FromStr for SysctlKey {
    type Err = InvalidValue;
    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        let is_good = |c: char| c.is_ascii_alphanumeric() || "_-@+:".contains(c);
        let parts: Vec<_> = text.split('.').collect();
        if parts[0] != "net" || parts.len() < 3 {
            return Err(InvalidValue::new(format!(
                "{text:?} is no setting of a namespace; those begin with net, such as net.ipv4.ip_forward"
            )));
        }
        if text.len() > MAX_VALUE || !parts.iter().all(|part| !part.is_empty() && part.chars().all(is_good)) {
            return Err(InvalidValue::new(format!(
                "{text:?} is no name of a setting; its parts are letters, digits and _ - @ + : with one point between"
            )));
        }
        Ok(Self(text.to_owned()))
    }
}

/// Value of a setting of the kernel: a number or text.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SysctlValue(String);

text_type!(SysctlValue);

impl SysctlValue {
    /// Whether what the kernel tells is this.
    pub fn is(&self, told: &str) -> bool {
        self.0.split_ascii_whitespace().eq(told.split_ascii_whitespace())
    }
}

impl FromStr for SysctlValue {
    type Err = InvalidValue;
    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        if text.len() > MAX_VALUE || text.chars().any(|c| c.is_control() && c != '\t') {
            return Err(InvalidValue::new(format!(
                "{text:?} is no value of a setting: it is one line of at most {MAX_VALUE} bytes"
            )));
        }
        Ok(Self(text.to_owned()))
    }
}

impl Serialize for SysctlValue {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0.parse::<i64>() {
            Ok(number) if number.to_string() == self.0 => serializer.serialize_i64(number),
            _ => serializer.serialize_str(&self.0),
        }
    }
}

impl<'de> Deserialize<'de> for SysctlValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;

        impl Visitor<'_> for Reader {
            type Value = SysctlValue;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number or text")
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<SysctlValue, E> {
                Ok(SysctlValue(number.to_string()))
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<SysctlValue, E> {
                Ok(SysctlValue(number.to_string()))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<SysctlValue, E> {
                text.parse().map_err(E::custom)
            }
        }

        deserializer.deserialize_any(Reader)
    }
}

/// Path of a file below `/etc/netns/NAME`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct EtcPath(String);

text_type!(EtcPath);
key_serde!(EtcPath);

impl FromStr for EtcPath {
    type Err = InvalidValue;
    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        let is_good = |part: &str| {
            !part.is_empty()
                && part.len() <= MAX_VALUE
                && !part.starts_with(['.', '-'])
                && part.chars().all(|c| c.is_ascii_alphanumeric() || "-_.@+".contains(c))
        };
        let parts: Vec<_> = text.split('/').collect();
        if parts.len() > MAX_PARTS || !parts.iter().all(|part| is_good(part)) {
            return Err(InvalidValue::new(format!(
                "{text:?} is no file below /etc/netns/NAME: write its name as it is in /etc, such as hosts or frr/daemons"
            )));
        }
        Ok(Self(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_plain_namespace_is_its_name() {
        let lab: Lab = serde_json::from_value(json!({
            "namespaces": ["red", {"name": "blue", "sysctls": {"net.ipv4.ip_forward": 1}, "files": {"hosts": "x"}}, {"name": "green"}]
        }))
        .unwrap();
        let blue = lab.namespace(&"blue".parse().unwrap()).unwrap();
        assert!(blue.sysctls.values().all(|value| value.is("1\n") && !value.is("11")));
        let text = serde_json::to_value(&lab).unwrap();
        let blue = json!({"name": "blue", "sysctls": {"net.ipv4.ip_forward": 1}, "files": {"hosts": "x"}});
        assert_eq!(text["namespaces"], json!(["red", blue, "green"]));
        assert_eq!(serde_json::from_value::<Lab>(text).unwrap(), lab);
    }

    /// One without settings is a text, which takes no members.
    #[test]
    fn a_patch_gives_and_takes_settings() {
        let patched = |before: &LabNamespace, patch: serde_json::Value| {
            let patch: NamespacePatch = serde_json::from_value(patch).unwrap();
            patch.apply(before)
        };
        let red = LabNamespace::new("red".parse().unwrap());
        let forward = json!({"sysctls": {"net.ipv4.ip_forward": 1}});
        let router = patched(&red, forward).unwrap();
        assert_eq!(router.sysctls.len(), 1);
        assert_eq!(
            patched(&router, json!({"sysctls": {"net.ipv4.ip_forward": null}})).unwrap(),
            red
        );
        assert_eq!(patched(&router, json!({"sysctls": null})).unwrap(), red);
        for (patch, word) in [
            (json!({"sysctls": {"kernel.hostname": "x"}}), "kernel.hostname"),
            (json!({"mtu": 1}), "mtu"),
        ] {
            assert!(patched(&red, patch).unwrap_err().contains(word));
        }
    }

    #[test]
    fn only_settings_and_files_of_the_namespace_can_be_named() {
        for key in [
            "net.ipv4.ip_forward",
            "net.ipv6.conf.eth0.accept_ra",
            "net.core.somaxconn",
        ] {
            key.parse::<SysctlKey>().unwrap();
        }
        for key in [
            "kernel.hostname",
            "net",
            "net.ipv4",
            "net..ipv4.x",
            "net.ipv4./../../kernel.x",
            "net/ipv4/ip_forward",
            "net.ipv4.ip_forward\n",
            "net.ipv4.",
            "",
            "net.ipv4. x",
        ] {
            key.parse::<SysctlKey>().unwrap_err();
        }
        for path in ["hosts", "resolv.conf", "frr/daemons"] {
            path.parse::<EtcPath>().unwrap();
        }
        for path in [
            "",
            "/etc/passwd",
            "../passwd",
            "a/../../b",
            "a//b",
            "a/",
            ".",
            "-x",
            "a/b/c/d",
            "a b",
        ] {
            path.parse::<EtcPath>().unwrap_err();
        }
        assert!("1\n2".parse::<SysctlValue>().is_err());
        assert!(
            "4096 131072\t6291456"
                .parse::<SysctlValue>()
                .unwrap()
                .is("4096\t131072 6291456\n")
        );
    }
}
