//! How exact the impairment of this switch is: delay, rate and loss as set and as measured between two stations.

use anyhow::{Context, Result, ensure};
use nix::sys::socket::{setsockopt, sockopt};
use serde::Serialize;
use std::io::ErrorKind;
use std::net::UdpSocket;
use std::thread::{scope, sleep};
use std::time::{Duration, Instant};

use crate::command::run;
use crate::lab::{A, B, Lab, in_namespace};
use crate::peers::vswitch;
use crate::report::median;

const PORT: u16 = 9;
/// Bytes of UDP payload, and of the Ethernet, IP and UDP headers before it.
const PAYLOAD: usize = 1400;
const HEADERS: usize = 14 + 20 + 8;
/// What counts as exact.
const DELAY_BOUND_MS: f64 = 0.2;
const RATE_BOUND: f64 = 0.02;
/// Standard deviations within which 999 of 1000 binomial counts lie.
const DEVIATIONS: f64 = 3.29;
/// Receive buffer: a second's worth at 1 Gbit/s, as the kernel counts it.
const BUFFER: usize = 256 << 20;
/// What has not come by then does not come.
const SILENCE: Duration = Duration::from_millis(500);

/// See [`impair`].
#[derive(Serialize)]
pub struct Impair {
    /// One way without impairment, in milliseconds (median): a part of every delay below.
    base_ms: f64,
    delays: Vec<Delay>,
    rates: Vec<Rate>,
    losses: Vec<Loss>,
}

/// Datagrams with the time they were sent at, on an otherwise idle switch.
#[derive(Serialize)]
struct Delay {
    set_ms: f64,
    /// From the sender's call to the receiver's, the way through the switch included.
    median_ms: f64,
    off_ms: f64,
    exact: bool,
}

/// Datagrams as fast as the sender can.
#[derive(Serialize)]
struct Rate {
    set_mbit: f64,
    /// Ethernet frames without preamble and check sequence, from the first arrival to the last.
    measured_mbit: f64,
    off_percent: f64,
    exact: bool,
}

/// Datagrams one by one; what does not arrive is lost.
#[derive(Serialize)]
struct Loss {
    set_percent: f64,
    set_burst: Option<u32>,
    sent: u32,
    lost: u32,
    /// Of independent losses, 999 in 1000 counts lie in between.
    lowest: f64,
    highest: f64,
    /// Losses in a row, on average.
    mean_burst: f64,
    exact: bool,
}

/// Measures all three; `seconds` is the length of each rate and delay.
///
/// # Errors
/// If the switch can't be set up, or nothing arrives.
pub fn impair(seconds: u64, datagrams: u32) -> Result<Impair> {
    let lab = Lab::new()?;
    let mut running = vswitch::set_up(&lab, "veth", vswitch::FastPath::On)?;
    lab.wait_connected()?;
    running.check_alive()?;
    let ctl = format!(
        "{} --socket {}/control.sock",
        vswitch::program("vswitchctl")?.display(),
        lab.dir().display()
    );
    let path = Path::open()?;
    let length = Duration::from_secs(seconds);
    let set = |options: &str| run(&format!("{ctl} impair {} {options}", B.ns));

    let base_ms = path.one_way(length)?;
    let mut delays = Vec::new();
    for set_us in [500, 1000, 5000, 20_000, 100_000] {
        set(&format!("--delay {set_us}us"))?;
        let (set_ms, median_ms) = (f64::from(set_us) / 1e3, path.one_way(length)?);
        let off_ms = median_ms - set_ms;
        delays.push(Delay {
            set_ms,
            median_ms,
            off_ms,
            exact: off_ms.abs() <= DELAY_BOUND_MS,
        });
    }
    let mut rates = Vec::new();
    for mbit in [1, 10, 100, 500] {
        set(&format!("--rate {mbit}mbit --limit 2000"))?;
        let (set_mbit, measured_mbit) = (f64::from(mbit), path.flood(length)?);
        let off = measured_mbit / set_mbit - 1.0;
        rates.push(Rate {
            set_mbit,
            measured_mbit,
            off_percent: off * 100.0,
            exact: off.abs() <= RATE_BOUND,
        });
    }
    let mut losses = Vec::new();
    for (percent, burst) in [(0.1, None), (1.0, None), (10.0, None), (1.0, Some(5)), (10.0, Some(5))] {
        let bursts = burst.map_or_else(String::new, |burst| format!("--loss-burst {burst}"));
        set(&format!("--loss {percent}% {bursts}"))?;
        losses.push(loss(percent, burst, &path.fates(datagrams)?));
    }
    running.check_alive()?;
    Ok(Impair {
        base_ms,
        delays,
        rates,
        losses,
    })
}

