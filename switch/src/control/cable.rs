//! Cables: veth pairs between two namespaces, without a switch.

use vswitch_api::cable::CableSettings;
use vswitch_api::lab::DEFAULT_MTU;
use vswitch_api::request::{CablePatch, CableSelect};
use vswitch_api::view::Changes;
use vswitch_api::{ApiError, Cable, CableEnd, DEFAULT_IFNAME, Lab, Mac, NsName};

use super::attach::Adopt;
use super::condition::{Editing, Subject, is_there};
use super::detach::gone_is_fine;
use super::interface::{KnownRoutes, add_route, routes_in_order};
use super::named::already;
use super::place::Place;
use super::{Control, Inner, text};
use vswitch_linux::{KernelError, Link, NetNs, Netlink, VethPeer};

impl Control {
    /// Joins two namespaces, once more if they are joined already.
    ///
    /// # Errors
    /// Conflict: an interface name is taken.
    pub async fn add_cable(&self, cable: Cable, options: impl Into<Editing>) -> Result<Changes, ApiError> {
        let options = options.into();
        self.edit(Subject::Lab, options.clone(), |_, lab| {
            if options.if_absent
                && lab
                    .cables
                    .iter()
                    .any(|old| old.joins(&cable.a.namespace, &cable.b.namespace))
            {
                return Err(is_there(text::cables(&cable.a.namespace, &cable.b.namespace)));
            }
            if options.idempotent {
                if lab.cables.iter().any(|old| is_as_wanted(old, &cable)) {
                    return Ok(());
                }
                if let Some(old) = lab.cables.iter().find(|old| is_meant(old, &cable)) {
                    return Err(other_settings(old, &cable));
                }
            }
            lab.cables.push(cable);
            Ok(())
        })
        .await
    }

    /// Removes a cable between two namespaces.
    ///
    /// # Errors
    /// NotFound; Conflict: it is not said which of several.
    pub async fn remove_cable(
        &self,
        a: &NsName,
        b: &NsName,
        select: CableSelect,
        options: impl Into<Editing>,
    ) -> Result<Changes, ApiError> {
        let options = options.into();
        self.edit(Subject::Cables(a, b), options.clone(), |_, lab| {
            if let Some(at) = selected(lab, a, b, &select)? {
                lab.cables.remove(at);
                return Ok(());
            }
            if options.idempotent {
                Ok(())
            } else {
                Err(text::no_cable(a, b))
            }
        })
        .await
    }

    /// Changes settings of a cable between two namespaces, of which `a` is the one that the patch calls A.
    ///
    /// # Errors
    /// NotFound, Invalid; Conflict: it is not said which of several.
    pub async fn patch_cable(
        &self,
        a: &NsName,
        b: &NsName,
        select: CableSelect,
        patch: CablePatch,
        options: impl Into<Editing>,
    ) -> Result<Changes, ApiError> {
        self.edit(Subject::Cables(a, b), options, |_, lab| {
            let at = selected(lab, a, b, &select)?.ok_or_else(|| text::no_cable(a, b))?;
            let cable = &mut lab.cables[at];
            let after = patch.0.apply(&CableSettings::of(cable, a), &[]);
            let after = after.map_err(|cause| text::invalid(text::cable(cable), cause))?;
            *cable = after.give(cable, a);
            Ok(())
        })
        .await
    }
}

/// Where the cable stands that is meant; none: there is none.
fn selected(lab: &Lab, a: &NsName, b: &NsName, select: &CableSelect) -> Result<Option<usize>, ApiError> {
    let is_meant = |cable: &Cable| {
        let named = |end: &CableEnd, namespace: &NsName, ifname: &Option<_>| {
            end.namespace == *namespace && (ifname.is_none() || end.ifname == *ifname)
        };
        let (ifname_a, ifname_b) = (&select.ifname_a, &select.ifname_b);
        (named(&cable.a, a, ifname_a) && named(&cable.b, b, ifname_b))
            || (named(&cable.b, a, ifname_a) && named(&cable.a, b, ifname_b))
    };
    let found: Vec<_> = lab
        .cables
        .iter()
        .enumerate()
        .filter(|(_, cable)| is_meant(cable))
        .collect();
    match found[..] {
        [] => Ok(None),
        [(at, _)] => Ok(Some(at)),
        _ => {
            let which: Vec<_> = found
                .iter()
                .map(|(_, cable)| format!("{} - {}", at(&cable.a), at(&cable.b)))
                .collect();
            let cause = format!("it is one of {}: {}", which.len(), which.join(", "));
            Err(text::conflict(text::cables(a, b), cause).hint("say which by --name-a or --name-b"))
        }
    }
}

