//! The verbs of Open vSwitch, bridge(8) and brctl(8): what ours print and how they end is held against the originals, on a lab of the same
//! shape.

use std::collections::BTreeMap;
use std::process::Command;

use vswitch_testing::api::Mac;
use vswitch_testing::frame::{mac, probe};
use vswitch_testing::raw::RawSocket;
use vswitch_testing::{Lab, Ovs, Place, Reply, run, wait_for};

/// Interfaces of the host that become ports; behind each is a namespace.
const PORTS: [&str; 3] = ["p1", "p2", "p3"];

fn station(port: &str) -> Mac {
    mac(7, port.as_bytes()[1].into())
}

fn interfaces() {
    for port in PORTS {
        run(&format!("ip netns add n{port}"));
        run(&format!(
            "ip link add name {port} type veth peer name eth0 netns n{port}"
        ));
        run(&format!("ip link set dev {port} up"));
        run(&format!("ip -n n{port} link set dev eth0 up"));
    }
}

fn no_interfaces() {
    for port in PORTS {
        run(&format!("ip link del dev {port}"));
        run(&format!("ip netns del n{port}"));
    }
}

/// Each station says something, so that it is learned.
fn speak() {
    for port in &PORTS[..2] {
        let socket = RawSocket::open(&Place::named(&format!("n{port}")), "eth0", false);
        socket.send(&probe(Mac::BROADCAST, station(port), 1));
    }
}

/// What one of the two did.
#[derive(Debug, PartialEq)]
struct Done {
    line: String,
    code: i32,
    printed: String,
}

fn done(line: &str, reply: &Reply, as_compared: impl Fn(&str, &str) -> String) -> Done {
    Done {
        line: line.to_owned(),
        code: reply.code,
        printed: as_compared(line, &reply.stdout),
    }
}

/// Errors of ours are one line that names something.
fn assert_told(reply: &Reply) {
    if reply.code != 0 && !reply.line.contains("br-exists") {
        assert!(reply.stderr.starts_with("vswitchctl: "), "{reply}");
        assert_eq!(reply.stderr.lines().count(), 1, "{reply}");
    }
}

/// Before the stations have spoken.
const VSCTL: [&str; 50] = [
    "add-br br1 -- set bridge br1 datapath_type=netdev",
    "add-br br1",
    "--may-exist add-br br1",
    "br-exists br1",
    "br-exists nobr",
    "add-port br1 p1 tag=10",
    "add-port br1 p1",
    "--may-exist add-port br1 p1",
    "add-port nobr p2",
    "add-port br1 p2 -- set port p2 trunks=20,30",
    "add-port br1 i0 tag=7 -- set Interface i0 type=internal",
    "list-ports br1",
    "list-ifaces br1",
    "list-ports nobr",
    "port-to-br p1",
    "port-to-br nosuch",
    "port-to-br br1",
    "iface-to-br p2",
    "get port p1 tag",
    "get port p2 trunks tag vlan_mode",
    "get port p1 trunks",
    "set port p2 vlan_mode=native-untagged tag=5",
    "get port p2 vlan_mode tag trunks",
    "show",
    "set port nosuch tag=3",
    "set port p1 tag=5000",
    "set port p1 vlan_mode=foo",
    "set port p1 nocol=5",
    "get port p1 nocol",
    "set port p2 trunks=[20,30,40]",
    "remove port p2 trunks 30",
    "get port p2 trunks",
    "clear port p2 tag trunks vlan_mode",
    "get port p2 tag",
    "set interface p1 mtu_request=1400",
    "get interface p1 mtu_request",
    "get interface i0 type",
    "set bridge br1 other_config:mac-aging-time=60",
    "get bridge br1 other_config:mac-aging-time",
    "get bridge br1 other_config",
    "frobnicate",
    "list-br -- list-ports br1",
    "add-br br2 -- add-port br2 p1",
    "br-exists br2",
    "add-br br2 -- set bridge br2 datapath_type=netdev -- add-port br2 p3",
    "port-to-br p3",
    "--may-exist add-port br1 p3",
    "del-port br1 p3",
    "del-br br2",
    "list-br",
];
/// And after.
const VSCTL_AFTER: [&str; 12] = [
    "del-port nosuch",
    "--if-exists del-port nosuch",
    "del-port br1",
    "--if-exists del-port br1 i0",
    "list-ports br1",
    "port-to-br p3",
    "del-br nobr",
    "--if-exists del-br nobr",
    "set bridge nobr fail_mode=standalone",
    "del-br br1",
    "br-exists br1",
    "list-br",
];

