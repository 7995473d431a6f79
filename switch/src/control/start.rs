//! The daemon starts: what is on disk comes back, what a crash left is adopted or removed.

use std::collections::{BTreeMap, BTreeSet};
use std::mem;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, spawn_blocking};
use vswitch_api::view::Progress;
use vswitch_api::{ApiError, ErrorCode, Lab, PortKind};

use super::attach::Adopt;
use super::complete::{Interfaces, complete};
use super::detach::gone_is_fine;
use super::published::Model;
use super::requests::absent_namespaces;
use super::state::{InFlight, Journal, StateFile, boot_id};
use super::{Control, ControlConfig, Events, Inner, text, watch};
use crate::datapath::{Datapath, DatapathConfig};
use crate::kernel::{KernelError, NamedNamespaces, NetNs, hold_own};

impl Control {
    /// Starts the datapath and brings the lab on disk back.
    ///
    /// # Errors
    /// Those of [`Control::begin`].
    pub async fn start(config: ControlConfig) -> Result<Arc<Self>, ApiError> {
        let (control, coming_back) = Self::begin(config).await?;
        let failed = |error: tokio::task::JoinError| ApiError::new(ErrorCode::Internal, "start", error.to_string());
        coming_back.await.map_err(failed)??;
        Ok(control)
    }

    /// Starts the datapath and begins to bring the lab on disk back: questions are answered meanwhile, edits wait. What does
    /// not work here but need not stop the daemon is told in [`vswitch_api::view::Status::limits`].
    ///
    /// # Errors
    /// Without these the daemon can't run: its own network namespace, its threads, its directories.
    pub async fn begin(config: ControlConfig) -> Result<(Arc<Self>, JoinHandle<Result<(), ApiError>>), ApiError> {
        let mut limits = Vec::new();
        // Each TAP port takes a descriptor a worker: more than the usual soft limit for a lab of some hundred ports.
        if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
            && let Err(error) = setrlimit(Resource::RLIMIT_NOFILE, hard, hard)
        {
            limits.push(format!("the limit of open files can't be raised: {error}"));
        }
        let file = StateFile::new(&config.state_dir);
        let (mut state, notice) = file.load().map_err(|error| {
            text::step(
                format!("state directory {}", config.state_dir.display()),
                "read the state file",
                &error,
            )
            .hint("choose another with --state-dir")
        })?;
        if let Some(notice) = notice {
            tracing::error!("{notice}");
            limits.push(notice);
        }
        let failed = |error: KernelError| text::kernel("vswitchd", &error);
        let home = NetNs::current().map_err(failed)?;
        let (own, unheld) = hold_own(&config.run_dir.join("netns")).await.map_err(failed)?;
        limits.extend(unheld.map(|reason| format!("veth ports do not outlive the daemon: {reason}")));
        limits.extend(tun_limit());
        let (fast, unavailable) = super::fastpath::open(&own, &config.run_dir, config.fastpath).await;
        limits.extend(unavailable.inspect(|reason| tracing::warn!("{reason}")));
        let internal = |what: &str, error: std::io::Error| ApiError::new(ErrorCode::Internal, what, error.to_string());
        let datapath = DatapathConfig {
            workers: config.workers,
            cpus: config.cpus,
            spin_us: config.spin_us,
        };
        let datapath = Datapath::start(datapath).map_err(|error| internal("worker threads", error))?;
        let home_nsid = match own.netlink().await {
            Ok(nl) => nl.nsid_of(&home).await.ok(),
            Err(_) => None,
        };
        complete(&mut state.lab, &Lab::default(), state.salt, &Interfaces::new());
        let events = Arc::new(Events::new());
        let coming_back = Progress {
            what: "bringing the lab back".to_owned(),
            done: 0,
            of: state.lab.ports.len() as u32,
        };
        let inner = Inner {
            state,
            file,
            journal: Journal::new(&config.run_dir),
            unremoved: InFlight::default(),
            run_dir: config.run_dir,
            boot_id: boot_id().map_err(|error| internal("boot id", error))?,
            own,
            home,
            home_nsid,
            named: NamedNamespaces::new(config.netns_dir),
            datapath: Arc::new(datapath),
            fast,
            big_tcp: config.big_tcp,
            fdb_entries: config.fdb_entries,
            switches: BTreeMap::new(),
            ports: BTreeMap::new(),
            mirrors: BTreeMap::new(),
            limits,
            guard: Default::default(),
            events: events.clone(),
            // Before anybody can ask.
            progress: Some(coming_back),
            attaching: true,
            pulse: Arc::default(),
            view: None,
            published: (Instant::now(), Duration::ZERO),
        };
        // Before anything is attached, so that no change in between is missed.
        let watch = watch::Sources::open(&inner).await;
        let control = Arc::new(Self {
            inner: Model::new(inner),
            events,
            captures: std::sync::Mutex::default(),
            tasks: std::sync::Mutex::default(),
            started: Instant::now(),
        });
        let (locked, is_locked) = oneshot::channel();
        let coming_back = spawn_blocking({
            let control = control.clone();
            move || Handle::current().block_on(control.bring_back(watch, locked))
        });
        // From here on no edit comes before it.
        let _ = is_locked.await;
        Ok((control, coming_back))
    }

