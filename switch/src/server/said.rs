//! What a body says of the things that are to be added. A value that is the default anyway is said as any other, and `null` says that the
//! default holds, as in a patch.

use std::sync::{Arc, Mutex, PoisonError};

use serde::de::DeserializeOwned;
use serde_json::Value;
use vswitch_api::patch::MergePatch;
use vswitch_api::strict::{self, PathError};

/// Of each thing what is said, in the order of the body. All clones are one.
#[derive(Clone, Debug)]
pub(super) struct Said {
    /// Whether somebody asks for it.
    kept: bool,
    things: Arc<Mutex<Vec<Value>>>,
}

impl Said {
    pub fn new(kept: bool) -> Self {
        Self {
            kept,
            things: Arc::default(),
        }
    }

    /// Reads a body.
    ///
    /// # Errors
    /// It is not of a `T`.
    pub fn read<T: DeserializeOwned>(&self, body: &[u8]) -> Result<T, PathError<serde_json::Error>> {
        if !self.kept && !body.windows(4).any(|word| word == b"null") {
            return strict::from_json(body);
        }
        // By this type, as it refuses what is said twice.
        let Ok(said) = serde_json::from_slice::<MergePatch>(body).and_then(serde_json::to_value) else {
            return strict::from_json(body);
        };
        let mut without_nulls = said.clone();
        let read = match drop_nulls(&mut without_nulls) {
            true => strict::from_value(without_nulls),
            false => strict::from_json(body),
        };
        if self.kept {
            // What has a name is one thing, such as a mirror of several ports.
            let things = match (said.get("ports"), said.get("name")) {
                (Some(Value::Array(ports)), None) => ports.clone(),
                _ => vec![said],
            };
            *self.things.lock().unwrap_or_else(PoisonError::into_inner) = things;
        }
        read
    }

    /// What was read.
    pub fn take(&self) -> Vec<Value> {
        std::mem::take(&mut *self.things.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Takes members that are null out of all objects, and says whether there were any.
fn drop_nulls(value: &mut Value) -> bool {
    match value {
        Value::Object(members) => {
            let count = members.len();
            members.retain(|_, value| !value.is_null());
            let mut dropped = members.len() < count;
            for value in members.values_mut() {
                dropped |= drop_nulls(value);
            }
            dropped
        }
        Value::Array(elements) => elements
            .iter_mut()
            .fold(false, |dropped, value| drop_nulls(value) | dropped),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use vswitch_api::request::PortsAdd;
    use vswitch_api::{Mirror, Port};

    #[test]
    fn null_is_the_default_and_what_is_said_is_kept() {
        let said = Said::new(true);
        let body = r#"{"name":"red","vlan":null,"learning":{"limit":null},"up":true}"#;
        let port: Port = said.read(body.as_bytes()).unwrap();
        assert_eq!(port, serde_json::from_value(json!({"name": "red"})).unwrap());
        assert_eq!(
            said.take(),
            [json!({"name": "red", "vlan": null, "learning": {"limit": null}, "up": true})]
        );
        let several: PortsAdd = said
            .read(br#"{"ports":[{"name":"a"},{"name":"b","mtu":null}]}"#)
            .unwrap();
        assert_eq!(several.ports.len(), 2);
        assert_eq!(said.take(), [json!({"name": "a"}), json!({"name": "b", "mtu": null})]);
        let body = r#"{"name":"m","ports":["red"],"to":"mon"}"#;
        said.read::<Mirror>(body.as_bytes()).unwrap();
        assert_eq!(said.take(), [json!({"name": "m", "ports": ["red"], "to": "mon"})]);
    }

    #[test]
    fn what_is_no_port_is_none() {
        for body in [
            r#"{"name":null}"#,
            r#"{"name":"a","name":null,"name":"b"}"#,
            r#"{"name":"a","vlan":"x"}"#,
            r#"{"name":"a","nosuch":null,"vlan":"x"}"#,
            "[null]",
            "null",
            "{",
        ] {
            assert!(Said::new(false).read::<Port>(body.as_bytes()).is_err(), "{body}");
        }
    }
}
