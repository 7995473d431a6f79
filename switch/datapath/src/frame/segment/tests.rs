use etherparse::{NetSlice, SlicedPacket, TransportSlice};
use proptest::prelude::*;

use super::*;
use crate::frame::testing::{Shape, pseudo_header, simple_checksum};
use crate::frame::{VNET_HDR_LEN, complete};

fn segment_all(frame: &[u8], header: &VnetHeader) -> Result<Vec<Vec<u8>>, SegmentError> {
    let mut segments = Segments::new(frame, header)?;
    // Nothing of the segment before may shine through.
    let mut buffer = vec![0xaa; frame.len()];
    let mut all = Vec::new();
    while let Some(len) = segments.write_next(&mut buffer)? {
        all.push(buffer[..len].to_vec());
    }
    Ok(all)
}

fn shape(gso: Gso, ipv6: bool, gso_size: u16, payload_len: usize) -> Shape {
    let payload = (0..payload_len).map(|i| (i * 7 + i / 256) as u8).collect();
    Shape {
        gso,
        ipv6,
        tags: 0,
        options: false,
        gso_size,
        payload,
    }
}

/// What a receiver sees of a segment, by etherparse: which panics if a length is wrong.
struct Seen {
    sequence: u32,
    fin_psh_cwr: (bool, bool, bool),
    ip_id: u16,
    payload: Vec<u8>,
}

fn look(segment: &[u8]) -> Seen {
    let sliced = SlicedPacket::from_ethernet(segment).unwrap();
    let ip_id = match sliced.net.as_ref().unwrap() {
        NetSlice::Ipv4(ip) => {
            assert_eq!(simple_checksum(ip.header().slice()), [0, 0], "IPv4 header checksum");
            ip.header().identification()
        }
        _ => 0,
    };
    let (sequence, fin_psh_cwr, layer4, payload) = match sliced.transport.as_ref().unwrap() {
        TransportSlice::Tcp(tcp) => (
            tcp.sequence_number(),
            (tcp.fin(), tcp.psh(), tcp.cwr()),
            tcp.slice(),
            tcp.payload(),
        ),
        TransportSlice::Udp(udp) => {
            assert_ne!(udp.checksum(), 0, "a UDP checksum of zero means none");
            assert_eq!(usize::from(udp.length()), udp.slice().len());
            (0, (false, false, false), udp.slice(), udp.payload())
        }
        other => panic!("{other:?}"),
    };
    let pseudo = pseudo_header(segment, segment.len() - layer4.len());
    assert_eq!(
        simple_checksum(&[&pseudo[..], layer4].concat()),
        [0, 0],
        "layer-4 checksum"
    );
    Seen {
        sequence,
        fin_psh_cwr,
        ip_id,
        payload: payload.to_vec(),
    }
}

#[test]
fn tcp_sequence_flags_and_identification_go_on() {
    let (frame, header) = shape(Gso::TcpV4, false, 0x100, 0x280).build();
    let seen: Vec<_> = segment_all(&frame, &header)
        .unwrap()
        .iter()
        .map(|segment| look(segment))
        .collect();
    let sizes: Vec<_> = seen.iter().map(|s| s.payload.len()).collect();
    assert_eq!(sizes, [0x100, 0x100, 0x80]);
    // Both start close to their end and wrap.
    let sequences: Vec<_> = seen.iter().map(|s| s.sequence).collect();
    assert_eq!(sequences, [0xffff_ff00, 0, 0x100]);
    let ids: Vec<_> = seen.iter().map(|s| s.ip_id).collect();
    assert_eq!(ids, [0xfffe, 0xffff, 0]);
    let flags: Vec<_> = seen.iter().map(|s| s.fin_psh_cwr).collect();
    assert_eq!(
        flags,
        [(false, false, true), (false, false, false), (true, true, false)]
    );
}

#[test]
fn a_payload_that_fits_is_one_segment_and_the_same_as_completing() {
    for gso in [Gso::TcpV6, Gso::UdpL4] {
        for payload_len in [0, 1, 999, 1000] {
            let (frame, header) = shape(gso, true, 1000, payload_len).build();
            let mut completed = frame.clone();
            complete(
                &mut completed,
                &mut VnetHeader {
                    gso: Gso::None,
                    ..header
                },
            )
            .unwrap();
            assert_eq!(segment_all(&frame, &header).unwrap(), [completed]);
        }
    }
}

