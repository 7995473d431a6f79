//! Numbers for people.

use vswitch_api::ReservedMulticast;

/// Three digits and an SI prefix: 999, 1.23k, 12.3M.
pub fn count(value: u64) -> String {
    const PREFIXES: [char; 6] = ['k', 'M', 'G', 'T', 'P', 'E'];
    if value < 1000 {
        return value.to_string();
    }
    let mut scaled = value as f64;
    for prefix in PREFIXES {
        scaled /= 1000.0;
        // Below the point where rounding to three digits gives 1000.
        if scaled < 999.5 {
            let digits = if scaled < 9.995 { 2 } else { usize::from(scaled < 99.95) };
            return format!("{scaled:.digits$}{prefix}");
        }
    }
    value.to_string()
}

/// A number with its thousands apart: 1,234,567.
pub fn grouped(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Two units at most: 5s, 3m12s, 2h05m, 3d04h.
pub fn duration(secs: u64) -> String {
    match secs {
        0..60 => format!("{secs}s"),
        60..3600 => format!("{}m{:02}s", secs / 60, secs % 60),
        3600..86_400 => format!("{}h{:02}m", secs / 3600, secs % 3600 / 60),
        _ => format!("{}d{:02}h", secs / 86_400, secs % 86_400 / 3600),
    }
}

/// An ageing time.
pub fn ageing(secs: u32) -> String {
    if secs == 0 {
        "never".to_owned()
    } else {
        format!("{secs}s")
    }
}

/// `-` for what is not there, so that every column of a line has a word.
pub fn or_dash<T: ToString>(value: Option<&T>) -> String {
    value.map_or_else(|| "-".to_owned(), T::to_string)
}

/// A list in one word, `-` if it is empty.
pub fn list<T: ToString>(values: impl IntoIterator<Item = T>) -> String {
    let words: Vec<String> = values.into_iter().map(|v| v.to_string()).collect();
    if words.is_empty() {
        "-".to_owned()
    } else {
        words.join(",")
    }
}

/// The word for what happens to reserved multicast.
pub fn reserved(reserved: ReservedMulticast) -> &'static str {
    match reserved {
        ReservedMulticast::Never => "never",
        ReservedMulticast::Lldp => "lldp",
        ReservedMulticast::All => "all",
    }
}

/// A name that others chose, such that it can't change the terminal that it is printed on.
pub fn printable(name: &str) -> String {
    // Controls, and what turns the direction of the text or can't be seen (Unicode's Cf, as far as a name may have it).
    let hidden = |c: char| {
        c.is_control()
            || matches!(c, '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
    };
    let mut text = String::with_capacity(name.len());
    for c in name.chars() {
        if hidden(c) {
            text.extend(c.escape_default());
        } else {
            text.push(c);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn counts_have_three_digits() {
        for (value, text) in [
            (0, "0"),
            (999, "999"),
            (1000, "1.00k"),
            (1234, "1.23k"),
            (9_994, "9.99k"),
            (9_995, "10.0k"),
            (99_949, "99.9k"),
            (99_950, "100k"),
            (999_499, "999k"),
            (999_500, "1.00M"),
            (12_345_678, "12.3M"),
            (u64::MAX, "18.4E"),
        ] {
            assert_eq!(count(value), text, "{value}");
        }
    }

    #[test]
    fn durations_have_two_units() {
        for (secs, text) in [
            (0, "0s"),
            (59, "59s"),
            (60, "1m00s"),
            (3599, "59m59s"),
            (7500, "2h05m"),
            (277_200, "3d05h"),
        ] {
            assert_eq!(duration(secs), text);
        }
    }

    proptest! {
        #[test]
        fn a_grouped_number_is_the_number(value: u64) {
            let text = grouped(value);
            prop_assert_eq!(text.replace(',', ""), value.to_string());
            prop_assert!(text.rsplit(',').skip(1).count() == (value.to_string().len() - 1) / 3);
        }

        #[test]
        fn a_count_is_never_wider_than_five(value: u64) {
            prop_assert!(count(value).len() <= 5, "{}", count(value));
        }
    }
}
