//! A switch in forty lines: frames in and out, a slow line, a station that is forgotten, and no time that passes.

use std::error::Error;
use std::time::Duration;

use vswitch_datapath::api::Mac;
use vswitch_datapath::testing::Switch;

/// Runs it.
pub fn main() -> Result<(), Box<dyn Error>> {
    let switch = Switch::new()?;
    let [red, blue, green] = [switch.add_port()?, switch.add_port()?, switch.add_port()?];
    let (of_red, of_blue) = (Mac([2, 0, 0, 0, 0, 1]), Mac([2, 0, 0, 0, 0, 2]));
    let frame = |to: Mac, from: Mac| [&to.0[..], &from.0, &[0x88, 0xb5], b"hello"].concat();

    // Nobody knows where blue is: all others get what is for it.
    red.send(&frame(of_blue, of_red));
    assert!(blue.receive().is_some() && green.receive().is_some());

    // Where red is was learned from that.
    blue.send(&frame(of_red, of_blue));
    assert!(red.receive().is_some() && green.receive().is_none());
    assert_eq!(switch.place(of_red), Some(red.id().id));

    // A line of 40 ms that loses one frame in ten, the same ones in each run.
    blue.impair_out(Some("delay=40ms,loss=10%,seed=1".parse()?));
    (0..100).for_each(|_| red.send(&frame(of_blue, of_red)));
    switch.advance(Duration::from_micros(39_999));
    assert_eq!(blue.receive_all().len(), 0);
    switch.advance(Duration::from_micros(1));
    let arrived = blue.receive_all().len() as u64;
    assert_eq!(arrived, 100 - blue.counters().tx_drops["impair-loss"]);

    // Five minutes later both are forgotten.
    switch.advance(Duration::from_secs(300));
    assert_eq!(switch.stations(), []);
    Ok(())
}
