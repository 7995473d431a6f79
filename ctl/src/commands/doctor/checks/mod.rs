//! The checks, in the order in which a person would make them. Each looks at the picture alone and names one thing that is
//! wrong.

mod addresses;
pub mod ports;
mod stacks;
mod switching;
mod vlan_devices;
mod vlans;

use super::Finding;
use super::picture::Picture;

/// Whether a check makes sense though all pings are answered.
#[derive(Clone, Copy, PartialEq, Eq)]
enum When {
    /// What it finds is wrong in any case.
    Always,
    /// What it finds may be wrong, and is not where the proof says so.
    Unproven,
}

/// The last check, which finds that no answer comes and not why.
pub const PING: &str = "ping";

type Check = fn(&Picture) -> Option<Finding>;

const CHECKS: [(&str, When, Check); 27] = [
    ("state", When::Always, ports::state),
    ("interface", When::Always, ports::interface),
    ("joined", When::Unproven, ports::joined),
    ("link", When::Unproven, ports::link),
    ("address-lost", When::Always, addresses::lost),
    ("address", When::Always, addresses::none),
    ("family", When::Always, addresses::common_family),
    ("duplicate", When::Always, addresses::duplicate),
    ("loss", When::Always, ports::loses_all),
    ("bridge", When::Unproven, ports::bridged),
    ("vlan-device", When::Unproven, vlan_devices::down),
    ("rp-filter", When::Unproven, stacks::reverse_path),
    ("route", When::Unproven, addresses::route),
    ("gateways", When::Unproven, stacks::gateways),
    ("forwarding", When::Unproven, stacks::forwarding),
    ("vlan-carried", When::Unproven, vlan_devices::carried),
    ("vlan-apart", When::Unproven, vlan_devices::apart),
    ("vlan", When::Unproven, vlans::vlan),
    ("switch", When::Unproven, switching::stopped),
    // Behind what stops all packets, and before what their answers tell.
    ("loss", When::Always, ports::loss),
    ("mtu", When::Always, ports::mtu),
    ("neighbour", When::Unproven, stacks::neighbour),
    ("arp", When::Unproven, stacks::silent),
    ("firewall", When::Unproven, stacks::firewall),
    ("echo", When::Unproven, stacks::echo),
    ("wire", When::Unproven, ports::wire),
    (PING, When::Unproven, unanswered),
];

/// The first thing that is wrong.
pub fn first(picture: &Picture) -> Option<Finding> {
    let proven = picture.is_proven();
    let due = CHECKS.iter().filter(|(_, when, _)| !proven || *when == When::Always);
    due.map(|(name, _, check)| (name, check(picture)))
        .find_map(|(name, finding)| finding.map(|finding| Finding { check: name, ..finding }))
}

/// No cause is found, but no answer comes.
fn unanswered(picture: &Picture) -> Option<Finding> {
    let talk = picture.failed().next()?;
    let [Some(from), Some(to)] = &picture.ends else {
        return None;
    };
    let (from, to, source, target) = match talk.answered {
        [false, _] => (from, to, talk.from, talk.to),
        _ => (to, from, talk.to, talk.from),
    };
    let cause = format!("{to} does not answer pings of {from}, though nothing else is seen to be wrong");
    let evidence = format!(
        "`ping -I {source} {target}` in the namespace of {from} gets no answer; `vswitchctl capture {to}` shows what comes"
    );
    Some(Finding::new(cause, evidence))
}

#[cfg(test)]
mod tests {
    use super::super::samples;
    use super::*;

    #[test]
    fn nothing_is_wrong_with_a_healthy_lab() {
        assert_eq!(first(&samples::healthy()), None);
    }

    #[test]
    fn the_first_thing_comes_first() {
        let mut picture = samples::healthy();
        picture.talks[0].answered = [false, true];
        assert_eq!(first(&picture).unwrap().check, "ping");
        samples::filter(&mut picture, "blue", "iptables: -A INPUT -p icmp -j DROP");
        assert_eq!(first(&picture).unwrap().check, "firewall");
        samples::stopped(&mut picture, "acl-in");
        assert_eq!(first(&picture).unwrap().check, "switch");
        picture.ports[1].state = vswitch_api::view::PortState::Down;
        assert_eq!(first(&picture).unwrap().check, "state");
    }

    /// A lossy WAN between two ports of different VLANs: the loss was named, and to take it away mended nothing.
    #[test]
    fn a_wire_that_loses_some_does_not_hide_what_stops_all() {
        let mut picture = samples::healthy();
        picture.ports[1].port.impair.inward = Some("loss=1%".parse().unwrap());
        assert_eq!(first(&picture).unwrap().check, "loss");
        picture.talks[0].answered = [false, false];
        samples::stopped(&mut picture, "acl-in");
        assert_eq!(first(&picture).unwrap().check, "switch");
        picture.ports[1].port.impair.inward = Some("loss=100%".parse().unwrap());
        assert_eq!(first(&picture).unwrap().check, "loss");
    }

    #[test]
    fn what_may_be_wrong_is_not_where_pings_are_answered() {
        let mut picture = samples::healthy();
        samples::filter(&mut picture, "blue", "iptables: -P FORWARD DROP");
        assert_eq!(first(&picture), None);
    }
}
