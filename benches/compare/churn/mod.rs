//! The same lab of many namespaces, each with a port and an address, made and taken away again: by a script of `ip -batch` and a
//! Linux bridge, and by `vswitchctl apply` and `reset`, in turn.

mod broadcast;
mod ours;
mod script;

use anyhow::{Context, Result, ensure};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::command::{run, wait_until};
use crate::lab::{Lab, SWITCH, in_namespace, in_namespace_at};
use crate::report::{Machine, median};

/// Ports that a Linux bridge can have (BR_MAX_PORTS), without the number 0.
const BRIDGE_PORTS: u32 = 1023;
/// How long the kernel may take for what is left to it.
const PATIENCE: Duration = Duration::from_secs(600);
/// Until what the stacks had to say at first (IPv6 looks for routers) is mostly over; whether it is can't be seen from here.
const SETTLE: Duration = Duration::from_secs(12);
/// Stands for a namespace that goes after all others.
const LAST: &str = "cmp-last";

/// What was measured, by name: the script's begin with `script`, those of this switch with `vswitch`; `_s` are seconds, `_ms`
/// milliseconds, `_mib` MiB.
type Figures = BTreeMap<&'static str, f64>;

/// See [`churn`].
#[derive(Serialize)]
pub struct Churn {
    machine: Machine,
    /// Namespaces, each with a port and an address.
    namespaces: u32,
    summary: BTreeMap<&'static str, Figure>,
    /// Time of `apply`, divided by that of the script; the median of the rounds' ratios.
    up_ratio: Option<f64>,
    /// The same of `reset` and what the script does to the same end, both until the last interface is gone.
    down_ratio: Option<f64>,
    rounds: Vec<Figures>,
}

/// A figure over all rounds.
#[derive(Serialize)]
struct Figure {
    median: f64,
    min: f64,
    max: f64,
}

/// Makes the lab of `count` namespaces and takes it away again, by the script and by this switch, `rounds` times.
///
/// # Errors
/// A step fails, or a namespace does not hear a broadcast.
pub fn churn(count: u32, rounds: u32) -> Result<Churn> {
    ensure!(
        (2..=BRIDGE_PORTS).contains(&count),
        "{count} namespaces: a broadcast needs two, and a Linux bridge has at most {BRIDGE_PORTS} ports"
    );
    // A socket in each namespace.
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    let mut report = Churn {
        machine: Machine::read()?,
        namespaces: count,
        summary: BTreeMap::new(),
        up_ratio: None,
        down_ratio: None,
        rounds: Vec::new(),
    };
    for round in 1..=rounds {
        let mut figures = Figures::new();
        for part in [script::round, ours::round] {
            part(&Lab::new()?, count, &mut figures).with_context(|| format!("round {round}"))?;
            drained(&Lab::new()?)?;
        }
        eprintln!("round {round} of {rounds}: {figures:?}");
        report.rounds.push(figures);
    }
    for name in report.rounds.iter().flat_map(BTreeMap::keys) {
        let mut values: Vec<_> = report
            .rounds
            .iter()
            .filter_map(|round| round.get(name).copied())
            .collect();
        let Some(median) = median(&mut values) else { continue };
        // Sorted by now.
        let (min, max) = (values[0], values[values.len() - 1]);
        report.summary.insert(name, Figure { median, min, max });
    }
    report.up_ratio = ratio(&report.rounds, "vswitch_up_s", "script_up_s");
    report.down_ratio = ratio(&report.rounds, "vswitch_gone_s", "script_gone_s");
    Ok(report)
}

fn ratio(rounds: &[Figures], of: &str, to: &str) -> Option<f64> {
    let ratios = rounds.iter().filter_map(|round| Some(round.get(of)? / round.get(to)?));
    median(&mut ratios.collect::<Vec<_>>())
}

/// Seconds that `work` takes.
fn timed(work: impl FnOnce() -> Result<()>) -> Result<f64> {
    let start = Instant::now();
    work()?;
    Ok(start.elapsed().as_secs_f64())
}

/// Runs many `ip` commands by one process.
fn batch(dir: &Path, options: &str, lines: impl Iterator<Item = String>) -> Result<()> {
    let file: PathBuf = dir.join("batch");
    fs::write(&file, lines.collect::<Vec<_>>().join("\n") + "\n")?;
    run(&format!("ip {options} -batch {}", file.display())).map(drop)
}

/// Interfaces in the namespace at `path`, without `lo` and others that are always there.
fn interfaces(path: &Path) -> Result<usize> {
    // Unlike a netlink dump it does not wait for who changes interfaces, nor does that one for it.
    let list = in_namespace_at(path, || Ok(fs::read_to_string("/proc/thread-self/net/dev")?))?;
    let names = list.lines().filter_map(|line| Some(line.split_once(':')?.0.trim()));
    Ok(names
        .filter(|name| name.starts_with(NAME) || name.starts_with('~'))
        .count())
}

/// Waits until the last near end is gone from the namespace at `path`.
fn wait_gone(path: &Path) -> Result<()> {
    let gone = || Ok(interfaces(path)? == 0);
    wait_until("the interfaces are gone", PATIENCE, gone)
}

/// Waits until the kernel has taken apart the namespaces that were deleted before: it goes through them in turn, and so comes
/// last to the one that is made here.
fn drained(_lab: &Lab) -> Result<()> {
    run(&format!("ip netns add {LAST}"))?;
    run(&format!(
        "ip -n {SWITCH} link add last type veth peer name eth0 netns {LAST}"
    ))?;
    run(&format!("ip netns del {LAST}"))?;
    wait_until("the kernel has taken the namespaces apart", PATIENCE, || {
        in_namespace(SWITCH, || {
            Ok(!fs::read_to_string("/proc/thread-self/net/dev")?.contains("last:"))
        })
    })
}

/// Names of namespaces and ports begin so.
const NAME: &str = "many-";
