//! The installation: what the daemon needs, what is here, and what is left over.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::ErrorKind;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::unistd::Uid;
use vswitch_api::change::{Change, ChangeAction, ObjectKind};
use vswitch_api::command::{ProcessState, ProcessView};
use vswitch_api::lab::Lab;
use vswitch_api::request::{ChangeOptions, LabSelect};
use vswitch_api::view::{Changes, NamespaceSummary, PortState, PortView, Status};
use vswitch_api::{API_VERSION, ErrorCode, LabName, PortKind};
use vswitch_client::{Error, Method, with_options, with_query};

use super::checks::ports::{mend_of, not_yet};
use super::{Item, mounts};
use crate::commands::Session;
use crate::commands::reset::program;
use crate::failure::Failure;

/// The fast path needs tc programs with links or filters, and iterates over maps.
const LEAST_KERNEL: (u32, u32) = (5, 15);
/// So long drops are watched.
const WATCHED: Duration = Duration::from_millis(500);
/// So long ports are waited for that the daemon brings back, looked at so often.
const ATTACHED_WITHIN: Duration = Duration::from_secs(5);
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// A lab that nothing is owned by.
const OF_NOBODY: &str = "doctor-looks-at-no-lab";
/// What has the daemon repair all of what it has.
const AGAIN: &str = "vswitchctl export | vswitchctl apply -";
/// Reasons that are as the user wants it.
const WANTED_DROPS: [&str; 6] = ["acl-", "impair-", "mirror-port", "polic", "port-down", "storm"];

pub(super) fn good(what: &'static str, detail: impl Into<String>) -> Item {
    Item {
        what,
        ok: true,
        detail: detail.into(),
        mend: None,
    }
}

fn bad(what: &'static str, detail: impl Into<String>, mend: impl Into<String>) -> Item {
    Item {
        what,
        ok: false,
        detail: detail.into(),
        mend: Some(mend.into()),
    }
}

impl Session {
    /// What was looked at, and whether the daemon can't be reached.
    pub(in crate::commands) async fn installation(&self) -> (Vec<Item>, bool) {
        let mut items = vec![rights(), kernel(), tun()];
        items.extend(
            [
                ("ip", "-V", "iproute2", None),
                ("ping", "-V", "iputils-ping", None),
                (
                    "nft",
                    "-V",
                    "nftables",
                    Some("--nat, `publish` and looking into filters"),
                ),
                (
                    "dnsmasq",
                    "-v",
                    "dnsmasq-base",
                    Some("--dhcp, --dns and router advertisements"),
                ),
            ]
            .map(tool),
        );
        let status = match self.client.status().await {
            Ok(status) => status,
            Err(error) => {
                items.insert(0, unanswered(error));
                return (items, true);
            }
        };
        items.insert(0, daemon(&status));
        let processes = self.client.processes().await.unwrap_or_default();
        items.extend(failed(&processes));
        items.push(limits(&status, &processes));
        match self.state(&status).await {
            Ok(more) => items.extend(more),
            Err(failure) => items.push(bad("daemon", told(&failure), "vswitchctl status")),
        }
        (items, false)
    }

    async fn state(&self, status: &Status) -> Result<Vec<Item>, Failure> {
        let ports = self.attached_ports().await?;
        let lab: Lab = self.client.known_lab().await?;
        let namespaces: Vec<NamespaceSummary> = self.client.namespaces().await?;
        let mut items = down(&ports);
        items.push(mounts::seen(status, &namespaces));
        // What a change makes is in the lab when it is over.
        if status.progress.is_some() || self.client.status().await?.progress.is_some() {
            let detail = "not looked for while a change is under way; `vswitchctl status` tells how far it is";
            items.push(good("leftovers", detail));
        } else {
            items.extend(self.drift(&lab, &ports).await);
            items.extend(leftover_namespaces(&namespaces, &lab));
            items.push(leftover_interfaces(&ports));
        }
        tokio::time::sleep(WATCHED).await;
        let later: Vec<PortView> = self.client.ports().await?;
        items.push(drops(&ports, &later));
        Ok(items)
    }
}

