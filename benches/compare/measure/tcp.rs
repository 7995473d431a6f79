//! TCP streams by iperf3.

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use std::fs;
use std::time::Duration;

use super::{Cpu, Metric, Sample};
use crate::command::{Daemon, inside, run_in, wait_until};
use crate::lab::{A, B, CONGESTION_CONTROL, Lab};

/// iperf3's own.
const PORT: u16 = 5201;

/// Who sends.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// The first end.
    Forth,
    /// The second.
    Back,
}

pub fn measure(lab: &Lab, pids: &[u32], seconds: u32, sample: &mut Sample) -> Result<()> {
    let before = Cpu::now(pids)?;
    let run = Run::new(lab, 1, Way::Forth, seconds)?;
    let used = Cpu::now(pids)?.since(before);
    sample.insert(Metric::TcpOneForth, run.gbits);
    sample.insert(Metric::MachinePerGb, used.machine / run.gigabytes);
    if !pids.is_empty() {
        sample.insert(Metric::SwitchPerGb, used.switch / run.gigabytes);
    }
    sample.insert(Metric::TcpOneBack, Run::new(lab, 1, Way::Back, seconds)?.gbits);
    sample.insert(Metric::TcpFourForth, Run::new(lab, 4, Way::Forth, seconds)?.gbits);
    sample.insert(Metric::TcpFourBack, Run::new(lab, 4, Way::Back, seconds)?.gbits);
    Ok(())
}

fn listens(pid: u32) -> Result<bool> {
    let mut sockets = fs::read_to_string(format!("/proc/{pid}/net/tcp"))?;
    sockets.push_str(&fs::read_to_string(format!("/proc/{pid}/net/tcp6")).unwrap_or_default());
    Ok(sockets.lines().any(is_listener))
}

/// Is this line of /proc/net/tcp a socket that listens at [`PORT`]? The last run's connections are listed for a minute
/// more with the same local port.
fn is_listener(line: &str) -> bool {
    let mut fields = line.split_whitespace().skip(1);
    let (local, _remote, state) = (fields.next(), fields.next(), fields.next());
    local.is_some_and(|local| local.ends_with(&format!(":{PORT:04X}"))) && state == Some("0A")
}

/// What arrived.
pub struct Run {
    /// Gbit/s of payload.
    pub gbits: f64,
    /// 10^9 bytes of payload.
    pub gigabytes: f64,
}

impl Run {
    /// Runs iperf3 between the ends.
    ///
    /// # Errors
    /// If a connection does not come about or breaks.
    pub fn new(lab: &Lab, streams: u32, way: Way, seconds: u32) -> Result<Self> {
        // One server a run: between two runs it closes its port for a moment, and the next client may meet that.
        let server = Daemon::spawn(
            &inside(B.ns, &format!("iperf3 -s -1 -p {PORT}")),
            &lab.dir().join("iperf3.log"),
        )?;
        wait_until("iperf3 listens", Duration::from_secs(5), || listens(server.pid()))?;
        let back = if way == Way::Back { "-R" } else { "" };
        // A path that loses all of a stream's segments must not hold up the whole run.
        let patience = seconds + 15;
        let ip = B.ip;
        let line = format!(
            "timeout {patience} iperf3 -c {ip} -p {PORT} -C {CONGESTION_CONTROL} -J -t {seconds} -P {streams} {back}"
        );
        let report: Value = serde_json::from_str(&run_in(A.ns, &line)?).context("iperf3's report is not JSON")?;
        // A connection that breaks half-way is said in the report and not by the exit code.
        if let Some(error) = report.get("error") {
            bail!("iperf3, {streams} streams {back}: {error}");
        }
        let field = |name: &str| {
            report
                .pointer(&format!("/end/{name}"))
                .with_context(|| format!("iperf3's report has no end/{name}"))
        };
        let used = field("sender_tcp_congestion")?.as_str().unwrap_or_default();
        ensure!(
            used == CONGESTION_CONTROL,
            "iperf3 sent by {used}, not {CONGESTION_CONTROL}"
        );
        let number = |name: &str| {
            field(name)?
                .as_f64()
                .with_context(|| format!("iperf3's {name} is no number"))
        };
        let bytes = number("sum_received/bytes")?;
        ensure!(bytes > 0.0, "no byte arrived");
        Ok(Self {
            gbits: number("sum_received/bits_per_second")? / 1e9,
            gigabytes: bytes / 1e9,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::is_listener;

    #[test]
    fn only_a_listening_socket_at_the_port_counts() {
        assert!(is_listener(
            "   0: 00000000:1451 00000000:0000 0A 00000000:00000000 00:00000000 00000000"
        ));
        assert!(!is_listener(
            "   1: 0200630A:1451 0100630A:C350 06 00000000:00000000 03:00001770 00000000"
        ));
        assert!(!is_listener(
            "   2: 00000000:0007 00000000:0000 0A 00000000:00000000 00:00000000 00000000"
        ));
    }
}
