//! What ports do to their traffic: impairment, policer, storm control, from the lab's words to the datapath.

use vswitch_api::acl::AclAction;
use vswitch_api::change::{Change, ChangeAction, ObjectKind};
use vswitch_api::lab::DEFAULT_MTU;
use vswitch_api::request::PortPatch;
use vswitch_api::traffic::{Impairment, MAX_DELAY_US, MAX_LIMIT, MAX_RATE, RateLimit, Share};
use vswitch_api::view::Changes;
use vswitch_api::{ApiError, Lab, Port};

use super::{Inner, text};
use vswitch_datapath::frame::{ETH_HLEN, MAX_TAGS, VLAN_HLEN};
use vswitch_datapath::{Direction, TrafficSetup};

/// What the datapath is to do for a port.
pub(super) fn setup(port: &Port) -> TrafficSetup {
    TrafficSetup {
        impair: port.impair.clone(),
        police: port.police,
        storm: port.storm,
    }
}

/// Settings that do nothing are as good as none: so one is none.
pub(super) fn complete(lab: &mut Lab) {
    for port in &mut lab.ports {
        let impair = &mut port.impair;
        for direction in [&mut impair.inward, &mut impair.outward] {
            direction.take_if(|one| one.is_noop() && *one == Impairment::default());
        }
        let storm = &mut port.storm;
        for limit in [
            &mut port.police,
            &mut storm.broadcast,
            &mut storm.multicast,
            &mut storm.unknown_unicast,
        ] {
            limit.take_if(|limit| *limit == RateLimit::default());
        }
    }
}

/// What the user is told of a change, a line each.
pub(super) fn describe(before: &Port, after: &Port) -> Vec<String> {
    let name = &after.name;
    let mut lines = Vec::new();
    let mut tell = |what: String, before: Option<String>, after: Option<String>| {
        if before != after {
            lines.push(match after {
                Some(after) => format!("set {what} of port {name}: {after}"),
                None => format!("took {what} from port {name}"),
            });
        }
    };
    let both =
        |port: &Port| [&port.impair.inward, &port.impair.outward].map(|one| one.as_ref().map(ToString::to_string));
    for (word, (before, after)) in ["in", "out"].into_iter().zip(both(before).into_iter().zip(both(after))) {
        tell(format!("impairment ({word})"), before, after);
    }
    let policer = |port: &Port| port.police.map(|limit| limit.to_string());
    tell("policer".to_owned(), policer(before), policer(after));
    let storm = |port: &Port| {
        let limits: Vec<_> = port
            .storm
            .iter()
            .map(|(class, limit)| format!("{class} {limit}"))
            .collect();
        (!limits.is_empty()).then(|| limits.join("; "))
    };
    tell("storm control".to_owned(), storm(before), storm(after));
    lines
}

impl Inner {
    /// An impairment with a seed that an edit says again as it is begins anew, as one that changes does: the same command is the start of
    /// the same run. `port`: as it was before.
    pub(super) fn begin_runs_again(&self, port: &Port, patch: &PortPatch, changes: &mut Changes) {
        let Some(said) = patch.0.get("impair") else { return };
        let lines = [
            ("in", Direction::In, &port.impair.inward),
            ("out", Direction::Out, &port.impair.outward),
        ];
        for (word, direction, line) in lines {
            let seed = line.as_ref().and_then(|line| line.seed);
            let (Some(seed), Some(_)) = (seed, said.get(word)) else {
                continue;
            };
            let is_of_it = |key: &String| key.starts_with(&format!("impair.{word}"));
            if changes
                .changes
                .iter()
                .any(|change| change.key.as_ref().is_some_and(is_of_it))
            {
                continue;
            }
            if let Some(id) = self.live.ports.get(&port.name).and_then(|live| live.id)
                && !changes.dry_run
            {
                self.datapath.restart_impairment(id, direction);
            }
            let line = format!("restarted impairment ({word}) of port {} with seed {seed}", port.name);
            changes.done.push(line);
            changes.changes.push(Change {
                key: Some(format!("impair.{word}")),
                ..Change::new(ChangeAction::Restarted, ObjectKind::Port, &port.name)
            });
        }
    }
}

/// Refuses what can't be done.
pub(super) fn check(port: &Port) -> Result<(), ApiError> {
    for (word, impairment) in port.impair.iter() {
        check_impairment(impairment)
            .map_err(|(cause, hint)| refuse(port, &format!("impairment ({word})"), &cause, hint))?;
    }
    // The longest frame that comes in.
    let longest = port.mtu.unwrap_or(DEFAULT_MTU) + (ETH_HLEN + MAX_TAGS * VLAN_HLEN) as u32;
    let limits = port
        .police
        .iter()
        .map(|limit| ("policer", limit))
        .chain(port.storm.iter());
    for (word, limit) in limits {
        check_limit(limit, longest).map_err(|(cause, hint)| refuse(port, word, &cause, hint))?;
    }
    for (word, rules) in [("in", &port.acl.ingress), ("out", &port.acl.egress)] {
        for (n, rule) in rules.iter().enumerate() {
            if let AclAction::Police(limit) = &rule.action {
                let what = format!("rule {} of its access list ({word})", n + 1);
                check_limit(limit, longest).map_err(|(cause, hint)| refuse(port, &what, &cause, hint))?;
            }
        }
    }
    Ok(())
}

