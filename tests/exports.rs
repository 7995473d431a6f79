//! What a lab may say: it is taken, exported and the same again.

use std::process::Command;

use serde_json::{Value, json};
use vswitch_testing::http::request;
use vswitch_testing::require::missing;
use vswitch_testing::rich::{rich, wanted};
use vswitch_testing::{Lab, Place};

/// Static entries were in no export, so that they were gone after an apply of it.
#[test]
fn what_is_exported_can_be_applied_and_is_the_same() {
    let lab = rich();
    let (before, text) = (wanted(), lab.ok("export"));
    assert!(text.contains("mac = \"own\""), "{text}");
    lab.ok("reset --yes");
    assert!(wanted().ports.is_empty());
    let file = lab.lab_file(&text);
    assert_eq!(lab.ctl(&format!("apply {file}")).ok().code, 0);
    assert_eq!(wanted(), before);
    assert_eq!(lab.ok("export"), text);
    // Nothing is left to be done.
    assert_eq!(
        request("PUT", "/v1/lab?dry_run", &serde_json::to_string(&before).unwrap()).json()["done"],
        json!([])
    );
}

/// A mirror's filter was its program, so that nobody could write one.
#[test]
fn a_mirrors_filter_is_written_as_it_is_said() {
    let lab = Lab::new();
    if Command::new("tcpdump").arg("--version").output().is_err() {
        missing("tcpdump, which compiles filters", "it is not installed");
        return;
    }
    let file = lab.lab_file(
        "[[ports]]\nname = \"red\"\n[[ports]]\nname = \"mon\"\n\
         [[mirrors]]\nname = \"m\"\nports = [\"red\"]\nto = \"mon\"\nfilter = \"tcp port 80\"\n",
    );
    lab.ok(&format!("apply {file}"));
    let before = wanted();
    let filter = before.mirrors[0].filter.as_ref().unwrap();
    assert!(
        filter.expression == "tcp port 80" && filter.program.is_some(),
        "{filter:?}"
    );
    let text = lab.ok("export");
    assert!(text.contains("filter = \"tcp port 80\""), "{text}");
    lab.ok("reset --yes");
    let file = lab.lab_file(&text);
    lab.ok(&format!("apply {file}"));
    assert_eq!(wanted(), before);
    // Without its program the daemon does not take it, and says who makes it.
    let mirror = json!({"name": "n", "ports": ["red"], "to": "mon", "filter": "arp"});
    let answer = request("POST", "/v1/mirrors", &mirror.to_string());
    assert!(answer.status == 400 && answer.body.contains("vswitchctl"), "{answer:?}");
}

