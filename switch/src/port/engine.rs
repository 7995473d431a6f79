//! How the queues of TAP devices are read and written: frame by frame, or many frames by one system call.

use serde::{Deserialize, Serialize};
use vswitch_linux::uring;

/// What is asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Engine {
    /// io_uring where it can be had.
    #[default]
    Auto,
    /// io_uring, or no start.
    IoUring,
    /// A system call for each frame.
    Epoll,
}

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Calls {
    /// One for each frame.
    Single,
    /// One for many, where many wait.
    Batched,
}

impl Engine {
    /// Holds it against this machine.
    ///
    /// # Errors
    /// io_uring is asked for and can't be had: why.
    pub fn check(self) -> Result<(), String> {
        match self {
            Self::IoUring => uring::probe().map_err(|error| {
                format!("io_uring can't be had: {error}; it needs Linux 6.4, the sysctl kernel.io_uring_disabled = 0, and no rule against it. \"auto\" does without")
            }),
            Self::Auto | Self::Epoll => Ok(()),
        }
    }

    /// What it comes to, and why that is less than what was asked for if it is.
    pub fn choose(self) -> (Calls, Option<String>) {
        match self {
            Self::Epoll => (Calls::Single, None),
            Self::Auto | Self::IoUring => match uring::probe() {
                Ok(()) => (Calls::Batched, None),
                Err(error) => {
                    let why =
                        format!("without io_uring each frame of a TAP device takes a system call of its own: {error}");
                    (Calls::Single, Some(why))
                }
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_missed_that_was_not_asked_for() {
        assert_eq!(Engine::Epoll.choose(), (Calls::Single, None));
        assert_eq!(Engine::Epoll.check(), Ok(()));
        assert_eq!(Engine::Auto.check(), Ok(()));
    }

    /// Whatever this kernel has: batches, or a reason.
    #[test]
    fn where_it_comes_to_less_there_is_a_reason() {
        let (calls, why) = Engine::Auto.choose();
        assert_eq!(calls == Calls::Single, why.is_some(), "{why:?}");
        assert_eq!(Engine::IoUring.check().is_err(), why.is_some());
    }
}
