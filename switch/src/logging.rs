//! The log: where it goes, what it looks like, and a level that can be changed while the daemon runs.

mod limit;
mod lines;

use std::io::IsTerminal;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use limit::{Limit, LimitFilter};
pub use lines::{Stderr, flush, write_lines};
use tracing::Subscriber;
use tracing_subscriber::filter::{EnvFilter, LevelFilter};
use tracing_subscriber::fmt::writer::BoxMakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, fmt, reload};
use vswitch_api::error::{ApiError, ErrorCode};

use crate::config::{Log, LogFormat};

/// Changes the level of the running log.
#[derive(Clone, Debug)]
pub struct LogHandle {
    filter: reload::Handle<EnvFilter, Registry>,
    limit: Arc<Limit>,
    /// As it was given last.
    level: Arc<Mutex<String>>,
}

impl LogHandle {
    /// Sets the level or filter.
    ///
    /// # Errors
    /// The text of what is wrong with `level`; the old one stays.
    pub fn set_level(&self, level: &str) -> Result<(), String> {
        self.lock().set(level)
    }

    /// The level, which nobody else sets as long as this is held.
    pub fn lock(&self) -> LockedLevel<'_> {
        LockedLevel {
            filter: &self.filter,
            now: self.level.lock().unwrap_or_else(PoisonError::into_inner),
        }
    }

    /// The level or filter, as it was given.
    pub fn level(&self) -> String {
        self.lock().now.clone()
    }

    /// Tells from time to time what was left out because there was too much of it.
    pub async fn tell_left_out(&self) {
        loop {
            tokio::time::sleep(limit::PERIOD).await;
            self.limit.tell_left_out();
            lines::tell_lost();
        }
    }
}

/// The level of the log, held by one who sets it by what it is.
pub struct LockedLevel<'a> {
    filter: &'a reload::Handle<EnvFilter, Registry>,
    now: MutexGuard<'a, String>,
}

impl LockedLevel<'_> {
    /// The level or filter, as it was given.
    pub fn level(&self) -> &str {
        &self.now
    }

    /// Sets the level or filter.
    ///
    /// # Errors
    /// The text of what is wrong with `level`; the old one stays.
    pub fn set(&mut self, level: &str) -> Result<(), String> {
        self.filter
            .reload(parse_filter(level)?)
            .map_err(|error| error.to_string())?;
        level.clone_into(&mut self.now);
        Ok(())
    }
}

/// Starts the log for the whole process.
///
/// # Errors
/// `Invalid` for a bad level, `Internal` if the journal was asked for and can't be reached.
pub fn init(config: &Log) -> Result<LogHandle, ApiError> {
    let invalid = |cause| ApiError::new(ErrorCode::Invalid, "log level", cause);
    let (filter, handle) = reload::Layer::new(parse_filter(&config.level).map_err(invalid)?);
    let limit = Arc::new(Limit::default());
    let output = output(config.format)?.with_filter(LimitFilter(limit.clone()));
    let registry = tracing_subscriber::registry().with(filter).with(output);
    registry
        .try_init()
        .map_err(|error| ApiError::new(ErrorCode::Internal, "log", error.to_string()))?;
    Ok(LogHandle {
        filter: handle,
        limit,
        level: Arc::new(Mutex::new(config.level.clone())),
    })
}

/// Whether the log can be had as it is asked for.
///
/// # Errors
/// `Internal`: the journal was asked for and can't be reached.
pub fn check(config: &Log) -> Result<(), ApiError> {
    output::<Registry>(config.format).map(drop)
}

/// Libraries that tell of every step of theirs, and those whose names begin like theirs: heard from `warn` on unless they are named.
const TALKATIVE: [&str; 3] = ["aya", "netlink", "hyper"];

/// A level (`info`), or a comma-separated list of levels and `target=level` (`info,vswitch::control=debug`).
///
/// # Errors
/// What is wrong, and what would be right.
pub fn parse_filter(text: &str) -> Result<EnvFilter, String> {
    // EnvFilter takes a lone word that is no level for the name of a target, so "inof" would turn the log off.
    let words: Vec<&str> = text.split(',').map(str::trim).collect();
    let is_level = |word: &str| !word.is_empty() && word.parse::<LevelFilter>().is_ok();
    if let Some(word) = words.iter().find(|word| !word.contains('=') && !is_level(word)) {
        return Err(format!(
            "{word:?} is not a level; use off, error, warn, info, debug or trace"
        ));
    }
    let level = words.iter().rev().find_map(|word| word.parse::<LevelFilter>().ok());
    let is_named = |target: &str| {
        let mut named = words.iter().filter_map(|word| word.split_once('='));
        named.any(|(name, _)| name.trim() == target)
    };
    let mut directives: Vec<String> = words.iter().map(ToString::to_string).collect();
    if level.is_some_and(|level| level > LevelFilter::WARN) {
        let quiet = TALKATIVE.into_iter().filter(|target| !is_named(target));
        directives.extend(quiet.map(|target| format!("{target}=warn")));
    }
    EnvFilter::try_new(directives.join(",")).map_err(|error| format!("{text:?} is not a level or filter: {error}"))
}

