//! The switch's own side of a port: its near end, and what stands beside a device. Nobody has business there, but root can.

use vswitch_api::{ApiError, Port};

use super::fastpath::beside_name;
use super::kinds::{facts, heard_by_near_end, wanted_mtu};
use super::lacks::Lost;
use super::place::Place;
use super::{Inner, LivePort, text};
use crate::port::BackEnd;
use vswitch_linux::KernelError;

impl Inner {
    /// What the switch's own side of a port has not any more.
    pub(super) async fn lost_by_the_switch(
        &self,
        port: &Port,
        live: &LivePort,
        place: &Place,
    ) -> Result<Vec<Lost>, KernelError> {
        let mut lost = Vec::new();
        let other = |what: &str| Lost::Other(what.to_owned());
        if facts(port.kind).taken_over {
            if port.up && !place.link.up {
                lost.push(other("an interface that is up"));
            }
            let io = live.id.and_then(|id| self.datapath.io::<BackEnd>(id));
            if io.is_some_and(|io| io.shadow().is_some()) && !place.link.promiscuous {
                lost.push(other("an interface that takes all frames"));
            }
        }
        let Some(near) = live.near else { return Ok(lost) };
        let own = self.host.own.netlink().await?;
        let Some(near) = own.link_by_index(near).await? else {
            lost.push(other("its near end"));
            return Ok(lost);
        };
        let up = port.up || !heard_by_near_end(port);
        if near.up != up {
            lost.push(other(if up {
                "a near end that is up"
            } else {
                "a near end that is down"
            }));
        }
        if wanted_mtu(port).unwrap_or(place.link.mtu) != near.mtu {
            lost.push(Lost::NearMtu);
        }
        if facts(port.kind).taken_over {
            let beside = self.host.home.netlink().await?;
            let end = beside.link_by_name(&beside_name(place.link.index)).await?;
            if end.is_some_and(|end| !end.up) {
                lost.push(other("the interface beside it that is up"));
            }
        }
        Ok(lost)
    }

    /// What [`Inner::lost_by_the_switch`] finds. A port whose near end has gone is attached again.
    /// `place`: where its interface is.
    pub(super) async fn give_back_near_end(&mut self, port: &Port, place: &Place) -> Result<(), ApiError> {
        let failed = |error: KernelError| text::kernel(text::port(&port.name), &error);
        let Some(near) = self.live.ports.get(&port.name).and_then(|live| live.near) else {
            return Ok(());
        };
        let link = &place.link;
        let own = self.host.own.netlink().await.map_err(failed)?;
        if own.link_by_index(near).await.map_err(failed)?.is_none() {
            self.attach_again(port).await;
            return Ok(());
        }
        let mtu = wanted_mtu(port).unwrap_or(link.mtu);
        own.set_mtu(near, mtu).await.map_err(failed)?;
        let up = port.up || !heard_by_near_end(port);
        own.set_up_or_down(near, up).await.map_err(failed)?;
        if facts(port.kind).taken_over {
            let beside = self.host.home.netlink().await.map_err(failed)?;
            if let Some(end) = beside.link_by_name(&beside_name(link.index)).await.map_err(failed)? {
                beside.set_up(end.index).await.map_err(failed)?;
            }
        }
        Ok(())
    }
}
