//! The edits of the API: each says how the wanted lab differs from the one that is there.

use std::collections::HashSet;

use serde_json::Value;
use vswitch_api::request::{FreeAddresses, NamespacePatch, PortPatch, PortsAdd, SwitchPatch};
use vswitch_api::view::Changes;
use vswitch_api::{ApiError, Lab, LabName, LabNamespace, NsName, Port, PortName, Route, Switch, SwitchName};

use super::complete::{chosen_mac, main_switch};
use super::condition::{Editing, Subject, is_there};
use super::gateway::{gateways, refuse_removal};
use super::interface::mtu;
use super::kinds::{facts, ifname};
use super::links::refuse_half_a_link;
use super::mirror::leave_mirrors;
use super::named::{add, patched, remove};
use super::plan::namespaces;
use super::repair::{Extent, is_of_inside};
use super::{Control, Inner, choose, text};

impl Control {
    /// Replaces the lab as a whole.
    ///
    /// # Errors
    /// What each edit refuses.
    pub async fn apply(&self, lab: Lab, options: impl Into<Editing>) -> Result<Changes, ApiError> {
        let options = options.into();
        let mut inner = self.begin_edit().await?;
        // What an edit brings it makes itself: only what stays as it is can have drifted.
        let there = inner.store.state.lab.clone();
        let edited = inner.edit(Subject::Lab, &options, |_, wanted| {
            let labs = std::mem::replace(wanted, lab).labs;
            // A document without a word of them takes nothing from its lab.
            if wanted.labs.is_empty() {
                wanted.labs = labs;
                disown_main(wanted);
            }
            Ok(())
        });
        let (mut changes, steps) = edited.await?;
        let part = options.lab.as_ref().map(|name| part_of(&there, name));
        let extent = part.as_ref().map_or(Extent::Lab(&there), Extent::Part);
        if options.dry_run {
            inner.describe_repair(extent, &steps, &mut changes).await?;
        } else {
            inner.repair_after(extent, &mut changes).await?;
        }
        self.finish(inner, changes).await
    }

    /// Removes everything that vswitch made.
    ///
    /// # Errors
    /// The state can't be written. What could not be removed is in the warnings.
    pub async fn reset(&self, options: impl Into<Editing>) -> Result<Changes, ApiError> {
        let options = options.into();
        // It is not held up by an edit that waits until a command is ready.
        let _hurry = (!options.dry_run).then(|| self.inner.hurry());
        self.apply(Lab::default(), options).await
    }

    /// Adds a switch.
    ///
    /// # Errors
    /// Conflict: the name is taken. Invalid: a setting is out of range.
    pub async fn add_switch(&self, switch: Switch, options: impl Into<Editing>) -> Result<Changes, ApiError> {
        let options = options.into();
        let how = options.clone();
        self.edit(Subject::Lab, options, |_, lab| {
            add(lab, switch, how.said.first().cloned(), &how, as_they_are)
        })
        .await
    }

    /// Changes settings of a switch.
    ///
    /// # Errors
    /// NotFound, Invalid.
    pub async fn patch_switch(
        &self,
        name: &SwitchName,
        patch: SwitchPatch,
        options: impl Into<Editing>,
    ) -> Result<Changes, ApiError> {
        self.patch_one(name, options, |switch: &Switch| patch.0.apply(switch, &[]))
            .await
    }

    /// Removes a switch without ports.
    ///
    /// # Errors
    /// NotFound. Conflict: it has ports, or it is the one that is always there.
    pub async fn remove_switch(&self, name: &SwitchName, options: impl Into<Editing>) -> Result<Changes, ApiError> {
        let options = options.into();
        self.edit(Subject::Switch(name), options.clone(), |_, lab| {
            if *name == main_switch() {
                return Err(
                    text::conflict(text::switch(name), "it is the switch that is always there")
                        .hint("`vswitchctl reset` empties it"),
                );
            }
            // It goes with the switch.
            let gateways = gateways(lab);
            let is_on = |port: &&Port| port.switch == *name && !gateways.contains(&port.name);
            let ports: Vec<_> = lab.ports.iter().filter(is_on).collect();
            if !ports.is_empty() {
                let names: Vec<_> = ports.iter().map(|port| port.name.as_str()).collect();
                let cause = format!("it still has ports: {}", names.join(", "));
                return Err(
                    text::conflict(text::switch(name), cause).hint(format!("remove them first: {}", to_remove(&ports)))
                );
            }
            remove::<Switch>(lab, name, &options)
        })
        .await
    }

