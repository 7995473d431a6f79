//! The configuration file `vswitchd.toml`: what it may contain, its defaults, and errors that name file, line and key.

use std::fs::OpenOptions;
use std::io::{self, Read};
use std::net::SocketAddr;
use std::ops::Range;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use vswitch_api::error::{ApiError, ErrorCode};
use vswitch_api::number::in_base;
use vswitch_api::settings::settings;
use vswitch_api::strict;
use vswitch_api::{Port, Switch};

use crate::args::Args;
use crate::engines::Engines;
use crate::logging;
use crate::port::Engine;

/// Read if `--config` names no other; need not be there.
pub const DEFAULT_PATH: &str = "/etc/vswitch/vswitchd.toml";

/// Most workers that `workers = 0` starts. More help only with many busy ports, and each costs memory per port.
const MAX_AUTO_WORKERS: usize = 4;
/// Most workers that can be asked for: a TAP device has at most 256 queues (kernel, `MAX_TAP_QUEUES`), and each worker takes one.
const MAX_WORKERS: usize = 256;
/// Longest time that an idle worker may burn its core, in microseconds.
const MAX_SPIN_US: u32 = 1_000_000;
/// What lets all users connect to a socket.
const EVERYBODY: u32 = 0o006;
/// Default of `fdb_entries`: 256 MiB, 64 switches as they are by default.
const DEFAULT_FDB_ENTRIES: u64 = 1 << 22;
/// Default of `spin_us`; docs/decisions.md has the figures.
const DEFAULT_SPIN_US: u32 = 20;
/// Most bytes that the file may have: more than anybody writes, and soon read.
const MAX_BYTES: u64 = 1 << 20;

/// The whole file. Every key may be left out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The daemon and its files.
    pub daemon: Daemon,
    /// The log.
    pub log: Log,
    /// The threads that move frames.
    pub datapath: Datapath,
    /// What `/metrics` shows.
    pub metrics: Metrics,
    /// Where the engines are whose containers ports may be in.
    pub containers: Containers,
    /// What the daemon takes from itself.
    pub security: Security,
}

/// `[security]`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Security {
    /// Whether the daemon and its commands keep only the rights that are needed, and workers none.
    pub drop_rights: bool,
    /// Whether workers are held to the system calls that moving frames takes.
    pub seccomp: bool,
}

impl Default for Security {
    fn default() -> Self {
        Self {
            drop_rights: true,
            seccomp: true,
        }
    }
}

/// `[containers]`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Containers {
    /// Socket of Docker's API, as a path or as DOCKER_HOST has it.
    pub docker: String,
    /// Socket of Podman's API, likewise.
    pub podman: String,
}

impl Default for Containers {
    fn default() -> Self {
        Self {
            docker: "/run/docker.sock".into(),
            podman: "/run/podman/podman.sock".into(),
        }
    }
}

impl Containers {
    /// The engines at these sockets.
    pub fn engines(&self) -> Engines {
        Engines::new(socket_path(&self.docker).into(), socket_path(&self.podman).into())
    }
}

/// A unix socket may be written as a URL.
fn socket_path(text: &str) -> &str {
    text.strip_prefix("unix://").unwrap_or(text)
}

/// `[metrics]`
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Metrics {
    /// Settings, by their keys, that are labels of `vswitch_port_info` and `vswitch_switch_info`.
    pub labels: Vec<String>,
    /// Address where they are to be had over TCP; none: on the control socket alone.
    pub listen: Option<SocketAddr>,
    /// Names by which that address may be asked, besides `localhost` and addresses.
    pub hosts: Vec<String>,
}

/// `[daemon]`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Daemon {
    /// Control socket; none: `control.sock` in `run_dir`.
    pub socket: Option<PathBuf>,
    /// Permissions of the control socket.
    pub socket_mode: Mode,
    /// Group of the control socket; empty: the daemon's.
    pub socket_group: String,
    /// Group that may connect too, and only read; empty: none.
    pub read_group: String,
    /// Who may have commands run, and files written that they read.
    pub commands: MayRun,
    /// Lock, socket, own namespace; emptied by a reboot.
    pub run_dir: PathBuf,
    /// What has to survive a reboot.
    pub state_dir: PathBuf,
    /// Where named namespaces are, as `ip netns` has them.
    pub netns_dir: PathBuf,
}

