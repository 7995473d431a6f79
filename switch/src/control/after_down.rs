//! What a link that goes down takes along, given back when it is up again.

use vswitch_api::Port;

use super::Inner;
use super::interface::{add_address, add_route, announce_all, routes_in_order};
use super::lacks::{Missing, missing};
use vswitch_linux::KernelError;

impl Inner {
    /// The interface of a port was down and is up again, by somebody else's hand. With a link that goes down the kernel takes its IPv6
    /// addresses and its routes away: it gets them back. An IPv4 address outlives that, so one that is missing was taken away by
    /// itself, and is left to whoever did so. `again`: it was tried before, when it may have gone down just then.
    pub(super) async fn give_back_after_down(&mut self, port: &Port, again: bool) {
        let has_ipv6 = port.addresses.iter().any(|address| address.ip().is_ipv6());
        if !port.kind.has_stack() || (port.routes.is_empty() && !has_ipv6) {
            return;
        }
        let name = &port.name;
        let given = match self.what_went_down(port).await {
            Ok((given, all)) => {
                if !all && !again {
                    self.live.unsure.insert(name.clone());
                }
                given
            }
            Err(error) => {
                tracing::warn!(port = %name, "port {name}: its interface was down and may lack addresses and routes: {error}; \
                    `vswitchctl set port {name} --up` gives them back");
                return;
            }
        };
        self.look_inside(port).await;
        if given.is_empty() {
            return;
        }
        let ifname = self
            .live
            .ports
            .get(name)
            .map(|live| live.ifname.escape_debug().to_string());
        let ifname = ifname.unwrap_or_default();
        self.tell_changed(
            port,
            format!("interface {ifname} was down and got back {}", given.join(", ")),
        );
    }

    /// Gives back what a link that goes down takes along. In words what that was, and whether it was all.
    async fn what_went_down(&self, port: &Port) -> Result<(Vec<String>, bool), KernelError> {
        let Some(live) = self.live.ports.get(&port.name) else {
            return Ok((Vec::new(), true));
        };
        let Some(place) = self.place_of(port, live).await?.filter(|place| place.link.up) else {
            return Ok((Vec::new(), true));
        };
        let Missing {
            mut addresses, routes, ..
        } = missing(&port.addresses, &port.routes, &place).await?;
        addresses.retain(|address| address.ip().is_ipv6());
        let (mut given, mut all) = (Vec::new(), true);
        if addresses.is_empty() && routes.is_empty() {
            return Ok((given, true));
        }
        let (nl, index) = (place.netns.netlink().await?, place.link.index);
        for address in &addresses {
            add_address(&nl, index, *address).await?;
            given.push(format!("its address {address}"));
        }
        for route in routes_in_order(&routes) {
            match add_route(&nl, index, route).await {
                Ok(()) => given.push(format!("its route to {}", route.to)),
                // Somebody has it go another way, or has taken away the address by which its next hop is reached.
                Err(error) => {
                    all = false;
                    tracing::info!(
                        port = %port.name,
                        "port {}: its interface was down, and its route to {} can't be given back: {error}; `vswitchctl set port {} --up` \
                         tries it again",
                        port.name,
                        route.to,
                        port.name
                    );
                }
            }
        }
        if let Some(mac) = live.mac {
            announce_all(&place.netns, index, mac, addresses.iter()).await;
        }
        Ok((given, all))
    }
}
