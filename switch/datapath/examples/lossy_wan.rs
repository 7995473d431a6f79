//! Two TCP stacks over a bad line: how long does a transfer take, and does every byte arrive? Minutes of the line's time in a moment.

#![allow(clippy::print_stdout, reason = "an example shows what comes of it")]

#[path = "common/mod.rs"]
mod common;

use std::error::Error;
use std::time::Duration;

use smoltcp::iface::SocketHandle;
use smoltcp::socket::tcp::{Socket, SocketBuffer};
use smoltcp::wire::{IpAddress, IpCidr};
use vswitch_datapath::testing::Switch;

use common::{Host, go_on};

const BYTES: usize = 200_000;

/// What came over a line, and how long that took by the line's time.
fn transfer(line: &str) -> Result<(Vec<u8>, Duration), Box<dyn Error>> {
    let switch = Switch::new()?;
    let address = |number| IpCidr::new(IpAddress::v4(192, 168, 15, number), 24);
    let mut client = Host::new(switch.add_port()?, 1, &[address(1)]);
    let mut server = Host::new(switch.add_port()?, 2, &[address(2)]);
    if !line.is_empty() {
        // One line, worse one way than the other: so are acknowledgements.
        server.port().impair_out(Some(line.parse()?));
        server.port().impair_in(Some("delay=40ms".parse()?));
    }
    let from = add_socket(&mut client);
    let to = add_socket(&mut server);
    server.sockets.get_mut::<Socket>(to).listen(80)?;
    let connection = client.sockets.get_mut::<Socket>(from);
    connection.connect(client.interface.context(), (IpAddress::v4(192, 168, 15, 2), 80), 49_152)?;

    let data: Vec<u8> = (0..BYTES).map(|n| (n % 251) as u8).collect();
    let (mut sent, mut received) = (0, Vec::new());
    while received.len() < BYTES {
        client.poll();
        server.poll();
        let socket = client.sockets.get_mut::<Socket>(from);
        if socket.can_send() {
            sent += socket.send_slice(&data[sent..])?;
        }
        let socket = server.sockets.get_mut::<Socket>(to);
        if socket.can_recv() {
            socket.recv(|bytes| {
                received.extend_from_slice(bytes);
                (bytes.len(), ())
            })?;
        }
        if !go_on(&switch, &mut [&mut client, &mut server]) || switch.now() > Duration::from_secs(3600) {
            return Err(format!("stuck after {:?} with {} bytes", switch.now(), received.len()).into());
        }
    }
    assert_eq!(received, data);
    Ok((received, switch.now()))
}

fn add_socket(host: &mut Host) -> SocketHandle {
    let buffer = || SocketBuffer::new(vec![0; 65_535]);
    host.sockets.add(Socket::new(buffer(), buffer()))
}

/// Runs it over three lines.
pub fn main() -> Result<(), Box<dyn Error>> {
    let mut times = Vec::new();
    for line in ["", "delay=40ms,rate=2mbit", "delay=40ms,rate=2mbit,loss=3%,seed=7"] {
        let (_, took) = transfer(line)?;
        println!("{BYTES} bytes over a line of {line:?}: {took:?}");
        times.push(took);
    }
    // 200,000 bytes at 2 Mbit/s take 800 ms at least; what is lost has to be sent again.
    assert!(times[0] < Duration::from_millis(100) && times[1] > Duration::from_millis(800) && times[2] > times[1]);
    // The same losses, to the frame, in the next run.
    assert_eq!(transfer("delay=40ms,rate=2mbit,loss=3%,seed=7")?.1, times[2]);
    Ok(())
}
