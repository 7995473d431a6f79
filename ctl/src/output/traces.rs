//! Traces: a line for each step, and what comes of it in the end.

use jiff::tz::TimeZone;
use vswitch_api::trace::{LiveTrace, TraceOutcome, TraceReport};

use super::{Style, frames};
use vswitch_client::pcapng::Frame;

/// The steps of a way, and its end.
pub fn report(style: Style, report: &TraceReport) -> String {
    let width = report
        .steps
        .iter()
        .filter_map(|step| step.port.as_ref())
        .map(|port| port.as_str().len());
    let width = width.max().unwrap_or(0);
    let mut text = String::new();
    for step in &report.steps {
        let port = step.port.as_ref().map_or("", |port| port.as_str());
        let dropped = match &step.dropped {
            Some(reason) => format!("{} ", bad(style, &format!("dropped ({reason})"))),
            None => String::new(),
        };
        text += &format!("  {:8}  {port:width$}  {dropped}{}\n", step.stage.as_str(), step.detail);
    }
    text + "=> " + &end(style, report) + "\n"
}

/// A real frame and its way.
pub fn live(style: Style, live: &LiveTrace, zone: &TimeZone) -> String {
    let bytes = bytes(&live.frame);
    let frame = Frame {
        interface: 0,
        time_ns: live.time_ns,
        outbound: false,
        lost_before: live.lost_before,
        original_len: bytes.len(),
        bytes,
    };
    format!("{}\n{}", frames::line(&frame, None, zone), report(style, &live.report))
}

/// The bytes of a frame that came as hexadecimal digits; what is none is passed over.
pub fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex
        .chars()
        .filter_map(|digit| digit.to_digit(16))
        .map(|digit| digit as u8)
        .collect();
    digits
        .as_chunks::<2>()
        .0
        .iter()
        .map(|[high, low]| high << 4 | low)
        .collect()
}

fn end(style: Style, report: &TraceReport) -> String {
    let ports: Vec<_> = report.ports.iter().map(|port| port.as_str()).collect();
    let ports = if ports.is_empty() {
        "no port".to_owned()
    } else {
        ports.join(", ")
    };
    match (report.outcome, &report.reason) {
        (TraceOutcome::Forwarded, _) => style.bold(&format!("forwarded to {ports}")),
        (TraceOutcome::Flooded, _) => style.bold(&format!("flooded to {ports}")),
        (TraceOutcome::Dropped, Some(reason)) => bad(style, &format!("dropped ({reason})")),
        (TraceOutcome::Dropped, None) => bad(style, "dropped"),
        _ => format!("what becomes of it is said in a word that this version does not know; ports: {ports}"),
    }
}

fn bad(style: Style, text: &str) -> String {
    style.paint(anstyle::AnsiColor::Red.on_default(), text)
}
