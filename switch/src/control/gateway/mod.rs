//! The way out of a switch: its gateway is a port of the host, which forwards and translates addresses for it.
//!
//! What follows from the lab is found out first (`settle` for ports, `outside` for the host), then the one table of nftables is made
//! (`table`, by `tool`) and forwarding turned on (`forwarding`): in this order, since the table keeps what is forwarded to the gateways.

mod check;
mod forwarding;
mod outside;
mod settle;
mod table;
mod tool;

use std::collections::BTreeSet;
use std::path::Path;

use vswitch_api::{ApiError, IfName};

pub(super) use check::{check, warnings};
pub(super) use outside::Outside;
pub(super) use settle::{gateways, refuse_removal, settle};

use self::forwarding::{Note, difference, key, note_path};
use super::plan::Step;
use super::{Inner, text};

/// Where the run directory of the one daemon that most machines have is.
const USUAL_RUN_DIR: &str = "/run/vswitch";
const TABLE: &str = "vswitch";

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
        let mut note = Note::load(&path, &self.host.boot_id).map_err(noting)?;
        let wanted = self.wanted_forwarding(outside).await;
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
        if outside.ways.is_empty() && tool::list(&["table", "inet", &table]).await.is_none() {
            return note.save(&path).map_err(noting);
        }
        tool::nft(&table::commands(&table, outside, &note.opened(&outside.gateways))).await?;
        for (forwarding, _) in &changes.on {
            forwarding::turn_on(forwarding).map_err(|error| refused(forwarding, &error))?;
        }
        note.save(&path).map_err(noting)
    }

    /// A step from one to the other; if it fails, all is as it was before.
    pub(super) async fn change_outside(
        &mut self,
        before: &Outside,
        after: &Outside,
        warnings: &mut Vec<String>,
    ) -> Result<(), ApiError> {
        if let Err(error) = self.fit_outside(after).await {
            if let Err(error) = self.fit_outside(before).await {
                tracing::error!("can't undo a change of NAT: {error}");
            }
            return Err(error);
        }
        if !after.ways.is_empty() {
            warnings.extend(self.in_the_way(after).await);
        }
        Ok(())
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
        let changes = difference(&note, &self.wanted_forwarding(after).await);
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

    async fn wanted_forwarding(&self, outside: &Outside) -> BTreeSet<String> {
        let gateways: Vec<_> = outside
            .ways
            .iter()
            .map(|way| {
                let has = |v4: bool| way.subnets.iter().any(|net| net.addr().is_ipv4() == v4);
                (way.gateway.clone(), has(true), has(false))
            })
            .collect();
        if gateways.is_empty() {
            return BTreeSet::new();
        }
        forwarding::wanted(&gateways, &self.uplinks(outside).await)
    }

    /// The interfaces by which the switches with NAT get out.
    async fn uplinks(&self, outside: &Outside) -> Vec<IfName> {
        let mut uplinks: BTreeSet<IfName> = outside.ways.iter().flat_map(|way| way.uplinks.clone()).collect();
        if outside.ways.iter().any(|way| way.uplinks.is_empty()) {
            uplinks.extend(self.default_uplinks().await);
        }
        uplinks.retain(|name| !outside.gateways.contains(name));
        uplinks.into_iter().collect()
    }

    async fn default_uplinks(&self) -> Vec<IfName> {
        let Ok(nl) = self.host.home.netlink().await else {
            return Vec::new();
        };
        let routes = nl.routes().await.unwrap_or_default();
        let links = nl.links().await.unwrap_or_default();
        let by = routes.iter().filter(|route| route.to.prefix_len() == 0);
        let by = by.filter_map(|route| links.iter().find(|link| Some(link.index) == route.index));
        by.filter(|link| link.name != "lo")
            .filter_map(|link| link.name.parse().ok())
            .collect()
    }

    /// What else of the host keeps frames from being forwarded, with what mends it.
    async fn in_the_way(&self, outside: &Outside) -> Vec<String> {
        let mut warnings = Vec::new();
        if self.uplinks(outside).await.is_empty() {
            warnings.push(
                "the host has no default route, so NAT leads nowhere: name the interfaces with `vswitchctl set switch NAME uplinks=IF`"
                    .to_owned(),
            );
        }
        let mut chains: BTreeSet<(String, String, String)> = BTreeSet::new();
        let listed = tool::list(&["chains"]).await.unwrap_or_default();
        for item in listed["nftables"].as_array().into_iter().flatten() {
            let chain = &item["chain"];
            let word = |key: &str| chain[key].as_str().unwrap_or_default().to_owned();
            if word("hook") == "forward" && word("policy") == "drop" {
                chains.insert((word("family"), word("table"), word("name")));
            }
        }
        for way in &outside.ways {
            let gateway = way.gateway.as_str();
            for (family, table, chain) in &chains {
                let rules = tool::list(&["chain", family, table, chain]).await.unwrap_or_default();
                // Somebody has thought of it.
                if rules.to_string().contains(&format!("\"{gateway}\"")) {
                    continue;
                }
                let cure = match (family.as_str(), chain.as_str()) {
                    ("ip", "FORWARD") => cure("iptables", gateway),
                    ("ip6", "FORWARD") => cure("ip6tables", gateway),
                    _ => format!(
                        "nft insert rule {family} {table} {chain} iifname {gateway} accept; nft insert rule {family} {table} {chain} oifname {gateway} accept"
                    ),
                };
                warnings.push(format!(
                    "the host's firewall drops what is forwarded (chain {chain} of table {family} {table}), so also what switch \
                     \"{}\" sends out: let it through with `{cure}`",
                    way.switch
                ));
            }
            warnings.extend(legacy_in_the_way(way.switch.as_str(), gateway).await);
        }
        warnings
    }

    /// Whether the table and forwarding are as the lab has them; what is not, in words.
    pub(super) async fn drift_of_outside(&self) -> Vec<String> {
        let outside = Outside::of(&self.store.state.lab);
        if outside.ways.is_empty() {
            return Vec::new();
        }
        let mut lost = Vec::new();
        let table = table_name(&self.host.run_dir);
        if tool::list(&["table", "inet", &table]).await.is_none() {
            lost.push(format!("the table inet {table} of nftables"));
        }
        let wanted = self.wanted_forwarding(&outside).await;
        let off = wanted
            .iter()
            .filter(|path| forwarding::read(path).as_deref() == Some("0"));
        lost.extend(off.map(|path| format!("{} = 1", key(path))));
        lost
    }
}

