//! A device reached by AF_XDP: a socket for each of its queues, and the program that leads frames there.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicUsize, Ordering};

use nix::errno::Errno;
use vswitch_api::view::XdpMode;

use vswitch_datapath::batch::{Batch, MAX_BATCH};
use vswitch_datapath::frame::{ETH_HLEN, MAX_TAGS, VLAN_HLEN, VNET_HDR_LEN, VnetHeader, partial};
use vswitch_datapath::port::{Frames, SendError, Sent};
use vswitch_linux::KernelError;
use vswitch_linux::ethtool::{Ethtool, Queues};
use vswitch_linux::packet::Promiscuous;
use vswitch_linux::xdp::{MAX_QUEUES, Tags, XdpLink};
use vswitch_linux::xsk::{Copies, MAX_RECEIVED, META, Xsk};

use super::send_error;

/// Features of a driver that takes tags out of frames, by the kernel's names.
const TAG_STRIPPING: [&str; 2] = ["rx-vlan-hw-parse", "rx-vlan-stag-hw-parse"];

/// The sockets of one device.
#[derive(Debug)]
pub struct XdpPort {
    sockets: Vec<Xsk>,
    /// How many of them, from the first, are on queues that the device has without the program.
    own: usize,
    /// Queues by which it can send, counted from the first. Those that came with the program are not for us.
    senders: usize,
    tags: Tags,
    /// Frames may come with partial checksums.
    software: bool,
    /// The worker that receives from the first queue, and how many there are.
    first: usize,
    workers: usize,
    /// How often each worker has received.
    turns: Box<[AtomicUsize]>,
    _link: XdpLink,
    _promiscuous: Promiscuous,
}

/// What has to be known of a device to take it over.
#[derive(Clone, Debug)]
pub struct XdpDevice {
    /// Its index.
    pub ifindex: u32,
    /// Its name.
    pub name: String,
    /// Its MTU in bytes.
    pub mtu: u32,
    /// The driver's word for its kind; none for hardware.
    pub kind: Option<String>,
}

impl XdpPort {
    /// Largest MTU, in bytes, of which every frame fits a chunk. Some drivers take less.
    pub const MAX_MTU: u32 = (MAX_RECEIVED - ETH_HLEN - MAX_TAGS * VLAN_HLEN) as u32;

    /// Takes over a device of the calling thread's network namespace; its queues are dealt out to so many workers.
    ///
    /// # Errors
    /// The reason, as the user is told, for which it is no device for XDP.
    pub fn open(device: &XdpDevice, workers: usize) -> Result<Self, String> {
        let XdpDevice {
            ifindex,
            name,
            mtu,
            kind,
        } = device;
        if *mtu > Self::MAX_MTU {
            return Err(format!(
                "its MTU of {mtu} is above {}, which is what XDP takes",
                Self::MAX_MTU
            ));
        }
        let ethtool = Ethtool::open(name).map_err(|error| format!("ask its driver: {error}"))?;
        let tags = tags_of(device, &ethtool)?;
        let open = |queue, copies| {
            Xsk::open(*ifindex, queue, copies)
                .map_err(|error| format!("open an AF_XDP socket on queue {queue}: {error}"))
        };
        let queues = queues_of(&ethtool, name)?;
        let mut sockets: Vec<_> = (0..queues.receive)
            .map(|queue| open(queue, Copies::IfNeeded))
            .collect::<Result<_, _>>()?;
        let promiscuous = Promiscuous::set(*ifindex).map_err(|error| format!("make it promiscuous: {error}"))?;
        // Last, so that everything is there when the first frame comes.
        let link = XdpLink::attach(*ifindex, tags, sockets.iter().map(Xsk::as_fd)).map_err(|error| refusal(&error))?;
        // But a driver may make queues for what programs send, as virtio_net does, and receive by them too. They go with the
        // program, and Linux 7.3 hangs if the driver still has our memory for them then.
        for queue in queues.receive..queues_of(&ethtool, name)?.receive {
            let socket = open(queue, Copies::Always)?;
            link.add(queue, socket.as_fd()).map_err(|error| error.to_string())?;
            sockets.push(socket);
        }
        Ok(Self {
            senders: queues.send.min(queues.receive) as usize,
            sockets,
            own: queues.receive as usize,
            tags,
            software: kind.is_some(),
            first: *ifindex as usize % workers,
            workers,
            turns: (0..workers).map(|_| AtomicUsize::new(0)).collect(),
            _link: link,
            _promiscuous: promiscuous,
        })
    }

    /// Whether the driver can do without copies, on all queues that it has without the program.
    pub fn mode(&self) -> XdpMode {
        if self.sockets.iter().take(self.own).all(Xsk::is_zero_copy) {
            XdpMode::ZeroCopy
        } else {
            XdpMode::Copy
        }
    }

    /// Queues to receive from.
    pub fn queues(&self) -> usize {
        self.sockets.len()
    }

