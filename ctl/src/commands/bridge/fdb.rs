//! `bridge fdb`: the forwarding database in the words of bridge(8).

use std::fmt::Write as _;

use vswitch_api::policy::VlanId;
use vswitch_api::request::{ChangeOptions, FdbAdd, FdbSelect};
use vswitch_api::view::{Changes, FdbEntry};
use vswitch_api::{ApiError, ErrorCode, Mac, PortName, SwitchName};
use vswitch_client::{Method, NO_BODY, with_options, with_query};

use super::words::Reader;
use super::{find, no_verb, trial};
use crate::cli::bridge::{ChangeWords, FdbArgs, FdbVerb, Word, Words};
use crate::cli::parse::unicast_mac;
use crate::commands::Session;
use crate::commands::familiar::conflict;
use crate::commands::fdb::table_of;
use crate::failure::Failure;

/// An entry by its words.
struct Named {
    mac: Mac,
    port: PortName,
    vlan: Option<VlanId>,
}

/// Which entries are shown.
#[derive(Default)]
struct Filter {
    switch: Option<SwitchName>,
    port: Option<PortName>,
    vlan: Option<VlanId>,
    dynamic: bool,
}

impl Session {
    pub(super) async fn bridge_fdb(&self, args: FdbArgs) -> Result<(), Failure> {
        match args.command {
            None => self.show_entries(&Words::default()).await,
            Some(FdbVerb::Show(words)) => self.show_entries(&words).await,
            Some(FdbVerb::Add(words)) => self.add_entry(&words, false).await,
            Some(FdbVerb::Replace(words)) => self.add_entry(&words, true).await,
            Some(FdbVerb::Del(words)) => self.del_entry(&words).await,
            Some(FdbVerb::Other(words)) => Err(no_verb("fdb", &words, "show, add, replace and del")),
        }
    }

    async fn show_entries(&self, words: &Words) -> Result<(), Failure> {
        let filter = filter(&words.words)?;
        if let Some(port) = &filter.port {
            find(&self.ports().await?, port)?;
        }
        let tables = self.tables(filter.switch.clone()).await?;
        let entries = tables.into_iter().flat_map(|(_, entries)| entries);
        let entries: Vec<FdbEntry> = entries.filter(|entry| filter.takes(entry)).collect();
        self.out.show(&entries, |_| {
            let line = |entry| line(entry, filter.port.is_none());
            entries.iter().map(line).collect()
        })
    }

    async fn add_entry(&self, args: &ChangeWords, replaces: bool) -> Result<(), Failure> {
        let named = named("bridge fdb add", &args.words)?;
        let (switch, named) = self.at_its_port(named).await?;
        let there = match replaces {
            true => None,
            false => self.entry(&switch, &named).await?,
        };
        if let Some(entry) = there {
            let cause = format!("it is known already, behind port \"{}\"", entry.port);
            let hint = "`vswitchctl bridge fdb replace` takes its place";
            return Err(conflict(format!("station {}", named.mac), cause, hint));
        }
        let entry = FdbAdd {
            mac: named.mac,
            vlan: named.vlan,
            port: named.port,
        };
        let path = with_options(&table_of(switch.as_str()), trial(args.trial.dry_run))?;
        let changes: Changes = self.client.send(Method::PUT, &path, Some(&entry)).await?;
        self.quietly(&changes, args.trial.dry_run)
    }

    async fn del_entry(&self, args: &ChangeWords) -> Result<(), Failure> {
        let named = named("bridge fdb del", &args.words)?;
        let (switch, named) = self.at_its_port(named).await?;
        let table = table_of(switch.as_str());
        if let Some(entry) = self.entry(&switch, &named).await?
            && entry.port != named.port
        {
            let cause = format!("it is known behind port \"{}\", not \"{}\"", entry.port, named.port);
            let error = ApiError::new(ErrorCode::NotFound, format!("station {}", named.mac), cause);
            return Err(error.hint("name that port, or use `vswitchctl fdb del MAC`").into());
        }
        let select = FdbSelect {
            mac: Some(named.mac),
            vlan: named.vlan,
            port: None,
        };
        let options: ChangeOptions = trial(args.trial.dry_run);
        let path = with_options(&with_query(&table, &select)?, options)?;
        let changes: Changes = self.client.send(Method::DELETE, &path, NO_BODY).await?;
        self.quietly(&changes, args.trial.dry_run)
    }