fn refused(path: &str, error: &std::io::Error) -> ApiError {
    text::step("forwarding", &format!("set {}", key(path)), error)
}

fn cure(program: &str, gateway: &str) -> String {
    format!("{program} -I FORWARD -i {gateway} -j ACCEPT; {program} -I FORWARD -o {gateway} -j ACCEPT")
}

/// The same of the older tables of iptables, which nft does not know.
async fn legacy_in_the_way(switch: &str, gateway: &str) -> Vec<String> {
    let mut warnings = Vec::new();
    for (names, program) in [
        ("/proc/net/ip_tables_names", "iptables-legacy"),
        ("/proc/net/ip6_tables_names", "ip6tables-legacy"),
    ] {
        let tables = std::fs::read_to_string(names).unwrap_or_default();
        if !tables.lines().any(|table| table == "filter") {
            continue;
        }
        let Ok(rules) = tool::run(program, &["-w", "-S", "FORWARD"], Vec::new()).await else {
            continue;
        };
        let rules = String::from_utf8_lossy(&rules);
        if rules.contains("-P FORWARD DROP") && !rules.split_whitespace().any(|word| word == gateway) {
            warnings.push(format!(
                "the host's firewall drops what is forwarded (chain FORWARD of {program}), so also what switch \"{switch}\" sends out: \
                 let it through with `{}`",
                cure(program, gateway)
            ));
        }
    }
    warnings
}