/// What was printed as it is compared: a tree without what only a database has, lists without the switch that is always there.
fn of_vsctl(line: &str, printed: &str) -> String {
    if line != "show" {
        let mut lines: Vec<_> = printed.lines().filter(|line| *line != "main").collect();
        if line.starts_with("list-br") {
            lines.sort_unstable();
        }
        return lines.join("\n");
    }
    let left_out = ["datapath_type", "fail_mode", "ovs_version"];
    let lines = printed
        .lines()
        .filter(|line| line.starts_with("    ") && !left_out.iter().any(|word| line.contains(word)));
    // Bridges with their ports, each with the lines below it; Open vSwitch has them in any order.
    let mut bridges: BTreeMap<&str, BTreeMap<&str, Vec<&str>>> = BTreeMap::new();
    let (mut bridge, mut port) = ("", "");
    for line in lines {
        if line.starts_with("    Bridge") {
            (bridge, port) = (line, "");
        } else if line.starts_with("        Port") {
            port = line;
        }
        bridges.entry(bridge).or_default().entry(port).or_default().push(line);
    }
    bridges.remove("    Bridge main");
    format!("{bridges:#?}")
}

/// The table of stations with names in the place of numbers and without their ages.
fn stations(table: &str, names: &BTreeMap<String, String>) -> Vec<String> {
    let ours =
        |line: &&str| PORTS.iter().any(|port| line.contains(&station(port).to_string())) || line.contains("static");
    let lines = table.lines().filter(ours).map(|line| {
        let (port, rest) = line.trim_start().split_once(' ').unwrap();
        let name = names.get(port).map_or(port, String::as_str);
        let (rest, age) = rest.rsplit_once(' ').unwrap();
        let age = if age == "static" { age } else { "" };
        // The age has a column of its own, as wide as it is.
        format!("{name:>5} {}  {age}", rest.trim_end())
    });
    let mut lines: Vec<_> = lines.collect();
    lines.sort();
    lines.insert(0, table.lines().next().unwrap_or_default().to_owned());
    lines
}

const STATIC: &str = "fdb/add br1 p1 10 02:00:00:00:00:77";
const APPCTL: [&str; 3] = ["fdb/flush br1", "fdb/show nobr", "fdb/del br1 10 02:00:00:00:00:77"];

struct Ended {
    done: Vec<Done>,
    stations: Vec<String>,
}

/// Plays the script; `call` takes `vsctl ...` and `appctl ...`.
fn play(call: impl Fn(&str) -> Reply, names: impl Fn() -> BTreeMap<String, String>) -> Ended {
    let mut all = Vec::new();
    let vsctl = |line: &str| done(line, &call(&format!("vsctl {line}")), of_vsctl);
    all.extend(VSCTL.map(vsctl));
    assert_eq!(call(&format!("appctl {STATIC}")).code, 0);
    let names = names();
    let both = |table: &str| PORTS[..2].iter().all(|port| table.contains(&station(port).to_string()));
    let table = wait_for("the stations to be known", || {
        speak();
        let table = call("appctl fdb/show br1").stdout;
        if both(&table) { Ok(table) } else { Err(table) }
    });
    all.extend(APPCTL.map(|line| done(line, &call(&format!("appctl {line}")), |_, printed| printed.to_owned())));
    all.extend(VSCTL_AFTER.map(vsctl));
    Ended {
        done: all,
        stations: stations(&table, &names),
    }
}

#[test]
fn verbs_of_open_vswitch() {
    let mut lab = Lab::without_daemon();
    interfaces();
    let theirs = {
        let ovs = Ovs::start();
        let number = |name: &str| {
            let number = ovs.call(&format!("vsctl get interface {name} ofport")).ok().stdout;
            (number.trim().to_owned(), name.to_owned())
        };
        let ended = play(
            |line| ovs.call(line),
            || PORTS[..2].iter().map(|name| number(name)).collect(),
        );
        // Its interface would stay.
        ovs.run("vsctl del-br br0");
        ended
    };
    no_interfaces();
    interfaces();
    lab.start();
    // The one that their rig has.
    lab.ok("ovs add-br br0");
    let call = |line: &str| {
        let words = line.strip_prefix("vsctl ").unwrap_or(line);
        let reply = lab.ctl(&format!("ovs {words}"));
        assert_told(&reply);
        reply
    };
    let ours = play(call, BTreeMap::new);
    for (ours, theirs) in ours.done.iter().zip(&theirs.done) {
        assert_eq!(ours, theirs);
    }
    assert_eq!(ours.stations, theirs.stations);
}

