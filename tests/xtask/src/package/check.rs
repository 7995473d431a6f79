//! Tries the Debian package: installed, started, used, upgraded, removed, installed again and purged, on a machine of its own that lies
//! over this one's files and is gone afterwards. Then the programs alone, as cargo installs them, with `vswitchctl install-service`; and the
//! RPM ([`life_of_rpm`]).

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

use super::{VERSION, debian, epoch, life_of_rpm, printed};
use crate::shell::{headline, run};
use crate::tools;

/// What takes longer than this hangs.
const DEADLINE: Duration = Duration::from_secs(60);
/// Runs in namespaces of its own; `$1` is an empty folder, `$2` that of the packages. Only the units that a package needs are there, besides those that it brings.
const BOOT: &str = r#"
set -e
mount --make-rprivate /
mount -t tmpfs tmpfs "$1"
mkdir "$1/upper" "$1/work" "$1/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$1/upper,workdir=$1/work" "$1/root"
cd "$1/root"
mount -t proc proc proc
mount -t sysfs sysfs sys
mount --rbind /dev dev
mount -t tmpfs tmpfs run
mount -t tmpfs tmpfs tmp
mkdir packages
find "$2" -maxdepth 1 -name "*.rpm" -exec cp {} packages \;
cp "$2"/vswitch_*.deb "$2/root/usr/sbin/vswitchd" "$2/root/usr/bin/vswitchctl" packages
mount -t cgroup2 cgroup2 sys/fs/cgroup
mkdir -p run/netns run/units tmp/old
rm -rf usr/sbin/policy-rc.d etc/vswitch var/lib/vswitch
for unit in default sysinit sockets basic shutdown multi-user local-fs network-online; do
    printf '[Unit]\nDescription=%s\nDefaultDependencies=no\n' "$unit" > "run/units/$unit.target"
done
pivot_root . tmp/old
umount -l /tmp/old
export container=test SYSTEMD_UNIT_PATH=/run/units:/etc/systemd/system:/usr/lib/systemd/system
exec /lib/systemd/systemd --system --unit=default.target --log-target=console --show-status=0 </dev/null
"#;

/// Tries it, made of the tree of files that is there, and the RPM if there is one. `real`: it is one to be handed out.
pub fn check(real: bool, rpm: Option<&PathBuf>) -> Result<()> {
    tools::need_root("a machine of its own")?;
    tools::ensure(tools::FOR_PACKAGE)?;
    let epoch = epoch()?;
    if real {
        has_list(&super::stage::tree().join("usr/sbin/vswitchd"))?;
    }
    let before = debian(&format!("{VERSION}~before"), epoch, &["--fast"])?;
    let now = debian(VERSION, epoch, &[])?;
    headline("What lintian says");
    run(Command::new("lintian")
        .args(["--fail-on", "error,warning", "--suppress-tags", SUPPRESSED])
        .arg(&now))?;
    headline("Install, use, upgrade, remove and purge");
    let machine = Machine::boot()?;
    let done = life(&machine, &before, &now)
        .and_then(|()| without_package(&machine))
        .and_then(|()| rpm.map_or(Ok(()), |rpm| life_of_rpm::life(&machine, &name(rpm))));
    if done.is_err() {
        eprintln!("{}", machine.log());
    }
    done
}

/// The units that packages bring.
pub const UNITS: [&str; 2] = ["vswitchd.service", "vswitchd.socket"];

/// What lintian would have otherwise: this package is no part of Debian and closes no bug there; and long words of a synopsis can't be
/// broken into even lines.
const SUPPRESSED: &str = "initial-upload-closes-no-bugs,bogus-mail-host,groff-message";

/// Whether a program tells what it was made of, after all that was stripped.
fn has_list(program: &Path) -> Result<()> {
    let sections = printed(Command::new("readelf").args(["--sections", "--wide"]).arg(program))?;
    if !sections.contains(" .dep-v0 ") {
        bail!(
            "{} has no list of what is in it: was it built by cargo auditable?",
            program.display()
        );
    }
    Ok(())
}

