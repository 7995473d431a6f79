//! `trace`: makes the frame that is described, and asks the daemon what would become of it.

use std::net::IpAddr;

use etherparse::PacketBuilder;
use jiff::tz::TimeZone;
use vswitch_api::trace::{LiveOptions, TraceReport, TraceRequest};
use vswitch_api::view::PortView;
use vswitch_api::{ApiError, ErrorCode, Mac, PortName, SwitchName};

use super::Session;
use super::capture::compile;
use super::doctor::joined;
use super::reach::nearest;
use super::sender::{Sender, step};
use crate::cli::trace::{Protocol, Station, TraceArgs};
use crate::failure::Failure;
use crate::output::{frames, traces};

/// IEEE 802 Local Experimental EtherType 1 (IEEE 802-2014 table 9-2).
const EXPERIMENTAL: u16 = 0x88b5;
/// Port numbers of TCP and UDP: the first that nobody is assigned (RFC 6335 section 6), and that of HTTP.
const SPORT: u16 = 49152;
const DPORT: u16 = 80;
/// The least that a wire carries, without the frame check sequence (IEEE 802.3-2022 clause 4A.2.3.2.4).
const MIN_FRAME: usize = 60;

impl Session {
    pub(super) async fn trace(&self, args: TraceArgs) -> Result<(), Failure> {
        if let Some(count) = args.live {
            return self.trace_live(&args, count).await;
        }
        let (frame, before) = match &args.hex {
            Some(hex) => (hex.clone(), Vec::new()),
            None => {
                let mut ports: Vec<PortView> = self.client.ports().await?;
                self.add_leases(&mut ports).await?;
                let (args, assumed) = meant(args.clone(), &ports)?;
                let sender = self.sender(&args, &ports).await?;
                let mut steps: Vec<_> = assumed
                    .map(|detail| step(&args.port, None, detail))
                    .into_iter()
                    .collect();
                if let Some(Sender { step, mac: None }) = sender {
                    steps.push(step);
                    return self.never_sent(steps);
                }
                let sender = sender.and_then(|sender| Some((sender.mac?, sender.step)));
                let neighbour = sender.as_ref().map(|(mac, _)| *mac);
                steps.extend(sender.map(|(_, step)| step));
                (frames::hex(&build(&args, &ports, neighbour)?), steps)
            }
        };
        let request = TraceRequest { frame };
        let mut report = self.ask(&args.port, &request).await?;
        report.steps.splice(0..0, before);
        let bytes = traces::bytes(&request.frame);
        self.out.show(&report, |style| {
            format!(
                "frame: {}\n{}",
                frames::describe(&bytes, bytes.len()),
                traces::report(style, &report)
            )
        })
    }

    pub(super) async fn ask(&self, port: &PortName, request: &TraceRequest) -> Result<TraceReport, Failure> {
        Ok(self.client.trace(port, request).await?)
    }

    async fn trace_live(&self, args: &TraceArgs, count: u64) -> Result<(), Failure> {
        self.out.refuse_for_stream()?;
        let options = LiveOptions {
            count: Some(count),
            filter: args.filter.as_deref().map(compile).transpose()?,
        };
        let mut ways = self.client.trace_live(&args.port, &options).await?;
        let zone = TimeZone::system();
        let mut seen = 0;
        while let Some(way) = ways.next().await {
            let (live, line) = way?;
            seen += 1;
            self.out.print(&if self.out.json() {
                line
            } else {
                traces::live(self.out.style, &live, &zone)
            })?;
        }
        if seen < count {
            return Err(Failure::unreachable(
                format!("trace of port \"{}\"", args.port),
                "vswitchd ended it",
                "was the port removed, or did the daemon stop?",
            ));
        }
        Ok(())
    }
}

