//! The programs and maps of the kernel fast path (`bpf/fastpath.c`): loading, attaching, pinning, reading and writing.
//!
//! At near ends and shadows programs are tc filters (`clsact`), at devices tcx links, which the kernel has since 6.6 and which leave
//! other programs there alone, else filters too. Links and maps are pinned in a bpf file system of the daemon's own, so that they
//! outlive it: /sys/fs/bpf may be hidden where the daemon runs (`ip netns exec` does so).

mod layout;
mod load;
mod mounted;
mod pins;
mod rules;

use std::error::Error;
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use aya::maps::{Array, HashMap, MapData, PerCpuArray};
use aya::programs::links::{FdLink, PinnedLink};
use aya::programs::tc::TcAttachOptions;
use aya::programs::{LinkOrder, SchedClassifier, TcAttachType};

use layout::{Flood, Vlans};
use mounted::{entries, mount_at, pinned, remove_tree};
use pins::Pins;

use super::error::KernelError;
use super::{clsact, lock};
pub use layout::{FastCounters, PlaceValue, PortRecord, StationKey};
pub use mounted::unmount;
pub use rules::{
    ACCEPT_TAGGED, ACCEPT_UNTAGGED, DIRECT, EVERY_VLAN, LONG_WAY, Left, MAX_FLOOD, MAX_LEFT, MAX_SLOTS, NO_CARRIER,
    NO_NATIVE, PAYLOAD_TAGS, Rules, SwitchKey, TRUNK, VlanBits,
};

/// In the environment of a daemon that is to do as if the kernel had no tcx: for tests.
const NO_TCX: &str = "VSWITCHD_NO_TCX";
/// Version of the maps' structures: another daemon's maps are taken over only if it is the same.
const LAYOUT: &str = "v5";

/// The loaded programs and their maps. Dropping it leaves in the kernel what is pinned.
pub struct Bpf {
    /// Where links and maps are pinned.
    dir: PathBuf,
    pins: Pins,
    /// Devices can't have links.
    no_tcx: AtomicBool,
    /// By [`Program`].
    programs: Mutex<[SchedClassifier; Program::ALL.len()]>,
    fdb: Mutex<HashMap<MapData, StationKey, PlaceValue>>,
    ports: Mutex<Array<MapData, PortRecord>>,
    slots: Mutex<HashMap<MapData, u32, u32>>,
    splices: Mutex<HashMap<MapData, u32, u32>>,
    members: Mutex<HashMap<MapData, u32, Vlans>>,
    floods: Mutex<HashMap<MapData, SwitchKey, Flood>>,
    counts: PerCpuArray<MapData, FastCounters>,
}

