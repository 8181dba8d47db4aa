//! POST: puts a message into its session's queue.
//!
//! There is a fast path and a slow one, and the slow one continues where the fast one stopped. The head is
//! checked once ([`CheckedPost`]). A message that has arrived whole, and for which its session has room, is
//! accepted at once ([`CheckedPost::try_now`]). Any other waits: for room before its body is read
//! ([`CheckedPost::reserve`]), and for its place among the requests in flight afterwards ([`Room::take`],
//! [`Waiting::wait`]). Nothing is checked or parsed twice.

use std::{
    pin::pin,
    sync::{Arc, Weak},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, Request, Response, request::Parts};

use super::{Inner, Located, SseServerTransport, answer, body_reader::BodyReader, room};
use crate::{
    admission::{self, Admitted, Entry, Rejection},
    auth::Grant,
    body::Body,
    bound_headers::BoundHeaders,
    message::{Message, MessageKind},
    replica::ReplicaId,
    session::{
        driver::{Common, Driver, Reservation},
        head::Head,
    },
};

/// What an inbound message counts in addition to its bytes and its headers.
const MESSAGE_OVERHEAD: usize = 512;
/// How much of a body of undeclared length is read before it has room in its session's queue. An HTTP server
/// buffers about that much for a connection anyway.
const UNDECLARED_BYTES: usize = 64 * 1024;

impl SseServerTransport {
    /// Answers a POST, which brings a message. It is what
    /// [`handle_post_message`](Self::handle_post_message) is built on.
    ///
    /// Cancel safe: if the future is dropped before it completes, the message has either been queued or had
    /// no effect.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let sse = mcp_sse::SseServerTransport::new("/messages/")?;
    /// # let get = http::Request::get("http://localhost/sse").body(())?;
    /// # let (_stream, Some(mut session)) = sse.connect(&get).await else { panic!("refused") };
    /// # let id = session.handle().id();
    /// let json = r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;
    /// let post = http::Request::post(format!("http://localhost/messages/?session_id={}", id.expose_hex()))
    ///     .header("content-type", "application/json")
    ///     .body(json.to_owned())?;
    /// assert_eq!(sse.post(post).await.status(), 202);
    /// assert_eq!(session.recv().await.unwrap().message.as_str(), json);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn post<B>(&self, request: Request<B>) -> Response<Body>
    where
        B: http_body::Body,
    {
        let (parts, body) = request.into_parts();
        if let Some(preflight) = self.preflight(&parts) {
            return preflight;
        }
        let cors = self.cors_headers(&parts);
        let mut response = match self.try_post(parts, body).await {
            Ok(response) => response,
            Err(rejection) => self.message_refused(rejection),
        };
        if let Some(cors) = cors {
            cors.add_to(response.headers_mut());
        }
        response
    }

    /// The response to a message that was refused.
    pub(crate) fn message_refused(&self, rejection: Rejection) -> Response<Body> {
        answer::refusal(Some(&self.inner.common), answer::Refused::Message, rejection)
    }

    pub(super) async fn try_post<B: http_body::Body>(
        &self,
        parts: Parts,
        body: B,
    ) -> Result<Response<Body>, Rejection> {
        let Inner { common, gate, .. } = &*self.inner;
        let limits = &common.limits;
        let admitted = admission::post(gate.enter(parts).wait().await?, &gate.names)?;
        let body = pin!(body);
        let mut body = BodyReader::new(body, limits.body_bytes, limits.body_timeout)?;
        let checked = match self.check_admitted(admitted) {
            Ok(Checked::Here(checked)) => checked,
            Ok(Checked::Elsewhere(replica, admitted)) => {
                // The future is large, and few requests need it.
                return Box::pin(self.forward_post(&replica, admitted, body)).await;
            }
            Ok(Checked::Away(session, admitted)) => match self.is_here(&session).await {
                Ok(true) => self.take(&session, admitted)?,
                Ok(false) => {
                    let me = common.replica.clone().ok_or(Rejection::SessionNotFound)?;
                    return Box::pin(self.forward_post(&me, admitted, body)).await;
                }
                Err(rejection) => {
                    body.discard().await?;
                    return Err(rejection);
                }
            },
            Err(rejection) => {
                // In the order of the checks, the size of the body comes before the session.
                body.discard().await?;
                return Err(rejection);
            }
        };
        let length = match body.declared() {
            Some(length) => length,
            // Most bodies of undeclared length are short, and are read before anything is reserved for them.
            None if body.read_up_to(UNDECLARED_BYTES).await? => body.length(),
            None => limits.body_bytes,
        };
        let room = checked.reserve(length).await?;
        room.take(checked.head, body.read().await?).await.map(|()| answer::accepted())
    }

