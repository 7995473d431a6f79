//! What an edit that nobody has seen the end of has made of a lab, as told from what was asked for.

use vswitch_api::owned::CableEnds;
use vswitch_api::{Cable, Lab, LabName, OwnedByLab};

/// The lab that such an edit has left, for [`Lab::take_back`]: what there is now, without what others have done since. `before`: the lab
/// before the edit; `wanted`: what was asked for, which the daemon may have filled in; `name`: the lab that it is about.
pub(super) fn left_by(now: &Lab, before: &Lab, wanted: &Lab, name: Option<&LabName>) -> Lab {
    let new = OwnedByLab::new;
    let owned = name.map(|name| now.owned_by(name).cloned().unwrap_or_else(|| new(name.clone())));
    let is_owned = |is_in: &dyn Fn(&OwnedByLab) -> bool| owned.as_ref().is_some_and(is_in);
    let is_pair = |a: &Cable, b: &Cable| CableEnds::from(a).fits(b) || CableEnds::from(b).fits(a);
    Lab {
        switches: left(
            &now.switches,
            &before.switches,
            &wanted.switches,
            |a, b| a.name == b.name,
            |one| is_owned(&|lab| lab.switches.contains(&one.name)),
        ),
        namespaces: left(
            &now.namespaces,
            &before.namespaces,
            &wanted.namespaces,
            |a, b| a.name == b.name,
            |one| is_owned(&|lab| lab.namespaces.contains(&one.name)),
        ),
        ports: left(
            &now.ports,
            &before.ports,
            &wanted.ports,
            |a, b| a.name == b.name,
            |one| is_owned(&|lab| lab.ports.contains(&one.name)),
        ),
        cables: left(&now.cables, &before.cables, &wanted.cables, is_pair, |one| {
            is_owned(&|lab| lab.cables.iter().any(|ends| ends.fits(one)))
        }),
        commands: left(
            &now.commands,
            &before.commands,
            &wanted.commands,
            |a, b| a.name == b.name,
            |one| is_owned(&|lab| lab.commands.contains(&one.name)),
        ),
        mirrors: left(
            &now.mirrors,
            &before.mirrors,
            &wanted.mirrors,
            |a, b| a.name == b.name,
            |one| is_owned(&|lab| lab.mirrors.contains(&one.name)),
        ),
        labs: left(
            &now.labs,
            &before.labs,
            &wanted.labs,
            |a, b| a.name == b.name,
            |one| Some(&one.name) == name,
        ),
        links: now.links.clone(),
    }
}

/// The same of one list. `is_owned`: whether something is the edit's though it was not asked for by its name.
fn left<T: Clone + PartialEq>(
    now: &[T],
    before: &[T],
    wanted: &[T],
    same: impl Fn(&T, &T) -> bool,
    is_owned: impl Fn(&T) -> bool,
) -> Vec<T> {
    let find = |list: &[T], one: &T| list.iter().find(|other| same(one, other)).cloned();
    let there = now.iter().filter_map(|one| {
        let (old, asked) = (find(before, one), find(wanted, one));
        let is_of_edit = match (&old, &asked) {
            (Some(old), Some(asked)) => old != asked,
            (None, Some(_)) => true,
            (Some(_), None) => false,
            (None, None) => is_owned(one),
        };
        if is_of_edit { Some(one.clone()) } else { old }
    });
    // What others have removed, and not the edit.
    let gone = before
        .iter()
        .filter(|old| find(now, old).is_none() && find(wanted, old).is_some());
    there.chain(gone.cloned()).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn lab(value: Value) -> Lab {
        serde_json::from_value(value).unwrap()
    }

    /// Another has added a port and set one meanwhile; links are two ports each, by names that the daemon chose.
    #[test]
    fn what_others_did_stays_when_an_edit_is_taken_back() {
        let port = |name: &str| json!({ "name": name });
        let before = lab(json!({ "ports": [port("old"), port("theirs")], "switches": [{ "name": "main" }] }));
        let wanted = lab(json!({
            "ports": [port("theirs"), port("red")],
            "switches": [{ "name": "main" }, { "name": "sw2" }],
            "labs": [{ "name": "t", "switches": ["sw2"], "ports": ["red"] }],
        }));
        let mut now = lab(json!({
            "ports": [
                { "name": "theirs", "mtu": 1400 },
                { "name": "red", "mac": "02:00:00:00:00:01" },
                { "name": "main-sw2", "kind": "link", "peer": "sw2-main" },
                port("since"),
            ],
            "switches": [{ "name": "main" }, { "name": "sw2" }],
            "labs": [{ "name": "t", "switches": ["sw2"], "ports": ["red", "main-sw2"] }],
        }));
        let left = left_by(&now, &before, &wanted, Some(&"t".parse().unwrap()));
        assert_eq!(now.take_back(&before, &left), [""; 0]);
        let expected = lab(json!({
            "ports": [{ "name": "theirs", "mtu": 1400 }, port("since"), port("old")],
            "switches": [{ "name": "main" }],
        }));
        assert_eq!(now, expected);
    }
}
