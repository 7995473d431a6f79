//! `install-service`: the units that are shipped, with the path of this installation's daemon, for those who have no package. All of it
//! is done, or what was there before is there again.

use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use vswitch_api::view::Changes;
use vswitch_api::{ApiError, ErrorCode};

use super::Session;
use crate::cli::service::InstallServiceArgs;
use crate::failure::Failure;

const SERVICE: &str = "vswitchd.service";
const SOCKET: &str = "vswitchd.socket";
/// The units as they are shipped.
const UNITS: [(&str, &str); 2] = [
    (SERVICE, include_str!("../../../configs/vswitchd.service")),
    (SOCKET, include_str!("../../../configs/vswitchd.socket")),
];
/// Where the unit as it is shipped looks for the daemon.
const SHIPPED: &str = "ExecStart=/usr/sbin/vswitchd\n";
/// First line of what is ours, and may be written anew and removed.
const MARK: &str = "# Made by vswitchctl install-service.\n";
/// Where packages have their units.
const OF_PACKAGES: [&str; 2] = ["/usr/lib/systemd/system", "/lib/systemd/system"];
const OF_ADMINISTRATOR: &str = "/etc/systemd/system";
/// What is told of units if nothing came of a change.
const AS_BEFORE: &str = "the units are as they were before";
/// It is there if systemd is the first process (sd_booted(3)).
const BOOTED: &str = "/run/systemd/system";

impl Session {
    pub(super) fn install_service(&self, args: &InstallServiceArgs) -> Result<(), Failure> {
        let wanted = match args.remove {
            true => UNITS.map(|(name, _)| (name, None)),
            false => {
                let program = program(args.daemon.as_deref())?;
                UNITS.map(|(name, text)| (name, Some(unit(text, &program))))
            }
        };
        let mut changes = Changes {
            dry_run: args.dry_run,
            ..Changes::default()
        };
        let mut units = Vec::new();
        for (name, wanted) in wanted {
            let path = args.units.join(name);
            let there = read(&path)?;
            if there != wanted {
                changes.done.push(match wanted {
                    Some(_) => format!("made {}", path.display()),
                    None => format!("removed {}", path.display()),
                });
            }
            units.push(Unit { path, there, wanted });
        }
        if !args.remove && args.units == Path::new(OF_ADMINISTRATOR) {
            no_package()?;
        }
        let managed = Path::new(BOOTED).exists();
        match (managed, args.remove) {
            (true, true) if !changes.done.is_empty() => changes.done.insert(0, "stopped vswitchd".to_owned()),
            (true, false) => changes.done.push("started vswitchd, now and at each boot".to_owned()),
            (false, _) => changes.warnings.push(format!(
                "systemd does not run here: nothing is started or stopped, and it finds the units in {} when it does",
                args.units.display()
            )),
            (true, true) => {}
        }
        if !args.dry_run && !changes.done.is_empty() {
            carry_out(&units, managed, args.remove)?;
        }
        self.out.changes(&changes, args.dry_run)
    }
}

/// A file of a unit.
struct Unit {
    path: PathBuf,
    there: Option<String>,
    wanted: Option<String>,
}

fn carry_out(units: &[Unit], managed: bool, remove: bool) -> Result<(), Failure> {
    if managed && remove {
        systemctl(&["disable", "--now", "--quiet", SOCKET, SERVICE]).map_err(|failure| and(failure, AS_BEFORE))?;
    }
    let done = write_all(units).and_then(|()| match managed {
        true => {
            systemctl(&["daemon-reload"])?;
            match remove {
                true => Ok(()),
                false => {
                    systemctl(&["enable", "--quiet", SOCKET, SERVICE]).and_then(|()| systemctl(&["restart", SERVICE]))
                }
            }
        }
        false => Ok(()),
    });
    // The error that is told is the first one, with what became of all that was done before.
    done.map_err(|failure| and(failure, &put_back(units, managed, remove)))
}

/// Makes everything as it was before, and says how far that went.
fn put_back(units: &[Unit], managed: bool, remove: bool) -> String {
    // What was not there is not known to systemd any more either.
    if managed && !remove && units.iter().any(|unit| unit.there.is_none()) {
        let _ = systemctl(&["disable", "--now", "--quiet", SOCKET, SERVICE]);
    }
    let failed = units.iter().filter_map(|unit| {
        let error = put(&unit.path, unit.there.as_deref()).err()?;
        Some(format!(
            "{} can't be made as it was before: {error}",
            unit.path.display()
        ))
    });
    let failed: Vec<_> = failed.collect();
    if managed {
        let _ = systemctl(&["daemon-reload"]);
    }
    match failed.is_empty() {
        true if managed && remove => {
            format!("{AS_BEFORE}, but vswitchd is stopped: `systemctl enable --now {SOCKET} {SERVICE}` starts it")
        }
        true => AS_BEFORE.to_owned(),
        false => failed.join("; "),
    }
}

