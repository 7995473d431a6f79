//! Bytes from station to station through the real TCP and UDP of the kernel, compared one by one.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::socket::{setsockopt, sockopt};

use crate::require::missing;
use crate::station::Station;
use crate::wait::DEADLINE;
use crate::{lab::fastpath_wanted, linux};

/// A stream of bytes that looks random and is the same for the same seed (splitmix64).
pub struct Noise(u64);

impl Noise {
    /// The stream of this seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Its next `length` bytes; `length` is a multiple of eight.
    pub fn next(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(length);
        while bytes.len() < length {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = self.0;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            bytes.extend_from_slice(&(z ^ (z >> 31)).to_le_bytes());
        }
        bytes
    }
}

const CHUNK: usize = 64 * 1024;

/// Two ends of a TCP connection.
pub struct TcpPair {
    /// The end that connected.
    pub client: TcpStream,
    /// The end that accepted.
    pub server: TcpStream,
}

impl TcpPair {
    /// Connects `from` to `to`.
    #[track_caller]
    pub fn connect(from: &Station, to: &Station, v6: bool) -> Self {
        let listener = to
            .place
            .run(|| TcpListener::bind(SocketAddr::new(to.ip(v6), 0)))
            .unwrap();
        let address = listener.local_addr().unwrap();
        let client = from.place.run(|| TcpStream::connect_timeout(&address, DEADLINE));
        let client = client.unwrap_or_else(|e| panic!("{} connects to {} at {address}: {e}", from.port, to.port));
        let (server, _) = listener.accept().unwrap();
        for stream in [&client, &server] {
            stream.set_read_timeout(Some(DEADLINE)).unwrap();
            stream.set_write_timeout(Some(DEADLINE)).unwrap();
        }
        Self { client, server }
    }

    /// Sends so many chunks of 64 KiB each way at the same time and compares all that arrives.
    pub fn exchange(&self, chunks: usize) {
        thread::scope(|scope| {
            scope.spawn(|| send(&self.client, 1, chunks));
            scope.spawn(|| send(&self.server, 2, chunks));
            scope.spawn(|| receive(&self.server, 1, chunks));
            scope.spawn(|| receive(&self.client, 2, chunks));
        });
    }

    /// Exchanges chunks while somebody looks: the length of the longest frame that came to the interface of `to`.
    pub fn longest(&self, to: &Station, chunks: usize) -> usize {
        let raw = to.raw(false);
        let over = AtomicBool::new(false);
        thread::scope(|scope| {
            let looking = scope.spawn(|| {
                let mut longest = 0;
                while !over.load(Ordering::Relaxed) {
                    let end = Instant::now() + Duration::from_millis(20);
                    longest = longest.max(raw.recv_len(end).unwrap_or(0));
                }
                longest
            });
            self.exchange(chunks);
            over.store(true, Ordering::Relaxed);
            looking.join().unwrap()
        })
    }
}

fn send(mut stream: &TcpStream, seed: u64, chunks: usize) {
    let mut noise = Noise::new(seed);
    for _ in 0..chunks {
        stream.write_all(&noise.next(CHUNK)).unwrap();
    }
}

fn receive(mut stream: &TcpStream, seed: u64, chunks: usize) {
    let mut noise = Noise::new(seed);
    let mut bytes = vec![0; CHUNK];
    for chunk in 0..chunks {
        stream.read_exact(&mut bytes).unwrap();
        assert!(bytes == noise.next(CHUNK), "chunk {chunk} arrived with other bytes");
    }
}

/// Sends `chunks` times 64 KiB over TCP each way between two stations.
#[track_caller]
pub fn tcp(from: &Station, to: &Station, v6: bool, chunks: usize) {
    TcpPair::connect(from, to, v6).exchange(chunks);
}

/// Sends datagrams of many lengths over UDP, one at a time, each answered by its own bytes: small, as long as the
/// MTU allows, and so long that the sender's IP makes fragments.
#[track_caller]
pub fn udp(from: &Station, to: &Station, v6: bool) {
    let (client, server) = udp_pair(from, to, v6);
    let mut bytes = vec![0; 65_536];
    for (seed, length) in [8, 64, 1400, 1448, 1472, 3000, 8000, 60_000].into_iter().enumerate() {
        let datagram = Noise::new(seed as u64).next(length);
        client.send(&datagram).unwrap();
        let got = server
            .recv(&mut bytes)
            .unwrap_or_else(|e| panic!("{length} bytes, there: {e}"));
        assert!(bytes[..got] == datagram, "{length} bytes arrived with other bytes");
        server.send(&datagram).unwrap();
        let got = client
            .recv(&mut bytes)
            .unwrap_or_else(|e| panic!("{length} bytes, back: {e}"));
        assert!(bytes[..got] == datagram, "{length} bytes came back with other bytes");
    }
}

/// Hands the kernel 40 datagrams in one call (UDP_SEGMENT, udp(7)), as QUIC does.
#[track_caller]
pub fn udp_gso(from: &Station, to: &Station, v6: bool) {
    udp_gso_of(from, to, v6, 1200, 40);
}

/// The same with so many datagrams of so many bytes; their product is a multiple of eight.
#[track_caller]
pub fn udp_gso_of(from: &Station, to: &Station, v6: bool, segment: usize, count: usize) {
    // Packet sockets, which may be all that veth ports and devices have without the fast path, hand over no UDP segments before.
    if !fastpath_wanted() && !linux::at_least(6, 2) {
        missing("UDP segments of packet sockets", "they came with Linux 6.2");
        return;
    }
    let (client, server) = udp_pair(from, to, v6);
    setsockopt(&client, sockopt::UdpGsoSegment, &(segment as i32)).unwrap();
    let datagrams = Noise::new(3).next(count * segment);
    client.send(&datagrams).unwrap();
    let mut bytes = vec![0; 65_536];
    for (n, expected) in datagrams.chunks(segment).enumerate() {
        let got = server
            .recv(&mut bytes)
            .unwrap_or_else(|e| panic!("datagram {n} of {count}: {e}"));
        assert_eq!(got, segment, "datagram {n} of {count}");
        assert!(
            bytes[..got] == *expected,
            "datagram {n} of {count} arrived with other bytes"
        );
    }
}

fn udp_pair(from: &Station, to: &Station, v6: bool) -> (UdpSocket, UdpSocket) {
    let bind = |station: &Station| {
        let socket = station
            .place
            .run(|| UdpSocket::bind(SocketAddr::new(station.ip(v6), 0)))
            .unwrap();
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        socket
    };
    let (client, server) = (bind(from), bind(to));
    client.connect(server.local_addr().unwrap()).unwrap();
    server.connect(client.local_addr().unwrap()).unwrap();
    (client, server)
}
