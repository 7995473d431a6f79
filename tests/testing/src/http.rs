//! The control socket without the control tool: bytes in, bytes out.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;

use serde_json::Value;
use vswitch_api::DEFAULT_SOCKET;

use crate::wait::DEADLINE;

/// What the daemon answered.
#[derive(Clone, Debug)]
pub struct Response {
    /// HTTP status.
    pub status: u16,
    /// Head, for the fields.
    pub head: String,
    /// Body.
    pub body: String,
}

impl Response {
    /// The body as JSON.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("no JSON: {e}: {self:?}"))
    }
}

/// A new connection.
pub fn connect() -> UnixStream {
    let stream = UnixStream::connect(DEFAULT_SOCKET).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream.set_write_timeout(Some(DEADLINE)).unwrap();
    stream
}

/// A connection of another user, in these groups and no other.
pub fn connect_as(uid: u32, groups: &[u32]) -> UnixStream {
    let groups = groups.to_vec();
    // Ids are each thread's own, as the kernel has them: this one ends with the ones that it takes.
    let thread = std::thread::spawn(move || {
        let group = groups.first().copied().unwrap_or(uid);
        // SAFETY: the list is as long as is said and lives through the call; the others take numbers.
        let done = unsafe {
            [
                libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr()),
                libc::syscall(libc::SYS_setresgid, group, group, group),
                libc::syscall(libc::SYS_setresuid, uid, uid, uid),
            ]
        };
        assert_eq!(done, [0; 3], "{}", std::io::Error::last_os_error());
        connect()
    });
    thread.join().unwrap()
}

/// One request of another user. Of an answer that is a stream only the head is read.
#[track_caller]
pub fn request_as(uid: u32, groups: &[u32], method: &str, path: &str, body: &str) -> Response {
    let mut stream = connect_as(uid, groups);
    let _ = stream.write_all(text(method, path, &[], body).as_bytes());
    let mut reader = BufReader::new(&stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        assert_ne!(reader.read_line(&mut head).unwrap(), 0, "{method} {path}: {head}");
    }
    let streams = head.to_lowercase().contains("transfer-encoding: chunked");
    if !streams {
        reader.read_to_string(&mut head).unwrap();
    }
    parse(&head).unwrap_or_else(|| panic!("{method} {path}: {head}"))
}

/// Sends bytes as they are, and that there are no more, and reads until the daemon closes.
/// None: it closed without an answer.
pub fn send_raw(bytes: &[u8]) -> Option<Response> {
    let mut stream = connect();
    // The daemon may answer and close before it has read all: then writing fails and reading tells.
    let _ = stream.write_all(bytes);
    let _ = stream.shutdown(std::net::Shutdown::Write);
    read_answer(stream)
}

fn read_answer(mut stream: UnixStream) -> Option<Response> {
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    parse(&String::from_utf8_lossy(&answer))
}

/// One request with a body.
#[track_caller]
pub fn request(method: &str, path: &str, body: &str) -> Response {
    request_with(method, path, &["Content-Type: application/json"], body)
}

/// The same with fields of the head.
#[track_caller]
pub fn request_with(method: &str, path: &str, fields: &[&str], body: &str) -> Response {
    let mut stream = connect();
    let _ = stream.write_all(text(method, path, fields, body).as_bytes());
    read_answer(stream).unwrap_or_else(|| panic!("{method} {path}: no answer"))
}

fn text(method: &str, path: &str, fields: &[&str], body: &str) -> String {
    let length = body.len();
    let fields: String = fields.iter().map(|field| format!("{field}\r\n")).collect();
    format!(
        "{method} {path} HTTP/1.1\r\nHost: vswitch\r\nConnection: close\r\n{fields}Content-Length: {length}\r\n\r\n{body}"
    )
}

fn parse(answer: &str) -> Option<Response> {
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.strip_prefix("HTTP/1.")?.get(2..5)?.parse().ok()?;
    let chunked = head.to_lowercase().contains("transfer-encoding: chunked");
    let body = if chunked { unchunk(body) } else { body.to_owned() };
    Some(Response {
        status,
        head: head.to_owned(),
        body,
    })
}

/// RFC 9112, 7.1
fn unchunk(mut rest: &str) -> String {
    let mut body = String::new();
    while let Some((size, after)) = rest.split_once("\r\n") {
        let size = usize::from_str_radix(size.trim(), 16).unwrap_or(0);
        let Some(chunk) = after.get(..size).filter(|chunk| !chunk.is_empty()) else {
            break;
        };
        body.push_str(chunk);
        rest = after.get(size + 2..).unwrap_or_default();
    }
    body
}
