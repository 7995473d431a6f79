//! What the daemon and a supervisor tell each other, by files in the folder of the process.
//!
//! The daemon writes what is to run, the supervisor how it is. Who reads finds one of them whole or not at all.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use vswitch_api::command::DEFAULT_STOP_SECS;
use vswitch_api::{NsName, ProcessState, Ready, Restart};
use vswitch_linux::KernelError;
use vswitch_linux::process::Handle;

use crate::files;

/// The variable by which all that descends from a process can be told, whoever its parent is.
pub const VARIABLE: &str = "VSWITCH_PROCESS";
/// Where the daemon hears that there is something new, beside the folders of the processes.
pub const NEWS: &str = "news.sock";

/// Something that is to run as long as it is wanted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Unique. Those of the lab's commands have no `:`, all others do (`dnsmasq:main`); none has a `/`.
    pub name: String,
    /// Namespace that it runs in, with its files over those of /etc; none: the host's, as it is.
    pub namespace: Option<NsName>,
    /// The program and its arguments.
    pub argv: Vec<String>,
    /// Folder that it starts in.
    pub dir: PathBuf,
    /// Beside a `PATH` and little else.
    pub env: BTreeMap<String, String>,
    /// When it is started again.
    pub restart: Restart,
    /// By what it is known to be ready.
    pub ready: Option<Ready>,
    /// Seconds between SIGTERM and SIGKILL.
    pub stop_secs: u32,
}

impl Process {
    /// One that is started again whenever it ends.
    pub fn new(name: impl Into<String>, namespace: Option<NsName>, argv: Vec<String>) -> Self {
        Self {
            name: name.into(),
            namespace,
            argv,
            dir: "/".into(),
            env: BTreeMap::new(),
            restart: Restart::Always,
            ready: None,
            stop_secs: DEFAULT_STOP_SECS,
        }
    }
}

/// What a supervisor is to do. (In the file all keys stand side by side.)
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// Chosen anew for each supervisor.
    pub id: String,
    /// The boot of the kernel in which it was started.
    pub boot_id: String,
    /// What is to run.
    #[serde(flatten)]
    pub process: Process,
    /// What tells the namespace from others of the name: device and inode, and the cookie.
    pub netns: Option<(u64, u64, Option<u64>)>,
    /// Of what is to be over its namesakes in /etc.
    pub etc: Option<PathBuf>,
}

impl Spec {
    /// Whether a supervisor of the one does what one of the other would.
    pub fn is_like(&self, other: &Self) -> bool {
        let like = Self {
            id: other.id.clone(),
            ..self.clone()
        };
        like == *other
    }
}

/// How it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Note {
    /// That of the [`Spec`].
    pub id: String,
    /// The supervisor, with when it began: session of all that it starts.
    pub supervisor: (u32, u64),
    /// Where that number is the supervisor's: see [`numbers`]. None: a version that did not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub numbers: Option<String>,
    pub state: ProcessState,
    pub reason: Option<String>,
    /// It was ready once.
    pub was_ready: bool,
    /// The time for getting ready is over.
    pub overdue: bool,
    pub pid: Option<u32>,
    /// Milliseconds since the Unix epoch.
    pub since_ms: u64,
    pub restarts: u64,
    pub exit_code: Option<i32>,
    pub signal: Option<String>,
}

impl Note {
    /// The supervisor; none if it is gone.
    ///
    /// # Errors
    /// Want of descriptors.
    pub fn handle(&self) -> Result<Option<Handle>, KernelError> {
        match self.is_of_here() {
            true => Handle::open(self.supervisor.0, self.supervisor.1),
            false => Ok(None),
        }
    }

    /// Whether its supervisor has nothing to do any more.
    pub fn is_of_the_end(&self) -> bool {
        matches!(self.state, ProcessState::Ended | ProcessState::Failed)
    }

    /// Whether the number of the supervisor means something here: not in another boot, nor in another container.
    pub fn is_of_here(&self) -> bool {
        self.numbers.is_none() || self.numbers == numbers()
    }
}

