//! The private machine of one test.

use std::cell::RefCell;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Weak};
use std::{fs, thread};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, CpuSet, sched_setaffinity, unshare};
use nix::sys::signal::Signal;
use nix::unistd::{Pid, Uid};
use serde::de::DeserializeOwned;
use vswitch_api::view::{FdbEntry, PortCounters, PortState, PortView, Status, SwitchView};

use crate::ctl::Reply;
use crate::daemon::{Daemon, command, program};
use crate::netns::run;
use crate::wait::wait_for;

/// Whether the daemons of the labs run with the kernel fast path, which is so unless the environment has
/// `VSWITCH_TEST_FASTPATH=off`: what the tests promise holds with it and without.
pub fn fastpath_wanted() -> bool {
    std::env::var_os("VSWITCH_TEST_FASTPATH").is_none_or(|value| value != "off")
}

/// Which engine the daemons of the labs have, by `VSWITCH_TEST_ENGINE`: `io_uring` or `epoll`; none: what they choose. What the tests
/// promise holds with either.
fn engine_wanted() -> Option<String> {
    std::env::var("VSWITCH_TEST_ENGINE").ok()
}

thread_local! {
    /// What the lab of this thread holds as long as it is there.
    static HELD: RefCell<Weak<()>> = const { RefCell::new(Weak::new()) };
}

/// A network and mount namespace with the daemon in it. It holds for the thread that made it, the threads
/// and processes started from there, and ends with them. A thread has one at a time: a second one wants a thread of its own.
///
/// Of a test that is killed (`kill -9`) the daemon ends too, and what the daemon looks after: commands, DHCP clients and servers.
pub struct Lab {
    /// See [`HELD`].
    _held: Arc<()>,
    daemon: Option<Daemon>,
    tidier: Tidier,
    options: Vec<String>,
    /// Lines of the configuration's [datapath].
    datapath: Vec<String>,
    /// What else is in the configuration.
    config: String,
    ctl: PathBuf,
    scratch: tempfile::TempDir,
}

impl Lab {
    /// A private machine on which the daemon serves.
    #[track_caller]
    pub fn new() -> Self {
        Self::with_options(&[])
    }

    /// The same with options of `vswitchd`.
    #[track_caller]
    pub fn with_options(options: &[&str]) -> Self {
        let mut lab = Self::without_daemon();
        lab.options.extend(options.iter().map(|&option| option.to_owned()));
        lab.start();
        lab
    }

    /// The same with one worker, and both it and this thread on the first processor: veth queues what it is given on
    /// the processor of the sender, so only then do frames of different flows and ports keep their order.
    #[track_caller]
    pub fn with_one_worker() -> Self {
        let mut lab = Self::one_processor();
        lab.datapath.push("workers = 1".into());
        lab.start();
        lab
    }

    /// A private machine with a copy of /etc of its own, on which the daemon serves.
    #[track_caller]
    pub fn with_own_etc() -> Self {
        let mut lab = Self::without_daemon();
        let copy = lab.scratch().join("etc");
        let copied = Command::new("cp").args(["-a", "/etc"]).arg(&copy).status().unwrap();
        assert!(copied.success(), "/etc can't be copied");
        let _ = fs::remove_dir_all(copy.join("netns"));
        bind_file(&copy, "/etc");
        lab.start();
        lab
    }

    /// A private machine on which the daemon was not started yet. This thread, and what it starts, is on the first
    /// processor.
    #[track_caller]
    pub fn one_processor() -> Self {
        let mut first = CpuSet::new();
        first.set(0).unwrap();
        sched_setaffinity(Pid::from_raw(0), &first).unwrap();
        Self::without_daemon()
    }

    /// Turns a setting of the configuration's `[datapath]` on or off, for the daemon's next start.
    pub fn set_datapath(&mut self, key: &str, on: bool) {
        self.datapath.retain(|line| !line.starts_with(key));
        self.datapath.push(format!("{key} = {on}"));
    }

    /// Adds tables to the configuration, for the daemon's next start.
    pub fn add_config(&mut self, text: &str) {
        self.config += text;
    }

