//! Files that are made to say something else.

use proptest::prelude::*;
use serde_json::json;

use super::*;

const FILE: &str = "# The lab of the second floor.\n\n# Hosts of a range\nnamespaces = [\"x{1..2}\", \"y\"] # and more\n\n\
[[switches]]\nname = \"main\"\nageing_secs = 60 # short\n\n\
# About all ports.\n\n# The red one.\n[[ports]]\nname = \"red\"\nmtu = 1400 # of the tunnel\naddresses = [\n  \"10.0.0.1/24\", # old\n  \"fd00::1/64\",\n]\n\n\
# Many.\n[[ports]]\nname = \"h{1..3}\"\naddresses = [\"10.0.1.{n}/24\"]\n\n\
[[ports]]\nname = 'blue'\nimpair.out = { delay = \"20ms\", loss = \"1%\" } # a bad wire\n\n\
[[cables]]\na = { namespace = \"red\" }\nb = { namespace = \"blue\" } # direct\n# The end.\n";

fn file(text: &str) -> LabFile {
    of_text("F", text).unwrap_or_else(|report| panic!("{text}\n{}", report.text()))
}

/// What the daemon makes of a lab.
fn completed(lab: &Lab) -> Lab {
    let mut lab = lab.clone();
    lab.lay_links();
    for (n, port) in (1..).zip(&mut lab.ports) {
        if port.kind != vswitch_api::PortKind::Link {
            port.mac = Some(vswitch_api::Mac([2, 0, 0, 0, 0, n]));
            port.namespace = port.namespace.take().or_else(|| port.name.as_str().parse().ok());
        }
    }
    for end in lab.cables.iter_mut().flat_map(|cable| [&mut cable.a, &mut cable.b]) {
        end.ifname = end.ifname.take().or_else(|| "eth1".parse().ok());
        end.mac = Some(vswitch_api::Mac([2; 6]));
    }
    if !lab.switches.iter().any(|switch| switch.name.as_str() == DEFAULT_SWITCH) {
        lab.switches.push(Switch::new(DEFAULT_SWITCH.parse().unwrap()));
    }
    lab
}

fn merged(text: &str, change: impl FnOnce(&mut Lab)) -> (String, Vec<String>) {
    let file = file(text);
    let mut lab = completed(&file.lab);
    change(&mut lab);
    let merged = merge(&file, &lab).unwrap_or_else(|failure| panic!("{failure:?}"));
    // A second time there is nothing to do.
    let again = merge(&super::of_text("F", &merged.text).unwrap(), &lab).unwrap();
    assert_eq!(again.text, merged.text);
    (merged.text, merged.notes)
}

fn port<'a>(lab: &'a mut Lab, name: &str) -> &'a mut Port {
    lab.ports.iter_mut().find(|port| port.name.as_str() == name).unwrap()
}

#[test]
fn what_is_as_the_file_says_leaves_it_as_it_is() {
    assert_eq!(merged(FILE, |_| ()), (FILE.to_owned(), Vec::new()));
    for text in [
        "ports = [{ name = \"red\" }, {name='blue', vlan={access=7}} ] # inline\n",
        "[[links]]\na = \"main\"\nb = \"s2\" # joined\n\n[[switches]]\nname = \"s2\"\n",
        "ports = []\n",
    ] {
        assert_eq!(merged(text, |_| ()), (text.to_owned(), Vec::new()));
    }
}

#[test]
fn a_value_is_edited_in_its_place() {
    let (text, notes) = merged(FILE, |lab| {
        let red = port(lab, "red");
        red.mtu = Some(9000);
        red.addresses = ["fd00::1/64", "10.0.0.9/24"].map(|text| text.parse().unwrap()).to_vec();
        lab.switches[0].ageing_secs = 30;
        port(lab, "blue").impair = serde_json::from_value(json!({"out": {"delay": "5ms", "loss": "1%"}})).unwrap();
        lab.cables[0].mtu = Some(1280);
    });
    let expected = FILE
        .replace("1400 #", "9000 #")
        .replace("60 #", "30 #")
        .replace(
            "  \"10.0.0.1/24\", # old\n  \"fd00::1/64\",\n",
            "  \"fd00::1/64\",\n  \"10.0.0.9/24\",\n",
        )
        .replace("\"20ms\"", "\"5ms\"")
        .replace("# direct\n", "# direct\nmtu = 1280\n");
    // What stood behind the comma of what is gone stays.
    assert_eq!(text.replace(" # old\n ", ""), expected);
    assert_eq!(notes, [""; 0]);
}

