//! Docker and Podman, asked over their API sockets which process a container is, and listened to for containers that start and stop.
//!
//! Both speak Docker's API. Nothing of theirs is changed, and no answer is waited for longer than [`PATIENCE`]: whoever holds the socket
//! may be stuck, or be no engine at all.

mod http;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures::future::join_all;
use serde::Deserialize;
use tokio::time::timeout;
use vswitch_api::view::MissingAs;
use vswitch_api::{ContainerName, Engine};
use vswitch_linux::{KernelError, Presence, Process};

pub use http::Lines;

/// So long an engine may take for an answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// So often it is asked again about a container that is just starting or stopping.
const ATTEMPTS: usize = 3;

/// What happens to a container that makes it another, or none, to whoever knows it by its name.
const EVENTS: &str = r#"{"type":["container"],"event":["start","restart","die","died","rename","destroy","remove"]}"#;

/// Where the engines listen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Engines {
    sockets: Vec<(Engine, PathBuf)>,
}

/// A container that runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Container {
    /// Who runs it.
    pub engine: Engine,
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its first process, whose namespace is its own.
    pub process: Process,
    /// Which network it was given: `none`, `bridge`, `host`, `container:ID`.
    pub network: String,
}

/// Why no container was found that runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotFound {
    /// What was found out, in words.
    pub cause: String,
    /// All that could have it have answered: it is not there, or does not run.
    pub is_certain: bool,
    /// What a port in it is missing for.
    pub missing_as: MissingAs,
}

/// What a port in a container is missing for that does not run.
pub fn stopped(engine: Engine) -> MissingAs {
    match engine {
        Engine::Docker => MissingAs::DockerStopped,
        Engine::Podman => MissingAs::PodmanStopped,
    }
}

impl fmt::Display for NotFound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.cause)
    }
}

impl NotFound {
    fn certain(cause: String, missing_as: MissingAs) -> Self {
        Self {
            cause,
            is_certain: true,
            missing_as,
        }
    }

    fn unsure(cause: String) -> Self {
        Self {
            cause,
            is_certain: false,
            missing_as: MissingAs::Other,
        }
    }
}

