//! Columns of Open vSwitch's tables Port, Interface and Bridge, as far as something here is what they say: ovs-vswitchd.conf.db(5).

use vswitch_api::policy::{PortVlan, TagKind, Trunk, VlanId, VlanSet};
use vswitch_api::{Lab, Mac, Port, PortKind, RateLimit, ReservedMulticast, Switch};

/// The columns of a port that say its VLANs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VlanColumns {
    tag: Option<VlanId>,
    trunks: Option<VlanSet>,
    mode: Option<Mode>,
    /// No column: kept as it is.
    tag_kind: TagKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Access,
    Trunk,
    NativeUntagged,
    Tunnel,
}

impl Mode {
    fn as_str(self) -> &'static str {
        match self {
            Self::Access => "access",
            Self::Trunk => "trunk",
            Self::NativeUntagged => "native-untagged",
            Self::Tunnel => "dot1q-tunnel",
        }
    }
}

/// All VLANs, which Open vSwitch says by leaving `trunks` empty.
fn all_vlans() -> Option<VlanSet> {
    "all".parse().ok()
}

impl VlanColumns {
    /// What they are for a setting.
    pub fn of(vlan: &PortVlan) -> Self {
        match vlan {
            PortVlan::All => Self::default(),
            PortVlan::Access(id) => Self {
                tag: Some(*id),
                ..Self::default()
            },
            PortVlan::Tunnel(id) => Self {
                tag: Some(*id),
                mode: Some(Mode::Tunnel),
                ..Self::default()
            },
            PortVlan::Trunk(Trunk { allowed, native, tag }) => Self {
                tag: *native,
                trunks: Some(allowed.clone()).filter(|set| native.is_none() || Some(set) != all_vlans().as_ref()),
                mode: native.map(|_| Mode::NativeUntagged),
                tag_kind: *tag,
            },
        }
    }

    /// Sets one of them; an empty value empties it.
    pub fn set(&mut self, column: &str, value: &str) -> Result<(), String> {
        let value = value.trim_matches(['[', ']']).replace(' ', "");
        let said = (!value.is_empty()).then_some(value.as_str());
        match column {
            "tag" => self.tag = said.map(vlan).transpose()?,
            "trunks" => self.trunks = said.map(vlans).transpose()?,
            "vlan_mode" => self.mode = said.map(mode).transpose()?,
            _ => return Err(format!("there is no column {column:?} of VLANs")),
        }
        Ok(())
    }

    /// Puts VLANs into one of them.
    pub fn add(&mut self, column: &str, new: &[VlanId]) -> Result<(), String> {
        let ids = new.iter().map(ToString::to_string);
        match column {
            "tag" => match (self.tag, new) {
                (None, [one]) => self.tag = Some(*one),
                (Some(tag), [one]) if tag == *one => {}
                _ => return Err("a port has one tag at most".to_owned()),
            },
            "trunks" => {
                let there = self.trunks.iter().map(ToString::to_string);
                let all: Vec<_> = there.chain(ids).collect();
                self.trunks = Some(vlans(&all.join(","))?);
            }
            _ => return Err(format!("column {column:?} has no VLANs; tag and trunks have")),
        }
        Ok(())
    }

    /// Takes VLANs out of one of them.
    pub fn remove(&mut self, column: &str, gone: &[VlanId]) -> Result<(), String> {
        match column {
            "tag" => self.tag = self.tag.filter(|tag| !gone.contains(tag)),
            "trunks" => {
                for id in gone {
                    let one: VlanSet = id.to_string().parse().map_err(|e| format!("{e}"))?;
                    self.trunks = self.trunks.take().and_then(|set| set.without(&one));
                }
            }
            _ => return Err(format!("column {column:?} has no VLANs; tag and trunks have")),
        }
        Ok(())
    }

    /// One of them as `ovs-vsctl get` prints it.
    pub fn get(&self, column: &str) -> Option<String> {
        let text = match column {
            "tag" => self.tag.map(|tag| tag.to_string()),
            "trunks" => self.trunks.as_ref().map(|set| format!("[{}]", one_by_one(set))),
            "vlan_mode" => self.mode.map(|mode| mode.as_str().to_owned()),
            _ => return None,
        };
        Some(text.unwrap_or_else(|| "[]".to_owned()))
    }

    /// Those that `ovs-vsctl show` shows.
    pub fn shown(&self) -> Vec<(&'static str, String)> {
        let columns = ["tag", "trunks"].into_iter();
        let shown = columns.filter_map(|column| Some((column, self.get(column)?)));
        shown.filter(|(_, value)| value != "[]").collect()
    }

