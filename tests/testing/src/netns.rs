//! Running code and commands inside a namespace.

use std::fs::File;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::thread;

use nix::sched::{CloneFlags, setns};

use crate::daemon;

/// Where an interface lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// The namespace in which the daemon was started: the "host" of the lab.
    Home,
    /// A namespace bound to a file.
    File(PathBuf),
}

impl Place {
    /// The namespace that `ip netns` knows by this name.
    pub fn named(name: &str) -> Self {
        Self::File(Path::new("/run/netns").join(name))
    }

    /// The daemon's own namespace, where the near ends of its veth pairs are.
    pub fn daemons_own() -> Self {
        Self::File("/run/vswitch/netns".into())
    }

    /// Runs `f` in this namespace. Sockets opened by it stay there and can be used from anywhere.
    pub fn run<T: Send>(&self, f: impl FnOnce() -> T + Send) -> T {
        let path = match self {
            Self::Home => return f(),
            Self::File(path) => path,
        };
        let file = File::open(path).unwrap_or_else(|e| panic!("namespace {}: {e}", path.display()));
        // A thread of its own, so that there is nothing to put back.
        thread::scope(|scope| {
            let thread = scope.spawn(move || {
                setns(file, CloneFlags::CLONE_NEWNET).unwrap();
                f()
            });
            thread.join().unwrap_or_else(|panic| resume_unwind(panic))
        })
    }

    /// Runs a command line in this namespace; words are separated by spaces.
    pub fn output(&self, line: &str) -> Output {
        self.run(|| {
            let mut words = line.split_whitespace();
            let program = words.next().unwrap();
            let mut command = daemon::command(program);
            command.args(words).stdin(Stdio::null());
            command
                .output()
                .unwrap_or_else(|e| panic!("{program}: {e}; is it installed?"))
        })
    }

    /// The same for a command that must succeed; gives its standard output.
    #[track_caller]
    pub fn run_ok(&self, line: &str) -> String {
        let output = self.output(line);
        assert!(
            output.status.success(),
            "`{line}` in {self:?}: {}\n{}{}",
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap()
    }
}

/// Runs a command line in the lab's home namespace; it must succeed. Gives its standard output.
#[track_caller]
pub fn run(line: &str) -> String {
    Place::Home.run_ok(line)
}
