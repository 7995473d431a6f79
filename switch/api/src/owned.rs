//! Labs side by side: which of them made what. A table of names beside what they name, so that nothing that a lab is made of needs to
//! know of it, and what the table names and is not there any more drops out by itself.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::cable::{Cable, CableEnd};
use crate::lab::Lab;
use crate::name::{CommandName, IfName, LabName, MirrorName, NsName, PortName, SwitchName};

/// What a lab owns: what `vswitchctl lab up` made for it, and `vswitchctl lab down` removes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct OwnedByLab {
    /// Unique name of the lab.
    pub name: LabName,
    /// Its switches.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub switches: Vec<SwitchName>,
    /// Its namespaces, as far as they were asked for by themselves.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub namespaces: Vec<NsName>,
    /// Its ports.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<PortName>,
    /// Its cables.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cables: Vec<CableEnds>,
    /// Its mirrors.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mirrors: Vec<MirrorName>,
    /// Its commands.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub commands: Vec<CommandName>,
}

impl OwnedByLab {
    /// A lab that owns nothing yet.
    pub fn new(name: LabName) -> Self {
        Self {
            name,
            switches: Vec::new(),
            namespaces: Vec::new(),
            ports: Vec::new(),
            cables: Vec::new(),
            mirrors: Vec::new(),
            commands: Vec::new(),
        }
    }

    /// Whether there is nothing left.
    pub fn is_empty(&self) -> bool {
        *self == Self::new(self.name.clone())
    }
}

/// What tells a cable from others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CableEnds {
    /// One end.
    pub a: CablePlace,
    /// The other end.
    pub b: CablePlace,
}

/// Where a cable ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CablePlace {
    /// The namespace.
    pub namespace: NsName,
    /// The interface; none: that which the daemon chooses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ifname: Option<IfName>,
}

impl From<&CableEnd> for CablePlace {
    fn from(end: &CableEnd) -> Self {
        Self {
            namespace: end.namespace.clone(),
            ifname: end.ifname.clone(),
        }
    }
}

impl From<&Cable> for CableEnds {
    fn from(cable: &Cable) -> Self {
        let Cable { a, b, .. } = cable;
        Self {
            a: a.into(),
            b: b.into(),
        }
    }
}

impl CableEnds {
    /// Whether it can be this cable.
    pub fn fits(&self, cable: &Cable) -> bool {
        let end = |place: &CablePlace, end: &CableEnd| {
            place.namespace == end.namespace && (place.ifname.is_none() || place.ifname == end.ifname)
        };
        end(&self.a, &cable.a) && end(&self.b, &cable.b)
    }
}

impl Lab {
    /// What the lab of this name owns.
    pub fn owned_by(&self, name: &LabName) -> Option<&OwnedByLab> {
        self.labs.iter().find(|owned| owned.name == *name)
    }

    /// Has each thing owned once and only if it is there, and each cable known by the interfaces that it got. For a lab that is
    /// complete.
    pub fn settle_owners(&mut self) {
        let mut labs = std::mem::take(&mut self.labs);
        let mut free: Vec<&Cable> = self.cables.iter().collect();
        let (mut switches, mut namespaces, mut ports, mut mirrors, mut commands) = (
            Vec::from_iter(self.switches.iter().map(|switch| &switch.name)),
            Vec::from_iter(self.namespaces.iter().map(|namespace| &namespace.name)),
            std::collections::HashSet::<_>::from_iter(self.ports.iter().map(|port| &port.name)),
            Vec::from_iter(self.mirrors.iter().map(|mirror| &mirror.name)),
            Vec::from_iter(self.commands.iter().map(|command| &command.name)),
        );
        for owned in &mut labs {
            owned.switches.retain(|name| take(&mut switches, name));
            owned.namespaces.retain(|name| take(&mut namespaces, name));
            owned.ports.retain(|name| ports.remove(name));
            owned.mirrors.retain(|name| take(&mut mirrors, name));
            owned.commands.retain(|name| take(&mut commands, name));
            owned.cables.retain_mut(|ends| {
                let Some(at) = free.iter().position(|cable| ends.fits(cable)) else {
                    return false;
                };
                *ends = CableEnds::from(free.swap_remove(at));
                true
            });
        }
        labs.retain(|owned| !owned.is_empty());
        self.labs = labs;
    }
}

fn take<T: PartialEq>(free: &mut Vec<&T>, name: &T) -> bool {
    let at = free.iter().position(|free| *free == name);
    at.map(|at| free.swap_remove(at)).is_some()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_gone_is_owned_no_more_and_each_thing_once() {
        let mut lab: Lab = serde_json::from_value(json!({
            "ports": [{"name": "red"}, {"name": "blue"}],
            "cables": [
                {"a": {"namespace": "x", "ifname": "eth0"}, "b": {"namespace": "y", "ifname": "eth0"}},
                {"a": {"namespace": "x", "ifname": "eth1"}, "b": {"namespace": "y", "ifname": "eth1"}}
            ],
            "labs": [
                {"name": "a", "ports": ["red", "gone"], "cables": [{"a": {"namespace": "x"}, "b": {"namespace": "y"}}]},
                {"name": "b", "ports": ["red"]},
                {"name": "c", "ports": ["blue"], "cables": [{"a": {"namespace": "x"}, "b": {"namespace": "z"}}]}
            ]
        }))
        .unwrap();
        lab.settle_owners();
        let labs = json!([
            {"name": "a", "ports": ["red"], "cables": [
                {"a": {"namespace": "x", "ifname": "eth0"}, "b": {"namespace": "y", "ifname": "eth0"}}
            ]},
            {"name": "c", "ports": ["blue"]}
        ]);
        assert_eq!(serde_json::to_value(&lab.labs).unwrap(), labs);
    }
}
