//! Labs side by side: the wanted whole when one comes, changes or goes, and the others stay as they are.

use vswitch_api::owned::CableEnds;
use vswitch_api::{ApiError, Cable, ErrorCode, Lab, LabName, OwnedByLab, Switch};

use super::links;

/// What is there with this lab as its file says, in place of what the lab owned until now.
pub fn with(there: &Lab, file: &Lab, name: &LabName) -> Result<Lab, ApiError> {
    let mut wanted = match there.owned_by(name) {
        Some(owned) => less(there, owned),
        None => there.clone(),
    };
    let file = &links::laid(file, there, there.owned_by(name), &wanted.ports)?;
    let mut owned = OwnedByLab::new(name.clone());
    for switch in &file.switches {
        let at = wanted.switches.iter().position(|other| other.name == switch.name);
        let is_owned = wanted.labs.iter().any(|lab| lab.switches.contains(&switch.name));
        match at {
            // Shared: it stays when this lab goes.
            Some(at) if wanted.switches[at] == *switch => continue,
            // The one that is always there is anybody's until it is somebody's.
            Some(at) if !is_owned && wanted.switches[at] == Switch::new(switch.name.clone()) => {
                wanted.switches[at] = switch.clone();
            }
            Some(_) => {
                let by = owner(&wanted, |lab| lab.switches.contains(&switch.name));
                let cause = format!("it is there with other settings, {by}");
                return Err(
                    ApiError::new(ErrorCode::Conflict, object("switch", &switch.name), cause)
                        .hint("give the lab a switch of its own, or write the same settings"),
                );
            }
            None => wanted.switches.push(switch.clone()),
        }
        owned.switches.push(switch.name.clone());
    }
    for namespace in &file.namespaces {
        match wanted.namespace(&namespace.name) {
            None => {
                wanted.namespaces.push(namespace.clone());
                owned.namespaces.push(namespace.name.clone());
            }
            // Shared: it stays when this lab goes.
            Some(there) if there == namespace || namespace.is_plain() => {}
            Some(_) => {
                let by = owner(&wanted, |lab| lab.namespaces.contains(&namespace.name));
                let cause = format!("it is there with other settings, {by}");
                return Err(
                    ApiError::new(ErrorCode::Conflict, object("namespace", &namespace.name), cause)
                        .hint("write the same settings, or take them out of the other"),
                );
            }
        }
    }
    for port in &file.ports {
        if wanted.port(&port.name).is_some() {
            let by = owner(&wanted, |lab| lab.ports.contains(&port.name));
            return Err(taken("port", &port.name, &by, "vswitchctl del-port"));
        }
        owned.ports.push(port.name.clone());
    }
    for mirror in &file.mirrors {
        if wanted.mirrors.iter().any(|other| other.name == mirror.name) {
            let by = owner(&wanted, |lab| lab.mirrors.contains(&mirror.name));
            return Err(taken("mirror", &mirror.name, &by, "vswitchctl mirror del"));
        }
        owned.mirrors.push(mirror.name.clone());
    }
    for command in &file.commands {
        if wanted.commands.iter().any(|other| other.name == command.name) {
            let by = owner(&wanted, |lab| lab.commands.contains(&command.name));
            let cause = format!("there is one of this name already, {by}");
            return Err(
                ApiError::new(ErrorCode::Conflict, object("command", &command.name), cause)
                    .hint("choose another name, or take that lab down first"),
            );
        }
        owned.commands.push(command.name.clone());
    }
    wanted.commands.extend(file.commands.iter().cloned());
    owned.cables = file.cables.iter().map(CableEnds::from).collect();
    wanted.ports.extend(file.ports.iter().cloned());
    wanted.mirrors.extend(file.mirrors.iter().cloned());
    wanted.cables.extend(file.cables.iter().cloned());
    if !owned.is_empty() {
        wanted.labs.push(owned);
    }
    check_switches(&wanted)?;
    Ok(wanted)
}

/// What is there without a lab.
pub fn without(there: &Lab, owned: &OwnedByLab) -> Result<Lab, ApiError> {
    let wanted = less(there, owned);
    check_switches(&wanted)?;
    Ok(wanted)
}

