use std::collections::BTreeSet;

use vswitch_api::acl::AclRule;
use vswitch_api::view::{AclRuleView, PortCounters, PortState};

use super::*;
use crate::control::Durations;
use vswitch_api::lab::{Port, PortKind, Switch};
use vswitch_api::policy::Isolation;

fn snapshot() -> Snapshot {
    let mut port = PortView {
        port: Port::new("red".parse().unwrap(), "main".parse().unwrap(), PortKind::Veth),
        state: PortState::Up,
        reason: None,
        missing_as: None,
        mtu_wanted: None,
        moved_to: None,
        lacks: Vec::new(),
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
    let rule = |hits| AclRuleView {
        rule: "deny arp".parse::<AclRule>().unwrap(),
        hits,
    };
    let acl = PortAclView {
        ingress: vec![rule(3), rule(4)],
        egress: Vec::new(),
    };
    let durations = Durations::default();
    durations.note(std::time::Duration::from_millis(20));
    Snapshot {
        labels: Arc::from(["isolation".to_owned(), "switch".to_owned()]),
        status: Status {
            version: "1.2".into(),
            api_version: 1,
            run: String::new(),
            pid: 1,
            uptime_secs: 5,
            workers: 2,
            limits: vec![],
            progress: None,
            role: None,
            confinement: Default::default(),
            netns_dir: String::new(),
        },
        switches: vec![SwitchView {
            fdb_moves: 38,
            switch,
            ports: vec![],
            fdb_entries: 34,
            fdb_full: 35,
            mirrors: vec![],
        }],
        ports: vec![port],
        acls: vec![("main".parse().unwrap(), "red".parse().unwrap(), acl)],
        vlans: vec![("main".parse().unwrap(), 10, 39)],
        events: vec![("port-shut", 40), ("fdb-flapping", 0)],
        edits: [durations.counted(), Counted::default()],
        batches: vec![Counted::of_sizes(&[43, 0, 1])],
        refused: 41,
        process: Process {
            open_fds: 42,
            workers: vec![("0".to_owned(), 1.5)],
            ..Process::now()
        },
    }
}

#[test]
fn every_counter_is_there_with_its_labels() {
    let text = snapshot().text().unwrap();
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
        "vswitch_port_receive_drops_total{switch=\"main\",port=\"red\",reason=\"policed\"} 0",
        "vswitch_port_transmit_drops_total{switch=\"main\",port=\"red\",reason=\"queue-full\"} 0",
        "vswitch_port_acl_hits_total{switch=\"main\",port=\"red\",direction=\"in\",rule=\"deny arp\"} 7",
        "vswitch_port_admin_up{switch=\"main\",port=\"red\"} 1",
        "vswitch_port_shut{switch=\"main\",port=\"red\"} 0",
        "vswitch_fdb_moves_total{switch=\"main\"} 38",
        "vswitch_fdb_vlan_entries{switch=\"main\",vlan=\"10\"} 39",
        "vswitch_events_total{kind=\"port-shut\"} 40",
        "vswitch_edit_duration_seconds_bucket{le=\"0.05\",result=\"made\"} 1",
        "vswitch_edit_duration_seconds_count{result=\"made\"} 1",
        "vswitch_metrics_refused_connections_total 41",
        "process_open_fds 42",
        "vswitch_worker_cpu_seconds_total{worker=\"0\"} 1.5",
        "vswitch_worker_batch_frames_bucket{le=\"1.0\",worker=\"0\"} 43",
        "vswitch_worker_batch_frames_sum{worker=\"0\"} 46.0",
        "vswitch_worker_batch_frames_count{worker=\"0\"} 44",
        "# EOF",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
    }
}

