//! The tools of netfilter, which are asked and told by programs: nothing else knows all forms of its rules.

use std::io::{self, Read, Write};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use vswitch_api::{ApiError, ErrorCode};

/// So long one may take; all that they do takes milliseconds.
const PATIENCE: Duration = Duration::from_secs(10);
/// What is told of an error.
const SHOWN: usize = 300;

/// Why a tool did not do what it was to do.
pub(super) enum Refused {
    /// It is not installed.
    Absent,
    /// What it said.
    Said(String),
}

/// Runs a tool with this input and gives its output.
pub(super) async fn run(program: &'static str, arguments: &[&str], input: Vec<u8>) -> Result<Vec<u8>, Refused> {
    let arguments: Vec<_> = arguments.iter().map(|&word| word.to_owned()).collect();
    let running = tokio::task::spawn_blocking(move || run_here(program, &arguments, &input));
    running
        .await
        .unwrap_or_else(|error| Err(Refused::Said(error.to_string())))
}

fn run_here(program: &str, arguments: &[String], input: &[u8]) -> Result<Vec<u8>, Refused> {
    let said = |error: io::Error| Refused::Said(error.to_string());
    let mut command = Command::new(program);
    command
        .args(arguments)
        .env("LC_ALL", "C")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => Refused::Absent,
        _ => said(error),
    })?;
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    thread::scope(|scope| {
        // One that ends without reading says why.
        scope.spawn(|| stdin.map(|mut stdin| stdin.write_all(input)));
        let stdout = scope.spawn(|| read(stdout));
        let stderr = scope.spawn(|| read(stderr));
        let status = wait(&mut child);
        let (stdout, stderr) = (stdout.join().unwrap_or_default(), stderr.join().unwrap_or_default());
        match status.map_err(said)? {
            None => Err(Refused::Said(format!("no answer within {} s", PATIENCE.as_secs()))),
            Some(status) if status.success() => Ok(stdout),
            Some(status) => {
                let text = String::from_utf8_lossy(&stderr);
                let words: Vec<_> = text.split_whitespace().collect();
                let line: String = words.join(" ").chars().take(SHOWN).collect();
                Err(Refused::Said(if line.is_empty() { status.to_string() } else { line }))
            }
        }
    })
}

fn read(from: Option<impl Read>) -> Vec<u8> {
    let mut content = Vec::new();
    if let Some(mut from) = from {
        // What came until then.
        let _ = from.read_to_end(&mut content);
    }
    content
}

/// None: it took too long, and was ended.
fn wait(child: &mut Child) -> io::Result<Option<ExitStatus>> {
    let end = Instant::now() + PATIENCE;
    let mut pause = Duration::from_millis(1);
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if Instant::now() >= end {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        thread::sleep(pause);
        pause = (2 * pause).min(Duration::from_millis(20));
    }
}

/// Has `nft` carry out these commands, all or none.
///
/// # Errors
/// It is not there, or the kernel refused them.
pub(super) async fn nft(commands: &Value) -> Result<(), ApiError> {
    let input = commands.to_string();
    let done = run("nft", &["-j", "-f", "-"], input.into_bytes()).await;
    done.map(drop).map_err(Refused::told)
}

impl Refused {
    /// For the user.
    pub fn told(self) -> ApiError {
        match self {
            Refused::Absent => ApiError::new(
                ErrorCode::NotPermitted,
                "nftables",
                "the program nft, which NAT is set up by, is not there",
            )
            .hint("install it (Debian: apt install nftables), or do without --nat"),
            Refused::Said(text) => ApiError::new(
                ErrorCode::Kernel,
                "nftables",
                format!("nft refused the table of vswitch: {text}"),
            )
            .hint("is NAT in this kernel (modules nf_tables, nft_chain_nat, nft_masq, nft_fib_inet)?"),
        }
    }
}

/// What `nft` lists. None: there is no such thing, or no `nft`.
pub(super) async fn list(what: &[&str]) -> Option<Value> {
    let arguments = [&["-j", "list"], what].concat();
    let output = run("nft", &arguments, Vec::new()).await.ok()?;
    serde_json::from_slice(&output).ok()
}

/// What the kernel has of this table of the family inet, as `nft` lists it, without what says nothing of its rules. None: it is not there.
///
/// # Errors
/// `nft` is not there, or can't tell.
pub(super) async fn content(table: &str) -> Result<Option<Value>, Refused> {
    let output = match run("nft", &["-j", "-s", "list", "table", "inet", table], Vec::new()).await {
        Err(Refused::Said(text)) if text.contains("No such file or directory") => return Ok(None),
        listed => listed?,
    };
    let listed: Value = serde_json::from_slice(&output).map_err(|error| Refused::Said(error.to_string()))?;
    Ok(Some(plain(listed)))
}

/// Without what each object is numbered by, and what is told of `nft` itself.
fn plain(mut listed: Value) -> Value {
    let mut objects = match listed["nftables"].take() {
        Value::Array(objects) => objects,
        _ => Vec::new(),
    };
    objects.retain(|object| object.get("metainfo").is_none());
    for object in objects.iter_mut().filter_map(Value::as_object_mut) {
        for fields in object.values_mut().filter_map(Value::as_object_mut) {
            fields.remove("handle");
        }
    }
    Value::Array(objects)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn of_a_table_its_rules_are_compared_and_not_their_numbers() {
        let listed = |handle: u32, verdict: &str| {
            json!({"nftables": [
                {"metainfo": {"version": "1.0.6"}},
                {"chain": {"name": "pass", "handle": handle}},
                {"rule": {"chain": "pass", "handle": handle + 1, "expr": [{verdict: null}]}}
            ]})
        };
        assert_eq!(plain(listed(1, "drop")), plain(listed(7, "drop")));
        assert_ne!(plain(listed(1, "drop")), plain(listed(1, "accept")));
        assert_eq!(plain(json!({})), json!([]));
    }
}
