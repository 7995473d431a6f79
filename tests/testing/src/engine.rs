//! Docker and Podman on the private machine of a test: their daemons, and an image that has busybox and nothing else.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::lab::Lab;
use crate::require;
use crate::wait::wait_for;

/// For control groups the machine's own /sys is wanted, which the lab has covered.
const UNCOVERED: &str = "umount /sys && exec \"$@\"";
/// What Podman has to know to run where no systemd does, and where crun may not.
const PODMAN: &str = r#"
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime = "runc"
[engine.runtimes]
runc = ["/usr/sbin/runc"]
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]
"#;

/// An engine with the image `box`. It and all its containers end with the value.
pub struct ContainerEngine {
    name: &'static str,
    client: Vec<&'static str>,
    daemon: Child,
}

impl ContainerEngine {
    /// dockerd; none if it is not installed, or can't run here.
    pub fn docker(lab: &Lab) -> Option<Self> {
        let daemon = [
            "dockerd",
            "--host",
            "unix:///run/docker.sock",
            "--bridge=none",
            "--iptables=false",
        ];
        let client = vec!["docker", "--host", "unix:///run/docker.sock"];
        Self::start(lab, "docker", &daemon, client)
    }

    /// `podman system service`.
    pub fn podman(lab: &Lab) -> Option<Self> {
        fs::create_dir_all("/run/podman").unwrap();
        let daemon = [
            "podman",
            "system",
            "service",
            "--time=0",
            "unix:///run/podman/podman.sock",
        ];
        let client = vec!["podman", "--url", "unix:///run/podman/podman.sock"];
        Self::start(lab, "podman", &daemon, client)
    }

    fn start(lab: &Lab, name: &'static str, daemon: &[&str], client: Vec<&'static str>) -> Option<Self> {
        let installed = |program: &str| {
            let asked = Command::new(program).arg("--version").stdin(Stdio::null()).output();
            asked.is_ok_and(|asked| asked.status.success())
        };
        let busybox = Path::new("/bin/busybox");
        for (program, there) in [(daemon[0], installed(daemon[0])), ("busybox-static", busybox.exists())] {
            if !there {
                require::missing(program, "it is not installed");
                return None;
            }
        }
        let config = lab.scratch().join("containers.conf");
        fs::write(&config, PODMAN).unwrap();
        let log = lab.scratch().join(format!("{name}.log"));
        let mut command = Command::new("unshare");
        command.args(["-m", "sh", "-c", UNCOVERED, "sh"]).args(daemon);
        command.env("CONTAINERS_CONF", &config).stdin(Stdio::null());
        command
            .stdout(fs::File::create(&log).unwrap())
            .stderr(fs::File::create(&log).unwrap());
        let mut engine = Self {
            name,
            client,
            daemon: command.spawn().unwrap(),
        };
        let mut ended = None;
        wait_for("the engine to answer", || {
            ended = engine.daemon.try_wait().unwrap();
            ended.is_some() || engine.call("version").status.success()
        });
        if let Some(status) = ended {
            let log = fs::read_to_string(&log).unwrap_or_default();
            require::missing(name, format!("{status}: {}", log.lines().last().unwrap_or_default()));
            return None;
        }
        engine.make_image(lab);
        Some(engine)
    }

    fn make_image(&self, lab: &Lab) {
        let root = lab.scratch().join("box");
        fs::create_dir_all(root.join("bin")).unwrap();
        fs::copy("/bin/busybox", root.join("bin/busybox")).unwrap();
        let tar = lab.scratch().join("box.tar");
        let made = Command::new("tar")
            .arg("-C")
            .arg(&root)
            .arg("-cf")
            .arg(&tar)
            .arg(".")
            .status();
        assert!(made.unwrap().success());
        self.ok(&format!("import {} box", tar.display()));
    }

    /// `docker` or `podman`.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Starts a container, which sleeps.
    pub fn run(&self, name: &str, network: &str) {
        self.ok(&format!(
            "run -d --name {name} --network {network} box /bin/busybox sleep 10000"
        ));
    }

    /// Removes a container at once.
    #[track_caller]
    pub fn remove(&self, container: &str) {
        self.ok(&self.removal(container));
    }

    /// Podman waits for ten seconds if it is not told otherwise, Docker does not, and can't be told.
    fn removal(&self, container: &str) -> String {
        match self.name {
            "podman" => format!("rm -f -t 0 {container}"),
            _ => format!("rm -f {container}"),
        }
    }

    /// Its process id.
    pub fn pid(&self, container: &str) -> u32 {
        let said = self.ok(&format!("inspect --format {{{{.State.Pid}}}} {container}"));
        said.trim().parse().unwrap()
    }

    /// Runs a command in a container.
    #[track_caller]
    pub fn exec(&self, container: &str, line: &str) -> String {
        self.ok(&format!("exec {container} /bin/busybox {line}"))
    }

    fn call(&self, line: &str) -> Output {
        let mut command = Command::new(self.client[0]);
        command.args(&self.client[1..]).args(line.split_whitespace());
        command.stdin(Stdio::null()).output().unwrap()
    }

    /// A command of the engine, which must succeed.
    #[track_caller]
    pub fn ok(&self, line: &str) -> String {
        let output = self.call(line);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert!(
            output.status.success(),
            "{} {line}: {}",
            self.name,
            text(&output.stderr)
        );
        text(&output.stdout)
    }
}

impl Drop for ContainerEngine {
    fn drop(&mut self) {
        let all = self.call("ps -aq");
        for id in String::from_utf8_lossy(&all.stdout).split_whitespace() {
            self.call(&self.removal(id));
        }
        let _ = kill(Pid::from_raw(self.daemon.id().cast_signed()), Signal::SIGTERM);
        let _ = self.daemon.wait();
    }
}
