//! Where the network namespace of a port is: one with a name, a process's, a file's, or a container's.

use std::fmt;
use std::str::FromStr;

use serde::de::value::MapAccessDeserializer;
use serde::de::{self, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use utoipa::openapi::schema::{ObjectBuilder, OneOfBuilder, Schema, SchemaType, Type};
use utoipa::openapi::{Ref, RefOr};
use utoipa::{PartialSchema, ToSchema};

use crate::name::{InvalidValue, NsName};
use crate::strict::Strict;

/// Longest path that the kernel takes, in bytes (PATH_MAX less the closing NUL).
const PATH_MAX: usize = 4095;
/// Longest name of a container that is taken. Engines have no limit of their own; an id has 64.
const CONTAINER_MAX: usize = 255;
/// Most that a process's number can be (PID_MAX_LIMIT, 64 bits).
const PID_MAX: u32 = 1 << 22;

/// The namespace of a port. As text (`namespace = "red"`) it is one that has this name, as `ip netns` lists it, and is made if it is
/// not there. Others are somebody else's and only looked for: `{ pid = 4711 }`, `{ path = "/proc/4711/ns/net" }`,
/// `{ container = "web" }`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Namespace {
    /// The one that has this name.
    Name(NsName),
    /// The one that this process is in; while it lives, and no other that gets its number later.
    Pid(Pid),
    /// The one behind this file.
    Path(NsPath),
    /// The one of this container of Docker or Podman, whenever it runs.
    Container(ContainerName),
}

impl Namespace {
    /// Its name, if it is known by one: only such a namespace is ever made or removed.
    pub fn name(&self) -> Option<&NsName> {
        match self {
            Self::Name(name) => Some(name),
            _ => None,
        }
    }
}

impl FromStr for Namespace {
    type Err = InvalidValue;
    /// Text is a name.
    fn from_str(name: &str) -> Result<Self, InvalidValue> {
        name.parse().map(Self::Name)
    }
}

impl From<NsName> for Namespace {
    fn from(name: NsName) -> Self {
        Self::Name(name)
    }
}

impl PartialEq<NsName> for Namespace {
    fn eq(&self, name: &NsName) -> bool {
        self.name() == Some(name)
    }
}

impl fmt::Display for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => name.fmt(f),
            Self::Pid(pid) => f.pad(&format!("pid {pid}")),
            Self::Path(path) => f.pad(path.as_str()),
            Self::Container(name) => f.pad(&format!("container {name}")),
        }
    }
}

/// Those that have no name, as they are written.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum Foreign {
    /// The namespace that this process is in.
    Pid(Pid),
    /// The namespace behind this file, such as `/proc/4711/ns/net`.
    Path(NsPath),
    /// The namespace of this container of Docker or Podman, by name or id; `docker:web` or `podman:web` if both may have it.
    Container(ContainerName),
}

/// The same as it is read: that only one is given is checked by ourselves, for not every format does.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Given {
    pid: Option<Pid>,
    path: Option<NsPath>,
    container: Option<ContainerName>,
}

impl Serialize for Namespace {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Name(name) => name.serialize(serializer),
            Self::Pid(pid) => Foreign::Pid(*pid).serialize(serializer),
            Self::Path(path) => Foreign::Path(path.clone()).serialize(serializer),
            Self::Container(name) => Foreign::Container(name.clone()).serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Namespace {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;

        impl<'de> Visitor<'de> for Either {
            type Value = Namespace;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the name of a namespace, or one of pid, path and container")
            }

            fn visit_str<E: de::Error>(self, name: &str) -> Result<Namespace, E> {
                name.parse().map(Namespace::Name).map_err(E::custom)
            }

            fn visit_map<A: MapAccess<'de>>(self, members: A) -> Result<Namespace, A::Error> {
                let Given { pid, path, container } = Given::deserialize(Strict(MapAccessDeserializer::new(members)))?;
                match (pid, path, container) {
                    (Some(pid), None, None) => Ok(Namespace::Pid(pid)),
                    (None, Some(path), None) => Ok(Namespace::Path(path)),
                    (None, None, Some(name)) => Ok(Namespace::Container(name)),
                    _ => Err(de::Error::custom("a namespace has one of pid, path and container")),
                }
            }
        }

        deserializer.deserialize_any(Either)
    }
}

