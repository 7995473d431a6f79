//! Kinds of ports: what is known of each.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error};
use serde::{Serialize, Serializer};
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{ObjectBuilder, Schema, Type};
use utoipa::{PartialSchema, ToSchema};

use crate::reply::is_read_leniently;

/// How a port is connected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum PortKind {
    /// A veth pair: one end in the namespace, the other in the daemon's own namespace.
    #[default]
    Veth,
    /// A TAP device inside the namespace, its queues held by the daemon.
    Tap,
    /// An existing interface of the daemon's host namespace, taken over.
    Device,
    /// The host's own leg on the switch: a TAP device in the daemon's host namespace.
    Internal,
    /// One end of a link to another switch, whose other end is the port `peer`. Both are in the daemon's own namespace.
    Link,
    /// A kind of a newer daemon, in what that says ([`crate::reply`]); no request and no file has it.
    Other(OtherKind),
}

/// The word of a kind that is not known here.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct OtherKind([u8; Self::MOST]);

impl OtherKind {
    /// Longest word, in bytes; behind a shorter one are zeros.
    const MOST: usize = 23;

    /// None where no kind is called so.
    fn new(word: &str) -> Option<Self> {
        let is_of_word = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
        if word.is_empty() || word.len() > Self::MOST || !word.bytes().all(is_of_word) {
            return None;
        }
        let mut bytes = [0; Self::MOST];
        bytes[..word.len()].copy_from_slice(word.as_bytes());
        Some(Self(bytes))
    }

    /// It as text.
    pub fn as_str(&self) -> &str {
        // What is in it came out of a text of ASCII.
        std::str::from_utf8(&self.0).unwrap_or_default().trim_end_matches('\0')
    }
}

impl fmt::Debug for OtherKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

/// Where the interface of a port is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stands {
    /// In a namespace, by default the one that has the port's name, as eth0.
    InNamespace,
    /// In the host's namespace, with the port's name.
    OnHost,
    /// In the daemon's own namespace, with the port's name.
    WithDaemon,
}

/// What everybody has to know of a kind of ports who shows or looks into one.
struct Facts {
    word: &'static str,
    help: &'static str,
    stands: Stands,
    has_stack: bool,
}

impl PortKind {
    /// All kinds that are known.
    pub const ALL: [Self; 5] = [Self::Veth, Self::Tap, Self::Device, Self::Internal, Self::Link];

    const fn facts(self) -> Facts {
        match self {
            Self::Veth => Facts {
                word: "veth",
                help: "A veth pair: one end in the namespace, the other at the switch",
                stands: Stands::InNamespace,
                has_stack: true,
            },
            Self::Tap => Facts {
                word: "tap",
                help: "A TAP device inside the namespace, read and written by the daemon itself",
                stands: Stands::InNamespace,
                has_stack: true,
            },
            Self::Device => Facts {
                word: "device",
                help: "An existing interface of the host, taken over",
                stands: Stands::OnHost,
                has_stack: false,
            },
            Self::Internal => Facts {
                word: "internal",
                help: "The host's own leg on the switch",
                stands: Stands::OnHost,
                has_stack: true,
            },
            Self::Link => Facts {
                word: "link",
                help: "One end of a link to another switch",
                stands: Stands::WithDaemon,
                has_stack: false,
            },
            // Nobody looks into what he knows nothing of.
            Self::Other(_) => Facts {
                word: "",
                help: "",
                stands: Stands::WithDaemon,
                has_stack: false,
            },
        }
    }

    /// How it is called, in sentences as in requests.
    pub fn word(&self) -> &str {
        match self {
            Self::Other(word) => word.as_str(),
            known => known.facts().word,
        }
    }

    /// What it is, for those who are to choose one.
    pub const fn help(self) -> &'static str {
        self.facts().help
    }

    /// Where its interface is.
    pub const fn stands(self) -> Stands {
        self.facts().stands
    }

    /// A stack has its interface, which so has a MAC address and gets addresses and routes; else it is a cable, not a host.
    pub const fn has_stack(self) -> bool {
        self.facts().has_stack
    }
}

impl Serialize for PortKind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.word())
    }
}

impl<'de> Deserialize<'de> for PortKind {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        const WORDS: [&str; PortKind::ALL.len()] = {
            let mut words = [""; PortKind::ALL.len()];
            let mut n = 0;
            while n < words.len() {
                words[n] = PortKind::ALL[n].facts().word;
                n += 1;
            }
            words
        };
        let word = String::deserialize(from)?;
        if let Some(kind) = Self::ALL.into_iter().find(|kind| kind.word() == word) {
            return Ok(kind);
        }
        let other = OtherKind::new(&word).filter(|_| is_read_leniently());
        other
            .map(Self::Other)
            .ok_or_else(|| D::Error::unknown_variant(&word, &WORDS))
    }
}

impl PartialSchema for PortKind {
    fn schema() -> RefOr<Schema> {
        let word = ObjectBuilder::new()
            .schema_type(Type::String)
            .description(Some("How a port is connected."))
            .enum_values(Some(Self::ALL.map(|kind| kind.word().to_owned())));
        word.into()
    }
}

impl ToSchema for PortKind {}
