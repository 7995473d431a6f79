//! What a lab has several of, each by a name of its own, and the one way to find, change, add and remove one of them.

use std::collections::BTreeSet;

use serde::Serialize;
use serde::de::DeserializeOwned;
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
}

macro_rules! named {
    ($type:ident, $name:ident, $all:ident, $none:path) => {
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
        }
    };
}

named!(Port, PortName, ports, text::no_port);
named!(Switch, SwitchName, switches, text::no_switch);
named!(Mirror, MirrorName, mirrors, text::no_mirror);
named!(Command, CommandName, commands, text::no_command);

/// The one of this name.
pub(super) fn find<'a, T: Named>(lab: &'a mut Lab, name: &T::Name) -> Result<&'a mut T, ApiError> {
    let found = T::all(lab).iter_mut().find(|one| one.name() == name);
    found.ok_or_else(|| T::none(name))
}

/// Adds one, unless there is one of its name. `spelt_out` makes the one that is there and the new one compare as they are meant.
pub(super) fn add<T: Named>(
    lab: &mut Lab,
    new: T,
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
            let (old, new) = spelt_out(old, &new);
            let subject = T::subject(old.name());
            if options.if_absent {
                return Err(is_there(subject.name()));
            }
            already(subject.name(), &old, &new, options.idempotent, &to_change(subject))
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

/// The object is there: fine if all that is said of it holds and that is allowed, else a conflict that names the differences. What is not
/// said may be as it is.
pub(super) fn already<T: Serialize>(
    object: String,
    old: &T,
    new: &T,
    idempotent: bool,
    to_change: &str,
) -> Result<(), ApiError> {
    if !idempotent {
        return Err(text::conflict(object, "there is one of this name already")
            .hint("choose another name, remove it first, or add --if-not-exists"));
    }
    let different = vswitch_api::difference::difference(old, new);
    let said = different.iter().filter(|change| change.after.is_some());
    let keys: BTreeSet<_> = said.filter_map(|change| change.key.split('.').next()).collect();
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
