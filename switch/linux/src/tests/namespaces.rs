use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use futures::StreamExt;
use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use super::{make, namespace, sandboxed};
use crate::{KernelError, NamedNamespaces, NetNs, NetNsId, NsEvent, hold_own};

#[test]
fn a_created_namespace_is_as_ip_netns_makes_it() {
    sandboxed(async || {
        let names = NamedNamespaces::default();
        assert_eq!(names.list(), Vec::<String>::new());
        let red = namespace("red").await;
        assert_ne!(red.id(), NetNs::current().unwrap().id());
        assert_eq!(red.id(), red.run(|| NetNs::current().unwrap().id()).await.unwrap());
        assert_eq!(id_of(&names, "red"), Some(red.id()));
        assert_eq!(names.list(), ["red"]);

        let links = red.netlink().await.unwrap().links().await.unwrap();
        assert_eq!(links.len(), 1, "{links:?}");
        assert_eq!((links[0].name.as_str(), links[0].up, links[0].mac), ("lo", true, None));

        // Shared, and one mount however many namespaces there are.
        namespace("blue").await;
        let mounts = fs::read_to_string("/proc/thread-self/mountinfo").unwrap();
        let dirs: Vec<_> = mounts.lines().filter(|line| line.contains(" /run/netns ")).collect();
        assert_eq!(dirs.len(), 1, "{mounts}");
        assert!(dirs[0].contains(" shared:"), "{mounts}");
    });
}

#[test]
fn a_namespace_can_be_deleted_twice_but_not_created_twice() {
    sandboxed(async || {
        let names = NamedNamespaces::default();
        let name = "red".parse().unwrap();
        let red = namespace("red").await;
        let other = make(&name).await;
        let error = names.add(vec![(name.clone(), other.clone())]).await.unwrap_err();
        assert!(error.is_exists(), "{error}");
        assert!(error.to_string().starts_with("create namespace red: "), "{error}");
        assert_eq!(id_of(&names, "red"), Some(red.id()));

        names.delete(&name).unwrap();
        assert!(names.open(&name).is_gone());
        assert!(!names.path(&name).exists());
        names.delete(&name).unwrap();
        names.add(vec![(name.clone(), other.clone())]).await.unwrap();
        assert_eq!(id_of(&names, "red"), Some(other.id()));
    });
}

/// Between the look at a namespace and its removal somebody may put another in its place (review B10).
#[test]
fn a_namespace_that_took_the_name_of_one_that_is_to_go_stays() {
    sandboxed(async || {
        let names = NamedNamespaces::default();
        let name = "red".parse().unwrap();
        let open = || names.open(&name).known().unwrap().unwrap();
        namespace("red").await;
        let looked_at = open();
        names.delete(&name).unwrap();
        namespace("red").await;
        let other = open();
        names.delete_this(&name, &looked_at).unwrap();
        assert_eq!(open().id(), other.id());
        // The same where the other was only put on top.
        let below = open();
        let blue = namespace("blue").await;
        let path = names.path(&name);
        mount(
            Some(&names.path(&"blue".parse().unwrap())),
            &path,
            None::<&str>,
            MsFlags::MS_BIND,
            None::<&str>,
        )
        .unwrap();
        names.delete_this(&name, &below).unwrap();
        assert_eq!(open().id(), blue.id());
        // And the very ones go, the last with the file.
        let top = open();
        names.delete_this(&name, &top).unwrap();
        assert_eq!(open().id(), other.id());
        names.delete_this(&name, &other).unwrap();
        assert!(!path.exists());
        assert!(names.open(&"blue".parse().unwrap()).known().unwrap().is_some());
    });
}

#[test]
fn what_is_no_network_namespace_is_refused() {
    sandboxed(async || {
        let names = NamedNamespaces::default();
        namespace("red").await;
        fs::write("/run/netns/file", "").unwrap();
        mkfifo("/run/netns/fifo", Mode::S_IRUSR).unwrap();
        for path in ["/run/netns/file", "/run/netns/fifo", "/proc/thread-self/ns/mnt"] {
            assert!(NetNs::open(Path::new(path)).is_gone(), "{path}");
        }
        assert_eq!(names.list(), ["red"]);
        let (name, other) = (
            "file".parse::<vswitch_api::NsName>().unwrap(),
            make(&"other".parse().unwrap()).await,
        );
        assert!(
            names
                .add(vec![(name.clone(), other.clone())])
                .await
                .unwrap_err()
                .is_exists()
        );
        assert!(
            Path::new("/run/netns/file").exists(),
            "a file of somebody else must stay"
        );
    });
}

#[test]
fn only_a_name_that_stands_for_nothing_is_made_free() {
    sandboxed(async || {
        let names = NamedNamespaces::default();
        namespace("red").await;
        fs::write("/run/netns/empty", "").unwrap();
        fs::write("/run/netns/full", "theirs").unwrap();
        symlink("/run/netns/full", "/run/netns/link").unwrap();
        for name in ["empty", "full", "link", "none", "red"] {
            names.remove_unbound(&name.parse().unwrap()).unwrap();
        }
        assert!(!Path::new("/run/netns/empty").exists());
        assert_eq!(fs::read_to_string("/run/netns/link").unwrap(), "theirs");
        assert_eq!(names.list(), ["red"]);
    });
}

