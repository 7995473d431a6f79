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

proptest! {
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
