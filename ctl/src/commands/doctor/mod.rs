//! `doctor`: what is wrong, with what shows it and what mends it.
//!
//! Between two ports [`collect`] takes one [`picture`] of what the daemon says, what [`inside`] the namespaces says, and how
//! packets go on their [`walk`] from hop to hop. The list of [`checks`] then looks at nothing but that picture, in the order in
//! which a person would, and the first that finds something is told. Without ports it is the [`installation`].

mod checks;
mod collect;
mod filters;
mod frames;
mod inside;
mod installation;
pub(super) mod mounts;
mod picture;
mod routes;
#[cfg(test)]
mod samples;
mod walk;

use serde::Serialize;
use vswitch_api::PortName;

use self::picture::Hop;
pub(super) use self::picture::joined;
use super::Session;
use crate::cli::doctor::{DoctorArgs, WAIT};
use crate::failure::Failure;
use crate::output::doctor;

/// Exit code where something is wrong.
const EXIT_WRONG: u8 = 1;

/// Something that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The check that found it, in a word.
    pub check: &'static str,
    /// What is wrong.
    pub cause: String,
    /// What shows it.
    pub evidence: String,
    /// The command that mends it, where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mend: Option<String>,
}

impl Finding {
    /// Something that is wrong, by what it is seen.
    pub fn new(cause: impl Into<String>, evidence: impl Into<String>) -> Self {
        Self {
            check: "",
            cause: cause.into(),
            evidence: evidence.into(),
            mend: None,
        }
    }

    /// The same with the command that mends it.
    #[must_use]
    pub fn mend(mut self, command: impl Into<String>) -> Self {
        self.mend = Some(command.into());
        self
    }
}

/// What `doctor A B` says.
#[derive(Debug, Serialize)]
pub struct WayReport {
    /// The port that sends.
    pub from: PortName,
    /// The port that is to be reached.
    pub to: PortName,
    /// Nothing is wrong.
    pub ok: bool,
    /// IP versions in which pings are answered both ways.
    pub reached: Vec<&'static str>,
    /// The first thing that is wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub finding: Option<Finding>,
    /// What can't be looked into.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub out_of_sight: Vec<PortName>,
}

/// A line of what `doctor` says.
#[derive(Debug, Serialize)]
pub struct Item {
    /// What was looked at.
    pub what: &'static str,
    /// Nothing is wrong with it.
    pub ok: bool,
    /// What was found.
    pub detail: String,
    /// The command that mends it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mend: Option<String>,
}

impl Session {
    pub(super) async fn doctor(&self, args: DoctorArgs) -> Result<(), Failure> {
        let is_well = match (args.from, args.to) {
            (Some(from), Some(to)) => self.doctor_way(from, to, args.wait).await?,
            _ => {
                let (items, unreachable) = self.installation().await;
                self.out.show(&items, |style| doctor::items(style, &items))?;
                if unreachable {
                    return Err(Failure::Reported(crate::failure::EXIT_UNREACHABLE));
                }
                items.iter().all(|item| item.ok)
            }
        };
        match is_well {
            true => Ok(()),
            false => Err(Failure::Reported(EXIT_WRONG)),
        }
    }

    async fn doctor_way(&self, from: PortName, to: PortName, wait: u32) -> Result<bool, Failure> {
        if from == to {
            let cause = "it is both ends of the way";
            let hint = "name two ports: `vswitchctl doctor red blue`";
            return Err(Failure::usage(format!("port \"{from}\""), cause, hint));
        }
        let report = self.way(&from, &to, wait).await?;
        self.out.show(&report, |style| doctor::way(style, &report))?;
        Ok(report.ok)
    }

    /// What is wrong on the way from a port to another. `wait`: how long pings wait, in seconds.
    pub(super) async fn way(&self, from: &PortName, to: &PortName, wait: u32) -> Result<WayReport, Failure> {
        let mut picture = self.picture(from, to, wait).await?;
        let mut finding = checks::first(&picture);
        if finding.as_ref().is_some_and(|finding| finding.check == checks::PING) {
            // On a busy machine, or where something was mended just now, neighbours may not have found each other yet.
            picture = self.picture(from, to, wait).await?;
            finding = checks::first(&picture);
        }
        Ok(WayReport {
            ok: finding.is_none(),
            reached: picture.reached(),
            out_of_sight: picture.out_of_sight(),
            finding,
            from: from.clone(),
            to: to.clone(),
        })
    }

    /// By which way a port reaches one that it is not to reach; none: it does not.
    pub(super) async fn passage(&self, from: &PortName, to: &PortName) -> Result<Option<Finding>, Failure> {
        let picture = self.picture(from, to, WAIT).await?;
        let Some(talk) = picture.talks.iter().find(|talk| talk.answered[0]) else {
            return Ok(None);
        };
        let hop = |hop: &Hop| format!("port {} hands it to port {} ({})", hop.from, hop.to, hop.next_hop);
        let hops: Vec<_> = talk.walks[0].hops.iter().map(hop).collect();
        let way = match hops.is_empty() {
            true => "their stacks are the same".to_owned(),
            false => hops.join(", "),
        };
        let cause = "no VLAN, isolation, access list or route keeps them apart";
        Ok(Some(Finding::new(cause, way)))
    }
}
