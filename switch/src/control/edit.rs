//! An edit, from the wanted lab to what was done: all that may be refused comes before anything is touched.

use vswitch_api::view::Changes;
use vswitch_api::{ApiError, Lab};

use super::complete::{Interfaces, complete, namespaces_to_name_in};
use super::condition::{Edit, Editing, Subject};
use super::etc::nowhere_to_be_seen;
use super::gateway::{refuse_listened, refuse_no_dns, settle};
use super::overlap::refuse_own_networks;
use super::plan::{Step, plan};
use super::processes::Begun;
use super::published::Held;
use super::rights::refuse_commands;
use super::twins::tell;
use super::validate::{unique_routes, validate};
use super::{Control, Inner};

impl Control {
    /// Makes the lab what `change` makes of it. `subject`: what of the lab it is about, for the condition of the edit.
    pub(super) async fn edit(
        &self,
        subject: Subject<'_>,
        options: impl Into<Editing>,
        change: impl FnOnce(&Inner, &mut Lab) -> Result<(), ApiError>,
    ) -> Result<Changes, ApiError> {
        let options = options.into();
        let mut inner = self.begin_edit().await?;
        let (changes, _) = inner.edit(subject, &options, change).await?;
        self.finish(inner, changes).await
    }
}

impl Held<'_> {
    /// The same for whoever has the model and does something else with it too. Gives what was done, and of a dry run the steps that it
    /// would have been. Whoever may start commands by it comes to his end by [`Control::finish`].
    pub(super) async fn edit(
        &mut self,
        subject: Subject<'_>,
        options: &Editing,
        change: impl FnOnce(&Inner, &mut Lab) -> Result<(), ApiError>,
    ) -> Result<(Changes, Vec<Step>), ApiError> {
        self.store.check_condition(subject, options.if_match.as_deref())?;
        let mut lab = self.store.state.lab.clone();
        change(self, &mut lab)?;
        let of_host = self.addresses_of_host(&self.store.state.lab, &lab).await;
        settle(&mut lab, &self.store.state.lab, &of_host.all())?;
        self.unpublished().find_containers(&lab).await;
        let interfaces = self.interfaces_to_name(&lab).await;
        complete(&mut lab, &self.store.state.lab, self.store.state.salt, &interfaces);
        lab.settle_owners();
        if let Some(why) = &options.no_commands {
            refuse_commands(&self.store.state.lab, &lab, why)?;
        }
        let mut warnings = validate(&self.store.state.lab, &lab, |name| self.namespace_present(name))?;
        self.check_fdbs(&lab)?;
        let going = self.owned_that_go(&lab).await;
        let present = |name: &_| self.namespace_present(name);
        let steps = plan(&self.store.state.lab, &lab, present, |name| going.contains(name));
        self.processes_of(&steps)?;
        warnings.extend(self.refuse_in_use(&steps, options.force).await?);
        let before = &self.store.state.lab;
        warnings.extend(self.refuse_default_routes(before, &lab, options.force).await?);
        // What takes the host's own way is told as that.
        unique_routes(before, &lab)?;
        warnings.extend(refuse_own_networks(before, &lab, &of_host, options.force)?);
        warnings.extend(refuse_listened(before, &lab, options.force)?);
        refuse_no_dns(before, &lab)?;
        self.refuse_leased(before, &lab)?;
        warnings.extend(self.overlaps(before, &lab).await);
        warnings.extend(nowhere_to_be_seen(before, &lab));
        let removed = steps.iter().flat_map(|step| self.takes_away(step)).collect();
        let forwarding = self.describe_forwarding(&steps).await;
        let mut changes = Changes {
            dry_run: options.dry_run,
            removed,
            warnings,
            ..Changes::default()
        };
        if options.dry_run {
            tell(&steps, &mut changes);
            changes.done.extend(forwarding);
            changes.warnings.extend(self.foretell_outside(&steps).await);
            return Ok((changes, steps));
        }
        let edit = Edit::new(&self.store.state.lab, &steps);
        let starts = steps.iter().any(|step| matches!(step, Step::StartCommands(_)));
        let before = starts.then(|| self.store.state.lab.clone());
        let had_files = self.store.state.lab.namespaces.iter().any(|one| !one.files.is_empty());
        // Before commands of the lab look for them.
        self.fit_names(&lab);
        let carried = self.carry_out(steps, lab, changes).await;
        // What was undone, or stood where a name is to be.
        if carried.is_err() || had_files {
            let lab = self.store.state.lab.clone();
            self.fit_names(&lab);
        }
        self.tidy_names();
        self.look_at_leases();
        let (mut changes, processes) = carried?;
        changes.done.extend(forwarding);
        self.edited(edit);
        let before = before.filter(|_| !processes.is_empty());
        self.begun = before.map(|before| Begun {
            processes,
            before,
            after: self.store.state.lab.clone(),
        });
        Ok((changes, Vec::new()))
    }
}

impl Inner {
    /// What goes away by a step for somebody who uses it, a line each.
    fn takes_away(&self, step: &Step) -> Vec<String> {
        match step {
            // One that has ended loses nothing any more.
            Step::StopCommands(commands) => {
                let mut running = commands.clone();
                running.retain(|command| self.processes.runs(command.name.as_str()));
                Step::StopCommands(running).describe()
            }
            step if step.removes() => step.describe(),
            _ => Vec::new(),
        }
    }

    /// Interfaces in the namespaces where a name still has to be chosen.
    async fn interfaces_to_name(&self, lab: &Lab) -> Interfaces {
        let mut interfaces = Interfaces::new();
        for namespace in namespaces_to_name_in(lab) {
            let Some(netns) = self.open_to_look(&namespace) else {
                continue;
            };
            let Ok(nl) = netns.netlink().await else { continue };
            let links = nl.links().await.unwrap_or_default();
            let names = links.into_iter().map(|link| link.name).collect();
            interfaces.insert(namespace, names);
        }
        interfaces
    }
}
