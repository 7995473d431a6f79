//! What a daemon that stops leaves to the next one, so that nobody sees that there was a restart: the queues of its TAP devices, in
//! which frames wait meanwhile; the sockets that it sent by, since frames would wait for the end of each; and a note in the run directory of what it has counted and learned.
//!
//! The queues come as descriptors ([`vswitch_linux::inherit`]): over an exec of the same process, or by way of systemd. Whose they are is
//! asked of the kernel, not told by a name, so none is taken for another's. Neither is needed: without a note a daemon begins to count and to
//! learn anew, and a queue that nobody has left is opened.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use vswitch_api::view::PortCounters;
use vswitch_api::{Mac, MirrorName, PortName};

use super::{Inner, shut};
use crate::fastpath::Counted;
use crate::files;
use crate::port::BackEnd;
use vswitch_datapath::acl::Acl;
use vswitch_datapath::{EntryKind, FdbRecord, PortId, PortRef, SwitchId};
use vswitch_linux::packet::{self, PacketSocket};
use vswitch_linux::{KernelError, NetNs, NetNsId, tap};

/// Stations that are noted; those of more are learned anew.
const MAX_STATIONS: usize = 1 << 17;

/// The note.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Note {
    /// Which boot, since its clock and counters are of that.
    boot_id: String,
    /// Second of the monotonic clock at which it was written.
    at: u64,
    ports: BTreeMap<PortName, HandedPort>,
    /// Frames and bytes that each has copied.
    mirrors: BTreeMap<MirrorName, (u64, u64)>,
}

/// What is known of one port. The daemon before may have noted more.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct HandedPort {
    pub counters: PortCounters,
    /// What its slot of the fast path had counted, of which the kernel counts on.
    pub fast: Option<Counted>,
    /// What its shadow TAP had dropped, which counts on too.
    pub dropped: Option<u64>,
    /// Hits of the rules for what comes in, and for what goes out.
    pub hits: (Vec<u64>, Vec<u64>),
    stations: Vec<Station>,
}

impl HandedPort {
    /// Whether a station was known behind it.
    pub fn knows(&self, mac: Mac) -> bool {
        self.stations.iter().any(|station| station.mac == mac)
    }
}

/// A station that was learned behind it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Station {
    vlan: u16,
    mac: Mac,
    /// Seconds since it was last seen.
    age: u32,
    sticky: bool,
}

/// What was left for this daemon, as long as it brings its ports back.
#[derive(Debug)]
pub(super) struct Handed {
    path: PathBuf,
    note: Mutex<Note>,
    /// By name of the device.
    queues: Mutex<HashMap<(NetNsId, String), Vec<OwnedFd>>>,
    /// By index of the interface.
    senders: Mutex<HashMap<(NetNsId, u32), OwnedFd>>,
}

impl Handed {
    /// What is there: the note, unless it is of another boot or can't be understood, and those of the descriptors that are queues or senders.
    pub fn find(run_dir: &Path, boot_id: &str, left: Vec<OwnedFd>) -> Self {
        let path = path(run_dir);
        let note = read(&path, boot_id).unwrap_or_else(|error| {
            tracing::warn!("counters and stations begin anew, what the daemon before has left can't be used: {error}");
            Note::default()
        });
        let (mut queues, mut senders) = (HashMap::<_, Vec<_>>::new(), HashMap::new());
        for fd in left {
            // Of a device that is gone, or neither: it is closed.
            if let Ok(device) = device_of(&fd) {
                queues.entry(device).or_default().push(fd);
            } else if let Ok(interface) = interface_of(&fd) {
                senders.insert(interface, fd);
            }
        }
        Self {
            path,
            note: Mutex::new(note),
            queues: Mutex::new(queues),
            senders: Mutex::new(senders),
        }
    }

    /// The queues of a TAP device that were left, to be used or closed.
    pub fn queues_of(&self, netns: &NetNs, name: &str) -> Vec<OwnedFd> {
        let left = lock(&self.queues).remove(&(netns.id(), name.to_owned()));
        left.unwrap_or_default()
    }

    /// The socket that was left to send by an interface.
    pub fn sender_of(&self, netns: &NetNs, index: u32) -> Option<PacketSocket> {
        let left = lock(&self.senders).remove(&(netns.id(), index));
        left.map(PacketSocket::kept)
    }

    /// Something of what is known of a port.
    pub fn of_port<T>(&self, name: &PortName, read: impl FnOnce(&HandedPort) -> Option<T>) -> Option<T> {
        lock(&self.note).ports.get(name).and_then(read)
    }

    /// All that is known of a port, which is there now.
    pub fn take(&self, name: &PortName) -> HandedPort {
        lock(&self.note).ports.remove(name).unwrap_or_default()
    }

    /// What a mirror has copied.
    pub fn mirror(&self, name: &MirrorName) -> (u64, u64) {
        lock(&self.note).mirrors.remove(name).unwrap_or_default()
    }

