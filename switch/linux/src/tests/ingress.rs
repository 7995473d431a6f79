use std::os::fd::AsRawFd;

use futures::TryStreamExt;
use nix::sys::socket::{MsgFlags, recv, setsockopt, sockopt};
use rtnetlink::packet_route::tc::TcAttribute;

use super::{End, MAC, VethPeer, cable, delivers, delivers_now, end, link, namespace, sandboxed, tapped};

/// Kinds of the qdiscs that a qdisc of ours could be mistaken for.
async fn ingress_qdiscs(end: &End) -> Vec<String> {
    let qdiscs = end
        .netlink
        .handle
        .qdisc()
        .get()
        .index(end.index.cast_signed())
        .execute();
    let qdiscs: Vec<_> = qdiscs.try_collect().await.unwrap();
    let kinds = qdiscs
        .into_iter()
        .filter(|q| q.header.index == end.index.cast_signed())
        .flat_map(|q| q.attributes);
    kinds
        .filter_map(|attribute| match attribute {
            TcAttribute::Kind(kind) if kind == "ingress" || kind == "clsact" => Some(kind),
            _ => None,
        })
        .collect()
}

#[test]
fn dropped_frames_reach_packet_sockets_but_not_the_stack() {
    sandboxed(async || {
        let (own, red) = cable("own", "red").await;
        own.add("10.0.0.1/24").await;
        red.add("10.0.0.2/24").await;
        let (stack, sender) = (own.udp("10.0.0.1:7000").await, red.udp("10.0.0.2:7000").await);
        let tap = own.tap().await;
        assert!(delivers(&sender, &stack));

        own.netlink.drop_ingress(own.index).await.unwrap();
        own.netlink.drop_ingress(own.index).await.unwrap();
        assert!(!delivers_now(&sender, &stack, b"dropped"));
        assert!(tapped(&tap, b"dropped"));

        own.netlink.undrop_ingress(own.index).await.unwrap();
        assert!(delivers_now(&sender, &stack, b"passed"));
        assert_eq!(ingress_qdiscs(&own).await, [""; 0]);
        own.netlink.undrop_ingress(own.index).await.unwrap();

        let error = own.netlink.undrop_ingress(999).await.unwrap_err();
        assert!(error.is_gone(), "{error}");
        let error = own.netlink.drop_ingress(999).await.unwrap_err();
        assert!(error.is_gone(), "{error}");
    });
}

#[test]
fn what_arrives_is_led_elsewhere_and_nothing_else_goes_there() {
    sandboxed(async || {
        let (own, red) = cable("own", "red").await;
        own.add("10.0.0.1/24").await;
        red.add("10.0.0.2/24").await;
        let blue = namespace("blue").await;
        let peer = VethPeer {
            netns: &blue,
            name: "eth0",
            mac: MAC,
        };
        own.netlink.add_veth("out", 1500, peer).await.unwrap();
        let (out, blue) = (link(&own.netlink, "out").await.index, end(blue).await);
        own.netlink.set_up(out).await.unwrap();
        let (stack, sender) = (own.udp("10.0.0.1:7000").await, red.udp("10.0.0.2:7000").await);
        let tap = blue.tap().await;
        assert!(delivers(&sender, &stack));

        own.netlink.drop_ingress(own.index).await.unwrap();
        own.netlink.redirect_ingress(own.index, out).await.unwrap();
        own.netlink.redirect_ingress(own.index, out).await.unwrap();
        assert!(!delivers_now(&sender, &stack, b"led"));
        assert!(tapped(&tap, b"led"));

        // Whatever the own stack says there is dropped; what is led is not.
        let own_words = async |datagram: &[u8]| {
            let broadcast = own.udp("0.0.0.0:0").await;
            broadcast.set_broadcast(true).unwrap();
            setsockopt(&broadcast, sockopt::BindToDevice, &"out".into()).unwrap();
            broadcast.send_to(datagram, "255.255.255.255:7000")
        };
        own_words(b"before").await.unwrap();
        assert!(tapped(&tap, b"before"));
        for _ in 0..2 {
            own.netlink.send_only_from(out, "eth0").await.unwrap();
        }
        // The kernel tells the sender, or not.
        let _ = own_words(b"own").await;
        assert!(!delivers_now(&sender, &stack, b"led again"));
        let mut frames = Vec::new();
        let mut buffer = [0; 2048];
        while let Ok(len) = recv(tap.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
            frames.push(buffer[..len].to_vec());
        }
        assert!(frames.iter().any(|frame| frame.ends_with(b"led again")));
        assert!(!frames.iter().any(|frame| frame.ends_with(b"own")));

        own.netlink.drop_ingress_again(own.index).await.unwrap();
        assert!(!delivers_now(&sender, &stack, b"dropped"));
        assert!(!tapped(&tap, b"dropped"));
        own.netlink.undrop_ingress(own.index).await.unwrap();
        assert!(delivers_now(&sender, &stack, b"passed"));
        let error = own.netlink.redirect_ingress(own.index, 999).await.unwrap_err();
        assert!(error.is_gone(), "{error}");
    });
}

#[test]
fn filters_of_others_stay() {
    sandboxed(async || {
        let (own, _red) = cable("own", "red").await;
        let index = own.index.cast_signed();
        let all_protocols = u16::to_be(libc::ETH_P_ALL as u16);
        own.netlink.handle.qdisc().add(index).ingress().execute().await.unwrap();
        let filter = own
            .netlink
            .handle
            .traffic_filter(index)
            .add()
            .ingress()
            .priority(9)
            .protocol(all_protocols);
        filter.redirect(own.index).unwrap().execute().await.unwrap();
        let filters = async || {
            let filters = own.netlink.handle.traffic_filter(index).get().ingress().execute();
            filters.try_collect::<Vec<_>>().await.unwrap()
        };
        let before = filters().await;
        assert!(!before.is_empty());

        own.netlink.drop_ingress(own.index).await.unwrap();
        assert!(filters().await.len() > before.len());
        own.netlink.undrop_ingress(own.index).await.unwrap();
        assert_eq!(filters().await.len(), before.len());
        assert_eq!(ingress_qdiscs(&own).await, ["ingress"]);
    });
}
