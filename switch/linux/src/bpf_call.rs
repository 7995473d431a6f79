//! bpf(2): maps and programs, where aya does not make them.

use std::collections::HashSet;
use std::io;
use std::mem;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr;

use aya_obj::generated::{
    BPF_F_XDP_DEV_BOUND_ONLY, bpf_attach_type, bpf_attr, bpf_cmd, bpf_insn, bpf_map_type, bpf_prog_type,
};
use aya_obj::{Map, Object, Program};

/// What a program is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ProgramKind {
    /// It looks at frames and says a number.
    SocketFilter,
    /// It takes frames from a driver.
    Xdp {
        /// The interface to which it is bound, so that it may ask its driver.
        device: Option<u32>,
    },
}

/// The instructions of a program of an object, with the object's map in place.
pub(super) fn instructions(object: &[u8], name: &str, map: BorrowedFd<'_>) -> io::Result<Vec<bpf_insn>> {
    let mut object = Object::parse(object).map_err(io::Error::other)?;
    let maps: Vec<(String, Map)> = object.maps.drain().collect();
    let maps = maps.iter().map(|(name, of)| (name.as_str(), map.as_raw_fd(), of));
    object.relocate_maps(maps, &HashSet::new()).map_err(io::Error::other)?;
    let key = object.programs.get(name).map(Program::function_key);
    let function = key.and_then(|key| object.functions.remove(&key));
    let function = function.ok_or_else(|| io::Error::other("no such program"))?;
    Ok(function.instructions)
}

/// A map whose keys are numbers. `value`: bytes of a value.
pub(super) fn make_map(kind: bpf_map_type, value: usize, entries: u32, flags: u32) -> io::Result<OwnedFd> {
    let mut attr = empty();
    // SAFETY: a union of structs of integers: any of them may be written.
    let map = unsafe { &mut attr.__bindgen_anon_1 };
    map.map_type = kind as u32;
    map.key_size = 4;
    map.value_size = value as u32;
    map.max_entries = entries;
    map.map_flags = flags;
    open(bpf_cmd::BPF_MAP_CREATE, &mut attr)
}

/// Has the kernel check a program and make it its own.
pub(super) fn load(instructions: &[bpf_insn], kind: ProgramKind) -> io::Result<OwnedFd> {
    let mut attr = empty();
    // SAFETY: as in `make_map`.
    let program = unsafe { &mut attr.__bindgen_anon_3 };
    program.insns = instructions.as_ptr() as u64;
    program.insn_cnt = instructions.len() as u32;
    program.license = c"Dual MIT/GPL".as_ptr() as u64;
    match kind {
        ProgramKind::SocketFilter => program.prog_type = bpf_prog_type::BPF_PROG_TYPE_SOCKET_FILTER as u32,
        ProgramKind::Xdp { device } => {
            program.prog_type = bpf_prog_type::BPF_PROG_TYPE_XDP as u32;
            program.expected_attach_type = bpf_attach_type::BPF_XDP as u32;
            if let Some(ifindex) = device {
                program.prog_flags = BPF_F_XDP_DEV_BOUND_ONLY;
                program.prog_ifindex = ifindex;
            }
        }
    }
    open(bpf_cmd::BPF_PROG_LOAD, &mut attr)
}

pub(super) fn empty() -> bpf_attr {
    // SAFETY: all-zero is a value of every struct in the union.
    unsafe { mem::zeroed() }
}

/// A command that gives a descriptor.
pub(super) fn open(command: bpf_cmd, attr: &mut bpf_attr) -> io::Result<OwnedFd> {
    let fd = bpf(command, attr)?;
    // SAFETY: the kernel has just opened it, and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

pub(super) fn bpf(command: bpf_cmd, attr: &mut bpf_attr) -> io::Result<i32> {
    // SAFETY: the callers' pointers in `attr` are to values that outlive the call, which only reads them; into `attr` itself some
    // kernels write, within the size that is given.
    let result = unsafe {
        let attr = ptr::from_mut(attr);
        libc::syscall(libc::SYS_bpf, command as libc::c_long, attr, size_of::<bpf_attr>())
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(result as i32)
}
