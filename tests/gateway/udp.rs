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

/// Has the kernel remember talks, whatever else of the host wants that.
fn remember_talks() {
    run("nft add table inet keep");
    run("nft add chain inet keep seen { type filter hook forward priority -5; policy accept; }");
    run("nft add rule inet keep seen ct state established counter");
}

/// Who had spoken while the rules were not there went on through them when they were back.
#[test]
fn talks_that_began_without_rules_begin_anew() {
    let lab = Lab::new();
    world();
    remember_talks();
    lab.ok(&format!("{LAB} --nat"));
    lab.ok("add-port red --switch lab --addr auto");
    Place::named("world").run_ok("ip route add 10.10.0.0/24 via 203.0.113.1");
    let red = Inside::open("red").0;
    let client = Place::named("world").run(|| UdpSocket::bind("203.0.113.2:4000").unwrap());
    client.connect("10.10.0.2:53").unwrap();
    let comes = || {
        let _ = client.send(b"hello");
        red.recv_from(&mut [0; 8]).map_err(|error| error.to_string())
    };
    assert!(comes().is_err());
    wait_for("a talk without rules", || {
        // They may be back already.
        Place::Home.output("nft delete table inet vswitch");
        let (_, from) = comes()?;
        red.send_to(b"welcome", from).map_err(|error| error.to_string())
    });
    wait_for("the talk to end", || comes().is_err());
}

/// A station that never pauses went on with its own address.
#[test]
fn who_sends_out_already_is_translated_from_now_on() {
    let lab = Lab::new();
    world();
    remember_talks();
    run("sysctl -qw net.ipv4.ip_forward=1");
    lab.ok(LAB);
    lab.ok("add-port red --switch lab --addr auto");
    let world = Place::named("world").run(|| UdpSocket::bind("203.0.113.2:4000").unwrap());
    world.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    let red = Place::named("red").run(|| UdpSocket::bind("10.10.0.2:4000").unwrap());
    let comes_from = |ip: &str| {
        wait_for(&format!("a datagram of {ip}"), || {
            let _ = red.send_to(b"hello", "203.0.113.2:4000");
            let (_, from) = world.recv_from(&mut [0; 8]).map_err(|error| error.to_string())?;
            (from.ip().to_string() == ip).then_some(()).ok_or(from.to_string())
        });
    };
    comes_from("10.10.0.2");
    lab.ok("set switch lab nat=on");
    comes_from("203.0.113.1");
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
