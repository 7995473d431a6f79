//! The way out of a switch: its gateway is a port of the host, which forwards and translates addresses for it.
//!
//! What follows from the lab is found out first (`settle` for ports, `outside` for the host), then the one table of nftables is made
//! (`table`, by `tool`) and forwarding turned on (`forwarding`): in this order, since the table keeps what is forwarded to the gateways.

mod answering;
mod check;
mod firewall;
mod forwarding;
mod leases;
mod listening;
mod names;
mod outside;
mod serve;
mod settle;
mod table;
mod tell;
mod tool;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::{Duration, Instant};

use vswitch_api::{ApiError, EventKind, IfName, Stands};
use vswitch_linux::KernelError;

pub(super) use answering::refuse_no_dns;
pub(super) use check::{check, warnings};
pub(super) use listening::refuse_listened;
pub(super) use names::Links;
pub(super) use outside::Outside;
pub(super) use settle::{gateways, refuse_removal, settle};

use self::forwarding::{Note, difference, key, note_path};
use self::serve::{Served, check_program};
use super::kinds::ifname;
use super::plan::Step;
use super::processes::Process;
use super::{Inner, text};

/// Where the run directory of the one daemon that most machines have is.
const USUAL_RUN_DIR: &str = "/run/vswitch";
const TABLE: &str = "vswitch";
/// How often it is looked whether the table is still there: that takes a program.
const LOOKED_AFTER: Duration = Duration::from_secs(6);

/// What the host was last made to do.
#[derive(Debug)]
pub(super) struct Fitted {
    /// With interfaces as they were called then.
    ways: Vec<outside::Way>,
    opened: table::Opened,
    /// When the table was last seen.
    looked: Instant,
}

/// The name of the table. Two daemons on a machine have different run directories.
fn table_name(run_dir: &Path) -> String {
    use std::hash::{DefaultHasher, Hash, Hasher};
    if run_dir == Path::new(USUAL_RUN_DIR) {
        return TABLE.to_owned();
    }
    let mut hasher = DefaultHasher::new();
    run_dir.hash(&mut hasher);
    format!("{TABLE}-{:08x}", hasher.finish() as u32)
}

impl Inner {
    /// Makes the host do what this says, and no more.
    ///
    /// # Errors
    /// A tool is not there, or the kernel refused something. What was done may stay: the caller makes it what it was.
    pub(super) async fn fit_outside(&mut self, outside: &Outside) -> Result<(), ApiError> {
        let table = table_name(&self.host.run_dir);
        let path = note_path(&self.host.run_dir);
        let noting = |error: std::io::Error| {
            text::step("forwarding", "note what it was", &error)
                .hint("see that the run directory can be written and has room")
        };
        self.live.fitted = None;
        let mut note = Note::load(&path, &self.host.boot_id).map_err(noting)?;
        let outside = &self.as_called(outside.clone());
        let uplinks = match outside.ways.is_empty() {
            true => Vec::new(),
            false => self.uplinks(outside).await.map_err(unknown)?,
        };
        self.live.uplinks = outside.follows_default_routes().then(|| uplinks.clone());
        self.note_renamed(&mut note, outside, &uplinks).await;
        let wanted = wanted_forwarding(outside, &uplinks);
        let changes = difference(&note, &wanted);
        for (forwarding, before) in &changes.back {
            forwarding::give_back(forwarding, before).map_err(|error| refused(forwarding, &error))?;
        }
        for (forwarding, now) in &changes.on {
            let now = now.clone().unwrap_or_default();
            // What it was at first is what it gets back.
            note.before.entry(forwarding.clone()).or_insert(now);
        }
        note.save(&path).map_err(noting)?;
        // What is given back already is in it until it is known that nothing of it is left.
        changes.back.iter().for_each(|(forwarding, _)| {
            note.before.remove(forwarding);
        });
        let opened = note.opened_now(&outside.gateways);
        let is_there = match tool::has_table(&table).await {
            // Without nft there was never a table.
            Err(tool::Refused::Absent) if outside.ways.is_empty() && !self.live.has_table => false,
            is_there => is_there.map_err(tool::Refused::told)?,
        };
        if is_there || !outside.ways.is_empty() {
            self.live.has_table = true;
            tool::nft(&table::commands(&table, outside, &uplinks, &opened)).await?;
            self.live.has_table = !outside.ways.is_empty();
        }
        for (forwarding, _) in &changes.on {
            forwarding::turn_on(forwarding).map_err(|error| refused(forwarding, &error))?;
        }
        note.save(&path).map_err(noting)?;
        self.live.fitted = Some(Fitted {
            ways: outside.ways.clone(),
            opened,
            looked: Instant::now(),
        });
        Ok(())
    }

