//! Which queue of a TAP device frames come by.

use std::os::fd::{AsFd, OwnedFd};

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::{Pid, read};

use super::{link, namespace, sandboxed};
use crate::packet::{PacketSocket, with_messages};
use crate::steer::Steering;
use crate::tap::{VNET_HDR_LEN, open_queue};

const TCP: u8 = 6;
const ICMP: u8 = 1;
/// Of the frames here, and no others.
const TO: [u8; 6] = [2, 0, 0, 0, 0, 9];

struct Device {
    queues: Vec<OwnedFd>,
    socket: PacketSocket,
}

impl Device {
    async fn with(steering: &Steering, queues: usize) -> Self {
        let netns = namespace("red").await;
        let open = move || (0..queues).map(|_| open_queue("tap0").unwrap()).collect::<Vec<_>>();
        let queues = netns.run(open).await.unwrap();
        steering.apply(queues[0].as_fd()).unwrap();
        let netlink = netns.netlink().await.unwrap();
        let index = link(&netlink, "tap0").await.index;
        netlink.set_up(index).await.unwrap();
        let socket = netns.run(move || PacketSocket::sender(index)).await.unwrap().unwrap();
        Self { queues, socket }
    }

    /// Sends a frame out of the device; by which queue it came.
    fn queue_of(&self, frame: &[u8]) -> usize {
        let wire = [&[0; VNET_HDR_LEN], frame].concat();
        let sent = with_messages(|messages| messages.send(&self.socket, std::iter::once(wire.as_slice())));
        assert_eq!(sent.unwrap(), 1);
        let mut buffer = [0; 2048];
        let mut came = self.queues.iter().enumerate().flat_map(|(at, queue)| {
            let frames = std::iter::from_fn(|| read(queue, &mut buffer).ok().map(|len| buffer[..len].to_vec()));
            frames.map(|frame| (at, frame)).collect::<Vec<_>>()
        });
        let came = came.find(|(_, came)| came[VNET_HDR_LEN..] == *frame);
        came.expect("the frame has come").0
    }
}

fn ethernet(tags: &[u8], ethertype: u16, payload: &[u8]) -> Vec<u8> {
    let from = [2, 0, 0, 0, 0, 7];
    [&TO, &from, tags, &ethertype.to_be_bytes(), payload].concat()
}

fn v4(protocol: u8, hosts: (u8, u8), ports: (u16, u16), tags: &[u8], fragment: u16) -> Vec<u8> {
    let mut packet = vec![0x45, 0, 0, 40, 0, 0, 0, 0, 64, protocol, 0, 0];
    packet[6..8].copy_from_slice(&fragment.to_be_bytes());
    packet.extend([10, 0, 0, hosts.0, 10, 0, 0, hosts.1]);
    packet.extend([ports.0.to_be_bytes(), ports.1.to_be_bytes()].concat());
    packet.extend([0; 16]);
    ethernet(tags, 0x0800, &packet)
}

fn v6(hosts: (u8, u8), ports: (u16, u16)) -> Vec<u8> {
    let mut packet = vec![0x60, 0, 0, 0, 0, 20, TCP, 64];
    for host in [hosts.0, hosts.1] {
        packet.extend([0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, host]);
    }
    packet.extend([ports.0.to_be_bytes(), ports.1.to_be_bytes()].concat());
    packet.extend([0; 16]);
    ethernet(&[], 0x86dd, &packet)
}

