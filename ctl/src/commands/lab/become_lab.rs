//! Has what is there become something else: as a plan that is shown and asked about, on the condition that nobody came between, and taken
//! back where the user changes their mind meanwhile.

use std::io::{self, IsTerminal};
use std::pin::pin;

use tokio::signal::ctrl_c;
use vswitch_api::request::{ChangeOptions, LabSelect};
use vswitch_api::view::Changes;
use vswitch_api::{ApiError, ErrorCode, Lab, LabName};
use vswitch_client::{Method, Tag, with_options, with_query};

use super::take_back::left_by;
use super::{confirm, would_remove};
use crate::commands::capture::compile;
use crate::commands::{Session, until_unchanged};
use crate::failure::Failure;
use crate::output::tell;

const LAB: &str = "/v1/lab";
/// What shells give for a command that Ctrl-C ended.
const EXIT_INTERRUPTED: u8 = 130;

/// How it is to be done.
pub(super) struct How {
    /// The command, for messages.
    pub command: &'static str,
    pub dry_run: bool,
    pub force: bool,
    /// What goes needs no question.
    pub yes: bool,
    /// Standard input is free for an answer.
    pub can_ask: bool,
    /// The lab that it is about; none: all that is there.
    pub lab: Option<LabName>,
}

impl How {
    /// Done at once, but that what goes is asked about before, where that can be.
    pub fn new(command: &'static str, lab: Option<LabName>) -> Self {
        Self {
            command,
            dry_run: false,
            force: false,
            yes: false,
            can_ask: false,
            lab,
        }
    }

    fn options(&self) -> ChangeOptions {
        ChangeOptions {
            dry_run: self.dry_run,
            force: self.force,
            ..ChangeOptions::default()
        }
    }
}

impl Session {
    /// `wanted` makes of what is there what is to be there.
    pub(super) async fn become_lab(
        &self,
        how: &How,
        wanted: impl Fn(&Lab) -> Result<Lab, ApiError>,
    ) -> Result<Changes, Failure> {
        until_unchanged(async || {
            let (there, tag): (Lab, _) = self.client.lab_tagged().await?;
            let lab = with_programs(wanted(&there)?)?;
            if how.dry_run {
                return self.put(how, &lab, how.options(), tag.as_ref()).await;
            }
            if !how.yes {
                self.ask_first(how, &lab, tag.as_ref()).await?;
            }
            self.put_or_take_back(how, &there, &lab, tag.as_ref()).await
        })
        .await
    }

    /// This is all that is to be there, whatever there is.
    pub(super) async fn replace_lab(&self, how: &How, lab: Lab) -> Result<Changes, Failure> {
        let lab = with_programs(lab)?;
        if how.dry_run {
            return self.put(how, &lab, how.options(), None).await;
        }
        until_unchanged(async || {
            // One of a newer daemon need not be understood, as all of it goes; but what is not can't be put back.
            let (there, mut tag) = match self.client.lab_tagged().await {
                Ok((there, tag)) => (Some(there), tag),
                Err(_) => (None, self.client.tag(LAB).await?),
            };
            match how.yes {
                true => tag = None,
                false => self.ask_first(how, &lab, tag.as_ref()).await?,
            }
            match there {
                Some(there) => self.put_or_take_back(how, &there, &lab, tag.as_ref()).await,
                None => self.put(how, &lab, how.options(), tag.as_ref()).await,
            }
        })
        .await
    }

    /// Whether what would go may go. What is there when it is removed is what was asked about, by its tag.
    async fn ask_first(&self, how: &How, lab: &Lab, tag: Option<&Tag>) -> Result<(), Failure> {
        let plan = ChangeOptions {
            dry_run: true,
            ..how.options()
        };
        let plan = self.put(how, lab, plan, tag).await?;
        match plan.removed.is_empty() {
            true => Ok(()),
            false if how.can_ask && io::stdin().is_terminal() => confirm(how.command, &plan),
            false => Err(would_remove(how.command, &plan.removed)),
        }
    }

    async fn put(&self, how: &How, lab: &Lab, options: ChangeOptions, tag: Option<&Tag>) -> Result<Changes, Failure> {
        let select = LabSelect { lab: how.lab.clone() };
        let path = with_query(&with_options(LAB, options)?, &select)?;
        Ok(self.client.send_if(Method::PUT, &path, tag, Some(lab)).await?)
    }

    /// The daemon ends a change that it has begun, whoever is gone meanwhile, but does not wait any longer until commands are ready: to
    /// take it back is a second one.
    async fn put_or_take_back(
        &self,
        how: &How,
        before: &Lab,
        lab: &Lab,
        tag: Option<&Tag>,
    ) -> Result<Changes, Failure> {
        {
            let mut put = pin!(self.put(how, lab, how.options(), tag));
            tokio::select! {
                done = put.as_mut() => return done,
                interrupt = ctrl_c() => if let Err(error) = interrupt {
                    tell!("warning: Ctrl-C can't be waited for: {error}");
                    return put.await;
                },
            }
            // From here on the request has no client.
        }
        let command = how.command;
        tell!("vswitchctl: {command}: interrupted; waiting until it is taken back (Ctrl-C again does not wait)");
        let interrupted = |cause: &str, hint: &str| {
            let error = ApiError::new(ErrorCode::Conflict, command, cause);
            Failure::Error {
                error: if hint.is_empty() { error } else { error.hint(hint) },
                exit: EXIT_INTERRUPTED,
            }
        };
        tokio::select! {
            back = self.take_back(how, before, lab) => back?,
            Ok(()) = ctrl_c() => {
                let cause = "interrupted; something of it may be there";
                return Err(interrupted(cause, "`vswitchctl status` tells whether it is under way, `vswitchctl lab list` what is there"));
            }
        }
        Err(interrupted("interrupted; all is as it was before", ""))
    }

    /// When the change under way is over, be it done or undone: makes the lab what it was, but for what others have done meanwhile.
    async fn take_back(&self, how: &How, before: &Lab, wanted: &Lab) -> Result<(), Failure> {
        let back = |dry_run| ChangeOptions {
            dry_run,
            force: true,
            ..ChangeOptions::default()
        };
        // It comes after the change, or what of it needs the lab for itself; what it would do is of no interest.
        let (there, _): (Lab, _) = self.client.lab_tagged().await?;
        let _ = self.put(how, &there, back(true), None).await;
        until_unchanged(async || {
            // The daemon takes it back too if commands are not ready yet.
            let (now, tag): (Lab, _) = self.client.lab_tagged().await?;
            let mut lab = now.clone();
            lab.take_back(before, &left_by(&now, before, wanted, how.lab.as_ref()));
            if lab != now {
                self.put(how, &lab, back(false), tag.as_ref()).await?;
            }
            Ok(())
        })
        .await
    }
}

/// The daemon wants filters as programs.
fn with_programs(mut lab: Lab) -> Result<Lab, Failure> {
    for filter in lab.mirrors.iter_mut().filter_map(|mirror| mirror.filter.as_mut()) {
        if filter.program.is_none() {
            filter.program = Some(compile(&filter.expression)?);
        }
    }
    Ok(lab)
}
