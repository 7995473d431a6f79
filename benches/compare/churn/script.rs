//! What somebody does who knows the kernel: few processes, and a Linux bridge.

use anyhow::Result;
use std::thread::sleep;

use super::broadcast::{Broadcasts, broadcasts};
use super::{Figures, SETTLE, batch, timed, wait_gone};
use crate::command::run;
use crate::lab::{INTERFACE, Lab, SWITCH, namespace_path};
use crate::peers::bridge;
use crate::scale::{address, name};

const BRIDGE: &str = "br0";

pub fn round(lab: &Lab, count: u32, figures: &mut Figures) -> Result<()> {
    let dir = lab.dir();
    let namespaces = timed(|| batch(dir, "", (0..count).map(|n| format!("netns add {}", name(n)))))?;
    let links = timed(|| {
        bridge::start()?;
        let made = |n| {
            let name = name(n);
            [
                format!("link add {name} type veth peer name {INTERFACE} netns {name}"),
                format!("link set {name} master {BRIDGE} up"),
            ]
        };
        batch(dir, &format!("-n {SWITCH}"), (0..count).flat_map(made))
    })?;
    let addresses = timed(|| {
        (0..count).try_for_each(|n| {
            let lines = [
                "link set lo up".to_owned(),
                format!("addr add {}/16 dev {INTERFACE}", address(n)),
                format!("link set {INTERFACE} up"),
            ];
            batch(dir, &format!("-n {}", name(n)), lines.into_iter())
        })
    })?;
    figures.insert("script_namespaces_s", namespaces);
    figures.insert("script_links_s", links);
    figures.insert("script_addresses_s", addresses);
    figures.insert("script_up_s", namespaces + links + addresses);
    sleep(SETTLE);
    let Broadcasts { last_ms, lost } = broadcasts(count)?;
    figures.insert("script_broadcast_ms", last_ms);
    figures.insert("script_broadcasts_lost", lost);
    let gone = timed(|| {
        let down = timed(|| {
            batch(dir, "", (0..count).map(|n| format!("netns del {}", name(n))))?;
            run(&format!("ip -n {SWITCH} link del {BRIDGE}")).map(drop)
        })?;
        figures.insert("script_down_s", down);
        wait_gone(&namespace_path(SWITCH))
    })?;
    figures.insert("script_gone_s", gone);
    Ok(())
}
