//! What the stages of the [`super::pipeline`] do beyond looking, which whoever runs them decides.

use std::sync::Arc;

use super::PortId;
use super::acl::{Acl, Refused};
use super::counters::{DropReason, Tally};
use super::egress::Fit;
use super::fdb::{Fdb, FdbKey, LearnRule, Learned};
use super::guard::Probe;
use super::lists::OutputLists;
use super::mirror::MirrorEntry;
use super::pipeline::Ingress;
use super::punt::AgentId;
use super::snapshot::PortEntry;
use super::trace::Stage;
use super::traffic::{Limiter, Line};
use crate::batch::Batch;
use crate::frame::{Reading, WireSize};
use crate::port::Frames;

/// What stages of frames and of batches do alike.
pub(super) trait Run {
    /// Hears of the steps of a frame's way.
    fn tell<S: IntoIterator<Item = Stage>>(&mut self, steps: impl FnOnce() -> S);
    /// Whether a frame of this size is within a rate at `now`, in nanoseconds; a worker uses up what it takes.
    fn admits(&mut self, limiter: &Limiter, now: u64, size: WireSize) -> bool;
    /// Whether a list lets a frame pass; a worker counts which rules it matches and uses up their rates. `size` and `now` are asked
    /// for by rules that police.
    fn check(
        &mut self,
        acl: &Acl,
        frame: &Reading<'_>,
        size: impl Fn() -> WireSize,
        now: impl Fn() -> u64,
        vlan: u16,
    ) -> Result<(), Refused>;
}

/// Who runs the stages in earnest: nobody is told of steps, rates are used up and hits of rules counted.
pub(super) trait InEarnest {}

impl<R: InEarnest> Run for R {
    #[inline(always)]
    fn tell<S: IntoIterator<Item = Stage>>(&mut self, _steps: impl FnOnce() -> S) {}

    #[inline]
    fn admits(&mut self, limiter: &Limiter, now: u64, size: WireSize) -> bool {
        limiter.admits(now, size)
    }

    #[inline]
    fn check(
        &mut self,
        acl: &Acl,
        frame: &Reading<'_>,
        size: impl Fn() -> WireSize,
        now: impl Fn() -> u64,
        vlan: u16,
    ) -> Result<(), Refused> {
        acl.check(frame, size, now, vlan)
    }
}

/// What the stages of batches do.
pub(super) trait Effects: Run {
    /// Shows frames that come in to the captures of the port.
    fn capture(&mut self, port: &PortEntry, frames: Frames<'_>);
    /// `frames` frames of so many bytes don't get into the switch, for one reason.
    fn refuse(&mut self, port: &PortEntry, reason: DropReason, frames: u64, bytes: u64);
    /// Puts frames on the line of an impaired port, with the priorities that they came with if they are in VLANs; false: they go on at
    /// once.
    fn impair(&mut self, line: &Arc<Line>, frames: Frames<'_>, in_vlans: bool) -> bool;
    /// Runs [`Ingress::forward`].
    fn forward(&mut self, ingress: Ingress<'_>, batch: &mut Batch, lists: &mut OutputLists);
    /// A mirror wants `frames` frames of so many bytes.
    fn mirrored(&mut self, mirror: &MirrorEntry, frames: u64, bytes: u64);
    /// So many copies of frames from `port` were put on lists.
    fn copied(&mut self, port: &PortEntry, copies: u64);
    /// `frames` frames don't get out of a port, for one reason.
    fn drop_out(&mut self, port: &PortEntry, reason: DropReason, frames: u64);
    /// Sends the i-th frame of a batch so that it fits, at the latest by the next [`Effects::flush`]. Captures of the port see it as
    /// it goes.
    fn send(&mut self, port: &PortEntry, batch: &Batch, i: u8, fit: Fit);
    /// The frames of a list have all been sent.
    fn flush(&mut self, port: &PortEntry, batch: &Batch);
}

/// What the stages of [`Ingress::decide`] do.
pub(super) trait FrameEffects: Run {
    /// A frame from the station came in.
    fn learn(&mut self, ingress: Ingress<'_>, key: FdbKey, rule: LearnRule) -> Learned;
    /// Where a station is, after what was learned.
    fn look_up(&self, fdb: &Fdb, key: FdbKey) -> Option<PortId>;
    /// A station beyond the limit was seen on a port that is to be shut then.
    fn limit_reached(&mut self);
    /// A probe of this switch came in, in a VLAN (0 for none), which says that it is from a port of it.
    fn probed(&mut self, sender: &PortEntry, probe: Probe, vlan: u16);
    /// An agent gets this frame.
    fn punted(&mut self, agent: AgentId, vlan: u16, frame: &[u8]);
    /// The frame ends here.
    fn dropped(&mut self, reason: DropReason);
    /// Of a batch of `frames` frames so much went where.
    fn count(&mut self, frames: u64, tally: &Tally);
}
