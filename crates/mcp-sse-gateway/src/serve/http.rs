//! What the gateway serves other than SSE: the same servers over Streamable HTTP, and the health checks.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full};
use mcp_sse::{Backplane as _, Body, Forwarded, Host};
use tower_layer::Layer as _;
use tower_service::Service;

use super::{named::Named, servers::Table};
use crate::{
    answer::{Answer, json, read_only, text},
    args::{HealthCheck, Http},
    front::modern::{FromServer, is_modern},
    page::{self, Page},
    replicas::{self, At},
};

/// The service for all paths other than those of SSE.
#[derive(Clone)]
pub(super) struct Beside {
    health: Health,
    /// Whether there is a page for people.
    page: bool,
    /// What stands before the paths for those who do not come here directly.
    public_url: Option<Arc<str>>,
}

/// The health checks.
#[derive(Clone)]
pub(super) struct Health {
    pub(super) table: Arc<Table>,
    paths: Arc<[String]>,
    draining: Arc<AtomicBool>,
    /// Whether servers are probed, and have to be well.
    probes: bool,
}

impl Beside {
    pub(super) fn new(table: Arc<Table>, args: &Http, page: bool, public_url: Option<&str>) -> Self {
        let own = ["/healthz".to_owned()];
        let paths = own.into_iter().chain(args.health_endpoint.iter().cloned()).collect();
        let probes = args.health_check == HealthCheck::Server;
        let health = Health { table, paths, draining: Arc::default(), probes };
        Self { health, page, public_url: public_url.map(Arc::from) }
    }

    pub(super) fn health(&self) -> Health {
        self.health.clone()
    }

    /// From now on, reports not ready and refuses new sessions.
    pub(super) fn drain(&self) {
        self.health.draining.store(true, Ordering::Release);
    }

    /// Answers what other replicas forward, until what this returns is dropped.
    pub(super) fn offer_to_others(&self) -> Option<Arc<dyn Host>> {
        let replicas = self.health.table.replicas()?;
        let host: Arc<dyn Host> = Arc::new(Here(self.clone()));
        replicas.backplane().bind(replicas::HTTP, Arc::downgrade(&host));
        Some(host)
    }

    async fn answer<B>(self, request: Request<B>) -> Response<Body>
    where
        B: http_body::Body + Send + 'static,
        B::Data: Send,
    {
        if let Some(answer) = self.health.answer(&request) {
            return answer.map(Body::new);
        }
        let Health { table, draining, .. } = &self.health;
        if let Some(document) = table.well_known(request.uri().path()) {
            // Behind the checks of names, and before those of clients.
            let read = table.transport.guard().layer(document).call(request).await;
            return read.unwrap_or_else(|never| match never {});
        }
        let Some(named) = table.at_mcp_path(request.uri().path()) else {
            let page = Paged { table: Arc::clone(table), public_url: self.public_url };
            let Some(page) = self.page.then_some(page) else {
                return text(StatusCode::NOT_FOUND, "there is nothing here\n").map(Body::new);
            };
            // Behind the checks of names; what it shows depends on the visitor's key.
            let read = table.transport.guard().layer(page).call(request.map(|_| ())).await;
            return read.unwrap_or_else(|never| match never {});
        };
        let behind = Mcp { table: Arc::clone(table), draining: Arc::clone(draining), named };
        let guarded = behind.named.mcp_guard().layer(behind.clone()).call(request).await;
        // The error type is `Infallible`.
        guarded.unwrap_or_else(|never| match never {})
    }
}

/// What other replicas reach here: Streamable HTTP, behind the same checks.
struct Here(Beside);

impl Host for Here {
    fn answer(
        &self,
        mut request: Request<Bytes>,
    ) -> Pin<Box<dyn Future<Output = Response<Body>> + Send + '_>> {
        let extensions = request.extensions_mut();
        if let Some(forwarded) = extensions.get::<Forwarded>().cloned() {
            forwarded.principal.map(|principal| extensions.insert(principal));
            forwarded.client_ip.map(|address| extensions.insert(address));
        }
        if self.0.health.table.at_mcp_path(request.uri().path()).is_none() {
            let nothing = text(StatusCode::NOT_FOUND, "there is nothing here\n").map(Body::new);
            return Box::pin(std::future::ready(nothing));
        }
        Box::pin(self.0.clone().answer(request.map(Full::new)))
    }

    fn refuses(
        &self,
        mut request: Request<()>,
        _: u64,
    ) -> Pin<Box<dyn Future<Output = Option<Response<Body>>> + Send + '_>> {
        let table = &self.0.health.table;
        let principal = request.extensions().get::<Forwarded>().and_then(|known| known.principal.clone());
        if let Some(replicas) = table.replicas() {
            At::of(request.headers_mut(), replicas.id());
        }
        let id = request.headers().get("mcp-session-id").and_then(|id| id.to_str().ok());
        let named = table.at_mcp_path(request.uri().path());
        let mcp = named.as_ref().and_then(|named| named.mcp.as_ref());
        let is_there = mcp.zip(id).is_some_and(|(mcp, id)| mcp.has(id, principal.as_ref()));
        let gone = || text(StatusCode::NOT_FOUND, "Not Found: Session not found").map(Body::new);
        Box::pin(std::future::ready((!is_there).then(gone)))
    }
}

