//! What there is of processes at the moment, for all who ask.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::net::UnixDatagram;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use vswitch_api::lab::Description;
use vswitch_api::{ApiError, ErrorCode, EventKind, ProcessState, ProcessView};
use vswitch_linux::process::{self, Handle};

use super::super::events::Events;
use super::{Process, object};
use crate::supervisor::notes::{Folder, NEWS, Note, Spec};
use crate::supervisor::output::tail;

/// Lines of a log that an error has.
const LINES_OF_ERROR: usize = 10;
const BYTES_OF_ERROR: usize = 2000;
/// A supervisor that somebody has ended is started again after this, then after twice that, and so on.
pub(super) const FIRST_WAIT: Duration = Duration::from_secs(1);
pub(super) const LONGEST_WAIT: Duration = Duration::from_secs(64);

/// All of them.
#[derive(Debug)]
pub(in super::super) struct Processes {
    /// Of all folders.
    dir: PathBuf,
    live: Mutex<BTreeMap<String, Live>>,
    events: Arc<Events>,
    /// Something is told of one of them.
    pub(super) changed: Notify,
    /// So many were ended without the lock of an edit.
    endings: AtomicU64,
    news: Mutex<Option<JoinHandle<()>>>,
}

/// One of them.
#[derive(Debug)]
pub(super) struct Live {
    pub process: Process,
    /// None: its namespace is not there.
    pub spec: Option<Spec>,
    /// What its supervisor told last.
    pub note: Note,
    /// The supervisor; none when it is over.
    pub handle: Option<Arc<Handle>>,
    /// When a supervisor is started again, and what the next one waits.
    pub again: Option<Instant>,
    pub wait: Duration,
    /// What it was is still being ended, without the lock of an edit; whoever does that knows by the number whether it is still his. Or it was not
    /// looked at yet since the daemon has started.
    pub ending: Option<u64>,
}

impl Live {
    pub fn missing(process: Process, reason: String) -> Self {
        let note = Note {
            state: ProcessState::Missing,
            reason: Some(reason),
            since_ms: now_ms(),
            ..Note::default()
        };
        Self {
            process,
            spec: None,
            note,
            handle: None,
            again: None,
            wait: FIRST_WAIT,
            ending: None,
        }
    }

    /// Whether it is over and done with, or failed for good.
    pub fn is_over(&self) -> bool {
        self.handle.is_none() && self.note.is_of_the_end()
    }
}

