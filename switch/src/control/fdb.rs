//! Edits of the FDB: static entries, which are stations of the lab's ports, and learned ones.

use std::collections::BTreeSet;
use std::sync::Arc;

use vswitch_api::change::{Change, ChangeAction, ObjectKind};
use vswitch_api::policy::{PortVlan, VlanId};
use vswitch_api::request::{FdbAdd, FdbSelect};
use vswitch_api::view::Changes;
use vswitch_api::{ApiError, ErrorCode, Lab, Mac, Port, StaticStation, SwitchName};

use super::condition::{Editing, Subject};
use super::named::find;
use super::plan::changed;
use super::view::find_switch;
use super::{Control, Inner, text};
use vswitch_datapath::vlan::VlanPort;
use vswitch_datapath::{EntryKind, FdbFilter, FdbFull, PortId, SwitchId};

/// What the datapath knows a station by.
pub(super) fn fdb_key(station: &StaticStation) -> (u16, Mac) {
    (station.vlan.map_or(0, VlanId::get), station.mac)
}

/// How a station is called.
pub(super) fn station(station: &StaticStation) -> String {
    match station.vlan {
        Some(vlan) => format!("{} in VLAN {vlan}", station.mac),
        None => station.mac.to_string(),
    }
}

/// # Errors
/// No unicast address, which no entry has.
pub(super) fn check_station(entry: &StaticStation) -> Result<(), ApiError> {
    if entry.mac.is_unicast() {
        return Ok(());
    }
    let object = format!("FDB entry {}", station(entry));
    Err(text::invalid(object, "it is not the address of a station")
        .hint("group addresses are flooded and never in the FDB"))
}

/// Why no frame would be sent by a station, and what to do: its port is not in its VLAN. None: it is.
pub(super) fn out_of_vlan(port: &Port, station: &StaticStation) -> Option<(String, String)> {
    if VlanPort::new(&port.vlan, port.accept).is_member(fdb_key(station).0) {
        return None;
    }
    let name = &port.name;
    let cause = match station.vlan {
        Some(vlan) => format!("port \"{name}\" is not in VLAN {vlan}"),
        None => format!("port \"{name}\" carries nothing that is in no VLAN"),
    };
    let hint = match (&port.vlan, port.vlan.untagged()) {
        (PortVlan::Trunk(trunk), _) => format!(
            "name one of its VLANs with --vlan, in a file with `vlan`: {}",
            trunk.allowed
        ),
        (_, Some(own)) => format!("it is in VLAN {own}: --vlan {own}, in a file vlan = {own}"),
        (_, None) => "name one of its VLANs with --vlan, in a file with `vlan`".to_owned(),
    };
    Some((cause, hint))
}

impl Control {
    /// Puts a station behind a port by hand, wherever it was.
    ///
    /// # Errors
    /// NotFound: switch or port. Invalid: no unicast address. Conflict: the port is another switch's, the FDB holds no more of them.
    pub async fn fdb_add(
        &self,
        switch: &SwitchName,
        entry: FdbAdd,
        options: impl Into<Editing>,
    ) -> Result<Changes, ApiError> {
        let options = options.into();
        let how = options.clone();
        self.edit(Subject::Stations(switch, Some(&entry.port)), how, |_, lab| {
            find_switch(lab, switch)?;
            let port: &mut Port = find(lab, &entry.port)?;
            if port.switch != *switch {
                let cause = format!("port \"{}\" is on switch \"{}\"", entry.port, port.switch);
                let object = format!("FDB entry {}", entry.mac);
                return Err(text::conflict(object, cause).hint(format!("add --switch {}", port.switch)));
            }
            let station = StaticStation {
                mac: entry.mac,
                vlan: entry.vlan.or(port.vlan.untagged()),
            };
            if port.stations.contains(&station) {
                return Ok(());
            }
            if let Some((cause, hint)) = out_of_vlan(port, &station) {
                return Err(text::invalid(format!("FDB entry {}", self::station(&station)), cause).hint(hint));
            }
            // One that says nothing of a VLAN had no effect at a port without untagged frames that are in none.
            let vlan = VlanPort::new(&port.vlan, port.accept);
            port.stations
                .retain(|old| old.mac != entry.mac || vlan.is_member(fdb_key(old).0));
            let has_it = |other: &&Port| other.switch == *switch && other.stations.contains(&station);
            if let Some(other) = lab.ports.iter().find(has_it).filter(|_| options.idempotent) {
                let cause = format!("it is there already, behind port \"{}\"", other.name);
                return Err(text::conflict(format!("FDB entry {}", self::station(&station)), cause)
                    .hint("without --if-not-exists it is moved"));
            }
            for other in lab.ports.iter_mut().filter(|other| other.switch == *switch) {
                other.stations.retain(|old| *old != station);
            }
            find::<Port>(lab, &entry.port)?.stations.push(station);
            Ok(())
        })
        .await
    }

