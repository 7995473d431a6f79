//! Ports of kind device: an interface of the host that is taken over, and given back as it was.

use vswitch_api::{ApiError, Port};

use super::splice::TakenDevice;
use super::{Facts, NearEnd, Opened, ifname};
use crate::control::attach::Made;
use crate::control::detach::gone_is_fine;
use crate::control::in_use::{no_device, refuse_other_media, uses};
use crate::control::place::Place;
use crate::control::state::DeviceBefore;
use crate::control::{Inner, LivePort, text};
use vswitch_linux::{KernelError, Link, NetNs, Netlink};

pub(super) const FACTS: Facts = Facts {
    taken_over: true,
    near_end: NearEnd::WithFastPath,
    tap: false,
};

impl Inner {
    /// How the device of a device port is now; none if it is not there.
    pub(in crate::control) async fn look_at_device(&self, port: &Port) -> Result<Option<DeviceBefore>, KernelError> {
        let home = self.host.home.netlink().await?;
        let Some(link) = called(port, &home).await? else {
            return Ok(None);
        };
        let in_use = !uses(&home, &link.name).await?.is_empty();
        Ok(Some(DeviceBefore {
            in_use,
            ..device_before(&link)
        }))
    }

    /// Of one that is added the command has noted it. One that went and came back is another to the kernel, and gets the same back.
    pub(super) async fn note_device_before(&mut self, port: &Port) -> Result<(), ApiError> {
        let failed = |error: KernelError| text::kernel(text::port(&port.name), &error);
        let home = self.host.home.netlink().await.map_err(failed)?;
        let noted = self.store.device_of(port);
        let Some(link) = known_device(port, noted, &home).await.map_err(failed)? else {
            return Ok(());
        };
        refuse_other_media(port, &link)?;
        let now = device_before(&link);
        if noted.is_some_and(|noted| !noted.in_use && (noted.index, noted.mac) != (now.index, now.mac)) {
            // Another, to the kernel, than the one that was asked about.
            let uses = uses(&home, &link.name).await.map_err(failed)?;
            if !uses.is_empty() {
                let cause = format!(
                    "interface {} came back, and the host uses it now: {}",
                    link.name,
                    uses.join(", ")
                );
                return Err(text::conflict(text::port(&port.name), cause).hint(
                    "take that away from it and repeat `vswitchctl set port NAME --up`, or remove the port and add it with --force",
                ));
            }
        }
        let before = noted.map_or(now, |noted| DeviceBefore {
            index: now.index,
            mac: now.mac,
            ..noted
        });
        if noted == Some(before) {
            return Ok(());
        }
        self.store.note_device(port, before)
    }

    /// Takes the device over, which has been noted.
    pub(super) async fn open_device(
        &self,
        port: &Port,
        home: &NetNs,
        made: &mut Vec<Made>,
    ) -> Result<Opened, ApiError> {
        let object = text::port(&port.name);
        let failed = |error: KernelError| text::kernel(object.clone(), &error);
        let nl = home.netlink().await.map_err(failed)?;
        let known = known_device(port, self.store.device_of(port), &nl)
            .await
            .map_err(failed)?;
        let link = known.ok_or_else(|| no_device(port))?;
        made.push(Made::Interface);
        nl.drop_ingress(link.index).await.map_err(failed)?;
        if let Some(mtu) = port.mtu.filter(|mtu| *mtu != link.mtu) {
            nl.set_mtu(link.index, mtu).await.map_err(failed)?;
        }
        nl.set_up(link.index).await.map_err(failed)?;
        let TakenDevice {
            io,
            near,
            link,
            xdp_refused,
        } = self.connect_device(port, home, link).await.map_err(failed)?;
        if !port.up {
            nl.set_down(link.index).await.map_err(failed)?;
        }
        let netns = home.clone();
        Ok(Opened {
            io,
            near,
            place: Place { netns, link },
            nsid: None,
            xdp_refused,
            lacks: Vec::new(),
        })
    }

    pub(super) async fn place_of_device(&self, live: &LivePort) -> Result<Option<Place>, KernelError> {
        let Some(index) = live.inside else { return Ok(None) };
        let link = self.host.home.netlink().await?.link_by_index(index).await?;
        let netns = self.host.home.clone();
        Ok(link.map(|link| Place { netns, link }))
    }

