//! Ports in the namespaces of processes and files that others made: found by number or path, kept alive by nothing of ours, and left as
//! they were.

use std::ffi::CString;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixListener;
use std::ptr;

use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::waitpid;
use nix::unistd::Pid;
use vswitch_testing::api::view::{Changes, NamespaceSummary, PortState};
use vswitch_testing::container::{Canary, Container};
use vswitch_testing::lab::bind_file;
use vswitch_testing::{Lab, Place, run, wait_for};

fn inside(container: &Container) -> Place {
    Place::File(container.file().into())
}

fn interfaces(container: &Container) -> Vec<String> {
    let text = inside(container).run_ok("ip -br link");
    let names = text
        .lines()
        .map(|line| line.split([' ', '@']).next().unwrap().to_owned());
    names.collect()
}

fn is_missing(lab: &Lab, name: &str, why: &str) {
    lab.wait_for_port(name, "the port to be missing", |port| {
        let reason = port.reason.as_deref().unwrap_or_default();
        port.state == PortState::Missing && reason.contains(why)
    });
}

#[test]
fn a_process_has_its_port_as_long_as_it_lives() {
    let lab = Lab::new();
    lab.ok("add-port red --addr 10.1.0.1/24");
    for kind in ["veth", "tap"] {
        let web = Container::start();
        let canary = Canary::put_into(&web, &format!("canary-{kind}"));
        let pid = web.pid();
        lab.ok(&format!(
            "add-port web --type {kind} --pid {pid} --addr 10.1.0.2/24 --gateway 10.1.0.1"
        ));
        lab.ok("ping red web -c 1");
        lab.ok("ping web red -c 1");
        lab.ok("doctor red web");
        assert!(lab.ok("ns exec web ip -br addr show eth0").contains("10.1.0.2/24"));
        assert!(inside(&web).run_ok("ip route").contains("default via 10.1.0.1"));
        let list: Vec<NamespaceSummary> = lab.json("ns list");
        let of_web = list
            .iter()
            .find(|summary| summary.name.to_string() == format!("pid {pid}"));
        let of_web = of_web.unwrap_or_else(|| panic!("{list:?}"));
        assert_eq!(of_web.owner, Some(format!("pid {pid} sleep")));
        assert!(of_web.present && !of_web.owned);
        drop(web);
        canary.wait_until_gone();
        is_missing(&lab, "web", "has ended");
        lab.ctl("ns exec web ip addr").failed(4, &["web", "has ended"]);
        lab.ok("del-port web");
    }
    let list: Vec<NamespaceSummary> = lab.json("ns list");
    assert!(list.iter().all(|summary| summary.name.to_string() == "red"), "{list:?}");
}

#[test]
fn what_is_not_for_ports_is_refused() {
    let mut lab = Lab::new();
    lab.ctl("add-port web --pid 4194304")
        .failed(4, &["web", "there is no process 4194304"]);
    lab.ctl("add-port -n web --pid 4194304")
        .failed(4, &["there is no process"]);
    let pid = lab.daemon().pid();
    lab.ctl(&format!("add-port web --pid {pid}"))
        .failed(5, &["vswitchd itself runs in", "--type internal"]);
    lab.ctl("add-port web --netns-path /run/vswitch/netns")
        .failed(5, &["switch's own ends"]);
    lab.ctl("add-port web --netns-path /etc/passwd")
        .failed(4, &["no network namespace at /etc/passwd"]);
    let both = lab.ctl("add-port web --pid 1 --netns red");
    assert_eq!(both.code, 2, "{both}");
    for wrong in ["--pid 0", "--pid -1", "--netns-path run/netns/x", "--netns-path /"] {
        let refused = lab.ctl(&format!("add-port web {wrong}"));
        assert_eq!(refused.code, 2, "{wrong}: {refused}");
    }
    assert!(lab.ports().is_empty());
}

