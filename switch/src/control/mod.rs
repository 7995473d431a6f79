//! The model of switches, ports and namespaces, and what makes the kernel and the datapath match it.
//!
//! How a command travels: each edit is a function from the lab as it is to the lab as it is wanted ([`requests`]). What the
//! new lab leaves open is filled in (`complete`), then it is held against all rules (`validate`): up to here nothing was
//! touched. The difference of the two labs is a list of steps (`plan`). They are carried out one by one (`carry`), each
//! in the kernel and the datapath (`attach`, `cable`, `namespace`); if one fails, the inverse of all that went before is
//! carried out, and the lab stays what it was. At last the new lab is written to disk (`state`).
//!
//! A daemon that starts does the same with the lab on disk, adopting what is there; `watch` does it again for a port whose
//! interface or namespace went away and came back. `view` answers questions, from what was `published`; `capture` and `trace` show
//! frames.

mod acl;
mod addresses;
mod after_down;
mod attach;
mod cable;
mod capture;
mod carry;
mod change;
mod choose;
mod complete;
mod condition;
mod detach;
mod durations;
mod earlier;
mod edit;
mod etc;
mod events;
mod fastpath;
mod fdb;
mod found;
mod frame_size;
mod gateway;
mod guard;
mod guests;
mod handover;
mod in_use;
mod interface;
mod journal;
mod keep;
mod kinds;
mod lacks;
mod lasting;
mod links;
mod listen;
mod mirror;
mod named;
mod namespace;
mod near_end;
mod offline;
mod overlap;
mod place;
mod plan;
mod policy;
mod proc_sys;
mod processes;
mod published;
mod repair;
mod requests;
mod rights;
mod room;
mod shut;
mod start;
mod state;
mod state_file;
mod store;
mod storm;
mod sysctls;
mod text;
mod told;
mod trace;
mod traffic;
mod twins;
mod underway;
mod validate;
mod view;
mod watch;

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use tokio::task::JoinHandle;
use vswitch_api::event::EventSelect;
use vswitch_api::view::{Entrance, Lack, MissingAs, PortState};
use vswitch_api::{ApiError, EventKind, MirrorName, PortName, SwitchName};

use crate::agents::loop_guard::LoopGuard;
use crate::config::Security;
use crate::confine::{self, Rights};
use crate::engines::Engines;
use crate::fastpath::FastPath;
use crate::port::{Engine, Service};
pub use capture::Capture;
pub use condition::{Editing, Subject, tag, tags};
pub use durations::{Counted, Durations};
pub use events::EventReader;
use events::Events;
pub use processes::LogReader;
pub use published::for_client;
use published::{Held, Model, Shown, View};
use store::Store;
use vswitch_datapath::mirror::MirrorCounters;
use vswitch_datapath::{Datapath, FdbFilter, PortRef, SwitchId};
use vswitch_linux::{GsoSize, NamedNamespaces, NetNs};

/// Where things are, and how the datapath runs.
#[derive(Clone, Debug)]
pub struct ControlConfig {
    /// Directory of the daemon's own namespace; exists, and is locked by the caller.
    pub run_dir: PathBuf,
    /// Directory of the state file; made if it is not there.
    pub state_dir: PathBuf,
    /// Directory of the namespaces that `ip netns` knows.
    pub netns_dir: PathBuf,
    /// Worker threads, at least 1.
    pub workers: usize,
    /// Cores that they are pinned to, in turn; none: wherever the kernel puts them.
    pub cpus: Vec<usize>,
    /// Microseconds that a worker goes on looking for frames before it sleeps.
    pub spin_us: u32,
    /// How TAP devices are read and written.
    pub engine: Engine,
    /// Whether the kernel is to forward by itself what it can.
    pub fastpath: bool,
    /// Whether ports of which the kernel carries all frames have TCP frames above 64 KiB.
    pub big_tcp: bool,
    /// Most entries of the FDBs of all switches together.
    pub fdb_entries: u64,
    /// False: commands of the lab are not started, and those that run are ended.
    pub run_commands: bool,
    /// Docker and Podman, whose containers ports may be in.
    pub engines: Engines,
    /// What workers are to be without.
    pub security: Security,
    /// What became of the rights of the process.
    pub rights: Rights,
    /// Whether to begin with an empty lab if the state file can't be used.
    pub recover: bool,
    /// Whether the state file stays as it is, whatever is done.
    pub keep_lab: bool,
}