    /// All ports are there that could be: what nobody took is not needed any more.
    pub fn end(&self) {
        *lock(&self.note) = Note::default();
        lock(&self.queues).clear();
        let senders = std::mem::take(&mut *lock(&self.senders));
        if !senders.is_empty() {
            // Each takes its time.
            std::thread::spawn(move || drop(senders));
        }
        if let Err(error) = files::remove_note(&self.path) {
            tracing::warn!("{} can't be removed: {error}", self.path.display());
        }
    }

    /// What nobody took yet, for the daemon after this one.
    fn rest(&self) -> (Note, Vec<OwnedFd>) {
        let queues = std::mem::take(&mut *lock(&self.queues));
        let senders = std::mem::take(&mut *lock(&self.senders));
        let left = queues.into_values().flatten().chain(senders.into_values());
        (lock(&self.note).clone(), left.collect())
    }
}

/// Where the note is.
fn path(run_dir: &Path) -> PathBuf {
    run_dir.join("handover.json")
}

/// Removes a note that nobody is to read.
pub(super) fn forget(run_dir: &Path) {
    let _ = files::remove_note(&path(run_dir));
}

fn read(path: &Path, boot_id: &str) -> io::Result<Note> {
    let note: Option<Note> = files::read_note(path)?;
    let Some(mut note) = note.filter(|note| note.boot_id == boot_id) else {
        return Ok(Note::default());
    };
    let passed = u32::try_from(now().saturating_sub(note.at)).unwrap_or(u32::MAX);
    let stations = note.ports.values_mut().flat_map(|port| &mut port.stations);
    stations.for_each(|station| station.age = station.age.saturating_add(passed));
    Ok(note)
}

fn device_of(queue: &OwnedFd) -> Result<(NetNsId, String), KernelError> {
    let (netns, name) = tap::place(queue).map_err(|error| KernelError::new("look where a queue leads", error))?;
    let netns = NetNs::from_fd(netns, "the namespace of a queue")?;
    Ok((netns.id(), name))
}

fn interface_of(sender: &OwnedFd) -> Result<(NetNsId, u32), KernelError> {
    let failed = |error| KernelError::new("look where a socket leads", error);
    let (netns, index) = packet::sends_by(sender).map_err(failed)?;
    let netns = NetNs::from_fd(netns, "the namespace of a socket")?;
    Ok((netns.id(), index))
}

