//! Sockets that send by one interface.

use std::os::fd::OwnedFd;

use nix::unistd::pipe;

use super::{MAC, cable, sandboxed, tapped};
use crate::NetNs;
use crate::packet::{PacketSocket, sends_by};

#[test]
fn a_sender_that_was_kept_is_told_from_others_and_sends_on() {
    sandboxed(async || {
        let (near, far) = cable("near", "far").await;
        let index = near.index;
        let sender = near
            .netns
            .run(move || PacketSocket::sender(index))
            .await
            .unwrap()
            .unwrap();
        let kept = sender.keep().unwrap();
        drop(sender);
        let (netns, by) = sends_by(&kept).unwrap();
        assert_eq!(
            (NetNs::from_fd(netns, "near").unwrap().id(), by),
            (near.netns.id(), index)
        );
        let tap = far.tap().await;
        let socket = PacketSocket::kept(kept);
        let wire = [
            &[0; crate::tap::VNET_HDR_LEN][..],
            &MAC.0,
            &[2, 0, 0, 0, 0, 7, 0x88, 0xb5],
            b"kept on",
        ]
        .concat();
        let sent = crate::packet::with_messages(|messages| messages.send(&socket, std::iter::once(wire.as_slice())));
        assert_eq!(sent.unwrap(), 1);
        assert!(tapped(&tap, b"kept on"));

        // One that receives, what is no socket, and one whose interface is gone.
        let receiver = near
            .netns
            .run(move || PacketSocket::open(index, false))
            .await
            .unwrap()
            .unwrap();
        let (read, _write) = pipe().unwrap();
        let kept: OwnedFd = socket.keep().unwrap();
        near.netlink.delete_link(index).await.unwrap();
        for other in [receiver.keep().unwrap(), read, kept] {
            sends_by(&other).unwrap_err();
        }
    });
}