/// The one that edits and answers. Its methods are the routes of the API.
pub struct Control {
    inner: Model,
    events: Arc<Events>,
    captures: std::sync::Mutex<capture::Captures>,
    tasks: std::sync::Mutex<Vec<JoinHandle<()>>>,
    started: Instant,
    engines: Arc<Engines>,
    rights: Rights,
    netns_dir: PathBuf,
    run_dir: PathBuf,
    confined: Arc<confine::Workers>,
    /// Why metrics are not to be had over TCP, if they should be.
    no_metrics: std::sync::Mutex<Option<String>>,
    /// How long edits took that were made, and those that were refused or failed.
    edit_times: [Durations; 2],
}

/// All that an edit needs; one runs at a time.
struct Inner {
    store: Store,
    host: Host,
    live: Live,
    shut: shut::ShutPorts,
    shown: Shown,
    given: Given,
    datapath: Arc<Datapath>,
    /// None: it is off, or can't be had.
    fast: Option<Arc<FastPath>>,
    etc: etc::EtcFiles,
    processes: Arc<processes::Processes>,
    /// Away while it thinks.
    guard: Option<LoopGuard>,
    /// Loops that were cut in the last second.
    cuts: Vec<guard::Cut>,
    /// Switches that hold their floods while it looks for a loop.
    held: Vec<SwitchId>,
    /// What the daemon before has left.
    handed: handover::Handed,
}

/// What the configuration says of the work itself, and the kernel allows.
struct Given {
    queues: Service,
    big_tcp: bool,
    /// False: what runs is only to be ended.
    run_commands: bool,
    /// Most entries of the FDBs of all switches together.
    fdb_entries: u64,
}

/// Where the daemon is.
struct Host {
    run_dir: PathBuf,
    state_dir: PathBuf,
    boot_id: String,
    /// Namespace of the near ends.
    own: NetNs,
    /// Its file in the run directory keeps it for the next daemon.
    own_is_held: bool,
    /// Namespace that the daemon was started in.
    home: NetNs,
    /// Its id in the own namespace, by which link events name it.
    home_nsid: Option<i32>,
    named: NamedNamespaces,
    guests: guests::Guests,
    /// None: the kernel tells nothing of interfaces.
    hearing: Option<Arc<told::Hearing>>,
}

impl Host {
    /// All that the kernel has told of interfaces by now has a number below this.
    fn heard_by_now(&self) -> u64 {
        self.hearing.as_ref().map_or(0, |hearing| hearing.by_now())
    }
}

/// What there is of the lab at the moment.
#[derive(Default)]
struct Live {
    switches: BTreeMap<SwitchName, SwitchId>,
    ports: BTreeMap<PortName, LivePort>,
    mirrors: BTreeMap<MirrorName, mirror::LiveMirror>,
    /// What ports have counted that an edit has removed, as long as it may make them anew or put them back.
    parted: BTreeMap<PortName, Arc<earlier::Earlier>>,
    /// The same of mirrors.
    parted_mirrors: BTreeMap<MirrorName, Arc<MirrorCounters>>,
    /// When missing ports are tried again whose interface was deleted, or of which nothing could be told.
    retries: BTreeMap<PortName, repair::Retry>,
    /// Ports of whose interface it was told that something inside came or went, until it is looked what.
    unlooked: std::collections::BTreeSet<PortName>,
    /// Ports that got back what somebody had taken away.
    given_back: BTreeMap<PortName, watch::GivenBack>,
    /// Ports of which something was told that could not be looked into.
    unsure: std::collections::BTreeSet<PortName>,
    /// Cables that could not be laid, for want of something that nobody tells of.
    unlaid: Vec<vswitch_api::Cable>,
    /// An interface has gone that may have been an end of a cable.
    cables_unsure: bool,
    /// Settings of namespaces that the kernel refused, which waited for their interfaces.
    refused: sysctls::AllRefused,
    gateways: gateway::Gateways,
    /// TAP devices that were found as the daemon started, with the namespaces that they are in.
    strays: Vec<(NetNs, vswitch_linux::Link)>,
}

