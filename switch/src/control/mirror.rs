//! Mirrors: the lab's word, and the indices that the datapath has for it.

use std::collections::BTreeMap;
use std::sync::Arc;

use vswitch_api::mirror::{Mirror, MirrorView};
use vswitch_api::request::MirrorPatch;
use vswitch_api::view::Changes;
use vswitch_api::{ApiError, Lab, MirrorName, PortName};

use super::condition::{Editing, Subject};
use super::named::{add, remove};
use super::requests::as_they_are;
use super::{Control, Inner, View, text};
use vswitch_datapath::PortId;
use vswitch_datapath::filter::Program;
use vswitch_datapath::mirror::{MirrorCounters, MirrorEntry, MirrorTo};
use vswitch_datapath::snapshot::PortSet;

/// A mirror that was added, whether its ports are there or not.
#[derive(Clone)]
pub(super) struct LiveMirror {
    mirror: Mirror,
    counters: Arc<MirrorCounters>,
}

impl LiveMirror {
    /// Frames and bytes that it has copied.
    pub fn total(&self) -> (u64, u64) {
        self.counters.total()
    }
}

impl Control {
    /// Adds a mirror.
    ///
    /// # Errors
    /// Conflict: the name is taken, or a port is in the way. NotFound: a port or switch. Invalid: the filter is no program.
    pub async fn add_mirror(&self, mirror: Mirror, options: impl Into<Editing>) -> Result<Changes, ApiError> {
        let options = options.into();
        let how = options.clone();
        self.edit(Subject::Lab, options, |_, lab| {
            add(lab, mirror, how.said.first().cloned(), &how, as_they_are)
        })
        .await
    }

    /// Changes settings of a mirror.
    ///
    /// # Errors
    /// NotFound, Invalid, and what [`Self::add_mirror`] refuses.
    pub async fn patch_mirror(
        &self,
        name: &MirrorName,
        patch: MirrorPatch,
        options: impl Into<Editing>,
    ) -> Result<Changes, ApiError> {
        self.patch_one(name, options, |mirror: &Mirror| patch.0.apply(mirror, &[]))
            .await
    }

    /// Removes a mirror. Its destination is an ordinary port again.
    ///
    /// # Errors
    /// NotFound.
    pub async fn remove_mirror(&self, name: &MirrorName, options: impl Into<Editing>) -> Result<Changes, ApiError> {
        let options = options.into();
        let how = options.clone();
        self.edit(Subject::Mirror(name), options, |_, lab| {
            remove::<Mirror>(lab, name, &how)
        })
        .await
    }

    /// All mirrors.
    pub fn mirrors(&self) -> Vec<MirrorView> {
        let view = self.view();
        let mirrors = view.state.lab.mirrors.iter();
        mirrors.map(|mirror| view.mirror_view(mirror)).collect()
    }

    /// One mirror.
    ///
    /// # Errors
    /// NotFound.
    pub fn mirror(&self, name: &MirrorName) -> Result<MirrorView, ApiError> {
        let view = self.view();
        let mirror = view.state.lab.mirrors.iter().find(|mirror| mirror.name == *name);
        mirror
            .map(|mirror| view.mirror_view(mirror))
            .ok_or_else(|| text::no_mirror(name))
    }
}

impl View {
    pub(super) fn mirror_view(&self, mirror: &Mirror) -> MirrorView {
        let live = self.mirrors.get(&mirror.name);
        let (frames, bytes) = live.map_or((0, 0), |live| live.total());
        MirrorView {
            mirror: mirror.clone(),
            active: live.is_some()
                && match &mirror.to {
                    Some(to) => self.ports.get(to).is_some_and(|port| port.id.is_some()),
                    None => true,
                },
            frames,
            bytes,
        }
    }
}

impl Inner {
    pub(super) fn start_mirror(&mut self, mirror: &Mirror) {
        let counters = self.live.parted_mirrors.remove(&mirror.name).unwrap_or_else(|| {
            let before = self.handed.mirror(&mirror.name);
            Arc::new(MirrorCounters::going_on(self.datapath.workers(), before))
        });
        let live = LiveMirror {
            mirror: mirror.clone(),
            counters,
        };
        self.live.mirrors.insert(mirror.name.clone(), live);
        self.publish_mirrors();
    }

