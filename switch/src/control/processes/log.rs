//! What processes write, as it is asked for.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{sleep, timeout};
use vswitch_api::request::LogOptions;
use vswitch_api::{ApiError, ErrorCode, ProcessView};

use super::super::Control;
use super::super::text;
use super::live::Processes;
use super::object;
use crate::supervisor::notes::Folder;
use crate::supervisor::output::tail;

/// Lines if nothing else is said.
const LINES: usize = 100;
/// So often it is looked whether there is more.
const LOOK: Duration = Duration::from_millis(200);
/// So much is sent at once.
const CHUNK: u64 = 64 * 1024;

fn none(name: &str) -> ApiError {
    ApiError::new(ErrorCode::NotFound, object(name), "there is no such command")
        .hint("`vswitchctl command list` lists them")
}

impl Control {
    /// How all processes are.
    pub fn processes(&self) -> Vec<ProcessView> {
        self.view().processes.list()
    }

    /// How one is.
    ///
    /// # Errors
    /// NotFound.
    pub fn process(&self, name: &str) -> Result<ProcessView, ApiError> {
        let all = self.view().processes.list();
        all.into_iter().find(|view| view.name == name).ok_or_else(|| none(name))
    }

    /// What one has written, and writes.
    ///
    /// # Errors
    /// NotFound; the log can't be read.
    pub fn log(&self, name: &str, options: &LogOptions) -> Result<LogReader, ApiError> {
        self.process(name)?;
        let processes = self.view().processes.clone();
        let folder = processes.folder(name);
        // Up to where it is followed from, so that nothing falls in between nor comes twice.
        let mut follows = options.follow.then(|| Follow::open(&folder));
        let all = match &mut follows {
            Some(follow) => follow.before(&folder),
            None => tail(&folder, usize::MAX),
        };
        let all = all.map_err(|error| text::step(object(name), "read its log", &error))?;
        let lines = options.lines.map_or(LINES, |lines| lines as usize);
        Ok(LogReader {
            processes,
            name: name.to_owned(),
            first: Some(last_lines(&all, lines)),
            follows,
        })
    }
}

fn last_lines(all: &[u8], lines: usize) -> Vec<u8> {
    let ends = all.iter().enumerate().filter(|(_, byte)| **byte == b'\n');
    let ends: Vec<_> = ends.map(|(at, _)| at + 1).collect();
    let whole = ends.len() + usize::from(ends.last().copied().unwrap_or(0) < all.len());
    let skipped = whole.saturating_sub(lines);
    let start = match skipped {
        0 => 0,
        n => ends.get(n - 1).copied().unwrap_or(all.len()),
    };
    all.get(start..).unwrap_or_default().to_vec()
}

/// A reader of one log.
pub struct LogReader {
    processes: Arc<Processes>,
    name: String,
    first: Option<Vec<u8>>,
    follows: Option<Follow>,
}

impl LogReader {
    /// What comes next; none at the end.
    pub async fn next(&mut self) -> Option<Vec<u8>> {
        if let Some(first) = self.first.take()
            && !first.is_empty()
        {
            return Some(first);
        }
        let follow = self.follows.as_mut()?;
        let folder = self.processes.folder(&self.name);
        loop {
            let is_there = self.processes.lock().contains_key(&self.name);
            match follow.more(&folder) {
                Ok(more) if !more.is_empty() => return Some(more),
                Ok(_) if is_there => {}
                _ => return None,
            }
            // Its state may change before it writes more.
            let _ = timeout(LOOK, async {
                self.processes.changed.notified().await;
                sleep(LOOK / 4).await;
            })
            .await;
        }
    }
}

/// Where a reader is in a log that grows, and that may be begun anew.
struct Follow {
    file: Option<File>,
    at: u64,
}

impl Follow {
    fn open(folder: &Folder) -> Self {
        let mut follow = Self { file: None, at: 0 };
        follow.reopen(folder);
        follow.at = follow
            .file
            .as_ref()
            .and_then(|file| file.metadata().ok())
            .map_or(0, |meta| meta.len());
        follow
    }