#[test]
fn what_open_vswitch_has_and_we_have_not_is_told_with_what_does_it() {
    let lab = Lab::new();
    for (line, words) in [
        (
            "ovs set-controller br0 tcp:10.0.0.1",
            &["OpenFlow", "vswitchctl acl"][..],
        ),
        ("ovs create Mirror name=m", &["vswitchctl mirror add"]),
        ("ovs add-bond main b0 eth1 eth2", &["bond", "--type device"]),
        ("ovs list-prots main", &["did you mean `list-ports`"]),
        ("ovs add-port main eth99", &["eth99"]),
        ("ovs list-br -- frobnicate", &["frobnicate"]),
        ("bridge stp main on", &["loop-guard"]),
        ("bridge mdb", &["bridge mdb"]),
        ("bridge adbr br0", &["did you mean `addbr`"]),
    ] {
        lab.ctl(line).failed(1, words);
    }
    lab.ctl("ovs appctl ofproto/trace br0 in_port=1")
        .failed(2, &["vswitchctl trace"]);
    lab.ctl("bridge fdb add 02:00:00:00:00:01 dev main self")
        .failed(255, &["self"]);
    // A lab that is not as it was asked for is left as it was.
    lab.ctl("ovs add-br br9 -- add-port br9 eth99").failed(1, &["eth99"]);
    lab.ctl("switch show br9").failed(4, &["br9"]);
}

/// Calls `brctl` or `bridge` itself.
fn original(line: &str) -> Reply {
    let mut words = line.split(' ');
    let output = Command::new(words.next().unwrap()).args(words).output();
    Reply::new(
        line,
        output.unwrap_or_else(|e| panic!("{line}: {e}; install bridge-utils and iproute2")),
    )
}

const BRIDGES: [&str; 38] = [
    "brctl addbr b1",
    "brctl addbr b1",
    "ip link set dev b1 up",
    "brctl addif b1 p1",
    "brctl addif b1 p1",
    "brctl addif b1 nosuch",
    "brctl addif nob p2",
    "brctl addif b1 p2 p3",
    "brctl show b1",
    "brctl show nob",
    "brctl delif b1 nosuch",
    "brctl delif b1 p3",
    "brctl delif nob p1",
    "brctl show b1",
    "brctl setageing b1 60",
    "brctl setageing nob 60",
    "brctl showmacs nob",
    "brctl hairpin b1 p1 on",
    "brctl hairpin b1 p1 off",
    "brctl stp b1 off",
    "bridge link",
    "bridge link show dev p1",
    "bridge link show dev nosuch",
    "bridge link set dev p2 isolated on",
    "bridge link set dev p2 isolated off flood off",
    "bridge link set dev p1 frob on",
    "bridge fdb add 02:00:00:00:00:77 dev p1 master static",
    "bridge fdb add 02:00:00:00:00:77 dev p1 master static",
    "bridge fdb add 02:00:00:00:00:78 dev nosuch master static",
    "bridge fdb add 02:00:00:00:zz:78 dev p1 master static",
    "bridge fdb show brport p1",
    "bridge fdb show br b1",
    "bridge fdb show br nob",
    "bridge fdb frob",
    "bridge vlan add dev p1 vid 5000",
    "bridge vlan add dev p1 vid 10-5",
    "bridge vlan add dev p1",
    "bridge vlan add dev nosuch vid 5",
];
const BRIDGES_AFTER: [&str; 7] = [
    "bridge fdb show brport p2",
    "brctl showmacs b1",
    "bridge fdb del 02:00:00:00:00:77 dev p1 master",
    "bridge fdb del 02:00:00:00:00:77 dev p1 master",
    "ip link set dev b1 down",
    "brctl delbr b1",
    "brctl delbr b1",
];

/// What was printed as it is compared: without numbers and addresses of interfaces, ages, and what is of the spanning tree.
fn of_bridge(line: &str, printed: &str) -> String {
    let known: Vec<_> = PORTS.iter().map(|port| station(port).to_string()).collect();
    let is_ours =
        |line: &&str| line.contains("02:00:00:00:00:7") || known.iter().any(|mac| line.contains(mac.as_str()));
    let mut lines: Vec<String> = match line {
        _ if line.starts_with("brctl showmacs") => {
            let heading = printed.lines().take(1);
            let rows = printed.lines().filter(is_ours);
            // A static entry is the bridge's own there.
            let rows = rows.filter(|line| !line.contains("00:00:77"));
            heading
                .map(str::to_owned)
                .chain(rows.map(|line| line.rsplit_once('\t').unwrap().0.to_owned()))
                .collect()
        }
        _ if line.starts_with("bridge fdb show") => printed.lines().filter(is_ours).map(str::to_owned).collect(),
        _ if line.starts_with("bridge link") => printed
            .lines()
            .map(|line| {
                let (_, port) = line.split_once(": ").unwrap();
                let (name, rest) = port.split_once(": ").unwrap();
                let rest = rest.split(" priority").next().unwrap().trim_end();
                format!("{}: {rest}", name.split('@').next().unwrap())
            })
            .collect(),
        _ => printed
            .lines()
            .map(|line| {
                let mut columns: Vec<_> = line.split('\t').collect();
                columns
                    .iter_mut()
                    .filter(|word| word.starts_with("8000."))
                    .for_each(|id| *id = "ID");
                columns.join("\t")
            })
            .collect(),
    };
    if let [_, rows @ ..] = &mut lines[..] {
        rows.sort();
    }
    lines.join("\n")
}

