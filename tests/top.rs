//! `vswitchctl top`, on real terminals.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use vswitch_testing::terminal::{Terminal, there};
use vswitch_testing::{Lab, wait_for};

fn furnished() -> Lab {
    let lab = Lab::new();
    lab.ok("add-port red blue rover --subnet 10.0.0.0/24");
    lab
}

/// A shell in which `top` was begun; none where there is no tmux.
fn terminal(command: &str, columns: u16, lines: u16) -> Option<Terminal> {
    if !there("tmux") {
        return None;
    }
    let terminal = Terminal::start("bash --norc --noprofile", columns, lines);
    terminal.type_text(&format!("{command}; echo en''ded $?"));
    terminal.press("Enter");
    Some(terminal)
}

/// The line of a port, if it is shown: the heading of the details begins with its name too.
fn row(screen: &str, name: &str) -> Option<String> {
    let is_row = |line: &&str| line.split_whitespace().next() == Some(name) && !line.contains(" on main,");
    screen.lines().find(is_row).map(str::to_owned)
}

/// Does something again and again until the screen shows what comes of it.
fn shown_in_the_end(terminal: &Terminal, text: &str, mut again: impl FnMut()) {
    wait_for(text, || {
        again();
        let screen = terminal.screen();
        if screen.contains(text) { Ok(()) } else { Err(screen) }
    });
}

/// What is typed shows again, and lines end as they should: the terminal is as a shell wants it.
fn assert_given_back(terminal: &Terminal, code: i32) {
    terminal.wait_for(&format!("ended {code}"));
    terminal.type_text("stty -a; echo se''en");
    terminal.press("Enter");
    terminal.wait("the terminal's settings", |screen| screen.contains("seen"));
    let settings = terminal.screen();
    for word in ["-icanon", "-echo ", "-opost", "-isig"] {
        assert!(!settings.contains(word), "{word} in\n{settings}");
    }
    assert!(
        !settings.contains("1 Ports"),
        "the screen was not given back:\n{settings}"
    );
    assert_eq!(
        terminal
            .tmux(&["display-message", "-p", "#{alternate_on} #{cursor_flag}"])
            .trim(),
        "0 1"
    );
}

#[test]
fn ports_are_watched_sorted_and_filtered() {
    let lab = furnished();
    let Some(terminal) = terminal("vswitchctl top --every 0.2", 80, 24) else {
        return;
    };
    terminal.wait("all ports", |screen| {
        ["red", "blue", "rover"]
            .iter()
            .all(|name| row(screen, name).is_some_and(|row| row.contains("up")))
    });
    let first = terminal.screen();
    assert!(first.contains("switch main, 3 ports"), "{first}");
    assert!(first.contains("1 Ports") && first.contains("sorted by name"), "{first}");
    assert!(first.lines().all(|line| line.chars().count() <= 80), "{first}");

    // What goes on is seen as a rate, and as a graph.
    wait_for("a rate", || {
        let _ = lab.ctl("ns exec red ping -n -q -c3 -i0.01 10.0.0.2");
        let screen = terminal.screen();
        let grows = row(&screen, "red").is_some_and(|row| {
            let rate = row.split_whitespace().nth(2).unwrap_or("-").to_owned();
            !["-", "0"].contains(&rate.as_str())
        });
        if grows && screen.contains('█') {
            Ok(())
        } else {
            Err(screen)
        }
    });

    terminal.type_text("/ov");
    terminal.press("Enter");
    terminal.wait("one port", |screen| {
        row(screen, "rover").is_some() && row(screen, "red").is_none() && screen.contains("with \"ov\"")
    });
    terminal.press("Escape");
    terminal.wait("all again", |screen| row(screen, "red").is_some());

    terminal.type_text("r");
    terminal.wait("the other way round", |screen| {
        let place = |name| {
            screen
                .lines()
                .position(|line| line.split_whitespace().next() == Some(name))
        };
        screen.contains("reversed") && place("rover") < place("blue")
    });
    terminal.type_text("rs");
    terminal.wait_for("sorted by state");

    // Drops are told by reason.
    lab.ok("acl add blue in deny any");
    terminal.type_text("ssss");
    terminal.wait_for("sorted by name");
    let ping = || drop(lab.ctl("ns exec red ping -n -q -c1 -W1 10.0.0.2"));
    shown_in_the_end(&terminal, "dropped in  acl-", ping);
    terminal.type_text("q");
    assert_given_back(&terminal, 0);
}