    /// The setting that they make together.
    pub fn setting(&self) -> Result<PortVlan, String> {
        let needs_tag = |mode: Mode| format!("vlan_mode={} needs a tag; say tag=N with it", mode.as_str());
        match (self.mode, self.tag, &self.trunks) {
            (None, None, None) | (Some(Mode::Trunk), None, None) => Ok(PortVlan::All),
            (None | Some(Mode::Access), Some(tag), None) => Ok(PortVlan::Access(tag)),
            (Some(Mode::Tunnel), Some(tag), None) => Ok(PortVlan::Tunnel(tag)),
            (None | Some(Mode::Trunk), None, Some(trunks)) => Ok(self.trunk(trunks.clone(), None)),
            (Some(Mode::NativeUntagged), Some(tag), trunks) => {
                let trunks = trunks.clone().or_else(all_vlans);
                let trunks = trunks.ok_or("it has no VLANs")?;
                Ok(self.trunk(trunks, Some(tag)))
            }
            (Some(mode @ (Mode::Access | Mode::NativeUntagged | Mode::Tunnel)), None, _) => Err(needs_tag(mode)),
            (Some(Mode::Trunk), Some(tag), _) => Err(format!(
                "a trunk has no tag, and this one would have {tag}; say tag= with it to take that away, or vlan_mode=native-untagged"
            )),
            (None | Some(Mode::Access | Mode::Tunnel), Some(tag), Some(trunks)) => Err(format!(
                "with tag={tag} it is no trunk, and trunks={trunks} would do nothing; say vlan_mode=native-untagged with it, or tag= to \
                 take the tag away"
            )),
        }
    }

    fn trunk(&self, allowed: VlanSet, native: Option<VlanId>) -> PortVlan {
        PortVlan::Trunk(Trunk {
            allowed,
            native,
            tag: self.tag_kind,
        })
    }
}

fn vlan(text: &str) -> Result<VlanId, String> {
    if text == "0" {
        return Err("VLAN 0 is no VLAN here: a port without a tag is in none, or in all; say tag= for that".to_owned());
    }
    text.parse().map_err(|e| format!("{e}"))
}

fn vlans(text: &str) -> Result<VlanSet, String> {
    if text.split(',').any(|part| part == "0" || part.starts_with("0-")) {
        return Err(
            "frames without a tag are not VLAN 0 here; they come in on a trunk with vlan_mode=native-untagged and a tag".to_owned(),
        );
    }
    text.parse().map_err(|e| format!("{e}"))
}

fn mode(text: &str) -> Result<Mode, String> {
    let known = [Mode::Access, Mode::Trunk, Mode::NativeUntagged, Mode::Tunnel];
    if let Some(mode) = known.into_iter().find(|mode| mode.as_str() == text) {
        return Ok(mode);
    }
    Err(match text {
        "native-tagged" => "vlan_mode=native-tagged can't be had: the native VLAN of a trunk has no tag on either way; a trunk without one \
            carries the VLAN with its tag: `vlan_mode=trunk trunks=...`"
            .to_owned(),
        _ => format!("there is no vlan_mode {text:?}; there are access, trunk, native-untagged and dot1q-tunnel"),
    })
}

/// All VLANs of a set, as Open vSwitch writes them.
fn one_by_one(set: &VlanSet) -> String {
    let ids = set.ranges().iter().flat_map(|(first, last)| first.get()..=last.get());
    ids.map(|id| id.to_string()).collect::<Vec<_>>().join(", ")
}

/// A column of an interface as `ovs-vsctl get` prints it.
pub fn interface_get(port: &Port, column: &str) -> Result<String, String> {
    let none = || "[]".to_owned();
    Ok(match column {
        "name" => port.name.to_string(),
        "type" => match interface_type(port) {
            "" => "\"\"".to_owned(),
            word => word.to_owned(),
        },
        "mtu" | "mtu_request" => port.mtu.map_or_else(none, |mtu| mtu.to_string()),
        "mac" | "mac_in_use" => port.mac.map_or_else(none, |mac| format!("{:?}", mac.to_string())),
        "ingress_policing_rate" => (port.police.and_then(|limit| limit.rate_bps).unwrap_or(0) / 1000).to_string(),
        "ingress_policing_burst" => {
            let burst = port.police.and_then(|limit| limit.burst_bytes).unwrap_or(0);
            (u64::from(burst) * 8 / 1000).to_string()
        }
        "options" => peer(port).map_or_else(|| "{}".to_owned(), |peer| format!("{{{peer}}}")),
        _ => return Err(unknown("Interface", column)),
    })
}

