//! The files in `configs/` are what the daemon takes.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::fs;
use std::path::{Path, PathBuf};

use vswitch_api::Lab;

fn configs() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../configs")
}

/// What an editor says of a lab is what the daemon says. The examples are held against it in `tests/lab_ready.rs`.
#[test]
fn the_schema_says_what_the_daemon_says() {
    let validator = jsonschema::draft202012::new(&vswitch_api::schema::lab()).unwrap();
    let document = |text: &str| toml::from_str::<serde_json::Value>(text).unwrap();
    for (port, valid) in [
        ("name = \"red\"", true),
        ("name = \"red\"\npolice = \"10mbit burst 64k\"", true),
        ("name = \"red\"\npolice = { pps = 100 }", true),
        (
            "name = \"red\"\nstorm = { broadcast = \"100pps\", multicast.rate = \"1mbit\" }",
            true,
        ),
        (
            "name = \"red\"\nimpair.out = { delay = \"20ms\", loss = \"1%\", rate = \"10mbit\", limit = 9 }",
            true,
        ),
        ("name = \"red\"\nvlan.trunk = { allowed = \"10,20\", native = 7 }", true),
        ("name = \"red\"\npin = { mac = \"own\", ip = [\"10.0.0.0/8\"] }", true),
        ("kind = \"veth\"", false),
        ("name = \"a/b\"", false),
        ("name = \"red\"\ncolour = 5", false),
        ("name = \"red\"\nmtu = \"fast\"", false),
        ("name = \"red\"\nkind = \"vet\"", false),
        ("name = \"red\"\nvlan = { access = 5000 }", false),
        ("name = \"red\"\nvlan = { access = 5, colour = 5 }", false),
        ("name = \"red\"\nimpair.out = { dealy = \"20ms\" }", false),
        ("name = \"red\"\nimpair.out = { delay = 20 }", false),
        ("name = \"red\"\npolice = 5", false),
    ] {
        let text = format!("[[ports]]\n{port}\n");
        assert_eq!(validator.is_valid(&document(&text)), valid, "{port}");
        let read = toml::from_str::<Lab>(&text);
        assert_eq!(read.is_ok(), valid, "{port}: the parser");
    }
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
        // That one closes devices and system calls alone (systemd.exec(5)).
        let is_known = key == "ProtectClock";
        assert!(is_known || !hides.iter().any(|start| key.starts_with(start)), "{key}");
    }
}

/// Values of a key of the unit, of all lines that have it.
fn unit(key: &str) -> Vec<String> {
    let unit = std::fs::read_to_string(configs().join("vswitchd.service")).unwrap();
    let lines = unit
        .lines()
        .filter_map(|line| line.strip_prefix(key)?.strip_prefix('='));
    lines.flat_map(str::split_whitespace).map(str::to_owned).collect()
}

fn sources(dir: PathBuf, text: &mut String) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(path, text);
        } else if path.extension().is_some_and(|word| word == "rs") {
            *text += &std::fs::read_to_string(path).unwrap();
        }
    }
}

/// AF_XDP was missing: under systemd `--xdp` fell back to another way, always.
#[test]
fn the_service_allows_the_sockets_that_the_daemon_opens() {
    let mut text = String::new();
    sources(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src"), &mut text);
    let after = text.split("AF_").skip(1);
    let word = |text: &str| {
        text.chars()
            .take_while(|c| c.is_ascii_uppercase() || c.is_ascii_digit())
            .collect::<String>()
    };
    let named: std::collections::BTreeSet<_> = after.map(|text| format!("AF_{}", word(text))).collect();
    assert!(named.contains("AF_XDP") && named.contains("AF_PACKET"), "{named:?}");
    let allowed = unit("RestrictAddressFamilies");
    // The control socket, netlink, and what tells a namespace from another are opened by libraries.
    let by_libraries = ["AF_UNIX", "AF_NETLINK", "AF_INET"].map(str::to_owned);
    // Words of netlink's messages.
    let no_sockets = ["AF_", "AF_UNSPEC", "AF_BRIDGE"];
    for family in named
        .iter()
        .chain(&by_libraries)
        .filter(|family| !no_sockets.contains(&family.as_str()))
    {
        assert!(allowed.contains(family), "{family} is not in {allowed:?}");
    }
}

/// A daemon that needs a moment more than usual must not be killed half-way.
#[test]
fn the_service_gives_the_daemon_time() {
    let seconds = |key: &str| -> u64 {
        let [value] = &unit(key)[..] else { panic!("{key}") };
        match value.strip_suffix("min") {
            Some(minutes) => minutes.parse::<u64>().unwrap() * 60,
            None => value.parse().unwrap(),
        }
    };
    assert!(seconds("TimeoutStartSec") >= 300 && seconds("TimeoutStopSec") >= 15);
    assert!((10..=60).contains(&seconds("WatchdogSec")));
}

/// A clock that somebody sets, or that jumps, makes nothing wait or age: only what is shown or told has its time.
#[test]
fn only_what_is_told_goes_by_the_clock_that_is_set() {
    fn look(folder: &Path, found: &mut Vec<String>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                look(&path, found);
            } else if path.extension().is_some_and(|end| end == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                let text = text.split("#[cfg(test)]\nmod tests").next().unwrap();
                if text.contains("SystemTime::now") || text.contains("CLOCK_REALTIME") {
                    found.push(path.file_name().unwrap().to_str().unwrap().to_owned());
                }
            }
        }
    }
    let mut found = Vec::new();
    for folder in ["src", "datapath/src", "linux/src", "api/src"] {
        look(&Path::new(env!("CARGO_MANIFEST_DIR")).join(folder), &mut found);
    }
    found.sort();
    // The time of events and of captured frames; that of leases, which dnsmasq writes; when commands and the daemon began; the name of a
    // file that is set aside.
    let told = [
        "events.rs",
        "leases.rs",
        "live.rs",
        "process.rs",
        "run.rs",
        "sniffer.rs",
        "state_file.rs",
    ];
    assert_eq!(found, told);
}
