//! The way out of a switch: its gateway is a port of the host, which forwards and translates addresses for it.
//!
//! What follows from the lab is found out first (`settle` for ports, `outside` for the host), then the one table of nftables is made
//! (`table`, by `tool`) and forwarding turned on (`forwarding`): in this order, since the table keeps what is forwarded to the gateways.

mod answering;
mod check;
mod firewall;
mod forwarding;
mod keep;
mod leases;
mod listening;
mod names;
mod outside;
mod serve;
mod settle;
mod table;
mod talks;
mod tell;
mod tool;
mod uplinks;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::Path;
use std::time::Instant;

use vswitch_api::{ApiError, IfName, PortName, Stands};
use vswitch_linux::KernelError;

pub(super) use answering::refuse_no_dns;
pub(super) use check::{check, warnings};
pub(super) use forwarding::Note as ForwardingNote;
pub(super) use leases::Kept as KeptLeases;
pub(super) use listening::refuse_listened;
pub(super) use names::Links;
pub(super) use outside::Outside;
pub(super) use settle::{gateways, refuse_moving, refuse_removal, settle};

use self::forwarding::{Note, Places, difference, key};
use self::serve::{Served, check_program};
use super::kinds::ifname;
use super::plan::Step;
use super::processes::Process;
use super::{Inner, lasting, text};
use crate::files::canonical;

/// Where the run directory of the one daemon that most machines have is.
const USUAL_RUN_DIR: &str = "/run/vswitch";
const TABLE: &str = "vswitch";

/// What the host was last made to do.
#[derive(Debug)]
pub(super) struct Fitted {
    /// With interfaces as they were called then.
    ways: Vec<outside::Way>,
    uplinks: Vec<IfName>,
    opened: table::Opened,
    /// The table as the kernel has it; none: that could not be told.
    table: Option<serde_json::Value>,
    /// When the table was last seen.
    looked: Instant,
}

/// What is known of what the host does for gateways.
#[derive(Debug, Default)]
pub(super) struct Gateways {
    /// What stands in /etc/netns; none: it is not known.
    pub(super) name_links: Option<Links>,
    /// The interfaces by which NAT was last led out; none: nothing is led by the default routes.
    pub(super) uplinks: Option<Vec<IfName>>,
    /// What the host was last made to do for gateways; none: it is not known, or could not be done.
    pub(super) fitted: Option<Fitted>,
    /// What forwarding was before it was changed; none: the note of it was not read yet.
    pub(super) forwarding_note: Option<ForwardingNote>,
    /// There may be a table of nftables.
    pub(super) has_table: bool,
    /// The interfaces that forward by us, by their index, as they were called last.
    pub(super) forwarding: BTreeMap<u32, IfName>,
    /// Addresses that were leased to ports.
    pub(super) leases: BTreeMap<PortName, Vec<IpAddr>>,
    pub(super) kept_leases: KeptLeases,
    /// When it was last looked what is in the way of gateways, if something was.
    pub(super) looked_in_the_way: Option<Instant>,
}

/// The name of the table. Two daemons on a machine have different run directories.
fn table_name(run_dir: &Path) -> String {
    if run_dir == canonical(Path::new(USUAL_RUN_DIR)) {
        return TABLE.to_owned();
    }
    format!("{TABLE}-{:08x}", lasting::number(&run_dir) as u32)
}

