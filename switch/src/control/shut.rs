//! Which ports are shut, by the loop guard or by a limit, whatever becomes of their interfaces and of the daemon meanwhile: whom it shuts
//! out must not open a port by taking his own interface away, nor by a daemon that ends. So each change is noted in the run directory.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};
use vswitch_api::PortName;
use vswitch_api::view::PortState;

use crate::files;

/// Why a port is shut.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Shut {
    pub reason: String,
    /// When it opens, by the monotonic clock; none: when somebody opens it.
    pub until: Option<Duration>,
    /// Where a loop was found, and is looked for when the port is to be opened again.
    pub looped_in: Option<u16>,
    /// The port that leads to the same place, and carries what this one does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub other: Option<PortName>,
    /// When it was looked for; a daemon that finds the note looks itself.
    #[serde(skip)]
    pub tried: Option<Duration>,
}

/// How long before its time a port is put on trial.
const TRIAL: Duration = Duration::from_secs(1);
/// How long a probe may take to come back before the port is opened.
const ANSWER: Duration = Duration::from_millis(500);

/// The note.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Note {
    /// Which boot, since its clock is of that.
    boot_id: String,
    ports: BTreeMap<PortName, Shut>,
}

/// All ports that are shut.
#[derive(Debug)]
pub(super) struct ShutPorts {
    path: PathBuf,
    note: Note,
}

impl ShutPorts {
    /// Those that the daemon before had shut, if `goes_on` for them.
    pub fn find(run_dir: &Path, boot_id: &str, goes_on: impl Fn(&PortName) -> bool) -> Self {
        let path = run_dir.join("shut.json");
        let note: Option<Note> = files::read_note(&path).unwrap_or_else(|error| {
            tracing::warn!("ports that were shut are open again, the note of them can't be used: {error}");
            None
        });
        let of_this_boot = note.filter(|note| note.boot_id == boot_id);
        let mut shut = Self {
            path,
            note: Note {
                boot_id: boot_id.to_owned(),
                ports: of_this_boot.map(|note| note.ports).unwrap_or_default(),
            },
        };
        shut.retain(goes_on);
        shut
    }

    /// How many they are.
    pub fn len(&self) -> usize {
        self.note.ports.len()
    }

    pub fn contains(&self, name: &PortName) -> bool {
        self.note.ports.contains_key(name)
    }

    pub fn insert(&mut self, name: PortName, shut: Shut) {
        self.note.ports.insert(name, shut);
        self.write();
    }

    pub fn remove(&mut self, name: &PortName) -> Option<Shut> {
        let removed = self.note.ports.remove(name)?;
        self.write();
        Some(removed)
    }

    pub fn retain(&mut self, stays: impl Fn(&PortName) -> bool) {
        let before = self.note.ports.len();
        self.note.ports.retain(|name, _| stays(name));
        if self.note.ports.len() != before {
            self.write();
        }
    }

    /// Puts those on trial whose time comes soon: they, and the VLANs in which a loop was found.
    pub fn begin_trials(&mut self, now: Duration) -> Vec<(PortName, u16)> {
        let begin = |(name, shut): (&PortName, &mut Shut)| {
            let is_near = shut.until.is_some_and(|until| until.saturating_sub(TRIAL) <= now);
            let vlan = shut.looped_in.filter(|_| is_near && shut.tried.is_none())?;
            shut.tried = Some(now);
            Some((name.clone(), vlan))
        };
        self.note.ports.iter_mut().filter_map(begin).collect()
    }

    /// Where the port that leads to the same place carries nothing any more this one may be needed: it is put on trial.
    pub fn other_way_ended(&mut self, has_ended: impl Fn(&PortName) -> bool) {
        let mut is_changed = false;
        for shut in self.note.ports.values_mut() {
            if shut.tried.is_none() && shut.until.is_some() && shut.other.as_ref().is_some_and(&has_ended) {
                (shut.until, shut.other) = (Some(now()), None);
                is_changed = true;
            }
        }
        if is_changed {
            self.write();
        }
    }

    /// Whether a loop that is found now is one that was looked for.
    pub fn is_on_trial(&self, name: &PortName) -> bool {
        self.note.ports.get(name).is_some_and(|shut| shut.tried.is_some())
    }

