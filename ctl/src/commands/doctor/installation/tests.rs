use super::super::samples;
use super::*;

#[test]
fn old_kernels_are_told() {
    for (release, is) in [
        ("6.18.44-x", true),
        ("5.15.0", true),
        ("5.4.0-42", false),
        ("4.19", false),
        ("", false),
    ] {
        assert_eq!(is_new_enough(release), is, "{release}");
    }
}

#[test]
fn what_the_daemon_gets_to_soon_is_no_trouble() {
    let mut ports = samples::healthy().ports;
    ports[1].state = PortState::Attaching;
    let items = down(&ports);
    assert!(
        items[0].ok && items[0].detail.contains("blue is not attached yet"),
        "{items:?}"
    );
}

/// What somebody wants so is no trouble.
#[test]
fn a_port_that_is_set_down_is_well() {
    let mut ports = samples::healthy().ports;
    let up = down(&ports);
    assert!(up.len() == 1 && up[0].ok, "{up:?}");
    ports[1].state = PortState::Down;
    assert!(!down(&ports)[0].ok);
    ports[1].port.up = false;
    let set_down = down(&ports);
    assert!(
        set_down[0].ok && set_down[0].detail == "1 of 2 are up, 1 set down",
        "{set_down:?}"
    );
}

#[test]
fn drops_that_grow_and_are_not_asked_for_are_told() {
    let before = samples::healthy().ports;
    let with = |reason: &str| {
        let mut after = before.clone();
        after[1].counters.tx_drops.insert(reason.to_owned(), 7);
        drops(&before, &after)
    };
    assert!(with("acl-out").ok && with("mirror-port").ok && drops(&before, &before).ok);
    let item = with("queue-full");
    assert!(!item.ok && item.detail.contains("blue") && item.detail.contains("7 frames"));
}