impl Inner {
    /// Makes the host do what this says, and no more.
    ///
    /// # Errors
    /// A tool is not there, or the kernel refused something. What was done may stay: the caller makes it what it was.
    pub(super) async fn fit_outside(&mut self, outside: &Outside) -> Result<(), ApiError> {
        let table = table_name(&self.host.run_dir);
        let places = self.places_of_note();
        let noting = |error: std::io::Error| {
            text::step("forwarding", "note what it was", &error)
                .hint("see that the run directory can be written and has room")
        };
        let fitted = self.live.gateways.fitted.take();
        let mut note = self.forwarding_note().map_err(noting)?;
        if self.live.gateways.forwarding_note.is_none() {
            self.live.gateways.forwarding = note.interfaces.clone();
        }
        let outside = &self.as_called(outside.clone());
        let uplinks = match outside.ways.is_empty() {
            true => Vec::new(),
            false => self.uplinks(outside).await.map_err(unknown)?,
        };
        self.live.gateways.uplinks = outside.follows_default_routes().then(|| uplinks.clone());
        self.note_renamed(&mut note, outside, &uplinks).await;
        let wanted = wanted_forwarding(outside, &uplinks);
        let changes = difference(&note, &wanted);
        // One that can't be given back, or turned on, holds up no other switch.
        let (mut given_back, mut carried) = (Vec::new(), Ok(()));
        for (forwarding, before) in &changes.back {
            let result = forwarding::give_back(forwarding, before).map_err(|error| refused(forwarding, &error));
            if result.is_ok() {
                given_back.push(forwarding);
            }
            carried = carried.and(result);
        }
        for (forwarding, now) in &changes.on {
            note.take_down(forwarding, now.as_deref());
        }
        note.save(&places).map_err(noting)?;
        self.live.gateways.forwarding_note = Some(note.clone());
        // What is given back already is in it until it is known that nothing of it is left.
        for forwarding in given_back {
            note.before.remove(forwarding);
        }
        let opened = note.opened_now(&outside.gateways);
        let was_whole = self.table_is_whole(&table, fitted.as_ref()).await;
        let content = self.write_table(&table, outside, &uplinks, &opened).await?;
        // Of a machine with one daemon nothing depends on it.
        if let Err(error) = self.group_gateways(outside).await {
            tracing::warn!("another daemon may drop what passes by gateways of this one: {error}");
        }
        match fitted {
            _ if !was_whole => self.forget_all_talks(&outside.ways).await,
            Some(fitted) => self.forget_talks(&fitted.ways, &outside.ways).await,
            None => {}
        }
        for (forwarding, _) in &changes.on {
            carried = carried.and(forwarding::turn_on(forwarding).map_err(|error| refused(forwarding, &error)));
        }
        carried?;
        note.save(&places).map_err(noting)?;
        self.live.gateways.forwarding_note = Some(note);
        self.live.gateways.fitted = Some(Fitted {
            ways: outside.ways.clone(),
            uplinks,
            opened,
            table: content,
            looked: Instant::now(),
        });
        Ok(())
    }

    /// Replaces the table, or removes it, and gives what the kernel has of it from then on.
    async fn write_table(
        &mut self,
        table: &str,
        outside: &Outside,
        uplinks: &[IfName],
        opened: &table::Opened,
    ) -> Result<Option<serde_json::Value>, ApiError> {
        let is_wanted = !outside.ways.is_empty();
        if !is_wanted {
            let is_there = match tool::content(table).await {
                // Without nft there was never a table.
                Err(tool::Refused::Absent) if !self.live.gateways.has_table => None,
                content => content.map_err(tool::Refused::told)?,
            };
            if is_there.is_none() {
                return Ok(None);
            }
        }
        self.live.gateways.has_table = true;
        let commands = table::commands(table, outside, uplinks, opened);
        tool::nft(&commands).await?;
        self.live.gateways.has_table = is_wanted;
        if !is_wanted {
            return Ok(None);
        }
        // One that somebody has flushed in the meantime is none to compare with.
        let content = tool::content(table).await.ok().flatten();
        let wanted = table::chains_and_rules(&commands["nftables"]);
        Ok(content.filter(|content| table::chains_and_rules(content) == wanted))
    }

    /// Puts the gateways with NAT into the group by which the tables of all daemons know them, and takes other legs of the host out of it.
    async fn group_gateways(&self, outside: &Outside) -> Result<(), KernelError> {
        let legs = self.store.state.lab.ports.iter();
        let legs = legs.filter(|port| port.kind.stands() == Stands::OnHost && port.kind.has_stack());
        let legs: Vec<_> = legs
            .filter_map(|port| Some(&self.live.ports.get(&port.name)?.ifname))
            .collect();
        let home = self.host.home.netlink().await?;
        let (mut of_group, mut of_none) = (Vec::new(), Vec::new());
        for link in home.links().await? {
            let is_gateway = outside.ways.iter().any(|way| way.gateway.as_str() == link.name);
            match link.group == table::GATEWAYS {
                false if is_gateway => of_group.push(link.index),
                true if !is_gateway && legs.iter().any(|leg| **leg == link.name) => of_none.push(link.index),
                _ => {}
            }
        }
        home.set_group(&of_group, table::GATEWAYS).await?;
        home.set_group(&of_none, 0).await
    }

