//! The daemon starts: what is on disk comes back, what a crash left is adopted or removed.

use std::collections::BTreeSet;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::task::{JoinError, JoinHandle, spawn_blocking};
use vswitch_api::{ApiError, ErrorCode, Lab, NsName, Port};

use super::attach::Adopt;
use super::change::change_addresses;
use super::complete::{Interfaces, complete};
use super::condition::History;
use super::detach::gone_is_fine;
use super::etc::EtcFiles;
use super::found::{half_done, load, refuse_left};
use super::gateway::Outside;
use super::guests::Guests;
use super::handover::Handed;
use super::journal::{InFlight, Journal};
use super::kinds::{facts, has_near_end, ifname};
use super::namespace::NAMESPACES_AT_ONCE;
use super::processes::Processes;
use super::published::{Model, Pulse, Shown};
use super::requests::absent_namespaces;
use super::shut::ShutPorts;
use super::state::boot_id;
use super::state_file::StateFile;
use super::store::Store;
use super::{Control, ControlConfig, Events, Given, Host, Inner, Live, text, watch};
use crate::agents::loop_guard::{LoopGuard, PUNTS};
use crate::confine;
use crate::port::{Calls, Service};
use vswitch_datapath::{Begin, Datapath, DatapathConfig, SenderCore};
use vswitch_linux::random::random_u64;
use vswitch_linux::steer::Steering;
use vswitch_linux::uring;
use vswitch_linux::{KernelError, NamedNamespaces, NetNs, hold_own};

impl Control {
    /// Starts the datapath and brings the lab on disk back.
    ///
    /// # Errors
    /// Those of [`Control::begin`].
    pub async fn start(config: ControlConfig) -> Result<Arc<Self>, ApiError> {
        let (control, coming_back) = Self::begin(config, Vec::new()).await?;
        let failed = |error: JoinError| ApiError::new(ErrorCode::Internal, "start", error.to_string());
        coming_back.await.map_err(failed)?;
        Ok(control)
    }

