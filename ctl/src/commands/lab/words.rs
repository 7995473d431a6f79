//! Messages of the reader in words for people who write lab files.

use vswitch_api::number;

/// A word is meant for another from this likeness on (Jaro-Winkler, 0 to 1).
const LIKE: f64 = 0.75;
/// So many words are listed at most.
const LISTED: usize = 8;

/// The one that was probably meant.
pub fn meant<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word = word.to_lowercase();
    // The one knows beginnings, the other two letters in the wrong order.
    let likeness = |known: &'a str| {
        let swapped = strsim::normalized_damerau_levenshtein(&word, known) + 0.1;
        (strsim::jaro_winkler(&word, known).max(swapped), known)
    };
    let best = known.into_iter().map(likeness).max_by(|a, b| a.0.total_cmp(&b.0))?;
    (best.0 >= LIKE).then_some(best.1)
}

/// A message of serde in other words, where it speaks of Rust.
pub fn readable(message: &str) -> String {
    let quoted: Vec<_> = message.split('`').skip(1).step_by(2).collect();
    let (what, hint) = match quoted.split_first() {
        Some((word, known)) if message.starts_with("unknown field") => {
            (format!("unknown key `{word}`"), help(word, known))
        }
        Some((word, known)) if message.starts_with("unknown variant") => {
            (format!("`{word}` is no value for it"), help(word, known))
        }
        Some((word, _)) if message.starts_with("missing field") => (format!("it has no `{word}`"), None),
        _ => (plain(message), None),
    };
    match hint {
        Some(hint) => format!("{what}; {hint}"),
        None => what,
    }
}

fn help(word: &str, known: &[&str]) -> Option<String> {
    if let Some(meant) = meant(word, known.iter().copied()) {
        return Some(format!("did you mean `{meant}`?"));
    }
    let listed = known
        .iter()
        .map(|word| format!("`{word}`"))
        .collect::<Vec<_>>()
        .join(", ");
    match known.len() {
        0 => None,
        1..=LISTED => Some(format!("there are {listed}")),
        _ => Some("`vswitchctl lab schema` lists them".to_owned()),
    }
}

/// Types as they are called in lab files.
fn plain(message: &str) -> String {
    if let Some(told) = number::does_not_fit(message) {
        return told;
    }
    let Some((found, expected)) = message
        .strip_prefix("invalid type: ")
        .and_then(|rest| rest.split_once(", expected "))
    else {
        return message.to_owned();
    };
    let expected = match expected {
        "u8" | "u16" | "u32" | "u64" => "a whole number",
        "f64" => "a number",
        "a boolean" => "true or false",
        "a sequence" => "a list",
        "a map" => "a table",
        expected if expected.starts_with("struct ") => "a table",
        expected => expected,
    };
    format!("{found} stands here; expected {expected}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_meant_is_told() {
        for (message, words) in [
            (
                "unknown field `adress`, expected one of `name`, `addresses`",
                "unknown key `adress`; did you mean `addresses`?",
            ),
            (
                "unknown variant `Tap`, expected one of `veth`, `tap`",
                "`Tap` is no value for it; did you mean `tap`?",
            ),
            (
                "unknown variant `bridge`, expected one of `veth`, `tap`",
                "`bridge` is no value for it; there are `veth`, `tap`",
            ),
            ("missing field `name`", "it has no `name`"),
            (
                "invalid type: string \"big\", expected u32",
                "string \"big\" stands here; expected a whole number",
            ),
            (
                "invalid value: integer `70000`, expected u16",
                "70000 is not a whole number from 0 to 65535",
            ),
        ] {
            assert_eq!(readable(message), words);
        }
    }
}
