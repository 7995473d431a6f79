//! Threads that go from namespace to namespace.

use std::fs::File;

use nix::sched::{CloneFlags, setns};
use vswitch_api::ErrorCode;
use vswitch_api::view::Stack;

use crate::commands::exec;
use crate::failure::Failure;

const OWN_NAMESPACE: &str = "/proc/thread-self/ns/net";

/// The namespace that a thread was in at first, to come back to.
pub struct Outside(File);

impl Outside {
    /// The one that this thread is in.
    pub fn here() -> Result<Self, Failure> {
        let file = File::open(OWN_NAMESPACE).map_err(|e| Failure::system(OWN_NAMESPACE, &e))?;
        Ok(Self(file))
    }

    /// Moves this thread into a namespace; none: that of outside. Whether it is there: nobody is in one that is gone.
    pub fn enter(&self, namespace: Option<&Stack>) -> Result<bool, Failure> {
        let Some(stack) = namespace else {
            let entered = setns(&self.0, CloneFlags::CLONE_NEWNET);
            return entered
                .map(|()| true)
                .map_err(|e| Failure::system("network namespace of the host", &e.into()));
        };
        match exec::enter_network(stack) {
            Ok(()) => Ok(true),
            Err(error) if error.code == ErrorCode::NotFound => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}
