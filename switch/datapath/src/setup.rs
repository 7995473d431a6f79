//! What control tells the datapath, and what it is told.

use std::fmt;
use std::sync::Arc;

use vswitch_api::policy::VlanId;
use vswitch_api::{Mac, ReservedMulticast};

use super::policy::PortPolicy;
use super::{PortRef, SwitchId};
use crate::port::PortIo;

/// How the datapath runs.
#[derive(Clone, Debug, Default)]
pub struct DatapathConfig {
    /// Worker threads, at least 1.
    pub workers: usize,
    /// Cores that the workers are pinned to, in turn; none: wherever the kernel puts them.
    pub cpus: Vec<usize>,
    /// Microseconds that a worker goes on looking for frames before it sleeps, at least; 0: none.
    pub spin_us: u32,
    /// What each worker thread does before its first frame.
    pub begin: Begin,
    /// From which core the frames of a worker come. It runs there, unless it has `cpus` or does not look for frames.
    pub sender_core: SenderCore,
}

/// Tells from which core the last frame for a worker, by its number, was sent; by default not known.
#[derive(Clone, Default)]
pub struct SenderCore(Option<Arc<dyn Fn(usize) -> Option<usize> + Send + Sync>>);

impl SenderCore {
    /// By this.
    pub fn with(ask: impl Fn(usize) -> Option<usize> + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(ask)))
    }

    pub(super) fn ask(&self, worker: usize) -> Option<usize> {
        self.0.as_ref().and_then(|ask| ask(worker))
    }
}

impl fmt::Debug for SenderCore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SenderCore").field(&self.0.is_some()).finish()
    }
}

/// Something that a thread does as it begins; by default nothing.
#[derive(Clone, Default)]
pub struct Begin(Option<Arc<dyn Fn() + Send + Sync>>);

impl Begin {
    /// This.
    pub fn with(begin: impl Fn() + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(begin)))
    }

    /// Does it.
    pub(super) fn run(&self) {
        if let Some(begin) = &self.0 {
            begin();
        }
    }
}

impl fmt::Debug for Begin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Begin").field(&self.0.is_some()).finish()
    }
}

/// A new switch.
#[derive(Clone, Debug)]
pub struct SwitchSetup {
    /// Most entries of its FDB.
    pub fdb_capacity: u32,
    /// What can change while it runs.
    pub settings: SwitchSettings,
}

/// What a switch does.
#[derive(Clone, Debug, Default)]
pub struct SwitchSettings {
    /// VLANs in which nothing is learned, since they carry copies.
    pub rspan: Arc<[VlanId]>,
    /// What happens to frames for the reserved group addresses.
    pub reserved: ReservedMulticast,
    /// Most entries of each VLAN in the FDB; none: as many as there is room for.
    pub vlan_limit: Option<u32>,
}

/// A new port.
#[derive(Debug)]
pub struct PortSetup {
    /// Its switch.
    pub switch: SwitchId,
    /// Where its frames come from and go to.
    pub io: Arc<dyn PortIo>,
    /// What can change while it is there.
    pub settings: PortSettings,
}

/// How a port works.
#[derive(Clone, Debug)]
pub struct PortSettings {
    /// Bytes of layer-3 payload.
    pub mtu: u32,
    /// False: nothing goes in or out.
    pub up: bool,
    /// False: frames go out segmented and with complete checksums.
    pub offload: bool,
    /// What it lets in and out; none: everything.
    pub policy: Option<Arc<PortPolicy>>,
}

impl Default for PortSettings {
    /// An MTU of 1500, and everything comes through.
    fn default() -> Self {
        Self {
            mtu: 1500,
            up: true,
            offload: true,
            policy: None,
        }
    }
}

/// Something that control may want to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DatapathEvent {
    /// A station was seen for the first time.
    Learned {
        /// The station.
        mac: Mac,
        /// The port it is behind.
        port: PortRef,
    },
    /// A station was seen on another port than before.
    Moved {
        /// The station.
        mac: Mac,
        /// Its VLAN, 0 for none.
        vlan: u16,
        /// The port it was behind.
        from: PortRef,
        /// The port it is behind.
        to: PortRef,
    },
    /// A frame from a station beyond the limit came in at a port that is to be shut then.
    LimitReached {
        /// The port.
        port: PortRef,
    },
    /// Switches or ports have other settings than before. Told once, however many revisions there were.
    Revised,
    /// A probe came back. It does so once.
    LoopFound {
        /// The port that sent it.
        sent: PortRef,
        /// What it carried.
        nonce: u64,
        /// The port of the same switch that it came in at.
        received: PortRef,
        /// The VLAN in which it came in, 0 for none.
        vlan: u16,
    },
    /// A port can't be received from any more: its device is gone, or its own code has panicked.
    PortFailed {
        /// The port.
        port: PortRef,
        /// What the kernel said; 0 if it was somebody else.
        errno: i32,
        /// The same, or what the port said, in words.
        cause: Arc<str>,
    },
    /// A worker has panicked and is gone: what only it received is not received any more. The rest goes on.
    WorkerFailed {
        /// Its number.
        worker: usize,
        /// What it said.
        cause: Arc<str>,
    },
}
