use std::net::IpAddr;

use etherparse::PacketBuilder;
use proptest::prelude::*;
use vswitch_api::Mac;

use super::*;
use crate::clock::nanoseconds;

/// Checks a frame as it would come in at a moment: with an empty virtio-net header.
fn check_at(acl: &Acl, frame: &[u8], vlan: u16, now: u64) -> Result<(), Refused> {
    let plain = crate::frame::VnetHeader::default();
    let size = || crate::frame::wire_size(frame, &plain);
    let would = acl.would_check(&Reading::of(frame), size, || now, vlan);
    let does = acl.check(&Reading::of(frame), size, || now, vlan);
    assert_eq!(does, would);
    does
}

fn check(acl: &Acl, frame: &[u8], vlan: u16) -> Result<(), Refused> {
    check_at(acl, frame, vlan, nanoseconds())
}

fn passes(acl: &Acl, frame: &[u8], vlan: u16) -> bool {
    check(acl, frame, vlan).is_ok()
}

const A: [u8; 6] = [2, 0, 0, 0, 0, 1];
const B: [u8; 6] = [2, 0, 0, 0, 0, 2];

fn list(rules: &[&str]) -> Acl {
    Acl::new(&rules.iter().map(|rule| rule.parse().unwrap()).collect::<Vec<_>>())
}

fn tcp(src: [u8; 4], dst: [u8; 4], sport: u16, dport: u16) -> Vec<u8> {
    let mut frame = Vec::new();
    PacketBuilder::ethernet2(A, B)
        .ipv4(src, dst, 64)
        .tcp(sport, dport, 1, 100)
        .syn()
        .write(&mut frame, b"x")
        .unwrap();
    frame
}

#[test]
fn the_first_rule_that_decides_counts() {
    let acl = list(&[
        "count from 10.0.0.0/8",
        "permit tcp from 10.0.0.1 to any port 22",
        "deny tcp to any port 20-30",
        "count any",
        "deny from 10.9.0.0/16",
    ]);
    assert!(passes(&acl, &tcp([10, 0, 0, 1], [10, 0, 0, 2], 9, 22), 0));
    assert!(!passes(&acl, &tcp([10, 0, 0, 3], [10, 0, 0, 2], 9, 22), 0));
    assert!(passes(&acl, &tcp([10, 0, 0, 3], [10, 0, 0, 2], 9, 80), 0));
    assert!(!passes(&acl, &tcp([10, 9, 0, 3], [10, 0, 0, 2], 9, 80), 0));
    let other = tcp([11, 0, 0, 3], [10, 0, 0, 2], 9, 80);
    let size = || unreachable!("no rule polices");
    assert_eq!(acl.would_check(&Reading::of(&other), size, nanoseconds, 0), Ok(()));
    assert_eq!(acl.hits(), [4, 1, 1, 2, 1]);
}

/// What the second rule dropped used up the first.
#[test]
fn what_one_rate_drops_uses_nothing_of_another() {
    let rules = ["police 1pps burst 10 tcp", "police 1pps burst 1 tcp to any port 5000"];
    for rules in [rules, [rules[1], rules[0]]] {
        let acl = list(&rules);
        let passed = |port, frames| {
            let frame = tcp([10, 0, 0, 1], [10, 0, 0, 2], 9, port);
            (0..frames).filter(|_| check_at(&acl, &frame, 0, 0).is_ok()).count()
        };
        assert_eq!((passed(5000, 30), passed(6000, 30)), (1, 9), "{rules:?}");
        assert_eq!(acl.hits().iter().sum::<u64>(), 90, "all are counted");
    }
}

/// Each change of a list gave all of its rules their bursts anew.
#[test]
fn rules_that_stay_in_a_list_keep_what_they_have_used() {
    let tcp_rule = "police 1pps burst 10 tcp";
    let mut acl = list(&[tcp_rule]);
    let passed = |acl: &Acl| {
        let frame = tcp([10, 0, 0, 1], [10, 0, 0, 2], 9, 22);
        (0..30).filter(|_| check_at(acl, &frame, 0, 0).is_ok()).count()
    };
    assert_eq!(passed(&acl), 10);
    for (rules, expected) in [
        (&["count arp", tcp_rule][..], 0),
        // The second is new, and the first has nothing left.
        (&[tcp_rule, tcp_rule], 0),
        (&["police 1pps burst 20 tcp"], 20),
        (&[tcp_rule], 10),
    ] {
        acl = Acl::going_on(list(rules).rules(), Some(&acl));
        assert_eq!(passed(&acl), expected, "{rules:?}");
    }
}