/// What a file names of what is there and no lab owns: made by `apply`, or one by one.
pub fn named(there: &Lab, file: &Lab, name: &LabName) -> OwnedByLab {
    let mut found = OwnedByLab::new(name.clone());
    let linked = file.links.iter().flat_map(|link| links::pairs(there, link));
    let linked: Vec<_> = linked.flat_map(|(a, b)| [&a.name, &b.name]).collect();
    let ports = there.ports.iter().map(|port| &port.name);
    let ports = ports.filter(|name| linked.contains(name) || file.port(name).is_some());
    found.ports = free(there, ports, |lab| &lab.ports);
    let mirrors = there.mirrors.iter().map(|mirror| &mirror.name);
    let mirrors = mirrors.filter(|name| file.mirrors.iter().any(|mirror| mirror.name == **name));
    found.mirrors = free(there, mirrors, |lab| &lab.mirrors);
    let commands = there.commands.iter().map(|command| &command.name);
    let commands = commands.filter(|name| file.commands.iter().any(|command| command.name == **name));
    found.commands = free(there, commands, |lab| &lab.commands);
    let namespaces = there.namespaces.iter().map(|there| &there.name);
    found.namespaces = free(there, namespaces.filter(|name| file.asks_for(name)), |lab| {
        &lab.namespaces
    });
    let switches = there.switches.iter().map(|switch| &switch.name);
    let switches = switches.filter(|name| file.switch(name).is_some());
    found.switches = free(there, switches, |lab| &lab.switches);
    let is_owned = |cable: &Cable| {
        there
            .labs
            .iter()
            .any(|lab| lab.cables.iter().any(|ends| ends.fits(cable)))
    };
    let cables = there.cables.iter().filter(|cable| {
        let named = file.cables.iter().any(|wanted| CableEnds::from(wanted).fits(cable));
        named && !is_owned(cable)
    });
    found.cables = cables.map(CableEnds::from).collect();
    found
}

/// Those of these names that no lab owns.
fn free<'a, T: Clone + PartialEq + 'a>(
    there: &Lab,
    names: impl Iterator<Item = &'a T>,
    owned: impl Fn(&OwnedByLab) -> &Vec<T>,
) -> Vec<T> {
    let is_owned = |name: &T| there.labs.iter().any(|lab| owned(lab).contains(name));
    names.filter(|name| !is_owned(name)).cloned().collect()
}

fn less(there: &Lab, owned: &OwnedByLab) -> Lab {
    let mut left = there.clone();
    left.labs.retain(|lab| lab.name != owned.name);
    left.switches.retain(|switch| !owned.switches.contains(&switch.name));
    left.namespaces.retain(|there| !owned.namespaces.contains(&there.name));
    let ports: std::collections::HashSet<_> = owned.ports.iter().collect();
    left.ports.retain(|port| !ports.contains(&port.name));
    left.mirrors.retain(|mirror| !owned.mirrors.contains(&mirror.name));
    left.commands.retain(|command| !owned.commands.contains(&command.name));
    left.cables
        .retain(|cable| !owned.cables.iter().any(|ends| ends.fits(cable)));
    // The one that is always there goes back to its defaults.
    let main = || vswitch_api::DEFAULT_SWITCH.parse().map(Switch::new);
    if !left
        .switches
        .iter()
        .any(|switch| switch.name.as_str() == vswitch_api::DEFAULT_SWITCH)
    {
        left.switches.extend(main());
    }
    left
}

/// A port of another lab on a switch that goes.
fn check_switches(wanted: &Lab) -> Result<(), ApiError> {
    for port in &wanted.ports {
        if wanted.switch(&port.switch).is_none() {
            let by = owner(wanted, |lab| lab.ports.contains(&port.name));
            let cause = format!("it would go, and port {} is on it, {by}", port.name);
            return Err(
                ApiError::new(ErrorCode::Conflict, object("switch", &port.switch), cause)
                    .hint("remove that port first, or name the switch in its lab too"),
            );
        }
    }
    Ok(())
}

fn owner(there: &Lab, owns: impl Fn(&OwnedByLab) -> bool) -> String {
    match there.labs.iter().find(|lab| owns(lab)) {
        Some(lab) => format!("which belongs to lab {}", lab.name),
        None => "which belongs to no lab".to_owned(),
    }
}

fn object(kind: &str, name: &impl ToString) -> String {
    format!("{kind} {:?}", name.to_string())
}