/// Whether a cable that is there is what is asked for; what is not said may be as it is.
fn is_as_wanted(there: &Cable, wanted: &Cable) -> bool {
    let end = |there: &CableEnd, wanted: &CableEnd| {
        there.namespace == wanted.namespace
            && (wanted.ifname.is_none() || there.ifname == wanted.ifname)
            && (wanted.mac.is_none() || there.mac == wanted.mac)
            && (wanted.addresses.is_empty() || there.addresses == wanted.addresses)
            && (wanted.routes.is_empty()
                || there
                    .routes
                    .iter()
                    .map(|r| (r.to, r.via))
                    .eq(wanted.routes.iter().map(|r| (r.to, r.via))))
    };
    wanted.mtu.is_none_or(|mtu| there.mtu.unwrap_or(DEFAULT_MTU) == mtu)
        && ((end(&there.a, &wanted.a) && end(&there.b, &wanted.b))
            || (end(&there.a, &wanted.b) && end(&there.b, &wanted.a)))
}

/// Whether a cable that is there is the one that is asked for, by what says which of several it is.
fn is_meant(there: &Cable, wanted: &Cable) -> bool {
    let end = |there: &CableEnd, wanted: &CableEnd| {
        there.namespace == wanted.namespace && (wanted.ifname.is_none() || there.ifname == wanted.ifname)
    };
    (end(&there.a, &wanted.a) && end(&there.b, &wanted.b)) || (end(&there.a, &wanted.b) && end(&there.b, &wanted.a))
}

/// Of a cable that is there already.
fn other_settings(there: &Cable, wanted: &Cable) -> ApiError {
    let a = &wanted.a.namespace;
    let (mut old, new) = (CableSettings::of(there, a), CableSettings::of(wanted, a));
    old.mtu = old.mtu.or(Some(DEFAULT_MTU));
    let change =
        "change it with `vswitchctl set cable`, or remove it first; --name-a and --name-b tell another cable from it";
    // Where it lacks only what is not said, there is no setting to name.
    match already(text::cable(there), &old, &new, change) {
        Err(error) => error,
        Ok(()) => text::conflict(text::cable(there), "it is there already, with other settings").hint(change),
    }
}

fn at(end: &CableEnd) -> String {
    format!("{} ({})", end.namespace, name(end))
}