/// A process with a number that another had, in a namespace of its own.
fn start_with_number(pid: i32) -> Pid {
    #[repr(C)]
    #[derive(Default)]
    struct CloneArgs {
        flags: u64,
        pidfd: u64,
        child_tid: u64,
        parent_tid: u64,
        exit_signal: u64,
        stack: u64,
        stack_size: u64,
        tls: u64,
        set_tid: u64,
        set_tid_size: u64,
        cgroup: u64,
    }
    let program = CString::new("/bin/sleep").unwrap();
    let time = CString::new("1000").unwrap();
    let words = [program.as_ptr(), time.as_ptr(), ptr::null()];
    let wanted = [pid];
    let args = CloneArgs {
        exit_signal: libc::SIGCHLD as u64,
        set_tid: wanted.as_ptr() as u64,
        set_tid_size: 1,
        ..CloneArgs::default()
    };
    // SAFETY: without CLONE_VM the child has a copy of all memory, as after fork; `args` and what it points to are valid, and its
    // layout is that of struct clone_args of Linux 5.7.
    let child = unsafe { libc::syscall(libc::SYS_clone3, &raw const args, size_of::<CloneArgs>()) };
    assert!(child >= 0, "clone3 for {pid}: {}", std::io::Error::last_os_error());
    if child == 0 {
        let _ = unshare(CloneFlags::CLONE_NEWNET);
        // SAFETY: only system calls from here on, with arguments that were made before.
        unsafe {
            libc::execv(program.as_ptr(), words.as_ptr());
            libc::_exit(1);
        }
    }
    Pid::from_raw(pid)
}

#[test]
fn another_process_with_its_number_is_not_taken_for_it() {
    let mut lab = Lab::new();
    let web = Container::start();
    let pid = web.pid();
    lab.ok(&format!("add-port web --pid {pid}"));
    lab.ok(&format!("add-port file --netns-path {} --name eth1", web.file()));
    drop(web);
    is_missing(&lab, "web", "has ended");
    is_missing(&lab, "file", "");
    let other = start_with_number(pid.cast_signed());
    let own = fs::read_link("/proc/thread-self/ns/net").unwrap();
    let file = format!("/proc/{pid}/ns/net");
    wait_for("the other to be in its namespace", || {
        fs::read_link(&file).is_ok_and(|there| there != own)
    });
    let untouched = |lab: &Lab| {
        lab.ctl("set port web --up").failed(4, &["another has its number now"]);
        lab.ctl("set port file --up").failed(4, &[]);
        let links = Place::File(file.clone().into()).run_ok("ip -br link");
        assert!(!links.contains("eth"), "{links}");
    };
    untouched(&lab);
    lab.kill_daemon();
    lab.start();
    untouched(&lab);
    // Whoever means the other says so.
    lab.ok("del-port web file");
    lab.ok(&format!("add-port web --pid {pid}"));
    lab.wait_for_state("web", PortState::Up);
    kill(other, Signal::SIGKILL).unwrap();
    waitpid(other, None).unwrap();
    is_missing(&lab, "web", "has ended");
}

#[test]
fn a_file_may_lead_elsewhere() {
    let lab = Lab::new();
    let (one, two) = (Container::start(), Container::start());
    fs::write("/run/space", "").unwrap();
    run(&format!("mount --bind {} /run/space", one.file()));
    lab.ok("add-port web --netns-path /run/space --addr 10.1.0.2/24");
    let mac = lab.port("web").port.mac;
    assert_eq!(interfaces(&one), ["lo", "eth0"]);
    run("umount /run/space");
    is_missing(&lab, "web", "no network namespace at /run/space");
    assert_eq!(interfaces(&one), ["lo"], "nothing stays in what is not meant any more");
    run(&format!("mount --bind {} /run/space", two.file()));
    lab.wait_for_state("web", PortState::Up);
    assert_eq!(interfaces(&two), ["lo", "eth0"]);
    assert_eq!(lab.port("web").port.mac, mac);
    assert!(inside(&two).run_ok("ip addr show eth0").contains("10.1.0.2/24"));
    // A link that leads to a process, and then to another.
    fs::create_dir("/run/links").unwrap();
    std::os::unix::fs::symlink(one.file(), "/run/links/space").unwrap();
    lab.ok("add-port linked --netns-path /run/links/space");
    assert_eq!(interfaces(&one), ["lo", "eth0"]);
    std::os::unix::fs::symlink(two.file(), "/run/links/next").unwrap();
    fs::rename("/run/links/next", "/run/links/space").unwrap();
    lab.wait_for_port("linked", "the port to be in the other", |port| {
        port.entrance
            .as_ref()
            .is_some_and(|entrance| entrance.inode == two.inode())
            || port.reason.is_some()
    });
    assert_eq!(interfaces(&one), ["lo"]);
    run("umount /run/space");
}

