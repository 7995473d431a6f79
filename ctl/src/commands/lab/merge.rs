//! A lab file made to say what a lab is now. What stays so is left as it is written, with comments, order, ranges and words of the file's
//! own; what has changed is edited in its place; what is new comes last.

use std::ops::Range;

use serde::Serialize;
use serde_json::Value;
use toml_edit::{Array, ArrayOfTables, DocumentMut, Item};
use vswitch_api::owned::CableEnds;
use vswitch_api::{ApiError, Cable, DEFAULT_SWITCH, ErrorCode, Lab, LabNamespace, Link, Port, PortName, Switch};

use super::links;
use super::read::{LabFile, of_text};
use super::rows::{self, Object, Rows, settle};
use crate::failure::Failure;

/// The text, and what is to be told of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Merged {
    /// It.
    pub text: String,
    /// What could not stay as it was written.
    pub notes: Vec<String>,
}

/// The text of the file, made to say what is wanted.
pub fn merge(file: &LabFile, wanted: &Lab) -> Result<Merged, Failure> {
    let mut document: DocumentMut = file.text().parse().map_err(|e| internal(file, &e))?;
    let mut notes = Vec::new();
    let mut wanted = wanted.clone();
    leave_gateways_open(file, &mut wanted);
    let wanted_links = settle_links(file, &mut wanted, &mut document, &mut notes);
    for (list, plan) in plans(&file.lab, &wanted) {
        // Those are settled below.
        if list != "namespaces" {
            carry_out(&mut document, list, &file.groups(list), plan, &mut notes);
        }
    }
    settle_namespaces(file, &wanted.namespaces, &mut document, &mut notes);
    let text = document.to_string();
    wanted.links = wanted_links;
    check(file, &text, &wanted)?;
    Ok(Merged { text, notes })
}

/// What becomes of a list.
struct Plan {
    /// What each item of the file said, and what it is to say; none: it goes.
    items: Vec<(Object, Option<Object>)>,
    /// What the file has not.
    new: Vec<Object>,
}

