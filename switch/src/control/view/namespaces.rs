//! What is said of namespaces: whose they are, and what is in them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use futures::future::join_all;
use vswitch_api::view::{LinkView, NamespaceSummary, NamespaceView, NeighbourView, RouteView};
use vswitch_api::{ApiError, ErrorCode, Namespace, NsName, Port, PortName};

use super::super::guests::foreign;
use super::super::namespace::{NAMESPACES_AT_ONCE, Reserved, is_present};
use super::super::plan::namespaces;
use super::super::state::boot_id;
use super::super::{Control, LivePort, View, text};
use vswitch_linux::{
    AddressScope, KernelError, Link, NamedNamespaces, NetNs, Presence, process_groups, with_processes,
};

impl Control {
    /// All namespaces: those that are there, and those that the lab names.
    pub async fn namespaces(&self) -> Vec<NamespaceSummary> {
        let view = self.view();
        let mut names: Vec<NsName> = view.named.list().iter().filter_map(|name| name.parse().ok()).collect();
        names.extend(namespaces(&view.state.lab).into_iter().cloned());
        names.sort();
        names.dedup();
        let ours = view.made_by_vswitch(None).await;
        let summary = |name: NsName| view.namespace_summary(ours.contains(&name), name);
        let mut all: Vec<_> = names.into_iter().map(summary).collect();
        all.extend(view.foreign_namespaces());
        let named = view.named.clone();
        drop(view);
        self.find_owners(named, &mut all).await;
        all
    }

    /// Of the namespaces that have names and were not made by vswitch those that a container is in are its.
    async fn find_owners(&self, named: NamedNamespaces, all: &mut [NamespaceSummary]) {
        let looked = tokio::task::spawn_blocking(move || {
            let processes = with_processes().unwrap_or_default();
            let netns = named.all().netns.into_iter();
            let groups = netns.filter_map(|(name, netns)| Some((name, process_groups(*processes.get(&netns.id())?)?)));
            groups.collect::<BTreeMap<_, _>>()
        });
        let groups = looked.await.unwrap_or_default();
        let finding = all
            .iter_mut()
            .filter(|summary| !summary.owned && summary.owner.is_none());
        let finding = finding.filter_map(|summary| {
            let groups = groups.get(summary.name.name()?.as_str())?;
            Some(async move {
                let owner = self.engines.owner(groups).await;
                summary.owner = owner.map(|(engine, name)| format!("{engine} {name}"));
            })
        });
        join_all(finding).await;
    }

    /// A namespace from inside.
    ///
    /// # Errors
    /// NotFound; the kernel refused to tell.
    pub async fn namespace(&self, name: &NsName) -> Result<NamespaceView, ApiError> {
        let view = self.view();
        let reserved = Reserved {
            home: &view.home,
            own: &view.own,
        };
        let netns = match reserved.open_other(&view.named, name) {
            // The lab waits for it, and lists it as missing.
            Err(error) if error.code == ErrorCode::NotFound && namespaces(&view.state.lab).contains(name) => {
                let owned = view.made_by_vswitch(Some(name)).await.contains(name);
                return Ok(NamespaceView {
                    summary: view.namespace_summary(owned, name.clone()),
                    links: Vec::new(),
                    routes: Vec::new(),
                    neighbours: Vec::new(),
                });
            }
            opened => opened?,
        };
        let owned = view.made_by_vswitch(Some(name)).await.contains(name);
        let summary = view.namespace_summary(owned, name.clone());
        let failed = |error: KernelError| text::kernel(text::namespace(name), &error);
        let own = view.own.netlink().await.map_err(failed)?;
        let nsid = own.nsid_if_known(&netns).await.map_err(failed)?;
        let here = view
            .ports
            .iter()
            .filter(|(_, live)| live.nsid.is_some() && live.nsid == nsid);
        let ports: BTreeMap<u32, PortName> = here
            .filter_map(|(name, live)| Some((live.inside?, name.clone())))
            .collect();
        drop(view);
        let nl = netns.netlink().await.map_err(failed)?;
        let links = nl.links().await.map_err(failed)?;
        let mut addresses = nl.addresses().await.map_err(failed)?;
        addresses.sort_by_key(|(_, net, scope)| (net.addr().is_ipv6(), *scope == AddressScope::Link, net.addr()));
        let mut routes = nl.routes().await.map_err(failed)?;
        routes.sort_by_key(|route| (route.to.addr().is_ipv6(), route.to.prefix_len(), route.to.addr()));
        let neighbours = nl.neighbours().await.map_err(failed)?;
        let dev = |index: Option<u32>| {
            let link = links.iter().find(|link| Some(link.index) == index);
            link.map_or_else(|| "-".to_owned(), |link| link.name.clone())
        };
        let link_view = |link: &Link| LinkView {
            name: link.name.clone(),
            ifindex: link.index,
            mac: link.mac.filter(|mac| mac.is_unicast()),
            mtu: link.mtu,
            state: if !link.up {
                "down"
            } else if link.carrier {
                "up"
            } else {
                "no-carrier"
            }
            .to_owned(),
            port: ports.get(&link.index).cloned(),
            addresses: addresses
                .iter()
                .filter(|(index, ..)| *index == link.index)
                .map(|(_, net, _)| net.to_string())
                .collect(),
        };
        let route_view = |route: &vswitch_linux::KernelRoute| RouteView {
            to: if route.to.prefix_len() == 0 {
                "default".to_owned()
            } else {
                route.to.to_string()
            },
            via: route.via.map(|via| via.to_string()),
            dev: dev(route.index),
        };
        let neighbour_view = |neighbour: &vswitch_linux::Neighbour| NeighbourView {
            ip: neighbour.ip.to_string(),
            mac: neighbour.mac,
            dev: dev(Some(neighbour.index)),
            state: neighbour.state.clone(),
        };
        Ok(NamespaceView {
            summary,
            links: links.iter().map(link_view).collect(),
            routes: routes.iter().map(route_view).collect(),
            neighbours: neighbours
                .iter()
                .filter(|n| n.state != "noarp")
                .map(neighbour_view)
                .collect(),
        })
    }
}

