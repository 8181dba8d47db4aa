//! Single sequences with exact expectations: the made-up `initialize`, and faults that were once here.

use std::{
    pin::pin,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use bytes::BytesMut;

use super::{
    super::{
        CloseReason, SendError,
        core::{Core, Refusal, Taken},
        id::SessionId,
        shared::Shared,
    },
    Flag, HEX, head,
};
use crate::{clock, endpoint::EndpointPath, limits::Limits, message::Message, sessions::Registry};

const CALL: &str = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"add"}}"#;
const PING: &str = r#"{"jsonrpc":"2.0","id":2,"method":"ping"}"#;
const DISCOVER: &str = r#"{"jsonrpc":"2.0","id":3,"method":"server/discover"}"#;
const INITIALIZE: &str = r#"{"jsonrpc":"2.0","id":4,"method":"initialize","params":{}}"#;
const STATELESS: &str = r#"{"jsonrpc":"2.0","id":5,"method":"tools/call","params":{"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}}}"#;
const INITIALIZED: &str = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;
const NOTE: &str = r#"{"jsonrpc":"2.0","method":"notifications/message"}"#;

/// A session without surprises, that never has to wait.
struct Calm {
    core: Core,
    now: Instant,
}

impl Calm {
    fn new(limits: Limits) -> Self {
        let now = clock::now();
        Self { core: Core::new(SessionId::parse(HEX).unwrap(), Arc::new(limits), now), now }
    }

    fn posts(&mut self, json: &'static str, version: Option<&'static str>) {
        let message = Message::parse(json).unwrap();
        let reserved = self.core.poll_reserve(json.len(), &mut None, Waker::noop());
        assert_eq!(reserved, Poll::Ready(Ok(())));
        let admitted = self.core.poll_admit(&message, json.len(), &mut None, Waker::noop());
        assert_eq!(admitted, Poll::Ready(Ok(())));
        self.core.accept(message, head(version), json.len(), json.len(), self.now);
    }

    fn sends(&mut self, json: impl Into<bytes::Bytes>) {
        let sent = self.core.send(Message::parse(json).unwrap(), self.now);
        assert!(matches!(sent, Ok(None)), "{sent:?}");
    }

    /// What the app gets now, until it has to wait.
    fn received(&mut self) -> Vec<String> {
        std::iter::from_fn(|| match self.core.poll_recv(Waker::noop()) {
            Poll::Ready(incoming) => incoming.map(|incoming| incoming.message.as_str().to_owned()),
            Poll::Pending => None,
        })
        .collect()
    }

    /// What the client gets now.
    fn taken(&mut self) -> String {
        let mut out = BytesMut::new();
        while matches!(
            self.core.poll_take(0, &mut out, 0, Waker::noop(), self.now),
            Taken::Chunk | Taken::All
        ) && self.core.close_reason().is_none()
        {
            if self.core.queued().1 == 0 {
                break;
            }
        }
        String::from_utf8(out.to_vec()).unwrap()
    }
}

fn made_up(version: &str) -> String {
    let own = env!("CARGO_PKG_VERSION");
    let json = serde_json::json!({
        "jsonrpc": "2.0", "id": "mcp-sse/made-up-initialize", "method": "initialize",
        "params": {
            "protocolVersion": version, "capabilities": {},
            "clientInfo": { "name": "mcp-sse", "version": own },
        },
    });
    json.to_string()
}

const ANSWER: &str = r#"{"jsonrpc":"2.0","id":"mcp-sse/made-up-initialize","result":{}}"#;

// ---- the made-up initialize -------------------------------------------------------------------------

#[test]
fn a_client_that_goes_on_without_a_handshake_gets_one_made_up() {
    let mut session = Calm::new(Limits::default());
    session.posts(CALL, Some("2025-06-18"));
    session.posts(NOTE, None);
    assert_eq!(session.received(), [made_up("2025-06-18")], "everything else is held back");
    session.posts(PING, None);
    assert_eq!(session.received(), [""; 0], "also what comes meanwhile");
    session.sends(ANSWER);
    assert_eq!(session.taken(), "", "the client never hears of it");
    assert_eq!(session.received(), [INITIALIZED, CALL, NOTE, PING]);
    session.sends(ANSWER);
    let seen = session.taken();
    assert!(seen.contains(ANSWER), "only the first answer is taken out: {seen}");
}

#[test]
fn a_client_that_names_no_version_is_taken_to_speak_the_oldest() {
    let mut session = Calm::new(Limits::default());
    session.posts(CALL, None);
    assert_eq!(session.received(), [made_up("2024-11-05")]);
}