    /// Removes one FDB entry, or flushes those that were learned.
    ///
    /// # Errors
    /// NotFound: switch, port or entry. Invalid: no unicast address.
    pub async fn fdb_remove(
        &self,
        switch: &SwitchName,
        select: FdbSelect,
        options: impl Into<Editing>,
    ) -> Result<Changes, ApiError> {
        let options = options.into();
        match select.mac {
            Some(mac) => {
                check_station(&StaticStation { mac, vlan: select.vlan })?;
                let station = StaticStation { mac, vlan: select.vlan };
                self.remove_station(switch, station, select, options).await
            }
            None => self.flush(switch, select, options).await,
        }
    }

    async fn remove_station(
        &self,
        switch: &SwitchName,
        removed: StaticStation,
        select: FdbSelect,
        options: Editing,
    ) -> Result<Changes, ApiError> {
        let (vlan, mac) = fdb_key(&removed);
        let mut inner = self.begin_edit().await?;
        let subject = Subject::Stations(switch, select.port.as_ref());
        let mut elsewhere = None;
        let edited = inner.edit(subject, &options, |inner, lab| {
            let there = find_switch(lab, switch).map(drop);
            let there = there.and_then(|()| match &select.port {
                Some(name) => find::<Port>(lab, name).map(drop),
                None => Ok(()),
            });
            if there.is_err() && options.idempotent {
                return Ok(());
            }
            there?;
            if inner.take_station(lab, switch, &removed, &select) {
                return Ok(());
            }
            let error = inner.no_such_station(lab, switch, &removed, &select);
            if !options.idempotent {
                return Err(error);
            }
            // Of one that is known nowhere there is nothing to tell.
            elsewhere = (error.cause != no_entry(switch)).then(|| error.to_string());
            Ok(())
        });
        let (mut changes, _) = edited.await?;
        changes.warnings.extend(elsewhere);
        // One that was learned is not the lab's; of a static one nothing is left by now, unless it was set anew.
        let gone = if options.dry_run {
            inner.knows(switch, vlan, mac, &select)
        } else {
            inner.forget_learned(switch, vlan, mac, &select)
        };
        if gone && changes.done.is_empty() {
            changes.done.push(format!("removed FDB entry {}", station(&removed)));
            let gone = Change::removed(ObjectKind::Station, removed.mac, &removed);
            changes.changes.push(gone);
        }
        Ok(changes)
    }