impl Processes {
    pub fn new(run_dir: &Path, events: Arc<Events>) -> Self {
        // Supervisors start in another folder.
        let run_dir = fs::canonicalize(run_dir).unwrap_or_else(|_| run_dir.to_owned());
        Self {
            dir: run_dir.join("processes"),
            live: Mutex::default(),
            events,
            changed: Notify::new(),
            endings: AtomicU64::new(0),
            news: Mutex::default(),
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Live>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A number for what is about to be ended without the lock of an edit.
    pub(super) fn next_ending(&self) -> u64 {
        self.endings.fetch_add(1, Ordering::Relaxed)
    }

    pub(super) fn folder(&self, name: &str) -> Folder {
        Folder::new(&self.dir, name)
    }

    /// Those that are to run are told of from the start, as their supervisors told last, though each is looked at when the lab is back.
    pub(in super::super) fn expect(&self, wanted: Vec<Process>) {
        let mut all = self.lock();
        for process in wanted {
            let name = process.name.clone();
            let told = self.folder(&name).note().ok().filter(Note::is_of_here);
            let mut live = Live::missing(process, "it is looked at when the lab is back".to_owned());
            live.note.state = ProcessState::Starting;
            live.note = told.unwrap_or(live.note);
            live.ending = Some(self.next_ending());
            all.insert(name, live);
        }
    }

    /// Whether one is at work, or about to be.
    pub(in super::super) fn runs(&self, name: &str) -> bool {
        // A supervisor that told of the end is about to go.
        self.lock().get(name).is_some_and(|live| !live.note.is_of_the_end())
    }

    /// Whether one has failed for good.
    pub(in super::super) fn has_failed(&self, name: &str) -> bool {
        let all = self.lock();
        let live = all.get(name);
        live.is_some_and(|live| live.is_over() && live.note.state == ProcessState::Failed)
    }

    /// Names of the folders that there are.
    pub(super) fn folders(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.dir).into_iter().flatten().flatten();
        let folders = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        folders
            .filter_map(|entry| entry.file_name().into_string().ok())
            .collect()
    }

    /// Makes the folder of one, and listens to what supervisors tell.
    ///
    /// # Errors
    /// The run directory can't be written.
    pub(super) fn make_folder(self: &Arc<Self>, name: &str) -> io::Result<Folder> {
        let folder = self.folder(name);
        DirBuilder::new().recursive(true).mode(0o700).create(folder.path())?;
        self.listen();
        Ok(folder)
    }

    /// Without news the notes are read every two seconds.
    pub(super) fn listen(self: &Arc<Self>) {
        let path = self.dir.join(NEWS);
        let mut news = self.news.lock().unwrap_or_else(PoisonError::into_inner);
        let is_alive = news.as_ref().is_some_and(|task| !task.is_finished());
        if is_alive && path.exists() {
            return;
        }
        if let Some(task) = news.take() {
            task.abort();
        }
        let _ = fs::remove_file(&path);
        match UnixDatagram::bind(&path) {
            Ok(socket) => *news = Some(tokio::spawn(hear(Arc::downgrade(self), socket))),
            Err(error) => tracing::debug!("news of processes come late: {}: {error}", path.display()),
        }
    }

    /// Nothing is to run: nothing is left of it.
    pub(super) fn leave_if_empty(&self) {
        if !self.lock().is_empty() || !self.folders().is_empty() {
            return;
        }
        if let Some(task) = self.news.lock().unwrap_or_else(PoisonError::into_inner).take() {
            task.abort();
        }
        let _ = fs::remove_file(self.dir.join(NEWS));
        let _ = fs::remove_dir(&self.dir);
    }

    /// Reads what the supervisor of one has told.
    pub(super) fn refresh(&self, name: &str) {
        let Ok(note) = self.folder(name).note() else { return };
        self.take_note(name, note);
    }

    /// Takes in what is told, unless it is of an older one.
    pub(super) fn take_note(&self, name: &str, note: Note) {
        let mut all = self.lock();
        let Some(live) = all.get_mut(name) else { return };
        // What one told whose supervisor was lost since is of no more use.
        let is_old = live.spec.as_ref().is_none_or(|spec| spec.id != note.id) || live.again.is_some();
        if is_old || live.note == note {
            return;
        }
        let is_news = (live.note.state, &live.note.reason) != (note.state, &note.reason);
        live.note = note;
        if is_news {
            self.say(name, &live.note);
        }
        drop(all);
        self.changed.notify_waiters();
    }

    /// The log and events tell how one is.
    pub(super) fn say(&self, name: &str, note: &Note) {
        let object = object(name);
        let reason = note.reason.as_deref().unwrap_or_default();
        match note.state {
            ProcessState::Failed => tracing::error!("{object} has failed: {reason}"),
            ProcessState::Waiting => tracing::warn!("{object} is started again soon: {reason}"),
            state if reason.is_empty() => tracing::info!("{object}: {state}"),
            state => tracing::info!("{object}: {state}: {reason}"),
        }
        let kind = EventKind::ProcessState {
            process: name.to_owned(),
            state: note.state,
            reason: note.reason.clone(),
        };
        self.events.emit(kind, Description::default());
    }

    /// What is not as it should be, a line each.
    pub fn troubles(&self) -> Vec<String> {
        let is_bad = |state| {
            matches!(
                state,
                ProcessState::Failed | ProcessState::Missing | ProcessState::Waiting
            )
        };
        let line = |view: ProcessView| {
            let reason = view.reason.map_or(String::new(), |reason| format!(": {reason}"));
            format!("{} is {}{reason}", object(&view.name), view.state)
        };
        self.list()
            .into_iter()
            .filter(|view| is_bad(view.state))
            .map(line)
            .collect()
    }

    /// How they all are.
    pub fn list(&self) -> Vec<ProcessView> {
        let now = now_ms();
        let view = |(name, live): (&String, &Live)| ProcessView {
            name: name.clone(),
            namespace: live.process.namespace.clone(),
            state: live.note.state,
            reason: live.note.reason.clone(),
            pid: live.note.pid,
            since_secs: now.saturating_sub(live.note.since_ms) / 1000,
            restarts: live.note.restarts,
            exit_code: live.note.exit_code,
            signal: live.note.signal.clone(),
            argv: live.process.argv.clone(),
        };
        self.lock().iter().map(view).collect()
    }

    /// The process of this name that runs, held so that no other gets what is meant for it.
    pub fn running(&self, name: &str) -> Option<Handle> {
        let (pid, supervisor) = {
            let all = self.lock();
            let note = &all.get(name)?.note;
            (note.pid?, note.supervisor.0)
        };
        // The id may be somebody else's by now; a session is named by its supervisor as long as one of it is there.
        let stat = process::stat(pid).filter(|stat| stat.session == supervisor)?;
        Handle::open(pid, stat.start).ok().flatten()
    }

    /// What to do about one that has failed and wrote nothing.
    fn next_step(&self, name: &str) -> String {
        let all = self.lock();
        let Some(live) = all.get(name) else {
            return "try again".to_owned();
        };
        let process = &live.process;
        if !process.dir.is_dir() {
            return "name a folder that is there with --dir, or make this one".to_owned();
        }
        let line = typed(&process.argv);
        match &process.namespace {
            Some(namespace) => format!("it wrote nothing; run it by hand: vswitchctl ns exec {namespace} {line}"),
            None => format!("it wrote nothing; run it by hand: {line}"),
        }
    }

    /// Why one is not what it was to be, with the last lines that it wrote.
    pub(super) fn failure(&self, name: &str, cause: &str) -> ApiError {
        let log = tail(&self.folder(name), BYTES_OF_ERROR).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        // Our own lines say what the cause says.
        let lines: Vec<_> = log.lines().filter(|line| !line.starts_with("--- ")).collect();
        let last = &lines[lines.len().saturating_sub(LINES_OF_ERROR)..];
        let error = ApiError::new(ErrorCode::Conflict, object(name), cause);
        match last {
            [] => error.hint(self.next_step(name)),
            lines => error.hint(format!("its last lines were: {}", lines.join(" | "))),
        }
    }
}

/// A command line as it is typed into a shell.
fn typed(argv: &[String]) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@%+".contains(c);
    let word = |word: &String| match !word.is_empty() && word.chars().all(plain) {
        true => word.clone(),
        false => format!("'{}'", word.replace('\'', "'\\''")),
    };
    argv.iter().map(word).collect::<Vec<_>>().join(" ")
}

