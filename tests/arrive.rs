//! Frames that few switches meet, and that have to arrive all the same: for interfaces that can't cut them, with more tags than one and as long
//! as the MTU allows, in the smallest of segments, and for a station's own program of XDP. (`tests/matrix.rs` has all of these
//! crossed with each other.)

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::fd::AsRawFd;
use std::panic::resume_unwind;
use std::thread;
use std::time::Instant;

use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrStorage, connect, setsockopt, socket, sockopt};
use vswitch_testing::api::{Mac, PortKind};
use vswitch_testing::bpf::set_xdp;
use vswitch_testing::fastpath::{counters, lab_with};
use vswitch_testing::frame::{mac, probe, probe_of_len};
use vswitch_testing::transfer::{self, Noise};
use vswitch_testing::{DEADLINE, Lab, Station, run, trunk, wait_for};

/// Runs a test in two labs, one after the other: as the environment says, and whose daemon forwards everything itself.
fn both_ways(test: impl Fn(Lab) + Sync) {
    for as_usual in [true, false] {
        // In a thread of its own, since the second machine would have the mounts of the first below its own.
        thread::scope(|scope| {
            let run = scope.spawn(|| test(if as_usual { Lab::new() } else { without_fastpath() }));
            run.join().unwrap_or_else(|panic| resume_unwind(panic));
        });
    }
}

fn without_fastpath() -> Lab {
    let mut lab = Lab::without_daemon();
    lab.set_datapath("fastpath", false);
    lab.start();
    lab
}

/// Guards against a way out on which the kernel drops what it would have to cut (PACKET_QDISC_BYPASS): TCP fell to 260 kbit/s.
#[test]
fn a_device_that_can_not_cut_frames_gets_them_cut() {
    both_ways(|lab| {
        let device = Station::add(&lab, "dev", PortKind::Device, 1);
        let others: Vec<_> = [PortKind::Veth, PortKind::Tap, PortKind::Internal]
            .into_iter()
            .zip(2..)
            .map(|(kind, n)| Station::add(&lab, kind.word(), kind, n))
            .collect();
        for features in [
            "tso off",
            "tx-udp-segmentation off",
            "tx off",
            "tx off sg off tso off gso off",
        ] {
            run(&format!("ethtool -K dev {features}"));
            for other in &others {
                for v6 in [false, true] {
                    transfer::tcp(other, &device, v6, 64);
                    transfer::udp_gso(other, &device, v6);
                }
            }
            run(&format!("ethtool -K dev {}", features.replace("off", "on")));
        }
        let drops = lab.port("dev").counters.tx_drops;
        assert!(drops.is_empty(), "{drops:?}");
    });
}

/// Guards against a program that is passed by: `bpf_redirect_peer` hands frames to the stack behind it.
#[test]
fn a_stations_own_xdp_program_sees_its_frames() {
    let Some((mut lab, stations)) = lab_with(2) else { return };
    let (red, blue) = (&stations[0], &stations[1]);
    red.ping(blue.v4);
    set_xdp(&lab, blue, Some("drop"));
    wait_for("blue to get nothing", || !red.reaches(blue.v4) && !red.reaches(blue.v6));
    // A program that was there before the daemon counts as well.
    lab.kill_daemon();
    lab.start();
    assert!(!red.reaches(blue.v4), "a restarted daemon does not know of the program");
    set_xdp(&lab, blue, None);
    red.ping_soon(blue.v4);
    lab.kill_daemon();
    set_xdp(&lab, blue, Some("drop"));
    lab.start();
    assert!(!red.reaches(blue.v4), "the program came while no daemon ran");
    set_xdp(&lab, blue, None);
    red.ping_soon(blue.v4);
    let before = counters(&lab, red).rx_fastpath;
    for program in [Some("pass"), None] {
        set_xdp(&lab, blue, program);
        for v6 in [false, true] {
            transfer::tcp(red, blue, v6, 64);
            transfer::udp_gso(red, blue, v6);
            transfer::udp(blue, red, v6);
        }
    }
    let after = counters(&lab, red).rx_fastpath;
    assert!(
        after > before + 100,
        "the kernel does not forward any more: {before}, {after}"
    );
}

