//! Commands on a lab in memory.

use clap::Parser as _;

use super::*;

fn lab() -> Lab {
    serde_json::from_value(serde_json::json!({
        "switches": [{"name": "main"}, {"name": "br0"}],
        "ports": [
            {"name": "br0", "switch": "br0", "kind": "internal"},
            {"name": "p1", "switch": "br0", "kind": "device", "vlan": {"access": 10}},
        ],
    }))
    .unwrap()
}

/// The lines that a call prints, or its error, and the lab after it.
fn run_line(lab: &mut Lab, line: &str) -> Result<String, String> {
    let args = Joined::try_parse_from(line.split(' ')).map_err(|e| e.to_string())?.args;
    let tell = |failure: Failure| match failure {
        Failure::Error { error, .. } => error.to_string(),
        other => format!("{other:?}"),
    };
    let call = call(args).map_err(tell)?;
    let mut edited = lab.clone();
    let mut lines = Vec::new();
    for (before, command) in &call.commands {
        lines.extend(run(&mut edited, &[], before, command).map_err(tell)?);
    }
    *lab = edited;
    Ok(lines.join("\n"))
}

#[test]
fn commands_that_are_joined_see_what_was_done_before_them() {
    let mut lab = lab();
    let line =
        "add-br br1 -- add-port br1 i0 tag=7 -- set Interface i0 type=internal -- list-ports br1 -- get port i0 tag";
    assert_eq!(run_line(&mut lab, line).as_deref(), Ok("i0\n7"));
    let port = lab.port(&"i0".parse().unwrap()).unwrap();
    assert_eq!(port.kind, vswitch_api::PortKind::Internal);
    assert_eq!(
        run_line(&mut lab, "--if-exists del-br br1 -- list-br").as_deref(),
        Ok("br0\nmain")
    );
}

#[test]
fn errors_name_what_is_wrong_and_what_does_it_here() {
    for (line, parts) in [
        ("add-br br0", &["switch \"br0\"", "already"][..]),
        ("add-br p1", &["p1", "switch add"]),
        ("add-port br0 p1", &["port \"p1\"", "br0"]),
        ("add-port nobr p2", &["switch \"nobr\"", "no such"]),
        ("--may-exist add-port main p1", &["p1", "br0"]),
        ("del-port br0", &["leg", "del-br"]),
        ("del-port main p1", &["br0", "main"]),
        ("set port p1 external_ids:x=1", &["external_ids:x", "set port"]),
        ("set port p9 tag=1", &["p9", "no such port"]),
        ("set bridge br0 fail_mode=secure", &["controller"]),
        ("set interface p1 type=vxlan", &["vxlan", "add-port"]),
        ("remove interface p1 type 3", &["p1", "tag and trunks"]),
        ("set-controller br0 tcp:1.2.3.4", &["set-controller", "OpenFlow", "acl"]),
        ("list-prots br0", &["list-prots", "did you mean", "list-ports"]),
        ("fdb/show br0", &["fdb/show", "did you mean `ovs appctl fdb/show`"]),
        ("add port p1 tag 11", &["one tag at most"]),
        ("list-br -- nothing", &["nothing"]),
        ("list-br -- set port p1", &["set port p1", "required"]),
    ] {
        let mut lab = lab();
        let error = run_line(&mut lab, line).expect_err(line);
        for part in parts {
            assert!(error.contains(part), "{line}: {error:?} does not name {part}");
        }
        assert!(!error.contains('\n'), "{line}: {error}");
    }
}

#[test]
fn what_is_so_already_is_no_error_if_so_asked() {
    let mut edited = lab();
    for line in [
        "--may-exist add-br br0",
        "add-br --may-exist br0",
        "--may-exist add-port br0 p1 tag=10",
        "--if-exists del-br nobr",
        "--if-exists del-port br0 nosuch",
        "set bridge br0 datapath_type=netdev fail-mode=standalone stp_enable=false",
        "set port p1 tag=10",
        "remove port p1 trunks 3",
        "add port p1 tag 10",
        "--if-exists set port p9 tag=1",
        "--if-exists clear interface p9 mtu_request",
        "--if-exists add port p9 trunks 1 -- --if-exists remove port p9 trunks 1",
        "--if-exists get bridge nobr fail_mode",
    ] {
        assert_eq!(run_line(&mut edited, line).as_deref(), Ok(""), "{line}");
        assert_eq!(edited, lab(), "{line}");
    }
}

#[test]
fn vlans_are_added_to_a_trunk_one_by_one() {
    let mut lab = lab();
    let line = "clear port p1 tag -- add port p1 trunks 20 -- add port p1 trunks 5 21 -- remove port p1 trunks 20 -- get port p1 trunks";
    assert_eq!(run_line(&mut lab, line).as_deref(), Ok("[5, 21]"));
}

#[test]
fn show_is_a_tree() {
    let shown = run_line(&mut lab(), "show").unwrap();
    let tree = "    Bridge br0\n        Port br0\n            Interface br0\n                type: internal\n        Port p1\n            \
                tag: 10\n            Interface p1\n    Bridge main";
    assert_eq!(shown, tree);
}
