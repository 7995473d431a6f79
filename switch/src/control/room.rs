//! Whether there is memory for what an edit wants: it is refused rather than the daemon ended in the midst of it.

use vswitch_api::{ApiError, Lab};
use vswitch_linux::memory::{self, Room};

use super::{Inner, text};

/// What an entry of an FDB takes: its place in the table, and what allocator and kernel add.
const ENTRY_BYTES: u64 = 68;
/// What an edit is to leave of the memory that there is.
const SPARE_BYTES: u64 = 4 << 20;

impl Inner {
    /// The memory of all FDBs together has a bound, and for what is new of it there has to be room. What is so already stays.
    ///
    /// # Errors
    /// Conflict.
    pub(super) fn check_fdbs(&self, lab: &Lab) -> Result<(), ApiError> {
        let entries = |lab: &Lab| {
            lab.switches
                .iter()
                .map(|switch| u64::from(switch.fdb_capacity))
                .sum::<u64>()
        };
        let (before, after) = (entries(&self.store.state.lab), entries(lab));
        if after <= before.max(self.given.fdb_entries) {
            return check_room(after.saturating_sub(before));
        }
        let cause = format!(
            "those of all switches would have {after} entries together, and {} are allowed",
            self.given.fdb_entries
        );
        Err(text::conflict("FDB capacity", cause)
            .hint("choose a smaller --fdb-capacity, or raise fdb_entries under [datapath] in vswitchd.toml"))
    }
}

/// Whether there is memory for so many entries more.
fn check_room(entries: u64) -> Result<(), ApiError> {
    match entries {
        0 => Ok(()),
        _ => memory::room().map_or(Ok(()), |room| fits(entries, &room)),
    }
}

fn fits(entries: u64, room: &Room) -> Result<(), ApiError> {
    let wanted = entries * ENTRY_BYTES;
    if wanted + SPARE_BYTES <= room.bytes {
        return Ok(());
    }
    let cause = format!(
        "{entries} entries more take {} MiB of memory, and {} has {} MiB left",
        wanted >> 20,
        room.of,
        room.bytes >> 20
    );
    Err(text::conflict("FDB capacity", cause)
        .hint("choose a smaller --fdb-capacity, or give the daemon more memory (MemoryMax= of its unit)"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_refused_and_says_who_has_no_room() {
        let room = Room {
            bytes: 16 << 20,
            of: "control group /x".to_owned(),
        };
        assert_eq!(fits(100_000, &room), Ok(()));
        let error = fits(1_000_000, &room).unwrap_err();
        assert_eq!(
            error.cause,
            "1000000 entries more take 64 MiB of memory, and control group /x has 16 MiB left"
        );
    }
}
