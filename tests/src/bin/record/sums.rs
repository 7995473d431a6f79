//! What holds at the end of each run.

use vswitch_testing::api::view::PortCounters;
use vswitch_testing::{Lab, wait_for};

/// The log of a daemon has nothing of errors.
pub fn no_errors(log: &str) {
    let is_error = |line: &&str| line.contains(" ERROR ") || line.contains("panicked");
    let errors: Vec<_> = log.lines().filter(is_error).collect();
    assert!(errors.is_empty(), "{errors:#?}");
}

/// Every frame is accounted for, at each port and over the switch ([`PortCounters`] has the rule).
pub fn adds_up(lab: &Lab) {
    wait_for("the counters to add up", || {
        let ports = lab.ports();
        let main = || {
            ports
                .iter()
                .filter(|port| port.port.switch.as_str() == "main")
                .map(|port| &port.counters)
        };
        let drops = |drops: &std::collections::BTreeMap<String, u64>| drops.values().sum::<u64>();
        for port in &ports {
            let c = &port.counters;
            let became = c.rx_forwarded + c.rx_flooded + drops(&c.rx_drops);
            if c.rx_frames != became {
                return Err(format!(
                    "{}: {became} of {} frames: {c:#?}",
                    port.port.name, c.rx_frames
                ));
            }
        }
        let sum = |of: fn(&PortCounters) -> u64| main().map(of).sum::<u64>();
        let sent = sum(|c| {
            c.rx_forwarded + c.flood_copies + c.mirror_copies + c.probes + c.impair.tx_duplicates + c.impair.tx_segments
        });
        let came = sum(|c| c.tx_frames + c.impair.tx_waiting) + main().map(|c| drops(&c.tx_drops)).sum::<u64>();
        if sent == came {
            Ok(())
        } else {
            Err(format!(
                "{sent} copies in, {came} out: {:#?}",
                main().collect::<Vec<_>>()
            ))
        }
    });
}
