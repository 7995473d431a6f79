//! Request, reply and event types of the vswitchd HTTP API.
//!
//! Both sides use these types: the daemon serves them, `vswitchctl` and any other Rust client read
//! and write them. The crate does no I/O. The wire form is JSON; lab files use the same types as TOML.
//!
//! * [`name`]: checked names and addresses ([`Mac`], [`IfAddr`], [`PortName`], ...)
//! * [`acl`]: access control lists
//! * [`cable`]: a cable, and what can be set of it
//! * [`command`]: commands that run in namespaces
//! * [`difference`]: what differs between two documents
//! * [`patch`]: changes as JSON merge patches
//! * [`owned`]: labs side by side, and what is whose
//! * [`policy`]: what a port lets in and out beyond plain switching
//! * [`gateway`]: the way out of a switch, and what is published over it
//! * [`lab`]: what the user wants: switches, ports, namespaces, cables
//! * [`lab_namespace`]: what a lab says of namespaces
//! * [`namespace`]: where the namespace of a port is
//! * [`number`]: numbers as text
//! * [`mirror`]: copies of frames to a port
//! * [`reply`]: reading what a newer daemon says
//! * [`request`]: what a request carries that is not simply one of the above
//! * [`schema`]: JSON Schemas of all this
//! * [`settings`]: settings as keys with values, such as `learning.limit=5`
//! * [`strict`]: reading values so that an object is an object
//! * [`traffic`]: what a port does to its traffic: impairment, policer, storm control
//! * [`trace`]: what would become of a frame
//! * [`view`]: what the daemon answers: states, counters, tables
//! * [`capture`]: what is captured at a port
//! * [`event`]: what happens, as it happens
//! * [`error`]: the one error type and its stable codes

pub mod acl;
pub mod cable;
pub mod capture;
pub mod change;
pub mod command;
pub mod description;
pub mod difference;
pub mod error;
pub mod event;
pub mod gateway;
pub mod lab;
pub mod lab_namespace;
pub mod link;
pub mod mirror;
pub mod name;
pub mod namespace;
pub mod no_host;
pub mod number;
pub mod owned;
pub mod patch;
pub mod policy;
pub mod reply;
pub mod request;
mod said_route;
pub mod schema;
pub mod settings;
pub mod strict;
pub mod trace;
pub mod traffic;
mod undo;
pub mod view;

pub use cable::{Cable, CableEnd, CableView};
pub use command::{Command, ProcessState, ProcessView, Ready, Restart};
pub use error::{ApiError, ErrorCode};
pub use event::{Event, EventKind};
pub use gateway::{Gateway, Publish};
pub use lab::{
    DEFAULT_IFNAME, Lab, OtherKind, Port, PortKind, ReservedMulticast, Route, Stands, StaticStation, Switch,
};
pub use lab_namespace::LabNamespace;
pub use link::Link;
pub use mirror::Mirror;
pub use name::{CommandName, IfAddr, IfName, LabName, Mac, MirrorName, NsName, PortName, SwitchName};
pub use namespace::{ContainerName, Engine, Namespace, NsPath, Pid};
pub use owned::OwnedByLab;
pub use traffic::{Impairment, Impairments, RateLimit, Share, StormControl};

/// Version of the HTTP API; the first part of every path (`/v1/...`).
pub const API_VERSION: u32 = 1;

/// Where the daemon listens if nothing else is said.
pub const DEFAULT_SOCKET: &str = "/run/vswitch/control.sock";

/// The switch that is there by default.
pub const DEFAULT_SWITCH: &str = "main";