    /// With the interfaces of gateways as they are called by now.
    fn as_called(&self, outside: Outside) -> Outside {
        let ports = &self.store.state.lab.ports;
        outside.called(|name| {
            let mut legs = ports.iter().filter(|port| port.kind.stands() == Stands::OnHost);
            let port = legs.find(|port| ifname(port) == *name)?;
            self.live.ports.get(&port.name)?.ifname.parse().ok()
        })
    }

    /// The kernel takes what forwarding is along when an interface is renamed: so does the note.
    async fn note_renamed(&mut self, note: &mut Note, outside: &Outside, uplinks: &[IfName]) {
        let Ok(links) = async { self.host.home.netlink().await?.links().await }.await else {
            return;
        };
        let named = links
            .iter()
            .filter_map(|link| Some((link.index, link.name.parse().ok()?)));
        let now: BTreeMap<u32, IfName> = named.collect();
        for (index, old) in std::mem::take(&mut self.live.forwarding) {
            if let Some(new) = now.get(&index).filter(|new| **new != old) {
                note.rename(&old, new);
            }
        }
        // One that leads out no more is still to be given back what it had.
        let is_concerned = |name: &IfName| outside.gateways.contains(name) || uplinks.contains(name) || note.has(name);
        self.live.forwarding = now.into_iter().filter(|(_, name)| is_concerned(name)).collect();
    }

    /// A step from one to the other; if it fails, all is as it was before.
    pub(super) async fn change_outside(
        &mut self,
        before: &Outside,
        after: &Outside,
        warnings: &mut Vec<String>,
    ) -> Result<(), ApiError> {
        let changed = async {
            if (&before.ways, &before.gateways) != (&after.ways, &after.gateways) {
                match self.fit_outside(after).await {
                    // What can't be taken away now is taken away as soon as it can be.
                    Err(error) if after.ways.is_empty() => {
                        warnings.push(format!("{error}; it is tried again every few seconds"));
                    }
                    fitted => fitted?,
                }
            }
            self.change_services(&before.services, &after.services, warnings).await
        };
        if let Err(error) = changed.await {
            if let Err(error) = self.fit_outside(before).await {
                tracing::error!("can't undo a change of NAT: {error}");
            }
            if let Err(error) = self.change_services(&after.services, &before.services, warnings).await {
                tracing::error!("can't undo a change of DHCP and DNS: {error}");
            }
            return Err(error);
        }
        if before.ways != after.ways {
            warnings.extend(self.way_out(after).await);
        }
        if before != after {
            warnings.extend(firewall::in_the_way(after).await);
        }
        Ok(())
    }

    async fn change_services(
        &mut self,
        before: &[Served],
        after: &[Served],
        warnings: &mut Vec<String>,
    ) -> Result<(), ApiError> {
        let gone = before.iter().filter(|old| !after.contains(old));
        let gone: Vec<_> = gone.map(Served::process_name).collect();
        let new: Vec<_> = after.iter().filter(|new| !before.contains(new)).collect();
        if !new.is_empty() {
            check_program()?;
        }
        if !gone.is_empty() {
            self.stop_processes(&gone, warnings).await;
        }
        let run_dir = &self.host.run_dir;
        let new: Vec<_> = new.into_iter().map(|served| served.process(run_dir)).collect();
        if !new.is_empty() {
            self.start_processes(&new).await?;
        }
        Ok(())
    }

    /// What is to run for the switches of the lab.
    pub(super) fn wanted_services(&self) -> Vec<Process> {
        let services = Outside::of(&self.store.state.lab).services;
        services
            .iter()
            .map(|served| served.process(&self.host.run_dir))
            .collect()
    }

