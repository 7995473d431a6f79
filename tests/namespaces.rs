//! Namespaces are those of `ip netns`; what vswitch did not make it does not remove.

use std::fs;
use std::os::unix::fs::MetadataExt;

use vswitch_testing::api::PortKind;
use vswitch_testing::api::view::{NamespaceSummary, NamespaceView, PortState};
use vswitch_testing::{Lab, Place, Station, run, wait_for};

fn names() -> Vec<String> {
    let mut names: Vec<_> = run("ip netns list")
        .lines()
        .map(|line| line.split(' ').next().unwrap().to_owned())
        .collect();
    names.sort();
    names
}

#[test]
fn a_namespace_made_here_is_known_to_ip_netns_and_back() {
    let lab = Lab::new();
    lab.ok("ns add red");
    assert_eq!(names(), ["red"]);
    assert!(
        run("ip netns exec red ip link show lo").contains("UP"),
        "lo is up in a new namespace"
    );
    lab.ok("ns del red");
    assert!(names().is_empty());
    lab.ok("ns add red");
    run("ip netns del red");
    lab.ok("ns add blue");
    wait_for("the daemon to see that red is gone", || {
        let list: Vec<NamespaceSummary> = lab.json("ns list");
        list.iter().all(|ns| ns.name.to_string() != "red" || !ns.present)
    });
}

#[test]
fn namespaces_made_for_a_port_go_with_their_last_port() {
    let lab = Lab::new();
    lab.ok("add-port one --netns red --name eth0");
    lab.ok("add-port two --netns red --name eth1 --type tap");
    assert_eq!(names(), ["red"]);
    lab.ok("del-port one");
    assert_eq!(names(), ["red"], "another port needs it");
    lab.ok("del-port two");
    assert!(names().is_empty());
}

#[test]
fn namespaces_asked_for_stay_without_ports() {
    let lab = Lab::new();
    lab.ok("ns add red");
    lab.ok("add-port red");
    lab.ok("del-port red");
    assert_eq!(names(), ["red"]);
    lab.ok("ns del red");
    assert!(names().is_empty());
}

/// By what it is, not by its name: one that others made under a name of ours is theirs.
/// It changed the lab and said nothing.
#[test]
fn a_namespace_of_a_port_is_asked_for_by_itself() {
    let lab = Lab::new();
    lab.ok("add-port red");
    for way in ["-n", ""] {
        let told = lab.ok(&format!("ns add red {way}"));
        assert!(told.contains("set namespace red to stay"), "{told}");
    }
    lab.ok("del-port red");
    assert!(names().contains(&"red".to_owned()));
    lab.ok("ns del red");
    assert!(!names().contains(&"red".to_owned()));
}

#[test]
fn a_namespace_made_again_by_others_is_shown_as_theirs() {
    let lab = Lab::new();
    lab.ok("add-port blue");
    let is_ours = || {
        let list: Vec<NamespaceSummary> = lab.json("ns list");
        let view: NamespaceView = lab.json("ns show blue");
        let listed = list.iter().find(|one| one.name.to_string() == "blue").unwrap();
        assert_eq!(listed.owned, view.summary.owned);
        listed.owned
    };
    assert!(is_ours());
    run("ip netns del blue");
    run("ip netns add blue");
    lab.wait_for_state("blue", PortState::Up);
    assert!(!is_ours() && lab.ok("ns list").contains("other"));
    lab.ok("del-port blue");
    assert!(!is_ours());
    run("ip netns del blue");
    lab.ok("ns add blue");
    assert!(is_ours());
}

#[test]
fn a_namespace_made_elsewhere_is_used_and_never_deleted() {
    let lab = Lab::new();
    run("ip netns add theirs");
    Place::named("theirs").run_ok("ip link add marker type veth peer name marker2");
    let a = Station::add(&lab, "theirs", PortKind::Veth, 1);
    let b = Station::add(&lab, "ours", PortKind::Tap, 2);
    a.ping(b.v4);
    lab.ctl("ns del theirs").failed(5, &["theirs"]);
    lab.ok("del-port theirs");
    assert_eq!(names(), ["ours", "theirs"]);
    lab.ok("add-port theirs");
    lab.ok("reset --yes");
    assert_eq!(names(), ["theirs"]);
    let links = Place::named("theirs").run_ok("ip -br link");
    assert!(links.contains("marker") && !links.contains("eth0"), "{links}");
}

