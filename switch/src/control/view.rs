//! Answers: states, counters and tables.

mod cables;
mod namespaces;

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, PoisonError};
use std::time::Instant;

use nix::sys::statvfs::statvfs;
use vswitch_api::acl::AclRule;
use vswitch_api::policy::VlanId;
use vswitch_api::view::{
    AclRuleView, AddressView, FdbEntry, Lack, PortAclView, PortState, PortView, Status, SwitchView,
};
use vswitch_api::{API_VERSION, ApiError, IfAddr, Lab, Namespace, Port, PortName, Switch, SwitchName};

use super::durations::Counted;
use super::frame_size::is_big;
use super::kinds::{ifname, wanted_mtu};
use super::lacks::in_words;
use super::{Control, LivePort, View, text};
use crate::port::BackEnd;
use vswitch_datapath::EntryKind;
use vswitch_datapath::acl::Acl;

impl Control {
    /// Each edit is noted in the run directory before it is made.
    fn no_room(&self) -> Option<String> {
        let room = statvfs(&self.run_dir).ok()?;
        // A tmpfs without limits has none of either.
        let is_full = (room.blocks() > 0 && room.blocks_free() == 0) || (room.files() > 0 && room.files_free() == 0);
        let dir = self.run_dir.display();
        is_full.then(|| format!("nothing can be changed, there is no room in the run directory {dir}"))
    }

    /// Has the status tell why metrics are not to be had over TCP; none: they are.
    pub(crate) fn tell_of_metrics(&self, trouble: Option<String>) {
        *self.no_metrics.lock().unwrap_or_else(PoisonError::into_inner) = trouble;
    }

