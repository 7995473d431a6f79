//! Counters for Prometheus, read when they are asked for (OpenMetrics 1.0 text format).

use std::fmt;
use std::sync::Arc;

use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;
use serde::Serialize;
use vswitch_api::difference::words;
use vswitch_api::error::{ApiError, ErrorCode};
use vswitch_api::traffic::{CLASSES, ClassCounters};
use vswitch_api::view::{PortCounters, PortState, PortView, Status, SwitchView};

use super::api::Shared;
use super::error::Failure;

/// Counters and states in the OpenMetrics text format, for Prometheus
#[utoipa::path(
    get, path = "/metrics", tag = "daemon",
    responses((status = 200, description = "OK", content_type = "application/openmetrics-text", body = String), Failure)
)]
pub(super) async fn metrics(State(shared): State<Shared>) -> Result<impl IntoResponse, Failure> {
    let control = shared.control();
    let snapshot = Snapshot {
        labels: shared.labels.clone(),
        status: control.status().await?,
        switches: control.switches().await?,
        ports: control.ports(None).await?,
    };
    let text = snapshot
        .text()
        .map_err(|error| ApiError::new(ErrorCode::Internal, "metrics", error.to_string()))?;
    Ok((
        [(
            CONTENT_TYPE,
            "application/openmetrics-text; version=1.0.0; charset=utf-8",
        )],
        text,
    ))
}

/// What one scrape shows.
#[derive(Clone, Debug)]
struct Snapshot {
    /// Settings that are labels.
    labels: Arc<[String]>,
    status: Status,
    switches: Vec<SwitchView>,
    ports: Vec<PortView>,
}

impl Snapshot {
    fn text(self) -> Result<String, fmt::Error> {
        let mut registry = Registry::with_prefix("vswitch");
        registry.register_collector(Box::new(self));
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry)?;
        Ok(text)
    }
}

/// Name, help and how to read a number.
type Field<T> = (&'static str, &'static str, fn(&T) -> u64);

const PORT_COUNTERS: [Field<PortCounters>; 16] = [
    ("port_receive_frames", "Frames that came in from the port", |c| {
        c.rx_frames
    }),
    ("port_receive_bytes", "Bytes of the frames that came in", |c| c.rx_bytes),
    (
        "port_forwarded_frames",
        "Frames that came in and were sent to one port",
        |c| c.rx_forwarded,
    ),
    (
        "port_fastpath_frames",
        "Frames that came in and that the kernel forwarded or flooded by itself",
        |c| c.rx_fastpath,
    ),
    ("port_flooded_frames", "Frames that came in and were flooded", |c| {
        c.rx_flooded
    }),
    ("port_flood_copies", "Copies that flooded frames were sent as", |c| {
        c.flood_copies
    }),
    (
        "port_mirror_copies",
        "Copies that mirrors made of frames that came in",
        |c| c.mirror_copies,
    ),
    ("port_transmit_frames", "Frames that went out to the port", |c| {
        c.tx_frames
    }),
    ("port_transmit_bytes", "Bytes of the frames that went out", |c| {
        c.tx_bytes
    }),
    (
        "port_receive_duplicates",
        "Frames that came in and were doubled by impairment",
        |c| c.impair.rx_duplicates,
    ),
    (
        "port_transmit_duplicates",
        "Frames that went out and were doubled by impairment",
        |c| c.impair.tx_duplicates,
    ),
    (
        "port_transmit_segments",
        "Frames that cutting GSO frames for impairment added",
        |c| c.impair.tx_segments,
    ),
    (
        "port_receive_corrupted",
        "Frames that came in and got a flipped bit by impairment",
        |c| c.impair.rx_corrupted,
    ),
    (
        "port_transmit_corrupted",
        "Frames that went out and got a flipped bit by impairment",
        |c| c.impair.tx_corrupted,
    ),
    (
        "port_receive_reordered",
        "Frames that came in and were not delayed by impairment",
        |c| c.impair.rx_reordered,
    ),
    (
        "port_transmit_reordered",
        "Frames that went out and were not delayed by impairment",
        |c| c.impair.tx_reordered,
    ),
];

const PORT_GAUGES: [Field<PortCounters>; 2] = [
    (
        "port_receive_waiting",
        "Frames from the port that impairment holds back",
        |c| c.impair.rx_waiting,
    ),
    (
        "port_transmit_waiting",
        "Frames to the port that impairment holds back",
        |c| c.impair.tx_waiting,
    ),
];

