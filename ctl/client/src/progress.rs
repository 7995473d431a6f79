//! How far the daemon is with an edit, while its answer is waited for.

use std::convert::Infallible;
use std::fmt;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use vswitch_api::view::Progress;

use crate::http::Client;

/// What is done sooner needs no telling.
const SILENT: Duration = Duration::from_millis(300);
/// So often the daemon is asked.
const EVERY: Duration = Duration::from_millis(100);

/// Who is told.
#[derive(Clone)]
pub struct Watcher(Arc<dyn Fn(Option<Progress>) + Send + Sync>);

impl Watcher {
    pub fn new(tell: impl Fn(Option<Progress>) + Send + Sync + 'static) -> Self {
        Self(Arc::new(tell))
    }

    /// Waits for the answer to an edit, and tells meanwhile.
    pub async fn watching<T>(&self, client: &Client, answer: impl Future<Output = T>) -> T {
        let mut answer = pin!(answer);
        tokio::select! {
            answer = answer.as_mut() => answer,
            never = self.tell(client) => match never {},
        }
    }

    /// The edit under way may be somebody else's, which ours waits for: that is worth to be told too.
    async fn tell(&self, client: &Client) -> Infallible {
        tokio::time::sleep(SILENT).await;
        let told = Told(self);
        loop {
            // A daemon that does not answer is the affair of the edit.
            if let Ok(status) = client.status_once().await {
                (told.0.0)(status.progress);
            }
            tokio::time::sleep(EVERY).await;
        }
    }
}

/// Somebody was told, and is told of the end too, whatever that is.
struct Told<'a>(&'a Watcher);

impl Drop for Told<'_> {
    fn drop(&mut self) {
        (self.0.0)(None);
    }
}

impl fmt::Debug for Watcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Watcher")
    }
}