    /// Adds a port.
    ///
    /// # Errors
    /// What it names is not there, taken or out of range, or the kernel refused a step; then all is as before.
    pub async fn add_port(&self, port: Port, options: impl Into<Editing>) -> Result<Changes, ApiError> {
        let ports = PortsAdd {
            ports: vec![port],
            addresses: FreeAddresses::default(),
        };
        self.add_ports(ports, options).await
    }

    /// Adds ports, all or none of them.
    ///
    /// # Errors
    /// The same; Conflict: a subnet has no free address left, or there is none to choose one of.
    pub async fn add_ports(&self, new: PortsAdd, options: impl Into<Editing>) -> Result<Changes, ApiError> {
        let options = options.into();
        let names: HashSet<_> = new.ports.iter().map(|port| port.name.clone()).collect();
        let mut inner = self.begin_edit().await?;
        let edited = inner.edit(Subject::Lab, &options, |_, lab| {
            for (at, mut port) in new.ports.into_iter().enumerate() {
                let said = options.said.get(at);
                let old = lab.ports.iter().find(|old| old.name == port.name);
                // One that is there need not be told again where it is.
                if let Some(old) = old.filter(|_| said.is_some_and(|said| said.get("switch").is_none())) {
                    port.switch = old.switch.clone();
                }
                choose::give(lab, &mut port, &new.addresses)?;
                let said = said.map(|said| with_chosen(said, &port));
                add(lab, port, said, &options, |old, wanted| {
                    let mut wanted = wanted.clone();
                    // What was left to vswitch then may be left to it again.
                    wanted.mac = wanted.mac.or(old.mac);
                    wanted.mtu = wanted.mtu.or(old.mtu);
                    wanted.namespace = wanted.namespace.or_else(|| old.namespace.clone());
                    wanted.ifname = wanted.ifname.or_else(|| old.ifname.clone());
                    if wanted.auto_addresses && old.auto_addresses {
                        let mut addresses = old.addresses.clone();
                        addresses.extend(wanted.addresses.iter().filter(|a| !old.addresses.contains(a)));
                        let mut routes = old.routes.clone();
                        routes.extend(wanted.routes.iter().filter(|r| !old.routes.contains(r)));
                        (wanted.addresses, wanted.routes) = (addresses, routes);
                    }
                    (spelt_out(old), spelt_out(&wanted))
                })?;
            }
            Ok(())
        });
        let (mut changes, steps) = edited.await?;
        if !options.idempotent {
            return Ok(changes);
        }
        let ports = inner
            .store
            .state
            .lab
            .ports
            .iter()
            .filter(|port| names.contains(&port.name));
        let part = Lab {
            ports: ports.cloned().collect(),
            ..Lab::default()
        };
        if options.dry_run {
            inner.describe_repair(Extent::Part(&part), &steps, &mut changes).await?;
        } else {
            inner.repair_after(Extent::Part(&part), &mut changes).await?;
        }
        Ok(changes)
    }

    /// Changes settings of a port.
    ///
    /// # Errors
    /// NotFound, Invalid; the kernel refused a step.
    pub async fn patch_port(
        &self,
        name: &PortName,
        patch: PortPatch,
        options: impl Into<Editing>,
    ) -> Result<Changes, ApiError> {
        let options = options.into();
        let mut inner = self.begin_edit().await?;
        let opens = patch.sets_up();
        let change = |inner: &Inner, lab: &mut Lab| {
            patched(lab, name, |port: &Port| {
                let mut after = patch.apply(port)?;
                // Without an address an edit leaves the one that is there.
                if patch.0.get("mac").is_some_and(Value::is_null) && port.kind.has_stack() {
                    let now = &inner.store.state;
                    after.mac = Some(chosen_mac(&now.lab, now.salt, port));
                }
                Ok(after)
            })
        };
        let subject = Subject::Port(name);
        let before = inner.store.port(name).cloned();
        let mut changes = if opens {
            inner.edit_and_open(&[name], subject, &options, change).await?
        } else {
            let (mut changes, steps) = inner.edit(subject, &options, change).await?;
            if is_of_inside(&patch) {
                inner.give_back_after(name, &options, &steps, &mut changes).await?;
            }
            changes
        };
        if let Some(before) = before {
            inner.begin_runs_again(&before, &patch, &mut changes);
        }
        Ok(changes)
    }

