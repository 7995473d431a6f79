//! What is to be done when: a queue by time.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

/// Items with the nanosecond at which each is due. They come out by that time, those of the same in the order in which
/// they went in.
#[derive(Debug)]
pub struct Agenda<T> {
    heap: BinaryHeap<Item<T>>,
    /// Number of the next item.
    next: u64,
}

#[derive(Debug)]
struct Item<T> {
    due: u64,
    number: u64,
    what: T,
}

// The greatest of a heap comes first: it has to be the one due first.
impl<T> Ord for Item<T> {
    fn cmp(&self, other: &Self) -> Ordering {
        (other.due, other.number).cmp(&(self.due, self.number))
    }
}

impl<T> PartialOrd for Item<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> PartialEq for Item<T> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl<T> Eq for Item<T> {}

impl<T> Default for Agenda<T> {
    fn default() -> Self {
        Self {
            heap: BinaryHeap::new(),
            next: 0,
        }
    }
}

impl<T> Agenda<T> {
    /// Puts an item in.
    pub fn push(&mut self, due: u64, what: T) {
        let number = self.next;
        self.next += 1;
        self.heap.push(Item { due, number, what });
    }

    /// When the next item is due.
    pub fn next_due(&self) -> Option<u64> {
        self.heap.peek().map(|item| item.due)
    }

    /// Takes the next item that is due by `now`.
    pub fn pop(&mut self, now: u64) -> Option<T> {
        if self.next_due()? <= now {
            self.heap.pop().map(|item| item.what)
        } else {
            None
        }
    }

    /// Takes the items out for which `which` says so, with when each is due and in that order; the others stay in theirs.
    pub fn take_if(&mut self, which: impl Fn(&T) -> bool) -> Vec<(u64, T)> {
        let all = std::mem::take(&mut self.heap).into_vec();
        let (mut out, stay): (Vec<_>, Vec<_>) = all.into_iter().partition(|item| which(&item.what));
        self.heap = stay.into();
        out.sort_unstable_by(|a, b| b.cmp(a));
        out.into_iter().map(|item| (item.due, item.what)).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug)]
    enum Step {
        Push(u64),
        PopUntil(u64),
        DropOdd,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            4 => (0u64..50).prop_map(Step::Push),
            2 => (0u64..60).prop_map(Step::PopUntil),
            1 => Just(Step::DropOdd),
        ];
        prop::collection::vec(step, 0..200)
    }

    proptest! {
        #[test]
        fn items_come_out_by_time_and_then_by_their_order(steps in steps()) {
            let mut agenda = Agenda::default();
            // Sorted by the time alone: a stable sort keeps the order of those of the same time.
            let mut model: Vec<(u64, usize)> = Vec::new();
            for (number, step) in steps.into_iter().enumerate() {
                match step {
                    Step::Push(due) => {
                        agenda.push(due, number);
                        model.push((due, number));
                        model.sort_by_key(|(due, _)| *due);
                    }
                    Step::PopUntil(now) => {
                        let popped: Vec<_> = std::iter::from_fn(|| agenda.pop(now)).collect();
                        let due = model.partition_point(|(due, _)| *due <= now);
                        let expected: Vec<_> = model.drain(..due).map(|(_, number)| number).collect();
                        prop_assert_eq!(popped, expected);
                    }
                    Step::DropOdd => {
                        let odd = agenda.take_if(|number| number % 2 == 1);
                        let expected: Vec<_> = model.iter().copied().filter(|(_, number)| number % 2 == 1).collect();
                        prop_assert_eq!(odd, expected);
                        model.retain(|(_, number)| number % 2 == 0);
                    }
                }
                prop_assert_eq!(agenda.next_due(), model.first().map(|(due, _)| *due));
            }
        }
    }
}
