//! Routes as people write them: to `default` too, as `ip route` has it.

use std::net::IpAddr;

use ipnet::{AddrParseError, IpNet, Ipv4Net, Ipv6Net};
use serde::Deserialize;

use crate::lab::Route;

/// A route as it may be written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename = "Route")]
pub(crate) struct SaidRoute {
    to: SaidNet,
    #[serde(default)]
    via: Option<IpAddr>,
    #[serde(default)]
    onlink: bool,
}

#[derive(Deserialize)]
#[serde(try_from = "String")]
enum SaidNet {
    Default,
    Net(IpNet),
}

impl TryFrom<String> for SaidNet {
    type Error = AddrParseError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        match text.as_str() {
            "default" => Ok(Self::Default),
            net => net.parse().map(Self::Net),
        }
    }
}

impl From<SaidRoute> for Route {
    fn from(SaidRoute { to, via, onlink }: SaidRoute) -> Self {
        let to = match (to, via) {
            (SaidNet::Net(to), _) => to,
            (SaidNet::Default, Some(IpAddr::V6(_))) => Ipv6Net::default().into(),
            (SaidNet::Default, _) => Ipv4Net::default().into(),
        };
        Self { to, via, onlink }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn to_default_is_of_the_ip_version_of_the_next_hop() {
        let read = |via: serde_json::Value| {
            let route: Route = serde_json::from_value(json!({"to": "default", "via": via})).unwrap();
            serde_json::to_value(route).unwrap()["to"].clone()
        };
        assert_eq!(read(json!("10.0.0.1")), "0.0.0.0/0");
        assert_eq!(read(json!("fd00::1")), "::/0");
        assert_eq!(read(json!(null)), "0.0.0.0/0");
        let wrong = serde_json::from_value::<Route>(json!({"to": "everywhere"})).unwrap_err();
        assert!(wrong.to_string().contains("invalid IP address syntax"), "{wrong}");
    }
}
