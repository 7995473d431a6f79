//! What becomes of a batch: for each port the frames that go there.

use super::PortId;

/// What a batch is to become: for each port the frames to send, by their index in the batch.
#[derive(Default)]
pub struct OutputLists {
    lists: Vec<Vec<u8>>,
    touched: Vec<PortId>,
    /// Frames to be copied into a VLAN when all lists have been sent, as a bitmap: by then they may get another tag.
    pub(super) into_vlans: Vec<(u16, u64)>,
}

impl OutputLists {
    /// Makes room for `ports` ports, so that nothing is allocated on the frame's way.
    pub fn resize(&mut self, ports: usize) {
        self.lists.resize_with(ports, Vec::new);
        self.touched.reserve(ports);
    }

    /// Puts a frame on the list of a port.
    #[inline]
    pub(super) fn push(&mut self, port: PortId, frame: usize) {
        let list = &mut self.lists[port.index()];
        if list.is_empty() {
            self.touched.push(port);
        }
        list.push(frame as u8);
    }

    /// The lists that are not empty.
    pub(super) fn filled(&self) -> impl Iterator<Item = (PortId, &[u8])> {
        self.touched.iter().map(|port| (*port, self.of(*port)))
    }

    /// The list of a port.
    pub(super) fn of(&self, port: PortId) -> &[u8] {
        self.lists.get(port.index()).map_or(&[], Vec::as_slice)
    }

    /// Hands each list to `send`, which may shorten it, and empties it.
    pub fn drain(&mut self, mut send: impl FnMut(PortId, &mut Vec<u8>)) {
        for port in self.touched.drain(..) {
            let list = &mut self.lists[port.index()];
            send(port, list);
            list.clear();
        }
    }
}
