//! `bridge link`: ports with their state, and settings that are on or off.

use std::fmt::Write as _;

use vswitch_api::patch::MergePatch;
use vswitch_api::policy::Isolation;
use vswitch_api::view::{Changes, PortState, PortView};
use vswitch_api::{PortName, SwitchName};
use vswitch_client::{Method, with_options};

use super::words::Reader;
use super::{find, no_verb, trial};
use crate::cli::bridge::{ChangeWords, LinkArgs, LinkVerb, Words};
use crate::commands::Session;
use crate::commands::familiar::is_local;
use crate::commands::patch::value;
use crate::failure::Failure;

/// Words of bridge(8), and the setting that each is.
const SETTINGS: [(&str, &str); 6] = [
    ("learning", "learning.enabled"),
    ("locked", "learning.locked"),
    ("flood", "flooding.unknown_unicast"),
    ("mcast_flood", "flooding.multicast"),
    ("bcast_flood", "flooding.broadcast"),
    ("hairpin", "flooding.hairpin"),
];
/// Words of bridge(8) for what is no setting here, with what is.
const ELSEWHERE: [(&str, &str); 6] = [
    ("state", "`vswitchctl set port NAME --up` and `--down`"),
    ("cost", "nothing here: these verbs set no spanning tree"),
    ("priority", "nothing here: these verbs set no spanning tree"),
    ("guard", "`vswitchctl set switch NAME --loop-guard on`"),
    ("root_block", "`vswitchctl set switch NAME --loop-guard on`"),
    ("self", "nothing here: a port has no table of its own"),
];
const THERE: &str = "dev, learning, locked, flood, mcast_flood, bcast_flood, hairpin, isolated";

impl Session {
    pub(super) async fn bridge_link(&self, args: LinkArgs) -> Result<(), Failure> {
        match args.command {
            None => self.show_links(&Words::default()).await,
            Some(LinkVerb::Show(words)) => self.show_links(&words).await,
            Some(LinkVerb::Set(words)) => self.set_link(&words).await,
            Some(LinkVerb::Other(words)) => Err(no_verb("link", &words, "show and set")),
        }
    }

    async fn show_links(&self, words: &Words) -> Result<(), Failure> {
        let (mut only, mut of): (Option<PortName>, Option<SwitchName>) = (None, None);
        let mut reader = Reader::new("bridge link show", &words.words);
        while let Some(word) = reader.next() {
            match word {
                "dev" => only = Some(reader.parsed(word)?),
                "master" => of = Some(reader.parsed(word)?),
                other => return Err(reader.unknown(other, "dev and master")),
            }
        }
        let ports = self.ports().await?;
        if let Some(name) = &only {
            find(&ports, name)?;
        }
        // Places in the list of all, so that a port has the same number however it is looked for.
        let numbered = (1..).zip(&ports);
        // The host's leg is the bridge itself there.
        let shown: Vec<_> = numbered
            .filter(|(_, view)| !is_local(&view.port))
            .filter(|(_, view)| only.as_ref().is_none_or(|name| *name == view.port.name))
            .filter(|(_, view)| of.as_ref().is_none_or(|name| *name == view.port.switch))
            .collect();
        let views: Vec<_> = shown.iter().map(|(_, view)| view).collect();
        self.out.show(&views, |_| {
            shown.iter().map(|(number, view)| line(*number, view)).collect()
        })
    }

    async fn set_link(&self, args: &ChangeWords) -> Result<(), Failure> {
        let (name, patch) = patch(&args.words)?;
        let dry_run = args.trial.dry_run;
        let path = with_options(&format!("/v1/ports/{name}"), trial(dry_run))?;
        let changes: Changes = self.client.send(Method::PATCH, &path, Some(&patch)).await?;
        self.quietly(&changes, dry_run)
    }
}

/// The port and what its settings are to be.
fn patch(words: &[crate::cli::bridge::Word]) -> Result<(PortName, MergePatch), Failure> {
    let mut reader = Reader::new("bridge link set", words);
    let (mut name, mut patch) = (None, MergePatch::default());
    while let Some(word) = reader.next() {
        if word == "dev" {
            name = Some(reader.parsed(word)?);
            continue;
        }
        if word == "master" {
            continue;
        }
        if let Some((_, here)) = ELSEWHERE.iter().find(|(there, _)| *there == word) {
            return Err(reader.wrong(format!("{word} is {here}")));
        }
        let setting = SETTINGS.iter().find(|(there, _)| *there == word);
        if setting.is_none() && word != "isolated" {
            return Err(reader.unknown(word, THERE));
        }
        let on = match reader.value(word)? {
            "on" => true,
            "off" => false,
            other => return Err(reader.wrong(format!("{word} is on or off, not {other:?}"))),
        };
        patch = match (setting, on) {
            (Some((_, key)), on) => patch.with(key, on),
            (None, true) => patch.with("isolation", value(Isolation::Isolated)),
            (None, false) => patch.with("isolation", value(Isolation::Promiscuous)),
        };
    }
    let name = name.ok_or_else(|| reader.wrong("no port is named; say dev NAME"))?;
    Ok((name, patch))
}

/// A port as `bridge link` shows it, without what is of a spanning tree.
fn line(number: usize, view: &PortView) -> String {
    let (flags, state) = match view.state {
        PortState::Up => ("BROADCAST,MULTICAST,UP,LOWER_UP", "forwarding"),
        PortState::NoCarrier | PortState::Attaching => ("NO-CARRIER,BROADCAST,MULTICAST,UP", "disabled"),
        PortState::Shut => ("BROADCAST,MULTICAST,UP,LOWER_UP", "blocking"),
        _ => ("BROADCAST,MULTICAST", "disabled"),
    };
    let port = &view.port;
    let mut text = format!("{number}: {}: <{flags}>", port.name);
    if let Some(mtu) = port.mtu {
        let _ = write!(text, " mtu {mtu}");
    }
    let _ = writeln!(text, " master {} state {state} ", port.switch);
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::bridge::Word;

    fn patch_of(line: &str) -> Result<String, String> {
        let words: Vec<_> = line.split(' ').map(|word| Word(word.to_owned())).collect();
        match patch(&words) {
            Ok((name, patch)) => Ok(format!("{name} {}", serde_json::to_string(&patch).unwrap())),
            Err(Failure::Error { error, .. }) => Err(error.to_string()),
            Err(other) => panic!("{other:?}"),
        }
    }

    #[test]
    fn words_are_settings() {
        for (line, said) in [
            ("dev p learning off", r#"p {"learning":{"enabled":false}}"#),
            (
                "dev p isolated on hairpin on",
                r#"p {"flooding":{"hairpin":true},"isolation":"isolated"}"#,
            ),
            ("flood off dev p master", r#"p {"flooding":{"unknown_unicast":false}}"#),
        ] {
            let value = |text: &str| {
                let (name, json) = text.split_once(' ').unwrap();
                (
                    name.to_owned(),
                    serde_json::from_str::<serde_json::Value>(json).unwrap(),
                )
            };
            assert_eq!(value(&patch_of(line).unwrap()), value(said), "{line}");
        }
        for (line, part) in [
            ("dev p frob on", "frob"),
            ("dev p learning maybe", "maybe"),
            ("dev p learning", "needs a value"),
            ("learning off", "dev NAME"),
            ("dev p state 3", "--down"),
        ] {
            let error = patch_of(line).expect_err(line);
            assert!(error.contains(part), "{line}: {error}");
        }
    }
}
