//! The metrics, each with its help and labels.

use std::collections::BTreeMap;
use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeCounterValue, EncodeGaugeValue, EncodeLabelSet, NoLabelSet,
};
use prometheus_client::metrics::MetricType;
use serde::Serialize;
use vswitch_api::difference::words;
use vswitch_api::traffic::{CLASSES, ClassCounters};
use vswitch_api::view::{AclRuleView, PortCounters, PortState, PortView};
use vswitch_datapath::DropReason;

use super::Snapshot;
use crate::control::Counted;

/// Name, help and how to read a number.
type Field<T> = (&'static str, &'static str, fn(&T) -> u64);

const PORT_COUNTERS: [Field<PortCounters>; 17] = [
    (
        "vswitch_port_receive_frames",
        "Frames that came in from the port",
        |c| c.rx_frames,
    ),
    ("vswitch_port_receive_bytes", "Bytes of the frames that came in", |c| {
        c.rx_bytes
    }),
    (
        "vswitch_port_forwarded_frames",
        "Frames that came in and were sent to one port",
        |c| c.rx_forwarded,
    ),
    (
        "vswitch_port_fastpath_frames",
        "Frames that came in and that the kernel forwarded or flooded by itself",
        |c| c.rx_fastpath,
    ),
    (
        "vswitch_port_flooded_frames",
        "Frames that came in and were flooded",
        |c| c.rx_flooded,
    ),
    (
        "vswitch_port_flood_copies",
        "Copies that flooded frames were sent as",
        |c| c.flood_copies,
    ),
    (
        "vswitch_port_mirror_copies",
        "Copies that mirrors made of frames that came in",
        |c| c.mirror_copies,
    ),
    (
        "vswitch_port_loop_probes",
        "Probes that the loop guard sent out of the port",
        |c| c.probes,
    ),
    (
        "vswitch_port_transmit_frames",
        "Frames that went out to the port",
        |c| c.tx_frames,
    ),
    (
        "vswitch_port_transmit_bytes",
        "Bytes of the frames that went out",
        |c| c.tx_bytes,
    ),
    (
        "vswitch_port_receive_duplicates",
        "Frames that came in and were doubled by impairment",
        |c| c.impair.rx_duplicates,
    ),
    (
        "vswitch_port_transmit_duplicates",
        "Frames that went out and were doubled by impairment",
        |c| c.impair.tx_duplicates,
    ),
    (
        "vswitch_port_transmit_segments",
        "Frames that cutting GSO frames for impairment added",
        |c| c.impair.tx_segments,
    ),
    (
        "vswitch_port_receive_corrupted",
        "Frames that came in and got a flipped bit by impairment",
        |c| c.impair.rx_corrupted,
    ),
    (
        "vswitch_port_transmit_corrupted",
        "Frames that went out and got a flipped bit by impairment",
        |c| c.impair.tx_corrupted,
    ),
    (
        "vswitch_port_receive_reordered",
        "Frames that came in and were not delayed by impairment",
        |c| c.impair.rx_reordered,
    ),
    (
        "vswitch_port_transmit_reordered",
        "Frames that went out and were not delayed by impairment",
        |c| c.impair.tx_reordered,
    ),
];

const PORT_GAUGES: [Field<PortCounters>; 2] = [
    (
        "vswitch_port_receive_waiting",
        "Frames from the port that impairment holds back",
        |c| c.impair.rx_waiting,
    ),
    (
        "vswitch_port_transmit_waiting",
        "Frames to the port that impairment holds back",
        |c| c.impair.tx_waiting,
    ),
];

impl Collector for Snapshot {
    fn encode(&self, encoder: DescriptorEncoder) -> fmt::Result {
        let mut to = Encoder(encoder);
        self.daemon(&mut to)?;
        self.process(&mut to)?;
        self.switches(&mut to)?;
        if !self.labels.is_empty() {
            self.settings(&mut to)?;
        }
        self.ports(&mut to)
    }
}

