//! The whole way of a frame, over ports in memory: as an ordinary user, in seconds.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests")]

mod conservation;
mod custom;
mod egress;
mod guard;
mod lab;
mod law;
mod policy;
mod punt;
mod switching;
mod trace;
mod vlan;
