//! A bar that shows how far the daemon is with an edit, while its answer is waited for.

use std::io::{self, IsTerminal};
use std::sync::{Mutex, PoisonError};

use indicatif::{ProgressBar, ProgressStyle};
use vswitch_api::view::Progress;

/// What, the bar, and in numbers.
const FORM: &str = "{msg} [{bar:40}] {pos} of {len} steps";

/// Whether somebody may look at a bar: it is drawn on standard error.
pub fn is_seen() -> bool {
    io::stderr().is_terminal() && !is_dumb()
}

/// Whether the terminal takes nothing but text.
pub fn is_dumb() -> bool {
    std::env::var_os("TERM").is_some_and(|term| term == "dumb")
}

/// On the terminal as long as something is under way.
#[derive(Default)]
pub struct Bar(Mutex<Option<ProgressBar>>);

impl Bar {
    /// Shows how far the daemon is; nothing is under way: the bar goes.
    pub fn show(&self, progress: Option<Progress>) {
        let mut shown = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(progress) = progress else {
            if let Some(bar) = shown.take() {
                bar.finish_and_clear();
            }
            return;
        };
        let bar = shown.get_or_insert_with(|| {
            let style = ProgressStyle::with_template(FORM).unwrap_or_else(|_| ProgressStyle::default_bar());
            ProgressBar::new(0).with_style(style.progress_chars("=> "))
        });
        bar.set_length(progress.of.into());
        bar.set_message(progress.what);
        bar.set_position(progress.done.into());
    }
}