impl Drop for Processes {
    fn drop(&mut self) {
        if let Some(task) = self.news.get_mut().unwrap_or_else(PoisonError::into_inner).take() {
            task.abort();
        }
    }
}

async fn hear(processes: std::sync::Weak<Processes>, socket: UnixDatagram) {
    let mut name = [0; 256];
    loop {
        let Ok(length) = socket.recv(&mut name).await else {
            return;
        };
        let Some(processes) = processes.upgrade() else { return };
        if let Ok(name) = std::str::from_utf8(&name[..length])
            && !name.contains('/')
        {
            processes.refresh(name);
        }
    }
}

pub(super) fn now_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0, |now| now.as_millis() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_to_run_is_told_of_before_it_is_looked_at() {
        let dir = tempfile::tempdir().unwrap();
        let processes = Processes::new(dir.path(), Arc::new(Events::new()));
        let folder = processes.folder("old");
        fs::create_dir_all(folder.path()).unwrap();
        let told = Note {
            state: ProcessState::Running,
            pid: Some(7),
            ..Note::default()
        };
        folder.write_note(&told).unwrap();
        let process = |name: &str| Process::new(name, None, vec!["sleep".to_owned()]);
        processes.expect(vec![process("new"), process("old")]);
        let all = processes.list();
        let shown: Vec<_> = all.iter().map(|one| (one.name.as_str(), one.state, one.pid)).collect();
        assert_eq!(
            shown,
            [
                ("new", ProcessState::Starting, None),
                ("old", ProcessState::Running, Some(7))
            ]
        );
        assert_eq!(processes.troubles(), [""; 0]);
    }
}
