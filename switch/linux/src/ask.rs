//! Requests by netlink whose answers are read message by message, whatever is in them.
//!
//! The kernel answers while it takes the request: nothing here waits.

use std::io;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicU32, Ordering};

use nix::sys::socket::{MsgFlags, recv};
use rtnetlink::packet_core::{NLM_F_ACK, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NetlinkBuffer};
use rtnetlink::sys::Socket;

/// The kernel makes no message longer than this (NLMSG_GOODSIZE and the dump size are below).
pub(super) const MESSAGE_MAX: usize = 64 << 10;
/// Length of struct nlmsghdr, and of what stands before the value of an attribute.
const NLMSGHDR_LEN: usize = 16;
const NLATTR_LEN: u16 = 4;
const NLMSG_ERROR: u16 = libc::NLMSG_ERROR as u16;
const NLMSG_DONE: u16 = libc::NLMSG_DONE as u16;
/// How often all there are of something are asked for until none changes meanwhile.
const TRIES: usize = 10;

/// What is asked for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Of {
    /// One, or that something is done.
    One,
    /// All there are.
    All,
}

/// Opens a socket for [`ask`] in the namespace of the calling thread.
pub(super) fn open(protocol: isize) -> io::Result<Socket> {
    let socket = Socket::new(protocol)?;
    // An answer is there when the request is sent. Should one not be, that is an error, and no reason to wait.
    socket.set_non_blocking(true)?;
    Ok(socket)
}

/// Sends a request of this kind, and gives what `read` takes out of the answers by their kinds and payloads.
///
/// # Errors
/// Those of the kernel; EAGAIN if all were asked for, and some changed meanwhile again and again.
pub(super) fn ask<T>(
    socket: &Socket,
    kind: u16,
    of: Of,
    payload: &[u8],
    read: impl Fn(u16, &[u8]) -> Option<T>,
) -> io::Result<Vec<T>> {
    for _ in 0..TRIES {
        if let Some(answers) = ask_once(socket, kind, of, payload, &read)? {
            return Ok(answers);
        }
    }
    Err(io::Error::from(io::ErrorKind::WouldBlock))
}

/// The same; none if the kernel says that something changed in the midst of its answer, which may have left others out then.
fn ask_once<T>(
    socket: &Socket,
    kind: u16,
    of: Of,
    payload: &[u8],
    read: &impl Fn(u16, &[u8]) -> Option<T>,
) -> io::Result<Option<Vec<T>>> {
    // What is left of an answer that was given up has another number.
    static ASKED: AtomicU32 = AtomicU32::new(1);
    let number = ASKED.fetch_add(1, Ordering::Relaxed);
    let flags = match of {
        Of::One => NLM_F_REQUEST | NLM_F_ACK,
        Of::All => NLM_F_REQUEST | NLM_F_DUMP,
    };
    let mut request = Vec::with_capacity(NLMSGHDR_LEN + payload.len());
    request.extend(((NLMSGHDR_LEN + payload.len()) as u32).to_ne_bytes());
    request.extend(kind.to_ne_bytes());
    request.extend(flags.to_ne_bytes());
    request.extend(number.to_ne_bytes());
    // To the kernel.
    request.extend(0_u32.to_ne_bytes());
    request.extend(payload);
    socket.send(&request, 0)?;
    let (mut answers, mut is_whole) = (Vec::new(), true);
    let mut buffer = vec![0; MESSAGE_MAX];
    loop {
        let len = match recv(socket.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
            Err(nix::Error::EINTR) => continue,
            received => received?,
        };
        let ours = messages(&buffer[..len]).filter(|message| message.sequence_number() == number);
        for message in ours {
            is_whole &= message.flags() & NLM_F_DUMP_INTR == 0;
            match message.message_type() {
                NLMSG_DONE => return Ok(is_whole.then_some(answers)),
                NLMSG_ERROR => {
                    let error = error_of(message.payload());
                    // No error is how a request is acknowledged.
                    return match error.raw_os_error() {
                        Some(0) => Ok(is_whole.then_some(answers)),
                        _ => Err(error),
                    };
                }
                kind => answers.extend(read(kind, message.payload())),
            }
        }
    }
}

/// The messages of a datagram. What can't be read ends it: the kernel makes none such, and nothing after it could be trusted.
pub(super) fn messages(mut datagram: &[u8]) -> impl Iterator<Item = NetlinkBuffer<&[u8]>> {
    std::iter::from_fn(move || {
        let message = NetlinkBuffer::new_checked(datagram).ok()?;
        let aligned = (message.length() as usize).next_multiple_of(4);
        datagram = datagram.get(aligned..).unwrap_or_default();
        Some(message)
    })
}

/// Adds an attribute to a request.
pub(super) fn put(request: &mut Vec<u8>, kind: u16, value: &[u8]) {
    request.extend((NLATTR_LEN + value.len() as u16).to_ne_bytes());
    request.extend(kind.to_ne_bytes());
    request.extend(value);
    request.resize(request.len().next_multiple_of(4), 0);
}

fn error_of(payload: &[u8]) -> io::Error {
    match payload.first_chunk() {
        Some(code) => io::Error::from_raw_os_error(-i32::from_ne_bytes(*code)),
        None => io::Error::from(io::ErrorKind::InvalidData),
    }
}
