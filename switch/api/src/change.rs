//! What an edit did, for programs: the twin of the lines in [`Changes::done`](crate::view::Changes).

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

/// What happened to something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum ChangeAction {
    /// It was added; `after` is all of it.
    Added,
    /// It was removed; `before` is all of it.
    Removed,
    /// The setting `key` of it is `after`, and was `before`.
    Set,
    /// It is as the lab wants it again; somebody else had changed it.
    Repaired,
    /// It ended and began again.
    Restarted,
    /// What was learned on it was forgotten, `before` entries of its FDB.
    Flushed,
    /// None that this version knows; the daemon is newer.
    #[serde(other)]
    Unknown,
}

/// What something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum ObjectKind {
    /// A switch.
    Switch,
    /// A port. A link is two of them.
    Port,
    /// A namespace.
    Namespace,
    /// A cable; its name is those of its namespaces, `red/blue`.
    Cable,
    /// A mirror.
    Mirror,
    /// A command of the lab.
    Command,
    /// A station of the FDB that is none of the lab's; its name is the address.
    Station,
    /// What the host does for the switches.
    Host,
    /// The log of the daemon.
    Log,
    /// The daemon itself.
    Daemon,
    /// None that this version knows; the daemon is newer.
    #[serde(other)]
    Unknown,
}

/// One thing that an edit did, or in a dry run would do. What the host has to do for it besides, such as its NAT, has none of its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Change {
    /// What happened.
    pub action: ChangeAction,
    /// To what.
    pub kind: ObjectKind,
    /// Its name.
    pub name: String,
    /// Path of the setting, such as `learning.limit`; absent: it is about the whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// What it was; absent: it was not there, or not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Value>)]
    pub before: Option<Value>,
    /// What it is now; absent: it is not there any more, or not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Value>)]
    pub after: Option<Value>,
}

impl Change {
    /// Of something as a whole.
    pub fn new(action: ChangeAction, kind: ObjectKind, name: impl ToString) -> Self {
        Self {
            action,
            kind,
            name: name.to_string(),
            key: None,
            before: None,
            after: None,
        }
    }

    /// Something is there now.
    pub fn added(kind: ObjectKind, name: impl ToString, whole: &impl Serialize) -> Self {
        Self {
            after: serde_json::to_value(whole).ok(),
            ..Self::new(ChangeAction::Added, kind, name)
        }
    }

    /// Something is not there any more.
    pub fn removed(kind: ObjectKind, name: impl ToString, whole: &impl Serialize) -> Self {
        Self {
            before: serde_json::to_value(whole).ok(),
            ..Self::new(ChangeAction::Removed, kind, name)
        }
    }

    /// The settings of something that differ.
    pub fn set<T: Serialize>(kind: ObjectKind, name: impl ToString, before: &T, after: &T) -> Vec<Self> {
        let name = name.to_string();
        let set = |change: crate::difference::SettingChange| Self {
            key: Some(change.key),
            before: change.before,
            after: change.after,
            ..Self::new(ChangeAction::Set, kind, &name)
        };
        crate::difference::difference(before, after)
            .into_iter()
            .map(set)
            .collect()
    }
}
