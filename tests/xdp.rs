//! Devices by AF_XDP: all that a lab's veth has beside a frame (tags, partial checksums) arrives, and what can't be had is told.

use vswitch_testing::api::view::{PortState, XdpMode};
use vswitch_testing::api::{Mac, PortKind};
use vswitch_testing::frame::{mac, probe_of_len, tagged};
use vswitch_testing::require::missing;
use vswitch_testing::station::make_device;
use vswitch_testing::transfer::{self, TcpPair};
use vswitch_testing::{Lab, Station, linux, run, trunk, wait_for};

/// A station of another kind, and one behind a device with AF_XDP, if this kernel tells programs of tags beside frames.
fn lab_with_xdp(kind: PortKind, options: &str) -> Option<(Lab, [Station; 2])> {
    if !linux::at_least(6, 8) {
        missing("XDP that tells of tags", "it came with Linux 6.8");
        return None;
    }
    let lab = Lab::new();
    let other = Station::add(&lab, "other", kind, 1);
    let device = Station::add_with(&lab, "device", PortKind::Device, 2, &format!("--xdp {options}"));
    let view = lab.port("device");
    assert_eq!(view.xdp_mode, Some(XdpMode::Copy), "{view:#?}");
    Some((lab, [other, device]))
}

/// What the kernel says of the device: `xdp` is among it if there is a program.
fn device_line() -> String {
    run("ip -o link show device")
}

#[test]
fn tcp_and_udp_cross_byte_for_byte_whatever_the_ends_leave_undone() {
    for kind in [PortKind::Veth, PortKind::Tap] {
        let Some((lab, [other, device])) = lab_with_xdp(kind, "") else {
            return;
        };
        for checked in [false, true] {
            if checked {
                // A receiver that looks at each checksum, and a sender that leaves them undone.
                other.ethtool("rx off");
                device.ethtool("rx off");
            }
            for v6 in [false, true] {
                for (a, b) in [(&other, &device), (&device, &other)] {
                    transfer::tcp(a, b, v6, 50);
                    transfer::udp(a, b, v6);
                    transfer::udp_gso(a, b, v6);
                }
            }
        }
        let counters = lab.port("device").counters;
        assert_eq!(counters.rx_fastpath, 0, "{counters:?}");
        assert!(counters.rx_frames > 1000, "{counters:?}");
        lab.wait_for_sums();
    }
}

#[test]
fn a_tag_beside_a_frame_is_not_lost() {
    let Some((lab, [other, device])) = lab_with_xdp(PortKind::Veth, "--trunk 10,20") else {
        return;
    };
    lab.ok("set port other --vlan 10");
    trunk::tag(&lab, &device);
    for v6 in [false, true] {
        transfer::tcp(&other, &device, v6, 50);
        transfer::udp(&device, &other, v6);
    }
    lab.ok("set port other --vlan 20");
    assert!(!device.reaches(other.v4), "a frame of another VLAN arrived");
}

#[test]
fn the_device_is_as_before_when_the_port_or_the_daemon_is_gone() {
    let Some((mut lab, [other, device])) = lab_with_xdp(PortKind::Veth, "") else {
        return;
    };
    let features = || device.place.run_ok("ethtool -k eth0");
    let with_xdp = features();
    assert!(device_line().contains("xdp"), "{}", device_line());
    lab.ok("del-port device");
    wait_for("the program to go", || !device_line().contains("xdp"));
    let without = features();
    assert_ne!(with_xdp, without, "the far end may send GSO frames again");
    lab.ok("add-port device --type device --xdp");
    other.ping_soon(device.v4);
    lab.kill_daemon();
    wait_for("the program to go with its daemon", || !device_line().contains("xdp"));
    assert_eq!(features(), without);
    lab.start();
    assert_eq!(lab.port("device").xdp_mode, Some(XdpMode::Copy));
    let pair = TcpPair::connect(&other, &device, false);
    pair.exchange(50);
    lab.ok("reset --yes");
    assert!(!device_line().contains("xdp"), "{}", device_line());
}