/// The type of an interface; empty for one of the host.
pub fn interface_type(port: &Port) -> &str {
    match port.kind {
        PortKind::Device => "",
        PortKind::Link => "patch",
        _ => port.kind.word(),
    }
}

/// The option by which one end of a link names the other.
pub fn peer(port: &Port) -> Option<String> {
    port.peer.as_ref().map(|peer| format!("peer={peer}"))
}

/// Sets a column of an interface; an empty value takes the setting back.
pub fn interface_set(port: &mut Port, column: &str, value: &str) -> Result<(), String> {
    let said = (!value.is_empty() && value != "[]").then_some(value);
    let number = |what: &str| -> Result<Option<u64>, String> {
        let number = said.map(|text| text.parse().map_err(|_| format!("{what} {text:?} is no whole number")));
        number.transpose()
    };
    match column {
        "type" => {
            port.kind = match value {
                "" | "system" => PortKind::Device,
                "internal" => PortKind::Internal,
                other => {
                    return Err(format!(
                        "an interface of type {other:?} is not made here; `vswitchctl add-port --type` has tap, `vswitchctl link add` joins \
                         two switches as patch does"
                    ));
                }
            };
        }
        "mtu_request" => {
            port.mtu = number("MTU")?
                .map(|mtu| u32::try_from(mtu).map_err(|_| format!("MTU {mtu} is too large")))
                .transpose()?;
        }
        "mac" => {
            port.mac = said
                .map(|text| text.parse::<Mac>().map_err(|e| format!("{e}")))
                .transpose()?;
        }
        // Both in kilobits; 0 is none (section "Ingress Policing").
        "ingress_policing_rate" => {
            let rate = number("rate")?.filter(|rate| *rate > 0);
            let limit = port.police.unwrap_or_default();
            port.police = rate.map(|kbps| RateLimit {
                rate_bps: Some(kbps.saturating_mul(1000)),
                ..limit
            });
        }
        "ingress_policing_burst" => {
            let burst = number("burst")?.filter(|burst| *burst > 0);
            let bytes = burst.map(|kbit| u32::try_from(kbit.saturating_mul(125)).unwrap_or(u32::MAX));
            match &mut port.police {
                Some(limit) => limit.burst_bytes = bytes,
                None if bytes.is_none() => {}
                None => {
                    return Err("there is no ingress_policing_rate that it would be the burst of; say both".to_owned());
                }
            }
        }
        "options:peer" => {
            return Err("two ports that are there are not joined; `vswitchctl link add` makes both ends".to_owned());
        }
        _ => return Err(unknown("Interface", column)),
    }
    Ok(())
}

/// A column of a bridge as `ovs-vsctl get` prints it.
pub fn bridge_get(lab: &Lab, switch: &Switch, column: &str) -> Result<String, String> {
    let is_default = switch.ageing_secs == vswitch_api::lab::DEFAULT_AGEING_SECS;
    let forwards = switch.reserved_multicast == ReservedMulticast::All;
    Ok(match column {
        "name" => switch.name.to_string(),
        "datapath_type" => "netdev".to_owned(),
        "fail_mode" => "standalone".to_owned(),
        "stp_enable" | "rstp_enable" | "mcast_snooping_enable" => "false".to_owned(),
        "ports" => {
            let ports = lab.ports.iter().filter(|port| port.switch == switch.name);
            let names: Vec<_> = ports.map(|port| port.name.as_str()).collect();
            format!("[{}]", names.join(", "))
        }
        "other_config:mac-aging-time" => format!("\"{}\"", switch.ageing_secs),
        "other_config:forward-bpdu" => format!("\"{forwards}\""),
        "other_config" => {
            let bpdu = forwards.then(|| "forward-bpdu=\"true\"".to_owned());
            let ageing = (!is_default).then(|| format!("mac-aging-time=\"{}\"", switch.ageing_secs));
            let all: Vec<_> = bpdu.into_iter().chain(ageing).collect();
            format!("{{{}}}", all.join(", "))
        }
        _ => return Err(unknown("Bridge", column)),
    })
}

