//! The kernel fast path by tc filters, which outlive the daemon: at near ends always, at devices where the kernel has no tcx links.

use std::path::Path;

use vswitch_testing::api::PortKind;
use vswitch_testing::fastpath::counters;
use vswitch_testing::lab::fastpath_wanted;
use vswitch_testing::require::missing;
use vswitch_testing::snapshot::Snapshot;
use vswitch_testing::transfer::{self, TcpPair};
use vswitch_testing::{Lab, Place, Station};

/// Starts the daemon as on a kernel without tcx, or as it is.
fn start(lab: &mut Lab, tcx: bool) {
    let mut command = lab.daemon_command();
    if !tcx {
        command.env("VSWITCHD_NO_TCX", "1");
    }
    lab.start_with(command, |_| {});
}

/// The tc filters at the ingress of an interface in the daemon's own namespace.
fn filters(name: &str) -> String {
    Place::daemons_own().run_ok(&format!("tc filter show dev {name} ingress"))
}

fn links() -> usize {
    let files = std::fs::read_dir("/run/vswitch/bpf").into_iter().flatten().flatten();
    let files = files
        .filter_map(|folder| std::fs::read_dir(folder.path()).ok())
        .flatten();
    files
        .flatten()
        .filter(|file| file.file_name().to_string_lossy().starts_with("link"))
        .count()
}

#[test]
fn filters_do_what_links_do_and_each_daemon_takes_over_from_the_one_before() {
    if !fastpath_wanted() {
        return;
    }
    let mut lab = Lab::without_daemon();
    start(&mut lab, false);
    let stations = [1, 2].map(|n| Station::add(&lab, &format!("v{n}"), PortKind::Veth, n));
    let limits = lab.status().limits;
    if limits.iter().any(|limit| limit.contains("fast path")) {
        missing("the kernel fast path", limits.join("; "));
        return;
    }
    for v6 in [false, true] {
        transfer::tcp(&stations[0], &stations[1], v6, 100);
        transfer::udp(&stations[0], &stations[1], v6);
    }
    assert!(filters("v1").contains("from_station"), "{}", filters("v1"));
    assert_eq!(links(), 0);
    let pair = TcpPair::connect(&stations[0], &stations[1], false);
    for tcx in [false, true, false] {
        lab.kill_daemon();
        // Nobody is there but the kernel.
        pair.exchange(100);
        start(&mut lab, tcx);
        assert!(lab.ports().iter().all(|port| port.fastpath));
        // For a link at a near end the kernel would wait, and with it all who change interfaces.
        assert_eq!(links(), 0);
        let fdb = lab.fdb("main");
        assert!(
            stations
                .iter()
                .all(|station| fdb.iter().any(|entry| entry.mac == station.mac()))
        );
        pair.exchange(100);
        let c = counters(&lab, &stations[0]);
        assert!(c.rx_fastpath > 0, "{c:?}");
    }
    // What the programs kept from the own stack, a filter has to keep from it now.
    lab.kill_daemon();
    lab.set_datapath("fastpath", false);
    start(&mut lab, true);
    assert!(!filters("v1").contains("from_station"), "{}", filters("v1"));
    assert!(filters("v1").contains("bpf"), "{}", filters("v1"));
    assert!(!Path::new("/run/vswitch/bpf").exists());
    pair.exchange(100);
}

#[test]
fn nothing_is_left_of_the_filters() {
    if !fastpath_wanted() {
        return;
    }
    let mut lab = Lab::without_daemon();
    let before = Snapshot::of_used_machine();
    start(&mut lab, false);
    for name in ["red", "blue"] {
        lab.ok(&format!("add-port {name}"));
    }
    lab.ok("del-port red");
    let own = Place::daemons_own().run_ok("ip -br link");
    assert_eq!(own.matches('~').count(), 1, "{own}");
    lab.kill_daemon();
    start(&mut lab, false);
    lab.ok("reset --yes");
    let own = Place::daemons_own().run_ok("ip -br link");
    assert!(!own.contains('~'), "{own}");
    lab.stop_daemon();
    before.wait_until_same(Snapshot::of_machine);
}
