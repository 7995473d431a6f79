//! What a process writes: into a file that is begun anew when it gets too long, with the one before beside it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;

use super::notes::Folder;

/// Longest log; as much again is kept of what was before.
pub const LONGEST_LOG: u64 = 512 * 1024;

/// The log of a process.
#[derive(Debug)]
pub(super) struct Log {
    folder: Folder,
    file: Option<File>,
    length: u64,
    /// The last thing written ended a line.
    at_start_of_line: bool,
}

impl Log {
    /// Goes on with the one that is there.
    pub fn open(folder: &Folder) -> Self {
        let mut log = Self {
            folder: folder.clone(),
            file: None,
            length: 0,
            at_start_of_line: true,
        };
        log.reopen();
        log
    }

    fn reopen(&mut self) {
        let mut options = OpenOptions::new();
        options.append(true).create(true).mode(0o600);
        self.file = crate::files::open_regular(&mut options, &self.folder.log()).ok();
        let length = self.file.as_ref().and_then(|file| file.metadata().ok());
        self.length = length.map_or(0, |meta| meta.len());
    }

    /// Adds what the process wrote. Where there is no room for it, it is lost: the process goes on.
    pub fn add(&mut self, bytes: &[u8]) {
        let Some(last) = bytes.last() else { return };
        self.at_start_of_line = *last == b'\n';
        if self.length > 0 && self.length + bytes.len() as u64 > LONGEST_LOG {
            self.file = None;
            let _ = fs::rename(self.folder.log(), self.folder.older_log());
            self.reopen();
        }
        let written = self
            .file
            .as_mut()
            .map_or(Err(io::ErrorKind::NotFound.into()), |file| file.write_all(bytes));
        match written {
            Ok(()) => self.length += bytes.len() as u64,
            Err(_) => self.reopen(),
        }
    }

    /// Adds a line of the supervisor's own.
    pub fn say(&mut self, text: &str) {
        let start = if self.at_start_of_line { "" } else { "\n" };
        self.add(format!("{start}--- {text}\n").as_bytes());
    }
}

/// What is there of a log: the last `most` bytes, from the beginning of a line on.
///
/// # Errors
/// It can't be read. One that is not there is empty.
pub fn tail(folder: &Folder, most: usize) -> io::Result<Vec<u8>> {
    let mut all = Vec::new();
    for path in [folder.older_log(), folder.log()] {
        match crate::files::read_regular(&path) {
            Ok(content) => all.extend(content),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    if all.len() > most {
        all.drain(..all.len() - most);
        if let Some(at) = all.iter().position(|byte| *byte == b'\n') {
            all.drain(..=at);
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_takes_no_more_than_two_logs() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::at(dir.path());
        let mut log = Log::open(&folder);
        let line = [b'x'; 999].iter().copied().chain([b'\n']).collect::<Vec<_>>();
        for _ in 0..5_000 {
            log.add(&line);
        }
        log.add(b"half");
        log.say("the end");
        let size = |path| fs::metadata(path).unwrap().len();
        assert!(size(folder.log()) <= LONGEST_LOG && size(folder.older_log()) <= LONGEST_LOG);
        let all = tail(&folder, usize::MAX).unwrap();
        assert!(all.len() as u64 > LONGEST_LOG);
        assert!(all.ends_with(b"half\n--- the end\n"));
        assert_eq!(tail(&folder, 16).unwrap(), b"--- the end\n");
        // A log goes on where another supervisor was.
        Log::open(&folder).say("and on");
        assert!(
            tail(&folder, usize::MAX)
                .unwrap()
                .ends_with(b"--- the end\n--- and on\n")
        );
    }

    #[test]
    fn no_log_is_an_empty_one() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(tail(&Folder::at(dir.path()), 10).unwrap(), b"");
    }
}
