//! The names of namespaces are watched: when one begins or ceases to lead to a namespace, by whatever way.
//!
//! A name is mostly a file that a namespace is mounted on. Neither that moment nor an unmount is seen by inotify, but the mount
//! table polls. It may also be a link that somebody put there: to such a file elsewhere, or to `/proc/PID/ns/net`, which leads
//! nowhere once the process has ended. inotify hears of the link, a pidfd of the end.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs::{self, File};
use std::future::Future;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::path::{Component, Path};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use futures::future::select_all;
use futures::stream::{self, BoxStream};
use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::time::Instant;

use super::error::KernelError;
use super::named::NamedNamespaces;
use super::netns::{NetNs, NetNsId};
use super::poll::readable;
use super::presence::Presence;
use super::process::pidfd_open;

/// Links that may lead to one another, as many as the kernel follows at most (MAXSYMLINKS).
const MAX_LINKS: usize = 40;
/// When to look again where a name could not be opened for want of descriptors, memory or rights.
const AGAIN: Duration = Duration::from_secs(1);
/// At most this part of the time goes by looking.
const SHARE_OF_TIME: u32 = 20;

/// A change among the named namespaces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NsEvent {
    /// The name can be opened now.
    Added(String),
    /// The name is gone, perhaps before it was told that it came, or stands for another namespace now (then `Added` follows).
    Removed(String),
}

impl NamedNamespaces {
    /// Reports what changes from now on.
    ///
    /// # Errors
    /// /proc is not mounted, or the process is out of descriptors.
    pub fn watch(&self) -> Result<BoxStream<'static, NsEvent>, KernelError> {
        let failed = |e: io::Error| KernelError::new(format!("watch the namespaces in {}", self.dir().display()), e);
        let mounts = File::open("/proc/thread-self/mountinfo").map_err(failed)?;
        // proc(5): the file polls as exceptional whenever the mount table changes.
        // SAFETY: the file owns its descriptor, which stays the same and open until the AsyncFd drops the file.
        let mounts = unsafe { AsyncFd::register_with_interest(mounts, Interest::PRIORITY) };
        let mounts = mounts.map_err(|e| failed(e.into_parts().1))?;
        let entries = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC).map_err(|e| failed(e.into()))?;
        // SAFETY: as above.
        let entries = unsafe { AsyncFd::register_with_interest(Entries::of(entries), Interest::READABLE) };
        let entries = entries.map_err(|e| failed(e.into_parts().1))?;
        let mut watch = Watch {
            mounts,
            entries,
            processes: BTreeMap::new(),
            known: BTreeMap::new(),
            unsure: false,
            looked: (Instant::now(), Duration::ZERO),
            names: self.clone(),
            ready: VecDeque::new(),
        };
        watch.look();
        watch.ready.clear();
        Ok(stream::unfold(watch, |mut watch| async move { Some((watch.next().await?, watch)) }).boxed())
    }
}

struct Watch {
    names: NamedNamespaces,
    mounts: AsyncFd<File>,
    /// inotify on the directory, or the one that it will be made in.
    entries: AsyncFd<Entries>,
    /// The processes that links lead through.
    processes: BTreeMap<u32, AsyncFd<OwnedFd>>,
    known: BTreeMap<String, NetNsId>,
    /// Of some name it could not be told where it leads.
    unsure: bool,
    /// When it looked last, and how long that took.
    looked: (Instant, Duration),
    ready: VecDeque<NsEvent>,
}