/// All was shown as ever, and at the next start the port was made anew elsewhere.
#[test]
fn that_a_namespace_has_another_name_is_told_beside_its_ports() {
    let lab = Lab::new();
    lab.ok("add-port red");
    let named = |old: &str, new: &str| {
        fs::write(format!("/run/netns/{new}"), "").unwrap();
        run(&format!("mount --bind /run/netns/{old} /run/netns/{new}"));
        // The daemon may just be looking where it leads.
        run(&format!("umount -l /run/netns/{old}"));
        fs::remove_file(format!("/run/netns/{old}")).unwrap();
    };
    named("red", "other");
    lab.wait_for_port("red", "its namespace to be told of", |view| {
        let reason = view.reason.as_deref().unwrap_or_default();
        view.state == PortState::Up && reason.contains("called red no more")
    });
    named("other", "red");
    lab.wait_for_port("red", "it to be told of no more", |view| {
        view.state == PortState::Up && view.reason.is_none()
    });
}

#[test]
fn a_namespace_of_the_same_name_and_number_is_not_ours() {
    let mut lab = Lab::new();
    lab.ok("ns add red");
    lab.ok("ns add blue");
    lab.kill_daemon();
    run("ip netns del red");
    run("ip netns add red");
    // The kernel gives numbers again, but not when one waits for it: the daemon is told that red had this one before.
    let theirs = fs::metadata("/run/netns/red").unwrap();
    let path = "/var/lib/vswitch/state.json";
    let mut state: serde_json::Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    let made = state["namespaces"].as_array_mut().unwrap();
    let red = made.iter_mut().find(|made| made["name"] == "red").unwrap();
    assert_eq!(red["dev"], theirs.dev());
    red["ino"] = theirs.ino().into();
    fs::write(path, serde_json::to_vec(&state).unwrap()).unwrap();
    lab.start();
    lab.ok("reset --yes");
    assert_eq!(names(), ["red"], "what somebody else made is gone");
}

#[test]
fn deleting_a_namespace_that_ports_use_is_refused() {
    let lab = Lab::new();
    lab.ok("add-port red");
    lab.ctl("ns del red").failed(5, &["red", "port"]);
    assert_eq!(names(), ["red"]);
}

#[test]
fn show_prints_links_addresses_routes_and_neighbours() {
    let lab = Lab::new();
    let red = Station::add_with(&lab, "red", PortKind::Veth, 1, "--gateway 10.7.0.2");
    let blue = Station::add(&lab, "blue", PortKind::Tap, 2);
    red.ping(blue.v4);
    let view: NamespaceView = lab.json("ns show red");
    let link = view.links.iter().find(|link| link.name == "eth0").unwrap();
    assert_eq!(link.mac, Some(red.mac()));
    assert_eq!(link.state, "up");
    assert_eq!(link.port.as_ref().unwrap().as_str(), "red");
    assert!(
        link.addresses.contains(&"10.7.0.1/24".to_owned()),
        "{:?}",
        link.addresses
    );
    assert!(
        link.addresses.contains(&"fd07::1/64".to_owned()),
        "{:?}",
        link.addresses
    );
    let default = view.routes.iter().find(|route| route.to == "default").unwrap();
    assert_eq!(
        (default.via.as_deref(), default.dev.as_str()),
        (Some("10.7.0.2"), "eth0")
    );
    let neighbour = view.neighbours.iter().find(|n| n.ip == "10.7.0.2").unwrap();
    assert_eq!(neighbour.mac, Some(blue.mac()));
    let text = lab.ok("ns show red");
    for word in [
        "eth0",
        "10.7.0.1/24",
        "fd07::1/64",
        "default",
        "10.7.0.2",
        &blue.mac().to_string(),
    ] {
        assert!(text.contains(word), "{word} is not in:\n{text}");
    }
}

#[test]
fn exec_runs_a_command_inside_and_gives_its_exit_code() {
    let lab = Lab::new();
    lab.ok("add-port red --addr 10.7.0.1/24");
    assert!(lab.ok("ns exec red -- ip -br addr").contains("10.7.0.1/24"));
    assert!(
        lab.ok("ns exec red -- ls /sys/class/net").contains("eth0"),
        "/sys shows the namespace"
    );
    assert_eq!(lab.ctl("ns exec red -- false").code, 1);
    assert_eq!(lab.ctl("ns exec red -- no-such-program").code, 127);
    lab.ctl("ns exec green -- true").failed(4, &["green"]);
}

