use std::os::unix::fs::symlink;

use vswitch_api::{Port, PortKind};

use super::super::state::{DeviceBefore, OwnedNamespace};
use super::*;
use vswitch_linux::NetNs;

fn sample() -> State {
    let mut state = State::new();
    let red = Port::new("red".parse().unwrap(), "main".parse().unwrap(), PortKind::Veth);
    state.lab.ports.push(red);
    state
        .lab
        .switches
        .push(vswitch_api::Switch::new("main".parse().unwrap()));
    let here = NetNs::current().unwrap();
    state
        .namespaces
        .push(OwnedNamespace::new("red".parse().unwrap(), &here, "boot").unwrap());
    state.devices.insert(
        "eth1".parse().unwrap(),
        DeviceBefore {
            in_use: false,
            up: true,
            mtu: 9000,
            promiscuous: false,
            index: Some(7),
            mac: Some(vswitch_api::Mac([2, 0, 0, 0, 0, 7])),
        },
    );
    state
}

fn loaded(file: &StateFile) -> State {
    match file.load() {
        Loaded::State(Some(state)) => *state,
        other => panic!("{other:?}"),
    }
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn the_state_comes_back_as_it_was_saved_and_the_one_before_stays_beside() {
    let dir = tempfile::tempdir().unwrap();
    let deep = dir.path().join("deep/down");
    let file = StateFile::open(&deep).unwrap();
    assert!(matches!(file.load(), Loaded::State(None)));
    let first = sample();
    file.save(&first).unwrap();
    assert_eq!(loaded(&file), first);
    assert_eq!(names(&deep), ["state.json"]);
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&deep), 0o700);
    let mut second = first.clone();
    second.lab = Lab::default();
    file.save(&second).unwrap();
    // What is there already is no change.
    file.save(&second).unwrap();
    assert_eq!(loaded(&file), second);
    assert_eq!(read(&deep.join(BACKUP)), Ok(Some(first)));
    assert_eq!(names(&deep), ["state.json", "state.json.bak"]);
}

#[test]
fn what_is_prepared_counts_only_when_it_is_committed() {
    let dir = tempfile::tempdir().unwrap();
    let file = StateFile::open(dir.path()).unwrap();
    let first = sample();
    file.save(&first).unwrap();
    let second = State::new();
    let prepared = file.prepare(&second).unwrap();
    assert_eq!(names(dir.path()), ["state.json", "state.json.new"]);
    assert_eq!(loaded(&file), first);
    drop(prepared);
    assert_eq!(names(dir.path()), ["state.json"]);
    file.prepare(&second).unwrap().commit().unwrap();
    assert_eq!(loaded(&file), second);
}

#[test]
fn a_file_that_is_no_state_is_left_as_it_is_with_a_way_to_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let file = StateFile::open(dir.path()).unwrap();
    let whole = serde_json::to_string(&sample()).unwrap();
    let newer = whole.replace("\"version\":1", "\"version\":99,\"more\":[]");
    let unknown = whole.replace("\"salt\"", "\"pepper\":1,\"salt\"");
    let mut state = sample();
    state.lab.ports.push(state.lab.ports[0].clone());
    let twice = serde_json::to_string(&state).unwrap();
    let with = |change: fn(&mut Port)| {
        let mut state = sample();
        change(&mut state.lab.ports[0]);
        serde_json::to_string(&state).unwrap()
    };
    let mac = with(|port| port.mac = Some(vswitch_api::Mac([1, 0, 0x5e, 0, 0, 1])));
    let mtu = with(|port| port.mtu = Some(99_999_999));
    let link = with(|port| port.kind = PortKind::Link);
    let elsewhere = with(|port| port.switch = "nope".parse().unwrap());
    let mut state = sample();
    state.lab.switches[0].fdb_capacity = u32::MAX;
    let capacity = serde_json::to_string(&state).unwrap();
    for (bad, word) in [
        ("", "damaged"),
        ("{", "damaged"),
        ("{\"lab\":1}", "damaged"),
        (newer.as_str(), "version 99"),
        (unknown.as_str(), "pepper"),
        (twice.as_str(), "port \"red\" is named twice"),
        (&mac, "a group address"),
        (&mtu, "MTU 99999999"),
        (&link, "one end of a link"),
        (&elsewhere, "port \"red\": there is no switch \"nope\""),
        (&capacity, "FDB capacity 4294967295"),
    ] {
        fs::write(file.path(), bad).unwrap();
        let Loaded::Unusable(cause) = file.load() else {
            panic!("{bad} was taken for a state");
        };
        let refusal = file.refusal(&cause).to_string();
        assert!(refusal.contains(word) && refusal.contains("--recover"), "{refusal}");
        assert!(!refusal.contains(BACKUP), "there is none: {refusal}");
        assert_eq!(fs::read_to_string(file.path()).unwrap(), bad);
    }
    fs::write(dir.path().join(BACKUP), &whole).unwrap();
    assert!(file.refusal("").to_string().contains(BACKUP));
}

#[test]
fn two_files_that_are_set_aside_both_stay() {
    let dir = tempfile::tempdir().unwrap();
    let file = StateFile::open(dir.path()).unwrap();
    fs::write(file.path(), "none").unwrap();
    fs::write(dir.path().join(BACKUP), "good").unwrap();
    let aside = file.set_aside().unwrap();
    assert_eq!(
        fs::read_to_string(dir.path().join(format!("{}.bak", aside.display()))).unwrap(),
        "good"
    );
    fs::remove_file(format!("{}.bak", aside.display())).unwrap();
    fs::remove_file(aside).unwrap();
    for content in ["one", "two"] {
        fs::write(file.path(), content).unwrap();
        let aside = file.set_aside().unwrap();
        assert_eq!(fs::read_to_string(aside).unwrap(), content);
    }
    assert_eq!(names(dir.path()).len(), 2);
}

#[test]
fn the_state_is_for_its_owner_alone_and_follows_no_link() {
    let dir = tempfile::tempdir().unwrap();
    let file = StateFile::open(dir.path()).unwrap();
    let victim = dir.path().join("victim");
    fs::write(&victim, "theirs").unwrap();
    symlink(&victim, dir.path().join("state.json.new")).unwrap();
    file.save(&sample()).unwrap();
    assert_eq!(fs::read_to_string(&victim).unwrap(), "theirs");
    let mode = || fs::symlink_metadata(file.path()).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(), 0o600);
    fs::set_permissions(file.path(), Permissions::from_mode(0o644)).unwrap();
    loaded(&file);
    assert_eq!(mode(), 0o600, "that of an earlier version");
}

#[test]
fn a_directory_has_one_daemon() {
    let dir = tempfile::tempdir().unwrap();
    let first = StateFile::open(dir.path()).unwrap();
    let error = StateFile::open(dir.path()).unwrap_err();
    assert_eq!(error.code, ErrorCode::Conflict);
    assert!(error.to_string().contains("--state-dir"), "{error}");
    drop(first);
    StateFile::open(dir.path()).unwrap();
}