    /// The entry of this station, if there is one.
    async fn entry(&self, switch: &SwitchName, named: &Named) -> Result<Option<FdbEntry>, Failure> {
        let there: Vec<FdbEntry> = self.client.get(&table_of(switch.as_str())).await?;
        let is_meant = |entry: &FdbEntry| entry.mac == named.mac && entry.vlan == named.vlan;
        Ok(there.into_iter().find(is_meant))
    }

    /// The switch of the port; without a VLAN it is that of what has no tag there.
    async fn at_its_port(&self, named: Named) -> Result<(SwitchName, Named), Failure> {
        let ports = self.ports().await?;
        let port = &find(&ports, &named.port)?.port;
        let vlan = named.vlan.or(port.vlan.untagged());
        Ok((port.switch.clone(), Named { vlan, ..named }))
    }
}

fn filter(words: &[Word]) -> Result<Filter, Failure> {
    let mut reader = Reader::new("bridge fdb show", words);
    let mut filter = Filter::default();
    while let Some(word) = reader.next() {
        match word {
            "br" | "bridge" | "master" => filter.switch = Some(reader.parsed(word)?),
            "dev" | "brport" => filter.port = Some(reader.parsed(word)?),
            "vlan" => filter.vlan = Some(reader.parsed(word)?),
            "dynamic" => filter.dynamic = true,
            "state" => {
                let state = reader.value(word)?;
                return Err(reader.wrong(format!(
                    "entries have no state {state:?}; `dynamic` shows what was learned"
                )));
            }
            other => return Err(reader.unknown(other, "br, brport, dev, vlan, dynamic")),
        }
    }
    Ok(filter)
}

impl Filter {
    fn takes(&self, entry: &FdbEntry) -> bool {
        self.port.as_ref().is_none_or(|port| *port == entry.port)
            && self.vlan.is_none_or(|vlan| Some(vlan) == entry.vlan)
            && !(self.dynamic && entry.is_static)
    }
}

fn named(command: &'static str, words: &[Word]) -> Result<Named, Failure> {
    let mut reader = Reader::new(command, words);
    let (mut mac, mut port, mut vlan) = (None, None, None);
    while let Some(word) = reader.next() {
        match word {
            "dev" => port = Some(reader.parsed(word)?),
            "vlan" => vlan = Some(reader.parsed(word)?),
            // What an entry is here anyway.
            "master" | "static" | "sticky" => {}
            "self" => {
                let cause =
                    "self would be a table of the port's own, and there is none; entries are the switch's (master)";
                return Err(reader.wrong(cause));
            }
            "local" | "permanent" => {
                let cause = format!(
                    "an entry that is {word} would be of the host itself, which has the addresses of its internal ports; static ones stay too"
                );
                return Err(reader.wrong(cause));
            }
            "dynamic" | "use" | "extern_learn" => {
                let cause = format!("an entry that is {word} can't be set: others than static ones are learned");
                return Err(reader.wrong(cause));
            }
            "dst" | "vni" | "src_vni" | "port" | "via" | "nhid" => {
                return Err(reader.wrong(format!(
                    "{word} is of a tunnel device, which has its entries in the kernel"
                )));
            }
            text if mac.is_none() => mac = Some(unicast_mac(text).map_err(|cause| reader.wrong(cause))?),
            other => return Err(reader.unknown(other, "dev, vlan, master and static")),
        }
    }
    Ok(Named {
        mac: mac.ok_or_else(|| reader.wrong("no address is named; begin with one such as 02:00:00:00:00:01"))?,
        port: port.ok_or_else(|| reader.wrong("no port is named; say dev NAME"))?,
        vlan,
    })
}

/// An entry as `bridge fdb` shows it: `MAC dev PORT vlan N master SWITCH static`.
fn line(entry: &FdbEntry, with_port: bool) -> String {
    let mut text = entry.mac.to_string();
    if with_port {
        let _ = write!(text, " dev {}", entry.port);
    }
    if let Some(vlan) = entry.vlan {
        let _ = write!(text, " vlan {vlan}");
    }
    let _ = write!(text, " master {} ", entry.switch);
    if entry.sticky {
        text += "sticky ";
    }
    if entry.is_static {
        text += "static";
    }
    text + "\n"
}
