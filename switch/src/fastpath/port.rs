//! A port that has the fast path.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use vswitch_api::view::PortCounters;
use vswitch_api::{Mac, SwitchName};

use super::{FastPath, Permit, left, lock, switch_key};
use vswitch_datapath::offload::{Direct, Offload};
use vswitch_datapath::punt::Punt;
use vswitch_datapath::{DropReason, PortId};
use vswitch_linux::KernelError;
use vswitch_linux::bpf::{FastCounters, LONG_WAY, NO_CARRIER, PortRecord, Program, settle};

/// The interfaces of a veth port, all but the one inside in the daemon's own namespace.
#[derive(Clone, Debug)]
pub struct NearEnd {
    /// Switch of the port.
    pub switch: SwitchName,
    /// Name and index of the near end.
    pub near: (String, u32),
    /// Name and index of the shadow TAP.
    pub shadow: (String, u32),
    /// Address of the interface inside; all ones if there is a device behind it.
    pub mac: Mac,
}

/// What leads from a device to the near end that stands for it: both in the namespace of the device.
#[derive(Clone, Debug)]
pub struct Splice {
    /// Name and index of the device.
    pub device: (String, u32),
    /// Name and index of the near end's other end.
    pub end: (String, u32),
}

/// What the kernel has counted for a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counted([u64; 8]);

impl Counted {
    fn of(counters: &FastCounters) -> Self {
        Self([
            counters.rx_frames,
            counters.rx_bytes,
            counters.tx_frames,
            counters.tx_bytes,
            counters.rx_flooded,
            counters.flood_copies,
            counters.tx_down,
            counters.tx_refused,
        ])
    }
}

impl NearEnd {
    pub(super) fn record(&self) -> PortRecord {
        PortRecord {
            switch: switch_key(&self.switch),
            near: self.near.1,
            shadow: self.shadow.1,
            mac: self.mac.0,
            ..PortRecord::default()
        }
    }
}

/// The port's part of the fast path. When it is dropped the kernel forgets it, unless the fast path is frozen.
pub struct FastPort {
    fast: Arc<FastPath>,
    slot: u16,
    record: PortRecord,
    /// What the counters were when the port came: they may be older than it.
    before: FastCounters,
    /// Its slot is the one that the daemon before gave it.
    taken_over: bool,
    /// Of a device port.
    splice: Option<Splice>,
}

impl FastPort {
    pub(super) fn new(fast: Arc<FastPath>, slot: u16, record: PortRecord, taken_over: bool) -> Self {
        Self {
            before: fast.kernel.counters(slot),
            taken_over,
            splice: None,
            fast,
            slot,
            record,
        }
    }

    /// What the kernel has counted for the port's slot by now, for [`FastPort::count_from`] of the next daemon.
    pub fn counted(&self) -> Counted {
        Counted::of(&self.fast.kernel.counters(self.slot))
    }

    /// Counts from where the daemon before has left off, if its slot was taken over: so what the kernel forwarded in between counts.
    pub fn count_from(&mut self, before: Counted) {
        let now = Counted::of(&self.before);
        let older = before.0.iter().zip(now.0).all(|(before, now)| *before <= now);
        if self.taken_over && older {
            [
                self.before.rx_frames,
                self.before.rx_bytes,
                self.before.tx_frames,
                self.before.tx_bytes,
                self.before.rx_flooded,
                self.before.flood_copies,
                self.before.tx_down,
                self.before.tx_refused,
            ] = before.0;
        }
    }

    /// Whether the kernel is to keep the port as it is: the daemon is leaving.
    pub fn is_frozen(&self) -> bool {
        self.fast.is_frozen()
    }

    pub(super) fn write(&self) -> Result<(), KernelError> {
        let kernel = &self.fast.kernel;
        kernel.set_port(self.slot, self.record)?;
        kernel.set_slot(self.record.near, self.slot)?;
        kernel.set_slot(self.record.shadow, self.slot)
    }

    pub(super) fn attach(&self, end: &NearEnd) -> Result<(), KernelError> {
        let kernel = &self.fast.kernel;
        // The shadow first: what is sent to it by the other program has a way back.
        kernel.attach(Program::ToStation, &end.shadow.0, end.shadow.1)?;
        kernel.attach(Program::FromStation, &end.near.0, end.near.1)
    }

