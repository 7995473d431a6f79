//! Edits of the FDB: static entries, which are kept with the lab, and learned ones.

use std::sync::Arc;

use vswitch_api::policy::VlanId;
use vswitch_api::request::{FdbAdd, FdbSelect};
use vswitch_api::view::Changes;
use vswitch_api::{ApiError, ErrorCode, SwitchName};

use super::requests::port_mut;
use super::state::StaticEntry;
use super::{Control, text};
use crate::datapath::FdbFilter;

impl Control {
    /// Sets an FDB entry by hand.
    ///
    /// # Errors
    /// NotFound: switch or port. Invalid: no unicast address. Conflict: the port is another switch's, the FDB is full.
    pub async fn fdb_add(&self, switch: &SwitchName, entry: FdbAdd) -> Result<Changes, ApiError> {
        let mut inner = self.begin_edit().await?;
        let id = *inner.switches.get(switch).ok_or_else(|| text::no_switch(switch))?;
        let port = port_mut(&mut inner.state.lab, &entry.port)?;
        let object = format!("FDB entry {}", entry.mac);
        if port.switch != *switch {
            let cause = format!("port \"{}\" is on switch \"{}\"", entry.port, port.switch);
            return Err(text::conflict(object, cause).hint(format!("add --switch {}", port.switch)));
        }
        if !entry.mac.is_unicast() {
            return Err(text::invalid(object, "it is not the address of a station")
                .hint("group addresses are flooded and never in the FDB"));
        }
        let before = inner.state.fdb.clone();
        inner
            .state
            .fdb
            .retain(|old| (&old.switch, old.mac, old.vlan) != (switch, entry.mac, entry.vlan));
        let done = vec![format!("set FDB entry {} behind port {}", entry.mac, entry.port)];
        inner.state.fdb.push(StaticEntry {
            switch: switch.clone(),
            mac: entry.mac,
            vlan: entry.vlan,
            port: entry.port.clone(),
        });
        // On disk first: what fails there has changed nothing.
        if let Err(error) = inner.save() {
            inner.state.fdb = before;
            return Err(error);
        }
        if let Some(port) = inner.ports.get(&entry.port).and_then(|live| live.id)
            && inner
                .datapath
                .fdb_add_static(id, entry.vlan.map_or(0, VlanId::get), entry.mac, port)
                .is_err()
        {
            inner.state.fdb = before;
            inner.save()?;
            return Err(text::conflict(object, "the FDB is full").hint("`vswitchctl fdb flush` makes room"));
        }
        Ok(Changes {
            done,
            warnings: Vec::new(),
        })
    }

    /// Removes one FDB entry, or flushes those that were learned.
    ///
    /// # Errors
    /// NotFound: switch, port or entry.
    pub async fn fdb_remove(&self, switch: &SwitchName, select: FdbSelect) -> Result<Changes, ApiError> {
        let mut inner = self.begin_edit().await?;
        let id = *inner.switches.get(switch).ok_or_else(|| text::no_switch(switch))?;
        let datapath = Arc::clone(&inner.datapath);
        let done = if let Some(mac) = select.mac {
            let before = inner.state.fdb.clone();
            inner
                .state
                .fdb
                .retain(|old| (&old.switch, old.mac, old.vlan) != (switch, mac, select.vlan));
            let was_static = inner.state.fdb != before;
            if was_static && let Err(error) = inner.save() {
                inner.state.fdb = before;
                return Err(error);
            }
            if !datapath.fdb_remove(id, select.vlan.map_or(0, VlanId::get), mac) && !was_static {
                let object = format!("FDB entry {mac}");
                let cause = format!("switch \"{switch}\" has no such entry");
                return Err(ApiError::new(ErrorCode::NotFound, object, cause).hint("`vswitchctl fdb` lists them"));
            }
            format!("removed FDB entry {mac}")
        } else {
            let port = match &select.port {
                Some(name) => {
                    port_mut(&mut inner.state.lab, name)?;
                    match inner.ports.get(name).and_then(|live| live.id) {
                        Some(port) => Some(port),
                        // A missing port has no entries.
                        None => return Ok(Changes::default()),
                    }
                }
                None => None,
            };
            let filter = FdbFilter {
                port,
                vlan: select.vlan.map(VlanId::get),
                sticky: true,
            };
            format!(
                "flushed {} learned entries of switch {switch}",
                datapath.fdb_flush(id, filter)
            )
        };
        inner.settle_fastpath();
        Ok(Changes {
            done: vec![done],
            warnings: Vec::new(),
        })
    }
}