/// A port of the lab as it is at the moment.
#[derive(Clone, Debug)]
struct LivePort {
    /// Its place in the datapath; none while it is missing.
    id: Option<PortRef>,
    state: PortState,
    reason: Option<String>,
    /// Why it is missing, if it is.
    missing_as: Option<MissingAs>,
    since: Instant,
    /// Index of the near end in the own namespace (veth, and device with the fast path).
    near: Option<u32>,
    /// Index of the interface that its user sees, where it is.
    inside: Option<u32>,
    /// Id, in the own namespace, of the namespace of `inside`.
    nsid: Option<i32>,
    /// How `inside` is called.
    ifname: String,
    /// Where it is, if somebody has moved it.
    moved: Option<place::Moved>,
    /// Its namespace has no name any more, but processes live in it.
    unnamed: bool,
    /// By what its namespace can be entered, if that is another's, and whose it is.
    entrance: Option<Entrance>,
    owner: Option<String>,
    /// What the interface has, whatever the settings are.
    mac: Option<vswitch_api::Mac>,
    mtu: u32,
    /// Up to which size its interfaces have TCP frames uncut; none if the kernel has no BIG TCP over IPv4, or it is missing.
    gso: Option<GsoSize>,
    /// Why it has no AF_XDP though it was to have it.
    xdp_refused: Option<String>,
    /// What its interface was given and has not any more.
    lacks: Vec<Lack>,
    /// The same while it is down: with that goes what nobody took away.
    lacks_down: Vec<Lack>,
    /// What of that somebody took away while it was up, and so on purpose. It may be there again.
    taken: Vec<Lack>,
    /// When it was last told that it is down, or was.
    down_at: Option<Instant>,
    /// IPv6 was off there, with which all of it has gone, and is not known to be on again.
    lost_ipv6: bool,
    /// What was told of its interface under a lower number is of the time before it was attached, or given its settings again.
    heard_from: u64,
    /// What the daemon before has counted, and this one while the port had another interface.
    before: Arc<earlier::Earlier>,
}

impl LivePort {
    /// What its interface was given and has not at the moment.
    fn lacks(&self) -> &[Lack] {
        match self.state {
            PortState::NoCarrier => &self.lacks_down,
            _ => &self.lacks,
        }
    }

    fn missing(error: &ApiError) -> Self {
        Self {
            id: None,
            state: PortState::Missing,
            reason: Some(error.to_string()),
            missing_as: Some(error.missing_as.unwrap_or(MissingAs::Other)),
            since: Instant::now(),
            near: None,
            inside: None,
            nsid: None,
            ifname: String::new(),
            moved: None,
            unnamed: false,
            entrance: None,
            owner: None,
            mac: None,
            mtu: 0,
            gso: None,
            xdp_refused: None,
            lacks: Vec::new(),
            lacks_down: Vec::new(),
            taken: Vec::new(),
            down_at: None,
            lost_ipv6: false,
            heard_from: 0,
            before: Arc::default(),
        }
    }
}

impl Control {
    /// Events from now on.
    pub fn subscribe(&self) -> EventReader {
        self.events.subscribe()
    }

    /// Events that are wanted, from now on or from behind one that was read before.
    pub fn subscribe_to(&self, wanted: EventSelect) -> EventReader {
        self.events.subscribe_to(wanted)
    }

    /// How many events there were of each kind.
    pub fn event_counts(&self) -> Vec<(&'static str, u64)> {
        self.events.counts().collect()
    }