#[test]
fn flags_types_tags_and_fragments() {
    let acl = list(&["deny tcp flags syn,!ack"]);
    let mut frame = tcp([10, 0, 0, 1], [10, 0, 0, 2], 1, 2);
    assert!(!passes(&acl, &frame, 0));
    frame[14 + 20 + 13] |= 0x10;
    assert!(passes(&acl, &frame, 0));
    // A later fragment has no ports: a rule on ports does not match it.
    let acl = list(&["deny tcp to any port 2", "deny vlan 7"]);
    let mut fragment = tcp([10, 0, 0, 1], [10, 0, 0, 2], 1, 2);
    assert!(!passes(&acl, &fragment, 0));
    fragment[14 + 7] = 3;
    assert!(passes(&acl, &fragment, 0));
    assert!(!passes(&acl, &fragment, 7));
    // On a switch that tells no VLANs apart it is the tag that counts.
    for (vid, passed) in [(7, false), (8, true), (0, true)] {
        let tagged = [&fragment[..12], &[0x81, 0, 0, vid], &fragment[12..]].concat();
        assert_eq!(passes(&acl, &tagged, 0), passed, "VLAN {vid}");
    }
    let mut echo = Vec::new();
    PacketBuilder::ethernet2(A, B)
        .ipv6([1; 16], [2; 16], 64)
        .icmpv6_echo_request(1, 1)
        .write(&mut echo, b"x")
        .unwrap();
    assert!(!passes(&list(&["deny icmp6 type 128"]), &echo, 0));
    assert!(passes(
        &list(&["deny icmp6 type 129", "deny ipv4", "deny udp"]),
        &echo,
        0
    ));
}

/// The frame in fragments of IPv4: the payload up to `first` bytes, and the rest.
fn fragments(frame: &[u8], first: usize) -> [Vec<u8>; 2] {
    let part = |from: usize, to: usize, more: u8| {
        let mut part = [&frame[..34], &frame[34 + from..34 + to]].concat();
        part[16..18].copy_from_slice(&(20 + (to - from) as u16).to_be_bytes());
        part[20..22].copy_from_slice(&[more, (from / 8) as u8]);
        part
    };
    [part(0, first, 0x20), part(first, frame.len() - 34, 0)]
}

/// Guards E3: fragments made so that a list does not see the TCP header (RFC 1858, 3128).
#[test]
fn a_header_in_pieces_does_not_pass_a_list_that_looks_at_it() {
    let whole = tcp([10, 0, 0, 1], [10, 0, 0, 2], 1, 22);
    let ports = list(&["deny tcp to any port 23"]);
    let flags = list(&["deny tcp flags fin"]);
    for acl in [&ports, &flags] {
        assert_eq!(check(acl, &whole, 0), Ok(()));
        let [first, later] = fragments(&whole, 8);
        assert_eq!(check(acl, &first, 0), Err(Refused::TinyFragment));
        assert_eq!(check(acl, &later, 0), Err(Refused::TinyFragment));
        let [first, later] = fragments(&whole, 16);
        assert_eq!(check(acl, &first, 0), Err(Refused::TinyFragment));
        assert_eq!(check(acl, &later, 0), Ok(()), "nothing of it is looked at");
        // Padding is no part of the header.
        let padded = [&first[..], &[0xff; 40]].concat();
        assert_eq!(check(acl, &padded, 0), Err(Refused::TinyFragment));
    }
    // A list that does not look there lets them pass.
    for part in fragments(&whole, 8) {
        assert_eq!(check(&list(&["deny to 10.0.0.9"]), &part, 0), Ok(()));
    }
}

/// Guards E1: what a list can't read it does not let through.
#[test]
fn what_can_not_be_read_passes_no_list_that_looks_there() {
    let frame = tcp([10, 0, 0, 1], [10, 0, 0, 2], 1, 22);
    let tagged = |tags: usize| [&frame[..12], &[0x81, 0, 0, 0].repeat(tags), &frame[12..]].concat();
    let link = list(&["deny from 02:00:00:00:00:07"]);
    let network = list(&["deny tcp to 10.0.0.2"]);
    let transport = list(&["deny tcp to any port 22"]);
    for tags in 0..=16 {
        assert_eq!(check(&link, &tagged(tags), 0), Ok(()));
        assert_eq!(check(&network, &tagged(tags), 0), Err(Refused::Denied), "{tags}");
        assert_eq!(check(&transport, &tagged(tags), 0), Err(Refused::Denied), "{tags}");
    }
    for acl in [&link, &network, &transport] {
        assert_eq!(check(acl, &tagged(17), 0), Err(Refused::Unreadable));
        assert_eq!(check(acl, &tagged(4)[..24], 0), Err(Refused::Unreadable));
    }
    let mut broken = frame.clone();
    broken.pop();
    assert_eq!(check(&link, &broken, 0), Ok(()));
    assert_eq!(check(&network, &broken, 0), Err(Refused::Unreadable));
    // A list that only counts keeps nothing out.
    assert_eq!(check(&list(&["count tcp"]), &tagged(17), 0), Ok(()));
}

