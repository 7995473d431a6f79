//! What the commands share that are called as those of Open vSwitch and of the Linux bridge: edits of the lab that are made all or none, and
//! the exit codes of the originals.

use vswitch_api::request::ChangeOptions;
use vswitch_api::view::Changes;
use vswitch_api::{ApiError, ErrorCode, Lab, Port, PortKind, PortName, Switch, SwitchName};
use vswitch_client::{Method, with_options};

use super::{Session, until_unchanged};
use crate::failure::{EXIT_UNREACHABLE, Failure};
use crate::output::tell;

const LAB: &str = "/v1/lab";

impl Session {
    /// Makes of the lab what `edit` makes of it, all of it or nothing, and gives what `edit` gave.
    pub(super) async fn edit_lab<T>(
        &self,
        options: ChangeOptions,
        edit: impl Fn(&mut Lab) -> Result<T, Failure>,
    ) -> Result<(T, Changes), Failure> {
        until_unchanged(async || {
            let (there, tag): (Lab, _) = self.client.lab_tagged().await?;
            let mut lab = there.clone();
            let answer = edit(&mut lab)?;
            if lab == there {
                return Ok((answer, Changes::default()));
            }
            let path = with_options(LAB, options)?;
            let changes = self
                .client
                .send_if(Method::PUT, &path, tag.as_ref(), Some(&lab))
                .await?;
            Ok((answer, changes))
        })
        .await
    }

    /// Tells what was done in the way of the originals, which say nothing. A dry run and JSON are ours.
    pub(super) fn quietly(&self, changes: &Changes, dry_run: bool) -> Result<(), Failure> {
        if dry_run || self.out.is_form() {
            return self.out.changes(changes, dry_run);
        }
        for warning in &changes.warnings {
            tell!("warning: {warning}");
        }
        Ok(())
    }
}

/// The result with the exit code that the original has where it says no. That the daemon can't be reached, or has gone wrong, is told as ever.
pub(super) fn exits_as<T>(result: Result<T, Failure>, code: u8) -> Result<T, Failure> {
    result.map_err(|failure| match failure {
        Failure::Error { error, exit } if exit != EXIT_UNREACHABLE && error.code != ErrorCode::Internal => {
            Failure::Error { error, exit: code }
        }
        other => other,
    })
}

/// There is none.
pub(super) fn no_switch(name: &SwitchName) -> Failure {
    let cause = "there is no such switch";
    let error = ApiError::new(ErrorCode::NotFound, format!("switch \"{name}\""), cause);
    error.hint("`vswitchctl switch list` shows them").into()
}

/// There is none.
pub(super) fn no_port(name: &PortName) -> Failure {
    let cause = "there is no such port";
    let error = ApiError::new(ErrorCode::NotFound, format!("port \"{name}\""), cause);
    error.hint("`vswitchctl port list` shows them").into()
}

/// Something is there already, or elsewhere.
pub(super) fn conflict(object: String, cause: String, hint: &str) -> Failure {
    ApiError::new(ErrorCode::Conflict, object, cause).hint(hint).into()
}

/// The leg of the host that bears the name of its switch: the local port of Open vSwitch, the device `br0` of a bridge.
pub(super) fn is_local(port: &Port) -> bool {
    port.kind == PortKind::Internal && port.name.as_str() == port.switch.as_str()
}

/// Adds a switch with its local port.
pub(super) fn add_switch(lab: &mut Lab, name: &SwitchName) -> Result<(), Failure> {
    let object = format!("switch \"{name}\"");
    let local: PortName = name.as_str().parse().map_err(|e| {
        Failure::usage(
            &object,
            format!("no interface can have its name: {e}"),
            "choose another",
        )
    })?;
    if lab.switch(name).is_some() {
        let cause = "there is one of this name already".to_owned();
        return Err(conflict(object, cause, "choose another name, or remove it first"));
    }
    if let Some(port) = lab.port(&local) {
        let cause = format!(
            "the host's leg on it would be called so too, and there is a port of this name on switch \"{}\"",
            port.switch
        );
        let hint = format!("choose another name; `vswitchctl switch add {name}` adds one without a leg");
        return Err(conflict(object, cause, &hint));
    }
    lab.switches.push(Switch::new(name.clone()));
    lab.ports.push(Port::new(local, name.clone(), PortKind::Internal));
    Ok(())
}

