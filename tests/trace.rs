//! Traces: what would become of a frame is what becomes of it, and nothing is changed by asking.

use std::time::Duration;

use vswitch_testing::api::trace::{LiveTrace, TraceOutcome, TraceReport};
use vswitch_testing::api::view::PortCounters;
use vswitch_testing::api::{Mac, PortKind};
use vswitch_testing::frame::{mac, probe, probe_of_len};
use vswitch_testing::{Lab, Place, Station, Wire, wait_for};

fn trace(lab: &Lab, options: &str) -> TraceReport {
    lab.json(&format!("trace {options}"))
}

/// Counters of all ports, and the FDB, in an order that does not change.
fn state(lab: &Lab) -> (Vec<PortCounters>, Vec<(Mac, String)>) {
    let fdb = lab
        .fdb("main")
        .into_iter()
        .map(|entry| (entry.mac, entry.port.to_string()));
    (
        lab.ports().into_iter().map(|port| port.counters).collect(),
        fdb.collect(),
    )
}

fn names(report: &TraceReport) -> Vec<&str> {
    report.ports.iter().map(|port| port.as_str()).collect()
}

fn lab() -> (Lab, Vec<Station>) {
    let lab = Lab::new();
    let stations = Station::one_of_each(&lab);
    stations.iter().for_each(Station::silence);
    let mut wire = Wire::tap(&stations);
    for (n, station) in stations.iter().enumerate() {
        wire.send(&station.port, &[probe(Mac::BROADCAST, mac(1, n as u32), 0)]);
    }
    (lab, stations)
}

#[test]
fn each_reason_is_told_and_nothing_is_changed() {
    let (lab, _stations) = lab();
    lab.ok("add-port small --mtu 600");
    lab.ok("add-port off");
    lab.ok("set port off --down");
    lab.ok("add-port mon");
    lab.ok("mirror add m --from device --to mon");
    lab.ok("fdb add 0a:01:00:00:00:55 small");
    for name in ["small", "off", "mon"] {
        let path = "/proc/sys/net/ipv6/conf/eth0/disable_ipv6";
        // Not there where the MTU is too small for IPv6.
        let _ = Place::named(name).run(|| std::fs::write(path, "1"));
    }
    // What their stacks had sent by then comes through.
    std::thread::sleep(Duration::from_millis(300));
    let before = state(&lab);
    let (one, own) = (mac(1, 1), mac(1, 0));
    for (options, outcome, reason, ports) in [
        (format!("veth --dst {one}"), TraceOutcome::Forwarded, None, &["tap"][..]),
        (
            "veth".to_owned(),
            TraceOutcome::Flooded,
            None,
            &["device", "internal", "small", "tap"],
        ),
        (
            format!("veth --dst {}", mac(9, 9)),
            TraceOutcome::Flooded,
            None,
            &["device", "internal", "small", "tap"],
        ),
        (
            format!("veth --dst {own}"),
            TraceOutcome::Dropped,
            Some("same-port"),
            &[],
        ),
        (
            "veth --dst 01:80:c2:00:00:0e".to_owned(),
            TraceOutcome::Dropped,
            Some("reserved-multicast"),
            &[],
        ),
        (
            "veth --src 03:00:00:00:00:01".to_owned(),
            TraceOutcome::Dropped,
            Some("multicast-source"),
            &[],
        ),
        (
            "veth --src 00:00:00:00:00:00".to_owned(),
            TraceOutcome::Dropped,
            Some("zero-source"),
            &[],
        ),
        (
            format!("veth --dst {one} --size 9000"),
            TraceOutcome::Dropped,
            Some("oversize"),
            &[],
        ),
        ("veth --hex 0200".to_owned(), TraceOutcome::Dropped, Some("runt"), &[]),
        (
            "veth --dst 0a:01:00:00:00:55 --size 1000".to_owned(),
            TraceOutcome::Dropped,
            Some("mtu"),
            &[],
        ),
        (
            "off --dst tap".to_owned(),
            TraceOutcome::Dropped,
            Some("port-down"),
            &[],
        ),
        (
            "mon --dst tap".to_owned(),
            TraceOutcome::Dropped,
            Some("mirror-port"),
            &[],
        ),
    ] {
        let report = trace(&lab, &options);
        assert_eq!(
            (report.outcome, report.reason.as_deref()),
            (outcome, reason),
            "{options}: {report:#?}"
        );
        let mut sorted = names(&report);
        sorted.sort_unstable();
        assert_eq!(sorted, ports, "{options}");
        if let Some(reason) = reason {
            let step = report.steps.iter().rfind(|step| step.dropped.is_some()).unwrap();
            assert_eq!(step.dropped.as_deref(), Some(reason), "{options}");
            assert!(!step.detail.is_empty());
        }
    }
    let report = trace(&lab, &format!("device --dst {one}"));
    assert!(
        report
            .steps
            .iter()
            .any(|step| step.detail.contains("a mirror copies it to mon")),
        "{report:#?}"
    );
    assert_eq!(state(&lab), before, "a trace changed something");
}

