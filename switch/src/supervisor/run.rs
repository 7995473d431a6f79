//! Starting, waiting, starting again and ending.

use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::errno::Errno;
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe::Receiver;
use tokio::signal::unix::{self, SignalKind, signal};
use tokio::time::{Instant, interval, sleep, sleep_until, timeout};
use vswitch_api::{ProcessState, Restart};
use vswitch_linux::process::{self, Handle};

use super::notes::{Folder, NEWS, Note, Spec, VARIABLE};
use super::output::Log;
use super::ready::{Check, go_on};

/// What has ended is started again after this, then after twice that, and so on.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(64);
/// One that ran for so long has not ended at once.
const GOOD_FOR: Duration = Duration::from_secs(60);
/// How often it is looked whether the process is still wanted.
const WANTED_TICK: Duration = Duration::from_secs(2);
/// How often what does not end is killed: what forks on and on is faster than one look.
const KILLS: u32 = 500;
const BETWEEN_KILLS: Duration = Duration::from_millis(20);
/// For what is in the pipe when all who could write there are gone.
const LAST_WORDS: Duration = Duration::from_millis(500);
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// How a process has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Exit {
    Code(i32),
    Signal(Signal),
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(f, "ended with exit code {code}"),
            Self::Signal(signal) => write!(f, "was ended by {signal}"),
        }
    }
}

/// Why a run is over.
enum End {
    /// It is not wanted any more.
    Unwanted,
    /// It has ended by itself.
    Exit(Exit),
    /// It could not even be started.
    NotStarted(String),
}

pub(super) struct Supervisor {
    folder: Folder,
    spec: Spec,
    note: Note,
    log: Log,
    terminate: unix::Signal,
    children: unix::Signal,
    /// When it counts as not having got ready; none: it is ready, or there is no time for it.
    ready_until: Option<Instant>,
}

impl Supervisor {
    /// # Errors
    /// Signals can't be heard.
    pub fn new(folder: Folder, spec: Spec, note: Note, log: Log) -> io::Result<Self> {
        Ok(Self {
            folder,
            spec,
            note,
            log,
            terminate: signal(SignalKind::terminate())?,
            children: signal(SignalKind::child())?,
            ready_until: None,
        })
    }