    /// What there is before that, also of the log before.
    fn before(&mut self, folder: &Folder) -> io::Result<Vec<u8>> {
        let mut all = Vec::new();
        let older = match crate::files::open_regular(File::options().read(true), &folder.older_log()) {
            Ok(older) => Some(older),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        let place = |file: &File| file.metadata().map(|meta| (meta.dev(), meta.ino()));
        let own = self.file.as_ref().map(place).transpose()?;
        // The one that is open may have got too long since.
        if let Some(mut older) = older
            && own != Some(place(&older)?)
        {
            older.read_to_end(&mut all)?;
        }
        if let Some(file) = &mut self.file {
            file.seek(SeekFrom::Start(0))?;
            file.take(self.at).read_to_end(&mut all)?;
        }
        Ok(all)
    }

    fn reopen(&mut self, folder: &Folder) {
        self.file = crate::files::open_regular(File::options().read(true), &folder.log()).ok();
        self.at = 0;
    }

    fn more(&mut self, folder: &Folder) -> io::Result<Vec<u8>> {
        let Some(file) = &mut self.file else {
            self.reopen(folder);
            return Ok(Vec::new());
        };
        let mut more = Vec::new();
        file.seek(SeekFrom::Start(self.at))?;
        file.take(CHUNK).read_to_end(&mut more)?;
        self.at += more.len() as u64;
        if !more.is_empty() {
            return Ok(more);
        }
        let place = |meta: std::fs::Metadata| (meta.dev(), meta.ino());
        let open = file.metadata().map(place)?;
        // All of the one before is read.
        if std::fs::metadata(folder.log()).map(place).ok() != Some(open) {
            self.reopen(folder);
        }
        Ok(more)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_are_whole() {
        for (all, lines, last) in [
            ("", 3, ""),
            ("a\nb\nc\n", 2, "b\nc\n"),
            ("a\nb\nc", 2, "b\nc"),
            ("a\nb\nc", 9, "a\nb\nc"),
            ("a\nb\n", 0, ""),
        ] {
            assert_eq!(last_lines(all.as_bytes(), lines), last.as_bytes(), "{all:?}, {lines}");
        }
    }

    #[test]
    fn a_log_that_is_begun_anew_is_followed() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::at(dir.path());
        std::fs::write(folder.log(), "old\n").unwrap();
        let mut follow = Follow::open(&folder);
        assert_eq!(follow.more(&folder).unwrap(), b"");
        std::fs::write(folder.log(), "old\nmore\n").unwrap();
        assert_eq!(follow.more(&folder).unwrap(), b"more\n");
        std::fs::rename(folder.log(), folder.older_log()).unwrap();
        std::fs::write(folder.log(), "new\n").unwrap();
        let next: Vec<_> = (0..3).flat_map(|_| follow.more(&folder).unwrap()).collect();
        assert_eq!(next, b"new\n");
    }

    #[test]
    fn what_is_written_as_a_log_is_opened_comes_once() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::at(dir.path());
        std::fs::write(folder.older_log(), "first\n").unwrap();
        std::fs::write(folder.log(), "old\n").unwrap();
        let mut follow = Follow::open(&folder);
        std::fs::write(folder.log(), "old\nmore\n").unwrap();
        assert_eq!(follow.before(&folder).unwrap(), b"first\nold\n");
        assert_eq!(follow.more(&folder).unwrap(), b"more\n");
        // One that got too long meanwhile is not the one before itself.
        let mut follow = Follow::open(&folder);
        std::fs::rename(folder.log(), folder.older_log()).unwrap();
        std::fs::write(folder.log(), "new\n").unwrap();
        assert_eq!(follow.before(&folder).unwrap(), b"old\nmore\n");
        let next: Vec<_> = (0..3).flat_map(|_| follow.more(&folder).unwrap()).collect();
        assert_eq!(next, b"new\n");
    }
}