    /// Starts the datapath and begins to bring the lab on disk back: questions are answered meanwhile, edits wait. What does
    /// not work here but need not stop the daemon is told in [`vswitch_api::view::Status::limits`]. `left`: what [`Control::shutdown`] of
    /// the daemon before has given, as far as it is still there.
    ///
    /// # Errors
    /// Without these the daemon can't run: its own network namespace, its threads, a state that it understands. Nothing was touched
    /// then that the kernel carries.
    pub async fn begin(config: ControlConfig, left: Vec<OwnedFd>) -> Result<(Arc<Self>, JoinHandle<()>), ApiError> {
        let mut limits = Vec::new();
        limits.extend(descriptor_limit());
        // All that may stop the start comes before anything is touched that the kernel carries.
        let mut file = StateFile::open(&config.state_dir)?;
        file.keep(config.keep_lab);
        let journal = Journal::new(&config.run_dir);
        let half_done = half_done(&journal)?;
        let mut state = load(&file, &config, &mut limits).await?;
        let boot_id = boot_id().map_err(|error| internal("boot id", &error))?;
        refuse_left(&mut state, &config.run_dir, &boot_id).await?;
        let failed = |error: KernelError| text::kernel("vswitchd", &error);
        let home = NetNs::current().map_err(failed)?;
        let held_at = config.run_dir.join("netns");
        let (own, unheld) = hold_own(&held_at).await.map_err(failed)?;
        let own_is_held = unheld.is_none();
        limits.extend(unheld.map(|reason| format!("veth ports do not outlive the daemon: {reason}")));
        limits.extend(tun_limit());
        let workers = Workers::start(&config, &mut limits)?;
        let (fast, unavailable) = super::fastpath::open(&own, &config.run_dir, config.fastpath).await;
        limits.extend(unavailable.inspect(|reason| tracing::warn!("{reason}")));
        let home_nsid = match own.netlink().await {
            Ok(nl) => nl.nsid_of(&home).await.ok(),
            Err(_) => None,
        };
        state.take_in_older();
        state.forget_devices_of_another_boot(&boot_id);
        complete(&mut state.lab, &Lab::default(), state.salt, &Interfaces::new());
        let events = Arc::new(Events::new());
        let pulse = Pulse::new(events.clone());
        // Before anybody can ask.
        pulse.underway.begin("bringing the lab back", state.lab.ports.len());
        let guard = LoopGuard::new(state.salt, random_u64);
        let processes = Arc::new(Processes::new(&config.run_dir, events.clone()));
        let handed = Handed::find(&config.run_dir, &boot_id, left);
        let ports = &state.lab.ports;
        let is_up = |name: &_| ports.iter().any(|port| port.up && port.name == *name);
        let shut = ShutPorts::find(&config.run_dir, &boot_id, is_up);
        let (netns_dir, run_dir) = (config.netns_dir.clone(), config.run_dir.clone());
        let mut inner = Inner {
            etc: EtcFiles::new(&config.state_dir),
            processes,
            store: Store {
                state,
                file,
                unsaved: None,
                journal,
                unremoved: InFlight::default(),
                history: History::default(),
            },
            host: Host {
                run_dir: config.run_dir,
                state_dir: config.state_dir,
                boot_id,
                own,
                own_is_held,
                home,
                home_nsid,
                named: NamedNamespaces::new(config.netns_dir),
                guests: Guests::new(config.engines),
                hearing: None,
            },
            live: Live::default(),
            shut,
            shown: Shown {
                events: events.clone(),
                limits,
                attaching: true,
                pulse: Arc::new(pulse),
                view: None,
                published: (Instant::now(), Duration::ZERO),
            },
            datapath: Arc::new(workers.datapath),
            given: Given {
                queues: workers.queues,
                big_tcp: config.big_tcp,
                run_commands: config.run_commands,
                fdb_entries: config.fdb_entries,
            },
            fast,
            guard: Some(guard),
            cuts: Vec::new(),
            held: Vec::new(),
            handed,
        };
        inner.processes.expect(inner.wanted_processes());
        let engines = inner.host.guests.engines.clone();
        // Before anything is attached, so that no change in between is missed.
        let watch = watch::Sources::open(&mut inner).await;
        let control = Arc::new(Self {
            inner: Model::new(inner),
            events,
            captures: std::sync::Mutex::default(),
            tasks: std::sync::Mutex::default(),
            started: Instant::now(),
            engines,
            rights: config.rights,
            netns_dir,
            run_dir,
            confined: workers.confined,
            no_metrics: Default::default(),
            edit_times: Default::default(),
        });
        let (locked, is_locked) = oneshot::channel();
        let coming_back = spawn_blocking({
            let control = control.clone();
            move || Handle::current().block_on(control.bring_back(half_done, watch, locked))
        });
        // From here on no edit comes before it.
        let _ = is_locked.await;
        Ok((control, coming_back))
    }

    async fn bring_back(self: &Arc<Self>, half_done: InFlight, watch: watch::Sources, locked: oneshot::Sender<()>) {
        let mut inner = self.inner.lock().await;
        let _ = locked.send(());
        inner.bring_back(half_done).await;
        inner.shown.attaching = false;
        let (guests, datapath) = (inner.host.guests.changed.clone(), inner.datapath.clone());
        drop(inner);
        self.watch(watch, guests, &datapath);
    }
}

/// The datapath, and what its workers are held to.
struct Workers {
    datapath: Datapath,
    queues: Service,
    confined: Arc<confine::Workers>,
}

impl Workers {
    /// `limits`: takes what they can't do here.
    fn start(config: &ControlConfig, limits: &mut Vec<String>) -> Result<Self, ApiError> {
        let (calls, unavailable) = config.engine.choose();
        limits.extend(unavailable.inspect(|reason| tracing::warn!("{reason}")));
        // As well without: the kernel chooses, and workers go where it puts them.
        let steering = Steering::load(config.workers).inspect_err(|error| tracing::info!("{error}"));
        let steering = steering.ok().map(Arc::new);
        let (confined, unavailable) = confine::Workers::new(&config.security, config.fastpath);
        let unavailable = config.rights.limits.clone().into_iter().chain(unavailable);
        limits.extend(unavailable.inspect(|reason| tracing::warn!("{reason}")));
        let confined = Arc::new(confined);
        let datapath = DatapathConfig {
            workers: config.workers,
            cpus: config.cpus.clone(),
            spin_us: config.spin_us,
            begin: Begin::with({
                let confined = confined.clone();
                move || {
                    // While it still may have one made.
                    if calls == Calls::Batched {
                        uring::with_ring(|_| ());
                    }
                    confined.confine();
                }
            }),
            sender_core: steering.clone().map_or_else(SenderCore::default, |steering| {
                SenderCore::with(move |worker| steering.sender_core(worker))
            }),
        };
        let datapath = Datapath::start(datapath).map_err(|error| internal("worker threads", &error))?;
        // What all agents want.
        datapath.set_punts(&PUNTS);
        Ok(Self {
            datapath,
            queues: Service { calls, steering },
            confined,
        })
    }
}