impl Snapshot {
    fn daemon(&self, to: &mut Encoder<'_>) -> fmt::Result {
        let status = &self.status;
        to.gauge(
            "vswitch_build_info",
            "Version of the daemon",
            [([("version", status.version.as_str())], 1)],
        )?;
        to.gauge(
            "vswitch_uptime_seconds",
            "Time since the daemon started",
            [(NO_LABELS, status.uptime_secs)],
        )?;
        to.gauge(
            "vswitch_workers",
            "Threads that move frames",
            [(NO_LABELS, u64::from(status.workers))],
        )?;
        let events = self.events.iter().map(|(kind, count)| ([("kind", *kind)], *count));
        to.counter("vswitch_events", "What happened, by kind of event", events)?;
        to.histogram(
            "vswitch_edit_duration_seconds",
            "Time that a change of the lab took",
            ["made", "refused"]
                .map(|result| [("result", result)])
                .into_iter()
                .zip(&self.edits),
        )?;
        to.counter(
            "vswitch_metrics_refused_connections",
            "Connections to the metrics over TCP that were closed since there were too many",
            [(NO_LABELS, self.refused)],
        )
    }

    fn switches(&self, to: &mut Encoder<'_>) -> fmt::Result {
        let switches = || {
            self.switches
                .iter()
                .map(|view| ([("switch", view.switch.name.as_str())], view))
        };
        to.gauge(
            "vswitch_fdb_entries",
            "Entries in the FDB",
            switches().map(|(l, v)| (l, u64::from(v.fdb_entries))),
        )?;
        to.gauge(
            "vswitch_fdb_capacity",
            "Most entries of the FDB",
            switches().map(|(l, v)| (l, u64::from(v.switch.fdb_capacity))),
        )?;
        to.counter(
            "vswitch_fdb_full",
            "Addresses not learned because the FDB was full",
            switches().map(|(l, v)| (l, v.fdb_full)),
        )?;
        to.counter(
            "vswitch_fdb_moves",
            "Times that a station was seen on another port than before",
            switches().map(|(l, v)| (l, v.fdb_moves)),
        )?;
        to.gauge(
            "vswitch_fdb_vlan_entries",
            "Stations that were learned in a VLAN, 0 for frames without one",
            self.vlans
                .iter()
                .map(|(switch, vlan, count)| ([("switch", switch.to_string()), ("vlan", vlan.to_string())], *count)),
        )
    }

    /// Of settings that are labels.
    fn settings(&self, to: &mut Encoder<'_>) -> fmt::Result {
        to.gauge(
            "vswitch_switch_info",
            "Settings of the switch",
            self.switches.iter().map(|view| {
                let name = ("switch".to_owned(), view.switch.name.to_string());
                (with_settings(vec![name], &view.switch, &self.labels), 1)
            }),
        )?;
        to.gauge(
            "vswitch_port_info",
            "Settings of the port",
            self.ports.iter().map(|view| {
                let names = port_labels(view).map(|(label, name)| (label.to_owned(), name.to_owned()));
                (with_settings(names.to_vec(), &view.port, &self.labels), 1)
            }),
        )
    }

    fn ports(&self, to: &mut Encoder<'_>) -> fmt::Result {
        let ports = || self.ports.iter().map(|view| (port_labels(view), view));
        to.gauge(
            "vswitch_port_up",
            "1 if the port carries frames",
            ports().map(|(l, v)| (l, u64::from(v.state == PortState::Up))),
        )?;
        to.gauge(
            "vswitch_port_admin_up",
            "1 unless the port was set down",
            ports().map(|(l, v)| (l, u64::from(v.port.up))),
        )?;
        to.gauge(
            "vswitch_port_shut",
            "1 if the switch itself has shut the port, as for a loop",
            ports().map(|(l, v)| (l, u64::from(v.state == PortState::Shut))),
        )?;
        to.gauge(
            "vswitch_port_fdb_entries",
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
            "vswitch_port_receive_drops",
            "Frames that came in and were dropped, by reason",
            ports().flat_map(|(l, v)| by_reason(l, &v.counters.rx_drops, false)),
        )?;
        to.counter(
            "vswitch_port_transmit_drops",
            "Frames that were to go out and were dropped, by reason",
            ports().flat_map(|(l, v)| by_reason(l, &v.counters.tx_drops, true)),
        )?;
        let lists = self.acls.iter().flat_map(|(switch, port, acl)| {
            let labels = [("switch", switch.as_str()), ("port", port.as_str())];
            let lists = [("in", &acl.ingress), ("out", &acl.egress)];
            lists
                .into_iter()
                .flat_map(move |(way, rules)| by_rule(labels, way, rules))
        });
        to.counter(
            "vswitch_port_acl_hits",
            "Frames that a rule of a list matched, since it was set",
            lists,
        )?;
        to.counter(
            "vswitch_port_class_sent",
            "Frames of a traffic class that had their turn, with strict priority",
            ports().flat_map(|(l, v)| by_class(l, &v.counters, |class| class.sent)),
        )?;
        to.counter(
            "vswitch_port_class_drops",
            "Frames of a traffic class for which the queue had no room, with strict priority",
            ports().flat_map(|(l, v)| by_class(l, &v.counters, |class| class.dropped)),
        )
    }

