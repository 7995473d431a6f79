//! What happens, as it happens. `GET /v1/events` streams these as server-sent events:
//! the event's name is its `kind`, its data the JSON form.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::command::ProcessState;
use crate::difference::SettingChange;
use crate::lab::Description;
use crate::name::{IfAddr, IfName, Mac, NsName, PortName, SwitchName};
use crate::policy::is_default;
use crate::view::PortState;

/// One event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Event {
    /// Number of the event since the daemon began. Of `missed`, that of the last one left out.
    pub seq: u64,
    /// Milliseconds since the Unix epoch.
    pub time_ms: u64,
    /// What the user says of the port that it is about.
    #[serde(default, skip_serializing_if = "is_default")]
    pub description: Description,
    /// What happened.
    #[serde(flatten)]
    pub kind: EventKind,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum EventKind {
    /// A switch was added.
    SwitchAdded {
        /// Its name.
        switch: SwitchName,
    },
    /// A switch was removed.
    SwitchRemoved {
        /// Its name.
        switch: SwitchName,
    },
    /// A port was added.
    PortAdded {
        /// Its name.
        port: PortName,
        /// Its switch.
        switch: SwitchName,
    },
    /// A port was removed.
    PortRemoved {
        /// Its name.
        port: PortName,
        /// Its switch.
        switch: SwitchName,
    },
    /// The state of a port changed.
    PortState {
        /// Its name.
        port: PortName,
        /// The new state.
        state: PortState,
        /// Why, where there is more to say.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    },
    /// Somebody else has renamed or moved the interface of a port, or changed its MTU.
    PortChanged {
        /// Its name.
        port: PortName,
        /// What it has now.
        what: String,
    },
    /// Settings of a port were changed.
    PortSet {
        /// Its name.
        port: PortName,
        /// What differs now.
        changes: Vec<SettingChange>,
    },
    /// Settings of a switch were changed.
    SwitchSet {
        /// Its name.
        switch: SwitchName,
        /// What differs now.
        changes: Vec<SettingChange>,
    },
    /// A namespace was made.
    NamespaceAdded {
        /// Its name.
        namespace: NsName,
    },
    /// A namespace was removed.
    NamespaceRemoved {
        /// Its name.
        namespace: NsName,
    },
    /// An address was given to the interface of a port.
    AddressAdded {
        /// The port.
        port: PortName,
        /// The address.
        address: IfAddr,
    },
    /// An address was taken away.
    AddressRemoved {
        /// The port.
        port: PortName,
        /// The address.
        address: IfAddr,
    },
    /// A source address was seen for the first time.
    FdbLearned {
        /// The switch.
        switch: SwitchName,
        /// The address.
        mac: Mac,
        /// Where it is.
        port: PortName,
    },
    /// A source address was seen on another port than before.
    FdbMoved {
        /// The switch.
        switch: SwitchName,
        /// The address.
        mac: Mac,
        /// Where it was.
        from: PortName,
        /// Where it is.
        to: PortName,
    },
    /// A source address goes to and fro between ports.
    FdbFlapping {
        /// The switch.
        switch: SwitchName,
        /// The address.
        mac: Mac,
        /// Ports that it was seen on, the oldest first.
        ports: Vec<PortName>,
        /// Moves within the last second.
        moves: u32,
    },
    /// A port was shut by the switch itself.
    PortShut {
        /// The port.
        port: PortName,
        /// Why.
        reason: String,
        /// Seconds after which it is opened again; none: when it is set up by hand.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        retry_secs: Option<u64>,
    },
    /// Addresses not seen for the ageing time were forgotten.
    FdbAged {
        /// The switch.
        switch: SwitchName,
        /// How many.
        count: u32,
    },
    /// A process that the daemon looks after has begun, became ready, has ended, or is to be started again.
    ProcessState {
        /// Its name; that of the command.
        process: String,
        /// How it is now.
        state: ProcessState,
        /// Why, where there is more to say.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    },
    /// A longer edit got on. At most some five a second, and one with `over` at its end; edits that take less than a third of a
    /// second have none. One edit is under way at a time.
    Progress {
        /// What is done.
        what: String,
        /// Steps that are done.
        done: u32,
        /// All steps.
        of: u32,
        /// It has ended. If not all steps are done, it failed, and those that were are undone.
        #[serde(default, skip_serializing_if = "is_default")]
        over: bool,
    },
    /// The reader was too slow: so many events were left out.
    Missed {
        /// How many.
        count: u64,
    },
    /// The default route of the host has moved, come or gone, and what gateways with NAT send out goes with it.
    UplinksChanged {
        /// Interfaces that it went out by.
        before: Vec<IfName>,
        /// Those of now.
        now: Vec<IfName>,
    },
}

impl EventKind {
    /// The port that it is about, if it is about one and not about what is behind it.
    pub fn port(&self) -> Option<&PortName> {
        match self {
            Self::PortAdded { port, .. }
            | Self::PortRemoved { port, .. }
            | Self::PortState { port, .. }
            | Self::PortChanged { port, .. }
            | Self::PortSet { port, .. }
            | Self::PortShut { port, .. }
            | Self::AddressAdded { port, .. }
            | Self::AddressRemoved { port, .. } => Some(port),
            _ => None,
        }
    }
}
