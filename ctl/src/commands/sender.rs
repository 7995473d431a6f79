//! What the sender's own stack does before a frame comes to the switch: its route, and the neighbour that it asks for. A
//! `trace` that leaves this out says "forwarded" of packets that are never sent.

use std::net::IpAddr;

use etherparse::PacketBuilder;
use vswitch_api::trace::{TraceOutcome, TraceReport, TraceStage, TraceStep, WayQuery, WayView};
use vswitch_api::view::{PortState, PortView};
use vswitch_api::{Mac, PortName};
use vswitch_client::with_query;

use super::Session;
use super::trace::{owner, port};
use crate::cli::trace::TraceArgs;
use crate::failure::Failure;
use crate::output::traces;

/// The word for why a packet never comes to the switch.
const NO_NEIGHBOUR: &str = "no-neighbour";

/// What the sender's stack does with a packet.
pub(super) struct Sender {
    /// In words.
    pub step: TraceStep,
    /// Where it sends it; none: it does not.
    pub mac: Option<Mac>,
}

impl Session {
    /// Asks the stack behind the port about --ip. None where the options describe the frame as such, or where the stack is out
    /// of sight; an error where there is no frame to speak of.
    pub(super) async fn sender(&self, args: &TraceArgs, ports: &[PortView]) -> Result<Option<Sender>, Failure> {
        let (Some(ip), None, None, None) = (args.ip, &args.dst, &args.src, args.vlan) else {
            return Ok(None);
        };
        let own = port(&args.port, ports)?;
        let path = with_query(&format!("/v1/ports/{}/way", args.port), &WayQuery { to: ip })?;
        let nothing = |cause: String| {
            let object = format!("port \"{}\"", args.port);
            let hint = "give --dst MAC to trace a frame as if it were sent";
            Err(Failure::usage(object, cause, hint))
        };
        let (next_hop, mac, state) = match self.client.get(&path).await? {
            WayView::NoRoute => {
                return nothing(format!("its stack has no route to {ip}, so that it sends nothing"));
            }
            WayView::Own => {
                return nothing(format!("{ip} is an address of its own stack, which sends nothing"));
            }
            WayView::Elsewhere { dev } => {
                return nothing(format!(
                    "the route of its stack to {ip} leads out of {dev}, not out of this port"
                ));
            }
            WayView::Here { next_hop, mac, state } => (next_hop, mac, state),
            _ => {
                let owner = super::trace::owner(ip, &own.port.switch, ports).and_then(|view| view.port.mac);
                let detail = format!("its stack can't be looked into, and {ip} is taken to be on the link");
                return Ok(owner.map(|mac| Sender {
                    step: step(&args.port, None, detail),
                    mac: Some(mac),
                }));
            }
        };
        let route = if next_hop == ip {
            format!("{ip} is on the link")
        } else {
            format!("the route to {ip} leads over {next_hop}")
        };
        let owner = owner(next_hop, &own.port.switch, ports).filter(|view| view.port.name != args.port);
        let trouble = owner.and_then(down);
        if let Some(mac) = mac {
            let state = state.unwrap_or_default();
            let but = trouble.map_or_else(String::new, |trouble| format!("; {trouble}"));
            let detail = format!("{route}, and {next_hop} is known to be {mac} ({state}){but}");
            return Ok(Some(Sender {
                step: step(&args.port, None, detail),
                mac: Some(mac),
            }));
        }
        let Some(view) = owner else {
            let asks = resolution(next_hop);
            return nothing(format!(
                "{route}; its stack asks for {next_hop} by {asks}, and no port has that, so its MAC address is not known"
            ));
        };
        let stopped = |detail: String| {
            Ok(Some(Sender {
                step: step(&args.port, Some(NO_NEIGHBOUR), detail),
                mac: None,
            }))
        };
        let name = &view.port.name;
        if let Some(trouble) = trouble {
            let detail = format!("{route}, and nobody answers for {next_hop}: {trouble}");
            return stopped(detail);
        }
        let (Some(mine), Some(theirs)) = (own.port.mac, view.port.mac) else {
            return Ok(None);
        };
        let mut addresses = own.port.addresses.iter().map(|address| address.ip());
        let Some(from) = addresses.find(|from| from.is_ipv4() == next_hop.is_ipv4()) else {
            return Ok(None);
        };
        for (port, to, frame) in [
            (&own.port, &view.port, question(mine, from, next_hop)),
            (&view.port, &own.port, answer(theirs, next_hop, mine, from)),
        ] {
            let Some(frame) = frame else { continue };
            if let Some(why) = self.keeps_from(ports, frame, port, to).await? {
                let what = if port.name == *name {
                    "its answer"
                } else {
                    "the sender's question"
                };
                let detail = format!(
                    "{route}, and port {name} has {next_hop}, but {what} ({}) does not come through: {}",
                    resolution(next_hop),
                    why
                );
                return stopped(detail);
            }
        }
        let detail = format!("{route}, and port {name} answers for {next_hop} with {theirs}");
        Ok(Some(Sender {
            step: step(&args.port, None, detail),
            mac: Some(theirs),
        }))
    }

