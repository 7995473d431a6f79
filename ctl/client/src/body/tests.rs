use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::thread;
use std::time::Duration;

use super::*;

const CHUNK: &[u8] = b"3\r\none\r\n";

/// Reads the head of a request.
fn request(stream: &mut UnixStream) {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).unwrap();
        head.extend(byte);
    }
}

/// Takes a request, begins an answer in parts with the first of them, and then does what `then` says. Gives what comes of that answer
/// until the second part or an error.
fn follow(then: impl FnOnce(UnixListener, UnixStream) + Send + 'static) -> Option<Result<Bytes, Error>> {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("s");
    let listener = UnixListener::bind(&socket).unwrap();
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        request(&mut stream);
        stream
            .write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
            .unwrap();
        stream.write_all(CHUNK).unwrap();
        then(listener, stream);
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.unwrap().block_on(async {
        let client = Client::new(&socket).patience(Duration::from_millis(100));
        let mut body = client.open("/v1/events").await.unwrap();
        assert_eq!(body.next().await.unwrap().unwrap(), "one");
        body.next().await
    })
}

/// A stream of a daemon that was stopped was waited for for ever.
#[test]
fn a_stream_of_a_daemon_that_gives_no_sign_of_life_ends() {
    let next = follow(|listener, stream| {
        let kept: Vec<_> = listener.incoming().collect();
        drop((kept, stream));
    });
    assert!(matches!(next, Some(Err(Error::Silent { .. }))), "{next:?}");
}

#[test]
fn a_stream_that_has_nothing_to_say_goes_on() {
    let next = follow(|listener, mut stream| {
        for _ in 0..2 {
            let (mut sign, _) = listener.accept().unwrap();
            request(&mut sign);
            sign.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}")
                .unwrap();
        }
        stream.write_all(CHUNK).unwrap();
        // It stays open until the client has read it.
        let _ = stream.read(&mut [0]);
    });
    assert_eq!(next.unwrap().unwrap(), "one");
}
