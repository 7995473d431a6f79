//! `lab test`: pings between all pairs of a lab, held against what its file expects, and how fast TCP is between them.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::net::IpAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use serde::Serialize;
use vswitch_api::request::SwitchFilter;
use vswitch_api::view::{AddressView, PortView, Stack};
use vswitch_api::{ApiError, ErrorCode, Lab, LabName, Namespace};

use super::meant::{self, Meant};
use super::pings::{self, Ping};
use super::reach::{Endpoint, Expectation, endpoints, expected, stations, ways};
use super::read::LabFile;
use super::{heat, sides, speed, told};
use crate::cli::doctor::WAIT;
use crate::cli::lab::LabTestArgs;
use crate::commands::Session;
use crate::commands::doctor::Finding;
use crate::commands::reach::nearest;
use crate::failure::Failure;
use crate::output::tell;

/// Something is not as expected.
const EXIT_UNEXPECTED: u8 = 1;
/// A measurement of less says nothing, and of more no more.
const SHORTEST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(1);
/// So long causes are looked for: where much is wrong, most of it has the same.
const LOOKED_INTO: Duration = Duration::from_secs(60);

/// What became of one pair.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Outcome {
    pub from: String,
    pub to: String,
    /// `ipv4` or `ipv6`; `none`: they have no address of the same version.
    pub family: &'static str,
    /// What was pinged.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<IpAddr>,
    pub reached: bool,
    /// What the file wants; absent: nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expected: Option<bool>,
    pub ok: bool,
    /// Why it can't be tested, and so is not as expected.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub untested: Option<String>,
    /// Why it is not as expected, by `doctor`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cause: Option<Finding>,
    /// How fast TCP was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bits_per_second: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct TestReport {
    pub ok: bool,
    pub pairs: Vec<Outcome>,
    /// Ports without an address, of which nothing is expected by their name.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub left_out: Vec<String>,
}

impl Session {
    pub(super) async fn test_lab(&self, args: LabTestArgs) -> Result<(), Failure> {
        let file = self.read_lab(&args.file)?;
        let there: Lab = self.client.known_lab().await?;
        let leased = self.client.addresses(&SwitchFilter::default()).await?;
        let (all, left_out) = of_file(&file, &there, &leased)?;
        let mut pairs = pairs(&all, &file.reach);
        let (untested, left_out) = untested(&all, left_out, &file.reach);
        pairs.extend(untested);
        if pairs.is_empty() {
            return Err(Failure::usage(
                format!("lab file {}", file.path),
                "it names no two that could reach each other, so there is nothing to test",
                "give ports addresses, or auto_addresses = true",
            ));
        }
        let ports: Vec<PortView> = self.client.ports().await?;
        let stacks = all
            .iter()
            .filter_map(|endpoint| Some((endpoint.name.as_str(), stack(endpoint, &ports)?)))
            .collect();
        ping_all(&all, &stacks, &mut pairs, args.wait)?;
        if args.speed {
            measure(&stacks, &mut pairs, args.speed_time)?;
        }
        self.find_causes(&mut pairs).await;
        let report = TestReport {
            ok: pairs.iter().all(|pair| pair.ok),
            pairs,
            left_out,
        };
        if let Some(path) = &args.junit {
            write("JUnit", path, &told::junit(&file.path, &report))?;
        }
        if let Some(path) = &args.svg {
            write("SVG", path, &heat::draw(&all, &report))?;
        }
        self.out.show(&report, |style| told::text(style, &all, &report))?;
        match report.ok {
            true => Ok(()),
            false => Err(Failure::Reported(EXIT_UNEXPECTED)),
        }
    }