#[test]
fn a_gso_frame_with_a_complete_checksum_is_segmented_too() {
    for (gso, ipv6) in [(Gso::TcpV4, false), (Gso::TcpV6, true), (Gso::UdpL4, false)] {
        let (mut frame, header) = shape(gso, ipv6, 500, 1300).build();
        let expected = segment_all(&frame, &header).unwrap();
        complete(
            &mut frame,
            &mut VnetHeader {
                gso: Gso::None,
                ..header
            },
        )
        .unwrap();
        let valid = VnetHeader {
            flags: VnetHeader::DATA_VALID,
            csum_start: 0,
            csum_offset: 0,
            ..header
        };
        assert_eq!(segment_all(&frame, &valid).unwrap(), expected);
        assert_eq!(wire_size(&frame, &valid), wire_size(&frame, &header));
    }
}

#[test]
fn padding_behind_the_datagram_is_not_sent() {
    let (mut frame, header) = shape(Gso::TcpV4, false, 100, 250).build();
    let expected = segment_all(&frame, &header).unwrap();
    frame.extend([0xee; 40]);
    assert_eq!(segment_all(&frame, &header).unwrap(), expected);
}

#[test]
fn the_seed_of_the_sender_counts_where_a_routing_header_hides_the_destination() {
    let mut shape = shape(Gso::UdpL4, true, 100, 250);
    shape.options = true;
    let (mut frame, header) = shape.build();
    // The hop-by-hop header becomes a routing header with one segment left; the last destination is made up.
    frame[14 + 6] = 43;
    frame[14 + 40 + 3] = 1;
    let last = [0xab; 16];
    let field = usize::from(header.csum_start + header.csum_offset);
    let seed = |len: usize| [&[0xfd; 16][..], &last, &(len as u32).to_be_bytes(), &[0, 0, 0, 17]].concat();
    let partial = simple_checksum(&seed(258));
    frame[field..field + 2].copy_from_slice(&[!partial[0], !partial[1]]);
    for segment in segment_all(&frame, &header).unwrap() {
        let layer4 = &segment[usize::from(header.csum_start)..];
        assert_eq!(simple_checksum(&[&seed(layer4.len())[..], layer4].concat()), [0, 0]);
    }
}

#[test]
fn headers_that_contradict_each_other_are_refused() {
    let (frame, header) = shape(Gso::TcpV4, false, 100, 250).build();
    let refused = |frame: &[u8], header: VnetHeader| Segments::new(frame, &header).unwrap_err();
    assert_eq!(
        refused(
            &frame,
            VnetHeader {
                gso: Gso::None,
                ..header
            }
        ),
        SegmentError::NotGso
    );
    assert_eq!(
        refused(
            &frame,
            VnetHeader {
                gso: Gso::TcpV6,
                ..header
            }
        ),
        VnetError::Protocol.into()
    );
    assert_eq!(
        refused(
            &frame,
            VnetHeader {
                gso: Gso::UdpL4,
                csum_offset: 6,
                ..header
            }
        ),
        VnetError::Checksum { start: 34, offset: 6 }.into()
    );
    assert_eq!(
        refused(
            &frame,
            VnetHeader {
                csum_start: 38,
                ..header
            }
        ),
        VnetError::Checksum { start: 38, offset: 16 }.into()
    );
    assert_eq!(
        refused(&frame, VnetHeader { gso_size: 0, ..header }),
        VnetError::GsoSize(0).into()
    );
    // Headers that contradict themselves have no place for a partial checksum.
    let misplaced = SegmentError::from(VnetError::Checksum { start: 34, offset: 16 });
    assert_eq!(refused(&frame[..frame.len() - 1], header), misplaced);
    let with = |at: usize, value: u8| {
        let mut frame = frame.clone();
        frame[at] = value;
        refused(&frame, header)
    };
    assert_eq!(with(14, 0x65), misplaced);
    assert_eq!(with(14, 0x44), misplaced);
    assert_eq!(with(14 + 6, 0x20), misplaced);
    assert_eq!(with(14 + 9, 132), misplaced);
    // A datagram that ends within its IPv4 or TCP header.
    assert_eq!(with(14 + 2, 0), misplaced);
    let mut short = frame.clone();
    short[14 + 2..14 + 4].copy_from_slice(&[0, 19]);
    assert_eq!(refused(&short, header), misplaced);
    assert_eq!(with(14 + 20 + 12, 0x40), LayerError::Length("TCP").into());
    let (mut frame, header) = shape(Gso::UdpL4, false, 100, 250).build();
    frame[14 + 20 + 5] += 1;
    assert_eq!(refused(&frame, header), LayerError::Length("UDP").into());
}

