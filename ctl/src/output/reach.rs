//! Who reaches whom.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::Serialize;
use vswitch_api::PortName;

use super::Style;

/// A ping from one port to an address of another.
#[derive(Clone, Debug, Serialize)]
pub struct Ping {
    /// The port whose namespace pings.
    pub from: PortName,
    /// The port that is pinged.
    pub to: PortName,
    /// The address of it.
    pub address: IpAddr,
    /// An answer came.
    pub ok: bool,
    /// After so long.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rtt_ms: Option<f64>,
}

/// What became of `ping`, for programs.
#[derive(Clone, Debug, Serialize)]
pub struct OnePing {
    /// The port whose namespace pings.
    pub from: PortName,
    /// The port that is pinged, unless an address was named.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<PortName>,
    /// The address that was asked for.
    pub address: IpAddr,
    /// An answer came.
    pub ok: bool,
    /// The first one after so long.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rtt_ms: Option<f64>,
}

/// A matrix for each address family: who pings stands on the left, who is pinged above.
pub fn matrix(style: Style, pings: &[Ping]) -> String {
    let mut text = String::new();
    for (family, is_ipv4) in [("IPv4", true), ("IPv6", false)] {
        let of_family = pings.iter().filter(|ping| ping.address.is_ipv4() == is_ipv4);
        let results: BTreeMap<_, _> = of_family.map(|ping| ((&ping.from, &ping.to), ping)).collect();
        if !results.is_empty() {
            text += &one(style, family, &results);
        }
    }
    let failed = pings.iter().filter(|ping| !ping.ok).count();
    let answered = pings.len() - failed;
    text + &match failed {
        0 => format!("{answered} of {answered} answered\n"),
        _ => format!("{answered} of {} answered, {failed} did not\n", pings.len()),
    }
}

fn one(style: Style, family: &str, results: &BTreeMap<(&PortName, &PortName), &Ping>) -> String {
    let mut names: Vec<_> = results.keys().flat_map(|(from, to)| [*from, *to]).collect();
    names.sort();
    names.dedup();
    let cell = |from, to| match results.get(&(from, to)) {
        None => "-".to_owned(),
        Some(Ping { ok: false, .. }) => "FAIL".to_owned(),
        Some(Ping { rtt_ms: Some(ms), .. }) => format!("{ms}ms"),
        Some(_) => "ok".to_owned(),
    };
    let widths: Vec<_> = names
        .iter()
        .map(|to| {
            names
                .iter()
                .map(|from| cell(*from, *to).len())
                .max()
                .unwrap_or(0)
                .max(to.as_str().len())
        })
        .collect();
    let first = names
        .iter()
        .map(|name| name.as_str().len())
        .max()
        .unwrap_or(0)
        .max(family.len());
    let mut heading = format!("{family:first$}");
    for (name, width) in names.iter().zip(&widths) {
        heading += &format!("  {:>width$}", name.as_str());
    }
    let mut text = style.bold(&heading) + "\n";
    for from in &names {
        text += &format!("{:first$}", from.as_str());
        for (to, width) in names.iter().zip(&widths) {
            let word = format!("{:>width$}", cell(*from, *to));
            let bad = word.trim() == "FAIL";
            let red = anstyle::AnsiColor::Red.on_default();
            text += &format!("  {}", if bad { style.paint(red, &word) } else { word });
        }
        text.push('\n');
    }
    text + "\n"
}