    /// Has `doctor` look at what is not as expected, each pair once.
    async fn find_causes(&self, pairs: &mut [Outcome]) {
        let end = Instant::now() + LOOKED_INTO;
        let mut known: HashMap<(String, String, bool), Option<Finding>> = HashMap::new();
        for pair in pairs.iter_mut().filter(|pair| !pair.ok) {
            let key = (pair.from.clone(), pair.to.clone(), pair.reached);
            if let Some(cause) = known.get(&key) {
                pair.cause.clone_from(cause);
                continue;
            }
            let (Ok(from), Ok(to)) = (pair.from.parse(), pair.to.parse()) else {
                continue;
            };
            if Instant::now() >= end {
                let cause = "it was not looked into, as others took long already";
                pair.cause = Some(Finding::new(cause, format!("`vswitchctl doctor {from} {to}` does")));
                continue;
            }
            let found = match pair.reached {
                true => self.passage(&from, &to).await,
                false => self.way(&from, &to, WAIT).await.map(|report| report.finding),
            };
            pair.cause = match found {
                Ok(found) => found,
                // The ends of cables are no ports.
                Err(Failure::Error { error, .. }) if error.code == ErrorCode::NotFound => None,
                Err(Failure::Error { error, .. }) => {
                    Some(Finding::new("why could not be found out", error.to_string()))
                }
                Err(_) => None,
            };
            known.insert(key, pair.cause.clone());
        }
    }
}

/// Namespaces, and the host, by the names of endpoints; those that are not there now are not in it.
type Stacks<'a> = HashMap<&'a str, Option<Stack>>;

fn ping_all(all: &[Endpoint], stacks: &Stacks<'_>, pairs: &mut [Outcome], wait: u32) -> Result<(), Failure> {
    let place: HashMap<_, _> = all
        .iter()
        .enumerate()
        .map(|(n, endpoint)| (&endpoint.name, n))
        .collect();
    // There and back next to each other, as both need the same neighbours.
    let mut order: Vec<_> = (0..pairs.len()).collect();
    order.sort_by_key(|n| {
        let ends = [&pairs[*n].from, &pairs[*n].to].map(|name| place.get(name));
        (ends.iter().min().copied(), ends.iter().max().copied())
    });
    let ping = |n: &usize| {
        let from = stacks.get(pairs[*n].from.as_str())?.clone();
        Some((
            *n,
            Ping {
                from,
                to: pairs[*n].address?,
            },
        ))
    };
    let (order, pings): (Vec<_>, Vec<_>) = order.iter().filter_map(ping).unzip();
    let mut answered = pings::all(&pings, Duration::from_secs(wait.into()), |parts| {
        tell!(
            "vswitchctl: {} pings need more neighbours than the kernel keeps (net.ipv4.neigh.default.gc_thresh3); they are made in {parts} parts",
            pings.len()
        );
    })?;
    let meant: Vec<_> = order
        .iter()
        .zip(&pings)
        .map(|(n, ping)| Meant {
            from: ping.from.clone(),
            to: stacks.get(pairs[*n].to.as_str()).cloned().flatten(),
            address: ping.to,
        })
        .collect();
    meant::settle(&meant, &mut answered, Duration::from_secs(wait.into()))?;
    for (n, reached) in order.into_iter().zip(answered) {
        pairs[n].reached = reached;
    }
    for pair in pairs {
        pair.ok = pair.untested.is_none() && pair.expected.is_none_or(|expected| expected == pair.reached);
    }
    Ok(())
}

/// One after the other, as they would share processors, and by one IP version each.
fn measure(stacks: &Stacks<'_>, pairs: &mut [Outcome], time: Duration) -> Result<(), Failure> {
    let mut which: Vec<usize> = Vec::new();
    for (n, pair) in pairs.iter().enumerate().filter(|(_, pair)| pair.reached) {
        let same = |last: &&usize| (&pairs[**last].from, &pairs[**last].to) == (&pair.from, &pair.to);
        if which.last().filter(same).is_none() {
            which.push(n);
        }
    }
    let count = u32::try_from(which.len().max(1)).unwrap_or(u32::MAX);
    let each = (time / count).clamp(SHORTEST, LONGEST);
    let end = Instant::now() + time;
    let mut left = 0;
    for n in spread(&which) {
        if Instant::now() >= end {
            left += 1;
            continue;
        }
        let pair = &mut pairs[n];
        let [from, to] = [&pair.from, &pair.to].map(|name| stacks.get(name.as_str()));
        if let (Some(from), Some(to), Some(address)) = (from, to, pair.address) {
            pair.bits_per_second = speed::measure(from.as_ref(), to.as_ref(), address, each)?;
        }
    }
    if left > 0 {
        tell!(
            "vswitchctl: the speed of {left} of {} pairs was not measured within {} s; --speed-time gives more",
            which.len(),
            time.as_secs_f32()
        );
    }
    Ok(())
}

