//! What works for an ordinary user inside `unshare -Urn`.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use vswitch_testing::Lab;
use vswitch_testing::daemon::program;
use vswitch_testing::lab::mount_over;

/// Runs a shell script as user 65534 inside `unshare` with these flags. `$D` is a folder of that user's with
/// `vswitchd`, `vswitchctl` and this test in it.
fn as_ordinary_user(flags: &str, script: &str) -> String {
    let lab = Lab::without_daemon();
    let folder = lab.scratch().join("user");
    fs::create_dir(&folder).unwrap();
    for name in ["vswitchd", "vswitchctl"] {
        fs::copy(program(name), folder.join(name)).unwrap();
    }
    fs::copy(std::env::current_exe().unwrap(), folder.join("test")).unwrap();
    for path in [lab.scratch(), &folder] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o777)).unwrap();
    }
    // As on most machines, where udev lets everybody open it.
    mount_over("/dev/net", "tmpfs");
    let everybody = Mode::from_bits_truncate(0o666);
    mknod("/dev/net/tun", SFlag::S_IFCHR, everybody, makedev(10, 200)).unwrap();
    fs::set_permissions("/dev/net/tun", fs::Permissions::from_mode(0o666)).unwrap();
    let prelude = r#"
        set -eu
        trap 'status=$?; kill $daemon 2>/dev/null || :; [ $status = 0 ] || cat "$D/log" >&2; exit $status' EXIT
        serve() {
            "$D/vswitchd" "$@" >"$D/log" 2>&1 & daemon=$!
            for i in $(seq 200); do vswitchctl status >/dev/null 2>&1 && return; sleep 0.05; done
            echo "the daemon does not serve" >&2; exit 1
        }
        ip link set lo up
    "#;
    let mut command = Command::new("setpriv");
    command.args([
        "--reuid=65534",
        "--regid=65534",
        "--clear-groups",
        "--inh-caps=-all",
        "--",
        "unshare",
    ]);
    command
        .args(flags.split_whitespace())
        .args(["bash", "-c", &format!("{prelude}\n{script}")]);
    let path = std::env::var("PATH").unwrap();
    command
        .env("D", &folder)
        .env("PATH", format!("{}:{path}:/usr/sbin:/sbin", folder.display()));
    let output = command.output().unwrap();
    let (stdout, stderr) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(output.status.success(), "{}\n{stdout}\n{stderr}", output.status);
    stdout.into_owned()
}

#[path = "testing/examples/two_namespaces.rs"]
mod two_namespaces;

/// In the environment of the run inside.
const INSIDE: &str = "VSWITCH_TEST_INSIDE";

/// The harness, for those who are not root: this very test, run once more in a user namespace.
#[test]
fn tests_of_others_run_in_a_user_namespace() {
    if std::env::var_os(INSIDE).is_some() {
        two_namespaces::main();
        return;
    }
    let out = as_ordinary_user(
        "-Urnm",
        &format!(
            r#"
            daemon=
            export VSWITCHD="$D/vswitchd" VSWITCHCTL="$D/vswitchctl" TMPDIR="$D" {INSIDE}=1
            "$D/test" --exact tests_of_others_run_in_a_user_namespace
            "#
        ),
    );
    assert!(out.contains("1 passed"), "{out}");
}

#[test]
fn a_whole_lab_works_in_a_user_mount_and_network_namespace() {
    let out = as_ordinary_user(
        "-Urnm",
        r#"
        mount -t tmpfs tmpfs /run
        mkdir /run/state
        serve --state-dir /run/state
        vswitchctl add-port red   --addr 192.168.15.1/24 --addr fd15::1/64
        vswitchctl add-port blue  --addr 192.168.15.2/24 --addr fd15::2/64
        vswitchctl add-port green --addr 192.168.15.3/24 --addr fd15::3/64 --type tap
        vswitchctl add-port host  --addr 192.168.15.4/24 --addr fd15::4/64 --type internal
        for n in 2 3 4; do
            vswitchctl ns exec red -- ping -n -c 1 -W 10 192.168.15.$n
            vswitchctl ns exec red -- ping -n -c 1 -W 10 fd15::$n
        done
        vswitchctl reset --yes
        ls /run/netns
        echo done
        "#,
    );
    assert!(out.trim_end().ends_with("done"), "{out}");
}

#[test]
fn without_a_mount_namespace_host_ports_and_devices_work() {
    as_ordinary_user(
        "-Urn",
        r#"
        export VSWITCH_SOCKET=$D/run/control.sock
        serve --run-dir "$D/run" --state-dir "$D/state"
        vswitchctl status
        vswitchctl add-port host --addr 192.168.15.1/24 --type internal
        # A network namespace without a name, at the other end of a device.
        unshare -n sleep 1000 & far=$!
        until [ "$(readlink /proc/$far/ns/net)" != "$(readlink /proc/$$/ns/net)" ]; do sleep 0.05; done
        ip link add dev0 up type veth peer name eth0 netns $far
        nsenter -n -t $far ip link set eth0 up
        nsenter -n -t $far ip addr add 192.168.15.2/24 dev eth0
        vswitchctl add-port dev0 --type device
        ping -n -c 1 -W 10 192.168.15.2
        kill $far
        vswitchctl reset --yes
        "#,
    );
}

#[test]
fn what_an_ordinary_user_can_not_do_is_refused_with_the_reason() {
    as_ordinary_user(
        "-Urn",
        r#"
        export VSWITCH_SOCKET=$D/run/control.sock
        serve --run-dir "$D/run" --state-dir "$D/state"
        # Names below /run/netns need the right to mount there.
        if vswitchctl add-port red 2>"$D/error"; then exit 1; fi
        cat "$D/error"
        [ "$(wc -l <"$D/error")" = 1 ]
        grep -q red "$D/error"
        [ "$(vswitchctl --json port list)" = "[]" ]
        "#,
    );
}