#[test]
fn interfaces_get_the_name_mac_and_mtu_asked_for() {
    let lab = Lab::new();
    for (port, kind) in [("one", "veth"), ("two", "tap")] {
        let mac = format!("02:00:00:00:00:0{}", port.len());
        lab.ok(&format!(
            "add-port {port} --type {kind} --netns red --name if{port} --mac {mac} --mtu 1400"
        ));
        let link = Place::named("red").run_ok(&format!("ip -o link show if{port}"));
        assert!(
            link.contains(&mac) && link.contains("mtu 1400") && link.contains("LOWER_UP"),
            "{link}"
        );
        lab.ok(&format!("del-port {port}"));
    }
}

#[test]
fn nothing_of_veth_and_tap_ports_is_seen_on_the_host() {
    let lab = Lab::new();
    let before = run("ip -br link");
    lab.ok("add-port red");
    lab.ok("add-port blue --type tap");
    assert_eq!(run("ip -br link"), before);
    assert_eq!(
        names(),
        ["blue", "red"],
        "the daemon's own namespace is not among the named ones"
    );
}

#[test]
fn a_file_that_is_no_namespace_is_left_alone() {
    let lab = Lab::new();
    lab.ok("add-port blue");
    fs::write("/run/netns/red", "").unwrap();
    let reply = lab.ctl("add-port red");
    assert_ne!(reply.code, 0, "{reply}");
    for word in ["/run/netns/red", "is no namespace", "try again"] {
        assert!(reply.stderr.contains(word), "{word}: {reply}");
    }
    assert!(fs::exists("/run/netns/red").unwrap());
    assert_eq!(lab.ports().len(), 1);
}

/// A namespace that was made for one port, and has another port by a second name, stays for that.
#[test]
fn a_namespace_in_use_by_a_second_name_stays() {
    let lab = Lab::new();
    lab.ok("add-port blue");
    std::os::unix::fs::symlink("/run/netns/blue", "/run/netns/alias").unwrap();
    lab.ok("add-port al --netns alias --name eth5 --addr 10.7.0.5/24");
    lab.ok("del-port blue");
    run("ip -n alias link show eth5");
    assert_eq!(lab.port("al").state, PortState::Up);
    lab.ok("del-port al");
    lab.ok("reset --yes");
    assert!(!names().contains(&"blue".to_owned()), "{:?}", names());
}

/// They were looked for in /run/netns, wherever the daemon had them.
#[test]
fn namespaces_are_found_where_the_daemon_has_them() {
    let mut lab = Lab::without_daemon();
    lab.add_config("[daemon]\nnetns_dir = \"/run/nsd\"\n");
    fs::create_dir("/run/nsd").unwrap();
    lab.start();
    assert_eq!(lab.status().netns_dir, "/run/nsd");
    lab.ok("add-port red --addr 10.0.0.1/24");
    lab.ok("add-port blue --addr 10.0.0.2/24");
    // One of that name which is not meant.
    run("ip netns add red");
    let addresses = lab.ok("ns exec red ip -o addr show eth0");
    assert!(addresses.contains("10.0.0.1/24"), "{addresses}");
    lab.ok("ping red blue -c 1");
    lab.ok("pingall");
    lab.ok("shell blue /bin/true");
    let file = lab.lab_file("name = \"l\"\n[[ports]]\nname = \"n{1..2}\"\naddresses = [\"10.0.0.{n+2}/24\"]\n");
    lab.ok(&format!("lab up {file}"));
    lab.ok(&format!("lab test {file}"));
    lab.ok("doctor red blue");
    let report = lab.scratch().join("report.tar.gz");
    lab.ok(&format!("bugreport {}", report.display()));
    let doctor = run(&format!("tar xzOf {} --wildcards *doctor.txt", report.display()));
    assert!(!doctor.contains("WRONG"), "{doctor}");
    run("ip netns del red");
    lab.ctl("ns exec nope true")
        .failed(4, &["namespace \"nope\"", "does not exist"]);
}