    /// Removes a port, and the namespace that was made for it.
    ///
    /// # Errors
    /// NotFound. What could not be removed is in the warnings.
    pub async fn remove_port(&self, name: &PortName, options: impl Into<Editing>) -> Result<Changes, ApiError> {
        let options = options.into();
        self.edit(Subject::Port(name), options.clone(), |_, lab| {
            refuse_removal(lab, name)?;
            refuse_half_a_link(lab, name)?;
            leave_mirrors(lab, name);
            remove::<Port>(lab, name, &options)
        })
        .await
    }

    /// Makes a namespace, which stays until it is removed.
    ///
    /// # Errors
    /// Conflict: there is one of that name.
    pub async fn add_namespace(&self, name: NsName, options: impl Into<Editing>) -> Result<Changes, ApiError> {
        let (options, asked_for) = (options.into(), name.clone());
        let mut inner = self.begin_edit().await?;
        let comes = !options.dry_run && !inner.namespace_present(&name);
        if comes {
            // The watcher may not have told yet that it is gone.
            inner.name_lost(name.as_str()).await;
        }
        let edited = inner.edit(Subject::Lab, &options, |inner, lab| {
            let there = inner.namespace_present(&name);
            if options.if_absent && (there || lab.asks_for(&name)) {
                return Err(is_there(text::namespace(&name)));
            }
            if lab.asks_for(&name) {
                // One that somebody else has deleted is made again below.
                return if options.idempotent || !there {
                    Ok(())
                } else {
                    Err(namespace_there(&name))
                };
            }
            if there && !inner.namespace_owned(&name).unwrap_or(false) && !options.idempotent {
                return Err(namespace_there(&name));
            }
            lab.namespaces.push(LabNamespace::new(name));
            Ok(())
        });
        let (mut changes, _) = edited.await?;
        if !options.dry_run && !inner.namespace_present(&asked_for) {
            inner.repair_namespace(asked_for.clone(), &mut changes).await?;
        }
        if comes {
            // Whoever asked finds its ports there.
            inner.name_leads(asked_for.as_str()).await;
        }
        Ok(changes)
    }

    /// Changes settings of a namespace. One that the lab knows by its ports alone is asked for by itself from then on.
    ///
    /// # Errors
    /// NotFound, Invalid; the kernel refused a setting.
    pub async fn patch_namespace(
        &self,
        name: &NsName,
        patch: NamespacePatch,
        options: impl Into<Editing>,
    ) -> Result<Changes, ApiError> {
        self.edit(Subject::Namespace(name), options, |inner, lab| {
            let is_known = namespaces(lab).contains(name) || inner.namespace_present(name);
            let at = lab.namespaces.iter().position(|old| old.name == *name);
            let before = match at {
                Some(at) => lab.namespaces[at].clone(),
                None if is_known => LabNamespace::new(name.clone()),
                None => return Err(text::no_namespace(name)),
            };
            let invalid = |cause: String| text::invalid(text::namespace(name), cause);
            let after = patch.apply(&before).map_err(invalid)?;
            if after.name != *name {
                return Err(invalid("it can't be renamed".to_owned()));
            }
            match at {
                Some(at) => lab.namespaces[at] = after,
                None if after.is_plain() => {}
                None => lab.namespaces.push(after),
            }
            Ok(())
        })
        .await
    }

    /// Removes a namespace that vswitch made and no port or cable is in.
    ///
    /// # Errors
    /// NotFound; Conflict: it is in use, or was made elsewhere.
    pub async fn remove_namespace(&self, name: &NsName, options: impl Into<Editing>) -> Result<Changes, ApiError> {
        let options = options.into();
        self.edit(Subject::Namespace(name), options.clone(), |inner, lab| {
            let users: Vec<_> = lab
                .ports
                .iter()
                .filter(|p| p.is_in(name))
                .map(|p| p.name.as_str())
                .collect();
            if !users.is_empty() {
                let cause = format!("it is in use by ports: {}", users.join(", "));
                return Err(text::conflict(text::namespace(name), cause)
                    .hint(format!("remove them first: vswitchctl del-port {}", users.join(" "))));
            }
            if let Some(cable) = lab
                .cables
                .iter()
                .find(|c| c.a.namespace == *name || c.b.namespace == *name)
            {
                let (a, b) = (&cable.a.namespace, &cable.b.namespace);
                return Err(text::conflict(
                    text::namespace(name),
                    format!("a cable joins it: {}", text::cable(cable)),
                )
                .hint(format!("remove it first: vswitchctl cable del {a} {b}")));
            }
            let commands = lab.commands.iter().filter(|command| command.namespace == *name);
            let commands: Vec<_> = commands.map(|command| command.name.as_str()).collect();
            if !commands.is_empty() {
                let cause = format!("commands run in it: {}", commands.join(", "));
                return Err(text::conflict(text::namespace(name), cause)
                    .hint(format!("end them first: vswitchctl command del {}", commands.join(" "))));
            }
            let count = lab.namespaces.len();
            lab.namespaces.retain(|old| old.name != *name);
            if lab.namespaces.len() < count || options.idempotent {
                return Ok(());
            }
            if inner.namespace_present(name) {
                return Err(text::conflict(
                    text::namespace(name),
                    "vswitch did not make it, so it does not remove it",
                )
                .hint(format!("`ip netns del {name}` does")));
            }
            Err(text::no_namespace(name))
        })
        .await
    }
}