    /// Those whose time has come, and whose trial found nothing.
    pub fn due(&self, now: Duration) -> impl Iterator<Item = &PortName> {
        let is_due = move |shut: &Shut| {
            let is_tried = shut.tried.is_some_and(|tried| tried + ANSWER <= now);
            is_tried && shut.until.is_some_and(|until| until <= now)
        };
        let ports = self.note.ports.iter();
        ports.filter(move |(_, shut)| is_due(shut)).map(|(name, _)| name)
    }

    /// The state of a port, which is another one if it is shut, and its reason.
    pub fn or_shut(&self, name: &PortName, state: PortState, reason: Option<String>) -> (PortState, Option<String>) {
        match self.note.ports.get(name) {
            Some(shut) if matches!(state, PortState::Up | PortState::NoCarrier | PortState::Shut) => {
                (PortState::Shut, Some(shut.reason.clone()))
            }
            _ => (state, reason),
        }
    }

    /// Whether the note is there, if there is something to be noted.
    pub fn is_noted(&self) -> bool {
        self.note.ports.is_empty() || self.path.exists()
    }

    /// Writes the note.
    pub fn note(&self) -> io::Result<()> {
        if self.note.ports.is_empty() {
            files::remove_note(&self.path)
        } else {
            files::replace_note(&self.path, &self.note)
        }
    }

    fn write(&self) {
        if let Err(error) = self.note() {
            tracing::warn!(
                "{}: should the daemon end, ports that are shut are open then: {error}",
                self.path.display()
            );
        }
    }
}

/// The time of the clock that no one sets.
pub(super) fn now() -> Duration {
    // It is there on each Linux.
    clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(Duration::ZERO, Duration::from)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn name(name: &str) -> PortName {
        name.parse().unwrap()
    }

    fn shut(until: Option<Duration>) -> Shut {
        Shut {
            reason: "a loop".to_owned(),
            until,
            looped_in: Some(7),
            other: None,
            tried: None,
        }
    }

    #[test]
    fn who_is_shut_is_so_for_the_next_daemon_of_this_boot() {
        let dir = tempfile::tempdir().unwrap();
        let find = |boot: &str| ShutPorts::find(dir.path(), boot, |port| port.as_str() != "down");
        let mut ports = find("this");
        ports.insert(name("red"), shut(None));
        ports.insert(name("blue"), shut(Some(now())));
        ports.insert(name("down"), shut(None));
        let mut next = find("this");
        assert_eq!(next.note.ports.get(&name("red")), Some(&shut(None)));
        assert!(!next.contains(&name("down")));
        let (now, later) = (now(), now() + ANSWER);
        assert_eq!(next.due(later).count(), 0, "nobody has looked for the loop");
        assert_eq!(next.begin_trials(now), [(name("blue"), 7)]);
        assert!(next.begin_trials(later).is_empty() && next.is_on_trial(&name("blue")));
        assert_eq!(next.due(now).count(), 0, "the probe is under way");
        assert_eq!(next.due(later).collect::<Vec<_>>(), [&name("blue")]);
        ports.retain(|port| port.as_str() == "red");
        assert!(find("this").contains(&name("red")) && !find("this").contains(&name("blue")));
        assert!(find("another").note.ports.is_empty());
        assert_eq!(ports.remove(&name("red")), Some(shut(None)));
        assert!(!dir.path().join("shut.json").exists(), "nothing is left behind");
    }

    #[test]
    fn a_port_is_tried_at_once_when_the_other_way_has_ended() {
        let dir = tempfile::tempdir().unwrap();
        let mut ports = ShutPorts::find(dir.path(), "this", |_| true);
        let later = now() + Duration::from_secs(300);
        let of_red = Shut {
            other: Some(name("red")),
            ..shut(Some(later))
        };
        ports.insert(name("blue"), of_red);
        ports.insert(name("green"), shut(None));
        ports.other_way_ended(|port| port.as_str() == "green");
        assert!(ports.begin_trials(now()).is_empty());
        ports.other_way_ended(|port| port.as_str() == "red");
        assert_eq!(ports.begin_trials(now()), [(name("blue"), 7)]);
        assert_eq!(ports.due(now() + ANSWER).collect::<Vec<_>>(), [&name("blue")]);
    }

    #[test]
    fn a_note_that_says_nothing_shuts_nobody() {
        let dir = tempfile::tempdir().unwrap();
        for text in ["", "[]", "{\"boot_id\": \"this\", \"ports\": {\"red\": 1}}"] {
            fs::write(dir.path().join("shut.json"), text).unwrap();
            assert!(ShutPorts::find(dir.path(), "this", |_| true).note.ports.is_empty());
        }
    }
}
