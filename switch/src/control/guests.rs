//! Namespaces of others, in which ports are: of processes, files and containers. They are looked for and watched; none is ever made,
//! kept or removed by us.
//!
//! Nothing here holds a namespace open longer than it takes to look into it. What a port was given (`pid = 4711`, `container = "web"`) is
//! looked up anew each time. A process is noted with the time of its start, so that no other is taken for it that gets its number; of a
//! container the engine tells which process it is at the moment.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use futures::future::join_all;
use tokio::sync::Notify;
use vswitch_api::view::{Entrance, MissingAs};
use vswitch_api::{ApiError, ContainerName, ErrorCode, Lab, Namespace, Pid, Port, PortName};

use super::plan::Step;
use super::{Inner, text};
use crate::engines::{Container, Engines, NotFound, entrance, stopped};
use vswitch_linux::{KernelError, NetNs, Presence, Process, process_name};

/// What is known of the namespaces of others.
pub(super) struct Guests {
    pub engines: Arc<Engines>,
    /// What was found the last time of the containers that ports are in.
    pub containers: BTreeMap<ContainerName, Result<Container, NotFound>>,
    /// Told when the lab has changed.
    pub changed: Arc<Notify>,
}

impl Guests {
    pub fn new(engines: Engines) -> Self {
        Self {
            engines: Arc::new(engines),
            containers: BTreeMap::new(),
            changed: Arc::default(),
        }
    }

    /// The process of a container, as far as is known.
    pub fn process_of(&self, name: &ContainerName) -> Option<Process> {
        let container = self.containers.get(name)?.as_ref().ok()?;
        Some(container.process)
    }

    /// Takes in what was found. An engine that does not answer says nothing of a container whose process lives. True: it is news.
    pub fn take(&mut self, name: &ContainerName, found: Result<Container, NotFound>) -> bool {
        let lives = || self.process_of(name).is_some_and(|process| !process.lives().is_gone());
        if matches!(&found, Err(not_found) if !not_found.is_certain) && lives() {
            return false;
        }
        let before = self.containers.insert(name.clone(), found);
        before.as_ref() != self.containers.get(name)
    }
}

/// Looks for containers, all at once.
pub(super) async fn find_all(
    engines: &Engines,
    names: impl IntoIterator<Item = ContainerName>,
) -> Vec<(ContainerName, Result<Container, NotFound>)> {
    let finding = names.into_iter().map(|name| async move {
        let found = engines.find(&name).await;
        (name, found)
    });
    join_all(finding).await
}

/// The namespace of a port, if it is another's.
pub(super) fn foreign(port: &Port) -> Option<&Namespace> {
    port.namespace.as_ref().filter(|namespace| namespace.name().is_none())
}

/// The process by whose number a namespace is known, if it is.
fn process_meant(namespace: &Namespace) -> Option<u32> {
    match namespace {
        Namespace::Pid(pid) => Some(pid.get()),
        Namespace::Path(path) => Process::behind(Path::new(path.as_str())),
        Namespace::Name(_) | Namespace::Container(_) => None,
    }
}

impl Inner {
    /// Looks for the containers that ports of `lab` are in and that were not looked for yet.
    pub(super) async fn find_containers(&mut self, lab: &Lab) {
        let before = &self.store.state.lab.ports;
        // What was found for an edit that was refused is of no use to the next.
        let is_used = |name: &ContainerName| {
            let both = before.iter().chain(&lab.ports);
            both.filter_map(|port| port.namespace.as_ref())
                .any(|namespace| matches!(namespace, Namespace::Container(used) if used == name))
        };
        self.host.guests.containers.retain(|name, _| is_used(name));
        let new = lab.ports.iter().filter(|port| !before.contains(port));
        self.find_containers_of(&new.cloned().collect::<Vec<_>>()).await;
    }

    /// The same of these ports.
    pub(super) async fn find_containers_of(&mut self, ports: &[Port]) {
        let names = ports.iter().filter_map(|port| match &port.namespace {
            Some(Namespace::Container(name)) => Some(name.clone()),
            _ => None,
        });
        let names: std::collections::BTreeSet<_> = names.collect();
        if names.is_empty() {
            return;
        }
        for (name, found) in find_all(&self.host.guests.engines.clone(), names).await {
            self.host.guests.take(&name, found);
        }
    }

