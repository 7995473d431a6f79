//! Namespaces and cables.

use serde_json::{Map, Value};
use vswitch_api::patch::MergePatch;
use vswitch_api::request::{CableSelect, ChangeOptions, NamespaceAdd};
use vswitch_api::view::{NamespaceSummary, NamespaceView, PortView, Stack};
use vswitch_api::{Cable, CableEnd, CableView, NsName};
use vswitch_client::Method;

use super::patch::with_keys;
use super::ports::route;
use super::{Session, with_query};
use crate::cli::namespace::{CableAdd, CableArgs, CableCommand, CableSet, NsAssignment, NsCommand, NsSet};
use crate::cli::parse::RouteArg;
use crate::failure::Failure;
use crate::output::namespaces;

impl Session {
    pub(super) async fn namespace(&self, command: NsCommand) -> Result<(), Failure> {
        match command {
            NsCommand::Add { name, addition } => {
                self.change(
                    Method::POST,
                    "/v1/namespaces",
                    addition.into(),
                    Some(&NamespaceAdd { name }),
                )
                .await
            }
            NsCommand::Del { name, removal } => self.remove(&format!("/v1/namespaces/{name}"), removal.into()).await,
            NsCommand::Set(NsSet { name, keys, trial }) => {
                let path = format!("/v1/namespaces/{name}");
                let patch = namespace_patch(keys)?;
                self.change(Method::PATCH, &path, trial.into(), Some(&patch)).await
            }
            NsCommand::List => {
                let views: Vec<NamespaceSummary> = self.client.namespaces().await?;
                self.out.show(&views, |style| namespaces::table(style, &views))
            }
            NsCommand::Show { name } => {
                let view: NamespaceView = self.client.get(&format!("/v1/namespaces/{name}")).await?;
                self.out.show(&view, |style| namespaces::page(style, &view))
            }
            NsCommand::Exec {
                entrance,
                name,
                command,
            } => {
                let stack = match entrance {
                    Some(entrance) => Stack::File(entrance),
                    None => self.stack_called(&name).await?,
                };
                Err(super::exec::run(&stack, &command))
            }
        }
    }

    /// A namespace by its name; else, if the daemon answers, that of the port of this name.
    async fn stack_called(&self, name: &NsName) -> Result<Stack, Failure> {
        let named = Stack::Name(name.clone());
        if super::exec::is_named(name) {
            return Ok(named);
        }
        let Ok(view) = self.client.get::<PortView>(&format!("/v1/ports/{name}")).await else {
            return Ok(named);
        };
        match (view.stack(), &view.port.namespace) {
            (Some(stack), _) => Ok(stack),
            (None, Some(_)) => Err(super::reach::out_of_reach(&view)),
            (None, None) => Ok(named),
        }
    }

    pub(super) async fn cable(&self, args: CableArgs) -> Result<(), Failure> {
        match (args.command, args.add) {
            (Some(CableCommand::Add(add)), _) | (None, Some(add)) => self.add_cable(add).await,
            (
                Some(CableCommand::Del {
                    a,
                    b,
                    name_a,
                    name_b,
                    removal,
                }),
                _,
            ) => {
                let select = CableSelect {
                    ifname_a: name_a,
                    ifname_b: name_b,
                };
                let path = with_query(&format!("/v1/cables/{a}/{b}"), &select)?;
                self.remove(&path, removal.into()).await
            }
            (Some(CableCommand::Set(args)), _) => self.set_cable(args).await,
            (Some(CableCommand::List { a, b }), _) => {
                let cables: Vec<CableView> = match (a, b) {
                    // One that is not there is an error.
                    (Some(a), Some(b)) => self.client.get(&format!("/v1/cables/{a}/{b}")).await?,
                    (Some(a), None) => {
                        let mut cables: Vec<CableView> = self.client.cables().await?;
                        cables.retain(|view| view.cable.ends_in(&a));
                        if cables.is_empty() {
                            let _: NamespaceView = self.client.get(&format!("/v1/namespaces/{a}")).await?;
                        }
                        cables
                    }
                    (None, _) => self.client.cables().await?,
                };
                self.out.show(&cables, |style| namespaces::cables(style, &cables))
            }
            (None, None) => Err(Failure::usage(
                "cable",
                "it has two ends",
                "name the namespaces that it joins",
            )),
        }
    }

    pub(super) async fn set_cable(&self, args: CableSet) -> Result<(), Failure> {
        let select = CableSelect {
            ifname_a: args.name_a,
            ifname_b: args.name_b,
        };
        let path = with_query(&format!("/v1/cables/{}/{}", args.a, args.b), &select)?;
        let patch = with_keys(MergePatch::default(), &args.keys)?;
        self.change(Method::PATCH, &path, args.trial.into(), Some(&patch)).await
    }

    async fn add_cable(&self, add: CableAdd) -> Result<(), Failure> {
        let options = ChangeOptions {
            dry_run: add.dry_run,
            idempotent: add.if_not_exists,
            ..ChangeOptions::default()
        };
        let object = format!("cable \"{}\" - \"{}\"", add.a, add.b);
        let routes = |routes: Vec<RouteArg>| -> Result<Vec<_>, Failure> {
            routes
                .into_iter()
                .map(|RouteArg { to, via }| route(&object, to, via))
                .collect()
        };
        let cable = Cable {
            a: CableEnd {
                ifname: add.name_a,
                addresses: add.addr_a,
                routes: routes(add.route_a)?,
                ..CableEnd::new(add.a)
            },
            b: CableEnd {
                ifname: add.name_b,
                addresses: add.addr_b,
                routes: routes(add.route_b)?,
                ..CableEnd::new(add.b)
            },
            mtu: add.mtu,
        };
        self.change(Method::POST, "/v1/cables", options, Some(&cable)).await
    }
}

/// What is said of a namespace. Keys have points in them, which are none of a path.
fn namespace_patch(keys: Vec<NsAssignment>) -> Result<Value, Failure> {
    let mut patch = Map::new();
    for NsAssignment { member, key, value } in keys {
        let members = patch.entry(member).or_insert_with(|| Map::new().into());
        // A shell takes the end of the last line.
        let end = if member == "files" { "\n" } else { "" };
        let value = value.map_or(Value::Null, |text| match text.ends_with('\n') {
            true => text.into(),
            false => (text + end).into(),
        });
        if let Some(members) = members.as_object_mut()
            && members.insert(key.clone(), value).is_some()
        {
            return Err(Failure::usage(
                "command line",
                format!("{key} is said twice"),
                "say each setting once",
            ));
        }
    }
    Ok(patch.into())
}