    /// A private machine on which the daemon was not started yet.
    #[track_caller]
    pub fn without_daemon() -> Self {
        assert!(
            Uid::effective().is_root(),
            "these tests make network namespaces: run them as root, or in a user namespace (unshare --map-root-user --net --mount)"
        );
        let held = HELD.with_borrow_mut(|held| {
            assert!(
                held.strong_count() == 0,
                "this thread has a lab already, whose namespaces a second one would take it out of: drop the first, or make \
                 the second in a thread of its own"
            );
            let new = Arc::new(());
            *held = Arc::downgrade(&new);
            new
        });
        // Before the mounts change, since these may be looked up below /var or /run.
        let scratch = tempfile::tempdir().unwrap();
        let ctl = program("vswitchctl");
        unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET).unwrap();
        mount_private();
        // What this machine has there is hidden below, but would still be listed among the mounts.
        let _ = umount2("/run/netns", MntFlags::MNT_DETACH);
        // The paths are the real ones, what lies there is ours alone.
        mount_over("/run", "tmpfs");
        mount_over("/var/lib", "tmpfs");
        mount_over("/sys", "sysfs");
        // Made by others too, if it is not there. The root of a user namespace can't, and has no need of what it can't write to.
        match fs::create_dir_all("/etc/netns") {
            Ok(()) => mount_over("/etc/netns", "tmpfs"),
            Err(error) => assert!(in_user_namespace(), "/etc/netns: {error}"),
        }
        if Path::new("/etc/vswitch").exists() {
            mount_over("/etc/vswitch", "tmpfs");
        }
        run("ip link set lo up");
        let fastpath = (!fastpath_wanted()).then(|| "fastpath = false".to_owned());
        let engine = engine_wanted().map(|engine| format!("engine = {engine:?}"));
        Self {
            _held: held,
            daemon: None,
            tidier: Tidier::new(),
            options: Vec::new(),
            datapath: fastpath.into_iter().chain(engine).collect(),
            config: String::new(),
            ctl,
            scratch,
        }
    }

    /// A folder for files of this test.
    pub fn scratch(&self) -> &Path {
        self.scratch.path()
    }

    /// The daemon as it would be started next.
    #[track_caller]
    pub fn daemon_command(&self) -> Command {
        let mut command = command(program("vswitchd"));
        command.args(["--log-level", "debug"]).args(&self.options);
        if !self.datapath.is_empty() || !self.config.is_empty() {
            let config = self.scratch().join("vswitchd.toml");
            let text = format!("[datapath]\n{}\n{}\n", self.datapath.join("\n"), self.config);
            fs::write(&config, text).unwrap();
            command.arg("--config").arg(config);
        }
        command
    }

    /// Starts the daemon and waits until it serves.
    #[track_caller]
    pub fn start(&mut self) {
        self.start_with(self.daemon_command(), |_| {});
    }

    /// Starts the daemon by a command of the caller's and waits until it serves. `spawned` is called once it runs.
    #[track_caller]
    pub fn start_with(&mut self, command: Command, spawned: impl FnOnce(&Daemon)) {
        assert!(self.daemon.is_none(), "the daemon runs already");
        let daemon = self.daemon.insert(Daemon::spawn(command));
        spawned(daemon);
        let ctl = self.ctl.clone();
        wait_for("the daemon to serve", || {
            if let Some(status) = daemon.ended() {
                panic!("the daemon ended at start: {status}\n{}", daemon.log());
            }
            // It answers from the first moment on; all ports are there when nothing is under way any more.
            let status = call(&ctl, "--json status");
            status.code == 0 && status.json::<Status>().progress.is_none()
        });
    }

    /// The running daemon.
    #[track_caller]
    pub fn daemon(&mut self) -> &mut Daemon {
        self.daemon.as_mut().expect("the daemon runs")
    }

    /// kill -9, without a chance to tidy up.
    #[track_caller]
    pub fn kill_daemon(&mut self) {
        let mut daemon = self.daemon.take().expect("the daemon runs");
        daemon.kill().unwrap();
    }

    /// SIGTERM; the daemon must end with success. Gives its log.
    #[track_caller]
    pub fn stop_daemon(&mut self) -> String {
        let mut daemon = self.daemon.take().expect("the daemon runs");
        daemon.signal(Signal::SIGTERM);
        let status = daemon.wait();
        assert!(status.success(), "after SIGTERM: {status}\n{}", daemon.log());
        daemon.log()
    }

    /// Calls the control tool where there is no lab.
    pub fn call(line: &str) -> Reply {
        call(&program("vswitchctl"), line)
    }

    /// Calls the control tool with these words, separated by spaces.
    pub fn ctl(&self, line: &str) -> Reply {
        call(&self.ctl, line)
    }

    /// Calls the control tool with these words, which may have spaces in them.
    pub fn ctl_words(&self, words: &[&str]) -> Reply {
        call_with(&self.ctl, &words.join(" "), words.iter().copied())
    }

    /// Calls the control tool, which must succeed; gives its standard output.
    #[track_caller]
    pub fn ok(&self, line: &str) -> String {
        self.ctl(line).ok().stdout
    }

    /// Calls the control tool with `--json`, which must succeed.
    #[track_caller]
    pub fn json<T: DeserializeOwned>(&self, line: &str) -> T {
        self.ctl(&format!("--json {line}")).ok().json()
    }

    /// The status of the daemon.
    #[track_caller]
    pub fn status(&self) -> Status {
        self.json("status")
    }

    /// A port, its state and counters.
    #[track_caller]
    pub fn port(&self, name: &str) -> PortView {
        self.json(&format!("port show {name}"))
    }

    /// Waits until a port is as `is_so` wants it.
    #[track_caller]
    pub fn wait_for_port(&self, name: &str, what: &str, is_so: impl Fn(&PortView) -> bool) {
        wait_for(what, || {
            let port = self.port(name);
            if is_so(&port) {
                Ok(())
            } else {
                Err(format!("{port:#?}"))
            }
        });
    }

    /// Waits until a port is in this state.
    #[track_caller]
    pub fn wait_for_state(&self, name: &str, state: PortState) {
        self.wait_for_port(name, &format!("port {name} to be {state:?}"), |port| {
            port.state == state
        });
    }

    /// Waits until each frame that came in at a port is forwarded, flooded or dropped, as the port's counters say. What the
    /// stacks say by themselves may come between two of them.
    #[track_caller]
    pub fn wait_for_sums(&self) {
        wait_for("the counters to add up", || {
            let adds_up =
                |c: &PortCounters| c.rx_frames == c.rx_forwarded + c.rx_flooded + c.rx_drops.values().sum::<u64>();
            match self.ports().into_iter().find(|port| !adds_up(&port.counters)) {
                Some(port) => Err(format!("{port:#?}")),
                None => Ok(()),
            }
        });
    }

    /// All ports of all switches.
    #[track_caller]
    pub fn ports(&self) -> Vec<PortView> {
        self.json("port list")
    }

    /// A switch.
    #[track_caller]
    pub fn switch(&self, name: &str) -> SwitchView {
        self.json(&format!("switch show {name}"))
    }

    /// The FDB of a switch.
    #[track_caller]
    pub fn fdb(&self, switch: &str) -> Vec<FdbEntry> {
        self.json(&format!("fdb show --switch {switch}"))
    }

    /// Writes a lab file for `apply` and gives its path.
    pub fn lab_file(&self, text: &str) -> String {
        let path = self.scratch().join("lab.toml");
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }
}

