//! The part of a manual page that comes from the text behind the options in the help. The build scripts of both programs use it.

use std::collections::BTreeMap;

use clap_mangen::roff::{Roff, roman};

/// Heads in the help, and the sections that they are in a page, in its order (man-pages(7)).
const SECTIONS: [(&str, &str); 7] = [
    ("Exit codes:", "EXIT STATUS"),
    ("Environment:", "ENVIRONMENT"),
    ("Files:", "FILES"),
    ("Signals:", "SIGNALS"),
    ("", NOTES),
    ("Examples:", "EXAMPLES"),
    ("See also:", "SEE ALSO"),
];
/// Where stands what has no head.
const NOTES: &str = "NOTES";

/// The sections of a page that a text is. Lines that are set in are kept as they are, at the left edge, since the longest would
/// not fit behind the margin of a page.
pub fn sections(text: &str) -> Roff {
    let mut sections: BTreeMap<usize, Vec<&str>> = BTreeMap::new();
    let place = |head: &str| SECTIONS.iter().position(|(of_help, _)| *of_help == head);
    let notes = place("").unwrap_or_default();
    let mut at = notes;
    for paragraph in text.split("\n\n").filter(|paragraph| !paragraph.trim().is_empty()) {
        let (first, rest) = paragraph.split_once('\n').unwrap_or((paragraph, ""));
        let head = if first == "Example:" { "Examples:" } else { first };
        let body = match place(head) {
            Some(found) => {
                at = found;
                rest
            }
            // Prose behind an example is no example.
            None if !paragraph.starts_with("  ") && SECTIONS[at].0 != "Exit codes:" => {
                at = notes;
                paragraph
            }
            None => paragraph,
        };
        sections.entry(at).or_default().push(body);
    }
    let mut roff = Roff::new();
    for (at, paragraphs) in sections {
        roff.control("SH", [SECTIONS[at].1]);
        for (n, paragraph) in paragraphs.into_iter().enumerate() {
            if n > 0 {
                roff.control("PP", []);
            }
            write(&mut roff, paragraph);
        }
    }
    roff
}

fn write(roff: &mut Roff, paragraph: &str) {
    let mut verbatim = false;
    for line in paragraph.lines() {
        if verbatim != line.starts_with("  ") {
            verbatim = !verbatim;
            let (filling, indent): (_, &[&str]) = if verbatim { ("nf", &["0"]) } else { ("fi", &[]) };
            roff.control(filling, []);
            roff.control("in", indent.iter().copied());
        }
        roff.text([roman(line)]);
    }
    if verbatim {
        roff.control("fi", []);
        roff.control("in", []);
    }
}
