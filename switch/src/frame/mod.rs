//! Ethernet frames, the virtio-net header, checksums and segmentation; no I/O.
