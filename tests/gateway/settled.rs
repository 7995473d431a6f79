//! What ports and gateways have when what their switches say changes.

use super::*;

/// A lab file with one switch and two stations that take what it has.
fn file(lab: &Lab, switch: &str) -> String {
    let port = |name: &str| format!("[[ports]]\nname = \"{name}\"\nswitch = \"s\"\nauto_addresses = true\n");
    lab.lab_file(&format!(
        "name = \"one\"\n[[switches]]\nname = \"s\"\n{switch}\n{}{}",
        port("a"),
        port("b")
    ))
}

fn up(lab: &Lab, switch: &str) {
    lab.ok(&format!("lab up --yes {}", file(lab, switch)));
}

fn all(lab: &Lab) -> [String; 3] {
    ["s-gw", "a", "b"].map(|name| addresses(lab, name).concat())
}

/// Gateway and station swapped their addresses, and another kept the length of before.
#[test]
fn a_subnet_that_grows_leaves_all_where_they_are() {
    let lab = Lab::new();
    up(&lab, "subnets = [\"10.1.0.0/24\"]\ngateway = true");
    assert_eq!(all(&lab), ["10.1.0.1/24", "10.1.0.2/24", "10.1.0.3/24"]);
    up(&lab, "subnets = [\"10.1.0.0/16\"]\ngateway = true");
    assert_eq!(all(&lab), ["10.1.0.1/16", "10.1.0.2/16", "10.1.0.3/16"]);
    pings("a", "10.1.0.3");
    lab.ok("set switch s subnets=10.1.0.0/23");
    assert_eq!(all(&lab), ["10.1.0.1/23", "10.1.0.2/23", "10.1.0.3/23"]);
    run("ip addr add 192.0.2.1/32 dev lo");
    pings("b", "192.0.2.1");
}

#[test]
fn a_gateway_that_comes_takes_nobodys_address() {
    let lab = Lab::new();
    let subnet = "subnets = [\"10.1.0.0/24\"]";
    up(&lab, subnet);
    assert_eq!(addresses(&lab, "a"), ["10.1.0.1/24"]);
    up(&lab, &format!("{subnet}\ngateway = true"));
    assert_eq!(all(&lab), ["10.1.0.3/24", "10.1.0.1/24", "10.1.0.2/24"]);
    pings("a", "10.1.0.3");
    // With addresses that are said it has these, and then the first that is free.
    up(&lab, &format!("{subnet}\ngateway = [\"10.1.0.254\", \"10.1.0.253\"]"));
    assert_eq!(addresses(&lab, "s-gw"), ["10.1.0.254/24", "10.1.0.253/24"]);
    pings("a", "10.1.0.253");
    up(&lab, &format!("{subnet}\ngateway = true"));
    assert_eq!(addresses(&lab, "s-gw"), ["10.1.0.3/24"]);
}

#[test]
fn a_port_that_goes_to_another_switch_is_led_out_there() {
    let lab = Lab::new();
    lab.ok("switch add g --subnet 10.10.0.0/24 --gateway");
    lab.ok("switch add h --subnet 10.20.0.0/24 --gateway");
    lab.ok("add-port red --switch g --addr auto");
    lab.ok("set port red switch=h");
    assert_eq!(addresses(&lab, "red"), ["10.20.0.2/24"]);
    assert_eq!(routes(&lab, "red"), ["0.0.0.0/0 Some(10.20.0.1)"]);
    run("ip addr add 192.0.2.1/32 dev lo");
    pings("red", "192.0.2.1");
}

#[test]
fn a_namespace_on_two_switches_is_led_out_by_the_first() {
    let lab = Lab::new();
    lab.ok("switch add l1 --subnet 10.1.0.0/24 --gateway");
    lab.ok("switch add l2 --subnet 10.2.0.0/24 --gateway");
    lab.ok("add-port m1 --netns m --switch l1 --addr auto");
    let told: Changes = lab.json("add-port m2 --netns m --switch l2 --addr auto");
    let told = told.warnings.join("\n");
    assert!(told.contains("port \"m2\" gets no default route of IPv4"), "{told}");
    let way = || Place::named("m").run_ok("ip route show default");
    assert!(way().contains("via 10.1.0.1"), "{}", way());
    // Whoever is there yet has it when the other goes.
    lab.ok("del-port m1");
    assert!(way().contains("via 10.2.0.1"), "{}", way());
    lab.ok("add-port m1 --netns m --switch l1 --addr auto");
    lab.ok("set switch l2 gateway=off");
    assert!(way().contains("via 10.1.0.1"), "{}", way());
    // One that is said takes its place; two are too many.
    lab.ok("add-port m3 --netns m --addr 10.3.0.2/24 --gateway 10.3.0.1");
    assert!(way().contains("via 10.3.0.1"), "{}", way());
    lab.ctl("add-port m4 --netns m --addr 10.4.0.2/24 --gateway 10.4.0.1")
        .failed(5, &["port \"m4\"", "0.0.0.0/0", "port \"m3\" via 10.3.0.1"]);
    lab.ok("del-port m3");
    assert!(way().contains("via 10.1.0.1"), "{}", way());
}