#[test]
fn a_version_that_is_far_too_long_is_not_passed_on() {
    let mut session = Calm::new(Limits::default());
    session.posts(CALL, Some("2025-06-18-and-so-on-and-so-on-and-so-on"));
    assert_eq!(session.received(), [made_up("2024-11-05")]);
}

#[test]
fn the_made_up_initialize_is_no_request_of_the_client() {
    let mut session = Calm::new(Limits::default());
    session.posts(NOTE, None);
    assert_eq!(session.received(), [made_up("2024-11-05")]);
    assert_eq!(session.core.requests_in_flight(), 0);
    session.core.close(CloseReason::ClosedByServer, session.now);
    assert_eq!(session.taken(), "", "nobody is told that it has no answer");
    assert_eq!(session.received(), [""; 0], "what was held back is not given to an app that knows no client");
}

#[test]
fn what_the_app_says_before_it_answers_goes_to_the_client() {
    let mut session = Calm::new(Limits::default());
    session.posts(CALL, None);
    assert_eq!(session.received(), [made_up("2024-11-05")]);
    session.sends(NOTE);
    session.sends(r#"{"jsonrpc":"2.0","id":1,"error":{"code":1,"message":"no"}}"#);
    assert!(session.taken().contains(NOTE));
    assert_eq!(session.received(), [""; 0], "neither was the answer");
}

#[test]
fn an_app_that_refuses_the_made_up_initialize_gets_the_message_all_the_same() {
    let mut session = Calm::new(Limits::default());
    session.posts(CALL, None);
    assert_eq!(session.received(), [made_up("2024-11-05")]);
    session.sends(r#"{"jsonrpc":"2.0","id":"mcp-sse/made-up-initialize","error":{"code":1,"message":"no"}}"#);
    assert_eq!(session.taken(), "");
    assert_eq!(session.received(), [CALL], "without a notification that would be a lie");
}

#[test]
fn ping_and_discover_pass_before_the_handshake_and_decide_nothing() {
    let mut session = Calm::new(Limits::default());
    session.posts(PING, None);
    session.posts(DISCOVER, None);
    assert_eq!(session.received(), [PING, DISCOVER]);
    session.posts(CALL, None);
    assert_eq!(session.received(), [made_up("2024-11-05")]);

    let mut session = Calm::new(Limits::default());
    session.posts(PING, None);
    session.posts(INITIALIZE, None);
    assert_eq!(session.received(), [PING, INITIALIZE]);
}

#[test]
fn a_client_that_shakes_hands_itself_or_needs_no_handshake_is_left_alone() {
    for first in [INITIALIZE, STATELESS] {
        let mut session = Calm::new(Limits::default());
        session.posts(first, None);
        session.posts(CALL, None);
        assert_eq!(session.received(), [first, CALL]);
        session.sends(ANSWER);
        assert!(session.taken().contains(ANSWER), "no answer is taken out");
    }
}

#[test]
fn switched_off_nothing_is_made_up() {
    let mut session = Calm::new(Limits { made_up_initialize: false, ..Limits::default() });
    session.posts(CALL, None);
    assert_eq!(session.received(), [CALL]);
}

#[test]
fn the_app_is_woken_for_each_step_of_the_made_up_handshake() {
    let mut session = Calm::new(Limits::default());
    let flag = Arc::new(Flag::default());
    let woken = |session: &mut Calm| {
        session.core.take_actions().wake();
        flag.0.swap(false, std::sync::atomic::Ordering::Relaxed)
    };
    assert!(session.core.poll_recv(&Waker::from(Arc::clone(&flag))).is_pending());
    session.posts(CALL, None);
    assert!(woken(&mut session));
    assert_eq!(session.received(), [made_up("2024-11-05")]);
    assert!(session.core.poll_recv(&Waker::from(Arc::clone(&flag))).is_pending());
    session.sends(ANSWER);
    assert!(woken(&mut session));
}

// ---- faults that were here --------------------------------------------------------------------------

#[test]
fn a_request_that_waits_for_its_place_learns_at_once_that_the_session_drains() {
    let mut session = Calm::new(Limits { in_flight_requests: 1, ..Limits::default() });
    session.posts(INITIALIZE, None);
    let flag = Arc::new(Flag::default());
    let (call, mut ticket) = (Message::parse(CALL).unwrap(), None);
    let waker = Waker::from(Arc::clone(&flag));
    assert!(session.core.poll_admit(&call, 1, &mut ticket, &waker).is_pending());
    session.core.drain(session.now);
    session.core.take_actions().wake();
    assert!(flag.0.load(std::sync::atomic::Ordering::Relaxed));
    let polled = session.core.poll_admit(&call, 1, &mut ticket, &waker);
    assert_eq!(polled, Poll::Ready(Err(Refusal::Draining)));
}

#[test]
fn errors_that_pass_over_the_bound_of_the_log_cannot_pile_up() {
    let limits = Limits { outbound_messages: 2, outbound_message_bytes: 50, ..Limits::default() };
    let mut session = Calm::new(limits);
    let mut taken = 0;
    // A client that posts and never reads, and an app whose every answer is too large.
    for id in 0..100 {
        let json = format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"initialize"}}"#);
        let request = Message::parse(json).unwrap();
        match session.core.poll_admit(&request, 1, &mut None, Waker::noop()) {
            Poll::Ready(Ok(())) => taken += 1,
            refused => {
                assert_eq!(refused, Poll::Ready(Err(Refusal::Busy)));
                break;
            }
        }
        let answer = format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{"p":"{}"}}}}"#, "x".repeat(50));
        let sent = session.core.send(Message::parse(answer).unwrap(), session.now);
        assert!(matches!(sent, Err(SendError::TooLarge { .. })));
    }
    assert_eq!(taken, 3);
    session.taken();
    let late = Message::parse(CALL).unwrap();
    let polled = session.core.poll_admit(&late, 1, &mut None, Waker::noop());
    assert_eq!(polled, Poll::Ready(Ok(())), "the client reads again");
}

