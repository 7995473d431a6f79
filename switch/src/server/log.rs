//! The level of the log, while the daemon runs.

use axum::Json;
use axum::extract::State;
use axum::http::header::ETAG;
use axum::response::{AppendHeaders, IntoResponse};
use vswitch_api::change::{Change, ChangeAction, ObjectKind};
use vswitch_api::error::{ApiError, ErrorCode};
use vswitch_api::request::LogLevel;
use vswitch_api::view::Changes;

use super::api::Shared;
use super::error::{Failure, Reply};
use super::extract::{Body, Done, Edit, refuse_known};
use crate::control::{Editing, tag, tags};
use crate::logging::LogHandle;

/// Longest filter that is taken, in bytes: reading one takes longer by the square of what it names.
const MAX_FILTER: usize = 4096;

fn tag_of(level: &LogLevel) -> String {
    tag("log", level)
}

/// The level of the log
#[utoipa::path(
    get, path = "/v1/log", tag = "daemon", operation_id = "get_log",
    responses((status = 200, description = "OK", body = LogLevel, headers(("ETag" = String, description = "Tag of it, for `If-Match`"))), Failure)
)]
pub(super) async fn get(State(shared): State<Shared>) -> impl IntoResponse {
    let level = LogLevel {
        level: shared.log.level(),
    };
    (AppendHeaders([(ETAG, tag_of(&level))]), Json(level))
}

/// Change the level of the log, until the daemon restarts or reads its configuration again
#[utoipa::path(
    put, path = "/v1/log", tag = "daemon", operation_id = "set_log", params(Edit),
    request_body = LogLevel, responses(Done, Failure)
)]
pub(super) async fn set(State(shared): State<Shared>, mut edit: Edit, Body(wanted): Body<LogLevel>) -> Reply<Changes> {
    let none_match = edit.none_match();
    edit.make(async move |_, how| change(&shared.log, wanted, &how, none_match.as_deref()))
        .await
}

fn change(log: &LogHandle, wanted: LogLevel, how: &Editing, none_match: Option<&str>) -> Result<Changes, ApiError> {
    let mut log = log.lock();
    let was = LogLevel {
        level: log.level().to_owned(),
    };
    if let Some(none_match) = none_match {
        refuse_known(none_match, "log level".to_owned(), &tag_of(&was))?;
    }
    if let Some(if_match) = &how.if_match {
        let now = tag_of(&was);
        if !tags(if_match).any(|one| one == "*" || one == now) {
            let cause = format!("it is {} by now, and not as it was when it was read", was.level);
            return Err(ApiError::new(ErrorCode::Changed, "log level", cause)
                .hint("read it again and make the change to what it is now"));
        }
    }
    let invalid = |cause| ApiError::new(ErrorCode::Invalid, "log level", cause);
    if wanted.level.len() > MAX_FILTER {
        let cause = format!("it has {} bytes, and may have {MAX_FILTER}", wanted.level.len());
        return Err(invalid(cause).hint("name fewer targets, such as info,vswitch::control=debug"));
    }
    crate::logging::parse_filter(&wanted.level).map_err(invalid)?;
    let mut changes = Changes {
        dry_run: how.dry_run,
        ..Changes::default()
    };
    if was == wanted {
        return Ok(changes);
    }
    if !how.dry_run {
        log.set(&wanted.level).map_err(invalid)?;
    }
    changes
        .done
        .push(format!("set level of the log to {} (was {})", wanted.level, was.level));
    changes.changes.push(Change {
        key: Some("level".to_owned()),
        before: Some(was.level.into()),
        after: Some(wanted.level.into()),
        ..Change::new(ChangeAction::Set, ObjectKind::Log, "log")
    });
    Ok(changes)
}
