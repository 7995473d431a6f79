//! Runs the real tool against a server on a unix socket that gives prepared replies and notes what it was asked.
#![allow(dead_code, reason = "each test file uses a part")]

use std::collections::HashMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

/// One request as it arrived.
#[derive(Clone, Debug, PartialEq)]
pub struct Asked {
    pub method: String,
    pub uri: String,
    pub body: Value,
}

#[derive(Default)]
struct Shared {
    /// By `METHOD path`, without the query.
    replies: HashMap<String, (u16, &'static str, String)>,
    asked: Mutex<Vec<Asked>>,
    /// What the requests since the last look had in `If-Match`.
    conditions: Mutex<Vec<Option<String>>>,
    /// So many requests on a condition find that it does not hold any more.
    changes: AtomicUsize,
}

/// The prepared server; it ends with the test's process.
pub struct Daemon {
    dir: tempfile::TempDir,
    shared: Arc<Shared>,
}

/// Replies in the making.
#[derive(Default)]
pub struct Replies(Shared);

impl Replies {
    pub fn json(self, request: &str, body: Value) -> Self {
        self.status(request, 200, body)
    }

    pub fn status(self, request: &str, status: u16, body: Value) -> Self {
        self.raw(request, status, "application/json", &body.to_string())
    }

    pub fn raw(mut self, request: &str, status: u16, content_type: &'static str, body: &str) -> Self {
        self.0
            .replies
            .insert(request.to_owned(), (status, content_type, body.to_owned()));
        self
    }

    /// Somebody else comes before this many edits that are made on a condition.
    pub fn changed(self, times: usize) -> Self {
        self.0.changes.store(times, Ordering::Relaxed);
        self
    }

    pub fn start(self) -> Daemon {
        let dir = tempfile::tempdir().unwrap();
        let listener = std::os::unix::net::UnixListener::bind(dir.path().join("control.sock")).unwrap();
        listener.set_nonblocking(true).unwrap();
        let shared = Arc::new(self.0);
        let app = axum::Router::new().fallback(answer).with_state(shared.clone());
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                axum::serve(tokio::net::UnixListener::from_std(listener).unwrap(), app)
                    .await
                    .unwrap();
            });
        });
        Daemon { dir, shared }
    }
}

/// Changes with one line, for whatever is not prepared.
async fn answer(
    State(shared): State<Arc<Shared>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let body = if body.is_empty() {
        Value::Null
    } else {
        serde_json::from_slice(&body).unwrap()
    };
    shared.asked.lock().unwrap().push(Asked {
        method: method.to_string(),
        uri: uri.to_string(),
        body,
    });
    let condition = headers
        .get(header::IF_MATCH)
        .map(|tag| tag.to_str().unwrap().to_owned());
    shared.conditions.lock().unwrap().push(condition.clone());
    let left = shared.changes.load(Ordering::Relaxed);
    if condition.is_some() && left > 0 {
        shared.changes.store(left - 1, Ordering::Relaxed);
        let error = json!({"code": "changed", "object": "port \"t\"", "cause": "it changed since it was read"});
        return (StatusCode::PRECONDITION_FAILED, axum::Json(error)).into_response();
    }
    let tag = [(header::ETAG, format!("\"tag-{left}\""))];
    let reply = match shared.replies.get(&format!("{method} {}", uri.path())) {
        Some((status, content_type, body)) => (
            StatusCode::from_u16(*status).unwrap(),
            [(header::CONTENT_TYPE, *content_type)],
            body.clone(),
        )
            .into_response(),
        None => axum::Json(json!({"done": ["did it"]})).into_response(),
    };
    (tag, reply).into_response()
}

impl Daemon {
    pub fn socket(&self) -> PathBuf {
        self.dir.path().join("control.sock")
    }

    /// Runs the tool with these arguments, apart by spaces.
    pub fn run(&self, arguments: &str) -> Ran {
        run(&self.socket(), arguments, "")
    }

    pub fn run_with_stdin(&self, arguments: &str, stdin: &str) -> Ran {
        run(&self.socket(), arguments, stdin)
    }

    /// What was asked since the last call.
    pub fn asked(&self) -> Vec<Asked> {
        std::mem::take(&mut self.shared.asked.lock().unwrap())
    }

    /// The conditions of the requests since the last call.
    pub fn conditions(&self) -> Vec<Option<String>> {
        std::mem::take(&mut self.shared.conditions.lock().unwrap())
    }
}

/// How the tool ended.
#[derive(Debug)]
pub struct Ran {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Ran {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }
}

/// The tool, ready to run, with nothing of the tester's environment that it looks at.
pub fn tool(socket: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vswitchctl"));
    command
        .env("VSWITCH_SOCKET", socket)
        .env("TZ", "UTC")
        .env_remove("VSWITCH_TIMEOUT")
        .env_remove("NO_COLOR")
        .env_remove("COLUMNS");
    command
}

pub fn run(socket: &Path, arguments: &str, stdin: &str) -> Ran {
    let mut child = tool(socket)
        .args(arguments.split_whitespace())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A tool that ended without reading closes the pipe.
    let _ = child.stdin.take().unwrap().write_all(stdin.as_bytes());
    let output = child.wait_with_output().unwrap();
    Ran {
        code: output.status.code().unwrap(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}
