//! Settings of the kernel below /proc/sys, as the namespace of the calling thread has them.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

const ROOT: &str = "/proc/sys";

/// The file of a setting, such as `net/ipv4/ip_forward`.
pub(super) fn file(path: &str) -> PathBuf {
    Path::new(ROOT).join(path)
}

/// The value, without the line's end.
///
/// # Errors
/// NotFound: there is no such setting here.
pub(super) fn read(path: &str) -> io::Result<String> {
    match fs::read_to_string(file(path)) {
        Ok(text) => Ok(text.trim_end().to_owned()),
        // So the kernel tells of a secret that is not set.
        Err(error) if error.raw_os_error() == Some(libc::EIO) => Ok(String::new()),
        Err(error) => Err(error),
    }
}

/// Changes it.
///
/// # Errors
/// NotFound; InvalidInput: it takes no such value.
pub(super) fn write(path: &str, value: &str) -> io::Result<()> {
    // Nothing is made where there is no setting.
    let mut file = OpenOptions::new().write(true).open(file(path))?;
    // The kernel does not look at a write of nothing.
    file.write_all(format!("{value}\n").as_bytes())
}
