//! Ports, their addresses and routes.

use std::collections::HashSet;
use std::net::IpAddr;

use vswitch_api::patch::{MergePatch, in_place};
use vswitch_api::policy::PortVlan;
use vswitch_api::request::{AddressAdd, AddressSelect, ChangeOptions, FreeAddresses, RouteSelect, SwitchFilter};
use vswitch_api::view::{AddressView, Changes, Lack, PortView};
use vswitch_api::{ApiError, ErrorCode, Lab, Namespace, PortName, Route, Switch};
use vswitch_client::{Method, NO_BODY, with_options, with_query};

use super::Session;
use super::patch::{policy, value, with_keys, with_said};
use crate::cli::Trial;
use crate::cli::link::LinkSet;
use crate::cli::namespace::{AddrCommand, OfPorts, RouteCommand};
use crate::cli::parse::{Addr, Destination, Said, Toggle};
use crate::cli::policy::PolicyArgs;
use crate::cli::port::{AddPort, DelPort, PortCommand};
use crate::cli::switch::SetPort;
use crate::failure::{EXIT_UNREACHABLE, Failure};
use crate::output::ports::{self, PortRoute};

impl Session {
    pub(super) async fn add_port(&self, args: AddPort) -> Result<(), Failure> {
        let options = ChangeOptions {
            force: args.force,
            ..args.addition.into()
        };
        let addresses = FreeAddresses {
            subnets: args.subnet.clone(),
            auto: args.addr.contains(&Addr::Auto),
        };
        only_of_one(&args)?;
        let ports = args.names.iter().map(|name| port(&args, name));
        let mut ports = ports.collect::<Result<Vec<_>, _>>()?;
        if ports.len() == 1 && addresses == FreeAddresses::default() {
            let port = ports.pop();
            return self.change(Method::POST, "/v1/ports", options, port.as_ref()).await;
        }
        let several = with_said(
            MergePatch::default(),
            [
                ("ports", Some(value(ports))),
                (
                    "addresses",
                    (addresses != FreeAddresses::default()).then(|| value(&addresses)),
                ),
            ],
        );
        self.change(Method::POST, "/v1/lab/ports", options, Some(&several))
            .await
    }

    pub(super) async fn del_ports(&self, args: DelPort) -> Result<(), Failure> {
        // One alone the daemon refuses by itself. A daemon that does not answer is told of by the first removal.
        let lab = match args.names.len() {
            1 => Lab::default(),
            _ => self.client.known_lab().await.unwrap_or_default(),
        };
        let paths = removals(&lab, &args.names)?;
        self.remove_each(paths.into_iter(), args.removal.into()).await
    }

    /// Goes on after an error, so that one does not keep the others.
    pub(super) async fn remove_each(
        &self,
        paths: impl Iterator<Item = String>,
        options: ChangeOptions,
    ) -> Result<(), Failure> {
        let mut all = Changes::default();
        let mut failed = None;
        let mut sent = HashSet::new();
        // Who names one twice wants it gone once.
        for path in paths.filter(|path| sent.insert(path.clone())) {
            let path = with_options(&path, options)?;
            match self.client.send::<Changes>(Method::DELETE, &path, NO_BODY).await {
                Ok(changes) => {
                    all.dry_run = changes.dry_run;
                    all.done.extend(changes.done);
                    all.changes.extend(changes.changes);
                    all.removed.extend(changes.removed);
                    all.warnings.extend(changes.warnings);
                }
                Err(failure) => {
                    let failure = self.with_suggestion(failure.into()).await;
                    failure.report(self.out.json());
                    let exit = failure.exit_code();
                    failed.get_or_insert(exit);
                    if exit == EXIT_UNREACHABLE {
                        break;
                    }
                }
            }
        }
        match failed {
            None => self.out.changes(&all, options.dry_run),
            Some(exit) if all == Changes::default() => Err(Failure::Reported(exit)),
            Some(exit) => self
                .out
                .changes(&all, options.dry_run)
                .and(Err(Failure::Reported(exit))),
        }
    }

