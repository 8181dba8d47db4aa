//! What the gateway serves other than SSE: the same servers over Streamable HTTP, and the health checks.

use std::{
    convert::Infallible,
    net::IpAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use http::{HeaderValue, Method, Request, Response, StatusCode, header, uri::Authority};
use http_body_util::{BodyExt, Full};
use mcp_sse::{Authenticate as _, Authentication, Body, Server};
use tower_layer::Layer as _;
use tower_service::Service;

use super::{named::Named, servers::Table};
use crate::{
    access::KeyFile,
    args::Http,
    front::http::Answer,
    listening::Listening,
    metrics::{Format, Metrics},
};

/// Maximum number of connections to the admin place. Probes are few, and each is closed after its answer.
const ADMIN_CONNECTIONS: usize = 256;
/// How long a connection may be idle there; closed after twice that at the latest.
const ADMIN_IDLE: Duration = Duration::from_secs(2);

/// The service for all paths other than those of SSE.
#[derive(Clone)]
pub(super) struct Beside(Health);

/// The health checks.
#[derive(Clone)]
pub(super) struct Health {
    table: Arc<Table>,
    paths: Arc<[String]>,
    draining: Arc<AtomicBool>,
}

/// Serves the admin place, until it is dropped.
pub(super) async fn admin(listener: Listening, inside: Admin) {
    Server::new()
        .max_connections(ADMIN_CONNECTIONS)
        .idle_timeout(ADMIN_IDLE)
        .header_timeout(ADMIN_IDLE)
        .fallback(inside)
        .serve(listener, std::future::pending(), Duration::ZERO)
        .await;
}

impl Beside {
    pub(super) fn new(table: Arc<Table>, args: &Http) -> Self {
        let own = ["/healthz".to_owned()];
        let paths = own.into_iter().chain(args.health_endpoint.iter().cloned()).collect();
        Self(Health { table, paths, draining: Arc::default() })
    }

    pub(super) fn health(&self) -> Health {
        self.0.clone()
    }

    /// From now on, reports not ready and refuses new sessions.
    pub(super) fn drain(&self) {
        self.0.draining.store(true, Ordering::Release);
    }

    async fn answer<B>(self, request: Request<B>) -> Response<Body>
    where
        B: http_body::Body + Send + 'static,
        B::Data: Send,
    {
        if let Some(answer) = self.0.answer(&request) {
            return answer.map(Body::new);
        }
        let Health { table, draining, .. } = &self.0;
        if let Some(document) = table.well_known(request.uri().path()) {
            // Behind the checks of names, and before those of clients.
            let read = table.transport.guard().layer(document).call(request).await;
            return read.unwrap_or_else(|never| match never {});
        }
        let Some(named) = table.at_mcp_path(request.uri().path()) else {
            return text(StatusCode::NOT_FOUND, "there is nothing here\n").map(Body::new);
        };
        let behind = Mcp { table: Arc::clone(table), draining: Arc::clone(draining), named };
        let guarded = behind.named.mcp_guard().layer(behind.clone()).call(request).await;
        // The error type is `Infallible`.
        guarded.unwrap_or_else(|never| match never {})
    }
}

/// Streamable HTTP of one server, behind the transport's checks.
#[derive(Clone)]
struct Mcp {
    table: Arc<Table>,
    draining: Arc<AtomicBool>,
    named: Arc<Named>,
}

impl Mcp {
    async fn answer<B>(self, request: Request<B>) -> Answer
    where
        B: http_body::Body + Send + 'static,
        B::Data: Send,
    {
        let Self { table, draining, named } = self;
        let (parts, body) = request.into_parts();
        // A POST without a session opens one.
        let opens = parts.method == Method::POST && !parts.headers.contains_key("mcp-session-id");
        if opens && named.is_retired() {
            return text(StatusCode::NOT_FOUND, "there is nothing here any more\n");
        }
        if opens && (draining.load(Ordering::Acquire) || !table.transport.has_room(&parts.extensions)) {
            tracing::warn!("refused a session over Streamable HTTP: the gateway is full or shutting down");
            let mut busy = text(StatusCode::SERVICE_UNAVAILABLE, "Too many sessions, try again later");
            busy.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
            return busy;
        }
        let Some(mcp) = &named.mcp else {
            return text(StatusCode::NOT_FOUND, "there is nothing here\n");
        };
        let deletes = parts.method == Method::DELETE;
        let response = mcp.handle(Request::from_parts(parts, body), named.identity()).await;
        if deletes && response.status() == StatusCode::ACCEPTED { no_content() } else { response }
    }
}

impl<B> Service<Request<B>> for Mcp
where
    B: http_body::Body + Send + 'static,
    B::Data: Send,
{
    type Response = Answer;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Answer, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let this = self.clone();
        let opens = !request.headers().contains_key("mcp-session-id");
        Box::pin(async move {
            let metrics = this.table.metrics().cloned();
            let answer = this.answer(request).await;
            if let (Some(metrics), Some(reason)) = (metrics, refusal(answer.status(), opens)) {
                metrics.refused(reason);
            }
            Ok(answer)
        })
    }
}

