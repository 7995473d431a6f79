//! Writing capture files: PCAP Next Generation (draft-ietf-opsawg-pcapng), one section with an Ethernet interface for each port.
//!
//! Times are in nanoseconds, each frame tells which way it went and how many were lost before it.

/// Bytes of a frame that a reader has to expect at most; what Wireshark and tcpdump take (MAXIMUM_SNAPLEN).
pub const MAX_SNAPLEN: u32 = 262_144;

// Section 4.1, 4.2, 4.3, 4.6.
const SECTION_HEADER: u32 = 0x0a0d_0d0a;
const INTERFACE: u32 = 1;
const ENHANCED_PACKET: u32 = 6;
const STATISTICS: u32 = 5;
const LINKTYPE_ETHERNET: u16 = 1;
const OPT_END: u16 = 0;

/// A frame as it is written.
#[derive(Clone, Copy, Debug)]
pub struct Packet<'a> {
    /// Which interface of the file it was seen at.
    pub interface: u32,
    /// Nanoseconds since the Unix epoch.
    pub time_ns: u64,
    /// True: it went out of the port; false: it came in.
    pub outbound: bool,
    /// Frames lost since the one before.
    pub lost_before: u64,
    /// The frame, cut to the snap length.
    pub bytes: &'a [u8],
    /// Its length before that.
    pub original_len: usize,
}

/// Appends the beginning of a file: the section and its interfaces, named as the ports.
pub fn begin<'a>(out: &mut Vec<u8>, ports: impl IntoIterator<Item = &'a str>, snaplen: u32) {
    block(out, SECTION_HEADER, |out| {
        out.extend(0x1a2b_3c4d_u32.to_le_bytes());
        out.extend([1, 0, 0, 0]);
        // Length of the section: not known.
        out.extend([0xff; 8]);
        option(out, 4, concat!("vswitchd ", env!("CARGO_PKG_VERSION")).as_bytes());
        option(out, OPT_END, &[]);
    });
    for port in ports {
        interface(out, port, snaplen);
    }
}

fn interface(out: &mut Vec<u8>, port: &str, snaplen: u32) {
    block(out, INTERFACE, |out| {
        out.extend(LINKTYPE_ETHERNET.to_le_bytes());
        out.extend([0, 0]);
        out.extend(snaplen.to_le_bytes());
        // if_name, if_tsresol: 10^-9 s.
        option(out, 2, port.as_bytes());
        option(out, 9, &[9]);
        option(out, OPT_END, &[]);
    });
}

/// Appends a frame.
pub fn packet(out: &mut Vec<u8>, packet: &Packet<'_>) {
    block(out, ENHANCED_PACKET, |out| {
        out.extend(packet.interface.to_le_bytes());
        time(out, packet.time_ns);
        out.extend((packet.bytes.len() as u32).to_le_bytes());
        out.extend((packet.original_len as u32).to_le_bytes());
        padded(out, packet.bytes);
        // epb_flags: bits 0-1 are 1 for inbound, 2 for outbound.
        option(out, 2, &[1 + u8::from(packet.outbound), 0, 0, 0]);
        if packet.lost_before > 0 {
            option(out, 4, &packet.lost_before.to_le_bytes());
        }
        option(out, OPT_END, &[]);
    });
}

/// Appends what was counted at an interface up to now.
pub fn statistics(out: &mut Vec<u8>, interface: u32, time_ns: u64, received: u64, lost: u64) {
    block(out, STATISTICS, |out| {
        out.extend(interface.to_le_bytes());
        time(out, time_ns);
        // isb_ifrecv, isb_ifdrop.
        option(out, 4, &received.to_le_bytes());
        option(out, 5, &lost.to_le_bytes());
        option(out, OPT_END, &[]);
    });
}

fn block(out: &mut Vec<u8>, kind: u32, body: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend(kind.to_le_bytes());
    out.extend([0; 4]);
    body(out);
    let len = ((out.len() - start + 4) as u32).to_le_bytes();
    out[start + 4..start + 8].copy_from_slice(&len);
    out.extend(len);
}

fn time(out: &mut Vec<u8>, ns: u64) {
    out.extend(((ns >> 32) as u32).to_le_bytes());
    out.extend((ns as u32).to_le_bytes());
}

fn option(out: &mut Vec<u8>, code: u16, value: &[u8]) {
    out.extend(code.to_le_bytes());
    out.extend((value.len() as u16).to_le_bytes());
    padded(out, value);
}

fn padded(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(bytes);
    let fill = bytes.len().next_multiple_of(4) - bytes.len();
    out.extend_from_slice(&[0; 3][..fill]);
}

#[cfg(test)]
mod tests {
    use pcap_file::pcapng::PcapNgReader;
    use pcap_file::pcapng::blocks::Block;
    use pcap_file::pcapng::blocks::enhanced_packet::EnhancedPacketOption;
    use pcap_file::pcapng::blocks::interface_description::InterfaceDescriptionOption;
    use pcap_file::pcapng::blocks::interface_statistics::InterfaceStatisticsOption;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn another_reader_reads_what_was_written(
            frames in prop::collection::vec((any::<u32>(), any::<bool>(), 0u64..3, prop::collection::vec(any::<u8>(), 0..70)), 0..5)
        ) {
            let mut file = Vec::new();
            begin(&mut file, ["blue", "red"], MAX_SNAPLEN);
            let base = 1_790_000_000_123_456_789;
            for (time, outbound, lost_before, bytes) in &frames {
                let (time_ns, original_len) = (base + u64::from(*time), bytes.len() + 9);
                packet(&mut file, &Packet { interface: 1, time_ns, outbound: *outbound, lost_before: *lost_before, bytes, original_len });
            }
            statistics(&mut file, 1, base, 7, 3);
            let mut reader = PcapNgReader::new(&file[..]).unwrap();
            let mut frames = frames.into_iter();
            let (mut ended, mut names) = (false, vec!["blue", "red"].into_iter());
            while let Some(block) = reader.next_block() {
                match block.unwrap() {
                    Block::InterfaceDescription(interface) => {
                        prop_assert_eq!(interface.snaplen, MAX_SNAPLEN);
                        prop_assert!(interface.options.contains(&InterfaceDescriptionOption::IfName(names.next().unwrap().into())));
                        prop_assert!(interface.options.contains(&InterfaceDescriptionOption::IfTsResol(9)));
                    }
                    Block::EnhancedPacket(read) => {
                        let (time, outbound, lost, bytes) = frames.next().unwrap();
                        prop_assert_eq!(read.interface_id, 1);
                        prop_assert_eq!(read.timestamp.as_nanos(), u128::from(base + u64::from(time)));
                        prop_assert_eq!(read.original_len as usize, bytes.len() + 9);
                        prop_assert_eq!(&read.data[..], &bytes[..]);
                        prop_assert!(read.options.contains(&EnhancedPacketOption::Flags(1 + u32::from(outbound))));
                        prop_assert_eq!(lost > 0, read.options.contains(&EnhancedPacketOption::DropCount(lost)));
                    }
                    Block::InterfaceStatistics(read) => {
                        prop_assert_eq!(read.interface_id, 1);
                        prop_assert!(read.options.contains(&InterfaceStatisticsOption::IsbIfRecv(7)));
                        prop_assert!(read.options.contains(&InterfaceStatisticsOption::IsbIfDrop(3)));
                        ended = true;
                    }
                    other => panic!("{other:?}"),
                }
            }
            prop_assert!(ended && frames.next().is_none());
        }
    }
}
