//! Tests against the real kernel. Each works in namespaces of its own, so nothing leaks and they can run
//! side by side; they need root and fail without it.

mod addresses;
mod ingress;
mod links;
mod monitor;
mod namespaces;
mod packet;
#[cfg(feature = "fastpath")]
mod steer;

use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, socket};
use vswitch_api::name::{IfAddr, Mac, NsName};

use super::testing::sandboxed;
use super::{Link, NamedNamespaces, NetNs, Netlink, VethPeer};

const MAC: Mac = Mac([2, 0x76, 0x73, 0, 0, 1]);

async fn make(name: &NsName) -> NetNs {
    NetNs::make(std::slice::from_ref(name)).await.unwrap().remove(0)
}

async fn namespace(name: &str) -> NetNs {
    let name = name.parse().unwrap();
    let netns = make(&name).await;
    NamedNamespaces::default()
        .add(vec![(name, netns.clone())])
        .await
        .unwrap();
    netns
}

async fn link(netlink: &Netlink, name: &str) -> Link {
    netlink.link_by_name(name).await.unwrap().unwrap()
}

/// One end of a direct link between two namespaces.
struct End {
    netns: NetNs,
    netlink: Netlink,
    index: u32,
}

/// A veth pair between the namespaces `near` and `far`, both made for it, both ends named eth0 and up.
async fn cable(near: &str, far: &str) -> (End, End) {
    let (near, far) = (namespace(near).await, namespace(far).await);
    let netlink = near.netlink().await.unwrap();
    netlink
        .add_veth(
            "eth0",
            1500,
            VethPeer {
                netns: &far,
                name: "eth0",
                mac: MAC,
            },
        )
        .await
        .unwrap();
    (end(near).await, end(far).await)
}

async fn end(netns: NetNs) -> End {
    let netlink = netns.netlink().await.unwrap();
    let index = link(&netlink, "eth0").await.index;
    netlink.set_up(index).await.unwrap();
    End { netns, netlink, index }
}

impl End {
    async fn add(&self, address: &str) {
        self.netlink
            .add_address(self.index, address.parse::<IfAddr>().unwrap())
            .await
            .unwrap();
    }

    /// A socket that is handed every frame of this end's namespace before the stack is.
    async fn tap(&self) -> OwnedFd {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let open = move || socket(AddressFamily::Packet, SockType::Raw, flags, SockProtocol::EthAll);
        self.netns.run(open).await.unwrap().unwrap()
    }

    /// A UDP socket of this end's own network stack.
    async fn udp(&self, address: &str) -> UdpSocket {
        let address: SocketAddr = address.parse().unwrap();
        let socket = self.netns.run(move || UdpSocket::bind(address)).await.unwrap().unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        socket
    }
}

/// Whether a datagram gets from one socket to the other; the kernel may need a second to begin with.
fn delivers(from: &UdpSocket, to: &UdpSocket) -> bool {
    (0..10).any(|attempt| delivers_now(from, to, &[attempt]))
}

/// Whether this datagram gets from one socket to the other without another try.
fn delivers_now(from: &UdpSocket, to: &UdpSocket, datagram: &[u8]) -> bool {
    from.send_to(datagram, to.local_addr().unwrap()).unwrap();
    let mut buffer = [0; 16];
    // Earlier ones may come late.
    while let Ok(len) = to.recv(&mut buffer) {
        if buffer[..len] == *datagram {
            return true;
        }
    }
    false
}

/// Whether a frame with that end is among those that wait in a packet socket; takes them all out.
fn tapped(tap: &OwnedFd, end: &[u8]) -> bool {
    let mut buffer = [0; 2048];
    let mut seen = false;
    while let Ok(len) = recv(tap.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
        seen |= buffer[..len].ends_with(end);
    }
    seen
}
