//! Impairment, policer and storm control of ports.

use serde::Serialize;
use serde_json::Value;
use vswitch_api::patch::{MergePatch, in_place};
use vswitch_api::view::{PortCounters, PortView};
use vswitch_api::{Impairment, Impairments, PortName, RateLimit, StormControl};

use super::Session;
use crate::cli::Trial;
use crate::cli::traffic::{
    Direction, ImpairArgs, ImpairCommand, ImpairSet, PoliceArgs, PoliceCommand, PoliceSet, StormArgs, StormCommand,
    StormSet,
};
use crate::failure::Failure;
use crate::output::{Style, traffic};

/// What `show` prints as JSON for each port: its settings under the name that the lab has for them.
#[derive(Serialize)]
struct Shown<'a> {
    port: &'a PortName,
    #[serde(skip_serializing_if = "Option::is_none")]
    impair: Option<&'a Impairments>,
    #[serde(skip_serializing_if = "Option::is_none")]
    police: Option<&'a RateLimit>,
    #[serde(skip_serializing_if = "Option::is_none")]
    storm: Option<&'a StormControl>,
    counters: &'a PortCounters,
}

impl<'a> Shown<'a> {
    fn new(view: &'a PortView) -> Self {
        Self {
            port: &view.port.name,
            impair: None,
            police: None,
            storm: None,
            counters: &view.counters,
        }
    }
}