/// The switch that is always there is nobody's while it is as it always is: so a lab that goes leaves it.
fn disown_main(lab: &mut Lab) {
    let main = Switch::new(main_switch());
    let is_another = |switch: &Switch| switch.name == main.name && *switch != main;
    if !lab.switches.iter().any(is_another) {
        for owned in &mut lab.labs {
            owned.switches.retain(|name| *name != main.name);
        }
    }
}

/// What removes these ports, typed one after the other: an end of a link goes with the other end.
fn to_remove(ports: &[&Port]) -> String {
    let (ends, others): (Vec<&Port>, Vec<&Port>) = ports.iter().partition(|port| port.peer.is_some());
    let names: Vec<_> = others.iter().map(|port| port.name.as_str()).collect();
    let others = (!names.is_empty()).then(|| format!("vswitchctl del-port {}", names.join(" ")));
    let ends = ends.iter().map(|port| format!("vswitchctl link del {}", port.name));
    others.into_iter().chain(ends).collect::<Vec<_>>().join("; ")
}

fn namespace_there(name: &NsName) -> ApiError {
    text::conflict(text::namespace(name), "there is a namespace of this name already")
        .hint("ports and cables can use it as it is")
}

/// A port with its defaults written out, so that those given and those left out compare as equal.
fn spelt_out(port: &Port) -> Port {
    let mut port = port.clone();
    port.ifname = Some(ifname(&port));
    if !facts(port.kind).taken_over {
        port.mtu = Some(mtu(&port));
    }
    Route::imply_onlink(&mut port.routes, &port.addresses);
    port
}

/// What is said of a port, with what was chosen for it.
fn with_chosen(said: &Value, port: &Port) -> Value {
    let mut said = said.clone();
    if let Value::Object(said) = &mut said {
        if !port.addresses.is_empty() {
            let addresses = port.addresses.iter().map(|address| address.to_string().into());
            said.insert("addresses".to_owned(), Value::Array(addresses.collect()));
        }
        if port.auto_addresses {
            said.insert("auto_addresses".to_owned(), true.into());
        }
    }
    said
}

/// Nothing is left to be filled in.
pub(super) fn as_they_are<T: Clone>(old: &T, new: &T) -> (T, T) {
    (old.clone(), new.clone())
}

/// What the lab of this name owns, with the gateways of its switches.
fn part_of(lab: &Lab, name: &LabName) -> Lab {
    let Some(owned) = lab.owned_by(name) else {
        return Lab::default();
    };
    let mut part = lab.clone();
    part.switches.retain(|switch| owned.switches.contains(&switch.name));
    let gateways = gateways(&part);
    let ports: HashSet<_> = owned.ports.iter().chain(&gateways).cloned().collect();
    part.ports.retain(|port| ports.contains(&port.name));
    part.namespaces.retain(|one| owned.namespaces.contains(&one.name));
    part.cables
        .retain(|cable| owned.cables.iter().any(|ends| ends.fits(cable)));
    part.commands.retain(|command| owned.commands.contains(&command.name));
    part.mirrors.retain(|mirror| owned.mirrors.contains(&mirror.name));
    part
}

/// Namespaces that a lab names and that are not there.
pub(super) fn absent_namespaces(inner: &Inner) -> Vec<NsName> {
    let needed = namespaces(&inner.store.state.lab);
    needed
        .into_iter()
        .filter(|name| !inner.namespace_present(name))
        .cloned()
        .collect()
}
