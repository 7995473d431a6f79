//! Try a DHCP client: does it get its lease from a server that does not answer at first, renew it, and give it up when the server has gone?
//! Hours of the client's time in a moment. The client is smoltcp's; put yours in its place.

#![allow(clippy::print_stdout, reason = "an example shows what comes of it")]

#[path = "common/mod.rs"]
mod common;

use std::error::Error;
use std::time::Duration;

use smoltcp::iface::SocketHandle;
use smoltcp::socket::dhcpv4::{Event, Socket};
use smoltcp::socket::udp::{self, PacketBuffer, PacketMetadata};
use smoltcp::wire::{DhcpMessageType, DhcpPacket, DhcpRepr, IpCidr, Ipv4Address};
use vswitch_datapath::testing::{Port, Switch};

use common::{Host, go_on};

const SERVER: Ipv4Address = Ipv4Address::new(192, 168, 15, 1);
const LEASED: Ipv4Address = Ipv4Address::new(192, 168, 15, 100);
/// Seconds.
const LEASE: u32 = 3600;

/// A DHCP server of a page.
struct Server {
    host: Host,
    socket: SocketHandle,
    /// So many requests it does not answer.
    deaf: usize,
    /// What it was asked.
    asked: Vec<DhcpMessageType>,
}

impl Server {
    fn new(port: Port, deaf: usize) -> Result<Self, Box<dyn Error>> {
        let mut host = Host::new(port, 1, &[IpCidr::new(SERVER.into(), 24)]);
        let buffer = || PacketBuffer::new(vec![PacketMetadata::EMPTY; 4], vec![0; 4096]);
        let mut socket = udp::Socket::new(buffer(), buffer());
        socket.bind(67)?;
        Ok(Self {
            socket: host.sockets.add(socket),
            host,
            deaf,
            asked: Vec::new(),
        })
    }

    /// Answers what has come.
    fn poll(&mut self) -> Result<(), Box<dyn Error>> {
        self.host.poll();
        let socket = self.host.sockets.get_mut::<udp::Socket>(self.socket);
        while let Ok((bytes, _)) = socket.recv() {
            let asked = DhcpPacket::new_checked(bytes)?;
            let asked = DhcpRepr::parse(&asked)?;
            self.asked.push(asked.message_type);
            if self.deaf > 0 {
                self.deaf -= 1;
                continue;
            }
            let message_type = match asked.message_type {
                DhcpMessageType::Discover => DhcpMessageType::Offer,
                DhcpMessageType::Request => DhcpMessageType::Ack,
                _ => continue,
            };
            let answer = DhcpRepr {
                message_type,
                your_ip: LEASED,
                server_ip: SERVER,
                router: Some(SERVER),
                subnet_mask: Some(Ipv4Address::new(255, 255, 255, 0)),
                server_identifier: Some(SERVER),
                lease_duration: Some(LEASE),
                requested_ip: None,
                client_identifier: None,
                parameter_request_list: None,
                max_size: None,
                ..asked
            };
            // Who has no address yet hears what is for all.
            let to = if answer.client_ip.is_unspecified() {
                Ipv4Address::BROADCAST
            } else {
                answer.client_ip
            };
            let mut bytes = vec![0; answer.buffer_len()];
            answer.emit(&mut DhcpPacket::new_unchecked(&mut bytes))?;
            socket.send_slice(&bytes, (to, 68))?;
        }
        self.host.poll();
        Ok(())
    }
}

/// Runs it.
pub fn main() -> Result<(), Box<dyn Error>> {
    let switch = Switch::new()?;
    let mut client = Host::new(switch.add_port()?, 2, &[]);
    let mut server = Server::new(switch.add_port()?, 3)?;
    // Somebody else on the wire.
    let bystander = switch.add_port()?;
    client.port().impair_in(Some("delay=5ms".parse()?));
    let dhcp = client.sockets.add(Socket::new());

    let mut told = Vec::new();
    while switch.now() < Duration::from_secs(6 * 3600) {
        client.poll();
        server.poll()?;
        match client.sockets.get_mut::<Socket>(dhcp).poll() {
            Some(Event::Configured(lease)) => {
                println!("{:?}: {} by {:?}", switch.now(), lease.address, lease.router);
                assert_eq!(lease.address.address(), LEASED);
                // It sends its renewals from there.
                client.interface.update_ip_addrs(|own| {
                    own.clear();
                    own.extend([lease.address.into()]);
                });
                told.push((switch.now(), true));
            }
            Some(Event::Deconfigured) if !told.is_empty() => {
                println!("{:?}: no lease any more", switch.now());
                told.push((switch.now(), false));
                break;
            }
            _ => {}
        }
        // After three hours the server goes for good.
        if switch.now() > Duration::from_secs(3 * 3600) {
            server.deaf = usize::MAX;
        }
        if !go_on(&switch, &mut [&mut client, &mut server.host]) {
            return Err("the client does nothing any more".into());
        }
    }

    let [(first, true), .., (last, false)] = told[..] else {
        return Err(format!("what the client told: {told:?}").into());
    };
    // It asked again and again, and had its lease some seconds after the server began to hear.
    assert!(
        first > Duration::from_secs(1) && first < Duration::from_secs(120),
        "{first:?}"
    );
    // The last renewal was before the third hour, and holds for one more at most.
    assert!(
        last > Duration::from_secs(3 * 3600) && last < Duration::from_secs(4 * 3600 + 60),
        "{last:?}"
    );
    assert!(server.asked.len() > 6, "{:?}", server.asked);
    // What is for all comes to the bystander, renewals don't: these go to the server.
    let seen = bystander.receive_all();
    assert!(seen.iter().all(|frame| frame[..6] == [0xff; 6]), "{seen:02x?}");
    assert!(!seen.is_empty());
    Ok(())
}
