//! The admin place: health checks, and what there is to see for operators.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    net::IpAddr,
    pin::Pin,
    sync::{Arc, atomic::Ordering},
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header, uri::Authority};
use http_body_util::{BodyExt as _, Full};
use mcp_sse::{Authenticate as _, Authentication, Backplane as _, Body, Host, Principal, Server};
use serde_json::{Value, json};
use tower_service::Service;

use super::{http::Health, named::Named};
use crate::{
    access::KeyFile,
    answer::{Answer, json, read_only, text},
    backend::child::memory,
    calls::{Listed, NotClosed},
    clock,
    listening::Listening,
    metrics::{Format, Metrics, Snapshot},
    page::{self, Page},
    replicas::{self, Replicas, others},
};

/// Maximum number of connections to the admin place. Probes are few, and each is closed after its answer.
const CONNECTIONS: usize = 256;
/// How long a connection may be idle there; closed after twice that at the latest.
const IDLE: Duration = Duration::from_secs(2);

/// Serves the admin place, until it is dropped.
pub(super) async fn serve(listener: Listening, inside: Admin) {
    Server::new()
        .max_connections(CONNECTIONS)
        .idle_timeout(IDLE)
        .header_timeout(IDLE)
        // One that does not read its answer holds one of the few connections, and over HTTP/2 none is ever given back.
        .tcp_user_timeout(IDLE)
        .http2(false)
        .fallback(inside)
        .serve(listener, std::future::pending(), Duration::ZERO)
        .await;
}

/// What is served at the admin place.
#[derive(Clone)]
pub(super) struct Admin {
    pub(super) health: Health,
    pub(super) metrics: Option<Arc<Metrics>>,
    /// Of those who may see more than health checks.
    pub(super) keys: Option<Arc<KeyFile>>,
    /// Whether strangers can reach it, who may see no more than health checks.
    pub(super) is_open: bool,
}

impl Admin {
    async fn answer(&self, request: &Request<()>) -> Answer {
        if let Some(answer) = self.health.answer(request) {
            return answer;
        }
        let is_shown = self.keys.is_some() || !self.is_open;
        // Its files are no secret, and a browser cannot show a key for them.
        if self.keys.is_some()
            && let Some(answer) = page::answer(request, Page::Admin)
        {
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
        } else if is_from_elsewhere(request) {
            return text(StatusCode::FORBIDDEN, "not for web pages of other origins\n");
        }
        match (request.uri().path(), &self.metrics) {
            ("/metrics", Some(metrics)) => {
                let format = Format::asked_for(request.headers());
                let now = self.now().await;
                read_only(request, || {
                    let mut answer = Response::new(Full::from(metrics.render(format, &now)).boxed());
                    let kind = HeaderValue::from_static(format.content_type());
                    answer.headers_mut().insert(header::CONTENT_TYPE, kind);
                    answer
                })
            }
            ("/status", _) if is_shown => {
                if request.method() == Method::GET && request.uri().query() == Some("probe") {
                    self.health.table.probe_all().await;
                }
                let now = self.now().await;
                let status = self.status(&now).await;
                read_only(request, || json(StatusCode::OK, &status))
            }
            ("/sessions", _) if is_shown => {
                let sessions = self.all_sessions().await;
                read_only(request, || json(StatusCode::OK, &sessions))
            }
            (path, _) if is_shown => match path.strip_prefix("/sessions/") {
                Some(id) => self.close_anywhere(request.method(), id).await,
                None => page::answer(request, Page::Admin).unwrap_or_else(nothing),
            },
            _ => nothing(),
        }
    }

    /// The sessions that have begun.
    fn sessions(&self) -> Value {
        let (total, listed) =
            self.health.table.sessions().map(|sessions| sessions.busiest()).unwrap_or_default();
        let mut sessions: Vec<_> = listed.into_iter().map(session).collect();
        if let Some(replicas) = self.health.table.replicas() {
            for session in &mut sessions {
                session["replica"] = replicas.id().name().into();
            }
        }
        json!({ "total": total, "sessions": sessions })
    }

