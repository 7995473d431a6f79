//! Published UDP, of which the kernel remembers who talks to whom.

use std::net::UdpSocket;

use super::*;

/// What comes there, or in the next moment.
struct Inside(UdpSocket);

impl Inside {
    fn open(name: &str) -> Self {
        let socket = Place::named(name).run(|| UdpSocket::bind("[::]:53").unwrap());
        socket.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        Self(socket)
    }

    /// Waits until what a client sends all the time comes here.
    #[track_caller]
    fn hears(&self, client: &UdpSocket) {
        wait_for("a datagram to come", || {
            // Refused, as nobody was there before.
            let _ = client.send(b"hello");
            self.0.recv(&mut [0; 8]).map(drop).map_err(|error| error.to_string())
        });
    }
}

/// One that never pauses would go on to where it was led at first for as long as it sends.
#[test]
fn who_sends_already_is_led_to_what_is_published_now() {
    let lab = Lab::new();
    world();
    lab.ok(&format!("{LAB} --nat"));
    lab.ok("add-port red blue --switch lab --addr auto");
    let client = |own: &str, host: &str| {
        let socket = Place::named("world").run(|| UdpSocket::bind(own).unwrap());
        socket.connect(host).unwrap();
        socket
    };
    let clients = [
        client("203.0.113.2:4000", "203.0.113.1:5300"),
        client("[2001:db8::2]:4000", "[2001:db8::1]:5300"),
    ];
    // The host itself is asked, before anything is published.
    for client in &clients {
        client.send(b"hello").unwrap();
    }
    lab.ok("publish red 5300:53/udp");
    let red = Inside::open("red");
    clients.iter().for_each(|client| red.hears(client));
    lab.ok("publish del red 5300:53/udp");
    lab.ok("publish blue 5300:53/udp");
    let blue = Inside::open("blue");
    clients.iter().for_each(|client| blue.hears(client));
    // The port is the same, and has another address.
    lab.ok("addr add blue 10.10.0.77/24");
    lab.ok("addr del blue 10.10.0.3/24");
    blue.hears(&clients[0]);
    lab.ok("del-port blue");
    let _ = clients[0].send(b"hello");
    lab.ok("publish red 5300:53/udp");
    red.hears(&clients[0]);
}
