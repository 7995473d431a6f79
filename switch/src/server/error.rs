//! How a request fails: an [`ApiError`] with its HTTP status.

use std::collections::BTreeMap;

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use utoipa::openapi::{ContentBuilder, Ref, RefOr, Response as ApiResponse, ResponseBuilder};
use vswitch_api::error::{ApiError, ErrorCode};

/// What a route answers.
pub(super) type Reply<T> = Result<Json<T>, Failure>;

/// An [`ApiError`] on its way to the client.
#[derive(Debug)]
pub(super) struct Failure {
    error: ApiError,
    status: StatusCode,
}

impl Failure {
    /// A malformed request for which HTTP has a status of its own (404, 405, 408, 413, 429).
    pub fn malformed(status: StatusCode, object: impl Into<String>, cause: impl Into<String>) -> Self {
        Self {
            error: ApiError::new(ErrorCode::Invalid, object, cause),
            status,
        }
    }

    /// The same with the next step.
    pub fn hint(mut self, hint: &str) -> Self {
        self.error = self.error.hint(hint);
        self
    }
}

impl From<ApiError> for Failure {
    fn from(error: ApiError) -> Self {
        let status = StatusCode::from_u16(error.code.http_status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        Self { error, status }
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        match self.error.code {
            ErrorCode::Kernel | ErrorCode::Internal => tracing::error!("{}", self.error),
            _ => tracing::debug!("refused: {}", self.error),
        }
        (self.status, Json(self.error)).into_response()
    }
}

/// The same for every route, so it is said once as the default response.
impl utoipa::IntoResponses for Failure {
    fn responses() -> BTreeMap<String, RefOr<ApiResponse>> {
        let body = ContentBuilder::new()
            .schema(Some(Ref::from_schema_name("ApiError")))
            .build();
        let response = ResponseBuilder::new()
            .description("It did not work; nothing was changed. The status follows from `code`.")
            .content("application/json", body)
            .build();
        BTreeMap::from([("default".to_owned(), response.into())])
    }
}