    /// The same, and those of the other replicas.
    async fn all_sessions(&self) -> Value {
        let mut all = self.sessions();
        let Some(replicas) = self.health.table.replicas() else { return all };
        let mut silent = Vec::new();
        for (replica, answer) in others::ask_all(replicas, &Method::GET, "/sessions").await {
            let listed: Option<Value> = answer.and_then(|(_, body)| serde_json::from_slice(&body).ok());
            let Some(Value::Array(sessions)) = listed.as_ref().map(|listed| listed["sessions"].clone())
            else {
                silent.push(replica.name().to_owned());
                continue;
            };
            let total = |all: &Value| all["total"].as_u64().unwrap_or_default();
            all["total"] = (total(&all) + listed.as_ref().map_or(0, total)).into();
            if let Value::Array(here) = &mut all["sessions"] {
                here.extend(sessions);
            }
        }
        if !silent.is_empty() {
            all["replicas_without_answer"] = silent.into();
        }
        all
    }

    /// Ends the session whose id begins like this, at whatever replica it is.
    async fn close_anywhere(&self, method: &Method, id: &str) -> Answer {
        let answer = self.close(method, id);
        let Some(replicas) = self.health.table.replicas() else { return answer };
        if answer.status() != StatusCode::NOT_FOUND {
            return answer;
        }
        let listed = self.all_sessions().await;
        let all = listed["sessions"].as_array().map(Vec::as_slice).unwrap_or_default();
        if all.iter().filter(|session| session["id"] == id).count() > 1 {
            return several();
        }
        let path = format!("/sessions/{id}");
        let answers = others::ask_all(replicas, method, &path).await;
        let mut statuses =
            answers.iter().filter_map(|(_, answer)| answer.as_ref().map(|(status, _)| *status));
        match statuses.find(|status| *status != StatusCode::NOT_FOUND) {
            Some(StatusCode::NO_CONTENT) => text(StatusCode::NO_CONTENT, ""),
            Some(StatusCode::CONFLICT) => several(),
            _ => answer,
        }
    }

    /// Answers the other replicas, until what this returns is dropped.
    pub(super) fn offer_to_others(&self) -> Option<Arc<dyn Host>> {
        let replicas = self.health.table.replicas()?;
        let host: Arc<dyn Host> = Arc::new(ForOthers(self.clone()));
        replicas.backplane().bind(replicas::ADMIN, Arc::downgrade(&host));
        Some(host)
    }

    /// Ends the session whose id begins like this.
    fn close(&self, method: &Method, id: &str) -> Answer {
        if method != Method::DELETE {
            let mut answer = text(StatusCode::METHOD_NOT_ALLOWED, "");
            answer.headers_mut().insert(header::ALLOW, HeaderValue::from_static("DELETE"));
            return answer;
        }
        let closed = self.health.table.sessions().map_or(Err(NotClosed::Unknown), |all| all.close(id));
        match closed {
            Ok(()) => {
                tracing::info!(id, "a session is closed by its operator");
                text(StatusCode::NO_CONTENT, "")
            }
            Err(NotClosed::Unknown) => text(StatusCode::NOT_FOUND, "there is no session with this id\n"),
            Err(NotClosed::Ambiguous) => several(),
        }
    }

    async fn now(&self) -> Snapshot {
        let table = Arc::clone(&self.health.table);
        tokio::task::spawn_blocking(move || table.snapshot()).await.unwrap_or_default()
    }

    /// What there is now, and what was last seen of each server.
    async fn status(&self, now: &Snapshot) -> Value {
        let table = Arc::clone(&self.health.table);
        let servers = tokio::task::spawn_blocking(move || {
            let served = table.served();
            served.iter().map(|named| (named.label.to_string(), server(named))).collect::<BTreeMap<_, _>>()
        });
        let servers = servers.await.unwrap_or_default();
        let all = now.totals.all();
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "time": humantime::format_rfc3339_millis(clock::wall()).to_string(),
            "metrics": self.metrics.is_some(),
            "draining": self.health.is_draining(),
            "sessions": { "sse": now.sse, "silent": now.silent, "streamable_http": now.streamable_http },
            "programs": {
                "running": now.programs, "waiting_for_start": now.starts_waiting, "memory_bytes": now.program_memory,
            },
            "totals": {
                "calls": all.calls,
                "errors": all.errors,
                "sessions": now.totals.sessions,
                "messages_in": all.from_client.messages,
                "messages_out": all.to_client.messages,
                "bytes_in": all.from_client.bytes,
                "bytes_out": all.to_client.bytes,
            },
            "servers": servers,
            "cluster": self.health.table.replicas().map(Replicas::status),
        })
    }
}

