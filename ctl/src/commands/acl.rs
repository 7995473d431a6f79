//! Access control lists.

use std::path::Path;

use vswitch_api::PortName;
use vswitch_api::acl::{AclRule, PortAcl};
use vswitch_api::request::PortPatch;
use vswitch_api::view::PortAclView;

use super::Session;
use crate::cli::acl::{AclCommand, Direction, SetAcl};
use crate::failure::Failure;
use crate::output::ports;

impl Session {
    pub(super) async fn acl(&self, command: AclCommand) -> Result<(), Failure> {
        match command {
            AclCommand::Show { port } => {
                let view: PortAclView = self.client.get(&format!("/v1/ports/{port}/acl")).await?;
                self.out.show(&view, |style| ports::acl(style, &view))
            }
            AclCommand::Set(args) => {
                let (port, ingress, egress) = rules(args)?;
                self.edit_acl(&port, |acl| {
                    acl.ingress = ingress.unwrap_or(std::mem::take(&mut acl.ingress));
                    acl.egress = egress.unwrap_or(std::mem::take(&mut acl.egress));
                    Ok(())
                })
                .await
            }
            AclCommand::Add {
                port,
                direction,
                at,
                rule,
            } => {
                let rule: AclRule = rule.join(" ").parse().map_err(|error| {
                    Failure::usage(
                        format!("port {port:?}"),
                        format!("{error}"),
                        "see `vswitchctl acl --help`",
                    )
                })?;
                self.edit_acl(&port, |acl| {
                    let list = list(acl, direction);
                    let at = at.map_or(list.len(), |at| at.saturating_sub(1));
                    if at > list.len() {
                        return Err(no_rule(&port, list.len()));
                    }
                    list.insert(at, rule);
                    Ok(())
                })
                .await
            }
            AclCommand::Del { port, direction, at } => {
                self.edit_acl(&port, |acl| {
                    let list = list(acl, direction);
                    if at == 0 || at > list.len() {
                        return Err(no_rule(&port, list.len()));
                    }
                    list.remove(at - 1);
                    Ok(())
                })
                .await
            }
            AclCommand::Clear { port, direction } => {
                self.edit_acl(&port, |acl| {
                    match direction {
                        Some(direction) => list(acl, direction).clear(),
                        None => *acl = PortAcl::default(),
                    }
                    Ok(())
                })
                .await
            }
        }
    }

    async fn edit_acl(
        &self,
        port: &PortName,
        edit: impl FnOnce(&mut PortAcl) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        self.edit_port(port, |now| {
            let mut acl = now.acl;
            edit(&mut acl)?;
            Ok(PortPatch {
                acl: Some(acl),
                ..PortPatch::default()
            })
        })
        .await
    }
}

fn list(acl: &mut PortAcl, direction: Direction) -> &mut Vec<AclRule> {
    match direction {
        Direction::In => &mut acl.ingress,
        Direction::Out => &mut acl.egress,
    }
}

fn no_rule(port: &PortName, count: usize) -> Failure {
    Failure::usage(
        format!("port {port:?}"),
        format!("the list has {count} rules"),
        format!("`vswitchctl acl show {port}` numbers them"),
    )
}

type Rules = (PortName, Option<Vec<AclRule>>, Option<Vec<AclRule>>);

fn rules(args: SetAcl) -> Result<Rules, Failure> {
    let from = |rules: Option<Vec<AclRule>>, file: Option<&Path>| match file {
        Some(file) => read(file).map(Some),
        None => Ok(rules),
    };
    let ingress = from(args.ingress, args.in_file.as_deref())?;
    let egress = from(args.egress, args.out_file.as_deref())?;
    Ok((args.port, ingress, egress))
}

/// A rule a line; what follows a # is a comment.
fn read(file: &Path) -> Result<Vec<AclRule>, Failure> {
    let object = format!("file {}", file.display());
    let text = std::fs::read_to_string(file).map_err(|error| {
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
    lines.filter(|(_, line)| !line.is_empty()).map(rule).collect()
}
