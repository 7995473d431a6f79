//! All that talks to the kernel.

pub mod packet;
pub mod tap;