/// Second of the clock that no one sets.
fn now() -> u64 {
    shut::now().as_secs()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What is done under it can't fail half-way.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Inner {
    /// Takes all ports out of the datapath and leaves them to the next daemon: gives their queues and senders. Nothing of the kernel's changes.
    pub(super) fn hand_over(&mut self) -> Vec<OwnedFd> {
        let (mut note, mut queues) = self.handed.rest();
        note.boot_id.clone_from(&self.host.boot_id);
        note.at = now();
        let mut stations = self.stations_by_port();
        let mut left = HashMap::new();
        for (name, live) in &mut self.live.ports {
            let Some(id) = live.id.take() else {
                // It is missing, and counts on when it is back.
                let counters = live.before.counters().clone();
                note.ports.insert(
                    name.clone(),
                    HandedPort {
                        counters,
                        ..HandedPort::default()
                    },
                );
                continue;
            };
            left.insert(id, name.clone());
            let io = self.datapath.io::<BackEnd>(id);
            match io.as_ref().map_or(Ok(Vec::new()), |io| io.keep()) {
                Ok(its) => queues.extend(its),
                Err(error) => {
                    tracing::warn!(port = %name, "port {name}: frames are lost until the next daemon has it: {error}")
                }
            }
            let mut port = HandedPort {
                fast: io.as_ref().and_then(|io| io.fast()).map(|fast| fast.counted()),
                dropped: io
                    .as_ref()
                    .and_then(|io| io.shadow())
                    .map(|shadow| shadow.noted_dropped()),
                stations: stations.remove(&id.id).unwrap_or_default(),
                ..HandedPort::default()
            };
            // Those of classes go with what delays the frames, which ends first.
            let counters = self.datapath.counters(id);
            (port.counters.impair.rx_classes, port.counters.impair.tx_classes) =
                (counters.impair.rx_classes, counters.impair.tx_classes);
            note.ports.insert(name.clone(), port);
        }
        for (name, live) in &self.live.mirrors {
            note.mirrors.insert(name.clone(), live.total());
        }
        let ids: Vec<_> = left.keys().copied().collect();
        for entry in self.datapath.remove_ports(&ids) {
            let Some(name) = left.get(&entry.port_ref()) else {
                continue;
            };
            let (Some(port), Some(live)) = (note.ports.get_mut(name), self.live.ports.get(name)) else {
                continue;
            };
            let classes = (port.counters.impair.rx_classes, port.counters.impair.tx_classes);
            port.counters = entry.counted();
            (port.counters.impair.rx_classes, port.counters.impair.tx_classes) = classes;
            live.before.add_to(&mut port.counters);
            let hits = |acl: &Option<Arc<Acl>>| acl.as_ref().map(|acl| acl.hits()).unwrap_or_default();
            port.hits = (hits(&entry.policy().acl_in), hits(&entry.policy().acl_out));
        }
        if self.store.state.lab.ports.is_empty() {
            forget(&self.host.run_dir);
        } else if let Err(error) = files::replace_note(&path(&self.host.run_dir), &note) {
            tracing::warn!("counters and stations begin anew with the next start, they can't be noted: {error}");
        }
        queues
    }

    fn stations_by_port(&self) -> HashMap<PortId, Vec<Station>> {
        let mut stations = HashMap::<_, Vec<_>>::new();
        let learned = self.live.switches.values().flat_map(|id| self.datapath.fdb(*id));
        let learned = learned.filter_map(|record| Some((record.age_secs?, record)));
        for (age, record) in learned.take(MAX_STATIONS) {
            stations.entry(record.port).or_default().push(Station {
                vlan: record.vlan,
                mac: record.mac,
                age,
                sticky: record.kind == EntryKind::Sticky,
            });
        }
        stations
    }

    /// What the daemon before knew of a port that is in the datapath now: stations and hits of rules.
    pub(super) fn go_on_with(&self, switch: SwitchId, id: PortRef, handed: &HandedPort) {
        let snapshot = self.datapath.snapshot();
        let Some(policy) = snapshot.find(id).map(|port| port.policy()) else {
            return;
        };
        // Settings may have been changed in the state file meanwhile.
        let may_be_there = |station: &&Station| {
            (!station.sticky || policy.learning.sticky) && (station.vlan == 0 || policy.vlan.is_member(station.vlan))
        };
        for station in handed.stations.iter().filter(may_be_there) {
            // One for which there is no room is learned when it sends.
            self.datapath.fdb_restore(
                switch,
                &FdbRecord {
                    mac: station.mac,
                    vlan: station.vlan,
                    port: id.id,
                    age_secs: Some(station.age),
                    kind: if station.sticky {
                        EntryKind::Sticky
                    } else {
                        EntryKind::Learned
                    },
                },
            );
        }
        for (acl, hits) in [(&policy.acl_in, &handed.hits.0), (&policy.acl_out, &handed.hits.1)] {
            if let Some(acl) = acl {
                acl.add_hits(hits);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn note() -> Note {
        let port = HandedPort {
            stations: vec![Station {
                vlan: 7,
                mac: Mac([2, 0, 0, 0, 0, 1]),
                age: 5,
                sticky: true,
            }],
            ..HandedPort::default()
        };
        Note {
            boot_id: "this".to_owned(),
            at: now().saturating_sub(10),
            ports: [("red".parse().unwrap(), port)].into(),
            mirrors: [("m".parse().unwrap(), (3, 4))].into(),
        }
    }

    #[test]
    fn stations_have_aged_since_the_note_was_written() {
        let dir = tempfile::tempdir().unwrap();
        files::replace_note(&path(dir.path()), &note()).unwrap();
        let handed = Handed::find(dir.path(), "this", Vec::new());
        let age = |handed: &Handed| handed.of_port(&"red".parse().unwrap(), |port| Some(port.stations[0].age));
        assert!((15..20).contains(&age(&handed).unwrap()));
        assert_eq!(handed.mirror(&"m".parse().unwrap()), (3, 4));
        // Until all is there the note stays: a daemon that is killed before has it once more.
        assert!(path(dir.path()).exists());
        // One that was killed as it wrote the next.
        fs::write(dir.path().join("handover.json.new"), "{").unwrap();
        handed.end();
        assert_eq!(age(&handed), None);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_note_of_another_boot_or_of_nobody_is_not_used() {
        let dir = tempfile::tempdir().unwrap();
        let found = |boot: &str| lock(&Handed::find(dir.path(), boot, Vec::new()).note).clone();
        assert_eq!(found("this"), Note::default());
        files::replace_note(&path(dir.path()), &note()).unwrap();
        assert_eq!(found("another"), Note::default());
        assert_eq!(found("this").ports.len(), 1);
        for text in [
            "",
            "{",
            "[]",
            "{\"boot_id\": \"this\", \"at\": 0, \"ports\": {}, \"mirrors\": {}, \"more\": 1}",
        ] {
            fs::write(path(dir.path()), text).unwrap();
            assert_eq!(found("this"), Note::default(), "{text}");
        }
    }

    #[test]
    fn a_descriptor_that_is_no_queue_is_closed() {
        let dir = tempfile::tempdir().unwrap();
        let (read, write) = nix::unistd::pipe().unwrap();
        let handed = Handed::find(dir.path(), "this", vec![write]);
        assert!(lock(&handed.queues).is_empty() && lock(&handed.senders).is_empty());
        assert_eq!(nix::unistd::read(&read, &mut [0]), Ok(0), "the other end is closed");
    }
}
