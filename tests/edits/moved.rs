//! What one edit takes from one interface and gives to another, as each of the two labs has it.

use vswitch_api::link::LinkView;
use vswitch_api::view::PortState;
use vswitch_testing::run;

use super::*;

/// Applies the two labs by turns, and looks at each.
fn by_turns(lab: &Lab, labs: [&str; 2], look: impl Fn(usize)) {
    let files = labs.map(str::to_owned);
    for n in [0, 1, 0] {
        let path = lab.lab_file(&files[n]);
        lab.ok(&format!("apply -n --yes {path}"));
        lab.ok(&format!("apply --yes {path}"));
        look(n);
        lab.ctl(&format!("apply --yes {path}")).ok();
        assert!(lab.ports().iter().all(|view| view.state == PortState::Up));
        look(n);
    }
    lab.ok("reset --yes");
}

fn port(n: u8, more: &str) -> String {
    format!(
        "[[ports]]\nname = \"p{n}\"\nnamespace = \"n\"\nifname = \"eth{n}\"\naddresses = [\"10.1.{n}.1/24\", \"fd0{n}::1/64\"]\n{more}\n"
    )
}

fn cable(more: &str) -> String {
    format!(
        "[[cables]]\na = {{ namespace = \"n\", ifname = \"wire\", addresses = [\"10.2.0.1/30\"]{more} }}\nb = {{ namespace = \"far\" }}\n"
    )
}

fn routes(of: &[(&str, &str)]) -> String {
    let one = |(to, via): &(&str, &str)| format!("{{ to = \"{to}\", via = \"{via}\" }}");
    format!("routes = [{}]", of.iter().map(one).collect::<Vec<_>>().join(", "))
}

/// The kernel has one to a destination: it was refused, in this order of the interfaces or in that.
#[test]
fn a_route_moves_to_another_interface() {
    let lab = Lab::new();
    for to in ["10.9.0.0/16", "0.0.0.0/0"] {
        let by_port = |n: u8| routes(&[(to, &format!("10.1.{n}.9"))]);
        let by_cable = format!(", {}", routes(&[(to, "10.2.0.2")]));
        let looked = |dev: [&'static str; 2]| {
            move |n: usize| {
                let there = run(&format!("ip -n n route show {to}"));
                assert!(there.lines().count() == 1 && there.contains(dev[n]), "{there}");
            }
        };
        let [one, two] = [[by_port(1), String::new()], [String::new(), by_port(2)]]
            .map(|[first, second]| port(1, &first) + &port(2, &second));
        by_turns(&lab, [&one, &two], looked(["eth1", "eth2"]));
        let [one, two] = [(by_port(1), ""), (String::new(), by_cable.as_str())]
            .map(|(of_port, of_cable)| port(1, &of_port) + &cable(of_cable));
        by_turns(&lab, [&one, &two], looked(["eth1", "wire"]));
        by_turns(
            &lab,
            [&port(1, &by_port(1)), &port(2, &by_port(2))],
            looked(["eth1", "eth2"]),
        );
        by_turns(
            &lab,
            [&port(1, &by_port(1)), &cable(&by_cable)],
            looked(["eth1", "wire"]),
        );
    }
}

/// Each takes the other's.
#[test]
fn two_interfaces_change_routes() {
    let lab = Lab::new();
    let document = |first: u8, second: u8| {
        let of = |n: u8, at: u8| {
            routes(&[
                (&format!("10.9{n}.0.0/16"), &format!("10.1.{at}.9")),
                (&format!("fd9{n}::/32"), &format!("fd0{at}::9")),
            ])
        };
        port(1, &of(first, 1)) + &port(2, &of(second, 2))
    };
    by_turns(&lab, [&document(1, 2), &document(2, 1)], |n| {
        let [first, second] = [["eth1", "eth2"], ["eth2", "eth1"]][n];
        for (to, dev) in [
            ("-4 route show 10.91.0.0/16", first),
            ("-4 route show 10.92.0.0/16", second),
            ("-6 route show fd91::/32", first),
            ("-6 route show fd92::/32", second),
        ] {
            let there = run(&format!("ip -n n {to}"));
            assert!(there.contains(&format!("dev {dev}")), "{to}: {there}");
        }
    });
}

/// The new interface, which had the address of the old cable, was taken for that and deleted.
#[test]
fn a_mac_address_moves_between_a_cable_and_a_port() {
    let lab = Lab::new();
    let mac = "mac = \"02:00:00:00:00:01\"";
    let cable =
        format!("[[cables]]\na = {{ namespace = \"n\", ifname = \"wire\", {mac} }}\nb = {{ namespace = \"far\" }}\n");
    let port = format!("[[ports]]\nname = \"p\"\nnamespace = \"n\"\nifname = \"eth1\"\n{mac}\n");
    by_turns(&lab, [&cable, &port], |n| {
        let there = run("ip -n n -br link");
        let [is, was] = [["wire", "eth1"], ["eth1", "wire"]][n];
        assert!(there.contains(is) && !there.contains(was), "{there}");
    });
}

/// The other end was lost with the pair of the kernel, took the new pair down as that was told, and so on by turns.
#[test]
fn an_end_of_a_link_moves_to_another_switch() {
    let lab = Lab::new();
    for line in [
        "switch add s1",
        "switch add s2",
        "link add main s1",
        "add-port red --addr 10.0.0.1/24",
        "add-port blue --switch s2 --addr 10.0.0.2/24",
    ] {
        lab.ok(line);
    }
    let up = |at: &str| {
        let links: Vec<LinkView> = lab.json("link list");
        let ends = [&links[0].a, &links[0].b];
        assert!(ends.iter().all(|end| end.state == PortState::Up), "{links:?}");
        assert_eq!(ends.map(|end| end.switch.as_str()), ["main", at], "{links:?}");
    };
    lab.ok("set port s1-main switch=s2");
    up("s2");
    run("ip netns exec red ping -n -c 1 -W 5 10.0.0.2");
    up("s2");
    // A refused edit takes nothing down.
    run("ip netns add theirs");
    run("ip -n theirs link add eth5 type veth peer name other");
    let document = lab
        .ok("export")
        .replace("switch = \"s2\"\npeer", "switch = \"s1\"\npeer");
    let more = "[[ports]]\nname = \"px\"\nnamespace = \"theirs\"\nifname = \"eth5\"\n";
    let path = lab.lab_file(&format!("{document}\n{more}"));
    lab.ctl(&format!("apply --yes {path}")).failed(5, &["eth5"]);
    up("s2");
    run("ip netns exec red ping -n -c 1 -W 5 10.0.0.2");
    up("s2");
}

/// What is there is taken back by one edit, also where each part of it keeps the others in place.
#[test]
fn a_switch_is_resized_as_its_ports_go() {
    let lab = Lab::new();
    lab.ok("switch add s1 --fdb-capacity 1024");
    lab.ok("add-port red --switch s1");
    lab.ctl("set switch s1 fdb_capacity=2048").failed(5, &["with ports"]);
    let path = lab.lab_file("[[switches]]\nname = \"s1\"\nfdb_capacity = 2048\n");
    lab.ok(&format!("apply --yes {path}"));
    assert_eq!(lab.switch("s1").switch.fdb_capacity, 2048);
}