/// The same in an order in which the first of them are from everywhere.
fn spread(all: &[usize]) -> impl Iterator<Item = usize> {
    let step = (1..all.len()).find(|step| step * step >= all.len()).unwrap_or(1);
    (0..step).flat_map(move |first| all.iter().copied().skip(first).step_by(step))
}

fn write(what: &str, path: &Path, text: &str) -> Result<(), Failure> {
    fs::write(path, text).map_err(|e| {
        Failure::usage(
            format!("{what} file {}", path.display()),
            format!("it can't be written: {e}"),
            "choose a place that can be written to",
        )
    })
}

/// What the file names, as it is there, and which of its ports have no address there.
fn of_file(file: &LabFile, there: &Lab, leased: &[AddressView]) -> Result<(Vec<Endpoint>, Vec<String>), Failure> {
    let name = file.lab_name()?;
    let mut own = stations(&owned(file, there, &name));
    for view in leased.iter().filter(|view| view.lease_secs.is_some()) {
        if let Some(endpoint) = own.iter_mut().find(|endpoint| endpoint.name == view.port.as_str()) {
            endpoint.addresses.push(view.address);
        }
    }
    let (own, bare): (Vec<_>, Vec<_>) = own.into_iter().partition(|endpoint| !endpoint.addresses.is_empty());
    let by_name: HashMap<_, _> = own.iter().map(|endpoint| (&endpoint.name, endpoint)).collect();
    let found = |wanted: Endpoint| match by_name.get(&wanted.name) {
        Some(endpoint) => Ok((*endpoint).clone()),
        None => {
            let is_so_called = |port: &&vswitch_api::Port| port.name.as_str() == wanted.name;
            let cause = match there.ports.iter().find(is_so_called) {
                None => "the file names it, and it is not there with an address".to_owned(),
                Some(port) => match there.labs.iter().find(|lab| lab.ports.contains(&port.name)) {
                    Some(lab) if lab.name == name => "it has no address any more".to_owned(),
                    Some(lab) => format!("there is one, which is of lab {} and not of this one", lab.name),
                    None => "there is one, which is of no lab and not as the file says".to_owned(),
                },
            };
            let error = ApiError::new(ErrorCode::NotFound, format!("port {:?}", wanted.name), cause);
            Err(error.hint("bring the lab up first: `vswitchctl lab up FILE`").into())
        }
    };
    let sure: HashSet<_> = endpoints(&file.lab).into_iter().map(|endpoint| endpoint.name).collect();
    let wanted = stations(&file.lab).into_iter();
    let wanted = wanted.filter(|one| sure.contains(&one.name) || by_name.contains_key(&one.name));
    let all = wanted.map(found).collect::<Result<_, Failure>>()?;
    Ok((all, bare.into_iter().map(|endpoint| endpoint.name).collect()))
}

