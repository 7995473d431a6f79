//! Values out of a request: like axum's extractors of the same names, with errors that say what would be right.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use axum::Json;
use axum::body::{Bytes, HttpBody};
use axum::extract::path::ErrorKind;
use axum::extract::rejection::PathRejection;
use axum::extract::{DefaultBodyLimit, FromRef, FromRequest, FromRequestParts, MatchedPath, Request, State};
use axum::http::header::{HeaderName, IF_MATCH, IF_NONE_MATCH, LOCATION};
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode, Uri};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures::StreamExt;
use serde::de::DeserializeOwned;
use tokio::runtime::Handle;
use tokio::task::spawn_blocking;
use tracing::{Instrument, Span};
use utoipa::openapi::path::{Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::schema::{Object, Type};
use utoipa::openapi::{ContentBuilder, Header, Ref, RefOr, Response as ApiResponse, ResponseBuilder};
use utoipa::{IntoParams, IntoResponses};
use vswitch_api::change::{Change, ChangeAction, ObjectKind};
use vswitch_api::error::{ApiError, ErrorCode};
use vswitch_api::request::{ChangeOptions, Condition};
use vswitch_api::strict;
use vswitch_api::view::Changes;

use super::about::{adds_one, found};
use super::audit::Audit;
use super::document::Known;
use super::error::{Failure, Reply};
use super::large::{Leave, MAX_BODY, MAX_LAB, check_lists};
use super::said::Said;
use super::slots::Place;
use crate::control::{Control, Editing, for_client, tags};

/// Route of a whole lab.
const LAB: &str = "/v1/lab";
/// As the document writes it.
const IF_NONE_MATCH_NAME: &str = "If-None-Match";
/// Bytes of a body that is too large which are let pass before the connection is closed.
const MOST_UNREAD: usize = 64 << 20;
/// How long the body may take to arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// The JSON body. The content type is not looked at, so that `curl -d` works as it is. A large one is there by a leave that goes with
/// the [`Edit`] of the request, if it has one.
pub(super) struct Body<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Body<T> {
    type Rejection = Failure;

    async fn from_request(mut request: Request, state: &S) -> Result<Self, Failure> {
        let limit = if request.uri().path() == LAB { MAX_LAB } else { MAX_BODY };
        DefaultBodyLimit::max(limit).apply(&mut request);
        let place = request.extensions().get::<Place>().cloned();
        let length = request.body().size_hint().upper();
        let leave = request.extensions().get::<Leave>().cloned().unwrap_or_default();
        let request_said = request.extensions().get::<Said>().cloned();
        let too_large = || {
            let cause = format!("it is larger than {limit} bytes");
            Failure::malformed(StatusCode::PAYLOAD_TOO_LARGE, "request body", cause)
        };
        if length.is_some_and(|length| length > limit as u64) {
            leave_unread(request.into_body()).await;
            return Err(too_large());
        }
        leave.get(length, limit).await;
        let Ok(body) = tokio::time::timeout(BODY_TIMEOUT, Bytes::from_request(request, state)).await else {
            let cause = format!("it did not arrive within {} s", BODY_TIMEOUT.as_secs());
            return Err(Failure::malformed(StatusCode::REQUEST_TIMEOUT, "request body", cause));
        };
        let body = body.map_err(|rejection| match rejection.status() {
            StatusCode::PAYLOAD_TOO_LARGE => too_large(),
            status => Failure::malformed(status, "request body", rejection.body_text()),
        })?;
        if let Some(place) = place {
            place.begin();
        }
        if body.is_empty() {
            return Err(invalid("request body", "it is empty").hint("send a JSON object; /v1/openapi.json says which"));
        }
        check_lists(&body).map_err(|cause| invalid("request body", &cause))?;
        let value = match request_said {
            Some(said) => said.read(&body),
            None => strict::from_json(&body),
        };
        value
            .map(Self)
            .map_err(|error| invalid("request body", &error.to_string()))
    }
}

/// Lets a body pass that is not wanted: who sends all of it first would find the connection broken, and no answer.
async fn leave_unread(body: axum::body::Body) {
    let mut parts = body.into_data_stream();
    let mut left = MOST_UNREAD;
    let passing = async {
        while let Some(Ok(part)) = parts.next().await
            && part.len() <= left
        {
            left -= part.len();
        }
    };
    // One that takes longer is not waited for: it is refused in any case.
    let _ = tokio::time::timeout(BODY_TIMEOUT, passing).await;
}

/// The query string. A flag may stand alone: `?dry_run` is `?dry_run=true`.
pub(super) struct Query<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Query<T> {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Failure> {
        let query = with_values(parts.uri.query().unwrap_or_default());
        let uri: Uri = format!("/?{query}")
            .parse()
            .map_err(|_| invalid("query", "it is malformed"))?;
        match axum::extract::Query::try_from_uri(&uri) {
            Ok(axum::extract::Query(value)) => Ok(Self(value)),
            Err(rejection) => Err(invalid("query", &innermost(&rejection))),
        }
    }
}

/// An edit that is asked for: its options in the query, its condition in the head, and what it is made on.
pub(super) struct Edit {
    /// The model.
    control: Arc<Control>,
    /// Options and condition.
    how: Editing,
    /// The field `If-None-Match`, which was held against what is in the lab.
    none_match: Option<String>,
    /// Tells in the log who asked for it and what came of it.
    audit: Audit,
    /// By which its body is in memory, until it is over.
    leave: Leave,
    /// What its body says of things that are to be added.
    said: Said,
}

/// As the document has it: what each edit can be told besides.
impl IntoParams for Edit {
    fn into_params(place: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let none_match = ParameterBuilder::new()
            .name(IF_NONE_MATCH_NAME)
            .parameter_in(ParameterIn::Header)
            .description(Some(
                "Tags that what is to be changed must not have, or `*`: it must not be there; of what adds something, that is what would be \
                 added. If it has one, nothing is changed and the answer is 412 (`changed`).",
            ))
            .schema(Some(Object::with_type(Type::String)));
        let options = ChangeOptions::into_params(&place);
        [options, Condition::into_params(&place), vec![none_match.build()]].concat()
    }
}

/// The answer to an edit, in the document.
pub(super) struct Done;

impl IntoResponses for Done {
    fn responses() -> BTreeMap<String, RefOr<ApiResponse>> {
        BTreeMap::from([("200".to_owned(), with_changes("What was done").build().into())])
    }
}

/// A response of which the body is what was done.
fn with_changes(description: &str) -> ResponseBuilder {
    let body = ContentBuilder::new().schema(Some(Ref::from_schema_name("Changes")));
    ResponseBuilder::new()
        .description(description)
        .content("application/json", body.build())
}

impl<S: Send + Sync> FromRequestParts<S> for Edit
where
    Arc<Control>: FromRef<S>,
{
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        let Query(options) = Query::<ChangeOptions>::from_request_parts(parts, state).await?;
        let control = Arc::<Control>::from_ref(state);
        let mut if_match = field(parts, &IF_MATCH)?;
        let none_match = field(parts, &IF_NONE_MATCH)?;
        let adds = adds_one(parts);
        let if_absent = none_match.as_deref() == Some("*") && adds;
        if !if_absent
            && let Some(none_match) = &none_match
            && let Some((name, now)) = found(&control, parts).await
        {
            refuse_known(none_match, name, &now)?;
            // It has none of them now, and is to be the same when the edit begins.
            if_match.get_or_insert(now);
        }
        // Of each request that was let through it is known who made it.
        let Some(audit) = parts.extensions.get::<Audit>().cloned() else {
            return Err(ApiError::new(ErrorCode::Internal, "request", "it can't be told who asks").into());
        };
        let leave = Leave::default();
        parts.extensions.insert(leave.clone());
        let said = Said::new(options.idempotent);
        if adds {
            parts.extensions.insert(said.clone());
        }
        let editing = Editing::from(options);
        Ok(Self {
            control,
            how: Editing {
                if_match,
                if_absent,
                no_commands: audit.caller().no_commands(),
                ..editing
            },
            none_match,
            audit,
            leave,
            said,
        })
    }
}

