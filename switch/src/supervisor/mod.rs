//! The small process beside each process that the daemon looks after.
//!
//! It is this program under another name of its own: the daemon starts it, and it outlives the daemon, as namespaces and interfaces do. It
//! alone enters the namespace, starts the command, reads what that writes, tells whether it is ready, starts it again and ends it. All that
//! descends from the command comes back to it (PR_SET_CHILD_SUBREAPER), so that nothing is left of it whatever forks.
//!
//! It lives as long as its folder says so: a lock there tells that it lives ([`notes`]), and without the daemon's file it ends itself with
//! all that it started. So a daemon that was killed at whatever point has a successor that finds it, or nothing that was to be found.

pub(crate) mod notes;
pub(crate) mod output;
mod ready;
mod run;

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use nix::fcntl::Flock;
use nix::sys::prctl::set_child_subreaper;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::unistd::{dup2_stdin, setsid};
use vswitch_api::ProcessState;
use vswitch_linux::{KernelError, NetNs, enter, process};

use notes::{Folder, Note, Spec};
use run::Supervisor;

/// The one argument by which this program is a supervisor; the folder and the id follow.
pub const ARGUMENT: &str = "--supervise";
/// Descriptors that a command may have if it asks for no more: the daemon itself takes as many as it gets.
const OPEN_FILES: u64 = 1024;

/// The folder and the id, if the program was started as a supervisor.
pub fn asked_for(arguments: impl IntoIterator<Item = OsString>) -> Option<(PathBuf, String)> {
    let mut arguments = arguments.into_iter().skip(1);
    if arguments.next()? != ARGUMENT {
        return None;
    }
    let (folder, id) = (arguments.next()?, arguments.next()?.into_string().ok()?);
    arguments.next().is_none().then(|| (folder.into(), id))
}

/// Looks after a process until it is over, or is not wanted any more. To be called while there is one thread. Standard input is the
/// namespace, if it has one of its own.
pub fn run(folder: &Path, id: &str) -> ExitCode {
    let folder = Folder::at(folder);
    let Some((spec, _lock)) = begin(&folder, id) else {
        return ExitCode::FAILURE;
    };
    let mut log = output::Log::open(&folder);
    let note = Note {
        id: id.to_owned(),
        supervisor: own_mark(),
        numbers: notes::numbers(),
        state: ProcessState::Starting,
        ..Note::default()
    };
    let started = prepare(&spec, &mut log)
        .map_err(|error| error.to_string())
        .and_then(|()| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.map_err(|error| error.to_string())
        });
    match started {
        Ok(runtime) => runtime.block_on(async {
            match Supervisor::new(folder.clone(), spec, note.clone(), log) {
                Ok(supervisor) => supervisor.supervise().await,
                Err(error) => give_up(&folder, note, &error.to_string()),
            }
        }),
        Err(error) => {
            log.say(&format!("it can't be started: {error}"));
            give_up(&folder, note, &error);
        }
    }
    ExitCode::SUCCESS
}

/// None: it is not wanted, or there is another one.
fn begin(folder: &Folder, id: &str) -> Option<(Spec, Flock<File>)> {
    // A session of its own, by which all that it starts can be told.
    let _ = setsid();
    let lock = folder.lock().ok()??;
    // With the lock, so that the daemon after the one that started this can't take it for one that never was.
    let spec = folder.spec().ok().filter(|spec| spec.id == id)?;
    Some((spec, lock))
}

fn own_mark() -> (u32, u64) {
    let pid = std::process::id();
    (pid, process::stat(pid).map_or(0, |stat| stat.start))
}

fn give_up(folder: &Folder, mut note: Note, cause: &str) {
    note.state = ProcessState::Failed;
    note.reason = Some(format!("it can't be started: {cause}"));
    run::tell(folder, &mut note);
}

fn prepare(spec: &Spec, log: &mut output::Log) -> Result<(), KernelError> {
    set_child_subreaper(true).map_err(|error| KernelError::new("become the parent of what is orphaned", error))?;
    if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE) {
        // A limit that can't be lowered is no reason not to run.
        let _ = setrlimit(Resource::RLIMIT_NOFILE, OPEN_FILES.min(hard), hard);
    }
    if let (Some(name), Some(etc)) = (&spec.process.namespace, &spec.etc) {
        let failed = |error: io::Error| KernelError::new(format!("find namespace {name}"), error);
        let file: OwnedFd = std::os::fd::AsFd::as_fd(&io::stdin())
            .try_clone_to_owned()
            .map_err(failed)?;
        let netns = NetNs::from_fd(file, format!("namespace {name}"))?;
        for lacking in enter(&netns, name.as_str(), etc)? {
            log.say(&lacking);
        }
    }
    let null = File::open("/dev/null").map_err(|error| KernelError::new("open /dev/null", error))?;
    dup2_stdin(null).map_err(|error| KernelError::new("put /dev/null in the place of standard input", error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_very_arguments_make_it_a_supervisor() {
        let arguments = |all: &[&str]| asked_for(all.iter().map(OsString::from));
        let found = Some((PathBuf::from("/run/x"), "17".to_owned()));
        assert_eq!(arguments(&["vswitchd", "--supervise", "/run/x", "17"]), found);
        for other in [
            &["vswitchd", "--supervise", "/run/x"][..],
            &["vswitchd", "--supervise", "/run/x", "17", "y"],
            &["vswitchd", "--reset", "/run/x", "17"],
            &["vswitchd"],
        ] {
            assert_eq!(arguments(other), None);
        }
    }
}