type Output<S> = Box<dyn Layer<S> + Send + Sync>;

fn output<S>(format: LogFormat) -> Result<Output<S>, ApiError>
where
    S: Subscriber + for<'span> LookupSpan<'span> + Send + Sync,
{
    let journal = || {
        tracing_journald::layer()
            .map(|layer| layer.with_syslog_identifier("vswitchd".into()).boxed())
            .map_err(|error| {
                ApiError::new(ErrorCode::Internal, "journal", error.to_string())
                    .hint("set format = \"text\" under [log] in vswitchd.toml")
            })
    };
    let text = || {
        let colours = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        fmt::layer()
            .with_writer(writer())
            .with_ansi(colours)
            .with_target(false)
            .boxed()
    };
    match format {
        LogFormat::Journald => journal(),
        LogFormat::Auto if stderr_is_journal() => journal().or_else(|_| Ok(text())),
        LogFormat::Auto | LogFormat::Text => Ok(text()),
        LogFormat::Json => Ok(fmt::layer().json().with_writer(writer()).boxed()),
    }
}

/// Standard error, for whole lines.
fn writer() -> BoxMakeWriter {
    match lines::is_file() {
        true => BoxMakeWriter::new(std::io::stderr),
        false => BoxMakeWriter::new(|| lines::Lines),
    }
}

/// systemd.exec(5): `JOURNAL_STREAM` holds device and inode of the journal's stream. They have to be compared, because
/// the variable is inherited by programs whose stderr was redirected.
fn stderr_is_journal() -> bool {
    let Ok(stream) = std::env::var("JOURNAL_STREAM") else {
        return false;
    };
    nix::sys::stat::fstat(std::io::stderr()).is_ok_and(|stat| stream == format!("{}:{}", stat.st_dev, stat.st_ino))
}

/// An error that comes again and again, told once until it is another one.
#[derive(Debug, Default)]
pub struct Repeated(Option<String>);

impl Repeated {
    /// Logs it unless it is the one from before.
    pub fn error(&mut self, text: String) {
        if self.0.as_ref() != Some(&text) {
            tracing::error!("{text}");
            self.0 = Some(text);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_and_filters_are_taken() {
        for text in [
            "info",
            "OFF",
            "debug",
            "info,vswitch::control=debug",
            "warn, vswitch=trace",
        ] {
            assert!(parse_filter(text).is_ok(), "{text}");
        }
    }

    #[test]
    fn a_mistyped_level_is_refused() {
        for text in ["", "inof", "info,", "info,vswitch::control", "vswitch=loud", "a=b=c"] {
            assert!(parse_filter(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_level_changes_while_the_log_runs() {
        let (filter, handle) = reload::Layer::new(parse_filter("warn").unwrap());
        let handle = LogHandle {
            filter: handle,
            limit: Arc::default(),
            level: Arc::default(),
        };
        tracing::subscriber::with_default(tracing_subscriber::registry().with(filter), || {
            assert!(!tracing::enabled!(tracing::Level::DEBUG));
            handle.set_level("debug").unwrap();
            assert!(tracing::enabled!(tracing::Level::DEBUG));
            // What others say is of use to nobody who did not ask for it.
            assert!(!tracing::enabled!(target: "aya_obj::obj", tracing::Level::INFO));
            assert!(tracing::enabled!(target: "aya_obj::obj", tracing::Level::WARN));
            assert_eq!(handle.level(), "debug");
            assert!(handle.set_level("loud").is_err());
            assert!(tracing::enabled!(tracing::Level::DEBUG));
            assert_eq!(handle.level(), "debug");
            handle.set_level("debug,aya_obj=debug").unwrap();
            assert!(tracing::enabled!(target: "aya_obj::obj", tracing::Level::DEBUG));
            handle.set_level("off").unwrap();
            assert!(!tracing::enabled!(target: "aya_obj::obj", tracing::Level::ERROR));
        });
    }
}