/// Static stations are part of the lab: of files, restarts, dry runs, and gone with a reset.
#[test]
fn static_stations_are_part_of_the_lab() {
    let mut lab = Lab::new();
    lab.ok("add-port red");
    lab.ok("add-port blue");
    let fdb = |lab: &Lab| {
        let entries = lab.fdb("main").into_iter().filter(|entry| entry.is_static);
        let shown = entries.map(|entry| format!("{} {} {}", entry.switch, entry.mac, entry.port));
        shown.collect::<Vec<_>>()
    };
    lab.ok("fdb add 02:00:00:00:00:aa red");
    assert_eq!(fdb(&lab), ["main 02:00:00:00:00:aa red"]);
    assert!(lab.ok("export").contains("02:00:00:00:00:aa"));
    // It moves, though red is the first of the ports that are changed for it.
    lab.ok("fdb add 02:00:00:00:00:aa blue");
    assert_eq!(fdb(&lab), ["main 02:00:00:00:00:aa blue"]);
    lab.ok("fdb add 02:00:00:00:00:aa red");
    lab.ok("fdb add 02:00:00:00:00:bb blue --vlan 7");
    assert_eq!(fdb(&lab), ["main 02:00:00:00:00:aa red", "main 02:00:00:00:00:bb blue"]);
    // Both ways at once.
    let mut swapped = wanted();
    let [red, blue] = [0, 1].map(|n| swapped.ports[n].stations.clone());
    (swapped.ports[0].stations, swapped.ports[1].stations) = (blue, red);
    let answer = request("PUT", "/v1/lab", &serde_json::to_string(&swapped).unwrap());
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(fdb(&lab), ["main 02:00:00:00:00:aa blue", "main 02:00:00:00:00:bb red"]);
    lab.kill_daemon();
    lab.start();
    assert_eq!(fdb(&lab), ["main 02:00:00:00:00:aa blue", "main 02:00:00:00:00:bb red"]);
    let dry = request("DELETE", "/v1/switches/main/fdb?mac=02:00:00:00:00:aa&dry_run", "");
    assert_eq!(dry.json()["done"], json!(["removed FDB entry 02:00:00:00:00:aa"]));
    assert_eq!(fdb(&lab).len(), 2);
    lab.ok("fdb del 02:00:00:00:00:aa");
    lab.ctl("fdb del 02:00:00:00:00:aa").failed(4, &["no such entry"]);
    lab.ok("del-port red");
    assert_eq!(fdb(&lab), [""; 0]);
    lab.ctl("fdb add ff:ff:ff:ff:ff:ff blue")
        .failed(2, &["MAC", "no station can have"]);
    let refused = request(
        "PUT",
        "/v1/switches/main/fdb",
        r#"{"mac":"ff:ff:ff:ff:ff:ff","port":"blue"}"#,
    );
    assert_eq!(refused.status, 400, "{refused:?}");
    assert!(refused.body.contains("not the address of a station"), "{refused:?}");
}

/// `fdb --json` over several switches did not say which.
#[test]
fn an_fdb_entry_says_whose_it_is() {
    let lab = Lab::new();
    lab.ok("switch add side");
    for (port, switch) in [("red", "main"), ("blue", "side")] {
        lab.ok(&format!("add-port {port} --switch {switch}"));
        lab.ok(&format!("fdb add 02:00:00:00:00:aa {port} --switch {switch}"));
    }
    let all: Vec<Value> = lab.json("fdb");
    let statics = all.iter().filter(|entry| entry["static"] == true);
    let switches: Vec<_> = statics.map(|entry| &entry["switch"]).collect();
    assert_eq!(switches, ["main", "side"]);
}

/// One address in two VLANs, one link-local gateway in each, one station on two switches: all refused, and all work.
#[test]
fn each_vlan_has_addresses_of_its_own() {
    let lab = Lab::new();
    lab.ok("switch add side");
    for vlan in [10, 20] {
        let options = format!("--vlan {vlan} --mac 02:00:00:00:00:01 --addr 10.0.0.1/24 --addr fe80::1/64");
        lab.ok(&format!("add-port gw{vlan} {options}"));
        let added = lab.ctl(&format!(
            "add-port vm{vlan} --vlan {vlan} --addr 10.0.0.2/24 --addr fd00:{vlan}::2/64"
        ));
        assert!(added.ok().stderr.is_empty());
        lab.ok(&format!("route add vm{vlan} default --via fe80::1"));
        Place::named(&format!("vm{vlan}")).run(|| vswitch_testing::run("ping -n -c 1 -W 5 10.0.0.1"));
    }
    lab.ok("add-port far --switch side --mac 02:00:00:00:00:01 --addr 10.0.0.1/24");
    lab.ctl("add-port bad --vlan 10 --addr 10.0.0.2/24")
        .failed(5, &["taken by port \"vm10\"", "VLAN 10"]);
    lab.ctl("add-port bad --vlan 20 --mac 02:00:00:00:00:01")
        .failed(5, &["taken by port \"gw20\""]);
    // Nor can a port come into a VLAN where its address is taken.
    lab.ctl("set port vm20 --vlan 10").failed(5, &["10.0.0.2"]);
}

