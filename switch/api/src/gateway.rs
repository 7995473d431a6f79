//! The way out of a switch: its gateway, and what is published over it.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::de::{Deserializer, Error, SeqAccess, Visitor};
use serde::{Deserialize, Serialize, Serializer};
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{ArrayBuilder, ObjectBuilder, OneOfBuilder, Schema, SchemaType, Type};
use utoipa::{PartialSchema, ToSchema};

use crate::lab::{Lab, Port, Switch};
use crate::name::{InvalidValue, NAME_MAX, PortName, SwitchName};
use crate::number::whole;

/// Behind the name of a switch it makes that of its gateway.
const SUFFIX: &str = "-gw";
/// So much of the name of a switch is in it: an interface of the host has that name.
const STEM: usize = NAME_MAX - SUFFIX.len();

/// Whether a switch has a gateway, and with which addresses: `true`, or a list of addresses.
///
/// The gateway is a port of kind `internal`, named after the switch (`lab-gw`), that comes and goes with this setting.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Gateway {
    /// It has none.
    #[default]
    Off,
    /// With the first free address of each subnet.
    On,
    /// With these; one that is in none of the subnets is on the link of all of them.
    At(Vec<IpAddr>),
}

impl Gateway {
    /// Whether there is one.
    pub fn is_on(&self) -> bool {
        *self != Self::Off
    }

    /// The addresses that it is to have.
    pub fn addresses(&self) -> &[IpAddr] {
        match self {
            Self::Off | Self::On => &[],
            Self::At(addresses) => addresses,
        }
    }
}

impl Serialize for Gateway {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Off => serializer.serialize_bool(false),
            Self::On => serializer.serialize_bool(true),
            Self::At(addresses) => addresses.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Gateway {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;

        impl<'de> Visitor<'de> for Reader {
            type Value = Gateway;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("true, false, or a list of addresses")
            }

            fn visit_bool<E: Error>(self, on: bool) -> Result<Gateway, E> {
                Ok(if on { Gateway::On } else { Gateway::Off })
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Gateway, E> {
                text.parse().map_err(E::custom)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Gateway, A::Error> {
                let mut addresses = Vec::new();
                while let Some(text) = list.next_element::<String>()? {
                    addresses.push(address(&text).map_err(A::Error::custom)?);
                }
                Ok(if addresses.is_empty() {
                    Gateway::On
                } else {
                    Gateway::At(addresses)
                })
            }
        }

        deserializer.deserialize_any(Reader)
    }
}

/// On the command line: `on`, `off`, or addresses with commas.
impl FromStr for Gateway {
    type Err = InvalidValue;
    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        match text {
            "on" | "true" => Ok(Self::On),
            "off" | "none" | "false" => Ok(Self::Off),
            list => list.split(',').map(address).collect::<Result<_, _>>().map(Self::At),
        }
    }
}

fn address(text: &str) -> Result<IpAddr, InvalidValue> {
    let address = text.trim().parse::<IpAddr>().map_err(|_| {
        InvalidValue::new(format!(
            "gateway {text:?} is no address; give one without a prefix length such as 10.10.0.1, or on"
        ))
    })?;
    if address.is_unspecified() || address.is_multicast() || address.is_loopback() {
        return Err(InvalidValue::new(format!("gateway {address} is no address of a host")));
    }
    Ok(address)
}

impl PartialSchema for Gateway {
    fn schema() -> RefOr<Schema> {
        let one = |kind: Type| ObjectBuilder::new().schema_type(SchemaType::Type(kind));
        let list = ArrayBuilder::new().items(one(Type::String));
        let either = OneOfBuilder::new()
            .item(one(Type::Boolean))
            .item(list)
            .description(Some(
                "Whether a switch has a gateway: true, or the addresses that it is to have",
            ));
        RefOr::T(Schema::OneOf(either.build()))
    }
}

impl ToSchema for Gateway {}

/// The two protocols that have ports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// TCP.
    #[default]
    Tcp,
    /// UDP.
    Udp,
}

impl Protocol {
    /// How it is written.
    pub fn word(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }
}

/// A port number of the host that leads to one of a port's stack: `8080:80`, `5353:53/udp`, or `80` for the same number on both sides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Publish {
    /// At the host.
    pub outside: u16,
    /// In the namespace of the port.
    pub inside: u16,
    /// Of which protocol.
    pub protocol: Protocol,
}

