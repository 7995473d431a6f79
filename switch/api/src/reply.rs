//! Reading what a daemon says, which may be newer than whoever reads it: what it says beyond what is known here is passed over, where a
//! request or a file with such a thing is refused ([`crate::strict`]).
//!
//! * a key that is not known is left out, at any depth;
//! * a word of a state that is not known is the `Unknown` of its enum, or none where there need not be one;
//! * a kind of ports or a rule that is not known is kept as it is written (`Other`), to be shown and given back so.
//!
//! Any other setting with a word or a text that is not known can't be read: what would be said in its place would not be so.

use std::cell::Cell;

use serde::de::value::StrDeserializer;
use serde::de::{Deserialize, DeserializeOwned, Deserializer, IntoDeserializer};

use crate::strict::{self, PathError, Strict};

thread_local! {
    /// Whether what this thread reads is a reply.
    static IS_REPLY: Cell<bool> = const { Cell::new(false) };
}

/// Reads JSON.
///
/// # Errors
/// The text is no JSON, or not of a `T`.
pub fn from_json<T: DeserializeOwned>(text: &[u8]) -> Result<T, PathError<serde_json::Error>> {
    leniently(|| strict::from_json(text))
}

/// For a member that is flattened: serde keeps its own copy of what it is read from.
pub(crate) fn flattened<'de, T: Deserialize<'de>, D: Deserializer<'de>>(from: D) -> Result<T, D::Error> {
    T::deserialize(Strict(from))
}

/// Whether keys that are not known are to be passed over.
pub(crate) fn is_read_leniently() -> bool {
    IS_REPLY.get()
}

fn leniently<T>(read: impl FnOnce() -> T) -> T {
    struct Reset(bool);

    impl Drop for Reset {
        fn drop(&mut self) {
            IS_REPLY.set(self.0);
        }
    }

    let _reset = Reset(IS_REPLY.replace(true));
    read()
}

/// For a word that need not be there: none if it is not known.
pub(crate) fn known<'de, T: Deserialize<'de>, D: Deserializer<'de>>(from: D) -> Result<Option<T>, D::Error> {
    let word = Option::<String>::deserialize(from)?;
    Ok(word.and_then(|word| {
        let word: StrDeserializer<'_, serde::de::value::Error> = word.as_str().into_deserializer();
        T::deserialize(word).ok()
    }))
}

#[cfg(test)]
mod tests;
