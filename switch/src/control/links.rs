//! Links between two switches: each is two ports of kind link that name each other.

use vswitch_api::link::{LinkEnd, LinkView};
use vswitch_api::request::PortPatch;
use vswitch_api::view::{Changes, PortState};
use vswitch_api::{ApiError, Lab, Link, Port, PortKind, PortName, SwitchName};

use super::condition::{Editing, Subject, is_there};
use super::interface::mtu;
use super::mirror::leave_mirrors;
use super::named::already;
use super::published::View;
use super::repair::is_of_inside;
use super::{Control, Inner, text};

impl Control {
    /// Joins two switches.
    ///
    /// # Errors
    /// NotFound; Invalid: it is one and the same; Conflict: a name is taken.
    pub async fn add_link(&self, link: Link, options: impl Into<Editing>) -> Result<Changes, ApiError> {
        let options = options.into();
        self.edit(Subject::Lab, options.clone(), |_, lab| {
            match there_already(lab, &link) {
                Some(_) if options.if_absent => {
                    return Err(is_there(format!("link \"{}\" - \"{}\"", link.a, link.b)));
                }
                Some(fits) if options.idempotent => return fits,
                _ => {}
            }
            lab.links.push(link);
            Ok(())
        })
        .await
    }

    /// Changes settings of both ports of the link that has this port.
    ///
    /// # Errors
    /// NotFound; Invalid: the port is no end of a link, or has no such setting.
    pub async fn patch_link(
        &self,
        name: &PortName,
        patch: PortPatch,
        options: impl Into<Editing>,
    ) -> Result<Changes, ApiError> {
        let options = options.into();
        let mut inner = self.begin_edit().await?;
        let peer = inner.store.port(name).and_then(|port| port.peer.clone());
        let ends: Vec<_> = [Some(name), peer.as_ref()].into_iter().flatten().collect();
        let change = |_: &Inner, lab: &mut Lab| {
            let port = lab.port(name).ok_or_else(|| no_link(name))?;
            if port.peer.is_none() {
                return Err(is_no_link(name));
            }
            for port in lab.ports.iter_mut().filter(|port| ends.contains(&&port.name)) {
                let invalid = |cause: String| text::invalid(text::port(&port.name), cause);
                let after = patch.apply(port).map_err(invalid)?;
                if after.name != port.name {
                    return Err(invalid("it can't be renamed".to_owned()));
                }
                *port = after;
            }
            Ok(())
        };
        let subject = Subject::Port(name);
        let before: Vec<_> = ends.iter().filter_map(|end| inner.store.port(end).cloned()).collect();
        let mut changes = if patch.sets_up() && peer.is_some() {
            inner.edit_and_open(&ends, subject, &options, change).await?
        } else {
            let (mut changes, steps) = inner.edit(subject, &options, change).await?;
            if is_of_inside(&patch) {
                for end in &ends {
                    inner.give_back_after(end, &options, &steps, &mut changes).await?;
                }
            }
            changes
        };
        for before in &before {
            inner.begin_runs_again(before, &patch, &mut changes);
        }
        Ok(changes)
    }

    /// Removes the link that has this port, with both its ports.
    ///
    /// # Errors
    /// NotFound; Invalid: the port is no end of a link.
    pub async fn remove_link(&self, name: &PortName, options: impl Into<Editing>) -> Result<Changes, ApiError> {
        let options = options.into();
        self.edit(Subject::Port(name), options.clone(), |_, lab| {
            let Some(port) = lab.ports.iter().find(|port| port.name == *name) else {
                return if options.idempotent { Ok(()) } else { Err(no_link(name)) };
            };
            let Some(peer) = port.peer.clone() else {
                return Err(is_no_link(name));
            };
            for end in [name, &peer] {
                leave_mirrors(lab, end);
                lab.ports.retain(|port| port.name != *end);
            }
            Ok(())
        })
        .await
    }

    /// All links, in the order in which they were added.
    pub fn links(&self) -> Vec<LinkView> {
        links(&self.view())
    }

    /// The link that has this port.
    ///
    /// # Errors
    /// NotFound; Invalid: the port is no end of a link.
    pub fn link(&self, name: &PortName) -> Result<LinkView, ApiError> {
        let view = self.view();
        let has = |link: &LinkView| link.a.port == *name || link.b.port == *name;
        links(&view)
            .into_iter()
            .find(has)
            .ok_or_else(|| match view.port_of_lab(name) {
                Some(_) => is_no_link(name),
                None => no_link(name),
            })
    }
}

