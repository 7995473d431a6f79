//! One scripted scenario on Open vSwitch's netdev datapath and on ours: what comes out at every port is compared frame
//! for frame. Where we differ on purpose a step says so, in the words of docs/features.md.

mod openvswitch_rig;

use openvswitch_rig::{Scenario, Step, burst, command, pause, same, unlike};
use vswitch_testing::api::Mac;
use vswitch_testing::frame::{SERVICE_VLAN_ETHERTYPE, VLAN_ETHERTYPE, mac, probe, probe_of_len, tagged};

/// Ports without settings carry all VLANs.
const PLAIN: (&str, &str) = ("", "");
/// A VLAN that nothing else is in.
const APART: (&str, &str) = ("--vlan 4000", "tag=4000");
/// The same address on all ports but where a station is meant to be known.
const SOMEBODY: Mac = Mac([0x0a, 9, 0, 0, 0, 9]);

fn c_tag(tci: u16, frame: Vec<u8>) -> Vec<u8> {
    tagged(&frame, VLAN_ETHERTYPE, tci)
}

fn broadcast(src: Mac) -> Vec<u8> {
    probe(Mac::BROADCAST, src, 1)
}

fn group(last: [u8; 6]) -> Vec<u8> {
    probe(Mac(last), SOMEBODY, 1)
}

#[test]
fn vlans() {
    let tags = [Some(10), Some(20), Some(30), None];
    let mut steps = Vec::new();
    // Who gets a frame, from every port, with every tag, to all, to a group, to nobody known.
    for (n, port) in ["a10", "b10", "a20", "native", "trunk", "tagged"]
        .into_iter()
        .enumerate()
    {
        for (m, dst) in [Mac::BROADCAST, Mac([1, 0, 0x5e, 1, 2, 3]), mac(7, 7)]
            .into_iter()
            .enumerate()
        {
            let frame = || probe(dst, mac(n as u8, m as u32), 1);
            steps.push(same(port, frame()));
            // A priority tag is none (clause 6.9.1), but its priority is kept.
            steps.push(same(port, c_tag(5 << 13, frame())));
            for vlan in tags.into_iter().flatten() {
                let own = matches!((port, vlan), ("a10" | "b10", 10) | ("a20", 20));
                let frame = c_tag(3 << 13 | vlan, frame());
                steps.push(if own {
                    unlike(port, frame, "A tagged frame of an access port's own VLAN is accepted")
                } else {
                    same(port, frame)
                });
            }
        }
    }
    Scenario {
        ports: &[
            ("a10", "--vlan 10", "tag=10"),
            ("b10", "--vlan 10", "tag=10"),
            ("a20", "--vlan 20", "tag=20"),
            (
                "native",
                "--trunk 10,20-29 --native 20",
                "vlan_mode=native-untagged tag=20 trunks=10,20,21,22,23,24,25,26,27,28,29",
            ),
            ("trunk", "--trunk 10,30", "trunks=10,30"),
            (
                "tagged",
                "--trunk 10,20 --accept tagged",
                "vlan_mode=trunk trunks=10,20",
            ),
        ],
        sentinels: PLAIN,
        steps,
    }
    .compare();
}

#[test]
fn stations_by_vlan() {
    let (red, blue) = (mac(1, 1), mac(1, 2));
    let steps = vec![
        // The same address in two VLANs is two stations.
        same("a10", broadcast(red)),
        same("a20", broadcast(red)),
        same("trunk", c_tag(10, probe(red, blue, 1))),
        same("trunk", c_tag(20, probe(red, blue, 1))),
        same("a10", probe(blue, red, 1)),
        // It moves in one of them.
        same("b10", broadcast(red)),
        same("trunk", c_tag(10, probe(red, blue, 1))),
        same("trunk", c_tag(20, probe(red, blue, 1))),
        // Not to the port where it is.
        same("b10", probe(red, mac(1, 3), 1)),
        command("fdb flush", "appctl fdb/flush br0"),
        same("trunk", c_tag(10, probe(red, blue, 1))),
        // A static entry stays where it was put.
        command(
            &format!("fdb add {red} a10 --vlan 10"),
            &format!("appctl fdb/add br0 a10 10 {red}"),
        ),
        same("b10", broadcast(red)),
        same("trunk", c_tag(10, probe(red, blue, 1))),
        same("a20", probe(red, mac(1, 4), 1)),
    ];
    Scenario {
        ports: &[
            ("a10", "--vlan 10", "tag=10"),
            ("b10", "--vlan 10", "tag=10"),
            ("a20", "--vlan 20", "tag=20"),
            ("trunk", "--trunk 10,20", "trunks=10,20"),
        ],
        sentinels: PLAIN,
        steps,
    }
    .compare();
}

