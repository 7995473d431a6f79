use super::link_read::IFINFOMSG_LEN;
use super::*;
use proptest::prelude::*;

fn message(message_type: u16, index: u32, flags: u32, name: &str) -> Vec<u8> {
    let mut payload = vec![0; IFINFOMSG_LEN];
    payload[4..8].copy_from_slice(&index.to_ne_bytes());
    payload[8..12].copy_from_slice(&flags.to_ne_bytes());
    payload.extend((4 + name.len() as u16 + 1).to_ne_bytes());
    payload.extend(libc::IFLA_IFNAME.to_ne_bytes());
    payload.extend(name.as_bytes());
    payload.resize((payload.len() + 1).next_multiple_of(4), 0);
    framed(message_type, &payload)
}

fn framed(message_type: u16, payload: &[u8]) -> Vec<u8> {
    let mut bytes = (16 + payload.len() as u32).to_ne_bytes().to_vec();
    bytes.extend(message_type.to_ne_bytes());
    bytes.extend([0; 10]);
    bytes.extend(payload);
    bytes
}

fn parsed(datagram: &[u8]) -> Vec<MonitorEvent> {
    let mut events = VecDeque::new();
    parse(Some(3), datagram, &mut HashSet::new(), &mut events);
    events.into()
}

#[test]
fn every_link_message_of_a_datagram_is_an_event() {
    let both = libc::IFF_UP as u32 | libc::IFF_LOWER_UP as u32;
    let datagram = [message(RTM_NEWLINK, 7, both, "eth0"), message(RTM_DELLINK, 8, 0, "red")].concat();
    let link = |index, name: &str, on, gone| {
        MonitorEvent::Link(LinkChange {
            nsid: Some(3),
            index,
            name: name.into(),
            mtu: 0,
            up: on,
            carrier: on,
            gone,
        })
    };
    assert_eq!(
        parsed(&datagram),
        [link(7, "eth0", true, false), link(8, "red", false, true)]
    );
}

#[test]
fn a_bridge_port_message_is_no_link_event() {
    let mut datagram = message(RTM_DELLINK, 7, 0, "eth0");
    datagram[16] = libc::AF_BRIDGE as u8;
    assert_eq!(parsed(&datagram), []);
}

#[test]
fn of_routes_only_the_default_ones_are_told() {
    let route = |length: u8| [libc::AF_INET as u8, length, 0, 0, 254, 3, 0, 1, 0, 0, 0, 0];
    let ways = [MonitorEvent::Ways(Some(3))];
    for message_type in [libc::RTM_NEWROUTE, libc::RTM_DELROUTE] {
        assert_eq!(parsed(&framed(message_type, &route(0))), ways);
        assert_eq!(parsed(&framed(message_type, &route(1))), ways);
        assert_eq!(parsed(&framed(message_type, &route(24))), []);
        assert_eq!(parsed(&framed(message_type, &[libc::AF_INET as u8, 0])), []);
    }
    assert_eq!(parsed(&framed(libc::RTM_NEWRULE, &route(24))), ways);
    let both = [
        framed(libc::RTM_DELROUTE, &route(0)),
        framed(libc::RTM_NEWROUTE, &route(0)),
    ]
    .concat();
    assert_eq!(parsed(&both), ways);
    assert_eq!(
        parsed(&framed(libc::RTM_DELADDR, &[libc::AF_INET as u8, 24, 0, 0, 2, 0, 0, 0]))[0],
        ways[0]
    );
}

#[test]
fn what_an_interface_has_inside_is_told() {
    let is = |index, lost, link_local| InsideChange {
        nsid: Some(3),
        index,
        lost,
        down: false,
        link_local,
        what: None,
    };
    let told = |change| [MonitorEvent::Inside(change)];
    let address = |scope: u8| [libc::AF_INET6 as u8, 64, 0, scope, 9, 0, 0, 0];
    assert_eq!(
        parsed(&framed(libc::RTM_NEWADDR, &address(0))),
        told(is(9, false, false))
    );
    assert_eq!(
        parsed(&framed(libc::RTM_NEWADDR, &address(libc::RT_SCOPE_LINK))),
        told(is(9, false, true))
    );
    assert_eq!(
        parsed(&framed(libc::RTM_DELADDR, &address(0)))[1..],
        told(is(9, true, false))
    );
    // One of 24 bits with a table before the interface, and one that says nothing of that.
    let mut route = vec![libc::AF_INET as u8, 24, 0, 0, 254, 3, 0, 1, 0, 0, 0, 0];
    assert_eq!(parsed(&framed(libc::RTM_DELROUTE, &route)), []);
    for (kind, value) in [
        (libc::RTA_TABLE, 254_u32.to_ne_bytes()),
        (libc::RTA_OIF, 7_u32.to_ne_bytes()),
        (libc::RTA_DST, [10, 9, 8, 0]),
    ] {
        route.extend(8_u16.to_ne_bytes());
        route.extend(kind.to_ne_bytes());
        route.extend(value);
    }
    for lost in [true, false] {
        let message_type = if lost { libc::RTM_DELROUTE } else { libc::RTM_NEWROUTE };
        let to = InsideChange {
            what: Some(Inside::Route("10.9.8.0/24".parse().unwrap())),
            ..is(7, lost, false)
        };
        assert_eq!(parsed(&framed(message_type, &route)), told(to));
    }
    // One to an address of the host itself.
    route[7] = libc::RTN_LOCAL;
    assert_eq!(parsed(&framed(libc::RTM_DELROUTE, &route)), []);
}

/// The kernel takes IPv6 away with a link after it has told that that is down; else somebody has taken it away.
#[test]
fn what_went_with_a_link_is_told_from_what_somebody_took_away() {
    let mut address = vec![libc::AF_INET6 as u8, 64, 0, 0, 9, 0, 0, 0];
    address.extend(20_u16.to_ne_bytes());
    address.extend(libc::IFA_ADDRESS.to_ne_bytes());
    address.extend("fd07::1".parse::<std::net::Ipv6Addr>().unwrap().octets());
    let loss = framed(libc::RTM_DELADDR, &address);
    let link = |index, flags| message(RTM_NEWLINK, index, flags, "eth0");
    let up = libc::IFF_UP as u32;
    let told = [&loss[..], &link(9, 0), &loss, &link(8, up), &link(9, up), &loss].concat();
    let went: Vec<_> = parsed(&told)
        .into_iter()
        .filter_map(|event| match event {
            MonitorEvent::Inside(change) => Some((change.what, change.down)),
            _ => None,
        })
        .collect();
    let what = Some(Inside::Address("fd07::1/64".parse().unwrap()));
    assert_eq!(went, [(what, false), (what, true), (what, false)]);
}

proptest! {
    #[test]
    fn no_datagram_makes_the_parser_panic(datagram: Vec<u8>) {
        parsed(&datagram);
    }

    #[test]
    fn no_damaged_message_makes_the_parser_panic(at in 0usize..40, byte: u8, cut in 0usize..60) {
        let mut datagram = [message(RTM_NEWLINK, 7, 1, "eth0"), message(RTM_DELLINK, 8, 0, "red")].concat();
        datagram[at] = byte;
        parsed(&datagram[..datagram.len() - cut]);
    }
}