impl Collector for Snapshot {
    fn encode(&self, encoder: DescriptorEncoder) -> fmt::Result {
        let mut to = Encoder(encoder);
        let status = &self.status;
        to.gauge(
            "build_info",
            "Version of the daemon",
            [([("version", status.version.as_str())], 1)],
        )?;
        to.gauge(
            "uptime_seconds",
            "Time since the daemon started",
            [(NO_LABELS, status.uptime_secs)],
        )?;
        to.gauge(
            "workers",
            "Threads that move frames",
            [(NO_LABELS, u64::from(status.workers))],
        )?;

        let switches = || {
            self.switches
                .iter()
                .map(|view| ([("switch", view.switch.name.as_str())], view))
        };
        to.gauge(
            "fdb_entries",
            "Entries in the FDB",
            switches().map(|(l, v)| (l, u64::from(v.fdb_entries))),
        )?;
        to.gauge(
            "fdb_capacity",
            "Most entries of the FDB",
            switches().map(|(l, v)| (l, u64::from(v.switch.fdb_capacity))),
        )?;
        to.counter(
            "fdb_full",
            "Addresses not learned because the FDB was full",
            switches().map(|(l, v)| (l, v.fdb_full)),
        )?;

        let ports = || self.ports.iter().map(|view| (port_labels(view), view));
        if !self.labels.is_empty() {
            to.gauge(
                "switch_info",
                "Settings of the switch",
                self.switches.iter().map(|view| {
                    let name = ("switch".to_owned(), view.switch.name.to_string());
                    (with_settings(vec![name], &view.switch, &self.labels), 1)
                }),
            )?;
            to.gauge(
                "port_info",
                "Settings of the port",
                ports().map(|(labels, view)| {
                    let names = labels.map(|(label, name)| (label.to_owned(), name.to_owned()));
                    (with_settings(names.to_vec(), &view.port, &self.labels), 1)
                }),
            )?;
        }
        to.gauge(
            "port_up",
            "1 if the port carries frames",
            ports().map(|(l, v)| (l, u64::from(v.state == PortState::Up))),
        )?;
        to.gauge(
            "port_fdb_entries",
            "FDB entries that point to the port",
            ports().map(|(l, v)| (l, u64::from(v.fdb_entries))),
        )?;
        for (name, help, read) in PORT_GAUGES {
            to.gauge(name, help, ports().map(|(l, v)| (l, read(&v.counters))))?;
        }
        for (name, help, read) in PORT_COUNTERS {
            to.counter(name, help, ports().map(|(l, v)| (l, read(&v.counters))))?;
        }
        to.counter(
            "port_receive_drops",
            "Frames that came in and were dropped, by reason",
            ports().flat_map(|(l, v)| by_reason(l, v.counters.rx_drops.iter())),
        )?;
        to.counter(
            "port_transmit_drops",
            "Frames that were to go out and were dropped, by reason",
            ports().flat_map(|(l, v)| by_reason(l, v.counters.tx_drops.iter())),
        )?;
        to.counter(
            "port_class_sent",
            "Frames of a traffic class that had their turn, with strict priority",
            ports().flat_map(|(l, v)| by_class(l, &v.counters, |class| class.sent)),
        )?;
        to.counter(
            "port_class_drops",
            "Frames of a traffic class for which the queue had no room, with strict priority",
            ports().flat_map(|(l, v)| by_class(l, &v.counters, |class| class.dropped)),
        )
    }
}

type Label<'a> = (&'static str, &'a str);