/// What is sent where --dst says no more than where to: a packet to an address, which the sender's stack has its say in, or a frame that is
/// taken as it is. With what was assumed for that.
fn meant(args: TraceArgs, ports: &[PortView]) -> Result<(TraceArgs, Option<String>), Failure> {
    let Some(dst) = &args.dst else { return Ok((args, None)) };
    let own = port(&args.port, ports)?;
    // Whoever describes the frame knows what is in it.
    let is_described = args.ip.is_some()
        || args.arp.is_some()
        || args.ethertype.is_some()
        || args.src.is_some()
        || args.vlan.is_some();
    let as_it_is = "the frame is taken as it is given, past the routes and neighbours of the sender's stack";
    let packet = |ip: IpAddr| TraceArgs {
        ip: Some(ip),
        dst: None,
        ..args.clone()
    };
    let called_so = |ip: &IpAddr| ports.iter().find(|view| view.port.name.as_str() == ip.to_string());
    let to = match dst {
        _ if is_described => return Ok((args, None)),
        Station::Mac(_) => return Ok((args.clone(), Some(as_it_is.to_owned()))),
        Station::Ip(ip) => match called_so(ip) {
            None => return Ok((packet(*ip), None)),
            Some(view) => view,
        },
        Station::Port(name) => port(name, ports)?,
    };
    let name = &to.port.name;
    Ok(match nearest(&own.port.addresses, &to.port.addresses, |_| true) {
        Some(ip) => (
            packet(ip),
            Some(format!("the packet is for {ip}, an address of port {name}")),
        ),
        None => {
            let why = format!("no addresses of one IP version are known of {} and {name}", args.port);
            (args, Some(format!("{why}: {as_it_is}")))
        }
    })
}

fn unknown(object: impl Into<String>, cause: impl Into<String>, option: &str) -> Failure {
    Failure::usage(object, cause, format!("give {option}"))
}

/// The MAC address of a station.
fn mac_of(station: &Station, own: &PortView, ports: &[PortView]) -> Result<Mac, Failure> {
    let of_port = |view: &PortView| {
        view.port.mac.ok_or_else(|| {
            unknown(
                format!("port \"{}\"", view.port.name),
                "its MAC address is not known",
                "a MAC address",
            )
        })
    };
    match station {
        Station::Mac(mac) => Ok(*mac),
        Station::Port(name) => of_port(port(name, ports)?),
        Station::Ip(ip) => {
            let called_so = ports.iter().find(|view| view.port.name.as_str() == ip.to_string());
            let owner = called_so.or_else(|| owner(*ip, &own.port.switch, ports));
            of_port(owner.ok_or_else(|| no_owner(*ip, &own.port.switch))?)
        }
    }
}

/// The port whose interface has an address, on a switch or on those that links join to it, the nearest first.
pub(super) fn owner<'a>(ip: IpAddr, switch: &SwitchName, ports: &'a [PortView]) -> Option<&'a PortView> {
    let has = |view: &&PortView| view.port.addresses.iter().any(|address| address.ip() == ip);
    let near = joined(ports, switch, false);
    let of = |switch: &SwitchName| ports.iter().filter(|view| view.port.switch == *switch).find(&has);
    near.iter().find_map(of)
}

fn no_owner(ip: IpAddr, switch: &SwitchName) -> Failure {
    ApiError::new(
        ErrorCode::NotFound,
        format!("address {ip}"),
        format!(
            "no port of switch \"{switch}\", or of one that a link joins to it, has it, so its MAC address is not known"
        ),
    )
    .hint("give --dst MAC or --dst PORT; `vswitchctl addr list` lists the addresses")
    .into()
}

pub(super) fn port<'a>(name: &PortName, ports: &'a [PortView]) -> Result<&'a PortView, Failure> {
    ports.iter().find(|view| view.port.name == *name).ok_or_else(|| {
        ApiError::new(ErrorCode::NotFound, format!("port \"{name}\""), "there is no such port")
            .hint("`vswitchctl port list` lists them")
            .into()
    })
}