    /// The processes by whose numbers the ports that are added are to be found, and whether they can be.
    ///
    /// # Errors
    /// There is no such process, file or container, or its namespace is not for ports.
    pub(super) fn processes_of(&self, steps: &[Step]) -> Result<BTreeMap<PortName, Process>, ApiError> {
        let added = steps.iter().filter_map(|step| match step {
            Step::AddPort(port) => Some((port, foreign(port)?)),
            _ => None,
        });
        let mut processes = BTreeMap::new();
        for (port, namespace) in added {
            let process = self.process_now(port, namespace)?;
            self.open_foreign(port, namespace, process)?;
            processes.extend(process.map(|process| (port.name.clone(), process)));
        }
        Ok(processes)
    }

    fn process_now(&self, port: &Port, namespace: &Namespace) -> Result<Option<Process>, ApiError> {
        let Some(pid) = process_meant(namespace) else {
            return Ok(None);
        };
        match Process::look(pid) {
            Presence::Here(process) => Ok(Some(process)),
            Presence::Gone => Err(no_process(port, pid)),
            Presence::Unknown(error) => Err(text::kernel(text::port(&port.name), &error)),
        }
    }

    /// The namespace of a port that is to be added, to look what is in it.
    pub(super) fn open_to_look(&self, namespace: &Namespace) -> Option<NetNs> {
        let name = match namespace {
            Namespace::Name(name) => return self.open_namespace(name).ok(),
            other => other,
        };
        let process = process_meant(name).and_then(|pid| Process::look(pid).known().ok()?);
        self.look_foreign(name, process).known().ok()?
    }

    /// A look at the namespace of others that a port was given. `noted`: the process that it was given by its number.
    fn look_foreign(&self, namespace: &Namespace, noted: Option<Process>) -> Presence<NetNs> {
        let process = match namespace {
            Namespace::Name(name) => return self.host.named.open(name),
            Namespace::Pid(_) => noted,
            Namespace::Path(path) => return look_path(Path::new(path.as_str()), noted),
            Namespace::Container(name) => self.host.guests.process_of(name),
        };
        process.map_or(Presence::Gone, Process::netns)
    }

    /// The namespace of others that a port is in; none if it has gone, or is one that is not for ports.
    pub(super) fn find_foreign(&self, port: &Port, namespace: &Namespace) -> Result<Option<NetNs>, KernelError> {
        let found = self.look_foreign(namespace, self.process_noted(port)).known()?;
        Ok(found.filter(|netns| self.reserved().which(netns).is_none()))
    }

    /// The same.
    ///
    /// # Errors
    /// Why it is not there, or not for ports.
    pub(super) fn open_foreign(
        &self,
        port: &Port,
        namespace: &Namespace,
        noted: Option<Process>,
    ) -> Result<NetNs, ApiError> {
        let object = || text::port(&port.name);
        let netns = match self.look_foreign(namespace, noted) {
            Presence::Here(netns) => netns,
            Presence::Gone => return Err(self.why_gone(port, namespace, noted)),
            Presence::Unknown(error) => return Err(text::kernel(object(), &error)),
        };
        let Some(which) = self.reserved().which(&netns) else {
            return Ok(netns);
        };
        let shares_host = matches!(namespace, Namespace::Container(name)
            if self.host.guests.containers.get(name).is_some_and(|found| matches!(found, Ok(found) if found.network == "host")));
        let cause = match shares_host {
            true => format!("{namespace} shares the network of the host, {which}"),
            false => format!("{namespace} leads to {which}"),
        };
        Err(text::conflict(object(), cause).hint(match namespace {
            Namespace::Container(_) => "run it with --network none; `--type internal` gives the host itself a port",
            _ => "`--type internal` gives the host itself a port",
        }))
    }

