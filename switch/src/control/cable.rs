//! Cables: veth pairs between two namespaces, without a switch.

use vswitch_api::lab::DEFAULT_MTU;
use vswitch_api::request::CableSelect;
use vswitch_api::view::Changes;
use vswitch_api::{ApiError, Cable, CableEnd, Mac, NsName};

use super::attach::Adopt;
use super::condition::{Editing, Subject};
use super::detach::gone_is_fine;
use super::interface::{add_route, routes_in_order};
use super::{Control, Inner, text};
use vswitch_linux::{KernelError, Link, Netlink, VethPeer};

impl Control {
    /// Joins two namespaces, once more if they are joined already.
    ///
    /// # Errors
    /// Conflict: an interface name is taken.
    pub async fn add_cable(&self, cable: Cable, options: impl Into<Editing>) -> Result<Changes, ApiError> {
        let options = options.into();
        self.edit(Subject::Lab, options.clone(), |_, lab| {
            if !(options.idempotent && lab.cables.iter().any(|old| is_as_wanted(old, &cable))) {
                lab.cables.push(cable);
            }
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
            let selected = |cable: &Cable| {
                let named = |end: &CableEnd, namespace: &NsName, ifname: &Option<_>| {
                    end.namespace == *namespace && (ifname.is_none() || end.ifname == *ifname)
                };
                let (ifname_a, ifname_b) = (&select.ifname_a, &select.ifname_b);
                (named(&cable.a, a, ifname_a) && named(&cable.b, b, ifname_b))
                    || (named(&cable.b, a, ifname_a) && named(&cable.a, b, ifname_b))
            };
            let object = || text::cables(a, b);
            let found: Vec<_> = lab.cables.iter().filter(|cable| selected(cable)).collect();
            match found[..] {
                [_] => lab.cables.retain(|cable| !selected(cable)),
                [] if options.idempotent => {}
                [] => return Err(text::no_cable(a, b)),
                _ => {
                    let which: Vec<_> = found
                        .iter()
                        .map(|cable| format!("{} - {}", at(&cable.a), at(&cable.b)))
                        .collect();
                    let cause = format!("it is one of {}: {}", which.len(), which.join(", "));
                    return Err(text::conflict(object(), cause).hint("say which by --name-a or --name-b"));
                }
            }
            Ok(())
        })
        .await
    }
}

/// Whether a cable that is there is what is asked for; what is not said may be as it is.
fn is_as_wanted(there: &Cable, wanted: &Cable) -> bool {
    let end = |there: &CableEnd, wanted: &CableEnd| {
        there.namespace == wanted.namespace
            && (wanted.ifname.is_none() || there.ifname == wanted.ifname)
            && (wanted.mac.is_none() || there.mac == wanted.mac)
            && there.addresses == wanted.addresses
            && there
                .routes
                .iter()
                .map(|r| (r.to, r.via))
                .eq(wanted.routes.iter().map(|r| (r.to, r.via)))
    };
    there.mtu.unwrap_or(DEFAULT_MTU) == wanted.mtu.unwrap_or(DEFAULT_MTU)
        && ((end(&there.a, &wanted.a) && end(&there.b, &wanted.b))
            || (end(&there.a, &wanted.b) && end(&there.b, &wanted.a)))
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
        let a_link = find_end(&a_nl, &cable.a).await.map_err(failed)?;
        let b_link = find_end(&b_nl, &cable.b).await.map_err(failed)?;
        let joined = |a: &Link, b: &Link| a.peer_index == Some(b.index) && b.peer_index == Some(a.index);
        match (&a_link, &b_link) {
            (Some(a_link), Some(b_link)) if adopt == Adopt::Yes && joined(a_link, b_link) => {}
            (None, None) => {
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
            _ => {
                let (end, name) = if a_link.is_some() {
                    (&cable.a, a_name)
                } else {
                    (&cable.b, b_name)
                };
                let cause = format!("{} has an interface {name} already", text::namespace(&end.namespace));
                return Err(text::conflict(object, cause).hint("choose other names with --name-a and --name-b"));
            }
        }
        let configured = async {
            configure_end(&a_nl, &cable.a, mtu).await?;
            configure_end(&b_nl, &cable.b, mtu).await
        };
        if let Err(error) = configured.await {
            if a_link.is_none() {
                // With fresh sockets: the one that failed may be of no more use.
                self.detach_cable(cable, &mut Vec::new()).await;
            }
            return Err(failed(error));
        }
        Ok(())
    }

    /// Removes a cable; one that is gone already, with its namespace or without, is removed enough. It is known by its MAC address,
    /// whatever it is called by now; another interface may have its name.
    pub(super) async fn detach_cable(&mut self, cable: &Cable, warnings: &mut Vec<String>) {
        for end in [&cable.a, &cable.b] {
            let removed = async {
                let Some(netns) = self.find_namespace(&end.namespace)? else {
                    return Ok(());
                };
                let nl = netns.netlink().await?;
                match find_end(&nl, end).await? {
                    Some(link) if is_end(&link, end) => gone_is_fine(nl.delete_link(link.index).await),
                    _ => Ok(()),
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

/// Name of the interface of an end of a completed cable.
fn name(end: &CableEnd) -> &str {
    end.ifname.as_ref().map_or("eth0", |name| name.as_str())
}

fn is_end(link: &Link, end: &CableEnd) -> bool {
    link.kind.as_deref() == Some("veth") && link.mac == end.mac
}

/// The interface of an end, whatever it is called by now; else the one that has its name.
pub(super) async fn find_end(nl: &Netlink, end: &CableEnd) -> Result<Option<Link>, KernelError> {
    let links = nl.links().await?;
    let named = |link: &&Link| link.name == name(end);
    let own = links.iter().filter(|link| is_end(link, end));
    // Of two with that address the one that is called so.
    let own = own.min_by_key(|link| !named(link));
    Ok(own.or_else(|| links.iter().find(named)).cloned())
}

async fn configure_end(nl: &Netlink, end: &CableEnd, mtu: u32) -> Result<(), KernelError> {
    let Some(link) = find_end(nl, end).await? else {
        return Err(KernelError::new(
            format!("look up {}", name(end)),
            std::io::Error::from_raw_os_error(libc::ENODEV),
        ));
    };
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
    for route in routes_in_order(&end.routes) {
        add_route(nl, link.index, route).await?;
    }
    Ok(())
}
