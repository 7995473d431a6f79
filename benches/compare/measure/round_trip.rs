//! Round trips: one byte there and back over TCP, and flood ping.

use anyhow::{Context, Result};
use nix::sys::socket::{setsockopt, sockopt};
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use super::{Metric, Sample};
use crate::command::run_in;
use crate::lab::{A, B, CONGESTION_CONTROL, in_namespace};
use crate::report::median;

const PORT: u16 = 7;

pub fn measure(duration: Duration, sample: &mut Sample) -> Result<()> {
    sample.insert(Metric::RttTcp, over_tcp(duration)?);
    sample.insert(Metric::RttPing, flood_ping(duration)?);
    Ok(())
}

/// Median of all round trips, in microseconds.
fn over_tcp(duration: Duration) -> Result<f64> {
    let listener =
        in_namespace(B.ns, || Ok(TcpListener::bind((B.ip, PORT))?)).context("the echo server can't listen")?;
    let client = in_namespace(A.ns, || Ok(TcpStream::connect((B.ip, PORT))?)).context("the echo server")?;
    prepare(&client)?;
    // A lost byte comes again after the retransmission time-out; a path that is dead for longer is an error.
    client.set_read_timeout(Some(Duration::from_secs(5)))?;
    thread::scope(|scope| {
        let server = scope.spawn(|| echo(&listener));
        let times = ask(&client, duration);
        // Ends the echo as well, whether or not all went well.
        let _ = client.shutdown(std::net::Shutdown::Both);
        server
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            .context("the echo server")?;
        median(&mut times.context("the echo's client")?).context("no byte came back")
    })
}

fn prepare(stream: &TcpStream) -> Result<()> {
    stream.set_nodelay(true)?;
    setsockopt(stream, sockopt::TcpCongestion, &CONGESTION_CONTROL.into())?;
    Ok(())
}

fn echo(listener: &TcpListener) -> Result<()> {
    let (mut stream, _) = listener.accept()?;
    prepare(&stream)?;
    let mut byte = [0];
    loop {
        match stream.read(&mut byte) {
            Ok(0) => return Ok(()),
            Ok(_) => stream.write_all(&byte)?,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
}

fn ask(mut stream: &TcpStream, duration: Duration) -> Result<Vec<f64>> {
    let mut times = Vec::new();
    let mut byte = [0];
    let start = Instant::now();
    while start.elapsed() < duration {
        let asked = Instant::now();
        stream.write_all(&byte)?;
        stream.read_exact(&mut byte)?;
        times.push(asked.elapsed().as_secs_f64() * 1e6);
    }
    Ok(times)
}

/// The mean, in microseconds: ping says no median.
fn flood_ping(duration: Duration) -> Result<f64> {
    let report = run_in(A.ns, &format!("ping -f -q -w {} {}", duration.as_secs().max(1), B.ip))?;
    mean_of_ping(&report).with_context(|| format!("ping's report has no times: {report}"))
}

/// From `rtt min/avg/max/mdev = 0.004/0.006/0.101/0.002 ms, ...`.
fn mean_of_ping(report: &str) -> Option<f64> {
    let times = report
        .lines()
        .find(|line| line.starts_with("rtt "))?
        .split_once(" = ")?
        .1;
    let milliseconds: f64 = times.split('/').nth(1)?.parse().ok()?;
    Some(milliseconds * 1e3)
}

#[cfg(test)]
mod tests {
    use super::mean_of_ping;

    #[test]
    fn the_second_time_of_ping_is_the_mean() {
        let report =
            "5 packets transmitted\nrtt min/avg/max/mdev = 0.004/0.006/0.101/0.002 ms, ipg/ewma 0.012/0.006 ms\n";
        assert_eq!(mean_of_ping(report), Some(6.0));
        assert_eq!(mean_of_ping("5 packets transmitted, 0 received\n"), None);
    }
}
