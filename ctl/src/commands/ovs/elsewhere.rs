//! Verbs of Open vSwitch that stand for nothing here, with what does it.

use vswitch_api::{ApiError, ErrorCode};

use crate::commands::suggest::nearest;
use crate::failure::Failure;

/// Verbs that there are.
const VERBS: [&str; 16] = [
    "add",
    "add-br",
    "add-port",
    "appctl",
    "br-exists",
    "clear",
    "del-br",
    "del-port",
    "get",
    "iface-to-br",
    "list-br",
    "list-ifaces",
    "list-ports",
    "port-to-br",
    "remove",
    "set",
];

const NO_OPENFLOW: &str = "it is of OpenFlow, which is not spoken here";
const NO_DATABASE: &str = "there is no database with tables of Open vSwitch here";
const RULES: &str = "`vswitchctl acl` has rules of ports, `vswitchctl trace` tells what becomes of a frame";

/// Of ovs-vsctl: a verb, why it is not here, what is.
const VSCTL: [(&[&str], &str, &str); 6] = [
    (
        &[
            "set-controller",
            "get-controller",
            "del-controller",
            "set-fail-mode",
            "get-fail-mode",
            "del-fail-mode",
        ],
        NO_OPENFLOW,
        RULES,
    ),
    (
        &["list", "find", "create", "destroy", "wait-until", "comment"],
        NO_DATABASE,
        "`vswitchctl show --json`, `port list --json` and `export` tell all that is there; `vswitchctl mirror add` makes mirrors",
    ),
    (
        &[
            "set-manager",
            "get-manager",
            "del-manager",
            "set-ssl",
            "get-ssl",
            "del-ssl",
            "set-aa",
        ],
        NO_DATABASE,
        "the daemon is spoken to over its socket, as docs/openapi.json describes",
    ),
    (
        &["add-bond", "add-bond-iface", "del-bond-iface"],
        "these verbs make no bond",
        "`vswitchctl add-port --type device` takes a bond of the kernel as a port",
    ),
    (
        &["br-to-vlan", "br-to-parent", "br-set-external-id", "br-get-external-id"],
        "a switch has neither a parent nor ids for others",
        "`vswitchctl set switch NAME description=TEXT` notes something on it",
    ),
    (
        &["emer-reset"],
        "it is not called so here",
        "`vswitchctl reset` removes all that vswitch made",
    ),
];

/// Of ovs-appctl, by how the verb begins.
const APPCTL: [(&str, &str, &str); 6] = [
    (
        "ofproto/trace",
        NO_OPENFLOW,
        "`vswitchctl trace PORT` tells what becomes of a frame",
    ),
    (
        "fdb/stats",
        "it is not called so here",
        "`vswitchctl switch show NAME` counts stations and moves",
    ),
    (
        "coverage/",
        "it is not called so here",
        "`vswitchctl port show NAME` counts drops by reason",
    ),
    (
        "vlog/",
        "the log level is an option of the daemon",
        "`vswitchd --log-level debug`",
    ),
    (
        "mdb/",
        "it is not called so here",
        "`vswitchctl --help` shows what there is",
    ),
    (
        "dpctl/",
        "the tables of the kernel path are not shown so",
        "`vswitchctl port show NAME` says what the kernel forwards",
    ),
];

fn refused(object: String, cause: &str, hint: impl Into<String>) -> Failure {
    ApiError::new(ErrorCode::Invalid, object, cause).hint(hint).into()
}

/// The error for a verb of ovs-vsctl that is not here.
pub fn vsctl(words: &[String]) -> Failure {
    let verb = words.first().map(String::as_str).unwrap_or_default();
    let object = format!("ovs {verb}");
    if let Some((_, cause, hint)) = VSCTL.iter().find(|(verbs, _, _)| verbs.contains(&verb)) {
        return refused(object, cause, *hint);
    }
    if verb.contains('/') {
        return refused(
            object,
            "it is a command of ovs-appctl",
            format!("did you mean `ovs appctl {verb}`?"),
        );
    }
    let hint = match nearest(verb, VERBS.into_iter()) {
        Some(meant) => format!("did you mean `{meant}`?"),
        None => "`vswitchctl ovs --help` shows the verbs, `vswitchctl --help` all commands".to_owned(),
    };
    refused(object, "there is no such verb", hint)
}

/// The error for a verb of ovs-appctl that is not here.
pub fn appctl(words: &[String]) -> Failure {
    let verb = words.first().map(String::as_str).unwrap_or_default();
    let object = format!("ovs appctl {verb}");
    match APPCTL.iter().find(|(begin, _, _)| verb.starts_with(begin)) {
        Some((_, cause, hint)) => refused(object, cause, *hint),
        None => refused(
            object,
            "there is no such verb",
            "there are fdb/show, fdb/flush, fdb/add and fdb/del",
        ),
    }
}