/// Why a request was refused, in the words of the transport.
fn refusal(status: StatusCode, opens: bool) -> Option<&'static str> {
    let word = match status {
        StatusCode::BAD_REQUEST => "invalid_message",
        StatusCode::FORBIDDEN => "other_identity",
        StatusCode::NOT_FOUND if opens => "not_found",
        StatusCode::NOT_FOUND => "session_not_found",
        StatusCode::REQUEST_TIMEOUT => "body_timeout",
        StatusCode::PAYLOAD_TOO_LARGE => "body_too_large",
        StatusCode::SERVICE_UNAVAILABLE if opens => "too_many_sessions",
        StatusCode::SERVICE_UNAVAILABLE => "session_busy",
        _ => "other",
    };
    (status.is_client_error() || status.is_server_error()).then_some(word)
}

impl Health {
    /// `None` if the request is not for a health check.
    fn answer<B>(&self, request: &Request<B>) -> Option<Answer> {
        let path = request.uri().path();
        if self.paths.iter().any(|health| health == path) {
            return Some(read_only(request, || text(StatusCode::OK, "ok\n")));
        }
        (path == "/readyz").then(|| read_only(request, || self.ready()))
    }

    /// Whether a new session would be accepted, and how many there are.
    fn ready(&self) -> Answer {
        let draining = self.draining.load(Ordering::Acquire);
        let without_keys = self.table.issuers_without_keys();
        let ready = !draining && self.table.has_room() && without_keys.is_empty();
        let (sse, silent, http) = self.table.session_counts();
        let mut body = serde_json::json!({
            "ready": ready,
            "draining": draining,
            "sessions": { "sse": sse, "silent": silent, "streamable_http": http, "max": self.table.max_sessions() },
        });
        if !without_keys.is_empty() {
            body["issuers_without_keys"] = without_keys.into();
        }
        let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        let mut response = Response::new(Full::from(format!("{body}\n")).boxed());
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        response
    }
}

/// The answer to the deletion of a session. rmcp answers with 202, which Python clients take for a failure.
fn no_content() -> Answer {
    let mut response = Response::new(Full::default().boxed());
    *response.status_mut() = StatusCode::NO_CONTENT;
    response
}

/// Answers GET and HEAD. Probes use any host name, so `Host` is not checked; the answers reveal nothing secret.
fn read_only<B>(request: &Request<B>, answer: impl FnOnce() -> Answer) -> Answer {
    if matches!(*request.method(), Method::GET | Method::HEAD) {
        return answer();
    }
    let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "");
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
    response
}

fn text(status: StatusCode, text: &'static str) -> Answer {
    let mut response = Response::new(Full::from(text).boxed());
    *response.status_mut() = status;
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, plain);
    response
}

impl<B> Service<Request<B>> for Beside
where
    B: http_body::Body + Send + 'static,
    B::Data: Send,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let this = self.clone();
        Box::pin(async move { Ok(this.answer(request).await) })
    }
}

/// What is served at the admin place.
#[derive(Clone)]
pub(super) struct Admin {
    pub(super) health: Health,
    pub(super) metrics: Option<Arc<Metrics>>,
    /// Of those who may see more than health checks.
    pub(super) keys: Option<Arc<KeyFile>>,
}

impl Admin {
    async fn answer(&self, request: &Request<()>) -> Answer {
        if let Some(answer) = self.health.answer(request) {
            return answer;
        }
        if let Some(keys) = &self.keys {
            let (head, ()) = request.clone().into_parts();
            if !matches!(keys.tokens.authenticate(&head), Authentication::Done(Ok(_))) {
                let mut answer = text(StatusCode::UNAUTHORIZED, "expected a key of --admin-token-file\n");
                answer.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
                return answer;
            }
        } else if !is_for_this_machine(request) {
            let why = "without --admin-token-file, expected localhost or an address as the Host\n";
            return text(StatusCode::MISDIRECTED_REQUEST, why);
        }
        match &self.metrics {
            Some(metrics) if request.uri().path() == "/metrics" => {
                let format = Format::asked_for(request.headers());
                let table = Arc::clone(&self.health.table);
                let now = tokio::task::spawn_blocking(move || table.snapshot()).await.unwrap_or_default();
                read_only(request, || {
                    let mut answer = Response::new(Full::from(metrics.render(format, &now)).boxed());
                    let kind = HeaderValue::from_static(format.content_type());
                    answer.headers_mut().insert(header::CONTENT_TYPE, kind);
                    answer
                })
            }
            _ => text(StatusCode::NOT_FOUND, "there is nothing here\n"),
        }
    }
}

/// Whether the host that a request is for is `localhost` or an address. A web page whose name has come to mean this
/// machine (DNS rebinding) has another one.
fn is_for_this_machine(request: &Request<()>) -> bool {
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
    let named = host.and_then(|host| host.parse().ok()).or_else(|| request.uri().authority().cloned());
    named.is_some_and(|named: Authority| {
        let name = named.host();
        let address = name.trim_start_matches('[').trim_end_matches(']');
        name.eq_ignore_ascii_case("localhost") || address.parse::<IpAddr>().is_ok()
    })
}

impl<B: Send + Sync + 'static> Service<Request<B>> for Admin {
    type Response = Answer;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Answer, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let this = self.clone();
        Box::pin(async move {
            // Its body is of no use.
            let mut answer = this.answer(&request.map(|_| ())).await;
            // Closed, since a probe that keeps its connection would use up one of the few.
            answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
            Ok(answer)
        })
    }
}