impl View {
    /// The namespace that the interface of a port is in now, if it can be got at from here: by a name, by what leads to another's, or as the
    /// host's.
    pub(in crate::control) async fn netns_now(
        &self,
        port: &Port,
        live: &LivePort,
    ) -> Result<Option<NetNs>, KernelError> {
        let found = match (&live.moved, &live.entrance, port.named_namespace()) {
            (Some(moved), ..) => match &moved.namespace {
                Some(name) => self.named.open(name),
                None => Presence::Here(self.home.clone()),
            },
            (None, Some(entrance), _) => NetNs::open(Path::new(&entrance.path)),
            (None, None, Some(name)) => self.named.open(name),
            (None, None, None) => Presence::Here(self.home.clone()),
        };
        let Some(netns) = found.known()? else {
            return Ok(None);
        };
        // Another may be called so by now.
        let nsid = self.own.netlink().await?.nsid_if_known(&netns).await?;
        Ok((nsid.is_some() && nsid == live.nsid).then_some(netns))
    }

    fn ports_in<'a>(&'a self, name: &'a NsName) -> impl Iterator<Item = &'a Port> {
        self.state.lab.ports.iter().filter(move |port| port.is_in(name))
    }

    /// Which namespaces are those that vswitch made, `only` of this name if there is one. One that somebody else has made under the name
    /// since is theirs; one that is not there is made again by vswitch.
    async fn made_by_vswitch(&self, only: Option<&NsName>) -> BTreeSet<NsName> {
        let all = self.state.namespaces.iter();
        let all: Vec<_> = all
            .filter(|owned| only.is_none_or(|only| owned.name == *only))
            .collect();
        let boot_id = boot_id().unwrap_or_default();
        let mut ours = BTreeSet::new();
        for some in all.chunks(NAMESPACES_AT_ONCE) {
            let found: Vec<_> = some.iter().map(|owned| self.named.open(&owned.name)).collect();
            let here = |found: &Presence<NetNs>| match found {
                Presence::Here(netns) => Some(netns.clone()),
                Presence::Gone | Presence::Unknown(_) => None,
            };
            let netns: Vec<_> = found.iter().filter_map(here).collect();
            if let Err(error) = NetNs::learn_cookies(&netns).await {
                tracing::debug!("namespaces are asked one by one what they are: {error}");
            }
            let found = some.iter().zip(found).filter(|(owned, found)| match found {
                Presence::Here(netns) => owned.is(netns, &boot_id).unwrap_or(true),
                Presence::Gone | Presence::Unknown(_) => true,
            });
            ours.extend(found.map(|(owned, _)| owned.name.clone()));
        }
        ours
    }

    fn namespace_summary(&self, owned: bool, name: NsName) -> NamespaceSummary {
        NamespaceSummary {
            owned,
            present: is_present(&self.named, &name),
            ports: self.ports_in(&name).map(|port| port.name.clone()).collect(),
            owner: None,
            name: Namespace::Name(name),
        }
    }

    /// The namespaces of others that ports are in, and that have no name that counts.
    fn foreign_namespaces(&self) -> Vec<NamespaceSummary> {
        let mut all: BTreeMap<&Namespace, NamespaceSummary> = BTreeMap::new();
        for port in &self.state.lab.ports {
            let Some(namespace) = foreign(port) else { continue };
            let summary = all.entry(namespace).or_insert_with(|| NamespaceSummary {
                name: namespace.clone(),
                owned: false,
                owner: None,
                present: false,
                ports: Vec::new(),
            });
            summary.ports.push(port.name.clone());
            if let Some(live) = self.ports.get(&port.name).filter(|live| live.id.is_some()) {
                summary.present = true;
                summary.owner = summary.owner.take().or_else(|| live.owner.clone());
            }
        }
        all.into_values().collect()
    }
}
