//! Numbers made of names, which are the same whatever daemon makes them: they are found again after an upgrade.

use std::hash::{Hash, Hasher};

use siphasher::sip::SipHasher13;

/// The number of what is given. SipHash-1-3 with a key of zeros, as `std`'s `DefaultHasher` is today, which promises to stay nothing.
pub fn number(of: &impl Hash) -> u64 {
    let mut hasher = SipHasher13::new();
    of.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn a_name_has_the_number_that_it_always_had() {
        assert_eq!(number(&"red"), 0x1457_6403_ef48_4498);
        assert_eq!(number(&Path::new("/run/lab")), 0xd186_8796_7fe1_6198);
        assert_eq!(number(&(7_u64, "mark", "red")), 0xfeb4_5db7_cf5a_3e8a);
    }
}