impl Bpf {
    /// Takes over the programs and maps that an earlier daemon pinned under `root`, and loads those that are not there, or not of these programs.
    /// `root` becomes a mount of the bpf file system. `left`: what is the daemon's whatever is flooded, of which the first [`MAX_LEFT`] are known.
    ///
    /// # Errors
    /// The daemon was built without the programs; EPERM without CAP_BPF or CAP_SYS_ADMIN; the kernel is too old.
    pub fn load(root: &Path, left: &[Left]) -> Result<Self, KernelError> {
        mount_at(root)
            .map_err(|error| KernelError::new(format!("mount a bpf file system at {}", root.display()), error))?;
        let dir = root.join(LAYOUT);
        // What a daemon with other structures left is no use.
        for other in pinned(root).filter(|path| *path != dir) {
            remove_tree(&other);
        }
        let made = fs::create_dir(&dir).or_else(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => Ok(()),
            _ => Err(error),
        });
        made.map_err(|error| KernelError::new(format!("make the folder {}", dir.display()), error))?;
        let loaded = load::load(&dir, left)?;
        let pins = Pins::default();
        // Links that are there are held as they are attached again, or detached.
        loaded.pins.into_iter().for_each(|pin| pins.hold(pin));
        let maps = loaded.maps;
        Ok(Self {
            fdb: Mutex::new(maps.fdb),
            ports: Mutex::new(maps.ports),
            slots: Mutex::new(maps.slots),
            splices: Mutex::new(maps.splices),
            members: Mutex::new(maps.members),
            floods: Mutex::new(maps.floods),
            counts: maps.counts,
            dir,
            pins,
            no_tcx: AtomicBool::new(std::env::var_os(NO_TCX).is_some()),
            programs: Mutex::new(loaded.programs),
        })
    }

    /// Finds out whether programs can be attached by filters, at an interface that nothing else uses. Whether devices can have links is found out
    /// by the first of them: for each link that comes or goes the kernel waits for a grace period, and the start with it.
    ///
    /// # Errors
    /// Not by filters, which near ends need.
    pub fn probe(&self, name: &str) -> Result<(), KernelError> {
        let probed = clsact::probe(&mut lock(&self.programs)[Program::ToStation as usize], name);
        probed.map_err(|error| failed("attach a program by clsact (Linux 5.12)", error))
    }

    /// Attaches a program to an interface of the calling thread's namespace, in the place of the one that an earlier
    /// daemon attached there, if there is one. It stays until [`Bpf::detach`] or until the interface goes.
    ///
    /// # Errors
    /// ENODEV: no such interface. ENOMEM.
    pub fn attach(&self, program: Program, name: &str, index: u32) -> Result<(), KernelError> {
        let step = format!("attach a program to {name}");
        let mut programs = lock(&self.programs);
        let classifier = &mut programs[program as usize];
        let pin = self.pin(program, index);
        if self.hook(program) == Hook::Clsact {
            clsact::attach(classifier, name).map_err(|error| failed(&format!("{step} (clsact)"), error))?;
            // A link of a daemon that had tcx comes first otherwise.
            self.detach(program, index);
            return Ok(());
        }
        if let Ok(old) = PinnedLink::from_pin(&pin) {
            let replaced = FdLink::from(old).try_into().map(|link| classifier.attach_to_link(link));
            if let Ok(Ok(id)) = replaced {
                // Only the descriptor goes: the pin holds the link.
                drop(classifier.take_link(id));
                self.pins.hold(pin);
                return Ok(());
            }
            // Left from an interface that had this index before.
            fs::remove_file(&pin).map_err(|error| KernelError::new(step.clone(), error))?;
        }
        let order = TcAttachOptions::TcxOrder(LinkOrder::default());
        let attached = classifier
            .attach_with_options(name, TcAttachType::Ingress, order)
            .and_then(|id| classifier.take_link(id));
        let link = match attached {
            Ok(link) => link,
            // The kernel has none (before Linux 6.6); a filter does the same.
            Err(error) => {
                clsact::attach(classifier, name).map_err(|_| failed(&format!("{step} (tcx, Linux 6.6)"), error))?;
                self.no_tcx.store(true, Ordering::Relaxed);
                return Ok(());
            }
        };
        let link = FdLink::try_from(link).map_err(|error| failed(&step, error))?;
        link.pin(&pin).map(drop).map_err(|error| failed(&step, error))?;
        self.pins.hold(pin);
        Ok(())
    }

    fn hook(&self, program: Program) -> Hook {
        match program {
            // The kernel waits for a grace period, under its lock of all interfaces, for each link that comes or goes.
            Program::FromStation | Program::ToStation => Hook::Clsact,
            Program::FromDevice | Program::ToDevice if self.no_tcx.load(Ordering::Relaxed) => Hook::Clsact,
            Program::FromDevice | Program::ToDevice => Hook::Tcx,
        }
    }

    /// Takes the program from an interface; fine if it has none. A filter stays, and drops what comes as soon as the interface has
    /// no slot or splice.
    pub fn detach(&self, program: Program, index: u32) {
        let pin = self.pin(program, index);
        self.pins.release(&pin);
        remove_tree(&pin);
    }

    /// Pins again what somebody has removed, also with the whole file system; none if all is there.
    pub fn put_back(&self) -> Option<io::Result<()>> {
        self.pins.put_back(|| {
            if let Some(root) = self.dir.parent() {
                mount_at(root)?;
            }
            match fs::create_dir(&self.dir) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
                _ => Ok(()),
            }
        })
    }

    /// Lets what is pinned end with its pins.
    pub fn release(&self) {
        self.pins.release_all();
    }

    /// Interfaces that have, or had, this program or the one beside it.
    pub fn attached(&self, program: Program) -> Vec<u32> {
        let index = |path: PathBuf| {
            path.file_name()?
                .to_str()?
                .strip_prefix(program.pin_name())?
                .parse()
                .ok()
        };
        entries(&self.dir).filter_map(index).collect()
    }

    fn pin(&self, program: Program, index: u32) -> PathBuf {
        self.dir.join(format!("{}{index}", program.pin_name()))
    }

    /// Puts a station in or moves it.
    ///
    /// # Errors
    /// E2BIG: the map is full.
    pub fn insert(&self, key: &StationKey, value: PlaceValue) -> Result<(), KernelError> {
        let inserted = lock(&self.fdb).insert(key, value, 0);
        inserted.map_err(|error| failed("write a station", error))
    }

    /// Takes a station out; fine if it is not there.
    pub fn remove(&self, key: &StationKey) {
        // The only error of this call on a valid map is that the key is not there.
        let _ = lock(&self.fdb).remove(key);
    }

    /// Takes a station out if it still is behind the port of this slot.
    pub fn remove_from(&self, key: &StationKey, slot: u16) {
        let mut fdb = lock(&self.fdb);
        if fdb.get(key, 0).is_ok_and(|value| value.slot() == slot) {
            let _ = fdb.remove(key);
        }
    }

    /// Where a station is and when it was last seen.
    pub fn station(&self, key: &StationKey) -> Option<PlaceValue> {
        lock(&self.fdb).get(key, 0).ok()
    }

    /// All stations.
    pub fn stations(&self) -> Vec<(StationKey, PlaceValue)> {
        lock(&self.fdb).iter().filter_map(Result::ok).collect()
    }

    /// What the programs know of the port of this slot.
    pub fn port(&self, slot: u16) -> PortRecord {
        lock(&self.ports).get(&slot.into(), 0).unwrap_or_default()
    }

    /// Writes a record. All but [`DIRECT`], [`LONG_WAY`] and [`NO_CARRIER`] may change only while the record is not [`DIRECT`].
    ///
    /// # Errors
    /// None is known for a slot below [`MAX_SLOTS`].
    pub fn set_port(&self, slot: u16, record: PortRecord) -> Result<(), KernelError> {
        let set = lock(&self.ports).set(slot.into(), record, 0);
        set.map_err(|error| failed("write a port", error))
    }

    /// Says in which VLANs the trunk of this slot is, or that it is none. May change only while the record is not [`DIRECT`].
    ///
    /// # Errors
    /// ENOMEM.
    pub fn set_members(&self, slot: u16, vlans: Option<&VlanBits>) -> Result<(), KernelError> {
        let mut members = lock(&self.members);
        match vlans {
            Some(vlans) => members
                .insert(u32::from(slot), Vlans(*vlans), 0)
                .map_err(|error| failed("write the VLANs of a port", error)),
            None => {
                // The only error of this call on a valid map is that the key is not there.
                let _ = members.remove(&slot.into());
                Ok(())
            }
        }
    }

    /// Says where the programs flood to on a switch, or that they don't.
    ///
    /// # Errors
    /// ENOMEM. Nothing is said then: floods are the daemon's.
    pub fn set_flood(&self, switch: &SwitchKey, to: Option<&[u16]>) -> Result<(), KernelError> {
        let mut floods = lock(&self.floods);
        let mut written = Ok(());
        if let Some(to) = to {
            let mut flood = Flood {
                count: to.len().min(MAX_FLOOD) as u32,
                slots: [0; MAX_FLOOD],
            };
            flood.slots.iter_mut().zip(to).for_each(|(slot, to)| *slot = *to);
            written = floods.insert(*switch, flood, 0);
        }
        if to.is_none() || written.is_err() {
            let _ = floods.remove(switch);
        }
        written.map_err(|error| failed("write where a switch floods to", error))
    }

    /// Switches whose floods the programs send.
    pub fn flooding(&self) -> Vec<SwitchKey> {
        lock(&self.floods).keys().filter_map(Result::ok).collect()
    }

    /// Names the slot of an interface.
    ///
    /// # Errors
    /// ENOMEM.
    pub fn set_slot(&self, index: u32, slot: u16) -> Result<(), KernelError> {
        let set = lock(&self.slots).insert(index, u32::from(slot), 0);
        set.map_err(|error| failed("write a slot", error))
    }

    /// Forgets the slot of an interface.
    pub fn clear_slot(&self, index: u32) {
        let _ = lock(&self.slots).remove(&index);
    }

    /// Interfaces that have a slot, and which.
    pub fn slots(&self) -> Vec<(u32, u32)> {
        lock(&self.slots).iter().filter_map(Result::ok).collect()
    }

    /// Joins two interfaces of a device's namespace: what comes in at `from` goes to `to`.
    ///
    /// # Errors
    /// ENOMEM.
    pub fn set_splice(&self, from: u32, to: u32) -> Result<(), KernelError> {
        let set = lock(&self.splices).insert(from, to, 0);
        set.map_err(|error| failed("write a splice", error))
    }

    /// Forgets where what comes in at an interface of a device's namespace goes.
    pub fn clear_splice(&self, from: u32) {
        let _ = lock(&self.splices).remove(&from);
    }

    /// Interfaces of a device's namespace from which something leads elsewhere.
    pub fn splices(&self) -> Vec<u32> {
        lock(&self.splices).keys().filter_map(Result::ok).collect()
    }

    /// What was forwarded from and to the port of this slot, since the maps were made.
    pub fn counters(&self, slot: u16) -> FastCounters {
        let mut total = FastCounters::default();
        let all = self.counts.get(&slot.into(), 0);
        for one in all.iter().flat_map(|all| all.iter()) {
            // All by name, so that none is forgotten.
            let FastCounters {
                rx_frames,
                rx_bytes,
                tx_frames,
                tx_bytes,
                rx_flooded,
                flood_copies,
                tx_down,
                tx_refused,
                rate: _,
            } = one;
            total.rx_frames += rx_frames;
            total.rx_bytes += rx_bytes;
            total.tx_frames += tx_frames;
            total.tx_bytes += tx_bytes;
            total.rx_flooded += rx_flooded;
            total.flood_copies += flood_copies;
            total.tx_down += tx_down;
            total.tx_refused += tx_refused;
        }
        total
    }
}

