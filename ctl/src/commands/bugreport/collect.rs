//! What goes into the archive. Whatever can't be had is told in its place, as a daemon that does not answer is what may be wrong.

use std::fmt::Write as _;
use std::fs::{self, OpenOptions};
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::fcntl::OFlag;
use serde::Serialize;
use serde_json::Value;
use tokio::time::{Instant, timeout_at};
use vswitch_api::event::{EventSelect, Since};
use vswitch_api::view::{NamespaceSummary, Status};
use vswitch_api::{API_VERSION, Lab};

use super::scrub::{Scrub, without_texts};
use super::{Entry, LONGEST};
use crate::cli::bugreport::BugreportArgs;
use crate::commands::Session;
use crate::failure::Failure;
use crate::output::doctor;

/// So long it is listened at most to what happened.
const LISTENED: Duration = Duration::from_secs(2);
/// After so long without an event all was told.
const SILENCE: Duration = Duration::from_millis(300);
/// Lines of the journal.
const LINES: &str = "2000";
/// Tools whose versions matter, with what has them tell it.
const TOOLS: [(&str, &str); 5] = [
    ("ip", "-V"),
    ("ping", "-V"),
    ("nft", "-V"),
    ("tcpdump", "--version"),
    ("clang", "--version"),
];
/// What of the kernel decides how the daemon works.
const KERNEL: [&str; 12] = [
    "/proc/sys/kernel/osrelease",
    "/proc/sys/kernel/version",
    "/proc/sys/kernel/unprivileged_bpf_disabled",
    "/proc/sys/net/core/bpf_jit_enable",
    "/proc/sys/net/core/rmem_max",
    "/proc/sys/net/core/wmem_max",
    "/proc/sys/net/core/netdev_max_backlog",
    "/proc/sys/net/ipv4/neigh/default/gc_thresh3",
    "/proc/sys/net/ipv6/neigh/default/gc_thresh3",
    "/proc/sys/net/ipv6/conf/all/disable_ipv6",
    "/proc/sys/net/bridge/bridge-nf-call-iptables",
    "/proc/sys/fs/nr_open",
];
/// Modules that have a part in it.
const MODULES: [&str; 8] = [
    "tun",
    "veth",
    "bridge",
    "br_netfilter",
    "openvswitch",
    "act_mirred",
    "cls_bpf",
    "sch_ingress",
];

const README: &str = "\
What `vswitchctl bugreport` collected, to be looked through before it is sent.

Addresses and MAC addresses that are not of the lab stand as <address-1>,
<mac-1>, ...; the name of the machine as <host>; and values behind words such
as password, secret, token and key as <secret>. What commands of the lab are
given (arguments, lines, environment) and the contents of its files are left
out. Captured frames, the FDB and what is in namespaces that are not of the
lab are not in it.
";

impl Session {
    pub(super) async fn collect(&self, args: &BugreportArgs) -> Vec<Entry> {
        let lab: Result<Lab, _> = self.client.known_lab().await;
        let scrub = Scrub::new(lab.as_ref().ok(), &host_name());
        let mut entries = vec![Entry::new("README.txt", "what is in it, and what is not", README)];
        let mut add = |name, about, text: String| entries.push(Entry::new(name, about, &scrub.clean(&text)));
        add(
            "versions.txt",
            "versions of vswitch, system and tools",
            self.versions().await,
        );
        add(
            "kernel.txt",
            "kernel, its settings and modules, processors, memory",
            kernel(),
        );
        add(
            "status.json",
            "the daemon, and what does not work here",
            self.json("/v1/status").await,
        );
        let written = lab
            .map_err(told)
            .and_then(|lab| toml::to_string_pretty(&without_texts(&lab)).map_err(|e| e.to_string()));
        add("lab.toml", "what was asked for", written.unwrap_or_else(|told| told));
        add(
            "switches.json",
            "switches with their counters",
            self.json("/v1/switches").await,
        );
        add(
            "ports.json",
            "ports with their states and counters",
            self.json("/v1/ports").await,
        );
        add("links.json", "links between switches", self.json("/v1/links").await);
        add("mirrors.json", "mirrors", self.json("/v1/mirrors").await);
        add("namespaces.json", "namespaces of the lab", self.own_namespaces().await);
        add("metrics.txt", "what /metrics shows", self.text("/metrics").await);
        let (heard, (items, _)) = tokio::join!(self.heard(args.dry_run), self.installation());
        add("events.txt", "what happened last", heard);
        add(
            "doctor.txt",
            "what doctor says",
            doctor::items(crate::output::Style::default(), &items),
        );
        add("config.toml", "the daemon's configuration", file(&args.config));
        let log = match &args.log {
            Some(path) => file(path),
            None => journal(),
        };
        add("log.txt", "the daemon's log", log);
        entries
    }

