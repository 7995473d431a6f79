//! Two namespaces, a rule and what it does: a test in twenty lines. As root, or in a user namespace (`unshare --map-root-user --net --mount`).

use vswitch_testing::api::PortKind;
use vswitch_testing::{Lab, Station};

/// Runs it.
pub fn main() {
    // A machine of its own, on which the daemon runs; it ends with this.
    let lab = Lab::new();
    let red = Station::add(&lab, "red", PortKind::Veth, 1);
    let blue = Station::add(&lab, "blue", PortKind::Veth, 2);
    red.ping(blue.v4);
    assert_eq!(lab.fdb("main").len(), 2);

    lab.ok("acl add red in deny icmp to 10.7.0.2");
    let refused = red.place.output("ping -n -c 1 -W 1 10.7.0.2");
    assert!(!refused.status.success());
    assert_eq!(lab.port("red").counters.rx_drops["acl-in"], 1);
    // Nothing else is refused, and what was counted adds up.
    red.ping(blue.v6);
    lab.wait_for_sums();
}
