//! What is seen from outside: metrics over TCP, events that nobody misses, a log that can be turned up.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use vswitch_testing::ctl::tool;
use vswitch_testing::http::{connect, request, request_with};
use vswitch_testing::wait::DEADLINE;
use vswitch_testing::{Lab, wait_for};

const ADDRESS: &str = "127.0.0.1:9746";

/// One request over TCP: the whole answer.
#[track_caller]
fn ask(head: &str) -> String {
    let mut stream = TcpStream::connect(ADDRESS).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    let _ = stream.write_all(format!("{head}\r\n\r\n").as_bytes());
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer);
    answer
}

fn with_metrics() -> Lab {
    let mut lab = Lab::without_daemon();
    lab.add_config(&format!(
        "[metrics]\nlisten = {ADDRESS:?}\nhosts = [\"metrics.example\"]"
    ));
    lab.start();
    lab
}

#[test]
fn metrics_are_to_be_had_over_tcp_and_nothing_else() {
    let lab = with_metrics();
    lab.ok("add-port red");
    let answer = ask("GET /metrics HTTP/1.1\r\nHost: 127.0.0.1:9746");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    for line in [
        "vswitch_port_up{switch=\"main\",port=\"red\"} 1",
        "vswitch_port_receive_drops_total{switch=\"main\",port=\"red\",reason=\"storm\"} 0",
        "vswitch_events_total{kind=\"port-added\"} 1",
        "vswitch_edit_duration_seconds_count{result=\"made\"} 1",
        "vswitch_worker_cpu_seconds_total{worker=\"0\"} ",
        "process_resident_memory_bytes ",
        "# EOF",
    ] {
        assert!(
            answer.lines().any(|found| found.starts_with(line)),
            "{line} is not in {answer}"
        );
    }
    for (head, status) in [
        ("GET /metrics HTTP/1.1\r\nHost: Metrics.example", 200),
        ("GET /metrics HTTP/1.1\r\nHost: evil.example", 403),
        ("GET /metrics HTTP/1.1", 400),
        ("GET /v1/lab HTTP/1.1\r\nHost: localhost", 404),
        ("PUT /metrics HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0", 405),
    ] {
        let answer = ask(head);
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{head}: {answer}");
        assert!(status == 200 || !answer.contains("vswitch_"), "{head}: {answer}");
    }
    // Those that say nothing hold nobody up for long: what is too much is closed.
    let idle: Vec<_> = (0..16).map(|_| TcpStream::connect(ADDRESS).unwrap()).collect();
    wait_for("one to be too many", || {
        ask("GET /metrics HTTP/1.1\r\nHost: localhost").is_empty()
    });
    drop(idle);
    wait_for("room again", || {
        ask("GET /metrics HTTP/1.1\r\nHost: localhost")
            .lines()
            .any(|line| line.starts_with("vswitch_metrics_refused_connections_total ") && !line.ends_with(" 0"))
    });
    assert_eq!(request("GET", "/metrics", "").status, 200, "the socket has them too");
}

/// A restart ended the daemon, and a start before the address was there left ports dead.
#[test]
fn an_address_for_metrics_that_is_taken_is_told_and_waited_for() {
    const TAKEN: &str = "127.0.0.1:9747";
    let mut lab = Lab::without_daemon();
    lab.add_config(&format!("[metrics]\nlisten = {TAKEN:?}"));
    let taken = std::net::TcpListener::bind(TAKEN).unwrap();
    lab.start();
    lab.ok("add-port red");
    let limits = || lab.json::<Value>("status")["limits"].to_string();
    let told = || match limits() {
        told if told.contains(&format!("metrics at {TAKEN}")) => Ok(()),
        told => Err(told),
    };
    wait_for("the status to tell of it", told);
    lab.ok("restart");
    wait_for("the status to tell of it again", told);
    drop(taken);
    wait_for("the address to be listened on", || TcpStream::connect(TAKEN).is_ok());
    wait_for("nothing to be told", || match told() {
        Ok(()) => Err(limits()),
        Err(_) => Ok(()),
    });
}

/// None, and a word about it, where it is not installed.
fn promtool() -> Option<Command> {
    let mut version = Command::new("promtool");
    let there = version.arg("--version").output().is_ok();
    if !there {
        eprintln!("nothing to test: promtool is not installed");
    }
    there.then(|| Command::new("promtool"))
}