    fn places_of_note(&self) -> Places {
        Places::new(&self.host.run_dir, &self.host.state_dir)
    }

    /// What forwarding was before. What the daemon knows itself is worth more than a file that somebody may have removed.
    fn forwarding_note(&self) -> std::io::Result<Note> {
        match &self.live.gateways.forwarding_note {
            Some(note) => Ok(note.clone()),
            None => Note::load(&self.places_of_note(), &self.host.boot_id),
        }
    }

    /// Puts the note of what forwarding was back, where somebody has emptied the run directory. None: it is there.
    pub(super) fn keep_forwarding_note(&self) -> Option<std::io::Result<()>> {
        let note = self
            .live
            .gateways
            .forwarding_note
            .as_ref()
            .filter(|note| !note.before.is_empty())?;
        let places = self.places_of_note();
        (!places.note.exists()).then(|| note.save(&places))
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
        for (index, old) in std::mem::take(&mut self.live.gateways.forwarding) {
            if let Some(new) = now.get(&index).filter(|new| **new != old) {
                note.rename(&old, new);
            }
        }
        // One that leads out no more is still to be given back what it had.
        let is_concerned = |name: &IfName| outside.gateways.contains(name) || uplinks.contains(name) || note.has(name);
        self.live.gateways.forwarding = now.into_iter().filter(|(_, name)| is_concerned(name)).collect();
        note.interfaces.clone_from(&self.live.gateways.forwarding);
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
        warnings.extend(self.warnings_of_outside(before, after).await);
        Ok(())
    }

    /// What of a change is allowed and may lead nowhere.
    async fn warnings_of_outside(&self, before: &Outside, after: &Outside) -> Vec<String> {
        let mut warnings = Vec::new();
        if before.ways != after.ways {
            warnings.extend(self.way_out(before, after).await);
            warnings.extend(uplinks::absent(&uplinks::new(&before.ways, &after.ways)));
        }
        if before != after {
            warnings.extend(firewall::in_the_way(after, &table_name(&self.host.run_dir)).await);
        }
        warnings
    }

    /// The warnings of a step, for who asks what would be done; without any step, of what is in the way as it is.
    pub(super) async fn foretell_outside(&self, steps: &[Step]) -> Vec<String> {
        match change_of_outside(steps) {
            Some((before, after)) => self.warnings_of_outside(before, after).await,
            None if steps.is_empty() => self.in_the_way().await,
            None => Vec::new(),
        }
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
        let Some((before, after)) = change_of_outside(steps) else {
            return Vec::new();
        };
        let Ok(note) = self.forwarding_note() else {
            return Vec::new();
        };
        let uplinks = self.uplinks(after).await.unwrap_or_default();
        let changes = difference(&note, &wanted_forwarding(after, &uplinks));
        let absent: Vec<_> = uplinks.iter().filter(|name| forwarding::is_absent(name)).collect();
        let is_absent = |path: &str| {
            path.split('/')
                .any(|part| absent.iter().any(|name| name.as_str() == part))
        };
        let on = changes.on.iter().filter(|(path, _)| !is_absent(path));
        let on = on.map(|(path, now)| match now {
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

fn change_of_outside(steps: &[Step]) -> Option<(&Outside, &Outside)> {
    steps.iter().find_map(|step| match step {
        Step::ChangeOutside { before, after } => Some((before, after)),
        _ => None,
    })
}

fn unknown(error: KernelError) -> ApiError {
    text::kernel("the default routes", &error)
}

fn refused(path: &str, error: &std::io::Error) -> ApiError {
    text::step("forwarding", &format!("set {}", key(path)), error)
}