    async fn versions(&self) -> String {
        let mut text = format!("vswitchctl {} (API {API_VERSION})\n", env!("CARGO_PKG_VERSION"));
        let status: Result<Value, _> = self.client.get("/v1/status").await;
        let _ = match status {
            Ok(status) => writeln!(text, "vswitchd {} (API {})", status["version"], status["api_version"]),
            Err(error) => writeln!(text, "vswitchd: {}", told(error)),
        };
        let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
        for line in release.lines().filter(|line| line.starts_with("PRETTY_NAME=")) {
            let _ = writeln!(text, "{line}");
        }
        for (tool, option) in TOOLS {
            let said = run(tool, &[option]).unwrap_or_else(|cause| cause);
            let _ = writeln!(text, "{tool}: {}", said.lines().next().unwrap_or_default());
        }
        text
    }

    async fn json(&self, path: &str) -> String {
        let value: Result<Value, _> = self.client.get(path).await;
        value.map_or_else(told, |value| pretty(&value))
    }

    async fn text(&self, path: &str) -> String {
        match self.client.open(path).await {
            Ok(answer) => answer.text().await.unwrap_or_else(told),
            Err(error) => told(error),
        }
    }

    /// Others are nobody's business.
    async fn own_namespaces(&self) -> String {
        let all: Result<Vec<NamespaceSummary>, _> = self.client.namespaces().await;
        match all {
            Ok(mut all) => {
                all.retain(|one| one.owned || !one.ports.is_empty());
                pretty(&all)
            }
            Err(error) => told(error),
        }
    }

    /// What happened last, as far as the daemon keeps it.
    async fn heard(&self, dry_run: bool) -> String {
        if dry_run {
            // Nothing is written, so nothing is listened to.
            return String::new();
        }
        let status: Status = match self.client.get("/v1/status").await {
            Ok(status) => status,
            Err(error) => return told(error),
        };
        let since = Some(Since {
            run: status.run,
            seq: 0,
        });
        let wanted = EventSelect {
            since,
            ..EventSelect::default()
        };
        let mut events = match self.client.events(&wanted).await {
            Ok(events) => events,
            Err(error) => return told(error),
        };
        let mut text = String::new();
        let end = Instant::now() + LISTENED;
        // What is kept comes at once, and in one go.
        while let Ok(Some(Ok(event))) = timeout_at(end.min(Instant::now() + SILENCE), events.next_text()).await {
            text += &event;
            text.push('\n');
            if text.len() > LONGEST {
                break;
            }
        }
        match text.is_empty() {
            true => "nothing\n".to_owned(),
            false => text,
        }
    }
}

fn told(failure: impl Into<Failure>) -> String {
    match failure.into() {
        Failure::Error { error, .. } => format!("not to be had: {error}\n"),
        Failure::Reported(_) | Failure::Output(_) => "not to be had\n".to_owned(),
    }
}

fn pretty(value: &impl Serialize) -> String {
    serde_json::to_string_pretty(value).unwrap_or_else(|e| format!("not to be had: {e}\n"))
}

/// What a program says.
fn run(program: &str, words: &[&str]) -> Result<String, String> {
    let output = Command::new(program).args(words).stdin(Stdio::null()).output();
    let output = output.map_err(|e| format!("it can't be run: {e}"))?;
    let all = [&output.stdout[..], &output.stderr].concat();
    Ok(String::from_utf8_lossy(&all).into_owned())
}

fn journal() -> String {
    let words = [
        "-u",
        "vswitchd",
        "-n",
        LINES,
        "--no-pager",
        "-o",
        "short-iso",
        "--no-hostname",
    ];
    match run("journalctl", &words) {
        Ok(text) => text,
        Err(cause) => format!("journalctl: {cause}; --log names a file\n"),
    }
}

/// The end of an ordinary file.
fn file(path: &Path) -> String {
    let read = || {
        // A link may lead to what is not meant, and a pipe may never end.
        let flags = (OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits();
        let mut file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
        let meta = file.metadata()?;
        if !meta.is_file() {
            return Err(std::io::Error::other("it is no ordinary file"));
        }
        let begin = meta.len().saturating_sub(2 * LONGEST as u64);
        std::io::Seek::seek(&mut file, std::io::SeekFrom::Start(begin))?;
        let mut bytes = Vec::new();
        file.take(2 * LONGEST as u64).read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    read().unwrap_or_else(|e| format!("{}: not to be had: {e}\n", path.display()))
}

fn host_name() -> String {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    name.trim().to_owned()
}

fn kernel() -> String {
    let mut text = String::new();
    for path in KERNEL {
        let value = fs::read_to_string(path).unwrap_or_else(|e| e.to_string());
        let _ = writeln!(text, "{path}: {}", value.trim());
    }
    let loaded = fs::read_to_string("/proc/modules").unwrap_or_default();
    for module in MODULES {
        let is_loaded = loaded.lines().any(|line| line.split(' ').next() == Some(module));
        let word = if is_loaded { "loaded" } else { "built in, or not there" };
        let _ = writeln!(text, "module {module}: {word}");
    }
    let processors = std::thread::available_parallelism().map_or(0, |count| count.get());
    let _ = writeln!(text, "processors: {processors}");
    let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    for line in memory.lines().take(3) {
        let _ = writeln!(text, "{line}");
    }
    text
}
