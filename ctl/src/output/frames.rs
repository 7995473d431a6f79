//! Frames, one line each: time, way, addresses, what is inside. In the manner of `tcpdump -e -n`.

use std::fmt::Write;

use etherparse::{EtherType, LaxLinkExtSlice, LaxNetSlice, LaxSlicedPacket, LinkSlice, TransportSlice};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::{Value, json};
use vswitch_api::Mac;

use vswitch_client::pcapng::Frame;

/// The line of a frame, with the time of day in this zone, and with its port where there are several.
pub fn line(frame: &Frame, port: Option<&str>, zone: &TimeZone) -> String {
    let time = Timestamp::from_nanosecond(frame.time_ns.into()).unwrap_or_default();
    let time = time.to_zoned_datetime(zone.clone()).strftime("%T%.9f");
    let way = if frame.outbound { "out" } else { "in " };
    let lost = match frame.lost_before {
        0 => String::new(),
        n => format!("({n} lost)\n"),
    };
    let port = port.map_or_else(String::new, |port| format!("{port} "));
    format!(
        "{lost}{time} {port}{way} {}",
        describe(&frame.bytes, frame.original_len)
    )
}

/// The frame as an object.
pub fn json(frame: &Frame, port: &str) -> Value {
    json!({
        "port": port,
        "time_ns": frame.time_ns,
        "direction": if frame.outbound { "tx" } else { "rx" },
        "length": frame.original_len,
        "lost_before": frame.lost_before,
        "summary": describe(&frame.bytes, frame.original_len),
        "bytes": hex(&frame.bytes),
    })
}

/// Bytes in hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string can't fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Addresses, tags, and what is inside as far as it is known.
pub fn describe(bytes: &[u8], len: usize) -> String {
    let Ok(packet) = LaxSlicedPacket::from_ethernet(bytes) else {
        return format!("{len} bytes, too short for an Ethernet header");
    };
    let Some(LinkSlice::Ethernet2(link)) = &packet.link else {
        return format!("{len} bytes");
    };
    let mut text = format!("{} > {}", Mac(link.source()), Mac(link.destination()));
    let mut ethertype = link.ether_type();
    for extension in &packet.link_exts {
        if let LaxLinkExtSlice::Vlan(tag) = extension {
            text += &format!(", vlan {}", tag.vlan_identifier().value());
            let priority = tag.priority_code_point().value();
            if priority > 0 {
                text += &format!(" p{priority}");
            }
            ethertype = tag.ether_type();
        }
    }
    text += &format!(", {}, length {len}: ", protocol(ethertype));
    text += &inside(&packet).unwrap_or_else(|| format!("{} bytes of payload", len.saturating_sub(14)));
    text
}

fn protocol(ethertype: EtherType) -> String {
    match ethertype {
        EtherType::IPV4 => "IPv4".to_owned(),
        EtherType::IPV6 => "IPv6".to_owned(),
        EtherType::ARP => "ARP".to_owned(),
        EtherType(0x88cc) => "LLDP".to_owned(),
        EtherType(length @ 0..=1500) => format!("802.3 {length}"),
        EtherType(other) => format!("{other:#06x}"),
    }
}