impl Default for Lab {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        // The tool's own view helps more than the log alone, but only while the daemon lives.
        if thread::panicking() && self.daemon.as_mut().is_some_and(|daemon| daemon.ended().is_none()) {
            eprintln!("{}", self.ctl("show"));
        }
        drop(self.daemon.take());
        self.tidier.end();
    }
}

/// Ends what the daemon looked after, once it is told to or the test is gone: that outlives the daemon, but not the folder that says so.
struct Tidier(Child);

impl Tidier {
    fn new() -> Self {
        let mut command = Command::new("sh");
        command.args(["-c", "read -r _; exec rm -rf /run/vswitch/processes"]);
        // Who ends a test may end all of its group.
        command.process_group(0).stdin(Stdio::piped());
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        Self(child.unwrap_or_else(|e| panic!("sh: {e}")))
    }

    /// Returns when it is done.
    fn end(&mut self) {
        let told = self.0.stdin.take().map(|mut stdin| stdin.write_all(b"\n"));
        if let Some(Ok(())) = told {
            let _ = self.0.wait();
        }
    }
}

fn call(program: &Path, line: &str) -> Reply {
    call_with(program, line, line.split_whitespace())
}

fn call_with<'a>(program: &Path, line: &str, words: impl Iterator<Item = &'a str>) -> Reply {
    let output = command(program).args(words).stdin(Stdio::null()).output();
    Reply::new(line, output.unwrap_or_else(|e| panic!("{}: {e}", program.display())))
}

/// Whether root is not the machine's here.
fn in_user_namespace() -> bool {
    let map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    !map.split_whitespace().eq(["0", "0", "4294967295"])
}

/// Nothing that is mounted from here on is seen outside.
pub fn mount_private() {
    mount(
        None::<&str>,
        "/",
        None::<&str>,
        MsFlags::MS_REC | MsFlags::MS_PRIVATE,
        None::<&str>,
    )
    .unwrap();
}

/// Mounts a fresh file system over a folder.
pub fn mount_over(folder: &str, kind: &str) {
    mount(Some(kind), folder, Some(kind), MsFlags::empty(), None::<&str>).unwrap_or_else(|e| panic!("{folder}: {e}"));
}

/// Puts one file in the place of another.
pub fn bind_file(file: &Path, over: &str) {
    mount(Some(file), over, None::<&str>, MsFlags::MS_BIND, None::<&str>).unwrap_or_else(|e| panic!("{over}: {e}"));
}
