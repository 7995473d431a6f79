use vswitch_api::name::Mac;

use super::{MAC, link, namespace, sandboxed};
use crate::{NetNs, VethPeer};

#[test]
fn a_veth_pair_is_made_with_its_far_end_in_place() {
    sandboxed(async || {
        let own = namespace("own").await;
        let red = namespace("red").await;
        let (near, far) = (own.netlink().await.unwrap(), red.netlink().await.unwrap());
        let peer = VethPeer {
            netns: &red,
            name: "eth0",
            mac: MAC,
        };
        near.add_veth("red", 9000, peer).await.unwrap();

        let (here, there) = (link(&near, "red").await, link(&far, "eth0").await);
        assert_eq!(
            (there.mac, there.mtu, there.up, there.carrier),
            (Some(MAC), 9000, false, false)
        );
        assert_eq!((here.mtu, here.up, here.kind.as_deref()), (9000, false, Some("veth")));
        assert_eq!(
            (here.peer_index, there.peer_index),
            (Some(there.index), Some(here.index))
        );
        assert_eq!(here.peer_nsid, Some(near.nsid_of(&red).await.unwrap()));
        assert_eq!(far.link_by_name("red").await.unwrap(), None);
        assert!(near.links().await.unwrap().contains(&here));

        let error = near
            .add_veth("red", 1500, VethPeer { name: "eth1", ..peer })
            .await
            .unwrap_err();
        assert!(error.is_exists(), "{error}");
        let expected = "create veth pair red with far end eth1 in namespace red in namespace own: ";
        assert!(error.to_string().starts_with(expected), "{error}");
        assert!(near.add_veth("new", 1500, peer).await.unwrap_err().is_exists());
        assert_eq!(
            near.link_by_name("new").await.unwrap(),
            None,
            "a refused pair leaves nothing"
        );
    });
}

#[test]
fn carrier_follows_the_other_end() {
    sandboxed(async || {
        let (own, red) = super::cable("own", "red").await;
        let state = async |end: &super::End| {
            let link = link(&end.netlink, "eth0").await;
            (link.up, link.carrier)
        };
        assert_eq!((state(&own).await, state(&red).await), ((true, true), (true, true)));
        red.netlink.set_down(red.index).await.unwrap();
        assert_eq!((state(&own).await, state(&red).await), ((true, false), (false, false)));
    });
}

#[test]
fn a_link_is_changed_and_deleted() {
    sandboxed(async || {
        let (own, red) = super::cable("own", "red").await;
        let mac = Mac([2, 0x76, 0x73, 9, 9, 9]);
        red.netlink.set_mtu(red.index, 1400).await.unwrap();
        red.netlink.set_mac(red.index, mac).await.unwrap();
        let changed = link(&red.netlink, "eth0").await;
        assert_eq!((changed.mtu, changed.mac, changed.up), (1400, Some(mac), true));

        own.netlink.delete_link(own.index).await.unwrap();
        assert_eq!(red.netlink.link_by_name("eth0").await.unwrap(), None);
        for result in [
            own.netlink.delete_link(own.index).await,
            red.netlink.delete_link(red.index).await,
            red.netlink.set_up(red.index).await,
        ] {
            let error = result.unwrap_err();
            assert!(error.is_gone(), "{error}");
        }
    });
}

#[test]
fn a_namespace_has_one_id_seen_from_another() {
    sandboxed(async || {
        let (own, red, blue) = (namespace("own").await, namespace("red").await, namespace("blue").await);
        let netlink = own.netlink().await.unwrap();
        let id = netlink.nsid_of(&red).await.unwrap();
        assert_eq!(netlink.nsid_of(&red).await.unwrap(), id);
        assert_ne!(netlink.nsid_of(&blue).await.unwrap(), id);
    });
}

#[test]
fn a_closed_connection_does_not_keep_a_namespace() {
    sandboxed(async || {
        let (own, red) = super::cable("own", "red").await;
        let super::End { netns, netlink, .. } = red;
        drop((netlink, netns));
        crate::NamedNamespaces::default()
            .delete(&"red".parse().unwrap())
            .unwrap();
        // The pair goes with the namespace, a moment later and not under our control.
        while own.netlink.link_by_name("eth0").await.unwrap().is_some() {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        assert_ne!(NetNs::current().unwrap().id(), own.netns.id());
    });
}

/// Each namespace counts its interfaces by itself, so the first pair between two of them would have the same index twice: its
/// carrier would come up to a second late (faults, C).
#[test]
fn the_two_ends_of_a_pair_never_have_the_same_index() {
    sandboxed(async || {
        let (red, blue) = (namespace("red").await, namespace("blue").await);
        let (near, far) = (red.netlink().await.unwrap(), blue.netlink().await.unwrap());
        for n in 0..4 {
            let (here, there) = (format!("here{n}"), format!("there{n}"));
            let peer = VethPeer {
                netns: &blue,
                name: &there,
                mac: MAC,
            };
            near.add_veth(&here, 1500, peer).await.unwrap();
            let ends = [link(&near, &here).await, link(&far, &there).await];
            assert_ne!(ends[0].index, ends[1].index, "{n}");
            assert_eq!(ends[0].peer_index, Some(ends[1].index));
        }
    });
}
