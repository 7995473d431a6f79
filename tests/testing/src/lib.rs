//! What black-box tests of the switch stand on, its own and those of others: a [`Lab`] is the real daemon with the real control tool in a
//! network and mount namespace of its own, so that a test sees only what it made and leaves nothing behind.
//!
//! ```no_run
//! use vswitch_testing::api::PortKind;
//! use vswitch_testing::{Lab, Station};
//!
//! let lab = Lab::new();
//! let red = Station::add(&lab, "red", PortKind::Veth, 1);
//! let blue = Station::add(&lab, "blue", PortKind::Veth, 2);
//! red.ping(blue.v4);
//! assert_eq!(lab.fdb("main").len(), 2);
//! ```
//!
//! It needs root, or that the tests are run in a user namespace (`unshare --map-root-user --net --mount cargo test`), and the programs:
//! those that `VSWITCHD` and `VSWITCHCTL` name, else those that cargo has built beside the test, else those in `PATH`.
//!
//! A helper panics where it can't go on, since the test has failed then.
//!
//! With `VSWITCH_TEST_FASTPATH=off` in the environment the daemons run without the kernel fast path, and with
//! `VSWITCH_TEST_ENGINE=epoll` by a system call for each frame.
//!
//! * [`lab`]: the private machine, the daemon's life, the control tool
//! * [`station`]: one end of the switch with an address: ports of every kind
//! * [`netns`]: running code and commands inside a namespace
//! * [`fastpath`]: labs for what the kernel forwards by itself
//! * [`container`]: processes in namespaces of their own
//! * [`transfer`]: TCP and UDP between stations, compared byte for byte
//! * [`trunk`]: stations whose frames have tags
//! * [`bpf`]: programs at the interfaces of stations
//! * [`raw`], [`frame`], [`wire`]: frames in and out as they are, seen at every port
//! * [`random`]: frames of all sorts, the same for the same seed
//! * [`observer`]: the same on a switch that does not let everything pass
//! * [`ovs`]: an Open vSwitch to compare with
//! * [`rich`]: a lab that has a bit of everything
//! * [`snapshot`]: what is there before and after
//! * [`systemd`]: a machine that systemd has booted, for the daemon as a unit
//! * [`terminal`]: a terminal in which keys are pressed
//! * [`faults`]: makes the n-th kernel step of the daemon fail
//! * [`engine`]: Docker and Podman
//! * [`events`]: what the daemon tells as it happens
//! * [`require`]: what a machine may lack, and `VSWITCH_REQUIRE=all`, with which that is a failure
//! * [`http`]: the control socket without the control tool
//! * [`wait`]: waiting for something to become true, with a deadline that means "hangs"

pub mod bpf;
pub mod container;
pub mod ctl;
pub mod daemon;
pub mod engine;
pub mod events;
pub mod fastpath;
pub mod faults;
pub mod frame;
pub mod http;
pub mod lab;
pub mod linux;
pub mod netns;
pub mod observer;
pub mod ovs;
pub mod random;
pub mod raw;
pub mod require;
pub mod rich;
pub mod snapshot;
pub mod station;
pub mod systemd;
pub mod terminal;
pub mod transfer;
pub mod trunk;
pub mod wait;
pub mod wire;

pub use ctl::Reply;
pub use engine::ContainerEngine;
pub use events::Events;
pub use lab::Lab;
pub use netns::{Place, run};
pub use observer::Observer;
pub use ovs::Ovs;
pub use station::Station;
pub use vswitch_api as api;
pub use wait::{DEADLINE, wait_for};
pub use wire::Wire;
