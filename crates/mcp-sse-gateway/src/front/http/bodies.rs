//! Reads the bodies of requests over Streamable HTTP, in bounded time and memory, before rmcp parses anything.
//!
//! rmcp gets only the envelope of a message and the parameters that it reads itself; the message is passed on as its
//! original bytes. So a large message costs one pass over its bytes, on a blocking thread.
//!
//! Invariant: the memory of a body is counted from its allocation until its message is in its session's queue, which
//! has its own bounds.

use std::{
    future::poll_fn,
    pin::{Pin, pin},
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Buf as _, Bytes};
use http::{HeaderValue, StatusCode, header};
use http_body::{Body, Frame};
use mcp_sse::{Message, RequestId};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    task::spawn_blocking,
    time::timeout,
};

use super::room::Room;
use crate::{
    answer::{Answer, answer},
    message::{
        modern::{code, meta},
        slim::slim,
    },
};

/// Bytes for all bodies together; more if a single body may be larger.
const ALL_BYTES: usize = 64 * 1024 * 1024;
/// A session may hold one `SHARE`th of them. A request without a session, which can only open one, may hold no more
/// than `OPENING_BYTES`, and all of those together one `SHARE`th.
const SHARE: usize = 4;
/// The body limit of a request without a session: an `initialize` needs no more.
const OPENING_BYTES: usize = 64 * 1024;
/// The bytes of each body that are not counted, since the HTTP server keeps this much for a connection anyway. So
/// short messages get through even when large ones hold all the memory.
const FREE_BYTES: usize = 8 * 1024;
/// Longer messages are parsed on a blocking thread, one at a time.
const LARGE_BYTES: usize = 64 * 1024;

/// The memory bounds for the bodies of all requests.
#[derive(Debug)]
pub(crate) struct Bodies {
    body_bytes: usize,
    timeout: Duration,
    all_bytes: usize,
    held: AtomicUsize,
    /// The part of it that requests without a session hold.
    opening: Arc<AtomicUsize>,
    parsing: Arc<Semaphore>,
}

/// Why a body was refused.
#[derive(Clone, Debug)]
pub(in crate::front) enum Refusal {
    TooLarge {
        limit: usize,
    },
    TooLargeToOpen,
    TooLate(Duration),
    Busy,
    Waiting,
    Unreadable,
    NoMessage(String),
    /// It is of an era whose requests have a header that says so.
    OtherEra(Option<RequestId>),
}

/// A message that was read, and the memory that it takes.
#[derive(Debug, Default)]
pub(super) struct Posted {
    message: OnceLock<(Message, Held)>,
    /// Its room while it waits for its session's server.
    room: Mutex<Option<OwnedSemaphorePermit>>,
}

/// The bytes that one session's bodies hold.
#[derive(Clone, Debug, Default)]
pub(in crate::front) struct Share(Arc<AtomicUsize>);

/// Counted bytes; uncounted when this is dropped.
#[derive(Debug)]
pub(in crate::front) struct Held {
    bodies: Arc<Bodies>,
    share: Arc<AtomicUsize>,
    bytes: usize,
}

impl Posted {
    pub(super) fn message(&self) -> Option<&Message> {
        self.message.get().map(|(message, _)| message)
    }

