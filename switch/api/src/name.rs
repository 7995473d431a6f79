//! Checked names and addresses: a value of one of these types is valid by construction.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use utoipa::ToSchema;

use crate::no_host::of_no_host;
use crate::number::in_base;

/// Longest name of an interface, port, switch or new namespace, in bytes (IFNAMSIZ less the closing NUL).
pub const NAME_MAX: usize = 15;

/// Why a text is not a valid name or address; says what was wrong and what would be right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidValue(String);

impl InvalidValue {
    pub(crate) fn new(text: String) -> Self {
        Self(text)
    }
}

impl fmt::Display for InvalidValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for InvalidValue {}

fn invalid<T>(text: impl Into<String>) -> Result<T, InvalidValue> {
    Err(InvalidValue(text.into()))
}

/// Refuses what the kernel refuses as an interface name, or what would break a path or a table.
fn check_name(what: &str, text: &str, max: usize) -> Result<(), InvalidValue> {
    if text.is_empty() {
        return invalid(format!("a {what} can't be empty"));
    }
    if text.len() > max {
        return invalid(format!(
            "{what} {text:?} has {} bytes, at most {max} are allowed; {}",
            text.len(),
            match what {
                "interface name" => "choose a shorter one, and for an altname the name that `ip link` shows first",
                _ => "choose a shorter one",
            }
        ));
    }
    if text.starts_with(['.', '-']) {
        return invalid(format!(
            "{what} {text:?} starts with {:?}; start it with a letter or a digit",
            &text[..1]
        ));
    }
    match text
        .chars()
        .find(|c| !(c.is_ascii_alphanumeric() || "-_.@+".contains(*c)))
    {
        Some(c) => invalid(format!(
            "{what} {text:?} contains {c:?}; use letters, digits and - _ . @ +"
        )),
        None => Ok(()),
    }
}

macro_rules! name_type {
    ($(#[$doc:meta])* $type:ident, $what:literal, $max:tt) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, ToSchema)]
        #[schema(value_type = String, pattern = "^[A-Za-z0-9_@+][A-Za-z0-9_.@+-]*$", min_length = 1, max_length = $max)]
        pub struct $type(String);

        impl $type {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $type {
            type Err = InvalidValue;
            fn from_str(text: &str) -> Result<Self, InvalidValue> {
                check_name($what, text, $max)?;
                Ok(Self(text.to_owned()))
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }

        text_serde!($type);
    };
}

macro_rules! text_serde {
    ($type:ident) => {
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?
                    .parse()
                    .map_err(serde::de::Error::custom)
            }
        }
    };
}

name_type!(
    /// Name of a switch, at most 15 bytes.
    SwitchName, "switch name", 15
);
name_type!(
    /// Name of a port, unique over all switches, at most 15 bytes.
    PortName, "port name", 15
);
name_type!(
    /// Name of a lab, at most 63 bytes.
    LabName, "lab name", 63
);
name_type!(
    /// Name of a command, at most 63 bytes.
    CommandName, "command name", 63
);
name_type!(
    /// Name of a mirror, at most 15 bytes.
    MirrorName, "mirror name", 15
);
name_type!(
    /// Name of a network interface, at most 15 bytes.
    IfName, "interface name", 15
);
name_type!(
    /// Name of a network namespace as `ip netns` lists it. Namespaces made elsewhere may have long
    /// names (container runtimes use UUIDs); one that vswitch makes has at most 15 bytes.
    NsName, "namespace name", 255
);

/// A MAC address (EUI-48, IEEE 802-2014 clause 8), in the order of the wire.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, ToSchema)]
#[schema(value_type = String, example = "02:76:73:00:00:01")]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// ff:ff:ff:ff:ff:ff
    pub const BROADCAST: Self = Self([0xff; 6]);

    /// The group bit: multicast or broadcast.
    pub fn is_multicast(self) -> bool {
        self.0[0] & 1 != 0
    }

    /// The address of one station: neither a group address nor all zeros.
    pub fn is_unicast(self) -> bool {
        !self.is_multicast() && self.0 != [0; 6]
    }
}

impl FromStr for Mac {
    type Err = InvalidValue;
    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        let mut octets = [0u8; 6];
        let mut parts = text.split([':', '-']);
        for octet in &mut octets {
            *octet = match parts
                .next()
                .filter(|p| p.len() == 2)
                .and_then(|p| u8::try_from(in_base(p, 16)?).ok())
            {
                Some(v) => v,
                None => {
                    return invalid(format!(
                        "{text:?} is not a MAC address; write six hex pairs, such as 02:00:00:00:00:01"
                    ));
                }
            };
        }
        if parts.next().is_some() {
            return invalid(format!("{text:?} is not a MAC address: it has more than six pairs"));
        }
        Ok(Self(octets))
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        f.pad(&format!("{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}"))
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

text_serde!(Mac);

/// An interface address with its prefix length, such as `192.168.15.1/24` or `fd00::1/64`.
///
/// The prefix length is not optional: without one the kernel takes /32, the namespace gets no route
/// to its neighbours, and every ping ends in "Network is unreachable".
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, ToSchema)]
#[schema(value_type = String, example = "192.168.15.1/24")]
pub struct IfAddr(IpNet);

impl IfAddr {
    /// Address and prefix; the host bits are kept.
    pub fn net(self) -> IpNet {
        self.0
    }