/// The frame that the options describe. `neighbour`: where the sender's stack sends what is for --ip.
fn build(args: &TraceArgs, ports: &[PortView], neighbour: Option<Mac>) -> Result<Vec<u8>, Failure> {
    let own = port(&args.port, ports)?;
    let object = || format!("port \"{}\"", args.port);
    let src = match &args.src {
        Some(station) => mac_of(station, own, ports)?,
        None => (own.port.mac).ok_or_else(|| unknown(object(), "its MAC address is not known", "--src"))?,
    };
    let dst = match (&args.dst, args.ip, neighbour) {
        (Some(station), ..) => mac_of(station, own, ports)?,
        (None, Some(_), Some(mac)) => mac,
        (None, Some(ip), None) => mac_of(&Station::Ip(ip), own, ports)?,
        (None, None, _) => Mac::BROADCAST,
    };
    let source_ip = |v4: bool| {
        let mut addresses = own.port.addresses.iter().map(|address| address.ip());
        let ip = args.from.or_else(|| addresses.find(|ip| ip.is_ipv4() == v4));
        let ip = ip.filter(|ip| ip.is_ipv4() == v4);
        ip.ok_or_else(|| {
            unknown(
                object(),
                format!("it has no IPv{} address", if v4 { 4 } else { 6 }),
                "--from",
            )
        })
    };
    let (ethertype, inside) = match (args.arp, args.ip) {
        (Some(target), _) => {
            let IpAddr::V4(sender) = source_ip(true)? else {
                return Err(unknown(object(), "it has no IPv4 address", "--from"));
            };
            // RFC 826: Ethernet, IPv4, 6 and 4 bytes, request.
            let head = [0, 1, 8, 0, 6, 4, 0, 1];
            (
                0x0806,
                [&head[..], &src.0, &sender.octets(), &[0; 6], &target.octets()].concat(),
            )
        }
        (None, Some(ip)) => {
            let tags = if args.vlan.is_some() { 4 } else { 0 };
            let room = args.size.map(|size| (size as usize).saturating_sub(14 + tags));
            (
                if ip.is_ipv4() { 0x0800 } else { 0x86dd },
                ip_packet(args, source_ip(ip.is_ipv4())?, ip, room)?,
            )
        }
        (None, None) if args.proto.is_some() => {
            let cause = "it says what is in an IP packet, and the frame is described as another one";
            return Err(Failure::usage("--proto", cause, "give --ip ADDRESS too"));
        }
        (None, None) => (args.ethertype.unwrap_or(EXPERIMENTAL), Vec::new()),
    };
    let mut frame = [dst.0, src.0].concat();
    if let Some(vlan) = args.vlan {
        frame.extend(0x8100_u16.to_be_bytes());
        frame.extend(vlan.to_be_bytes());
    }
    frame.extend(ethertype.to_be_bytes());
    frame.extend(inside);
    let size = args.size.map_or(frame.len().max(MIN_FRAME), |size| size as usize);
    frame.resize(size.max(frame.len()), 0);
    Ok(frame)
}