/// The failure with something more to say.
fn and(failure: Failure, more: &str) -> Failure {
    match failure {
        Failure::Error { error, exit } => {
            let hint = error
                .hint
                .as_ref()
                .map_or_else(|| more.to_owned(), |hint| format!("{hint}; {more}"));
            Failure::Error {
                error: error.hint(hint),
                exit,
            }
        }
        other => other,
    }
}

fn write_all(units: &[Unit]) -> Result<(), Failure> {
    for Unit { path, there, wanted } in units {
        if there != wanted {
            put(path, wanted.as_deref()).map_err(|error| {
                let (code, hint) = match error.kind() {
                    ErrorKind::PermissionDenied => (ErrorCode::NotPermitted, "run it as root"),
                    ErrorKind::NotFound | ErrorKind::NotADirectory => {
                        (ErrorCode::NotFound, "make its folder, or name another with --units")
                    }
                    _ => (ErrorCode::Internal, "see that its folder can be written and has room"),
                };
                let error = ApiError::new(
                    code,
                    path.display().to_string(),
                    format!("it can't be changed: {error}"),
                );
                error.hint(hint)
            })?;
        }
    }
    Ok(())
}

/// Makes the file be this, whole, or not be there.
fn put(path: &Path, text: Option<&str>) -> io::Result<()> {
    let Some(text) = text else {
        return match fs::remove_file(path) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        };
    };
    let beside = path.with_extension("new");
    let _ = fs::remove_file(&beside);
    let mut options = OpenOptions::new();
    let mut write = || {
        let mut file = options.write(true).create_new(true).mode(0o644).open(&beside)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&beside, path)
    };
    write().inspect_err(|_| {
        let _ = fs::remove_file(&beside);
    })
}

/// A unit of ours that is there. One of somebody else is not touched.
fn read(path: &Path) -> Result<Option<String>, Failure> {
    match fs::read_to_string(path) {
        Ok(text) if text.starts_with(MARK) => Ok(Some(text)),
        Ok(_) => {
            let cause = "it is there, and was not made by this command";
            let error = ApiError::new(ErrorCode::Conflict, path.display().to_string(), cause);
            Err(error
                .hint("remove it, or change what it says by hand; nothing was changed")
                .into())
        }
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Failure::system(path.display().to_string(), &error)),
    }
}

/// Units of a package would be hidden by ours.
fn no_package() -> Result<(), Failure> {
    let of_package = OF_PACKAGES.map(|folder| Path::new(folder).join(SERVICE));
    match of_package.iter().find(|path| path.exists()) {
        None => Ok(()),
        Some(path) => {
            let cause = "a package has brought it";
            let error = ApiError::new(ErrorCode::Conflict, path.display().to_string(), cause);
            Err(error
                .hint("`systemctl enable --now vswitchd` starts that; nothing was changed")
                .into())
        }
    }
}

/// The text of a unit, with this daemon.
fn unit(text: &str, program: &str) -> String {
    format!("{MARK}{}", text.replace(SHIPPED, &format!("ExecStart={program}\n")))
}

/// The daemon's program, by a path that can stand in a unit, and that nobody but root can put another program at.
fn program(named: Option<&Path>) -> Result<String, Failure> {
    let beside = || Some(std::env::current_exe().ok()?.parent()?.join("vswitchd"));
    let path = named
        .map(Path::to_owned)
        .or_else(beside)
        .unwrap_or_else(|| "vswitchd".into());
    let object = format!("program {}", path.display());
    let real = fs::canonicalize(&path).and_then(|real| Ok((fs::metadata(&real)?, real)));
    let (file, real) = real.map_err(|error| {
        let error = ApiError::new(ErrorCode::NotFound, object.clone(), format!("it can't be had: {error}"));
        error.hint("install the daemon beside vswitchctl, or name it with --daemon")
    })?;
    if !file.is_file() || file.mode() & 0o111 == 0 {
        let error = ApiError::new(ErrorCode::Invalid, object, "it can't be run");
        return Err(error.hint("name the daemon with --daemon").into());
    }
    if let Some(other) = others(&real) {
        let cause = format!(
            "others than root can change {}, and so would be root when the service starts",
            other.display()
        );
        let error = ApiError::new(ErrorCode::NotPermitted, object, cause);
        return Err(error.hint("install it with: cargo install --root /usr/local").into());
    }
    let plain = |char: char| char.is_ascii_alphanumeric() || "/._-+@".contains(char);
    match real.to_str().filter(|path| path.chars().all(plain)) {
        Some(path) => Ok(path.to_owned()),
        None => {
            let cause = "its path has characters that mean something in a unit";
            let error = ApiError::new(ErrorCode::Invalid, object, cause);
            Err(error
                .hint("install it at another path, such as /usr/local/bin/vswitchd")
                .into())
        }
    }
}