/// What a package goes through.
fn life(machine: &Machine, before: &Path, now: &Path) -> Result<()> {
    let install = |package: &Path| machine.say(&["dpkg", "--install", &format!("/packages/{}", name(package))]);
    let ping = || {
        machine.say(&[
            "ip", "netns", "exec", "red", "ping", "-n", "-c", "1", "-W", "5", "10.0.0.2",
        ])
    };
    let pid = || machine.ask(&["systemctl", "show", "--value", "--property", "MainPID", "vswitchd"]);

    install(before)?;
    machine.expect(&["systemctl", "is-active", "vswitchd"], "active")?;
    machine.expect(&["systemctl", "is-enabled", "vswitchd"], "enabled")?;
    machine.expect(
        &["stat", "--format", "%G %a", "/run/vswitch/control.sock"],
        "vswitch 660",
    )?;
    for unit in UNITS {
        machine.expect(&["systemctl", "is-active", unit], "active")?;
        machine.ask(&["systemd-analyze", "verify", unit])?;
    }
    for page in [
        &["5", "vswitchd.toml"][..],
        &["5", "vswitch-lab"],
        &["8", "vswitchd"],
        &["1", "vswitchctl"],
        &["1", "vswitchctl-add-port"],
    ] {
        machine.ask(&[&["man", "--where"], page].concat())?;
    }
    let completes = "source /usr/share/bash-completion/completions/vswitchctl && complete -p vswitchctl";
    machine.ask(&["bash", "-c", completes])?;
    machine.say(&["vswitchctl", "add-port", "red", "--addr", "10.0.0.1/24"])?;
    machine.say(&["vswitchctl", "add-port", "blue", "--addr", "10.0.0.2/24"])?;
    ping()?;

    let first = pid()?;
    machine.say(&["sh", "-c", "echo '# mine' >> /etc/vswitch/vswitchd.toml"])?;
    install(now)?;
    if pid()? == first {
        bail!("the upgrade did not start the new daemon");
    }
    machine.expect(&["tail", "-n", "1", "/etc/vswitch/vswitchd.toml"], "# mine")?;
    let version = machine.ask(&["dpkg-query", "--show", "--showformat=${Version}", "vswitch"])?;
    if version != VERSION {
        bail!("version {version} is installed after the upgrade");
    }
    ping()?;
    machine.expect(&["systemctl", "is-active", "vswitchd.socket"], "active")?;
    // Whoever asks starts it again.
    machine.ask(&["systemctl", "stop", "vswitchd.service"])?;
    machine.say(&["vswitchctl", "port", "show", "red"])?;

    // What was made goes with the programs, what it was is kept.
    machine.say(&["dpkg", "--remove", "vswitch"])?;
    machine.expect(&["ip", "netns", "list"], "")?;
    machine.ask(&["test", "-e", "/var/lib/vswitch/state.json"])?;
    install(now)?;
    ping()?;

    machine.say(&["dpkg", "--purge", "vswitch"])?;
    machine.expect(&["ip", "netns", "list"], "")?;
    let left = [
        "/etc/vswitch",
        "/var/lib/vswitch",
        "/run/vswitch",
        "/usr/share/vswitch",
        "/usr/share/doc/vswitch",
    ];
    for path in left {
        machine
            .ask(&["test", "!", "-e", path])
            .with_context(|| format!("{path} is left behind"))?;
    }
    machine.expect(
        &["systemctl", "show", "--value", "--property", "LoadState", "vswitchd"],
        "not-found",
    )
}

/// The programs where cargo puts them, and the units that `install-service` makes of what they are shipped with.
fn without_package(machine: &Machine) -> Result<()> {
    headline("The same without a package");
    let service = |words: &[&str]| machine.ask(&[&["/usr/local/bin/vswitchctl", "install-service"], words].concat());
    for program in ["vswitchd", "vswitchctl"] {
        let from = format!("/packages/{program}");
        machine.say(&["install", "-D", &from, &format!("/usr/local/bin/{program}")])?;
    }
    let made = [
        "/etc/systemd/system/vswitchd.service",
        "/etc/systemd/system/vswitchd.socket",
    ];
    let would = service(&["-n"])?;
    eprintln!("{would}");
    machine.ask(&["test", "!", "-e", made[0]])?;
    for _ in 0..2 {
        eprintln!("{}", service(&[])?);
        for unit in UNITS {
            machine.expect(&["systemctl", "is-active", unit], "active")?;
            machine.expect(&["systemctl", "is-enabled", unit], "enabled")?;
        }
    }
    let exec = machine.ask(&["systemctl", "show", "--value", "--property", "ExecStart", "vswitchd"])?;
    if !exec.contains("path=/usr/local/bin/vswitchd ") {
        bail!("another daemon was started: {exec}");
    }
    machine.say(&["/usr/local/bin/vswitchctl", "add-port", "red"])?;
    machine.say(&["/usr/local/bin/vswitchctl", "reset", "--yes"])?;
    eprintln!("{}", service(&["--remove"])?);
    for file in made {
        machine
            .ask(&["test", "!", "-e", file])
            .with_context(|| format!("{file} is left behind"))?;
    }
    for unit in UNITS {
        machine.expect(
            &["systemctl", "show", "--value", "--property", "ActiveState", unit],
            "inactive",
        )?;
    }
    Ok(())
}

