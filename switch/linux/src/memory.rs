//! Memory that is free goes back to the kernel.

/// Gives back what the allocator keeps of what was freed: after something that needed much for a while.
pub fn give_back() {
    // SAFETY: it takes a number, and looks at nothing but the allocator's own lists, under their locks.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::malloc_trim(0);
    }
}
