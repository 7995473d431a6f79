//! A machine of its own that systemd has booted, with the daemon's unit as the package has it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use crate::ctl::Reply;
use crate::daemon::{command, program};
use crate::require::missing;
use crate::wait::wait_for;

const SYSTEMD: &str = "/lib/systemd/systemd";
/// Runs in namespaces of its own; `$1` is the folder with the units.
const BOOT: &str = "
set -e
mount --make-rprivate /
mount -t tmpfs tmpfs /run
mkdir -p /run/netns
umount -R /sys/fs/cgroup
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t tmpfs tmpfs /var/lib
export container=test SYSTEMD_UNIT_PATH=$1
exec /lib/systemd/systemd --system --unit=default.target --log-target=console --show-status=0 </dev/null
";
/// Those that a unit refers to by default.
const TARGETS: [&str; 7] = [
    "sysinit",
    "sockets",
    "basic",
    "shutdown",
    "multi-user",
    "local-fs",
    "network-online",
];

/// Such a machine. It ends, with all that runs on it, when this is dropped.
pub struct Machine {
    unshare: Child,
    cgroup: PathBuf,
    /// The first process there, as it is seen from here.
    init: u32,
    folder: tempfile::TempDir,
}

impl Machine {
    /// Boots it. `settings` go into the section `[Service]` of the unit besides what is there, `config` into the daemon's
    /// configuration. None: there is no systemd here, or no place for its control groups.
    pub fn boot(settings: &str, config: &str) -> Option<Self> {
        let mounts = fs::read_to_string("/proc/mounts").unwrap();
        let cgroups = mounts.lines().find(|line| line.split(' ').nth(2) == Some("cgroup2"));
        let (Some(cgroups), true) = (cgroups, Path::new(SYSTEMD).exists()) else {
            missing("systemd", format!("it needs {SYSTEMD} and a cgroup2 file system"));
            return None;
        };
        let folder = tempfile::tempdir().unwrap();
        let cgroup = Path::new(cgroups.split(' ').nth(1).unwrap()).join(format!("vswitch-test-{}", std::process::id()));
        fs::create_dir(&cgroup).unwrap();
        for target in TARGETS {
            let text = format!("[Unit]\nDescription={target}\nDefaultDependencies=no\n");
            fs::write(folder.path().join(format!("{target}.target")), text).unwrap();
        }
        let wanted = "[Unit]\nDescription=The test\nDefaultDependencies=no\n";
        fs::write(folder.path().join("default.target"), wanted).unwrap();
        for unit in ["vswitchd.service", "vswitchd.socket"] {
            let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../configs").join(unit);
            fs::copy(shipped, folder.path().join(unit)).unwrap();
        }
        let (log, file) = (folder.path().join("log"), folder.path().join("vswitchd.toml"));
        let (log, daemon) = (log.display(), program("vswitchd"));
        let exec = format!("{} --config {}", daemon.display(), file.display());
        fs::write(&file, config).unwrap();
        fs::create_dir(folder.path().join("vswitchd.service.d")).unwrap();
        fs::write(
            folder.path().join("vswitchd.service.d/test.conf"),
            format!(
                "[Service]\nExecStart=\nExecStart={exec}\nStandardOutput=append:{log}\nStandardError=append:{log}\n{settings}\n"
            ),
        )
        .unwrap();
        let mut command = Command::new("sh");
        // In its own control group before it makes a namespace of it.
        command
            .args(["-c", "echo $$ > \"$1/cgroup.procs\"; shift; exec \"$@\"", "sh"])
            .arg(&cgroup)
            .args("unshare --fork --kill-child --pid --mount --mount-proc --uts --ipc --cgroup --net sh -c".split(' '))
            .args([BOOT, "sh"])
            .arg(folder.path())
            .stdin(Stdio::null())
            .stdout(fs::File::create(folder.path().join("console")).unwrap())
            .stderr(fs::File::create(folder.path().join("errors")).unwrap());
        let unshare = command.spawn().unwrap();
        let children = format!("/proc/{0}/task/{0}/children", unshare.id());
        let init = wait_for("the first process", || {
            let children = fs::read_to_string(&children).ok()?;
            children.split_whitespace().next()?.parse().ok()
        });
        let machine = Self {
            unshare,
            cgroup,
            init,
            folder,
        };
        wait_for("systemd to take commands", || {
            machine.run("systemctl list-units").status.success()
        });
        Some(machine)
    }

    /// Runs a command line there.
    pub fn run(&self, line: &str) -> Output {
        let mut command = command("nsenter");
        command
            .args([
                "--target",
                &self.init.to_string(),
                "--mount",
                "--pid",
                "--net",
                "--cgroup",
                "--",
            ])
            .args(line.split_whitespace());
        command.stdin(Stdio::null()).output().unwrap()
    }

    /// The same; it succeeds.
    #[track_caller]
    pub fn ok(&self, line: &str) -> String {
        let output = self.run(line);
        assert!(output.status.success(), "`{line}`: {output:?}\n{}", self.log());
        String::from_utf8(output.stdout).unwrap()
    }

    /// Calls the control tool there.
    pub fn ctl(&self, line: &str) -> Reply {
        let output = self.run(&format!("{} {line}", program("vswitchctl").display()));
        Reply::new(line, output)
    }

    /// A property of the service.
    pub fn property(&self, name: &str) -> String {
        let line = self.ok(&format!("systemctl show --value --property {name} vswitchd.service"));
        line.trim().to_owned()
    }

    /// What the daemon wrote.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// Writes the daemon's configuration anew.
    pub fn configure(&self, config: &str) {
        fs::write(self.folder.path().join("vswitchd.toml"), config).unwrap();
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- the daemon said:\n{}---", self.log());
        }
        let _ = self.unshare.kill();
        let _ = self.unshare.wait();
        // With their first process the others go; the groups are busy until then.
        wait_for("all processes to end", || remove_groups(&self.cgroup).is_ok());
    }
}

/// Removes a control group with all that are in it.
fn remove_groups(group: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(group)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_groups(&entry.path())?;
        }
    }
    fs::remove_dir(group)
}
