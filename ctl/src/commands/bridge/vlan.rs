//! `bridge vlan`: the VLANs of a port as a list with flags, which here is one setting.

use std::fmt::Write as _;

use serde::Serialize;
use vswitch_api::PortName;
use vswitch_api::patch::MergePatch;
use vswitch_api::policy::{PortVlan, TagKind, Trunk, VlanId, VlanSet};
use vswitch_api::view::{Changes, PortView};
use vswitch_client::{Method, with_options};

use super::words::Reader;
use super::{find, no_verb, trial};
use crate::cli::bridge::{ChangeWords, VlanArgs, VlanVerb, Word, Words};
use crate::commands::{Session, patch, until_unchanged};
use crate::failure::Failure;

/// A setting, and what is to be known of it; or why it can't be had.
type Changed = Result<(PortVlan, Option<String>), String>;

/// What is said of a port.
#[derive(Debug)]
struct Said {
    port: PortName,
    vlans: VlanSet,
    pvid: bool,
    untagged: bool,
}

/// A line of what is shown.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Row {
    port: PortName,
    first: VlanId,
    last: VlanId,
    /// Frames without a tag are in it, and leave without one.
    untagged: bool,
}

impl Session {
    pub(super) async fn bridge_vlan(&self, args: VlanArgs) -> Result<(), Failure> {
        match args.command {
            None => self.show_vlans(&Words::default()).await,
            Some(VlanVerb::Show(words)) => self.show_vlans(&words).await,
            Some(VlanVerb::Add(words)) => self.change_vlans(&words, "bridge vlan add", added).await,
            Some(VlanVerb::Del(words)) => self.change_vlans(&words, "bridge vlan del", removed).await,
            Some(VlanVerb::Other(words)) => Err(no_verb("vlan", &words, "show, add and del")),
        }
    }

    async fn show_vlans(&self, words: &Words) -> Result<(), Failure> {
        let mut reader = Reader::new("bridge vlan show", &words.words);
        let mut only: Option<PortName> = None;
        while let Some(word) = reader.next() {
            match word {
                "dev" => only = Some(reader.parsed(word)?),
                other => return Err(reader.unknown(other, "dev")),
            }
        }
        let ports = self.ports().await?;
        if let Some(name) = &only {
            find(&ports, name)?;
        }
        let shown = ports
            .iter()
            .filter(|view| only.as_ref().is_none_or(|name| *name == view.port.name));
        let rows: Vec<Row> = shown.flat_map(rows).collect();
        self.out.show(&rows, |_| table(&rows))
    }

    async fn change_vlans(
        &self,
        args: &ChangeWords,
        command: &'static str,
        change: fn(&Said, &PortVlan) -> Changed,
    ) -> Result<(), Failure> {
        let said = said(command, &args.words)?;
        let (path, dry_run) = (format!("/v1/ports/{}", said.port), args.trial.dry_run);
        let wrong = |cause: String| Failure::usage(format!("port \"{}\"", said.port), cause, "nothing was changed");
        let changes: Changes = until_unchanged(async || {
            let (view, tag): (PortView, _) = self.client.get_tagged(&path).await?;
            let (vlan, warning) = change(&said, &view.port.vlan).map_err(wrong)?;
            let mut changes = Changes::default();
            if vlan != view.port.vlan {
                let patch = MergePatch::default().with("vlan", patch::vlan(&vlan));
                let path = with_options(&path, trial(dry_run))?;
                changes = self
                    .client
                    .send_if(Method::PATCH, &path, tag.as_ref(), Some(&patch))
                    .await?;
            }
            changes.warnings.extend(warning);
            Ok(changes)
        })
        .await?;
        self.quietly(&changes, dry_run)
    }
}

fn said(command: &'static str, words: &[Word]) -> Result<Said, Failure> {
    let mut reader = Reader::new(command, words);
    let (mut port, mut vlans) = (None, None);
    let (mut pvid, mut untagged) = (false, false);
    while let Some(word) = reader.next() {
        match word {
            "dev" => port = Some(reader.parsed(word)?),
            "vid" => vlans = Some(reader.parsed::<VlanSet>(word)?),
            "pvid" => pvid = true,
            "untagged" => untagged = true,
            // All VLANs are the switch's.
            "master" => {}
            "self" => return Err(reader.wrong("VLANs are of ports of a switch; leave out self")),
            "tunnel_info" => return Err(reader.wrong("a VLAN is not mapped to a tunnel id here")),
            other => return Err(reader.unknown(other, "dev, vid, pvid, untagged and master")),
        }
    }
    let (Some(port), Some(vlans)) = (port, vlans) else {
        return Err(reader.wrong("a port and its VLAN have to be named; say dev NAME vid N"));
    };
    Ok(Said {
        port,
        vlans,
        pvid,
        untagged,
    })
}