const NO_LABELS: [Label<'static>; 0] = [];

fn port_labels(view: &PortView) -> [Label<'_>; 2] {
    [("switch", view.port.switch.as_str()), ("port", view.port.name.as_str())]
}

/// Labels with those settings of something that it has.
fn with_settings(
    mut labels: Vec<(String, String)>,
    settings: &impl Serialize,
    keys: &[String],
) -> Vec<(String, String)> {
    let document = serde_json::to_value(settings).unwrap_or_default();
    for key in keys {
        let path = format!("/{}", key.replace('.', "/"));
        let label = key.replace('.', "_");
        if let Some(value) = document.pointer(&path)
            && labels.iter().all(|(there, _)| *there != label)
        {
            labels.push((label, words(value)));
        }
    }
    labels
}

fn by_reason<'a>(
    [switch, port]: [Label<'a>; 2],
    drops: impl Iterator<Item = (&'a String, &'a u64)>,
) -> impl Iterator<Item = ([Label<'a>; 3], u64)> {
    drops.map(move |(reason, count)| ([switch, port, ("reason", reason.as_str())], *count))
}

fn by_class<'a>(
    [switch, port]: [Label<'a>; 2],
    counters: &PortCounters,
    read: fn(&ClassCounters) -> u64,
) -> impl Iterator<Item = ([Label<'a>; 4], u64)> {
    const NUMBERS: [&str; CLASSES] = ["0", "1", "2", "3", "4", "5", "6", "7"];
    let ways = [("in", counters.impair.rx_classes), ("out", counters.impair.tx_classes)];
    ways.into_iter().flat_map(move |(way, classes)| {
        let classes = classes.into_iter().flatten().zip(NUMBERS);
        classes.map(move |(class, number)| {
            let labels = [switch, port, ("direction", way), ("class", number)];
            (labels, read(&class))
        })
    })
}

/// Writes one metric family at a time.
struct Encoder<'a>(DescriptorEncoder<'a>);

impl Encoder<'_> {
    fn gauge<L: EncodeLabelSet>(
        &mut self,
        name: &str,
        help: &str,
        values: impl IntoIterator<Item = (L, u64)>,
    ) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (labels, value) in values {
            family.encode_family(&labels)?.encode_gauge(&value)?;
        }
        Ok(())
    }

    fn counter<L: EncodeLabelSet>(
        &mut self,
        name: &str,
        help: &str,
        values: impl IntoIterator<Item = (L, u64)>,
    ) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (labels, value) in values {
            family
                .encode_family(&labels)?
                .encode_counter::<NoLabelSet, u64, u64>(&value, None)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use vswitch_api::lab::{Port, PortKind, Switch};
    use vswitch_api::policy::Isolation;

    #[test]
    fn every_counter_is_there_with_its_labels() {
        let mut port = PortView {
            port: Port::new("red".parse().unwrap(), "main".parse().unwrap(), PortKind::Veth),
            state: PortState::Up,
            reason: None,
            mtu_wanted: None,
            moved_to: None,
            entrance: None,
            state_secs: 1,
            queues: 1,
            fastpath: false,
            big_tcp: false,
            xdp_mode: None,
            xdp_refused: None,
            fdb_entries: 2,
            counters: PortCounters {
                rx_frames: 31,
                tx_bytes: 32,
                ..PortCounters::default()
            },
        };
        port.counters.rx_drops.insert("runt".into(), 33);
        port.counters.impair.tx_waiting = 36;
        port.counters.impair.rx_duplicates = 37;
        let switch = Switch::new("main".parse().unwrap());
        port.port.isolation = Isolation::Isolated;
        let text = Snapshot {
            labels: Arc::from(["isolation".to_owned(), "switch".to_owned()]),
            status: Status {
                version: "1.2".into(),
                api_version: 1,
                pid: 1,
                uptime_secs: 5,
                workers: 2,
                limits: vec![],
                progress: None,
                role: None,
                confinement: Default::default(),
            },
            switches: vec![SwitchView {
                fdb_moves: 0,
                switch,
                ports: vec![],
                fdb_entries: 34,
                fdb_full: 35,
                mirrors: vec![],
            }],
            ports: vec![port],
        }
        .text()
        .unwrap();
        for line in [
            "vswitch_build_info{version=\"1.2\"} 1",
            "vswitch_uptime_seconds 5",
            "vswitch_fdb_entries{switch=\"main\"} 34",
            "vswitch_fdb_full_total{switch=\"main\"} 35",
            "vswitch_switch_info{switch=\"main\"} 1",
            "vswitch_port_info{switch=\"main\",port=\"red\",isolation=\"isolated\"} 1",
            "vswitch_port_up{switch=\"main\",port=\"red\"} 1",
            "vswitch_port_receive_frames_total{switch=\"main\",port=\"red\"} 31",
            "vswitch_port_transmit_bytes_total{switch=\"main\",port=\"red\"} 32",
            "vswitch_port_receive_drops_total{switch=\"main\",port=\"red\",reason=\"runt\"} 33",
            "vswitch_port_transmit_waiting{switch=\"main\",port=\"red\"} 36",
            "vswitch_port_receive_duplicates_total{switch=\"main\",port=\"red\"} 37",
            "# EOF",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
    }
}
