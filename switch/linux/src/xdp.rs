//! The XDP programs of `bpf/xdp.c`: loading, and attaching to an interface as long as the link lives.
//!
//! aya loads neither programs that are bound to a device nor calls of the kernel's own functions (kfuncs), which the program for
//! devices with tags beside their frames is and has. So the object is read by aya-obj and the rest is done by bpf(2).

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use aya_obj::btf::{Btf, BtfKind};
use aya_obj::generated::{BPF_PSEUDO_KFUNC_CALL, bpf_attach_type, bpf_cmd, bpf_insn, bpf_map_type};

use super::bpf_call::{ProgramKind, bpf, empty, instructions, load, make_map, open};
use super::error::KernelError;

/// Queues of a device that can have sockets: MAX_QUEUES of the source.
pub const MAX_QUEUES: u32 = 32;
/// Number of the helper that there is not, by which the source calls [`KFUNC`].
const KFUNC_CALL: i32 = 0x7fff_fff1;
/// In Linux since 6.8.
const KFUNC: &str = "bpf_xdp_metadata_rx_vlan_tag";
/// A call of a helper, or with [`BPF_PSEUDO_KFUNC_CALL`] as source register of a kernel function.
const CALL: u8 = 0x85;
/// Native mode: by the driver, not by the stack (linux/if_link.h).
const XDP_FLAGS_DRV_MODE: u32 = 1 << 2;

#[cfg(xdp_object)]
static OBJECT: Option<&[u8]> = Some(aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/xdp.o")));
#[cfg(not(xdp_object))]
static OBJECT: Option<&[u8]> = None;

/// Where a device has the outermost tag of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tags {
    /// In the frame.
    Inside,
    /// Beside it: the program puts TPID (as on the wire; 0: no tag) and TCI (as the machine has it) before the frame.
    Beside,
}

/// A program that is attached to an interface. It goes with the value, and with the process.
#[derive(Debug)]
pub struct XdpLink {
    map: OwnedFd,
    /// Closing it takes the program away.
    _link: OwnedFd,
}

impl XdpLink {
    /// Leads what the interface `ifindex` of the calling thread's network namespace receives to the sockets of its queues,
    /// by their order.
    ///
    /// # Errors
    /// The daemon was built without the programs; EPERM without CAP_BPF and CAP_NET_ADMIN; EOPNOTSUPP: the driver has no
    /// native XDP; ERANGE: the MTU is too large for it; EBUSY, EEXIST: there is another program.
    pub fn attach<'a>(
        ifindex: u32,
        tags: Tags,
        sockets: impl Iterator<Item = BorrowedFd<'a>>,
    ) -> Result<Self, KernelError> {
        let step = |step: &'static str| move |error: io::Error| KernelError::new(step, error);
        let object = OBJECT.ok_or_else(|| {
            KernelError::new(
                "this daemon was built without the XDP programs",
                io::Error::other("no clang"),
            )
        })?;
        let map = make_map(bpf_map_type::BPF_MAP_TYPE_XSKMAP, 4, MAX_QUEUES, 0)
            .map_err(step("make a map of AF_XDP sockets (CAP_BPF)"))?;
        for (queue, socket) in (0..).zip(sockets) {
            put(&map, queue, socket)?;
        }
        let instructions = link_program(object, tags, map.as_fd()).map_err(step("link the XDP program"))?;
        let device = (tags == Tags::Beside).then_some(ifindex);
        let program = load(&instructions, ProgramKind::Xdp { device })
            .map_err(step("load the XDP program (CAP_BPF, CAP_PERFMON)"))?;
        let link = attach(&program, ifindex).map_err(step("attach an XDP program in native mode"))?;
        Ok(Self { map, _link: link })
    }

    /// Leads what comes by another queue to this socket.
    ///
    /// # Errors
    /// E2BIG: the queue is not below [`MAX_QUEUES`].
    pub fn add(&self, queue: u32, socket: BorrowedFd<'_>) -> Result<(), KernelError> {
        put(&self.map, queue, socket)
    }
}

/// The instructions of the program for `tags`, with the map and, where it calls one, the kernel's function in place.
fn link_program(object: &[u8], tags: Tags, map: BorrowedFd<'_>) -> io::Result<Vec<bpf_insn>> {
    let name = match tags {
        Tags::Inside => "plain",
        Tags::Beside => "with_tag",
    };
    let mut instructions = instructions(object, name, map)?;
    let calls = instructions
        .iter_mut()
        .filter(|call| call.code == CALL && call.imm == KFUNC_CALL);
    for call in calls {
        let btf = Btf::from_sys_fs().map_err(io::Error::other)?;
        let id = btf.id_by_type_name_kind(KFUNC, BtfKind::Func);
        call.imm = id.map_err(|_| io::Error::other(format!("the kernel has no {KFUNC} (Linux 6.8)")))? as i32;
        call.set_src_reg(BPF_PSEUDO_KFUNC_CALL as u8);
    }
    Ok(instructions)
}

fn put(map: &OwnedFd, queue: u32, socket: BorrowedFd<'_>) -> Result<(), KernelError> {
    let value = socket.as_raw_fd();
    let mut attr = empty();
    // SAFETY: a union of structs of integers: any of them may be written.
    let element = unsafe { &mut attr.__bindgen_anon_2 };
    element.map_fd = map.as_raw_fd() as u32;
    element.key = &raw const queue as u64;
    element.__bindgen_anon_1.value = &raw const value as u64;
    let result = bpf(bpf_cmd::BPF_MAP_UPDATE_ELEM, &mut attr).map(drop);
    result.map_err(|error| KernelError::new("put an AF_XDP socket into its map", error))
}

fn attach(program: &OwnedFd, ifindex: u32) -> io::Result<OwnedFd> {
    let mut attr = empty();
    // SAFETY: as in `put`.
    let link = unsafe { &mut attr.link_create };
    link.__bindgen_anon_1.prog_fd = program.as_raw_fd() as u32;
    link.__bindgen_anon_2.target_ifindex = ifindex;
    link.attach_type = bpf_attach_type::BPF_XDP as u32;
    link.flags = XDP_FLAGS_DRV_MODE;
    open(bpf_cmd::BPF_LINK_CREATE, &mut attr)
}
