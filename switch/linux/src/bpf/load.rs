//! The programs and maps by their pins. A daemon that comes back opens those that run: to load them again the kernel's own types are read
//! (5 MB of BTF, 14 ms) and the programs verified, for which frames would wait.

use std::collections::BTreeSet;
use std::fs;
use std::hash::Hasher;
use std::path::{Path, PathBuf};

use aya::EbpfLoader;
use aya::maps::{Array, HashMap, Map, MapData, MapError, PerCpuArray};
use aya::programs::SchedClassifier;
use siphasher::sip::SipHasher13;

use super::super::error::KernelError;
use super::layout::{FastCounters, Flood, PlaceValue, PortRecord, StationKey, Vlans};
use super::mounted::entries;
use super::{Left, MAX_LEFT, Program, SwitchKey, failed};

#[cfg(fastpath_object)]
static OBJECT: Option<&[u8]> = Some(aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/fastpath.o")));
#[cfg(not(fastpath_object))]
static OBJECT: Option<&[u8]> = None;

pub(super) struct Loaded {
    /// By [`Program`].
    pub programs: [SchedClassifier; Program::ALL.len()],
    pub maps: Maps,
    /// Of both.
    pub pins: Vec<PathBuf>,
}

pub(super) struct Maps {
    pub fdb: HashMap<MapData, StationKey, PlaceValue>,
    pub ports: Array<MapData, PortRecord>,
    pub slots: HashMap<MapData, u32, u32>,
    pub splices: HashMap<MapData, u32, u32>,
    pub members: HashMap<MapData, u32, Vlans>,
    pub floods: HashMap<MapData, SwitchKey, Flood>,
    pub counts: PerCpuArray<MapData, FastCounters>,
}

/// What `left` says, as the programs have it.
struct Constants {
    dst: [u64; MAX_LEFT],
    mask: [u64; MAX_LEFT],
}

/// Programs and maps, pinned in `dir`: those that are there if they are of this object, else new programs with the maps that are there.
pub(super) fn load(dir: &Path, left: &[Left]) -> Result<Loaded, KernelError> {
    let object = OBJECT.ok_or_else(|| failed("this daemon was built without the programs", "no clang"))?;
    let constants = Constants::of(left);
    let version = constants.version(object);
    if let Ok(loaded) = open(dir, version) {
        return Ok(loaded);
    }
    let programs = Program::ALL.map(Program::name);
    for old in entries(dir).filter(|path| programs.iter().any(|name| is_of(path, name))) {
        let removed = fs::remove_file(&old);
        removed.map_err(|error| KernelError::new(format!("remove {}", old.display()), error))?;
    }
    let mut loader = EbpfLoader::new();
    loader.override_global("left_dst", &constants.dst[..], true);
    loader.override_global("left_mask", &constants.mask[..], true);
    let loaded = loader.default_map_pin_directory(dir).load(object);
    let mut programs = loaded.map_err(|error| failed("load the maps", error))?;
    for program in Program::ALL {
        let name = program.name();
        let found = programs
            .program_mut(name)
            .ok_or_else(|| failed("find a program", name))?;
        let found: &mut SchedClassifier = found.try_into().map_err(|error| failed("find a program", error))?;
        found.load().map_err(|error| failed("load the programs", error))?;
        let pinned = found.pin(pin_of(dir, program, version));
        pinned.map_err(|error| failed("pin the programs", error))?;
    }
    open(dir, version)
}

impl Constants {
    fn of(left: &[Left]) -> Self {
        let (mut dst, mut mask) = ([0; MAX_LEFT], [0; MAX_LEFT]);
        for (at, left) in left.iter().take(MAX_LEFT).enumerate() {
            (dst[at], mask[at]) = (left.dst & left.mask, left.mask);
        }
        Self { dst, mask }
    }

    /// The same for the same programs, of whichever build.
    fn version(&self, object: &[u8]) -> u64 {
        let mut hasher = SipHasher13::new();
        hasher.write(object);
        let words = self.dst.iter().chain(&self.mask);
        words.for_each(|word| hasher.write(&word.to_le_bytes()));
        hasher.finish()
    }
}

fn pin_of(dir: &Path, program: Program, version: u64) -> PathBuf {
    dir.join(format!("{}-{version:016x}", program.name()))
}

/// Whether it is the pin of a program of this name, whatever its version.
fn is_of(path: &Path, name: &str) -> bool {
    let file = path.file_name().and_then(|file| file.to_str()).unwrap_or_default();
    file.strip_prefix(name).is_some_and(|rest| rest.starts_with('-'))
}

/// Opens what is pinned.
///
/// # Errors
/// Something is not there. The programs do not go by these maps: somebody removed pins of one and not of the other.
fn open(dir: &Path, version: u64) -> Result<Loaded, KernelError> {
    let program = |program| {
        let opened = SchedClassifier::from_pin(pin_of(dir, program, version));
        opened.map_err(|error| failed(&format!("open program {}", program.name()), error))
    };
    let [first, second, third, fourth] = Program::ALL;
    let programs = [program(first)?, program(second)?, program(third)?, program(fourth)?];
    let mut used = BTreeSet::new();
    for program in &programs {
        let ids = program.info().and_then(|info| info.map_ids());
        used.extend(
            ids.map_err(|error| failed("ask for the maps of a program", error))?
                .unwrap_or_default(),
        );
    }
    let pins = Program::ALL.map(|program| pin_of(dir, program, version)).into();
    let mut maps = Pinned { dir, used, pins };
    Ok(Loaded {
        programs,
        maps: Maps {
            fdb: maps.open("fdb", Map::HashMap)?,
            ports: maps.open("ports", Map::Array)?,
            slots: maps.open("slots", Map::HashMap)?,
            splices: maps.open("splices", Map::HashMap)?,
            members: maps.open("members", Map::HashMap)?,
            floods: maps.open("floods", Map::HashMap)?,
            counts: maps.open("counts", Map::PerCpuArray)?,
        },
        pins: maps.pins,
    })
}

/// Maps that are pinned.
struct Pinned<'a> {
    dir: &'a Path,
    /// Numbers of those that the programs go by.
    used: BTreeSet<u32>,
    /// Where those that were opened are, behind the programs.
    pins: Vec<PathBuf>,
}