fn loss(set_percent: f64, set_burst: Option<u32>, arrived: &[bool]) -> Loss {
    let sent = arrived.len() as f64;
    let lost = arrived.iter().filter(|arrived| !**arrived).count();
    let starts = arrived.chunk_by(|a, b| a == b).filter(|run| !run[0]).count();
    let share = set_percent / 100.0;
    // Losses in a row make the count vary more: by (1 + r) / (1 - r) for a correlation r of two that follow each other.
    let spread = set_burst.map_or(1.0, |burst| {
        let burst = f64::from(burst);
        let correlation = 1.0 - 1.0 / burst - share / (burst * (1.0 - share));
        (1.0 + correlation) / (1.0 - correlation)
    });
    let (mean, width) = (
        sent * share,
        DEVIATIONS * (sent * share * (1.0 - share) * spread).sqrt(),
    );
    Loss {
        set_percent,
        set_burst,
        sent: arrived.len() as u32,
        lost: lost as u32,
        lowest: mean - width,
        highest: mean + width,
        mean_burst: lost as f64 / starts.max(1) as f64,
        exact: (lost as f64 - mean).abs() <= width,
    }
}

/// A datagram socket at each end.
struct Path {
    sender: UdpSocket,
    receiver: UdpSocket,
    start: Instant,
}

impl Path {
    fn open() -> Result<Self> {
        let receiver = in_namespace(B.ns, || Ok(UdpSocket::bind((B.ip, PORT))?)).context("the receiver")?;
        let sender = in_namespace(A.ns, || {
            let socket = UdpSocket::bind((A.ip, 0))?;
            socket.connect((B.ip, PORT))?;
            Ok(socket)
        })
        .context("the sender")?;
        setsockopt(&receiver, sockopt::RcvBufForce, &BUFFER).context("the receiver's buffer")?;
        receiver.set_read_timeout(Some(SILENCE))?;
        Ok(Self {
            sender,
            receiver,
            start: Instant::now(),
        })
    }

    /// The next datagram's first eight bytes; none after a silence.
    fn receive(&self) -> Result<Option<u64>> {
        let mut bytes = [0; 2048];
        match self.receiver.recv(&mut bytes) {
            Ok(_) => Ok(bytes.first_chunk().map(|number| u64::from_le_bytes(*number))),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Median time of one way, in milliseconds, one datagram after the other.
    fn one_way(&self, length: Duration) -> Result<f64> {
        while self.receive()?.is_some() {}
        let (begin, mut times) = (Instant::now(), Vec::new());
        while begin.elapsed() < length {
            let sent = self.start.elapsed();
            self.sender.send(&(sent.as_nanos() as u64).to_le_bytes())?;
            let stamp = self.receive()?.context("a datagram was lost")?;
            let arrived = self.start.elapsed();
            times.push(arrived.saturating_sub(Duration::from_nanos(stamp)).as_secs_f64() * 1e3);
        }
        median(&mut times).context("no datagram arrived")
    }

    /// Mbit/s of Ethernet frames that arrive when as many are sent as can be.
    fn flood(&self, length: Duration) -> Result<f64> {
        while self.receive()?.is_some() {}
        scope(|scope| {
            let sender = scope.spawn(|| -> Result<()> {
                let begin = Instant::now();
                while begin.elapsed() < length {
                    // A full queue of the interface is as good as one of the switch.
                    match self.sender.send(&[0; PAYLOAD]) {
                        Err(error) if error.raw_os_error() != Some(libc::ENOBUFS) => return Err(error.into()),
                        _ => {}
                    }
                }
                Ok(())
            });
            let mut arrivals: Option<(Instant, Instant)> = None;
            let mut frames = 0u32;
            while self.receive()?.is_some() {
                let now = Instant::now();
                match &mut arrivals {
                    None => arrivals = Some((now, now)),
                    Some((_, last)) => {
                        *last = now;
                        frames += 1;
                    }
                }
            }
            sender.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
            let (first, last) = arrivals.context("no datagram arrived")?;
            ensure!(frames > 0, "one datagram arrived and no more");
            let bits = f64::from(frames) * ((PAYLOAD + HEADERS) * 8) as f64;
            Ok(bits / last.duration_since(first).as_secs_f64() / 1e6)
        })
    }

    /// Which of so many datagrams arrive.
    fn fates(&self, count: u32) -> Result<Vec<bool>> {
        while self.receive()?.is_some() {}
        let mut arrived = vec![false; count as usize];
        scope(|scope| {
            let sender = scope.spawn(|| -> Result<()> {
                for number in 0..u64::from(count) {
                    self.sender.send(&number.to_le_bytes())?;
                    if number % 50 == 49 {
                        // Slow enough that nothing but the impairment loses any.
                        sleep(Duration::from_millis(1));
                    }
                }
                Ok(())
            });
            while let Some(number) = self.receive()? {
                if let Some(fate) = arrived.get_mut(number as usize) {
                    *fate = true;
                }
            }
            sender.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })?;
        Ok(arrived)
    }
}

#[cfg(test)]
mod tests {
    use super::loss;

    #[test]
    fn losses_are_counted_with_their_bursts() {
        let arrived: Vec<_> = (0..1000).map(|n| n % 100 > 4).collect();
        let found = loss(5.0, None, &arrived);
        assert_eq!((found.lost, found.mean_burst, found.exact), (50, 5.0, true));
        let found = loss(10.0, None, &arrived);
        assert!(!found.exact && found.lowest > 60.0);
        // In bursts the same count is no surprise.
        assert!(loss(10.0, Some(20), &arrived).exact);
    }
}
