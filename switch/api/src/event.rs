//! What happens, as it happens. `GET /v1/events` streams these as server-sent events:
//! the event's name is its `kind`, its data the JSON form.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use strum::{EnumDiscriminants, IntoStaticStr, VariantNames};
use utoipa::{IntoParams, ToSchema};

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
    /// What `since` and `Last-Event-ID` take to go on behind it.
    #[serde(default)]
    pub id: String,
    /// Milliseconds since the Unix epoch.
    pub time_ms: u64,
    /// What the user says of the port that it is about.
    #[serde(default, skip_serializing_if = "is_default")]
    pub description: Description,
    /// What happened.
    #[serde(flatten, deserialize_with = "crate::reply::flattened")]
    pub kind: EventKind,
}

// There will be more kinds. Each has its words in `ctl/src/output/events.rs`, where no compiler asks for them.
/// What happened.
#[derive(
    Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema, IntoStaticStr, VariantNames, EnumDiscriminants,
)]
#[serde(tag = "kind", rename_all = "kebab-case")]
#[strum(serialize_all = "kebab-case")]
#[strum_discriminants(name(Place), vis(pub(self)))]
#[non_exhaustive]
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
    /// Events that the reader does not get, since it was too slow, or came again too late.
    Missed {
        /// How many; 0: those of an earlier run of the daemon, which nobody can count any more.
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

    /// Ports that have to do with it.
    pub fn ports(&self) -> Vec<&PortName> {
        match self {
            Self::FdbLearned { port, .. } => vec![port],
            Self::FdbMoved { from, to, .. } => vec![from, to],
            Self::FdbFlapping { ports, .. } => ports.iter().collect(),
            kind => kind.port().into_iter().collect(),
        }
    }

    /// The switch that it names.
    pub fn switch(&self) -> Option<&SwitchName> {
        match self {
            Self::SwitchAdded { switch }
            | Self::SwitchRemoved { switch }
            | Self::PortAdded { switch, .. }
            | Self::PortRemoved { switch, .. }
            | Self::SwitchSet { switch, .. }
            | Self::FdbLearned { switch, .. }
            | Self::FdbMoved { switch, .. }
            | Self::FdbFlapping { switch, .. }
            | Self::FdbAged { switch, .. } => Some(switch),
            _ => None,
        }
    }

    /// Its place in [`EVENT_KINDS`].
    pub fn index(&self) -> usize {
        Place::from(self) as usize
    }

    /// Its word.
    pub fn as_str(&self) -> &'static str {
        self.into()
    }
}

/// The words of all kinds, in the order in which they are declared.
pub const EVENT_KINDS: &[&str] = EventKind::VARIANTS;

/// Which events are wanted. `missed` always is. `GET /v1/events`
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema, IntoParams)]
#[serde(default)]
#[into_params(parameter_in = Query)]
pub struct EventSelect {
    /// Only of these kinds, with commas between: `port-state,port-shut`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[param(value_type = Option<String>)]
    #[schema(value_type = Option<String>)]
    pub kind: Option<Kinds>,
    /// Only what has to do with this port.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<PortName>,
    /// Only what has to do with this switch and its ports.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub switch: Option<SwitchName>,
    /// `id` of an event: those behind it, as far as they are kept, come first; `missed` tells of the others. The same as the field
    /// `Last-Event-ID`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[param(value_type = Option<String>)]
    #[schema(value_type = Option<String>)]
    pub since: Option<Since>,
}

impl EventSelect {
    /// Whether an event is wanted. `switch`: that of the port which it is about.
    pub fn wants(&self, kind: &EventKind, switch: Option<&SwitchName>) -> bool {
        let of_switch = |wanted| kind.switch().or(switch) == Some(wanted);
        self.kind.as_ref().is_none_or(|kinds| kinds.has(kind.as_str()))
            && self.port.as_ref().is_none_or(|port| kind.ports().contains(&port))
            && self.switch.as_ref().is_none_or(of_switch)
    }
}

/// Some kinds of events.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Kinds(Vec<&'static str>);

impl Kinds {
    /// Whether a kind of this word is among them.
    pub fn has(&self, kind: &str) -> bool {
        self.0.contains(&kind)
    }
}

impl FromStr for Kinds {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let find = |word: &str| {
            let known = EVENT_KINDS.iter().copied().find(|kind| *kind == word.trim());
            known.ok_or_else(|| format!("{word:?} is no kind of event; those are {}", EVENT_KINDS.join(", ")))
        };
        text.split(',').map(find).collect::<Result<_, _>>().map(Self)
    }
}

impl TryFrom<String> for Kinds {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Kinds> for String {
    fn from(value: Kinds) -> Self {
        value.to_string()
    }
}

impl fmt::Display for Kinds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join(","))
    }
}

/// The `id` of an event: its number, and in which run of the daemon it was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Since {
    /// The run.
    pub run: String,
    /// Number of the event in it.
    pub seq: u64,
}

impl FromStr for Since {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text
            .split_once('-')
            .filter(|(_, seq)| seq.bytes().all(|byte| byte.is_ascii_digit()))
            .and_then(|(run, seq)| Some((run, seq.parse().ok()?)));
        match parts {
            Some((run, seq)) if (1..=16).contains(&run.len()) && run.bytes().all(|byte| byte.is_ascii_hexdigit()) => {
                Ok(Self {
                    run: run.to_owned(),
                    seq,
                })
            }
            _ => Err(format!(
                "{text:?} is not the id of an event, such as \"19a3f2c81b0-42\""
            )),
        }
    }
}

impl TryFrom<String> for Since {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Since> for String {
    fn from(value: Since) -> Self {
        value.to_string()
    }
}

impl fmt::Display for Since {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.run, self.seq)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use utoipa::PartialSchema;

    /// The words of the wire are serde's.
    #[test]
    fn every_kind_has_its_word() {
        let schema = serde_json::to_value(EventKind::schema()).unwrap();
        let words: Vec<_> = schema["oneOf"]
            .as_array()
            .unwrap()
            .iter()
            .map(|one| find_word(one).unwrap())
            .collect();
        assert_eq!(words, EVENT_KINDS);
        let aged = EventKind::FdbAged {
            switch: "main".parse().unwrap(),
            count: 1,
        };
        assert_eq!(aged.as_str(), "fdb-aged");
        assert_eq!(serde_json::to_value(&aged).unwrap()["kind"], "fdb-aged");
    }

    fn find_word(schema: &serde_json::Value) -> Option<String> {
        let word = schema.pointer("/properties/kind/enum/0").and_then(|word| word.as_str());
        let parts = schema["allOf"].as_array().into_iter().flatten();
        word.map(str::to_owned).or_else(|| parts.filter_map(find_word).next())
    }

    #[test]
    fn a_selection_is_checked() {
        assert_eq!(
            " port-set,port-shut".parse::<Kinds>().unwrap().to_string(),
            "port-set,port-shut"
        );
        assert!("port-set,nosuch".parse::<Kinds>().unwrap_err().contains("port-shut"));
        assert_eq!("1f-42".parse::<Since>().unwrap().to_string(), "1f-42");
        for text in [
            "-1",
            "1f-+1",
            "",
            "42",
            "-",
            "1f-",
            "1f-x",
            "xyz-1",
            "11112222333344445-1",
        ] {
            assert!(text.parse::<Since>().is_err(), "{text}");
        }
    }
}
