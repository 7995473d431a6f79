//! The two switches under one script.

use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};

use vswitch_testing::api::Mac;
use vswitch_testing::frame::{mac, probe, probe_id};
use vswitch_testing::raw::RawSocket;
use vswitch_testing::{DEADLINE, Lab, Ovs, Place};

/// Where what we do on purpose is said.
const FEATURES: &str = include_str!("../../docs/features.md");
/// Numbers of sentinels start here; the script numbers its probes below.
const FIRST_SENTINEL: u32 = 0xfffe_0000;
/// Sends the sentinels.
const MONITOR: &str = "monitor";
/// Gets them, and is part of what is compared.
const WITNESS: &str = "witness";

/// What came out, by port; ports where nothing did are left out.
type Seen = BTreeMap<String, Vec<Vec<u8>>>;

/// A switch to be and what is to happen to it.
pub struct Scenario {
    /// Name, settings for `vswitchctl add-port`, columns of Open vSwitch's table Port.
    pub ports: &'static [(&'static str, &'static str, &'static str)],
    /// Settings, ours and theirs, of the two ports for sentinels, between which a frame without a tag has to pass.
    pub sentinels: (&'static str, &'static str),
    pub steps: Vec<Step>,
}

/// One step of the script.
pub enum Step {
    /// Frames that a station behind a port sends; with a reason if other ports get other frames than with Open vSwitch.
    Send {
        from: &'static str,
        frames: Vec<Vec<u8>>,
        differs: Option<&'static str>,
    },
    /// The same order to both: for `vswitchctl`, and for [`Ovs::run`].
    Command { ours: String, theirs: String },
    /// Nothing happens for a while.
    Pause(Duration),
}

/// A frame with which both do the same.
pub fn same(from: &'static str, frame: Vec<u8>) -> Step {
    burst(from, vec![frame])
}

/// Frames at once with which both do the same.
pub fn burst(from: &'static str, frames: Vec<Vec<u8>>) -> Step {
    Step::Send {
        from,
        frames,
        differs: None,
    }
}

/// A frame with which we do something else, for this reason.
pub fn unlike(from: &'static str, frame: Vec<u8>, why: &'static str) -> Step {
    Step::Send {
        from,
        frames: vec![frame],
        differs: Some(why),
    }
}

/// See [`Step::Command`].
pub fn command(ours: &str, theirs: &str) -> Step {
    Step::Command {
        ours: ours.into(),
        theirs: theirs.into(),
    }
}

/// See [`Step::Pause`]; in milliseconds.
pub fn pause(milliseconds: u64) -> Step {
    Step::Pause(Duration::from_millis(milliseconds))
}

impl Scenario {
    fn all_ports(&self) -> impl Iterator<Item = (&'static str, &'static str, &'static str)> {
        let sentinels = [MONITOR, WITNESS].map(|name| (name, self.sentinels.0, self.sentinels.1));
        self.ports.iter().copied().chain(sentinels)
    }

    /// Plays the script on both and compares what came out after each step that sends something.
    #[track_caller]
    pub fn compare(&self) {
        // Each on a machine of its own, which belongs to a thread.
        let [ours, theirs] = [Switch::ours as fn(&Self) -> Switch, Switch::theirs].map(|start| {
            thread::scope(|scope| {
                let play = || Stage::new(start(self), self).play(&self.steps);
                scope.spawn(play).join()
            })
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        });
        assert!(ours.iter().any(|seen| !seen.is_empty()), "nothing came out anywhere");
        let sends = self.steps.iter().filter_map(|step| match step {
            Step::Send { from, frames, differs } => Some((from, frames, differs)),
            _ => None,
        });
        let mut faults = Vec::new();
        for ((from, frames, differs), (ours, theirs)) in sends.zip(ours.iter().zip(&theirs)) {
            match differs {
                Some(why) => assert!(FEATURES.contains(why), "docs/features.md does not say: {why}"),
                None if ours == theirs => continue,
                None => {}
            }
            if differs.is_none() || ours == theirs {
                faults.push(format!(
                    "{from} sends {:02x?}..\n expected difference: {differs:?}\n ours: {}\n theirs: {}",
                    &frames[0][..22.min(frames[0].len())],
                    short(ours),
                    short(theirs)
                ));
            }
        }
        assert!(faults.is_empty(), "{} steps:\n{}", faults.len(), faults.join("\n"));
    }
}

