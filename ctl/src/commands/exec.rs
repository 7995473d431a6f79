//! `ns exec`: runs a command inside a namespace, the way `ip netns exec` does. The daemon is asked where it has them, if there is one.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::statvfs::{FsFlags, statvfs};
use tokio::time::timeout;
use vswitch_api::view::{Entrance, Stack};
use vswitch_api::{ApiError, ErrorCode, NsName};
use vswitch_client::Client;

use super::doctor::mounts;
use crate::failure::Failure;
use crate::output::tell;

/// Where `ip netns` keeps namespaces.
const NAMESPACES: &str = "/run/netns";
/// Where the daemon keeps them, once it was asked: the same for all threads of this process.
static OF_DAEMON: OnceLock<PathBuf> = OnceLock::new();
/// So long the daemon is asked for that.
const ASKED: Duration = Duration::from_secs(2);
/// What shells give for a command that can't be run, and for one that is not found.
const EXIT_CANT_RUN: u8 = 126;
const EXIT_NOT_FOUND: u8 = 127;
const NONE: Option<&str> = None;

/// From here on namespaces are looked for where the daemon has them. Without an answer of it they are where `ip netns` has them.
pub(super) async fn find_namespaces(client: &Client) {
    // A daemon that hangs is no reason to wait for long: this works without one.
    if let Ok(Ok(status)) = timeout(ASKED, client.status()).await
        && !status.netns_dir.is_empty()
    {
        // A second answer would be the same.
        let _ = OF_DAEMON.set(status.netns_dir.into());
    }
}

/// The file of a namespace.
pub(super) fn file_of(name: &str) -> PathBuf {
    let folder = OF_DAEMON.get().map_or(Path::new(NAMESPACES), PathBuf::as_path);
    folder.join(name)
}

/// The same with what tells it from another that has the name by then, for a process that asks nobody.
pub(super) fn entrance(name: &NsName) -> Result<Entrance, ApiError> {
    let path = file_of(name.as_str());
    let meta = fs::metadata(&path).map_err(|e| not_there(&Stack::Name(name.clone()), &e))?;
    Ok(Entrance {
        path: path.display().to_string(),
        inode: meta.ino(),
    })
}

/// Becomes the command. Comes back only with why that was not possible.
pub(super) fn run(stack: &Stack, command: &[OsString]) -> Failure {
    if let Err(error) = enter(stack) {
        return error.into();
    }
    replace_process(command, &format!("in namespace {stack}"))
}

/// Whether there is a namespace of this name.
pub(super) fn is_named(name: &NsName) -> bool {
    file_of(name.as_str()).exists()
}

/// The same in the namespace of the host.
pub(super) fn become_here(command: &[OsString]) -> Failure {
    replace_process(command, "here")
}

fn replace_process(command: &[OsString], place: &str) -> Failure {
    let Some((program, arguments)) = command.split_first() else {
        return Failure::usage(
            "ns exec",
            "there is no command",
            "name one: `vswitchctl ns exec red ip addr`",
        );
    };
    let cause = Command::new(program).args(arguments).exec();
    let exit = if cause.kind() == io::ErrorKind::NotFound {
        EXIT_NOT_FOUND
    } else {
        EXIT_CANT_RUN
    };
    let object = format!("command {}", program.display());
    let error = ApiError::new(ErrorCode::NotFound, object, format!("it can't be run {place}: {cause}"));
    Failure::Error { error, exit }
}

/// Moves this process into the namespace, with a mount namespace of its own that fits it.
fn enter(stack: &Stack) -> Result<(), ApiError> {
    enter_network(stack)?;
    let step = |what: &str, e: Errno| ApiError::new(ErrorCode::Kernel, object(stack), format!("{what}: {}", e.desc()));
    unshare(CloneFlags::CLONE_NEWNS).map_err(|e| step("a mount namespace for the command", e))?;
    // From here on no mount is seen outside.
    mount(NONE, "/", NONE, MsFlags::MS_REC | MsFlags::MS_SLAVE, NONE).map_err(|e| step("keeping mounts inside", e))?;
    if let Err(e) = fresh_sys(stack) {
        // As in a container without the right to mount sysfs: most commands never look there.
        tell!("warning: /sys still shows the interfaces of outside: {}", e.desc());
    }
    let Stack::Name(name) = stack else { return Ok(()) };
    bind_etc(name).map_err(|(path, e)| step(&format!("{} over its namesake in /etc", path.display()), e))
}