impl Inner {
    /// Makes a cable, or finds it there.
    pub(super) async fn attach_cable(&mut self, cable: &Cable, adopt: Adopt) -> Result<(), ApiError> {
        let object = text::cable(cable);
        let failed = |error: KernelError| text::kernel(object.clone(), &error);
        let (a, b) = (
            self.open_namespace(&cable.a.namespace)?,
            self.open_namespace(&cable.b.namespace)?,
        );
        let (a_nl, b_nl) = (a.netlink().await.map_err(failed)?, b.netlink().await.map_err(failed)?);
        let (a_name, b_name) = (name(&cable.a), name(&cable.b));
        let mtu = cable.mtu.unwrap_or(DEFAULT_MTU);
        let look = async || {
            let [a_end, b_end] = find_ends(cable, [Ok(Some(a.clone())), Ok(Some(b.clone()))]).await;
            Ok::<_, KernelError>((a_end?, b_end?))
        };
        let there = look().await.map_err(failed)?;
        match &there {
            (Some(a_end), Some(b_end)) if adopt == Adopt::Yes && joined(&a_end.link, &b_end.link) => {}
            (None, None) => {
                for (nl, end) in [(&a_nl, &cable.a), (&b_nl, &cable.b)] {
                    let found = nl.link_by_name(name(end)).await.map_err(failed)?;
                    if let Some(link) = found.filter(|link| link.name == name(end)) {
                        return Err(taken(cable, end, &link));
                    }
                }
                let peer = VethPeer {
                    netns: &b,
                    name: b_name,
                    mac: cable.b.mac.unwrap_or(Mac([0; 6])),
                };
                let made = a_nl.add_veth(a_name, mtu, peer).await;
                if let Err(error) = made {
                    // The kernel may have made the pair though its answer was lost.
                    if !error.is_exists() {
                        self.detach_cable(cable, &mut Vec::new()).await;
                    }
                    return Err(failed(error));
                }
            }
            (a_end, b_end) => {
                let found = [(a_end, &cable.a), (b_end, &cable.b)];
                let found = found.into_iter().find_map(|(place, end)| Some((place.as_ref()?, end)));
                return Err(found.map_or_else(
                    || text::conflict(object, "it is cut"),
                    |(place, end)| taken(cable, end, &place.link),
                ));
            }
        }
        let is_new = there.0.is_none();
        let configured = async {
            let (a_end, b_end) = if is_new { look().await? } else { there };
            for (nl, end, place) in [(&a_nl, &cable.a, a_end), (&b_nl, &cable.b, b_end)] {
                let vanished = || KernelError::new(format!("look up {}", name(end)), nix::errno::Errno::ENODEV);
                configure_end(nl, end, &place.ok_or_else(vanished)?.link, mtu).await?;
            }
            // Of namespaces with an id there the kernel tells what becomes of their interfaces.
            let own = self.host.own.netlink().await?;
            own.nsid_of(&a).await?;
            own.nsid_of(&b).await.map(drop)
        };
        if let Err(error) = configured.await {
            if is_new {
                // With fresh sockets: the one that failed may be of no more use.
                self.detach_cable(cable, &mut Vec::new()).await;
            }
            return Err(failed(error));
        }
        Ok(())
    }

    /// Makes a cable that is there what it is to be; one that is cut gets it when it is laid again. On an error some may be changed: the
    /// caller carries out the inverse change.
    pub(super) async fn change_cable(
        &mut self,
        before: &Cable,
        after: &Cable,
        warnings: &mut Vec<String>,
    ) -> Result<(), ApiError> {
        let object = text::cable(after);
        let failed = |error: KernelError| text::kernel(object.clone(), &error);
        let mtu = after.mtu.unwrap_or(DEFAULT_MTU);
        let mut is_cut = false;
        let ends = [(&before.a, &after.a), (&before.b, &after.b)];
        for ((old, new), found) in ends.into_iter().zip(self.ends_of(after).await) {
            let Some(Place { netns, link }) = found.map_err(failed)? else {
                is_cut = true;
                continue;
            };
            let changed = async {
                let nl = netns.netlink().await?;
                for route in old.routes.iter().filter(|route| !new.routes.contains(route)) {
                    gone_is_fine(nl.del_route(link.index, route).await)?;
                }
                let gone = old.addresses.iter().filter(|address| !new.addresses.contains(address));
                for address in gone {
                    gone_is_fine(nl.del_address(link.index, *address).await)?;
                }
                configure_end(&nl, new, &link, mtu).await
            };
            changed.await.map_err(failed)?;
        }
        if is_cut {
            let warning = format!("{object} is cut: it gets what was set when it is laid again");
            // A change may be of two steps.
            if !warnings.contains(&warning) {
                warnings.push(warning);
            }
            self.note_cut(after);
        }
        Ok(())
    }

    /// The interfaces of the ends of a cable.
    pub(super) async fn ends_of(&self, cable: &Cable) -> [Result<Option<Place>, KernelError>; 2] {
        let open = |end: &CableEnd| self.find_namespace(&end.namespace);
        find_ends(cable, [open(&cable.a), open(&cable.b)]).await
    }

    /// Removes a cable; one that is gone already, with its namespace or without, is removed enough. Another interface may have the name of
    /// an end.
    pub(super) async fn detach_cable(&mut self, cable: &Cable, warnings: &mut Vec<String>) {
        for found in self.ends_of(cable).await {
            let removed = async {
                match found? {
                    Some(Place { netns, link }) => gone_is_fine(netns.netlink().await?.delete_link(link.index).await),
                    None => Ok(()),
                }
            };
            if let Err(error) = removed.await {
                warnings.push(format!(
                    "{}: {error}; the next command tries it again",
                    text::cable(cable)
                ));
                self.store.leave_cable(cable);
            }
        }
    }
}