#[test]
fn a_talk_has_one_queue_both_ways_and_the_next_has_another() {
    sandboxed(async || {
        let steering = Steering::load(4).unwrap();
        let device = Device::with(&steering, 4).await;
        let tag = [0x81, 0, 0, 20];
        let two_tags = [0x88, 0xa8, 0, 30, 0x81, 0, 0, 20];
        let kinds: [&dyn Fn(u16) -> [Vec<u8>; 2]; 4] = [
            &|port| [v4(TCP, (1, 2), (port, 80), &[], 0), v4(TCP, (2, 1), (80, port), &[], 0)],
            &|port| {
                [
                    v4(TCP, (1, 2), (port, 80), &tag, 0),
                    v4(TCP, (2, 1), (80, port), &tag, 0),
                ]
            },
            &|port| {
                let (there, back) = ((1, 2), (2, 1));
                [
                    v4(TCP, there, (port, 80), &two_tags, 0),
                    v4(TCP, back, (80, port), &two_tags, 0),
                ]
            },
            &|port| [v6((1, 2), (port, 80)), v6((2, 1), (80, port))],
        ];
        for (kind, talk) in kinds.iter().enumerate() {
            let mut queues = Vec::new();
            // As the kernel numbers connections to one server that begin one after another.
            for port in [40_000, 40_002, 40_004, 40_006] {
                let [there, back] = talk(port);
                let queue = device.queue_of(&there);
                assert_eq!(device.queue_of(&there), queue, "{kind}: the next frame");
                assert_eq!(device.queue_of(&back), queue, "{kind}: the answer");
                queues.push(queue);
            }
            queues.sort_unstable();
            assert_eq!(queues, [0, 1, 2, 3], "{kind}");
        }
    });
}

/// Else the parts of a datagram, or pings, could overtake each other.
#[test]
fn what_has_no_ports_goes_by_its_stations() {
    sandboxed(async || {
        let steering = Steering::load(4).unwrap();
        let device = Device::with(&steering, 4).await;
        let [first, second, third] = [(0x2000, 7), (0x2003, 99), (0x0006, 1234)];
        let part = |(fragment, bytes)| device.queue_of(&v4(17, (1, 2), (bytes, bytes), &[], fragment));
        assert_eq!(part(first), part(second));
        assert_eq!(part(first), part(third));
        let ping = |host, bytes| device.queue_of(&v4(ICMP, (1, host), (bytes, bytes), &[], 0));
        assert_eq!(ping(2, 1), ping(2, 500));
        assert_ne!(ping(2, 1), ping(3, 1), "another station");
        let mut queues = [1, 2, 3, 4].map(|host| ping(host, 1));
        queues.sort_unstable();
        assert_eq!(queues, [0, 1, 2, 3], "neighbours get them by turns");
    });
}

/// It has no talks, and who sends it may count on its order.
#[test]
fn what_is_no_ip_comes_in_its_order() {
    sandboxed(async || {
        let steering = Steering::load(4).unwrap();
        let device = Device::with(&steering, 4).await;
        for station in 0..9 {
            let mut arp = ethernet(&[], 0x0806, &[station; 28]);
            arp[11] = station;
            assert_eq!(device.queue_of(&arp), 0);
            assert_eq!(device.queue_of(&ethernet(&[0x81, 0, 0, station], 0x88b5, &[0; 46])), 0);
        }
        // And what is shorter than any header.
        assert_eq!(device.queue_of(&ethernet(&[], 0x0800, &[])), 0);
        assert_eq!(device.queue_of(&ethernet(&[], 0x86dd, &[0; 3])), 0);
    });
}

#[test]
fn the_core_of_the_sender_is_noted() {
    sandboxed(async || {
        let steering = Steering::load(2).unwrap();
        let device = Device::with(&steering, 2).await;
        assert_eq!(steering.sender_core(2), None, "no such queue");
        let this = Pid::from_raw(0);
        let cores = sched_getaffinity(this).unwrap();
        for core in (0..CpuSet::count()).filter(|core| cores.is_set(*core).unwrap()) {
            let mut only = CpuSet::new();
            only.set(core).unwrap();
            sched_setaffinity(this, &only).unwrap();
            let queue = device.queue_of(&v4(TCP, (1, 2), (1, 2), &[], 0));
            assert_eq!(steering.sender_core(queue), Some(core));
        }
    });
}