fn play_bridges(call: impl Fn(&str) -> Reply) -> Vec<Done> {
    let call = |line: &str| match line.starts_with("ip ") {
        true => {
            run(line);
            None
        }
        false => Some(done(line, &call(line), of_bridge)),
    };
    let mut all: Vec<_> = BRIDGES.into_iter().filter_map(call).collect();
    wait_for("the stations to be known", || {
        speak();
        let table = call("brctl showmacs b1").unwrap().printed;
        let both = PORTS[..2].iter().all(|port| table.contains(&station(port).to_string()));
        if both { Ok(()) } else { Err(table) }
    });
    all.extend(BRIDGES_AFTER.into_iter().filter_map(call));
    all
}

#[test]
fn verbs_of_bridge_and_brctl() {
    let mut lab = Lab::without_daemon();
    interfaces();
    let theirs = play_bridges(original);
    no_interfaces();
    interfaces();
    lab.start();
    let ours = play_bridges(|line| {
        let (_, words) = line.split_once(' ').unwrap();
        let reply = lab.ctl(&format!("bridge {words}"));
        assert_told(&reply);
        reply
    });
    for (ours, theirs) in ours.iter().zip(&theirs) {
        assert_eq!(ours, theirs);
    }
}

const VLANS: [&str; 12] = [
    "bridge vlan add dev p1 vid 10 pvid untagged",
    "bridge vlan add dev p1 vid 10 pvid untagged",
    "bridge vlan add dev p2 vid 10",
    "bridge vlan add dev p2 vid 20-22",
    "bridge vlan show dev p2",
    "bridge vlan show dev p1",
    "bridge vlan add dev p2 vid 30 pvid untagged",
    "bridge vlan show dev p2",
    "bridge vlan del dev p2 vid 20-22",
    "bridge vlan del dev p2 vid 99",
    "bridge vlan del dev p2 vid 30",
    "bridge vlan show dev p2",
];
/// What iproute2 6.1 prints for those that show, where the kernel can't be asked.
const VLANS_SHOWN: [&str; 4] = [
    "port              vlan-id  \np2                10\n                  20-22\n",
    "port              vlan-id  \np1                10 PVID Egress Untagged\n",
    "port              vlan-id  \np2                10\n                  20-22\n                  30 PVID Egress Untagged\n",
    "port              vlan-id  \np2                10\n",
];

/// The VLANs of ports on a bridge of the kernel that looks at them, if it can.
fn vlans_of_the_kernel() -> Option<Vec<Done>> {
    let bridge = "ip link add name b1 type bridge vlan_filtering 1 vlan_default_pvid 0";
    if !Place::Home.output(bridge).status.success() {
        eprintln!("this kernel's bridge knows no VLANs; ours is held against what iproute2 is known to print");
        return None;
    }
    for port in PORTS {
        run(&format!("ip link set dev {port} master b1"));
    }
    let call = |line: &str| {
        done(
            line,
            &original(&line.replace("vlan show", "-compressvlans vlan show")),
            |_, text| text.to_owned(),
        )
    };
    Some(VLANS.map(call).into())
}

#[test]
fn vlans_of_ports_as_bridge_has_them() {
    let mut lab = Lab::without_daemon();
    interfaces();
    let theirs = vlans_of_the_kernel();
    no_interfaces();
    interfaces();
    lab.start();
    lab.ok("bridge addbr b2");
    lab.ok("bridge addif b2 p1 p2");
    let ours = VLANS.map(|line| done(line, &lab.ctl(line), |_, text| text.to_owned()));
    match theirs {
        Some(theirs) => {
            for (ours, theirs) in ours.iter().zip(&theirs) {
                assert_eq!(ours, theirs);
            }
        }
        None => {
            assert!(ours.iter().all(|done| done.code == 0), "{ours:#?}");
            let shown: Vec<_> = ours.iter().filter(|done| done.line.contains("show")).collect();
            for (ours, theirs) in shown.iter().zip(VLANS_SHOWN) {
                assert_eq!(ours.printed, theirs, "{}", ours.line);
            }
        }
    }
    // What a bridge's list can say and a port's setting can't.
    lab.ctl("bridge vlan del dev p1 vid 10")
        .failed(255, &["no VLAN any more"]);
    lab.ctl("bridge vlan add dev p1 vid 11 untagged")
        .failed(255, &["pvid untagged"]);
}