#[test]
fn what_would_be_learned_is_said() {
    let (lab, _stations) = lab();
    for (options, words) in [
        (
            format!("veth --src {}", mac(7, 7)),
            vec!["is new, and would be learned on veth"],
        ),
        (
            format!("veth --src {} --dst {}", mac(1, 0), mac(1, 2)),
            vec!["known here, last seen", "is behind device, last seen"],
        ),
        (
            format!("veth --src {}", mac(1, 1)),
            vec!["was on tap, and would move to veth"],
        ),
        (
            "veth --arp 10.7.0.2".to_owned(),
            vec![
                "ARP, length 60: who has 10.7.0.2, tell 10.7.0.1",
                "broadcast: flooded",
                "=> flooded to",
            ],
        ),
    ] {
        let text = lab.ok(&format!("trace {options}"));
        for word in words {
            assert!(text.contains(word), "{options}: no {word:?} in\n{text}");
        }
    }
    lab.ctl("trace nosuch").failed(4, &["nosuch"]);
    lab.ctl("trace veth --dst nosuch").failed(4, &["nosuch"]);
    lab.ctl("trace veth --ip 10.99.0.1").failed(2, &["10.99.0.1", "--dst"]);
    lab.ctl("trace veth --hex 0x12").failed(2, &["hexadecimal"]);
}

/// `trace red --dst ADDRESS` says what becomes of what red's stack sends, and nothing is forwarded of what it does not.
#[test]
fn a_destination_is_reached_as_the_stack_reaches_it() {
    let lab = Lab::new();
    let red = Station::add(&lab, "red", PortKind::Veth, 1);
    let blue = Station::add(&lab, "blue", PortKind::Veth, 2);
    let _gw = Station::add(&lab, "gw", PortKind::Tap, 3);
    red.ping(blue.v4);
    for dst in ["10.7.0.2", "blue"] {
        let report = trace(&lab, &format!("red --dst {dst}"));
        assert_eq!(
            (report.outcome, names(&report)),
            (TraceOutcome::Forwarded, vec!["blue"]),
            "{dst}"
        );
        let mac = lab.port("blue").port.mac.unwrap();
        let sender = report
            .steps
            .iter()
            .rfind(|step| step.stage.as_str() == "sender")
            .unwrap();
        assert!(sender.detail.contains("10.7.0.2 is on the link"), "{sender:?}");
        assert!(sender.detail.contains(&mac.to_string()), "{sender:?}");
    }
    // Without a route red sends nothing.
    lab.ctl("trace red --dst 192.0.2.1")
        .failed(2, &["no route to 192.0.2.1"]);
    lab.ok("route add red 192.0.2.0/24 --via 10.7.0.3");
    let report = trace(&lab, "red --dst 192.0.2.1");
    assert_eq!(names(&report), ["gw"], "{report:?}");
    assert!(report.steps[0].detail.contains("over 10.7.0.3"), "{report:?}");
    // A frame that is given as such is taken so, and that is said.
    let report = trace(&lab, &format!("red --dst {}", lab.port("blue").port.mac.unwrap()));
    assert!(report.steps[0].detail.contains("past the routes"), "{report:?}");
}

#[test]
fn a_trace_is_what_happens() {
    let (lab, stations) = lab();
    let mut wire = Wire::tap(&stations);
    for (dst, length) in [
        (mac(1, 1), 60),
        (mac(9, 9), 1514),
        (Mac::BROADCAST, 60),
        (mac(1, 0), 60),
    ] {
        let frame = probe_of_len(dst, mac(1, 0), 5, length);
        let hex: String = frame.iter().map(|byte| format!("{byte:02x}")).collect();
        let report = trace(&lab, &format!("veth --hex {hex}"));
        let ports = names(&report);
        let frames = [frame];
        wire.check("veth", &frames, &ports, if ports.is_empty() { &[] } else { &frames });
    }
}

#[test]
fn real_frames_are_traced_as_they_come() {
    let lab = Lab::new();
    let red = Station::add(&lab, "red", PortKind::Veth, 1);
    let blue = Station::add(&lab, "blue", PortKind::Tap, 2);
    red.ping(blue.v4);
    let text = std::thread::scope(|scope| {
        let traces = scope.spawn(|| lab.ok("--json trace red --live 2 --filter icmp"));
        while !traces.is_finished() {
            red.ping(blue.v4);
        }
        traces.join().unwrap()
    });
    let traces: Vec<LiveTrace> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(traces.len(), 2);
    for live in traces {
        assert_eq!(
            (live.report.outcome, names(&live.report)),
            (TraceOutcome::Forwarded, vec!["blue"])
        );
        assert_eq!(live.frame.len(), 2 * 98);
    }
    // It ends with the port.
    std::thread::scope(|scope| {
        let traces = scope.spawn(|| lab.ctl("trace red --live 1 --filter arp"));
        wait_for("the port to be gone", || lab.ctl("del-port red").code == 0);
        assert_ne!(traces.join().unwrap().code, 0);
    });
}

