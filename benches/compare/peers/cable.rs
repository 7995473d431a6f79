//! A bare veth pair from end to end: what no switch can be better than.

use anyhow::Result;

use super::Running;
use crate::command::run;
use crate::lab::{A, B, INTERFACE, configure};

pub fn set_up() -> Result<Running> {
    run(&format!(
        "ip -n {} link add {INTERFACE} type veth peer name {INTERFACE} netns {}",
        A.ns, B.ns
    ))?;
    for end in [&A, &B] {
        configure(end)?;
    }
    Ok(Running::default())
}
