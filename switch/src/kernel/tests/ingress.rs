use futures::TryStreamExt;
use rtnetlink::packet_route::tc::TcAttribute;

use super::{End, cable, delivers, delivers_now, sandboxed, tapped};

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