    pub(super) fn stop_mirror(&mut self, mirror: &Mirror) {
        if let Some(live) = self.live.mirrors.remove(&mirror.name) {
            self.live.parted_mirrors.insert(mirror.name.clone(), live.counters);
        }
        self.publish_mirrors();
    }

    /// Tells the datapath of all mirrors. To be called when one changes.
    pub(super) fn publish_mirrors(&self) {
        self.publish_mirrors_with(&BTreeMap::new());
    }

    /// The same when ports come into the datapath that are not among those that are there yet.
    pub(super) fn publish_mirrors_with(&self, joining: &BTreeMap<&PortName, PortId>) {
        let there = |name: &PortName| self.live.ports.get(name).and_then(|live| Some(live.id?.id));
        let id = |name: &PortName| joining.get(name).copied().or_else(|| there(name));
        let entry = |LiveMirror { mirror, counters }: &LiveMirror| {
            let ports = (mirror.rules_only || !mirror.ports.is_empty()).then(|| {
                let mut set = PortSet::default();
                mirror.ports.iter().filter_map(id).for_each(|id| set.set(id, true));
                set
            });
            Some(MirrorEntry {
                name: mirror.name.clone(),
                switch: *self.live.switches.get(&mirror.switch)?,
                ports,
                rx: mirror.direction.rx(),
                tx: mirror.direction.tx(),
                vlans: mirror.vlans.clone(),
                to: match (&mirror.to, mirror.to_vlan) {
                    (Some(port), _) => MirrorTo::Port(id(port)?),
                    (None, vlan) => MirrorTo::Vlan(vlan?.get()),
                },
                // It was found to be a program before.
                filter: mirror
                    .filter
                    .as_ref()
                    .and_then(|filter| filter.program.as_ref()?.parse().ok()),
                counters: counters.clone(),
            })
        };
        self.datapath
            .set_mirrors(self.live.mirrors.values().filter_map(entry).collect());
    }
}

/// Takes a port that is going out of the mirrors. A mirror without its destination or its last port goes too, rather than
/// becoming one of all ports.
pub(super) fn leave_mirrors(lab: &mut Lab, port: &PortName) {
    lab.mirrors.retain_mut(|mirror| {
        let was = mirror.ports.len();
        mirror.ports.retain(|name| name != port);
        mirror.to.as_ref() != Some(port) && (was == 0 || !mirror.ports.is_empty())
    });
}

