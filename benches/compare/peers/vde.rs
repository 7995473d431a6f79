//! VDE: one vde_switch, one vde_plug2tap in each end's namespace.

use anyhow::Result;
use std::time::Duration;

use super::Running;
use crate::command::{Daemon, inside, run, wait_until};
use crate::lab::{A, B, INTERFACE, Lab, SWITCH, configure};

const PATIENCE: Duration = Duration::from_secs(10);

pub fn set_up(lab: &Lab) -> Result<Running> {
    let switch_dir = lab.dir().join("vde");
    let switch = format!("vde_switch --sock {}", switch_dir.display());
    let mut running = Running::default();
    running
        .switch
        .push(Daemon::spawn(&inside(SWITCH, &switch), &lab.dir().join("vde.log"))?);
    wait_until("vde_switch listens", PATIENCE, || Ok(switch_dir.join("ctl").exists()))?;

    for end in [&A, &B] {
        let plug = format!("vde_plug2tap --sock {} {INTERFACE}", switch_dir.display());
        running.switch.push(Daemon::spawn(
            &inside(end.ns, &plug),
            &lab.dir().join(format!("plug-{}.log", end.ns)),
        )?);
        wait_until("vde_plug2tap makes its TAP device", PATIENCE, || {
            run(&format!("ip -n {} link show {INTERFACE}", end.ns)).map(|_| true)
        })?;
        configure(end)?;
    }
    running.check_alive()?;
    Ok(running)
}