    /// What a step will change of forwarding, for the user.
    pub(super) async fn describe_forwarding(&self, steps: &[Step]) -> Vec<String> {
        let change = steps.iter().find_map(|step| match step {
            Step::ChangeOutside { before, after } => Some((before, after)),
            _ => None,
        });
        let Some((before, after)) = change else {
            return Vec::new();
        };
        let Ok(note) = Note::load(&note_path(&self.host.run_dir), &self.host.boot_id) else {
            return Vec::new();
        };
        let uplinks = self.uplinks(after).await.unwrap_or_default();
        let changes = difference(&note, &wanted_forwarding(after, &uplinks));
        let on = changes.on.iter().map(|(path, now)| match now {
            Some(now) => format!("set {} to 1 (was {now})", key(path)),
            None => format!("set {} to 1", key(path)),
        });
        // Gateways are ours, and of an interface that is gone nothing is given back.
        let ours = |path: &str| {
            let mut gateways = before.ways.iter().map(|way| way.gateway.as_str());
            gateways.any(|name| path.split('/').any(|part| part == name))
        };
        let back = changes
            .back
            .iter()
            .filter(|(path, _)| !ours(path) && forwarding::read(path).is_some());
        let back = back.map(|(path, before)| format!("set {} back to {before}", key(path)));
        back.chain(on).collect()
    }

    /// The interfaces by which the switches with NAT get out.
    ///
    /// # Errors
    /// Those of the default routes can't be told.
    async fn uplinks(&self, outside: &Outside) -> Result<Vec<IfName>, KernelError> {
        let mut uplinks: BTreeSet<IfName> = outside.ways.iter().flat_map(|way| way.uplinks.clone()).collect();
        if outside.follows_default_routes() {
            uplinks.extend(self.default_uplinks().await?);
        }
        uplinks.retain(|name| !outside.gateways.contains(name));
        Ok(uplinks.into_iter().collect())
    }

    async fn default_uplinks(&self) -> Result<Vec<IfName>, KernelError> {
        let nl = self.host.home.netlink().await?;
        let routes = nl.routes().await?;
        let links = nl.links().await?;
        let by = routes.iter().filter(|route| route.to.prefix_len() == 0);
        let by = by.filter_map(|route| links.iter().find(|link| Some(link.index) == route.index));
        // Of one that has just gone down the kernel tells before it takes its routes away.
        Ok(by
            .filter(|link| link.name != "lo" && link.up)
            .filter_map(|link| link.name.parse().ok())
            .collect())
    }

    /// Something happened to the interfaces or default routes of the host: what is led out by these goes out by those of now.
    pub(super) async fn follow_uplinks(&mut self) {
        if !self.store.state.lab.switches.iter().any(|switch| switch.nat) {
            return;
        }
        let outside = Outside::of(&self.store.state.lab);
        if !outside.follows_default_routes() {
            return;
        }
        let now = match self.uplinks(&outside).await {
            Ok(now) => now,
            Err(error) => {
                tracing::warn!("the interfaces by which gateways lead out can't be told: {error}");
                return;
            }
        };
        if self.live.uplinks.as_ref() == Some(&now) {
            return;
        }
        let before = self.live.uplinks.clone();
        if let Err(error) = self.fit_outside(&outside).await {
            tracing::warn!("gateways do not follow the default route: {error}");
            // It is tried again when something happens.
            self.live.uplinks = before;
            return;
        }
        let words = |names: &[IfName]| match names {
            [] => "nowhere: the host has no default route".to_owned(),
            names => names.iter().map(IfName::as_str).collect::<Vec<_>>().join(", "),
        };
        tracing::info!("gateways lead out by {}", words(&now));
        self.emit(EventKind::UplinksChanged {
            before: before.unwrap_or_default(),
            now,
        });
    }

    /// Whether there is a way out at all.
    async fn way_out(&self, outside: &Outside) -> Option<String> {
        let none = !outside.ways.is_empty() && self.uplinks(outside).await.is_ok_and(|uplinks| uplinks.is_empty());
        none.then(|| {
            "the host has no default route, so NAT leads nowhere: name the interfaces with `vswitchctl set switch NAME uplinks=IF`".to_owned()
        })
    }

