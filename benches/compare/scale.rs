//! Many ports on this switch: memory, the time that one more takes, and whether all of them work.

use anyhow::{Context, Result, ensure};
use serde::Serialize;
use std::fs;
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::command::{run, run_in};
use crate::lab::Lab;
use crate::measure::Cpu;
use crate::peers::{Running, vswitch};
use crate::report::median;

/// Ports that are added and removed again for the median of add-port.
const TRIES: u32 = 15;
/// How long the daemon is watched when nothing happens, after the ports' first announcements are over.
const IDLE: Duration = Duration::from_secs(5);
/// Until what the stacks had begun to say before they were quietened is over; whether it is can't be seen from here.
const SETTLE: Duration = Duration::from_secs(3);
/// Addresses are counted through a /16.
const MOST_PORTS: u32 = 60_000;

/// See [`memory`].
#[derive(Serialize)]
pub struct Memory {
    /// Ports present.
    ports: u32,
    /// Resident memory of the daemon before the first port, in MiB.
    empty_mib: f64,
    /// The same with all ports, in MiB.
    resident_mib: f64,
    /// Median time of `vswitchctl add-port` with all ports present, in milliseconds; the tool's own start is in it.
    add_port_ms: f64,
    /// The longest of them.
    add_port_max_ms: f64,
    /// Processor time of the daemon while no port has traffic, in percent of one processor.
    idle_percent: f64,
}

/// Starts the daemon with `count` veth ports and looks at it.
///
/// # Errors
/// If a port can't be added.
pub fn memory(count: u32) -> Result<Memory> {
    let many = Many::start()?;
    let empty_mib = resident_mib(&many.running)?;
    for number in 0..count {
        many.add(number)?;
    }
    let mut times = Vec::new();
    for number in count..count + TRIES {
        let start = Instant::now();
        many.add(number)?;
        times.push(start.elapsed().as_secs_f64() * 1e3);
        run(&format!("{} del-port {}", many.ctl, name(number)))?;
    }
    let add_port_ms = median(&mut times).context("no port was added")?;
    for number in 0..count {
        quieten(number)?;
    }
    sleep(SETTLE);
    let resident_mib = resident_mib(&many.running)?;
    let before = Cpu::now(&many.running.pids())?;
    sleep(IDLE);
    let used = Cpu::now(&many.running.pids())?.since(before);
    Ok(Memory {
        ports: count,
        empty_mib,
        resident_mib,
        add_port_ms,
        add_port_max_ms: times.last().copied().unwrap_or(add_port_ms),
        idle_percent: used.switch / IDLE.as_secs_f64() * 100.0,
    })
}

/// See [`ports`].
#[derive(Serialize)]
pub struct Ports {
    /// Ports present.
    ports: u32,
    /// Until the last one was attached, in seconds.
    add_all_seconds: f64,
    /// Pings answered.
    answered: u32,
    /// Pings that were not, by port.
    silent: Vec<String>,
}

/// Attaches `count` veth ports; then every one pings the next and the first.
///
/// # Errors
/// If a port can't be added or a ping is not answered.
pub fn ports(count: u32) -> Result<Ports> {
    ensure!(count >= 2, "{count} ports: a ping needs two");
    let many = Many::start()?;
    let start = Instant::now();
    for number in 0..count {
        many.add(number)?;
    }
    let add_all_seconds = start.elapsed().as_secs_f64();
    let mut report = Ports {
        ports: count,
        add_all_seconds,
        answered: 0,
        silent: Vec::new(),
    };
    for number in 0..count {
        for other in [(number + 1) % count, 0] {
            match run_in(&name(number), &format!("ping -c 1 -W 2 {}", address(other))) {
                Ok(_) => report.answered += 1,
                Err(_) => report.silent.push(format!("{} to {}", name(number), name(other))),
            }
        }
    }
    ensure!(report.silent.is_empty(), "no answer: {}", report.silent.join(", "));
    Ok(report)
}

/// A daemon with ports that are counted through.
struct Many {
    ctl: String,
    // Before the lab, whose directory it uses until it has stopped.
    running: Running,
    _lab: Lab,
}

impl Many {
    fn start() -> Result<Self> {
        let lab = Lab::new()?;
        let (running, ctl) = vswitch::start(&lab, vswitch::FastPath::On)?;
        Ok(Self {
            ctl,
            running,
            _lab: lab,
        })
    }

    fn add(&self, number: u32) -> Result<()> {
        ensure!(number < MOST_PORTS, "{number} ports: at most {MOST_PORTS}");
        run(&format!(
            "{} add-port {} --addr {}/16",
            self.ctl,
            name(number),
            address(number)
        ))?;
        Ok(())
    }
}

/// Resident memory of a switch's process, in MiB.
pub fn resident_mib(running: &Running) -> Result<f64> {
    let pid = *running.pids().first().context("the daemon is not there")?;
    let path = format!("/proc/{pid}/status");
    let status = fs::read_to_string(&path).with_context(|| path.clone())?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib: f64 = line
        .and_then(|line| line.trim().strip_suffix(" kB")?.parse().ok())
        .context("no VmRSS")?;
    Ok(kib / 1024.0)
}

/// Ends the search for routers, which a namespace keeps up for an hour and which is traffic to all ports.
fn quieten(number: u32) -> Result<()> {
    for which in ["all", "eth0"] {
        run_in(
            &name(number),
            &format!("sysctl -q -w net.ipv6.conf.{which}.router_solicitations=0"),
        )?;
    }
    Ok(())
}

/// Of a namespace and its port.
pub fn name(number: u32) -> String {
    format!("many-{number}")
}

/// In a /16.
pub fn address(number: u32) -> String {
    let number = number + 1;
    format!("10.98.{}.{}", number / 250, number % 250 + 1)
}

#[cfg(test)]
mod tests {
    use super::address;

    #[test]
    fn addresses_are_counted_through_without_ends_of_networks() {
        assert_eq!(address(0), "10.98.0.2");
        assert_eq!(address(248), "10.98.0.250");
        assert_eq!(address(249), "10.98.1.1");
    }
}
