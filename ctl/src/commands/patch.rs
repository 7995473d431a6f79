//! What options say, as merge patches: the daemon makes them part of what is there, so that commands at the same time don't undo
//! each other.

use serde::Serialize;
use serde_json::Value;
use vswitch_api::patch::{MergePatch, in_place};
use vswitch_api::policy::PortVlan;
use vswitch_api::settings::Assignment;

use crate::cli::parse::Switched;
use crate::cli::policy::{FloodClass, Pinned, PolicyArgs};
use crate::failure::Failure;

/// Something of the API as a part of a patch.
pub fn value(part: impl Serialize) -> Value {
    serde_json::to_value(part).unwrap_or_default()
}

/// A patch, or what is to be added, with those of these members of which something is said.
pub fn with_said<'a>(patch: MergePatch, said: impl IntoIterator<Item = (&'a str, Option<Value>)>) -> MergePatch {
    let said = said.into_iter().filter_map(|(name, value)| Some((name, value?)));
    said.fold(patch, |patch, (name, value)| patch.with(name, value))
}

/// What options said, and what is said by keys.
pub fn with_keys(mut patch: MergePatch, keys: &[Assignment]) -> Result<MergePatch, Failure> {
    for Assignment { key, value } in keys {
        let said = patch.also(key, value.clone());
        said.map_err(|cause| {
            Failure::usage(
                "command line",
                cause,
                "say each setting once, by its key or by its option",
            )
        })?;
    }
    Ok(patch)
}

/// What is said of what a port lets in and out; `port_vlan` is its VLAN setting then, if that is said.
pub fn policy(args: &PolicyArgs, port_vlan: Option<&PortVlan>) -> MergePatch {
    let mut patch = MergePatch::default();
    let mut say = |path: &str, value: Option<Value>| {
        if let Some(value) = value {
            patch = std::mem::take(&mut patch).with(path, value);
        }
    };
    let on = |switched: Option<Switched>| switched.map(|switched| value(switched.said()));
    say("learning.enabled", on(args.learning));
    say("learning.sticky", on(args.sticky));
    say("learning.locked", on(args.locked));
    let limit = args
        .mac_limit
        .map(|limit| value(Some(limit).filter(|limit| *limit > 0)));
    say("learning.limit", limit);
    say(
        "learning.beyond",
        args.beyond_limit.map(|beyond| value(beyond.beyond())),
    );
    if let Some(classes) = &args.flood {
        for (path, class) in [
            ("flooding.unknown_unicast", FloodClass::UnknownUnicast),
            ("flooding.multicast", FloodClass::Multicast),
            ("flooding.broadcast", FloodClass::Broadcast),
        ] {
            say(path, Some(FloodClass::has(classes, class).into()));
        }
    }
    say("flooding.hairpin", on(args.hairpin));
    say("pin.mac", args.pin_mac.as_ref().map(pinned));
    let ips = args.pin_ip.clone().map(|pinned| match pinned {
        Pinned::These(list) => Pinned::These(list.into_iter().map(ipnet::IpNet::from).collect()),
        Pinned::Any => Pinned::Any,
        Pinned::Own => Pinned::Own,
    });
    say("pin.ip", ips.as_ref().map(pinned));
    say("pin.allow_ra", on(args.allow_ra));
    say("vlan", port_vlan.map(vlan));
    say("accept", args.accept_frames().map(value));
    say("isolation", args.isolation.map(value));
    patch
}

fn pinned<T: Serialize>(pinned: &Pinned<T>) -> Value {
    match pinned {
        Pinned::Any => Value::Null,
        Pinned::Own => "own".into(),
        Pinned::These(list) => value(list),
    }
}

/// The setting as a whole: a trunk without a native VLAN has none, whatever was there.
pub fn vlan(vlan: &PortVlan) -> Value {
    match vlan {
        PortVlan::Trunk(trunk) => serde_json::json!({ "trunk": in_place(trunk) }),
        vlan => value(vlan),
    }
}
