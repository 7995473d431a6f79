//! What may be meant by a key that is none, or by a value that a group can't have.

use super::{Assignment, Settable, Setting};

/// So many that may be meant are named.
const MEANT: usize = 4;

/// What is said of a value that is none of a group, but perhaps one of its parts. None: it has no parts.
pub(super) fn of_a_part<T: Settable>(key: &str, value: &str, all: &[Setting]) -> Option<String> {
    let inside = format!("{key}.");
    let parts = all.iter().filter_map(|setting| setting.key.strip_prefix(&inside));
    let parts: Vec<_> = parts.filter(|part| !part.contains('.')).collect();
    let meant = taking::<T>(key, value, all);
    if parts.is_empty() {
        return None;
    }
    let what_to_say = match meant.is_empty() || meant.len() > MEANT {
        true => format!(
            "give its parts: {}",
            parts
                .iter()
                .map(|part| format!("{key}.{part}"))
                .collect::<Vec<_>>()
                .join(", ")
        ),
        false => format!("did you mean {}?", meant.join(" or ")),
    };
    Some(format!("{value:?} is no value for all of it; {what_to_say}"))
}

/// Parts of a group that take a value, with it: those that are least deep.
fn taking<T: Settable>(group: &str, value: &str, all: &[Setting]) -> Vec<String> {
    let inside = format!("{group}.");
    let takes = |setting: &&Setting| {
        let read = setting.takes_values().then(|| setting.read(value).ok()).flatten();
        let assignment = read.map(|value| Assignment {
            key: setting.key.clone(),
            value,
        });
        assignment.is_some_and(|assignment| assignment.refused::<T>().is_none())
    };
    let parts = all.iter().filter(|setting| setting.key.starts_with(&inside));
    let taking: Vec<_> = parts.filter(takes).map(|setting| setting.key.as_str()).collect();
    let depth = |key: &str| key.matches('.').count();
    let least = taking.iter().map(|key| depth(key)).min();
    // `delay` rather than `delay_us`, which takes the same.
    let is_longer = |key: &str, other: &str| key.strip_prefix(other).is_some_and(|rest| rest.starts_with('_'));
    let plain = taking
        .iter()
        .filter(|key| Some(depth(key)) == least && !taking.iter().any(|other| is_longer(key, other)));
    plain.map(|key| format!("{key}={value}")).collect()
}

/// What is said of a key that is none, with those that may be meant.
pub(super) fn unknown<T: Settable>(key: &str, value: &str, all: &[Setting]) -> String {
    if T::FIXED.contains(&key) {
        return format!("{key:?} is chosen once and can't be changed");
    }
    if let Some((_, meant)) = T::ALSO_CALLED.iter().find(|(word, _)| *word == key) {
        return format!("there is no key {key:?}; did you mean {meant}?");
    }
    let last = |key: &str| key.rsplit('.').next().unwrap_or_default().to_owned();
    let distance = |setting: &Setting| {
        let name = last(&setting.key);
        let whole = strsim::damerau_levenshtein(&setting.key, key);
        let mut part = strsim::damerau_levenshtein(&name, &last(key));
        // `ageing` for `ageing_secs`, `guard` for `loop_guard`.
        if key.len() > 2 && (name.starts_with(key) || name.split('_').any(|word| word == key)) {
            part = part.min(1);
        }
        // A path that is left out is a smaller mistake than another word.
        whole.min(part + usize::from(name != setting.key))
    };
    let mut near: Vec<_> = all
        .iter()
        .map(|setting| (distance(setting), !setting.takes_values(), setting.key.as_str()))
        .collect();
    near.sort();
    let nearest = near.first().map_or(0, |(distance, ..)| *distance);
    near.retain(|(distance, ..)| *distance == nearest && *distance <= 1 + key.len() / 4);
    // A group takes no value itself.
    let near = near.into_iter().flat_map(|(_, is_group, key)| match is_group {
        true => taking::<T>(key, value, all),
        false => vec![key.to_owned()],
    });
    let near: Vec<_> = near.take(MEANT).collect();
    if near.is_empty() {
        format!("there is no key {key:?}; the help of this command lists them")
    } else {
        format!("there is no key {key:?}; did you mean {}?", near.join(" or "))
    }
}
