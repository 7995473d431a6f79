//! A bar that shows how far the daemon is with an edit, while its answer is waited for.

use std::convert::Infallible;
use std::io::{self, IsTerminal};
use std::pin::pin;
use std::time::Duration;

use hyper::Method;
use indicatif::{ProgressBar, ProgressStyle};
use vswitch_api::view::{Progress, Status};

use crate::client::{Client, NO_BODY};

/// What is done sooner needs no bar.
const SILENT: Duration = Duration::from_millis(300);
/// So often the daemon is asked.
const EVERY: Duration = Duration::from_millis(100);
/// What, the bar, and in numbers.
const FORM: &str = "{msg} [{bar:40}] {pos} of {len} steps";

/// Whether somebody may look at a bar: it is drawn on standard error.
pub fn is_seen() -> bool {
    io::stderr().is_terminal() && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

/// Waits for the answer to an edit, and shows a bar meanwhile. It is gone when the answer is there.
pub async fn shown<T>(client: &Client, answer: impl Future<Output = T>) -> T {
    let mut answer = pin!(answer);
    tokio::select! {
        answer = answer.as_mut() => answer,
        never = show(client) => match never {},
    }
}

/// The edit under way may be somebody else's, which ours waits for: that is worth to be seen too.
async fn show(client: &Client) -> Infallible {
    tokio::time::sleep(SILENT).await;
    let mut bar = Bar(None);
    loop {
        // A daemon that does not answer is the affair of the edit.
        if let Ok(status) = client.once::<Status>(Method::GET, "/v1/status", NO_BODY).await {
            bar.show(status.progress);
        }
        tokio::time::sleep(EVERY).await;
    }
}

/// On the terminal as long as it lives.
struct Bar(Option<ProgressBar>);

impl Bar {
    fn show(&mut self, progress: Option<Progress>) {
        let Some(progress) = progress else {
            self.clear();
            return;
        };
        let bar = self.0.get_or_insert_with(|| {
            let style = ProgressStyle::with_template(FORM).unwrap_or_else(|_| ProgressStyle::default_bar());
            ProgressBar::new(0).with_style(style.progress_chars("=> "))
        });
        bar.set_length(progress.of.into());
        bar.set_message(progress.what);
        bar.set_position(progress.done.into());
    }

    fn clear(&mut self) {
        if let Some(bar) = self.0.take() {
            bar.finish_and_clear();
        }
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.clear();
    }
}
