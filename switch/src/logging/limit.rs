//! A bound for lines of one kind: what goes wrong a thousand times a second is told some times, and then counted.
//!
//! A kind is a place in the code that logs. Only warnings and errors are bounded: what is told of commands is told of each, and
//! who asks for more by the level gets all of it.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tracing::callsite::Identifier;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::layer::{Context, Filter};

/// How often what was left out is told, after which lines of its kind are let through again.
pub(super) const PERIOD: Duration = Duration::from_secs(30);
/// Lines of a kind that are let through in that time.
const LINES: u64 = 20;

/// Lines so far in this period.
#[derive(Debug, Default)]
struct Kind {
    lines: u64,
    /// The text of the first that was left out.
    example: String,
}

/// How much was logged of each kind.
#[derive(Debug, Default)]
pub(super) struct Limit(Mutex<HashMap<Identifier, Kind>>);

impl Limit {
    fn lock(&self) -> MutexGuard<'_, HashMap<Identifier, Kind>> {
        // Each change is one step.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lets_through(&self, event: &Event<'_>) -> bool {
        let about = event.metadata();
        if *about.level() > Level::WARN || about.target() == module_path!() {
            return true;
        }
        let mut kinds = self.lock();
        let kind = kinds.entry(about.callsite()).or_default();
        kind.lines += 1;
        if kind.lines == LINES + 1 {
            event.record(&mut Message(&mut kind.example));
        }
        kind.lines <= LINES
    }

    /// Tells how many lines of which kind were left out, and begins a new period.
    pub fn tell_left_out(&self) {
        let kinds = std::mem::take(&mut *self.lock());
        let left_out = kinds.into_values().filter(|kind| kind.lines > LINES);
        for kind in left_out {
            let (count, example) = (kind.lines - LINES, kind.example);
            tracing::warn!("{count} more like this: {example}");
        }
    }
}

/// Lets through what is within the bound.
pub(super) struct LimitFilter(pub Arc<Limit>);

impl<S: Subscriber> Filter<S> for LimitFilter {
    fn enabled(&self, _: &Metadata<'_>, _: &Context<'_, S>) -> bool {
        true
    }

    fn event_enabled(&self, event: &Event<'_>, _: &Context<'_, S>) -> bool {
        self.0.lets_through(event)
    }
}

/// The text of an event.
struct Message<'a>(&'a mut String);

impl Visit for Message<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            *self.0 = format!("{value:?}");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use tracing_subscriber::Layer;
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Lines {
        fn take(&self) -> Vec<String> {
            let bytes = std::mem::take(&mut *self.0.lock().unwrap());
            String::from_utf8(bytes).unwrap().lines().map(str::to_owned).collect()
        }
    }

    /// An attacker who makes a station flap, or uses up the descriptors, must not fill the disk.
    #[test]
    fn lines_of_one_kind_are_counted_beyond_the_bound() {
        let (limit, lines) = (Arc::new(Limit::default()), Lines::default());
        let writer = lines.clone();
        let layer = tracing_subscriber::fmt::layer()
            .with_writer(move || writer.clone())
            .with_ansi(false)
            .without_time();
        let subscriber = tracing_subscriber::registry().with(layer.with_filter(LimitFilter(limit.clone())));
        tracing::subscriber::with_default(subscriber, || {
            let often = |n: u64| tracing::warn!("station {n} goes to and fro");
            (0..LINES + 80).for_each(often);
            tracing::warn!("another kind");
            (0..LINES + 5).for_each(|n| tracing::info!("removed port {n}"));
            let told = lines.take();
            let count = |word: &str| told.iter().filter(|line| line.contains(word)).count() as u64;
            assert_eq!(
                (count("to and fro"), count("another"), count("removed")),
                (LINES, 1, LINES + 5)
            );
            limit.tell_left_out();
            let told = lines.take();
            assert_eq!(told.len(), 1, "{told:?}");
            assert!(
                told[0].ends_with(&format!("80 more like this: station {LINES} goes to and fro")),
                "{told:?}"
            );
            often(7);
            limit.tell_left_out();
            assert_eq!(lines.take().len(), 1, "a new period");
        });
    }
}
