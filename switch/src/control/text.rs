//! How objects are called in errors, the same everywhere.

use std::io;

use vswitch_api::view::MissingAs;
use vswitch_api::{ApiError, Cable, CommandName, ErrorCode, MirrorName, Namespace, NsName, PortName, SwitchName};

use vswitch_linux::KernelError;

pub(super) fn port(name: &PortName) -> String {
    format!("port \"{name}\"")
}

pub(super) fn switch(name: &SwitchName) -> String {
    format!("switch \"{name}\"")
}

pub(super) fn namespace(name: &NsName) -> String {
    format!("namespace \"{name}\"")
}

/// A namespace of a port within a sentence.
pub(super) fn in_words(namespace: &Namespace) -> String {
    match namespace {
        Namespace::Name(name) => format!("namespace {name}"),
        Namespace::Pid(pid) => format!("the namespace of process {pid}"),
        Namespace::Path(path) => format!("the namespace at {path}"),
        Namespace::Container(name) => format!("container {name}"),
    }
}

/// The same where something is said of it.
pub(super) fn object(namespace: &Namespace) -> String {
    match namespace {
        Namespace::Name(name) => self::namespace(name),
        other => in_words(other),
    }
}

pub(super) fn cable(cable: &Cable) -> String {
    cables(&cable.a.namespace, &cable.b.namespace)
}

/// One or more between two namespaces.
pub(super) fn cables(a: &NsName, b: &NsName) -> String {
    format!("cable \"{a}\" - \"{b}\"")
}

pub(super) fn no_cable(a: &NsName, b: &NsName) -> ApiError {
    ApiError::new(ErrorCode::NotFound, cables(a, b), "there is no such cable")
        .hint("`vswitchctl cable list` lists them")
}

pub(super) fn command(name: &CommandName) -> String {
    format!("command \"{name}\"")
}

pub(super) fn no_command(name: &CommandName) -> ApiError {
    ApiError::new(ErrorCode::NotFound, command(name), "there is no such command")
        .hint("`vswitchctl command list` lists them")
}

pub(super) fn mirror(name: &MirrorName) -> String {
    format!("mirror \"{name}\"")
}

pub(super) fn no_mirror(name: &MirrorName) -> ApiError {
    ApiError::new(ErrorCode::NotFound, mirror(name), "there is no such mirror")
        .hint("`vswitchctl mirror list` lists them")
}

pub(super) fn invalid(object: impl Into<String>, cause: impl Into<String>) -> ApiError {
    ApiError::new(ErrorCode::Invalid, object, cause)
}

pub(super) fn conflict(object: impl Into<String>, cause: impl Into<String>) -> ApiError {
    ApiError::new(ErrorCode::Conflict, object, cause)
}

pub(super) fn no_port(name: &PortName) -> ApiError {
    ApiError::new(ErrorCode::NotFound, port(name), "there is no such port").hint("`vswitchctl port list` lists them")
}

pub(super) fn no_switch(name: &SwitchName) -> ApiError {
    ApiError::new(ErrorCode::NotFound, switch(name), "there is no such switch")
        .hint("`vswitchctl switch list` lists them")
}

pub(super) fn no_namespace(name: &NsName) -> ApiError {
    ApiError::new(ErrorCode::NotFound, namespace(name), "there is no such namespace")
        .missing_as(MissingAs::NoNamespace)
        .hint("`vswitchctl ns list` lists them")
}

/// A step that the kernel refused, as the user is told of it.
pub(super) fn kernel(object: impl Into<String>, error: &KernelError) -> ApiError {
    step(object, &error.step, &error.source)
}

/// Whether numbers of users are not those of the machine here (user_namespaces(7)).
fn in_user_namespace() -> bool {
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    !map.split_whitespace().eq(["0", "0", "4294967295"])
}

/// The same for a step outside netlink.
pub(super) fn step(object: impl Into<String>, step: &str, error: &io::Error) -> ApiError {
    let cause = format!("{step}: {error}");
    match error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => {
            ApiError::new(ErrorCode::NotPermitted, object, cause).hint(match in_user_namespace() {
                true => "the kernel leaves this to root of the machine, and vswitchd runs in a user namespace",
                false => "run vswitchd as root, or in a user namespace of its own (unshare -Urnm)",
            })
        }
        Some(libc::EEXIST) => {
            ApiError::new(ErrorCode::Conflict, object, cause).hint("choose another, or remove the one that is there")
        }
        Some(libc::EMFILE | libc::ENFILE) => ApiError::new(ErrorCode::Kernel, object, cause)
            .hint("raise the limit of open files of vswitchd (LimitNOFILE= in its systemd unit)"),
        // The kernel says so of a limit, and there may be room enough.
        Some(libc::ENOSPC) if step.starts_with("create namespace") => ApiError::new(ErrorCode::Kernel, object, cause)
            .hint(
                "the limit of network namespaces is reached: raise it (sysctl user.max_net_namespaces), or remove some",
            ),
        _ if cause.contains("/dev/net/tun") && error.kind() == io::ErrorKind::NotFound => {
            ApiError::new(ErrorCode::NotPermitted, object, cause)
                .hint("load the module (modprobe tun), or use a veth port, which does without")
        }
        _ => ApiError::new(ErrorCode::Kernel, object, cause),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_of_the_kernel_is_named() {
        let full = || io::Error::from_raw_os_error(libc::ENOSPC);
        let error = step("namespace \"blue\"", "create namespace blue", &full());
        assert!(error.hint.unwrap().contains("user.max_net_namespaces"));
        assert_eq!(step("state", "write the state file", &full()).hint, None);
    }
}