    /// Why the namespace that a port was given is not there.
    fn why_gone(&self, port: &Port, namespace: &Namespace, noted: Option<Process>) -> ApiError {
        let name = &port.name;
        match namespace {
            Namespace::Name(name) => text::no_namespace(name),
            Namespace::Pid(pid) => match noted {
                Some(_) => ended(port, *pid),
                None => not_found(port, format!("process {pid} was one of an earlier boot"))
                    .missing_as(MissingAs::ProcessEnded)
                    .hint(format!("remove it: vswitchctl del-port {name}")),
            },
            Namespace::Path(path) => not_found(port, format!("there is no network namespace at {path}"))
                .missing_as(MissingAs::NoNamespace)
                .hint("it comes back by itself when there is one; of a process only as long as that lives"),
            Namespace::Container(container) => {
                let (cause, why) = match self.host.guests.containers.get(container) {
                    Some(Err(not_found)) => (not_found.to_string(), not_found.missing_as),
                    Some(Ok(found)) => {
                        let cause = format!("it does not run any more ({})", found.engine);
                        (cause, stopped(found.engine))
                    }
                    None => ("it was not looked for yet".to_owned(), MissingAs::Other),
                };
                not_found(port, format!("container \"{container}\": {cause}"))
                    .missing_as(why)
                    .hint("the port is there whenever the container runs")
            }
        }
    }

    /// The process that the namespace of a port was given by.
    pub(super) fn process_noted(&self, port: &Port) -> Option<Process> {
        let noted = self.store.state.processes.get(&port.name)?;
        Some((*noted).into())
    }

    /// By what the namespace of a port, which is this one, can be entered, and whose it is.
    pub(super) fn entrance_of(&self, port: &Port, netns: &NetNs) -> (Option<Entrance>, Option<String>) {
        let Some(namespace) = foreign(port) else {
            return (None, None);
        };
        let process = match namespace {
            Namespace::Container(name) => self.host.guests.process_of(name),
            _ => self.process_noted(port),
        };
        let path = match (namespace, process) {
            (Namespace::Path(path), _) => path.to_string(),
            (_, Some(process)) => entrance(process),
            (_, None) => return (None, None),
        };
        let owner = match namespace {
            Namespace::Container(name) => self.host.guests.containers.get(name).and_then(|found| {
                let found = found.as_ref().ok()?;
                Some(format!("{} {}", found.engine, found.name))
            }),
            _ => process.map(|process| {
                let name = process_name(process.pid).unwrap_or_default();
                format!("pid {} {}", process.pid, name.escape_debug())
                    .trim_end()
                    .to_owned()
            }),
        };
        let inode = netns.id().ino;
        (Some(Entrance { path, inode }), owner)
    }
}

/// The namespace behind a file. Where that leads through a process, it has to be the one that was meant, as long as it lives.
fn look_path(path: &Path, noted: Option<Process>) -> Presence<NetNs> {
    let Some(pid) = Process::behind(path) else {
        return NetNs::open(path);
    };
    let Some(noted) = noted else { return Presence::Gone };
    if noted.pid != pid {
        // A link that whoever made it leads elsewhere now.
        return NetNs::open(path);
    }
    match NetNs::open(path) {
        Presence::Here(netns) => match noted.lives() {
            Presence::Here(()) => Presence::Here(netns),
            Presence::Gone => Presence::Gone,
            Presence::Unknown(error) => Presence::Unknown(error),
        },
        other => other,
    }
}

fn not_found(port: &Port, cause: impl Into<String>) -> ApiError {
    ApiError::new(ErrorCode::NotFound, text::port(&port.name), cause)
}

fn no_process(port: &Port, pid: u32) -> ApiError {
    not_found(port, format!("there is no process {pid}"))
        .missing_as(MissingAs::ProcessEnded)
        .hint("`ps` and `lsns -t net` show those that there are")
}

fn ended(port: &Port, pid: Pid) -> ApiError {
    let cause = match Process::look(pid.get()) {
        Presence::Here(_) => format!("process {pid} has ended, and another has its number now"),
        _ => format!("process {pid} has ended"),
    };
    not_found(port, cause).missing_as(MissingAs::ProcessEnded).hint(format!(
        "remove the port (vswitchctl del-port {}), or add it anew with the number of another process",
        port.name
    ))
}