#[test]
fn a_device_that_vanishes_has_it_again_when_it_is_back() {
    let Some((lab, [other, station])) = lab_with_xdp(PortKind::Tap, "") else {
        return;
    };
    other.ping(station.v4);
    let mac = station.mac();
    run("ip link del device");
    wait_for("the port to be missing", || {
        lab.port("device").state == PortState::Missing
    });
    make_device("device");
    station.place.run_ok(&format!("ip link set eth0 address {mac}"));
    station.place.run_ok("ip addr add 10.7.0.2/24 dev eth0");
    wait_for("the port to be back", || lab.port("device").state == PortState::Up);
    assert_eq!(lab.port("device").xdp_mode, Some(XdpMode::Copy));
    other.ping_soon(station.v4);
}

#[test]
fn what_can_not_be_had_is_told_and_the_port_works_all_the_same() {
    let lab = Lab::new();
    lab.ctl("add-port red --xdp").failed(2, &["red", "--type device"]);
    let other = Station::add_with(&lab, "other", PortKind::Veth, 1, "--mtu 9000");
    let device = Station::add_with(&lab, "device", PortKind::Device, 2, "--xdp --mtu 9000");
    run("ip tuntap add dev tap7 mode tap");
    lab.ok("add-port tap7 --type device --xdp");
    for (port, reason) in [("device", "9000"), ("tap7", "TAP")] {
        let view = lab.port(port);
        assert_eq!(view.xdp_mode, None);
        assert!(
            view.xdp_refused.as_deref().is_some_and(|why| why.contains(reason)),
            "{view:#?}"
        );
        let page = lab.ok(&format!("port show {port}"));
        assert!(page.contains("AF_XDP") && page.contains(reason), "{page}");
    }
    transfer::tcp(&other, &device, true, 20);
    assert!(device_line().contains("mtu 9000"));
    lab.ok("set port device --mtu 1500");
    let view = lab.port("device");
    if linux::at_least(6, 8) {
        assert_eq!((view.xdp_mode, view.xdp_refused), (Some(XdpMode::Copy), None));
    } else {
        let why = view.xdp_refused.unwrap_or_default();
        assert!(view.xdp_mode.is_none() && why.contains("Linux 6.8"), "{why}");
    }
    assert!(device_line().contains("mtu 1500"), "{}", device_line());
    transfer::tcp(&other, &device, false, 20);
}

#[test]
fn an_mtu_that_is_too_large_is_refused_and_changes_nothing() {
    let Some((lab, [other, device])) = lab_with_xdp(PortKind::Veth, "") else {
        return;
    };
    lab.ctl("set port device --mtu 9000")
        .failed(2, &["device", "9000", "--xdp"]);
    assert!(device_line().contains("mtu 1500"), "{}", device_line());
    assert_eq!(lab.port("device").port.mtu, Some(1500));
    // A veth is limited by the other end's, which is in other hands.
    lab.ok("set port device --mtu 3000");
    assert!(device_line().contains("mtu 3000"), "{}", device_line());
    transfer::tcp(&other, &device, false, 20);
}

/// A veth takes one tag beyond its MTU. A frame with two was counted as sent.
#[test]
fn a_frame_that_is_too_long_for_the_far_end_is_counted() {
    let Some((lab, [other, _device])) = lab_with_xdp(PortKind::Tap, "") else {
        return;
    };
    other.silence();
    // Its own socket takes no more than one tag beyond the MTU either.
    lab.ok("set port other --mtu 1600");
    let raw = other.raw(false);
    for len in [1514, 1510] {
        let frame = probe_of_len(Mac::BROADCAST, mac(1, 1), 1, len);
        let frame = tagged(&tagged(&frame, 0x8100, 7), 0x8100, 8);
        (0..5).for_each(|_| raw.send(&frame));
    }
    let counters = wait_for("the frames to be counted", || {
        let counters = lab.port("device").counters;
        (counters.tx_drops.get("rejected") == Some(&5)).then_some(counters)
    });
    assert_eq!(counters.tx_drops.len(), 1, "{counters:?}");
}
