//! Who reaches whom: `ping`, `pingall`, `shell`.

use std::env;
use std::ffi::{OsStr, OsString};
use std::io::{self, IsTerminal};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use vswitch_api::request::SwitchFilter;
use vswitch_api::view::{AddressView, PortView, Stack};
use vswitch_api::{ApiError, ErrorCode, IfAddr, Port, PortName};
use vswitch_client::with_query;

use super::Session;
use super::lab::meant::{self, Meant};
use crate::cli::ping::{PingArgs, PingallArgs, ShellArgs, Target};
use crate::failure::Failure;
use crate::output::reach::{self, OnePing, Ping};
use crate::output::tell;

/// So many seconds the last answer of one ping is waited for.
const WAIT: u32 = 2;
/// So many pings are under way at once.
const AT_ONCE: usize = 32;

impl Session {
    pub(super) async fn ping(&self, args: PingArgs) -> Result<(), Failure> {
        let mut from: PortView = self.client.get(&format!("/v1/ports/{}", args.from)).await?;
        let address = match args.to {
            Target::Address(address) => address,
            Target::Port(ref name) => {
                let mut to: PortView = self.client.get(&format!("/v1/ports/{name}")).await?;
                self.add_leases([&mut from, &mut to]).await?;
                let takes = |ip: IpAddr| args.family.takes(ip.is_ipv4());
                let mut addresses = to.port.addresses.iter().map(|address| address.ip());
                nearest(&from.port.addresses, &to.port.addresses, takes)
                    .or_else(|| addresses.find(|ip| takes(*ip)))
                    .ok_or_else(|| match to.port.kind.has_stack() {
                        true => no_address(name, takes),
                        false => behind(&to.port),
                    })?
            }
        };
        if self.out.is_form() {
            let count = args.count.unwrap_or(1);
            let (ok, rtt_ms) = ping_one(&from, address, count, WAIT)?;
            let to = match args.to {
                Target::Port(name) => Some(name),
                Target::Address(_) => None,
            };
            let from = from.port.name;
            self.out.show(
                &OnePing {
                    from,
                    to,
                    address,
                    ok,
                    rtt_ms,
                },
                |_| String::new(),
            )?;
            return match ok {
                true => Ok(()),
                false => Err(Failure::Reported(1)),
            };
        }
        let mut words: Vec<OsString> = vec!["ping".into()];
        if let Some(count) = args.count {
            words.push(format!("-c{count}").into());
        }
        words.push(address.to_string().into());
        Err(become_command(&from, &words))
    }

    pub(super) async fn pingall(&self, args: PingallArgs) -> Result<(), Failure> {
        let path = with_query("/v1/ports", &SwitchFilter::from(&args.only))?;
        let mut views: Vec<PortView> = self.client.get(&path).await?;
        // What was leased to somebody behind a device can't ping from here.
        self.add_leases(views.iter_mut().filter(|view| view.port.kind.has_stack()))
            .await?;
        let pairs = pairs(&views, |ip| args.family.takes(ip.is_ipv4()));
        if pairs.is_empty() {
            let cause = "there are no two ports with addresses of the same family";
            return Err(ApiError::new(ErrorCode::NotFound, "pingall", cause)
                .hint("`vswitchctl addr list` shows what there is")
                .into());
        }
        let mut pings = ping_all(&pairs, args.wait)?;
        settle(&pairs, &mut pings, args.wait)?;
        self.out.show(&pings, |style| reach::matrix(style, &pings))?;
        match pings.iter().all(|ping| ping.ok) {
            true => Ok(()),
            false => Err(Failure::Reported(1)),
        }
    }

    /// Adds to the addresses that ports were given those that they have been leased, as `addr list` shows them.
    pub(super) async fn add_leases(&self, views: impl IntoIterator<Item = &mut PortView>) -> Result<(), Failure> {
        let leased = self.client.addresses(&SwitchFilter::default()).await?;
        add_leases(views, &leased);
        Ok(())
    }