impl FromStr for Publish {
    type Err = InvalidValue;
    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        let wrong = |why: String| {
            InvalidValue::new(format!(
                "{text:?} publishes nothing: {why}; write it as 8080:80 or 5353:53/udp"
            ))
        };
        let (numbers, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
        let protocol = match protocol {
            "tcp" => Protocol::Tcp,
            "udp" => Protocol::Udp,
            other => return Err(wrong(format!("{other:?} is neither tcp nor udp"))),
        };
        let number = |text: &str| {
            let number = whole::<u16>(text).filter(|number| *number > 0);
            number.ok_or_else(|| wrong(format!("{text:?} is no number from 1 to 65535")))
        };
        let (outside, inside) = numbers.split_once(':').unwrap_or((numbers, numbers));
        Ok(Self {
            outside: number(outside)?,
            inside: number(inside)?,
            protocol,
        })
    }
}

impl TryFrom<String> for Publish {
    type Error = InvalidValue;
    fn try_from(text: String) -> Result<Self, InvalidValue> {
        text.parse()
    }
}

impl From<Publish> for String {
    fn from(publish: Publish) -> Self {
        publish.to_string()
    }
}

impl fmt::Display for Publish {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.outside, self.inside)?;
        match self.protocol {
            Protocol::Tcp => Ok(()),
            Protocol::Udp => f.write_str("/udp"),
        }
    }
}

/// The name of the port that is the gateway of a switch: `lab-gw`.
pub fn gateway_name(switch: &SwitchName) -> Option<PortName> {
    // Names are ASCII.
    let stem: String = switch.as_str().chars().take(STEM).collect();
    format!("{stem}{SUFFIX}").parse().ok()
}

impl Switch {
    /// The command that ends the gateway, with all that it does: each alone needs it.
    pub fn gateway_off(&self) -> String {
        let done = [("nat", self.nat), ("dhcp", self.dhcp), ("dns", self.dns)];
        let done = done.into_iter().filter(|(_, on)| *on);
        let mut off: Vec<_> = done.map(|(setting, _)| format!(" {setting}=off")).collect();
        if !self.uplinks.is_empty() {
            off.push(" uplinks=".to_owned());
        }
        format!("vswitchctl set switch {} gateway=off{}", self.name, off.concat())
    }
}

impl Lab {
    /// The gateway of a switch, if it has one.
    pub fn gateway_of(&self, switch: &Switch) -> Option<&Port> {
        let name = gateway_name(&switch.name).filter(|_| switch.gateway.is_on())?;
        self.ports
            .iter()
            .find(|port| port.name == name && port.switch == switch.name)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_gateway_is_on_off_or_has_addresses() {
        for (value, gateway, again) in [
            (json!(false), Gateway::Off, json!(false)),
            (json!(true), Gateway::On, json!(true)),
            (json!([]), Gateway::On, json!(true)),
            (
                json!(["10.0.0.9", "fd00::9"]),
                Gateway::At(vec!["10.0.0.9".parse().unwrap(), "fd00::9".parse().unwrap()]),
                json!(["10.0.0.9", "fd00::9"]),
            ),
            (
                json!("10.0.0.9"),
                Gateway::At(vec!["10.0.0.9".parse().unwrap()]),
                json!(["10.0.0.9"]),
            ),
        ] {
            assert_eq!(serde_json::from_value::<Gateway>(value).unwrap(), gateway);
            assert_eq!(serde_json::to_value(&gateway).unwrap(), again);
        }
        for value in [
            json!("10.0.0.9/24"),
            json!(["224.0.0.1"]),
            json!(["::1"]),
            json!(5),
            json!(""),
        ] {
            serde_json::from_value::<Gateway>(value).unwrap_err();
        }
    }

    #[test]
    fn what_is_published_is_written_in_short() {
        for (text, again) in [
            ("8080:80", "8080:80"),
            ("80", "80:80"),
            ("53/udp", "53:53/udp"),
            ("8080:80/tcp", "8080:80"),
        ] {
            assert_eq!(text.parse::<Publish>().unwrap().to_string(), again);
        }
        for text in [
            "", ":", "0:80", "80:0", "65536:80", "80:80:80", "80/sctp", "+80", "80-81:80", "a:b",
        ] {
            let error = text.parse::<Publish>().unwrap_err().to_string();
            assert!(error.contains("8080:80"), "{error}");
        }
    }
}