/// The page for people.
#[derive(Clone)]
struct Paged {
    table: Arc<Table>,
    public_url: Option<Arc<str>>,
}

impl Service<Request<()>> for Paged {
    type Response = Answer;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Answer, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<()>) -> Self::Future {
        let Self { table, public_url } = self.clone();
        Box::pin(async move {
            let file = page::answer(&request, Page::Clients);
            let list = || {
                let all = table.served();
                page::list(&request, all.iter().map(|named| named.served()), public_url.as_deref())
            };
            let nothing = || text(StatusCode::NOT_FOUND, "there is nothing here\n");
            Ok(file.or_else(list).unwrap_or_else(nothing))
        })
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
    /// Answers a request, for whose session another replica is asked if it is there.
    async fn answer_anywhere<B>(self, mut request: Request<B>) -> Response<Body>
    where
        B: http_body::Body + Send + 'static,
        B::Data: Send,
    {
        let Some(replicas) = self.table.replicas().cloned() else {
            return self.answer(request).await.map(Body::new);
        };
        // What was forwarded is not forwarded again.
        let is_forwarded = request.extensions().get::<Forwarded>().is_some();
        match At::of(request.headers_mut(), replicas.id()) {
            At::Elsewhere(replica) if !is_forwarded => {
                let mut answer = self.table.transport.forward(&replica, replicas::HTTP, request).await;
                // Its own, which come again here.
                for name in
                    [header::VARY, header::ACCESS_CONTROL_ALLOW_ORIGIN, header::ACCESS_CONTROL_EXPOSE_HEADERS]
                {
                    answer.headers_mut().remove(name);
                }
                answer
            }
            _ => {
                let mut answer = self.answer(request).await;
                At::name(answer.headers_mut(), replicas.id());
                answer.map(Body::new)
            }
        }
    }

    async fn answer<B>(self, request: Request<B>) -> Answer
    where
        B: http_body::Body + Send + 'static,
        B::Data: Send,
    {
        let Self { table, draining, named } = self;
        let (parts, body) = request.into_parts();
        // A client that speaks both eras asks before it speaks: at a server with a handshake it can do more with one, so that it is
        // refused as before. One that speaks this era only need not ask.
        let asks = parts
            .headers
            .get(crate::message::modern::header::METHOD)
            .is_some_and(|method| method == "server/discover");
        let is_for_modern = is_modern(&parts) && (!asks || named.eras().modern() == Some(true));
        if let Some(modern) = named.modern.as_ref().filter(|_| is_for_modern) {
            let may_open = !named.is_retired() && !draining.load(Ordering::Acquire);
            return modern.handle(Request::from_parts(parts, body), may_open).await;
        }
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
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let this = self.clone();
        let opens = !request.headers().contains_key("mcp-session-id");
        Box::pin(async move {
            let metrics = this.table.metrics().cloned();
            let answer = this.answer_anywhere(request).await;
            let is_ours = answer.extensions().get::<FromServer>().is_none();
            let reason = refusal(answer.status(), opens).filter(|_| is_ours);
            if let (Some(metrics), Some(reason)) = (metrics, reason) {
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
    pub(super) fn answer<B>(&self, request: &Request<B>) -> Option<Answer> {
        let path = request.uri().path();
        if self.paths.iter().any(|health| health == path) {
            return Some(read_only(request, || text(StatusCode::OK, "ok\n")));
        }
        (path == "/readyz").then(|| read_only(request, || self.ready()))
    }

    /// Whether a new session would be accepted, and how many there are.
    fn ready(&self) -> Answer {
        let draining = self.is_draining();
        let without_keys = self.table.issuers_without_keys();
        let ill = if self.probes { self.table.ill() } else { 0 };
        let ready = !draining && self.table.has_room() && without_keys.is_empty() && ill == 0;
        let (sse, silent, http) = self.table.session_counts();
        let mut body = serde_json::json!({
            "ready": ready,
            "draining": draining,
            "sessions": { "sse": sse, "silent": silent, "streamable_http": http, "max": self.table.max_sessions() },
        });
        if !without_keys.is_empty() {
            body["issuers_without_keys"] = without_keys.into();
        }
        if let Some(replicas) = self.table.replicas() {
            // Its own sessions go on without the others.
            body["cluster"] = serde_json::json!({ "connected": replicas.is_connected(), "others": replicas.others().len() });
        }
        if ill > 0 {
            // Their names are nothing for strangers.
            body["servers_not_ready"] = ill.into();
        }
        json(if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, &body)
    }

    pub(super) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }
}

/// The answer to the deletion of a session. rmcp answers with 202, which Python clients take for a failure.
fn no_content() -> Answer {
    let mut response = Response::new(Full::default().boxed());
    *response.status_mut() = StatusCode::NO_CONTENT;
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