    async fn bring_back(self: &Arc<Self>, watch: watch::Sources, locked: oneshot::Sender<()>) -> Result<(), ApiError> {
        let mut inner = self.inner.lock().await;
        let _ = locked.send(());
        let back = inner.bring_back().await;
        inner.end_progress();
        inner.attaching = false;
        drop(inner);
        self.watch(watch).await;
        back
    }
}

/// TAP devices are what most installations lack, if anything: said at the start, not at the first port.
fn tun_limit() -> Option<String> {
    let opened = std::fs::OpenOptions::new().read(true).write(true).open("/dev/net/tun");
    opened
        .err()
        .map(|error| format!("tap and internal ports do not work: open /dev/net/tun: {error}"))
}

impl Inner {
    async fn bring_back(&mut self) -> Result<(), ApiError> {
        self.remove_half_done().await;
        self.remove_stale_near_ends().await;
        self.remove_stale_shadows().await;
        for name in absent_namespaces(self) {
            // One that was made elsewhere is waited for; one of ours went with the last boot.
            let ours = self.state.namespaces.iter().any(|owned| owned.name == name);
            if ours && let Err(error) = self.add_namespace(&name).await {
                tracing::error!("can't make a namespace again: {error}");
            }
        }
        for switch in self.state.lab.switches.clone() {
            let id = self.add_switch(&switch);
            self.switches.insert(switch.name, id);
        }
        self.publish();
        self.attach_all().await;
        if !self.goes_on() {
            // What the kernel carries of those that are not there yet is not to be given up.
            return Ok(());
        }
        for mirror in self.state.lab.mirrors.clone() {
            self.start_mirror(&mirror);
        }
        self.adopt_stations();
        self.fit_frame_sizes().await;
        for cable in self.state.lab.cables.clone() {
            if let Err(error) = self.attach_cable(&cable, Adopt::Yes).await {
                tracing::warn!("a cable is missing: {error}");
            }
        }
        self.save()?;
        self.close_journal();
        Ok(())
    }

    /// What a command had begun to make when its daemon was killed, or could not remove, and is in no lab.
    async fn remove_half_done(&mut self) {
        let mut left = self.journal.load();
        let namespaces = mem::take(&mut left.namespaces);
        self.unremoved = left;
        let mut warnings = Vec::new();
        self.remove_unremoved(&mut warnings).await;
        let needed: BTreeSet<_> = super::plan::namespaces(&self.state.lab).into_iter().collect();
        for made in namespaces.iter().filter(|made| !needed.contains(&made.name)) {
            let removed = || match self.find_namespace(&made.name)? {
                Some(netns) if made.is(&netns, &self.boot_id)? => self.named.delete(&made.name),
                _ => Ok(()),
            };
            if let Err(error) = removed() {
                warnings.push(error.to_string());
            }
        }
        for warning in warnings {
            tracing::warn!("{warning}");
        }
        self.close_journal();
    }

    /// Near ends of ports that are in the lab no more.
    async fn remove_stale_near_ends(&self) {
        let wanted: BTreeSet<_> = self
            .state
            .lab
            .ports
            .iter()
            .filter(|p| p.kind == PortKind::Veth || (p.kind == PortKind::Device && self.fast.is_some()))
            .map(|p| p.name.as_str())
            .collect();
        let Ok(nl) = self.own.netlink().await else { return };
        for link in nl.links().await.unwrap_or_default() {
            if link.kind.as_deref() == Some("veth") && !wanted.contains(link.name.as_str()) {
                tracing::info!(near_end = %link.name, "near end {}: removing it, no port has it", link.name);
                if let Err(error) = gone_is_fine(nl.delete_link(link.index).await) {
                    tracing::warn!("can't remove it: {error}");
                }
            }
        }
    }

    /// Nothing of an empty lab needs to be found again: the daemon's own namespace goes with it.
    pub(super) fn leave_run_dir(&self) {
        if self.state.lab.ports.is_empty() {
            if let Some(fast) = &self.fast {
                fast.remove();
            }
            let held = self.run_dir.join("netns");
            let _ = nix::mount::umount2(&held, nix::mount::MntFlags::MNT_DETACH);
            let _ = std::fs::remove_file(&held);
        }
    }
}