    /// How long edits took that were made, and those that were refused or failed.
    pub fn edit_times(&self) -> &[Durations; 2] {
        &self.edit_times
    }

    /// What is known now. Questions are answered from it, so that they never wait for an edit.
    fn view(&self) -> Arc<View> {
        self.inner.view()
    }

    /// The model, for an edit.
    ///
    /// # Errors
    /// Whoever asked for the edit is gone.
    async fn begin_edit(&self) -> Result<Held<'_>, ApiError> {
        let held = self.inner.lock().await;
        published::check_client()?;
        Ok(held)
    }

    /// Comes back when edits that were asked for before are over.
    ///
    /// # Errors
    /// Whoever asks is gone.
    pub async fn after_edits(&self) -> Result<(), ApiError> {
        self.begin_edit().await.map(drop)
    }

    /// A sign of life: comes back when every worker has answered. An edit may take as long as it gets on.
    ///
    /// # Errors
    /// An edit hangs. The caller sets a time limit for the workers.
    pub async fn ping(&self) -> Result<(), ApiError> {
        self.inner.check()?;
        let datapath = self.view().datapath.clone();
        // Workers answer within a batch; this thread may wait that long, but not for a worker that hangs.
        let answer = tokio::task::spawn_blocking(move || datapath.quiesce());
        answer
            .await
            .map_err(|error| ApiError::new(vswitch_api::ErrorCode::Internal, "workers", error.to_string()))
    }

    /// Makes edits under way end soon, and what they did undone: the daemon is about to stop.
    pub fn stop_edits(&self) {
        self.inner.stop();
    }

    /// Stops, and leaves interfaces, addresses and namespaces in place for the next daemon. Gives the queues in which frames wait for
    /// it, as long as somebody holds them.
    pub async fn shutdown(&self) -> Vec<OwnedFd> {
        self.stop_edits();
        let tasks = std::mem::take(&mut *self.tasks.lock().unwrap_or_else(std::sync::PoisonError::into_inner));
        tasks.iter().for_each(JoinHandle::abort);
        // One that is at work ends at its next wait; until then it may ask for a timer, which the runtime, as it ends, has no more.
        for task in tasks {
            let _ = task.await;
        }
        let mut inner = self.inner.lock().await;
        // The kernel goes on without us.
        if let Some(fast) = &inner.fast {
            fast.freeze();
        }
        // Before the process ends, so that no frame is taken and lost on the way.
        let queues = inner.hand_over();
        inner.leave_run_dir();
        queues
    }
}

impl Inner {
    /// Sets the state of a port and tells of a change. A port that carries nothing has nothing to remember either.
    fn set_state(&mut self, name: &PortName, state: PortState, reason: Option<String>) {
        let (state, reason) = self.shut.or_shut(name, state, reason);
        let Some(live) = self.live.ports.get_mut(name) else {
            return;
        };
        if live.state == state && live.reason == reason {
            return;
        }
        if live.state != state {
            live.since = Instant::now();
        }
        let comes_up = state == PortState::Up && live.state != state;
        if live.state == PortState::Up && state != PortState::Up {
            self.shut.other_way_ended(|other| other == name);
        }
        live.state = state;
        live.missing_as = (state == PortState::Missing).then_some(MissingAs::Other);
        live.reason.clone_from(&reason);
        let id = live.id;
        if let Some(port) = self.store.port(name)
            && let (Some(id), Some(switch)) = (
                id.filter(|_| state != PortState::Up),
                self.live.switches.get(&port.switch),
            )
        {
            self.datapath.fdb_flush(*switch, FdbFilter::of_port(id.id));
        }
        if let Some(id) = id {
            self.datapath.set_carrier(id, state != PortState::NoCarrier);
        }
        self.emit(EventKind::PortState {
            port: name.clone(),
            state,
            reason,
        });
        if comes_up && let Some(port) = self.store.port(name).cloned() {
            self.look_behind(&port);
        }
    }
}
