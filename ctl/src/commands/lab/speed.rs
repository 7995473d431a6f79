//! How fast TCP is from one namespace to another: a sender in the one, a receiver in the other, for a bounded time.

use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::panic::resume_unwind;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use vswitch_api::view::Stack;

use super::enter::Outside;
use crate::failure::Failure;

/// A connection comes about so soon, or not at all.
const CONNECT: Duration = Duration::from_secs(2);
/// What is still under way when the sender has ended is waited for so long.
const LATE: Duration = Duration::from_millis(500);
/// Bytes that are sent by one call.
const CHUNK: usize = 256 << 10;

/// Bits per second that came from one namespace to an address of another within about `time`; none: no connection came about.
pub fn measure(
    from: Option<&Stack>,
    to: Option<&Stack>,
    address: IpAddr,
    time: Duration,
) -> Result<Option<u64>, Failure> {
    let (listens, listening) = mpsc::channel();
    thread::scope(|scope| {
        let receiver = scope.spawn(move || -> Result<Option<u64>, Failure> {
            if !Outside::here()?.enter(to)? {
                return Ok(None);
            }
            // An address that is not there any more is one that can't be reached.
            let Ok(listener) = TcpListener::bind((address, 0)) else {
                return Ok(None);
            };
            let Ok(place) = listener.local_addr() else {
                return Ok(None);
            };
            if listens.send(place).is_err() {
                return Ok(None);
            }
            Ok(receive(&listener, time).unwrap_or(None))
        });
        let sender = scope.spawn(move || -> Result<(), Failure> {
            if !Outside::here()?.enter(from)? {
                return Ok(());
            }
            // The receiver has ended otherwise, and tells why.
            if let Ok(place) = listening.recv() {
                // How far it came tells the receiver.
                let _ = send(place, time);
            }
            Ok(())
        });
        sender.join().unwrap_or_else(|panic| resume_unwind(panic))?;
        receiver.join().unwrap_or_else(|panic| resume_unwind(panic))
    })
}

fn send(place: SocketAddr, time: Duration) -> io::Result<()> {
    let mut stream = TcpStream::connect_timeout(&place, CONNECT)?;
    let end = Instant::now() + time;
    let chunk = vec![0; CHUNK];
    while let Some(left) = end
        .checked_duration_since(Instant::now())
        .filter(|left| !left.is_zero())
    {
        stream.set_write_timeout(Some(left))?;
        stream.write_all(&chunk)?;
    }
    Ok(())
}

fn receive(listener: &TcpListener, time: Duration) -> io::Result<Option<u64>> {
    let wait = u16::try_from((CONNECT + LATE).as_millis()).unwrap_or(u16::MAX);
    let mut fds = [PollFd::new(listener.as_fd(), PollFlags::POLLIN)];
    listener.set_nonblocking(true)?;
    if poll(&mut fds, PollTimeout::from(wait))? == 0 {
        return Ok(None);
    }
    let (mut stream, _) = listener.accept()?;
    stream.set_nonblocking(false)?;
    let begin = Instant::now();
    let end = begin + time + LATE;
    let (mut buffer, mut bytes, mut last) = (vec![0; CHUNK], 0_u64, begin);
    while let Some(left) = end
        .checked_duration_since(Instant::now())
        .filter(|left| !left.is_zero())
    {
        stream.set_read_timeout(Some(left))?;
        match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => {
                bytes += read as u64;
                last = Instant::now();
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // The time is over, or the sender gave up.
            Err(_) => break,
        }
    }
    let nanos = last.duration_since(begin).as_nanos().max(1);
    let bits = u128::from(bytes) * 8 * 1_000_000_000 / nanos;
    Ok(Some(u64::try_from(bits).unwrap_or(u64::MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_way_that_is_there_has_a_speed_and_it_ends_in_time() {
        let begin = Instant::now();
        let bits = measure(None, None, "127.0.0.1".parse().unwrap(), Duration::from_millis(100));
        // Entering a namespace, be it the own one, needs rights.
        if let Ok(bits) = bits {
            assert!(bits.unwrap() > 0);
        }
        // TEST-NET-1 (RFC 5737) is of nobody, so it can't be listened at.
        if let Ok(bits) = measure(None, None, "192.0.2.77".parse().unwrap(), Duration::from_millis(100)) {
            assert_eq!(bits, None);
        }
        assert!(begin.elapsed() < Duration::from_secs(60));
    }
}
