//! Captures: what is seen of a port's frames, and what is not disturbed by it.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::Duration;

use etherparse::{NetSlice, SlicedPacket, TransportSlice};
use pcap_file::pcapng::PcapNgReader;
use pcap_file::pcapng::blocks::Block;
use pcap_file::pcapng::blocks::enhanced_packet::EnhancedPacketOption;
use pcap_file::pcapng::blocks::interface_description::{InterfaceDescriptionBlock, InterfaceDescriptionOption};
use pcap_file::pcapng::blocks::interface_statistics::InterfaceStatisticsOption;
use vswitch_testing::api::{Mac, PortKind};
use vswitch_testing::ctl::tool;
use vswitch_testing::frame::{VLAN_ETHERTYPE, mac, probe, probe_id, tagged};
use vswitch_testing::{Lab, Place, Station, Wire, http, run, transfer, wait_for};

/// A capture by the control tool into a file.
struct Capture {
    child: Child,
    file: PathBuf,
}

/// A frame out of a capture file.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    interface: u32,
    outbound: bool,
    lost: u64,
    time: Duration,
    bytes: Vec<u8>,
    original_len: usize,
}

impl Capture {
    /// Begins; when this returns, the daemon captures.
    fn start(lab: &Lab, port: &str, options: &[&str]) -> Self {
        let file = lab.scratch().join(format!("{port}.pcapng"));
        let _ = std::fs::remove_file(&file);
        let mut command = tool();
        command
            .args(["capture", port, "-w", file.to_str().unwrap()])
            .args(options);
        let child = command.stderr(Stdio::piped()).spawn().unwrap();
        wait_for("the capture to begin", || {
            file.metadata().is_ok_and(|meta| meta.len() > 0)
        });
        Self { child, file }
    }

    /// Waits until it has written so many frames.
    fn wait(&self, frames: usize) {
        wait_for("the frames to be in the file", || {
            read(&self.file).is_some_and(|(seen, _)| seen.len() >= frames)
        });
    }

    /// Ends it as Ctrl-C does; gives the frames and what it said. The file has its end.
    fn stop(self) -> (Vec<Seen>, String) {
        self.signalled("INT")
    }

    fn signalled(mut self, signal: &str) -> (Vec<Seen>, String) {
        run(&format!("kill -{signal} {}", self.child.id()));
        assert!(self.child.wait().unwrap().success());
        let (seen, counts) = read(&self.file).unwrap();
        let (received, lost) = counts.expect("the counts are at the end");
        assert_eq!(received, seen.len() as u64 + lost, "after {signal}");
        self.end()
    }