/// What is expected of names and can't be tested, which is told as what is not as expected; and who is left of those without an address.
fn untested(all: &[Endpoint], bare: Vec<String>, reach: &[Expectation]) -> (Vec<Outcome>, Vec<String>) {
    let of_name: HashMap<_, _> = all.iter().map(|endpoint| (endpoint.name.as_str(), endpoint)).collect();
    let mut seen = HashSet::new();
    let mut outcomes = Vec::new();
    for expectation in reach {
        for (from, to) in ways(expectation, all) {
            let why = match [from, to].map(|name| of_name.get(name)) {
                [None, _] => format!("{from} has no address"),
                [_, None] => format!("{to} has no address"),
                [Some(one), Some(two)] if one.namespace == two.namespace && expectation.is_of_names() => {
                    "both are in one namespace, which no packet between them leaves".to_owned()
                }
                _ => continue,
            };
            if !seen.insert((from, to)) {
                continue;
            }
            outcomes.push(Outcome {
                from: from.to_owned(),
                to: to.to_owned(),
                family: "none",
                address: None,
                reached: false,
                expected: expected(reach, from, to),
                ok: false,
                untested: Some(why),
                cause: None,
                bits_per_second: None,
            });
        }
    }
    let is_told = |name: &String| outcomes.iter().any(|one| one.from == *name || one.to == *name);
    let left_out = bare.into_iter().filter(|name| !is_told(name)).collect();
    (outcomes, left_out)
}

/// What is there of the lab: what it owns; where it was never brought up as one, what is as the file says and no lab owns.
fn owned(file: &LabFile, there: &Lab, name: &LabName) -> Lab {
    let mut own = there.clone();
    let named = match there.owned_by(name) {
        Some(owned) => owned.clone(),
        None => {
            let as_said = |port: &vswitch_api::Port| {
                file.lab.ports.iter().any(|said| {
                    let namespace = said.namespace.as_ref().or(port.namespace.as_ref());
                    said.name == port.name
                        && (&said.switch, said.kind, namespace) == (&port.switch, port.kind, port.namespace.as_ref())
                        && said.addresses.iter().all(|address| port.addresses.contains(address))
                })
            };
            own.ports.retain(as_said);
            sides::named(there, &file.lab, name)
        }
    };
    own.ports.retain(|port| named.ports.contains(&port.name));
    own.cables
        .retain(|cable| named.cables.iter().any(|ends| ends.fits(cable)));
    own
}

/// All pairs with what is expected of them. Without any expectation all are to reach all.
fn pairs(all: &[Endpoint], reach: &[Expectation]) -> Vec<Outcome> {
    let mut pairs = Vec::new();
    for from in all {
        for to in all
            .iter()
            .filter(|to| to.name != from.name && to.namespace != from.namespace)
        {
            let expected = match reach {
                [] => Some(true),
                reach => expected(reach, &from.name, &to.name),
            };
            let outcome = |family, address| Outcome {
                from: from.name.clone(),
                to: to.name.clone(),
                family,
                address,
                reached: false,
                expected,
                ok: expected != Some(true),
                untested: None,
                cause: None,
                bits_per_second: None,
            };
            let before = pairs.len();
            for (family, is_v4) in [("ipv4", true), ("ipv6", false)] {
                if let Some(address) = nearest(&from.addresses, &to.addresses, |ip| ip.is_ipv4() == is_v4) {
                    pairs.push(outcome(family, Some(address)));
                }
            }
            if pairs.len() == before && expected.is_some() {
                pairs.push(outcome("none", None));
            }
        }
    }
    pairs
}

/// Where an endpoint can be pinged from: a namespace, or the host. None: it is not there now, and so reaches nobody.
fn stack(endpoint: &Endpoint, ports: &[PortView]) -> Option<Option<Stack>> {
    match &endpoint.namespace {
        None => Some(None),
        Some(Namespace::Name(name)) => Some(Some(Stack::Name(name.clone()))),
        Some(_) => {
            let view = ports.iter().find(|view| view.port.name.as_str() == endpoint.name)?;
            view.stack().map(Some)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_measured_first_is_from_everywhere() {
        let all: Vec<_> = (0..10).collect();
        assert_eq!(spread(&all).collect::<Vec<_>>(), [0, 4, 8, 1, 5, 9, 2, 6, 3, 7]);
        assert_eq!(spread(&[]).count(), 0);
        assert_eq!(spread(&[7]).collect::<Vec<_>>(), [7]);
    }
}
