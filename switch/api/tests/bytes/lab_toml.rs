//! A lab file, as `vswitchctl apply` reads it: no panic, and what was accepted is the same after an export.

use vswitch_api::Lab;

/// # Panics
/// It is not so.
pub fn check(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(lab) = toml::from_str::<Lab>(text) {
        let exported = toml::to_string(&lab).expect("what was read can be written");
        assert_eq!(
            toml::from_str::<Lab>(&exported).expect("what was written can be read"),
            lab
        );
    }
}