/// A field of the head, all of its lines in one.
fn field(parts: &Parts, name: &HeaderName) -> Result<Option<String>, Failure> {
    let mut lines = Vec::new();
    for value in parts.headers.get_all(name) {
        let line = value.to_str();
        lines.push(line.map_err(|_| invalid(&format!("field {name}"), "it is no text"))?);
    }
    Ok((!lines.is_empty()).then(|| lines.join(", ")))
}

/// RFC 9110 section 13.1.2: the tags are compared as weak ones.
///
/// # Errors
/// Something with the tag `now` has one of those that it must not have.
pub(super) fn refuse_known(none_match: &str, name: String, now: &str) -> Result<(), ApiError> {
    let is_it = |tag: &str| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == now;
    if !tags(none_match).any(is_it) {
        return Ok(());
    }
    let cause =
        format!("it is there with the tag {now}, which the request excludes ({IF_NONE_MATCH_NAME}: {none_match})");
    Err(ApiError::new(ErrorCode::Changed, name, cause)
        .hint("leave If-None-Match out to change what is there; If-Match holds the change to what was read"))
}

/// The answer to what adds something: 201 with the path of what is there now. 200: nothing was made, since it was a dry run, or there
/// before (`?idempotent`).
pub(super) struct Made {
    changes: Changes,
    location: Option<String>,
}

