//! The one error type of the API. Codes are stable; texts are for people.

use std::fmt;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::view::MissingAs;

/// What went wrong, for programs. Each has its HTTP status and its exit code of `vswitchctl`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum ErrorCode {
    /// The request is malformed or a value is out of range. HTTP 400, exit 2.
    Invalid,
    /// What the request names does not exist. HTTP 404, exit 4.
    NotFound,
    /// A name, address or device is taken, or the state forbids the request. HTTP 409, exit 5.
    Conflict,
    /// It is not any more what the request says that it is (`If-Match`). HTTP 412, exit 5.
    Changed,
    /// The daemon or who asks lacks the right, or the kernel the feature. HTTP 403, exit 6.
    NotPermitted,
    /// The kernel refused a step; what was done before it was undone. HTTP 500, exit 1.
    Kernel,
    /// Anything else: a bug or a full disk. HTTP 500, exit 1.
    Internal,
}

impl ErrorCode {
    /// HTTP status of a reply with this code.
    pub fn http_status(self) -> u16 {
        match self {
            Self::Invalid => 400,
            Self::NotPermitted => 403,
            Self::NotFound => 404,
            Self::Conflict => 409,
            Self::Changed => 412,
            Self::Kernel | Self::Internal => 500,
        }
    }

    /// Exit code of `vswitchctl` (3 is kept for "the daemon can't be reached").
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Kernel | Self::Internal => 1,
            Self::Invalid => 2,
            Self::NotFound => 4,
            Self::Conflict | Self::Changed => 5,
            Self::NotPermitted => 6,
        }
    }
}

/// An error that helps: what it is about, what was wrong, what to do next.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ApiError {
    /// Stable code.
    pub code: ErrorCode,
    /// What the error is about, such as `port "red"`.
    pub object: String,
    /// What was tried and why it failed.
    pub cause: String,
    /// What to do next, if there is something.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// In a word, what a port lacks that is missing for it. It is told with the port, not with the error.
    #[serde(skip)]
    pub missing_as: Option<MissingAs>,
}

impl ApiError {
    /// An error without a hint.
    pub fn new(code: ErrorCode, object: impl Into<String>, cause: impl Into<String>) -> Self {
        Self {
            code,
            object: object.into(),
            cause: cause.into(),
            hint: None,
            missing_as: None,
        }
    }

    /// The same of what a port lacks that is missing for it.
    #[must_use]
    pub fn missing_as(mut self, why: MissingAs) -> Self {
        self.missing_as = Some(why);
        self
    }

    /// The same with the next step.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.object, self.cause)?;
        match &self.hint {
            Some(hint) => write!(f, "; {hint}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for ApiError {}