#[test]
fn what_is_new_comes_last_and_what_is_gone_is_taken_out() {
    let (text, notes) = merged(FILE, |lab| {
        lab.ports.retain(|port| port.name.as_str() != "red");
        let green = json!({"name": "green", "namespace": "green", "vlan": {"access": 7}});
        lab.ports.push(serde_json::from_value(green).unwrap());
        lab.namespaces.retain(|one| one.name.as_str() != "y");
        lab.namespaces.push(LabNamespace::new("z".parse().unwrap()));
        lab.cables.clear();
    });
    assert!(
        text.starts_with(
            "# The lab of the second floor.\n\n# Hosts of a range\nnamespaces = [\"x{1..2}\", \"z\"] # and more\n"
        ),
        "{text}"
    );
    assert!(
        text.contains("# About all ports.\n\n# Many.\n[[ports]]\nname = \"h{1..3}\""),
        "{text}"
    );
    assert!(
        text.contains("# a bad wire\n\n[[ports]]\nname = \"green\"\nswitch = \"main\"\n"),
        "{text}"
    );
    assert!(
        text.contains("vlan = { access = 7 }\n") && !text.contains("red") && !text.contains("[[cables]]"),
        "{text}"
    );
    assert!(text.ends_with("# The end.\n"), "{text}");
    assert_eq!(notes, [""; 0]);
    let (text, _) = merged("ports = [{ name = \"red\" }, { name = \"blue\" }] # inline\n", |lab| {
        lab.ports.remove(0);
        lab.ports
            .push(serde_json::from_value(json!({"name": "x", "namespace": "x"})).unwrap());
    });
    assert!(
        text.starts_with("ports = [{ name = \"blue\" }, { name = \"x\", "),
        "{text}"
    );
}

#[test]
fn a_range_that_holds_no_more_is_written_out() {
    let (text, notes) = merged(FILE, |lab| port(lab, "h2").mtu = Some(1280));
    assert!(
        !text.contains("{1..3}") && text.contains("name = \"h2\"") && text.contains("mtu = 1280"),
        "{text}"
    );
    assert!(notes.len() == 1 && notes[0].contains("h{1..3}"), "{notes:?}");
    let links = "[[switches]]\nname = \"s{1..3}\"\n\n[[links]]\na = \"s{1..2}\"\nb = \"s{n+1}\"\n";
    let (text, notes) = merged(links, |lab| {
        port(lab, "s1-s2").mtu = Some(1280);
    });
    assert!(
        !text.contains("[[links]]") && text.contains("peer = \"s3-s2\""),
        "{text}"
    );
    assert_eq!(notes.len(), 1, "{notes:?}");
}

/// What is said of something may look like a range, and is none.
#[test]
fn a_text_that_looks_like_a_range_stays_a_text() {
    let say = |text: &str| text.parse().unwrap();
    let (text, notes) = merged(FILE, |lab| {
        port(lab, "red").description = say("{1..5}");
        port(lab, "h2").description = say("{n}");
        lab.switches[0].description = say("{=1..5}");
        let z = json!({"name": "z", "files": {"motd": "hi {1..2}"}});
        lab.namespaces.push(serde_json::from_value(z).unwrap());
        let count = json!({"name": "count", "namespace": "y", "run": "echo {1..5}"});
        lab.commands.push(serde_json::from_value(count).unwrap());
    });
    for part in [
        "\"{=1..5}\"",
        "\"{n}\"",
        "\"{==1..5}\"",
        "motd = \"hi {=1..2}\"",
        "\"echo {=1..5}\"",
        // What the file says stays.
        "namespaces = [\"x{1..2}\", \"y\", { ",
    ] {
        assert!(text.contains(part), "{part}\n{text}");
    }
    assert!(notes.len() == 1 && notes[0].contains("h{1..3}"), "{notes:?}");
}

/// An entry of a range of one is as any other of a range.
#[test]
fn what_a_range_of_one_makes_is_written_out_too() {
    let text = "[[ports]]\nname = \"h{7..7}\"\naddresses = [\"10.0.0.{n}/24\"]\n";
    let (text, notes) = merged(text, |lab| lab.ports[0].description = "{n}".parse().unwrap());
    assert!(
        text.contains("name = \"h7\"") && text.contains("description = \"{n}\""),
        "{text}"
    );
    assert_eq!(notes.len(), 1, "{notes:?}");
}

#[test]
fn a_namespace_with_settings_that_a_range_made_can_go() {
    let text = "namespaces = [\"y\", { name = \"x{1..2}\", files = { motd = \"hi\" } }, \"y\"]\n";
    let (text, _) = merged(text, |lab| {
        lab.namespaces = lab.namespaces[..2].to_vec();
    });
    assert!(text.starts_with("namespaces = [\"y\", { "), "{text}");
    assert!(!text.contains("x2") && !text.contains("x{1..2}"), "{text}");
}

/// Text in which much looks like a range.
fn braces() -> impl Strategy<Value = String> {
    const PARTS: [&str; 12] = [
        "{1..2}",
        "{=1..2}",
        "{==01..10}",
        "{n}",
        "{n+1:02x}",
        "{3..3:x}",
        "{",
        "}",
        "=",
        "1..2",
        "a \"b\"",
        "'\\",
    ];
    prop::collection::vec(prop::sample::select(&PARTS[..]), 0..5).prop_map(|parts| parts.concat())
}

