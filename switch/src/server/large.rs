//! Large bodies: how many of them there are at a time, and how long their lists may be.
//!
//! A body of many short elements is fifty times as large once it is read, and an edit keeps what was read for as long as it waits for
//! its turn. So a body is let in only by a leave that its edit holds to the end, and what no daemon can have is not read at all.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use serde::Deserialize;
use serde::de::{Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use tokio::sync::{Semaphore, SemaphorePermit};
use vswitch_datapath::MAX_PORTS;

/// Largest body of a request, in bytes.
pub(super) const MAX_BODY: usize = 1 << 20;
/// The same of a whole lab: of as many ports as the datapath takes, with 2 KB for each.
pub(super) const MAX_LAB: usize = 2048 * MAX_PORTS;
/// Bodies up to here are not counted: of as many as there may be connections.
const SMALL: usize = 16 << 10;
/// Longer ones at a time, up to [`MAX_BODY`].
static MEDIUM_BODIES: Semaphore = Semaphore::const_new(32);
/// Those above that at a time.
static LARGE_BODIES: Semaphore = Semaphore::const_new(4);

/// Leave to be in memory. All clones are one, and the last of them gives it back.
#[derive(Clone, Debug, Default)]
pub(super) struct Leave(Arc<Mutex<Option<SemaphorePermit<'static>>>>);

impl Leave {
    /// Waits until there is room for a body of that length, which may not be known, up to `limit`.
    pub async fn get(&self, length: Option<u64>, limit: usize) {
        let bodies = match length.map_or(limit as u64, |length| length.min(limit as u64)) {
            length if length <= SMALL as u64 => return,
            length if length <= MAX_BODY as u64 => &MEDIUM_BODIES,
            _ => &LARGE_BODIES,
        };
        // It is never closed.
        let permit = bodies.acquire().await.ok();
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = permit;
    }
}

/// Refuses a document with a list that is longer than any that a daemon can have. What else is wrong with it is told by whoever reads it.
///
/// # Errors
/// The list and how long it may be, for the user.
pub(super) fn check_lists(body: &[u8]) -> Result<(), String> {
    match serde_json::from_slice::<Document>(body) {
        Err(error) if error.is_data() => Err(error.to_string()),
        _ => Ok(()),
    }
}

/// A document of which only the lengths of its lists are looked at.
struct Document;

impl<'de> Deserialize<'de> for Document {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(Look { list: None })?;
        Ok(Self)
    }
}

/// A member of it.
struct Member(String);

impl<'de> serde::de::DeserializeSeed<'de> for Member {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_any(Look { list: Some(self.0) })
    }
}

/// Takes whatever there is.
struct Look {
    /// What a list here is called; none: it is the document itself.
    list: Option<String>,
}

macro_rules! pass {
    ($($method:ident($type:ty))*) => {
        $(fn $method<E: Error>(self, _: $type) -> Result<(), E> {
            Ok(())
        })*
    };
}

impl<'de> Visitor<'de> for Look {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("anything")
    }

    pass! { visit_bool(bool) visit_i64(i64) visit_u64(u64) visit_f64(f64) visit_str(&str) }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<(), A::Error> {
        let mut count = 0;
        while elements.next_element::<IgnoredAny>()?.is_some() {
            count += 1;
            if let Some(list) = self.list.as_ref().filter(|_| count > MAX_PORTS) {
                let cause =
                    format!("{list}: there are more than {MAX_PORTS}, which is the most that a daemon can have");
                return Err(A::Error::custom(cause));
            }
        }
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<(), A::Error> {
        if self.list.is_some() {
            while members.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
            return Ok(());
        }
        while let Some(name) = members.next_key()? {
            members.next_value_seed(Member(name))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_lists_that_are_too_long_are_refused() {
        let lab = |count| {
            format!(
                r#"{{"switches": [], "x": {{"ports": [1]}}, "ports": [{}1]}}"#,
                "1,".repeat(count)
            )
        };
        assert_eq!(check_lists(lab(MAX_PORTS - 1).as_bytes()), Ok(()));
        let refused = check_lists(lab(MAX_PORTS).as_bytes()).unwrap_err();
        assert!(refused.starts_with("ports: there are more than 16384"), "{refused}");
        for other in [
            "",
            "{",
            "[1]",
            "[[",
            "7",
            "null",
            r#"{"a": "b", "c": 1.5, "d": -1}"#,
            r#"{"ports": [1, }"#,
        ] {
            assert_eq!(check_lists(other.as_bytes()), Ok(()), "{other}");
        }
    }

    /// What waits for its turn keeps its place, however many clones are gone.
    #[tokio::test]
    async fn a_leave_is_held_by_whoever_holds_it_last() {
        let before = LARGE_BODIES.available_permits();
        let leave = Leave::default();
        let of_edit = leave.clone();
        leave.get(Some(10), MAX_LAB).await;
        assert_eq!(LARGE_BODIES.available_permits(), before);
        leave.get(None, MAX_LAB).await;
        drop(leave);
        assert_eq!(LARGE_BODIES.available_permits(), before - 1);
        drop(of_edit);
        assert_eq!(LARGE_BODIES.available_permits(), before);
    }
}