/// An interface is where the end of a cable is to be, by its name or by its MAC address.
fn taken(cable: &Cable, end: &CableEnd, link: &Link) -> ApiError {
    let (namespace, there) = (text::namespace(&end.namespace), link.name.escape_debug());
    match link.name == name(end) {
        true => text::conflict(
            text::cable(cable),
            format!("{namespace} has an interface {there} already"),
        )
        .hint("choose other names with --name-a and --name-b"),
        false => {
            let cause = format!(
                "interface {there} in {namespace} has the MAC address of the end {} already",
                name(end)
            );
            text::conflict(text::cable(cable), cause).hint("choose another address, or remove what has it first")
        }
    }
}

/// Name of the interface of an end of a completed cable.
pub(super) fn name(end: &CableEnd) -> &str {
    end.ifname.as_ref().map_or(DEFAULT_IFNAME, |name| name.as_str())
}

fn is_end(link: &Link, end: &CableEnd) -> bool {
    link.kind.as_deref() == Some("veth") && link.mac == end.mac
}

fn joined(a: &Link, b: &Link) -> bool {
    a.peer_index == Some(b.index) && b.peer_index == Some(a.index)
}

/// The interfaces of the two ends, whatever they are called by now. An end is known by its MAC address or, where it has another, by what it
/// is joined to. All else that has its name is somebody else's.
pub(super) async fn find_ends(
    cable: &Cable,
    namespaces: [Result<Option<NetNs>, KernelError>; 2],
) -> [Result<Option<Place>, KernelError>; 2] {
    let [a, b] = namespaces;
    let (a, b) = (look_into(a).await, look_into(b).await);
    let (a_own, b_own) = (own_end(&a, &cable.a), own_end(&b, &cable.b));
    let a_end = a_own.clone().or_else(|| end_joined_to(&a, &cable.a, b_own.as_ref()?));
    let b_end = b_own.or_else(|| end_joined_to(&b, &cable.b, a_own.as_ref()?));
    let place = |looked: Looked, link: Option<Link>| {
        let there = looked?.zip(link);
        Ok(there.map(|((netns, _), link)| Place { netns, link }))
    };
    [place(a, a_end), place(b, b_end)]
}

/// A namespace that is there, with its interfaces.
type Looked = Result<Option<(NetNs, Vec<Link>)>, KernelError>;

async fn look_into(netns: Result<Option<NetNs>, KernelError>) -> Looked {
    let Some(netns) = netns? else { return Ok(None) };
    let links = netns.links_once().await?;
    Ok(Some((netns, links)))
}

fn links(looked: &Looked) -> impl Iterator<Item = &Link> {
    looked.iter().flatten().flat_map(|(_, links)| links)
}

fn own_end(looked: &Looked, end: &CableEnd) -> Option<Link> {
    // Of two with that address the one that is called so.
    let own = links(looked).filter(|link| is_end(link, end));
    own.min_by_key(|link| link.name != name(end)).cloned()
}

fn end_joined_to(looked: &Looked, end: &CableEnd, other: &Link) -> Option<Link> {
    let mut named = links(looked).filter(|link| link.name == name(end));
    named.find(|link| joined(link, other)).cloned()
}

async fn configure_end(nl: &Netlink, end: &CableEnd, link: &Link, mtu: u32) -> Result<(), KernelError> {
    if let Some(mac) = end.mac.filter(|mac| link.mac != Some(*mac)) {
        nl.set_mac(link.index, mac).await?;
    }
    if link.mtu != mtu {
        nl.set_mtu(link.index, mtu).await?;
    }
    nl.set_up(link.index).await?;
    for address in &end.addresses {
        match nl.add_address(link.index, *address).await {
            Err(error) if !error.is_exists() => return Err(error),
            _ => {}
        }
    }
    let mut known = KnownRoutes::default();
    for route in routes_in_order(&end.routes) {
        add_route(nl, link.index, route, &mut known).await?;
    }
    Ok(())
}