    pub(super) async fn port(&self, command: PortCommand) -> Result<(), Failure> {
        match command {
            PortCommand::Add(args) => self.add_port(*args).await,
            PortCommand::Del(args) => self.del_ports(args).await,
            PortCommand::Set(args) => self.set_port(*args).await,
            PortCommand::List(only) => {
                let path = with_query("/v1/ports", &SwitchFilter::from(&only))?;
                let views: Vec<PortView> = self.client.get(&path).await?;
                self.out
                    .show(&views, |style| ports::table(style, &views, true, self.out.wide()))
            }
            PortCommand::Show { name } => {
                let view: PortView = self.client.get(&format!("/v1/ports/{name}")).await?;
                self.out.show(&view, |style| ports::page(style, &view))
            }
        }
    }

    pub(super) async fn set_port(&self, args: SetPort) -> Result<(), Failure> {
        let path = format!("/v1/ports/{}", args.name);
        let options = ChangeOptions {
            force: args.force,
            ..args.trial.into()
        };
        if !args.policy.needs_before() && args.gateway.is_empty() {
            let patch = patch(&args, &PortVlan::All, &[])?;
            return self.change(Method::PATCH, &path, options, Some(&patch)).await;
        }
        // VLANs of a trunk, and its default routes among the others, come and go by what it has now.
        self.patch_as_it_is(&path, &path, options, |now| {
            patch(&args, &now.port.vlan, &now.port.routes)
        })
        .await
    }

    pub(super) async fn set_both_ends(&self, args: LinkSet) -> Result<(), Failure> {
        let impair = args.impair.map(|impair| impair.to().map(|impair| in_place(&impair)));
        let args = SetPort {
            name: args.port,
            keys: args.keys,
            mtu: args.mtu,
            mac: None,
            ifname: None,
            gateway: Vec::new(),
            up: args.up,
            down: args.down,
            offload: None,
            force: false,
            policy: args.policy,
            trial: args.trial,
        };
        let (link, port) = (format!("/v1/links/{}", args.name), format!("/v1/ports/{}", args.name));
        let patch = |now: &PortVlan| {
            let mut patch = patch(&args, now, &[])?;
            if let Some(impair) = &impair {
                // What one end does to what leaves it is one direction of the link.
                patch = patch.with("impair.out", value(impair));
            }
            Ok::<_, Failure>(patch)
        };
        let options = ChangeOptions::from(args.trial);
        if !args.policy.needs_before() {
            return self
                .change(Method::PATCH, &link, options, Some(&patch(&PortVlan::All)?))
                .await;
        }
        self.patch_as_it_is(&port, &link, options, |now| patch(&now.port.vlan))
            .await
    }

    /// Changes what is said of a port, and nothing else.
    pub(super) async fn patch_port(&self, name: &PortName, patch: MergePatch, trial: Trial) -> Result<(), Failure> {
        let path = format!("/v1/ports/{name}");
        self.change(Method::PATCH, &path, trial.into(), Some(&patch)).await
    }

    pub(super) async fn address(&self, command: AddrCommand) -> Result<(), Failure> {
        match command {
            AddrCommand::Add {
                port,
                address,
                force,
                addition,
            } => {
                let options = ChangeOptions {
                    force,
                    ..addition.into()
                };
                let body = AddressAdd { address };
                self.change(Method::POST, &addresses(&port), options, Some(&body)).await
            }
            AddrCommand::Del { port, address, removal } => {
                let path = with_query(&addresses(&port), &AddressSelect { address: Some(address) })?;
                self.remove(&path, removal.into()).await
            }
            AddrCommand::Flush { port, trial } => self.remove(&addresses(&port), trial.into()).await,
            AddrCommand::List(of) => {
                let path = with_query("/v1/addresses", &SwitchFilter::from(&of.only))?;
                let mut addresses: Vec<AddressView> = self.client.get(&path).await?;
                if let Some(name) = &of.port {
                    // One that is not there is told apart from one that has none.
                    self.ports_of(&of).await?;
                    addresses.retain(|one| one.port == *name);
                }
                self.out.show(&addresses, |style| ports::addresses(style, &addresses))
            }
        }
    }

