//! Memory that is mapped, shared with the kernel or not.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::ptr::{self, NonNull};
#[cfg(feature = "fastpath")]
use std::sync::atomic::AtomicU32;

/// Mapped memory, gone when it is dropped.
#[derive(Debug)]
pub(super) struct Mapping {
    pub(super) base: NonNull<u8>,
    pub(super) len: usize,
}

// SAFETY: the memory belongs to no thread; who may read and write which part of it is up to those who have it.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    pub(super) fn anonymous(len: usize) -> io::Result<Self> {
        Self::new(len, None)
    }

    pub(super) fn new(len: usize, of: Option<(&OwnedFd, i64)>) -> io::Result<Self> {
        let (fd, offset, flags) = match of {
            Some((fd, offset)) => (fd.as_raw_fd(), offset, libc::MAP_SHARED | libc::MAP_POPULATE),
            None => (-1, 0, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS),
        };
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping at an address of the kernel's choice touches no memory that is in use.
        let base = unsafe { libc::mmap(ptr::null_mut(), len, protection, flags, fd, offset) };
        match NonNull::new(base.cast::<u8>()).filter(|_| base != libc::MAP_FAILED) {
            Some(base) => Ok(Self { base, len }),
            None => Err(io::Error::last_os_error()),
        }
    }

    fn start(&self, at: u64, len: usize) -> Option<*mut u8> {
        let at = usize::try_from(at).ok()?;
        let end = at.checked_add(len)?;
        // SAFETY: the place is inside the mapping.
        (end <= self.len).then(|| unsafe { self.base.as_ptr().add(at) })
    }

    /// A word that others write to as well, the kernel or other threads; none where it ends before, or if it is not aligned.
    #[cfg(feature = "fastpath")]
    pub(super) fn word(&self, at: u64) -> Option<&AtomicU32> {
        let start = self.start(at, size_of::<u32>())?.cast::<u32>();
        // SAFETY: inside the mapping, which was zeroed by the kernel, aligned, and used as an atomic by all.
        start.is_aligned().then(|| unsafe { AtomicU32::from_ptr(start) })
    }

    /// Part of the memory; none where it ends before.
    ///
    /// # Safety
    /// Nobody may write to it meanwhile.
    pub(super) unsafe fn bytes(&self, at: u64, len: usize) -> Option<&[u8]> {
        // SAFETY: inside the mapping, which was zeroed by the kernel; the caller keeps it from being written to.
        self.start(at, len)
            .map(|start| unsafe { std::slice::from_raw_parts(start, len) })
    }

    /// Part of the memory to write to; none where it ends before.
    ///
    /// # Safety
    /// Nobody else may use it meanwhile.
    #[allow(clippy::mut_from_ref, reason = "parts of one mapping are used by different threads")]
    pub(super) unsafe fn bytes_mut(&self, at: u64, len: usize) -> Option<&mut [u8]> {
        // SAFETY: inside the mapping, which was zeroed by the kernel; the caller keeps it from being used otherwise.
        self.start(at, len)
            .map(|start| unsafe { std::slice::from_raw_parts_mut(start, len) })
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, and what points into it lives no longer than the value.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.len) };
    }
}