fn internal(what: &str, error: &std::io::Error) -> ApiError {
    ApiError::new(ErrorCode::Internal, what, error.to_string())
}

/// Each TAP port takes a descriptor a worker: more than the usual soft limit for a lab of some hundred ports.
fn descriptor_limit() -> Option<String> {
    let raised = getrlimit(Resource::RLIMIT_NOFILE).map(|(_, hard)| setrlimit(Resource::RLIMIT_NOFILE, hard, hard));
    let error = raised.ok()?.err()?;
    Some(format!("the limit of open files can't be raised: {error}"))
}

/// TAP devices are what most installations lack, if anything: said at the start, not at the first port.
fn tun_limit() -> Option<String> {
    let opened = std::fs::OpenOptions::new().read(true).write(true).open("/dev/net/tun");
    opened
        .err()
        .map(|error| format!("tap and internal ports do not work: open /dev/net/tun: {error}"))
}

impl Inner {
    /// What does not work is told in the log, in the state of a port or among the limits: nothing here ends the daemon.
    async fn bring_back(&mut self, half_done: InFlight) {
        let (noted, sysctls) = (half_done.ports.clone(), half_done.sysctls.clone());
        // What is left of those that are not in the lab is where they were to be; a next command forgets it.
        for (name, process) in &half_done.processes {
            self.store.state.processes.entry(name.clone()).or_insert(*process);
        }
        let ports = self.store.state.lab.ports.iter().chain(&noted);
        self.find_containers_of(&ports.cloned().collect::<Vec<_>>()).await;
        self.remove_half_done(half_done).await;
        self.remove_stale_near_ends().await;
        if self.store.state.lab.ports.is_empty() {
            self.remove_stale_legs().await;
        }
        self.remove_stale_shadows().await;
        // One that was made elsewhere is waited for; one of ours went with the last boot.
        let ours: BTreeSet<_> = self
            .store
            .state
            .namespaces
            .iter()
            .map(|owned| owned.name.clone())
            .collect();
        let mut absent = absent_namespaces(self);
        absent.retain(|name| ours.contains(name));
        self.add_namespaces_again(&absent).await;
        for switch in self.store.state.lab.switches.clone() {
            let id = self.add_switch(&switch);
            self.live.switches.insert(switch.name, id);
        }
        self.publish();
        if self.store.state.lab.ports.iter().any(|port| facts(port.kind).tap) {
            self.live.strays = self.find_strays().await;
        }
        self.attach_all().await;
        // They keep their namespaces alive.
        self.live.strays.clear();
        if !self.goes_on() {
            // What the kernel carries of those that are not there yet is not to be given up, nor the note of what was half-done.
            return;
        }
        for mirror in self.store.state.lab.mirrors.clone() {
            self.start_mirror(&mirror);
        }
        self.adopt_stations();
        self.handed.end();
        self.fit_frame_sizes().await;
        for cable in self.store.state.lab.cables.clone() {
            if let Err(error) = self.attach_cable(&cable, Adopt::Yes).await {
                tracing::warn!("a cable is missing: {error}");
                self.note_unlaid(&cable, &error);
            }
        }
        for port in &noted {
            self.take_back(port).await;
        }
        self.bring_namespaces_back(sysctls).await;
        // Also if it is nothing: a daemon that was killed may have left something.
        let fitted = self.fit_outside(&Outside::of(&self.store.state.lab)).await;
        self.note_unfit(fitted.err());
        let lab = self.store.state.lab.clone();
        self.fit_names(&lab);
        let wanted = self.wanted_processes();
        self.bring_processes_back(wanted).await;
        self.tidy_names();
        self.tell_what_is_in_the_way().await;
        match self.store.save() {
            Ok(()) => self.store.close_journal(),
            // What stands in the note is not in the file.
            Err(error) => tracing::error!("nothing can be changed until the state can be written: {error}"),
        }
    }

