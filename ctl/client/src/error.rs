//! What may go wrong between a client and the daemon.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use vswitch_api::{ApiError, ErrorCode};

/// Why there is no answer, or not the one that was wanted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The daemon says no, and why.
    #[error("{0}")]
    Daemon(ApiError),
    /// Nobody can be spoken with at the socket.
    #[error("vswitchd at {}: {cause}; is it running, and may this user speak with it?", socket.display())]
    Connect {
        /// The socket.
        socket: PathBuf,
        /// What the kernel says.
        cause: io::Error,
    },
    /// Neither an answer came nor any other sign of life. What was asked for may still be done.
    #[error("vswitchd at {}: it gave no answer and no sign of life for {waited:?}", socket.display())]
    Silent {
        /// The socket.
        socket: PathBuf,
        /// How long.
        waited: Duration,
    },
    /// The connection ended in the middle. What was asked for may be done.
    #[error("vswitchd at {}: the connection broke: {cause}", socket.display())]
    Broken {
        /// The socket.
        socket: PathBuf,
        /// What is known of it.
        cause: String,
    },
    /// The request could not even be made.
    #[error("request {path:?}: {cause}")]
    Request {
        /// What was to be asked for.
        path: String,
        /// What is wrong with it.
        cause: String,
    },
    /// Something that two programs of the same version never say to each other.
    #[error("request {path}: {cause}; are client and vswitchd of the same version?")]
    Foreign {
        /// What was asked for.
        path: String,
        /// What is wrong.
        cause: String,
    },
}

impl Error {
    /// The daemon's code, if it is the daemon that says no.
    pub fn code(&self) -> Option<ErrorCode> {
        match self {
            Self::Daemon(error) => Some(error.code),
            _ => None,
        }
    }

    /// The daemon could not be spoken with, or went away.
    pub fn is_unreachable(&self) -> bool {
        matches!(self, Self::Connect { .. } | Self::Silent { .. } | Self::Broken { .. })
    }

    /// Somebody else has changed what was to be changed: read it again, and try again.
    pub fn is_changed(&self) -> bool {
        self.code() == Some(ErrorCode::Changed)
    }

    pub(crate) fn request(path: &str, cause: impl ToString) -> Self {
        Self::Request {
            path: path.to_owned(),
            cause: cause.to_string(),
        }
    }

    pub(crate) fn foreign(path: &str, cause: impl ToString) -> Self {
        Self::Foreign {
            path: path.to_owned(),
            cause: cause.to_string().trim().to_owned(),
        }
    }
}

impl From<ApiError> for Error {
    fn from(error: ApiError) -> Self {
        Self::Daemon(error)
    }
}