    pub(super) async fn route(&self, command: RouteCommand) -> Result<(), Failure> {
        match command {
            RouteCommand::Add {
                port,
                to,
                via,
                onlink,
                force,
                addition,
            } => {
                let route = Route {
                    onlink,
                    ..route(&format!("port {port:?}"), to, via)?
                };
                let path = format!("/v1/ports/{port}/routes");
                let options = ChangeOptions {
                    force,
                    ..addition.into()
                };
                self.change(Method::POST, &path, options, Some(&route)).await
            }
            RouteCommand::Del { port, to, removal } => {
                let path = with_query(&format!("/v1/ports/{port}/routes"), &RouteSelect { to: to.net(None) })?;
                self.remove(&path, removal.into()).await
            }
            RouteCommand::List(of) => {
                let ports = self.ports_of(&of).await?;
                let routes = ports.iter().flat_map(|view| {
                    let port = &view.port;
                    port.routes.iter().map(|route| PortRoute {
                        switch: &port.switch,
                        port: &port.name,
                        route,
                        missing: ports::lacks(view, Lack::Route { to: route.to }),
                    })
                });
                let routes: Vec<_> = routes.collect();
                self.out.show(&routes, |style| ports::routes(style, &routes))
            }
        }
    }

    /// The ports of which something is listed. One that is named has to be there.
    pub(super) async fn ports_of(&self, of: &OfPorts) -> Result<Vec<PortView>, Failure> {
        let Some(name) = &of.port else {
            return Ok(self.client.ports_of(&SwitchFilter::from(&of.only)).await?);
        };
        let view: PortView = self.client.get(&format!("/v1/ports/{name}")).await?;
        let meant = of.only.switch.as_ref().is_none_or(|switch| *switch == view.port.switch);
        Ok(meant.then_some(view).into_iter().collect())
    }
}

/// What removes several ports: a link goes once, with both ends. What can't go by itself is told before anything is removed.
fn removals(lab: &Lab, names: &[PortName]) -> Result<Vec<String>, Failure> {
    let refused = |name: &PortName, cause: String, hint: String| {
        let error = ApiError::new(ErrorCode::Conflict, format!("port \"{name}\""), cause);
        Err(error.hint(format!("{hint}; nothing was removed")).into())
    };
    let is_gateway = |switch: &&Switch, name: &PortName| lab.gateway_of(switch).is_some_and(|port| port.name == *name);
    let mut paths = Vec::new();
    for name in names {
        if let Some(switch) = lab.switches.iter().find(|switch| is_gateway(switch, name)) {
            let cause = format!("it is the gateway of switch \"{}\"", switch.name);
            let hint = format!("it goes with: {}", switch.gateway_off());
            return refused(name, cause, hint);
        }
        match lab.port(name).and_then(|port| port.peer.as_ref()) {
            None => paths.push(format!("/v1/ports/{name}")),
            Some(peer) if names.contains(peer) => {
                if !paths.contains(&link(peer)) {
                    paths.push(link(name));
                }
            }
            Some(peer) => {
                let cause = format!("it is one end of a link, and port \"{peer}\" the other");
                let hint = format!("name both, or `vswitchctl link del {name}` removes both ends");
                return refused(name, cause, hint);
            }
        }
    }
    Ok(paths)
}

fn link(end: &PortName) -> String {
    format!("/v1/links/{end}")
}

fn addresses(port: &PortName) -> String {
    format!("/v1/ports/{port}/addresses")
}

/// What is said of a port whose VLAN setting and routes are these now.
fn patch(args: &SetPort, now: &PortVlan, routes: &[Route]) -> Result<MergePatch, Failure> {
    let mut patch = policy(&args.policy, vlan(&args.name, &args.policy, now)?.as_ref());
    if let Some(mtu) = args.mtu {
        patch = patch.with("mtu", mtu.to());
    }
    if let Some(mac) = args.mac {
        patch = patch.with("mac", value(mac.to()));
    }
    if let Some(ifname) = args.ifname.clone() {
        patch = patch.with("ifname", value(ifname.to()));
    }
    if !args.gateway.is_empty() {
        let new: Vec<_> = args.gateway.iter().filter_map(|gateway| gateway.to()).collect();
        let new = default_routes(&args.name, &new)?;
        let takes_place = |old: &Route| {
            let same = |route: &Route| route.to == old.to;
            old.to.prefix_len() == 0 && (args.gateway.contains(&Said::Back) || new.iter().any(same))
        };
        let mut all: Vec<_> = routes.iter().filter(|old| !takes_place(old)).cloned().collect();
        all.extend(new.iter().cloned());
        patch = patch.with("routes", value(all));
    }
    if args.up || args.down {
        patch = patch.with("up", args.up);
    }
    if let Some(offload) = args.offload {
        patch = patch.with("offload", (offload != Toggle::Default).then_some(offload == Toggle::On));
    }
    with_keys(patch, &args.keys)
}