/// Moves this thread into the network namespace alone.
pub(super) fn enter_network(stack: &Stack) -> Result<(), ApiError> {
    let path = match stack {
        Stack::Name(name) => file_of(name.as_str()),
        Stack::File(entrance) => PathBuf::from(&entrance.path),
    };
    let file = File::open(&path).map_err(|e| not_there(stack, &e))?;
    if let Stack::File(entrance) = stack {
        let inode = file.metadata().map_err(|e| not_there(stack, &e))?.ino();
        if inode != entrance.inode {
            let cause = "it leads to another namespace by now";
            return Err(ApiError::new(ErrorCode::NotFound, object(stack), cause).hint("try again"));
        }
    }
    setns(file, CloneFlags::CLONE_NEWNET).map_err(|e| match e {
        Errno::EPERM => ApiError::new(
            ErrorCode::NotPermitted,
            object(stack),
            "entering it needs CAP_SYS_ADMIN",
        )
        .hint("run it as root"),
        Errno::EINVAL => mounts::no_namespace(object(stack), &path),
        e => ApiError::new(
            ErrorCode::Kernel,
            object(stack),
            format!("entering it failed: {}", e.desc()),
        ),
    })
}

/// A sysfs shows the network namespace in which it was mounted.
fn fresh_sys(stack: &Stack) -> nix::Result<()> {
    let mut flags = MsFlags::empty();
    if umount2("/sys", MntFlags::MNT_DETACH).is_err()
        && statvfs("/sys").is_ok_and(|fs| fs.flags().contains(FsFlags::ST_RDONLY))
    {
        // The kernel refuses a writable sysfs over a read-only one.
        flags = MsFlags::MS_RDONLY;
    }
    let source = match stack {
        Stack::Name(name) => name.as_str(),
        Stack::File(_) => "vswitchctl",
    };
    mount(Some(source), "/sys", Some("sysfs"), flags, NONE)
}

/// Files of /etc/netns/NAME take the place of those of the same name in /etc.
fn bind_etc(name: &NsName) -> Result<(), (PathBuf, Errno)> {
    let Ok(files) = fs::read_dir(Path::new("/etc/netns").join(name.as_str())) else {
        return Ok(());
    };
    for file in files.flatten() {
        let target = Path::new("/etc").join(file.file_name());
        match mount(Some(&file.path()), &target, NONE, MsFlags::MS_BIND, NONE) {
            // Nothing of the name that it could be over: `ip netns exec` goes on too.
            Err(Errno::ENOENT) => tell!(
                "warning: there is no {} for {} to be over",
                target.display(),
                file.path().display()
            ),
            mounted => mounted.map_err(|e| (file.path(), e))?,
        }
    }
    Ok(())
}

fn object(stack: &Stack) -> String {
    format!("namespace {:?}", stack.to_string())
}

fn not_there(stack: &Stack, error: &io::Error) -> ApiError {
    match error.kind() {
        io::ErrorKind::NotFound => {
            ApiError::new(ErrorCode::NotFound, object(stack), "it does not exist").hint(match stack {
                Stack::Name(name) => {
                    format!("`vswitchctl ns list` shows those that do, `vswitchctl ns add {name}` makes it")
                }
                Stack::File(_) => "its process has ended, it seems; try again".to_owned(),
            })
        }
        io::ErrorKind::PermissionDenied => {
            ApiError::new(ErrorCode::NotPermitted, object(stack), error.to_string()).hint("run it as root")
        }
        _ => ApiError::new(ErrorCode::Kernel, object(stack), error.to_string()),
    }
}

/// Whether a ping from the network namespace of this thread is answered within some seconds. With a deadline it goes on until one is
/// answered: the first may be lost on the way, or to a neighbour that is asked for.
pub fn is_answered(from: Option<IpAddr>, to: IpAddr, seconds: u32) -> Result<bool, Failure> {
    let mut command = Command::new("ping");
    command.args(["-n", "-q", "-c", "1", "-i", "0.5", "-w", &seconds.to_string()]);
    if let Some(from) = from {
        command.args(["-I", &from.to_string()]);
    }
    command.arg(to.to_string());
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let status = command.status().map_err(|e| {
        ApiError::new(ErrorCode::NotPermitted, "ping", format!("it can't be run: {e}"))
            .hint("install it (apt install iputils-ping)")
    })?;
    Ok(status.success())
}