/// What becomes of each list where `said` is to be `wanted`.
fn plans(said: &Lab, wanted: &Lab) -> [(&'static str, Plan); 7] {
    let fits = |a: &Cable, b: &Cable| CableEnds::from(a).fits(b);
    [
        (
            "switches",
            plan(&said.switches, &wanted.switches, |a, b| a.name == b.name, fill_none),
        ),
        (
            "ports",
            plan(&said.ports, &wanted.ports, |a, b| a.name == b.name, fill_port),
        ),
        ("cables", plan(&said.cables, &wanted.cables, fits, fill_cable)),
        (
            "mirrors",
            plan(&said.mirrors, &wanted.mirrors, |a, b| a.name == b.name, fill_none),
        ),
        (
            "commands",
            plan(&said.commands, &wanted.commands, |a, b| a.name == b.name, fill_none),
        ),
        (
            "namespaces",
            plan(&said.namespaces, &wanted.namespaces, |a, b| a.name == b.name, fill_none),
        ),
        (
            "labs",
            plan(&said.labs, &wanted.labs, |a, b| a.name == b.name, fill_none),
        ),
    ]
}

fn plan<T: Serialize>(
    said: &[T],
    wanted: &[T],
    same: impl Fn(&T, &T) -> bool,
    fill: impl Fn(&Object, &mut Object),
) -> Plan {
    let mut used = vec![false; wanted.len()];
    let items = said.iter().map(|item| {
        let said = object(item);
        let found = (0..wanted.len()).find(|n| !used[*n] && same(item, &wanted[*n]));
        let wanted = found.map(|n| {
            used[n] = true;
            let mut wanted = object(&wanted[n]);
            fill(&said, &mut wanted);
            wanted
        });
        (said, wanted)
    });
    let items = items.collect();
    let new = wanted.iter().zip(&used).filter(|(_, used)| !**used);
    let new = new.map(|(item, _)| object(item)).filter(|item| !is_always_there(item));
    Plan {
        items,
        new: new.collect(),
    }
}

fn object(item: &impl Serialize) -> Object {
    match serde_json::to_value(item) {
        Ok(Value::Object(members)) => members,
        // A namespace of which nothing but the name is said.
        Ok(name @ Value::String(_)) => Object::from_iter([("name".to_owned(), name)]),
        _ => Object::new(),
    }
}

/// The switch that is there in any case, with nothing said of it.
fn is_always_there(item: &Object) -> bool {
    DEFAULT_SWITCH
        .parse()
        .is_ok_and(|name| object(&Switch::new(name)) == *item)
}

fn carry_out(document: &mut DocumentMut, list: &str, groups: &[Range<usize>], mut plan: Plan, notes: &mut Vec<String>) {
    if groups.is_empty() && plan.new.is_empty() {
        return;
    }
    let item = document
        .entry(list)
        .or_insert_with(|| Item::ArrayOfTables(ArrayOfTables::new()));
    if item.as_array().is_some_and(Array::is_empty) && !plan.new.is_empty() {
        *item = Item::ArrayOfTables(ArrayOfTables::new());
    }
    let Some(mut rows) = Rows::of(item) else { return };
    let mut gone = Vec::new();
    for (n, group) in groups.iter().enumerate() {
        let items = plan.items.get(group.clone()).unwrap_or_default();
        match items {
            [(_, None)] => gone.push(n),
            // Also a range stands as long as all that it makes is as it says.
            same if same.iter().all(|(said, wanted)| wanted.as_ref() == Some(said)) => {}
            [(said, Some(wanted))] if rows.row(n).is_some_and(|row| !rows::has_range(row)) => {
                if let Some(row) = rows.row(n) {
                    settle(row, said, wanted);
                }
            }
            many => {
                gone.push(n);
                plan.new.extend(many.iter().filter_map(|(_, wanted)| wanted.clone()));
                let name = rows.row(n).and_then(|row| Some(row.get("name")?.as_str()?.to_owned()));
                let name = name.unwrap_or_else(|| format!("number {}", n + 1));
                notes.push(format!(
                    "{name} of `{list}` is written out, as not all that the range makes is as it says any more"
                ));
            }
        }
    }
    let kept = rows.remove(&gone);
    plan.new.iter().for_each(|row| rows.push(row));
    if rows.len() == 0 {
        document.remove(list);
    }
    if !kept.is_empty() {
        let trailing = document.trailing().as_str().unwrap_or_default().to_owned();
        document.set_trailing(format!("{kept}{trailing}"));
    }
}

fn fill_none(_: &Object, _: &mut Object) {}

/// Takes out what the daemon chose where the file left it open.
fn fill_port(said: &Object, wanted: &mut Object) {
    let name = wanted.get("name").cloned();
    let open = |key: &str| !said.contains_key(key);
    if open("mac") {
        wanted.remove("mac");
    }
    if open("namespace") && wanted.get("namespace") == name.as_ref() {
        wanted.remove("namespace");
    }
    if open("ifname")
        && wanted
            .get("ifname")
            .is_some_and(|ifname| is_chosen(ifname) || Some(ifname) == name.as_ref())
    {
        wanted.remove("ifname");
    }
    if said.get("auto_addresses") == Some(&Value::Bool(true))
        && wanted.get("auto_addresses") == Some(&Value::Bool(true))
    {
        if open("addresses") {
            wanted.remove("addresses");
        }
        if open("routes") {
            let is_default = |route: &Value| route.get("to").is_some_and(|to| *to == "0.0.0.0/0" || *to == "::/0");
            let routes = wanted.get_mut("routes").and_then(Value::as_array_mut);
            routes
                .into_iter()
                .for_each(|routes| routes.retain(|route| !is_default(route)));
            if wanted
                .get("routes")
                .and_then(Value::as_array)
                .is_some_and(Vec::is_empty)
            {
                wanted.remove("routes");
            }
        }
    }
    fill_routes(said, wanted);
}

fn fill_cable(said: &Object, wanted: &mut Object) {
    for end in ["a", "b"] {
        let (Some(Value::Object(said)), Some(Value::Object(wanted))) = (said.get(end), wanted.get_mut(end)) else {
            continue;
        };
        if !said.contains_key("mac") {
            wanted.remove("mac");
        }
        if !said.contains_key("ifname") && wanted.get("ifname").is_some_and(is_chosen) {
            wanted.remove("ifname");
        }
        fill_routes(said, wanted);
    }
}

/// `eth0`, `eth1`: what the daemon calls interfaces that nobody named.
fn is_chosen(ifname: &Value) -> bool {
    let number = ifname.as_str().and_then(|name| name.strip_prefix("eth"));
    number.is_some_and(|number| number.parse::<u16>().is_ok())
}

/// Where an interface has addresses of hosts only, next hops are on the link.
fn fill_routes(said: &Object, wanted: &mut Object) {
    let said: Vec<_> = said
        .get("routes")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .collect();
    let routes = wanted.get_mut("routes").and_then(Value::as_array_mut);
    for route in routes.into_iter().flatten() {
        let mut open = route.clone();
        if let Some(members) = open.as_object_mut() {
            members.remove("onlink");
        }
        let implied = |said: &&Value| {
            let mut said = (*said).clone();
            let onlink = said.as_object_mut().and_then(|members| members.remove("onlink"));
            said == open && onlink != Some(Value::Bool(true))
        };
        if let Some(said) = said.iter().copied().find(implied) {
            *route = said.clone();
        }
    }
}

/// Gateways come with the setting of their switch: the file need not name them.
fn leave_gateways_open(file: &LabFile, wanted: &mut Lab) {
    let gateways = wanted.switches.iter().filter_map(|switch| wanted.gateway_of(switch));
    let gateways: Vec<_> = gateways.map(|port| port.name.clone()).collect();
    let is_said = |port: &Port| file.lab.ports.iter().any(|said| said.name == port.name);
    wanted
        .ports
        .retain(|port| !gateways.contains(&port.name) || is_said(port));
}

/// A link stands as long as both of its ports are as it says; else they are ports. Gives those that stand.
fn settle_links(file: &LabFile, wanted: &mut Lab, document: &mut DocumentMut, notes: &mut Vec<String>) -> Vec<Link> {
    let mut stands = Vec::new();
    for link in &file.lab.links {
        let as_said = |ends: &(&Port, &Port)| {
            let laid = laid(link, [&ends.0.name, &ends.1.name]);
            laid.iter().zip([ends.0, ends.1]).all(|(said, there)| {
                let (said, mut there) = (object(said), object(there));
                fill_port(&said, &mut there);
                said == there
            })
        };
        let found = links::pairs(wanted, link).find(as_said);
        let names = found.map(|(a, b)| [a.name.clone(), b.name.clone()]);
        if let Some(names) = &names {
            wanted.ports.retain(|port| !names.contains(&port.name));
        }
        stands.push(names);
    }
    let is_whole = |group: &Range<usize>| group.clone().all(|n| stands.get(n).is_some_and(Option::is_some));
    let groups = file.groups("links");
    let gone: Vec<_> = (0..groups.len()).filter(|n| !is_whole(&groups[*n])).collect();
    if let Some(mut rows) = document.get_mut("links").and_then(Rows::of) {
        // What stood before it is about links.
        rows.remove(&gone);
        if rows.len() == 0 {
            document.remove("links");
        }
    }
    let mut left = Vec::new();
    for (n, group) in groups.iter().enumerate() {
        let links = file.lab.links.get(group.clone()).unwrap_or_default();
        if !gone.contains(&n) {
            left.extend(links.iter().cloned());
            continue;
        }
        notes.push(format!(
            "number {} of `links` is gone, or its ports are written out as they are not as it says any more",
            n + 1
        ));
        // Of a range those that stand.
        for (link, names) in links.iter().zip(stands.get(group.clone()).unwrap_or_default()) {
            let Some([a, b]) = names else { continue };
            wanted.ports.extend(laid(link, [a, b]));
        }
    }
    left
}

/// The two ports of a link, by these names.
fn laid(link: &Link, [a, b]: [&PortName; 2]) -> Vec<Port> {
    let mut lab = Lab {
        links: vec![Link {
            name_a: Some(a.clone()),
            name_b: Some(b.clone()),
            ..link.clone()
        }],
        ..Lab::default()
    };
    lab.lay_links();
    lab.ports
}

/// They are tables, or a list of names; of a list each can be a table too.
fn settle_namespaces(file: &LabFile, wanted: &[LabNamespace], document: &mut DocumentMut, notes: &mut Vec<String>) {
    let groups = file.groups("namespaces");
    let said = &file.lab.namespaces;
    let is_list = document.get("namespaces").map_or_else(
        || wanted.iter().all(LabNamespace::is_plain),
        |item| item.is_array() && !groups.is_empty(),
    );
    if !is_list {
        let plan = plan(said, wanted, |a, b| a.name == b.name, fill_none);
        return carry_out(document, "namespaces", &groups, plan, notes);
    }
    // An entry stays if all that it makes is there as it says, and not said before.
    let (mut new, mut gone): (Vec<_>, Vec<_>) = (wanted.iter().collect(), Vec::new());
    for (n, group) in groups.iter().enumerate() {
        let made = said.get(group.clone()).unwrap_or_default();
        if made.iter().all(|one| new.contains(&one)) {
            new.retain(|one| !made.contains(one));
        } else {
            gone.push(n);
        }
    }
    if groups.is_empty() && new.is_empty() {
        return;
    }
    let item = document
        .entry("namespaces")
        .or_insert_with(|| Item::Value(Array::new().into()));
    let Some(array) = item.as_array_mut() else { return };
    gone.iter().rev().for_each(|n| rows::take(array, *n));
    for one in new {
        let one = serde_json::to_value(one).unwrap_or_default();
        rows::push(array, rows::toml(&one));
    }
    if array.is_empty() {
        document.remove("namespaces");
    }
}

/// The text is to be read as what is wanted, or it is not written.
fn check(file: &LabFile, text: &str, wanted: &Lab) -> Result<(), Failure> {
    let read = of_text(&file.path, text).map_err(|report| internal(file, &report.text()))?;
    let is_same = |(_, plan): &(&str, Plan)| {
        plan.new.is_empty() && plan.items.iter().all(|(said, wanted)| wanted.as_ref() == Some(said))
    };
    let links = |lab: &Lab| serde_json::to_value(&lab.links).unwrap_or_default();
    match plans(&read.lab, wanted).iter().all(is_same) && links(&read.lab) == links(wanted) {
        true => Ok(()),
        false => Err(internal(file, &"it would say something else")),
    }
}

fn internal(file: &LabFile, cause: &dyn std::fmt::Display) -> Failure {
    let cause = format!("what there is could not be written into it: {cause}");
    ApiError::new(ErrorCode::Internal, format!("lab file {}", file.path), cause)
        .hint("nothing was written; `vswitchctl export` prints a file of its own")
        .into()
}

#[cfg(test)]
mod tests;