/// `--addr 10.244.1.1/32 --gateway 169.254.1.1`, as container networks have it, was refused.
#[test]
fn a_gateway_may_be_on_the_link_without_a_subnet() {
    let mut lab = Lab::new();
    lab.ok("add-port gw --addr 169.254.1.1/32");
    lab.ok("route add gw 10.244.0.0/16");
    lab.ok("add-port pod --addr 10.244.1.1/32 --gateway 169.254.1.1");
    // By a route to it first, and by saying so.
    lab.ok("add-port second --addr 10.244.1.2/24");
    lab.ctl("route add second default --via 169.254.1.1")
        .failed(2, &["in none of the port's subnets", "--onlink"]);
    lab.ok("route add second 169.254.1.1/32");
    lab.ok("route add second default --via 169.254.1.1");
    lab.ok("add-port third --addr 10.244.1.3/24");
    lab.ok("route add third default --via 169.254.1.1 --onlink");
    let works = |lab: &Lab| {
        for port in ["pod", "second", "third"] {
            Place::named(port).run(|| vswitch_testing::run("ping -n -c 1 -W 5 169.254.1.1"));
            assert!(
                lab.port(port)
                    .port
                    .routes
                    .iter()
                    .any(|route| route.to.prefix_len() == 0)
            );
        }
    };
    works(&lab);
    lab.kill_daemon();
    lab.start();
    works(&lab);
    lab.ctl("add-port pod --addr 10.244.1.1/32 --gateway 169.254.1.1 --if-not-exists")
        .ok();
    // Without its address the port has no use for the route, as the kernel sees it too.
    lab.ok("addr flush pod");
    assert!(lab.port("pod").port.routes.is_empty());
    lab.ok("addr add pod 10.244.1.1/32");
    lab.ok("route add pod default --via 169.254.1.1");
    works(&lab);
}

