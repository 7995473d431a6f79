//! A userspace layer-2 switch for Linux network namespaces.
//!
//! How a frame travels: [`port`] (receive a batch) -> [`datapath`] (learn, look up, output lists) -> [`port`] (send).
//! How a command travels: [`server`] (HTTP on a unix socket) -> [`control`] (the model, reconcile) -> [`kernel`] and [`datapath`].

pub mod args;
pub mod config;
pub mod control;
pub mod datapath;
pub mod fastpath;
mod files;
pub mod filter;
pub mod frame;
pub mod kernel;
pub mod logging;
pub mod pcapng;
pub mod port;
pub mod server;
