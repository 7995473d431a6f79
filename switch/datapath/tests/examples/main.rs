//! The examples are run as they stand.

#![allow(
    clippy::unwrap_used,
    clippy::duplicate_mod,
    reason = "tests; each example has what is common as it stands"
)]

#[path = "../../examples/custom_port.rs"]
mod custom_port;
#[path = "../../examples/dhcp_client.rs"]
mod dhcp_client;
#[path = "../../examples/forty_lines.rs"]
mod forty_lines;
#[path = "../../examples/lossy_wan.rs"]
mod lossy_wan;

#[test]
fn a_switch_in_forty_lines() {
    forty_lines::main().unwrap();
}

#[test]
fn a_dhcp_client_is_tried_for_hours() {
    dhcp_client::main().unwrap();
}

#[test]
fn tcp_comes_over_a_lossy_line() {
    lossy_wan::main().unwrap();
}

#[test]
fn a_custom_port_is_one_like_any_other() {
    custom_port::main().unwrap();
}
