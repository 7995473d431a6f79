//! Frames per second: the generator in one end, a sink in the other that drops at ingress.

use anyhow::{Context, Result, ensure};
use std::fs;
use std::thread::sleep;
use std::time::Duration;

use super::{Cpu, Metric, Sample};
use crate::command::{run, run_in};
use crate::generator::Generator;
use crate::lab::{A, B, INTERFACE, Lab, in_namespace, link};

/// After the last frame, as long as it takes a counter to stand still.
const SETTLE: Duration = Duration::from_millis(50);

/// One instruction of classic BPF: return TC_ACT_SHOT.
const DROP_ALL: &str = "1,6 0 0 2";

pub fn measure(lab: &Lab, pids: &[u32], duration: Duration, sample: &mut Sample) -> Result<()> {
    let sink = Sink::open(lab)?;
    let before = Cpu::now(pids)?;
    let short = offer(60, duration)?;
    let used = Cpu::now(pids)?.since(before);
    let millions = short.received as f64 / 1e6;
    sample.insert(Metric::MachinePerMframe, used.machine / millions);
    if !pids.is_empty() {
        sample.insert(Metric::SwitchPerMframe, used.switch / millions);
    }
    short.insert(
        sample,
        [Metric::Frames60, Metric::Frames60Offered, Metric::Frames60Loss],
    );
    let long = offer(1500, duration)?;
    long.insert(
        sample,
        [Metric::Frames1500, Metric::Frames1500Offered, Metric::Frames1500Loss],
    );
    drop(sink);
    Ok(())
}

struct Outcome {
    offered: u64,
    received: u64,
    seconds: f64,
}

impl Outcome {
    fn insert(&self, sample: &mut Sample, [received, offered, lost]: [Metric; 3]) {
        let rate = |frames: u64| frames as f64 / self.seconds / 1e6;
        sample.insert(received, rate(self.received));
        sample.insert(offered, rate(self.offered));
        let missing = self.offered.saturating_sub(self.received);
        sample.insert(lost, missing as f64 / self.offered as f64 * 100.0);
    }
}

fn offer(size: usize, duration: Duration) -> Result<Outcome> {
    let destination = link(&B)?.mac;
    let generator = in_namespace(A.ns, || Generator::open(INTERFACE, destination, size))?;
    let before = link(&B)?.received;
    let sent = generator.run(duration)?;
    let received = settled(before)?;
    ensure!(received > 0, "no {size}-byte frame arrived");
    Ok(Outcome {
        offered: sent.sent + sent.refused,
        received,
        seconds: sent.seconds,
    })
}

/// Frames received since `before`, once no more come.
fn settled(before: u64) -> Result<u64> {
    let mut last = link(&B)?.received;
    loop {
        sleep(SETTLE);
        let now = link(&B)?.received;
        // A stray frame of IPv6 or ARP may still come in.
        if now <= last + 1 {
            return Ok(now - before);
        }
        last = now;
    }
}

/// Drops whatever the receiving end gets, before its stack sees it. Its interface has counted the frame by then.
struct Sink;

impl Sink {
    fn open(lab: &Lab) -> Result<Self> {
        // The last words of both ends, so that the switch knows where they are.
        run_in(A.ns, &format!("ping -c 1 -W 1 {}", B.ip))?;
        run_in(B.ns, &format!("tc qdisc add dev {INTERFACE} clsact"))?;
        let sink = Self;
        // Small kernels come without matchall and the drop action; nearly all have the BPF classifier.
        let program = lab.dir().join("drop.bpf");
        fs::write(&program, DROP_ALL).with_context(|| program.display().to_string())?;
        let filter = format!("bpf direct-action bytecode-file {}", program.display());
        run_in(
            B.ns,
            &format!("tc filter add dev {INTERFACE} ingress protocol all {filter}"),
        )?;
        Ok(sink)
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        let _ = run(&format!("tc -n {} qdisc del dev {INTERFACE} clsact", B.ns));
    }
}
