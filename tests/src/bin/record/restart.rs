//! What a restart costs: frames with numbers, one a millisecond, while the daemon goes away and comes back.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use vswitch_testing::api::PortKind;
use vswitch_testing::frame::{probe, probe_id};
use vswitch_testing::systemd::Machine;
use vswitch_testing::{Lab, Station};

/// Between two frames.
const PACE: Duration = Duration::from_millis(1);
/// Before the restart and after it.
const AROUND: Duration = Duration::from_secs(1);

/// How the daemon goes.
#[derive(Clone, Copy)]
enum Way {
    Restart,
    Stop,
    Kill,
}

/// Each kind of port by each way, and what was lost, as a table.
pub fn run() {
    println!(
        "| frames between | restart by | sent | lost | in another order | longest gap |\n|---|---|---|---|---|---|"
    );
    for (kind, fastpath, text) in [
        (PortKind::Tap, true, "`tap` and `tap`"),
        (PortKind::Veth, false, "`veth` and `veth`, `fastpath = false`"),
        (PortKind::Veth, true, "`veth` and `veth`, by the kernel"),
    ] {
        for (way, by) in [
            (Way::Restart, "`vswitchctl restart`"),
            (Way::Stop, "SIGTERM and a start, without systemd"),
            (Way::Kill, "SIGKILL and a start"),
        ] {
            // A lab holds for the thread that made it.
            let measured = thread::spawn(move || measure(kind, fastpath, way)).join();
            println!("| {text} | {by} | {} |", measured.expect("the run came to its end"));
        }
        if let Some(measured) = by_unit(kind, fastpath) {
            println!("| {text} | `systemctl restart vswitchd` | {measured} |");
        }
    }
}

/// The same by the unit, as an upgrade of the package does it: one ping a millisecond, of which the one that took longest came as the daemon
/// went. None: systemd is not to be had.
fn by_unit(kind: PortKind, fastpath: bool) -> Option<String> {
    const PINGS: u32 = 2000;
    let machine = Machine::boot("", &format!("[datapath]\nfastpath = {fastpath}\n"))?;
    machine.ok("systemctl start vswitchd");
    for (name, address) in [("red", "10.0.0.1/24"), ("blue", "10.0.0.2/24")] {
        machine
            .ctl(&format!("add-port {name} --type {} --addr {address}", kind.word()))
            .ok();
    }
    machine.ok("ip netns exec red ping -n -c 1 -W 5 10.0.0.2");
    let said = thread::scope(|scope| {
        let pings = scope.spawn(|| {
            machine.ok(&format!(
                "ip netns exec red ping -n -q -c {PINGS} -i 0.001 -W 5 10.0.0.2"
            ))
        });
        thread::sleep(AROUND / 2);
        machine.ok("systemctl restart vswitchd");
        pings.join().expect("they end")
    });
    // "2000 packets transmitted, 2000 received, ..." and "rtt min/avg/max/mdev = 0.021/0.034/24.1/0.9 ms, ...".
    let received = said
        .split(" received")
        .next()
        .and_then(|text| text.rsplit(' ').next()?.parse::<u32>().ok());
    let times = said
        .split(" = ")
        .last()
        .and_then(|times| times.split('/').nth(2)?.parse::<f64>().ok());
    let (received, longest) = received
        .zip(times)
        .unwrap_or_else(|| panic!("ping says otherwise: {said}"));
    Some(format!("{PINGS} | {} | | {longest:.0} ms", PINGS - received))
}

fn measure(kind: PortKind, fastpath: bool, way: Way) -> String {
    let mut lab = Lab::without_daemon();
    lab.set_datapath("fastpath", fastpath);
    lab.start();
    let red = Station::add(&lab, "red", kind, 1);
    let blue = Station::add(&lab, "blue", kind, 2);
    red.ping(blue.v4);
    let (to, from) = (blue.mac(), red.mac());
    let (sender, receiver) = (red.raw(false), blue.raw(false));
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let sent = scope.spawn(|| {
            let begin = Instant::now();
            for id in 0.. {
                if stop.load(Ordering::Relaxed) {
                    return id;
                }
                // One that the interface does not take, as it has no carrier, is lost too.
                let _ = sender.try_send(Default::default(), &probe(to, from, id));
                thread::sleep((PACE * (id + 1)).saturating_sub(begin.elapsed()));
            }
            0
        });
        let received = scope.spawn(|| {
            let mut seen = Vec::new();
            while let Some(frame) = receiver.recv(Instant::now() + AROUND) {
                seen.extend(probe_id(&frame.bytes).map(|id| (id, Instant::now())));
            }
            seen
        });
        thread::sleep(AROUND);
        match way {
            Way::Restart => _ = lab.ok("restart"),
            Way::Stop => {
                lab.stop_daemon();
                lab.start();
            }
            Way::Kill => {
                lab.kill_daemon();
                lab.start();
            }
        }
        thread::sleep(AROUND);
        stop.store(true, Ordering::Relaxed);
        let sent: u32 = sent.join().expect("the sender ends");
        let seen = received.join().expect("the receiver ends");
        let numbers: BTreeSet<_> = seen.iter().map(|(id, _)| *id).collect();
        let late = seen.windows(2).filter(|pair| pair[1].0 < pair[0].0).count();
        let gap = seen
            .windows(2)
            .map(|pair| pair[1].1 - pair[0].1)
            .max()
            .unwrap_or_default();
        let lost = sent as usize - numbers.len();
        format!("{sent} | {lost} | {late} | {} ms", gap.as_millis())
    })
}
