//! Captures: the frames of a port, or of several, as a stream in the pcapng format.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, Weak};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};
use vswitch_api::capture::{Also, CaptureOptions};
use vswitch_api::{ApiError, ErrorCode, PortName};

use super::condition::{Editing, Subject};
use super::listen::Listening;
use super::{Control, text};
use crate::pcapng::{self, MAX_SNAPLEN, Packet};
use vswitch_datapath::Direction;
use vswitch_datapath::frame::{Gso, MAX_FRAME, Segments, VNET_HDR_LEN, VnetHeader, complete};
use vswitch_datapath::sniffer::{Seen, Sniffer, now_ns};

/// Bytes that are handed on at once.
const CHUNK: usize = 256 << 10;
/// After so long without a frame the counts so far are written: a client that went away is noticed by that.
pub(super) const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// A capture under way. It ends when this is dropped, or with its ports.
pub struct Capture {
    /// Number by which it can be ended.
    pub id: u64,
    listening: Listening,
    snaplen: usize,
    segment: bool,
    /// Frames still to be written.
    left: u64,
    end: Option<Instant>,
    /// Frames written, by interface.
    written: Vec<u64>,
    /// What is to be written before anything else: the head of the file.
    head: Vec<u8>,
    ended: bool,
}

/// The captures under way, by number.
#[derive(Default)]
pub(super) struct Captures {
    last: u64,
    sniffers: HashMap<u64, Weak<Sniffer>>,
}

impl Captures {
    fn add(&mut self, sniffer: &Arc<Sniffer>) -> u64 {
        self.sniffers.retain(|_, sniffer| sniffer.strong_count() > 0);
        self.last += 1;
        self.sniffers.insert(self.last, Arc::downgrade(sniffer));
        self.last
    }
}

impl Control {
    /// Ends a capture: what was captured is still written, and the counts behind it.
    ///
    /// # Errors
    /// NotFound: it has ended already.
    pub async fn end_capture(&self, id: u64, options: impl Into<Editing>) -> Result<(), ApiError> {
        let Editing { dry_run, if_match, .. } = options.into();
        // Else no edit has to be waited for.
        if if_match.is_some() {
            let inner = self.begin_edit().await?;
            inner.store.check_condition(Subject::Lab, if_match.as_deref())?;
        }
        let captures = self.captures.lock().unwrap_or_else(PoisonError::into_inner);
        let sniffer = captures.sniffers.get(&id).and_then(Weak::upgrade);
        let gone = || ApiError::new(ErrorCode::NotFound, format!("capture {id}"), "there is no such capture");
        let sniffer =
            sniffer.ok_or_else(|| gone().hint("the number is in the head of its answer; it may have ended"))?;
        if !dry_run {
            sniffer.end();
        }
        Ok(())
    }

    /// Begins to capture at a port, and at those that the options name besides.
    ///
    /// # Errors
    /// NotFound. Conflict: a port is missing. Invalid: the filter is no program, or the snap length is out of range.
    pub async fn capture(&self, name: &PortName, options: CaptureOptions) -> Result<Capture, ApiError> {
        let snaplen = options.snaplen.unwrap_or(MAX_SNAPLEN);
        if !(1..=MAX_SNAPLEN).contains(&snaplen) {
            return Err(text::invalid("snaplen", format!("{snaplen} is out of range"))
                .hint(format!("choose 1 to {MAX_SNAPLEN} bytes")));
        }
        let names = self.with_others(name, &options.also);
        let ways = (options.direction.rx(), options.direction.tx());
        let listening = self.listen(&names, ways, options.filter.as_deref()).await?;
        let mut head = Vec::new();
        pcapng::begin(&mut head, names.iter().map(PortName::as_str), snaplen);
        // One that is so far away that no clock reaches it is none.
        let duration = options.duration_ms.map(Duration::from_millis);
        let id = self
            .captures
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .add(listening.sniffer());
        Ok(Capture {
            id,
            listening,
            snaplen: snaplen as usize,
            segment: options.segment,
            left: options.count.unwrap_or(u64::MAX),
            end: duration.and_then(|duration| Instant::now().checked_add(duration)),
            written: vec![0; names.len()],
            head,
            ended: false,
        })
    }

    /// The port and the others, each once. Of all those that there are, those that are missing have nothing to be captured.
    fn with_others(&self, name: &PortName, also: &Also) -> Vec<PortName> {
        let mut names = vec![name.clone()];
        let mut add = |other: &PortName| {
            if !names.contains(other) {
                names.push(other.clone());
            }
        };
        match also {
            Also::None => {}
            Also::Ports(others) => others.iter().for_each(add),
            Also::All => {
                let view = self.view();
                let there = view.ports.iter().filter(|(_, live)| live.id.is_some());
                there.for_each(|(name, _)| add(name));
            }
        }
        names
    }
}