    pub(super) async fn shell(&self, args: ShellArgs) -> Result<(), Failure> {
        // Without the daemon, or without such a port, it is the name of a namespace.
        let port = self.client.get::<PortView>(&format!("/v1/ports/{}", args.name)).await;
        let said = args
            .shell
            .or_else(|| env::var_os("SHELL").filter(|shell| !shell.is_empty()));
        let shell = said.unwrap_or_else(|| "/bin/sh".into());
        if port.is_err() && !super::exec::is_named(&args.name) {
            let cause = "there is no such port, and no namespace of this name";
            return Err(
                ApiError::new(ErrorCode::NotFound, format!("port {:?}", args.name.as_str()), cause)
                    .hint("`vswitchctl port list` and `vswitchctl ns list` show what there is")
                    .into(),
            );
        }
        if io::stdin().is_terminal() {
            tell!("a shell in the namespace of {}; `exit` leaves it", args.name);
        }
        // An env(1) of its own rather than our environment, as threads may read that.
        let mut words: Vec<OsString> = vec!["env".into(), format!("VSWITCH_NAMESPACE={}", args.name).into()];
        words.extend(prompt(&shell, args.name.as_str()));
        words.push(shell);
        match port {
            Ok(view) => Err(become_command(&view, &words)),
            Err(_) => Err(super::exec::run(&Stack::Name(args.name), &words)),
        }
    }
}

fn add_leases<'a>(views: impl IntoIterator<Item = &'a mut PortView>, leased: &[AddressView]) {
    for PortView { port, .. } in views {
        let is_its = |one: &&AddressView| one.lease_secs.is_some() && one.port == port.name;
        for AddressView { address, .. } in leased.iter().filter(is_its) {
            if !port.addresses.contains(address) {
                port.addresses.push(*address);
            }
        }
    }
}

/// What makes a shell show where it is. bash sets PS1 in its files, and runs PROMPT_COMMAND after them.
fn prompt(shell: &OsStr, name: &str) -> Option<OsString> {
    let program = Path::new(shell).file_name().unwrap_or_default();
    match program.to_str()? {
        "bash" => Some(format!("PROMPT_COMMAND=PS1=\"({name}) ${{PS1-}}\"; unset PROMPT_COMMAND").into()),
        "fish" => None,
        "zsh" => Some(format!("PS1=({name}) %~ %# ").into()),
        _ => Some(format!("PS1=({name}) # ").into()),
    }
}

/// Becomes the command in the namespace of a port; a port without one is in that of the host.
fn become_command(view: &PortView, words: &[OsString]) -> Failure {
    match (view.stack(), &view.port.namespace) {
        (Some(stack), _) => super::exec::run(&stack, words),
        (None, None) => super::exec::become_here(words),
        (None, Some(_)) => out_of_reach(view),
    }
}

/// The namespace of a port is not there now. What is meant for it must not be done on the host.
pub(super) fn out_of_reach(view: &PortView) -> Failure {
    let port = format!("port {:?}", view.port.name.as_str());
    let cause = view.reason.as_deref().unwrap_or("it is not there");
    ApiError::new(ErrorCode::NotFound, format!("namespace of {port}"), cause).into()
}

/// Of a port that has no addresses of its own.
fn behind(port: &Port) -> Failure {
    let cause = format!("a {} port has no address of its own", port.kind.word());
    ApiError::new(ErrorCode::Invalid, format!("port {:?}", port.name.as_str()), cause)
        .hint("name an address of what is behind it")
        .into()
}

fn no_address(name: &PortName, takes: impl Fn(IpAddr) -> bool) -> Failure {
    let asked = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()].map(takes);
    let cause = match asked {
        [true, false] => "it has no IPv4 address",
        [false, true] => "it has no IPv6 address",
        _ => "it has no address that could be pinged",
    };
    ApiError::new(ErrorCode::NotFound, format!("port {:?}", name.as_str()), cause)
        .hint(format!("`vswitchctl addr add {name} ADDR/LEN` gives it one"))
        .into()
}