    /// Until it is over.
    pub async fn supervise(mut self) {
        let mut pause = FIRST_PAUSE;
        loop {
            let began = Instant::now();
            let (failed, reason) = match self.run_once().await {
                End::Unwanted => {
                    self.log.say("stopped");
                    return self.tell(ProcessState::Ended, Some("it was stopped".to_owned()));
                }
                End::Exit(exit) => (exit != Exit::Code(0), format!("it {exit}")),
                End::NotStarted(cause) => (true, cause),
            };
            self.log.say(&reason);
            // It may be wanted to do something else at its end by now.
            let _ = self.is_wanted();
            let again = match self.spec.process.restart {
                Restart::No => false,
                Restart::OnFailure => failed,
                Restart::Always => true,
            };
            if !again {
                let state = if failed {
                    ProcessState::Failed
                } else {
                    ProcessState::Ended
                };
                return self.tell(state, Some(reason));
            }
            if began.elapsed() >= GOOD_FOR {
                pause = FIRST_PAUSE;
            }
            self.tell(ProcessState::Waiting, Some(reason));
            if self.unwanted_within(pause).await {
                return self.tell(ProcessState::Ended, Some("it was stopped".to_owned()));
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
            self.note.restarts += 1;
        }
    }

    fn tell(&mut self, state: ProcessState, reason: Option<String>) {
        self.note.state = state;
        self.note.reason = reason;
        self.note.was_ready |= state == ProcessState::Running;
        tell(&self.folder, &mut self.note);
    }

    /// Whether the daemon still wants what this one runs. When it is started again and how it is ended may have changed.
    fn is_wanted(&mut self) -> bool {
        match self.folder.spec() {
            Ok(spec) if spec.id == self.spec.id => {
                self.spec = spec;
                true
            }
            Ok(_) => false,
            Err(error) => error.kind() != io::ErrorKind::NotFound,
        }
    }

    async fn unwanted_within(&mut self, pause: Duration) -> bool {
        let until = Instant::now() + pause;
        let mut wanted = interval(WANTED_TICK);
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return true,
                _ = wanted.tick() => if !self.is_wanted() { return true },
                () = sleep_until(until) => return false,
            }
        }
    }

    fn environment(&self) -> Vec<(String, String)> {
        let own = [
            ("PATH", PATH.to_owned()),
            ("HOME", "/root".to_owned()),
            ("LANG", "C.UTF-8".to_owned()),
        ];
        let mut all: std::collections::BTreeMap<_, _> = own.map(|(name, value)| (name.to_owned(), value)).into();
        all.extend(self.spec.process.env.clone());
        all.insert(VARIABLE.to_owned(), self.spec.id.clone());
        all.into_iter().collect()
    }

    fn start(&self) -> Result<(u32, Receiver), String> {
        let Some((program, arguments)) = self.spec.process.argv.split_first() else {
            return Err("there is no program".to_owned());
        };
        let dir = &self.spec.process.dir;
        if !dir.is_dir() {
            return Err(format!("there is no folder {}", dir.display()));
        }
        let failed = |error: io::Error| format!("{program} can't be run: {error}");
        let (reader, writer) = io::pipe().map_err(failed)?;
        // Before there is a process that would have to be ended again.
        let output = Receiver::from_owned_fd(OwnedFd::from(reader)).map_err(failed)?;
        let mut command = Command::new(program);
        command
            .args(arguments)
            .current_dir(dir)
            .env_clear()
            .envs(self.environment());
        command
            .stdin(Stdio::null())
            .stdout(writer.try_clone().map_err(failed)?)
            .stderr(writer);
        let child = command.process_group(0).spawn().map_err(failed)?;
        Ok((child.id(), output))
    }

    async fn run_once(&mut self) -> End {
        if !self.is_wanted() {
            return End::Unwanted;
        }
        (self.note.exit_code, self.note.signal) = (None, None);
        let (pid, mut output) = match self.start() {
            Ok(started) => started,
            Err(cause) => return End::NotStarted(cause),
        };
        self.note.pid = Some(pid);
        self.log.say(&format!("started, process {pid}"));
        let ready = self.spec.process.ready.clone();
        let mut check = ready.as_ref().and_then(|ready| Check::new(ready, self.environment()));
        match &ready {
            None => self.tell(ProcessState::Running, None),
            Some(ready) => {
                let until = Instant::now() + Duration::from_secs(ready.within_secs.into());
                self.ready_until = self.ready_until.or(Some(until).filter(|_| !self.note.overdue));
                self.tell(ProcessState::Starting, None);
            }
        }
        let mut wanted = interval(WANTED_TICK);
        let mut buffer = vec![0; 16 * 1024];
        let mut is_open = true;
        let end = loop {
            let overdue = self.ready_until;
            tokio::select! {
                _ = self.terminate.recv() => break End::Unwanted,
                _ = wanted.tick() => if !self.is_wanted() { break End::Unwanted },
                _ = self.children.recv() => {
                    let mut over = None;
                    for (ended, exit) in reap().0 {
                        if ended == pid {
                            over = Some(exit);
                        } else if check.as_mut().is_some_and(|check| check.ended(ended, exit)) {
                            check = None;
                            self.is_ready();
                        }
                    }
                    if let Some(exit) = over {
                        break End::Exit(exit);
                    }
                }
                read = output.read(&mut buffer), if is_open => match read {
                    Ok(0) | Err(_) => is_open = false,
                    Ok(length) => self.log.add(&buffer[..length]),
                },
                is_ready = go_on(&mut check) => if is_ready {
                    check = None;
                    self.is_ready();
                },
                () = sleep_until(overdue.unwrap_or_else(Instant::now)), if overdue.is_some() => {
                    self.ready_until = None;
                    self.note.overdue = true;
                    let within = ready.as_ref().map_or(0, |ready| ready.within_secs);
                    let last = check.as_ref().map_or("it has not ended", |check| &check.last);
                    let reason = format!("it is not ready after {within} s: {last}");
                    self.log.say(&reason);
                    self.tell(ProcessState::Starting, Some(reason));
                }
            }
        };
        self.note.pid = None;
        if let End::Exit(exit) = end {
            match exit {
                Exit::Code(code) => self.note.exit_code = Some(code),
                Exit::Signal(signal) => self.note.signal = Some(signal.to_string()),
            }
            if exit == Exit::Code(0) && ready.is_some_and(|ready| ready.done) {
                self.ready_until = None;
                self.note.overdue = false;
            }
        }
        self.end_all(&mut output, &mut buffer).await;
        end
    }

    fn is_ready(&mut self) {
        self.ready_until = None;
        self.note.overdue = false;
        self.tell(ProcessState::Running, None);
    }

    /// Ends whatever there is left of the command: first it is asked to, then it is made to.
    async fn end_all(&mut self, output: &mut Receiver, buffer: &mut [u8]) {
        let until = Instant::now() + Duration::from_secs(self.spec.process.stop_secs.into());
        let mut is_open = true;
        signal_all(Signal::SIGTERM);
        while !reap().1 {
            tokio::select! {
                _ = self.children.recv() => {}
                read = output.read(buffer), if is_open => match read {
                    Ok(0) | Err(_) => is_open = false,
                    Ok(length) => self.log.add(&buffer[..length]),
                },
                () = sleep_until(until) => {
                    self.kill_all().await;
                    break;
                }
            }
        }
        let rest = async {
            while let Ok(length @ 1..) = output.read(buffer).await {
                self.log.add(&buffer[..length]);
            }
        };
        // What is out of reach may hold the pipe open.
        let _ = timeout(LAST_WORDS, rest).await;
    }

    async fn kill_all(&mut self) {
        let left = process::descendants(std::process::id());
        let pids: Vec<_> = left
            .iter()
            .filter(|stat| !stat.zombie)
            .map(|stat| stat.pid.to_string())
            .collect();
        self.log.say(&format!(
            "killed, as it did not end in time: process {}",
            pids.join(", ")
        ));
        for _ in 0..KILLS {
            signal_all(Signal::SIGKILL);
            if reap().1 {
                return;
            }
            sleep(BETWEEN_KILLS).await;
        }
        self.log.say("something of it can't be killed");
    }
}