/// Within what process ids tell processes apart: a boot, and a namespace of process ids in it.
pub fn numbers() -> Option<String> {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    let pids = fs::read_link("/proc/self/ns/pid").ok()?;
    Some(format!("{} {}", boot.trim(), pids.display()))
}

/// The folder of one process.
#[derive(Clone, Debug)]
pub struct Folder(PathBuf);

impl Folder {
    /// `all`: where the folders of all processes are.
    pub fn new(all: &Path, name: &str) -> Self {
        Self(all.join(name))
    }

    /// The folder itself.
    pub fn at(path: &Path) -> Self {
        Self(path.to_owned())
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    pub fn log(&self) -> PathBuf {
        self.0.join("log")
    }

    /// What the log had before it got too long.
    pub fn older_log(&self) -> PathBuf {
        self.0.join("log.older")
    }

    fn spec_file(&self) -> PathBuf {
        self.0.join("spec.json")
    }

    fn note_file(&self) -> PathBuf {
        self.0.join("note.json")
    }

    /// # Errors
    /// There is none, or what is there can't be read.
    pub fn spec(&self) -> io::Result<Spec> {
        read(&self.spec_file())
    }

    /// # Errors
    /// The file can't be written.
    pub fn write_spec(&self, spec: &Spec) -> io::Result<()> {
        files::replace_note(&self.spec_file(), spec)
    }

    /// The process is not to run any more: a supervisor that sees it ends it and itself.
    ///
    /// # Errors
    /// The file can't be removed.
    pub fn remove_spec(&self) -> io::Result<()> {
        match fs::remove_file(self.spec_file()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed,
        }
    }

    /// # Errors
    /// There is none, or what is there can't be read.
    pub fn note(&self) -> io::Result<Note> {
        read(&self.note_file())
    }

    /// # Errors
    /// The file can't be written.
    pub fn write_note(&self, note: &Note) -> io::Result<()> {
        files::replace_note(&self.note_file(), note)
    }

    /// Held by a supervisor as long as it lives. None: another has it.
    ///
    /// # Errors
    /// The file can't be made.
    pub fn lock(&self) -> io::Result<Option<Flock<File>>> {
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .open(self.0.join("lock"))?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => Ok(Some(lock)),
            Err((_, nix::errno::Errno::EWOULDBLOCK)) => Ok(None),
            Err((_, error)) => Err(error.into()),
        }
    }
}

fn read<T: DeserializeOwned>(path: &Path) -> io::Result<T> {
    serde_json::from_slice(&files::read_regular(path)?)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Supervisors outlive the daemon that started them: what they were told is read by the next one, of whatever version.
    #[test]
    fn the_file_has_all_keys_side_by_side_and_no_other() {
        let mut file = json!({
            "id": "0123", "boot_id": "a", "name": "web", "namespace": "red", "netns": [4, 5, 6], "etc": "/etc/netns/red",
            "argv": ["/bin/true"], "dir": "/", "env": {"A": "b"}, "restart": "always", "ready": null, "stop_secs": 10,
        });
        let spec: Spec = serde_json::from_value(file.clone()).unwrap();
        assert_eq!(spec.process.argv, ["/bin/true"]);
        assert_eq!(serde_json::to_value(&spec).unwrap(), file);
        file["newer"] = json!(1);
        serde_json::from_value::<Spec>(file).unwrap_err();
    }

    #[test]
    fn a_note_of_another_boot_leads_to_no_process() {
        let pid = std::process::id();
        let start = vswitch_linux::process::stat(pid).unwrap().start;
        // As an older version wrote it.
        let mut note: Note = serde_json::from_value(json!({
            "id": "0123", "supervisor": [pid, start], "state": "running", "reason": null, "was_ready": true, "overdue": false,
            "pid": null, "since_ms": 0, "restarts": 0, "exit_code": null, "signal": null,
        }))
        .unwrap();
        assert!(note.handle().unwrap().is_some());
        note.numbers = numbers();
        assert!(note.numbers.is_some() && note.handle().unwrap().is_some());
        note.numbers = Some("another boot".to_owned());
        assert!(note.handle().unwrap().is_none());
    }
}