    /// The address without the prefix.
    pub fn ip(self) -> IpAddr {
        self.0.addr()
    }

    /// Prefix length in bits.
    pub fn prefix_len(self) -> u8 {
        self.0.prefix_len()
    }
}

impl FromStr for IfAddr {
    type Err = InvalidValue;
    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        if let Ok(ip) = text.parse::<IpAddr>() {
            let bits = if ip.is_ipv4() { 24 } else { 64 };
            return invalid(format!(
                "address {text} has no prefix length; without one the namespace gets no route to its neighbours; try {text}/{bits}"
            ));
        }
        if text == "auto" {
            return invalid(
                "`auto` goes with --addr of add-port; in a lab file and the API it is `auto_addresses = true` of the port",
            );
        }
        let net: IpNet = match text.parse() {
            Ok(net) => net,
            Err(_) => {
                return invalid(format!(
                    "{text:?} is not an address with a prefix length; write it as 192.168.15.1/24 or fd00::1/64"
                ));
            }
        };
        if of_no_host(&IpNet::from(net.addr())).is_some() {
            return invalid(format!(
                "{text} can't be given to an interface: it is not a unicast address of a host"
            ));
        }
        // As good as a default route, and chosen before any that is there.
        if net.prefix_len() == 0 {
            let bits = if net.addr().is_ipv4() { 24 } else { 64 };
            return invalid(format!(
                "{text} has every address there is for a neighbour; try {}/{bits}",
                net.addr()
            ));
        }
        // RFC 3021: in a /31 both addresses are hosts; above that the first names the subnet, the last is its broadcast.
        if let IpNet::V4(v4) = net
            && v4.prefix_len() < 31
            && (v4.addr() == v4.network() || v4.addr() == v4.broadcast())
        {
            let first = v4.hosts().next().map(|h| h.to_string()).unwrap_or_default();
            return invalid(format!(
                "{text} is the network or broadcast address of {}, not a host; try {first}/{}",
                v4.trunc(),
                v4.prefix_len()
            ));
        }
        Ok(Self(net))
    }
}

impl fmt::Display for IfAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0.to_string())
    }
}

impl fmt::Debug for IfAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

text_serde!(IfAddr);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_address_without_prefix_is_refused_with_a_remedy() {
        let text = "192.168.15.1".parse::<IfAddr>().unwrap_err().to_string();
        assert!(text.contains("no route to its neighbours"), "{text}");
        assert!(text.ends_with("try 192.168.15.1/24"), "{text}");
        assert!(
            "fd00::1"
                .parse::<IfAddr>()
                .unwrap_err()
                .to_string()
                .ends_with("try fd00::1/64")
        );
    }

    #[test]
    fn addresses_no_host_can_have_are_refused() {
        for text in [
            "10.0.0.0/24",
            "10.0.0.255/24",
            "224.0.0.1/24",
            "0.0.0.0/0",
            "0.0.0.5/8",
            "10.0.0.1/0",
            "fd00::1/0",
            "::ffff:10.0.0.1/120",
            "127.0.0.1/8",
            "::1/128",
            "ff02::1/64",
            "10.0.0.1/33",
            "x/24",
        ] {
            assert!(text.parse::<IfAddr>().is_err(), "{text}");
        }
        for text in ["10.0.0.0/31", "10.0.0.1/32", "fd00::/64", "10.0.1.255/23"] {
            assert_eq!(text.parse::<IfAddr>().is_ok(), text != "10.0.1.255/23", "{text}");
        }
    }

    /// The document says what a name may be; it has to be the same that is taken.
    #[test]
    fn the_schema_of_a_name_says_how_long_it_may_be() {
        use utoipa::PartialSchema;
        let schema = serde_json::to_value(PortName::schema()).unwrap();
        assert_eq!(
            (&schema["minLength"], &schema["maxLength"]),
            (&1.into(), &NAME_MAX.into())
        );
        assert_eq!(schema["pattern"], "^[A-Za-z0-9_@+][A-Za-z0-9_.@+-]*$");
        for text in ["a", "_", "@", "+", "a.b-c_d@e+f", &"x".repeat(NAME_MAX)] {
            assert!(text.parse::<PortName>().is_ok(), "{text}");
        }
    }

    #[test]
    fn names_the_kernel_refuses_are_refused() {
        for text in ["", ".", "..", "a/b", "sixteen-bytes-xx", "a b", "-x", "a:b", "é"] {
            assert!(text.parse::<PortName>().is_err(), "{text}");
        }
        assert!("fifteen-bytes-x".parse::<IfName>().is_ok());
        assert!("cni-5d1f0a76-8f4e-4b52-9d7a-0123456789ab".parse::<NsName>().is_ok());
    }

    proptest! {
        #[test]
        fn a_mac_survives_its_text_form(octets: [u8; 6]) {
            let mac = Mac(octets);
            prop_assert_eq!(mac.to_string().parse::<Mac>(), Ok(mac));
        }

        #[test]
        fn no_text_makes_a_parser_panic(text in ".{0,40}") {
            let _ = text.parse::<Mac>();
            let _ = text.parse::<IfAddr>();
            let _ = text.parse::<PortName>();
        }

        #[test]
        fn a_valid_name_has_no_path_in_it(text in "[ -~]{0,20}") {
            if let Ok(name) = text.parse::<IfName>() {
                prop_assert!(name.as_str().len() <= NAME_MAX && !name.as_str().contains('/'));
            }
        }
    }
}