/// The one VLAN that is said, if it is one.
fn one(vlans: &VlanSet) -> Option<VlanId> {
    match vlans.ranges() {
        [(first, last)] if first == last => Some(*first),
        _ => None,
    }
}

fn of_one(id: VlanId) -> Result<VlanSet, String> {
    id.to_string().parse().map_err(|e| format!("{e}"))
}

/// The setting with VLANs added, and what is to be known of it.
fn added(said: &Said, before: &PortVlan) -> Changed {
    let Said { port, vlans, .. } = said;
    match (said.pvid, said.untagged) {
        (true, true) => {
            let id = one(vlans).ok_or("only one VLAN can be that of frames without a tag; name one with pvid untagged")?;
            let gone = |old: VlanId| {
                (old != id).then(|| format!("port \"{port}\" has one VLAN without tags: {id} took the place of {old}"))
            };
            Ok(match before {
                PortVlan::Access(old) => (PortVlan::Access(id), gone(*old)),
                PortVlan::Trunk(trunk) => {
                    let was = trunk.native;
                    let vlan = match trunk.allowed.without(&of_one(id)?) {
                        Some(allowed) => PortVlan::Trunk(Trunk {
                            allowed,
                            native: Some(id),
                            tag: trunk.tag,
                        }),
                        None => PortVlan::Access(id),
                    };
                    (vlan, was.and_then(gone))
                }
                PortVlan::All => (PortVlan::Access(id), None),
                PortVlan::Tunnel(_) => return Err(tunnel(port)),
            })
        }
        (false, false) => {
            let trunk = match before {
                PortVlan::All => Trunk {
                    allowed: vlans.clone(),
                    native: None,
                    tag: TagKind::default(),
                },
                PortVlan::Access(native) if vlans.contains(*native) => return Err(both(port, *native)),
                PortVlan::Access(native) => Trunk {
                    allowed: vlans.clone(),
                    native: Some(*native),
                    tag: TagKind::default(),
                },
                PortVlan::Trunk(Trunk { native: Some(native), .. }) if vlans.contains(*native) => {
                    return Err(both(port, *native));
                }
                PortVlan::Trunk(trunk) => Trunk {
                    allowed: trunk.allowed.with(vlans),
                    ..trunk.clone()
                },
                PortVlan::Tunnel(_) => return Err(tunnel(port)),
            };
            Ok((PortVlan::Trunk(trunk), None))
        }
        (true, false) => Err(
            "pvid without untagged can't be had: the VLAN of frames without a tag has none on the way out either; say pvid untagged"
                .to_owned(),
        ),
        (false, true) => Err(
            "untagged without pvid can't be had: frames of a VLAN that leave without a tag come in without one too; say pvid untagged"
                .to_owned(),
        ),
    }
}

/// The setting with VLANs taken away. That it was in none of them is no error, as with bridge(8).
fn removed(said: &Said, before: &PortVlan) -> Changed {
    let Said { port, vlans, .. } = said;
    let last = || {
        format!(
            "it would be in no VLAN any more, which can't be; put it into another before, `vswitchctl bridge vlan add dev {port} vid N pvid \
             untagged`, or into all, `vswitchctl set port {port} --vlan all`"
        )
    };
    match before {
        // A bridge puts new ports into its default VLAN, and scripts begin with taking them out of it.
        PortVlan::All => {
            let warning = format!("port \"{port}\" has no VLAN setting, so it is in all VLANs until one is added");
            Ok((PortVlan::All, Some(warning)))
        }
        PortVlan::Access(id) if vlans.contains(*id) => Err(last()),
        PortVlan::Access(_) => Ok((before.clone(), None)),
        PortVlan::Tunnel(_) => Err(tunnel(port)),
        PortVlan::Trunk(trunk) => {
            let native = trunk.native.filter(|native| !vlans.contains(*native));
            match (trunk.allowed.without(vlans), native) {
                (Some(allowed), native) => {
                    let tag = trunk.tag;
                    Ok((PortVlan::Trunk(Trunk { allowed, native, tag }), None))
                }
                (None, Some(native)) => Ok((PortVlan::Access(native), None)),
                (None, None) => Err(last()),
            }
        }
    }
}

fn both(port: &PortName, native: VlanId) -> String {
    format!(
        "VLAN {native} is that of its frames without a tag, and can't have one too; put another in its place first: `vswitchctl bridge vlan \
         add dev {port} vid N pvid untagged`"
    )
}

fn tunnel(port: &PortName) -> String {
    format!("it is a tunnel, whose VLAN is set by `vswitchctl set port {port} --tunnel N`")
}

