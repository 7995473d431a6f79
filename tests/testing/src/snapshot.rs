//! What there is on the lab's machine, to be compared before and after.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::lab::Lab;
use crate::netns::{Place, run};
use crate::wait::wait_for;

/// Namespaces, interfaces, addresses, traffic control, mounts, files in /run and what the daemon keeps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot(BTreeMap<&'static str, String>);

impl Snapshot {
    /// What the kernel and the file system show.
    pub fn of_machine() -> Self {
        let mut parts = BTreeMap::new();
        parts.insert(
            "namespaces (ip netns)",
            sorted(run("ip netns list").lines().map(first_word)),
        );
        parts.insert("interfaces (ip -d addr)", interfaces());
        parts.insert("traffic control (tc qdisc)", sorted(run("tc qdisc show").lines()));
        parts.insert("mounts", mounts());
        parts.insert("files in /run", files(Path::new("/run")));
        Self(parts)
    }

    /// The same of a machine on which `ip netns` has been used before, as on most: what that leaves is not ours.
    pub fn of_used_machine() -> Self {
        run("ip netns add first");
        run("ip netns del first");
        Self::of_machine()
    }

    /// The same with what the daemon keeps: its lab and the near ends in its own namespace.
    pub fn of(lab: &Lab) -> Self {
        let mut snapshot = Self::of_machine();
        snapshot.0.insert("lab (vswitchctl export)", lab.ok("export"));
        if Path::new("/run/vswitch/netns").exists() {
            let links = Place::daemons_own().run_ok("ip -br link");
            snapshot.0.insert("near ends", sorted(links.lines().map(first_word)));
        }
        snapshot
    }

    /// Waits until all is as it was: the kernel takes namespaces and devices away in the background.
    #[track_caller]
    pub fn wait_until_same(&self, mut now: impl FnMut() -> Self) {
        wait_for("everything to be as before", || self.same_as(&now()));
    }

    /// Asserts that nothing differs.
    #[track_caller]
    pub fn assert_same(&self, now: &Self) {
        if let Err(difference) = self.same_as(now) {
            panic!("{difference}");
        }
    }

    fn same_as(&self, now: &Self) -> Result<(), String> {
        let mut text = String::new();
        for (part, before) in &self.0 {
            let after = now.0.get(part).map_or("", String::as_str);
            let gone = before.lines().filter(|line| !after.lines().any(|other| other == *line));
            gone.for_each(|line| writeln!(text, "{part}: gone: {line}").unwrap());
            let new = after.lines().filter(|line| !before.lines().any(|other| other == *line));
            new.for_each(|line| writeln!(text, "{part}: new: {line}").unwrap());
        }
        if text.is_empty() { Ok(()) } else { Err(text) }
    }
}

fn first_word(line: &str) -> &str {
    line.split_whitespace().next().unwrap_or_default()
}

fn sorted<'a>(lines: impl Iterator<Item = &'a str>) -> String {
    let mut lines: Vec<_> = lines.collect();
    lines.sort_unstable();
    lines.join("\n")
}

/// One line for each interface, without what changes by itself.
fn interfaces() -> String {
    let links: Value = serde_json::from_str(&run("ip -d -j addr")).unwrap();
    let lines: Vec<_> = links.as_array().unwrap().iter().map(interface).collect();
    sorted(lines.iter().map(String::as_str))
}

fn interface(link: &Value) -> String {
    let addresses: Vec<_> = link["addr_info"]
        .as_array()
        .unwrap()
        .iter()
        .map(|a| &a["local"])
        .collect();
    let (mac, mtu, promiscuity) = (&link["address"], &link["mtu"], &link["promiscuity"]);
    let up = link["flags"].as_array().unwrap().iter().any(|flag| flag == "UP");
    format!(
        "{} mac {mac} mtu {mtu} up {up} promiscuity {promiscuity} {addresses:?}",
        link["ifname"]
    )
}

fn mounts() -> String {
    let mounts = fs::read_to_string("/proc/thread-self/mountinfo").unwrap();
    sorted(mounts.lines().filter_map(|line| line.split(' ').nth(4)))
}

fn files(folder: &Path) -> String {
    let mut list = String::new();
    let mut entries: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    entries.sort();
    for path in entries {
        writeln!(list, "{}", path.display()).unwrap();
        if path.is_dir() && !path.is_symlink() {
            list.push_str(&files(&path));
        }
    }
    list
}