    /// Checks the head of a POST; `length` is that of its body. `None` if that takes time.
    pub(crate) fn check_post(&self, parts: Parts, length: usize) -> Option<Result<CheckedPost, Rejection>> {
        let gate = &self.inner.gate;
        let Entry::Known(entered) = gate.enter(parts) else { return None };
        let admitted = entered.and_then(|entered| admission::post(entered, &gate.names));
        let checked = admitted.and_then(|admitted| {
            if length > self.inner.common.limits.body_bytes {
                return Err(Rejection::BodyTooLarge);
            }
            self.check_admitted(admitted)
        });
        match checked {
            Ok(Checked::Here(checked)) => Some(Ok(checked)),
            Ok(Checked::Elsewhere(..) | Checked::Away(..)) => None,
            Err(rejection) => Some(Err(rejection)),
        }
    }

    fn check_admitted(&self, admitted: Admitted) -> Result<Checked, Rejection> {
        let id = admitted.session_id()?;
        let session = match self.locate(&admitted, id, admitted.at())? {
            Located::Here(session)
                if session.may_have_moved(admitted.at().is_some() && admitted.at() != self.at()) =>
            {
                return Ok(Checked::Away(session, admitted));
            }
            Located::Here(session) => session,
            Located::Elsewhere(replica) => return Ok(Checked::Elsewhere(replica, admitted)),
            // It can be known soon.
            Located::Nowhere if self.is_leaving(&admitted, id) => return Err(Rejection::ReplicaAway),
            Located::Nowhere => {
                let was_here = self.lost_here(&admitted, admitted.at());
                return was_here.map(|me| Checked::Elsewhere(me, admitted)).ok_or(Rejection::SessionNotFound);
            }
        };
        self.take(&session, admitted).map(Checked::Here)
    }

    /// What a POST for a session that is here needs.
    fn take(&self, session: &Arc<Driver>, admitted: Admitted) -> Result<CheckedPost, Rejection> {
        session.show(admitted.grant());
        let grant = admitted.grant().cloned();
        let mut parts = admitted.into_parts();
        // One that is kept may move meanwhile.
        let mut is_final = session.common.keeping.is_none();
        // The app gets the bound headers with every message.
        if let Some(bound) = session.bound.get() {
            // Before they are added: another request may set the last value in between.
            is_final &= BoundHeaders::are_decided(bound);
            bound.add_to(&mut parts.headers);
        }
        let cost = head_bytes(&parts);
        let common = Arc::clone(&session.common);
        let head = Head::new(parts);
        let session = Arc::downgrade(session);
        Ok(CheckedPost { session, is_final, cost, common, head, grant })
    }
}

/// A POST that passed all checks.
#[allow(clippy::large_enum_variant, reason = "taken apart at once")]
enum Checked {
    Here(CheckedPost),
    /// Its session is at another replica.
    Elsewhere(ReplicaId, Admitted),
    /// Its client is away, so that it may have been revived elsewhere.
    Away(Arc<Driver>, Admitted),
}

/// The head of a POST that passed all checks, and the session that it is for.
pub(crate) struct CheckedPost {
    /// Weak, so that this does not keep a closed session alive.
    session: Weak<Driver>,
    /// Whether this result is also valid for later messages with the same head: no other request can change
    /// the headers that are added.
    pub(crate) is_final: bool,
    /// What the head counts in its session's queue, in bytes.
    cost: usize,
    common: Arc<Common>,
    pub(crate) head: Head,
    /// That the request comes from its principal; the result is valid for later messages only as long as this is.
    pub(crate) grant: Option<Grant>,
}

impl CheckedPost {
    fn session(&self) -> Result<Arc<Driver>, Rejection> {
        self.session.upgrade().ok_or(Rejection::SessionNotFound)
    }

    /// The response to a message that was refused.
    #[cfg(feature = "server")]
    pub(crate) fn refused(&self, rejection: Rejection) -> Response<Body> {
        answer::refusal(Some(&self.common), answer::Refused::Message, rejection)
    }

    /// How long a body may take to arrive.
    pub(crate) fn body_timeout(&self) -> Duration {
        self.common.limits.body_timeout
    }

    /// Whether a body of this length may be read.
    #[cfg(feature = "server")]
    pub(crate) fn takes(&self, length: usize) -> bool {
        length <= self.common.limits.body_bytes
    }

