//! Round trips: one byte there and back over TCP, flood ping, and an echo whose asker does not sleep.

use anyhow::{Context, Result, ensure};
use nix::errno::Errno;
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, connect, recv, send, setsockopt, socket,
    sockopt,
};
use nix::unistd::Pid;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddrV4, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, RawFd};
use std::thread;
use std::time::{Duration, Instant};

use super::{Metric, Sample};
use crate::command::run_in;
use crate::lab::{A, B, CONGESTION_CONTROL, in_namespace};
use crate::report::median;
use vswitch_datapath::frame::Sum;

const PORT: u16 = 7;

pub fn measure(duration: Duration, sample: &mut Sample) -> Result<()> {
    sample.insert(Metric::RttTcp, over_tcp(duration)?);
    sample.insert(Metric::RttPing, flood_ping(duration)?);
    sample.insert(Metric::RttPolled, in_namespace(A.ns, || polled_echo(duration))?);
    Ok(())
}

/// Median of all round trips, in microseconds; both ends on one processor.
fn over_tcp(duration: Duration) -> Result<f64> {
    let listener =
        in_namespace(B.ns, || Ok(TcpListener::bind((B.ip, PORT))?)).context("the echo server can't listen")?;
    let client = in_namespace(A.ns, || Ok(TcpStream::connect((B.ip, PORT))?)).context("the echo server")?;
    prepare(&client)?;
    // A lost byte comes again after the retransmission time-out; a path that is dead for longer is an error.
    client.set_read_timeout(Some(Duration::from_secs(5)))?;
    thread::scope(|scope| {
        let server = scope.spawn(|| {
            share_processor()?;
            echo(&listener)
        });
        let asker = scope.spawn(|| {
            share_processor()?;
            ask(&client, duration)
        });
        let times = asker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        // Ends the echo as well, whether or not all went well.
        let _ = client.shutdown(std::net::Shutdown::Both);
        server
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            .context("the echo server")?;
        median(&mut times.context("the echo's client")?).context("no byte came back")
    })
}

/// Puts the calling thread on the first processor. With both ends there neither waits for an idle processor to wake up,
/// which takes ten times as long as a good switch and comes and goes with the scheduler's mood.
fn share_processor() -> Result<()> {
    let this = Pid::from_raw(0);
    let allowed = sched_getaffinity(this)?;
    let first = (0..CpuSet::count())
        .find(|cpu| allowed.is_set(*cpu).unwrap_or(false))
        .context("no processor")?;
    let mut set = CpuSet::new();
    set.set(first)?;
    sched_setaffinity(this, &set).context("the round trip's ends can't be put on one processor")
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

/// Time of one exchange, in microseconds: ping sends the next request when an answer comes. The times that ping prints
/// have steps of a microsecond, too coarse for a path that takes two.
fn flood_ping(duration: Duration) -> Result<f64> {
    let report = run_in(A.ns, &format!("ping -f -q -w {} {}", duration.as_secs().max(1), B.ip))?;
    exchange_of_ping(&report).with_context(|| format!("ping got no answer: {report}"))
}

/// From `1000 packets transmitted, 999 received, 0.1% packet loss, time 500ms`.
fn exchange_of_ping(report: &str) -> Option<f64> {
    let line = report.lines().find(|line| line.contains(" packets transmitted"))?;
    let before = |mark: &str| line.split_once(mark)?.0.rsplit(' ').next()?.parse::<f64>().ok();
    let received = before(" received").filter(|received| *received > 0.0)?;
    let milliseconds: f64 = line.rsplit_once(" time ")?.1.strip_suffix("ms")?.parse().ok()?;
    Some(milliseconds * 1e3 / received)
}

/// Median round trip of an echo request, in microseconds, whose asker looks for the answer until it is there: the time of
/// the way itself, without the time that a thread takes to wake up.
fn polled_echo(duration: Duration) -> Result<f64> {
    let socket = socket(
        AddressFamily::Inet,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK,
        SockProtocol::Icmp,
    )
    .context("a socket for echo requests")?;
    let socket = socket.as_raw_fd();
    connect(socket, &SockaddrIn::from(SocketAddrV4::new(B.ip.parse()?, 0)))?;
    let mut times = Vec::new();
    let start = Instant::now();
    let mut number = 0u16;
    while start.elapsed() < duration {
        number = number.wrapping_add(1);
        let asked = Instant::now();
        send(socket, &echo_request(number), MsgFlags::empty()).context("the echo request")?;
        while !answered(socket, number)? {
            ensure!(asked.elapsed() < Duration::from_secs(1), "no answer to an echo request");
        }
        times.push(asked.elapsed().as_secs_f64() * 1e6);
    }
    median(&mut times).context("no echo came back")
}

/// RFC 792: type 8, identifier 0.
fn echo_request(number: u16) -> [u8; 8] {
    let [high, low] = number.to_be_bytes();
    let mut request = [8, 0, 0, 0, 0, 0, high, low];
    let check = Sum::default().bytes(&request).checksum();
    request[2..4].copy_from_slice(&check);
    request
}

/// Whether the answer to request `number` has come; anything else that has is thrown away.
fn answered(socket: RawFd, number: u16) -> Result<bool> {
    let mut packet = [0; 64];
    match recv(socket, &mut packet, MsgFlags::empty()) {
        Ok(length) => {
            let header = usize::from(packet[0] & 0xf) * 4;
            let icmp = packet[..length].get(header..).unwrap_or_default();
            Ok(icmp.len() >= 8 && icmp[0] == 0 && icmp[6..8] == number.to_be_bytes())
        }
        Err(Errno::EAGAIN) => Ok(false),
        Err(error) => Err(error).context("the echo's socket"),
    }
}

#[cfg(test)]
mod tests {
    use super::exchange_of_ping;
    #[test]
    fn ping_s_time_is_shared_by_the_answers() {
        let report =
            "PING\n\n--- x ping statistics ---\n1000 packets transmitted, 500 received, 50% packet loss, time 20ms\n";
        assert_eq!(exchange_of_ping(report), Some(40.0));
        let silence = "1000 packets transmitted, 0 received, 100% packet loss, time 20ms\n";
        assert_eq!(exchange_of_ping(silence), None);
    }
}