#[test]
fn what_has_no_checksum_to_finish_is_refused_by_its_layers() {
    let refused = |frame: &[u8]| Layers::find(frame).unwrap_err();
    let (frame, _) = shape(Gso::TcpV4, false, 100, 250).build();
    assert_eq!(refused(&frame[..frame.len() - 1]), LayerError::Length("IPv4"));
    let with = |at: usize, value: u8| {
        let mut frame = frame.clone();
        frame[at] = value;
        refused(&frame)
    };
    assert_eq!(with(12, 0x86), LayerError::NotIp(0x8600));
    assert_eq!(with(14, 0x65), LayerError::Length("IPv4"));
    assert_eq!(with(14 + 6, 0x20), LayerError::Fragment);
    assert_eq!(with(14 + 9, 132), LayerError::Protocol(132));
    assert_eq!(with(14 + 20 + 12, 0x40), LayerError::Length("TCP"));
    assert_eq!(with(14 + 2, 0), LayerError::Length("transport"));
}

#[test]
fn a_small_buffer_is_refused_and_the_segment_can_be_asked_for_again() {
    let (frame, header) = shape(Gso::TcpV4, false, 100, 150).build();
    let expected = segment_all(&frame, &header).unwrap();
    let mut segments = Segments::new(&frame, &header).unwrap();
    let mut buffer = [0; 154];
    assert_eq!(segments.write_next(&mut buffer[..153]), Err(SegmentError::Buffer(154)));
    assert_eq!(segments.write_next(&mut buffer), Ok(Some(154)));
    assert_eq!(buffer[..], expected[0][..]);
    assert_eq!(segments.write_next(&mut buffer[..104]), Ok(Some(104)));
    assert_eq!(segments.write_next(&mut []), Ok(None));
}

#[test]
fn a_plain_frame_is_as_long_as_it_is() {
    let size = wire_size(&[0; 60], &VnetHeader::default());
    assert_eq!(
        size,
        WireSize {
            segments: 1,
            largest: 60,
            total: 60
        }
    );
}

fn any_shape() -> impl Strategy<Value = Shape> {
    let kind = prop_oneof![
        Just((Gso::TcpV4, false)),
        Just((Gso::TcpV6, true)),
        Just((Gso::UdpL4, false)),
        Just((Gso::UdpL4, true))
    ];
    let payload = prop::collection::vec(any::<u8>(), 0..6000);
    (kind, 0..3u8, any::<bool>(), 8..2000u16, payload).prop_map(|((gso, ipv6), tags, options, gso_size, payload)| {
        Shape {
            gso,
            ipv6,
            tags,
            options,
            gso_size,
            payload,
        }
    })
}

proptest! {
    #[test]
    fn segments_are_right_and_add_up_to_the_frame(shape in any_shape()) {
        let (frame, header) = shape.build();
        prop_assert_eq!(header.check(&frame), Ok(()));
        let headers = frame.len() - shape.payload.len();
        let segments = segment_all(&frame, &header).unwrap();
        let mut payload = Vec::new();
        for segment in &segments {
            prop_assert!(segment.len() <= headers + usize::from(shape.gso_size));
            // MAC addresses, tags and EtherType.
            let ethernet = 14 + 4 * usize::from(shape.tags);
            prop_assert_eq!(&segment[..ethernet], &frame[..ethernet]);
            payload.extend(look(segment).payload);
        }
        prop_assert_eq!(payload, shape.payload);
        let sizes: Vec<_> = segments.iter().map(Vec::len).collect();
        let expected =
            WireSize { segments: sizes.len(), largest: sizes[0], total: sizes.iter().sum() };
        prop_assert_eq!(wire_size(&frame, &header), expected);
    }

    #[test]
    fn no_input_makes_it_panic(mut frame: Vec<u8>, bytes: [u8; VNET_HDR_LEN]) {
        if let Ok(mut header) = VnetHeader::parse(&bytes) {
            wire_size(&frame, &header);
            let _ = segment_all(&frame, &header);
            let _ = complete(&mut frame, &mut header);
        }
    }

    #[test]
    fn no_damage_to_a_frame_makes_it_panic(
        shape in any_shape(),
        damage in prop::collection::vec((0..100usize, any::<u8>()), 1..6),
        cut in 0..120usize,
        bytes in prop::option::of(any::<[u8; VNET_HDR_LEN]>()),
    ) {
        let (mut frame, header) = shape.build();
        let mut header = bytes.and_then(|bytes| VnetHeader::parse(&bytes).ok()).unwrap_or(header);
        for (at, value) in damage {
            if let Some(byte) = frame.get_mut(at) {
                *byte = value;
            }
        }
        frame.truncate(frame.len().saturating_sub(cut));
        wire_size(&frame, &header);
        if let Ok(segments) = segment_all(&frame, &header) {
            prop_assert!(segments.iter().all(|segment| segment.len() <= frame.len()));
        }
        header.gso = Gso::None;
        let _ = complete(&mut frame, &mut header);
    }
}