    async fn add_namespaces_again(&mut self, names: &[NsName]) {
        for names in names.chunks(NAMESPACES_AT_ONCE) {
            if self.add_namespaces(names).await.is_ok() {
                continue;
            }
            // One of them can't be made: the others can.
            for name in names {
                if let Err(error) = self.add_namespaces(std::slice::from_ref(name)).await {
                    tracing::error!("can't make a namespace again: {error}");
                }
            }
        }
    }

    /// What a command had begun to make when its daemon was killed, or could not remove, and is in no lab.
    async fn remove_half_done(&mut self, left: InFlight) {
        let mut warnings = Vec::new();
        for port in &left.ports {
            self.remove_elsewhere(port, &left).await;
        }
        self.store.unremoved = left;
        self.store.unremoved.sysctls.clear();
        self.remove_unremoved(&mut warnings).await;
        for warning in warnings {
            tracing::warn!("{warning}");
        }
    }

    /// A port of the lab was, or was to be, somewhere else: what is left of it there goes.
    async fn remove_elsewhere(&mut self, noted: &Port, left: &InFlight) {
        let Some(port) = self.store.port(&noted.name) else {
            return;
        };
        let place = |port: &Port| (port.kind, port.namespace.clone(), ifname(port));
        let before = left.devices.get(&ifname(noted)).copied();
        let before = before.filter(|_| facts(noted.kind).taken_over);
        if place(port) == place(noted) {
            if let Some(before) = before {
                self.store.state.devices.entry(ifname(noted)).or_insert(before);
            }
            return;
        }
        if let Err(error) = self.remove_left(noted, before).await {
            tracing::warn!(port = %noted.name, "port {}: can't remove what is left of it elsewhere: {error}", noted.name);
        }
    }

    /// A port that a command was changing has what the lab gives it, and no more.
    async fn take_back(&self, noted: &Port) {
        let Some(port) = self.store.port(&noted.name).filter(|port| *port != noted) else {
            return;
        };
        let Some(live) = self.live.ports.get(&port.name) else {
            return;
        };
        let changed = async {
            match self.where_inside(port, live).await? {
                Some((netns, inside)) => change_addresses(&netns.netlink().await?, inside, noted, port)
                    .await
                    .map(drop),
                None => Ok(()),
            }
        };
        if let Err(error) = changed.await {
            tracing::warn!(port = %port.name, "port {}: can't take back a change that was half-done: {error}", port.name);
        }
    }

    /// Near ends of ports that are in the lab no more.
    async fn remove_stale_near_ends(&self) {
        let wanted: BTreeSet<_> = self
            .store
            .state
            .lab
            .ports
            .iter()
            .filter(|port| has_near_end(port, self.fast.is_some()))
            .map(|p| p.name.as_str())
            .collect();
        let Ok(nl) = self.host.own.netlink().await else { return };
        for link in nl.links().await.unwrap_or_default() {
            if link.kind.as_deref() == Some("veth") && !wanted.contains(link.name.as_str()) {
                tracing::info!(near_end = %link.name, "near end {}: removing it, no port has it", link.name);
                if let Err(error) = gone_is_fine(nl.delete_link(link.index).await) {
                    tracing::warn!("can't remove it: {error}");
                }
            }
        }
    }

    /// Legs of the host that are marked as those of our ports, which the lab does not have: it began empty.
    async fn remove_stale_legs(&self) {
        let Ok(nl) = self.host.home.netlink().await else { return };
        for link in nl.links().await.unwrap_or_default() {
            let Some(name) = link.alias.as_deref().and_then(|alias| self.store.marked(alias)) else {
                continue;
            };
            if self.store.port(&name).is_some() || !matches!(link.kind.as_deref(), Some("tun" | "veth")) {
                continue;
            }
            tracing::info!(ifname = %link.name, "interface {}: removing it, no port has it", link.name);
            if let Err(error) = gone_is_fine(nl.delete_link(link.index).await) {
                tracing::warn!("can't remove it: {error}");
            }
        }
    }

    /// Nothing of an empty lab needs to be found again: the daemon's own namespace goes with it.
    pub(super) fn leave_run_dir(&self) {
        if self.store.state.lab.ports.is_empty() {
            if let Some(fast) = &self.fast {
                fast.remove();
            }
            let held = self.host.run_dir.join("netns");
            let _ = nix::mount::umount2(&held, nix::mount::MntFlags::MNT_DETACH);
            let _ = std::fs::remove_file(&held);
        }
    }
}
