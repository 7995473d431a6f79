//! Ports of kinds tap, in a namespace, and internal, of the host: a TAP device each.

use std::io;

use vswitch_api::{ApiError, Port, Stands};

use super::{Facts, NearEnd, Opened};
use crate::control::attach::{Adopt, Made};
use crate::control::detach::gone_is_fine;
use crate::control::interface::{make_ready, vanished, with_room_for};
use crate::control::kinds::ifname;
use crate::control::place::{MARK, Place, named_mark};
use crate::control::{Inner, LivePort, proc_sys, text};
use crate::files;
use crate::port::{BackEnd, QUEUE_FRAMES, Tap};
use vswitch_datapath::PortRef;
use vswitch_linux::{KernelError, Link, NetNs, Netlink};

pub(super) const FACTS: Facts = Facts {
    taken_over: false,
    near_end: NearEnd::Never,
    tap: true,
};

impl Inner {
    /// Makes or adopts the device, and sets it up.
    pub(super) async fn open_tap(
        &self,
        port: &Port,
        netns: &NetNs,
        own: &Netlink,
        adopt: Adopt,
        made: &mut Vec<Made>,
    ) -> Result<Opened, ApiError> {
        let object = text::port(&port.name);
        let failed = |error: KernelError| text::kernel(object.clone(), &error);
        let (tap, place) = self.make_tap(port, netns, own, adopt, made).await?;
        let inside = place.netns.netlink().await.map_err(failed)?;
        let lacks = make_ready(&inside, &place, port, adopt, made).await.map_err(failed)?;
        // Only now that it can be told by its address whose it is.
        tap.persist()
            .map_err(|error| text::step(object.clone(), "keep the TAP device", &error))?;
        if !port.up {
            tap.set_carrier(false)
                .map_err(|error| text::step(object.clone(), "take the carrier away", &error))?;
        }
        Ok(Opened {
            io: BackEnd::Tap(tap),
            near: None,
            place,
            nsid: None,
            xdp_refused: None,
            lacks,
        })
    }

    pub(super) async fn place_of_tap(&self, live: &LivePort) -> Result<Option<Place>, KernelError> {
        match live.id.and_then(|id| self.datapath.io::<BackEnd>(id)).as_deref() {
            Some(BackEnd::Tap(tap)) => place_by_queue(tap).await,
            _ => Ok(None),
        }
    }

    pub(super) fn set_carrier_of_tap(&self, port: &Port, id: PortRef) -> Result<(), ApiError> {
        match self.datapath.io::<BackEnd>(id).as_deref() {
            Some(BackEnd::Tap(tap)) => tap
                .set_carrier(port.up)
                .map_err(|error| text::step(text::port(&port.name), "set the carrier", &error)),
            _ => Ok(()),
        }
    }

