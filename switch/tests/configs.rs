//! The files in `configs/` are what the daemon takes.

use std::collections::BTreeSet;
use std::path::PathBuf;

use vswitch_api::{Lab, PortKind};

fn configs() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../configs")
}

#[test]
fn the_lab_files_are_labs() {
    let mut names = BTreeSet::new();
    for entry in std::fs::read_dir(configs().join("labs")).unwrap() {
        let path = entry.unwrap().path();
        let lab: Lab = toml::from_str(&std::fs::read_to_string(&path).unwrap())
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        assert!(lab.ports.len() >= 3, "{}", path.display());
        for port in &lab.ports {
            let known = port.switch.as_str() == "main" || lab.switches.iter().any(|switch| switch.name == port.switch);
            assert!(
                known,
                "{}: switch {} of port {} is not there",
                path.display(),
                port.switch,
                port.name
            );
        }
        if path.ends_with("gateway.toml") {
            assert!(lab.ports.iter().any(|port| port.kind == PortKind::Internal));
        }
        names.insert(path.file_name().unwrap().to_string_lossy().into_owned());
    }
    assert_eq!(
        names.into_iter().collect::<Vec<_>>(),
        [
            "gateway.toml",
            "three-namespaces.toml",
            "two-switches.toml",
            "wan-link.toml"
        ]
    );
}

/// What gives a service its own mount namespace would hide the namespaces in /run/netns from the host.
#[test]
fn the_service_has_no_mount_namespace_of_its_own() {
    let unit = std::fs::read_to_string(configs().join("vswitchd.service")).unwrap();
    let settings = unit.lines().filter(|line| !line.starts_with('#'));
    let keys: Vec<&str> = settings
        .filter_map(|line| line.split_once('='))
        .map(|(key, _)| key)
        .collect();
    assert!(keys.contains(&"WatchdogSec"));
    for key in keys {
        let hides = [
            "Protect",
            "Private",
            "ReadOnly",
            "ReadWrite",
            "Inaccessible",
            "Bind",
            "Root",
            "Temporary",
            "Dynamic",
        ];
        assert!(!hides.iter().any(|start| key.starts_with(start)), "{key}");
    }
}
