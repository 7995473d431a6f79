//! A userspace layer-2 switch for Linux network namespaces.
//!
//! How a frame travels: [`port`] (receive a batch) -> [`vswitch_datapath`] (learn, look up, output lists) -> [`port`] (send).
//! How a command travels: [`server`] (HTTP on a unix socket) -> [`control`] (the model, reconcile) -> [`vswitch_linux`] and
//! [`vswitch_datapath`].

#![deny(unsafe_code, clippy::print_stderr)]
// No library for others: who reads its documentation works on it, and sees all of it in the code.
#![allow(rustdoc::private_intra_doc_links)]

pub mod agents;
pub mod args;
pub mod config;
pub mod confine;
pub mod control;
pub mod engines;
pub mod fastpath;
mod files;
pub mod handover;
pub mod logging;
pub mod pcapng;
pub mod port;
pub mod preflight;
pub mod server;
pub mod supervisor;

pub use files::canonical;