/// The same without the fast path, where the kernel has to cut what it sends to such an interface.
#[test]
fn a_station_with_xdp_gets_tcp_from_the_daemon_too() {
    let lab = without_fastpath();
    let blue = Station::add(&lab, "blue", PortKind::Veth, 1);
    let others = [PortKind::Veth, PortKind::Tap, PortKind::Device]
        .into_iter()
        .zip(2..)
        .map(|(kind, n)| Station::add(&lab, kind.word(), kind, n));
    for other in others {
        set_xdp(&lab, &blue, Some("drop"));
        assert!(!other.reaches(blue.v4));
        set_xdp(&lab, &blue, Some("pass"));
        other.ping_soon(blue.v4);
        for v6 in [false, true] {
            transfer::tcp(&other, &blue, v6, 64);
            transfer::udp_gso(&other, &blue, v6);
        }
        set_xdp(&lab, &blue, None);
    }
}

/// It stands in the host's namespace, where programs may greet whoever they find by it. And it goes with the daemon.
#[test]
fn the_shadow_of_a_device_sends_nothing_of_the_hosts() {
    // One worker: what is sent later comes out later.
    let mut lab = Lab::one_processor();
    lab.set_datapath("fastpath", false);
    lab.start();
    let device = Station::add(&lab, "dev", PortKind::Device, 1);
    let other = Station::add(&lab, "other", PortKind::Veth, 2);
    other.ping(device.v4);
    let links = run("ip -o link show");
    let shadow = links.split(": ").find(|word| word.starts_with("vs-")).unwrap();
    let seen = other.raw(false);
    let host = UdpSocket::bind("0.0.0.0:0").unwrap();
    host.set_broadcast(true).unwrap();
    setsockopt(&host, sockopt::BindToDevice, &shadow.into()).unwrap();
    // The kernel may tell that it was dropped.
    let _ = host.send_to(b"the host's words", "255.255.255.255:7000");
    let probe = probe(Mac::BROADCAST, mac(1, 2), 2);
    device.raw(false).send(&probe);
    let end = Instant::now() + DEADLINE;
    let frames: Vec<_> = std::iter::from_fn(|| seen.recv(end))
        .map(|frame| frame.bytes)
        .take_while(|bytes| *bytes != probe)
        .collect();
    assert!(Instant::now() < end, "the probe did not arrive");
    assert!(!frames.iter().any(|bytes| bytes.ends_with(b"the host's words")));
    lab.kill_daemon();
    wait_for("the shadow to go", || !run("ip -o link show").contains(shadow));
    lab.start();
    other.ping_soon(device.v4);
    lab.ok("del-port dev");
    assert!(!run("ip -o link show").contains("vs-"));
    assert!(!run("ip -d link show dev dev").contains("promiscuity 1"));
}

/// Down to one byte behind the Ethernet header, which is less than some filters of tc look at.
#[test]
fn the_shortest_frames_arrive_at_every_kind() {
    both_ways(|lab| {
        let stations = Station::one_of_each(&lab);
        for (a, from) in stations.iter().enumerate() {
            for to in stations.iter().filter(|to| to.port != from.port) {
                let (sender, seen) = (from.raw(false), to.raw(false));
                for len in [15, 16, 17, 18, 60] {
                    let mut frame = probe_of_len(Mac::BROADCAST, mac(1, a as u32), 1, len);
                    frame.truncate(len);
                    sender.send(&frame);
                    let end = Instant::now() + DEADLINE;
                    let mut frames = std::iter::from_fn(|| seen.recv(end));
                    assert!(
                        frames.any(|got| got.bytes == frame),
                        "{len} bytes from {} to {}",
                        from.port,
                        to.port
                    );
                }
            }
        }
    });
}

/// Guards against a bound of one tag: each TCP segment of full size was sent again for ever.
#[test]
fn frames_of_full_size_with_two_tags_arrive() {
    both_ways(|lab| {
        let add = |(kind, n): (PortKind, u8)| Station::add(&lab, kind.word(), kind, n);
        let kinds = [PortKind::Veth, PortKind::Tap, PortKind::Device, PortKind::Internal];
        let stations: Vec<_> = kinds.into_iter().zip(1..).map(add).collect();
        let more = Station::add(&lab, "more", PortKind::Veth, 9);
        for tag in [trunk::tag_twice, trunk::tag_as_provider] {
            stations.iter().chain([&more]).for_each(|station| tag(&lab, station));
            for station in &stations {
                for v6 in [false, true] {
                    transfer::tcp(station, &more, v6, 32);
                    transfer::udp(station, &more, v6);
                }
            }
            stations.iter().chain([&more]).for_each(trunk::untag);
        }
        for port in lab.ports() {
            assert!(port.counters.tx_drops.is_empty(), "{port:#?}");
        }
    });
}