#[test]
fn stations_events_and_the_doctor_have_panes() {
    let lab = furnished();
    let Some(terminal) = terminal("vswitchctl top --every 0.2", 80, 24) else {
        return;
    };
    terminal.wait_for("1 Ports");
    let mac = lab.port("red").port.mac.unwrap().to_string();
    lab.ok("ns exec red ping -n -q -c1 10.0.0.2");
    terminal.type_text("2");
    terminal.wait("the stations", |screen| {
        screen.contains("STATION") && screen.contains(&mac)
    });
    terminal.type_text("3");
    lab.ok("add-port green");
    terminal.wait("what happened", |screen| {
        screen.contains("port-added") && screen.contains("green on main")
    });
    terminal.press("Tab");
    terminal.wait("the doctor", |screen| {
        screen.contains("FOUND") && screen.contains("daemon")
    });
    terminal.type_text("1");
    terminal.wait("the new port", |screen| row(screen, "green").is_some());

    // A terminal that gets smaller, and larger again.
    for (columns, lines) in [("40", "10"), ("20", "4"), ("120", "40")] {
        terminal.tmux(&["resize-window", "-x", columns, "-y", lines]);
        terminal.wait("a screen of this size", |screen| {
            screen.lines().count() <= lines.parse().unwrap() && screen.contains("1 Ports")
        });
    }
    terminal.wait("the keys at the bottom", |screen| {
        screen
            .trim_end()
            .lines()
            .last()
            .is_some_and(|line| line.contains("q quit"))
    });
    terminal.press("C-c");
    assert_given_back(&terminal, 0);
}

#[test]
fn a_daemon_that_goes_is_told_and_found_again() {
    let mut lab = furnished();
    let Some(terminal) = terminal("vswitchctl top --every 0.2", 80, 24) else {
        return;
    };
    terminal.wait_for("switch main, 3 ports");
    lab.kill_daemon();
    terminal.wait_for("no answer, trying again");
    lab.start();
    terminal.wait("the ports again", |screen| {
        !screen.contains("no answer") && row(screen, "red").is_some_and(|row| row.contains("up"))
    });
    // Events come again too.
    terminal.type_text("3");
    let mut n = 0;
    terminal.wait("events of the new daemon", |screen| {
        screen.contains("WHEN") || screen.contains("no events")
    });
    shown_in_the_end(&terminal, "port-added", || {
        n += 1;
        lab.ok(&format!("add-port more{n}"));
    });
    terminal.type_text("q");
    assert_given_back(&terminal, 0);
}

#[test]
fn a_signal_gives_the_terminal_back() {
    let _lab = furnished();
    let Some(terminal) = terminal("vswitchctl top", 80, 24) else {
        return;
    };
    terminal.wait_for("switch main, 3 ports");
    let shell = terminal.tmux(&["display-message", "-p", "#{pane_pid}"]);
    let children = format!("/proc/{0}/task/{0}/children", shell.trim());
    let child = std::fs::read_to_string(children).unwrap();
    kill(Pid::from_raw(child.trim().parse().unwrap()), Signal::SIGTERM).unwrap();
    assert_given_back(&terminal, 128 + Signal::SIGTERM as i32);
}

#[test]
fn colours_are_shown_only_where_they_are_wanted() {
    let _lab = furnished();
    for (command, coloured) in [
        ("vswitchctl top", true),
        ("NO_COLOR=1 vswitchctl top", false),
        ("vswitchctl --color never top", false),
        ("TERM=vt100 vswitchctl top", false),
    ] {
        let Some(terminal) = terminal(command, 80, 24) else {
            return;
        };
        terminal.wait("the ports", |screen| {
            row(screen, "red").is_some_and(|row| row.contains("up"))
        });
        let screen = terminal.coloured_screen();
        // Of the first eight, in either of the two ways to say them.
        let has = screen.contains("\x1b[38;5;") || (31..=36).any(|colour| screen.contains(&format!("\x1b[{colour}m")));
        assert_eq!(has, coloured, "{command}: {screen:?}");
        terminal.type_text("q");
        assert_given_back(&terminal, 0);
    }
}

#[test]
fn without_a_terminal_it_is_refused() {
    let lab = furnished();
    lab.ctl("top").failed(2, &["terminal", "show --watch"]);
    if let Some(terminal) = terminal("TERM=dumb vswitchctl top", 80, 24) {
        terminal.wait_for("can't place text");
        terminal.wait_for("ended 2");
    }
}

#[test]
fn without_a_daemon_it_ends_as_any_command() {
    let _lab = Lab::without_daemon();
    if let Some(terminal) = terminal("vswitchctl top", 80, 24) {
        terminal.wait_for("ended 3");
    }
}