    /// Accepts a message whose body has arrived whole, if it does not have to wait. `head` is the checked one
    /// except for its length.
    pub(crate) fn try_now(&self, head: Head, json: Bytes) -> Tried {
        let parsed = self.session().and_then(|session| {
            if json.len() > self.common.limits.body_bytes {
                return Err(Rejection::BodyTooLarge);
            }
            let cost = self.cost + json.len();
            Parsed::new(session, head, json, cost)
        });
        match parsed {
            Ok(parsed) => parsed.try_now(),
            Err(rejection) => Tried::Done(Err(rejection)),
        }
    }

    /// Waits for room in the session's queue for a body of this length.
    pub(crate) async fn reserve(&self, length: usize) -> Result<Room, Rejection> {
        let session = self.session()?;
        let mut wait = self.common.limits.queue_timeout;
        let reserved = session.reserve(self.cost.saturating_add(length), &mut wait).await;
        let reservation = reserved.map_err(|refusal| answer::rejection(&session, refusal))?;
        Ok(Room { session, reservation, head_cost: self.cost, wait })
    }
}

/// Room in a session's queue, for a message that has not arrived yet.
pub(crate) struct Room {
    session: Arc<Driver>,
    reservation: Reservation,
    head_cost: usize,
    /// How much longer the message may wait.
    wait: Duration,
}

impl Room {
    /// Accepts the message; waits for its place among the requests in flight.
    pub(crate) async fn take(self, head: Head, json: Bytes) -> Result<(), Rejection> {
        let Self { session, reservation, head_cost, mut wait } = self;
        let cost = head_cost + json.len();
        let Parsed { session, message, head, .. } = Parsed::new(session, head, json, cost)?;
        let accepted = reservation.accept(message, head, cost, &mut wait).await;
        accepted.map_err(|refusal| answer::rejection(&session, refusal))
    }
}

/// A parsed message, whose session counts as one that is not silent.
struct Parsed {
    session: Arc<Driver>,
    message: Message,
    head: Head,
    cost: usize,
}

/// The result of trying to accept a message without waiting.
pub(crate) enum Tried {
    Done(Result<(), Rejection>),
    /// It has to wait.
    Waits(Waiting),
}

/// A message that has to wait.
pub(crate) struct Waiting(Parsed);

impl Parsed {
    fn new(session: Arc<Driver>, head: Head, json: Bytes, cost: usize) -> Result<Self, Rejection> {
        tracing::trace!(session = %session.id, message = %String::from_utf8_lossy(&json), "message from the client");
        let message = Message::parse(json).map_err(|error| {
            tracing::debug!(session = %session.id, %error, "message refused");
            Rejection::InvalidMessage
        })?;
        // During a shutdown, sessions that are not draining yet accept no new requests either.
        if matches!(message.kind(), MessageKind::Request { .. }) && session.common.registry.is_draining() {
            return Err(Rejection::ShuttingDown);
        }
        room::speak(&session)?;
        Ok(Self { session, message, head, cost })
    }

    fn try_now(self) -> Tried {
        let Self { session, message, head, cost } = self;
        let mut content = Some((message, head));
        let accepted = session.accept_at_once(&mut content, cost);
        match (accepted, content) {
            (None, Some((message, head))) => Tried::Waits(Waiting(Self { session, message, head, cost })),
            // Cannot happen: a message that was not accepted is still there.
            (None, None) => Tried::Done(Err(Rejection::SessionBusy)),
            (Some(accepted), _) => {
                Tried::Done(accepted.map_err(|refusal| answer::rejection(&session, refusal)))
            }
        }
    }
}

impl Waiting {
    /// Waits for room in the queue, and for its place among the requests in flight.
    pub(crate) async fn wait(self) -> Result<(), Rejection> {
        let Parsed { session, message, head, cost } = self.0;
        let mut wait = session.common.limits.queue_timeout;
        let accepted = match session.reserve(cost, &mut wait).await {
            Ok(reservation) => reservation.accept(message, head, cost, &mut wait).await,
            Err(refusal) => Err(refusal),
        };
        accepted.map_err(|refusal| answer::rejection(&session, refusal))
    }
}

/// Roughly how much memory the head of a request takes while its message waits.
fn head_bytes(parts: &Parts) -> usize {
    let headers: usize =
        HeaderMap::iter(&parts.headers).map(|(name, value)| name.as_str().len() + value.len() + 64).sum();
    MESSAGE_OVERHEAD + headers + parts.uri.path().len() + parts.uri.query().map_or(0, str::len)
}