    /// The TAP device of a tap or internal port.
    async fn make_tap(
        &self,
        port: &Port,
        netns: &NetNs,
        own: &Netlink,
        adopt: Adopt,
        made: &mut Vec<Made>,
    ) -> Result<(Tap, Place), ApiError> {
        let object = text::port(&port.name);
        let failed = |error: KernelError| text::kernel(object.clone(), &error);
        let (wanted, queues, service) = (ifname(port), self.datapath.workers(), self.given.queues.clone());
        let on_host = port.kind.stands() == Stands::OnHost;
        let left = match adopt {
            Adopt::Yes => self.left_tap(port, netns, own).await.map_err(failed)?,
            Adopt::No => None,
        };
        let (netns, name) = match &left {
            Some(left) => (left.netns.clone(), left.link.name.clone()),
            None => (netns.clone(), wanted.to_string()),
        };
        let inside = match left {
            Some(_) => netns.netlink().await.map_err(failed)?,
            None => with_room_for(port, &netns, &name).await?,
        };
        let opened = netns
            .run({
                let (name, kept) = (name.clone(), self.handed.queues_of(&netns, &name));
                // Of one that was there `sysctl` may have turned them on since.
                let is_to_trust = !on_host || left.is_some();
                move || {
                    let tap = Tap::open(&name, queues, &service, kept)?;
                    let trust = if is_to_trust { Ok(()) } else { trust_no_station(&name) };
                    Ok((tap, trust))
                }
            })
            .await
            .map_err(failed)?;
        let (tap, trust) = opened.map_err(|error: io::Error| {
            text::step(
                object.clone(),
                &format!("open TAP device {name} through /dev/net/tun"),
                &error,
            )
        })?;
        if let Err(error) = trust {
            tracing::warn!(port = %port.name, "port {}: the host may take routes and addresses from stations behind it: {error}", port.name);
        }
        // Until it is to outlive its queues, a new device goes with them, whatever happens.
        let link = inside.link_by_name(&name).await.map_err(failed)?;
        let link = link.ok_or_else(|| vanished(port))?;
        if left.is_none() {
            inside.set_no_queue(link.index).await.map_err(failed)?;
            inside
                .set_queue_length(link.index, QUEUE_FRAMES)
                .await
                .map_err(failed)?;
        }
        if self.store.made_in(port, &link).is_none() {
            let nsid = own.nsid_of(&netns).await.map_err(failed)?;
            let marked = inside.set_alias(link.index, &self.store.mark(port, nsid)).await;
            marked.map_err(failed)?;
        }
        if left.is_none() {
            made.push(Made::Interface);
        }
        Ok((tap, Place { netns, link }))
    }

    /// The TAP device that an earlier daemon left of a port: in its namespace, under whatever name, or where somebody moved it. It is known by
    /// its mark or its MAC address: one that only has the name is somebody else's.
    async fn left_tap(&self, port: &Port, netns: &NetNs, own: &Netlink) -> Result<Option<Place>, KernelError> {
        let links = netns.netlink().await?.links().await?;
        let taps = || links.iter().filter(|link| link.kind.as_deref() == Some("tun"));
        let alias = |link: &Link| link.alias.clone().unwrap_or_default();
        let is_marked = |link: &&Link| alias(link).starts_with(&named_mark(&port.name));
        let not_anothers = |link: &&Link| is_marked(link) || !alias(link).starts_with(MARK);
        let is_named = |link: &&Link| link.name == ifname(port).as_str();
        let marked = taps().find(|link| self.store.made_in(port, link).is_some());
        let here = marked
            // By a daemon of whose state this one knows nothing.
            .or_else(|| taps().filter(is_marked).find(is_named))
            .or_else(|| {
                let own = taps().filter(|link| link.mac.is_some() && link.mac == port.mac);
                own.filter(not_anothers).min_by_key(|link| !is_named(link))
            });
        if let Some(link) = here {
            return Ok(Some(Place {
                netns: netns.clone(),
                link: link.clone(),
            }));
        }
        for (netns, link) in &self.live.strays {
            let Some(made_in) = self.store.made_in(port, link) else {
                continue;
            };
            if own.nsid_of(netns).await? != made_in {
                return Ok(Some(Place {
                    netns: netns.clone(),
                    link: link.clone(),
                }));
            }
        }
        Ok(None)
    }

    /// The TAP devices with a mark in all namespaces that have a name or a process.
    pub(in crate::control) async fn find_strays(&self) -> Vec<(NetNs, Link)> {
        // One that can't be looked into holds none that can be got at.
        let (others, _) = self.all_others();
        let mut strays = Vec::new();
        for netns in [self.host.home.clone()].into_iter().chain(others) {
            let Ok(links) = netns.links_once().await else { continue };
            let marked = |link: &Link| link.alias.as_deref().is_some_and(|alias| alias.starts_with(MARK));
            let marked = links
                .into_iter()
                .filter(|link| link.kind.as_deref() == Some("tun") && marked(link));
            strays.extend(marked.map(|link| (netns.clone(), link)));
        }
        strays
    }