fn id_of(names: &NamedNamespaces, name: &str) -> Option<NetNsId> {
    let found = names.open(&name.parse().unwrap()).known().unwrap();
    found.map(|netns| netns.id())
}

#[test]
fn changes_of_the_names_are_reported_once_they_are_true() {
    sandboxed(async || {
        let names = NamedNamespaces::default();
        namespace("old").await;
        let mut events = names.watch().unwrap();
        let red = "red".parse().unwrap();

        let first = namespace("red").await;
        assert_eq!(events.next().await.unwrap(), NsEvent::Added("red".into()));
        assert_eq!(id_of(&names, "red"), Some(first.id()));

        names.delete(&red).unwrap();
        assert_eq!(events.next().await.unwrap(), NsEvent::Removed("red".into()));

        // Unmounted only: the file is still there.
        umount2("/run/netns/old", MntFlags::MNT_DETACH).unwrap();
        assert_eq!(events.next().await.unwrap(), NsEvent::Removed("old".into()));

        // It came and went before anybody looked.
        namespace("green").await;
        names.delete(&"green".parse().unwrap()).unwrap();
        assert_eq!(events.next().await.unwrap(), NsEvent::Removed("green".into()));

        // Replaced before anybody looks.
        namespace("red").await;
        assert_eq!(events.next().await.unwrap(), NsEvent::Added("red".into()));
        names.delete(&red).unwrap();
        namespace("red").await;
        assert_eq!(events.next().await.unwrap(), NsEvent::Removed("red".into()));
        assert_eq!(events.next().await.unwrap(), NsEvent::Added("red".into()));
    });
}

#[test]
fn the_own_namespace_outlives_its_handles_and_is_adopted() {
    sandboxed(async || {
        let path = Path::new("/run/own");
        let (own, reason) = hold_own(path).await.unwrap();
        assert_eq!(reason, None);
        let id = own.id();
        assert_ne!(id, NetNs::current().unwrap().id());
        for scope in ["all", "default"] {
            let file = format!("/proc/sys/net/ipv6/conf/{scope}/disable_ipv6");
            assert_eq!(
                own.run(move || fs::read_to_string(file)).await.unwrap().unwrap(),
                "1\n",
                "{scope}"
            );
        }
        // A link made in it tells it from a new namespace that got the same inode number.
        let red = namespace("red").await;
        let peer = super::VethPeer {
            netns: &red,
            name: "eth0",
            mac: super::MAC,
        };
        own.netlink().await.unwrap().add_veth("red", 1500, peer).await.unwrap();
        drop(own);

        let (again, reason) = hold_own(path).await.unwrap();
        assert_eq!((again.id(), reason), (id, None));
        super::link(&again.netlink().await.unwrap(), "red").await;

        // What is left when only the mount has gone is used again.
        umount2(path, MntFlags::MNT_DETACH).unwrap();
        let (new, reason) = hold_own(path).await.unwrap();
        assert_eq!(reason, None);
        assert_ne!(new.id(), id);
        assert_eq!(NetNs::open(path).known().unwrap().unwrap().id(), new.id());
    });
}

#[test]
fn an_own_namespace_that_cannot_be_bound_is_used_all_the_same() {
    sandboxed(async || {
        let (own, reason) = hold_own(Path::new("/run/absent/own")).await.unwrap();
        let reason = reason.unwrap();
        assert!(reason.contains("/run/absent/own: No such file"), "{reason}");
        own.netlink().await.unwrap().links().await.unwrap();
    });
}

fn is_denied(error: &KernelError) -> bool {
    matches!(error.errno(), Some(Errno::EPERM | Errno::EACCES))
}

#[test]
fn what_is_not_permitted_is_said_with_the_step() {
    sandboxed(async || {
        let red = namespace("red").await;
        drop_capabilities();
        let blue: vswitch_api::NsName = "blue".parse().unwrap();
        let error = NamedNamespaces::default()
            .add(vec![(blue.clone(), red.clone())])
            .await
            .unwrap_err();
        assert!(is_denied(&error), "{error}");
        let error = NetNs::make(&[blue]).await.unwrap_err();
        assert!(is_denied(&error), "{error}");
        assert!(error.to_string().starts_with("create namespace blue: "), "{error}");
        assert!(!Path::new("/run/netns/blue").exists());
        let error = red.run(|| ()).await.unwrap_err();
        assert!(is_denied(&error), "{error}");
        assert!(error.to_string().starts_with("enter namespace red: "), "{error}");
        let error = hold_own(Path::new("/run/own")).await.unwrap_err();
        assert!(
            error.to_string().starts_with("create the switch's own namespace: "),
            "{error}"
        );
    });
}

/// Takes all capabilities from the calling thread and those that it starts.
fn drop_capabilities() {
    // struct __user_cap_header_struct with _LINUX_CAPABILITY_VERSION_3, and twice struct __user_cap_data_struct
    let (header, data) = ([0x2008_0522_u32, 0], [0u32; 6]);
    // SAFETY: both pointers are to the arrays that this version of the call reads, which outlive it.
    let result = unsafe { libc::syscall(libc::SYS_capset, header.as_ptr(), data.as_ptr()) };
    assert_eq!(result, 0);
}
