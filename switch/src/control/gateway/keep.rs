//! What the host does for gateways is looked after: others flush tables, make interfaces anew and turn forwarding off.

use std::time::{Duration, Instant};

use vswitch_api::{ApiError, Switch};

use super::super::{Inner, text};
use super::forwarding::{any_off, is_off, key};
use super::outside::Outside;
use super::{Fitted, firewall, table_name, tool, uplinks, wanted_forwarding};

/// How often it is looked whether the table is as it was made: that takes a program.
const LOOKED_AFTER: Duration = Duration::from_secs(6);
/// What is told of it in the status begins so.
const IN_THE_WAY: &str = "in the way: ";

impl Inner {
    /// Looks whether the host still does for the switches what it was made to do: an interface of a gateway or uplink that was made again does
    /// not forward, one that was renamed is not in the table, somebody has taken the table or its rules away or has the host forward for others
    /// too. What could not be done is tried again.
    pub(in super::super) async fn keep_gateways(&mut self) {
        let outside = Outside::of(&self.store.state.lab);
        self.tell_limits(uplinks::WAITING, uplinks::absent(&uplinks::named(&outside.ways)));
        self.look_in_the_way_again().await;
        let nothing = |fitted: &Fitted| fitted.ways.is_empty() && outside.ways.is_empty();
        if self.live.gateways.fitted.as_ref().is_some_and(nothing) {
            return;
        }
        let Some(why) = self.is_unfit(&outside).await else {
            return;
        };
        let fitted = self.fit_outside(&outside).await;
        if fitted.is_ok() {
            tracing::info!("what the host does for gateways is as it is to be again: {why}");
        }
        self.note_unfit(fitted.err());
    }

    /// Why the host has to be made anew what it is to be; none: it need not.
    async fn is_unfit(&mut self, outside: &Outside) -> Option<&'static str> {
        let called = self.as_called(outside.clone());
        let note = self.forwarding_note();
        let opened = note.map(|note| note.opened_now(&called.gateways));
        let Some(fitted) = &mut self.live.gateways.fitted else {
            return Some("it could not be done before");
        };
        if fitted.ways != called.ways {
            return Some("a gateway has another name");
        }
        if opened.is_ok_and(|opened| opened != fitted.opened) {
            return Some("forwarding of the host was changed");
        }
        if any_off(wanted_forwarding(&called, &fitted.uplinks).iter()) {
            return Some("a gateway or an uplink did not forward");
        }
        if fitted.looked.elapsed() < LOOKED_AFTER {
            return None;
        }
        fitted.looked = Instant::now();
        match tool::content(&table_name(&self.host.run_dir)).await {
            Ok(None) => Some("its table of nftables was gone"),
            Ok(content) if content != fitted.table => Some("its table of nftables was changed"),
            _ => None,
        }
    }

    /// Tells what the host does not do for the switches, or that it does by now.
    pub(in super::super) fn note_unfit(&mut self, error: Option<ApiError>) {
        const UNFIT: &str = "NAT is not as it is to be, and is tried again every few seconds: ";
        self.tell_limits(
            UNFIT,
            error.map(|error| format!("{UNFIT}{error}")).into_iter().collect(),
        );
    }

    /// What keeps gateways from what they are there for, and may have come after them: a firewall, no way out, the same networks elsewhere.
    pub(super) async fn in_the_way(&self) -> Vec<String> {
        let outside = self.as_called(Outside::of(&self.store.state.lab));
        let mut told = firewall::in_the_way(&outside, &table_name(&self.host.run_dir)).await;
        if !outside.ways.is_empty() {
            told.extend(self.way_out(&Outside::default(), &outside).await);
        }
        told.extend(self.overlaps_by_now().await);
        told.extend(self.gateways_elsewhere());
        told
    }

    /// The gateways whose interface somebody has moved away from the host, each with what brings it back.
    fn gateways_elsewhere(&self) -> Vec<String> {
        let lab = &self.store.state.lab;
        let of = |switch: &Switch| {
            let live = self.live.ports.get(&lab.gateway_of(switch)?.name)?;
            let moved = live.moved.as_ref()?;
            let ifname = live.ifname.escape_debug();
            let back = format!("ip link set {ifname} netns {}", std::process::id());
            let back = match (&moved.namespace, moved.process) {
                (Some(name), _) => format!("`vswitchctl ns exec {name} {back}` brings it back"),
                (None, Some(pid)) => format!("`nsenter --net=/proc/{pid}/ns/net {back}` brings it back"),
                (None, None) => format!("`{}` and then gateway=on make it anew", switch.gateway_off()),
            };
            Some(format!(
                "the gateway of {} is in {}: the host does nothing for the switch; {back}",
                text::switch(&switch.name),
                moved.to
            ))
        };
        lab.switches.iter().filter_map(of).collect()
    }

    /// Has the status tell of it. To look takes a program, which lists all rules of the host.
    pub(in super::super) async fn tell_what_is_in_the_way(&mut self) {
        let told = self.in_the_way().await;
        let told = told.into_iter().map(|line| format!("{IN_THE_WAY}{line}"));
        let told: Vec<_> = told.collect();
        self.live.gateways.looked_in_the_way = (!told.is_empty()).then(Instant::now);
        self.tell_limits(IN_THE_WAY, told);
    }

    /// What was told of is told no more when it is gone.
    async fn look_in_the_way_again(&mut self) {
        let is_due = match self.live.gateways.looked_in_the_way {
            Some(looked) => looked.elapsed() >= LOOKED_AFTER,
            // Of this nobody was told when it was made.
            None => !self.gateways_elsewhere().is_empty(),
        };
        if is_due {
            self.tell_what_is_in_the_way().await;
        }
    }

    /// Has the status tell these of the limits that begin so, and no others.
    pub(super) fn tell_limits(&mut self, beginning: &str, told: Vec<String>) {
        let limits = &mut self.shown.limits;
        limits.retain(|limit| !limit.starts_with(beginning) || told.contains(limit));
        for line in told {
            if !limits.contains(&line) {
                tracing::error!("{line}");
                limits.push(line);
            }
        }
    }

    /// Whether the table and forwarding are as the lab has them; what is not, in words.
    pub(in super::super) async fn drift_of_outside(&self) -> Vec<String> {
        let outside = Outside::of(&self.store.state.lab);
        if outside.ways.is_empty() {
            return Vec::new();
        }
        let outside = self.as_called(outside);
        let mut lost = Vec::new();
        let table = table_name(&self.host.run_dir);
        let is_whole = match (tool::content(&table).await, &self.live.gateways.fitted) {
            (Ok(Some(content)), Some(fitted)) => fitted.table == Some(content),
            _ => false,
        };
        if !is_whole {
            lost.push(format!("the table inet {table} of nftables"));
        }
        let wanted = wanted_forwarding(&outside, &self.uplinks(&outside).await.unwrap_or_default());
        let off = wanted.iter().filter(|path| is_off(path));
        lost.extend(off.map(|path| format!("{} = 1", key(path))));
        lost
    }
}
