//! What becomes of a frame, and why.

use std::net::IpAddr;
use std::str::FromStr;

use clap::{Args, ValueEnum};
use vswitch_api::{Mac, PortName};

use super::parse;

/// Examples of `trace`.
pub const EXAMPLES: &str = "\
Examples:
  vswitchctl trace red --dst 192.168.15.2  # a packet, as red would send it
  vswitchctl trace red --dst blue --size 9000
  vswitchctl trace red --ip 192.168.15.2 --proto tcp --dport 80
  vswitchctl trace red --arp 192.168.15.2  # who has ...?, as red would ask
  vswitchctl trace red --dst 01:80:c2:00:00:0e --vlan 7
  vswitchctl trace red --hex ffffffffffff020000000001080600
  vswitchctl trace red --live 5 --filter arp  # the next 5 real frames

To an address or a port it is a packet, which goes as the sender's stack has
it: by its route to the next hop, whose MAC address it knows or asks for. With
no route it sends nothing, which is an error. To a MAC address, or with --src,
--vlan or --ethertype, it is a frame that is taken as it is.

The frame is not sent, not counted, and nothing is learned from it. What is
not given is taken from the port: its MAC address, and its first address. With
--live the real frames that come in from the port are traced, by the tables as
they are just after each has passed.";

/// Arguments of `trace`.
#[derive(Args, Clone, Debug)]
pub struct TraceArgs {
    /// The port that the frame comes in from
    pub port: PortName,
    /// Destination: an IP address, a port, or a MAC address (default: the neighbour by which --ip is reached, else
    /// broadcast)
    #[arg(long, value_name = "MAC|PORT|IP")]
    pub dst: Option<Station>,
    /// Source, likewise (default: the port's own)
    #[arg(long, value_name = "MAC|PORT|IP")]
    pub src: Option<Station>,
    /// Tag the frame with this VLAN id
    #[arg(long, value_name = "ID", value_parser = parse::tag_id)]
    pub vlan: Option<u16>,
    /// EtherType (default: 0x88b5, for experiments)
    #[arg(long, value_name = "NUMBER", value_parser = parse::ethertype, conflicts_with_all = ["arp", "ip"])]
    pub ethertype: Option<u16>,
    /// An ARP request for this IPv4 address
    #[arg(long, value_name = "IP", value_parser = parse::ipv4, conflicts_with = "ip")]
    pub arp: Option<std::net::Ipv4Addr>,
    /// An IP packet to this address
    #[arg(long, value_name = "IP", value_parser = parse::ip)]
    pub ip: Option<IpAddr>,
    /// Source address of the IP packet or the ARP request (default: the port's own)
    #[arg(long, value_name = "IP", value_parser = parse::ip)]
    pub from: Option<IpAddr>,
    /// What is in the IP packet (default: icmp)
    #[arg(long, value_enum, value_name = "PROTOCOL", conflicts_with_all = ["arp", "ethertype"])]
    pub proto: Option<Protocol>,
    /// Source port of TCP and UDP (default: 49152)
    #[arg(long, value_name = "PORT", value_parser = parse::count::<u16>, requires = "proto")]
    pub sport: Option<u16>,
    /// Destination port of TCP and UDP (default: 80)
    #[arg(long, value_name = "PORT", value_parser = parse::count::<u16>, requires = "proto")]
    pub dport: Option<u16>,
    /// Length of the frame, filled up with zeros (default: 60 bytes, or what it needs)
    #[arg(long, value_name = "BYTES", value_parser = parse::frame_size)]
    pub size: Option<u32>,
    /// The frame itself in hexadecimal, from the destination address on
    #[arg(long, value_name = "BYTES", conflicts_with_all = ["dst", "src", "vlan", "ethertype", "arp", "ip", "from", "proto", "size"])]
    pub hex: Option<String>,
    /// Trace the next N real frames from the port
    #[arg(long, value_name = "N", value_parser = parse::from_one::<u64>,
          conflicts_with_all = ["hex", "dst", "src", "vlan", "ethertype", "arp", "ip", "from", "proto", "size"])]
    pub live: Option<u64>,
    /// With --live: only frames that this filter wants, in the syntax of tcpdump
    #[arg(long, value_name = "EXPRESSION", requires = "live")]
    pub filter: Option<String>,
}

/// A station by its address, or by its port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Station {
    /// Its address.
    Mac(Mac),
    /// The port that it is behind.
    Port(PortName),
    /// An IP address that it has. A port may be called so too.
    Ip(IpAddr),
}

impl FromStr for Station {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(mac) = text.parse() {
            return Ok(Self::Mac(mac));
        }
        if let Ok(ip) = text.parse() {
            return Ok(Self::Ip(ip));
        }
        let port = text.parse().map(Self::Port);
        port.map_err(|_| {
            format!(
                "{text:?} is neither a MAC address such as 02:00:00:00:00:01 nor an IP address nor the name of a port"
            )
        })
    }
}

/// What an IP packet carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Protocol {
    /// An echo request
    Icmp,
    /// The first segment of a connection
    Tcp,
    /// A datagram
    Udp,
}
