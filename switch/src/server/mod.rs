//! The HTTP API on the control socket.
//!
//! A request's way: [`socket`] (who may connect) -> [`slots`] (how many) -> [`listener`] (HTTP, time limits) -> [`roles`] (who may do what) -> [`extract`]
//! (checked values out of path, query and body) -> a route ([`lab`], [`switches`], [`ports`], [`namespaces`], [`cables`], [`events`], [`capture`], [`mirrors`], [`trace`], [`log`], [`metrics`])
//! -> [`crate::control`]. All that fails on this way is answered by an [`ApiError`](vswitch_api::ApiError) as JSON ([`error`]).

mod about;
mod api;
mod audit;
mod cables;
mod capture;
mod commands;
#[cfg(test)]
mod compat;
mod document;
mod error;
mod events;
mod extract;
mod formats;
mod lab;
mod large;
mod links;
mod listener;
mod lock;
mod log;
mod metrics;
mod mirrors;
mod namespaces;
mod patience;
mod ports;
mod processes;
mod restart;
mod roles;
mod said;
mod slots;
mod socket;
mod switches;
mod trace;

pub use api::{openapi, router};
pub use listener::{Served, serve};
pub use lock::RunLock;
pub use metrics::MetricsListener;
pub use socket::{ControlSocket, check_path, find_group};
