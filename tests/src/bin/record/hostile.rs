//! Frames such as no stack sends, with headers that lie, from ports of all kinds through all that a switch does with frames: each is
//! accounted for, and neither the daemon nor the kernel complains.

use std::fs::OpenOptions;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::process::Stdio;
use std::thread;

use vswitch_testing::api::view::PortState;
use vswitch_testing::ctl::tool;
use vswitch_testing::random::Frames;
use vswitch_testing::raw::VnetHeader;
use vswitch_testing::transfer::Noise;
use vswitch_testing::{Lab, Station};

use crate::sums::{adds_up, no_errors};

/// What the switch has to do with the frames of the four ports.
const FEATURES: &[&str] = &[
    "set port veth --trunk 10,20 --native 1",
    "set port tap --vlan 10 --mac-limit 20 --beyond-limit drop",
    "set port device --vlan all --accept all --hairpin on",
    "set port internal --tunnel 30",
    "acl add veth in deny udp to any port 2000",
    "acl add veth in count udp",
    "acl add veth in permit any",
    "acl add tap out police 100mbit ipv4",
    "acl add tap out permit any",
    "police device --rate 5mbit",
    "storm veth --broadcast 500pps --multicast 500pps",
    "impair tap --delay 1ms --jitter 1ms --loss 1% --corrupt 1% --duplicate 1% --direction out",
    "impair device --rate 500mbit --direction in",
    "add-port sink --type tap",
    "mirror add m --from veth,device --to sink",
    "switch add far",
    "link add main far --trunk 1,10,20",
    "add-port beyond --switch far --vlan 10",
];

/// Half of the frames with the kernel fast path, half without.
pub fn run(frames: u64) {
    for fastpath in [true, false] {
        // A lab holds for the thread that made it.
        let ran = thread::spawn(move || broken(frames.div_ceil(2), fastpath)).join();
        println!("fastpath = {fastpath}: {}", ran.expect("it holds"));
    }
}

fn broken(frames: u64, fastpath: bool) -> String {
    let mut kernel = KernelLog::from_now_on();
    let mut lab = Lab::without_daemon();
    lab.set_datapath("fastpath", fastpath);
    lab.start();
    let stations = Station::one_of_each(&lab);
    FEATURES.iter().for_each(|line| drop(lab.ok(line)));
    let mut capture = tool()
        .args([
            "capture",
            "veth",
            "--any",
            "tap",
            "device",
            "internal",
            "--write",
            "/dev/null",
        ])
        .stderr(Stdio::null())
        .spawn()
        .expect("the tool is there");
    let sockets: Vec<_> = stations.iter().map(|station| station.raw(true)).collect();
    let (mut random, mut noise) = (Frames::new(1, sockets.len()), Noise::new(2));
    let (mut sent, mut refused) = (0u64, 0u64);
    while sent < frames {
        let shot = random.shot();
        for copy in 0..shot.copies {
            let mut bytes = random.numbered(&shot.bytes, copy);
            let mut header = shot.header;
            spoil(&mut noise, &mut header, &mut bytes);
            match sockets[shot.port].offer(header, &bytes) {
                Ok(()) => sent += 1,
                // The sender's own kernel looks at headers too.
                Err(_) => refused += 1,
            }
        }
    }
    // It ends with the daemon's answer at the latest.
    capture.kill().expect("it is ours");
    capture.wait().expect("it is ours");
    adds_up(&lab);
    assert!(lab.ports().iter().all(|port| port.state == PortState::Up));
    let drops = reasons(&lab);
    no_errors(&lab.stop_daemon());
    let complaints = kernel.complaints();
    assert!(complaints.is_empty(), "{complaints:#?}");
    format!(
        "{sent} frames from four kinds of ports ({refused} more that the senders' kernel refused); all counters add up; drops by {drops}"
    )
}

/// Every second frame has bytes changed, every third a header of chance, every eighth another length.
fn spoil(noise: &mut Noise, header: &mut VnetHeader, bytes: &mut Vec<u8>) {
    let chance = noise.next(32);
    let number = |at: usize| usize::from(u16::from_le_bytes([chance[at], chance[at + 1]]));
    if chance[0].is_multiple_of(2) {
        for at in [2, 6, 10].iter().take(1 + number(4) % 3) {
            let place = number(*at) % bytes.len();
            bytes[place] ^= chance[at + 2];
        }
    }
    if chance[1].is_multiple_of(8) {
        bytes.truncate(14 + number(14) % bytes.len());
    }
    if chance[16].is_multiple_of(3) {
        // Mostly near what makes sense, else anything.
        let small = |at: usize, most: usize| (number(at) % most) as u16;
        let any = chance[17].is_multiple_of(4);
        *header = VnetHeader {
            flags: if any { chance[18] } else { chance[18] % 4 },
            gso_type: if any {
                chance[19]
            } else {
                [0, 1, 4, 5, 0x81, 0x84, 3][usize::from(chance[19]) % 7]
            },
            hdr_len: small(20, if any { 65_536 } else { 128 }),
            gso_size: small(22, if any { 65_536 } else { 1500 }),
            csum_start: small(24, if any { 65_536 } else { 128 }),
            csum_offset: small(26, if any { 65_536 } else { 20 }),
        };
    }
}

/// The reasons for which frames were dropped at all ports.
fn reasons(lab: &Lab) -> String {
    let ports = lab.ports();
    let counters = ports.iter().map(|port| &port.counters);
    let of_all = counters.flat_map(|counters| counters.rx_drops.keys().chain(counters.tx_drops.keys()));
    let all: std::collections::BTreeSet<_> = of_all.cloned().collect();
    format!("{} reasons: {}", all.len(), Vec::from_iter(all).join(", "))
}

/// What the kernel tells of itself, from now on (/dev/kmsg).
struct KernelLog(std::fs::File);

impl KernelLog {
    fn from_now_on() -> Self {
        let mut file = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NONBLOCK)
            .open("/dev/kmsg")
            .expect("root may read it");
        std::io::Seek::seek(&mut file, std::io::SeekFrom::End(0)).expect("it can be sought");
        Self(file)
    }

    /// Warnings and worse: lines of a level up to 4 that are of the network, and what follows `cut here`.
    fn complaints(&mut self) -> Vec<String> {
        let mut found = Vec::new();
        let mut record = [0; 8192];
        while let Ok(length @ 1..) = self.0.read(&mut record) {
            let text = String::from_utf8_lossy(&record[..length]).into_owned();
            let level = text.split(',').next().and_then(|word| word.parse::<u32>().ok());
            let words = [
                "cut here", "WARNING", "BUG", "Oops", "skb", "csum", "refcount", "vhost", "tun:",
            ];
            if level.is_none_or(|level| level & 7 <= 4) && words.iter().any(|word| text.contains(word)) {
                found.push(text);
            }
        }
        found
    }
}