/// Asks how children have ended; also whether there is none left.
fn reap() -> (Vec<(u32, Exit)>, bool) {
    let mut ended = Vec::new();
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(pid, code)) => ended.push((pid.as_raw() as u32, Exit::Code(code))),
            Ok(WaitStatus::Signaled(pid, signal, _)) => ended.push((pid.as_raw() as u32, Exit::Signal(signal))),
            Ok(WaitStatus::StillAlive) => return (ended, false),
            Ok(_) | Err(Errno::EINTR) => {}
            Err(_) => return (ended, true),
        }
    }
}

fn signal_all(signal: Signal) {
    for stat in process::descendants(std::process::id()) {
        // What has gone needs none, and what is another's by now does not descend from here.
        if let Ok(Some(process)) = Handle::open(stat.pid, stat.start) {
            let _ = process.signal(signal);
        }
    }
}

/// Writes the note, and says that there is one.
pub(super) fn tell(folder: &Folder, note: &mut Note) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    note.since_ms = now.map_or(0, |now| now.as_millis() as u64);
    // Without its folder it is not wanted, which is looked after elsewhere; the daemon that is away looks when it is back.
    let _ = folder.write_note(note);
    let _ = send_news(folder.path());
}

fn send_news(folder: &Path) -> io::Result<()> {
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    let (Some(all), Some(name)) = (folder.parent(), folder.file_name()) else {
        return Ok(());
    };
    socket.send_to(name.as_encoded_bytes(), all.join(NEWS))?;
    Ok(())
}