/// What an engine says of a container, as far as it is of use here (`GET /containers/{id}/json`).
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Inspected {
    id: String,
    name: String,
    state: State,
    #[serde(default)]
    host_config: HostConfig,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct State {
    running: bool,
    pid: u32,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct HostConfig {
    network_mode: String,
}

/// What one engine knows.
enum Answer {
    Runs(Container),
    Stopped,
    None,
    /// It is not there at all.
    NoEngine,
    Unknown(String),
}

impl Engines {
    /// Those behind these sockets.
    pub fn new(docker: PathBuf, podman: PathBuf) -> Self {
        Self {
            sockets: vec![(Engine::Docker, docker), (Engine::Podman, podman)],
        }
    }

    /// All of them, with where they listen.
    pub fn sockets(&self) -> impl Iterator<Item = (Engine, &Path)> {
        self.sockets.iter().map(|(engine, socket)| (*engine, socket.as_path()))
    }

    /// Looks for a container.
    ///
    /// # Errors
    /// None of the engines has it running, two have it, or they do not answer.
    pub async fn find(&self, name: &ContainerName) -> Result<Container, NotFound> {
        let meant = |(engine, _): &(Engine, &Path)| name.engine().is_none_or(|said| said == *engine);
        let asked: Vec<_> = self.sockets().filter(meant).collect();
        let answers = asked.iter().map(|(engine, socket)| async move {
            let answer = timeout(PATIENCE, ask(*engine, socket, name.bare())).await;
            answer.unwrap_or_else(|_| Answer::Unknown(format!("no answer for {} s", PATIENCE.as_secs())))
        });
        let answers = join_all(answers).await;
        let (mut running, mut has_it, mut said, mut unsure) = (Vec::new(), None, Vec::new(), false);
        for ((engine, socket), answer) in asked.into_iter().zip(answers) {
            match answer {
                Answer::Runs(container) => running.push(container),
                Answer::Stopped => has_it = Some(engine),
                Answer::None => said.push(format!("{engine} has none of this name")),
                Answer::NoEngine => said.push(format!("{engine} does not run ({})", socket.display())),
                Answer::Unknown(cause) => {
                    unsure = true;
                    said.push(format!("{engine} ({}): {cause}", socket.display()));
                }
            }
        }
        match (running.pop(), running.pop(), has_it) {
            (Some(container), None, _) => Ok(container),
            (Some(_), Some(_), _) => {
                let cause = format!("both docker and podman have it; write docker:{name} or podman:{name}");
                Err(NotFound::certain(cause, MissingAs::Other))
            }
            (None, _, Some(engine)) => {
                let cause = format!("it does not run ({engine})");
                Err(NotFound::certain(cause, stopped(engine)))
            }
            (None, _, None) if unsure => Err(NotFound::unsure(said.join(", "))),
            (None, _, None) => {
                let cause = format!("there is no such container: {}", said.join(", "));
                Err(NotFound::certain(cause, MissingAs::NoContainer))
            }
        }
    }

    /// The name of the container that a process is of, by the id in its control groups. None if it is of none, or that can't be told.
    pub async fn owner(&self, groups: &str) -> Option<(Engine, String)> {
        let id = container_id(groups)?;
        let name = id.parse().ok()?;
        let container = self.find(&name).await.ok()?;
        Some((container.engine, container.name))
    }

    /// What happens to containers from now on: each line tells of something, and it is to be looked what.
    ///
    /// # Errors
    /// The engine is not there, or does not answer.
    pub async fn listen(socket: &Path) -> io::Result<Lines> {
        let path = format!("/events?filters={}", encoded(EVENTS));
        let opened = timeout(PATIENCE, http::get(socket, &path)).await;
        let (status, body) = opened.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
        match status {
            200 => Ok(Lines::new(body)),
            _ => Err(io::Error::other(format!("it answered {status}"))),
        }
    }
}

/// What one engine says of a container. It is asked again after its process was looked at: if it is still that, the process had its
/// number for the container all the while.
async fn ask(engine: Engine, socket: &Path, name: &str) -> Answer {
    let mut before: Option<(String, Process)> = None;
    for _ in 0..ATTEMPTS {
        let inspected = match inspect(socket, name).await {
            Ok(Some(inspected)) => inspected,
            Ok(None) => return Answer::None,
            Err(error) if is_absent(&error) => return Answer::NoEngine,
            Err(error) => return Answer::Unknown(error.to_string()),
        };
        let State { running, pid } = inspected.state;
        if !running || pid == 0 {
            return Answer::Stopped;
        }
        let process = match Process::look(pid) {
            Presence::Here(process) => process,
            // It has ended since; its engine will have noticed when it is asked again.
            Presence::Gone => continue,
            Presence::Unknown(error) => return Answer::Unknown(error.to_string()),
        };
        let now = (inspected.id, process);
        if before.as_ref() == Some(&now) {
            return Answer::Runs(Container {
                engine,
                id: now.0,
                name: inspected.name.trim_start_matches('/').to_owned(),
                process,
                network: inspected.host_config.network_mode,
            });
        }
        before = Some(now);
    }
    Answer::Unknown("it starts and stops over and over".to_owned())
}

async fn inspect(socket: &Path, name: &str) -> io::Result<Option<Inspected>> {
    let (status, body) = http::get(socket, &format!("/containers/{name}/json")).await?;
    let body = http::whole(body).await?;
    match status {
        200 => serde_json::from_slice(&body)
            .map(Some)
            .map_err(|error| io::Error::other(format!("its answer can't be understood: {error}"))),
        404 => Ok(None),
        _ => Err(io::Error::other(format!(
            "it answered {status}: {}",
            String::from_utf8_lossy(&body)
                .chars()
                .take(200)
                .collect::<String>()
                .escape_debug()
        ))),
    }
}

/// Nobody listens there.
fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused)
}

/// An id of a container in a list of control groups: `0::/system.slice/docker-3f….scope`, `…/libpod-3f…`, `…/docker/3f…`.
fn container_id(groups: &str) -> Option<&str> {
    let parts = groups.split(['/', '-', '.', '\n', ':', '_']);
    let hex = |part: &&str| part.len() == 64 && part.bytes().all(|byte| byte.is_ascii_hexdigit());
    parts.into_iter().find(hex)
}

/// Text for the query of a path.
fn encoded(text: &str) -> String {
    let byte = |byte: u8| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(byte).collect()
}

/// Where the namespace of a process can be entered.
pub fn entrance(process: Process) -> String {
    format!("/proc/{}/ns/net", process.pid)
}

impl From<KernelError> for NotFound {
    fn from(error: KernelError) -> Self {
        Self::unsure(error.to_string())
    }
}

#[cfg(test)]
mod tests;