impl IntoResponse for Made {
    fn into_response(self) -> Response {
        // None but letters, digits and signs are in it.
        let location = self.location.and_then(|path| HeaderValue::from_str(&path).ok());
        let mut response = Json(self.changes).into_response();
        if let Some(location) = location {
            *response.status_mut() = StatusCode::CREATED;
            response.headers_mut().insert(LOCATION, location);
        }
        response
    }
}

/// As the document has it: what is in `Location`, in words, is the path by which it is read.
impl IntoResponses for Made {
    fn responses() -> BTreeMap<String, RefOr<ApiResponse>> {
        let mut location = Header::new(Object::with_type(Type::String));
        location.description = Some("Path of what was made; of several, of the first".to_owned());
        let made = with_changes("It was made; `changes` has it as it is now").header("Location", location);
        let nothing = with_changes("Nothing was made: a dry run, or with `idempotent` it was there").build();
        BTreeMap::from([
            ("200".to_owned(), nothing.into()),
            ("201".to_owned(), made.build().into()),
        ])
    }
}

/// Tells, when it is dropped with the request, that the client is gone.
#[derive(Default)]
struct Gone(Arc<AtomicBool>);

impl Drop for Gone {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Edit {
    /// Takes the field `If-None-Match`, for what is no part of the lab.
    pub fn none_match(&mut self) -> Option<String> {
        self.none_match.take()
    }

    /// Adds one of a `collection` of the API; `kind`: what is in that.
    ///
    /// # Errors
    /// What the edit refuses.
    pub async fn add<F>(
        self,
        collection: &'static str,
        kind: ObjectKind,
        change: impl FnOnce(Arc<Control>, Editing) -> F,
    ) -> Result<Made, Failure>
    where
        F: Future<Output = Result<Changes, ApiError>> + Send + 'static,
    {
        let Json(changes) = self.make(change).await?;
        let is_new = |change: &&Change| (change.action, change.kind) == (ChangeAction::Added, kind);
        let new = changes.changes.iter().find(is_new).filter(|_| !changes.dry_run);
        let location = new.map(|new| format!("{collection}/{}", new.name));
        Ok(Made { changes, location })
    }

    /// Makes it, on a thread of its own: a client that disconnects drops its request, but must not stop a change half-way. One that
    /// has not begun by then never does.
    pub async fn make<F>(self, change: impl FnOnce(Arc<Control>, Editing) -> F) -> Reply<Changes>
    where
        F: Future<Output = Result<Changes, ApiError>> + Send + 'static,
    {
        let (gone, begin, control) = (Gone::default(), Instant::now(), self.control.clone());
        let how = Editing {
            said: self.said.take(),
            ..self.how
        };
        let (audit, dry_run, leave) = (self.audit, how.dry_run, self.leave);
        let change = for_client(gone.0.clone(), change(self.control, how));
        let span = Span::current();
        // It waits for workers, disks and threads, which no thread of the runtime may.
        let make = move || {
            let result = Handle::current().block_on(change.instrument(span.clone()));
            // Here and not with the answer, for which its client may not have waited.
            span.in_scope(|| audit.tell(dry_run, &result));
            drop(leave);
            result
        };
        let result = spawn_blocking(make).await;
        let [made, refused] = control.edit_times();
        match &result {
            Ok(Ok(_)) => made.note(begin.elapsed()),
            _ => refused.note(begin.elapsed()),
        }
        match result {
            Ok(result) => Ok(Json(result?)),
            Err(error) => Err(ApiError::new(
                ErrorCode::Internal,
                "request",
                format!("the daemon failed in it: {error}"),
            )
            .into()),
        }
    }
}

/// Refuses what the route does not take, as the OpenAPI document has it: a typing error in `dry_run` must not make the change, nor a body
/// that says so where nothing reads it.
pub(super) async fn check_request(
    State(known): State<Arc<Known>>,
    request: Request,
    next: Next,
) -> Result<Response, Failure> {
    let path = request.extensions().get::<MatchedPath>().map(MatchedPath::as_str);
    let Some(path) = path else {
        return Ok(next.run(request).await);
    };
    let takes = known.of(request.method(), path);
    if let Some(query) = request.uri().query().filter(|query| !query.is_empty()) {
        let query = with_values(query);
        let pairs: axum::extract::Query<Vec<(String, String)>> = format!("/?{query}")
            .parse()
            .ok()
            .and_then(|uri| axum::extract::Query::try_from_uri(&uri).ok())
            .ok_or_else(|| invalid("query", "it is malformed"))?;
        let known = takes.map_or(&[][..], |takes| &takes.queries);
        if let Some((name, _)) = pairs.iter().find(|(name, _)| !known.iter().any(|known| known == name)) {
            let cause = match known {
                [] => format!("it has {name:?}, and this route takes none"),
                known => format!("it has {name:?}, and this route takes {}", known.join(", ")),
            };
            return Err(invalid("query", &cause));
        }
    }
    // A method that there is not is refused as such.
    if let Some(takes) = takes.filter(|takes| !takes.body)
        && !request.body().is_end_stream()
    {
        let hint = match &takes.queries[..] {
            [] => String::new(),
            queries => format!("; its query takes {}", queries.join(", ")),
        };
        return Err(invalid("body", &format!("this route takes none{hint}")));
    }
    Ok(next.run(request).await)
}

/// Gives the value `true` to each key without one.
fn with_values(query: &str) -> String {
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| {
            if pair.contains('=') {
                pair.into()
            } else {
                format!("{pair}=true")
            }
        })
        .collect::<Vec<_>>()
        .join("&")
}

