//! A bucket of the FDB: readers see each entry as it was at some moment, never half of one and half of another.
//!
//! `Bucket::refresh` is left out: loom lets a store that comes after a compare-and-swap be seen before it, which no memory model
//! allows, and so finds faults that there can't be.

use loom::sync::Arc;
use loom::thread;

use super::bucket::Bucket;
use super::sync::Ordering;

const A: u64 = 0xa;
const B: u64 = 0xb;
/// A place names its station, so that one of another shows.
const fn place(station: u64, n: u64) -> u64 {
    station << 8 | n
}

/// A slot goes from one station to another while a reader looks for the one or the other.
#[test]
fn a_reader_never_takes_the_place_of_another_station() {
    for key in [A, B] {
        loom::model(move || {
            let bucket = Arc::new(Bucket::empty());
            bucket.set(0, A, place(A, 1));
            let writer = thread::spawn({
                let bucket = bucket.clone();
                move || {
                    bucket.set(0, 0, 0);
                    bucket.set(0, B, place(B, 1));
                }
            });
            if let (Some(hit), _) = bucket.find(key) {
                assert_eq!(hit, (0, place(key, 1)));
            }
            writer.join().unwrap();
            assert_eq!((bucket.find(A).0, bucket.find(B).0), (None, Some((0, place(B, 1)))));
        });
    }
}

/// A station moves from port to port: it is at the one or the other all the time.
#[test]
fn a_station_that_moves_is_never_lost() {
    loom::model(|| {
        let bucket = Arc::new(Bucket::empty());
        bucket.set(1, A, place(A, 1));
        let writer = thread::spawn({
            let bucket = bucket.clone();
            move || bucket.set(1, A, place(A, 2))
        });
        let (hit, _) = bucket.find(A);
        assert!(matches!(hit, Some((1, found)) if found == place(A, 1) || found == place(A, 2)));
        writer.join().unwrap();
        assert_eq!(bucket.find(A).0, Some((1, place(A, 2))));
    });
}

/// The count of entries that lie further on and an entry that leaves the bucket for there are of one moment: a reader that misses the
/// one sees the other.
#[test]
fn an_entry_that_strays_is_announced_before_it_is_needed() {
    loom::model(|| {
        let buckets = Arc::new([Bucket::empty(), Bucket::empty()]);
        let writer = thread::spawn({
            let buckets = buckets.clone();
            move || {
                buckets[1].set(0, A, place(A, 1));
                buckets[0].strayed.fetch_add(1, Ordering::Relaxed);
            }
        });
        // A miss in between is as if the station was not known yet; one after the writer is not.
        let (_, strayed) = buckets[0].find(A);
        assert!(strayed <= 1);
        writer.join().unwrap();
        assert_eq!(buckets[0].find(A), (None, 1));
        assert_eq!(buckets[1].find(A).0, Some((0, place(A, 1))));
    });
}
