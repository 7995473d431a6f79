//! Processes that end, files that lead elsewhere, containers that start and stop: as long as ports are in their namespaces.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures::StreamExt;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, sleep};
use vswitch_api::view::MissingAs;
use vswitch_api::{ContainerName, Engine, Namespace};

use super::apart;
use crate::control::guests::{find_all, foreign};
use crate::control::{Control, Inner};
use crate::engines::{Engines, entrance};
use vswitch_linux::NamedNamespaces;
use vswitch_linux::poll::made_beside;

/// How often missing containers are looked for though nobody tells of them: an engine's events may be off.
const LAST_RESORT: Duration = Duration::from_secs(15);
/// An engine that is not there, or does not tell of containers, is tried again after this, then after twice that, and so on.
const FIRST_WAIT: Duration = Duration::from_millis(250);
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// One that told for so long is tried again at once.
const GOOD_FOR: Duration = Duration::from_secs(10);
/// A container that starts makes several events.
const SETTLES: Duration = Duration::from_millis(20);
/// What is told and not looked into yet.
const BACKLOG: usize = 64;

/// Something that is to be looked into.
enum Told {
    /// What this leads to.
    Namespace(Namespace),
    /// All containers.
    Containers,
}

/// A task that ends with whoever wants it.
struct Task(JoinHandle<()>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Watches what the ports of the lab are in. `changed`: told when there may be others.
pub(super) async fn watch_guests(control: Weak<Control>, changed: Arc<Notify>) {
    let (tell, mut told) = mpsc::channel(BACKLOG);
    let mut files: BTreeMap<(Namespace, PathBuf), Task> = BTreeMap::new();
    let mut engines: BTreeMap<Engine, Task> = BTreeMap::new();
    let mut last_resort = tokio::time::interval(LAST_RESORT);
    last_resort.set_missed_tick_behavior(MissedTickBehavior::Delay);
    last_resort.reset();
    loop {
        {
            let Some(control) = control.upgrade() else { return };
            let mut inner = control.inner.lock().await;
            let inner = inner.unpublished();
            let wanted = inner.guest_files();
            files.retain(|watched, _| wanted.contains(watched));
            for watched in wanted {
                files
                    .entry(watched)
                    .or_insert_with_key(|(namespace, file)| watch_file(namespace.clone(), file, &tell));
            }
            let names = inner.container_names();
            inner.host.guests.containers.retain(|name, _| names.contains(name));
            let meant = |engine: Engine| names.iter().any(|name| name.engine().is_none_or(|said| said == engine));
            engines.retain(|engine, _| meant(*engine));
            for (engine, socket) in inner.host.guests.engines.sockets().filter(|(engine, _)| meant(*engine)) {
                engines
                    .entry(engine)
                    .or_insert_with(|| watch_engine(engine, socket.to_owned(), &tell));
            }
        }
        let what = tokio::select! {
            what = told.recv() => what,
            () = changed.notified() => None,
            _ = last_resort.tick(), if !engines.is_empty() => Some(Told::Containers),
        };
        let Some(control) = control.upgrade() else { return };
        match what {
            Some(Told::Namespace(namespace)) => look_at(&control, &namespace).await,
            Some(Told::Containers) => look_for_containers(&control, |_| true).await,
            None => {}
        }
    }
}

/// Tells when a file begins or ceases to lead to a namespace, or leads to another.
fn watch_file(namespace: Namespace, file: &Path, tell: &mpsc::Sender<Told>) -> Task {
    let (file, tell) = (file.to_owned(), tell.clone());
    Task(tokio::spawn(async move {
        let (mut wait, mut is_told) = (FIRST_WAIT, false);
        while !tell.is_closed() {
            match NamedNamespaces::of_file(&file).and_then(|file| file.watch()) {
                Ok(mut watch) => {
                    wait = FIRST_WAIT;
                    // It may have changed before it was watched.
                    while tell.send(Told::Namespace(namespace.clone())).await.is_ok() && watch.next().await.is_some() {}
                }
                Err(error) if !is_told => {
                    is_told = true;
                    tracing::warn!("what becomes of {namespace} is not seen as long as it can't be watched: {error}");
                }
                Err(_) => {}
            }
            sleep(wait).await;
            wait = (2 * wait).min(LONGEST_WAIT);
        }
    }))
}

/// Tells when something happens to the containers of an engine.
fn watch_engine(engine: Engine, socket: PathBuf, tell: &mpsc::Sender<Told>) -> Task {
    let tell = tell.clone();
    Task(tokio::spawn(async move {
        let mut wait = FIRST_WAIT;
        loop {
            let start = Instant::now();
            let ended = match Engines::listen(&socket).await {
                Ok(mut events) => {
                    tracing::debug!("{engine} tells of its containers");
                    // What happened before is not told.
                    loop {
                        if tell.send(Told::Containers).await.is_err() {
                            return;
                        }
                        if let Err(error) = events.next().await {
                            break error;
                        }
                        sleep(SETTLES).await;
                    }
                }
                Err(error) => error,
            };
            tracing::debug!("{engine} at {} does not tell of containers: {ended}", socket.display());
            if start.elapsed() > GOOD_FOR {
                wait = FIRST_WAIT;
                // Its end may be that of its containers too.
                if tell.send(Told::Containers).await.is_err() {
                    return;
                }
            }
            let came = async {
                if made_beside(&socket).await.is_err() {
                    std::future::pending::<()>().await;
                }
            };
            // A new socket is listened at a moment later.
            if tokio::time::timeout(wait, came).await.is_ok() {
                sleep(FIRST_WAIT).await;
            }
            wait = (2 * wait).min(LONGEST_WAIT);
        }
    }))
}

/// Something that ports are in may be there, gone, or another.
async fn look_at(control: &Control, namespace: &Namespace) {
    if let Namespace::Container(name) = namespace {
        look_for_containers(control, |other| other == name).await;
    }
    let mut inner = control.inner.lock().await;
    apart(inner.guest_changed(namespace));
}

/// Looks for containers, without keeping others from anything meanwhile, and then for the ports that are in those of which there is news.
async fn look_for_containers(control: &Control, which: impl Fn(&ContainerName) -> bool) {
    let (names, engines) = {
        let mut inner = control.inner.lock().await;
        let inner = inner.unpublished();
        (inner.container_names(), inner.host.guests.engines.clone())
    };
    let found = find_all(&engines, names.into_iter().filter(|name| which(name))).await;
    let mut inner = control.inner.lock().await;
    let known = inner.unpublished().container_names();
    let mut news = Vec::new();
    for (name, found) in found.into_iter().filter(|(name, _)| known.contains(name)) {
        if inner.unpublished().host.guests.take(&name, found) {
            news.push(Namespace::Container(name));
        }
    }
    if news.is_empty() {
        return;
    }
    apart(async {
        for namespace in news {
            inner.guest_changed(&namespace).await;
        }
    });
}

impl Inner {
    /// The files by which the namespaces of others are watched that ports are in.
    fn guest_files(&self) -> BTreeSet<(Namespace, PathBuf)> {
        let of_port = |port: &vswitch_api::Port| {
            let namespace = foreign(port)?;
            let file = match namespace {
                Namespace::Name(_) => return None,
                Namespace::Path(path) => path.as_str().into(),
                Namespace::Pid(_) => entrance(self.process_noted(port)?).into(),
                Namespace::Container(name) => entrance(self.host.guests.process_of(name)?).into(),
            };
            Some((namespace.clone(), file))
        };
        self.store.state.lab.ports.iter().filter_map(of_port).collect()
    }

    fn container_names(&self) -> BTreeSet<ContainerName> {
        let ports = self.store.state.lab.ports.iter();
        let names = ports.filter_map(|port| match &port.namespace {
            Some(Namespace::Container(name)) => Some(name.clone()),
            _ => None,
        });
        names.collect()
    }

    /// The ports in a namespace of others are made there if it is there and they are not, and taken out if it is not what it was.
    pub(super) async fn guest_changed(&mut self, namespace: &Namespace) {
        let ports = self.store.state.lab.ports.iter();
        let ports: Vec<_> = ports
            .filter(|port| port.namespace.as_ref() == Some(namespace))
            .cloned()
            .collect();
        for port in ports {
            if !self.goes_on() {
                return;
            }
            let now = match self.find_netns_of(&port) {
                Ok(now) => now.map(|netns| netns.id().ino),
                // That it can't be told does not make it gone.
                Err(error) => {
                    tracing::debug!(port = %port.name, "can't look for {namespace}: {error}");
                    continue;
                }
            };
            let Some(live) = self.live.ports.get(&port.name) else {
                continue;
            };
            let entrance = live.entrance.as_ref().map(|entrance| entrance.inode);
            if live.id.is_some() {
                if now == entrance {
                    continue;
                }
                self.take_out(&port).await;
            }
            // Also if it is not there: what it lacks may be something else than before.
            self.reattach_missing(|other| other.name == port.name).await;
        }
    }

    /// Nothing of a port stays in a namespace that is not, or not any more, the one that it was given.
    async fn take_out(&mut self, port: &vswitch_api::Port) {
        let (reason, why) = match self.netns_of(port) {
            Err(error) => (error.cause, error.missing_as.unwrap_or(MissingAs::Other)),
            Ok(_) => ("it is in another namespace now".to_owned(), MissingAs::Other),
        };
        let found = self.find_removable(port).await;
        self.lose(|other| other.name == port.name, &reason, why).await;
        if let Err(error) = self.remove_interface(port, found).await {
            tracing::warn!(port = %port.name, "port {}: its interface of before can't be removed: {error}", port.name);
        }
    }
}