/// The lines of a port.
fn rows(view: &PortView) -> Vec<Row> {
    let row = |first, last, untagged| Row {
        port: view.port.name.clone(),
        first,
        last,
        untagged,
    };
    match &view.port.vlan {
        PortVlan::All => "all"
            .parse::<VlanSet>()
            .map(|all| {
                all.ranges()
                    .iter()
                    .map(|(first, last)| row(*first, *last, false))
                    .collect()
            })
            .unwrap_or_default(),
        PortVlan::Access(id) | PortVlan::Tunnel(id) => vec![row(*id, *id, true)],
        PortVlan::Trunk(trunk) => {
            let tagged = match trunk.native.map(of_one) {
                Some(Ok(native)) => trunk.allowed.without(&native),
                _ => Some(trunk.allowed.clone()),
            };
            let tagged = tagged.as_ref().map_or(&[][..], VlanSet::ranges);
            let mut rows: Vec<_> = tagged.iter().map(|(first, last)| row(*first, *last, false)).collect();
            rows.extend(trunk.native.map(|native| row(native, native, true)));
            rows.sort_by_key(|row| row.first);
            rows
        }
    }
}

/// The table of `bridge -compressvlans vlan show`.
fn table(rows: &[Row]) -> String {
    let mut text = String::from("port              vlan-id  \n");
    let mut last = None;
    for row in rows {
        let name = match last == Some(&row.port) {
            true => "",
            false => row.port.as_str(),
        };
        last = Some(&row.port);
        let _ = write!(text, "{name:<16}  {}", row.first);
        if row.first != row.last {
            let _ = write!(text, "-{}", row.last);
        }
        if row.untagged {
            text += " PVID Egress Untagged";
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(command: &'static str, words: &str, before: &str) -> Result<(String, bool), String> {
        let words: Vec<_> = format!("dev p {words}")
            .split(' ')
            .map(|word| Word(word.to_owned()))
            .collect();
        let said = match said(command, &words) {
            Ok(said) => said,
            Err(Failure::Error { error, .. }) => return Err(error.to_string()),
            Err(other) => panic!("{other:?}"),
        };
        let before = serde_json::from_str(before).unwrap();
        let change = if command == "add" { added } else { removed };
        let (vlan, warning) = change(&said, &before)?;
        Ok((serde_json::to_string(&vlan).unwrap(), warning.is_some()))
    }

    #[test]
    fn vlans_of_a_list_make_one_setting() {
        let (all, access) = ("\"all\"", r#"{"access":10}"#);
        let trunk = r#"{"trunk":{"allowed":"20-22","native":10}}"#;
        for (command, words, before, vlan, warns) in [
            ("add", "vid 10 pvid untagged", all, access, false),
            ("add", "vid 20-22", access, trunk, false),
            (
                "add",
                "vid 20-22 master",
                all,
                r#"{"trunk":{"allowed":"20-22"}}"#,
                false,
            ),
            (
                "add",
                "vid 30",
                trunk,
                r#"{"trunk":{"allowed":"20-22,30","native":10}}"#,
                false,
            ),
            ("add", "vid 11 pvid untagged", access, r#"{"access":11}"#, true),
            ("add", "vid 10 pvid untagged", access, access, false),
            (
                "add",
                "vid 21 pvid untagged",
                trunk,
                r#"{"trunk":{"allowed":"20,22","native":21}}"#,
                true,
            ),
            ("del", "vid 1", all, all, true),
            ("del", "vid 99", access, access, false),
            ("del", "vid 20-22", trunk, access, false),
            ("del", "vid 10", trunk, r#"{"trunk":{"allowed":"20-22"}}"#, false),
        ] {
            let what = format!("{command} {words} to {before}");
            assert_eq!(after(command, words, before), Ok((vlan.to_owned(), warns)), "{what}");
        }
        for (command, words, before, part) in [
            ("add", "vid 10 pvid", all, "pvid untagged"),
            ("add", "vid 10 untagged", all, "pvid untagged"),
            ("add", "vid 10-11 pvid untagged", all, "one VLAN"),
            ("add", "vid 10", access, "can't have one too"),
            ("add", "vid 5000", all, "5000"),
            ("add", "vid 10-5", all, "backwards"),
            ("add", "pvid", all, "vid N"),
            ("add", "vid 10 frob", all, "frob"),
            ("del", "vid 10", access, "no VLAN any more"),
            ("del", "vid 1-4094", trunk, "no VLAN any more"),
            ("del", "vid 10", r#"{"tunnel":10}"#, "--tunnel"),
        ] {
            let error = after(command, words, before).expect_err(words);
            assert!(error.contains(part), "{command} {words}: {error}");
        }
    }

    #[test]
    fn the_table_is_that_of_iproute2() {
        let row = |port: &str, first: u16, last: u16, untagged| Row {
            port: port.parse().unwrap(),
            first: first.try_into().unwrap(),
            last: last.try_into().unwrap(),
            untagged,
        };
        let rows = [
            row("p1", 10, 10, true),
            row("p2", 10, 10, false),
            row("p2", 20, 22, false),
        ];
        let expected = "port              vlan-id  \np1                10 PVID Egress Untagged\np2                10\n                  20-22\n";
        assert_eq!(table(&rows), expected);
    }
}