/// The settings of a port that may be any, by what a dice of each says.
fn a_port(name: char, dice: [u8; 6], text: String) -> Value {
    let n = u32::from(name) % 200;
    let kind = ["veth", "tap"][usize::from(dice[0] % 2)];
    let mut port = json!({"name": name, "namespace": name, "kind": kind, "description": text});
    let mut set = |dice: u8, key: &str, values: &[Value]| {
        if let Some(value) = values.get(usize::from(dice) % (values.len() + 1)) {
            port[key] = value.clone();
        }
    };
    set(dice[1], "mtu", &[json!(1400), json!(9000)]);
    let v4 = format!("10.0.0.{n}/24");
    set(
        dice[2],
        "addresses",
        &[json!([v4]), json!([v4, format!("fd00::{n}/64")])],
    );
    set(
        dice[3],
        "vlan",
        &[json!({"access": 7}), json!({"trunk": {"allowed": "1-5", "native": 2}})],
    );
    set(
        dice[4],
        "impair",
        &[
            json!({"in": {"delay": "5ms"}}),
            json!({"out": {"loss": "0.01%", "rate": "10mbit"}}),
        ],
    );
    set(
        dice[5],
        "acl",
        &[
            json!({"in": ["deny udp"]}),
            json!({"in": ["permit any"], "out": ["deny arp", "deny udp"]}),
        ],
    );
    port
}

prop_compose! {
    fn a_lab()(
        ports in prop::collection::btree_map(prop::sample::select(vec!['a', 'b', 'c', 'd']), (any::<[u8; 6]>(), braces()), 0..4),
        commands in prop::collection::btree_map("[p-r]", (braces(), braces()), 0..3),
        namespaces in prop::collection::btree_map("[w-z]", prop::option::of(braces()), 0..4),
        switch in prop::option::of(braces()),
    ) -> Lab {
        let ports: Vec<_> = ports.into_iter().map(|(name, (dice, text))| a_port(name, dice, text)).collect();
        let command = |(name, (arg, value))| json!({"name": name, "namespace": "w", "argv": ["echo", arg], "env": {"A": value}});
        let namespace = |(name, text): (String, Option<String>)| match text {
            Some(text) => json!({"name": name, "files": {"motd": text}}),
            None => json!(name),
        };
        serde_json::from_value(json!({
            "ports": ports,
            "commands": Vec::from_iter(commands.into_iter().map(command)),
            "namespaces": Vec::from_iter(namespaces.into_iter().map(namespace)),
            "switches": Vec::from_iter(switch.map(|text| json!({"name": "main", "description": text}))),
        }))
        .unwrap()
    }
}

proptest! {
    /// Whatever a file was exported from, it then says what there is, and so it does for a file of its own.
    #[test]
    fn an_export_is_read_as_what_it_was(before in a_lab(), after in a_lab()) {
        let text = crate::commands::lab::export::text_of(&before).unwrap();
        let read = file(&text).lab;
        prop_assert_eq!(&read, &before);
        // The whole lab of a daemon is read as it is, too.
        let there = completed(&after);
        let whole = crate::commands::lab::export::text_of(&there).unwrap();
        prop_assert_eq!(&file(&whole).lab, &there);
        merged(&text, |lab| *lab = there);
    }

    /// Whatever comes and goes, the file then says what there is.
    #[test]
    fn the_file_says_what_there_is(
        gone in prop::collection::vec(any::<prop::sample::Index>(), 0..4),
        mtus in prop::collection::vec((any::<prop::sample::Index>(), 68u32..9000), 0..4),
        new in prop::collection::btree_set("[a-z]{4,6}", 0..4),
        addresses in prop::collection::vec((any::<prop::sample::Index>(), prop::collection::btree_set(1u8..250, 0..4)), 0..3),
    ) {
        merged(FILE, |lab| {
            for gone in gone {
                if !lab.ports.is_empty() {
                    lab.ports.remove(gone.index(lab.ports.len()));
                }
            }
            for name in new {
                let view = json!({"name": name, "namespace": name, "mtu": 1500});
                lab.ports.push(serde_json::from_value(view).unwrap());
            }
            let count = lab.ports.len();
            for (at, mtu) in mtus.into_iter().filter(|_| count > 0) {
                lab.ports[at.index(count)].mtu = Some(mtu);
            }
            for (at, hosts) in addresses.into_iter().filter(|_| count > 0) {
                let at = at.index(count);
                let address = |n| format!("10.{at}.7.{n}/24").parse().unwrap();
                lab.ports[at].addresses = hosts.into_iter().map(address).collect();
            }
        });
    }
}
