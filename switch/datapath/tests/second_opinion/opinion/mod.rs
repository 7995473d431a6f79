//! The property, as a plain function of bytes.

mod frames;
mod receiver;

use std::sync::LazyLock;

use vswitch_api::Mac;
use vswitch_datapath::acl::Acl;
use vswitch_datapath::frame::Checked;
use vswitch_datapath::pin::PinTable;

pub use receiver::Violation;

/// The hostile port's addresses.
pub const OWN_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
pub const OWN_V4: [u8; 4] = [10, 0, 0, 1];
pub const OWN_V6: [u8; 16] = [0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
/// Made from [`OWN_MAC`].
pub const OWN_LINK_LOCAL: [u8; 16] = [0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xfe, 0, 0, 1];
/// Whom a rule keeps it from.
pub const FORBIDDEN_V4: [u8; 4] = [10, 0, 0, 66];
pub const FORBIDDEN_V6: [u8; 16] = [0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x66];

/// What it is held to.
static RULES: LazyLock<(PinTable, Acl)> = LazyLock::new(|| {
    let pin = PinTable::new(
        Some(&[Mac(OWN_MAC)]),
        Some(&["10.0.0.1/32".parse().unwrap(), "fd00::1/128".parse().unwrap()]),
    );
    let rules = [
        "deny tcp to any port 22 flags syn,!ack",
        "deny udp to any port 53",
        "deny to 10.0.0.66",
        "deny to fd00::66",
    ];
    (pin, Acl::new(&rules.map(|rule| rule.parse().unwrap())))
});

/// What became of a case.
pub struct Outcome {
    pub sent: u64,
    pub passed: u64,
    /// The receiver made something of what passed.
    pub delivered: bool,
    /// What would have been done if all had passed.
    pub violations: Vec<Violation>,
}

/// Sends the frames that these bytes stand for past the rules.
///
/// # Panics
/// What the receiver reads in those that pass is not allowed.
pub fn check(bytes: &[u8]) -> Outcome {
    let sent = frames::hostile(&mut frames::Dice(bytes));
    let passed: Vec<_> = sent.iter().filter(|wire| passes(wire)).cloned().collect();
    let (delivered, violations) = receiver::read(&passed);
    assert!(violations.is_empty(), "{violations:?} by {passed:02x?}");
    Outcome {
        sent: sent.len() as u64,
        passed: passed.len() as u64,
        delivered,
        violations: receiver::read(&sent).1,
    }
}

/// As the datapath has it.
fn passes(wire: &[u8]) -> bool {
    let Ok(frame) = Checked::new(wire) else { return false };
    let Some((_, rest)) = frame.frame().split_first_chunk::<6>() else {
        return false;
    };
    let Some(src) = rest.first_chunk::<6>() else {
        return false;
    };
    let reading = frame.read();
    let (pin, acl) = &*RULES;
    let would = acl.would_check(&reading, || frame.wire_size(), || 0, 0).is_ok();
    let permitted = acl.check(&reading, || frame.wire_size(), || 0, 0).is_ok();
    assert_eq!(permitted, would);
    permitted && pin.check(&reading, *frame.header(), Mac(*src)).is_ok()
}
