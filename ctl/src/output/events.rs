//! Events, one line each: time, kind, what happened.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use vswitch_api::difference::SettingChange;
use vswitch_api::{Event, EventKind, IfName};

/// The line of an event, with the time of day in this zone.
pub fn line(event: &Event, zone: &TimeZone) -> String {
    let time = i64::try_from(event.time_ms)
        .ok()
        .and_then(|ms| Timestamp::from_millisecond(ms).ok())
        .unwrap_or_default();
    let time = time.to_zoned_datetime(zone.clone()).strftime("%F %T%.3f").to_string();
    // The word of the wire, which serde alone knows.
    let tagged = serde_json::to_value(&event.kind).unwrap_or_default();
    let kind = tagged["kind"].as_str().unwrap_or_default();
    format!("{time}  {kind:17}  {}", describe(&event.kind))
}

fn describe(kind: &EventKind) -> String {
    match kind {
        EventKind::SwitchAdded { switch } | EventKind::SwitchRemoved { switch } => switch.to_string(),
        EventKind::PortAdded { port, switch } => format!("{port} on {switch}"),
        EventKind::PortRemoved { port, switch } => format!("{port} from {switch}"),
        EventKind::PortState {
            port,
            state,
            reason: None,
        } => format!("{port} {}", state.as_str()),
        EventKind::PortState {
            port,
            state,
            reason: Some(reason),
        } => format!("{port} {}: {reason}", state.as_str()),
        EventKind::PortChanged { port, what } => format!("{port}: {what}"),
        EventKind::PortSet { port, changes } => format!("{port}: {}", set(changes)),
        EventKind::SwitchSet { switch, changes } => format!("{switch}: {}", set(changes)),
        EventKind::NamespaceAdded { namespace } | EventKind::NamespaceRemoved { namespace } => namespace.to_string(),
        EventKind::AddressAdded { port, address } => format!("{address} to {port}"),
        EventKind::AddressRemoved { port, address } => format!("{address} from {port}"),
        EventKind::FdbLearned { switch, mac, port } => format!("{mac} at {port} on {switch}"),
        EventKind::FdbMoved { switch, mac, from, to } => format!("{mac} from {from} to {to} on {switch}"),
        EventKind::FdbFlapping {
            switch,
            mac,
            ports,
            moves,
        } => {
            let ports: Vec<_> = ports.iter().map(ToString::to_string).collect();
            format!(
                "{mac} between {} on {switch}, {moves} times a second or more",
                ports.join(" and ")
            )
        }
        EventKind::PortShut { port, reason, .. } => format!("{port}: {reason}"),
        EventKind::FdbAged { switch, count } => format!("{count} forgotten on {switch}"),
        EventKind::ProcessState { process, state, reason } => match reason {
            None => format!("{process} {state}"),
            Some(reason) => format!("{process} {state}: {reason}"),
        },
        EventKind::UplinksChanged { before, now } => format!("from {} to {}", interfaces(before), interfaces(now)),
        EventKind::Progress { what, done, of, over } => match (over, done < of) {
            (false, _) => format!("{what}: {done} of {of} steps done"),
            (true, false) => format!("{what}: all {of} steps done"),
            (true, true) => format!("{what}: ended after {done} of {of} steps"),
        },
        EventKind::Missed { count: 0 } => {
            "those of an earlier run of the daemon that this reader has not read".to_owned()
        }
        EventKind::Missed { count } => format!("{count} events: they are kept no more, or this reader was too slow"),
        other => serde_json::to_string(other).unwrap_or_default(),
    }
}

fn interfaces(names: &[IfName]) -> String {
    match names {
        [] => "none".to_owned(),
        names => names.iter().map(IfName::as_str).collect::<Vec<_>>().join(", "),
    }
}

fn set(changes: &[SettingChange]) -> String {
    changes.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_is_local() {
        let event = Event {
            seq: 1,
            id: "1f-1".to_owned(),
            time_ms: 1_764_014_400_123,
            description: Default::default(),
            kind: EventKind::Missed { count: 1 },
        };
        let zone = TimeZone::fixed(jiff::tz::offset(2));
        assert!(
            line(&event, &zone).starts_with("2025-11-24 22:00:00.123  missed             1 events"),
            "{}",
            line(&event, &zone)
        );
    }
}
