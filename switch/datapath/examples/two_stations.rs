//! A switch with two ports in memory, and a frame from the one to the other, by workers that are threads and in the time of the wall.
//! `forty_lines.rs` does without either.

#![allow(clippy::print_stdout, reason = "an example shows what comes of it")]

use std::time::Duration;

use vswitch_datapath::frame::VNET_HDR_LEN;
use vswitch_datapath::memory::MemoryPort;
use vswitch_datapath::{Datapath, DatapathConfig, PortSettings, PortSetup, SwitchSettings, SwitchSetup};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let datapath = Datapath::start(DatapathConfig::default())?;
    let switch = datapath.add_switch(SwitchSetup {
        fdb_capacity: 1024,
        settings: SwitchSettings::default(),
    });
    let settings = PortSettings::default();
    let (io, red) = MemoryPort::new(true)?;
    datapath.add_port(PortSetup {
        switch,
        io,
        settings: settings.clone(),
    })?;
    let (io, blue) = MemoryPort::new(true)?;
    datapath.add_port(PortSetup { switch, io, settings })?;

    // To all, from 02:00:00:00:00:01, an EtherType for experiments, and what is said.
    red.send(&[&[0xff; 6][..], &[2, 0, 0, 0, 0, 1, 0x88, 0xb5], b"hello blue"].concat());
    let wire = blue.wait(Duration::from_secs(5)).ok_or("nothing came")?;
    println!("{}", String::from_utf8_lossy(&wire[VNET_HDR_LEN + 14..]));
    println!("{:?}", datapath.fdb(switch));
    Ok(())
}
