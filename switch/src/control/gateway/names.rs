//! Names of ports inside namespaces: `/etc/netns/NAME/hosts`, and `resolv.conf` where the gateway answers DNS.
//!
//! Both are symbolic links to files in the run directory, one for all and one for each switch: so a lab of thousands writes one file for a
//! new port, processes that run see it at once, and what is ours is told by where it leads. Nothing else is touched or removed.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use vswitch_api::{Lab, NsName, Port, SwitchName};

use super::super::etc::EtcFiles;
use super::serve::{folder, names, own_hosts, put};
use crate::files::gone_is_fine;

const HOSTS: &str = "hosts";
const RESOLV: &str = "resolv.conf";
/// What every host knows.
const ALWAYS: &str = "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n";

/// What stands in `/etc/netns`: by namespace and name, where it leads.
pub(in super::super) type Links = BTreeMap<(NsName, &'static str), PathBuf>;

fn resolv_file(run_dir: &Path, switch: &SwitchName) -> PathBuf {
    folder(run_dir).join(format!("{switch}.resolv"))
}

/// The files of one lab, with what is in them.
fn files(run_dir: &Path, lab: &Lab) -> BTreeMap<PathBuf, String> {
    let mut files = BTreeMap::new();
    if lab.ports.is_empty() && lab.cables.is_empty() {
        return files;
    }
    let own = own_hosts();
    let text = format!(
        "# Made by vswitchd: names of ports, then those of the host.\n{}{ALWAYS}{own}",
        names(lab, &own)
    );
    files.insert(folder(run_dir).join(HOSTS), text);
    for switch in lab.switches.iter().filter(|switch| switch.dns) {
        let addresses = lab
            .gateway_of(switch)
            .into_iter()
            .flat_map(|gateway| &gateway.addresses);
        let lines = addresses.map(|address| format!("nameserver {}\n", address.ip()));
        let text = format!(
            "# Made by vswitchd: the gateway of switch {}.\n{}",
            switch.name,
            lines.collect::<String>()
        );
        files.insert(resolv_file(run_dir, &switch.name), text);
    }
    files
}

fn links(run_dir: &Path, lab: &Lab) -> Links {
    let mut links = Links::new();
    let ends = lab
        .cables
        .iter()
        .flat_map(|cable| [&cable.a.namespace, &cable.b.namespace]);
    for name in lab.ports.iter().filter_map(Port::named_namespace).chain(ends) {
        links.insert((name.clone(), HOSTS), folder(run_dir).join(HOSTS));
    }
    for port in &lab.ports {
        let with_dns = lab
            .switches
            .iter()
            .any(|switch| switch.dns && switch.name == port.switch);
        if let Some(namespace) = port.named_namespace().filter(|_| with_dns) {
            let file = || resolv_file(run_dir, &port.switch);
            links.entry((namespace.clone(), RESOLV)).or_insert_with(file);
        }
    }
    // What the lab says itself comes first.
    links.retain(|(name, file), _| {
        let said = lab.namespace(name).map(|one| &one.files);
        !said.is_some_and(|files| files.keys().any(|path| path.as_str() == *file))
    });
    links
}

/// Makes the folder of the run directory that others than root may look into: dnsmasq gives up its rights.
pub(super) fn make_folder(run_dir: &Path) -> io::Result<()> {
    let folder = folder(run_dir);
    match fs::DirBuilder::new().mode(0o755).create(&folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)),
    }
}

/// Whether the file with the names of all ports is not there.
pub(super) fn are_gone(run_dir: &Path) -> bool {
    let file = folder(run_dir).join(HOSTS).symlink_metadata();
    file.is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
}