    pub(super) async fn set_carrier_of_device(
        &self,
        port: &Port,
        live: &LivePort,
        warnings: &mut Vec<String>,
    ) -> Result<(), ApiError> {
        let failed = |error: KernelError| text::kernel(text::port(&port.name), &error);
        let Some(index) = live.inside else { return Ok(()) };
        let home = self.host.home.netlink().await.map_err(failed)?;
        home.set_up_or_down(index, port.up).await.map_err(failed)?;
        if port.up {
            return Ok(());
        }
        let link = home.link_by_index(index).await.map_err(failed)?;
        if let Some(link) = link.filter(|link| link.driver_carrier) {
            warnings.push(format!(
                "port \"{}\": interface {} is down, but its driver keeps the carrier: the far end may not notice",
                port.name, link.name
            ));
        }
        Ok(())
    }

    /// `near`: whether the near end that has the name of the port is its own.
    pub(super) async fn give_back_device(
        &self,
        port: &Port,
        before: Option<DeviceBefore>,
        near: bool,
    ) -> Result<(), KernelError> {
        let home = self.host.home.netlink().await?;
        let Some(link) = taken_over(port, before, &home).await? else {
            if near {
                self.delete_near_end(port).await?;
            }
            return self.give_back_moved(port, before).await;
        };
        gone_is_fine(home.undrop_ingress(link.index).await)?;
        if near {
            self.delete_near_end(port).await?;
        }
        let Some(before) = before else { return Ok(()) };
        if before.mtu != link.mtu {
            gone_is_fine(home.set_mtu(link.index, before.mtu).await)?;
        }
        if before.promiscuous != link.promiscuous {
            gone_is_fine(home.set_promiscuous(link.index, before.promiscuous).await)?;
        }
        if before.up != link.up {
            gone_is_fine(home.set_up_or_down(link.index, before.up).await)?;
        }
        Ok(())
    }

    /// Whoever moves a device to another namespace takes it from the switch, but not what the switch has set of it.
    async fn give_back_moved(&self, port: &Port, before: Option<DeviceBefore>) -> Result<(), KernelError> {
        let Some(before) = before.filter(|before| before.mac.is_some()) else {
            return Ok(());
        };
        // One that can't be looked into holds none that can be got at.
        for netns in self.all_others().0 {
            let Ok(nl) = netns.netlink().await else { continue };
            let links = nl.links().await.unwrap_or_default();
            let is_it = |link: &&Link| {
                link.mac == before.mac && (Some(link.index) == before.index || link.name == ifname(port).as_str())
            };
            if let Some(link) = links.iter().find(is_it) {
                if link.promiscuous != before.promiscuous {
                    gone_is_fine(nl.set_promiscuous(link.index, before.promiscuous).await)?;
                }
                if link.mtu != before.mtu {
                    gone_is_fine(nl.set_mtu(link.index, before.mtu).await)?;
                }
                return Ok(());
            }
        }
        Ok(())
    }
}

/// The device of a port: the one that was taken over, whatever it is called by now, else the one of that name.
async fn known_device(port: &Port, before: Option<DeviceBefore>, home: &Netlink) -> Result<Option<Link>, KernelError> {
    if let Some(before) = before
        && let (Some(index), mac @ Some(_)) = (before.index, before.mac)
        && let Some(link) = home.link_by_index(index).await?.filter(|link| link.mac == mac)
    {
        return Ok(Some(link));
    }
    called(port, home).await
}

/// The device that was taken over, if it is still there. Another that has its name by now is nobody's to be changed.
async fn taken_over(port: &Port, before: Option<DeviceBefore>, home: &Netlink) -> Result<Option<Link>, KernelError> {
    let Some(before) = before else { return Ok(None) };
    match (before.index, before.mac) {
        (Some(index), mac) => {
            let link = home.link_by_index(index).await?;
            // One that came from another namespace may have its index.
            Ok(link.filter(|link| link.mac == mac || link.name == ifname(port).as_str()))
        }
        // It was taken over before the machine was booted, and not since.
        (None, Some(_)) => Ok(None),
        // As files from before these were kept have it.
        (None, None) => called(port, home).await,
    }
}

/// The device that is called as the port has it; one that has the name as an altname is another.
async fn called(port: &Port, home: &Netlink) -> Result<Option<Link>, KernelError> {
    let name = ifname(port);
    let found = home.link_by_name(name.as_str()).await?;
    Ok(found.filter(|link| link.name == name.as_str()))
}

/// What a device gets back when it is released.
fn device_before(link: &Link) -> DeviceBefore {
    DeviceBefore {
        up: link.up,
        mtu: link.mtu,
        promiscuous: link.promiscuous,
        index: Some(link.index),
        mac: link.mac,
        in_use: false,
    }
}
