//! All routes in one place, with the OpenAPI document that is made from them.

use std::sync::Arc;
use std::time::Instant;

use axum::extract::{FromRef, Request};
use axum::http::header::ETAG;
use axum::http::{HeaderValue, Method, StatusCode, Uri};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::{Json, Router};
use serde::Serialize;
use tokio::sync::watch;
use utoipa::OpenApi;
use utoipa::openapi::OpenApi as Document;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use vswitch_api::capture::Direction;
use vswitch_api::error::ApiError;
use vswitch_api::view::Changes;

use super::document::{Known, finish};
use super::error::Failure;
use super::{
    cables, capture, commands, events, extract, lab, links, log, metrics, mirrors, namespaces, ports, processes,
    restart, roles, switches, trace,
};
use crate::control::{Control, Subject};
use crate::handover::Restart;
use crate::logging::LogHandle;

/// What the routes work with.
#[derive(Clone)]
pub(super) struct Shared {
    control: Arc<Control>,
    /// Settings that metrics show as labels.
    pub labels: Arc<[String]>,
    /// The log.
    pub log: LogHandle,
    /// What makes the daemon begin anew.
    pub restart: Arc<Restart>,
    /// Turns true when the daemon stops, so that event streams end.
    pub stopping: watch::Receiver<bool>,
}

impl Shared {
    /// The model.
    pub fn control(&self) -> &Control {
        &self.control
    }
}

impl FromRef<Shared> for Arc<Control> {
    fn from_ref(shared: &Shared) -> Self {
        shared.control.clone()
    }
}

#[derive(OpenApi)]
#[openapi(
    info(
        title = "vswitchd",
        description = "Control of the vswitchd userspace layer-2 switch, over HTTP on a unix socket. A request that \
            changes something is answered when it is done. Once it has begun it is finished even if the client goes away; \
            before, it is dropped with the connection. \
            In a query, a flag may stand alone: `?dry_run`. What changes something says with `dry_run` what it would do, and with \
            `If-Match` does it only to what is still as it was read: the `ETag` of a switch, its FDB, a port, mirror, namespace, command, of the \
            cables between two namespaces, or of the lab; with `If-None-Match` it leaves alone what has one of those, or is there at all (`*`). \
            What gets a path of its own is answered by 201 with that as `Location`; what becomes part of something that is there (an address, \
            a route, a rule, a static station) by 200, as any change of that. \
            Each operation needs a role (`x-role`): `read-only`, or `admin`, which may do all of it but have commands run and files \
            written that they read; that is for root, unless the daemon's configuration says otherwise. Who has a higher one than an operation \
            needs may make it. The role is told by user and groups of the process that connects; who lacks it gets 403 and `not-permitted`."
    ),
    components(schemas(ApiError, Changes, Direction)),
    tags(
        (name = "daemon", description = "The daemon, and the lab as a whole"),
        (name = "switches", description = "Switches, their forwarding databases, and links between them"),
        (name = "ports", description = "Ports, their addresses and routes"),
        (name = "namespaces", description = "Namespaces, and cables between them"),
    )
)]
struct Base;

fn routes() -> OpenApiRouter<Shared> {
    OpenApiRouter::with_openapi(Base::openapi())
        .routes(routes!(lab::status))
        .routes(routes!(events::events))
        .routes(routes!(metrics::metrics))
        .routes(routes!(log::get, log::set))
        .routes(routes!(restart::restart))
        .routes(routes!(lab::get, lab::apply))
        .routes(routes!(ports::add_several))
        .routes(routes!(lab::reset))
        .routes(routes!(switches::list, switches::add))
        .routes(routes!(switches::get, switches::patch, switches::remove))
        .routes(routes!(switches::fdb, switches::fdb_add, switches::fdb_remove))
        .routes(routes!(mirrors::list, mirrors::add))
        .routes(routes!(mirrors::get, mirrors::patch, mirrors::remove))
        .routes(routes!(ports::list, ports::add))
        .routes(routes!(ports::get, ports::patch, ports::remove))
        .routes(routes!(ports::acl, ports::acl_add, ports::acl_remove))
        .routes(routes!(capture::capture))
        .routes(routes!(capture::end))
        .routes(routes!(trace::trace, trace::live))
        .routes(routes!(trace::way))
        .routes(routes!(ports::addresses))
        .routes(routes!(ports::add_address, ports::remove_addresses))
        .routes(routes!(ports::add_route, ports::remove_route))
        .routes(routes!(namespaces::list, namespaces::add))
        .routes(routes!(namespaces::get, namespaces::patch, namespaces::remove))
        .routes(routes!(commands::list, commands::add))
        .routes(routes!(commands::get, commands::remove))
        .routes(routes!(commands::restart))
        .routes(routes!(processes::list))
        .routes(routes!(processes::get))
        .routes(routes!(processes::log))
        .routes(routes!(cables::list, cables::add))
        .routes(routes!(cables::get, cables::patch, cables::remove))
        .routes(routes!(links::list, links::add))
        .routes(routes!(links::get, links::patch, links::remove))
}