/// The gateway took the address of the host's router, and a station that of the host.
#[test]
fn the_hosts_own_network_is_taken_by_force_only() {
    let lab = Lab::new();
    world();
    let words = ["203.0.113.1", "up0", "--force", "10.10.0.0/24"];
    let add = "switch add lab --subnet 203.0.113.0/24";
    lab.ctl(&format!("{add} --gateway")).failed(5, &words);
    lab.ctl("switch add lab --subnet 203.0.0.0/16 --gateway")
        .failed(5, &words);
    // Without a gateway it is the stations' alone; they are given none that is the host's or its router's.
    lab.ok(add);
    lab.ok("add-port red --switch lab --addr auto");
    assert_eq!(addresses(&lab, "red"), ["203.0.113.3/24"]);
    lab.ctl("set switch lab gateway=on").failed(5, &words);
    // Nor is the host made another member.
    for address in ["203.0.113.1/32", "203.0.113.2/32", "203.0.113.9/24"] {
        let add = format!("add-port leg --type internal --addr {address}");
        lab.ctl(&add).failed(5, &["port \"leg\"", "up0", "--force"]);
        lab.ok(&format!("{add} -n --force"));
    }
    let text = "name = \"x\"\n[[switches]]\nname = \"x\"\nsubnets = [\"203.0.113.0/24\"]\ngateway = true\n";
    let x = lab.lab_file(text);
    lab.ctl(&format!("lab up {x}")).failed(5, &words);
    let told: Changes = lab.json(&format!("lab up -n --force {x}"));
    assert!(told.warnings.join("\n").contains("leads the host astray"), "{told:?}");
    lab.ok("set switch lab gateway=on -n --force");
}

#[test]
fn what_a_gateway_is_in_the_way_of_is_told_with_what_to_do() {
    let lab = Lab::new();
    world();
    run("ip link add sw3-gw type veth peer name sw3-peer");
    let reply = lab
        .ctl("switch add sw3 --subnet 10.30.0.0/24 --gateway")
        .failed(5, &["sw3-gw", "another name"]);
    assert!(!reply.stderr.contains("--name"), "{reply}");
    lab.ok("switch add g --subnet 10.10.0.0/24 --gateway --nat");
    lab.ctl("del-port g-gw")
        .failed(5, &["set switch g gateway=off nat=off"]);
    // It would have another one at once.
    for line in ["addr del g-gw 10.10.0.1/24", "addr flush g-gw"] {
        lab.ctl(line)
            .failed(5, &["gateway of switch \"g\"", "set switch g gateway=ADDR"]);
    }
    lab.ok("addr add g-gw 10.77.0.1/24");
    lab.ok("addr del g-gw 10.77.0.1/24");
    lab.ok("add-port p --switch g --addr auto");
    lab.ok("publish p 8081:80");
    let reply = lab
        .ctl("addr flush p")
        .failed(5, &["no address in a subnet", "publish=none"]);
    assert!(!reply.stderr.contains("auto_addresses"), "{reply}");
    lab.ok("set port p publish=none");
    lab.ok("set switch g gateway=off nat=off");
    lab.ctl("set switch main gateway=on")
        .failed(2, &["subnets=10.10.0.0/24"]);
}

/// The host was cut off from its router or its neighbours, and nothing was said.
#[test]
fn the_way_of_the_host_to_its_router_is_taken_by_force_only() {
    let lab = Lab::new();
    world();
    let words = ["203.0.113.2, the router that the host gets out by", "up0", "--force"];
    run("ip addr del 203.0.113.1/24 dev up0");
    run("ip addr add 203.0.113.99/24 dev up0");
    run("ip route replace default via 203.0.113.2");
    // Neither of them has the host's own address.
    for gateway in ["", "=10.99.9.9"] {
        let add = format!("switch add n --subnet 203.0.113.0/28 --gateway{gateway}");
        lab.ctl(&add).failed(5, &words);
        lab.ok(&format!("{add} -n --force"));
    }
    lab.ctl("add-port leg --type internal --addr 203.0.113.3/28")
        .failed(5, &words);
    lab.ok("add-port leg --type internal --addr 10.99.0.1/24 --addr fd99::1/64");
    for route in [
        "203.0.113.2/32 --via 10.99.0.2",
        "203.0.113.0/28 --via 10.99.0.2",
        "2001:db8::2/128 --via fd99::2",
    ] {
        lab.ctl(&format!("route add leg {route}"))
            .failed(5, &["port \"leg\"", "the router that the host gets out by", "--force"]);
        lab.ok(&format!("route add leg {route} -n --force"));
    }
    // Of neighbours it is told, whatever takes them away.
    for line in [
        "route add leg 203.0.113.16/28 --via 10.99.0.2 -n",
        "route add leg 2001:db8::10/124 --via fd99::2 -n",
        "switch add o --subnet 203.0.113.16/28 --gateway=10.99.9.9 -n",
    ] {
        let told: Changes = lab.json(line);
        let told = told.warnings.join("\n");
        assert!(told.contains("a route to") && told.contains("up0"), "{line}: {told}");
    }
    let told: Changes = lab.json("route add leg 203.0.0.0/16 --via 10.99.0.2");
    assert!(told.warnings.is_empty(), "the host's own is longer: {told:?}");
}

/// What was said to be typed was refused.
#[test]
fn what_is_said_to_be_typed_can_be_done() {
    let lab = Lab::new();
    lab.ok("switch add g --subnet 10.10.0.0/24 --gateway");
    lab.ctl("set port g-gw switch=main")
        .failed(5, &["gateway of switch \"g\"", "set switch g gateway=off"]);
    lab.ok("add-port m1 --addr 10.10.0.9/24");
    let reply = lab.ctl("publish m1 8080:80").failed(5, &["turns it on"]);
    let hint = reply
        .stderr
        .split("vswitchctl ")
        .find(|part| part.starts_with("set switch main"));
    let (line, _) = hint.and_then(|part| part.split_once(" turns it on")).unwrap();
    lab.ok(line);
    run("ip link add dv type veth peer name dv-far");
    lab.ok("add-port dv --type device");
    lab.ctl("publish dv 8080:80").failed(5, &["device port", "has none"]);
    lab.ctl("ping m1 dv").failed(2, &["device port", "behind it"]);
}