/// What a lab may say of mirrors.
pub(super) fn check_mirrors(lab: &Lab) -> Result<(), ApiError> {
    for (n, mirror) in lab.mirrors.iter().enumerate() {
        let object = || text::mirror(&mirror.name);
        if lab.mirrors[..n].iter().any(|other| other.name == mirror.name) {
            return Err(text::conflict(object(), "it is named twice").hint("give each its own name"));
        }
        if !lab.switches.iter().any(|switch| switch.name == mirror.switch) {
            return Err(text::no_switch(&mirror.switch));
        }
        if mirror.rules_only && !mirror.ports.is_empty() {
            let cause = "it has ports, and takes only what rules copy".to_owned();
            return Err(text::invalid(object(), cause).hint("leave out --from or --rules-only"));
        }
        match (&mirror.to, mirror.to_vlan) {
            (Some(_), None) => {}
            (None, Some(vlan)) => {
                let switch = lab.switches.iter().find(|switch| switch.name == mirror.switch);
                if !switch.is_some_and(|switch| switch.rspan_vlans.contains(&vlan)) {
                    let cause = format!(
                        "VLAN {vlan} is not one of those of switch \"{}\" for copies",
                        mirror.switch
                    );
                    let hint = format!(
                        "`vswitchctl set switch {} --rspan-vlans {vlan}` makes it one",
                        mirror.switch
                    );
                    return Err(text::conflict(object(), cause).hint(hint));
                }
            }
            _ => {
                return Err(text::invalid(object(), "it has not one destination")
                    .hint("give a port (--to) or a VLAN (--to-vlan)"));
            }
        }
        for name in mirror.ports.iter().chain(&mirror.to) {
            let port = lab.ports.iter().find(|port| port.name == *name);
            let port = port.ok_or_else(|| text::no_port(name))?;
            if port.switch != mirror.switch {
                let cause = format!(
                    "it is about switch \"{}\", and its port \"{name}\" would be on switch \"{}\"",
                    mirror.switch, port.switch
                );
                let named = || mirror.ports.iter().chain(&mirror.to);
                let there = |name: &PortName| {
                    let mut ports = lab.ports.iter();
                    ports.any(|other| other.name == *name && other.switch == port.switch)
                };
                if !mirror.ports.is_empty() && named().all(there) {
                    return Err(text::conflict(object(), cause)
                        .hint(format!("all of its ports are there: --switch {}", port.switch)));
                }
                return Err(text::conflict(object(), cause).hint(
                    "a mirror and its ports have one switch: let it name ports of one only, or leave the port where it is",
                ));
            }
        }
        for (n, name) in mirror.ports.iter().enumerate() {
            if mirror.ports[..n].contains(name) {
                return Err(text::invalid(object(), format!("port \"{name}\" is named twice")));
            }
            if let Some(other) = lab.mirrors.iter().find(|other| other.to.as_ref() == Some(name)) {
                let cause = format!("port \"{name}\" is the destination of mirror \"{}\"", other.name);
                return Err(
                    text::conflict(object(), cause).hint("a destination carries copies only; choose another port")
                );
            }
        }
        if let Some(filter) = &mirror.filter {
            let Some(program) = &filter.program else {
                let cause = format!(
                    "its filter {:?} comes without the program that the daemon runs",
                    filter.expression
                );
                return Err(text::invalid(object(), cause)
                    .hint("`vswitchctl` makes it, also in `apply`; else give expression and program, as `tcpdump -ddd` prints it"));
            };
            let checked = program.parse::<Program>();
            checked.map_err(|error| text::invalid(object(), format!("its filter: {error}")))?;
        }
    }
    refuse_rings(lab)
}

/// Refuses mirrors that copy over links what others have copied over links, in a ring: each frame would go round for ever.
fn refuse_rings(lab: &Lab) -> Result<(), ApiError> {
    for mirror in &lab.mirrors {
        let (mut reached, mut at) = (Vec::<&Mirror>::new(), 0);
        reached.extend(fed_by(lab, mirror));
        while let Some(next) = reached.get(at).copied() {
            if next.name == mirror.name {
                let cause = "its copies come back to it, over links and other mirrors".to_owned();
                return Err(text::conflict(text::mirror(&mirror.name), cause)
                    .hint("have one of them copy only what comes in from its own stations (--from PORTS --direction in), or to a port that is no link"));
            }
            let more = fed_by(lab, next).filter(|one| reached.iter().all(|known| known.name != one.name));
            let more: Vec<_> = more.collect();
            reached.extend(more);
            at += 1;
        }
    }
    Ok(())
}

/// The mirrors that take what this one copies over a link.
fn fed_by<'a>(lab: &'a Lab, mirror: &Mirror) -> impl Iterator<Item = &'a Mirror> {
    let port = |name: &PortName| lab.ports.iter().find(|port| port.name == *name);
    let far = mirror
        .to
        .as_ref()
        .and_then(port)
        .and_then(|near| near.peer.as_ref())
        .and_then(port);
    let takes = move |other: &&Mirror| {
        far.is_some_and(|far| {
            other.switch == far.switch
                && !other.rules_only
                && other.to.as_ref() != Some(&far.name)
                // What comes from the link, or goes on from there to others.
                && (other.ports.is_empty() || other.ports.contains(&far.name) || other.direction.tx())
        })
    };
    lab.mirrors.iter().filter(takes)
}

#[cfg(test)]
mod tests {
    use vswitch_api::capture::Direction;
    use vswitch_api::{Port, PortKind, Switch};

    use super::super::complete::main_switch;
    use super::*;

