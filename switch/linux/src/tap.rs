//! TAP devices: opening queues and setting what the kernel hands over through them
//! (Linux `Documentation/networking/tuntap.rst`, `include/uapi/linux/if_tun.h`).

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;

use super::link_read;

#[allow(
    missing_docs,
    reason = "the macros make undocumented public functions; the module is private"
)]
mod ioctl {
    nix::ioctl_readwrite_bad!(tun_set_iff, libc::TUNSETIFF, libc::ifreq);
    nix::ioctl_write_int_bad!(tun_set_offload, libc::TUNSETOFFLOAD);
    nix::ioctl_write_int_bad!(tun_set_persist, libc::TUNSETPERSIST);
    nix::ioctl_write_ptr_bad!(tun_set_vnet_hdr_size, libc::TUNSETVNETHDRSZ, libc::c_int);
    nix::ioctl_write_ptr_bad!(tun_set_carrier, super::TUNSETCARRIER, libc::c_int);
    nix::ioctl_write_ptr_bad!(tun_set_steering, super::TUNSETSTEERINGEBPF, libc::c_int);
    nix::ioctl_read_bad!(tun_get_iff, libc::TUNGETIFF, libc::ifreq);
    nix::ioctl_none_bad!(tun_get_dev_netns, super::TUNGETDEVNETNS);
}

use ioctl::*;

/// Bytes of the virtio-net header in front of each frame.
pub const VNET_HDR_LEN: usize = 10;
/// `_IOW('T', 226, int)`; not in the libc crate.
const TUNSETCARRIER: libc::c_ulong = 0x4004_54e2;
/// `_IOR('T', 224, int)`, since Linux 4.16; not in the libc crate.
const TUNSETSTEERINGEBPF: libc::c_ulong = 0x8004_54e0;
/// `_IO('T', 227)`, since Linux 5.2; not in the libc crate.
const TUNGETDEVNETNS: libc::c_ulong = 0x54e3;

/// A TCP frame may come unsegmented and without its checksum.
const OFFLOADS: libc::c_uint = libc::TUN_F_CSUM | libc::TUN_F_TSO4 | libc::TUN_F_TSO6 | libc::TUN_F_TSO_ECN;
/// The same for UDP; since Linux 6.2.
const UDP_OFFLOADS: libc::c_uint = libc::TUN_F_USO4 | libc::TUN_F_USO6;

/// Opens one more queue of the TAP device `name` in the network namespace of the calling thread; the first
/// one creates the device. Frames carry the 10-byte virtio-net header; the descriptor doesn't block.
///
/// # Errors
/// ENOENT: no /dev/net/tun. EPERM: no CAP_NET_ADMIN over the namespace. EINVAL: a device of that name
/// has other flags or is no TAP. EBUSY: the name is taken by another kind of interface.
pub fn open_queue(name: &str) -> io::Result<OwnedFd> {
    let file: File = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NONBLOCK)
        .open("/dev/net/tun")?;
    let fd = file.as_raw_fd();
    let mut request = interface_request(name)?;
    // SAFETY: `request` is a valid ifreq that outlives the call; the kernel reads and writes only within it.
    unsafe { tun_set_iff(fd, &mut request) }?;
    set_up(file.as_fd())?;
    Ok(file.into())
}

/// Sets what the kernel hands over through a queue: of one that another program has opened, what this one expects.
///
/// # Errors
/// EBADFD: its device is gone.
pub fn set_up(queue: BorrowedFd<'_>) -> io::Result<()> {
    let fd = queue.as_raw_fd();
    let header_len = VNET_HDR_LEN as libc::c_int;
    // SAFETY: the kernel reads one int from the pointer, which is valid for the call.
    unsafe { tun_set_vnet_hdr_size(fd, &header_len) }?;
    // SAFETY: an integer argument; no memory is involved.
    if unsafe { tun_set_offload(fd, (OFFLOADS | UDP_OFFLOADS) as libc::c_int) }.is_err() {
        // SAFETY: as above. Kernels before 6.2 refuse the UDP bits.
        unsafe { tun_set_offload(fd, OFFLOADS as libc::c_int) }?;
    }
    Ok(())
}

/// Whether the device stays when its last queue is closed.
pub fn set_persistent(queue: &OwnedFd, persistent: bool) -> io::Result<()> {
    // SAFETY: an integer argument; no memory is involved.
    unsafe { tun_set_persist(queue.as_raw_fd(), libc::c_int::from(persistent)) }?;
    Ok(())
}

/// Sets the carrier that the device shows: with none its user sees NO-CARRIER.
pub fn set_carrier(queue: &OwnedFd, carrier: bool) -> io::Result<()> {
    let value = libc::c_int::from(carrier);
    // SAFETY: the kernel reads one int from the pointer, which is valid for the call.
    unsafe { tun_set_carrier(queue.as_raw_fd(), &value) }?;
    Ok(())
}

/// Lets a program choose the queue of each frame of the device, for all of its queues, as long as the device is there; none: the kernel
/// chooses again.
///
/// # Errors
/// EBADFD: the device is gone. EINVAL: it is no socket filter.
pub fn set_steering(queue: BorrowedFd<'_>, program: Option<BorrowedFd<'_>>) -> io::Result<()> {
    let program = program.map_or(-1, |program| program.as_raw_fd());
    // SAFETY: the kernel reads one int from the pointer, which is valid for the call.
    unsafe { tun_set_steering(queue.as_raw_fd(), &program) }?;
    Ok(())
}

/// Where the device of a queue is by now: an nsfs file of its network namespace, and its name there.
///
/// # Errors
/// EBADFD: the device is gone. EPERM: no CAP_NET_ADMIN over the namespace that it is in.
pub fn place(queue: &OwnedFd) -> io::Result<(OwnedFd, String)> {
    // SAFETY: no argument; the kernel returns a new descriptor or an error.
    let netns = unsafe { tun_get_dev_netns(queue.as_raw_fd()) }?;
    // SAFETY: the kernel has just opened it for us, and nobody else knows it.
    let netns = unsafe { OwnedFd::from_raw_fd(netns) };
    let mut answer = interface_request("any")?;
    // SAFETY: `answer` is a valid ifreq that outlives the call; the kernel writes only within it.
    unsafe { tun_get_iff(queue.as_raw_fd(), &mut answer) }?;
    let name: Vec<_> = answer.ifr_name.iter().map(|byte| byte.cast_unsigned()).collect();
    Ok((netns, link_read::text(&name)))
}

fn interface_request(name: &str) -> io::Result<libc::ifreq> {
    if name.is_empty() || name.len() >= libc::IFNAMSIZ || name.contains('%') {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("{name:?} can't be an interface name"),
        ));
    }
    let flags = libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR | libc::IFF_MULTI_QUEUE;
    let mut ifr_name = [0; libc::IFNAMSIZ];
    for (to, from) in ifr_name.iter_mut().zip(name.bytes()) {
        *to = from as libc::c_char;
    }
    Ok(libc::ifreq {
        ifr_name,
        ifr_ifru: libc::__c_anonymous_ifr_ifru {
            ifru_flags: flags as libc::c_short,
        },
    })
}