    /// Leads all that comes in at a device to the near end, and the other way round. The calling thread is in the namespace of the
    /// device.
    ///
    /// # Errors
    /// The kernel refused a step; what was done goes with this port.
    pub fn join(&mut self, splice: Splice) -> Result<(), KernelError> {
        let (device, end) = (splice.device.clone(), splice.end.clone());
        lock(&self.fast.spliced).extend([device.1, end.1]);
        self.splice = Some(splice);
        let kernel = &self.fast.kernel;
        kernel.set_splice(end.1, device.1)?;
        kernel.set_splice(device.1, end.1)?;
        kernel.attach(Program::ToDevice, &end.0, end.1)?;
        kernel.attach(Program::FromDevice, &device.0, device.1)
    }

    /// Whether what the kernel sends to the station is to go the long way, as what comes by a wire does: a program of XDP at the
    /// station's own interface sees it only so.
    pub fn set_long_way(&self, long: bool) {
        self.set_flag(LONG_WAY, long);
    }

    fn set_flag(&self, flag: u16, set: bool) {
        let mut slots = lock(&self.fast.slots);
        if !self.fast.is_frozen() && slots.set_flag(self.slot, flag, set) {
            self.fast.write_direct(&slots, self.slot);
        }
    }
}

impl Offload for FastPort {
    fn slot(&self) -> u16 {
        self.slot
    }

    fn bind(&self, id: PortId) {
        lock(&self.fast.by_port).insert(id, self.slot);
    }

    fn unbind(&self, id: PortId) {
        lock(&self.fast.by_port).remove(&id);
    }

    fn set_direct(&self, direct: Option<Direct>) {
        let mut slots = lock(&self.fast.slots);
        if self.fast.is_frozen() {
            return;
        }
        if slots.set_direct(self.slot, direct.as_ref().map(Permit::from)) {
            self.fast.write_direct(&slots, self.slot);
        }
    }

    fn leaves(&self, punt: &Punt) -> bool {
        left(punt).is_among(&self.fast.left)
    }

    fn set_carrier(&self, carrier: bool) {
        self.set_flag(NO_CARRIER, !carrier);
    }

    fn set_flood(&self, to: Option<&[u16]>) {
        self.fast.set_flood(&self.record.switch, to);
    }

    fn settle(&self) {
        if !self.fast.is_frozen() {
            settle();
        }
    }

    fn add_to(&self, total: &mut PortCounters) {
        let now = self.fast.kernel.counters(self.slot);
        let received = now.rx_frames.saturating_sub(self.before.rx_frames);
        total.rx_frames += received;
        let flooded = now.rx_flooded.saturating_sub(self.before.rx_flooded);
        total.rx_forwarded += received.saturating_sub(flooded);
        total.rx_flooded += flooded;
        total.flood_copies += now.flood_copies.saturating_sub(self.before.flood_copies);
        total.rx_fastpath += received;
        total.rx_bytes += now.rx_bytes.saturating_sub(self.before.rx_bytes);
        total.tx_frames += now.tx_frames.saturating_sub(self.before.tx_frames);
        total.tx_bytes += now.tx_bytes.saturating_sub(self.before.tx_bytes);
        for (reason, now, before) in [
            (DropReason::LinkDown, now.tx_down, self.before.tx_down),
            (DropReason::Rejected, now.tx_refused, self.before.tx_refused),
        ] {
            if now > before {
                *total.tx_drops.entry(reason.as_str().to_owned()).or_default() += now - before;
            }
        }
    }
}

impl Drop for FastPort {
    fn drop(&mut self) {
        let mut slots = lock(&self.fast.slots);
        if self.fast.is_frozen() {
            return;
        }
        let kernel = &self.fast.kernel;
        if let Some(Splice { device, end }) = &self.splice {
            let mut spliced = lock(&self.fast.spliced);
            for (program, index) in [(Program::FromDevice, device.1), (Program::ToDevice, end.1)] {
                kernel.clear_splice(index);
                kernel.detach(program, index);
                spliced.remove(&index);
            }
        }
        // Cleared before the slot can be given to another port.
        self.fast.clear(self.slot);
        for (program, index) in [
            (Program::FromStation, self.record.near),
            (Program::ToStation, self.record.shadow),
        ] {
            kernel.clear_slot(index);
            kernel.detach(program, index);
        }
        slots.free(self.slot);
    }
}

impl fmt::Debug for FastPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FastPort({}, {:?})", self.slot, self.record)
    }
}