impl Capture {
    /// The next bytes of the file; none: it is complete.
    pub async fn next(&mut self) -> Option<Vec<u8>> {
        let mut out = std::mem::take(&mut self.head);
        while !self.ended {
            // Before the look: what comes later is then still signalled.
            let closed = self.listening.acknowledge();
            let mut empty = false;
            while !empty && self.left > 0 && out.len() < CHUNK {
                match self.listening.take() {
                    Some(seen) => self.write(&mut out, seen),
                    None => empty = true,
                }
            }
            let over = self.end.is_some_and(|end| end <= Instant::now());
            if self.left == 0 || over || (closed && empty) {
                self.ended = true;
                self.statistics(&mut out);
            }
            if !out.is_empty() {
                return Some(out);
            }
            self.wait(&mut out).await;
        }
        None
    }

    /// Waits for frames, for the end, or so long that a sign of life is due, which is put into `out`.
    async fn wait(&mut self, out: &mut Vec<u8>) {
        let alive = Instant::now() + KEEP_ALIVE;
        let until = self.end.map_or(alive, |end| end.min(alive));
        tokio::select! {
            there = self.listening.readable() => self.ended |= !there,
            () = sleep_until(until) => if until == alive { self.statistics(out) },
        }
    }

    fn statistics(&self, out: &mut Vec<u8>) {
        for (number, (written, lost)) in (0..).zip(self.written.iter().zip(self.listening.lost())) {
            pcapng::statistics(out, number, now_ns(), written + lost, lost);
        }
    }

    fn write(&mut self, out: &mut Vec<u8>, mut seen: Seen) {
        let (time_ns, outbound) = (seen.time_ns, seen.direction == Direction::Out);
        let mut lost_before = seen.lost_before;
        as_on_a_wire(&mut seen.wire, self.segment, |frame| {
            if self.left == 0 {
                return;
            }
            let packet = Packet {
                interface: seen.number,
                time_ns,
                outbound,
                lost_before: std::mem::take(&mut lost_before),
                bytes: &frame[..frame.len().min(self.snaplen)],
                original_len: frame.len(),
            };
            pcapng::packet(out, &packet);
            self.left -= 1;
            if let Some(written) = self.written.get_mut(seen.number as usize) {
                *written += 1;
            }
        });
    }
}

/// Hands on the frame behind a virtio-net header as a wire would show it: with complete checksums, and with `segment`
/// cut up. A GSO frame that stays whole has the checksum that its length calls for. What can't be understood stays as it is.
fn as_on_a_wire(wire: &mut [u8], segment: bool, mut emit: impl FnMut(&[u8])) {
    let Some((header, frame)) = wire.split_first_chunk_mut::<VNET_HDR_LEN>() else {
        return;
    };
    let Ok(mut header) = VnetHeader::parse(header) else {
        return emit(frame);
    };
    if segment && let Ok(mut segments) = Segments::new(frame, &header) {
        let mut buffer = vec![0; frame.len().min(MAX_FRAME)];
        while let Ok(Some(len)) = segments.write_next(&mut buffer) {
            emit(&buffer[..len]);
        }
        return;
    }
    header.gso = Gso::None;
    // Where it names a place outside the frame, the frame is shown as it came.
    let _ = complete(frame, &mut header);
    emit(frame);
}

#[cfg(test)]
mod tests {
    use etherparse::PacketBuilder;

    use super::*;

    fn gso(payload: usize) -> (Vec<u8>, Vec<u8>) {
        let payload: Vec<u8> = (0..payload).map(|i| i as u8).collect();
        let mut whole = Vec::new();
        PacketBuilder::ethernet2([2; 6], [4; 6])
            .ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64)
            .tcp(1, 2, 3, 4)
            .write(&mut whole, &payload)
            .unwrap();
        let mut partial = whole.clone();
        let length = (20 + payload.len()) as u16;
        let seed = vswitch_datapath::frame::Sum::pseudo_header(&whole[26..34], 6, length).partial();
        partial[50..52].copy_from_slice(&seed);
        let header = VnetHeader {
            flags: VnetHeader::NEEDS_CSUM,
            gso: Gso::TcpV4,
            gso_size: 1000,
            csum_start: 34,
            csum_offset: 16,
            hdr_len: 54,
            ..VnetHeader::default()
        };
        let mut wire = vec![0; VNET_HDR_LEN];
        header.write(wire.first_chunk_mut().unwrap());
        wire.extend(partial);
        (wire, whole)
    }

    #[test]
    fn a_gso_frame_is_whole_with_its_checksum_or_cut_up() {
        let (mut wire, whole) = gso(2500);
        let mut seen = Vec::new();
        as_on_a_wire(&mut wire.clone(), false, |frame| seen.push(frame.to_vec()));
        assert_eq!(seen, [whole]);
        seen.clear();
        as_on_a_wire(&mut wire, true, |frame| seen.push(frame.to_vec()));
        assert_eq!(seen.iter().map(Vec::len).collect::<Vec<_>>(), [1054, 1054, 554]);
    }

    #[test]
    fn what_is_not_understood_stays_as_it_is() {
        for bytes in [&[0xff; 40][..], &[0; 10], &[0; 3]] {
            let mut seen = Vec::new();
            as_on_a_wire(&mut bytes.to_vec(), true, |frame| seen.push(frame.to_vec()));
            assert!(seen.iter().all(|frame| *frame == bytes[10..]), "{bytes:?}");
        }
    }
}