impl Session {
    pub(super) async fn impair(&self, args: ImpairArgs) -> Result<(), Failure> {
        match (args.command, args.set) {
            (Some(ImpairCommand::Set(set)), _) => self.set_impairment(*set).await,
            (None, Some(set)) => self.set_impairment(set).await,
            (Some(ImpairCommand::Clear { port, direction, trial }), _) => {
                self.patch_impairment(&port, direction, None, trial).await
            }
            (Some(ImpairCommand::Show { port }), _) => {
                let show = |view: &PortView| !view.port.impair.is_none();
                fn shown(view: &PortView) -> Shown<'_> {
                    Shown {
                        impair: Some(&view.port.impair),
                        ..Shown::new(view)
                    }
                }
                self.show_traffic(port, show, shown, traffic::impairments).await
            }
            (None, None) => Err(no_port("impair")),
        }
    }

    async fn set_impairment(&self, set: ImpairSet) -> Result<(), Failure> {
        let impairment = Impairment {
            delay_us: set.delay.unwrap_or(0),
            jitter_us: set.jitter.unwrap_or(0),
            distribution: set.distribution.map(Into::into).unwrap_or_default(),
            loss: set.loss.unwrap_or_default(),
            loss_burst: set.loss_burst,
            duplicate: set.duplicate.unwrap_or_default(),
            reorder: set.reorder.unwrap_or_default(),
            corrupt: set.corrupt.unwrap_or_default(),
            rate_bps: set.rate,
            rate_pps: set.pps,
            burst_bytes: set.burst.unwrap_or(0),
            priority: set.priority,
            limit: set.limit,
            seed: set.seed,
        };
        if impairment.is_noop() {
            return Err(nothing(
                &set.port,
                "impaired",
                "give a --delay, --loss, --rate or another; `vswitchctl impair clear` takes all away",
            ));
        }
        let trial = Trial { dry_run: set.dry_run };
        self.patch_impairment(&set.port, set.direction, Some(&impairment), trial)
            .await
    }

    /// None: it is taken away.
    async fn patch_impairment(
        &self,
        port: &PortName,
        way: Direction,
        impairment: Option<&Impairment>,
        trial: Trial,
    ) -> Result<(), Failure> {
        let mut patch = MergePatch::default();
        for (path, direction) in [("impair.in", Direction::In), ("impair.out", Direction::Out)] {
            if way.has(direction) {
                patch = patch.with(path, impairment.map_or(Value::Null, in_place));
            }
        }
        self.patch_port(port, patch, trial).await
    }

    pub(super) async fn police(&self, args: PoliceArgs) -> Result<(), Failure> {
        match (args.command, args.set) {
            (Some(PoliceCommand::Set(set)), _) | (None, Some(set)) => self.set_policer(set).await,
            (Some(PoliceCommand::Clear { port, trial }), _) => {
                self.patch_port(&port, MergePatch::default().with("police", Value::Null), trial)
                    .await
            }
            (Some(PoliceCommand::Show { port }), _) => {
                fn shown(view: &PortView) -> Shown<'_> {
                    Shown {
                        police: view.port.police.as_ref(),
                        ..Shown::new(view)
                    }
                }
                self.show_traffic(port, |view| view.port.police.is_some(), shown, traffic::policers)
                    .await
            }
            (None, None) => Err(no_port("police")),
        }
    }

    async fn set_policer(&self, set: PoliceSet) -> Result<(), Failure> {
        let limit = RateLimit {
            rate_bps: set.rate,
            rate_pps: set.pps,
            burst_bytes: set.burst,
            burst_frames: set.burst_frames,
        };
        if limit.is_noop() {
            return Err(nothing(
                &set.port,
                "limited",
                "give a --rate or --pps; `vswitchctl police clear` takes both away",
            ));
        }
        let patch = MergePatch::default().with("police", in_place(&limit));
        self.patch_port(&set.port, patch, Trial { dry_run: set.dry_run }).await
    }

    pub(super) async fn storm(&self, args: StormArgs) -> Result<(), Failure> {
        match (args.command, args.set) {
            (Some(StormCommand::Set(set)), _) | (None, Some(set)) => self.set_storm(set).await,
            (Some(StormCommand::Clear { port, trial }), _) => {
                self.patch_port(&port, MergePatch::default().with("storm", Value::Null), trial)
                    .await
            }
            (Some(StormCommand::Show { port }), _) => {
                fn shown(view: &PortView) -> Shown<'_> {
                    Shown {
                        storm: Some(&view.port.storm),
                        ..Shown::new(view)
                    }
                }
                self.show_traffic(port, |view| !view.port.storm.is_none(), shown, traffic::storms)
                    .await
            }
            (None, None) => Err(no_port("storm")),
        }
    }

    async fn set_storm(&self, set: StormSet) -> Result<(), Failure> {
        let storm = StormControl {
            broadcast: set.broadcast,
            multicast: set.multicast,
            unknown_unicast: set.unknown_unicast,
        };
        if storm.is_none() {
            return Err(nothing(
                &set.port,
                "limited",
                "give a --broadcast, --multicast or --unknown-unicast; `vswitchctl storm clear` takes all away",
            ));
        }
        let mut patch = MergePatch::default();
        for (path, limit) in [
            ("storm.broadcast", storm.broadcast),
            ("storm.multicast", storm.multicast),
            ("storm.unknown_unicast", storm.unknown_unicast),
        ] {
            if let Some(limit) = limit {
                patch = patch.with(path, in_place(&limit));
            }
        }
        self.patch_port(&set.port, patch, Trial { dry_run: set.dry_run }).await
    }

    /// One port, or all that have the setting.
    async fn show_traffic(
        &self,
        port: Option<PortName>,
        has: impl Fn(&PortView) -> bool,
        shown: fn(&PortView) -> Shown<'_>,
        table: impl Fn(Style, &[PortView]) -> String,
    ) -> Result<(), Failure> {
        let mut views: Vec<PortView> = match port {
            Some(port) => vec![self.client.get(&format!("/v1/ports/{port}")).await?],
            None => self.client.ports().await?,
        };
        views.retain(has);
        let all: Vec<_> = views.iter().map(shown).collect();
        self.out.show(&all, |style| table(style, &views))
    }
}

fn no_port(command: &str) -> Failure {
    Failure::usage(
        command,
        "no port is named",
        format!("name one, or see `vswitchctl {command} --help`"),
    )
}

fn nothing(port: &PortName, what: &str, hint: &str) -> Failure {
    Failure::usage(
        format!("port \"{port}\""),
        format!("it is not said what is to be {what}"),
        hint,
    )
}