    fn mirror(ports: &[&str], to: &str) -> Mirror {
        Mirror {
            name: "m".parse().unwrap(),
            switch: main_switch(),
            ports: ports.iter().map(|name| name.parse().unwrap()).collect(),
            rules_only: false,
            direction: Default::default(),
            vlans: None,
            to: Some(to.parse().unwrap()),
            to_vlan: None,
            filter: None,
        }
    }

    fn lab(mirrors: Vec<Mirror>) -> Lab {
        let other: vswitch_api::SwitchName = "other".parse().unwrap();
        let port = |name: &str, switch: &vswitch_api::SwitchName| {
            Port::new(name.parse().unwrap(), switch.clone(), PortKind::Tap)
        };
        Lab {
            switches: vec![Switch::new(main_switch()), Switch::new(other.clone())],
            ports: vec![
                port("red", &main_switch()),
                port("blue", &main_switch()),
                port("mon", &main_switch()),
                port("far", &other),
            ],
            mirrors,
            ..Lab::default()
        }
    }

    /// Over two links between two switches.
    #[test]
    fn mirrors_in_a_ring_are_refused() {
        let mut lab = lab(Vec::new());
        let ends = [("a1", "b1"), ("b1", "a1"), ("a2", "b2"), ("b2", "a2")];
        lab.ports.extend(ends.map(|(name, peer)| {
            let switch = if name.starts_with('a') {
                main_switch()
            } else {
                "other".parse().unwrap()
            };
            let mut port = Port::new(name.parse().unwrap(), switch, PortKind::Link);
            port.peer = Some(peer.parse().unwrap());
            port
        }));
        let back = |ports: &[&str], direction, to: &str| Mirror {
            name: "back".parse().unwrap(),
            switch: "other".parse().unwrap(),
            direction,
            ..mirror(ports, to)
        };
        let mut refused = |back: Mirror| {
            lab.mirrors = vec![mirror(&["red"], "a1"), back];
            check_mirrors(&lab).is_err_and(|error| error.to_string().contains("come back to it"))
        };
        assert!(refused(back(&[], Direction::Rx, "b2")));
        assert!(refused(back(&["far"], Direction::Both, "b2")));
        assert!(!refused(back(&["far"], Direction::Rx, "b2")));
        // Its own copies are no frames that come in.
        assert!(!refused(back(&["far"], Direction::Both, "b1")));
    }

    #[test]
    fn what_can_not_be_mirrored_is_refused() {
        for (mirrors, word) in [
            (vec![mirror(&["nosuch"], "mon")], "nosuch"),
            (vec![mirror(&["red"], "nosuch")], "nosuch"),
            (vec![mirror(&["mon"], "mon")], "destination"),
            (
                vec![mirror(&["far"], "mon")],
                "its port \"far\" would be on switch \"other\"",
            ),
            (vec![mirror(&["red"], "far")], "on switch \"other\""),
            (vec![mirror(&["red", "red"], "mon")], "twice"),
            (vec![mirror(&["red"], "mon"), mirror(&["red"], "mon")], "twice"),
            (
                vec![
                    mirror(&["red"], "mon"),
                    Mirror {
                        name: "n".parse().unwrap(),
                        ..mirror(&["mon"], "blue")
                    },
                ],
                "destination of mirror \"m\"",
            ),
        ] {
            let refused = check_mirrors(&lab(mirrors)).unwrap_err().to_string();
            assert!(refused.contains(word), "{refused}");
        }
        check_mirrors(&lab(vec![mirror(&[], "mon")])).unwrap();
        check_mirrors(&lab(vec![mirror(&["red", "blue"], "mon")])).unwrap();
    }

    #[test]
    fn a_port_that_goes_leaves_its_mirrors() {
        let left = |mirror: Mirror, port: &str| {
            let mut lab = lab(vec![mirror]);
            leave_mirrors(&mut lab, &port.parse().unwrap());
            lab.mirrors.pop().map(|mirror| mirror.ports.len())
        };
        assert_eq!(left(mirror(&["red", "blue"], "mon"), "red"), Some(1));
        assert_eq!(left(mirror(&["red"], "mon"), "red"), None);
        assert_eq!(left(mirror(&["red"], "mon"), "mon"), None);
        assert_eq!(left(mirror(&[], "mon"), "red"), Some(0));
    }
}
