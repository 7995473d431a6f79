//! What a start needs of the machine and can be told before anything is touched: both the start and `--check-config` ask here,
//! so that the one never says OK to what the other refuses.

use std::path::Path;

use crate::config::Config;
use vswitch_datapath as datapath;

use crate::{logging, server};

/// Holds the configuration against this machine.
///
/// # Errors
/// The key, and why a core, a group, a path or a log can't be had.
pub fn check(config: &Config) -> Result<(), (&'static str, String)> {
    let daemon = &config.daemon;
    datapath::check_cpus(&config.datapath.cpus).map_err(|error| ("cpus", error.to_string()))?;
    config.datapath.engine.check().map_err(|cause| ("engine", cause))?;
    server::find_group(&daemon.socket_group).map_err(|cause| ("socket_group", cause))?;
    server::find_group(&daemon.read_group).map_err(|cause| ("read_group", cause))?;
    server::check_path(&daemon.socket()).map_err(|cause| ("socket", cause))?;
    let socket = daemon.socket();
    let directories = [
        ("run_dir", daemon.run_dir.as_path()),
        ("state_dir", &daemon.state_dir),
        ("netns_dir", &daemon.netns_dir),
        ("socket", socket.parent().unwrap_or(Path::new("/"))),
    ];
    for (key, path) in directories {
        can_be_directory(path).map_err(|cause| (key, cause))?;
    }
    logging::check(&config.log).map_err(|error| ("format", error.to_string()))
}

/// Nothing but directories is on the way.
fn can_be_directory(path: &Path) -> Result<(), String> {
    let in_the_way = path.ancestors().find(|part| part.exists() && !part.is_dir());
    match in_the_way {
        Some(part) => Err(format!(
            "{} is no directory; choose another place than {}",
            part.display(),
            path.display()
        )),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(change: impl FnOnce(&mut Config)) -> Result<(), String> {
        let mut config = Config::default();
        let dir = tempfile::tempdir().unwrap();
        config.daemon.run_dir = dir.path().join("run");
        config.daemon.state_dir = dir.path().join("state");
        std::fs::write(dir.path().join("file"), "").unwrap();
        change(&mut config);
        check(&config).map_err(|(key, cause)| format!("{key}: {cause}"))
    }

    /// What would stop the start is told by `--check-config` (faults C).
    #[test]
    fn what_would_stop_the_start_is_told() {
        assert_eq!(checked(|_| {}), Ok(()));
        type Change = fn(&mut Config);
        let wrong: [(Change, &[&str]); 9] = [
            (
                |c| c.daemon.read_group = "no-such-group".into(),
                &["read_group: ", "groupadd"],
            ),
            (|c| c.datapath.cpus = vec![0, 99_999], &["cpus: ", "99999"]),
            (
                |c| c.daemon.socket_group = "no-such-group".into(),
                &["socket_group: ", "groupadd"],
            ),
            (|c| c.daemon.socket_group = "+5".into(), &["socket_group: ", "+5"]),
            (
                |c| c.daemon.socket = Some(format!("/{}", "x".repeat(104)).into()),
                &["socket: ", "at most 103"],
            ),
            (
                |c| c.daemon.socket = Some(c.daemon.run_dir.with_file_name("file").join("control.sock")),
                &["socket: ", "no directory"],
            ),
            (
                |c| c.daemon.run_dir = c.daemon.run_dir.with_file_name("file"),
                &["no directory"],
            ),
            (
                |c| c.daemon.state_dir = c.daemon.state_dir.with_file_name("file").join("below"),
                &["state_dir: ", "no directory"],
            ),
            (
                |c| c.daemon.netns_dir = c.daemon.run_dir.with_file_name("file"),
                &["netns_dir: ", "no directory"],
            ),
        ];
        for (n, (change, parts)) in wrong.into_iter().enumerate() {
            let error = checked(change).expect_err(&format!("case {n}"));
            assert!(parts.iter().all(|part| error.contains(part)), "case {n}: {error}");
        }
    }
}