#[test]
fn stations_and_floods_without_vlans() {
    let (red, blue) = (mac(1, 1), mac(1, 2));
    let mut steps = vec![
        same("a", broadcast(red)),
        same("b", probe(red, blue, 1)),
        same("a", probe(blue, red, 1)),
        same("c", probe(blue, red, 1)),
        same("a", probe(red, blue, 1)),
        // Tags are carried through.
        same("a", c_tag(7, broadcast(mac(1, 3)))),
        same("b", c_tag(7, probe(mac(1, 3), mac(1, 4), 1))),
        same("c", c_tag(6 << 13, probe(mac(7, 7), red, 1))),
        unlike(
            "a",
            c_tag(0, broadcast(red)),
            "A tag of VLAN 0 and priority 0 is carried",
        ),
        same("a", tagged(&broadcast(red), SERVICE_VLAN_ETHERTYPE, 7)),
        unlike(
            "c",
            probe(mac(1, 3), red, 1),
            "does not look at tags: a station is the same one with any of them",
        ),
        // From the most that a wire carries to the least, and less.
        same("a", c_tag(9, probe_of_len(mac(7, 7), mac(1, 5), 1, 1514))),
        same("a", probe_of_len(mac(7, 7), mac(1, 5), 1, 1514)),
        same("b", broadcast(mac(1, 6))),
        same("a", probe_of_len(mac(1, 6), mac(1, 5), 1, 60)),
        same("a", probe_of_len(mac(1, 6), mac(1, 5), 1, 18)),
        // Groups: IPv4, IPv6, and what no bridge may pass on (IEEE 802.1Q-2022 table 8-1).
        same("a", group([1, 0, 0x5e, 0, 0, 1])),
        same("a", group([0x33, 0x33, 0, 0, 0, 1])),
        same("a", group([1, 0x80, 0xc2, 0, 0, 0x10])),
    ];
    steps.extend((0..16).map(|last| same("a", group([1, 0x80, 0xc2, 0, 0, last]))));
    let vendors = "Only the addresses that IEEE 802.1Q-2022 reserves (table 8-1) are dropped";
    steps.extend([
        unlike("a", group([1, 0, 0x0c, 0xcc, 0xcc, 0xcc]), vendors),
        unlike("a", group([1, 0, 0x0c, 0xcc, 0xcc, 0xcd]), vendors),
        unlike(
            "a",
            broadcast(Mac([1, 0, 0x5e, 1, 2, 3])),
            "Nobody is called by a group",
        ),
        unlike("a", broadcast(Mac([0; 6])), "Nobody is called by a group"),
    ]);
    Scenario {
        ports: &[("a", "", ""), ("b", "", ""), ("c", "", "")],
        sentinels: PLAIN,
        steps,
    }
    .compare();
}

#[test]
fn ports_kept_apart() {
    let stations = ["p", "q", "open"].map(|port| (port, mac(1, port.as_bytes()[0].into())));
    let mut steps = Vec::new();
    steps.extend(stations.map(|(port, station)| same(port, broadcast(station))));
    for (from, src) in stations {
        steps.extend(stations.map(|(_, dst)| same(from, probe(dst, src, 1))));
        steps.push(same(from, probe(mac(7, 7), src, 1)));
    }
    Scenario {
        ports: &[
            ("p", "--isolation isolated", "-- set port p protected=true"),
            ("q", "--isolation isolated", "-- set port q protected=true"),
            ("open", "", ""),
        ],
        sentinels: PLAIN,
        steps,
    }
    .compare();
}

#[test]
fn tunnels() {
    let steps = vec![
        same("site1", broadcast(mac(1, 1))),
        same("site1", c_tag(7, broadcast(mac(1, 1)))),
        same("core", tagged(&broadcast(mac(1, 2)), SERVICE_VLAN_ETHERTYPE, 100)),
        same(
            "core",
            tagged(&c_tag(7, broadcast(mac(1, 3))), SERVICE_VLAN_ETHERTYPE, 200),
        ),
        same("site2", c_tag(7, probe(mac(1, 1), mac(1, 4), 1))),
    ];
    Scenario {
        ports: &[
            ("site1", "--tunnel 100", "vlan_mode=dot1q-tunnel tag=100"),
            ("site2", "--tunnel 100", "vlan_mode=dot1q-tunnel tag=100"),
            ("other", "--tunnel 200", "vlan_mode=dot1q-tunnel tag=200"),
            ("core", "--trunk 100,200 --tag service", "trunks=100,200"),
        ],
        sentinels: APART,
        steps,
    }
    .compare();
}

#[test]
fn tunnels_and_a_port_without_settings() {
    let why = "a port without a VLAN setting tags with 0x8100";
    let tagged = tagged(&broadcast(mac(1, 2)), SERVICE_VLAN_ETHERTYPE, 100);
    Scenario {
        ports: &[
            ("site", "--tunnel 100", "vlan_mode=dot1q-tunnel tag=100"),
            ("core", "--trunk 100 --tag service", "trunks=100"),
        ],
        sentinels: PLAIN,
        steps: vec![unlike("site", broadcast(mac(1, 1)), why), unlike("core", tagged, why)],
    }
    .compare();
}