    /// Waits for its own end.
    fn end(mut self) -> (Vec<Seen>, String) {
        self.child.wait().unwrap();
        let mut said = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        (read(&self.file).unwrap().0, said)
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Frames received and lost, where the file has its end.
type Counts = Option<(u64, u64)>;

/// The frames of a file, and the counts (received, lost) at its end. None: it is not complete yet.
fn read(file: &Path) -> Option<(Vec<Seen>, Counts)> {
    let mut reader = PcapNgReader::new(File::open(file).ok()?).ok()?;
    let (mut seen, mut counts, mut by_interface) = (Vec::new(), None, Vec::new());
    while let Some(block) = reader.next_block() {
        match block.ok()? {
            Block::EnhancedPacket(packet) => {
                let mut frame = Seen {
                    interface: packet.interface_id,
                    outbound: false,
                    lost: 0,
                    time: packet.timestamp,
                    bytes: packet.data.to_vec(),
                    original_len: packet.original_len as usize,
                };
                for option in &packet.options {
                    match option {
                        EnhancedPacketOption::Flags(flags) => frame.outbound = flags & 3 == 2,
                        EnhancedPacketOption::DropCount(lost) => frame.lost = *lost,
                        _ => {}
                    }
                }
                seen.push(frame);
            }
            Block::InterfaceStatistics(statistics) => {
                let (mut received, mut lost) = (0, 0);
                for option in &statistics.options {
                    match option {
                        InterfaceStatisticsOption::IsbIfRecv(n) => received = *n,
                        InterfaceStatisticsOption::IsbIfDrop(n) => lost = *n,
                        _ => {}
                    }
                }
                // Those of all interfaces, as they were written last.
                let mine = statistics.interface_id as usize;
                by_interface.resize(by_interface.len().max(mine + 1), (0, 0));
                by_interface[mine] = (received, lost);
                let sum = |of: fn(&(u64, u64)) -> u64| by_interface.iter().map(of).sum();
                counts = Some((sum(|counts| counts.0), sum(|counts| counts.1)));
            }
            _ => {}
        }
    }
    Some((seen, counts))
}

/// Whether all checksums of an IPv4 frame are right.
fn checksums_are_right(frame: &[u8]) -> bool {
    let packet = SlicedPacket::from_ethernet(frame).unwrap();
    let Some(NetSlice::Ipv4(ip)) = &packet.net else {
        return true;
    };
    let header = ip.header().to_header();
    let transport = match packet.transport.as_ref() {
        Some(TransportSlice::Tcp(tcp)) => {
            // A sum of zero has two forms, and both are right in TCP.
            let right = tcp.to_header().calc_checksum_ipv4(&header, tcp.payload()).unwrap();
            right % 0xffff == tcp.checksum() % 0xffff
        }
        Some(TransportSlice::Udp(udp)) => {
            udp.to_header().calc_checksum_ipv4(&header, udp.payload()).unwrap() == udp.checksum()
        }
        Some(TransportSlice::Icmpv4(icmp)) => icmp.header().icmp_type.calc_checksum(icmp.payload()) == icmp.checksum(),
        _ => true,
    };
    transport && header.calc_header_checksum() == header.header_checksum
}

#[test]
fn a_ping_is_seen_both_ways_by_several_readers() {
    let lab = Lab::new();
    let stations = Station::one_of_each(&lab);
    for port in ["veth", "tap", "device", "internal"] {
        let from = stations.iter().find(|station| station.port == port).unwrap();
        let to = stations.iter().find(|station| station.port != port).unwrap();
        let capture = Capture::start(&lab, port, &["icmp"]);
        from.ping(to.v4);
        to.ping(from.v4);
        capture.wait(4);
        let file = capture.file.clone();
        let (seen, said) = capture.stop();
        let ways: Vec<_> = seen.iter().map(|frame| frame.outbound).collect();
        assert_eq!(ways, [false, true, true, false], "{port}");
        assert!(seen.iter().all(|frame| checksums_are_right(&frame.bytes)), "{port}");
        assert!(seen.is_sorted_by_key(|frame| frame.time), "{port}: {seen:?}");
        assert!(seen.iter().any(|frame| frame.time.subsec_nanos() % 1000 != 0));
        assert!(said.contains("4 frames captured, 0 lost"), "{said}");
        let text = run(&format!("tcpdump -n -e -r {}", file.display()));
        assert_eq!(text.matches("ICMP echo request").count(), 2, "{text}");
        assert_eq!(text.lines().count(), 4, "{text}");
    }
}

#[test]
fn a_filter_a_direction_and_a_length_leave_out_the_rest() {
    let lab = Lab::new();
    let stations = Station::one_of_each(&lab);
    stations.iter().for_each(Station::silence);
    let mut wire = Wire::tap(&stations);
    let plain = probe(Mac::BROADCAST, mac(1, 1), 1);
    let other = probe(Mac::BROADCAST, mac(1, 2), 2);
    let frames = [plain.clone(), other.clone(), tagged(&plain, VLAN_ETHERTYPE, 7)];
    let ids = |seen: &[Seen]| {
        seen.iter()
            .filter_map(|frame| probe_id(&frame.bytes))
            .filter(|id| *id < 9)
            .collect::<Vec<_>>()
    };

    let capture = Capture::start(&lab, "veth", &["ether", "src", &mac(1, 2).to_string()]);
    wire.send("veth", &frames);
    wire.send("tap", &frames);
    capture.wait(2);
    let (seen, _) = capture.stop();
    assert_eq!(ids(&seen), [2, 2]);
    assert_eq!(
        seen.iter().map(|frame| frame.outbound).collect::<Vec<_>>(),
        [false, true]
    );

    let capture = Capture::start(&lab, "veth", &["--filter", "vlan 7", "--direction", "tx", "-c", "1"]);
    wire.send("veth", &frames);
    wire.send("tap", &frames);
    let (seen, said) = capture.end();
    assert_eq!((seen.len(), &seen[0].bytes), (1, &frames[2]), "{said}");

    let capture = Capture::start(&lab, "veth", &["--direction", "rx", "-s", "20", "-c", "3"]);
    wire.send("tap", &frames);
    wire.send("veth", &frames);
    let (seen, _) = capture.end();
    for (seen, frame) in seen.iter().zip(&frames) {
        assert_eq!((&seen.bytes[..], seen.original_len), (&frame[..20], frame.len()));
    }
}

/// `capture red blue --any`: one file, an interface for each port, frames in the order in which they came.
#[test]
fn several_ports_are_captured_into_one_file() {
    let lab = Lab::new();
    let red = Station::add(&lab, "red", PortKind::Veth, 1);
    let blue = Station::add(&lab, "blue", PortKind::Tap, 2);
    let _green = Station::add(&lab, "green", PortKind::Veth, 3);
    for (options, count) in [(&["blue", "--any"][..], 2), (&["--any", "green", "blue"], 3)] {
        let capture = Capture::start(
            &lab,
            "red",
            &[options, &["--filter", "icmp and host 10.7.0.2"]].concat(),
        );
        red.ping(blue.v4);
        capture.wait(4);
        let file = capture.file.display().to_string();
        let (seen, said) = capture.stop();
        assert!(said.contains("4 frames captured, 0 lost"), "{said}");
        let names = interfaces(Path::new(&file));
        assert_eq!((names.len(), names[0].as_str()), (count, "red"));
        let ways: Vec<_> = seen
            .iter()
            .map(|frame| (names[frame.interface as usize].as_str(), frame.outbound))
            .collect();
        assert_eq!(ways, [("red", false), ("blue", true), ("blue", false), ("red", true)]);
        assert!(seen.is_sorted_by_key(|frame| frame.time), "{seen:?}");
        let text = run(&format!("tcpdump -n -e -r {file}"));
        assert_eq!(text.matches("ICMP echo request").count(), 2, "{text}");
    }
    // All that there are, as lines with the port.
    let text = std::thread::scope(|scope| {
        let capture = scope.spawn(|| lab.ok("capture --any --text -c 4 --filter icmp"));
        while !capture.is_finished() {
            red.ping(blue.v4);
        }
        capture.join().unwrap()
    });
    assert!(text.contains(" red in ") && text.contains(" blue out "), "{text}");
    // It goes on while one of its ports is there.
    let capture = Capture::start(&lab, "green", &["blue", "--any"]);
    lab.ok("del-port green");
    red.ping(blue.v4);
    capture.wait(2);
    lab.ok("del-port blue");
    let (_, said) = capture.end();
    assert!(said.contains("vswitchd ended it"), "{said}");
    lab.ctl("capture red nosuch --any -w /dev/null").failed(4, &["nosuch"]);
    lab.ctl("capture red --any -w /dev/null -- tcp and port")
        .failed(4, &["tcp"]);
    let answer = http::request("GET", "/v1/ports/red/capture?also=blue,", "");
    assert_eq!(answer.status, 400, "{}", answer.body);
    lab.ok("del-port red");
    lab.ctl("capture --any -w /dev/null").failed(4, &["no port"]);
}

/// Names of the interfaces of a file.
fn interfaces(file: &Path) -> Vec<String> {
    let mut reader = PcapNgReader::new(File::open(file).unwrap()).unwrap();
    while let Some(block) = reader.next_block() {
        block.unwrap();
    }
    let name = |interface: &InterfaceDescriptionBlock<'_>| {
        let names = interface.options.iter().filter_map(|option| match option {
            InterfaceDescriptionOption::IfName(name) => Some(name.to_string()),
            _ => None,
        });
        names.collect()
    };
    reader.interfaces().iter().map(name).collect()
}

#[test]
fn a_frame_that_is_dropped_was_seen_coming_in() {
    let lab = Lab::new();
    let stations = Station::one_of_each(&lab);
    stations.iter().for_each(Station::silence);
    let mut wire = Wire::tap(&stations);
    let capture = Capture::start(&lab, "tap", &["-c", "1", "--direction", "rx"]);
    let bad = probe(Mac::BROADCAST, Mac([0x03, 0, 0, 0, 0, 1]), 1);
    wire.send("tap", std::slice::from_ref(&bad));
    assert_eq!(capture.end().0[0].bytes, bad);
    assert_eq!(lab.port("tap").counters.rx_drops.get("multicast-source"), Some(&1));
}

#[test]
fn tcp_is_captured_whole_or_as_a_wire_would_carry_it() {
    let lab = Lab::new();
    let a = Station::add(&lab, "a", PortKind::Tap, 1);
    let b = Station::add(&lab, "b", PortKind::Veth, 2);
    let longest = |options: &[&str]| {
        let capture = Capture::start(&lab, "a", options);
        transfer::tcp(&a, &b, false, 8);
        capture.wait(20);
        let (seen, _) = capture.stop();
        for frame in &seen {
            assert!(checksums_are_right(&frame.bytes), "{} bytes", frame.bytes.len());
        }
        seen.iter().map(|frame| frame.bytes.len()).max().unwrap()
    };
    let whole = longest(&["tcp"]);
    assert!(whole > 10_000, "{whole}");
    let cut = longest(&["--segment", "tcp"]);
    assert!((1400..=1514).contains(&cut), "{cut}");
    // A port without offloads gets segments, and that is what is seen of it.
    lab.ok("set port a --offload off");
    let capture = Capture::start(&lab, "a", &["--direction", "tx", "tcp"]);
    transfer::tcp(&b, &a, false, 8);
    capture.wait(20);
    let (seen, _) = capture.stop();
    assert!(
        seen.iter()
            .all(|frame| frame.bytes.len() <= 1514 && checksums_are_right(&frame.bytes))
    );
}

#[test]
fn what_a_slow_reader_misses_is_counted_and_the_port_does_not_wait() {
    let lab = Lab::new();
    let stations = Station::one_of_each(&lab);
    stations.iter().for_each(Station::silence);
    let mut wire = Wire::tap(&stations);
    let before = lab.port("veth").counters.rx_frames;
    let mut client = http::connect();
    client
        .write_all(b"GET /v1/ports/veth/capture?direction=rx HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        .unwrap();
    let mut head = vec![0; 1000];
    let length = client.read(&mut head).unwrap();
    head.truncate(length);
    let frames: Vec<_> = (0..1000).map(|id| probe(mac(9, 9), mac(1, 1), id)).collect();
    // Far more than the ring and the buffers of the socket take together.
    for _ in 0..20 {
        wire.send("veth", &frames);
    }
    let sent = lab.port("veth").counters.rx_frames - before;
    assert_eq!(lab.port("tap").counters.tx_drops.get("queue-full"), None);
    lab.ok("del-port veth");
    let mut rest = Vec::new();
    client.read_to_end(&mut rest).unwrap();
    let text = String::from_utf8_lossy(&rest);
    assert!(text.contains("0\r\n\r\n"), "the capture did not end with its port");
    let counts = unchunk(&[&head[..], &rest].concat());
    let file = lab.scratch().join("slow.pcapng");
    std::fs::write(&file, counts).unwrap();
    let (seen, counts) = read(&file).unwrap();
    let (received, lost) = counts.unwrap();
    let noted: u64 = seen.iter().map(|frame| frame.lost).sum();
    assert!(lost > 1000, "{lost}");
    assert!(noted <= lost, "{noted} {lost}");
    assert_eq!(received, seen.len() as u64 + lost);
    assert_eq!(received, sent, "each frame is either written or counted as lost");
}

/// The body of a chunked answer (RFC 9112, 7.1).
fn unchunk(answer: &[u8]) -> Vec<u8> {
    let find = |bytes: &[u8], what: &[u8]| bytes.windows(what.len()).position(|window| window == what);
    let mut rest = &answer[find(answer, b"\r\n\r\n").unwrap() + 4..];
    let mut body = Vec::new();
    while let Some(end) = find(rest, b"\r\n") {
        let size = std::str::from_utf8(&rest[..end]).unwrap();
        let size = usize::from_str_radix(size, 16).unwrap();
        if size == 0 {
            break;
        }
        body.extend_from_slice(&rest[end + 2..][..size]);
        rest = &rest[end + 2 + size + 2..];
    }
    body
}

#[test]
fn a_capture_ends_with_the_port_with_time_and_with_its_reader() {
    let mut lab = Lab::new();
    let red = Station::add(&lab, "red", PortKind::Veth, 1);
    let blue = Station::add(&lab, "blue", PortKind::Tap, 2);
    let files = |lab: &mut Lab| lab.daemon().open_files();
    let before = files(&mut lab);
    let (_, said) = Capture::start(&lab, "red", &["--duration", "0.3"]).end();
    assert!(said.contains("frames captured"), "{said}");
    for signal in ["INT", "TERM"] {
        let capture = Capture::start(&lab, "red", &[]);
        red.ping(blue.v4);
        capture.wait(2);
        let (seen, said) = capture.signalled(signal);
        assert!(seen.len() >= 2 && said.contains("frames captured"), "{said}");
    }
    let gone = Capture::start(&lab, "red", &[]);
    red.ping(blue.v4);
    // Killed: the daemon finds out when it has the next frame for it.
    drop(gone);
    wait_for("the tap to be taken off", || {
        red.ping(blue.v4);
        files(&mut lab) <= before
    });
    let capture = Capture::start(&lab, "red", &[]);
    lab.ok("del-port red");
    let (_, said) = capture.end();
    assert!(said.contains("vswitchd ended it"), "{said}");
    let capture = Capture::start(&lab, "blue", &[]);
    lab.stop_daemon();
    capture.end();
}

/// It held all signals back while it wrote.
#[test]
fn a_capture_into_a_pipe_that_nobody_reads_ends_by_the_second_signal() {
    let lab = Lab::new();
    Station::one_of_each(&lab);
    let pipe = lab.scratch().join("pipe");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
    // Whoever has both ends waits for nobody.
    let _reader = std::fs::File::options().read(true).write(true).open(&pipe).unwrap();
    let mut command = tool();
    command.args(["capture", "veth", "-w", pipe.to_str().unwrap()]);
    let child = command.stderr(Stdio::null()).spawn().unwrap();
    let mut capture = Capture { child, file: pipe };
    let pid = capture.child.id();
    wait_for("the pipe to be full", || {
        Place::named("veth").output("ping -c 50 -i 0.002 -s 1400 10.7.0.2");
        std::fs::read_to_string(format!("/proc/{pid}/wchan")).is_ok_and(|place| place.contains("pipe_write"))
    });
    run(&format!("kill -TERM {pid}"));
    // Two signals that wait are one: the first was taken when it is not there any more.
    wait_for("the first signal to be taken", || {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let pending = status.lines().find_map(|line| line.strip_prefix("ShdPnd:"));
        pending.is_some_and(|mask| mask.trim().chars().all(|digit| digit == '0'))
    });
    run(&format!("kill -TERM {pid}"));
    assert_eq!(capture.child.wait().unwrap().code(), Some(143));
}

#[test]
fn frames_are_lines_and_objects_too() {
    let lab = Lab::new();
    let red = Station::add(&lab, "red", PortKind::Veth, 1);
    let blue = Station::add(&lab, "blue", PortKind::Tap, 2);
    let ways = |line: &str| {
        std::thread::scope(|scope| {
            let capture = scope.spawn(|| lab.ok(line));
            while !capture.is_finished() {
                red.ping(blue.v4);
            }
            capture.join().unwrap()
        })
    };
    let text = ways("capture red --text -c 2 icmp");
    let words: BTreeSet<_> = text.split_whitespace().collect();
    assert_eq!(text.lines().count(), 2, "{text}");
    for word in ["in", "out", "10.7.0.1", "request", "reply", "IPv4,"] {
        assert!(words.contains(word), "{word}: {text}");
    }
    let text = ways("--json capture red -c 1 icmp");
    let object: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(object["length"], 98, "{text}");
}

#[test]
fn what_can_not_be_captured_is_refused_with_a_reason() {
    let lab = Lab::new();
    lab.ok("add-port red");
    lab.ctl("capture nosuch -w /dev/null").failed(4, &["nosuch"]);
    lab.ctl("capture red -w /nosuch/file").failed(2, &["/nosuch/file"]);
    lab.ctl("capture red -w /dev/null tcp prt 80")
        .failed(2, &["tcp prt 80", "pcap-filter"]);
    for (query, word) in [
        ("filter=x", "tcpdump -ddd"),
        ("filter=2,5%200%200%209,6%200%200%201", "jumps"),
        ("snaplen=0", "262144"),
        ("snaplen=262145", "262144"),
        ("direction=up", "direction"),
        ("nosuch=1", "nosuch"),
    ] {
        let answer = http::request("GET", &format!("/v1/ports/red/capture?{query}"), "");
        assert_eq!(answer.status, 400, "{query}");
        assert!(answer.body.contains(word), "{query}: {}", answer.body);
    }
    run("ip netns del red");
    wait_for("the port to be missing", || {
        lab.ctl("capture red -w /dev/null -c 1 --duration 0.1").code == 5
    });
}