/// A second cable between two namespaces was refused, and none had an MTU or routes.
#[test]
fn two_namespaces_may_be_joined_by_several_cables() {
    let mut lab = Lab::new();
    lab.ok("cable red blue --addr-a 10.1.0.1/30 --addr-b 10.1.0.2/30 --mtu 9000");
    let line =
        "cable red blue --addr-a 10.1.1.1/30 --addr-b 10.1.1.2/30 --route-a 10.7.0.0/16,10.1.1.2 --route-b 10.8.0.0/16";
    lab.ok(line);
    lab.ok(&format!("{line} --if-not-exists"));
    lab.ok("cable blue red --name-a x0");
    assert_eq!(wanted().cables.len(), 3);
    let red = Place::named("red");
    for address in ["10.1.0.2", "10.1.1.2"] {
        red.run(|| vswitch_testing::run(&format!("ping -n -c 1 -W 5 {address}")));
    }
    red.run(|| vswitch_testing::run("ping -n -c 1 -W 5 -M do -s 8900 10.1.0.2"));
    let routes = |lab: &Lab| {
        let _ = lab;
        let output = red.output("ip route show 10.7.0.0/16");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    assert!(routes(&lab).contains("via 10.1.1.2 dev eth1"), "{}", routes(&lab));
    lab.kill_daemon();
    lab.start();
    assert!(routes(&lab).contains("via 10.1.1.2 dev eth1"), "{}", routes(&lab));
    assert_eq!(wanted().cables.len(), 3);
    lab.ctl("cable del red blue").failed(5, &["one of 3", "--name-a"]);
    lab.ok("cable del red blue --name-a eth1");
    assert_eq!(routes(&lab), "");
    lab.ok("cable del red blue --name-b x0");
    lab.ok("cable del blue red");
    assert!(wanted().cables.is_empty());
    lab.ctl("cable red blue --name-a e0 --name-b e0").ok();
    lab.ctl("cable red blue --name-a e0").failed(5, &["interface e0"]);
}

/// Its interfaces stay, with what somebody else gave them.
#[test]
fn a_cable_is_changed_in_its_place() {
    let mut lab = Lab::new();
    lab.ok("cable red blue --addr-a 10.1.0.1/30 --addr-b 10.1.0.2/30");
    let of = |name: &str| Place::named(name).run_ok("ip -br addr show eth0");
    let index = |name: &str| {
        let line = Place::named(name).run_ok("ip -o link show eth0");
        line.split(':').next().map(str::to_owned)
    };
    let before = index("red");
    Place::named("red").run_ok("ip addr add 10.66.0.1/24 dev eth0");
    // Its ends are those of the words, in whatever order it was laid.
    let told = lab.ok("cable set blue red mtu=1400 addresses_a=10.1.0.6/29 routes_b=[{\"to\":\"10.9.0.0/16\"}]");
    assert!(
        told.contains("took address 10.1.0.2/30 from eth0 in namespace blue"),
        "{told}"
    );
    let check = || {
        assert!(
            of("red").contains("10.1.0.1/30") && of("red").contains("10.66.0.1/24"),
            "{}",
            of("red")
        );
        assert!(
            of("blue").contains("10.1.0.6/29") && !of("blue").contains("10.1.0.2"),
            "{}",
            of("blue")
        );
        let routes = Place::named("red").run_ok("ip route show 10.9.0.0/16");
        assert!(routes.contains("dev eth0"), "{routes}");
        assert_eq!(index("red"), before);
    };
    check();
    lab.kill_daemon();
    lab.start();
    check();
    // A file says the same by its place.
    let text = lab.ok("export").replace("mtu = 1400", "mtu = 1300");
    let told = lab.ok(&format!("apply {}", lab.lab_file(&text)));
    assert_eq!(told.lines().count(), 1, "{told}");
    assert!(
        told.contains("set MTU of the cable red (eth0) and blue (eth0) to 1300"),
        "{told}"
    );
    assert_eq!(index("red"), before);
    // The kernel refuses one, and all is as it was.
    lab.ctl("cable set red blue routes_a=[{\"to\":\"10.8.0.0/16\",\"via\":\"10.250.0.1\"}] mtu=1250")
        .failed(2, &["10.250.0.1"]);
    assert_eq!(wanted().cables[0].mtu, Some(1300));
    lab.ok("cable set red blue mtu=none addresses_a=none routes_a=");
    assert_eq!(wanted().cables[0].mtu, None);
    for (line, code, word) in [
        ("cable set red green mtu=1400", 4, "green"),
        ("cable set red blue mtu=5", 2, "5"),
        ("cable set red blue adresses_a=10.0.0.1/8", 2, "addresses_a"),
        ("cable set red blue --name-a nosuch mtu=1400", 4, "no such cable"),
    ] {
        lab.ctl(line).failed(code, &[word]);
    }
    lab.ok("cable red blue");
    lab.ctl("cable set red blue mtu=1400")
        .failed(5, &["one of 2", "--name-a"]);
}

/// Who removed which port was logged nowhere at the default level.
#[test]
fn the_log_tells_who_changed_which_port() {
    let mut lab = Lab::new();
    lab.ok("add-port red --addr 10.0.0.1/24");
    lab.ok("set port red --mtu 1400");
    request("PATCH", "/v1/ports/red?dry_run", r#"{"mtu":1300}"#);
    lab.ok("del-port red");
    let log = lab.daemon().log();
    // One line for each change, and one at a lower level for each thing that it changed.
    for words in [
        &[
            "INFO",
            "added port red",
            "method=POST",
            "path=\"/v1/ports\"",
            "uid=0",
            "pid=",
            "result=\"done\"",
        ][..],
        &[
            "INFO",
            "set MTU of port red to 1400",
            "path=\"/v1/ports/red\"",
            "user=\"root\"",
            "program=\"vswitchctl\"",
        ],
        &["INFO", "removed port red", "method=DELETE", "dry_run=false"],
        &["DEBUG", "removed port red", "port=red"],
        &["DEBUG", "set MTU of port red to 1300", "dry_run=true"],
    ] {
        let told = log.lines().filter(|line| words.iter().all(|word| line.contains(word)));
        assert_eq!(told.count(), 1, "{words:?}\n{log}");
    }
    assert_eq!(log.matches("1300").count(), 1, "{log}");
}