/// The address by which others are asked from one that has `own`: of those that `takes` has nothing against and of which `own` has the
/// IP version, one in a subnet of `own`, else the first.
pub(super) fn nearest(own: &[IfAddr], theirs: &[IfAddr], takes: impl Fn(IpAddr) -> bool) -> Option<IpAddr> {
    let speaks = |ip: IpAddr| own.iter().any(|own| own.ip().is_ipv4() == ip.is_ipv4());
    let near = |ip: IpAddr| own.iter().any(|own| own.net().contains(&ip));
    let all = theirs.iter().map(|address| address.ip());
    let mut asked = all.filter(|ip| speaks(*ip) && takes(*ip));
    let first = asked.clone().next();
    asked.find(|ip| near(*ip)).or(first)
}

/// Every port with every other, by IPv4 and by IPv6, if both have addresses of it. Link-local ones need an interface beside them.
fn pairs(views: &[PortView], takes: impl Fn(IpAddr) -> bool) -> Vec<(&PortView, &PortView, IpAddr)> {
    let mut pairs = Vec::new();
    for is_ipv4 in [true, false] {
        let is_asked = |ip: IpAddr| {
            let is_link_local = matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local());
            ip.is_ipv4() == is_ipv4 && !is_link_local && takes(ip)
        };
        let has_one = |view: &&PortView| view.port.addresses.iter().any(|address| is_asked(address.ip()));
        for from in views.iter().filter(has_one) {
            let others = views.iter().filter(|view| view.port.name != from.port.name);
            pairs.extend(others.filter_map(|to| {
                let address = nearest(&from.port.addresses, &to.port.addresses, is_asked)?;
                Some((from, to, address))
            }));
        }
    }
    pairs
}

/// Pings them, many at once, and gives the results in order.
fn ping_all(pairs: &[(&PortView, &PortView, IpAddr)], wait: u32) -> Result<Vec<Ping>, Failure> {
    let (next, done) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    thread::scope(|scope| {
        for _ in 0..AT_ONCE.min(pairs.len()) {
            scope.spawn(|| {
                loop {
                    let place = next.fetch_add(1, Ordering::Relaxed);
                    let Some((from, to, address)) = pairs.get(place) else {
                        break;
                    };
                    let result = ping_one(from, *address, 1, wait).map(|(ok, rtt_ms)| Ping {
                        from: from.port.name.clone(),
                        to: to.port.name.clone(),
                        address: *address,
                        ok,
                        rtt_ms,
                    });
                    // A thread that panics takes all with it.
                    if let Ok(mut done) = done.lock() {
                        done.push((place, result));
                    }
                }
            });
        }
    });
    let mut done = done.into_inner().unwrap_or_default();
    done.sort_by_key(|(place, _)| *place);
    done.into_iter().map(|(_, result)| result).collect()
}

/// Not answered is what somebody else has answered, who has the address too.
fn settle(pairs: &[(&PortView, &PortView, IpAddr)], pings: &mut [Ping], wait: u32) -> Result<(), Failure> {
    let meant = pairs.iter().map(|(from, to, address)| Meant {
        from: from.stack(),
        to: to.stack(),
        address: *address,
    });
    let meant: Vec<_> = meant.collect();
    let mut answered: Vec<_> = pings.iter().map(|ping| ping.ok).collect();
    meant::settle(&meant, &mut answered, Duration::from_secs(wait.into()))?;
    for (ping, ok) in pings.iter_mut().zip(answered) {
        ping.ok = ok;
        ping.rtt_ms = ping.rtt_ms.filter(|_| ok);
    }
    Ok(())
}