fn no_link(name: &PortName) -> ApiError {
    ApiError::new(
        vswitch_api::ErrorCode::NotFound,
        format!("link \"{name}\""),
        "there is no port of this name",
    )
    .hint("`vswitchctl link list` shows which links there are")
}

fn is_no_link(name: &PortName) -> ApiError {
    text::invalid(text::port(name), "it is no end of a link").hint("`vswitchctl link list` shows which links there are")
}

fn links(view: &View) -> Vec<LinkView> {
    let end = |port: &Port| {
        let live = view.ports.get(&port.name);
        LinkEnd {
            switch: port.switch.clone(),
            port: port.name.clone(),
            state: live.map_or(PortState::Missing, |live| live.state),
            reason: live.and_then(|live| live.reason.clone()),
        }
    };
    let pairs = view.state.lab.laid_links();
    pairs.map(|(a, b)| LinkView { a: end(a), b: end(b) }).collect()
}

/// None: there is no link of these ends. Else whether one of them is as it is asked for.
fn there_already(lab: &Lab, link: &Link) -> Option<Result<(), ApiError>> {
    let fits = |port: &Port, switch: &SwitchName, name: &Option<PortName>| {
        port.switch == *switch && name.as_ref().is_none_or(|name| port.name == *name)
    };
    let pairs = lab.ports.iter().filter_map(|a| {
        let peer = a.peer.as_ref()?;
        Some((a, lab.ports.iter().find(|port| port.name == *peer)?))
    });
    // Each pair comes twice, once from either end.
    let found: Vec<_> = pairs
        .into_iter()
        .filter(|(a, b)| fits(a, &link.a, &link.name_a) && fits(b, &link.b, &link.name_b))
        .map(|(a, b)| [a, b].into_iter().try_for_each(|end| same_settings(end, link)))
        .collect();
    match found.iter().any(Result::is_ok) {
        true => Some(Ok(())),
        false => found.into_iter().next(),
    }
}

/// Refuses a link of which this end is there with other settings than are asked for.
fn same_settings(end: &Port, link: &Link) -> Result<(), ApiError> {
    let there = Link {
        description: end.description.clone(),
        mtu: Some(mtu(end)),
        vlan: end.vlan.clone(),
        impair: end.impair.outward.clone(),
        ..link.clone()
    };
    let to_change = format!("change it with `vswitchctl link set {}`, or remove it first", end.name);
    already(object(link), &there, link, &to_change)
}

fn object(link: &Link) -> String {
    format!("link \"{}\" - \"{}\"", link.a, link.b)
}

/// Refuses to remove a port without the other end of its link.
pub(super) fn refuse_half_a_link(lab: &Lab, name: &PortName) -> Result<(), ApiError> {
    let port = lab.ports.iter().find(|port| port.name == *name);
    match port.and_then(|port| port.peer.as_ref()) {
        None => Ok(()),
        Some(peer) => Err(text::conflict(
            text::port(name),
            format!("it is one end of a link, and port \"{peer}\" the other"),
        )
        .hint(format!("`vswitchctl link del {name}` removes both ends"))),
    }
}

/// Refuses links of which one end is not there, or leads elsewhere.
pub(super) fn check_links(lab: &Lab) -> Result<(), ApiError> {
    if let Some(link) = lab.links.first() {
        return Err(
            text::conflict(object(link), "no name is free for its ports").hint("name them by --name-a and --name-b")
        );
    }
    for port in lab.ports.iter().filter(|port| port.kind == PortKind::Link) {
        let object = text::port(&port.name);
        let Some(name) = &port.peer else {
            return Err(
                text::invalid(object, "it is one end of a link, and the other is not said")
                    .hint("join switches by `vswitchctl link add`, or name the port at the other end as its peer"),
            );
        };
        let both = format!("`vswitchctl link del {}` removes both ends", port.name);
        let Some(peer) = lab.ports.iter().find(|other| other.name == *name) else {
            let cause = format!("the other end of its link, port \"{name}\", is not there");
            return Err(text::conflict(object, cause).hint(both));
        };
        if peer.peer.as_ref() != Some(&port.name) {
            let cause = format!("port \"{name}\" is not the other end of its link");
            return Err(text::conflict(object, cause).hint("let each of the two name the other as its peer"));
        }
        if peer.switch == port.switch {
            let cause = format!("both ends of its link are on switch \"{}\"", port.switch);
            return Err(text::invalid(object, cause).hint("a link joins two switches; give each end another one"));
        }
    }
    Ok(())
}