#[test]
fn who_accepts_plain_text_gets_it() {
    let format = |accept: &str| {
        let mut head = HeaderMap::new();
        head.insert(ACCEPT, accept.parse().unwrap());
        Format::accepted(&head)
    };
    let prometheus = "application/openmetrics-text;version=1.0.0;q=0.6,text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
    assert_eq!(format(prometheus), Format::OpenMetrics);
    assert_eq!(format("*/*"), Format::OpenMetrics);
    assert_eq!(Format::accepted(&HeaderMap::new()), Format::OpenMetrics);
    assert_eq!(format("text/plain; version=0.0.4"), Format::Plain);
    let text = "# HELP a_b Words.\n# TYPE a_b counter\na_b_total 1\n# HELP c Word.\n# TYPE c gauge\nc 2\n# EOF\n";
    let plain = "# HELP a_b_total Words.\n# TYPE a_b_total counter\na_b_total 1\n# HELP c Word.\n# TYPE c gauge\nc 2\n";
    assert_eq!(Format::Plain.write(text.to_owned()), plain);
    assert_eq!(Format::OpenMetrics.write(text.to_owned()), text);
}

/// The rules of `promtool check metrics`.
#[test]
fn names_are_as_prometheus_wants_them() {
    let text = Format::Plain.write(snapshot().text().unwrap());
    let (mut families, mut series, mut helped) = (BTreeSet::new(), BTreeSet::new(), "");
    for line in text.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (name, words) = help.split_once(' ').unwrap();
            assert!(!words.trim().is_empty(), "{line}");
            helped = name;
            continue;
        }
        let Some(kind) = line.strip_prefix("# TYPE ") else {
            let (series_of, value) = line.rsplit_once(' ').unwrap();
            assert!(value.parse::<f64>().is_ok(), "{line}");
            assert!(series.insert(series_of), "twice: {line}");
            assert!(
                series_of.starts_with(helped) && families.contains(helped),
                "{line} after {helped}"
            );
            continue;
        };
        let (name, kind) = kind.split_once(' ').unwrap();
        assert_eq!(name, helped, "no help: {line}");
        assert!(families.insert(name), "twice: {line}");
        assert!(name.starts_with("vswitch_") || name.starts_with("process_"), "{line}");
        let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
        assert!(name.bytes().all(is_plain), "{line}");
        assert_eq!(name.ends_with("_total"), kind == "counter", "{line}");
        let base = name.strip_suffix("_total").unwrap_or(name);
        for word in ["counter", "gauge", "histogram"] {
            assert!(
                !base.split('_').any(|part| part == word),
                "{line}: its type is not for its name"
            );
        }
        for suffix in ["_bucket", "_count", "_sum"] {
            assert!(!base.ends_with(suffix), "{line}");
        }
        let units = [
            "ms", "us", "ns", "secs", "sec", "minutes", "kb", "mb", "kib", "bits", "percent",
        ];
        assert!(
            !base.split('_').any(|part| units.contains(&part)),
            "{line}: no base unit"
        );
        for unit in ["seconds", "bytes"] {
            assert!(
                !base.contains(unit) || base.ends_with(unit),
                "{line}: a unit is the last word"
            );
        }
    }
    assert!(families.len() > 40, "{families:?}");
}

/// A dashboard of a metric that there is not shows nothing, and an alert on it never comes.
#[test]
fn what_the_dashboard_and_the_rules_name_is_there() {
    let text = Format::Plain.write(snapshot().text().unwrap());
    let types = text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
    let mut known = BTreeSet::new();
    for (name, kind) in types {
        known.insert(name.to_owned());
        if kind == "histogram" {
            known.extend(["_bucket", "_count", "_sum"].map(|suffix| format!("{name}{suffix}")));
        }
    }
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../configs/monitoring");
    for file in ["dashboard.json", "alerts.yml", "alerts_test.yml"] {
        let file = std::fs::read_to_string(format!("{folder}/{file}")).unwrap();
        let words = file.split(|char: char| !char.is_ascii_alphanumeric() && char != '_');
        let named: BTreeSet<_> = words
            .filter(|word| word.starts_with("vswitch_") || word.starts_with("process_"))
            .collect();
        assert!(named.len() > 8, "{named:?}");
        for name in named {
            assert!(known.contains(name), "{name} is no metric of the daemon");
        }
    }
}
