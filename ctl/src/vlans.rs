//! VLANs. They are no objects of the daemon: what is told of them follows from the settings of ports and from the FDB.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use vswitch_api::policy::{PortVlan, VLAN_MAX, VlanId};
use vswitch_api::view::{FdbEntry, PortView};
use vswitch_api::{PortName, SwitchName};

/// VLANs in a row that have the same ports.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct VlanRow {
    /// Switch that they are of.
    pub switch: SwitchName,
    /// The first of them.
    pub first: VlanId,
    /// The last of them, which is the first where there is one.
    pub last: VlanId,
    /// Ports that are in them, sorted.
    pub ports: Vec<Member>,
    /// Stations that are known in them.
    pub stations: usize,
}

impl VlanRow {
    fn of_one(switch: &SwitchName, id: VlanId, ports: Vec<Member>, stations: usize) -> Self {
        Self {
            switch: switch.clone(),
            first: id,
            last: id,
            ports,
            stations,
        }
    }

    /// As options take them: `20`, `20-29`.
    pub fn vlans(&self) -> String {
        match self.first == self.last {
            true => self.first.to_string(),
            false => format!("{}-{}", self.first, self.last),
        }
    }
}

/// A port of a VLAN.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Member {
    /// The port.
    pub port: PortName,
    /// By which setting.
    pub mode: Mode,
    /// Frames of the VLAN have a tag there.
    pub tagged: bool,
    /// It is the VLAN of frames without a tag on a trunk.
    pub native: bool,
}

/// By which setting a port is in a VLAN.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// None: it takes every VLAN.
    All,
    /// It is an access port.
    Access,
    /// It is a trunk.
    Trunk,
    /// It carries what comes in inside of the VLAN.
    Tunnel,
}

impl Mode {
    /// The word shown to people, the same as in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Access => "access",
            Self::Trunk => "trunk",
            Self::Tunnel => "tunnel",
        }
    }
}

/// What a port is to a VLAN by its setting, if it has one.
fn member(view: &PortView, id: VlanId) -> Option<Member> {
    let (mode, native) = match &view.port.vlan {
        PortVlan::Access(of) if *of == id => (Mode::Access, false),
        PortVlan::Tunnel(of) if *of == id => (Mode::Tunnel, false),
        PortVlan::Trunk(trunk) if trunk.native == Some(id) => (Mode::Trunk, true),
        PortVlan::Trunk(trunk) if trunk.allowed.contains(id) => (Mode::Trunk, false),
        _ => return None,
    };
    Some(Member {
        port: view.port.name.clone(),
        mode,
        tagged: mode == Mode::Trunk && !native,
        native,
    })
}

/// Switches with their ports, sorted.
fn by_switch(ports: &[PortView]) -> BTreeMap<&SwitchName, Vec<&PortView>> {
    let mut switches = BTreeMap::<_, Vec<_>>::new();
    for view in ports {
        switches.entry(&view.port.switch).or_default().push(view);
    }
    for ports in switches.values_mut() {
        ports.sort_by(|a, b| a.port.name.cmp(&b.port.name));
    }
    switches
}

/// All VLANs that a port is set to be in or a station is known in.
pub fn rows(ports: &[PortView], stations: &[FdbEntry]) -> Vec<VlanRow> {
    let mut rows: Vec<VlanRow> = Vec::new();
    for (switch, ports) in by_switch(ports) {
        let mut known = BTreeMap::<VlanId, usize>::new();
        for vlan in stations.iter().filter(|entry| entry.switch == *switch) {
            if let Some(vlan) = vlan.vlan {
                *known.entry(vlan).or_default() += 1;
            }
        }
        for id in (1..=VLAN_MAX).filter_map(|id| VlanId::try_from(id).ok()) {
            let members: Vec<_> = ports.iter().filter_map(|view| member(view, id)).collect();
            let stations = known.get(&id).copied().unwrap_or_default();
            let goes_on = |row: &&mut VlanRow| {
                row.switch == *switch && row.last.get() + 1 == id.get() && row.ports == members && !members.is_empty()
            };
            if let Some(row) = rows.last_mut().filter(goes_on) {
                row.last = id;
                row.stations += stations;
            } else if !members.is_empty() || stations > 0 {
                rows.push(VlanRow::of_one(switch, id, members, stations));
            }
        }
    }
    rows
}

/// Ports without a VLAN setting, which are in every VLAN.
pub fn unset(ports: &[PortView]) -> BTreeSet<&PortName> {
    let unset = ports.iter().filter(|view| view.port.vlan == PortVlan::All);
    unset.map(|view| &view.port.name).collect()
}

/// One VLAN of each switch, with the ports that are in it because they are in all.
pub fn of_vlan(id: VlanId, ports: &[PortView], stations: &[FdbEntry]) -> Vec<VlanRow> {
    let mut rows = Vec::new();
    for (switch, ports) in by_switch(ports) {
        let any = |view: &PortView| {
            (view.port.vlan == PortVlan::All).then(|| Member {
                port: view.port.name.clone(),
                mode: Mode::All,
                tagged: true,
                native: false,
            })
        };
        let members: Vec<_> = ports.iter().filter_map(|view| member(view, id).or(any(view))).collect();
        let known = |entry: &&FdbEntry| entry.switch == *switch && entry.vlan == Some(id);
        let stations = stations.iter().filter(known).count();
        if !members.is_empty() || stations > 0 {
            rows.push(VlanRow::of_one(switch, id, members, stations));
        }
    }
    rows
}
