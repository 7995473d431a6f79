//! DHCP, router advertisements, DNS and names of ports inside namespaces, with the clients that people use.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use vswitch_testing::api::view::{AddressView, Changes};
use vswitch_testing::lab::bind_file;
use vswitch_testing::require::missing;
use vswitch_testing::snapshot::Snapshot;
use vswitch_testing::{Lab, Place, run, wait_for};

const LAB: &str = "switch add lab --subnet 10.10.0.0/24 --subnet fd10::/64 --gateway";

/// What udhcpc does with what it is told.
const SCRIPT: &str = "#!/bin/sh
[ \"$1\" = bound ] || exit 0
ip addr add $ip/$mask dev $interface
[ -z \"$router\" ] || ip route add default via $router
";

/// Whether there is nothing to test here.
fn lacks(program: &str) -> bool {
    let there = ["/usr/sbin", "/usr/bin", "/sbin", "/bin"]
        .iter()
        .any(|folder| Path::new(folder).join(program).exists());
    if !there {
        missing(program, "it is not installed");
    }
    !there
}

fn addresses(lab: &Lab, port: &str) -> Vec<String> {
    lab.port(port).port.addresses.iter().map(ToString::to_string).collect()
}

/// Words of the addresses in a namespace.
fn inside(name: &str) -> String {
    Place::named(name).run_ok("ip -o addr show dev eth0 scope global")
}

fn udhcpc(lab: &Lab, name: &str) {
    udhcpc_with(lab, name, "");
}

fn udhcpc_with(lab: &Lab, name: &str, options: &str) {
    let script = lab.scratch().join("udhcpc.sh");
    fs::write(&script, SCRIPT).unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    Place::named(name).run_ok(&format!(
        "busybox udhcpc -f -q -n -t 10 -T 2 -i eth0 {options} -s {}",
        script.display()
    ));
}

fn leases(lab: &Lab) -> Vec<String> {
    let all: Vec<AddressView> = lab.json("addr list");
    let leased = all.iter().filter(|view| view.lease_secs.is_some());
    leased.map(|view| format!("{} {}", view.port, view.address)).collect()
}

/// Processes of this name that see this machine's /run: those of other tests don't.
fn running(program: &str) -> usize {
    let own = fs::read_link("/proc/thread-self/ns/net").unwrap();
    let all = fs::read_dir("/proc").unwrap().flatten();
    let is_one = |path: &Path| {
        fs::read_to_string(path.join("comm")).is_ok_and(|comm| comm.trim() == program)
            && fs::read_link(path.join("ns/net")).is_ok_and(|net| net == own)
    };
    all.filter(|entry| is_one(&entry.path())).count()
}

#[test]
fn udhcpc_gets_an_address_that_counts_as_its_own() {
    if lacks("dnsmasq") || lacks("busybox") {
        return;
    }
    let lab = Lab::new();
    let told = lab.ok(&format!("{LAB} --dhcp"));
    assert!(told.contains("added DHCP at lab-gw of switch lab (dnsmasq)"), "{told}");
    lab.ok("add-port red --switch lab --pin-mac own --pin-ip own");
    lab.ok("add-port fixed --switch lab --type tap --addr auto");
    // One lease alone: dnsmasq pings for three seconds whether somebody has the address.
    udhcpc(&lab, "red");
    wait_for("the lease of red", || {
        let leases = leases(&lab);
        let is_of_red = |lease: &String| lease.starts_with("red 10.10.0.");
        leases.iter().any(is_of_red).then_some(()).ok_or(format!("{leases:?}"))
    });
    // From the upper half, below which ports take theirs.
    let leased = leases(&lab);
    for lease in &leased {
        let last: u8 = lease.rsplit(['.', '/']).nth(1).unwrap().parse().unwrap();
        assert!(last >= 128, "{leased:?}");
    }
    // Nor does another get it by hand.
    let ip = leased[0].trim_start_matches("red ");
    lab.ctl(&format!("addr add fixed {ip}"))
        .failed(5, &["is leased by DHCP to port \"red\""]);
    wait_for("red to use what it was leased", || {
        let output = Place::named("red").output("ping -n -c 1 -W 2 10.10.0.1");
        output.status.success().then_some(()).ok_or_else(|| inside("red"))
    });
    // It is tested as others are.
    let file = lab.lab_file("[[switches]]\nname = \"lab\"\n[[ports]]\nname = \"red\"\nswitch = \"lab\"\n[[ports]]\nname = \"lab-gw\"\nswitch = \"lab\"\nkind = \"internal\"\n");
    let tested = lab.ok(&format!("lab test --wait 2 {file}"));
    assert!(tested.ends_with("2 of 2 as expected\n"), "{tested}");
    // It is known by what it was leased as others by what they were given.
    let ip = ip.split('/').next().unwrap();
    lab.ok("ping fixed red -c 1");
    let all = lab.ok("pingall -4");
    assert!(all.ends_with("6 of 6 answered\n"), "{all}");
    let traced = lab.ok("trace fixed --dst red");
    assert!(
        traced.contains(&format!("the packet is for {ip}, an address of port red")),
        "{traced}"
    );
    let traced = lab.ok("trace red --dst fixed");
    assert!(traced.contains("an address of port fixed"), "{traced}");
    lab.ok(&format!("trace fixed --arp {ip}"));
    wait_for("the name of red", || {
        let found = lab.ctl("ns exec fixed -- getent ahostsv4 red");
        (found.stdout.starts_with(ip)).then_some(()).ok_or(found.to_string())
    });
    // What it was not leased it can't use.
    Place::named("red").run_ok("ip addr add 10.10.0.77/32 dev eth0");
    let output = Place::named("red").output("ping -n -c 1 -W 1 -I 10.10.0.77 10.10.0.1");
    assert!(!output.status.success());
    // A port that has an address gets that.
    Place::named("fixed").run_ok("ip addr flush dev eth0 scope global");
    udhcpc(&lab, "fixed");
    let given = addresses(&lab, "fixed")[0].clone();
    assert!(inside("fixed").contains(&given), "{} has no {given}", inside("fixed"));
}

/// A station had another's address leased to it, which it might then use, and took names by which others look for servers.
#[test]
fn nobody_is_leased_what_another_port_has_or_takes_a_name() {
    if lacks("dnsmasq") || lacks("busybox") {
        return;
    }
    let lab = Lab::new();
    lab.ok(&format!("{LAB} --dhcp --dns"));
    lab.ok("add-port multi --switch lab --addr 10.10.0.5/24 --addr 10.10.0.200/24");
    lab.ok("add-port red --switch lab --pin-mac own --pin-ip own");
    // A word of dnsmasq's.
    lab.ok("add-port ignore --switch lab --addr auto");
    Place::named("ignore").run_ok("ip addr flush dev eth0 scope global");
    udhcpc(&lab, "ignore");
    let given = addresses(&lab, "ignore")[0].clone();
    assert!(inside("ignore").contains(&given), "{} has no {given}", inside("ignore"));
    udhcpc_with(&lab, "red", "-r 10.10.0.200 -x hostname:wpad");
    let red = inside("red");
    assert!(red.contains("10.10.0.") && !red.contains("10.10.0.200"), "{red}");
    wait_for("red to use what it was leased", || {
        let output = Place::named("red").output("ping -n -c 1 -W 2 10.10.0.1");
        output.status.success().then_some(()).ok_or_else(|| inside("red"))
    });
    let asked = |name: &str| {
        let output = Place::named("red").output(&format!("busybox nslookup {name} 10.10.0.1"));
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let (port, client) = (asked("multi"), asked("wpad"));
    assert!(port.contains("10.10.0.5"), "{port}");
    assert!(client.contains("NXDOMAIN"), "{client}");
}

#[test]
fn dhclient_gets_one_too() {
    if lacks("dnsmasq") || lacks("dhclient") {
        return;
    }
    let lab = Lab::new();
    lab.ok(&format!("{LAB} --dhcp --dns"));
    lab.ok("add-port red --switch lab");
    // Its own script writes resolv.conf, which is the namespace's here.
    let folder = lab.scratch().display().to_string();
    lab.ok(&format!(
        "ns exec red -- dhclient -1 -v -lf {folder}/leases -pf {folder}/pid -sf /sbin/dhclient-script eth0"
    ));
    assert!(inside("red").contains("10.10.0."), "{}", inside("red"));
    lab.ok("ns exec red -- ping -n -c 1 -W 5 10.10.0.1");
    // It writes its number only after it went to the background, when the command has ended already.
    let pid = wait_for("the number of dhclient", || {
        let text = fs::read_to_string(lab.scratch().join("pid")).map_err(|error| error.to_string())?;
        text.trim().parse::<u32>().map_err(|error| error.to_string())
    });
    run(&format!("kill {pid}"));
}

#[test]
fn stations_configure_themselves_by_router_advertisements() {
    if lacks("dnsmasq") {
        return;
    }
    let lab = Lab::new();
    lab.ok(&format!("{LAB} --dhcp"));
    run("ip addr add 2001:db8::99/128 dev lo");
    lab.ok("add-port red --switch lab");
    lab.ok("add-port blue --switch lab --type tap");
    for name in ["red", "blue"] {
        wait_for(&format!("{name} to make itself an address"), || {
            let text = inside(name);
            (text.contains("fd10::") && !text.contains("tentative"))
                .then_some(())
                .ok_or(text)
        });
        wait_for(&format!("{name} to have a way out"), || {
            let output = Place::named(name).output("ping -n -c 1 -W 2 2001:db8::99");
            output
                .status
                .success()
                .then_some(())
                .ok_or_else(|| Place::named(name).run_ok("ip -6 route"))
        });
    }
}

#[test]
fn names_of_ports_resolve_inside() {
    let mut lab = Lab::new();
    Snapshot::of_used_machine();
    let before = Snapshot::of(&lab);
    fs::create_dir_all("/etc/netns/theirs").unwrap();
    fs::write("/etc/netns/theirs/hosts", "10.9.9.9 somebody\n").unwrap();
    lab.ok("add-port red blue theirs --subnet 10.7.0.0/24");
    lab.ok("ns exec red -- ping -n -c 1 -W 5 blue");
    lab.ok("ns exec red -- getent hosts localhost");
    run("ip netns exec blue ping -n -c 1 -W 5 red");
    assert_eq!(
        fs::read_to_string("/etc/netns/theirs/hosts").unwrap(),
        "10.9.9.9 somebody\n"
    );
    // What runs already sees a new one.
    let shell = Place::Home;
    let script = "for i in $(seq 200); do getent hosts green && exit 0; sleep 0.1; done; exit 1";
    let file = lab.scratch().join("wait.sh");
    fs::write(&file, script).unwrap();
    let waiting = std::thread::spawn({
        let line = format!("ip netns exec red sh {}", file.display());
        move || shell.run_ok(&line)
    });
    lab.ok("add-port green --subnet 10.7.0.0/24");
    assert!(waiting.join().unwrap().contains("10.7.0.4"));
    // What the world or every host calls so is no port.
    lab.ok("add-port deb.debian.org LOCALHOST --subnet 10.7.0.0/24");
    let hosts = fs::read_to_string("/etc/netns/red/hosts").unwrap();
    assert!(hosts.contains(" green\n"), "{hosts}");
    assert!(!hosts.contains("debian.org") && !hosts.contains("LOCALHOST"), "{hosts}");
    lab.kill_daemon();
    lab.start();
    lab.ok("ns exec green -- ping -n -c 1 -W 5 blue");
    lab.ok("del-port blue");
    assert!(!Path::new("/etc/netns/blue").exists());
    lab.kill_daemon();
    Lab::call("reset --offline --yes").ok();
    let left: Vec<_> = fs::read_dir("/etc/netns")
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(left, ["theirs"]);
    assert_eq!(fs::read_dir("/etc/netns/theirs").unwrap().count(), 1);
    lab.start();
    before.wait_until_same(|| Snapshot::of(&lab));
}

#[test]
fn the_gateway_answers_dns_and_nothing_of_it_is_left() {
    if lacks("dnsmasq") || lacks("busybox") {
        return;
    }
    let mut lab = Lab::new();
    Snapshot::of_used_machine();
    let before = Snapshot::of(&lab);
    lab.ok(&format!("{LAB} --dns --dhcp"));
    lab.ok("add-port red blue --switch lab --addr auto");
    let asks = |name: &str, answer: &str| {
        wait_for(&format!("the gateway to know {name}"), || {
            let output = Place::named("red").output(&format!("busybox nslookup {name} 10.10.0.1"));
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            text.contains(answer).then_some(()).ok_or(text)
        });
    };
    asks("blue", "10.10.0.3");
    asks("lab-gw", "10.10.0.1");
    let resolv = lab.ok("ns exec red -- cat /etc/resolv.conf");
    assert!(resolv.contains("nameserver 10.10.0.1"), "{resolv}");
    lab.ok("add-port green --switch lab --addr auto");
    asks("green", "10.10.0.4");
    assert_eq!(running("dnsmasq"), 1);
    // The next daemon takes it over.
    lab.kill_daemon();
    assert_eq!(running("dnsmasq"), 1);
    lab.start();
    assert_eq!(running("dnsmasq"), 1);
    asks("blue", "10.10.0.3");
    // Another setting is another one.
    lab.ok("set switch lab dhcp=off");
    asks("blue", "10.10.0.3");
    assert_eq!(running("dnsmasq"), 1);
    lab.kill_daemon();
    Lab::call("reset --offline --yes").ok();
    assert_eq!(running("dnsmasq"), 0);
    lab.start();
    before.wait_until_same(|| Snapshot::of(&lab));
}

#[test]
fn without_dnsmasq_nothing_is_changed() {
    let mut lab = Lab::without_daemon();
    if Path::new("/usr/sbin/dnsmasq").exists() {
        bind_file(Path::new("/dev/null"), "/usr/sbin/dnsmasq");
    }
    lab.start();
    let reply = lab.ctl(&format!("{LAB} --dhcp"));
    assert_eq!(reply.code, 6, "{reply}");
    for word in ["dnsmasq", "apt install dnsmasq-base"] {
        assert!(reply.stderr.contains(word), "{reply}");
    }
    assert!(!run("ip -o link").contains("lab-gw"));
    let changes: Changes = lab.json(LAB);
    assert!(!changes.done.is_empty());
}

/// dnsmasq ended at once, or had no address to give, and all was told as done.
#[test]
fn what_dnsmasq_can_not_serve_is_refused() {
    let lab = Lab::new();
    lab.ctl("switch add lab --subnet 10.10.0.0/24 --subnet fd10::/80 --gateway --dhcp")
        .failed(2, &["fd10::/80", "/64", "dhcp=off"]);
    lab.ctl("switch add lab --subnet 10.10.0.0/24 --gateway=169.254.1.1 --dhcp")
        .failed(2, &["169.254.1.1", "gateway=on", "dhcp=off"]);
    lab.ok("set switch main subnets=10.10.0.0/24 gateway=10.10.1.1");
    lab.ctl("set switch main dhcp=on").failed(2, &["10.10.1.1"]);
}

/// A switch that leases, and station red that may use what it was leased and nothing else.
fn with_pinned_station() -> Lab {
    let lab = Lab::new();
    lab.ok(&format!("{LAB} --dhcp"));
    lab.ok("add-port red --switch lab --pin-mac own --pin-ip own");
    udhcpc(&lab, "red");
    lab
}

/// Leases went before it was known whether the edit succeeds, and pinned stations were cut off.
#[test]
fn an_edit_that_fails_takes_no_lease() {
    if lacks("dnsmasq") || lacks("busybox") {
        return;
    }
    let lab = with_pinned_station();
    let file = Path::new("/run/vswitch/names/lab.leases");
    let leased = || fs::read_to_string(file).unwrap_or_default();
    wait_for("the lease of red", || {
        leased().contains("10.10.0.").then_some(()).ok_or(leased())
    });
    let before = leased();
    lab.ctl("publish red 8080:80 --force").failed(5, &["NAT"]);
    lab.ok("set switch lab nat=on");
    lab.ctl("publish red 8080:80")
        .failed(5, &["leased by DHCP", "addr add red"]);
    lab.ok("set switch lab nat=off");
    let export = lab
        .ok("export")
        .replace("dhcp = true\n", "")
        .replace("ip = \"own\"", "ip = [\"10.10.0.0/24\"]");
    Place::named("red").run_ok("ip link add zz type veth peer name zz1");
    let bad = "[[ports]]\nname = \"bad\"\nswitch = \"lab\"\nnamespace = \"red\"\nifname = \"zz\"\n";
    let path = lab.lab_file(&format!("{export}\n{bad}"));
    lab.ctl(&format!("apply --yes {path}"))
        .failed(5, &["port \"bad\"", "zz"]);
    assert_eq!(leased(), before);
    wait_for("red to use what it was leased still", || {
        let output = Place::named("red").output("ping -n -c 1 -W 2 10.10.0.1");
        output.status.success().then_some(()).ok_or_else(|| inside("red"))
    });
    // With the service they go.
    lab.ok("del-port red");
    lab.ok("set switch lab dhcp=off");
    assert!(!file.exists());
}

/// What was to make it read its files again ended it as long as it had only begun.
#[test]
fn dnsmasq_that_has_just_begun_is_not_ended_by_news() {
    const DNSMASQ: &str = "/usr/sbin/dnsmasq";
    if lacks("dnsmasq") || !Path::new(DNSMASQ).exists() {
        return;
    }
    // One that takes as long to begin as is wanted here.
    let mut lab = Lab::without_daemon();
    let [program, gate, slow] = ["dnsmasq", "gate", "slow"].map(|name| lab.scratch().join(name));
    fs::copy(DNSMASQ, &program).unwrap();
    run(&format!("mkfifo {}", gate.display()));
    let script = format!(
        "#!/bin/sh\nread go < {}\nexec {} \"$@\"\n",
        gate.display(),
        program.display()
    );
    fs::write(&slow, script).unwrap();
    fs::set_permissions(&slow, fs::Permissions::from_mode(0o755)).unwrap();
    bind_file(&slow, DNSMASQ);
    lab.start();
    lab.ok("switch add lab --subnet 10.10.0.0/24 --gateway");
    lab.ok("add-port red --switch lab --addr 10.10.0.9/24");
    lab.ok("set switch lab dhcp=on");
    lab.ok("addr add red 10.10.0.20/24");
    fs::write(&gate, "go\n").unwrap();
    lab.ok("addr del red 10.10.0.20/24");
    let log = lab.stop_daemon();
    assert!(!log.contains("was ended by"), "{log}");
}

/// The switch advertised the subnet, and the pin dropped what came from the address that the station made of it.
#[test]
fn a_pinned_station_may_use_what_it_makes_of_router_advertisements() {
    if lacks("dnsmasq") {
        return;
    }
    let lab = Lab::new();
    lab.ok(&format!("{LAB} --dhcp"));
    lab.ok("add-port red --switch lab --mac 02:00:00:00:00:01 --pin-mac own --pin-ip own");
    wait_for("red to make itself an address", || {
        let text = inside("red");
        let is_there = text.contains("fd10::ff:fe00:1/64") && !text.contains("tentative");
        is_there.then_some(()).ok_or(text)
    });
    wait_for("red to reach its gateway", || {
        let output = Place::named("red").output("ping -n -c 1 -W 2 -I fd10::ff:fe00:1 fd10::1");
        output.status.success().then_some(()).ok_or_else(|| inside("red"))
    });
    // Another one it can't.
    Place::named("red").run_ok("ip addr add fd10::77/64 dev eth0 nodad");
    let output = Place::named("red").output("ping -n -c 1 -W 1 -I fd10::77 fd10::1");
    assert!(!output.status.success());
}

/// It took twenty seconds to say that dnsmasq was not ready.
#[test]
fn who_answers_dns_on_the_host_is_told_of_at_once() {
    let lab = Lab::new();
    let listener = std::net::TcpListener::bind("0.0.0.0:53").unwrap();
    lab.ctl(&format!("{LAB} --dns"))
        .failed(5, &["answers DNS", "0.0.0.0:53", "ss -nlp", "dns=off"]);
    drop(listener);
    let _own = std::net::TcpListener::bind("127.0.0.53:53").unwrap();
    lab.ok(&format!("{LAB} --dns -n"));
}

/// The default route that a router advertises was in the way of the one that ports are given, also when that was to be given back.
#[test]
fn the_gateway_of_stations_moves_though_it_is_advertised_too() {
    if lacks("dnsmasq") {
        return;
    }
    let lab = Lab::new();
    lab.ok(&format!("{LAB} --dhcp"));
    lab.ok("add-port red --switch lab --addr auto");
    lab.ok("add-port blue --switch lab");
    let routes = |name: &str| Place::named(name).run_ok("ip -6 route show default");
    for name in ["red", "blue"] {
        wait_for("the advertised route", || match routes(name) {
            there if there.contains("proto ra") => Ok(()),
            there => Err(there),
        });
    }
    lab.ok("set switch lab gateway=10.10.0.254,fd10::fe");
    assert!(routes("red").contains("via fd10::fe"), "{}", routes("red"));
    Place::named("red").run_ok("ip -6 route del default via fd10::fe dev eth0");
    lab.ok("set port red --up");
    assert!(routes("red").contains("via fd10::fe"), "{}", routes("red"));
    lab.ok("set port blue auto_addresses=on");
    assert!(routes("blue").contains("via fd10::fe"), "{}", routes("blue"));
    lab.ok("set switch lab gateway=10.10.0.100,fd10::99");
    for name in ["red", "blue"] {
        let there = routes(name);
        assert!(
            there.contains("via fd10::99 ") && !there.contains("fd10::fe"),
            "{there}"
        );
    }
}

/// Pinned stations were cut off for good, and others got their addresses.
#[test]
fn leases_outlive_their_file() {
    if lacks("dnsmasq") || lacks("busybox") {
        return;
    }
    let lab = with_pinned_station();
    let reaches = || {
        wait_for("red to use what it was leased", || {
            let output = Place::named("red").output("ping -n -c 1 -W 2 10.10.0.1");
            output.status.success().then_some(()).ok_or_else(|| inside("red"))
        });
    };
    reaches();
    let before = leases(&lab);
    let ip = before[0].trim_start_matches("red ").to_owned();
    for (n, gone) in ["rm /run/vswitch/names/lab.leases", "rm -r /run/vswitch/names"]
        .into_iter()
        .enumerate()
    {
        run(gone);
        lab.ctl(&format!("add-port thief --switch lab --addr {ip}"))
            .failed(5, &["is leased by DHCP to port \"red\""]);
        wait_for("the lease to be back", || match leases(&lab) {
            now if now.contains(&before[0]) => Ok(()),
            now => Err(format!("{now:?}")),
        });
        reaches();
        // Whoever leases writes into the file that is there.
        let next = format!("next{n}");
        lab.ok(&format!("add-port {next} --switch lab"));
        udhcpc(&lab, &next);
        wait_for("the next lease", || match leases(&lab) {
            now if now.iter().any(|lease| lease.starts_with(&next)) => Ok(()),
            now => Err(format!("{now:?}")),
        });
    }
}

/// TCP of stations came to nothing where the gateway takes less than they send.
#[test]
fn stations_are_told_the_mtu_of_their_gateway() {
    if lacks("dnsmasq") || lacks("busybox") {
        return;
    }
    let lab = Lab::new();
    lab.ok(&format!("{LAB} --dhcp"));
    lab.ok("set port lab-gw mtu=1400");
    lab.ok("add-port red --switch lab");
    let [script, told] = ["mtu.sh", "mtu"].map(|name| lab.scratch().join(name));
    fs::write(
        &script,
        format!("#!/bin/sh\n[ -z \"$mtu\" ] || echo \"$mtu\" > {}\n", told.display()),
    )
    .unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    Place::named("red").run_ok(&format!(
        "busybox udhcpc -f -q -n -t 10 -T 2 -i eth0 -O mtu -s {}",
        script.display()
    ));
    assert_eq!(fs::read_to_string(&told).unwrap(), "1400\n");
}

/// A station that got no address was told of nowhere.
#[test]
fn that_all_addresses_are_leased_is_told() {
    if lacks("dnsmasq") || lacks("busybox") {
        return;
    }
    let lab = Lab::new();
    lab.ok("switch add lab --subnet 10.10.0.0/30 --gateway --dhcp");
    lab.ok("add-port red --switch lab");
    let told = || {
        let limits = lab.status().limits;
        limits
            .iter()
            .any(|limit| limit.contains("no address left on switch \"lab\""))
    };
    assert!(!told());
    udhcpc(&lab, "red");
    wait_for("the status to tell", told);
    lab.ok("set switch lab subnets=10.10.0.0/24");
    wait_for("the status to tell no more", || !told());
}