#[test]
fn the_daemon_may_come_and_go_and_leaves_nothing() {
    let mut lab = Lab::new();
    let web = Container::start();
    inside(&web).run_ok("ip link add eth0 type veth peer name theirs");
    let file = format!(
        "[[ports]]\nname = \"web\"\nnamespace = {{ pid = {} }}\naddresses = [\"10.1.0.2/24\"]\n\
         [[ports]]\nname = \"red\"\naddresses = [\"10.1.0.1/24\"]\n",
        web.pid()
    );
    let path = lab.lab_file(&file);
    lab.ok(&format!("apply {path}"));
    let before = lab.port("web");
    assert_eq!(
        before.port.ifname.as_ref().map(|name| name.as_str()),
        Some("eth1"),
        "the next free name"
    );
    let again: Changes = lab.json(&format!("apply {path}"));
    assert_eq!(again.done, Vec::<String>::new(), "it is so already");
    let exported = lab.ok("export");
    assert!(exported.contains(&format!("pid = {}", web.pid())), "{exported}");
    for _ in 0..2 {
        lab.kill_daemon();
        lab.start();
        lab.wait_for_state("web", PortState::Up);
        let now = lab.port("web");
        assert_eq!((now.port, now.entrance), (before.port.clone(), before.entrance.clone()));
    }
    lab.ok("ping red web -c 1");
    // A new number, a new start: the port is made anew where it is said to be.
    let other = Container::start();
    let path = lab.lab_file(&file.replace(&web.pid().to_string(), &other.pid().to_string()));
    lab.ok(&format!("apply --yes {path}"));
    assert_eq!(interfaces(&web).len(), 3, "lo and theirs");
    assert_eq!(interfaces(&other), ["lo", "eth0"]);
    lab.ok("reset --yes");
    assert_eq!(interfaces(&other), ["lo"]);
    assert_eq!(interfaces(&web).len(), 3);
}

/// Docker gives the namespaces that it makes names of its own; whose they are is told by the control group of a process in them.
#[test]
fn a_named_namespace_tells_the_container_that_is_in_it() {
    let mut lab = Lab::without_daemon();
    lab.add_config("[containers]\ndocker = \"unix:///run/docker.sock\"\n");
    let web = Container::start();
    let id = "0123456789abcdef".repeat(4);
    run("ip netns add sandbox");
    run("umount /run/netns/sandbox");
    run(&format!("mount --bind {} /run/netns/sandbox", web.file()));
    let groups = lab.scratch().join("cgroup");
    fs::write(&groups, format!("0::/system.slice/docker-{id}.scope\n")).unwrap();
    bind_file(&groups, &format!("/proc/{}/cgroup", web.pid()));
    answer_as_docker("/run/docker.sock", &id, web.pid());
    lab.start();
    let list: Vec<NamespaceSummary> = lab.json("ns list");
    let sandbox = list
        .iter()
        .find(|summary| summary.name.to_string() == "sandbox")
        .unwrap();
    assert_eq!(sandbox.owner.as_deref(), Some("docker web"), "{list:?}");
    assert!(!sandbox.owned);
    run("umount /run/netns/sandbox");
    run("rm /run/netns/sandbox");
}

/// An engine that knows one container.
fn answer_as_docker(socket: &str, id: &str, pid: u32) {
    let listener = UnixListener::bind(socket).unwrap();
    let body = format!(
        r#"{{"Id":"{id}","Name":"/web","State":{{"Running":true,"Pid":{pid}}},"HostConfig":{{"NetworkMode":"bridge"}}}}"#
    );
    let known = format!("/containers/{id}/json");
    std::thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            let mut head = [0; 4096];
            let length = stream.read(&mut head).unwrap_or(0);
            let head = String::from_utf8_lossy(&head[..length]).into_owned();
            let (status, body) = match head.contains(&known) {
                true => ("200 OK", body.as_str()),
                false => ("404 Not Found", "{}"),
            };
            let length = body.len();
            let _ = write!(
                stream,
                "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
            );
        }
    });
}

/// One name stood for two namespaces: that of the port, and one that was made under its name.
#[test]
fn no_namespace_is_made_under_the_name_of_a_port_in_one_without_a_name() {
    let lab = Lab::new();
    lab.ok("add-port red");
    let web = Container::start();
    lab.ok(&format!("add-port web --pid {}", web.pid()));
    for line in [
        "command add c --ns web -- sleep 1",
        "cable web red",
        "ns add web",
        "add-port other --netns web",
    ] {
        lab.ctl(line)
            .failed(5, &["namespace \"web\"", "port \"web\"", "ns exec web"]);
    }
    // Each name that is listed is one that is shown.
    assert_eq!(lab.ok("ns list -o name"), "red\n");
    lab.ok("ns show red");
}