/// One ping by a process of its own: a thread that enters a namespace can't be used for anything else.
fn ping_one(from: &PortView, address: IpAddr, count: u32, wait: u32) -> Result<(bool, Option<f64>), Failure> {
    let words = [
        "ping".to_owned(),
        "-n".to_owned(),
        format!("-c{count}"),
        format!("-W{wait}"),
        address.to_string(),
    ];
    let own = || env::current_exe().map_err(|e| Failure::system("vswitchctl", &e));
    let mut command = match (from.stack(), &from.port.namespace) {
        (Some(stack), _) => {
            let entrance = match stack {
                Stack::Name(name) => match super::exec::entrance(&name) {
                    Ok(entrance) => entrance,
                    Err(error) if error.code == ErrorCode::NotFound => return Ok((false, None)),
                    Err(error) => return Err(error.into()),
                },
                Stack::File(entrance) => entrance,
            };
            let mut command = Command::new(own()?);
            let entrance = format!("{},{}", entrance.inode, entrance.path);
            command.args(["ns", "exec", "--entrance", &entrance, from.port.name.as_str()]);
            command.args(&words);
            command
        }
        // A container that does not run answers nobody, no more than who is in a namespace that is gone.
        (None, Some(_)) => return Ok((false, None)),
        (None, None) => {
            let mut command = Command::new(&words[0]);
            command.args(&words[1..]);
            command
        }
    };
    let ran = command.stdin(Stdio::null()).output();
    let Output { status, stdout, stderr } = ran.map_err(|e| Failure::system("ping", &e))?;
    // 1: no answer; 2: no route to it, which is no answer either. Above: it could not be run.
    if status.code().is_none_or(|code| code > 2) {
        let told = String::from_utf8_lossy(&stderr);
        let told = told
            .lines()
            .next()
            .unwrap_or_default()
            .trim_start_matches("vswitchctl: ");
        return Err(ApiError::new(
            ErrorCode::NotPermitted,
            format!("ping from port {:?}", from.port.name.as_str()),
            format!("it can't be run: {told}"),
        )
        .hint("is ping (package iputils-ping) installed, and are you root?")
        .into());
    }
    let text = String::from_utf8_lossy(&stdout);
    let rtt = text
        .split("time=")
        .nth(1)
        .and_then(|rest| rest.split_whitespace().next());
    Ok((status.success(), rtt.and_then(|number| number.parse().ok())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leases_are_addresses_of_their_port_alone() {
        let view = |name: &str| {
            serde_json::from_value::<PortView>(serde_json::json!({
                "name": name, "addresses": ["10.0.0.1/24"], "state": "up", "state_secs": 1, "queues": 1, "fdb_entries": 0,
                "counters": vswitch_api::view::PortCounters::default()
            }))
        };
        let leased = |name: &str, address: &str, secs: Option<u64>| AddressView {
            missing: false,
            port: name.parse().unwrap(),
            switch: "main".parse().unwrap(),
            address: address.parse().unwrap(),
            lease_secs: secs,
        };
        let leases = [
            leased("red", "10.0.0.1/24", Some(9)),
            leased("red", "10.0.0.200/24", Some(9)),
            leased("blue", "10.0.0.7/24", None),
        ];
        let mut views = ["red", "blue"].map(|name| view(name).unwrap());
        add_leases(&mut views, &leases);
        let all = views.map(|view| view.port.addresses.iter().map(ToString::to_string).collect::<Vec<_>>());
        assert_eq!(all, [vec!["10.0.0.1/24", "10.0.0.200/24"], vec!["10.0.0.1/24"]]);
    }

    #[test]
    fn what_is_lacking_is_said_by_the_version_that_was_asked_for() {
        let cause = |takes: fn(IpAddr) -> bool| match no_address(&"blue".parse().unwrap(), takes) {
            Failure::Error { error, .. } => error.cause,
            other => panic!("{other:?}"),
        };
        assert_eq!(cause(|ip| ip.is_ipv6()), "it has no IPv6 address");
        assert_eq!(cause(|ip| ip.is_ipv4()), "it has no IPv4 address");
        assert_eq!(cause(|_| true), "it has no address that could be pinged");
    }
}
