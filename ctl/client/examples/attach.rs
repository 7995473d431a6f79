//! Attach a namespace to the switch and watch what happens: `cargo run --example attach -- red 192.168.15.1/24`

#![allow(clippy::print_stdout, reason = "an example shows what comes of it")]

use std::error::Error;

use vswitch_client::Client;
use vswitch_client::api::event::EventSelect;
use vswitch_client::api::request::ChangeOptions;
use vswitch_client::api::{DEFAULT_SWITCH, EventKind, Port, PortKind};

/// Adds a port with a namespace of its name, which is made if it is not there. Gives what happened until then.
pub async fn attach(client: &Client, name: &str, address: &str) -> Result<Vec<EventKind>, Box<dyn Error>> {
    let mut port = Port::new(name.parse()?, DEFAULT_SWITCH.parse()?, PortKind::Veth);
    port.namespace = Some(name.parse()?);
    port.addresses.push(address.parse()?);

    // From before the port is there, so that nothing is missed.
    let mut events = client.events(&EventSelect::default()).await?;
    let changes = client.add_port(&port, ChangeOptions::default()).await?;
    changes.done.iter().for_each(|line| println!("{line}"));

    let mut seen = Vec::new();
    while let Some(event) = events.next().await {
        let event = event?;
        println!("{}: {:?}", event.seq, event.kind);
        let is_last = matches!(&event.kind, EventKind::PortAdded { port: added, .. } if *added == port.name);
        seen.push(event.kind);
        if is_last {
            return Ok(seen);
        }
    }
    Err("vswitchd ended the stream of events".into())
}

/// Attaches what the command line names.
#[tokio::main(flavor = "current_thread")]
pub async fn main() -> Result<(), Box<dyn Error>> {
    let mut words = std::env::args().skip(1);
    let (Some(name), Some(address)) = (words.next(), words.next()) else {
        return Err("say which namespace and which address: attach red 192.168.15.1/24".into());
    };
    attach(&Client::from_env(), &name, &address).await?;
    Ok(())
}
