//! Protocols, and whatever else watches frames and decides: modules without I/O.
//!
//! What happens goes in with its time, what is to be done comes out; control does it. So an agent is tested by what comes in and
//! what is expected, without a kernel, threads or waiting: the folder `cases` beside it has a folder for each test.

pub mod loop_guard;

use std::time::Duration;

use vswitch_api::Mac;
use vswitch_datapath::punt::AgentId;
use vswitch_datapath::{PortRef, SwitchId};

/// The number of the loop guard.
pub const LOOP_GUARD: AgentId = AgentId(0);

/// What an agent is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Input {
    /// A station was seen at another port of a switch than before.
    Moved {
        /// The switch.
        switch: SwitchId,
        /// VLAN of the station, 0 for none.
        vlan: u16,
        /// The station.
        mac: Mac,
        /// The port it was behind.
        from: PortRef,
        /// The port it is behind.
        to: PortRef,
    },
    /// A probe came in that the switch had sent.
    ProbeBack {
        /// The port that it went out of.
        sent: PortRef,
        /// What it carried.
        nonce: u64,
        /// The port that it came in at.
        received: PortRef,
        /// The VLAN in which it did, 0 for none.
        vlan: u16,
    },
    /// A port may lead in a circle, in this VLAN: it is new, is or was shut for a loop and opens, or another was shut.
    Suspected {
        /// The port.
        port: PortRef,
        /// Where a loop is to be looked for, 0 for none.
        vlan: u16,
    },
    /// Much of what a switch floods comes in from one port, or from several: [`stormy_ports`].
    Storm {
        /// The switch.
        switch: SwitchId,
        /// From several.
        several: bool,
    },
    /// Floods of a switch are held and nothing goes round: now probes come through.
    Still {
        /// The switch.
        switch: SwitchId,
    },
}

/// Frames of a port that are flooded in a second as in a storm. From each port the kernel floods 10,000 on each processor at most.
const STORM_RATE: u64 = 5000;

/// Of how many ports so many frames, flooded within a time, may be going round: of two or more, or of one where the loop leads one way only.
pub fn stormy_ports(flooded: impl Iterator<Item = u64>, within: Duration) -> usize {
    let much = (u128::from(STORM_RATE) * within.as_millis() / 1000).max(1);
    flooded.filter(|frames| u128::from(*frames) >= much).count()
}

/// What an agent wants done.
#[derive(Debug)]
pub enum Action {
    /// Send a probe out of a port, in a VLAN (0: in none).
    Probe {
        /// The port.
        port: PortRef,
        /// The VLAN.
        vlan: u16,
        /// What it carries.
        nonce: u64,
    },
    /// Shut a port for a time.
    Shut {
        /// The port.
        port: PortRef,
        /// Why.
        cause: LoopCause,
        /// How long.
        time: Duration,
        /// VLAN of the loop, 0 for none.
        vlan: u16,
    },
    /// Tell that a station goes to and fro between ports.
    Flapping {
        /// Their switch.
        switch: SwitchId,
        /// The station.
        mac: Mac,
        /// The ports, the eldest first.
        ports: Vec<PortRef>,
        /// How often it moved within the last second.
        moves: u32,
    },
    /// Hold floods of a switch for a moment, in which it is told of [`Input::Still`].
    Hold {
        /// The switch.
        switch: SwitchId,
    },
    /// Tell that loops can't be looked for.
    NoRandom(std::io::Error),
}

/// By what a loop was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoopCause {
    /// A station goes to and fro between the port and another, and no probe came back.
    Flaps {
        /// The station.
        mac: Mac,
        /// The eldest of the other ports.
        eldest: PortRef,
    },
    /// What went out of the port came in at it.
    OwnFrames,
    /// What went out of the port came in at another, or the other way round.
    SamePlace(PortRef),
}

impl LoopCause {
    /// The port that carries what the one that is shut does not.
    pub fn other(self) -> Option<PortRef> {
        match self {
            Self::Flaps { eldest, .. } => Some(eldest),
            Self::OwnFrames => None,
            Self::SamePlace(other) => Some(other),
        }
    }
}

/// What an agent may ask about ports and switches as they are now.
pub trait Surroundings {
    /// How a switch is guarded; none: it is gone.
    fn switch(&self, switch: SwitchId) -> Option<SwitchFacts>;
    /// A port; none: it is gone.
    fn port(&self, port: PortRef) -> Option<PortFacts>;
    /// Ports of a switch that may drop what comes in by a loop, and let in what their own stations send.
    fn ports_that_may_drop(&self, switch: SwitchId) -> Vec<PortRef>;
    /// Ports of a switch that are not shut, each with VLANs (0: none) in which frames of it may go round.
    fn ports_in_vlans(&self, switch: SwitchId) -> Vec<(PortRef, Vec<u16>)>;
}

/// How a switch is guarded against loops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SwitchFacts {
    /// Ports may be shut.
    pub guarded: bool,
    /// Moves within a second with which a station flaps.
    pub flap_moves: u32,
    /// Seconds for which a station flaps before a port is shut though no probe came back.
    pub flap_secs: u32,
}

/// What matters of a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortFacts {
    /// Its switch.
    pub switch: SwitchId,
    /// Of two ports in a loop the one with the higher rank is shut.
    pub rank: (bool, usize),
    /// It is shut, and so is not the one that the loop goes through.
    pub shut: bool,
}