/// The beginning of each frame is enough to tell what happened.
fn short(seen: &Seen) -> String {
    let frame = |frame: &Vec<u8>| format!("{:02x?}/{}", &frame[12..24.min(frame.len())], frame.len());
    seen.iter()
        .map(|(port, frames)| {
            format!(
                "\n   {port}: {}",
                frames.iter().map(frame).collect::<Vec<_>>().join(" ")
            )
        })
        .collect()
}

enum Switch {
    Ours(Lab),
    /// And the machine that it is on.
    Theirs(Ovs, #[expect(dead_code, reason = "held, for it ends with it")] Lab),
}

impl Switch {
    fn ours(scenario: &Scenario) -> Self {
        let lab = Lab::with_one_worker();
        for (name, settings, _) in scenario.all_ports() {
            lab.ok(&format!("add-port {name} {settings}"));
        }
        Self::Ours(lab)
    }

    fn theirs(scenario: &Scenario) -> Self {
        let machine = Lab::one_processor();
        let ovs = Ovs::start();
        for (name, _, settings) in scenario.all_ports() {
            ovs.add_port(name, settings);
        }
        Self::Theirs(ovs, machine)
    }

    fn carry_out(&self, ours: &str, theirs: &str) {
        match self {
            Self::Ours(lab) => drop(lab.ok(ours)),
            Self::Theirs(ovs, _) => drop(ovs.run(theirs)),
        }
    }
}

/// A switch with a raw socket behind every port.
struct Stage {
    switch: Switch,
    sockets: BTreeMap<String, RawSocket>,
    sentinels: u32,
}

impl Stage {
    fn new(switch: Switch, scenario: &Scenario) -> Self {
        let sockets = scenario
            .all_ports()
            .map(|(name, ..)| {
                let place = Place::named(name);
                place.run(|| std::fs::write("/proc/sys/net/ipv6/conf/eth0/disable_ipv6", "1").unwrap());
                // Open vSwitch would get them with a partial checksum, which it does not finish.
                place.run_ok("ethtool -K eth0 tx off");
                (name.to_owned(), RawSocket::open(&place, "eth0", false))
            })
            .collect();
        // What the stacks said before they were silenced.
        switch.carry_out("fdb flush", "appctl fdb/flush br0");
        Self {
            switch,
            sockets,
            sentinels: FIRST_SENTINEL,
        }
    }

    fn play(mut self, steps: &[Step]) -> Vec<Seen> {
        let mut all = Vec::new();
        self.settle();
        for step in steps {
            match step {
                Step::Command { ours, theirs } => self.switch.carry_out(ours, theirs),
                Step::Pause(time) => thread::sleep(*time),
                Step::Send { from, frames, .. } => {
                    if let Switch::Theirs(ovs, _) = &self.switch {
                        ovs.forget_decisions();
                    }
                    frames.iter().for_each(|frame| self.sockets[*from].send(frame));
                    all.push(self.settle());
                }
            }
        }
        all
    }

    /// Waits until the switch is done with all that was sent; what came out.
    ///
    /// Both have one thread that looks at one port after the other: a second sentinel, sent when the first had come,
    /// was taken after all frames that were there before. And as all are on one processor, what was sent first has
    /// come first, at whatever port.
    fn settle(&mut self) -> Seen {
        let mut seen = Seen::new();
        for _ in 0..2 {
            self.sentinels += 1;
            // From nobody known: ours sends it by the daemon, after all that came to that before.
            self.sockets[MONITOR].send(&probe(Mac::BROADCAST, mac(0xee, self.sentinels), self.sentinels));
            let end = Instant::now() + DEADLINE;
            loop {
                let frame = self.sockets[WITNESS].recv(end).expect("no sentinel came");
                match probe_id(&frame.bytes) {
                    Some(id) if id == self.sentinels => break,
                    _ => note(&mut seen, WITNESS, frame.bytes),
                }
            }
        }
        for (port, socket) in &self.sockets {
            while let Ok(frame) = socket.try_recv() {
                note(&mut seen, port, frame.bytes);
            }
        }
        seen
    }
}

fn note(seen: &mut Seen, port: &str, frame: Vec<u8>) {
    if probe_id(&frame).is_some_and(|id| id < FIRST_SENTINEL) {
        seen.entry(port.to_owned()).or_default().push(frame);
    }
}
