//! Async client of `vswitchd`: its HTTP API over the unix socket, with the types of [`vswitch_api`].
//!
//! ```no_run
//! use vswitch_client::Client;
//! use vswitch_client::api::request::ChangeOptions;
//! use vswitch_client::api::{DEFAULT_SWITCH, Port, PortKind, event::EventSelect};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let client = Client::from_env();
//! let mut events = client.events(&EventSelect::default()).await?;
//!
//! // What the lab file's `[[ports]]` has, and `vswitchctl add-port red --addr 192.168.15.1/24` says.
//! let mut port = Port::new("red".parse()?, DEFAULT_SWITCH.parse()?, PortKind::Veth);
//! port.addresses.push("192.168.15.1/24".parse()?);
//! client.add_port(&port, ChangeOptions::default()).await?;
//!
//! while let Some(event) = events.next().await {
//!     println!("{:?}", event?.kind);
//! }
//! # Ok(())
//! # }
//! ```
//!
//! * [`Client`] has a method for nearly each route, and [`Client::get`] and [`Client::send`] for all of them
//! * [`Tag`]s are the API's `ETag`s: [`Client::get_tagged`] reads something with its tag, [`Client::send_if`] changes it only if nobody
//!   else did so meanwhile
//! * [`Error`]s tell an error of the daemon, with its [`ErrorCode`](api::ErrorCode), from a daemon that can't be reached
//! * [`Events`], [`Capture`] and [`Lines`] are streams: of what happens, of frames, of the frames' way
//!
//! An answer is waited for as long as the daemon gives signs of life ([`Client::patience`]); whoever wants to wait less drops the future. An
//! edit that has begun is carried out all the same.
//!
//! What goes wrong is a value too:
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")] async fn main() {
//! use vswitch_client::{Client, Error};
//!
//! let client = Client::new("/nowhere/control.sock");
//! let error = client.status().await.unwrap_err();
//! assert!(error.is_unreachable());
//! assert!(matches!(error, Error::Connect { .. }));
//! # }
//! ```

#![deny(unsafe_code)]

mod body;
mod capture;
mod error;
mod events;
mod http;
mod lines;
pub mod pcapng;
mod progress;
mod routes;
mod sse;

pub use body::Body;
pub use capture::{Capture, Part};
pub use error::Error;
pub use events::Events;
pub use http::{Client, NO_BODY, Tag, with_options, with_query};
pub use hyper::Method;
pub use lines::Lines;
/// The types of requests, replies and events.
pub use vswitch_api as api;