impl Default for Daemon {
    fn default() -> Self {
        Self {
            socket: None,
            socket_mode: Mode(0o660),
            socket_group: String::new(),
            read_group: String::new(),
            commands: MayRun::Root,
            run_dir: "/run/vswitch".into(),
            state_dir: "/var/lib/vswitch".into(),
            netns_dir: "/run/netns".into(),
        }
    }
}

impl Daemon {
    /// Path of the control socket.
    pub fn socket(&self) -> PathBuf {
        self.socket.clone().unwrap_or_else(|| self.run_dir.join("control.sock"))
    }

    /// Permissions of the control socket as a file. A file has one group: with a second one all may connect, and the daemon looks
    /// who they are.
    pub fn socket_permissions(&self) -> u32 {
        match self.read_group.is_empty() {
            true => self.socket_mode.0,
            false => self.socket_mode.0 | EVERYBODY,
        }
    }
}

/// Whose requests may have commands run in namespaces. These have the daemon's rights, so it is as good as being root.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MayRun {
    /// Those of root and of the daemon's own user.
    #[default]
    Root,
    /// Those of all that may change the lab.
    Group,
}

/// `[log]`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Log {
    /// A level or a filter; see [`logging::parse_filter`].
    pub level: String,
    /// Form of the lines.
    pub format: LogFormat,
}

impl Default for Log {
    fn default() -> Self {
        Self {
            level: "info".into(),
            format: LogFormat::Auto,
        }
    }
}

/// Where log lines go and what they look like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// The journal if systemd connected stderr to it, else text.
    #[default]
    Auto,
    /// Lines for people, on stderr; colours on a terminal.
    Text,
    /// One JSON object a line, on stderr.
    Json,
    /// The systemd journal, with fields.
    Journald,
}

/// `[datapath]`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Datapath {
    /// Worker threads; 0: one per core, up to four.
    pub workers: usize,
    /// Cores that they are pinned to, in turn; none: wherever the kernel puts them, and near the ends of a talk.
    pub cpus: Vec<usize>,
    /// Microseconds that a worker keeps looking for frames before it sleeps, at least.
    pub spin_us: u32,
    /// How TAP devices are read and written.
    pub engine: Engine,
    /// Whether the kernel forwards by itself what it can.
    pub fastpath: bool,
    /// Whether ports of which the kernel carries all frames have TCP frames above 64 KiB.
    pub big_tcp: bool,
    /// Most entries of the FDBs of all switches together; about 64 bytes each.
    pub fdb_entries: u64,
}

impl Default for Datapath {
    fn default() -> Self {
        Self {
            workers: 0,
            cpus: Vec::new(),
            spin_us: DEFAULT_SPIN_US,
            engine: Engine::Auto,
            fastpath: true,
            big_tcp: true,
            fdb_entries: DEFAULT_FDB_ENTRIES,
        }
    }
}

impl Datapath {
    /// Number of worker threads to start.
    pub fn workers(&self) -> usize {
        match self.workers {
            0 => std::thread::available_parallelism().map_or(1, |n| n.get().min(MAX_AUTO_WORKERS)),
            n => n,
        }
    }
}

/// Permission bits, written in octal as for chmod: `"0660"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mode(pub u32);

impl Serialize for Mode {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{:04o}", self.0))
    }
}

impl<'de> Deserialize<'de> for Mode {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        match in_base(&text, 8) {
            Some(mode) if mode <= 0o777 => Ok(Self(mode)),
            _ => Err(serde::de::Error::custom(format_args!(
                "{text:?} is not a file mode; write it as \"0660\""
            ))),
        }
    }
}

impl Config {
    /// Reads the file that the command line names (or the default one, if it is there) and puts the options of the
    /// command line over it.
    ///
    /// # Errors
    /// `Invalid` with file, line and key if the file can't be read or something in it is wrong.
    pub fn load(args: &Args) -> Result<Self, ApiError> {
        let (path, required) = match &args.config {
            Some(path) => (path.as_path(), true),
            None => (Path::new(DEFAULT_PATH), false),
        };
        let mut config = match read(path) {
            Ok(text) => Self::parse(path, &text)?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && !required => Self::default(),
            Err(error) => {
                return Err(ApiError::new(
                    ErrorCode::Invalid,
                    path.display().to_string(),
                    error.to_string(),
                ));
            }
        };
        config.override_by(args)?;
        Ok(config)
    }

