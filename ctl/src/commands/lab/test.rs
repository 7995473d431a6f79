//! `lab test`: pings between all pairs of a lab, held against what its file expects.

use std::collections::HashMap;
use std::fmt::Write;
use std::fs::File;
use std::net::IpAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use nix::sched::{CloneFlags, setns};
use serde::Serialize;
use vswitch_api::view::{PortView, Stack};
use vswitch_api::{ApiError, ErrorCode, IfAddr, Lab, Namespace};

use super::reach::{Endpoint, Expectation, endpoints, expected};
use crate::cli::lab::LabTestArgs;
use crate::commands::Session;
use crate::commands::exec;
use crate::failure::Failure;

/// So many pings are under way at once.
const AT_ONCE: usize = 32;
/// A matrix of more is wider than any screen.
const SHOWN: usize = 24;
/// Something is not as expected.
const EXIT_UNEXPECTED: u8 = 1;
const OWN_NAMESPACE: &str = "/proc/thread-self/ns/net";

/// What became of one pair.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Outcome {
    from: String,
    to: String,
    /// `ipv4` or `ipv6`; `none`: they have no address of the same version.
    family: &'static str,
    /// What was pinged.
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<IpAddr>,
    reached: bool,
    /// What the file wants; absent: nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    expected: Option<bool>,
    ok: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct TestReport {
    ok: bool,
    pairs: Vec<Outcome>,
}

impl Session {
    pub(super) async fn test_lab(&self, args: LabTestArgs) -> Result<(), Failure> {
        let file = self.read_lab(&args.file)?;
        let there: Lab = self.client.get("/v1/lab").await?;
        let all = of_file(&file.lab, &there)?;
        let mut pairs = pairs(&all, &file.reach);
        let ports: Vec<PortView> = self.client.get("/v1/ports").await?;
        let stacks = all
            .iter()
            .filter_map(|endpoint| Some((endpoint.name.as_str(), stack(endpoint, &ports)?)));
        ping_all(&stacks.collect(), &mut pairs, args.wait)?;
        let report = TestReport {
            ok: pairs.iter().all(|pair| pair.ok),
            pairs,
        };
        if let Some(path) = &args.junit {
            std::fs::write(path, junit(&file.path, &report)).map_err(|e| {
                let object = format!("JUnit file {}", path.display());
                Failure::usage(
                    object,
                    format!("it can't be written: {e}"),
                    "choose a place that can be written to",
                )
            })?;
        }
        self.out.show(&report, |_| text(&all, &report))?;
        match report.ok {
            true => Ok(()),
            false => Err(Failure::Reported(EXIT_UNEXPECTED)),
        }
    }
}