/// What operators at other replicas ask of this one, who have shown their keys there.
struct ForOthers(Admin);

impl Host for ForOthers {
    fn answer(&self, request: Request<Bytes>) -> Pin<Box<dyn Future<Output = Response<Body>> + Send + '_>> {
        let answer = match request.uri().path() {
            "/sessions" => json(StatusCode::OK, &self.0.sessions()),
            path => match path.strip_prefix("/sessions/") {
                Some(id) => self.0.close(request.method(), id),
                None => nothing(),
            },
        };
        Box::pin(std::future::ready(answer.map(Body::new)))
    }
}

fn several() -> Answer {
    text(StatusCode::CONFLICT, "several sessions have ids that begin like this\n")
}

fn nothing() -> Answer {
    text(StatusCode::NOT_FOUND, "there is nothing here\n")
}

fn session(listed: Listed) -> Value {
    let Listed { id, seen } = listed;
    json!({
        "id": id,
        "server": *seen.server,
        "transport": seen.transport,
        "principal": seen.principal.as_ref().map(Principal::as_str),
        "address": seen.address.map(|client| client.0.to_string()),
        "age_seconds": seen.age.as_secs_f64(),
        "idle_seconds": seen.idle.as_secs_f64(),
        "in_flight": seen.in_flight,
        "calls": seen.figures.calls,
        "errors": seen.figures.errors,
        "bytes_in": seen.figures.from_client.bytes,
        "bytes_out": seen.figures.to_client.bytes,
        "last_call": seen.last,
    })
}

/// What was seen of a server. Blocks for a moment, as it asks the system about programs.
fn server(named: &Named) -> Value {
    let keepers = named.history.keepers();
    let is_program = named.is_program();
    let seen = named.history.seen();
    let (legacy, modern) = named.eras().known();
    let time = |time| humantime::format_rfc3339_millis(time).to_string();
    let probe = named.probes.last().map(|probed| {
        json!({
            "time": time(probed.time),
            "ok": probed.error.is_none(),
            "milliseconds": (probed.took.as_secs_f64() * 1e6).round() / 1e3,
            "error": probed.error,
        })
    });
    json!({
        "what": named.what(),
        "sessions": named.sessions.load(Ordering::Acquire),
        "programs": is_program.then_some(keepers.len()),
        "memory_bytes": if is_program { memory::of_kept_by(&keepers) } else { None },
        "restarts": seen.revived,
        "eras": { "legacy": legacy, "modern": modern },
        "last_start": seen.start.map(time),
        "last_error": seen.error.map(|(at, text)| json!({ "time": time(at), "text": text })),
        "probe": probe,
    })
}

/// Whether a browser says that a page of another origin asks. Such a page cannot read the answer, but it could have
/// servers probed.
fn is_from_elsewhere(request: &Request<()>) -> bool {
    let site = request.headers().get("sec-fetch-site");
    if site.is_some_and(|site| site != "none" && site != "same-origin") {
        return true;
    }
    let Some(origin) = request.headers().get(header::ORIGIN) else { return false };
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
    let host = host.or_else(|| request.uri().authority().map(Authority::as_str)).unwrap_or_default();
    let own = origin.to_str().ok().and_then(|origin| origin.split_once("://"));
    !own.is_some_and(|(_, own)| own.eq_ignore_ascii_case(host))
}

/// Whether the host that a request is for is `localhost` or an address. A web page whose name has come to mean this
/// machine (DNS rebinding) has another one.
fn is_for_this_machine(request: &Request<()>) -> bool {
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
    let named = host.and_then(|host| host.parse().ok()).or_else(|| request.uri().authority().cloned());
    named.is_some_and(|named: Authority| {
        let name = named.host();
        let address = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
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
