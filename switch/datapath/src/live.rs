//! The stages as a worker runs them: with all effects.

use std::sync::Arc;

use super::counters::DropReason;
use super::effects::{Effects, InEarnest};
use super::egress::{Egress, Fit};
use super::forward::{Counted, Notice};
use super::handle::Shared;
use super::lists::OutputLists;
use super::mirror::MirrorEntry;
use super::pipeline::Ingress;
use super::punt::Punted;
use super::setup::DatapathEvent;
use super::snapshot::PortEntry;
use super::traffic::{Line, Loader};
use super::{Direction, sniffer};
use crate::batch::Batch;
use crate::port::Frames;

/// The effects of a worker.
pub(super) struct Live<'a> {
    /// Number of the worker.
    pub index: usize,
    pub shared: &'a Shared,
    pub egress: &'a mut Egress,
    pub loader: &'a mut Loader,
}

impl InEarnest for Live<'_> {}

impl Effects for Live<'_> {
    fn capture(&mut self, port: &PortEntry, frames: Frames<'_>) {
        if let Some(sniffers) = &port.sniffers {
            sniffer::see(sniffers, Direction::In, frames.iter());
        }
    }

    fn refuse(&mut self, port: &PortEntry, reason: DropReason, frames: u64, bytes: u64) {
        let counters = &port.counters[self.index];
        counters.rx_frames.add(frames);
        counters.rx_bytes.add(bytes);
        counters.drop_frames(reason, frames);
    }

    fn impair(&mut self, line: &Arc<Line>, frames: Frames<'_>, in_vlans: bool) -> bool {
        let owner = &self.shared.workers[line.owner];
        let now = self.shared.clock.nanoseconds();
        let frames = frames.with_priorities(in_vlans);
        line.load(self.index, now, frames, self.loader, |held| {
            if !held.is_empty() {
                owner.schedule.hold(held, line.owner != self.index);
            }
        });
        true
    }

    #[inline]
    fn forward(&mut self, ingress: Ingress<'_>, batch: &mut Batch, lists: &mut OutputLists) {
        let own = ingress.port.port_ref();
        let notice = |notice: Notice<'_>| {
            self.shared.notify(match notice {
                Notice::Punted(agent, vlan, frame) => {
                    let (port, frame) = (own, frame.into());
                    self.shared.punted.push(Punted {
                        agent,
                        port,
                        vlan,
                        frame,
                    });
                    self.shared.call_control();
                    return;
                }
                Notice::LimitReached => DatapathEvent::LimitReached { port: own },
                Notice::LoopFound(sent, nonce, vlan) => DatapathEvent::LoopFound {
                    sent,
                    nonce,
                    received: own,
                    vlan,
                },
                Notice::Learned(mac) => DatapathEvent::Learned { mac, port: own },
                Notice::Moved(key, from) => match ingress.snapshot.port(from) {
                    Some(from) => DatapathEvent::Moved {
                        mac: key.mac(),
                        vlan: key.vlan(),
                        from: from.port_ref(),
                        to: own,
                    },
                    // It has just gone.
                    None => DatapathEvent::Learned {
                        mac: key.mac(),
                        port: own,
                    },
                },
            });
        };
        ingress.forward(&mut Counted::new(ingress.port, self.index, notice), batch, lists);
    }

    fn mirrored(&mut self, mirror: &MirrorEntry, frames: u64, bytes: u64) {
        mirror.counters.add(self.index, frames, bytes);
    }

    fn copied(&mut self, port: &PortEntry, copies: u64) {
        port.counters[self.index].mirror_copies.add(copies);
    }

    fn drop_out(&mut self, port: &PortEntry, reason: DropReason, frames: u64) {
        port.counters[self.index].drop_frames(reason, frames);
    }

    #[inline]
    fn send(&mut self, port: &PortEntry, batch: &Batch, i: u8, fit: Fit) {
        self.egress.send(port, self.index, batch, i, fit);
    }

    #[inline]
    fn flush(&mut self, port: &PortEntry, batch: &Batch) {
        self.egress.flush(port, self.index, batch);
    }
}
