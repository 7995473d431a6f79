//! Whether the host itself uses an interface that is to become a port: taken over, it carries nothing for the host any more,
//! and whoever is connected through it is cut off.

use vswitch_api::view::MissingAs;
use vswitch_api::{ApiError, ErrorCode, Port};

use super::kinds::{facts, ifname};
use super::plan::Step;
use super::{Inner, text};
use vswitch_linux::{KernelError, KernelRoute, Link, Netlink};

impl Inner {
    /// Refuses steps that take over an interface which the host uses; with `force` it tells what that is. A device that is
    /// in the lab already was asked about when it came.
    pub(super) async fn refuse_in_use(&self, steps: &[Step], force: bool) -> Result<Vec<String>, ApiError> {
        let mut warnings = Vec::new();
        for port in steps.iter().filter_map(new_device) {
            let name = ifname(port);
            let taken = |old: &Port| facts(old.kind).taken_over && ifname(old) == name;
            if self.store.state.lab.ports.iter().any(taken) {
                continue;
            }
            let failed = |error: KernelError| text::kernel(text::port(&port.name), &error);
            let home = self.host.home.netlink().await.map_err(failed)?;
            match home.link_by_name(name.as_str()).await.map_err(failed)? {
                None => return Err(no_device(port)),
                // What it is used for is asked by name, and so is whether it is a port already.
                Some(link) if link.name != name.as_str() => return Err(is_altname(port, &link)),
                Some(link) => refuse_other_media(port, &link)?,
            }
            let uses = uses(&home, name.as_str()).await.map_err(failed)?;
            if uses.is_empty() {
                continue;
            }
            let uses = uses.join(", ");
            if !force {
                let cause = format!(
                    "the host uses interface {name}: {uses}. As a port it carries nothing for the host any more, and whoever is \
                     connected through it (perhaps you) is cut off"
                );
                return Err(text::conflict(text::port(&port.name), cause).hint(
                    "take that away from it first (`vswitchctl add-port gw --type internal` is a leg of the host on the \
                     switch), or take it over as it is with --force",
                ));
            }
            warnings.push(format!(
                "interface {name} becomes port \"{}\" though the host uses it: {uses}",
                port.name
            ));
        }
        Ok(warnings)
    }
}

/// There is no interface that a port could take over.
pub(super) fn no_device(port: &Port) -> ApiError {
    let cause = format!("the host has no interface {}", ifname(port));
    ApiError::new(ErrorCode::NotFound, text::port(&port.name), cause).missing_as(MissingAs::NoInterface).hint(
        "`ip link` lists them; `vswitchctl add-port PORT --type device --name IF` takes one that is called otherwise than \
         its port",
    )
}

/// The kernel knows an interface by this name too.
fn is_altname(port: &Port, link: &Link) -> ApiError {
    let (altname, name) = (ifname(port), link.name.escape_debug());
    let cause = format!("{altname} is an altname of interface {name}");
    text::invalid(text::port(&port.name), cause).hint(format!("name it as it is called: --name {name}"))
}

/// A switch of Ethernet frames has no use for an interface that carries something else, such as the bare IP packets of a TUN device.
pub(super) fn refuse_other_media(port: &Port, link: &Link) -> Result<(), ApiError> {
    if link.mac.is_some() {
        return Ok(());
    }
    let cause = format!(
        "interface {} carries no Ethernet frames: it has no MAC address",
        link.name.escape_debug()
    );
    Err(text::invalid(text::port(&port.name), cause)
        .hint("route to it instead: `vswitchctl add-port gw --type internal` is a leg of the host on the switch"))
}

fn new_device(step: &Step) -> Option<&Port> {
    match step {
        Step::AddPort(port) if facts(port.kind).taken_over => Some(port),
        _ => None,
    }
}

/// What the host has on the interface, in words; nothing if there is no such interface.
pub(super) async fn uses(home: &Netlink, name: &str) -> Result<Vec<String>, KernelError> {
    let links = home.links().await?;
    let Some(link) = links.iter().find(|link| link.name == name) else {
        return Ok(Vec::new());
    };
    let mut uses = Vec::new();
    for (index, net, _) in home.addresses().await? {
        if index == link.index && !is_automatic(&net) {
            uses.push(format!("address {net}"));
        }
    }
    let routes = home.routes_of_all_tables().await?;
    let (default, others): (Vec<_>, Vec<_>) = routes
        .iter()
        .filter(|route| route.index == Some(link.index) && !is_automatic(&route.to))
        .partition(|route| route.to.prefix_len() == 0);
    uses.extend(default.iter().map(|route| format!("the default route{}", via(route))));
    uses.extend(
        others
            .iter()
            .map(|route| format!("the route to {}{}", route.to, via(route))),
    );
    uses.extend(links.iter().filter_map(|other| above(link, other)));
    Ok(uses)
}

fn via(route: &KernelRoute) -> String {
    route.via.map_or_else(String::new, |via| format!(" via {via}"))
}

/// Each interface that is up has such an address and such a route; nobody is connected by them from afar.
fn is_automatic(net: &ipnet::IpNet) -> bool {
    match net {
        ipnet::IpNet::V4(_) => false,
        ipnet::IpNet::V6(net) => net.addr().is_unicast_link_local() || net.addr().is_multicast(),
    }
}

/// How `other` stands on `link`, if it does.
fn above(link: &Link, other: &Link) -> Option<String> {
    if link.master == Some(other.index) {
        return Some(format!("it is a member of {}", other.name));
    }
    // To these it is the other end, not what they stand on.
    let is_pair = matches!(other.kind.as_deref(), Some("veth" | "netkit" | "vxcan"));
    let stands_on = other.peer_index == Some(link.index) && other.peer_nsid.is_none();
    (stands_on && !is_pair && other.index != link.index).then(|| format!("{} stands on it", other.name))
}