    /// The daemon itself.
    pub fn status(&self) -> Status {
        let view = self.view();
        let mut limits = view.limits.clone();
        let unsaved = view.unsaved.as_ref();
        limits.extend(unsaved.map(|cause| format!("nothing can be changed, the state can't be written: {cause}")));
        limits.extend(self.no_room());
        limits.extend(view.not_removed.iter().cloned());
        limits.extend(view.processes.troubles());
        limits.extend(self.no_metrics.lock().unwrap_or_else(PoisonError::into_inner).clone());
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            api_version: API_VERSION,
            pid: std::process::id(),
            run: self.events.run().to_owned(),
            uptime_secs: self.started.elapsed().as_secs(),
            workers: view.datapath.workers() as u32,
            limits,
            progress: view.progress(),
            role: None,
            confinement: self.confined.view(&self.rights),
            netns_dir: self.netns_dir.display().to_string(),
        }
    }

    /// The lab as it is wanted.
    pub fn lab(&self) -> Lab {
        self.view().state.lab.clone()
    }

    /// All switches.
    pub fn switches(&self) -> Vec<SwitchView> {
        let view = self.view();
        let switches = view.state.lab.switches.iter();
        switches.map(|switch| view.switch_view(switch)).collect()
    }

    /// One switch.
    ///
    /// # Errors
    /// NotFound.
    pub fn switch(&self, name: &SwitchName) -> Result<SwitchView, ApiError> {
        let view = self.view();
        Ok(view.switch_view(find_switch(&view.state.lab, name)?))
    }

    /// The FDB of a switch, by address.
    ///
    /// # Errors
    /// NotFound.
    pub fn fdb(&self, name: &SwitchName) -> Result<Vec<FdbEntry>, ApiError> {
        let view = self.view();
        let id = *view.switches.get(name).ok_or_else(|| text::no_switch(name))?;
        let names: BTreeMap<_, _> = view
            .ports
            .iter()
            .filter_map(|(name, live)| Some((live.id?.id.0, name)))
            .collect();
        let entry = |record: vswitch_datapath::FdbRecord| {
            let port = names.get(&record.port.0).map(|name| PortName::clone(name))?;
            Some(FdbEntry {
                switch: name.clone(),
                mac: record.mac,
                vlan: VlanId::try_from(record.vlan).ok(),
                port,
                age_secs: record.age_secs,
                is_static: record.kind == EntryKind::Static,
                sticky: record.kind == EntryKind::Sticky,
            })
        };
        let mut entries: Vec<_> = view.datapath.fdb(id).into_iter().filter_map(entry).collect();
        // Those of a missing port wait for it.
        let is_missing = |port: &&Port| view.ports.get(&port.name).is_none_or(|live| live.id.is_none());
        let ports = view.state.lab.ports.iter().filter(|port| port.switch == *name);
        let ports = ports.filter(is_missing);
        let stations = ports.flat_map(|port| port.stations.iter().map(move |station| (port, station)));
        let known: HashSet<_> = entries.iter().map(|entry| (entry.mac, entry.vlan)).collect();
        let waiting = stations.filter(|(_, station)| !known.contains(&(station.mac, station.vlan)));
        let waiting: Vec<_> = waiting
            .map(|(port, station)| FdbEntry {
                switch: name.clone(),
                mac: station.mac,
                vlan: station.vlan,
                port: port.name.clone(),
                age_secs: None,
                is_static: true,
                sticky: false,
            })
            .collect();
        entries.extend(waiting);
        entries.sort_by_key(|entry| (entry.vlan, entry.mac));
        Ok(entries)
    }

    /// All ports, or those of one switch.
    ///
    /// # Errors
    /// NotFound: the switch.
    pub async fn ports(&self, switch: Option<&SwitchName>) -> Result<Vec<PortView>, ApiError> {
        let view = self.view();
        let ports = view.ports_of(switch)?;
        if view.progress().is_none() {
            // An edit keeps the kernel busy, which answers when it is done.
            view.read_overruns(None).await;
        }
        let counts: BTreeMap<_, _> = view
            .switches
            .iter()
            .map(|(name, id)| (name, view.datapath.fdb_counts(*id)))
            .collect();
        Ok(ports
            .into_iter()
            .map(|port| view.port_view(port, counts.get(&port.switch).map_or(&[], Vec::as_slice)))
            .collect())
    }

    /// One port.
    ///
    /// # Errors
    /// NotFound.
    pub async fn port(&self, name: &PortName) -> Result<PortView, ApiError> {
        let view = self.view();
        let port = view.port_of_lab(name).ok_or_else(|| text::no_port(name))?;
        if view.progress().is_none() {
            view.read_overruns(Some(name)).await;
        }
        let counts = view
            .switches
            .get(&port.switch)
            .map(|id| view.datapath.fdb_counts(*id))
            .unwrap_or_default();
        Ok(view.port_view(port, &counts))
    }

    /// Stations that were learned, by switch and VLAN.
    pub fn learned_by_vlan(&self) -> Vec<(SwitchName, u16, u32)> {
        let view = self.view();
        let of_switch = |(name, id): (&SwitchName, &_)| {
            let vlans = view.datapath.fdb_learned_by_vlan(*id).into_iter();
            vlans
                .map(|(vlan, count)| (name.clone(), vlan, count))
                .collect::<Vec<_>>()
        };
        view.switches.iter().flat_map(of_switch).collect()
    }

    /// For each worker, of how many frames the batches were that it took from ports.
    pub fn batches(&self) -> Vec<Counted> {
        let batches = self.view().datapath.batches();
        batches.iter().map(|sizes| Counted::of_sizes(sizes)).collect()
    }

    /// The access control lists of a port with their hits.
    ///
    /// # Errors
    /// NotFound.
    pub fn acl(&self, name: &PortName) -> Result<PortAclView, ApiError> {
        let view = self.view();
        let port = view.port_of_lab(name).ok_or_else(|| text::no_port(name))?;
        let snapshot = view.datapath.snapshot();
        let id = view.ports.get(name).and_then(|live| live.id);
        let policy = id.and_then(|id| snapshot.find(id)).map(|port| port.policy());
        let view = |rules: &[AclRule], live: Option<&Arc<Acl>>| {
            let mut hits = live.map(|acl| acl.hits()).unwrap_or_default().into_iter();
            let view = |rule: &AclRule| AclRuleView {
                rule: rule.clone(),
                hits: hits.next().unwrap_or(0),
            };
            rules.iter().map(view).collect()
        };
        Ok(PortAclView {
            ingress: view(&port.acl.ingress, policy.and_then(|policy| policy.acl_in.as_ref())),
            egress: view(&port.acl.egress, policy.and_then(|policy| policy.acl_out.as_ref())),
        })
    }

    /// The addresses that vswitch gave.
    ///
    /// # Errors
    /// NotFound: the switch.
    pub fn addresses(&self, switch: Option<&SwitchName>) -> Result<Vec<AddressView>, ApiError> {
        let view = self.view();
        let mut views = Vec::new();
        for port in view.ports_of(switch)? {
            views.extend(port.addresses.iter().map(|address| AddressView {
                port: port.name.clone(),
                switch: port.switch.clone(),
                address: *address,
                lease_secs: None,
                missing: view.is_missing(&port.name, *address),
            }));
        }
        let of_switch = |found: &AddressView| switch.is_none_or(|name| found.switch == *name);
        let leased = view.leases().into_iter().filter(of_switch);
        for lease in leased {
            // Those of ports that get by DHCP what they have anyway are no others.
            let same = |given: &AddressView| (&given.port, given.address.ip()) == (&lease.port, lease.address.ip());
            if !views.iter().any(same) {
                views.push(lease);
            }
        }
        Ok(views)
    }
}