/// Guards D11: later fragments have no ports, and a word of their own.
#[test]
fn later_fragments_are_matched_by_rules_without_ports_and_by_their_word() {
    let mut whole = Vec::new();
    PacketBuilder::ethernet2(A, B)
        .ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64)
        .udp(9, 5000)
        .write(&mut whole, &[7; 64])
        .unwrap();
    let [first, later] = fragments(&whole, 32);
    for (rules, expected) in [
        (&["permit udp to any port 5000", "deny udp"][..], (true, false)),
        (
            &["permit udp to any port 5000", "permit udp fragment", "deny udp"],
            (true, true),
        ),
        (&["deny fragment"], (true, false)),
        (&["deny tcp fragment"], (true, true)),
        (&["deny udp to any port 5000"], (false, true)),
        (&["deny udp from 10.0.0.1 fragment"], (true, false)),
    ] {
        let acl = list(rules);
        assert_eq!(
            (passes(&acl, &first, 0), passes(&acl, &later, 0)),
            expected,
            "{rules:?}"
        );
    }
    assert!(passes(&list(&["deny fragment"]), &whole, 0));
}

#[test]
#[cfg_attr(miri, ignore = "it takes minutes there")]
fn a_thousand_rules_of_one_shape_are_one_table() {
    let rules: Vec<AclRule> = (0..1000)
        .map(|n| {
            format!("deny tcp from 10.0.{}.{} to any port 80", n / 250, n % 250)
                .parse()
                .unwrap()
        })
        .collect();
    let acl = Acl::new(&rules);
    assert_eq!(acl.deciding.0.len(), 1);
    assert!(!passes(&acl, &tcp([10, 0, 3, 249], [1, 2, 3, 4], 5, 80), 0));
    assert!(passes(&acl, &tcp([10, 0, 3, 250], [1, 2, 3, 4], 5, 80), 0));
}

/// Whether a TCP frame from A to B, 10.0.0.`src` to 10.0.0.`dst`, passes: by what it was made of.
fn naive(rules: &[AclRule], src: u8, dst: u8, vlan: u16) -> bool {
    let mac = |wanted: Option<Mac>, is: [u8; 6]| wanted.is_none_or(|mac| mac == Mac(is));
    let ip = |net: Option<IpNet>, last: u8| net.is_none_or(|net| net.contains(&IpAddr::from([10, 0, 0, last])));
    let matches = |rule: &AclRule| {
        mac(rule.src_mac, A)
            && mac(rule.dst_mac, B)
            && ip(rule.src, src)
            && ip(rule.dst, dst)
            && rule.ethertype.is_none_or(|ethertype| ethertype == 0x0800)
            && rule.protocol.is_none_or(|protocol| protocol == 6)
            && rule.vlan.is_none_or(|id| id.get() == vlan)
    };
    let decided = rules.iter().find(|rule| rule.action.decides() && matches(rule));
    decided.is_none_or(|rule| rule.action == AclAction::Permit)
}

fn rule() -> impl Strategy<Value = AclRule> {
    let action = prop::sample::select(vec!["permit", "deny", "count", "mirror span", "police 100gbit"]);
    let what = prop::sample::select(vec!["", "tcp", "udp", "arp", "ipv4"]);
    let from = prop::sample::select(vec!["", "from 10.0.0.0/30", "from 10.0.0.1", "from 02:00:00:00:00:01"]);
    let to = prop::sample::select(vec!["", "to 10.0.0.0/31", "to 10.0.0.2"]);
    let vlan = prop::sample::select(vec!["", "vlan 1", "vlan 2"]);
    (action, what, from, to, vlan).prop_map(|(a, b, c, d, e)| format!("{a} {b} {c} {d} {e}").parse().unwrap())
}

proptest! {
    #[test]
    fn it_decides_as_a_walk_over_the_rules(
        rules in prop::collection::vec(rule(), 0..30),
        src in 0u8..5, dst in 0u8..5, vlan in 0u16..3,
    ) {
        let frame = tcp([10, 0, 0, src], [10, 0, 0, dst], 1, 2);
        prop_assert_eq!(passes(&Acl::new(&rules), &frame, vlan), naive(&rules, src, dst, vlan));
    }

    #[test]
    fn no_frame_makes_it_panic(mut frame in prop::collection::vec(any::<u8>(), 0..120), v6: bool) {
        if frame.len() >= 14 {
            frame[12..14].copy_from_slice(if v6 { &[0x86, 0xdd] } else { &[8, 0] });
        }
        passes(&list(&["deny tcp to any port 22", "count icmp6 type 1"]), &frame, 0);
    }
}