#[test]
fn a_send_that_is_dropped_before_its_first_poll_gives_up_its_place() {
    let limits = Arc::new(Limits { outbound_messages: 1, ..Limits::default() });
    let id = SessionId::parse(HEX).unwrap();
    let endpoint = Arc::new(EndpointPath::parse("/messages/").unwrap());
    let session = Shared::new(id, None, &endpoint, &limits, &Registry::new(), None);
    let note = || Message::parse(NOTE).unwrap();
    let mut cx = Context::from_waker(Waker::noop());
    assert_eq!(pin!(session.send(note())).poll(&mut cx), Poll::Ready(Ok(())));
    drop(session.send(note()));
    let mut last = pin!(session.send(note()));
    assert!(last.as_mut().poll(&mut cx).is_pending(), "the log is full");
    let mut out = BytesMut::new();
    assert_eq!(session.poll_take(0, &mut out, 0, &cx), Taken::All);
    assert_eq!(last.poll(&mut cx), Poll::Ready(Ok(())), "nobody stands before it");
}

// ---- time -------------------------------------------------------------------------------------------

#[test]
fn an_idle_stream_gets_a_comment_and_a_stream_that_nobody_reads_ends() {
    let second = Duration::from_secs(1);
    let limits = Limits { keep_alive: Some(second * 15), stall_timeout: second * 30, ..Limits::default() };
    let mut session = Calm::new(limits);
    let opened = session.now;
    for round in 1..=3 {
        session.now = opened + second * 15 * round;
        assert_eq!(session.core.deadline(), Some(session.now));
        session.core.on_deadline(session.now);
        let mut out = BytesMut::new();
        assert_eq!(session.core.poll_take(0, &mut out, 0, Waker::noop(), session.now), Taken::All);
        assert_eq!(out, ": keep-alive\n\n");
    }
    session.now += second * 15;
    session.core.on_deadline(session.now);
    assert_eq!(session.core.deadline(), Some(session.now + second * 30));
    session.core.on_deadline(session.now + second * 30);
    assert_eq!(session.core.close_reason(), Some(CloseReason::Stalled));
    assert_eq!(session.core.deadline(), None);
}

#[test]
fn a_stream_that_stops_amid_what_waits_ends_too() {
    let limits = Limits { keep_alive: None, ..Limits::default() };
    let mut session = Calm::new(limits);
    for _ in 0..2 {
        session.sends(format!(r#"{{"jsonrpc":"2.0","id":1,"result":"{}"}}"#, "x".repeat(50_000)));
    }
    session.now += Duration::from_secs(20);
    let mut out = BytesMut::new();
    assert_eq!(session.core.poll_take(0, &mut out, 0, Waker::noop(), session.now), Taken::Chunk);
    assert_eq!(session.core.queued().1, 1, "the other is for the next chunk");
    session.now += Duration::from_secs(30);
    assert_eq!(session.core.deadline(), Some(session.now), "counted from the last time that it came");
    session.core.on_deadline(session.now);
    assert_eq!(session.core.close_reason(), Some(CloseReason::Stalled));
}
