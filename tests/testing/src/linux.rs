//! What the running kernel has.

use crate::netns::Place;

/// Whether it is this version or a later one.
pub fn at_least(major: u32, minor: u32) -> bool {
    let name = nix::sys::utsname::uname().unwrap();
    let release = name.release().to_str().unwrap();
    let mut numbers = release
        .split(|c: char| !c.is_ascii_digit())
        .map(|word| word.parse::<u32>());
    let mut next = || {
        numbers
            .next()
            .unwrap_or_else(|| panic!("{release}"))
            .unwrap_or_else(|e| panic!("{release}: {e}"))
    };
    (next(), next()) >= (major, minor)
}

/// Whether it has VLAN devices (its module 8021q), and if not, in whose words. Tried in the namespace of the caller, a lab's.
///
/// # Errors
/// It has none.
pub fn vlan_devices() -> Result<(), String> {
    // On `lo` none can be made, which only those say that know the kind.
    let refused = Place::Home.output("ip link add link lo name vlan-tried type vlan id 1");
    let why = String::from_utf8_lossy(&refused.stderr);
    match why.contains("Unknown device type") {
        true => Err(why.trim().to_owned()),
        false => Ok(()),
    }
}