impl fmt::Debug for Bpf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Bpf({})", self.dir.display())
    }
}

/// How programs are attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hook {
    Tcx,
    Clsact,
}

/// The programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    /// Ingress of a near end.
    FromStation,
    /// Ingress of a shadow TAP.
    ToStation,
    /// Ingress of a device.
    FromDevice,
    /// Ingress of the end of a splice beside its device.
    ToDevice,
}

impl Program {
    const ALL: [Self; 4] = [Self::FromStation, Self::ToStation, Self::FromDevice, Self::ToDevice];

    /// In the object, and the beginning of its pin's.
    fn name(self) -> &'static str {
        match self {
            Self::FromStation => "from_station",
            Self::ToStation => "to_station",
            Self::FromDevice => "from_device",
            Self::ToDevice => "to_device",
        }
    }

    /// Beginning of the name of its link: indices of interfaces are those of a namespace.
    fn pin_name(self) -> &'static str {
        match self {
            Self::FromStation | Self::ToStation => "link",
            Self::FromDevice | Self::ToDevice => "home",
        }
    }
}

/// Waits until no program runs any more that may have read the maps as they were before.
pub fn settle() {
    /// linux/membarrier.h: a grace period of RCU, under which programs run.
    const MEMBARRIER_CMD_GLOBAL: libc::c_int = 1;
    // SAFETY: integers only; no memory is involved. Kernels with nohz_full refuse it: then what runs ends on its own,
    // within a frame's time.
    unsafe { libc::syscall(libc::SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0) };
}

/// With the causes of the error, since the outermost is often no more than "a call failed".
fn failed(step: &str, error: impl Into<Box<dyn Error + Send + Sync>>) -> KernelError {
    let error = error.into();
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    // One line: the verifier's log, if it has something to say, is for debugging.
    let line = text.lines().next().unwrap_or_default().to_owned();
    if line.len() < text.len() {
        tracing::debug!("{step}: {text}");
    }
    KernelError::new(step, io::Error::other(line))
}
