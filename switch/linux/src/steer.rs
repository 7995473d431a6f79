//! Which queue of a TAP device a frame comes by, and so which worker serves it: the program of `bpf/steer.c`.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::Ordering;

use aya_obj::generated::{BPF_F_MMAPABLE, bpf_map_type};

use super::bpf_call::{self, ProgramKind, instructions, make_map};
use super::error::KernelError;
use super::mapping::Mapping;
use super::tap;

/// Entries of the map: one more than a TAP device has queues.
const PLACES: usize = 257;
/// Bytes of an entry: a cache line.
const PLACE: usize = 64;

#[cfg(steer_object)]
static OBJECT: Option<&[u8]> = Some(aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/steer.o")));
#[cfg(not(steer_object))]
static OBJECT: Option<&[u8]> = None;

/// The loaded program and what it notes. Devices that have it keep it.
#[derive(Debug)]
pub struct Steering {
    program: OwnedFd,
    places: Mapping,
}

impl Steering {
    /// Loads the program for devices with so many queues each.
    ///
    /// # Errors
    /// The daemon was built without it; EPERM without CAP_BPF.
    pub fn load(queues: usize) -> Result<Self, KernelError> {
        let loaded = OBJECT
            .ok_or_else(|| io::Error::other("the daemon was built without clang"))
            .and_then(|object| load(object, queues));
        loaded.map_err(|error| KernelError::new("load the program that chooses queues (CAP_BPF)", error))
    }

    /// Lets it choose for the device of `queue`, for all of its queues.
    ///
    /// # Errors
    /// EBADFD: the device is gone.
    pub fn apply(&self, queue: BorrowedFd<'_>) -> io::Result<()> {
        tap::set_steering(queue, Some(self.program.as_fd()))
    }

    /// The core from which a frame was last put into this queue of any device; none: from none yet.
    pub fn sender_core(&self, queue: usize) -> Option<usize> {
        let noted = self.places.word(((queue + 1) * PLACE) as u64)?;
        (noted.load(Ordering::Relaxed) as usize).checked_sub(1)
    }
}

fn load(object: &[u8], queues: usize) -> io::Result<Steering> {
    let map = make_map(bpf_map_type::BPF_MAP_TYPE_ARRAY, PLACE, PLACES as u32, BPF_F_MMAPABLE)?;
    // The kernel has it in whole pages.
    let places = Mapping::new(PLACES * PLACE, Some((&map, 0)))?;
    if let Some(number) = places.word(0) {
        number.store(queues as u32, Ordering::Relaxed);
    }
    let instructions = instructions(object, "choose_queue", map.as_fd())?;
    let program = bpf_call::load(&instructions, ProgramKind::SocketFilter)?;
    Ok(Steering { program, places })
}