fn taken(kind: &str, name: &impl ToString, by: &str, remove: &str) -> ApiError {
    let cause = format!("there is one of this name already, {by}");
    ApiError::new(ErrorCode::Conflict, object(kind, name), cause).hint(format!(
        "choose another name, or remove that one: {remove} {}",
        name.to_string()
    ))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn lab(value: serde_json::Value) -> Lab {
        serde_json::from_value(value).unwrap()
    }

    fn name(name: &str) -> LabName {
        name.parse().unwrap()
    }

    #[test]
    fn labs_come_change_and_go_by_themselves() {
        let there = lab(json!({"switches": [{"name": "main"}], "ports": [{"name": "old"}]}));
        let a = lab(json!({"switches": [{"name": "sa"}], "ports": [{"name": "a1", "switch": "sa"}, {"name": "a2"}]}));
        let b = lab(json!({"switches": [{"name": "sa"}], "ports": [{"name": "b1"}], "namespaces": ["b"]}));
        let one = with(&there, &a, &name("a")).unwrap();
        let both = with(&one, &b, &name("b")).unwrap();
        let ports = |lab: &Lab| lab.ports.iter().map(|port| port.name.to_string()).collect::<Vec<_>>();
        assert_eq!(ports(&both), ["old", "a1", "a2", "b1"]);
        // The switch is a's; b shares it.
        assert!(both.owned_by(&name("b")).unwrap().switches.is_empty());
        let smaller = lab(json!({"switches": [{"name": "sa"}], "ports": [{"name": "a2"}]}));
        let both = with(&both, &smaller, &name("a")).unwrap();
        assert_eq!(ports(&both), ["old", "b1", "a2"]);
        let left = without(&both, both.owned_by(&name("a")).unwrap()).unwrap();
        assert_eq!(ports(&left), ["old", "b1"]);
        assert_eq!(left.labs.len(), 1);
        let left = without(&left, left.owned_by(&name("b")).unwrap()).unwrap();
        assert_eq!(left, there);
    }

    #[test]
    fn a_link_belongs_to_its_lab_with_both_ports() {
        let there = lab(json!({"switches": [{"name": "main"}], "ports": [{"name": "main-sw2"}]}));
        let file = lab(json!({
            "switches": [{"name": "sw2"}], "links": [{"a": "main", "b": "sw2", "vlan": {"access": 10}}]
        }));
        let up = with(&there, &file, &name("a")).unwrap();
        let owned = up.owned_by(&name("a")).unwrap();
        let ports: Vec<_> = owned.ports.iter().map(ToString::to_string).collect();
        assert_eq!(ports, ["main-sw2-2", "sw2-main"]);
        assert_eq!(with(&up, &file, &name("a")).unwrap(), up);
        assert_eq!(without(&up, owned).unwrap(), there);
        // A lab that has it on its switch keeps that from going.
        let other = lab(json!({"links": [{"a": "main", "b": "sw2"}]}));
        let both = with(&up, &other, &name("b")).unwrap();
        let error = without(&both, both.owned_by(&name("a")).unwrap()).unwrap_err();
        assert!(error.to_string().contains("which belongs to lab b"), "{error}");
        // What was made by `apply` is no lab's.
        let mut applied = up.clone();
        applied.labs.clear();
        assert_eq!(named(&applied, &file, &name("a")).ports, owned.ports);
    }

    #[test]
    fn what_another_made_is_not_taken() {
        let there = lab(json!({
            "switches": [{"name": "main"}, {"name": "x", "ageing_secs": 5}],
            "ports": [{"name": "a1", "switch": "x"}, {"name": "free"}],
            "labs": [{"name": "a", "ports": ["a1"]}, {"name": "c", "switches": ["x"]}]
        }));
        for (file, words) in [
            (json!({"ports": [{"name": "a1"}]}), "belongs to lab a"),
            (json!({"ports": [{"name": "free"}]}), "belongs to no lab"),
            (
                json!({"switches": [{"name": "x"}]}),
                "other settings, which belongs to lab c",
            ),
        ] {
            let error = with(&there, &lab(file), &name("b")).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
        let error = without(&there, there.owned_by(&name("c")).unwrap())
            .unwrap_err()
            .to_string();
        assert!(error.contains("port a1 is on it, which belongs to lab a"), "{error}");
    }
}