fn vlan(port: &PortName, policy: &PolicyArgs, before: &PortVlan) -> Result<Option<PortVlan>, Failure> {
    if let Some(cause) = policy.wrong() {
        let hint =
            "say that word alone, or the classes alone, such as --flood broadcast,multicast; nothing was changed";
        return Err(Failure::usage(format!("port \"{port}\""), cause, hint));
    }
    let said = policy.port_vlan(before);
    said.map_err(|cause| Failure::usage(format!("port \"{port}\""), cause, "nothing was changed"))
}

/// What only one port can have is not said of several.
fn only_of_one(args: &AddPort) -> Result<(), Failure> {
    let given = args.addr.iter().any(|addr| *addr != Addr::Auto);
    let said = [
        ("--addr", given, "--subnet gives each an address"),
        ("--mac", args.mac.is_some(), "without it each gets its own"),
    ];
    match said.into_iter().find(|(_, said, _)| *said) {
        Some((option, _, instead)) if args.names.len() > 1 => Err(Failure::usage(
            option,
            format!("only one port can have it, and {} are to be added", args.names.len()),
            format!("{instead}; nothing was added"),
        )),
        _ => Ok(()),
    }
}

/// What the arguments say of a port. What they do not is left to the daemon, which knows the defaults and how one that is there may be.
fn port(args: &AddPort, name: &PortName) -> Result<MergePatch, Failure> {
    let routes = default_routes(name, &args.gateway)?;
    let vlan = vlan(name, &args.policy, &PortVlan::All)?;
    let addresses = args.addr.iter().filter_map(|addr| match addr {
        Addr::Given(address) => Some(*address),
        Addr::Auto => None,
    });
    let addresses: Vec<_> = addresses.collect();
    let said = [
        ("name", Some(value(name))),
        ("switch", args.switch.as_ref().map(value)),
        ("description", args.description.as_ref().map(value)),
        ("kind", args.kind.map(value)),
        ("namespace", namespace(args).map(value)),
        ("ifname", args.ifname.as_ref().map(value)),
        ("mac", args.mac.map(value)),
        ("mtu", args.mtu.map(value)),
        ("addresses", (!addresses.is_empty()).then(|| value(addresses))),
        ("routes", (!routes.is_empty()).then(|| value(routes))),
        ("offload", args.no_offload.then(|| false.into())),
        ("xdp", args.xdp.then(|| true.into())),
        ("vlan", vlan.map(value)),
    ];
    Ok(with_said(policy(&args.policy, None), said))
}

/// The namespace that was said, of which there is at most one.
fn namespace(args: &AddPort) -> Option<Namespace> {
    let named = args.netns.clone().map(Namespace::Name);
    let of_process = args.pid.map(Namespace::Pid);
    let of_file = args.netns_path.clone().map(Namespace::Path);
    let of_container = args.container.clone().map(Namespace::Container);
    named.or(of_process).or(of_file).or(of_container)
}

/// A route whose next hop, if there is one, is of the same address family.
pub(super) fn route(object: &str, to: Destination, via: Option<IpAddr>) -> Result<Route, Failure> {
    let to = to.net(via);
    match via {
        Some(ip) if ip.is_ipv4() != to.addr().is_ipv4() => Err(Failure::usage(
            object,
            format!("the route to {to} is of another address family than its next hop {ip}"),
            "give one of the same",
        )),
        _ => Ok(Route::new(to, via)),
    }
}

/// The default routes over these gateways, one for each address family.
fn default_routes(port: &PortName, gateways: &[IpAddr]) -> Result<Vec<Route>, Failure> {
    let mut routes: Vec<Route> = Vec::new();
    for via in gateways {
        let route = route(&format!("port {port:?}"), Destination::Default, Some(*via))?;
        if let Some(Route { via: Some(first), .. }) = routes.iter().find(|r| r.to == route.to) {
            return Err(Failure::usage(
                format!("port {port:?}"),
                format!("it has the gateway {first} already"),
                format!("give one for each address family, not {via} too"),
            ));
        }
        routes.push(route);
    }
    Ok(routes)
}