impl Pinned<'_> {
    fn open<T: TryFrom<Map, Error = MapError>>(
        &mut self,
        name: &str,
        kind: fn(MapData) -> Map,
    ) -> Result<T, KernelError> {
        let step = || format!("open map {name}");
        let pin = self.dir.join(name);
        let data = MapData::from_pin(&pin).map_err(|error| failed(&step(), error))?;
        let id = data.info().map_err(|error| failed(&step(), error))?.id();
        if !self.used.contains(&id) {
            return Err(failed(&step(), "the programs go by another one"));
        }
        let map = T::try_from(kind(data)).map_err(|error| failed(&step(), error))?;
        self.pins.push(pin);
        Ok(map)
    }
}

#[cfg(test)]
mod tests {
    use super::super::mounted::{mount_at, unmount};
    use super::*;
    use crate::testing::sandboxed;

    /// What the kernel calls the programs, and the map of stations.
    fn ids(loaded: &Loaded) -> ([u32; 4], u32) {
        let programs = loaded.programs.each_ref().map(|program| program.info().unwrap().id());
        (
            programs,
            MapData::from_pin(&loaded.pins[4]).unwrap().info().unwrap().id(),
        )
    }

    #[test]
    fn a_daemon_that_comes_back_finds_its_programs_as_they_run() {
        sandboxed(async || {
            let dir = tempfile::tempdir().unwrap();
            let dir = dir.path();
            mount_at(dir).unwrap();
            let left = |dst| [Left { dst, mask: !0 }];
            let mut first = load(dir, &left(1)).unwrap();
            let (programs, fdb) = ids(&first);
            first.maps.slots.insert(3, 7, 0).unwrap();
            drop(first);
            let again = load(dir, &left(1)).unwrap();
            assert_eq!(ids(&again), (programs, fdb));
            assert_eq!(again.maps.slots.get(&3, 0).unwrap(), 7);
            let pinned = || entries(dir).filter(|path| path.extension().is_none()).count();
            assert_eq!(pinned(), Program::ALL.len() + 7);

            // Programs that are to do something else: with the maps that are there.
            let others = load(dir, &left(2)).unwrap();
            assert!(ids(&others).0.iter().all(|id| !programs.contains(id)));
            assert_eq!(ids(&others).1, fdb);
            assert_eq!(pinned(), Program::ALL.len() + 7);

            // Somebody takes a program away, or a map: never are there programs that go by others' maps.
            let (programs, fdb) = ids(&others);
            fs::remove_file(&others.pins[Program::ToDevice as usize]).unwrap();
            let mended = load(dir, &left(2)).unwrap();
            assert!(ids(&mended).0.iter().all(|id| !programs.contains(id)));
            assert_eq!(ids(&mended).1, fdb);
            fs::remove_file(dir.join("fdb")).unwrap();
            let mended = load(dir, &left(2)).unwrap();
            assert_ne!(ids(&mended).1, fdb);
            assert_eq!(mended.maps.slots.get(&3, 0).unwrap(), 7);
            let again = load(dir, &left(2)).unwrap();
            assert_eq!(ids(&again), ids(&mended));
            unmount(dir);
        });
    }
}