    /// The error of a key whose value can't be had on this machine, with its place in the file if that has it.
    pub fn blame(args: &Args, key: &str, cause: &str) -> ApiError {
        let path = args.config.as_deref().unwrap_or(Path::new(DEFAULT_PATH));
        let text = read(path).unwrap_or_default();
        match span_of(&text, key) {
            Some(span) => at(path, &text, Some(span), cause),
            None => ApiError::new(ErrorCode::Invalid, format!("key {key:?}"), cause),
        }
    }

    /// Parses and checks the text of a configuration file; `path` is for the error only.
    ///
    /// # Errors
    /// `Invalid` with file, line and key.
    pub fn parse(path: &Path, text: &str) -> Result<Self, ApiError> {
        let read = toml::Deserializer::parse(text)
            .and_then(|from| strict::from_deserializer(from).map_err(|error| error.into_inner()));
        let config: Self = read.map_err(|error: toml::de::Error| {
            // Only the first line: the rest repeats the text of the file with a marker under it.
            let message = error.message().lines().next().unwrap_or_default();
            at(path, text, error.span(), message)
        })?;
        config
            .check()
            .map_err(|(key, cause)| at(path, text, span_of(text, key), &cause))?;
        Ok(config)
    }

    fn override_by(&mut self, args: &Args) -> Result<(), ApiError> {
        if let Some(path) = &args.socket {
            self.daemon.socket = Some(path.clone());
        }
        if let Some(path) = &args.run_dir {
            self.daemon.run_dir.clone_from(path);
        }
        if let Some(path) = &args.state_dir {
            self.daemon.state_dir.clone_from(path);
        }
        if let Some(level) = &args.log_level {
            self.log.level.clone_from(level);
        }
        self.check().map_err(|(key, cause)| {
            ApiError::new(
                ErrorCode::Invalid,
                format!("option --{}", key.replace("level", "log-level").replace('_', "-")),
                cause,
            )
        })
    }

