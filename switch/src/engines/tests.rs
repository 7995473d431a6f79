use std::process::{Child, Command, Stdio};

use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixListener;

use super::*;

/// A process that ends with the test.
struct Sleeper(Child);

impl Sleeper {
    fn start() -> Self {
        Self(Command::new("sleep").arg("1000").stdin(Stdio::null()).spawn().unwrap())
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// An engine that gives each request the same answer, or none.
fn engine(socket: &Path, answer: Option<String>) {
    let listener = UnixListener::bind(socket).unwrap();
    tokio::spawn(async move {
        let mut silent = Vec::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            let Some(answer) = &answer else {
                silent.push(stream);
                continue;
            };
            let mut request = [0; 2048];
            let _ = stream.read(&mut request).await;
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
}

fn answer(status: &str, body: &str) -> Option<String> {
    Some(format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    ))
}

fn container(pid: u32, running: bool) -> Option<String> {
    let id = "3f".repeat(32);
    let body = format!(
        r#"{{"Id":"{id}","Name":"/web","State":{{"Running":{running},"Pid":{pid},"Status":"x"}},"HostConfig":{{"NetworkMode":"none"}}}}"#
    );
    answer("200 OK", &body)
}

fn none() -> Option<String> {
    answer("404 Not Found", r#"{"message":"no such container"}"#)
}

async fn find(
    docker: Option<Option<String>>,
    podman: Option<Option<String>>,
    name: &str,
) -> Result<Container, NotFound> {
    let dir = TempDir::new().unwrap();
    let at = |name: &str| dir.path().join(name);
    if let Some(answer) = docker {
        engine(&at("docker.sock"), answer);
    }
    if let Some(answer) = podman {
        engine(&at("podman.sock"), answer);
    }
    let engines = Engines::new(at("docker.sock"), at("podman.sock"));
    engines.find(&name.parse().unwrap()).await
}

#[tokio::test]
async fn a_container_that_runs_is_found_with_its_process() {
    let sleeper = Sleeper::start();
    let pid = sleeper.0.id();
    let found = find(Some(container(pid, true)), None, "web").await.unwrap();
    assert_eq!(
        (found.engine, found.process.pid, &*found.name),
        (Engine::Docker, pid, "web")
    );
    let found = find(Some(none()), Some(container(pid, true)), "web").await.unwrap();
    assert_eq!(found.engine, Engine::Podman);
    let both = find(Some(container(pid, true)), Some(container(pid, true)), "web")
        .await
        .unwrap_err();
    assert!(both.cause.contains("docker:web") && both.is_certain, "{both}");
    let said = find(Some(container(pid, true)), Some(container(pid, true)), "podman:web")
        .await
        .unwrap();
    assert_eq!(said.engine, Engine::Podman);
}

#[tokio::test]
async fn what_is_not_there_and_what_can_not_be_told_differ() {
    let not_running = find(Some(container(0, false)), None, "web").await.unwrap_err();
    assert!(
        not_running.is_certain && not_running.cause.contains("does not run (docker)"),
        "{not_running}"
    );
    let nowhere = find(Some(none()), None, "web").await.unwrap_err();
    assert!(nowhere.is_certain, "{nowhere}");
    assert!(
        nowhere
            .cause
            .contains("docker has none of this name, podman does not run"),
        "{nowhere}"
    );
    for strange in [
        answer("500 Oops", "x"),
        answer("200 OK", "[]"),
        answer("200 OK", "{"),
        Some("SSH-2.0\r\n".into()),
    ] {
        let unsure = find(Some(strange.clone()), None, "web").await.unwrap_err();
        assert!(!unsure.is_certain, "{strange:?}: {unsure}");
    }
}

/// Whoever holds the socket may be stuck.
#[tokio::test]
async fn nobody_waits_for_an_engine_that_does_not_answer() {
    let silent = find(Some(None), Some(none()), "web").await.unwrap_err();
    assert!(
        !silent.is_certain && silent.cause.contains("no answer for 2 s"),
        "{silent}"
    );
    let dir = TempDir::new().unwrap();
    let socket = dir.path().join("docker.sock");
    engine(&socket, None);
    assert!(Engines::listen(&socket).await.is_err());
}

#[tokio::test]
async fn an_answer_without_end_is_cut_off() {
    let endless = format!("HTTP/1.1 200 OK\r\n\r\n{}", "x".repeat(5 << 20));
    let cut = find(Some(Some(endless)), None, "web").await.unwrap_err();
    assert!(!cut.is_certain, "{cut}");
}

#[test]
fn the_container_of_a_process_is_told_by_its_groups() {
    let id = "3f".repeat(32);
    for groups in [
        format!("12:pids:/docker/{id}\n0::/docker/{id}"),
        format!("0::/system.slice/docker-{id}.scope"),
        format!("0::/machine.slice/libpod-{id}.scope/container"),
        format!("1:name=systemd:/libpod_parent/libpod-{id}"),
    ] {
        assert_eq!(container_id(&groups), Some(id.as_str()), "{groups}");
    }
    assert_eq!(container_id("0::/user.slice/session-3.scope"), None);
}

#[test]
fn a_query_has_no_characters_that_mean_something_in_it() {
    assert_eq!(encoded(r#"{"a":["b c"]}"#), "%7B%22a%22%3A%5B%22b%20c%22%5D%7D");
}
