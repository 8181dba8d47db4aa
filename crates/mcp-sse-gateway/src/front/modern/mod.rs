//! Requests of the stateless era (revision 2026-07-28) over Streamable HTTP, for servers of either era. Each is answered in a
//! session of ours with its server, which outlives it.
//!
//! | room | what lives there |
//! |---|---|
//! | here | a request, from its head to its answer |
//! | `head` | heads: which requests are of this era, and whether they say the same as their bodies |
//! | `owner` | whose requests are, and what those of one hold |
//! | `hosts` | the sessions with one server, and which request is answered in which |
//! | `hosted` | a session, shared by its requests and its server |
//! | `states` | requests whose clients have to come back |
//! | `server` | what is needed of a server |
//! | `refusals` | answers to requests that are refused |
//! | `answering` | an answer, as JSON or as a stream |

mod answering;
mod head;
mod hosted;
mod hosts;
mod owner;
mod refusals;
mod server;
mod states;

use std::sync::Arc;

use http::{HeaderValue, Method, Request, StatusCode, header, request::Parts};
use mcp_sse::MessageKind;

pub(crate) use self::{
    answering::FromServer,
    head::is_modern,
    hosted::{HostReceiver, HostReply, Hosted},
    hosts::Settings,
    server::{CAPACITY, Passed, Server},
    states::States,
};
use self::{
    answering::{Answering, Answers, InFlight, OfServer},
    head::Admits,
    hosted::Along,
    hosts::{Hosts, Unanswered},
    owner::{Holding, Holdings, Owner, Whose},
    refusals::{busy, refused, status_of, unread},
};
use crate::{
    answer::{Answer, text},
    bridge::modern_client::{Asked, Fault},
    front::http::{Bodies, Refusal},
    message::modern::code,
};

/// One server, for requests of the stateless era.
pub(crate) struct Modern {
    server: Arc<dyn Server>,
    hosts: Arc<Hosts>,
    settings: Settings,
    bodies: Arc<Bodies>,
    holdings: Holdings,
}

impl Modern {
    pub(crate) fn new(server: Arc<dyn Server>, settings: Settings, bodies: Arc<Bodies>) -> Self {
        let hosts = Hosts::new(Arc::clone(&server), settings.clone());
        Self { server, hosts, settings, bodies, holdings: Holdings::default() }
    }

