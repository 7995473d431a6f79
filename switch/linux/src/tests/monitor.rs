use super::{MAC, cable, namespace, sandboxed};
use crate::{LinkChange, LinkMonitor, MonitorEvent, VethPeer};

async fn next(monitor: &LinkMonitor) -> MonitorEvent {
    loop {
        if let Some(event) = monitor.recv_now() {
            return event;
        }
        monitor.told().await.unwrap();
    }
}

/// Skips events until one is as wanted.
async fn expect(monitor: &LinkMonitor, wanted: impl Fn(&LinkChange) -> bool) {
    loop {
        match next(monitor).await {
            MonitorEvent::Link(change) if wanted(&change) => return,
            MonitorEvent::Link(_) | MonitorEvent::Inside(_) | MonitorEvent::Ways(_) => {}
            MonitorEvent::Resync => panic!("events were lost"),
        }
    }
}

#[test]
fn changes_are_heard_in_the_own_namespace_and_in_those_with_an_id() {
    sandboxed(async || {
        let (own, red) = (namespace("own").await, namespace("red").await);
        let netlink = own.netlink().await.unwrap();
        let id = netlink.nsid_of(&red).await.unwrap();
        let monitor = LinkMonitor::open(&own).await.unwrap();

        netlink
            .add_veth(
                "red",
                1500,
                VethPeer {
                    netns: &red,
                    name: "eth0",
                    mac: MAC,
                },
            )
            .await
            .unwrap();
        let near = super::link(&netlink, "red").await.index;
        expect(&monitor, |c| {
            c.nsid.is_none() && c.name == "red" && c.index == near && !c.up && !c.gone
        })
        .await;

        let inside = super::end(red).await;
        expect(&monitor, |c| {
            c.nsid == Some(id) && c.name == "eth0" && c.index == inside.index && c.up
        })
        .await;
        netlink.set_up(near).await.unwrap();
        expect(&monitor, |c| c.nsid.is_none() && c.name == "red" && c.carrier).await;
        inside.netlink.set_down(inside.index).await.unwrap();
        expect(&monitor, |c| c.nsid.is_none() && c.name == "red" && c.up && !c.carrier).await;

        inside.netlink.delete_link(inside.index).await.unwrap();
        let (mut far_gone, mut near_gone) = (false, false);
        while !(far_gone && near_gone) {
            let change = match next(&monitor).await {
                MonitorEvent::Link(change) => change,
                MonitorEvent::Inside(_) | MonitorEvent::Ways(_) => continue,
                MonitorEvent::Resync => panic!("events were lost"),
            };
            far_gone |= change.gone && change.nsid == Some(id) && change.index == inside.index;
            near_gone |= change.gone && change.nsid.is_none() && change.index == near;
        }
    });
}

#[test]
fn an_overrun_is_reported_and_listening_goes_on() {
    sandboxed(async || {
        let (own, _red) = cable("own", "red").await;
        let monitor = LinkMonitor::with_buffer(&own.netns, 64 << 10).await.unwrap();
        for round in 0..200 {
            own.netlink.set_mtu(own.index, 1000 + round % 2).await.unwrap();
        }
        while next(&monitor).await != MonitorEvent::Resync {}
        own.netlink.set_down(own.index).await.unwrap();
        expect(&monitor, |c| c.index == own.index && !c.up).await;
    });
}
