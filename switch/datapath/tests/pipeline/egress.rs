//! What a port gets that takes no offloads, and one that does.

use etherparse::{PacketBuilder, SlicedPacket, TransportSlice};
use vswitch_datapath::PortSettings;
use vswitch_datapath::frame::{Gso, Sum, VnetHeader};

use super::lab::{Lab, mac, settings};

/// UDP over IPv4 with a right checksum, made by etherparse.
fn udp(payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    let link = PacketBuilder::ethernet2(mac(1).0, [0xff; 6]);
    let step = link.ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64).udp(7, 9);
    step.write(&mut frame, payload).unwrap();
    frame
}

/// The same with a partial checksum, as Linux hands it out.
fn partial(payload: &[u8]) -> (VnetHeader, Vec<u8>) {
    let mut frame = udp(payload);
    let seed = Sum::pseudo_header(&frame[26..34], 17, (8 + payload.len()) as u16).partial();
    frame[40..42].copy_from_slice(&seed);
    let header = VnetHeader {
        flags: VnetHeader::NEEDS_CSUM,
        csum_start: 34,
        csum_offset: 6,
        ..VnetHeader::default()
    };
    (header, frame)
}

fn without_offload() -> PortSettings {
    PortSettings {
        offload: false,
        ..settings()
    }
}

#[test]
fn a_partial_checksum_is_finished_for_who_takes_none() {
    let lab = Lab::new();
    let [from, takes] = lab.ports();
    let plain = lab.port_with(without_offload());
    let (header, frame) = partial(b"what is said");
    lab.send_with(&from, &header, &frame);
    assert_eq!(plain.received_with(), [(VnetHeader::default(), udp(b"what is said"))]);
    // Its turn was before the sum was finished.
    assert_eq!(takes.received_with(), [(header, frame)]);
}

#[test]
fn a_gso_frame_is_cut_for_who_takes_none_and_counts_once() {
    let lab = Lab::new();
    let [from, takes] = lab.ports();
    let plain = lab.port_with(without_offload());
    let payload: Vec<u8> = (0..=249).collect();
    let (header, frame) = partial(&payload);
    let header = VnetHeader {
        gso: Gso::UdpL4,
        gso_size: 100,
        hdr_len: 42,
        ..header
    };
    lab.send_with(&from, &header, &frame);
    assert_eq!(takes.received_with(), [(header, frame)], "as it is");
    let segments = plain.received_with();
    let mut seen = Vec::new();
    for (header, frame) in &segments {
        assert_eq!(*header, VnetHeader::default());
        // etherparse refuses lengths that do not fit.
        match SlicedPacket::from_ethernet(frame).unwrap().transport {
            Some(TransportSlice::Udp(udp)) => seen.extend_from_slice(udp.payload()),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((segments.len(), seen), (3, payload));
    assert_eq!(lab.counters(&plain).tx_frames, 1);
}
