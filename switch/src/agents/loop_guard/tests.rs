//! Each folder of `cases` is a test: `in.toml` has ports, a switch and what happens when, `out.txt` what the guard wants done.
//! `UPDATE=1` writes the latter anew.

use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::Deserialize;
use vswitch_datapath::PortId;

use super::super::{PortFacts, SwitchFacts, stormy_ports};
use super::*;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    /// What it is about.
    about: String,
    #[serde(default = "yes")]
    guarded: bool,
    flap_moves: u32,
    flap_secs: u32,
    ports: Vec<CasePort>,
    input: Vec<Step>,
}

fn yes() -> bool {
    true
}

/// A port by its number, which is index, serial and age.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CasePort {
    number: u16,
    #[serde(default)]
    switch: u16,
    #[serde(default)]
    device: bool,
    #[serde(default)]
    may_drop: bool,
    #[serde(default)]
    shut: bool,
    #[serde(default = "none")]
    vlans: Vec<u16>,
}

fn none() -> Vec<u16> {
    vec![0]
}

#[derive(Deserialize)]
struct Step {
    /// Milliseconds since the beginning.
    at: u64,
    #[serde(default = "once")]
    times: u32,
    #[serde(flatten)]
    what: What,
}

fn once() -> u32 {
    1
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum What {
    /// Between two ports, to and fro.
    Moves {
        mac: Mac,
        vlan: u16,
        between: [u16; 2],
    },
    /// The last probe of a port comes in at another; `forged` is added to its nonce.
    ProbeBack {
        from: u16,
        at: u16,
        #[serde(default)]
        forged: i64,
        /// Where it comes in, if that is another VLAN than it went out in.
        vlan: Option<u16>,
    },
    Shut {},
    Suspected {
        port: u16,
        vlan: u16,
    },
    Tick {},
    Storm {
        switch: u16,
        #[serde(default = "yes")]
        several: bool,
    },
    Still {
        switch: u16,
    },
}

impl Surroundings for Case {
    fn switch(&self, _: SwitchId) -> Option<SwitchFacts> {
        Some(SwitchFacts {
            guarded: self.guarded,
            flap_moves: self.flap_moves,
            flap_secs: self.flap_secs,
        })
    }

    fn port(&self, port: PortRef) -> Option<PortFacts> {
        let found = self.ports.iter().find(|other| reference(other.number) == port)?;
        Some(PortFacts {
            switch: SwitchId(found.switch),
            rank: (!found.device, found.number.into()),
            shut: found.shut,
        })
    }

    fn ports_that_may_drop(&self, switch: SwitchId) -> Vec<PortRef> {
        let ports = self.ports.iter();
        let ports = ports.filter(|port| port.may_drop && port.switch == switch.0);
        ports.map(|port| reference(port.number)).collect()
    }

    fn ports_in_vlans(&self, switch: SwitchId) -> Vec<(PortRef, Vec<u16>)> {
        let ports = self.ports.iter();
        let ports = ports.filter(|port| port.switch == switch.0 && !port.shut);
        ports.map(|port| (reference(port.number), port.vlans.clone())).collect()
    }
}

fn reference(number: u16) -> PortRef {
    PortRef {
        id: PortId(number),
        serial: number.into(),
    }
}

fn next_random() -> io::Result<u64> {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    Ok(NEXT.fetch_add(1, Ordering::Relaxed))
}

/// What the guard wants done, a line each.
fn play(case: &Case) -> String {
    let mut guard = LoopGuard::new(0, next_random);
    let begin = Instant::now();
    let mut nonces: HashMap<PortRef, (u64, u16)> = HashMap::new();
    let mut text = format!("# {}\n", case.about);
    for step in &case.input {
        let now = begin + Duration::from_millis(step.at);
        for n in 0..step.times {
            let input = match step.what {
                What::Moves { mac, vlan, between } => {
                    let [from, to] = if n % 2 == 0 { between } else { [between[1], between[0]] };
                    let switch = case.port(reference(from)).unwrap().switch;
                    let (from, to) = (reference(from), reference(to));
                    Input::Moved {
                        switch,
                        vlan,
                        mac,
                        from,
                        to,
                    }
                }
                What::ProbeBack { from, at, forged, vlan } => Input::ProbeBack {
                    sent: reference(from),
                    nonce: nonces
                        .get(&reference(from))
                        .map_or(7, |(nonce, _)| nonce.wrapping_add_signed(forged)),
                    received: reference(at),
                    vlan: vlan.unwrap_or_else(|| nonces.get(&reference(from)).map_or(0, |(_, vlan)| *vlan)),
                },
                What::Shut {} => {
                    guard.begin_anew();
                    continue;
                }
                What::Suspected { port, vlan } => Input::Suspected {
                    port: reference(port),
                    vlan,
                },
                What::Storm { switch, several } => Input::Storm {
                    switch: SwitchId(switch),
                    several,
                },
                What::Still { switch } => Input::Still {
                    switch: SwitchId(switch),
                },
                What::Tick {} => {
                    guard.tidy(now);
                    continue;
                }
            };
            for action in guard.take(now, input, case) {
                write!(text, "{:>6} ", step.at).unwrap();
                match action {
                    Action::Probe { port, vlan, nonce } => {
                        let same = nonces
                            .insert(port, (nonce, vlan))
                            .is_some_and(|(before, _)| before == nonce);
                        let again = if same { " again" } else { "" };
                        writeln!(text, "probe out of {} in VLAN {vlan}{again}", port.id.0).unwrap();
                    }
                    Action::Shut {
                        port,
                        cause,
                        time,
                        vlan,
                    } => {
                        let cause = match cause {
                            LoopCause::Flaps { mac, eldest } => format!("{mac} flaps between it and {}", eldest.id.0),
                            LoopCause::OwnFrames => "its own frames come back".into(),
                            LoopCause::SamePlace(other) => format!("it leads where {} leads", other.id.0),
                        };
                        let time = time.as_millis();
                        writeln!(text, "shut {} for {time} ms: {cause}, in VLAN {vlan}", port.id.0).unwrap();
                    }
                    Action::Flapping { mac, ports, moves, .. } => {
                        let ports: Vec<_> = ports.iter().map(|port| port.id.0).collect();
                        writeln!(text, "{mac} flaps between {ports:?}, {moves} moves").unwrap();
                    }
                    Action::Hold { switch } => writeln!(text, "hold floods of switch {}", switch.0).unwrap(),
                    Action::NoRandom(error) => writeln!(text, "{error}").unwrap(),
                }
            }
        }
    }
    text
}

#[test]
fn each_case_comes_out_as_expected() {
    let cases = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/agents/loop_guard/cases");
    let mut count = 0;
    for entry in fs::read_dir(cases).unwrap() {
        let folder = entry.unwrap().path();
        let case: Case = toml::from_str(&fs::read_to_string(folder.join("in.toml")).unwrap())
            .unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        let (out, expected) = (play(&case), folder.join("out.txt"));
        if std::env::var_os("UPDATE").is_some() {
            fs::write(&expected, &out).unwrap();
        }
        assert_eq!(out, fs::read_to_string(&expected).unwrap(), "{}", folder.display());
        count += 1;
    }
    assert!(count >= 9, "only {count} cases");
}

#[test]
fn a_storm_is_known_by_its_rate() {
    let second = Duration::from_secs(1);
    let ports = |flooded: &[u64], within| stormy_ports(flooded.iter().copied(), within);
    assert_eq!(ports(&[5000, 0, 6000], second), 2);
    assert_eq!(ports(&[4999, 6000], second), 1);
    assert_eq!(ports(&[0, 0], Duration::ZERO), 0);
    assert_eq!(
        (ports(&[500, 500], second / 10), ports(&[9000, 9000], second * 2)),
        (2, 0)
    );
}

#[test]
fn the_time_doubles_up_to_a_bound_and_is_no_port_s_like_another_s() {
    let mut guard = LoopGuard::new(99, next_random);
    let mut times = |port| {
        let shut = (0..7).map(|_| guard.shut(Instant::now(), reference(port), LoopCause::OwnFrames, 0));
        let time = |action| match action {
            Action::Shut { time, .. } => time,
            other => panic!("{other:?}"),
        };
        shut.map(time).collect::<Vec<_>>()
    };
    let [first, second] = [times(1), times(2)];
    for (time, least) in first.iter().zip([10, 20, 40, 80, 160, 300, 300]) {
        let least = Duration::from_secs(least);
        assert!(*time >= least && *time <= least * 3 / 2, "{first:?}");
    }
    // By more than what a look at the ports takes (a second) even at the first time.
    for (a, b) in first.iter().zip(&second) {
        assert!(a.abs_diff(*b) > SECOND, "{first:?} {second:?}");
    }
}
