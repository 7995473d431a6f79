//! Devices on the kernel fast path: what is known goes past the daemon to a wire and back, and nothing of ours stays behind.

use vswitch_testing::api::view::PortState;
use vswitch_testing::api::{Mac, PortKind};
use vswitch_testing::fastpath::{counters, lab_with};
use vswitch_testing::frame::{mac, probe};
use vswitch_testing::station::make_device;
use vswitch_testing::transfer::{self, TcpPair};
use vswitch_testing::{Lab, Place, Station, Wire, run, wait_for};

/// A veth station and one behind a device, if there is a fast path.
fn lab_with_device() -> Option<(Lab, [Station; 2])> {
    let (lab, mut stations) = lab_with(1)?;
    let device = Station::add(&lab, "device", PortKind::Device, 9);
    assert!(lab.port("device").fastpath);
    Some((lab, [stations.remove(0), device]))
}

/// Interfaces of the host that lead from a device to the daemon's namespace. (What stands beside a device without the fast path has
/// the same name, but is a TAP device.)
fn splices() -> usize {
    run("ip -o link show type veth")
        .lines()
        .filter(|line| line.contains(": vs-"))
        .count()
}

#[test]
fn known_frames_pass_between_a_device_and_a_station_without_the_daemon() {
    let Some((lab, [veth, device])) = lab_with_device() else {
        return;
    };
    veth.ping(device.v4);
    for v6 in [false, true] {
        for (a, b) in [(&veth, &device), (&device, &veth)] {
            transfer::tcp(a, b, v6, 100);
            transfer::udp(a, b, v6);
            transfer::udp_gso(a, b, v6);
        }
    }
    for station in [&veth, &device] {
        let c = counters(&lab, station);
        assert!(c.rx_fastpath > 100, "{c:?}");
        assert!(c.rx_fastpath * 10 > c.rx_frames * 9, "most pass the daemon: {c:?}");
    }
    lab.wait_for_sums();
}

#[test]
fn a_connection_through_a_device_outlives_the_daemon() {
    let Some((mut lab, [veth, device])) = lab_with_device() else {
        return;
    };
    let pair = TcpPair::connect(&veth, &device, true);
    lab.kill_daemon();
    // Nobody is there but the kernel.
    pair.exchange(100);
    lab.start();
    assert!(lab.port("device").fastpath);
    let fdb = lab.fdb("main");
    for station in [&veth, &device] {
        assert!(fdb.iter().any(|entry| entry.mac == station.mac()), "{fdb:?}");
    }
    pair.exchange(100);
    assert!(counters(&lab, &device).rx_fastpath > 0);
    // The next one has to do without.
    lab.kill_daemon();
    lab.set_datapath("fastpath", false);
    lab.start();
    assert!(!lab.port("device").fastpath);
    assert_eq!(splices(), 0);
    pair.exchange(100);
}

#[test]
fn the_host_sends_nothing_by_the_interface_beside_its_device() {
    let Some((lab, [veth, device])) = lab_with_device() else {
        return;
    };
    veth.silence();
    device.silence();
    let end = run("ip -o link show").lines().find_map(|line| {
        line.split(": ")
            .nth(1)?
            .split('@')
            .next()
            .filter(|name| name.starts_with("vs-"))
            .map(str::to_owned)
    });
    let end = end.expect("an end beside the device");
    let link: serde_json::Value = serde_json::from_str(&run(&format!("ip -j link show {end}"))).unwrap();
    let own: Mac = link[0]["address"].as_str().unwrap().parse().unwrap();
    let mut wire = Wire::tap(&[veth.clone(), device.clone()]);
    // Solicitations, if nothing else, as it has no address yet.
    let _ = Place::Home.output(&format!("ping -n -c 2 -W 1 -I {end} ff02::1"));
    let frames = [probe(Mac::BROADCAST, mac(1, 9), 2)];
    wire.check("device", &frames, &["v1"], &frames);
    assert!(lab.fdb("main").iter().all(|entry| entry.mac != own));
}

#[test]
fn nothing_stays_when_a_device_is_given_back_or_vanishes() {
    let Some((lab, [veth, device])) = lab_with_device() else {
        return;
    };
    veth.ping(device.v4);
    assert_eq!(splices(), 1);
    let look = || run("ip -d -o link show device");
    assert!(look().contains("promiscuity 1"), "{}", look());
    lab.ok("del-port device");
    wait_for("the splice to go", || splices() == 0);
    assert!(look().contains("promiscuity 0"), "{}", look());
    lab.ok("add-port device --type device");
    veth.ping_soon(device.v4);
    run("ip link del device");
    wait_for("the port to be missing", || {
        lab.port("device").state == PortState::Missing
    });
    wait_for("the splice to go", || splices() == 0);
    make_device("device");
    wait_for("the port to be back", || lab.port("device").state == PortState::Up);
    assert_eq!(splices(), 1);
    lab.ok("reset --yes");
    assert_eq!(splices(), 0);
}
