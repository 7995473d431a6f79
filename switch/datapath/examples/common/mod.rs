//! A port of the switch as a network card of smoltcp, and both run by the switch's time.

use std::time::Duration;

use smoltcp::iface::{Config, Interface, SocketSet};
use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::time::Instant;
use smoltcp::wire::{EthernetAddress, IpCidr};
use vswitch_datapath::testing::{Port, Switch};

/// How often a stack is asked that wants to be asked all the time.
const TICK: Duration = Duration::from_millis(1);

/// The card behind a port.
pub struct Card(Port);

/// A frame that came.
pub struct Received(Vec<u8>);

/// Leave to send one.
pub struct Leave<'a>(&'a Port);

impl Device for Card {
    type RxToken<'a> = Received;
    type TxToken<'a> = Leave<'a>;

    fn receive(&mut self, _: Instant) -> Option<(Received, Leave<'_>)> {
        let frame = self.0.receive()?;
        Some((Received(frame), Leave(&self.0)))
    }

    fn transmit(&mut self, _: Instant) -> Option<Leave<'_>> {
        Some(Leave(&self.0))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        // With the Ethernet header, as smoltcp counts.
        capabilities.max_transmission_unit = 1514;
        capabilities
    }
}

impl RxToken for Received {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, read: F) -> R {
        read(&self.0)
    }
}

impl TxToken for Leave<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, write: F) -> R {
        let mut frame = vec![0; len];
        let result = write(&mut frame);
        self.0.send(&frame);
        result
    }
}

/// A host: a stack with its card and its sockets.
pub struct Host {
    card: Card,
    /// The stack.
    pub interface: Interface,
    /// Its sockets.
    pub sockets: SocketSet<'static>,
}

impl Host {
    /// One behind a new port.
    pub fn new(port: Port, number: u8, addresses: &[IpCidr]) -> Self {
        let mut config = Config::new(EthernetAddress([2, 0, 0, 0, 0, number]).into());
        config.random_seed = number.into();
        let now = time_of(port.switch());
        let mut card = Card(port);
        let mut interface = Interface::new(config, &mut card, now);
        // There is room for the few that an example has.
        interface.update_ip_addrs(|own| own.extend(addresses.iter().copied()));
        Self {
            card,
            interface,
            sockets: SocketSet::new(Vec::new()),
        }
    }

    /// The port that it is behind.
    pub fn port(&self) -> &Port {
        &self.card.0
    }

    /// Lets the stack do what is to be done now.
    pub fn poll(&mut self) {
        let now = time_of(self.port().switch());
        self.interface.poll(now, &mut self.card, &mut self.sockets);
    }

    /// How long it has nothing to do, if nothing comes; none: for ever.
    fn idle(&mut self) -> Option<Duration> {
        let now = time_of(self.port().switch());
        let idle = self.interface.poll_delay(now, &self.sockets);
        // It says "at once" also while it has more than the other end's window has room for.
        idle.map(|idle| Duration::from(idle).max(TICK))
    }
}

/// Lets the switch's time go on to the next moment at which something happens: a frame arrives, or a host has something to do. False: nothing
/// ever happens again.
pub fn go_on(switch: &Switch, hosts: &mut [&mut Host]) -> bool {
    if hosts.iter().any(|host| host.port().waiting() > 0) {
        return true;
    }
    let arrival = switch.next_due().map(|due| due.saturating_sub(switch.now()));
    let next = hosts.iter_mut().filter_map(|host| host.idle()).chain(arrival).min();
    next.inspect(|next| switch.advance(*next)).is_some()
}

/// The time of the switch as smoltcp has it.
fn time_of(switch: &Switch) -> Instant {
    Instant::from_micros(switch.now().as_micros() as i64)
}