    /// Answers a request. A session is opened for it only if it `may_open` one.
    pub(crate) async fn handle<B>(&self, request: Request<B>, may_open: bool) -> Answer
    where
        B: http_body::Body + Send + 'static,
        B::Data: Send,
    {
        let (parts, body) = request.into_parts();
        if parts.method != Method::POST {
            let mut answer = text(StatusCode::METHOD_NOT_ALLOWED, "");
            answer.headers_mut().insert(header::ALLOW, HeaderValue::from_static("POST"));
            return answer;
        }
        let wrong = |status, text: &str| refused(status, None, &Fault::new(code::INVALID_REQUEST, text));
        if !head::is_json(&parts.headers) {
            return wrong(StatusCode::UNSUPPORTED_MEDIA_TYPE, "Content-Type must be application/json");
        }
        let admits = Admits::of(&parts.headers);
        if !admits.json && !admits.stream {
            let text = "Accept must admit application/json or text/event-stream, or better both";
            return wrong(StatusCode::NOT_ACCEPTABLE, text);
        }
        let owner = Owner::of(&parts.extensions);
        let holding = self.holdings.of(&owner, self.settings.requests_in_flight);
        let states = Arc::clone(&self.settings.states);
        let read = move |message: &mcp_sse::Message| Asked::read(message, &states.secret);
        let (message, asked, held) = match self.bodies.read(body, Some(holding.share.clone()), read).await {
            Ok(read) => read,
            Err(refusal) => return unread(&refusal, None),
        };
        let id = match message.kind() {
            MessageKind::Request { id, .. } => Some(id.clone()),
            MessageKind::Notification { .. } => None,
            MessageKind::Response { .. } => {
                return wrong(
                    StatusCode::BAD_REQUEST,
                    "a response may not be posted: answers to questions go with the request that is sent again",
                );
            }
        };
        if let Err(fault) = head::check(&parts.headers, &message) {
            return refused(StatusCode::BAD_REQUEST, id.as_ref(), &fault);
        }
        let Some(id) = id else {
            // No server needs any: a request is given up by closing its response, and the rest is about sessions.
            return text(StatusCode::ACCEPTED, "");
        };
        let asked = match asked {
            Ok(asked) => Arc::new(asked),
            Err(fault) => return refused(status_of(fault.code), Some(&id), &fault),
        };
        if asked.is_listener() && !admits.stream {
            let fault = Fault::new(
                code::INVALID_REQUEST,
                "Accept must admit text/event-stream for subscriptions/listen",
            );
            return refused(StatusCode::NOT_ACCEPTABLE, Some(&id), &fault);
        }
        let state = asked.state().filter(|state| self.settings.states.has(state));
        if state.is_none() && may_open {
            match self.pass(&holding, &asked, &parts).await {
                Some(Ok(answers)) => return self.answering(answers, admits).await,
                Some(Err(answer)) => return *answer,
                None => {}
            }
        }
        let Some(room) = holding.room.clone().take(message.as_bytes().len()).await else {
            return unread(&Refusal::Waiting, Some(&id));
        };
        let whose = Whose { owner, headers: head::values(&parts.headers, &self.server.headers()) };
        let along = Along { parts: Box::new(parts), _held: held, _room: room };
        let call = match state {
            Some(state) => {
                let found = self.settings.states.find(state, self.hosts.id, &whose, asked.print);
                let call = found.and_then(|(host, key)| host.resume(key, &asked, along).ok());
                call.ok_or(Unanswered::State)
            }
            // Of a server of this era it may be its own.
            None if asked.state().is_some() && self.server.speaks_modern() == Some(false) => {
                Err(Unanswered::State)
            }
            None => self.hosts.ask(whose, &asked, along, may_open),
        };
        match call {
            Ok(call) => self.answering(Answers::Hosted(call), admits).await,
            Err(Unanswered::State) => refused(StatusCode::OK, Some(&id), &Fault::state()),
            Err(Unanswered::Full) => busy(
                Some(&id),
                "there is no room for another request or session of this client, or the gateway is full; try again later",
            ),
            Err(Unanswered::Closed) => busy(
                Some(&id),
                "the server takes no new clients, or the gateway is shutting down; try again later",
            ),
        }
    }
}

impl Modern {
    async fn answering(&self, answers: Answers, admits: Admits) -> Answer {
        Answering { answers, admits, keep_alive: self.settings.keep_alive }.answer().await
    }

    /// Passes a request on; `None` if it needs a session.
    async fn pass(
        &self,
        holding: &Holding,
        asked: &Asked,
        parts: &Parts,
    ) -> Option<Result<Answers, Box<Answer>>> {
        let Ok(place) = Arc::clone(&holding.passing).try_acquire_owned() else {
            let why = "too many requests of this client are in flight; try again later";
            return Some(Err(Box::new(busy(Some(asked.id()), why))));
        };
        let figures = &self.settings.figures;
        let counted = (!asked.is_listener()).then(|| InFlight::new(figures));
        let id = self.settings.states.next_id();
        let passed = tokio::select! {
            passed = self.server.pass(id, asked, parts) => passed?,
            () = figures.end.cancelled() => {
                return Some(Err(Box::new(busy(Some(asked.id()), "the gateway is shutting down"))));
            }
        };
        let ends = Box::pin(figures.end.clone().cancelled_owned());
        let id = asked.id().clone();
        Some(Ok(Answers::Passed(Box::new(OfServer { passed, id, ends, _counted: counted, _place: place }))))
    }
}
