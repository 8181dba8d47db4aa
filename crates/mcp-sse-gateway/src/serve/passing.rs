//! Requests of the stateless era that are passed on to a remote server of that era, each for itself, without a session.

use std::{sync::Arc, time::Duration};

use http::{HeaderMap, HeaderValue, StatusCode, request::Parts};
use mcp_sse::{Grant, GrantEnd, Incoming, Message, MessageKind, RequestId, SessionGrant};
use tokio::{
    sync::{mpsc, oneshot},
    time::{sleep, timeout},
};

use super::{named::Entry, target::Target};
use crate::{
    backend::remote::{Kind, Remote, modern},
    bridge::modern_client::{self, Asked},
    clock,
    front::{
        Gone, Receive, Reply,
        modern::{CAPACITY, Passed},
    },
    message::modern::{code, header},
};

/// How long a server may take to say whether it is of that era.
const ASKED: Duration = Duration::from_secs(10);
/// How long a request waits for a server that is away, and for how long the first time.
const AWAY: Duration = Duration::from_secs(10);
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// What a legacy server says to a request without a session.
const LEGACY: [i32; 2] = [-32000, code::INVALID_REQUEST];

/// The remote server, if it is known to be of that era, or says so now.
pub(super) async fn speaks<'a>(target: &'a Target, asked: &Asked, parts: &Parts) -> Option<&'a Remote> {
    let remote = target.remote.as_ref().filter(|remote| remote.kind != Kind::Sse)?;
    let speaks = match target.eras.modern() {
        Some(speaks) => speaks,
        None => {
            let speaks = timeout(ASKED.min(remote.start_timeout), discover(remote, asked, parts)).await;
            let speaks = speaks.unwrap_or(Some(false));
            if let Some(speaks) = speaks
                && target.eras.set_modern(speaks)
            {
                tracing::info!(
                    url = remote.name(),
                    modern = speaks,
                    "the era of an upstream server was found out"
                );
            }
            // Of one that is not there, a session says why.
            speaks.unwrap_or(false)
        }
    };
    speaks.then_some(remote)
}

/// Whether it is of that era; `None` if it is not there.
async fn discover(remote: &Remote, asked: &Asked, parts: &Parts) -> Option<bool> {
    let message = modern_client::discover(&RequestId::from(0), asked.about())?;
    let mut own = HeaderMap::new();
    own.insert(header::METHOD, HeaderValue::from_static("server/discover"));
    let incoming = Incoming::new(message, parts.clone());
    let headers = modern::headers(remote, &incoming, &own);
    match modern::post(remote, &incoming.message, headers).await {
        Ok(modern::Answered::Message(_, answer)) => Some(modern_client::is_modern(&answer)),
        Ok(modern::Answered::Events(mut reading)) => {
            while let Some(Ok(message)) = reading.next().await {
                if message.method().is_none() {
                    return Some(modern_client::is_modern(&message));
                }
            }
            Some(false)
        }
        Err(unanswered) if unanswered.is_absent => None,
        Ok(modern::Answered::Accepted) | Err(_) => Some(false),
    }
}

/// The headers of the request that its server reads, and that stand for parts of the message.
fn own(parts: &Parts) -> HeaderMap {
    let is_own =
        |name: &str| name.starts_with("mcp-") && !matches!(name, "mcp-session-id" | "mcp-protocol-version");
    let own = parts.headers.iter().filter(|(name, _)| is_own(name.as_str()));
    own.map(|(name, value)| (name.clone(), value.clone())).collect()
}

/// How it begins to be answered: as JSON with this status, or as a stream; `None`: the server is not of that era after all.
pub(super) type Begun = Option<(StatusCode, bool)>;