/// The names in the path.
pub(super) struct Path<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for Path<T> {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        match axum::extract::Path::from_request_parts(parts, state).await {
            Ok(axum::extract::Path(value)) => Ok(Self(value)),
            Err(PathRejection::FailedToDeserializePathParams(failed)) => Err(match failed.kind() {
                ErrorKind::DeserializeError { message, .. } | ErrorKind::Message(message) => invalid("path", message),
                other => invalid("path", &other.to_string()),
            }),
            Err(other) => Err(invalid("path", &other.body_text())),
        }
    }
}

fn invalid(object: &str, cause: &str) -> Failure {
    ApiError::new(ErrorCode::Invalid, object, cause).into()
}

/// The text of the error at the end of the chain: the layers above only say that something could not be read.
fn innermost(error: &dyn std::error::Error) -> String {
    // axum's rejection wraps axum's error, which wraps serde's with the path in it; deeper ones have lost the path.
    let serde = error.source().map(|wrapped| wrapped.source().unwrap_or(wrapped));
    serde.unwrap_or(error).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::Body as Bytestream;
    use proptest::prelude::*;
    use vswitch_api::lab::Lab;
    use vswitch_api::request::FdbSelect;

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap()
            .block_on(future)
    }

    /// The status, once the answer has shown to be an error of the API.
    fn status_of(failure: Failure) -> StatusCode {
        let response = failure.into_response();
        let status = response.status();
        let body = block_on(axum::body::to_bytes(response.into_body(), MAX_BODY)).unwrap();
        let error: ApiError = serde_json::from_slice(&body).unwrap();
        assert_eq!(error.code, ErrorCode::Invalid);
        assert!(!error.cause.is_empty());
        status
    }

    proptest! {
        #[test]
        fn any_query_is_taken_or_answered(query in "[!-~&&[^#]]{0,40}|(mac|port|dry_run)(=[0-9a-f:%]{0,20})?") {
            let Ok(uri) = format!("/?{query}").parse::<Uri>() else { return Ok(()) };
            let (mut parts, _) = Request::builder().uri(uri).body(()).unwrap().into_parts();
            let result = block_on(Query::<FdbSelect>::from_request_parts(&mut parts, &()));
            if let Err(failure) = result {
                prop_assert_eq!(status_of(failure), StatusCode::BAD_REQUEST);
            }
        }

        #[test]
        fn any_body_is_taken_or_answered(body in prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..60),
            "\\{(\"(ports|switches|name)\": ?[\\[{]?){0,3}[\\]}]{0,6}".prop_map(String::into_bytes),
        ]) {
            let request = Request::new(Bytestream::from(body));
            if let Err(failure) = block_on(Body::<Lab>::from_request(request, &())) {
                prop_assert_eq!(status_of(failure), StatusCode::BAD_REQUEST);
            }
        }
    }

    #[test]
    fn a_flag_may_stand_alone() {
        assert_eq!(with_values("dry_run"), "dry_run=true");
        assert_eq!(
            with_values("mac=1&&dry_run&idempotent=false"),
            "mac=1&dry_run=true&idempotent=false"
        );
        assert_eq!(with_values(""), "");
    }
}
