//! Texts that commands read.

use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::path::Path;

/// None that is meant is longer. A device that never ends would fill the memory.
const LONGEST: u64 = 16 << 20;

/// Reads the file, or standard input (`-`).
pub(super) fn read(file: &Path) -> io::Result<String> {
    let mut text = String::new();
    let length = match is_stdin(file) {
        true => io::stdin().lock().take(LONGEST + 1).read_to_string(&mut text),
        false => File::open(file)?.take(LONGEST + 1).read_to_string(&mut text),
    }?;
    match length as u64 > LONGEST {
        true => Err(io::Error::new(
            ErrorKind::FileTooLarge,
            format!("it is longer than {} MiB", LONGEST >> 20),
        )),
        false => Ok(text),
    }
}

/// What messages call it.
pub(super) fn called(file: &Path) -> String {
    match is_stdin(file) {
        true => "standard input".to_owned(),
        false => file.display().to_string(),
    }
}

pub(super) fn is_stdin(file: &Path) -> bool {
    file == Path::new("-")
}