/// Passes a request on, and what comes back until its client is gone.
pub(super) async fn pass(
    entry: &Entry,
    target: Arc<Target>,
    incoming: Incoming,
    begun: oneshot::Sender<Begun>,
    to: mpsc::Sender<Message>,
) {
    let grant = incoming.parts().extensions.get::<Grant>().map(SessionGrant::new);
    let Some(id) = incoming.message.id().cloned() else { return };
    let (mut receiver, reply) = entry.watched(One(Some(incoming)), To(to));
    let passes = async {
        let (Some(incoming), Some(remote)) = (receiver.recv().await, &target.remote) else { return };
        let headers = modern::headers(remote, &incoming, &own(incoming.parts()));
        match post(remote, &incoming.message, headers).await {
            Ok(modern::Answered::Message(status, answer)) => {
                if is_legacy(status, &answer) {
                    target.eras.is_legacy();
                    // Unless it is set what it is.
                    if target.eras.modern() == Some(false) {
                        let _ = begun.send(None);
                        return;
                    }
                }
                let _ = begun.send(Some((status, false)));
                let _ = reply.send(*answer).await;
            }
            Ok(modern::Answered::Events(mut reading)) => {
                let _ = begun.send(Some((StatusCode::OK, true)));
                while let Some(next) = reading.next().await {
                    let message = next.unwrap_or_else(|text| failed(&id, remote, &text));
                    if reply.send(message).await.is_err() {
                        break;
                    }
                }
            }
            Ok(modern::Answered::Accepted) => {
                let _ = begun.send(Some((StatusCode::OK, false)));
                let _ = reply.send(failed(&id, remote, "it gave no answer")).await;
            }
            Err(unanswered) => {
                tracing::warn!("{} did not answer the request: {}", remote.name(), unanswered.text);
                // One that cannot be asked what it speaks has not said that it speaks another era.
                let asks = incoming.message.method() == Some("server/discover");
                let status = if asks { StatusCode::BAD_GATEWAY } else { StatusCode::OK };
                let _ = begun.send(Some((status, false)));
                let _ = reply.send(failed(&id, remote, &unanswered.text)).await;
            }
        }
    };
    let unauthorized = async {
        match &grant {
            Some(grant) => grant.over().await,
            None => std::future::pending().await,
        }
    };
    let why = tokio::select! {
        () = passes => return,
        () = reply.closed() => "the request was ended",
        end = unauthorized => match end {
            GrantEnd::Expired => "the client's authorization has expired",
            _ => "the client is not authorized any more",
        },
    };
    let _ = reply.send(Message::error(&id, code::INTERNAL_ERROR, why)).await;
}

/// Posts a request, again and again while the server is away, if that does no harm.
async fn post(
    remote: &Remote,
    message: &Message,
    headers: HeaderMap,
) -> Result<modern::Answered, modern::Unanswered> {
    let until = clock::now() + AWAY.min(remote.start_timeout);
    let mut pause = FIRST_PAUSE;
    loop {
        let answered = modern::post(remote, message, headers.clone()).await;
        let is_away = answered.as_ref().is_err_and(|unanswered| {
            // One that has answered is there.
            unanswered.is_absent && !unanswered.text.starts_with("HTTP ")
        });
        let repeats = is_away && message.method() != Some("tools/call") && clock::now() + pause < until;
        if !repeats {
            return answered;
        }
        sleep(pause).await;
        pause = (2 * pause).min(Duration::from_secs(1));
    }
}

fn failed(id: &RequestId, remote: &Remote, why: &str) -> Message {
    Message::error(id, code::INTERNAL_ERROR, &format!("{} did not answer: {why}", remote.name()))
}

/// Whether a server that was of that era is not any more.
fn is_legacy(status: StatusCode, answer: &Message) -> bool {
    status == StatusCode::BAD_REQUEST
        && matches!(answer.kind(), MessageKind::Response { is_error: true, .. })
        && modern_client::error_code(answer).is_some_and(|code| LEGACY.contains(&code))
}

/// A client that sends one request.
struct One(Option<Incoming>);

impl Receive for One {
    async fn recv(&mut self) -> Option<Incoming> {
        self.0.take()
    }
}

struct To(mpsc::Sender<Message>);

impl Reply for To {
    async fn send(&self, message: Message) -> Result<(), Gone> {
        self.0.send(message).await.map_err(|_| Gone)
    }

    async fn fail(&self, _: &str) {}

    async fn idle(&self) {}

    async fn closed(&self) {
        self.0.closed().await;
    }
}

/// The beginning of an answer, and what follows.
pub(super) async fn passed(
    begun: oneshot::Receiver<Begun>,
    messages: mpsc::Receiver<Message>,
) -> Option<Passed> {
    // Nobody says how it begins if it was ended before.
    let (status, streams) = begun.await.unwrap_or(Some((StatusCode::SERVICE_UNAVAILABLE, false)))?;
    Some(Passed { status, streams, messages })
}

pub(super) fn channel() -> (mpsc::Sender<Message>, mpsc::Receiver<Message>) {
    mpsc::channel(CAPACITY)
}