impl PartialSchema for Namespace {
    fn schema() -> RefOr<Schema> {
        let either = OneOfBuilder::new()
            .item(NsName::schema())
            .item(Ref::from_schema_name("ForeignNamespace"));
        either.description(Some(
            "The namespace of a port: the name of one, which is made if it is not there, or where somebody else's is found.",
        ))
        .into()
    }
}

impl ToSchema for Namespace {
    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        schemas.push(("ForeignNamespace".to_owned(), Foreign::schema()));
        Foreign::schemas(schemas);
    }
}

/// The number of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct Pid(u32);

impl Pid {
    /// As a number.
    pub fn get(self) -> u32 {
        self.0
    }
}

impl TryFrom<u32> for Pid {
    type Error = InvalidValue;
    fn try_from(pid: u32) -> Result<Self, InvalidValue> {
        match pid {
            1..=PID_MAX => Ok(Self(pid)),
            _ => Err(InvalidValue::new(format!(
                "{pid} is no number of a process; those are 1 to {PID_MAX}"
            ))),
        }
    }
}

impl From<Pid> for u32 {
    fn from(pid: Pid) -> Self {
        pid.0
    }
}

impl FromStr for Pid {
    type Err = InvalidValue;
    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        let pid: u32 = text
            .parse()
            .map_err(|_| InvalidValue::new(format!("{text:?} is no number of a process; those are 1 to {PID_MAX}")))?;
        pid.try_into()
    }
}

impl fmt::Display for Pid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl PartialSchema for Pid {
    fn schema() -> RefOr<Schema> {
        let number = ObjectBuilder::new().schema_type(SchemaType::new(Type::Integer));
        number.minimum(Some(1)).maximum(Some(PID_MAX)).into()
    }
}

impl ToSchema for Pid {}

/// Text that was checked, and is written as it is.
macro_rules! text_type {
    ($type:ident, $schema:expr) => {
        impl $type {
            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $type {
            type Error = InvalidValue;
            fn try_from(text: String) -> Result<Self, InvalidValue> {
                text.parse()
            }
        }

        impl From<$type> for String {
            fn from(value: $type) -> Self {
                value.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl PartialSchema for $type {
            fn schema() -> RefOr<Schema> {
                let text = ObjectBuilder::new().schema_type(SchemaType::new(Type::String));
                $schema(text).into()
            }
        }

        impl ToSchema for $type {}
    };
}

/// The absolute path of the file of a namespace.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct NsPath(String);

text_type!(NsPath, |text: ObjectBuilder| text
    .pattern(Some("^/"))
    .max_length(Some(PATH_MAX)));

impl FromStr for NsPath {
    type Err = InvalidValue;
    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        let wrong = |cause: &str| {
            Err(InvalidValue::new(format!(
                "path {text:?} {cause}; write it as /proc/4711/ns/net"
            )))
        };
        match text {
            _ if !text.starts_with('/') => wrong("does not begin at the root"),
            _ if text.len() > PATH_MAX => wrong("is too long"),
            _ if text.chars().any(char::is_control) => wrong("has a control character"),
            // What it is called is what is watched.
            _ if text.ends_with(['/', '.']) => wrong("is no file's"),
            _ => Ok(Self(text.to_owned())),
        }
    }
}

/// A program that runs containers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Engine {
    /// dockerd
    Docker,
    /// `podman system service`
    Podman,
}

impl Engine {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Docker, Self::Podman];

    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Docker => "docker",
            Self::Podman => "podman",
        }
    }
}

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Name or id of a container, with the engine in front where it is said: `web`, `docker:web`. It becomes part of the path of a request to
/// the engine: so nothing is taken that means something in one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ContainerName(String);

text_type!(ContainerName, |text: ObjectBuilder| text
    .pattern(Some("^((docker|podman):)?[A-Za-z0-9][A-Za-z0-9_.-]*$"))
    .max_length(Some(CONTAINER_MAX)));

