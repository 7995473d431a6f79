//! How long a broadcast is on its way to the last of many namespaces.

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, bind, recvmsg, send, setsockopt, sockopt};
use nix::sys::time::TimeSpec;
use nix::time::{ClockId, clock_gettime};
use std::io::IoSliceMut;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::generator::{link_address, plain_frame};
use crate::lab::{INTERFACE, in_namespace};
use crate::report::median;
use crate::scale::name;

/// That of a [`plain_frame`].
const ETHERTYPE: u16 = 0x88b5;
const TRIES: usize = 15;
/// What did not come by then was dropped: a processor's backlog (net.core.netdev_max_backlog) has room for 1,000 frames.
const PATIENCE: Duration = Duration::from_millis(500);

/// What came of several broadcasts.
pub struct Broadcasts {
    /// Milliseconds until the last namespace had it; the median of those that all had.
    pub last_ms: f64,
    /// Those that some namespace did not get.
    pub lost: f64,
}

/// Sends broadcasts from the first of `count` namespaces to the others, and asks the kernel when they came.
pub fn broadcasts(count: u32) -> Result<Broadcasts> {
    let sender = open(0)?;
    let receivers = (1..count).map(open).collect::<Result<Vec<_>>>()?;
    let mut frame = plain_frame([0xff; 6], [2, 0x76, 0x73, 0xbc, 0, 1], 60);
    let (mut times, mut lost) = (Vec::new(), 0);
    for number in 0..TRIES {
        frame[59] = number as u8;
        let sent = clock_gettime(ClockId::CLOCK_REALTIME)?;
        send(sender.as_raw_fd(), &frame, MsgFlags::empty())?;
        let deadline = Instant::now() + PATIENCE;
        let mut last = Some(sent);
        for receiver in &receivers {
            let arrived = arrival(receiver, &frame, deadline)?;
            last = last.zip(arrived).map(|(last, arrived)| last.max(arrived));
        }
        match last {
            Some(last) => times.push(Duration::from(last - sent).as_secs_f64() * 1e3),
            None => lost += 1,
        }
    }
    let last_ms = median(&mut times).context("no broadcast came to all namespaces")?;
    let lost = f64::from(lost);
    Ok(Broadcasts { last_ms, lost })
}

fn open(number: u32) -> Result<OwnedFd> {
    in_namespace(&name(number), || {
        let flags = libc::SOCK_RAW | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
        // SAFETY: integers only; no memory is involved.
        let fd = unsafe { libc::socket(libc::AF_PACKET, flags, i32::from(ETHERTYPE.to_be())) };
        // SAFETY: the kernel has just opened it, if it is one, and nobody else knows it.
        let socket = unsafe { OwnedFd::from_raw_fd(Errno::result(fd)?) };
        setsockopt(&socket, sockopt::ReceiveTimestampns, &true)?;
        // Of this protocol, since the address names none.
        bind(socket.as_raw_fd(), &link_address(INTERFACE)?)?;
        Ok(socket)
    })
}

/// When the frame came; none if it has not by then.
fn arrival(socket: &OwnedFd, frame: &[u8], deadline: Instant) -> Result<Option<TimeSpec>> {
    let mut buffer = [0; 60];
    let mut control = nix::cmsg_space!(libc::timespec);
    loop {
        let mut parts = [IoSliceMut::new(&mut buffer)];
        let message = match recvmsg::<()>(socket.as_raw_fd(), &mut parts, Some(&mut control), MsgFlags::empty()) {
            Ok(message) => message,
            Err(Errno::EAGAIN) if Instant::now() < deadline => {
                sleep(Duration::from_millis(1));
                continue;
            }
            Err(Errno::EAGAIN) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let stamp = message.cmsgs()?.find_map(|part| match part {
            ControlMessageOwned::ScmTimestampns(time) => Some(time),
            _ => None,
        });
        if buffer[..] == *frame {
            return stamp.context("the kernel did not say when it came").map(Some);
        }
    }
}