pub(super) fn find_switch<'a>(lab: &'a Lab, name: &SwitchName) -> Result<&'a Switch, ApiError> {
    lab.switches
        .iter()
        .find(|switch| switch.name == *name)
        .ok_or_else(|| text::no_switch(name))
}

impl View {
    /// The ports of a switch; none: all ports.
    fn ports_of(&self, switch: Option<&SwitchName>) -> Result<Vec<&Port>, ApiError> {
        let lab = &self.state.lab;
        if let Some(name) = switch {
            find_switch(lab, name)?;
        }
        let of_it = lab
            .ports
            .iter()
            .filter(|port| switch.is_none_or(|name| port.switch == *name));
        Ok(of_it.collect())
    }

    fn switch_view(&self, switch: &Switch) -> SwitchView {
        let id = self.switches.get(&switch.name);
        let mut ports: Vec<_> = self
            .state
            .lab
            .ports
            .iter()
            .filter(|p| p.switch == switch.name)
            .map(|p| p.name.clone())
            .collect();
        ports.sort();
        SwitchView {
            switch: switch.clone(),
            ports,
            fdb_entries: id.map_or(0, |id| self.datapath.fdb_len(*id)),
            fdb_full: id.map_or(0, |id| self.datapath.fdb_full(*id)),
            fdb_moves: id.map_or(0, |id| self.datapath.fdb_moves(*id)),
            mirrors: {
                let mirrors = self.state.lab.mirrors.iter().filter(|m| m.switch == switch.name);
                mirrors.map(|mirror| self.mirror_view(mirror)).collect()
            },
        }
    }

    /// Whether the interface of a port has this address no more, be it that somebody has taken it away inside or that it is gone itself.
    fn is_missing(&self, port: &PortName, address: IfAddr) -> bool {
        let lost = |live: &LivePort| live.id.is_none() || live.lacks().contains(&Lack::Address { address });
        !self.attaching && self.ports.get(port).is_none_or(lost)
    }

