//! Mininet with our switch class: its topologies, its link and host classes, link parameters and VLANs.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use vswitch_testing::daemon::program;
use vswitch_testing::{Lab, require};

const CUSTOM: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../configs/integrations/mininet/vswitch.py"
);

/// A script of Mininet's own interface: classes of hosts and links, impaired links, VLANs, links that come and go.
const SCRIPT: &str = r#"
import sys
from mininet.link import Link, TCLink
from mininet.log import setLogLevel
from mininet.net import Mininet
from mininet.node import Host
from mininet.topo import LinearTopo, SingleSwitchTopo
from mininet.topolib import TreeTopo
sys.path.insert(0, sys.argv[1])
from vswitch import VSwitch, vswitchctl

setLogLevel('warning')

def port(name):
    import json
    return json.loads(vswitchctl('--json', 'port', 'show', name))

for topo, link in ((SingleSwitchTopo(k=3), Link), (LinearTopo(k=3), TCLink), (TreeTopo(depth=2, fanout=2), Link)):
    net = Mininet(topo, switch=VSwitch, link=link, host=Host, controller=None)
    net.start()
    assert net.pingAll() == 0, topo
    net.stop()

net = Mininet(switch=VSwitch, link=TCLink, controller=None)
s1, s2 = net.addSwitch('s1'), net.addSwitch('s2')
h = [net.addHost('h%d' % n) for n in range(1, 5)]
net.addLink(h[0], s1, vlan=10, delay='30ms', loss=0)
net.addLink(h[1], s2, vlan=10)
net.addLink(h[2], s1, vlan=20, bw=10, max_queue_size=50)
net.addLink(h[3], s2, vlan=20)
net.addLink(s1, s2, trunk='10,20', params1={'delay': '5ms'})
net.start()
assert net.ping([h[0], h[1]]) == 0
assert net.ping([h[2], h[3]]) == 0
assert net.ping([h[0], h[2]], timeout='1') == 100, 'another VLAN'
one, three, trunk, back = (port(name) for name in ('s1-eth1', 's1-eth2', 's1-eth3', 's2-eth3'))
assert one['impair']['in']['delay_us'] == one['impair']['out']['delay_us'] == 30000, one
assert three['impair']['out']['rate_bps'] == 10000000 and three['impair']['out']['limit'] == 50, three
assert trunk['impair']['out']['delay_us'] == 5000 and 'in' not in trunk['impair'], trunk
assert 'impair' not in back or not back['impair'], back
assert trunk['vlan'] == {'trunk': {'allowed': '10,20'}}, trunk
# A link whose parameters change, and one that comes late.
s1.intf('s1-eth1').config(delay='1ms')
assert port('s1-eth1')['impair']['out']['delay_us'] == 1000, port('s1-eth1')
late = net.addHost('h5')
link = net.addLink(late, s1, vlan=10)
late.setIP('10.0.0.5', 8)
s1.attach(link.intf2)
assert net.ping([late, h[1]]) == 0
s1.detach(link.intf2)
net.stop()
assert vswitchctl('--json', 'port', 'list').strip() == '[]'
print('all is well')
"#;

/// Runs a program with processes and a /tmp of its own: what Mininet ends by name, and the logs that it removes when something goes
/// wrong (`rm /tmp/*.log`), are nobody else's then.
fn run(words: &[&str]) -> String {
    let tools = program("vswitchctl");
    let path = format!(
        "{}:{}",
        tools.parent().unwrap().display(),
        std::env::var("PATH").unwrap()
    );
    let output = Command::new("unshare")
        .args(["--mount", "--pid", "--fork", "--kill-child", "--mount-proc"])
        .args(["sh", "-c", "mount -t tmpfs tmpfs /tmp && exec \"$@\"", "sh"])
        .args(words)
        .env("PATH", path)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(output.status.success(), "{words:?}: {}\n{said}", output.status);
    said
}

fn is_installed() -> bool {
    let asked = Command::new("mn").arg("--version").stdin(Stdio::null()).output();
    let there = asked.is_ok_and(|asked| asked.status.success());
    if !there {
        require::missing("mininet", "`mn` is not installed");
    }
    there
}

#[test]
fn all_hosts_of_a_tree_reach_all_others() {
    let lab = Lab::new();
    if !is_installed() {
        return;
    }
    let mn = ["mn", "--custom", CUSTOM, "--switch", "vswitch", "--controller", "none"];
    let said = run(&[&mn[..], &["--topo", "tree,depth=2,fanout=3", "--test", "pingall"]].concat());
    assert!(said.contains("0% dropped (72/72 received)"), "{said}");
    let linked = [
        "--topo",
        "linear,2",
        "--link",
        "tc,bw=100,delay=1ms",
        "--post",
        "/run/lines",
        "--test",
        "pingpair",
    ];
    // What somebody types at its prompt.
    fs::write("/run/lines", "sh vswitchctl port list\n").unwrap();
    let said = run(&[&mn[..], &linked].concat());
    assert!(said.contains("0% dropped"), "{said}");
    assert!(said.contains("s2-eth1"), "the list of ports: {said}");
    assert!(lab.ports().is_empty(), "all was given back");
}

#[test]
fn scripts_have_links_with_parameters_and_vlans() {
    let lab = Lab::new();
    if !is_installed() {
        return;
    }
    // Not below /tmp, which it does not see. Debian's Python is the one that has Debian's Mininet.
    fs::write("/run/script.py", SCRIPT).unwrap();
    let folder = Path::new(CUSTOM).parent().unwrap();
    let said = run(&["/usr/bin/python3", "/run/script.py", folder.to_str().unwrap()]);
    assert!(lab.ports().is_empty(), "all was given back");
    assert!(said.contains("all is well"), "{said}");
}

#[test]
fn without_the_daemon_it_says_so() {
    if !is_installed() {
        return;
    }
    let _lab = Lab::without_daemon();
    let path = program("vswitchctl");
    let script = format!(
        "PATH={}:$PATH mn --custom {CUSTOM} --switch vswitch --controller none --test none 2>&1; true",
        path.parent().unwrap().display()
    );
    let said = run(&["sh", "-c", &script]);
    assert!(said.contains("vswitchd"), "{said}");
}