    async fn flush(&self, switch: &SwitchName, select: FdbSelect, options: Editing) -> Result<Changes, ApiError> {
        let inner = self.begin_edit().await?;
        inner.store.check_condition(
            Subject::Stations(switch, select.port.as_ref()),
            options.if_match.as_deref(),
        )?;
        let id = *inner.live.switches.get(switch).ok_or_else(|| text::no_switch(switch))?;
        let datapath = Arc::clone(&inner.datapath);
        let port = match &select.port {
            Some(name) => {
                let port = inner.store.port(name).ok_or_else(|| text::no_port(name))?;
                if port.switch != *switch {
                    let cause = format!("it is on switch \"{}\", not \"{switch}\"", port.switch);
                    return Err(text::conflict(text::port(name), cause).hint(format!("add --switch {}", port.switch)));
                }
                match inner.live.ports.get(name).and_then(|live| live.id) {
                    Some(port) => Some(port.id),
                    // A missing port has no entries.
                    None => {
                        return Ok(Changes {
                            dry_run: options.dry_run,
                            ..Changes::default()
                        });
                    }
                }
            }
            None => None,
        };
        let vlan = select.vlan.map(VlanId::get);
        let flushed = if options.dry_run {
            let learned = datapath.fdb(id).into_iter().filter(|entry| {
                entry.kind != EntryKind::Static
                    && port.is_none_or(|port| entry.port == port)
                    && vlan.is_none_or(|vlan| entry.vlan == vlan)
            });
            learned.count()
        } else {
            let filter = FdbFilter {
                port,
                vlan,
                sticky: true,
            };
            let flushed = datapath.fdb_flush(id, filter) as usize;
            inner.settle_fastpath();
            tracing::info!(%switch, "flushed {flushed} learned entries of switch {switch}");
            flushed
        };
        if flushed == 0 {
            return Ok(Changes {
                dry_run: options.dry_run,
                ..Changes::default()
            });
        }
        Ok(Changes {
            done: vec![format!("flushed {flushed} learned entries of switch {switch}")],
            changes: vec![Change {
                before: Some(flushed.into()),
                ..Change::new(ChangeAction::Flushed, ObjectKind::Switch, switch)
            }],
            dry_run: options.dry_run,
            ..Changes::default()
        })
    }
}

fn no_entry(switch: &SwitchName) -> String {
    format!("switch \"{switch}\" has no such entry")
}

/// Whether a port is on this switch, and is the one that is selected if one is.
fn is_selected(port: &Port, switch: &SwitchName, select: &FdbSelect) -> bool {
    port.switch == *switch && select.port.as_ref().is_none_or(|name| port.name == *name)
}

/// Where a station is known.
fn words(vlans: &BTreeSet<u16>) -> String {
    let word = |vlan: &u16| match vlan {
        0 => "in no VLAN".to_owned(),
        vlan => format!("in VLAN {vlan}"),
    };
    vlans.iter().map(word).collect::<Vec<_>>().join(", ")
}

impl Inner {
    /// Takes a static station out of the lab. False: neither the lab nor the datapath has it.
    fn take_station(&self, lab: &mut Lab, switch: &SwitchName, removed: &StaticStation, select: &FdbSelect) -> bool {
        let (vlan, mac) = fdb_key(removed);
        let mut found = self.knows(switch, vlan, mac, select);
        let here = |port: &&mut Port| is_selected(port, switch, select);
        for port in lab.ports.iter_mut().filter(here) {
            let count = port.stations.len();
            port.stations.retain(|old| old != removed);
            found |= port.stations.len() < count;
        }
        if found || removed.vlan.is_some() {
            return found;
        }
        // As it was added without a word of a VLAN, if there is one such.
        let is_it = |port: &Port, old: &StaticStation| old.mac == mac && old.vlan == port.vlan.untagged();
        let has_it = |port: &&mut Port| port.stations.iter().any(|old| is_it(port, old));
        let mut all: Vec<_> = lab.ports.iter_mut().filter(here).filter(has_it).collect();
        let [port] = &mut all[..] else { return false };
        let vlan = port.vlan.untagged();
        port.stations.retain(|old| (old.mac, old.vlan) != (mac, vlan));
        true
    }