    /// `fdb_counts`: number of FDB entries of each port of its switch, by index.
    fn port_view(&self, port: &Port, fdb_counts: &[u32]) -> PortView {
        let mut shown = port.clone();
        shown.ifname = Some(ifname(port));
        let Some(live) = self.ports.get(&port.name) else {
            if self.attaching {
                return PortView {
                    state: PortState::Attaching,
                    ..missing_view(shown, None)
                };
            }
            let reason = "it is in no datapath; a change under way makes or removes it".to_owned();
            return missing_view(shown, Some(reason));
        };
        let Some(id) = live.id else {
            let reason = told_of(&shown, live.reason.as_deref());
            let again = self
                .retries
                .get(&port.name)
                .map(|due| due.saturating_duration_since(Instant::now()));
            let again = again.filter(|again| !again.is_zero());
            let again = again.map(|again| format!("it is tried again in {} s", again.as_secs() + 1));
            let reason: Vec<_> = reason.into_iter().chain(again).collect();
            let reason = (!reason.is_empty()).then(|| reason.join("; "));
            return PortView {
                missing_as: live.missing_as,
                counters: live.before.and_now(&self.datapath, None),
                ..missing_view(shown, reason)
            };
        };
        let io = self.datapath.io::<BackEnd>(id);
        let reason = [
            told_of(port, live.reason.as_deref()),
            other_mac(port, live),
            lacking(port, live),
            unnamed(port, live),
        ];
        let reason: Vec<_> = reason.into_iter().flatten().collect();
        // As its user has it by now.
        shown.mac = live.mac.or(shown.mac);
        let wanted = wanted_mtu(port).filter(|mtu| *mtu != live.mtu);
        shown.mtu = Some(live.mtu);
        shown.ifname = live.ifname.parse().ok().or(shown.ifname);
        if let Some(moved) = &live.moved {
            shown.namespace = moved.namespace.clone().map(Namespace::Name);
        }
        PortView {
            port: shown,
            mtu_wanted: wanted,
            moved_to: live.moved.as_ref().map(|moved| moved.to.clone()),
            lacks: live.lacks().to_vec(),
            entrance: live.entrance.clone().filter(|_| live.moved.is_none()),
            state: live.state,
            reason: (!reason.is_empty()).then(|| reason.join("; ")),
            missing_as: None,
            state_secs: live.since.elapsed().as_secs(),
            queues: io.as_deref().map_or(1, |io| io.queues(self.datapath.workers())) as u32,
            xdp_mode: io.as_deref().and_then(BackEnd::xdp_mode),
            xdp_refused: live.xdp_refused.clone(),
            fastpath: io.is_some_and(|io| io.fast().is_some()),
            big_tcp: is_big(live.gso),
            fdb_entries: fdb_counts.get(id.id.index()).copied().unwrap_or(0),
            counters: live.before.and_now(&self.datapath, Some(id)),
        }
    }
}

/// A reason as it is shown beside its port, which it need not name again.
fn told_of(port: &Port, reason: Option<&str>) -> Option<String> {
    let named = format!("{}: ", text::port(&port.name));
    reason.map(|reason| reason.strip_prefix(&named).unwrap_or(reason).to_owned())
}

/// What somebody else has changed of an interface that has no place of its own in the answer.
fn other_mac(port: &Port, live: &LivePort) -> Option<String> {
    let (wanted, now) = (port.mac?, live.mac?);
    let ifname = live.ifname.escape_debug();
    (wanted != now).then(|| format!("interface {ifname} has the MAC {now}, but was set to {wanted}"))
}

/// What somebody else has taken away inside.
fn lacking(port: &Port, live: &LivePort) -> Option<String> {
    let ifname = live.ifname.escape_debug();
    (!live.lacks.is_empty()).then(|| {
        format!(
            "interface {ifname} lacks {}; `vswitchctl set port {} --up` gives back what was taken away",
            in_words(&live.lacks),
            port.name
        )
    })
}

/// The name of its namespace, by which others look for it, is gone or leads elsewhere.
fn unnamed(port: &Port, live: &LivePort) -> Option<String> {
    let name = port
        .named_namespace()
        .filter(|_| live.unnamed && live.moved.is_none())?;
    Some(format!(
        "its namespace is called {name} no more, and goes on under another name or by its processes alone; after a restart the port is \
         made anew in one that is called so"
    ))
}

fn missing_view(port: Port, reason: Option<String>) -> PortView {
    PortView {
        port,
        mtu_wanted: None,
        moved_to: None,
        lacks: Vec::new(),
        entrance: None,
        state: PortState::Missing,
        reason,
        missing_as: None,
        state_secs: 0,
        queues: 0,
        fastpath: false,
        big_tcp: false,
        xdp_mode: None,
        xdp_refused: None,
        fdb_entries: 0,
        counters: Default::default(),
    }
}
