//! What the gateway serves beside SSE: the same servers over Streamable HTTP, and the health checks.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
};

use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full};
use tower_service::Service;

use super::servers::Table;
use crate::{args::Http, front::http::Answer};

/// The service behind all paths that are not SSE's.
#[derive(Clone)]
pub(super) struct Beside {
    table: Arc<Table>,
    health: Arc<[String]>,
    draining: Arc<AtomicBool>,
}

impl Beside {
    pub(super) fn new(table: Arc<Table>, args: &Http) -> Self {
        let own = ["/healthz".to_owned()];
        let health = own.into_iter().chain(args.health_endpoint.iter().cloned()).collect();
        Self { table, health, draining: Arc::default() }
    }

    /// Not ready from now on, and no new sessions.
    pub(super) fn drain(&self) {
        self.draining.store(true, Ordering::Release);
    }

    async fn answer<B>(self, request: Request<B>) -> Answer
    where
        B: http_body::Body + Send + 'static,
        B::Data: Send,
    {
        let path = request.uri().path();
        if self.health.iter().any(|health| health == path) {
            return read_only(&request, || text(StatusCode::OK, "ok\n"));
        }
        if path == "/readyz" {
            return read_only(&request, || self.ready());
        }
        let Some(named) = self.table.at_mcp_path(path) else {
            return text(StatusCode::NOT_FOUND, "there is nothing here\n");
        };
        let (parts, body) = request.into_parts();
        let guarded = match self.table.transport.guard(&parts) {
            Ok(guarded) => guarded,
            Err(refusal) => return refusal.map(BodyExt::boxed),
        };
        // Without a session it would open one.
        let opens = parts.method == Method::POST && !parts.headers.contains_key("mcp-session-id");
        let mut response = if opens && named.is_retired() {
            text(StatusCode::NOT_FOUND, "there is nothing here any more\n")
        } else if opens && (self.draining.load(Ordering::Acquire) || !self.table.transport.has_room()) {
            tracing::warn!(
                "a session over Streamable HTTP was refused: the gateway is full or shutting down"
            );
            let mut busy = text(StatusCode::SERVICE_UNAVAILABLE, "Too many sessions, try again later");
            busy.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
            busy
        } else if let Some(mcp) = &named.mcp {
            let deletes = parts.method == Method::DELETE;
            let response = mcp.handle(Request::from_parts(parts, body), named.identity()).await;
            if deletes && response.status() == StatusCode::ACCEPTED { no_content() } else { response }
        } else {
            text(StatusCode::NOT_FOUND, "there is nothing here\n")
        };
        guarded.finish(response.headers_mut());
        response
    }

    /// Whether a new session would be taken, and how many there are.
    fn ready(&self) -> Answer {
        let draining = self.draining.load(Ordering::Acquire);
        let ready = !draining && self.table.has_room();
        let (sse, http) = self.table.session_counts();
        let body = serde_json::json!({
            "ready": ready,
            "draining": draining,
            "sessions": { "sse": sse, "streamable_http": http, "max": self.table.max_sessions() },
        });
        let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        let mut response = Response::new(Full::from(format!("{body}\n")).boxed());
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        response
    }
}

/// A session that has been deleted. rmcp says 202, which Python clients take for a failure.
fn no_content() -> Answer {
    let mut response = Response::new(Full::default().boxed());
    *response.status_mut() = StatusCode::NO_CONTENT;
    response
}

/// Probes come under any host name, so it is not checked; and they tell nothing that is worth hiding.
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
    type Response = Answer;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Answer, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let this = self.clone();
        Box::pin(async move { Ok(this.answer(request).await) })
    }
}
