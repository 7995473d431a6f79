//! Edits of the addresses and routes of a port.

use ipnet::IpNet;
use vswitch_api::view::{Changes, Lack};
use vswitch_api::{ApiError, ErrorCode, IfAddr, Port, PortName, Route};

use super::condition::{Editing, Subject};
use super::gateway::refuse_moving;
use super::named::find;
use super::{Control, text};

impl Control {
    /// Gives the interface of a port an address, and announces it.
    ///
    /// # Errors
    /// NotFound; Conflict: the address is taken in its VLAN of the switch; the port can't have addresses.
    pub async fn add_address(
        &self,
        name: &PortName,
        address: IfAddr,
        options: impl Into<Editing>,
    ) -> Result<Changes, ApiError> {
        let lost = Lack::Address { address };
        self.add_inside(name, options, lost, |port, is_lost, options| {
            if (options.idempotent || is_lost) && port.addresses.contains(&address) {
                return Ok(());
            }
            if port.addresses.iter().any(|old| old.ip() == address.ip()) {
                return Err(text::conflict(
                    text::port(name),
                    format!("it has address {} already", address.ip()),
                ));
            }
            port.addresses.push(address);
            Ok(())
        })
        .await
    }

    /// Takes one address from a port, or all, and the routes whose next hop is out of reach then.
    ///
    /// # Errors
    /// NotFound: the port, or the address on it. Conflict: it has it as a gateway.
    pub async fn remove_addresses(
        &self,
        name: &PortName,
        address: Option<IfAddr>,
        options: impl Into<Editing>,
    ) -> Result<Changes, ApiError> {
        let options = options.into();
        self.edit(Subject::Port(name), options.clone(), |_, lab| {
            refuse_moving(lab, name, address)?;
            let switches = lab.switches.clone();
            let port: &mut Port = match find(lab, name) {
                Err(_) if options.idempotent => return Ok(()),
                found => found?,
            };
            let of_port = switches.iter().find(|switch| switch.name == port.switch);
            let subnets = of_port.map_or(&[][..], |switch| &switch.subnets);
            let given = |old: &IfAddr| subnets.iter().any(|net| net.contains(&old.ip()));
            let taken = |old: &IfAddr| address.is_none_or(|address| *old == address);
            if port.auto_addresses && port.addresses.iter().any(|old| taken(old) && given(old)) {
                // Else it would get another at once.
                port.auto_addresses = false;
            }
            if let Some(address) = address.filter(|address| !port.addresses.contains(address)) {
                if options.idempotent {
                    return Ok(());
                }
                return Err(ApiError::new(
                    ErrorCode::NotFound,
                    text::port(name),
                    format!("it has no address {address}"),
                )
                .hint("`vswitchctl addr list` lists those that vswitch gave"));
            }
            port.addresses
                .retain(|old| address.is_some_and(|address| *old != address));
            let all = std::mem::take(&mut port.routes);
            let lasts = |route: &&Route| {
                // Without an IPv4 address the kernel keeps no IPv4 route.
                let v4 = route.to.addr().is_ipv4();
                (!v4 || port.addresses.iter().any(|address| address.ip().is_ipv4()))
                    && route.is_reached(&port.addresses, &all)
            };
            port.routes = all.iter().filter(lasts).copied().collect();
            Ok(())
        })
        .await
    }

    /// Adds a route through the interface of a port.
    ///
    /// # Errors
    /// NotFound; Conflict: there is a route to that destination; Invalid: the next hop is out of reach.
    pub async fn add_route(
        &self,
        name: &PortName,
        route: Route,
        options: impl Into<Editing>,
    ) -> Result<Changes, ApiError> {
        let lost = Lack::Route { to: route.to };
        self.add_inside(name, options, lost, |port, is_lost, options| {
            if let Some(old) = port.routes.iter().find(|old| old.to.trunc() == route.to.trunc()) {
                if (options.idempotent || is_lost) && old.via == route.via {
                    return Ok(());
                }
                return Err(
                    text::conflict(text::port(name), format!("it has a route to {} already", route.to))
                        .hint(format!("remove it first: vswitchctl route del {name} {}", route.to)),
                );
            }
            port.routes.push(route);
            Ok(())
        })
        .await
    }

    /// Removes a route.
    ///
    /// # Errors
    /// NotFound: the port, or the route.
    pub async fn remove_route(
        &self,
        name: &PortName,
        to: IpNet,
        options: impl Into<Editing>,
    ) -> Result<Changes, ApiError> {
        self.take_from_one(name, options, |port: &mut Port, options| {
            let count = port.routes.len();
            port.routes.retain(|route| route.to.trunc() != to.trunc());
            if port.routes.len() == count && !options.idempotent {
                let cause = format!("it has no route to {to}");
                return Err(ApiError::new(ErrorCode::NotFound, text::port(name), cause)
                    .hint(format!("`vswitchctl port show {name}` lists those that vswitch gave")));
            }
            Ok(())
        })
        .await
    }

    /// Adds something to the interface of a port. What it was given, and somebody took from it inside (`lost`), is made again as if it were
    /// new.
    async fn add_inside(
        &self,
        name: &PortName,
        options: impl Into<Editing>,
        lost: Lack,
        add: impl FnOnce(&mut Port, bool, &Editing) -> Result<(), ApiError>,
    ) -> Result<Changes, ApiError> {
        let options = options.into();
        let mut inner = self.begin_edit().await?;
        let is_lost = inner.has_lost(name, lost).await;
        let edited = inner.edit(Subject::Port(name), &options, |_, lab| {
            add(find(lab, name)?, is_lost, &options)
        });
        let (mut changes, steps) = edited.await?;
        inner.give_back_after(name, &options, &steps, &mut changes).await?;
        Ok(changes)
    }
}