/// What the file names, as it is there.
fn of_file(file: &Lab, there: &Lab) -> Result<Vec<Endpoint>, Failure> {
    let there = endpoints(there);
    let by_name: HashMap<_, _> = there.iter().map(|endpoint| (&endpoint.name, endpoint)).collect();
    let found = |wanted: Endpoint| match by_name.get(&wanted.name) {
        Some(endpoint) => Ok((*endpoint).clone()),
        None => Err(ApiError::new(
            ErrorCode::NotFound,
            format!("port {:?}", wanted.name),
            "the file names it, and it is not there with an address",
        )
        .hint("bring the lab up first: `vswitchctl lab up FILE`")
        .into()),
    };
    endpoints(file).into_iter().map(found).collect()
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
            };
            let before = pairs.len();
            for (family, is_v4) in [("ipv4", true), ("ipv6", false)] {
                if let Some(address) = target(from, to, is_v4) {
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

/// The address to ping: one in a subnet of the sender before others.
fn target(from: &Endpoint, to: &Endpoint, is_v4: bool) -> Option<IpAddr> {
    let of_family = |address: &&IfAddr| address.ip().is_ipv4() == is_v4;
    from.addresses.iter().find(of_family)?;
    let near = |address: &&IfAddr| from.addresses.iter().any(|own| own.net().contains(&address.ip()));
    let mut targets = to.addresses.iter().filter(of_family);
    let first = targets.clone().next();
    targets.find(near).or(first).map(|address| address.ip())
}

/// Threads, since a thread can be in a namespace of its own.
fn ping_all(stacks: &HashMap<&str, Option<Stack>>, pairs: &mut [Outcome], wait: u32) -> Result<(), Failure> {
    let (next, failed) = (AtomicUsize::new(0), Mutex::new(None));
    let results: Vec<_> = pairs.iter().map(|_| AtomicUsize::new(0)).collect();
    let work = || -> Result<(), Failure> {
        let outside = File::open(OWN_NAMESPACE).map_err(|e| Failure::system(OWN_NAMESPACE, &e))?;
        loop {
            let n = next.fetch_add(1, Ordering::Relaxed);
            let Some(pair) = pairs.get(n) else { return Ok(()) };
            let (Some(address), Some(stack)) = (pair.address, stacks.get(pair.from.as_str())) else {
                continue;
            };
            enter(stack.as_ref(), &outside)?;
            if exec::is_answered(None, address, wait)? {
                results[n].store(1, Ordering::Relaxed);
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..AT_ONCE.min(pairs.len()) {
            scope.spawn(|| {
                if let Err(failure) = work() {
                    // The others need not go on.
                    next.store(usize::MAX / 2, Ordering::Relaxed);
                    if let Ok(mut failed) = failed.lock() {
                        *failed = Some(failure);
                    }
                }
            });
        }
    });
    if let Some(failure) = failed.into_inner().unwrap_or(None) {
        return Err(failure);
    }
    let results: Vec<_> = results
        .iter()
        .map(|result| result.load(Ordering::Relaxed) == 1)
        .collect();
    for (pair, reached) in pairs.iter_mut().zip(results) {
        pair.reached = reached;
        pair.ok = pair.expected.is_none_or(|expected| expected == reached);
    }
    Ok(())
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

fn enter(stack: Option<&Stack>, outside: &File) -> Result<(), Failure> {
    let entered = match stack {
        Some(stack) => return exec::enter_network(stack).map_err(Failure::from),
        None => setns(outside, CloneFlags::CLONE_NEWNET),
    };
    entered.map_err(|e| Failure::system("network namespace of the host", &e.into()))
}

impl Outcome {
    fn line(&self) -> String {
        let Self { from, to, family, .. } = self;
        let what = match (self.address, self.reached) {
            (None, _) => "they have no address of the same version".to_owned(),
            (Some(address), true) => format!("{address} answers, and was not to be reached"),
            (Some(address), false) => format!("{address} does not answer"),
        };
        format!("{from} -> {to} ({family}): {what}")
    }
}

fn text(all: &[Endpoint], report: &TestReport) -> String {
    let mut text = String::new();
    if all.len() <= SHOWN {
        for family in ["ipv4", "ipv6"] {
            if report.pairs.iter().any(|pair| pair.family == family) {
                text += &matrix(all, report, family);
                text += "\n";
            }
        }
    }
    for pair in report.pairs.iter().filter(|pair| !pair.ok) {
        let _ = writeln!(text, "{}", pair.line());
    }
    let asked = report.pairs.iter().filter(|pair| pair.expected.is_some());
    let good = asked.clone().filter(|pair| pair.ok).count();
    let _ = writeln!(text, "{good} of {} as expected", asked.count());
    text
}

/// Rows send, columns answer.
fn matrix(all: &[Endpoint], report: &TestReport, family: &str) -> String {
    let cells: HashMap<_, _> = report
        .pairs
        .iter()
        .filter(|pair| pair.family == family)
        .map(|pair| ((pair.from.as_str(), pair.to.as_str()), pair))
        .collect();
    let names: Vec<_> = all.iter().map(|endpoint| endpoint.name.as_str()).collect();
    let first = names
        .iter()
        .map(|name| name.len())
        .max()
        .unwrap_or_default()
        .max(family.len());
    let mut text = format!("{family:first$}");
    for name in &names {
        let _ = write!(text, "  {name:>4}");
    }
    text += "\n";
    for from in &names {
        let _ = write!(text, "{from:first$}");
        for to in &names {
            let cell = match cells.get(&(*from, *to)) {
                None => "-",
                Some(Outcome {
                    reached: true,
                    ok: true,
                    ..
                }) => "yes",
                Some(Outcome {
                    reached: false,
                    ok: true,
                    ..
                }) => "no",
                Some(Outcome {
                    reached: true,
                    ok: false,
                    ..
                }) => "YES!",
                Some(Outcome {
                    reached: false,
                    ok: false,
                    ..
                }) => "NO!",
            };
            let width = to.len().max(4);
            let _ = write!(text, "  {cell:>width$}");
        }
        text += "\n";
    }
    text
}

/// What CI systems read.
fn junit(file: &str, report: &TestReport) -> String {
    let failed = report.pairs.iter().filter(|pair| !pair.ok).count();
    let suite = xml(file);
    let mut text = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuite name=\"{suite}\" tests=\"{}\" failures=\"{failed}\">\n",
        report.pairs.iter().filter(|pair| pair.expected.is_some()).count(),
    );
    for pair in report.pairs.iter().filter(|pair| pair.expected.is_some()) {
        let not = if pair.expected == Some(false) { "!" } else { "" };
        let name = xml(&format!("{not}{} -> {} ({})", pair.from, pair.to, pair.family));
        let _ = write!(text, "  <testcase classname=\"{suite}\" name=\"{name}\"");
        text += &match pair.ok {
            true => "/>\n".to_owned(),
            false => format!("><failure message=\"{}\"/></testcase>\n", xml(&pair.line())),
        };
    }
    text + "</testsuite>\n"
}

/// As the value of an attribute, or as text.
pub(super) fn xml(text: &str) -> String {
    let escape = |c| match c {
        '&' => "&amp;".to_owned(),
        '<' => "&lt;".to_owned(),
        '>' => "&gt;".to_owned(),
        '"' => "&quot;".to_owned(),
        c => String::from(c),
    };
    text.chars().map(escape).collect()
}
