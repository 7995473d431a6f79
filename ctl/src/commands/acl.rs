//! Access control lists.

use std::path::Path;

use serde::Serialize;
use vswitch_api::acl::{ACL_MAX, AclRule, PortAcl};
use vswitch_api::patch::MergePatch;
use vswitch_api::request::{AclAdd, AclList, AclSelect, ChangeOptions};
use vswitch_api::view::PortAclView;
use vswitch_api::{PortName, SwitchName};
use vswitch_client::{Method, with_query};

use super::patch::value;
use super::{Session, text};
use crate::cli::acl::{AclCommand, Direction, SetAcl};
use crate::failure::Failure;
use crate::output::ports;

/// A port in the list of those that have lists.
#[derive(Serialize)]
struct PortLists<'a> {
    port: &'a PortName,
    switch: &'a SwitchName,
    #[serde(flatten)]
    acl: &'a PortAcl,
}

impl Session {
    pub(super) async fn acl(&self, command: AclCommand) -> Result<(), Failure> {
        match command {
            AclCommand::List(of) => {
                let mut views = self.ports_of(&of).await?;
                views.retain(|view| view.port.acl != PortAcl::default());
                let lists: Vec<_> = views
                    .iter()
                    .map(|view| PortLists {
                        port: &view.port.name,
                        switch: &view.port.switch,
                        acl: &view.port.acl,
                    })
                    .collect();
                self.out.show(&lists, |style| ports::acls(style, &views))
            }
            AclCommand::Show { port } => {
                let view: PortAclView = self.client.get(&acl(&port)).await?;
                self.out.show(&view, |style| ports::acl(style, &view))
            }
            AclCommand::Set(args) => {
                let trial = args.trial;
                let (port, ingress, egress) = rules(args)?;
                let mut patch = MergePatch::default();
                for (path, rules) in [("acl.in", ingress), ("acl.out", egress)] {
                    if let Some(rules) = rules {
                        patch = patch.with(path, value(rules));
                    }
                }
                self.patch_port(&port, patch, trial).await
            }
            AclCommand::Add {
                port,
                direction,
                at,
                rule,
                addition,
            } => {
                let rule: AclRule = rule.join(" ").parse().map_err(|error| {
                    Failure::usage(
                        format!("port {port:?}"),
                        format!("{error}"),
                        "see `vswitchctl acl --help`",
                    )
                })?;
                let direction = direction.into();
                let body = AclAdd { direction, at, rule };
                self.change(Method::POST, &acl(&port), addition.into(), Some(&body))
                    .await
            }
            AclCommand::Del {
                port,
                direction,
                at,
                removal,
            } => {
                self.remove_rules(&port, Some(direction), Some(at), removal.into())
                    .await
            }
            AclCommand::Clear { port, direction, trial } => {
                self.remove_rules(&port, direction, None, trial.into()).await
            }
        }
    }

    async fn remove_rules(
        &self,
        port: &PortName,
        direction: Option<Direction>,
        at: Option<usize>,
        options: ChangeOptions,
    ) -> Result<(), Failure> {
        let direction = direction.map(Into::into);
        let path = with_query(&acl(port), &AclSelect { direction, at })?;
        self.remove(&path, options).await
    }
}

fn acl(port: &PortName) -> String {
    format!("/v1/ports/{port}/acl")
}

impl From<Direction> for AclList {
    fn from(direction: Direction) -> Self {
        match direction {
            Direction::In => Self::In,
            Direction::Out => Self::Out,
        }
    }
}

type Rules = (PortName, Option<Vec<AclRule>>, Option<Vec<AclRule>>);

fn rules(args: SetAcl) -> Result<Rules, Failure> {
    let from = |rules: Option<Vec<AclRule>>, file: Option<&Path>| match file {
        Some(file) => read(file).map(Some),
        None => Ok(rules),
    };
    let files = [args.in_file.as_deref(), args.out_file.as_deref()];
    if files.into_iter().flatten().filter(|file| text::is_stdin(file)).count() > 1 {
        return Err(Failure::usage(
            "--in-file and --out-file",
            "both are standard input, which can be read once",
            "give a file for one of them; nothing was changed",
        ));
    }
    let ingress = from(args.ingress, args.in_file.as_deref())?;
    let egress = from(args.egress, args.out_file.as_deref())?;
    Ok((args.port, ingress, egress))
}

/// A rule a line; what follows a # is a comment.
fn read(file: &Path) -> Result<Vec<AclRule>, Failure> {
    let object = match text::is_stdin(file) {
        true => text::called(file),
        false => format!("file {}", file.display()),
    };
    let text = text::read(file).map_err(|error| {
        Failure::usage(
            object.clone(),
            format!("read the rules: {error}"),
            "give a file with a rule a line",
        )
    })?;
    let lines = (1..).zip(
        text.lines()
            .map(|line| line.split('#').next().unwrap_or_default().trim()),
    );
    let rule = |(number, line): (u32, &str)| {
        line.parse().map_err(|error| {
            Failure::usage(
                object.clone(),
                format!("line {number}: {error}"),
                "see `vswitchctl acl --help`",
            )
        })
    };
    let rules: Vec<_> = lines
        .filter(|(_, line)| !line.is_empty())
        .map(rule)
        .collect::<Result<_, _>>()?;
    if rules.len() > ACL_MAX {
        let cause = format!("it has {} rules; a list has at most {ACL_MAX}", rules.len());
        return Err(Failure::usage(
            object,
            cause,
            "leave out rules, or put several into one by prefixes; nothing was changed",
        ));
    }
    Ok(rules)
}