    fn process(&self, to: &mut Encoder<'_>) -> fmt::Result {
        let process = &self.process;
        to.counter(
            "process_cpu_seconds",
            "Time of processors that the daemon used, in seconds",
            [(NO_LABELS, process.cpu_seconds)],
        )?;
        let bytes: [(&str, &str, u64); 5] = [
            (
                "process_resident_memory_bytes",
                "Memory that the daemon has",
                process.resident_bytes,
            ),
            (
                "process_virtual_memory_bytes",
                "Addresses that the daemon has",
                process.virtual_bytes,
            ),
            ("process_open_fds", "Descriptors that are open", process.open_fds),
            ("process_max_fds", "Descriptors that may be open", process.max_fds),
            ("process_threads", "Threads of the daemon", process.threads),
        ];
        for (name, help, value) in bytes {
            to.gauge(name, help, [(NO_LABELS, value)])?;
        }
        to.gauge(
            "process_start_time_seconds",
            "When the daemon began, in seconds since the Unix epoch",
            [(NO_LABELS, process.start_seconds)],
        )?;
        let workers = process.workers.iter();
        to.counter(
            "vswitch_worker_cpu_seconds",
            "Time of processors that a thread which moves frames used, in seconds: its rate is how busy it is",
            workers.map(|(number, seconds)| ([("worker", number.as_str())], *seconds)),
        )?;
        let batches = self.batches.iter().enumerate();
        to.histogram(
            "vswitch_worker_batch_frames",
            "Frames that a thread which moves frames took from a port at once: near 64 it has more to do than it can",
            batches.map(|(number, sizes)| ([("worker", number.to_string())], sizes)),
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

/// All reasons, so that each is there before it happens.
fn by_reason<'a>(
    [switch, port]: [Label<'a>; 2],
    drops: &'a BTreeMap<String, u64>,
    egress: bool,
) -> impl Iterator<Item = ([Label<'a>; 3], u64)> {
    let reasons = DropReason::ALL
        .into_iter()
        .filter(move |reason| reason.is_egress() == egress);
    reasons.map(move |reason| {
        let word = reason.as_str();
        ([switch, port, ("reason", word)], drops.get(word).copied().unwrap_or(0))
    })
}

/// A rule that stands there twice is one.
fn by_rule<'a>(
    [switch, port]: [Label<'a>; 2],
    way: &'static str,
    rules: &[AclRuleView],
) -> impl Iterator<Item = (Vec<(&'a str, String)>, u64)> {
    let mut hits = BTreeMap::new();
    for view in rules {
        *hits.entry(view.rule.to_string()).or_insert(0) += view.hits;
    }
    hits.into_iter().map(move |(rule, hits)| {
        let labels = [switch, port, ("direction", way)].map(|(label, value)| (label, value.to_owned()));
        ([labels.to_vec(), vec![("rule", rule)]].concat(), hits)
    })
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
    fn gauge<L: EncodeLabelSet, N: EncodeGaugeValue>(
        &mut self,
        name: &str,
        help: &str,
        values: impl IntoIterator<Item = (L, N)>,
    ) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (labels, value) in values {
            family.encode_family(&labels)?.encode_gauge(&value)?;
        }
        Ok(())
    }

    fn counter<L: EncodeLabelSet, N: EncodeCounterValue>(
        &mut self,
        name: &str,
        help: &str,
        values: impl IntoIterator<Item = (L, N)>,
    ) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (labels, value) in values {
            family
                .encode_family(&labels)?
                .encode_counter::<NoLabelSet, N, u64>(&value, None)?;
        }
        Ok(())
    }

    fn histogram<'a, L: EncodeLabelSet>(
        &mut self,
        name: &str,
        help: &str,
        values: impl IntoIterator<Item = (L, &'a Counted)>,
    ) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Histogram)?;
        for (labels, counted) in values {
            family.encode_family(&labels)?.encode_histogram::<NoLabelSet>(
                counted.sum,
                counted.count(),
                &counted.buckets,
                None,
            )?;
        }
        Ok(())
    }
}