fn refuse(port: &Port, what: &str, cause: &str, hint: &str) -> ApiError {
    text::invalid(text::port(&port.name), format!("{what}: {cause}")).hint(hint)
}

type Refusal = (String, &'static str);

fn refusal<T>(cause: impl Into<String>, hint: &'static str) -> Result<T, Refusal> {
    Err((cause.into(), hint))
}

fn check_impairment(impairment: &Impairment) -> Result<(), Refusal> {
    if impairment.is_noop() {
        return refusal(
            "none of its settings does anything by itself",
            "give a delay, loss, duplicate, corrupt or rate",
        );
    }
    if impairment.delay_us.max(impairment.jitter_us) > MAX_DELAY_US {
        return refusal("a delay or jitter above 60 s is out of range", "choose 60 s or less");
    }
    check_rates(impairment.rate_bps, impairment.rate_pps)?;
    if impairment.burst_bytes > 0 && impairment.rate_bps.is_none() {
        return refusal("a burst without a rate means nothing", "give a rate in bit/s too");
    }
    if impairment.priority && impairment.rate_bps.is_none() && impairment.rate_pps.is_none() {
        return refusal(
            "without a rate no frame waits for its turn, so priority means nothing",
            "give a rate too",
        );
    }
    if !impairment.reorder.is_none() && impairment.delay_us == 0 && impairment.jitter_us == 0 {
        return refusal("without a delay no frame can overtake another", "give a delay too");
    }
    if !(1..=MAX_LIMIT).contains(&impairment.limit()) {
        return refusal(
            format!("a queue of {} frames is out of range", impairment.limit()),
            "choose 1 to 100000 frames",
        );
    }
    if let Some(burst) = impairment.loss_burst {
        if impairment.loss.is_none() {
            return refusal(
                "a length of loss bursts without a loss means nothing",
                "give a loss too",
            );
        }
        // Between two bursts at least one frame arrives.
        let most = f64::from(burst) / (f64::from(burst) + 1.0);
        if burst == 0 || (impairment.loss != Share::ALL && impairment.loss.fraction() > most) {
            let cause = format!(
                "a loss of {} can't come in bursts of {burst} frames on average",
                impairment.loss
            );
            return refusal(cause, "give longer bursts or a smaller loss");
        }
    }
    Ok(())
}

fn check_limit(limit: &RateLimit, longest: u32) -> Result<(), Refusal> {
    if limit.is_noop() {
        return refusal(
            "a burst without a rate limits nothing",
            "give a rate in bit/s or frames/s",
        );
    }
    check_rates(limit.rate_bps, limit.rate_pps)?;
    if limit.burst_bytes.is_some() && limit.rate_bps.is_none()
        || limit.burst_frames.is_some() && limit.rate_pps.is_none()
    {
        return refusal(
            "a burst without its rate means nothing",
            "bytes of burst go with bit/s, frames of burst with frames/s",
        );
    }
    if limit.burst_bytes.is_some_and(|burst| burst < longest) {
        let cause = format!("with a burst below {longest} bytes no full frame ever passes");
        return refusal(cause, "choose a longer burst, such as 64k");
    }
    if limit.burst_frames == Some(0) {
        return refusal("with a burst of 0 frames none ever passes", "choose 1 frame or more");
    }
    Ok(())
}

fn check_rates(bps: Option<u64>, pps: Option<u64>) -> Result<(), Refusal> {
    match [bps, pps]
        .into_iter()
        .flatten()
        .find(|rate| !(1..=MAX_RATE).contains(rate))
    {
        Some(0) => refusal("at a rate of 0 nothing ever passes", "set the port down instead"),
        Some(rate) => refusal(format!("a rate of {rate} is out of range"), "choose 1 to 1000000000000"),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use vswitch_api::PortKind;
    use vswitch_api::acl::AclRule;

    use super::*;

    fn port(impairment: Option<Impairment>, police: Option<RateLimit>) -> Port {
        let mut port = Port::new("red".parse().unwrap(), "main".parse().unwrap(), PortKind::Veth);
        port.impair.outward = impairment;
        port.police = police;
        port
    }

    #[test]
    fn each_rule_has_a_case_that_breaks_it() {
        let share = |ppm| Share::from_ppm(ppm).unwrap();
        let delayed = Impairment {
            delay_us: 1000,
            ..Impairment::default()
        };
        let slow = Impairment {
            rate_bps: Some(1000),
            ..Impairment::default()
        };
        let lossy = Impairment {
            loss: share(800_000),
            ..Impairment::default()
        };
        let limit = RateLimit {
            rate_bps: Some(1_000_000),
            ..RateLimit::default()
        };
        let broken = [
            (
                Impairment {
                    limit: Some(5),
                    ..Impairment::default()
                },
                "by itself",
            ),
            (
                Impairment {
                    delay_us: MAX_DELAY_US + 1,
                    ..Impairment::default()
                },
                "60 s",
            ),
            (
                Impairment {
                    rate_bps: Some(0),
                    ..Impairment::default()
                },
                "rate of 0",
            ),
            (
                Impairment {
                    rate_pps: Some(MAX_RATE + 1),
                    ..Impairment::default()
                },
                "out of range",
            ),
            (
                Impairment {
                    burst_bytes: 1,
                    ..delayed.clone()
                },
                "without a rate",
            ),
            (
                Impairment {
                    priority: true,
                    ..delayed.clone()
                },
                "its turn",
            ),
            (
                Impairment {
                    reorder: share(1),
                    ..slow.clone()
                },
                "overtake",
            ),
            (
                Impairment {
                    limit: Some(0),
                    ..delayed.clone()
                },
                "queue of 0",
            ),
            (
                Impairment {
                    limit: Some(MAX_LIMIT + 1),
                    ..delayed.clone()
                },
                "queue of 100001",
            ),
            (
                Impairment {
                    loss_burst: Some(2),
                    ..delayed.clone()
                },
                "without a loss",
            ),
            (
                Impairment {
                    loss_burst: Some(2),
                    ..lossy.clone()
                },
                "bursts of 2",
            ),
            (
                Impairment {
                    loss_burst: Some(0),
                    ..lossy.clone()
                },
                "bursts of 0",
            ),
        ];
        for (impairment, part) in broken {
            let error = check(&port(Some(impairment), None)).unwrap_err().to_string();
            assert!(
                error.starts_with("port \"red\": impairment (out): ") && error.contains(part),
                "{error}"
            );
        }
        let broken = [
            (
                RateLimit {
                    burst_bytes: Some(9000),
                    ..RateLimit::default()
                },
                "limits nothing",
            ),
            (
                RateLimit {
                    rate_pps: Some(0),
                    ..limit
                },
                "rate of 0",
            ),
            (
                RateLimit {
                    burst_frames: Some(9),
                    ..limit
                },
                "without its rate",
            ),
            (
                RateLimit {
                    burst_bytes: Some(1521),
                    ..limit
                },
                "1522 bytes",
            ),
            (
                RateLimit {
                    rate_pps: Some(1),
                    burst_frames: Some(0),
                    ..limit
                },
                "burst of 0",
            ),
        ];
        for (limit, part) in broken {
            let error = check(&port(None, Some(limit))).unwrap_err().to_string();
            assert!(
                error.starts_with("port \"red\": policer: ") && error.contains(part),
                "{error}"
            );
            let mut stormy = port(None, None);
            stormy.storm.multicast = Some(limit);
            let error = check(&stormy).unwrap_err().to_string();
            assert!(error.starts_with("port \"red\": multicast: "), "{error}");
            let mut ruled = port(None, None);
            let rule = "police 10mbit any".parse::<AclRule>().unwrap();
            let action = AclAction::Police(limit);
            ruled.acl.egress = vec![rule.clone(), AclRule { action, ..rule }];
            let error = check(&ruled).unwrap_err().to_string();
            assert!(
                error.starts_with("port \"red\": rule 2 of its access list (out): ") && error.contains(part),
                "{error}"
            );
        }
        for fine in [
            delayed,
            slow,
            lossy.clone(),
            Impairment {
                loss_burst: Some(4),
                ..lossy
            },
        ] {
            check(&port(Some(fine), Some(limit))).unwrap();
        }
    }

    #[test]
    fn a_change_is_told_in_the_words_of_the_command() {
        let before = port(None, None);
        let mut after = port(
            Some(Impairment {
                delay_us: 20_000,
                ..Impairment::default()
            }),
            None,
        );
        after.storm.broadcast = Some(RateLimit {
            rate_pps: Some(100),
            ..RateLimit::default()
        });
        assert_eq!(
            describe(&before, &after),
            [
                "set impairment (out) of port red: delay 20ms",
                "set storm control of port red: broadcast 100pps"
            ]
        );
        assert_eq!(
            describe(&after, &before),
            [
                "took impairment (out) from port red",
                "took storm control from port red"
            ]
        );
    }
}
