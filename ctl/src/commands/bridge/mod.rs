//! The everyday verbs of bridge(8) and brctl(8): ports, FDB and VLANs by keywords as iproute2 has them, bridges as bridge-utils has them.

mod brctl;
mod fdb;
mod link;
mod vlan;
mod words;

use vswitch_api::request::ChangeOptions;
use vswitch_api::view::PortView;
use vswitch_api::{ApiError, ErrorCode, PortName};

use super::Session;
use super::familiar::{exits_as, no_port};
use super::suggest::nearest;
use crate::cli::bridge::BridgeCommand;
use crate::failure::Failure;

/// Exit code of bridge(8) where something is wrong.
const EXIT_BRIDGE: u8 = 255;
/// That of brctl(8).
const EXIT_BRCTL: u8 = 1;

/// Verbs that there are.
const VERBS: [&str; 12] = [
    "addbr",
    "addif",
    "delbr",
    "delif",
    "fdb",
    "hairpin",
    "link",
    "setageing",
    "show",
    "showmacs",
    "vlan",
    "help",
];

/// What bridge and brctl have and this has not, why, and what does it here.
const ELSEWHERE: [(&[&str], &str, &str); 4] = [
    (
        &[
            "stp",
            "setbridgeprio",
            "setfd",
            "sethello",
            "setmaxage",
            "setpathcost",
            "setportprio",
            "showstp",
            "mst",
        ],
        "these verbs set no spanning tree",
        "`vswitchctl set switch NAME --loop-guard on` cuts loops",
    ),
    (
        &["mdb"],
        "these verbs show no groups",
        "`vswitchctl --help` shows what there is; `vswitchctl set port NAME --flood` says what is flooded",
    ),
    (
        &["monitor"],
        "it is not called so here",
        "`vswitchctl events` tells what happens",
    ),
    (
        &["vni"],
        "a port is in VLANs, not in VNIs",
        "`vswitchctl add-port --help` shows the types of ports",
    ),
];

impl Session {
    pub(super) async fn bridge(&self, command: BridgeCommand) -> Result<(), Failure> {
        match command {
            BridgeCommand::Link(args) => exits_as(self.bridge_link(args).await, EXIT_BRIDGE),
            BridgeCommand::Fdb(args) => exits_as(self.bridge_fdb(args).await, EXIT_BRIDGE),
            BridgeCommand::Vlan(args) => exits_as(self.bridge_vlan(args).await, EXIT_BRIDGE),
            command => exits_as(self.brctl(command).await, EXIT_BRCTL),
        }
    }

    async fn ports(&self) -> Result<Vec<PortView>, Failure> {
        Ok(self.client.ports().await?)
    }
}

/// The error for a verb that is not here.
fn elsewhere(words: &[String]) -> Failure {
    let verb = words.first().map(String::as_str).unwrap_or_default();
    let error = |cause| ApiError::new(ErrorCode::Invalid, format!("bridge {verb}"), cause);
    if let Some((_, cause, hint)) = ELSEWHERE.iter().find(|(verbs, _, _)| verbs.contains(&verb)) {
        return error(*cause).hint(*hint).into();
    }
    let hint = match nearest(verb, VERBS.into_iter()) {
        Some(meant) => format!("did you mean `{meant}`?"),
        None => "`vswitchctl bridge --help` shows the verbs, `vswitchctl --help` all commands".to_owned(),
    };
    error("there is no such verb").hint(hint).into()
}

/// The error for a verb of a noun of bridge(8).
fn no_verb(noun: &str, words: &[String], there: &str) -> Failure {
    let verb = words.first().map(String::as_str).unwrap_or_default();
    Failure::usage(
        format!("bridge {noun} {verb}"),
        "there is no such verb",
        format!("there are {there}"),
    )
}

fn find<'a>(ports: &'a [PortView], name: &PortName) -> Result<&'a PortView, Failure> {
    ports
        .iter()
        .find(|view| view.port.name == *name)
        .ok_or_else(|| no_port(name))
}

fn trial(dry_run: bool) -> ChangeOptions {
    ChangeOptions {
        dry_run,
        ..ChangeOptions::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verb_that_is_not_here_is_told_with_what_does_it() {
        for (verb, parts) in [
            ("stp", &["bridge stp", "loop-guard"][..]),
            ("monitor", &["events"]),
            ("adbr", &["did you mean `addbr`"]),
            ("frobnicate", &["frobnicate", "bridge --help"]),
        ] {
            let Failure::Error { error, .. } = elsewhere(&[verb.to_owned()]) else {
                panic!("an error is expected")
            };
            let text = error.to_string();
            for part in parts {
                assert!(text.contains(part), "{verb}: {text}");
            }
        }
    }
}