/// Removes a switch with all its ports.
pub(super) fn remove_switch(lab: &mut Lab, name: &SwitchName) -> Result<(), Failure> {
    if !lab.switches.iter().any(|switch| switch.name == *name) {
        return Err(no_switch(name));
    }
    if name.as_str() == vswitch_api::DEFAULT_SWITCH {
        let cause = "it is the switch that is always there".to_owned();
        return Err(conflict(
            format!("switch \"{name}\""),
            cause,
            "`vswitchctl reset` empties it",
        ));
    }
    let of_switch = lab.ports.iter().filter(|port| port.switch == *name);
    let ports: Vec<_> = of_switch.map(|port| port.name.clone()).collect();
    for port in &ports {
        remove_port(lab, port)?;
    }
    lab.mirrors.retain(|mirror| mirror.switch != *name);
    lab.switches.retain(|switch| switch.name != *name);
    Ok(())
}

/// An interface of the host as a port.
pub(super) fn add_device(lab: &mut Lab, switch: &SwitchName, name: &PortName) -> Result<(), Failure> {
    if let Some(port) = lab.port(name) {
        let cause = format!("there is a port of this name already, on switch \"{}\"", port.switch);
        let hint = "choose another interface, or remove the port first";
        return Err(conflict(format!("port \"{name}\""), cause, hint));
    }
    if lab.switch(switch).is_none() {
        return Err(no_switch(switch));
    }
    lab.ports
        .push(Port::new(name.clone(), switch.clone(), PortKind::Device));
    Ok(())
}

/// Removes a port as the daemon does when it is asked for one: of a link both ends go, and mirrors lose it.
pub(super) fn remove_port(lab: &mut Lab, name: &PortName) -> Result<(), Failure> {
    let port = lab.port(name).ok_or_else(|| no_port(name))?;
    for gone in [Some(name.clone()), port.peer.clone()].into_iter().flatten() {
        lab.ports.retain(|port| port.name != gone);
        lab.mirrors.retain_mut(|mirror| {
            let was = mirror.ports.len();
            mirror.ports.retain(|port| *port != gone);
            mirror.to.as_ref() != Some(&gone) && (was == 0 || !mirror.ports.is_empty())
        });
    }
    Ok(())
}

/// The port of this name.
pub(super) fn port_mut<'a>(lab: &'a mut Lab, name: &PortName) -> Result<&'a mut Port, Failure> {
    lab.port_mut(name).ok_or_else(|| no_port(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lab() -> Lab {
        serde_json::from_value(serde_json::json!({
            "switches": [{"name": "main"}, {"name": "br0"}, {"name": "br1"}],
            "ports": [
                {"name": "br0", "switch": "br0", "kind": "internal"},
                {"name": "a", "switch": "br0"},
                {"name": "b", "switch": "br0"},
                {"name": "up", "switch": "br0", "kind": "link", "peer": "down"},
                {"name": "down", "switch": "br1", "kind": "link", "peer": "up"},
            ],
            "mirrors": [
                {"name": "m1", "switch": "br0", "ports": ["a"], "to": "b"},
                {"name": "m2", "switch": "br0", "ports": ["a", "br0"], "to": "b"},
                {"name": "m3", "switch": "br1", "to": "down"},
            ],
        }))
        .unwrap()
    }

    fn names(lab: &Lab) -> (Vec<&str>, Vec<&str>) {
        let ports = lab.ports.iter().map(|port| port.name.as_str());
        let mirrors = lab.mirrors.iter().map(|mirror| mirror.name.as_str());
        (ports.collect(), mirrors.collect())
    }

    #[test]
    fn a_port_leaves_mirrors_and_takes_the_other_end_of_its_link_along() {
        let mut edited = lab();
        remove_port(&mut edited, &"a".parse().unwrap()).unwrap();
        assert_eq!(names(&edited), (vec!["br0", "b", "up", "down"], vec!["m2", "m3"]));
        remove_port(&mut edited, &"up".parse().unwrap()).unwrap();
        assert_eq!(names(&edited), (vec!["br0", "b"], vec!["m2"]));
    }

    #[test]
    fn a_switch_goes_with_all_that_is_on_it() {
        let mut edited = lab();
        remove_switch(&mut edited, &"br0".parse().unwrap()).unwrap();
        assert_eq!(names(&edited), (vec![], vec![]));
        let left: Vec<_> = edited.switches.iter().map(|switch| switch.name.as_str()).collect();
        assert_eq!(left, ["main", "br1"]);
        assert!(remove_switch(&mut edited, &"main".parse().unwrap()).is_err());
    }
}
