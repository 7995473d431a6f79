//! A frame with its virtio-net header, as a hostile guest could write it: nothing panics, a segment is never longer
//! than its GSO frame, and what was written is read the same.

use vswitch_datapath::frame::{MAX_SEGMENTS, Segments, Tag, VNET_HDR_LEN, VnetHeader, complete, partial, wire_size};

/// # Panics
/// It is not so.
pub fn check(data: &[u8]) {
    let Some((bytes, frame)) = data.split_first_chunk::<VNET_HDR_LEN>() else {
        return;
    };
    assert!(Tag::all(frame).count() * 4 <= frame.len());
    assert_eq!(partial(frame).check(frame), Ok(()));
    let Ok(mut header) = VnetHeader::parse(bytes) else {
        return;
    };
    let mut written = [0; VNET_HDR_LEN];
    header.write(&mut written);
    assert_eq!(&written, bytes);

    let size = wire_size(frame, &header);
    if let Ok(mut segments) = Segments::new(frame, &header) {
        let mut buffer = vec![0; frame.len()];
        let mut count = 0;
        while let Some(len) = segments
            .write_next(&mut buffer)
            .expect("a segment is no longer than its frame")
        {
            assert!(len <= size.largest, "{len} > {size:?}");
            count += 1;
        }
        assert!(count <= size.segments.min(MAX_SEGMENTS), "{count} > {size:?}");
    }
    let mut frame = frame.to_vec();
    if complete(&mut frame, &mut header).is_ok() {
        assert!(!header.needs_csum());
    }
}