#[test]
fn rates_and_impairment_are_steps_that_use_nothing_up() {
    let (lab, stations) = lab();
    let [red, blue] = [0, 1].map(|n: usize| stations[n].port.clone());
    lab.ok(&format!("police {red} --pps 1 --burst-frames 1"));
    lab.ok(&format!("storm {red} --broadcast 1pps"));
    lab.ok(&format!("impair {blue} --delay 20ms"));
    let steps = |options: &str| {
        let report = trace(&lab, &format!("{red} {options}"));
        let steps = report
            .steps
            .iter()
            .map(|step| (step.stage.as_str(), step.dropped.clone()));
        steps.collect::<Vec<_>>()
    };
    let ask = format!("--src {} --dst ff:ff:ff:ff:ff:ff", mac(1, 0));
    for _ in 0..5 {
        let steps = steps(&ask);
        for stage in ["police", "storm", "impair"] {
            assert!(steps.contains(&(stage, None)), "{stage}: {steps:?}");
        }
    }
    // One frame uses the rate up.
    let mut wire = Wire::tap(&stations);
    wire.send(&blue, &[]);
    wire.at(&red).send(&probe(Mac::BROADCAST, mac(1, 0), 1));
    wait_for("the rate to be used up", || {
        let steps = steps(&ask);
        steps.contains(&("police", Some("policed".to_owned())))
    });
    let report = trace(&lab, &format!("{red} {ask}"));
    assert_eq!(
        (report.outcome, report.reason.as_deref()),
        (TraceOutcome::Dropped, Some("policed"))
    );
    let known = format!("{red} --src {} --dst {}", mac(1, 0), mac(1, 1));
    lab.ok(&format!("police clear {red}"));
    wait_for("the rate of floods to be used up", || {
        // Storm control lets a burst of its own through.
        (0..10).for_each(|n| wire.at(&red).send(&probe(Mac::BROADCAST, mac(1, 0), n)));
        let report = trace(&lab, &format!("{red} {ask}"));
        (report.outcome, report.reason.as_deref()) == (TraceOutcome::Dropped, Some("storm"))
    });
    let report = trace(&lab, &known);
    assert!(
        report.steps.iter().all(|step| step.stage.as_str() != "storm"),
        "nothing is flooded: {report:?}"
    );
    let delay = report
        .steps
        .iter()
        .find(|step| step.stage.as_str() == "impair")
        .unwrap();
    assert!(delay.detail.contains("delay 20ms"), "{delay:?}");
    lab.ok(&format!("impair {blue} --loss 100%"));
    let report = trace(&lab, &known);
    assert_eq!(
        (report.outcome, report.reason.as_deref()),
        (TraceOutcome::Dropped, Some("impair-loss"))
    );
    lab.ok(&format!("acl add {blue} out deny any"));
    let steps = steps(&known[red.len()..]);
    assert!(
        steps.iter().any(|(_, dropped)| dropped.as_deref() == Some("acl-out")),
        "{steps:?}"
    );
    assert!(
        steps.iter().all(|(stage, _)| *stage != "impair"),
        "what is denied does not come to the wire: {steps:?}"
    );
}

/// `trace red --dst blue` said that no port has the address, and to give `--dst PORT`, as long as the two did not know each other.
#[test]
fn a_port_behind_a_link_is_found_before_it_was_spoken_with() {
    let lab = Lab::new();
    lab.ok("switch add s2");
    lab.ok("link add main s2 --trunk 10,20");
    lab.ok("add-port red --addr 10.0.0.1/24 --vlan 10");
    lab.ok("add-port blue --switch s2 --addr 10.0.0.2/24 --vlan 10");
    let report = trace(&lab, "red --dst blue");
    assert_eq!(names(&report), ["main-s2"], "{report:?}");
    assert!(
        report
            .steps
            .iter()
            .any(|step| step.detail.contains("port blue answers for 10.0.0.2")),
        "{report:?}"
    );
    assert_eq!(names(&trace(&lab, "red --ip 10.0.0.2")), ["main-s2"]);
    lab.ok("set port blue --vlan 20");
    let report = trace(&lab, "red --dst blue");
    assert!(
        report
            .steps
            .iter()
            .any(|step| step.detail.contains("does not come through")),
        "{report:?}"
    );
}
