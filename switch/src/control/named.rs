//! What a lab has several of, each by a name of its own, and the one way to find, change, add and remove one of them.

use std::collections::BTreeSet;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use vswitch_api::difference::{SettingChange, difference};
use vswitch_api::patch::MergePatch;
use vswitch_api::request::PortPatch;
use vswitch_api::view::Changes;
use vswitch_api::{ApiError, Command, CommandName, Lab, Mirror, MirrorName, Port, PortName, Switch, SwitchName};

use super::condition::{Editing, Subject, is_there};
use super::{Control, text};

/// One of several.
pub(super) trait Named: Serialize + DeserializeOwned {
    /// Its name.
    type Name: PartialEq;

    fn name(&self) -> &Self::Name;
    fn all(lab: &mut Lab) -> &mut Vec<Self>;
    /// What an edit of it is about.
    fn subject(name: &Self::Name) -> Subject<'_>;
    /// There is none of this name.
    fn none(name: &Self::Name) -> ApiError;
    /// It with what is said.
    fn with(&self, said: MergePatch) -> Result<Self, String>;
}

macro_rules! named {
    ($type:ident, $name:ident, $all:ident, $none:path, $with:expr) => {
        impl Named for $type {
            type Name = $name;

            fn name(&self) -> &$name {
                &self.name
            }
            fn all(lab: &mut Lab) -> &mut Vec<Self> {
                &mut lab.$all
            }
            fn subject(name: &$name) -> Subject<'_> {
                Subject::$type(name)
            }
            fn none(name: &$name) -> ApiError {
                $none(name)
            }
            fn with(&self, said: MergePatch) -> Result<Self, String> {
                let with: fn(&Self, MergePatch) -> Result<Self, String> = $with;
                with(self, said)
            }
        }
    };
}

named!(Port, PortName, ports, text::no_port, |one, said| PortPatch(said)
    .apply(one));
named!(Switch, SwitchName, switches, text::no_switch, |one, said| said
    .apply(one, &[]));
named!(Mirror, MirrorName, mirrors, text::no_mirror, |one, said| said
    .apply(one, &[]));
named!(Command, CommandName, commands, text::no_command, |one, said| said
    .apply(one, &[]));

/// The one of this name.
pub(super) fn find<'a, T: Named>(lab: &'a mut Lab, name: &T::Name) -> Result<&'a mut T, ApiError> {
    let found = T::all(lab).iter_mut().find(|one| one.name() == name);
    found.ok_or_else(|| T::none(name))
}

/// Adds one, unless there is one of its name; `said`: what is said of it, where that is known apart. `spelt_out` makes the one that is there
/// and what it is to be compare as they are meant.
pub(super) fn add<T: Named>(
    lab: &mut Lab,
    new: T,
    said: Option<Value>,
    options: &Editing,
    spelt_out: impl Fn(&T, &T) -> (T, T),
) -> Result<(), ApiError> {
    let all = T::all(lab);
    match all.iter().find(|old| old.name() == new.name()) {
        None => {
            all.push(new);
            Ok(())
        }
        Some(old) => {
            let subject = T::subject(old.name());
            if options.if_absent {
                return Err(is_there(subject.name()));
            }
            if !options.idempotent {
                return Err(there_is_one(subject.name()));
            }
            let said = said.map_or_else(|| serde_json::to_value(&new), Ok);
            let asked = said.and_then(serde_json::from_value).map_err(|error| error.to_string());
            let asked = asked.and_then(|said| old.with(said));
            let asked = asked.map_err(|cause| text::invalid(subject.name(), cause))?;
            let (old, asked) = spelt_out(old, &asked);
            refuse_others(subject.name(), &difference(&old, &asked), &to_change(subject))
        }
    }
}

/// Makes the one of this name what `apply` makes of it, which may be all but its name.
pub(super) fn patched<T: Named>(
    lab: &mut Lab,
    name: &T::Name,
    apply: impl FnOnce(&T) -> Result<T, String>,
) -> Result<(), ApiError> {
    let object = || T::subject(name).name();
    let one = find(lab, name)?;
    *one = apply(one).map_err(|cause| text::invalid(object(), cause))?;
    if one.name() == name {
        return Ok(());
    }
    Err(text::invalid(object(), "it can't be renamed").hint("add one of the other name and remove this one"))
}

/// Removes the one of this name.
pub(super) fn remove<T: Named>(lab: &mut Lab, name: &T::Name, options: &Editing) -> Result<(), ApiError> {
    let all = T::all(lab);
    let count = all.len();
    all.retain(|one| one.name() != name);
    if all.len() == count && !options.idempotent {
        return Err(T::none(name));
    }
    Ok(())
}

impl Control {
    /// Makes one of them what `change` makes of it.
    pub(super) async fn edit_one<T: Named>(
        &self,
        name: &T::Name,
        options: impl Into<Editing>,
        change: impl FnOnce(&mut T, &Editing) -> Result<(), ApiError>,
    ) -> Result<Changes, ApiError> {
        let options = options.into();
        let how = options.clone();
        self.edit(T::subject(name), options, |_, lab| change(find(lab, name)?, &how))
            .await
    }

    /// Takes something from one of them. With `--if-exists` one that is not there has nothing to be taken.
    pub(super) async fn take_from_one<T: Named>(
        &self,
        name: &T::Name,
        options: impl Into<Editing>,
        change: impl FnOnce(&mut T, &Editing) -> Result<(), ApiError>,
    ) -> Result<Changes, ApiError> {
        let options = options.into();
        let how = options.clone();
        self.edit(T::subject(name), options, |_, lab| match find(lab, name) {
            Err(_) if how.idempotent => Ok(()),
            found => change(found?, &how),
        })
        .await
    }

    /// The same by a patch, which may change all of it but its name.
    pub(super) async fn patch_one<T: Named>(
        &self,
        name: &T::Name,
        options: impl Into<Editing>,
        apply: impl FnOnce(&T) -> Result<T, String>,
    ) -> Result<Changes, ApiError> {
        self.edit(T::subject(name), options, |_, lab| patched(lab, name, apply))
            .await
    }
}

fn there_is_one(object: String) -> ApiError {
    text::conflict(object, "there is one of this name already")
        .hint("choose another name, remove it first, or add --if-not-exists")
}

/// The object is there: fine if all that is said of it holds, else a conflict that names the differences. What `new` does not say may be as
/// it is.
pub(super) fn already<T: Serialize>(object: String, old: &T, new: &T, to_change: &str) -> Result<(), ApiError> {
    let mut different = difference(old, new);
    different.retain(|change| change.after.is_some());
    refuse_others(object, &different, to_change)
}

fn refuse_others(object: String, different: &[SettingChange], to_change: &str) -> Result<(), ApiError> {
    let keys: BTreeSet<_> = different
        .iter()
        .filter_map(|change| change.key.split('.').next())
        .collect();
    if keys.is_empty() {
        return Ok(());
    }
    let keys = Vec::from_iter(keys).join(", ");
    Err(text::conflict(object, format!("it is there already, with other {keys}")).hint(to_change))
}

/// How something that is there gets other settings.
fn to_change(subject: Subject<'_>) -> String {
    let set = match subject {
        Subject::Port(name) => format!("set port {name}"),
        Subject::Switch(name) => format!("set switch {name}"),
        Subject::Mirror(name) => format!("set mirror {name}"),
        // What runs can't be given other settings.
        Subject::Command(name) => return format!("remove it first: vswitchctl command del {name}"),
        _ => "set".to_owned(),
    };
    format!("change it with `vswitchctl {set}`, or remove it first")
}
