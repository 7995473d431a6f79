//! Storms that keep the loop guard's probes from coming through: the switch floods nothing for a moment, in which they do.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use vswitch_datapath::{Datapath, PortRef, SwitchId};

use super::watch::apart;
use super::{Control, Inner};
use crate::agents::{Input, Surroundings, stormy_ports};

/// How often is looked for one.
const TICK: Duration = Duration::from_secs(1);
/// Where fewer batches came to the workers meanwhile there is no storm, and no reason to ask the kernel for counters. A storm leaves them
/// little time: it was some 20 in a second.
const FEW: u64 = 4;
/// How long what is under way is given to come to its end, and then probes to come back.
const PAUSE: Duration = Duration::from_millis(100);
/// How often in a row probes are sent that find nothing.
const IN_VAIN: u32 = 5;
/// How often they are sent at most, since a lab may have many loops.
const ROUNDS: u32 = 30;

/// Looks for storms, as long as the control is there.
pub(super) async fn watch_storms(control: Weak<Control>, datapath: Weak<Datapath>) {
    let mut tick = interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut floods = Floods::default();
    loop {
        tick.tick().await;
        let Some(datapath) = datapath.upgrade() else { return };
        let stormy = apart(async { floods.stormy(&datapath, Instant::now()) });
        if stormy.is_empty() {
            continue;
        }
        let Some(control) = control.upgrade() else { return };
        control.end_storms(&datapath, &stormy).await;
    }
}

/// How much was flooded by when.
#[derive(Default)]
struct Floods {
    at: Option<Instant>,
    batches: u64,
    flooded: HashMap<PortRef, u64>,
}

impl Floods {
    /// Switches in which there may be a storm, since this was asked last, and whether it comes from several ports.
    fn stormy(&mut self, datapath: &Datapath, now: Instant) -> Vec<(SwitchId, bool)> {
        let batches = datapath.batches().iter().flatten().sum::<u64>();
        let came = batches - std::mem::replace(&mut self.batches, batches);
        if came < FEW {
            self.at = None;
            return Vec::new();
        }
        let counted = datapath.flooded();
        let mut more: BTreeMap<SwitchId, Vec<u64>> = BTreeMap::new();
        for (switch, port, flooded) in &counted {
            if let Some(before) = self.flooded.get(port) {
                more.entry(*switch).or_default().push(flooded.saturating_sub(*before));
            }
        }
        self.flooded = counted.into_iter().map(|(_, port, flooded)| (port, flooded)).collect();
        // What came in a time that nobody has measured is no rate.
        let Some(before) = self.at.replace(now) else {
            return Vec::new();
        };
        let within = now.duration_since(before);
        let counted = more
            .into_iter()
            .map(|(switch, flooded)| (switch, stormy_ports(flooded.into_iter(), within)));
        let stormy = counted.filter(|(_, ports)| *ports > 0);
        stormy.map(|(switch, ports)| (switch, ports > 1)).collect()
    }
}

impl Control {
    /// Holds floods of the switches that the guard wants to be still, until no more loops are found.
    async fn end_storms(self: &Arc<Self>, datapath: &Datapath, stormy: &[(SwitchId, bool)]) {
        let (held, mut shut) = {
            let mut inner = self.inner.lock().await;
            let inner = inner.unpublished();
            apart(async {
                for &(switch, several) in stormy {
                    inner.tell_guard(Input::Storm { switch, several });
                }
            });
            // What goes round goes by others too, which have their own time: still at once, they are empty sooner.
            if !inner.held.is_empty() {
                inner.hold_too(stormy);
            }
            (std::mem::take(&mut inner.held), inner.shut.len())
        };
        if held.is_empty() {
            return;
        }
        let mut in_vain = 0;
        for round in 0..ROUNDS {
            sleep(PAUSE).await;
            // An edit may take longer than anybody is to wait for his broadcasts.
            let Ok(mut inner) = timeout(PAUSE, self.inner.lock()).await else {
                break;
            };
            let inner = inner.unpublished();
            let found = inner.shut.len() > shut;
            shut = inner.shut.len();
            in_vain = if found || round == 0 { 0 } else { in_vain + 1 };
            if in_vain == IN_VAIN {
                break;
            }
            apart(async {
                held.iter()
                    .for_each(|switch| inner.tell_guard(Input::Still { switch: *switch }));
            });
        }
        apart(async { held.iter().for_each(|switch| datapath.hold_floods(*switch, false)) });
    }
}

impl Inner {
    /// Holds the floods of those of these switches that have a guard.
    fn hold_too(&mut self, stormy: &[(SwitchId, bool)]) {
        for (switch, _) in stormy {
            let is_guarded = Surroundings::switch(self, *switch).is_some_and(|facts| facts.guarded);
            if is_guarded && !self.held.contains(switch) {
                self.hold(*switch);
            }
        }
    }

    /// Has a switch flood nothing, until [`Control::end_storms`] has looked for loops.
    pub(super) fn hold(&mut self, switch: SwitchId) {
        if let Some(name) = self.switch_name(switch) {
            tracing::warn!(switch = %name, "switch {name}: it floods as if there were a loop; it floods nothing for a moment, to look for one");
        }
        self.datapath.hold_floods(switch, true);
        self.held.push(switch);
    }
}