    /// Why a station is not found, and where it is known instead.
    fn no_such_station(&self, lab: &Lab, switch: &SwitchName, removed: &StaticStation, select: &FdbSelect) -> ApiError {
        let mac = removed.mac;
        let known = self.vlans_with(switch, mac, select);
        let noted = lab.ports.iter().filter(|port| is_selected(port, switch, select));
        let noted = noted.flat_map(|port| &port.stations).filter(|old| old.mac == mac);
        let all: BTreeSet<u16> = noted.map(|old| fdb_key(old).0).chain(known).collect();
        let object = format!("FDB entry {}", station(removed));
        let hint = match all.last() {
            None => {
                return ApiError::new(ErrorCode::NotFound, object, no_entry(switch))
                    .hint("`vswitchctl fdb` lists them");
            }
            Some(0) => "leave --vlan out".to_owned(),
            Some(vlan) => format!("name the VLAN: vswitchctl fdb del {mac} --vlan {vlan}"),
        };
        let cause = format!("switch \"{switch}\" knows it {}", words(&all));
        ApiError::new(ErrorCode::NotFound, object, cause).hint(hint)
    }

    /// VLANs in which a station is known, behind the port that is selected if one is.
    fn vlans_with(&self, switch: &SwitchName, mac: Mac, select: &FdbSelect) -> Vec<u16> {
        let (Some(id), port) = (self.live.switches.get(switch), self.selected(select)) else {
            return Vec::new();
        };
        let there = self.datapath.fdb(*id).into_iter();
        let there = there.filter(|entry| entry.mac == mac && (select.port.is_none() || Some(entry.port) == port));
        there.map(|entry| entry.vlan).collect()
    }

    /// Whether a switch has an entry, behind the port that is selected if one is.
    fn knows(&self, switch: &SwitchName, vlan: u16, mac: Mac, select: &FdbSelect) -> bool {
        let Some(id) = self.live.switches.get(switch) else {
            return false;
        };
        let port = self.datapath.fdb_port(*id, vlan, mac);
        port.is_some() && (select.port.is_none() || self.selected(select) == port)
    }

    /// Forgets a station that was learned, behind the port that is selected if one is; false if there is none.
    fn forget_learned(&self, switch: &SwitchName, vlan: u16, mac: Mac, select: &FdbSelect) -> bool {
        let (Some(id), port) = (self.live.switches.get(switch), self.selected(select)) else {
            return false;
        };
        // A missing port has no entries.
        let gone = (select.port.is_none() || port.is_some()) && self.datapath.fdb_remove_learned(*id, vlan, mac, port);
        if gone {
            self.settle_fastpath();
        }
        gone
    }

    /// The port that is selected, if it is there.
    fn selected(&self, select: &FdbSelect) -> Option<PortId> {
        let live = self.live.ports.get(select.port.as_ref()?)?;
        Some(live.id?.id)
    }

    /// Tells the datapath of a static station.
    pub(super) fn set_station(&self, switch: SwitchId, added: &StaticStation, id: PortId) -> Result<(), ApiError> {
        let (vlan, mac) = fdb_key(added);
        self.datapath.fdb_add_static(switch, vlan, mac, id).map_err(|FdbFull| {
            let object = format!("FDB entry {}", station(added));
            text::conflict(object, "the FDB is full of entries that were set by hand")
                .hint("take some out first: `vswitchctl fdb del`")
        })
    }

    /// Tells the datapath which static stations of a port came and went.
    pub(super) fn change_stations(&self, before: &Port, after: &Port, id: PortId) -> Result<(), ApiError> {
        let Some(switch) = self.live.switches.get(&after.switch).copied() else {
            return Ok(());
        };
        let (before, after) = (stations_in_effect(before), stations_in_effect(after));
        let (gone, new) = changed(&before, &after);
        let mut any = false;
        for (vlan, mac) in gone.map(fdb_key) {
            any = true;
            self.datapath.fdb_remove_static(switch, vlan, mac, id);
        }
        for added in new {
            any = true;
            self.set_station(switch, added, id)?;
        }
        if any {
            self.settle_fastpath();
        }
        Ok(())
    }
}

/// The static stations of a port whose VLANs it is in: where it can't be reached a station is none, so that it is found elsewhere.
pub(super) fn stations_in_effect(port: &Port) -> Vec<StaticStation> {
    let vlan = VlanPort::new(&port.vlan, port.accept);
    let stations = port.stations.iter();
    stations
        .filter(|station| vlan.is_member(fdb_key(station).0))
        .cloned()
        .collect()
}