/// What nobody thought of: stations that send to each other, with tags and without, from wherever.
#[test]
fn at_random() {
    let ports = ["a10", "a20", "native", "trunk", "open"];
    // SplitMix64 from a fixed start: a failure comes again.
    let mut state = 20_261_125u64;
    let mut choose = |among: usize| {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        (mixed >> 33) as usize % among
    };
    let mut steps = Vec::new();
    for id in 1..=400 {
        let port = ports[choose(ports.len())];
        let station = |n| mac(2, n as u32);
        let dst = match choose(8) {
            0 => Mac::BROADCAST,
            1 => Mac([1, 0, 0x5e, 1, 2, 3]),
            n => station(n),
        };
        let frame = probe_of_len(dst, station(2 + choose(6)), id, 60 + choose(1400));
        let vlan = [0, 10, 20, 25, 30][choose(5)];
        let own = matches!((port, vlan), ("a10", 10) | ("a20", 20));
        steps.push(match choose(3) {
            // Known to be unlike.
            0 | 1 if !own => same(port, c_tag((1 + choose(7) as u16) << 13 | vlan, frame)),
            _ => same(port, frame),
        });
    }
    Scenario {
        ports: &[
            ("a10", "--vlan 10", "tag=10"),
            ("a20", "--vlan 20", "tag=20"),
            (
                "native",
                "--trunk 10,20 --native 20",
                "vlan_mode=native-untagged tag=20 trunks=10,20",
            ),
            ("trunk", "--trunk 10,25", "trunks=10,25"),
            ("open", "", ""),
        ],
        sentinels: PLAIN,
        steps,
    }
    .compare();
}

#[test]
fn mirrors() {
    let (red, blue) = (mac(1, 1), mac(1, 2));
    let on = |direction: &str, selects: &[&str]| {
        let selects: Vec<_> = selects.iter().map(|select| format!("{select}=@a")).collect();
        command(
            &format!("mirror add m --from a --direction {direction} --to probe"),
            &format!(
                "vsctl -- --id=@a get port a -- --id=@to get port probe -- --id=@m create mirror name=m {} \
                 output-port=@to -- set bridge br0 mirrors=@m",
                selects.join(" ")
            ),
        )
    };
    let off = || command("mirror del m", "vsctl clear bridge br0 mirrors");
    let traffic = || {
        [
            same("a", broadcast(red)),
            same("b", probe(red, blue, 1)),
            same("a", probe(blue, red, 1)),
            same("b", c_tag(7, probe(mac(7, 7), blue, 1))),
            same("a", c_tag(7, probe(mac(7, 7), red, 1))),
            // The destination takes part in nothing else.
            same("probe", broadcast(mac(1, 3))),
            // Dropped at the door.
            same("a", group([1, 0x80, 0xc2, 0, 0, 3])),
        ]
    };
    let mut steps: Vec<Step> = Vec::new();
    for (direction, selects) in [
        ("rx", &["select-src-port"][..]),
        ("tx", &["select-dst-port"]),
        ("both", &["select-src-port", "select-dst-port"]),
    ] {
        steps.push(on(direction, selects));
        steps.extend(traffic());
        steps.push(off());
    }
    Scenario {
        ports: &[("a", "", ""), ("b", "", ""), ("probe", "", "")],
        sentinels: PLAIN,
        steps,
    }
    .compare();
}

#[test]
fn a_mirrored_access_port() {
    let steps = vec![
        command(
            "mirror add m --from a --direction rx --to probe",
            "vsctl -- --id=@a get port a -- --id=@to get port probe -- --id=@m create mirror name=m \
             select-src-port=@a output-port=@to -- set bridge br0 mirrors=@m",
        ),
        same("a", broadcast(mac(1, 1))),
        same("b", broadcast(mac(1, 2))),
        same("a", probe(mac(1, 2), mac(1, 1), 1)),
    ];
    Scenario {
        ports: &[
            ("a", "--vlan 10", "tag=10"),
            ("b", "--vlan 10", "tag=10"),
            ("probe", "", ""),
        ],
        sentinels: PLAIN,
        steps,
    }
    .compare();
}

/// Its own policer can't be had: `ingress_policing_rate` is tc's, which does not see what an AF_PACKET socket reads. An
/// OpenFlow meter does the same.
#[test]
fn policing() {
    let thousand = |n: u32| probe_of_len(Mac::BROADCAST, mac(1, 1), n, 1000);
    let steps = vec![
        command(
            "police a --rate 8kbit --burst 2000",
            "ofctl -O OpenFlow13 add-meter br0 meter=1,kbps,burst,band=type=drop,rate=8,burst_size=16",
        ),
        command(
            "port show a",
            "ofctl -O OpenFlow13 add-flow br0 in_port=a,actions=meter:1,NORMAL",
        ),
        // Until both have let their burst fill up. A frame more takes a second.
        pause(2500),
        burst("a", (1..=20).map(thousand).collect()),
        // Another port is not concerned.
        burst("b", (1..=20).map(thousand).collect()),
    ];
    Scenario {
        ports: &[("a", "", ""), ("b", "", ""), ("c", "", "")],
        sentinels: PLAIN,
        steps,
    }
    .compare();
}
