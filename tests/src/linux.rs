//! What the running kernel has.

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