/// The same rules are in a unit test, which needs no promtool.
#[test]
fn promtool_has_nothing_to_say_of_the_metrics() {
    let Some(mut check) = promtool() else { return };
    let lab = Lab::new();
    lab.ok("add-port red");
    lab.ok("acl add red in deny arp");
    let text = request_with("GET", "/metrics", &["Accept: text/plain;version=0.0.4"], "").body;
    assert!(
        text.contains("# TYPE vswitch_port_receive_frames_total counter"),
        "{text}"
    );
    check
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut check = check.spawn().unwrap();
    check.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let told = check.wait_with_output().unwrap();
    let words = [told.stdout, told.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    assert!(told.status.success() && words == ["", ""], "{words:?}");
}

/// Each alert comes when it should, and only then.
#[test]
fn promtool_finds_the_alert_rules_right() {
    for words in [
        ["check", "config", "prometheus.yml"],
        ["test", "rules", "alerts_test.yml"],
    ] {
        let Some(mut promtool) = promtool() else { return };
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../configs/monitoring");
        let told = promtool.args(words).current_dir(folder).output().unwrap();
        assert!(told.status.success(), "{words:?}: {told:?}");
    }
}

/// Lines of a stream of events from here on.
fn events(path: &str, fields: &[&str]) -> impl Iterator<Item = String> + use<> {
    let mut stream = connect();
    let fields: String = fields.iter().map(|field| format!("{field}\r\n")).collect();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\n{fields}\r\n").unwrap();
    let mut lines = BufReader::new(stream).lines().map(Result::unwrap);
    let status = lines.next().unwrap();
    assert!(status.starts_with("HTTP/1.1 200"), "{status}");
    let _ = lines.by_ref().take_while(|line| !line.is_empty()).last();
    lines
}

/// Data of the next event of such a stream.
#[track_caller]
fn next(lines: &mut impl Iterator<Item = String>) -> Value {
    let line = lines.find_map(|line| line.strip_prefix("data:").map(str::to_owned));
    serde_json::from_str(&line.expect("the stream goes on")).unwrap()
}

#[test]
fn who_reads_events_again_misses_nothing() {
    let mut lab = Lab::new();
    let mut first = events("/v1/events", &[]);
    lab.ok("switch add one");
    let seen = next(&mut first);
    assert_eq!(
        (&seen["kind"], &seen["switch"]),
        (&json!("switch-added"), &json!("one"))
    );
    let id = seen["id"].as_str().unwrap().to_owned();
    drop(first);
    lab.ok("switch add two");
    lab.ok("add-port red --switch two");
    lab.ok("add-port blue");
    lab.ok("set port red --mtu 1400");
    // As a browser asks, which has the id of the line before.
    let mut again = events("/v1/events", &[&format!("Last-Event-ID: {id}")]);
    assert!(again.any(|line| line.starts_with("id: ") && line != format!("id: {id}")));
    assert_eq!(next(&mut again)["switch"], "two");
    // Only some of them; a line each.
    let path = format!("/v1/events?since={id}&kind=port-added,port-set&switch=two");
    let mut lines = events(&path, &["Accept: application/x-ndjson"]).filter(|line| line.starts_with('{'));
    let mut line = || serde_json::from_str::<Value>(&lines.next().unwrap()).unwrap();
    let (added, set) = (line(), line());
    assert_eq!((&added["kind"], &added["port"]), (&json!("port-added"), &json!("red")));
    assert_eq!((&set["kind"], &set["port"]), (&json!("port-set"), &json!("red")));
    let mut tool = tool();
    tool.args([
        "events",
        "--json",
        "--since",
        &id,
        "--port",
        "blue",
        "--kind",
        "port-added",
    ]);
    let mut tool = tool.stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(tool.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    tool.kill().unwrap();
    tool.wait().unwrap();
    assert_eq!(serde_json::from_str::<Value>(&line).unwrap()["port"], "blue");
    // What is no kind, and no id, is refused.
    for (path, word) in [
        ("?kind=nosuch", "port-shut"),
        ("?since=7", "19a3f2c81b0-42"),
        ("?port=a/b", "a/b"),
    ] {
        let refused = request("GET", &format!("/v1/events{path}"), "");
        assert!(
            refused.status == 400 && refused.body.contains(word),
            "{path}: {refused:?}"
        );
    }
    lab.ctl("events --kind nosuch").failed(2, &["nosuch", "port-shut"]);
    // Of another run of the daemon nobody knows how many there were.
    lab.kill_daemon();
    lab.start();
    let mut after = events(&format!("/v1/events?since={id}"), &[]);
    let missed = next(&mut after);
    assert_eq!((&missed["kind"], &missed["count"]), (&json!("missed"), &json!(0)));
}

#[test]
fn the_log_is_turned_up_while_the_daemon_runs() {
    let mut lab = Lab::new();
    lab.ok("log-level info");
    assert_eq!(lab.ok("log-level"), "info\n");
    let dry = lab.ctl("log-level -n debug");
    assert_eq!(dry.ok().stdout, "would set level of the log to debug (was info)\n");
    assert_eq!(request("GET", "/v1/log", "").json(), json!({"level": "info"}));
    let before = lab.daemon().log().len();
    lab.ok("show");
    assert!(
        !lab.daemon().log()[before..].contains("/v1/ports"),
        "a request is told of at info"
    );
    assert_eq!(lab.ok("log-level debug"), "set level of the log to debug (was info)\n");
    lab.ok("show");
    wait_for("a request in the log", || {
        let log = lab.daemon().log();
        log[before..].contains("/v1/ports") && log[before..].contains("elapsed_ms=")
    });
    // Hundreds of lines of the library that loads the programs of the fast path came before.
    let log = lab.daemon().log();
    assert!(!log.to_lowercase().contains("relocat"), "{log}");
    lab.ctl("log-level loud").failed(2, &["loud", "use off, error, warn"]);
    let stale = request_with("PUT", "/v1/log", &["If-Match: \"log-0\""], r#"{"level": "warn"}"#);
    assert_eq!(stale.status, 412, "{stale:?}");
    assert_eq!(lab.ok("log-level"), "debug\n");
}
