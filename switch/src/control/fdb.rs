//! Edits of the FDB: static entries, which are stations of the lab's ports, and learned ones.

use std::sync::Arc;

use vswitch_api::change::{Change, ChangeAction, ObjectKind};
use vswitch_api::policy::VlanId;
use vswitch_api::request::{FdbAdd, FdbSelect};
use vswitch_api::view::Changes;
use vswitch_api::{ApiError, ErrorCode, Mac, Port, StaticStation, SwitchName};

use super::condition::{Editing, Subject};
use super::named::find;
use super::plan::changed;
use super::view::find_switch;
use super::{Control, Inner, text};
use vswitch_datapath::{EntryKind, FdbFilter, PortId};

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

impl Control {
    /// Puts a station behind a port by hand, wherever it was.
    ///
    /// # Errors
    /// NotFound: switch or port. Invalid: no unicast address. Conflict: the port is another switch's, the FDB is full.
    pub async fn fdb_add(
        &self,
        switch: &SwitchName,
        entry: FdbAdd,
        options: impl Into<Editing>,
    ) -> Result<Changes, ApiError> {
        self.edit(Subject::Stations(switch, Some(&entry.port)), options, |_, lab| {
            find_switch(lab, switch)?;
            let port: &mut Port = find(lab, &entry.port)?;
            if port.switch != *switch {
                let cause = format!("port \"{}\" is on switch \"{}\"", entry.port, port.switch);
                let object = format!("FDB entry {}", entry.mac);
                return Err(text::conflict(object, cause).hint(format!("add --switch {}", port.switch)));
            }
            let station = StaticStation {
                mac: entry.mac,
                vlan: entry.vlan,
            };
            if port.stations.contains(&station) {
                return Ok(());
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
    /// NotFound: switch, port or entry.
    pub async fn fdb_remove(
        &self,
        switch: &SwitchName,
        select: FdbSelect,
        options: impl Into<Editing>,
    ) -> Result<Changes, ApiError> {
        let options = options.into();
        match select.mac {
            Some(mac) => {
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
        let dry_run = options.dry_run;
        let mut changes = self
            .edit(
                Subject::Stations(switch, select.port.as_ref()),
                options.clone(),
                |inner, lab| {
                    find_switch(lab, switch)?;
                    if let Some(name) = &select.port {
                        find::<Port>(lab, name)?;
                    }
                    let here = |port: &&mut Port| {
                        port.switch == *switch && select.port.as_ref().is_none_or(|name| port.name == *name)
                    };
                    let mut found = inner.knows(switch, vlan, mac, &select);
                    for port in lab.ports.iter_mut().filter(here) {
                        let count = port.stations.len();
                        port.stations.retain(|old| *old != removed);
                        found |= port.stations.len() < count;
                    }
                    if found || options.idempotent {
                        return Ok(());
                    }
                    let object = format!("FDB entry {}", station(&removed));
                    let cause = format!("switch \"{switch}\" has no such entry");
                    Err(ApiError::new(ErrorCode::NotFound, object, cause).hint("`vswitchctl fdb` lists them"))
                },
            )
            .await?;
        let inner = self.inner.lock().await;
        // One that was learned is not the lab's; of a static one nothing is left by now, unless it was set anew.
        let gone = if dry_run {
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

impl Inner {
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

    /// Tells the datapath which static stations of a port came and went.
    pub(super) fn change_stations(&self, before: &Port, after: &Port, id: PortId) -> Result<(), ApiError> {
        let Some(switch) = self.live.switches.get(&after.switch).copied() else {
            return Ok(());
        };
        let (gone, new) = changed(&before.stations, &after.stations);
        let mut any = false;
        for (vlan, mac) in gone.map(fdb_key) {
            any = true;
            self.datapath.fdb_remove_static(switch, vlan, mac, id);
        }
        for added in new {
            any = true;
            let (vlan, mac) = fdb_key(added);
            if self.datapath.fdb_add_static(switch, vlan, mac, id).is_err() {
                let object = format!("FDB entry {}", station(added));
                return Err(text::conflict(object, "the FDB is full").hint("`vswitchctl fdb flush` makes room"));
            }
        }
        if any {
            self.settle_fastpath();
        }
        Ok(())
    }
}
