//! `bugreport`: one archive with what somebody needs who is to find out what is wrong, and nothing that is nobody's business: what
//! [`scrub`] does not know to be of the lab is taken out of every text.

mod collect;
mod scrub;

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::Serialize;
use vswitch_api::{ApiError, ErrorCode};

use super::Session;
use crate::cli::bugreport::BugreportArgs;
use crate::failure::Failure;
use crate::output::Style;
use crate::output::table::{self, Table};
use crate::output::units;

/// Of a longer text the end is kept.
const LONGEST: usize = 4 << 20;

/// A file of the archive.
#[derive(Clone, Debug, Serialize)]
pub struct Entry {
    /// Its name.
    pub name: &'static str,
    /// What is in it.
    pub about: &'static str,
    /// How long it is.
    pub bytes: usize,
    #[serde(skip)]
    text: String,
}

/// What `bugreport` says.
#[derive(Debug, Serialize)]
struct Written {
    /// The archive.
    file: PathBuf,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    dry_run: bool,
    entries: Vec<Entry>,
}

impl Session {
    pub(super) async fn bugreport(&self, args: BugreportArgs) -> Result<(), Failure> {
        let now = Timestamp::now();
        let named = || {
            let time = now.to_zoned_datetime(TimeZone::UTC);
            PathBuf::from(time.strftime("vswitch-bugreport-%Y%m%d-%H%M%S.tar.gz").to_string())
        };
        let file = args.file.clone().unwrap_or_else(named);
        // Said at once: to collect takes seconds.
        if file.symlink_metadata().is_ok() {
            return Err(refused(&file, &io::ErrorKind::AlreadyExists.into()));
        }
        let entries = self.collect(&args).await;
        if !args.dry_run {
            let seconds = u64::try_from(now.as_second()).unwrap_or_default();
            write(&file, &entries, seconds).map_err(|e| refused(&file, &e))?;
        }
        let written = Written {
            file,
            dry_run: args.dry_run,
            entries,
        };
        self.out.show(&written, |style| told(style, &written))
    }
}

impl Entry {
    fn new(name: &'static str, about: &'static str, text: &str) -> Self {
        let mut begin = text.len().saturating_sub(LONGEST);
        while !text.is_char_boundary(begin) {
            begin += 1;
        }
        let text = match begin {
            0 => text.to_owned(),
            _ => format!("[the first {begin} bytes are left out]\n{}", &text[begin..]),
        };
        Self {
            name,
            about,
            bytes: text.len(),
            text,
        }
    }
}

/// A file that is there, be it a link, is left as it is; nobody else reads the new one.
fn write(path: &Path, entries: &[Entry], time: u64) -> io::Result<()> {
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    let written = archive(file, entries, time);
    if written.is_err() {
        // It is ours, and of no use.
        let _ = std::fs::remove_file(path);
    }
    written
}

fn archive(file: impl Write, entries: &[Entry], time: u64) -> io::Result<()> {
    let mut archive = tar::Builder::new(GzEncoder::new(file, Compression::default()));
    for entry in entries {
        let mut header = tar::Header::new_gnu();
        header.set_size(entry.text.len() as u64);
        header.set_mode(0o600);
        header.set_mtime(time);
        let name = format!("vswitch-bugreport/{}", entry.name);
        archive.append_data(&mut header, name, entry.text.as_bytes())?;
    }
    archive.into_inner()?.finish()?.flush()
}

fn refused(path: &Path, error: &io::Error) -> Failure {
    let object = format!("archive {}", path.display());
    match error.kind() {
        io::ErrorKind::AlreadyExists => {
            let cause = "it is there already and is not overwritten";
            ApiError::new(ErrorCode::Conflict, object, cause)
                .hint("choose another name")
                .into()
        }
        _ => Failure::usage(
            object,
            format!("it can't be written: {error}"),
            "choose a place that can be written to",
        ),
    }
}

fn told(style: Style, written: &Written) -> String {
    let file = written.file.display();
    if written.dry_run {
        let line = |entry: &Entry| format!("would put {} into {file}: {}\n", entry.name, entry.about);
        return written.entries.iter().map(line).collect();
    }
    let mut table = Table::new(
        style,
        &[table::word("FILE"), table::number("BYTES"), table::word("WHAT")],
    );
    for entry in &written.entries {
        table.row([
            entry.name.to_owned(),
            units::grouped(entry.bytes as u64),
            entry.about.to_owned(),
        ]);
    }
    table.render() + &format!("wrote {file}; look through it before you send it\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_overwritten_and_nobody_else_reads_it() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let entries = [Entry::new("a.txt", "a text", "hello")];
        let path = dir.path().join("report.tar.gz");
        write(&path, &entries, 0).unwrap();
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(
            write(&path, &entries, 0).unwrap_err().kind(),
            io::ErrorKind::AlreadyExists
        );
        let (link, target) = (dir.path().join("link.tar.gz"), dir.path().join("target"));
        std::os::unix::fs::symlink(&target, &link).unwrap();
        assert_eq!(
            write(&link, &entries, 0).unwrap_err().kind(),
            io::ErrorKind::AlreadyExists
        );
        assert!(!target.exists());
        let mut bytes = Vec::new();
        archive(&mut bytes, &entries, 7).unwrap();
        let mut read = tar::Archive::new(flate2::read::GzDecoder::new(&bytes[..]));
        let names: Vec<_> = read
            .entries()
            .unwrap()
            .map(|entry| entry.unwrap().path().unwrap().display().to_string())
            .collect();
        assert_eq!(names, ["vswitch-bugreport/a.txt"]);
    }

    #[test]
    fn of_a_long_text_the_end_is_kept() {
        let entry = Entry::new("log.txt", "", &format!("first{}last", "ä".repeat(LONGEST / 2)));
        assert!(entry.text.starts_with("[the first ") && entry.text.ends_with("last"));
        assert!(entry.bytes < LONGEST + 100);
    }
}
