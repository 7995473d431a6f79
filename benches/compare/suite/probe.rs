//! Frames with the time they were sent at, beside whatever load.

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::sys::socket::sockopt::{RcvBufForce, ReceiveTimeout};
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, bind, recv, setsockopt, socket};
use nix::sys::time::TimeVal;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, ScopedJoinHandle, sleep};
use std::time::{Duration, Instant};

use super::farm::Station;
use crate::generator::{link_address, udp_frame};
use crate::lab::{INTERFACE, in_namespace};

/// Time between two probes.
const EVERY: Duration = Duration::from_millis(1);
/// What has not come by then, in microseconds, does not come.
const SILENCE_US: i64 = 300_000;
/// Receive buffer.
const BUFFER: usize = 16 << 20;
/// Offset of the time in a probe, in nanoseconds since the first.
const STAMP: usize = 42;

/// Sends a probe each millisecond and receives them at `at`, each on a thread of its own. Times on their way in
/// microseconds, by receiver. `load` runs beside it until it is told that all were sent.
///
/// # Errors
/// If an interface can't be used, and what `load` says.
pub fn probe(
    from: &Station,
    to: [u8; 6],
    at: &[&Station],
    count: u32,
    load: impl FnOnce(&AtomicBool) -> Result<()> + Send,
) -> Result<Vec<Vec<f64>>> {
    let sockets = at.iter().map(|station| listen(station)).collect::<Result<Vec<_>>>()?;
    let generator = from.generator(vec![Vec::new()])?;
    let (start, done) = (Instant::now(), AtomicBool::new(false));
    let done = &done;
    thread::scope(|scope| {
        let receivers: Vec<_> = sockets
            .iter()
            .map(|socket| scope.spawn(move || receive(socket, start, done)))
            .collect();
        let load = scope.spawn(move || load(done));
        let mut frame = udp_frame(from.mac, to, 60);
        let mut sent = Ok(true);
        for n in 0..count {
            sleep((start + EVERY * n).saturating_duration_since(Instant::now()));
            frame[STAMP..STAMP + 8].copy_from_slice(&(start.elapsed().as_nanos() as u64).to_le_bytes());
            sent = generator.send_now(&frame);
            if sent.is_err() {
                break;
            }
        }
        done.store(true, Ordering::Relaxed);
        let loaded = join(load);
        let times = receivers.into_iter().map(join).collect();
        sent.and(loaded).and(times)
    })
}

fn join<T>(thread: ScopedJoinHandle<'_, T>) -> T {
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// A socket that gets the probes, which are IPv4, and nothing of [`crate::generator::plain_frame`]'s.
fn listen(station: &Station) -> Result<OwnedFd> {
    in_namespace(&station.ns, || {
        let flags = SockFlag::SOCK_CLOEXEC;
        let socket = socket(AddressFamily::Packet, SockType::Raw, flags, SockProtocol::EthIp)?;
        bind(socket.as_raw_fd(), &link_address(INTERFACE)?)?;
        setsockopt(&socket, RcvBufForce, &BUFFER)?;
        setsockopt(&socket, ReceiveTimeout, &TimeVal::new(0, SILENCE_US))?;
        Ok(socket)
    })
}

/// Until there is silence after all were sent.
fn receive(socket: &OwnedFd, start: Instant, done: &AtomicBool) -> Result<Vec<f64>> {
    let mut times = Vec::new();
    let mut bytes = [0; 2048];
    loop {
        match recv(socket.as_raw_fd(), &mut bytes, MsgFlags::empty()) {
            Ok(_) => {
                let arrived = start.elapsed().as_nanos() as u64;
                let stamp = bytes[STAMP..].first_chunk();
                let stamp = stamp.map_or(arrived, |stamp| u64::from_le_bytes(*stamp));
                times.push(arrived.saturating_sub(stamp) as f64 / 1e3);
            }
            Err(Errno::EAGAIN) if done.load(Ordering::Relaxed) => return Ok(times),
            Err(Errno::EAGAIN | Errno::EINTR) => {}
            Err(error) => return Err(error).context("a probe's receiver"),
        }
    }
}