/// The first of a file and the folders above it that others than root may change.
fn others(file: &Path) -> Option<&Path> {
    /// In such a folder nobody renames what is another's (`S_ISVTX`).
    const STICKY: u32 = 0o1000;
    file.ancestors().find(|path| {
        let Ok(meta) = fs::metadata(path) else { return true };
        let writable = meta.mode() & 0o002 != 0 || (meta.mode() & 0o020 != 0 && meta.gid() != 0);
        meta.uid() != 0 || (writable && !(meta.is_dir() && meta.mode() & STICKY != 0))
    })
}

fn systemctl(words: &[&str]) -> Result<(), Failure> {
    let line = format!("systemctl {}", words.join(" "));
    let output = Command::new("systemctl").args(words).stdin(Stdio::null()).output();
    let output = output.map_err(|error| Failure::system(format!("`{line}`"), &error))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let said = said.lines().next().unwrap_or_default().trim();
    let cause = if said.is_empty() {
        "it failed".to_owned()
    } else {
        said.to_owned()
    };
    let error = ApiError::new(ErrorCode::Internal, format!("`{line}`"), cause);
    Err(error.hint("journalctl -u vswitchd tells more").into())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn the_units_start_the_daemon_where_it_is() {
        let text = unit(UNITS[0].1, "/usr/local/bin/vswitchd");
        assert!(text.starts_with(MARK));
        let starts: Vec<_> = text.lines().filter(|line| line.starts_with("ExecStart=")).collect();
        assert_eq!(starts, ["ExecStart=/usr/local/bin/vswitchd"]);
        assert!(
            UNITS[1]
                .1
                .contains(&format!("ListenStream={}\n", vswitch_api::DEFAULT_SOCKET))
        );
    }

    #[test]
    fn a_unit_of_somebody_else_is_not_taken_for_ours() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(SERVICE);
        assert!(read(&path).unwrap().is_none());
        fs::write(&path, "[Unit]\n").unwrap();
        assert!(read(&path).is_err());
        put(&path, Some(&unit(UNITS[1].1, ""))).unwrap();
        assert!(read(&path).unwrap().unwrap().contains("[Socket]"));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o644);
        put(&path, None).unwrap();
        put(&path, None).unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_failure_half_way_leaves_what_was_there() {
        let dir = tempfile::tempdir().unwrap();
        let first = dir.path().join(SERVICE);
        fs::write(&first, "before").unwrap();
        let units = [
            Unit {
                path: first.clone(),
                there: Some("before".into()),
                wanted: Some("after".into()),
            },
            Unit {
                path: dir.path().join("none").join(SOCKET),
                there: None,
                wanted: Some("new".into()),
            },
        ];
        let hint = |failure| match failure {
            Failure::Error { error, .. } => error.hint.unwrap_or_default(),
            other => panic!("{other:?}"),
        };
        let told = hint(carry_out(&units, false, false).unwrap_err());
        assert!(told.contains(AS_BEFORE) && told.contains("make its folder"), "{told}");
        assert_eq!(fs::read_to_string(&first).unwrap(), "before");
        // A folder in the place of the first one: what was there can't be put back, and nobody says that it was.
        fs::remove_file(&first).unwrap();
        fs::create_dir(&first).unwrap();
        let told = hint(carry_out(&units, false, false).unwrap_err());
        assert!(
            !told.contains(AS_BEFORE) && told.contains(&*first.to_string_lossy()),
            "{told}"
        );
    }

    #[test]
    fn a_program_that_others_can_change_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("vswitchd");
        fs::write(&path, "").unwrap();
        assert!(program(Some(&path)).is_err(), "it can't be run");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).unwrap();
        assert!(program(Some(&path)).is_err());
        assert!(program(Some(&dir.path().join("none"))).is_err());
    }
}