fn inside(packet: &LaxSlicedPacket<'_>) -> Option<String> {
    let (source, destination, protocol) = match packet.net.as_ref()? {
        LaxNetSlice::Ipv4(ip) => {
            let header = ip.header();
            let protocol = ip.payload().ip_number;
            (
                header.source_addr().to_string(),
                header.destination_addr().to_string(),
                protocol,
            )
        }
        LaxNetSlice::Ipv6(ip) => {
            let header = ip.header();
            let protocol = ip.payload().ip_number;
            (
                header.source_addr().to_string(),
                header.destination_addr().to_string(),
                protocol,
            )
        }
        LaxNetSlice::Arp(arp) => return arp_text(arp),
    };
    let between = |ports: Option<(u16, u16)>| match ports {
        Some((from, to)) => format!("{source}.{from} > {destination}.{to}"),
        None => format!("{source} > {destination}"),
    };
    Some(match packet.transport.as_ref() {
        Some(TransportSlice::Tcp(tcp)) => {
            let flags: String = [
                (tcp.syn(), 'S'),
                (tcp.fin(), 'F'),
                (tcp.rst(), 'R'),
                (tcp.psh(), 'P'),
                (tcp.urg(), 'U'),
                (tcp.ece(), 'E'),
                (tcp.cwr(), 'W'),
                (tcp.ack(), '.'),
            ]
            .into_iter()
            .filter_map(|(set, letter)| set.then_some(letter))
            .collect();
            format!(
                "{}: TCP [{flags}], seq {}, ack {}, win {}, {} bytes",
                between(Some((tcp.source_port(), tcp.destination_port()))),
                tcp.sequence_number(),
                tcp.acknowledgment_number(),
                tcp.window_size(),
                tcp.payload().len()
            )
        }
        Some(TransportSlice::Udp(udp)) => format!(
            "{}: UDP, {} bytes",
            between(Some((udp.source_port(), udp.destination_port()))),
            udp.payload().len()
        ),
        Some(TransportSlice::Icmpv4(icmp)) => {
            format!(
                "{}: ICMP {}",
                between(None),
                icmp_text(icmp.type_u8(), icmp.code_u8(), [8, 0])
            )
        }
        Some(TransportSlice::Icmpv6(icmp)) => {
            format!(
                "{}: ICMPv6 {}",
                between(None),
                icmp_text(icmp.type_u8(), icmp.code_u8(), [128, 129])
            )
        }
        Some(TransportSlice::Igmp(_)) | None => match protocol.keyword_str() {
            Some(word) => format!("{}: {word}", between(None)),
            None => format!("{}: protocol {}", between(None), protocol.0),
        },
    })
}

/// `echo`: the types of an echo request and its reply.
fn icmp_text(kind: u8, code: u8, echo: [u8; 2]) -> String {
    match kind {
        _ if kind == echo[0] => "echo request".to_owned(),
        _ if kind == echo[1] => "echo reply".to_owned(),
        135 if echo[0] == 128 => "neighbour solicitation".to_owned(),
        136 if echo[0] == 128 => "neighbour advertisement".to_owned(),
        _ => format!("type {kind} code {code}"),
    }
}

fn arp_text(arp: &etherparse::ArpPacketSlice<'_>) -> Option<String> {
    let ip = |bytes: &[u8]| bytes.first_chunk::<4>().map(|ip| std::net::Ipv4Addr::from(*ip));
    let (sender, target) = (ip(arp.sender_protocol_addr())?, ip(arp.target_protocol_addr())?);
    Some(match arp.operation().0 {
        1 => format!("who has {target}, tell {sender}"),
        2 => format!("{sender} is at {}", Mac(*arp.sender_hw_addr().first_chunk()?)),
        other => format!("operation {other}, {sender} to {target}"),
    })
}

#[cfg(test)]
mod tests {
    use etherparse::PacketBuilder;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_line_tells_time_way_addresses_and_what_is_inside() {
        let mut bytes = Vec::new();
        PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2])
            .single_vlan(etherparse::VlanId::try_new(5).unwrap())
            .ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64)
            .tcp(1000, 80, 7, 8)
            .syn()
            .write(&mut bytes, b"abc")
            .unwrap();
        let frame = Frame {
            time_ns: 1_764_014_400_123_456_789,
            outbound: true,
            original_len: bytes.len(),
            bytes,
            ..Frame::default()
        };
        assert_eq!(
            line(&frame, None, &TimeZone::UTC),
            "20:00:00.123456789 out 02:00:00:00:00:01 > 02:00:00:00:00:02, vlan 5, IPv4, length 61: \
             10.0.0.1.1000 > 10.0.0.2.80: TCP [S], seq 7, ack 0, win 8, 3 bytes"
        );
        assert_eq!(json(&frame, "red")["direction"], "tx");
        let line = line(&frame, Some("red"), &TimeZone::UTC);
        assert!(line.starts_with("20:00:00.123456789 red out 02:"), "{line}");
    }

    proptest! {
        #[test]
        fn any_bytes_make_a_line(bytes in prop::collection::vec(any::<u8>(), 0..100), at in 0usize..4) {
            let mut bytes = bytes;
            if let Some(place) = bytes.get_mut(12..14) {
                place.copy_from_slice(&[[8, 0], [8, 6], [0x81, 0], [0x86, 0xdd]][at]);
            }
            prop_assert!(!describe(&bytes, bytes.len()).contains('\n'));
        }
    }
}