/// The switch itself puts the second tag on.
#[test]
fn a_service_tag_that_the_switch_puts_on_makes_no_frame_too_long() {
    both_ways(|lab| {
        for kind in [PortKind::Veth, PortKind::Tap, PortKind::Device] {
            let customer = Station::add_with(&lab, "customer", kind, 1, "--tunnel 10");
            let core = Station::add_with(&lab, "core", PortKind::Veth, 2, "--trunk 10 --tag service");
            // The customer's frames have its own tag, of VLAN 20, below the provider's.
            trunk::tag_as_customer(&lab, &customer);
            trunk::tag_as_provider(&lab, &core);
            for v6 in [false, true] {
                transfer::tcp(&customer, &core, v6, 32);
                transfer::udp(&core, &customer, v6);
            }
            lab.ok("del-port customer");
            lab.ok("del-port core");
            if kind == PortKind::Device {
                run("ip link del customer");
            }
        }
    });
}

/// The station's MTU is the one that was asked for, and still says what is too long.
#[test]
fn room_for_tags_is_no_room_for_longer_packets() {
    both_ways(|lab| {
        let jumbo = Station::add_with(&lab, "jumbo", PortKind::Tap, 1, "--mtu 9000");
        let small = Station::add(&lab, "small", PortKind::Veth, 2);
        jumbo.ping(small.v4);
        assert!(small.place.run_ok("ip link show eth0").contains("mtu 1500 "));
        let fits = format!("ping -n -c 1 -W 10 -M do -s 1472 {}", small.v4);
        jumbo.place.run_ok(&fits);
        for size in [1473, 1480, 1481] {
            let line = format!("ping -n -c 1 -W 1 -M do -s {size} {}", small.v4);
            let sent = jumbo.place.output(&line);
            assert!(!sent.status.success(), "{size} bytes went through");
        }
        let drops = lab.port("small").counters.tx_drops;
        assert_eq!(drops.get("mtu"), Some(&3), "{drops:?}");
    });
}

/// The bound on segments (a frame of 60,000 bytes was cut into as many) leaves what stacks do: TCP with the smallest size that Linux
/// takes, and UDP in segments of one byte.
#[test]
fn the_smallest_segments_that_a_stack_makes_arrive() {
    let lab = Lab::new();
    let sender = Station::add(&lab, "sender", PortKind::Veth, 1);
    let whole = Station::add(&lab, "whole", PortKind::Tap, 2);
    let cut = Station::add_with(&lab, "cut", PortKind::Veth, 3, "--no-offload");
    for to in [&whole, &cut] {
        for v6 in [false, true] {
            small_tcp(&sender, to, v6);
            transfer::udp_gso_of(&sender, to, v6, 1, 64);
            transfer::udp_gso_of(&sender, to, v6, 8, 60);
        }
    }
    for port in lab.ports() {
        let drops = [&port.counters.rx_drops, &port.counters.tx_drops];
        assert!(drops.iter().all(|drops| !drops.contains_key("malformed")), "{port:#?}");
    }
}

/// TCP over segments of 76 bytes.
fn small_tcp(from: &Station, to: &Station, v6: bool) {
    const BYTES: usize = 1 << 20;
    /// The least that setsockopt takes (TCP_MIN_MSS).
    const MSS: u32 = 88;
    let listener = to
        .place
        .run(|| TcpListener::bind(SocketAddr::new(to.ip(v6), 0)))
        .unwrap();
    let address = listener.local_addr().unwrap();
    let family = if v6 { AddressFamily::Inet6 } else { AddressFamily::Inet };
    let client = from.place.run(|| {
        let client = socket(family, SockType::Stream, SockFlag::empty(), None).unwrap();
        setsockopt(&client, sockopt::TcpMaxSeg, &MSS).unwrap();
        connect(client.as_raw_fd(), &SockaddrStorage::from(address)).unwrap();
        std::net::TcpStream::from(client)
    });
    let (mut server, _) = listener.accept().unwrap();
    server.set_read_timeout(Some(DEADLINE)).unwrap();
    client.set_write_timeout(Some(DEADLINE)).unwrap();
    let expected = Noise::new(1).next(BYTES);
    let mut got = vec![0; BYTES];
    thread::scope(|scope| {
        scope.spawn(|| (&client).write_all(&expected).unwrap());
        server.read_exact(&mut got).unwrap();
    });
    assert!(got == expected, "other bytes arrived");
}
