//! Who reaches whom.

use std::ffi::OsString;
use std::net::IpAddr;
use std::str::FromStr;

use clap::Args;
use vswitch_api::name::InvalidValue;
use vswitch_api::{NsName, PortName};

use super::{OnlySwitch, parse};

/// Address families.
#[derive(Args, Clone, Copy, Debug)]
#[group(multiple = false)]
pub struct Family {
    /// IPv4 only
    #[arg(short = '4', long)]
    pub ipv4: bool,
    /// IPv6 only
    #[arg(short = '6', long)]
    pub ipv6: bool,
}

impl Family {
    /// Whether addresses of this family are meant.
    pub fn takes(self, is_ipv4: bool) -> bool {
        match is_ipv4 {
            true => !self.ipv6,
            false => !self.ipv4,
        }
    }
}

/// What is pinged.
#[derive(Clone, Debug)]
pub enum Target {
    /// An address of this port.
    Port(PortName),
    /// This address.
    Address(IpAddr),
}

impl FromStr for Target {
    type Err = InvalidValue;
    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        match text.parse() {
            Ok(address) => Ok(Self::Address(address)),
            Err(_) => text.parse().map(Self::Port),
        }
    }
}

/// Arguments of `ping`.
#[derive(Args, Debug)]
pub struct PingArgs {
    /// The port whose namespace pings
    pub from: PortName,
    /// The port that is pinged, or an address
    #[arg(value_name = "PORT|IP")]
    pub to: Target,
    /// Stop after so many
    #[arg(short = 'c', long, value_name = "N", value_parser = parse::from_one::<u32>)]
    pub count: Option<u32>,
    /// Which address.
    #[command(flatten)]
    pub family: Family,
}

/// Arguments of `pingall`.
#[derive(Args, Debug)]
pub struct PingallArgs {
    /// Of which switch.
    #[command(flatten)]
    pub only: OnlySwitch,
    /// Which addresses.
    #[command(flatten)]
    pub family: Family,
    /// How long an answer is waited for
    #[arg(long, value_name = "SECONDS", value_parser = parse::from_one::<u32>, default_value = "2")]
    pub wait: u32,
}

/// Arguments of `shell`.
#[derive(Args, Debug)]
pub struct ShellArgs {
    /// The port, or a namespace
    #[arg(value_name = "PORT|NAMESPACE")]
    pub name: NsName,
    /// The shell (default: that of $SHELL)
    #[arg(value_name = "SHELL")]
    pub shell: Option<OsString>,
}