    pub(super) fn take_room(&self) -> Option<OwnedSemaphorePermit> {
        self.room.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Bodies {
    pub(crate) fn new(body_bytes: usize, timeout: Duration) -> Arc<Self> {
        Arc::new(Self {
            body_bytes,
            timeout,
            all_bytes: ALL_BYTES.max(body_bytes.saturating_add(SHARE)),
            held: AtomicUsize::new(0),
            opening: Arc::default(),
            parsing: Arc::new(Semaphore::new(1)),
        })
    }

    /// The body for rmcp. It is read only when rmcp polls it, after checking the head; the message is stored in
    /// `posted`. `session` is the share of the request's session, and the room for its waiting messages.
    pub(super) fn lazy<B>(
        self: &Arc<Self>,
        body: B,
        session: Option<(Share, Room)>,
        posted: Arc<Posted>,
    ) -> (Lazy, Arc<OnceLock<Refusal>>)
    where
        B: Body + Send + 'static,
        B::Data: Send,
    {
        let refused = Arc::new(OnceLock::new());
        let bodies = Arc::clone(self);
        let (share, room) = session.unzip();
        let reading = Box::pin(async move {
            let opens = share.is_none();
            let (message, envelope, held) = bodies.read(body, share, slim).await?;
            if opens && message.method() != Some("server/discover") && is_of_other_era(&message) {
                return Err(Refusal::OtherEra(message.id().cloned()));
            }
            if let Some(room) = room {
                let room = room.take(message.as_bytes().len()).await.ok_or(Refusal::Waiting)?;
                *posted.room.lock().unwrap_or_else(PoisonError::into_inner) = Some(room);
            }
            let _ = posted.message.set((message, held));
            Ok(envelope)
        });
        (Lazy { reading: Some(reading), refused: Arc::clone(&refused) }, refused)
    }

    /// Reads a message, and whatever `also` reads of it.
    pub(in crate::front) async fn read<B: Body, T: Send + 'static>(
        self: &Arc<Self>,
        body: B,
        share: Option<Share>,
        also: impl FnOnce(&Message) -> T + Send + 'static,
    ) -> Result<(Message, T, Held), Refusal> {
        let limit = match share {
            Some(_) => self.body_bytes,
            None => self.body_bytes.min(OPENING_BYTES),
        };
        let too_large = || match share {
            None if limit == OPENING_BYTES => Refusal::TooLargeToOpen,
            _ => Refusal::TooLarge { limit },
        };
        if body.size_hint().lower() > limit as u64 {
            return Err(too_large());
        }
        let of = share.as_ref().map_or_else(|| Arc::clone(&self.opening), |share| Arc::clone(&share.0));
        let mut held = Held { bodies: Arc::clone(self), share: of, bytes: 0 };
        let mut json: Vec<u8> = Vec::new();
        let reading = async {
            let mut body = pin!(body);
            loop {
                let frame = match poll_fn(|cx| body.as_mut().poll_frame(cx)).await {
                    None => return Ok(()),
                    Some(Err(_)) => return Err(Refusal::Unreadable),
                    Some(Ok(frame)) => frame,
                };
                // Trailers are ignored.
                let Ok(mut data) = frame.into_data() else { continue };
                let length = json.len().saturating_add(data.remaining());
                if length > limit {
                    return Err(too_large());
                }
                if length > json.capacity() {
                    // Doubles, but to no more than the body can need.
                    let most = body.size_hint().upper().map_or(limit, |rest| {
                        usize::try_from(rest).unwrap_or(limit).saturating_add(length).min(limit)
                    });
                    let capacity = json.capacity().saturating_mul(2).min(most).max(length);
                    held.grow_to(capacity)?;
                    json.reserve_exact(capacity - json.len());
                }
                while data.has_remaining() {
                    let part = data.chunk();
                    json.extend_from_slice(part);
                    let length = part.len();
                    data.advance(length);
                }
            }
        };
        timeout(self.timeout, reading).await.map_err(|_| Refusal::TooLate(self.timeout))??;
        let is_large = held.bytes + FREE_BYTES > LARGE_BYTES;
        let parse = move || {
            let message = Message::parse(json).map_err(|error| Refusal::NoMessage(chain(&error)))?;
            let read = also(&message);
            Ok((message, read, held))
        };
        if is_large {
            let turn = Arc::clone(&self.parsing).acquire_owned().await.map_err(|_| Refusal::Busy)?;
            // Parsing goes on even if the client disconnects, and keeps its turn and its memory until it is done.
            let (parsed, _turn) = spawn_blocking(move || (parse(), turn)).await.map_err(|_| Refusal::Busy)?;
            parsed
        } else {
            parse()
        }
    }
}

impl Held {
    /// Counts this many bytes in all, if there is room for them.
    fn grow_to(&mut self, bytes: usize) -> Result<(), Refusal> {
        let more = bytes.saturating_sub(FREE_BYTES).saturating_sub(self.bytes);
        let most = (self.bodies.all_bytes / SHARE).max(self.bodies.body_bytes);
        if !add(&self.share, more, most) {
            return Err(Refusal::Busy);
        }
        if !add(&self.bodies.held, more, self.bodies.all_bytes) {
            self.share.fetch_sub(more, Ordering::AcqRel);
            return Err(Refusal::Busy);
        }
        self.bytes += more;
        Ok(())
    }
}

fn add(count: &AtomicUsize, more: usize, limit: usize) -> bool {
    count
        .fetch_update(Ordering::AcqRel, Ordering::Acquire, |now| {
            now.checked_add(more).filter(|then| more == 0 || *then <= limit)
        })
        .is_ok()
}

impl Drop for Held {
    fn drop(&mut self) {
        self.share.fetch_sub(self.bytes, Ordering::AcqRel);
        self.bodies.held.fetch_sub(self.bytes, Ordering::AcqRel);
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

/// Whether it is a request of the stateless era, which names its revision.
fn is_of_other_era(message: &Message) -> bool {
    message.method() != Some("initialize")
        && message.param(&["_meta", meta::PROTOCOL_VERSION]).is_some_and(|version| version.starts_with('"'))
}

impl Refusal {
    /// The status, and what the client is told.
    pub(in crate::front) fn says(&self) -> (StatusCode, String) {
        match self {
            Self::TooLarge { limit } => (
                StatusCode::PAYLOAD_TOO_LARGE,
                format!("the message is larger than {limit} bytes, which is the limit (--max-body-bytes)"),
            ),
            Self::TooLargeToOpen => (
                StatusCode::PAYLOAD_TOO_LARGE,
                format!(
                    "a request without Mcp-Session-Id may have at most {OPENING_BYTES} bytes; open a session with initialize, and send its id with larger requests"
                ),
            ),
            Self::TooLate(time) => {
                (StatusCode::REQUEST_TIMEOUT, format!("the body did not arrive within {time:?}"))
            }
            Self::Busy => (
                StatusCode::SERVICE_UNAVAILABLE,
                "too many large messages are being read; try again later".to_owned(),
            ),
            Self::Waiting => (
                StatusCode::SERVICE_UNAVAILABLE,
                "the server has not read the earlier messages yet; try again later".to_owned(),
            ),
            Self::Unreadable => (StatusCode::BAD_REQUEST, "the body could not be read".to_owned()),
            Self::NoMessage(why) => (StatusCode::BAD_REQUEST, why.clone()),
            Self::OtherEra(_) => (
                StatusCode::BAD_REQUEST,
                "params._meta names a protocol version, and the header MCP-Protocol-Version does not"
                    .to_owned(),
            ),
        }
    }

    pub(super) fn into_answer(self) -> Answer {
        let (status, text) = self.says();
        let error = |id: Option<&RequestId>, code: i32| {
            let (id, text) =
                (id.map_or("null".to_owned(), ToString::to_string), serde_json::Value::from(text.as_str()));
            let error =
                format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":{code},"message":{text}}}}}"#);
            answer(status, "application/json", error)
        };
        match &self {
            Self::NoMessage(_) => return error(None, -32700),
            Self::OtherEra(id) => return error(id.as_ref(), code::HEADER_MISMATCH),
            _ => {}
        }
        let mut answer = answer(status, "text/plain; charset=utf-8", text);
        if status == StatusCode::SERVICE_UNAVAILABLE {
            answer.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        answer
    }
}

type Reading = Pin<Box<dyn Future<Output = Result<Bytes, Refusal>> + Send>>;

/// A body that is read when it is first polled.
pub(super) struct Lazy {
    reading: Option<Reading>,
    refused: Arc<OnceLock<Refusal>>,
}

/// The error that rmcp gets for a refusal. The client gets the refusal itself.
#[derive(Debug, thiserror::Error)]
#[error("refused")]
pub(super) struct Refused;

impl Body for Lazy {
    type Data = Bytes;
    type Error = Refused;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Refused>>> {
        let Some(reading) = &mut self.reading else { return Poll::Ready(None) };
        let read = ready!(reading.as_mut().poll(cx));
        self.reading = None;
        Poll::Ready(Some(match read {
            Ok(envelope) => Ok(Frame::data(envelope)),
            Err(refusal) => {
                let _ = self.refused.set(refusal);
                Err(Refused)
            }
        }))
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::Full;

    use super::*;

    fn bodies() -> Arc<Bodies> {
        Bodies::new(4 * 1024 * 1024, Duration::from_secs(30))
    }

    fn note(bytes: usize) -> String {
        format!(r#"{{"jsonrpc":"2.0","method":"m","params":{{"x":"{}"}}}}"#, "x".repeat(bytes))
    }

    #[tokio::test]
    async fn what_a_body_takes_is_counted_until_its_message_is_taken() {
        let bodies = bodies();
        let share = Share::default();
        let read =
            bodies.read(Full::new(Bytes::from(note(1_000_000))), Some(share.clone()), slim).await.unwrap();
        let held = bodies.held.load(Ordering::Acquire);
        assert!((1_000_000 - FREE_BYTES..1_001_000).contains(&held), "{held}");
        assert_eq!(share.0.load(Ordering::Acquire), held);
        assert!(read.1.len() < 100);
        drop(read);
        assert_eq!((bodies.held.load(Ordering::Acquire), share.0.load(Ordering::Acquire)), (0, 0));
    }

    #[tokio::test]
    async fn a_session_that_holds_its_share_leaves_room_for_others_and_short_messages_always_pass() {
        let bodies = bodies();
        let (greedy, other) = (Share::default(), Share::default());
        let large = || Full::new(Bytes::from(note(4_000_000)));
        let mut kept = Vec::new();
        let refused = loop {
            match bodies.read(large(), Some(greedy.clone()), slim).await {
                Ok(read) => kept.push(read),
                Err(refusal) => break refusal,
            }
        };
        assert!(matches!(refused, Refusal::Busy) && kept.len() == 4, "{refused:?} {}", kept.len());
        assert!(bodies.read(Full::new(Bytes::from(note(100))), Some(greedy), slim).await.is_ok());
        assert!(bodies.read(large(), Some(other), slim).await.is_ok());
    }

    #[test]
    fn a_message_whose_client_has_hung_up_keeps_its_turn_and_its_memory_until_it_is_parsed() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .max_blocking_threads(1)
            .build()
            .unwrap();
        runtime.block_on(async {
            let (go_on, wait) = std::sync::mpsc::channel::<()>();
            let other = spawn_blocking(move || wait.recv().is_ok());
            let bodies = bodies();
            let body = Full::new(Bytes::from(note(1_000_000)));
            let mut reading = Box::pin(bodies.read(body, Some(Share::default()), slim));
            while bodies.parsing.available_permits() > 0 {
                let polled = poll_fn(|cx| Poll::Ready(reading.as_mut().poll(cx).is_pending())).await;
                assert!(polled);
            }
            drop(reading);
            assert_eq!(bodies.parsing.available_permits(), 0);
            assert!(bodies.held.load(Ordering::Acquire) > 0);
            drop(go_on);
            other.await.unwrap();
            drop(bodies.parsing.acquire().await.unwrap());
            assert_eq!(bodies.held.load(Ordering::Acquire), 0);
        });
    }

    #[tokio::test]
    async fn without_a_session_little_is_read() {
        let bodies = bodies();
        let body = |bytes| Full::new(Bytes::from(note(bytes)));
        assert!(bodies.read(body(60_000), None, slim).await.is_ok());
        assert!(matches!(bodies.read(body(70_000), None, slim).await, Err(Refusal::TooLargeToOpen)));
    }
}