    /// The keys, as `table.key`, that differ from `running` and can't be changed while the daemon runs.
    pub fn needs_restart(&self, running: &Self) -> Vec<&'static str> {
        let (new, old) = (self, running);
        let keys = [
            ("daemon.socket", new.daemon.socket() != old.daemon.socket()),
            ("daemon.socket_mode", new.daemon.socket_mode != old.daemon.socket_mode),
            (
                "daemon.socket_group",
                new.daemon.socket_group != old.daemon.socket_group,
            ),
            ("daemon.read_group", new.daemon.read_group != old.daemon.read_group),
            ("daemon.commands", new.daemon.commands != old.daemon.commands),
            ("daemon.run_dir", new.daemon.run_dir != old.daemon.run_dir),
            ("daemon.state_dir", new.daemon.state_dir != old.daemon.state_dir),
            ("daemon.netns_dir", new.daemon.netns_dir != old.daemon.netns_dir),
            ("containers.docker", new.containers.docker != old.containers.docker),
            ("containers.podman", new.containers.podman != old.containers.podman),
            (
                "security.drop_rights",
                new.security.drop_rights != old.security.drop_rights,
            ),
            ("security.seccomp", new.security.seccomp != old.security.seccomp),
            ("metrics.labels", new.metrics.labels != old.metrics.labels),
            ("metrics.listen", new.metrics.listen != old.metrics.listen),
            ("metrics.hosts", new.metrics.hosts != old.metrics.hosts),
            ("log.format", new.log.format != old.log.format),
            ("datapath.workers", new.datapath.workers() != old.datapath.workers()),
            ("datapath.cpus", new.datapath.cpus != old.datapath.cpus),
            ("datapath.spin_us", new.datapath.spin_us != old.datapath.spin_us),
            ("datapath.engine", new.datapath.engine != old.datapath.engine),
            ("datapath.fastpath", new.datapath.fastpath != old.datapath.fastpath),
            ("datapath.big_tcp", new.datapath.big_tcp != old.datapath.big_tcp),
            (
                "datapath.fdb_entries",
                new.datapath.fdb_entries != old.datapath.fdb_entries,
            ),
        ];
        keys.into_iter()
            .filter(|(_, differs)| *differs)
            .map(|(key, _)| key)
            .collect()
    }

    /// What the types alone don't say: (key, what is wrong with it).
    fn check(&self) -> Result<(), (&'static str, String)> {
        logging::parse_filter(&self.log.level).map_err(|cause| ("level", cause))?;
        let daemon = &self.daemon;
        let paths = [
            ("run_dir", &daemon.run_dir),
            ("state_dir", &daemon.state_dir),
            ("netns_dir", &daemon.netns_dir),
        ];
        for (key, path) in paths
            .into_iter()
            .chain(daemon.socket.iter().map(|path| ("socket", path)))
        {
            if !path.is_absolute() {
                return Err((
                    key,
                    format!(
                        "{:?} is not an absolute path; start it with /",
                        path.display().to_string()
                    ),
                ));
            }
        }
        if !daemon.read_group.is_empty() && daemon.socket_mode.0 & EVERYBODY != 0 {
            let cause = "socket_mode lets everybody change the lab, so a group that may only read makes no sense; take its last digit to 0";
            return Err(("read_group", cause.into()));
        }
        for (key, socket) in [("docker", &self.containers.docker), ("podman", &self.containers.podman)] {
            if !Path::new(socket_path(socket)).is_absolute() {
                let cause = format!(
                    "{socket:?} is no unix socket; write it as \"/run/{key}.sock\" or \"unix:///run/{key}.sock\""
                );
                return Err((key, cause));
            }
        }
        let known = [settings::<Port>(), settings::<Switch>()].concat();
        let is_setting = |label: &&String| {
            known
                .iter()
                .any(|setting| setting.takes_values() && setting.key == **label)
        };
        if let Some(label) = self.metrics.labels.iter().find(|label| !is_setting(label)) {
            let cause = format!("no port or switch has a setting {label:?}; `vswitchctl set port --help` lists them");
            return Err(("labels", cause));
        }
        if self.datapath.workers > MAX_WORKERS {
            return Err((
                "workers",
                format!(
                    "{} is too many; at most {MAX_WORKERS}, or 0 to choose by the machine",
                    self.datapath.workers
                ),
            ));
        }
        if self.datapath.spin_us > MAX_SPIN_US {
            return Err((
                "spin_us",
                format!(
                    "{} is too long; at most {MAX_SPIN_US} (one second)",
                    self.datapath.spin_us
                ),
            ));
        }
        Ok(())
    }
}

/// The text of the file. Nothing that could block is waited for: the daemon reads it again while it runs, and would hang. A link is
/// followed, unlike where the daemon alone writes: many keep their configuration elsewhere.
fn read(path: &Path) -> io::Result<String> {
    let refused = |cause: String| Err(io::Error::new(io::ErrorKind::InvalidData, cause));
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(path)?;
    if file.metadata()?.file_type().is_fifo() {
        return refused("it is a FIFO, which is not waited for; put a regular file there".to_owned());
    }
    let mut text = String::new();
    file.take(MAX_BYTES + 1).read_to_string(&mut text)?;
    if text.len() as u64 > MAX_BYTES {
        return refused(format!("it has more than {MAX_BYTES} bytes; is it the right file?"));
    }
    Ok(text)
}

/// An error at a place of the file: `FILE:LINE: key "K": what`.
fn at(path: &Path, text: &str, span: Option<Range<usize>>, cause: &str) -> ApiError {
    let mut object = path.display().to_string();
    if let Some(before) = span.and_then(|span| text.get(..span.start)) {
        let number = before.matches('\n').count();
        object = format!("{object}:{}", number + 1);
        let line = text.lines().nth(number).unwrap_or_default();
        if let Some((key, _)) = line.split_once('=') {
            object = format!("{object}: key {:?}", key.trim());
        }
    }
    ApiError::new(ErrorCode::Invalid, object, cause)
}

/// Where `key = ` stands; keys are unique over all tables.
fn span_of(text: &str, key: &str) -> Option<Range<usize>> {
    let mut start = 0;
    for line in text.split_inclusive('\n') {
        if line.split_once('=').is_some_and(|(found, _)| found.trim() == key) {
            return Some(start..start + line.len());
        }
        start += line.len();
    }
    None
}

#[cfg(test)]
mod tests;