impl ContainerName {
    /// The engine, if it is said.
    pub fn engine(&self) -> Option<Engine> {
        let (engine, _) = self.0.split_once(':')?;
        Engine::ALL.into_iter().find(|known| known.as_str() == engine)
    }

    /// Name or id without the engine.
    pub fn bare(&self) -> &str {
        self.0.split_once(':').map_or(&self.0, |(_, name)| name)
    }
}

impl FromStr for ContainerName {
    type Err = InvalidValue;
    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        let wrong = |cause: &str| Err(InvalidValue::new(format!("container name {text:?} {cause}")));
        let name = Self(text.to_owned());
        if text.len() > CONTAINER_MAX {
            return wrong("is too long; at most 255 bytes are allowed");
        }
        if text.contains(':') && name.engine().is_none() {
            return wrong("names no known engine before the colon; write docker:NAME or podman:NAME");
        }
        let bare = name.bare();
        let allowed = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
        if !bare.starts_with(|c: char| c.is_ascii_alphanumeric()) || !bare.chars().all(allowed) {
            return wrong(
                "is no name of a container; they have letters, digits, '_', '.' and '-', and begin with a letter or digit",
            );
        }
        Ok(name)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_namespace_is_a_name_or_an_object_with_one_key() {
        for (value, shown) in [
            (json!("red"), "red"),
            (json!({"pid": 4711}), "pid 4711"),
            (json!({"path": "/proc/4711/ns/net"}), "/proc/4711/ns/net"),
            (json!({"container": "web"}), "container web"),
            (json!({"container": "podman:db"}), "container podman:db"),
        ] {
            let namespace: Namespace = serde_json::from_value(value.clone()).unwrap();
            assert_eq!(namespace.to_string(), shown);
            assert_eq!(serde_json::to_value(&namespace).unwrap(), value);
        }
        for wrong in [
            json!("a/b"),
            json!(4711),
            json!({"pid": 0}),
            json!({"pid": -1}),
            json!({"pid": 1 << 30}),
            json!({"path": "proc/1/ns/net"}),
            json!({"path": "/run/netns/"}),
            json!({"path": "/run/.."}),
            json!({"path": "/a\u{0}b"}),
            json!({"container": "../images"}),
            json!({"container": "web/json?"}),
            json!({"container": "web%2f.."}),
            json!({"container": "web\r\nHost: x"}),
            json!({"container": ".."}),
            json!({"container": "docker:"}),
            json!({"container": "docker:docker:web"}),
            json!({"container": "lxc:web"}),
            json!({"container": ""}),
            json!({"pid": 1, "container": "web"}),
            json!({"name": "red"}),
            json!({}),
            json!(["red"]),
        ] {
            assert!(serde_json::from_value::<Namespace>(wrong.clone()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_engine_is_told_from_the_name() {
        let name = |text: &str| text.parse::<ContainerName>().unwrap();
        assert_eq!(name("podman:db").engine(), Some(Engine::Podman));
        assert_eq!(name("podman:db").bare(), "db");
        assert_eq!((name("db").engine(), name("docker").bare()), (None, "docker"));
    }

    #[test]
    fn the_schema_takes_what_is_read() {
        let schema = crate::schema::of::<crate::Port>();
        let namespace = schema["properties"]["namespace"].to_string();
        assert!(namespace.contains("Namespace"), "{namespace}");
        assert!(schema["$defs"]["ForeignNamespace"]["oneOf"].is_array(), "{schema}");
    }

    #[test]
    fn it_is_read_from_toml() {
        let text =
            "[[ports]]\nname = \"a\"\nnamespace = { container = \"web\" }\n[[ports]]\nname = \"b\"\nnamespace.pid = 7";
        let lab: crate::Lab = crate::strict::from_deserializer(toml::Deserializer::parse(text).unwrap()).unwrap();
        assert_eq!(
            lab.ports[0].namespace,
            Some(Namespace::Container("web".parse().unwrap()))
        );
        assert_eq!(lab.ports[1].namespace, Some(Namespace::Pid(Pid(7))));
    }
}
