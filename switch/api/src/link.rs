//! Links, which join two switches.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::lab::{Description, Lab, Port, PortKind};
use crate::name::{NAME_MAX, PortName, SwitchName};
use crate::policy::{PortVlan, is_default};
use crate::traffic::{Impairment, Impairments};
use crate::view::PortState;

/// A link that is asked for. Two ports of kind `link` are made of it, one on each switch, which then have settings like any other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Link {
    /// One switch.
    pub a: SwitchName,
    /// The other switch.
    pub b: SwitchName,
    /// Name of the port on `a`; none: made of both switches' names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name_a: Option<PortName>,
    /// Name of the port on `b`; none: made of both switches' names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name_b: Option<PortName>,
    /// What the user says of both ports.
    #[serde(default, skip_serializing_if = "is_default")]
    pub description: Description,
    /// MTU of both ports; none: 1500.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
    /// Which VLANs both ports belong to.
    #[serde(default, skip_serializing_if = "is_default")]
    pub vlan: PortVlan,
    /// What happens to frames in each direction: they are impaired where they leave a switch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub impair: Option<Impairment>,
}

impl Link {
    /// A link about which nothing else is said.
    pub fn new(a: SwitchName, b: SwitchName) -> Self {
        Self {
            a,
            b,
            name_a: None,
            name_b: None,
            description: Description::default(),
            mtu: None,
            vlan: PortVlan::All,
            impair: None,
        }
    }
}

impl Lab {
    /// Makes two ports of each link. One for which no name can be found stays.
    pub fn lay_links(&mut self) {
        for link in std::mem::take(&mut self.links) {
            let name_a = link.name_a.clone().or_else(|| self.free_name(&link.a, &link.b, None));
            let taken = name_a.as_ref();
            let name_b = link.name_b.clone().or_else(|| self.free_name(&link.b, &link.a, taken));
            let (Some(name_a), Some(name_b)) = (name_a, name_b) else {
                self.links.push(link);
                continue;
            };
            let end = |name: &PortName, switch: &SwitchName, peer: &PortName| Port {
                peer: Some(peer.clone()),
                description: link.description.clone(),
                mtu: link.mtu,
                vlan: link.vlan.clone(),
                impair: Impairments {
                    inward: None,
                    outward: link.impair.clone(),
                },
                ..Port::new(name.clone(), switch.clone(), PortKind::Link)
            };
            self.ports.push(end(&name_a, &link.a, &name_b));
            self.ports.push(end(&name_b, &link.b, &name_a));
        }
    }

    /// Both ports of each link, in the order of the ports.
    pub fn laid_links(&self) -> impl Iterator<Item = (&Port, &Port)> {
        self.ports.iter().enumerate().filter_map(|(n, a)| {
            let peer = a.peer.as_ref()?;
            // The younger end has had its turn with the older.
            let b = self.ports[n + 1..].iter().find(|port| port.name == *peer)?;
            Some((a, b))
        })
    }

    /// A name for the port of `switch` that leads to `other`.
    fn free_name(&self, switch: &SwitchName, other: &SwitchName, taken: Option<&PortName>) -> Option<PortName> {
        let is_free = |name: &PortName| Some(name) != taken && !self.ports.iter().any(|port| port.name == *name);
        let names = (1..=self.ports.len() + 2).filter_map(|n| {
            let tail = if n == 1 { String::new() } else { format!("-{n}") };
            let whole = format!("{switch}-{other}");
            let head = whole.get(..whole.len().min(NAME_MAX.checked_sub(tail.len())?))?;
            format!("{head}{tail}").parse().ok()
        });
        names.into_iter().find(is_free)
    }
}

/// A link that is there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
// A namespace has links too, as `ip` calls them.
#[schema(as = SwitchLinkView)]
pub struct LinkView {
    /// Its end that was made first.
    pub a: LinkEnd,
    /// The other end.
    pub b: LinkEnd,
}

/// One end of a link.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LinkEnd {
    /// The switch.
    pub switch: SwitchName,
    /// The port on it.
    pub port: PortName,
    /// What state the port is in.
    pub state: PortState,
    /// Why it carries nothing, if so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_impairment_is_said_in_words() {
        let read: Impairment = "delay=20ms,loss=1%,rate=10mbit,limit=50".parse().unwrap();
        assert_eq!(
            (read.delay_us, read.rate_bps, read.limit),
            (20_000, Some(10_000_000), Some(50))
        );
        assert!(!read.loss.is_none());
        let wrong = [
            ("delay", "delay=20ms"),
            ("dely=1ms", "dely"),
            ("delay=1ms,delay=2ms", "twice"),
            ("loss=200%", "200"),
        ];
        for (text, word) in wrong {
            let error = text.parse::<Impairment>().unwrap_err().to_string();
            assert!(error.contains(word), "{text}: {error}");
        }
    }
}