    /// Looks whether the host still does for the switches what it was made to do: an interface of a gateway that was made again does not forward,
    /// one that was renamed is not in the table, somebody has taken the table away or has the host forward for others too. What could not be
    /// done is tried again.
    pub(super) async fn keep_gateways(&mut self) {
        let outside = Outside::of(&self.store.state.lab);
        let nothing = |fitted: &Fitted| fitted.ways.is_empty() && outside.ways.is_empty();
        if self.live.fitted.as_ref().is_some_and(nothing) {
            return;
        }
        let Some(why) = self.is_unfit(&outside).await else {
            return;
        };
        let fitted = self.fit_outside(&outside).await;
        if fitted.is_ok() {
            tracing::info!("what the host does for gateways is as it is to be again: {why}");
        }
        self.note_unfit(fitted.err());
    }

    /// Why the host has to be made anew what it is to be; none: it need not.
    async fn is_unfit(&mut self, outside: &Outside) -> Option<&'static str> {
        let called = self.as_called(outside.clone());
        let note = Note::load(&note_path(&self.host.run_dir), &self.host.boot_id);
        let opened = note.map(|note| note.opened_now(&called.gateways));
        let Some(fitted) = &mut self.live.fitted else {
            return Some("it could not be done before");
        };
        if fitted.ways != called.ways {
            return Some("a gateway has another name");
        }
        if opened.is_ok_and(|opened| opened != fitted.opened) {
            return Some("forwarding of the host was changed");
        }
        if called.ways.iter().any(does_not_forward) {
            return Some("a gateway did not forward");
        }
        if fitted.looked.elapsed() < LOOKED_AFTER {
            return None;
        }
        fitted.looked = Instant::now();
        let there = tool::has_table(&table_name(&self.host.run_dir)).await;
        matches!(there, Ok(false)).then_some("its table of nftables was gone")
    }

    /// Tells what the host does not do for the switches, or that it does by now.
    pub(super) fn note_unfit(&mut self, error: Option<ApiError>) {
        const UNFIT: &str = "NAT is not as it is to be, and is tried again every few seconds: ";
        let told = error.map(|error| format!("{UNFIT}{error}"));
        let limits = &mut self.shown.limits;
        if told.as_ref().is_some_and(|told| limits.contains(told)) {
            return;
        }
        limits.retain(|limit| !limit.starts_with(UNFIT));
        if let Some(told) = told {
            tracing::error!("{told}");
            limits.push(told);
        }
    }

    /// Whether the table and forwarding are as the lab has them; what is not, in words.
    pub(super) async fn drift_of_outside(&self) -> Vec<String> {
        let outside = Outside::of(&self.store.state.lab);
        if outside.ways.is_empty() {
            return Vec::new();
        }
        let outside = self.as_called(outside);
        let mut lost = Vec::new();
        let table = table_name(&self.host.run_dir);
        if !matches!(tool::has_table(&table).await, Ok(true)) {
            lost.push(format!("the table inet {table} of nftables"));
        }
        let wanted = wanted_forwarding(&outside, &self.uplinks(&outside).await.unwrap_or_default());
        let off = wanted
            .iter()
            .filter(|path| forwarding::read(path).as_deref() == Some("0"));
        lost.extend(off.map(|path| format!("{} = 1", key(path))));
        lost
    }
}

/// What is to be on so that frames pass between gateways and these uplinks.
fn wanted_forwarding(outside: &Outside, uplinks: &[IfName]) -> BTreeSet<String> {
    let gateways: Vec<_> = outside
        .ways
        .iter()
        .map(|way| {
            let has = |v4: bool| way.subnets.iter().any(|net| net.addr().is_ipv4() == v4);
            (way.gateway.clone(), has(true), has(false))
        })
        .collect();
    match gateways.is_empty() {
        true => BTreeSet::new(),
        false => forwarding::wanted(&gateways, uplinks),
    }
}

/// One that is there, and forwards nothing of an IP version that it has a subnet of.
fn does_not_forward(way: &outside::Way) -> bool {
    way.subnets.iter().any(|net| {
        let version = if net.addr().is_ipv4() { "ipv4" } else { "ipv6" };
        forwarding::read(&format!("{version}/conf/{}/forwarding", way.gateway)).as_deref() == Some("0")
    })
}

fn unknown(error: KernelError) -> ApiError {
    text::kernel("the default routes", &error)
}

fn refused(path: &str, error: &std::io::Error) -> ApiError {
    text::step("forwarding", &format!("set {}", key(path)), error)
}