/// Sets a column of a bridge; an empty value takes the setting back.
pub fn bridge_set(switch: &mut Switch, column: &str, value: &str) -> Result<(), String> {
    let default = Switch::new(switch.name.clone());
    match (column, value) {
        ("other_config:mac-aging-time", "") => switch.ageing_secs = default.ageing_secs,
        ("other_config:mac-aging-time", secs) => {
            let secs = secs.parse();
            switch.ageing_secs = secs.map_err(|_| format!("ageing time {value:?} is no whole number of seconds"))?;
        }
        ("other_config:forward-bpdu", "true") => switch.reserved_multicast = ReservedMulticast::All,
        ("other_config:forward-bpdu", "false" | "") => switch.reserved_multicast = default.reserved_multicast,
        // What is so anyway.
        ("datapath_type", "netdev" | "system" | "") => {}
        ("fail_mode", "standalone" | "" | "[]") => {}
        ("stp_enable" | "rstp_enable" | "mcast_snooping_enable", "false" | "") => {}
        ("fail_mode", _) => return Err("there is no controller, so a switch is always fail_mode=standalone".to_owned()),
        ("stp_enable" | "rstp_enable", _) => {
            return Err(
                "these verbs turn on no spanning tree; `vswitchctl set switch NAME --loop-guard on` cuts loops"
                    .to_owned(),
            );
        }
        _ => return Err(unknown("Bridge", column)),
    }
    Ok(())
}

/// A column that nothing here stands for.
pub fn unknown(table: &str, column: &str) -> String {
    let (set, has) = match table {
        "Bridge" => ("set switch", "other_config:mac-aging-time, other_config:forward-bpdu"),
        "Port" => ("set port", "tag, trunks, vlan_mode"),
        _ => (
            "set port",
            "type, mac, mtu_request, ingress_policing_rate, ingress_policing_burst",
        ),
    };
    format!(
        "column {column:?} of table {table} stands for nothing here; there are {has}, and all settings are in `vswitchctl {set} --help`"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(before: &str, said: &str) -> Result<String, String> {
        let vlan: PortVlan = serde_json::from_str(before).unwrap();
        let mut columns = VlanColumns::of(&vlan);
        for word in said.split(' ') {
            let (column, value) = word.split_once('=').unwrap();
            columns.set(column, value)?;
        }
        Ok(serde_json::to_string(&columns.setting()?).unwrap())
    }

    #[test]
    fn columns_make_a_setting() {
        let all = "\"all\"";
        for (before, said, vlan) in [
            (all, "tag=10", r#"{"access":10}"#),
            (all, "trunks=10,20", r#"{"trunk":{"allowed":"10,20"}}"#),
            (
                all,
                "trunks=[10,20] vlan_mode=trunk",
                r#"{"trunk":{"allowed":"10,20"}}"#,
            ),
            (
                all,
                "vlan_mode=native-untagged tag=5",
                r#"{"trunk":{"allowed":"all","native":5}}"#,
            ),
            (all, "vlan_mode=dot1q-tunnel tag=5", r#"{"tunnel":5}"#),
            (all, "vlan_mode=trunk", all),
            (r#"{"access":10}"#, "tag=[]", all),
            (r#"{"access":10}"#, "tag= trunks=7", r#"{"trunk":{"allowed":"7"}}"#),
            (
                r#"{"trunk":{"allowed":"10","native":5,"tag":"service"}}"#,
                "trunks=11",
                r#"{"trunk":{"allowed":"11","native":5,"tag":"service"}}"#,
            ),
        ] {
            assert_eq!(after(before, said).as_deref(), Ok(vlan), "{before} {said}");
        }
        for (before, said, part) in [
            (all, "vlan_mode=access", "needs a tag"),
            (all, "vlan_mode=native-tagged tag=5", "can't be had"),
            (all, "tag=0", "VLAN 0"),
            (all, "tag=5000", "5000"),
            (all, "trunks=0,5", "native-untagged"),
            (all, "tag=x", "x"),
            (r#"{"access":10}"#, "trunks=7", "tag=10"),
            (r#"{"access":10}"#, "vlan_mode=trunk", "a trunk has no tag"),
        ] {
            let error = after(before, said).expect_err(said);
            assert!(error.contains(part), "{said}: {error}");
        }
    }

    #[test]
    fn a_setting_is_the_same_after_its_columns() {
        for vlan in [
            "\"all\"",
            r#"{"access":10}"#,
            r#"{"tunnel":10}"#,
            r#"{"trunk":{"allowed":"10,20-29"}}"#,
            r#"{"trunk":{"allowed":"10","native":1}}"#,
            r#"{"trunk":{"allowed":"all","native":1}}"#,
            r#"{"trunk":{"allowed":"all"}}"#,
        ] {
            let setting: PortVlan = serde_json::from_str(vlan).unwrap();
            assert_eq!(VlanColumns::of(&setting).setting(), Ok(setting), "{vlan}");
        }
    }
}