    /// Tells of a packet that never comes to the switch.
    pub(super) fn never_sent(&self, steps: Vec<TraceStep>) -> Result<(), Failure> {
        let report = TraceReport {
            outcome: TraceOutcome::Dropped,
            reason: steps.iter().rev().find_map(|step| step.dropped.clone()),
            ports: Vec::new(),
            steps,
        };
        self.out.show(&report, |style| traces::report(style, &report))
    }
}

/// What the sender's stack did, or what was assumed of it.
pub(super) fn step(port: &PortName, dropped: Option<&str>, detail: String) -> TraceStep {
    TraceStep {
        stage: TraceStage::Sender,
        port: Some(port.clone()),
        dropped: dropped.map(str::to_owned),
        detail,
    }
}

fn resolution(ip: IpAddr) -> &'static str {
    if ip.is_ipv4() { "ARP" } else { "neighbour discovery" }
}

/// Why nobody answers behind a port.
fn down(view: &PortView) -> Option<String> {
    let name = &view.port.name;
    let reason = view
        .reason
        .as_ref()
        .map_or_else(String::new, |reason| format!(" ({reason})"));
    (view.state != PortState::Up).then(|| format!("port {name}, which has it, is {}{reason}", view.state.as_str()))
}

/// Who has this address? RFC 826, RFC 4861 section 4.3.
pub(super) fn question(mac: Mac, from: IpAddr, to: IpAddr) -> Option<Vec<u8>> {
    match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let arp = [&ARP[..], &[0, 1], &mac.0, &from.octets(), &[0; 6], &to.octets()].concat();
            Some(ethernet(Mac::BROADCAST, mac, 0x0806, &arp))
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            let target = to.octets();
            let [.., a, b, c] = target;
            let group = [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, a, b, c];
            let message = [&target[..], &[1, 1], &mac.0].concat();
            let packet = neighbour_discovery(from.octets(), group, 135, [0; 4], &message)?;
            Some(ethernet(Mac([0x33, 0x33, 0xff, a, b, c]), mac, 0x86dd, &packet))
        }
        _ => None,
    }
}

/// I have it. RFC 826, RFC 4861 section 4.4.
pub(super) fn answer(mac: Mac, from: IpAddr, asker: Mac, to: IpAddr) -> Option<Vec<u8>> {
    match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let arp = [&ARP[..], &[0, 2], &mac.0, &from.octets(), &asker.0, &to.octets()].concat();
            Some(ethernet(asker, mac, 0x0806, &arp))
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            const SOLICITED_OVERRIDE: [u8; 4] = [0x60, 0, 0, 0];
            let message = [&from.octets()[..], &[2, 1], &mac.0].concat();
            let packet = neighbour_discovery(from.octets(), to.octets(), 136, SOLICITED_OVERRIDE, &message)?;
            Some(ethernet(asker, mac, 0x86dd, &packet))
        }
        _ => None,
    }
}

/// Ethernet, IPv4, addresses of 6 and 4 bytes.
const ARP: [u8; 6] = [0, 1, 8, 0, 6, 4];

fn neighbour_discovery(from: [u8; 16], to: [u8; 16], kind: u8, flags: [u8; 4], message: &[u8]) -> Option<Vec<u8>> {
    // RFC 4861 section 7.1: with another hop limit it is not looked at.
    let builder = PacketBuilder::ipv6(from, to, 255).icmpv6_raw(kind, 0, flags);
    let mut packet = Vec::with_capacity(builder.size(message.len()));
    builder.write(&mut packet, message).ok()?;
    Some(packet)
}

pub(super) fn ethernet(dst: Mac, src: Mac, ethertype: u16, payload: &[u8]) -> Vec<u8> {
    [&dst.0[..], &src.0, &ethertype.to_be_bytes(), payload].concat()
}