/// The OpenAPI document, as `GET /v1/openapi.json` serves it.
pub fn openapi() -> Document {
    let mut document = routes().into_openapi();
    finish(&mut document);
    document
}

/// The whole HTTP service. Event streams end when `stopping` turns true; `labels` are settings that metrics show.
pub fn router(
    control: Arc<Control>,
    labels: Arc<[String]>,
    (log, restart): (LogHandle, Arc<Restart>),
    stopping: watch::Receiver<bool>,
) -> Router {
    let (router, mut document) = routes().split_for_parts();
    finish(&mut document);
    let known = Arc::new(Known::new(&document));
    router
        .route("/v1/openapi.json", axum::routing::get(async move || Json(document)))
        .fallback(no_such_path)
        .method_not_allowed_fallback(no_such_method)
        .layer(axum::middleware::from_fn_with_state(
            known.clone(),
            extract::check_request,
        ))
        .layer(axum::middleware::from_fn_with_state(known, roles::check_role))
        .layer(axum::middleware::from_fn(log_request))
        .with_state(Shared {
            control,
            labels,
            log,
            restart,
            stopping,
        })
}

/// An answer with the entity tag that it is to be changed by.
pub(super) struct Tagged<T> {
    tag: Option<String>,
    value: T,
}

impl<T: Serialize> IntoResponse for Tagged<T> {
    fn into_response(self) -> Response {
        // None but letters, digits and signs are in it.
        let tag = self.tag.and_then(|tag| HeaderValue::from_str(&tag).ok());
        let mut response = Json(self.value).into_response();
        if let Some(tag) = tag {
            response.headers_mut().insert(ETAG, tag);
        }
        response
    }
}

/// Reads something of the lab. The tag first: one that is older than what is read makes an edit fail in vain at worst, a younger one
/// would let it undo another's.
pub(super) async fn tagged<T>(
    control: &Control,
    subject: Subject<'_>,
    read: impl Future<Output = Result<T, ApiError>>,
) -> Result<Tagged<T>, Failure> {
    let tag = control.tag(subject).await;
    Ok(Tagged {
        tag,
        value: read.await?,
    })
}

const SEE_DOCUMENT: &str = "GET /v1/openapi.json lists the routes";

async fn no_such_path(uri: Uri) -> Failure {
    let object = format!("path {:?}", uri.path());
    Failure::malformed(StatusCode::NOT_FOUND, object, "there is no such route").hint(SEE_DOCUMENT)
}

async fn no_such_method(method: Method, uri: Uri) -> Failure {
    let object = format!("path {:?}", uri.path());
    let cause = format!("it does not take {method}");
    Failure::malformed(StatusCode::METHOD_NOT_ALLOWED, object, cause).hint(SEE_DOCUMENT)
}

async fn log_request(request: Request, next: Next) -> Response {
    let start = Instant::now();
    let (method, uri) = (request.method().clone(), request.uri().clone());
    let response = next.run(request).await;
    let elapsed_ms = start.elapsed().as_secs_f64() * 1000.0;
    tracing::debug!(%method, %uri, status = response.status().as_u16(), elapsed_ms, "request");
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The document is part of the interface: a change of it has to show up in the diff that a reviewer reads.
    #[test]
    fn the_openapi_document_is_the_one_in_docs() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/openapi.json");
        let document = openapi().to_pretty_json().unwrap() + "\n";
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(path, &document).unwrap();
        }
        let kept = std::fs::read_to_string(path).unwrap();
        assert!(
            document == kept,
            "the API differs from {path}; run the test with UPDATE=1 and review the difference"
        );
    }

    #[test]
    fn every_reference_in_the_document_resolves() {
        fn references(value: &serde_json::Value, found: &mut Vec<String>) {
            match value {
                serde_json::Value::Object(map) => map.iter().for_each(|(key, value)| match value.as_str() {
                    Some(target) if key == "$ref" => found.push(target.to_owned()),
                    _ => references(value, found),
                }),
                serde_json::Value::Array(list) => list.iter().for_each(|value| references(value, found)),
                _ => {}
            }
        }
        let document = serde_json::to_value(openapi()).unwrap();
        let mut found = Vec::new();
        references(&document, &mut found);
        assert!(found.len() > 50, "{}", found.len());
        for target in found {
            assert!(document.pointer(target.trim_start_matches('#')).is_some(), "{target}");
        }
    }
}