impl Watch {
    async fn next(&mut self) -> Option<NsEvent> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Some(event);
            }
            if let Some(pid) = self.wait().await? {
                // The number may be another process's by now, which is to be watched for itself.
                self.processes.remove(&pid);
            }
            // A thousand namespaces that are made one after the other are not looked through a thousand times.
            let (last, took) = self.looked;
            tokio::time::sleep_until(last + took * SHARE_OF_TIME).await;
            let start = Instant::now();
            self.look();
            self.looked = (Instant::now(), start.elapsed());
        }
    }

    /// Waits until it is time to look again; gives the process that has ended, if it is for that.
    async fn wait(&self) -> Option<Option<u32>> {
        let ends = self.processes.values();
        let ends = ends.map(|process| Box::pin(ended(process)) as Wait<'_>);
        let others = [
            Box::pin(mounted(&self.mounts)) as Wait<'_>,
            Box::pin(listed(&self.entries)) as Wait<'_>,
        ];
        let any = select_all(ends.chain(others));
        let (result, which, _) = if self.unsure {
            match tokio::time::timeout(AGAIN, any).await {
                Ok(woken) => woken,
                Err(_) => return Some(None),
            }
        } else {
            any.await
        };
        result?;
        Some(self.processes.keys().nth(which).copied())
    }

    /// Looks where the names lead. What wakes it was cleared before, so that a change meanwhile wakes it again.
    fn look(&mut self) {
        self.listen();
        self.entries.get_ref().read();
        let names = match self.names.names() {
            Ok(names) => names,
            // That it can't be told does not make them gone.
            Err(error) => {
                tracing::debug!("can't look where names lead: {error}");
                self.unsure = true;
                return;
            }
        };
        self.unsure = false;
        let mut now = BTreeMap::new();
        let mut processes = std::mem::take(&mut self.processes);
        for name in names {
            let path = self.names.dir().join(&name);
            // First, so that an end of the process after the look wakes us again.
            let pid = process_behind(&path).filter(|pid| !self.processes.contains_key(pid));
            let process = pid.and_then(|pid| {
                let known = processes.remove(&pid);
                Some((pid, known.or_else(|| open_process(pid).ok())?))
            });
            match NetNs::open(&path) {
                Presence::Here(netns) => {
                    now.insert(name, netns.id());
                }
                // A link that leads nowhere, or to a process that is just ending, or what is no namespace. Nothing more is to be
                // heard of that process.
                Presence::Gone => continue,
                // That it can't be told does not make it gone.
                Presence::Unknown(error) => {
                    tracing::debug!(name, "can't tell where a name leads: {error}");
                    self.unsure = true;
                    now.extend(self.known.get(&name).map(|id| (name.clone(), *id)));
                }
            }
            self.processes.extend(process);
        }
        let differs = |a: &BTreeMap<String, NetNsId>, b: &BTreeMap<String, NetNsId>| {
            a.iter()
                .filter(|(name, id)| b.get(*name) != Some(*id))
                .map(|(name, _)| name.clone())
                .collect::<Vec<_>>()
        };
        // One that came and went between two looks may have a port by now.
        let gone = self.entries.get_ref().seen(&now);
        let unknown = gone
            .into_iter()
            .filter(|name| !now.contains_key(name) && !self.known.contains_key(name));
        self.ready.extend(unknown.map(NsEvent::Removed));
        self.ready
            .extend(differs(&self.known, &now).into_iter().map(NsEvent::Removed));
        self.ready
            .extend(differs(&now, &self.known).into_iter().map(NsEvent::Added));
        self.known = now;
    }

    /// Listens at the directory; while there is none, where it will be made.
    fn listen(&self) {
        let inotify = &self.entries.get_ref().inotify;
        let new = AddWatchFlags::IN_CREATE | AddWatchFlags::IN_MOVED_TO | AddWatchFlags::IN_ONLYDIR;
        let gone = AddWatchFlags::IN_DELETE | AddWatchFlags::IN_MOVED_FROM | AddWatchFlags::IN_DELETE_SELF;
        let mut dirs = self.names.dir().ancestors();
        let itself = dirs.next().map(|dir| inotify.add_watch(dir, new | gone));
        if !matches!(itself, Some(Ok(_))) {
            let above = dirs.find_map(|dir| inotify.add_watch(dir, new | AddWatchFlags::IN_ONESHOT).ok());
            if above.is_none() {
                tracing::debug!(dir = %self.names.dir().display(), "links to namespaces will not be seen");
            }
        }
    }
}

struct Entries {
    inotify: Inotify,
    told: Mutex<Told>,
}

/// What inotify has told.
#[derive(Default)]
struct Told {
    /// Names that came, and led nowhere yet when it was looked.
    new: BTreeSet<String>,
    /// Of those the ones that went again since the last look.
    gone: BTreeSet<String>,
}

impl Entries {
    fn of(inotify: Inotify) -> Self {
        Self {
            inotify,
            told: Mutex::default(),
        }
    }

    fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// These lead somewhere now. Gives those that went before they were seen to.
    fn seen(&self, names: &BTreeMap<String, NetNsId>) -> BTreeSet<String> {
        let mut told = self.told();
        told.new.retain(|name| !names.contains_key(name));
        std::mem::take(&mut told.gone)
    }

    /// Takes in what is told, until there is no more.
    fn read(&self) {
        let comes = AddWatchFlags::IN_CREATE | AddWatchFlags::IN_MOVED_TO;
        let mut told = self.told();
        while let Ok(events) = self.inotify.read_events() {
            for event in events {
                let Some(name) = event.name.and_then(|name| name.into_string().ok()) else {
                    continue;
                };
                if event.mask.intersects(comes) {
                    told.new.insert(name);
                } else if told.new.remove(&name) {
                    told.gone.insert(name);
                }
            }
        }
    }
}

impl AsRawFd for Entries {
    fn as_raw_fd(&self) -> RawFd {
        self.inotify.as_fd().as_raw_fd()
    }
}

type Wait<'a> = std::pin::Pin<Box<dyn Future<Output = Option<()>> + Send + 'a>>;

async fn mounted(mounts: &AsyncFd<File>) -> Option<()> {
    mounts.ready(Interest::PRIORITY).await.ok()?.clear_ready();
    Some(())
}

async fn listed(entries: &AsyncFd<Entries>) -> Option<()> {
    entries.readable().await.ok()?.clear_ready();
    // Where the names lead is looked up.
    entries.get_ref().read();
    Some(())
}

async fn ended(process: &AsyncFd<OwnedFd>) -> Option<()> {
    process.readable().await.ok().map(drop)
}

/// The process whose namespace, or whose file system, a link leads through.
pub(super) fn process_behind(path: &Path) -> Option<u32> {
    let mut path = path.to_owned();
    for _ in 0..MAX_LINKS {
        let target = fs::read_link(&path).ok()?;
        // An absolute target takes the place of all that was before.
        path = path.parent()?.join(target);
        let mut parts = path.components();
        if (parts.next(), parts.next()) == (Some(Component::RootDir), Some(Component::Normal("proc".as_ref()))) {
            return parts.next()?.as_os_str().to_str()?.parse().ok();
        }
    }
    None
}

fn open_process(pid: u32) -> io::Result<AsyncFd<OwnedFd>> {
    let fd = pidfd_open(pid)?.ok_or(Errno::ESRCH)?;
    readable(fd)
}
