//! Counters for Prometheus, read when they are asked for.

mod listen;
mod process;
mod series;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::http::header::{ACCEPT, CONTENT_TYPE};
use axum::response::IntoResponse;
use prometheus_client::registry::Registry;
use vswitch_api::acl::PortAcl;
use vswitch_api::error::{ApiError, ErrorCode};
use vswitch_api::name::{PortName, SwitchName};
use vswitch_api::view::{PortAclView, PortView, Status, SwitchView};

use super::api::Shared;
use super::error::Failure;
use crate::control::{Control, Counted};
pub use listen::MetricsListener;
use process::Process;

/// Counters and states in the OpenMetrics text format, for Prometheus; in that of Prometheus itself for who accepts only that
#[utoipa::path(
    get, path = "/metrics", tag = "daemon",
    responses(
        (status = 200, description = "OK", content((String = "application/openmetrics-text"), (String = "text/plain"))), Failure
    )
)]
pub(super) async fn metrics(State(shared): State<Shared>, head: HeaderMap) -> Result<impl IntoResponse, Failure> {
    let text = Snapshot::of(shared.control(), shared.labels.clone()).await?.text();
    let text = text.map_err(|error| ApiError::new(ErrorCode::Internal, "metrics", error.to_string()))?;
    let format = Format::accepted(&head);
    Ok(([(CONTENT_TYPE, format.content_type())], format.write(text)))
}

/// How the text is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    OpenMetrics,
    Plain,
}

impl Format {
    /// OpenMetrics, unless who asks accepts other text and not this.
    fn accepted(head: &HeaderMap) -> Self {
        let values = head.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
        let types = values.flat_map(|value| value.split(','));
        let types = types.filter_map(|one| one.split(';').next()).map(str::trim);
        let types: Vec<_> = types.collect();
        if types.contains(&"text/plain") && !types.contains(&"application/openmetrics-text") {
            Self::Plain
        } else {
            Self::OpenMetrics
        }
    }

    fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Plain => "text/plain; version=0.0.4; charset=utf-8",
        }
    }

    /// In the older form a counter is called in its head as in its lines.
    fn write(self, text: String) -> String {
        if self == Self::OpenMetrics {
            return text;
        }
        let mut plain = String::with_capacity(text.len());
        let mut help = "";
        for line in text.lines().filter(|line| *line != "# EOF") {
            let kind = line.strip_prefix("# TYPE ");
            if line.starts_with("# HELP ") {
                help = line;
                continue;
            }
            let counter = kind.and_then(|kind| kind.strip_suffix(" counter"));
            if let Some(name) = counter {
                let help = help.strip_prefix("# HELP ").and_then(|help| help.strip_prefix(name));
                plain += &format!(
                    "# HELP {name}_total{}\n# TYPE {name}_total counter\n",
                    help.unwrap_or(" ")
                );
                continue;
            }
            if kind.is_some() {
                plain += help;
                plain.push('\n');
            }
            plain += line;
            plain.push('\n');
        }
        plain
    }
}

/// What one scrape shows.
#[derive(Clone, Debug)]
struct Snapshot {
    /// Settings that are labels.
    labels: Arc<[String]>,
    status: Status,
    switches: Vec<SwitchView>,
    ports: Vec<PortView>,
    /// Access control lists of the ports that have some.
    acls: Vec<(SwitchName, PortName, PortAclView)>,
    /// Stations that were learned, by switch and VLAN.
    vlans: Vec<(SwitchName, u16, u32)>,
    /// How many events there were of each kind.
    events: Vec<(&'static str, u64)>,
    /// How long edits took that were made, and those that were refused or failed.
    edits: [Counted; 2],
    /// Of how many frames the batches of each worker were.
    batches: Vec<Counted>,
    /// Connections from outside that were turned away.
    refused: u64,
    process: Process,
}

impl Snapshot {
    async fn of(control: &Control, labels: Arc<[String]>) -> Result<Self, ApiError> {
        let ports = control.ports(None).await?;
        let mut acls = Vec::new();
        for PortView { port, .. } in &ports {
            if port.acl == PortAcl::default() {
                continue;
            }
            // It may have gone meanwhile.
            if let Ok(acl) = control.acl(&port.name) {
                acls.push((port.switch.clone(), port.name.clone(), acl));
            }
        }
        Ok(Self {
            labels,
            status: control.status(),
            switches: control.switches(),
            ports,
            acls,
            vlans: control.learned_by_vlan(),
            events: control.event_counts(),
            edits: control.edit_times().each_ref().map(|times| times.counted()),
            batches: control.batches(),
            refused: listen::refused(),
            process: Process::now(),
        })
    }

    fn text(self) -> Result<String, fmt::Error> {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(self));
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry)?;
        Ok(text)
    }
}