/// Makes files and links what a lab wants, where `before` is what was made last; none: whatever a daemon before left is looked for.
///
/// # Errors
/// A folder can't be written; the rest was done all the same.
pub(in super::super) fn fit(
    run_dir: &Path,
    folders: &EtcFiles,
    lab: &Lab,
    before: Option<&Links>,
) -> io::Result<Links> {
    let etc = folders.path();
    let (files, wanted) = (files(run_dir, lab), links(run_dir, lab));
    let mut result = Ok(());
    let mut keep = |done: io::Result<()>| {
        if let (Ok(()), Err(error)) = (&result, done) {
            result = Err(error);
        }
    };
    if !files.is_empty() {
        keep(make_folder(run_dir));
    }
    for (path, text) in &files {
        keep(put(path, text).map(|_| ()));
    }
    let found;
    let before = match before {
        Some(before) => before,
        None => {
            found = left(run_dir, etc);
            &found
        }
    };
    let have = |links: &Links, namespace: &NsName| {
        [HOSTS, RESOLV]
            .into_iter()
            .any(|file| links.contains_key(&(namespace.clone(), file)))
    };
    let of = |links: &Links| {
        links
            .keys()
            .map(|(namespace, _)| namespace.clone())
            .collect::<BTreeSet<_>>()
    };
    let new: Vec<_> = of(&wanted)
        .into_iter()
        .filter(|namespace| !have(before, namespace))
        .collect();
    keep(folders.spare(new.iter()));
    for ((namespace, file), target) in before {
        if wanted.get(&(namespace.clone(), *file)) != Some(target) {
            keep(unlink(etc, namespace, file, run_dir));
        }
    }
    for ((namespace, file), target) in &wanted {
        let is_there = || etc.join(namespace.as_str()).join(file).symlink_metadata().is_ok();
        if before.get(&(namespace.clone(), *file)) != Some(target) || !is_there() {
            keep(link(etc, namespace, file, target));
        }
    }
    let gone: Vec<_> = of(before)
        .into_iter()
        .filter(|namespace| !have(&wanted, namespace))
        .collect();
    keep(folders.leave(gone.iter()));
    // What no lab has any more, of these two kinds.
    let is_ours = |path: &Path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name == HOSTS || name.ends_with(".resolv")
    };
    let there: BTreeSet<_> = entries(&folder(run_dir)).filter(|path| is_ours(path)).collect();
    for path in there.into_iter().filter(|path| !files.contains_key(path)) {
        keep(gone_is_fine(fs::remove_file(path)));
    }
    result.map(|()| wanted)
}

fn entries(folder: &Path) -> impl Iterator<Item = PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.path())
}

/// The links that a daemon before has made.
fn left(run_dir: &Path, etc: &Path) -> Links {
    let mut links = Links::new();
    for path in entries(etc) {
        let Some(namespace) = path.file_name().and_then(|name| name.to_str()?.parse::<NsName>().ok()) else {
            continue;
        };
        for file in [HOSTS, RESOLV] {
            if let Some(target) = fs::read_link(path.join(file))
                .ok()
                .filter(|target| target.starts_with(folder(run_dir)))
            {
                links.insert((namespace.clone(), file), target);
            }
        }
    }
    links
}

/// One that is somebody else's stays.
fn link(etc: &Path, namespace: &NsName, file: &str, target: &Path) -> io::Result<()> {
    let folder = etc.join(namespace.as_str());
    fs::DirBuilder::new().recursive(true).mode(0o755).create(&folder)?;
    match symlink(target, folder.join(file)) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            tracing::debug!("{} is somebody else's, and stays", folder.join(file).display());
            Ok(())
        }
        made => made,
    }
}

fn unlink(etc: &Path, namespace: &NsName, file: &str, run_dir: &Path) -> io::Result<()> {
    let path = etc.join(namespace.as_str()).join(file);
    match fs::read_link(&path) {
        Ok(target) if target.starts_with(folder(run_dir)) => gone_is_fine(fs::remove_file(&path)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn lab(ports: &[&str]) -> Lab {
        let ports: Vec<_> = ports
            .iter()
            .map(|name| json!({"name": name, "namespace": name, "addresses": ["10.0.0.1/24"]}))
            .collect();
        serde_json::from_value(json!({"ports": ports})).unwrap()
    }

    #[test]
    fn links_come_and_go_with_ports_and_what_is_somebody_elses_stays() {
        let dir = tempfile::tempdir().unwrap();
        let (run_dir, etc) = (dir.path().join("run"), dir.path().join("etc/netns"));
        fs::create_dir_all(&run_dir).unwrap();
        fs::create_dir_all(etc.join("theirs")).unwrap();
        fs::write(etc.join("theirs/hosts"), "10.9.9.9 x\n").unwrap();
        fs::create_dir_all(etc.join("empty")).unwrap();
        let folders = EtcFiles::at(&etc, &dir.path().join("state"));
        let links = fit(&run_dir, &folders, &lab(&["red", "theirs", "empty"]), None).unwrap();
        let text = fs::read_to_string(etc.join("red/hosts")).unwrap();
        assert!(text.contains("10.0.0.1 red\n") && text.contains("localhost"), "{text}");
        assert_eq!(fs::read_to_string(etc.join("theirs/hosts")).unwrap(), "10.9.9.9 x\n");
        // The next daemon finds them.
        assert_eq!(left(&run_dir, &etc).len(), 2);
        fs::write(etc.join("red/nsswitch.conf"), "").unwrap();
        let links = fit(&run_dir, &folders, &lab(&["red", "blue"]), Some(&links)).unwrap();
        assert!(etc.join("blue/hosts").exists());
        // One that was there before stays, though there is nothing in it.
        assert!(etc.join("empty").exists() && !etc.join("empty/hosts").exists());
        fit(&run_dir, &folders, &lab(&[]), Some(&links)).unwrap();
        assert!(etc.join("red/nsswitch.conf").exists() && !etc.join("red/hosts").exists());
        assert!(etc.join("theirs/hosts").exists() && !etc.join("blue").exists());
        assert_eq!(entries(&folder(&run_dir)).count(), 0);
    }
}