    /// The sockets that a worker receives from: another one begins for each device.
    fn receivers(&self, worker: usize) -> impl Iterator<Item = &Xsk> + Clone {
        let skipped = (worker + self.workers - self.first) % self.workers;
        self.sockets.iter().skip(skipped).step_by(self.workers)
    }

    pub(super) fn receive_fds(&self, worker: usize) -> Vec<BorrowedFd<'_>> {
        self.receivers(worker).map(Xsk::as_fd).collect()
    }

    pub(super) fn receive(&self, worker: usize, batch: &mut Batch) {
        let receivers = self.receivers(worker);
        let count = receivers.clone().count();
        // One that is full again and again leaves nothing of the batch to those after it: another one is the first each time.
        let turn = self.turns[worker].fetch_add(1, Ordering::Relaxed);
        let begin = turn.checked_rem(count).unwrap_or(0);
        for socket in receivers.cycle().skip(begin).take(count) {
            socket.receive(MAX_BATCH - batch.len(), |beside, frame| {
                let tag = match self.tags {
                    Tags::Inside => None,
                    Tags::Beside => tag_in(beside),
                };
                let header = if self.software {
                    partial(frame)
                } else {
                    VnetHeader::default()
                };
                batch.push_with(header, frame, tag);
            });
        }
    }

    /// Sends frames by one of its queues. They are complete: no header is looked at.
    pub(super) fn send(&self, worker: usize, frames: Frames<'_>, sent: &mut Sent) {
        let bare = frames.iter().map(|wire| wire.get(VNET_HDR_LEN..).unwrap_or_default());
        let socket = &self.sockets[worker % self.senders];
        let mut results = [Ok(()); MAX_BATCH];
        // It tells of each once.
        socket.send(bare, |i, result| {
            if let Some(place) = results.get_mut(i) {
                *place = result.map_err(|error| send_error(&error));
            }
        });
        let refused = socket.flush();
        if refused > 0 {
            refuse(frames, refused, &mut results);
        }
        for (wire, result) in frames.iter().zip(results) {
            sent.note(wire, result);
        }
    }

    pub(super) fn overruns(&self) -> u64 {
        self.sockets.iter().filter_map(|socket| socket.overruns().ok()).sum()
    }
}

/// So many of the frames that went into the ring did not go out. Which, nobody says: what an interface does not take is too long for it.
#[cold]
fn refuse(frames: Frames<'_>, count: usize, results: &mut [Result<(), SendError>]) {
    let mut by_length: Vec<_> = frames
        .iter()
        .zip(results)
        .filter(|(_, result)| result.is_ok())
        .collect();
    by_length.sort_by_key(|(wire, _)| std::cmp::Reverse(wire.len()));
    for (_, result) in by_length.into_iter().take(count) {
        *result = Err(SendError::Rejected);
    }
}

/// The tag that the program left before a frame.
fn tag_in(beside: &[u8; META]) -> Option<(u16, u16)> {
    let [a, b, c, d, ..] = *beside;
    let tpid = u16::from_be_bytes([a, b]);
    (tpid != 0).then_some((tpid, u16::from_ne_bytes([c, d])))
}

/// The queues of a device; there is at least one to receive from and one to send by.
fn queues_of(ethtool: &Ethtool, name: &str) -> Result<Queues, String> {
    let Queues { receive, send } = ethtool
        .queues()
        .map_err(|error| format!("its driver does not tell its queues: {error}"))?;
    if receive > MAX_QUEUES {
        return Err(format!(
            "it has {receive} queues and {MAX_QUEUES} can be used; `ethtool -L {name} combined {MAX_QUEUES}` sets the number"
        ));
    }
    Ok(Queues {
        receive: receive.max(1),
        send: send.max(1),
    })
}

/// Where the driver of a device has the tags of frames, if that can be known.
fn tags_of(device: &XdpDevice, ethtool: &Ethtool) -> Result<Tags, String> {
    match device.kind.as_deref() {
        Some("veth") => Ok(Tags::Beside),
        // Its frames would come uncut, with nothing that says so.
        Some("tun") => Err("it is a TAP device, which XDP can't be told the offloads of".into()),
        // What lies beside its frames depends on the devices under it.
        Some(kind) => Err(format!("it is a {kind} device, and XDP is for hardware and veths")),
        None => match ethtool.is_any_on(&TAG_STRIPPING) {
            Ok(false) => Ok(Tags::Inside),
            Ok(true) => Err(format!(
                "its driver takes VLAN tags out of frames; `ethtool -K {} rxvlan off` makes it leave them",
                device.name
            )),
            Err(error) => Err(format!(
                "its driver does not tell whether it takes VLAN tags out of frames: {error}"
            )),
        },
    }
}

fn refusal(error: &KernelError) -> String {
    match error.errno() {
        Some(Errno::EOPNOTSUPP) => "its driver has no native XDP".into(),
        Some(Errno::EBUSY | Errno::EEXIST) => "it has another XDP program".into(),
        _ => error.to_string(),
    }
}