/// `room`: bytes of the packet.
fn ip_packet(args: &TraceArgs, from: IpAddr, to: IpAddr, room: Option<usize>) -> Result<Vec<u8>, Failure> {
    let builder = match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => PacketBuilder::ipv4(from.octets(), to.octets(), 64),
        (IpAddr::V6(from), IpAddr::V6(to)) => PacketBuilder::ipv6(from.octets(), to.octets(), 64),
        _ => {
            return Err(Failure::usage(
                "frame",
                "source and destination are of different IP versions",
                "change --from",
            ));
        }
    };
    let mut packet = Vec::new();
    let payload = |headers: usize| vec![0; room.map_or(0, |room| room.saturating_sub(headers))];
    let proto = args.proto.unwrap_or(Protocol::Icmp);
    if proto == Protocol::Icmp && (args.sport.is_some() || args.dport.is_some()) {
        let cause = "it carries no port numbers";
        return Err(Failure::usage("--proto icmp", cause, "give --proto tcp or --proto udp"));
    }
    let (sport, dport) = (args.sport.unwrap_or(SPORT), args.dport.unwrap_or(DPORT));
    let written = match proto {
        Protocol::Tcp => {
            let builder = builder.tcp(sport, dport, 0, 64_240).syn();
            let payload = payload(builder.size(0));
            builder.write(&mut packet, &payload)
        }
        Protocol::Udp => {
            let builder = builder.udp(sport, dport);
            let payload = payload(builder.size(0));
            builder.write(&mut packet, &payload)
        }
        Protocol::Icmp if to.is_ipv4() => {
            let builder = builder.icmpv4_echo_request(1, 1);
            let payload = payload(builder.size(0));
            builder.write(&mut packet, &payload)
        }
        Protocol::Icmp => {
            let builder = builder.icmpv6_echo_request(1, 1);
            let payload = payload(builder.size(0));
            builder.write(&mut packet, &payload)
        }
    };
    written.map_err(|e| Failure::usage("frame", e.to_string(), "choose a smaller --size"))?;
    Ok(packet)
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use etherparse::SlicedPacket;
    use serde_json::json;

    use super::*;
    use crate::cli::{Cli, Command};

    fn ports() -> Vec<PortView> {
        let view = |name: &str, mac: &str, address: &str, address6: &str| {
            json!({
                "name": name, "mac": mac, "addresses": [address, address6], "state": "up", "state_secs": 1, "queues": 1,
                "fdb_entries": 0, "counters": vswitch_api::view::PortCounters::default()
            })
        };
        serde_json::from_value(json!([
            view("red", "02:00:00:00:00:01", "10.0.0.1/24", "fd00::1/64"),
            view("blue", "02:00:00:00:00:02", "10.0.0.2/24", "fd00::2/64"),
        ]))
        .unwrap()
    }

    fn frame(arguments: &str) -> Vec<u8> {
        let cli = Cli::parse_from(format!("vswitchctl trace red {arguments}").split_whitespace());
        let Command::Trace(args) = cli.command else {
            panic!("another command")
        };
        build(&args, &ports(), None).unwrap_or_else(|failure| panic!("{failure:?}"))
    }

    #[test]
    fn what_is_said_of_the_frame_is_in_it_or_refused() {
        let parse = |arguments: &str| {
            let cli = Cli::try_parse_from(format!("vswitchctl trace red {arguments}").split_whitespace());
            cli.map(|cli| cli.command)
        };
        for arguments in [
            "--dst blue --dport 22",
            "--arp 10.0.0.2 --proto tcp",
            "--hex 00 --proto tcp",
            "--live 1 --proto udp",
        ] {
            assert!(parse(arguments).is_err(), "{arguments}");
        }
        for arguments in [
            "--dst 02:00:00:00:00:09 --proto tcp --dport 22",
            "--ip 10.0.0.2 --proto icmp --dport 22",
        ] {
            let Ok(Command::Trace(args)) = parse(arguments) else {
                panic!("{arguments}")
            };
            assert!(build(&args, &ports(), None).is_err(), "{arguments}");
        }
    }

    fn what_is_meant(arguments: &str) -> (Option<String>, Option<String>) {
        let cli = Cli::parse_from(format!("vswitchctl trace red {arguments}").split_whitespace());
        let Command::Trace(args) = cli.command else {
            panic!("another command")
        };
        let (args, assumed) = meant(*args, &ports()).unwrap_or_else(|failure| panic!("{failure:?}"));
        (args.ip.map(|ip| ip.to_string()), assumed)
    }

    /// A packet to an address goes as the stack sends it; only a frame that is described is taken as it is.
    #[test]
    fn an_address_or_a_port_is_reached_by_the_stack() {
        for (arguments, ip, words) in [
            ("--dst 10.0.0.2", Some("10.0.0.2"), None),
            ("--dst 8.8.8.8", Some("8.8.8.8"), None),
            ("--dst blue", Some("10.0.0.2"), Some("an address of port blue")),
            ("--dst 02:00:00:00:00:09", None, Some("as it is given")),
            ("--dst blue --src 02:00:00:00:00:09", None, None),
            ("--dst blue --ethertype 0x88cc", None, None),
            ("--arp 10.0.0.2", None, None),
        ] {
            let (meant, assumed) = what_is_meant(arguments);
            assert_eq!(meant.as_deref(), ip, "{arguments}");
            let is_told = assumed
                .as_ref()
                .zip(words)
                .is_some_and(|(told, words)| told.contains(words));
            assert!(
                is_told || assumed.is_none() && words.is_none(),
                "{arguments}: {assumed:?}"
            );
        }
    }

    #[test]
    fn what_is_not_said_is_taken_from_the_ports() {
        let arp = frame("--arp 10.0.0.2");
        assert_eq!(
            (arp.len(), &arp[..14]),
            (60, &[&[0xff; 6][..], &[2, 0, 0, 0, 0, 1, 8, 6]].concat()[..])
        );
        let syn = frame("--ip 10.0.0.2 --proto tcp --dport 443");
        assert_eq!(&syn[..12], [2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1]);
        assert_eq!(
            frames::describe(&syn, syn.len()).split(": ").nth(1),
            Some("10.0.0.1.49152 > 10.0.0.2.443")
        );
        let echo = frame("--ip fd00::2 --vlan 7 --size 1000");
        assert_eq!(echo.len(), 1000);
        assert!(
            frames::describe(&echo, 1000).contains("vlan 7, IPv6, length 1000: fd00::1 > fd00::2: ICMPv6 echo request")
        );
        assert!(SlicedPacket::from_ethernet(&echo).is_ok());
        assert_eq!(frame("--dst blue --src 02:00:00:00:00:09 --size 14").len(), 14);
        assert_eq!(frame("--dst blue --ethertype 0x88cc")[12..14], [0x88, 0xcc]);
        assert_eq!(frame("--dst 10.0.0.2")[..6], [2, 0, 0, 0, 0, 2]);
        assert_eq!(
            frame("--dst fd00::2 --src 10.0.0.2")[..12],
            [2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 2]
        );
    }
}