/// Such a machine. It ends, with all that runs on it, when this is dropped.
pub struct Machine {
    unshare: Child,
    /// The first process there, as it is seen from here.
    init: u32,
    cgroup: PathBuf,
    folder: TempDir,
}

impl Machine {
    /// Boots it, with the packages in its folder `/packages`.
    fn boot() -> Result<Self> {
        let mounts = fs::read_to_string("/proc/mounts")?;
        let cgroups = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
        let mut cgroups = cgroups.filter(|words| words.get(2) == Some(&"cgroup2"));
        let cgroups = cgroups
            .next()
            .context("no cgroup2 file system is mounted: systemd can't be run")?;
        let cgroup = Path::new(cgroups[1]).join(format!("vswitch-package-{}", std::process::id()));
        let folder = tempfile::Builder::new().prefix("vswitch-package-").tempdir()?;
        let over = folder.path().join("over");
        fs::create_dir(&over)?;
        fs::create_dir(&cgroup).with_context(|| format!("{} can't be made", cgroup.display()))?;
        let log = File::create(folder.path().join("log"))?;
        let mut command = Command::new("sh");
        // In a control group of its own before it makes a namespace of it.
        command
            .args(["-ec", "echo $$ > \"$1/cgroup.procs\"; shift; exec \"$@\"", "sh"])
            .arg(&cgroup)
            .args("unshare --fork --kill-child --pid --mount --uts --ipc --cgroup --net sh -c".split(' '))
            .args([BOOT, "sh"])
            .arg(&over)
            .arg(super::folder())
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        let unshare = command.spawn().context("no machine of its own can be made")?;
        let mut machine = Self {
            unshare,
            init: 0,
            cgroup,
            folder,
        };
        let children = format!("/proc/{0}/task/{0}/children", machine.unshare.id());
        machine.init = machine.wait("its first process", || {
            let children = fs::read_to_string(&children).ok()?;
            children.split_whitespace().next()?.parse().ok()
        })?;
        machine.wait("systemd", || machine.ask(&["systemctl", "list-units"]).ok())?;
        Ok(machine)
    }

    fn wait<T>(&self, what: &str, mut found: impl FnMut() -> Option<T>) -> Result<T> {
        let end = Instant::now() + DEADLINE;
        loop {
            if let Some(found) = found() {
                return Ok(found);
            }
            if Instant::now() > end {
                bail!("{what} does not come up\n{}", self.log());
            }
            sleep(Duration::from_millis(50));
        }
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.init.to_string()]);
        command
            .args(["--mount", "--pid", "--net", "--cgroup", "--uts", "--ipc", "--"])
            .args(words);
        command
            .env("DEBIAN_FRONTEND", "noninteractive")
            .env("LC_ALL", "C")
            .stdin(Stdio::null());
        command
    }

    /// What a command there prints; it succeeds.
    pub fn ask(&self, words: &[&str]) -> Result<String> {
        Ok(printed(&mut self.command(words))?.trim().to_owned())
    }

    /// The same, told.
    pub fn say(&self, words: &[&str]) -> Result<()> {
        eprintln!("$ {}", words.join(" "));
        self.ask(words).map(drop)
    }

    /// The same; it prints what is wanted.
    pub fn expect(&self, words: &[&str], wanted: &str) -> Result<()> {
        let said = self.ask(words)?;
        if said != wanted {
            bail!("`{}` says {said:?} and not {wanted:?}", words.join(" "));
        }
        Ok(())
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = self.unshare.kill();
        let _ = self.unshare.wait();
        // With their first process the others go; the groups are busy until then.
        let cgroup = self.cgroup.clone();
        let _ = self.wait("the end", || remove_groups(&cgroup).ok());
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

fn name(file: &Path) -> String {
    file.file_name().unwrap_or_default().to_string_lossy().into_owned()
}