    /// The TAP device of a port, wherever it is; of a missing port, what is left where it was to be. While the port was missing
    /// somebody may have made another of that name.
    pub(super) async fn find_tap(&self, port: &Port) -> Result<Option<Place>, KernelError> {
        if let Some(live) = self.live.ports.get(&port.name).filter(|live| live.id.is_some()) {
            return self.place_of(port, live).await;
        }
        let Some(netns) = self.find_netns_of(port)? else {
            return Ok(None);
        };
        let links = netns.links_once().await?;
        let mut taps = links.into_iter().filter(|link| link.kind.as_deref() == Some("tun"));
        let link = taps.find(|link| {
            self.store.made_in(port, link).is_some() || (link.name == ifname(port).as_str() && link.mac == port.mac)
        });
        Ok(link.map(|link| Place { netns, link }))
    }

    /// Deletes what a command that was changing the place of a port left in the other place.
    pub(super) async fn delete_left_tap(&self, noted: &Port) -> Result<(), KernelError> {
        let Some(netns) = self.find_netns_of(noted)? else {
            return Ok(());
        };
        let nl = netns.netlink().await?;
        let link = nl.link_by_name(ifname(noted).as_str()).await?;
        let ours = |link: &Link| {
            link.kind.as_deref() == Some("tun") && (self.store.made_in(noted, link).is_some() || link.mac == noted.mac)
        };
        match link.filter(ours) {
            Some(link) => gone_is_fine(nl.delete_link(link.index).await),
            None => Ok(()),
        }
    }
}

/// An open queue tells where its device is.
async fn place_by_queue(tap: &Tap) -> Result<Option<Place>, KernelError> {
    let mut last = String::new();
    // It may be renamed or moved between the questions.
    for _ in 0..3 {
        let (file, name) = match tap.place() {
            Ok(place) => place,
            Err(error) if error.raw_os_error() == Some(libc::EBADFD) => return Ok(None),
            Err(error) => return Err(KernelError::new("look where a TAP device is", error)),
        };
        let netns = NetNs::from_fd(file, format!("the namespace of interface {name}"))?;
        let links = netns.links_once().await?;
        if let Some(link) = links.into_iter().find(|link| link.name == name) {
            return Ok(Some(Place { netns, link }));
        }
        last = name;
    }
    Err(KernelError::new(
        format!("look where TAP device {last} is"),
        nix::errno::Errno::EAGAIN,
    ))
}

/// Deletes the interface at a place, if there is one.
pub(super) async fn delete(place: Option<Place>) -> Result<(), KernelError> {
    match place {
        Some(place) => gone_is_fine(place.netns.netlink().await?.delete_link(place.link.index).await),
        None => Ok(()),
    }
}

/// The host does not take routes or addresses from whoever is on a switch: by one router advertisement a station could have all that it sends.
///
/// # Errors
/// Some can't be set here, as in a container to which /proc/sys is read-only: which, and why.
fn trust_no_station(name: &str) -> Result<(), String> {
    let mut refused = Vec::new();
    for setting in [
        "ipv6/conf/{}/accept_ra",
        "ipv6/conf/{}/autoconf",
        "ipv6/conf/{}/accept_redirects",
        "ipv4/conf/{}/accept_redirects",
    ] {
        let path = format!("net/{}", setting.replace("{}", name));
        // Without IPv6 there is nothing to be set.
        if let Err(error) = files::gone_is_fine(turn_off(&path)) {
            refused.push(format!(
                "{} can't be set to 0: {error}",
                proc_sys::file(&path).display()
            ));
        }
    }
    match refused.is_empty() {
        true => Ok(()),
        false => Err(refused.join("; ")),
    }
}

fn turn_off(path: &str) -> io::Result<()> {
    match proc_sys::read(path)?.as_str() {
        "0" => Ok(()),
        _ => proc_sys::write(path, "0"),
    }
}