impl Session {
    /// All ports. A daemon that has just started gets to them in a moment, which is waited for.
    pub(super) async fn attached_ports(&self) -> Result<Vec<PortView>, Failure> {
        let until = Instant::now() + ATTACHED_WITHIN;
        loop {
            let ports: Vec<PortView> = self.client.ports().await?;
            let is_there = |view: &PortView| view.state != PortState::Attaching;
            if ports.iter().all(is_there) || Instant::now() >= until {
                return Ok(ports);
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// What others have taken away of what the lab wants: what the daemon would repair if it were told the same once more.
    async fn drift(&self, lab: &Lab, ports: &[PortView]) -> Vec<Item> {
        match self.foretold(lab, None).await {
            Ok(changes) => {
                let mut items = drift(&changes, ports);
                items.extend(in_the_way(&changes));
                items
            }
            // Somebody who may only look is not told.
            Err(error) if error.code() == Some(ErrorCode::NotPermitted) => Vec::new(),
            // Nothing is to be repaired but what can't be, and has a line of its own. What the host does is asked for alone.
            Err(_) => {
                let of_nobody = OF_NOBODY.parse().ok();
                let changes = self.foretold(lab, of_nobody).await;
                changes.map_or_else(|_| Vec::new(), |changes| in_the_way(&changes))
            }
        }
    }

    /// What the daemon would do if it were told once more what is there. `part`: what of it is looked at.
    async fn foretold(&self, lab: &Lab, part: Option<LabName>) -> Result<Changes, Error> {
        let options = ChangeOptions {
            dry_run: true,
            force: true,
            ..ChangeOptions::default()
        };
        let path = with_query(&with_options("/v1/lab", options)?, &LabSelect { lab: part })?;
        self.client.send_if(Method::PUT, &path, None, Some(lab)).await
    }
}

/// A line for each thing that is not there any more.
fn drift(changes: &Changes, ports: &[PortView]) -> Vec<Item> {
    let repairs = changes.changes.iter();
    let mut repairs = repairs
        .filter(|change| change.action == ChangeAction::Repaired)
        .peekable();
    if repairs.peek().is_none() {
        return vec![good("drift", "all is as it was set")];
    }
    repairs.filter_map(|change| drifted(change, ports)).collect()
}

/// What the daemon warns of though nothing is to be changed.
fn in_the_way(changes: &Changes) -> Vec<Item> {
    let item = |warning: &String| {
        Item {
            what: "host",
            ok: false,
            detail: warning.clone(),
            // There may be no command for it, as where the host's own network is another's.
            mend: warning.split('`').nth(1).map(str::to_owned),
        }
    };
    // What can't be repaired is a port that is missing, which is told by itself.
    let warnings = changes.warnings.iter();
    warnings
        .filter(|warning| !warning.contains("could not be repaired"))
        .map(item)
        .collect()
}

fn drifted(change: &Change, ports: &[PortView]) -> Option<Item> {
    let Change { kind, name, key, .. } = change;
    let what = key
        .as_deref()
        .map_or("is gone".to_owned(), |what| format!("lacks {what}"));
    let view = ports.iter().find(|view| view.port.name.as_str() == name);
    let (object, mend) = match (kind, view) {
        // It has a line of its own, with the reason.
        // As has one that ended with its namespace.
        (ObjectKind::Command, _) => return None,
        (ObjectKind::Port, Some(view)) if view.state != PortState::Up || view.reason.is_some() => return None,
        (ObjectKind::Port, Some(view)) => (format!("port {name}"), mend_of(view)),
        (ObjectKind::Host, _) => ("the host".to_owned(), AGAIN.to_owned()),
        (ObjectKind::Cable, _) => (format!("cable {name}"), AGAIN.to_owned()),
        _ => (format!("namespace {name}"), mend_of_namespace(name, &what)),
    };
    Some(bad("drift", format!("{object} {what}"), mend))
}

/// A setting that the kernel refuses is given by no repair.
fn mend_of_namespace(name: &str, what: &str) -> String {
    let setting = what.strip_prefix("lacks ");
    let refused = setting.and_then(|setting| setting.strip_suffix(", which the kernel refuses"));
    match refused.and_then(|setting| setting.split_once(" = ")) {
        Some((key, _)) => format!("vswitchctl ns set {name} {key}=none"),
        None => AGAIN.to_owned(),
    }
}

fn told(failure: &Failure) -> String {
    match failure {
        Failure::Error { error, .. } => error.to_string(),
        Failure::Reported(_) | Failure::Output(_) => "it does not answer".to_owned(),
    }
}

/// Why there is no answer, as far as that can be told from here, and what leads to one.
fn unanswered(error: Error) -> Item {
    // It runs, and this user may not speak with it.
    let is_refused = match &error {
        Error::Daemon(_) => true,
        Error::Connect { cause, .. } => cause.kind() == ErrorKind::PermissionDenied,
        _ => false,
    };
    let said = told(&error.into());
    if is_refused {
        return bad("daemon", said, "sudo vswitchctl doctor");
    }
    let start = match has_failed() {
        true => "systemctl reset-failed vswitchd vswitchd.socket; systemctl start vswitchd",
        false => "systemctl start vswitchd",
    };
    // Others may not read what it would start with.
    match Uid::effective().is_root().then(why_no_start).flatten() {
        Some(why) => {
            let mend = format!("vswitchd --check-start && ({start})");
            bad("daemon", format!("{said}; it would not start: {why}"), mend)
        }
        None => bad("daemon", said, start),
    }
}

/// What the daemon of this installation says if it is asked whether it would start, unless that is yes.
fn why_no_start() -> Option<String> {
    let output = Command::new(program())
        .arg("--check-start")
        .stdin(Stdio::null())
        .output();
    let output = output.ok().filter(|output| !output.status.success())?;
    let said = String::from_utf8_lossy(&output.stderr);
    let line = said.lines().next_back()?;
    Some(line.strip_prefix("vswitchd: ").unwrap_or(line).to_owned())
}

/// Whether systemd has given the daemon or its socket up, and starts it no more until it is told to.
fn has_failed() -> bool {
    let mut command = Command::new("systemctl");
    command.args(["is-failed", "--quiet", "vswitchd.service", "vswitchd.socket"]);
    let status = command.stdin(Stdio::null()).stderr(Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}

fn daemon(status: &Status) -> Item {
    let own = env!("CARGO_PKG_VERSION");
    if status.api_version != API_VERSION || status.version != own {
        let detail = format!("vswitchd is {}, vswitchctl {own}", status.version);
        return bad("daemon", detail, "systemctl restart vswitchd");
    }
    good(
        "daemon",
        format!("vswitchd {} answers (pid {})", status.version, status.pid),
    )
}

/// `processes`: those of the lab, of which the failed ones have lines of their own.
fn limits(status: &Status, processes: &[ProcessView]) -> Item {
    let told: Vec<_> = failed(processes).into_iter().map(|item| item.detail).collect();
    let others = status.limits.iter().filter(|limit| !told.contains(limit));
    match &others.cloned().collect::<Vec<_>>()[..] {
        [] => good("limits", "everything works on this machine"),
        some => bad("limits", some.join("; "), "vswitchctl status"),
    }
}

/// A line for each command that has failed and is not started again, as the status has it.
fn failed(processes: &[ProcessView]) -> Vec<Item> {
    let is_command = |view: &&ProcessView| !view.name.contains(':');
    let all = processes.iter().filter(is_command);
    all.filter(|view| view.state == ProcessState::Failed)
        .map(|view| {
            let ProcessView {
                name, state, reason, ..
            } = view;
            let reason = reason.as_ref().map_or_else(String::new, |reason| format!(": {reason}"));
            let detail = format!("command \"{name}\" is {state}{reason}");
            bad("command", detail, format!("vswitchctl command restart {name}"))
        })
        .collect()
}

fn rights() -> Item {
    match Uid::effective().is_root() {
        true => good("rights", "root"),
        false => bad(
            "rights",
            "namespaces can only be looked into by root",
            "sudo vswitchctl doctor",
        ),
    }
}

fn kernel() -> Item {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let release = release.trim();
    match is_new_enough(release) {
        true => good("kernel", release),
        false => {
            let (major, minor) = LEAST_KERNEL;
            let detail =
                format!("{release} is older than {major}.{minor}: the daemon forwards by itself, which is slower");
            bad("kernel", detail, "vswitchctl status")
        }
    }
}

fn is_new_enough(release: &str) -> bool {
    let mut numbers = release
        .split(['.', '-'])
        .map(|part| part.parse::<u32>().unwrap_or_default());
    (numbers.next().unwrap_or_default(), numbers.next().unwrap_or_default()) >= LEAST_KERNEL
}

fn tun() -> Item {
    match File::options().read(true).write(true).open("/dev/net/tun") {
        Ok(_) => good("tun", "/dev/net/tun is there"),
        Err(error) if error.kind() == ErrorKind::NotFound => bad(
            "tun",
            "there is no /dev/net/tun, which TAP devices need",
            "modprobe tun",
        ),
        Err(error) => Item {
            ok: false,
            ..good(
                "tun",
                format!("/dev/net/tun, which TAP devices need, can't be opened: {error}"),
            )
        },
    }
}

/// `without`: what does not work without it; none: not even this command.
fn tool((program, version, package, without): (&'static str, &str, &str, Option<&str>)) -> Item {
    let mut command = Command::new(program);
    command
        .arg(version)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    match (command.status(), without) {
        (Ok(_), _) => good(program, "installed"),
        (Err(_), Some(what)) => good(program, format!("not installed: {what} need it (package {package})")),
        (Err(error), None) => bad(
            program,
            format!("it can't be run: {error}"),
            format!("apt install {package}"),
        ),
    }
}

/// A line for each port that carries nothing, though it is to, or whose interface is not as it was set.
fn down(ports: &[PortView]) -> Vec<Item> {
    let is_set_down = |view: &PortView| view.state == PortState::Down && !view.port.up;
    let trouble = |view: &&PortView| (view.state != PortState::Up && !is_set_down(view)) || view.reason.is_some();
    let items: Vec<_> = ports
        .iter()
        .filter(trouble)
        .map(|view| {
            let name = &view.port.name;
            if view.state == PortState::Attaching {
                // It is nobody's fault, and is over by itself.
                let detail = format!("{}; `vswitchctl status` tells how far it is", not_yet(name));
                return good("port", detail);
            }
            let reason = view
                .reason
                .as_ref()
                .map_or_else(String::new, |reason| format!(": {reason}"));
            bad(
                "port",
                format!("{name} is {}{reason}", view.state.as_str()),
                mend_of(view),
            )
        })
        .collect();
    match items.is_empty() {
        true => {
            let up = ports.iter().filter(|view| view.state == PortState::Up).count();
            let rest = match ports.len() - up {
                0 => String::new(),
                down => format!(", {down} set down"),
            };
            vec![good("ports", format!("{up} of {} are up{rest}", ports.len()))]
        }
        false => items,
    }
}

fn leftover_namespaces(namespaces: &[NamespaceSummary], lab: &Lab) -> Vec<Item> {
    let used = |name| {
        lab.asks_for(name)
            || lab.cables.iter().any(|cable| cable.ends_in(name))
            || lab.commands.iter().any(|command| command.namespace == *name)
    };
    let nobodys = namespaces.iter().filter(|one| {
        one.owned && one.present && one.ports.is_empty() && one.name.name().is_some_and(|name| !used(name))
    });
    nobodys
        .map(|one| {
            bad(
                "leftover",
                format!("namespace {} is used by nobody", one.name),
                format!("vswitchctl ns del {}", one.name),
            )
        })
        .collect()
}

/// Interfaces that vswitch names itself: `vs-` and the index of a device that it has taken over.
fn leftover_interfaces(ports: &[PortView]) -> Item {
    let index = |name: &str| fs::read_to_string(format!("/sys/class/net/{name}/ifindex")).unwrap_or_default();
    let devices = ports.iter().filter(|view| view.port.kind == PortKind::Device);
    let used: HashSet<_> = devices
        .map(|view| {
            view.port
                .ifname
                .as_ref()
                .map_or(view.port.name.as_str(), |name| name.as_str())
        })
        .map(|name| format!("vs-{}", index(name).trim()))
        .collect();
    let names = fs::read_dir("/sys/class/net").into_iter().flatten().flatten();
    let names = names.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let is_ours = |name: &String| name.strip_prefix("vs-").is_some_and(|rest| rest.parse::<u32>().is_ok());
    let mut left: Vec<_> = names.filter(is_ours).filter(|name| !used.contains(name)).collect();
    left.sort();
    match left.first() {
        None => good("leftovers", "none"),
        Some(name) => bad(
            "leftovers",
            format!("interface {name} is of no port"),
            format!("ip link del {name}"),
        ),
    }
}

/// Frames that get lost at this moment.
fn drops(before: &[PortView], after: &[PortView]) -> Item {
    let mut grown: Vec<(u64, String, String)> = Vec::new();
    for now in after {
        let Some(then) = before.iter().find(|view| view.port.name == now.port.name) else {
            continue;
        };
        let ways = [
            (&then.counters.rx_drops, &now.counters.rx_drops),
            (&then.counters.tx_drops, &now.counters.tx_drops),
        ];
        for (then, now_drops) in ways {
            for (reason, count) in now_drops {
                let more = count.saturating_sub(then.get(reason).copied().unwrap_or_default());
                if more > 0 && !WANTED_DROPS.iter().any(|wanted| reason.starts_with(wanted)) {
                    grown.push((more, now.port.name.to_string(), reason.clone()));
                }
            }
        }
    }
    match grown.into_iter().max() {
        None => good("drops", "none now"),
        Some((more, port, reason)) => bad(
            "drops",
            format!("port {port} has dropped {more} frames ({reason}) within {WATCHED:?}"),
            format!("vswitchctl port show {port}"),
        ),
    }
}

#[cfg(test)]
mod tests;
