//! Ports in containers of Docker and Podman: they come and go with their containers, and leave nothing in them.

use std::os::unix::net::UnixListener;

use vswitch_testing::api::Namespace;
use vswitch_testing::api::view::{NamespaceSummary, PortState};
use vswitch_testing::{ContainerEngine, Lab, Place, wait_for};

/// From red to web, which knows each other's addresses by `--gateway` alone.
fn ping(lab: &Lab) {
    lab.ok("ping red web -c 1");
    Place::named("red").run_ok("ping -n -c1 -W10 10.1.0.2");
}

fn interfaces(engine: &ContainerEngine) -> Vec<String> {
    let names = engine.exec("web", "ls /sys/class/net");
    let mut names: Vec<_> = names.split_whitespace().map(str::to_owned).collect();
    names.retain(|name| !name.contains("tunl") && !name.contains("sit") && !name.contains("gre"));
    names
}

fn is_up(lab: &Lab) {
    lab.wait_for_state("web", PortState::Up);
}

fn is_missing(lab: &Lab, why: &str) {
    lab.wait_for_port("web", "the port to be missing", |port| {
        let reason = port.reason.as_deref().unwrap_or_default();
        port.state == PortState::Missing && reason.contains(why)
    });
}

/// All that is promised of a port in a container.
fn a_port_comes_and_goes_with_its_container(mut lab: Lab, engine: ContainerEngine) {
    let name = engine.name();
    lab.ok("add-port red --addr 10.1.0.1/24 --vlan 10");
    lab.ctl("add-port web --container web")
        .failed(4, &["web", "there is no such container", name]);
    engine.run("web", "none");
    lab.ok("add-port -n web --container web");
    assert_eq!(interfaces(&engine), ["lo"], "a dry run");
    lab.ok("add-port web --container web --addr 10.1.0.2/24 --gateway 10.1.0.1 --vlan 10");
    assert_eq!(interfaces(&engine), ["eth0", "lo"]);
    ping(&lab);
    assert!(lab.ok("pingall").contains("web"));
    lab.ok("doctor red web");
    assert!(engine.exec("web", "ip route").contains("default via 10.1.0.1 dev eth0"));
    assert!(lab.ok("ns exec web ip -br addr show eth0").contains("10.1.0.2/24"));
    let mac = lab.port("web").port.mac;
    let list: Vec<NamespaceSummary> = lab.json("ns list");
    let of_web = list
        .iter()
        .find(|summary| matches!(summary.name, Namespace::Container(_)));
    let of_web = of_web.unwrap_or_else(|| panic!("{list:?}"));
    assert_eq!(
        (of_web.owner.clone(), of_web.owned),
        (Some(format!("{name} web")), false)
    );

    // It stops, and what is meant for it is not done on the host.
    engine.ok("stop -t 0 web");
    is_missing(&lab, "does not run");
    lab.ctl("ns exec web ip addr").failed(4, &["web", "does not run"]);
    let said = lab.ctl("doctor red web");
    assert!(
        said.code == 1 && said.stdout.contains(&format!("{name} start web")),
        "{said}"
    );
    engine.ok("start web");
    is_up(&lab);
    ping(&lab);
    assert_eq!(lab.port("web").port.mac, mac);
    engine.ok("restart -t 0 web");
    let pid = engine.pid("web");
    lab.wait_for_port("web", "the port to be in the new process", |port| {
        let path = port.entrance.as_ref().map(|entrance| entrance.path.clone());
        port.state == PortState::Up && path == Some(format!("/proc/{pid}/ns/net"))
    });
    ping(&lab);

    // The daemon is killed and comes back; the same while the container is another.
    lab.kill_daemon();
    lab.start();
    is_up(&lab);
    ping(&lab);
    lab.kill_daemon();
    engine.remove("web");
    engine.run("web", "none");
    lab.start();
    is_up(&lab);
    ping(&lab);
    assert_eq!(lab.port("web").port.mac, mac);

    // Another of its name.
    engine.remove("web");
    is_missing(&lab, "no such container");
    let said = lab.ctl("doctor red web");
    assert!(
        said.code == 1 && said.stdout.contains("vswitchctl del-port web"),
        "{said}"
    );
    engine.run("web", "none");
    is_up(&lab);
    ping(&lab);

    engine.run("hosts", "host");
    lab.ctl("add-port bad --container hosts")
        .failed(5, &["bad", "shares the network of the host", "--type internal"]);
    lab.ctl(&format!("add-port other --container {name}:web --name eth0"))
        .failed(5, &["eth0"]);
    lab.ok(&format!("add-port other --container {name}:web"));
    assert_eq!(interfaces(&engine), ["eth0", "eth1", "lo"], "the next free name");

    lab.ok("reset --yes");
    assert_eq!(interfaces(&engine), ["lo"]);
    assert_eq!(engine.exec("web", "echo lives"), "lives\n");
}

#[test]
fn a_port_comes_and_goes_with_its_container_of_docker() {
    let lab = Lab::new();
    if let Some(docker) = ContainerEngine::docker(&lab) {
        a_port_comes_and_goes_with_its_container(lab, docker);
    }
}

#[test]
fn a_port_comes_and_goes_with_its_container_of_podman() {
    let lab = Lab::new();
    if let Some(podman) = ContainerEngine::podman(&lab) {
        a_port_comes_and_goes_with_its_container(lab, podman);
    }
}

/// An engine that hangs holds up nothing but questions about its containers, and those for two seconds.
#[test]
fn an_engine_that_does_not_answer_is_not_waited_for() {
    let mut lab = Lab::without_daemon();
    lab.add_config("[containers]\ndocker = \"unix:///run/stuck.sock\"\n");
    let stuck = UnixListener::bind("/run/stuck.sock").unwrap();
    lab.start();
    lab.ctl("add-port web --container web")
        .failed(4, &["web", "no answer for 2 s", "/run/stuck.sock"]);
    lab.ok("add-port red");
    drop(stuck);
    lab.ctl("add-port web --container web")
        .failed(4, &["web", "docker does not run (/run/stuck.sock)"]);
    for hostile in ["../images/json?", "web/json", "web%2Fjson", "..", "lxc:web"] {
        let refused = lab.ctl(&format!("add-port web --container {hostile}"));
        assert_eq!(refused.code, 2, "{hostile}: {refused}");
    }
    wait_for("the other port to be there", || lab.port("red").state == PortState::Up);
}
