//! Single sequences with exact expectations: the synthesized `initialize`, and regressions.

use std::{
    pin::pin,
    sync::{Arc, Mutex},
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use bytes::BytesMut;

use super::{
    super::{
        CloseReason, SendError,
        core::{Core, Refusal, Sent, Taken},
        driver::{Common, Driver},
        facts::{ObservedSession, Observer, Observers, SessionFact},
        registry::Registry,
    },
    Flag, HEX, head,
};
use crate::{clock, endpoint::EndpointPath, limits::Limits, message::Message};

const CALL: &str = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"add"}}"#;
const PING: &str = r#"{"jsonrpc":"2.0","id":2,"method":"ping"}"#;
const DISCOVER: &str = r#"{"jsonrpc":"2.0","id":3,"method":"server/discover"}"#;
const INITIALIZE: &str = r#"{"jsonrpc":"2.0","id":4,"method":"initialize","params":{}}"#;
const STATELESS: &str = r#"{"jsonrpc":"2.0","id":5,"method":"tools/call","params":{"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}}}"#;
const INITIALIZED: &str = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;
const NOTE: &str = r#"{"jsonrpc":"2.0","method":"notifications/message"}"#;

/// A session with large limits, which never has to wait.
struct Calm {
    core: Core,
    now: Instant,
}

impl Calm {
    fn new(limits: Limits) -> Self {
        let now = clock::now();
        Self { core: Core::new(HEX.parse().unwrap(), Arc::new(limits), now), now }
    }

    fn posts(&mut self, json: &'static str, version: Option<&'static str>) {
        let message = Message::parse(json).unwrap();
        let reserved = self.core.poll_reserve(json.len(), &mut None, Waker::noop());
        assert_eq!(reserved, Poll::Ready(Ok(())));
        let admitted = self.core.poll_admit(&message, json.len(), &mut None, Waker::noop(), self.now);
        assert_eq!(admitted, Poll::Ready(Ok(())));
        self.core.accept(message, head(version), json.len(), json.len(), self.now);
    }

    fn sends(&mut self, json: impl Into<bytes::Bytes>) {
        let sent = self.core.send(Message::parse(json).unwrap(), self.now);
        assert!(matches!(sent, Ok(Sent::InLog)), "{sent:?}");
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

fn synthesized(version: &str) -> String {
    let own = env!("CARGO_PKG_VERSION");
    let json = serde_json::json!({
        "jsonrpc": "2.0", "id": "mcp-sse/synthesized-initialize", "method": "initialize",
        "params": {
            "protocolVersion": version, "capabilities": {},
            "clientInfo": { "name": "mcp-sse", "version": own },
        },
    });
    json.to_string()
}

const ANSWER: &str = r#"{"jsonrpc":"2.0","id":"mcp-sse/synthesized-initialize","result":{}}"#;

// ---- the synthesized initialize ---------------------------------------------------------------------

#[test]
fn a_client_that_goes_on_without_a_handshake_gets_one_synthesized() {
    let mut session = Calm::new(Limits::default());
    session.posts(CALL, Some("2025-06-18"));
    session.posts(NOTE, None);
    assert_eq!(session.received(), [synthesized("2025-06-18")], "everything else is held back");
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
    assert_eq!(session.received(), [synthesized("2024-11-05")]);
}

#[test]
fn a_version_that_is_far_too_long_is_not_passed_on() {
    let mut session = Calm::new(Limits::default());
    session.posts(CALL, Some("2025-06-18-and-so-on-and-so-on-and-so-on"));
    assert_eq!(session.received(), [synthesized("2024-11-05")]);
}

#[test]
fn the_synthesize_initialize_is_no_request_of_the_client() {
    let mut session = Calm::new(Limits::default());
    session.posts(NOTE, None);
    assert_eq!(session.received(), [synthesized("2024-11-05")]);
    assert_eq!(session.core.requests_in_flight(), 0);
    session.core.close(CloseReason::ClosedByServer, session.now);
    assert_eq!(session.taken(), "", "nobody is told that it has no answer");
    assert_eq!(session.received(), [""; 0], "what was held back is not given to an app that knows no client");
}

#[test]
fn what_the_app_says_before_it_answers_goes_to_the_client() {
    let mut session = Calm::new(Limits::default());
    session.posts(CALL, None);
    assert_eq!(session.received(), [synthesized("2024-11-05")]);
    session.sends(NOTE);
    session.sends(r#"{"jsonrpc":"2.0","id":1,"error":{"code":1,"message":"no"}}"#);
    assert!(session.taken().contains(NOTE));
    assert_eq!(session.received(), [""; 0], "neither was the answer");
}

#[test]
fn an_app_that_refuses_the_synthesize_initialize_gets_the_message_all_the_same() {
    let mut session = Calm::new(Limits::default());
    session.posts(CALL, None);
    assert_eq!(session.received(), [synthesized("2024-11-05")]);
    session.sends(
        r#"{"jsonrpc":"2.0","id":"mcp-sse/synthesized-initialize","error":{"code":1,"message":"no"}}"#,
    );
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
    assert_eq!(session.received(), [synthesized("2024-11-05")]);

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
    let mut session = Calm::new(Limits { synthesize_initialize: false, ..Limits::default() });
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
    assert_eq!(session.received(), [synthesized("2024-11-05")]);
    assert!(session.core.poll_recv(&Waker::from(Arc::clone(&flag))).is_pending());
    session.sends(ANSWER);
    assert!(woken(&mut session));
}

// ---- regressions ------------------------------------------------------------------------------------

#[test]
fn a_request_that_waits_for_its_place_learns_at_once_that_the_session_drains() {
    let mut session = Calm::new(Limits { in_flight_requests: 1, ..Limits::default() });
    session.posts(INITIALIZE, None);
    let flag = Arc::new(Flag::default());
    let (call, mut ticket) = (Message::parse(CALL).unwrap(), None);
    let waker = Waker::from(Arc::clone(&flag));
    assert!(session.core.poll_admit(&call, 1, &mut ticket, &waker, session.now).is_pending());
    session.core.drain(session.now);
    session.core.take_actions().wake();
    assert!(flag.0.load(std::sync::atomic::Ordering::Relaxed));
    let polled = session.core.poll_admit(&call, 1, &mut ticket, &waker, session.now);
    assert_eq!(polled, Poll::Ready(Err(Refusal::Draining)));
}

#[test]
fn errors_that_pass_over_the_bound_of_the_backlog_cannot_pile_up() {
    let limits =
        Limits { outbound_messages: 2, backlog_messages: 2, outbound_message_bytes: 50, ..Limits::default() };
    let mut session = Calm::new(limits);
    let mut taken = 0;
    // A client that posts and never reads, and an app whose every answer is too large.
    for id in 0..100 {
        let json = format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"initialize"}}"#);
        let request = Message::parse(json).unwrap();
        match session.core.poll_admit(&request, 1, &mut None, Waker::noop(), session.now) {
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
    assert_eq!(taken, 4);
    session.taken();
    let late = Message::parse(CALL).unwrap();
    let polled = session.core.poll_admit(&late, 1, &mut None, Waker::noop(), session.now);
    assert_eq!(polled, Poll::Ready(Ok(())), "the client reads again");
}

/// Remembers what it is told.
#[derive(Debug, Default)]
struct Told(Mutex<Vec<String>>);

impl Observer for Told {
    fn session(&self, _: &ObservedSession<'_>, fact: &SessionFact) {
        let fact = match fact {
            SessionFact::Closed { reason, figures, .. } => {
                format!("closed, {reason}, {} out", figures.messages_out)
            }
            fact => format!("{fact:?}"),
        };
        self.0.lock().unwrap().push(fact);
    }
}

fn told_driver(limits: Limits) -> (Arc<Driver>, Arc<Told>) {
    let told = Arc::new(Told::default());
    let common = Common {
        limits: Arc::new(limits),
        registry: Registry::new(),
        observers: Observers::new(Some(Arc::clone(&told) as Arc<dyn Observer>)),
        replica: None,
        keeping: None,
    };
    let endpoint = Arc::new(EndpointPath::parse("/messages/").unwrap());
    (Driver::new(HEX.parse().unwrap(), None, endpoint, Arc::new(common), None), told)
}

fn driver(limits: Limits) -> Arc<Driver> {
    told_driver(limits).0
}

fn take(session: &Driver, out: &mut BytesMut) -> Taken {
    session.with(|core, now| core.poll_take(0, out, 0, Waker::noop(), now))
}

#[test]
fn the_observer_is_told_once_of_each_thing_that_happens() {
    let (session, told) = told_driver(Limits::default());
    let told = || std::mem::take(&mut *told.0.lock().unwrap());
    drop(session.send(Message::parse(NOTE).unwrap()));
    assert_eq!(told(), [""; 0], "messages are counted, not told");
    session.with(|core, now| core.detach(0, now));
    assert_eq!(told(), ["Left"]);
    session.close(CloseReason::ClosedByServer);
    session.close(CloseReason::Shutdown);
    assert_eq!(told(), ["closed, closed by the server, 1 out"]);
}

#[test]
fn what_was_sent_goes_on_whether_or_not_its_future_is_polled() {
    let session = driver(Limits { outbound_messages: 1, ..Limits::default() });
    let note = |n: u32| Message::parse(format!(r#"{{"jsonrpc":"2.0","method":"n{n}"}}"#)).unwrap();
    let mut cx = Context::from_waker(Waker::noop());
    assert_eq!(pin!(session.send(note(1))).poll(&mut cx), Poll::Ready(Ok(())));
    drop(session.send(note(2)));
    let unpolled = session.send(note(3));
    let mut last = pin!(session.send(note(4)));
    assert!(last.as_mut().poll(&mut cx).is_pending(), "the log is full");
    let mut out = BytesMut::new();
    for _ in 0..3 {
        assert_eq!(take(&session, &mut out), Taken::Chunk);
    }
    assert_eq!(last.poll(&mut cx), Poll::Ready(Ok(())), "nobody stands before it");
    assert_eq!(take(&session, &mut out), Taken::All);
    let text = std::str::from_utf8(&out).unwrap();
    let places: Vec<_> = (1..=4).map(|n| text.find(&format!("n{n}")).unwrap()).collect();
    assert!(places.is_sorted(), "{text}");
    assert_eq!(pin!(unpolled).poll(&mut cx), Poll::Ready(Ok(())));
}

#[test]
fn sends_that_are_awaited_in_another_order_do_not_wait_for_each_other() {
    let session = driver(Limits { outbound_messages: 1, ..Limits::default() });
    let note = || Message::parse(NOTE).unwrap();
    let mut cx = Context::from_waker(Waker::noop());
    let [mut first, mut second, mut third] = [(); 3].map(|()| Box::pin(session.send(note())));
    assert!(third.as_mut().poll(&mut cx).is_pending());
    let mut out = BytesMut::new();
    while take(&session, &mut out) == Taken::Chunk {}
    for send in [&mut third, &mut second, &mut first] {
        assert_eq!(send.as_mut().poll(&mut cx), Poll::Ready(Ok(())));
    }
}

#[test]
fn what_waits_has_a_bound_of_bytes_and_an_answer_beyond_it_is_an_error() {
    let limits = Limits { outbound_bytes: 100, backlog_bytes: 1_000, ..Limits::default() };
    let mut session = Calm::new(limits);
    session.posts(INITIALIZE, None);
    let note = format!(r#"{{"jsonrpc":"2.0","method":"{}"}}"#, "m".repeat(400));
    let send = |session: &mut Calm| session.core.send(Message::parse(note.clone()).unwrap(), session.now);
    assert_eq!(send(&mut session), Ok(Sent::InLog), "alone");
    assert!(matches!(send(&mut session), Ok(Sent::Waits(_))));
    assert!(matches!(send(&mut session), Ok(Sent::Waits(_))));
    assert_eq!(send(&mut session), Err(SendError::Full { messages: 3 }));
    let answer = format!(r#"{{"jsonrpc":"2.0","id":4,"result":"{}"}}"#, "x".repeat(400));
    let answered = session.core.send(Message::parse(answer).unwrap(), session.now);
    assert_eq!(answered, Err(SendError::Full { messages: 3 }));
    let mut out = BytesMut::new();
    while session.core.poll_take(0, &mut out, 0, Waker::noop(), session.now) == Taken::Chunk {}
    let text = std::str::from_utf8(&out).unwrap();
    assert_eq!(text.matches("event: message").count(), 4);
    assert!(text.contains("response not sent: 3 messages wait for the client already"), "{text}");
    assert_eq!(session.core.requests_in_flight(), 0);
}

#[test]
fn cancelled_requests_that_the_app_may_still_work_on_are_bounded() {
    let mut session = Calm::new(Limits { cancelled_requests: 3, ..Limits::default() });
    session.posts(INITIALIZE, None);
    let answer = Message::parse(r#"{"jsonrpc":"2.0","id":4,"result":{}}"#).unwrap();
    assert_eq!(session.core.send(answer, session.now), Ok(Sent::InLog));
    let calls = [11, 12, 13, 14]
        .map(|id| Message::parse(format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call"}}"#)).unwrap());
    let cancel = |id: u32| {
        let json = format!(
            r#"{{"jsonrpc":"2.0","method":"notifications/cancelled","params":{{"requestId":{id}}}}}"#
        );
        Message::parse(json).unwrap()
    };
    let admit = |session: &mut Calm, call: &Message| {
        session.core.poll_admit(call, 1, &mut None, Waker::noop(), session.now)
    };
    for (call, id) in calls[..3].iter().zip(11..) {
        assert_eq!(admit(&mut session, call), Poll::Ready(Ok(())));
        session.core.accept(call.clone(), head(None), 1, 1, session.now);
        session.core.accept(cancel(id), head(None), 1, 1, session.now);
    }
    assert_eq!(session.core.requests_in_flight(), 0);
    assert_eq!(admit(&mut session, &calls[3]), Poll::Ready(Err(Refusal::Busy)));
    // The app answers it after all.
    let late = Message::parse(r#"{"jsonrpc":"2.0","id":12,"result":{}}"#).unwrap();
    assert_eq!(session.core.send(late, session.now), Ok(Sent::InLog));
    assert_eq!(admit(&mut session, &calls[3]), Poll::Ready(Ok(())));
    session.core.accept(cancel(14), head(None), 1, 1, session.now);
    assert_eq!(admit(&mut session, &calls[3]), Poll::Ready(Err(Refusal::Busy)));
    // If the app never answers it, it stops counting after a while.
    session.now += Duration::from_secs(30);
    assert_eq!(admit(&mut session, &calls[3]), Poll::Ready(Ok(())));
}

#[test]
fn the_stream_of_a_session_that_is_closed_sees_its_end_though_nobody_reads() {
    let mut session = Calm::new(Limits::default());
    session.sends(NOTE);
    let flag = Arc::new(Flag::default());
    let waker = Waker::from(Arc::clone(&flag));
    let mut out = BytesMut::new();
    assert_eq!(session.core.poll_take(0, &mut out, 0, &waker, session.now), Taken::All);
    session.core.close(CloseReason::ClosedByServer, session.now);
    session.core.take_actions().wake();
    assert!(flag.0.swap(false, std::sync::atomic::Ordering::Relaxed), "woken for the end");
    #[cfg(feature = "server")]
    {
        // Its socket accepts nothing, so it cannot write the end.
        assert!(!session.core.poll_over(0, false, &waker, session.now));
        session.now += Duration::from_secs(30);
        assert_eq!(session.core.deadline(), Some(session.now));
        session.core.on_deadline(session.now);
        session.core.take_actions().wake();
        assert!(flag.0.load(std::sync::atomic::Ordering::Relaxed), "woken to be cut off");
        assert!(session.core.poll_over(0, false, &waker, session.now));
    }
}

#[cfg(feature = "server")]
#[test]
fn the_rest_of_a_closed_session_is_there_for_a_while_however_slowly_it_is_taken() {
    let mut session = Calm::new(Limits::default());
    session.sends(format!(r#"{{"jsonrpc":"2.0","id":1,"result":"{}"}}"#, "x".repeat(1_000_000)));
    session.core.close(CloseReason::ClosedByServer, session.now);
    let end = session.now + Duration::from_secs(60);
    while session.now < end {
        assert_eq!(session.core.close_reason(), Some(CloseReason::ClosedByServer));
        assert!(!session.core.poll_over(0, true, Waker::noop(), session.now), "it takes a little");
        session.now += Duration::from_secs(20);
        if session.core.deadline().is_some_and(|deadline| deadline <= session.now) {
            session.core.on_deadline(session.now);
        }
    }
    assert!(session.core.poll_over(0, true, Waker::noop(), session.now), "and now it is over");
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

#[cfg(feature = "server")]
#[test]
fn bytes_that_leave_are_progress_and_a_client_that_reads_steadily_stays() {
    let limits = Limits { keep_alive: None, ..Limits::default() };
    let mut session = Calm::new(limits);
    session.sends(format!(r#"{{"jsonrpc":"2.0","id":1,"result":"{}"}}"#, "x".repeat(1_000_000)));
    let mut out = BytesMut::new();
    let mut chunks = 0;
    loop {
        out.clear();
        let taken = session.core.poll_take(0, &mut out, 0, Waker::noop(), session.now);
        assert!(out.len() <= 64 * 1024);
        chunks += 1;
        // Each chunk takes longer to leave than a client may be silent.
        for _ in 0..3 {
            session.now += Duration::from_secs(20);
            assert!(session.core.deadline().is_none_or(|deadline| deadline > session.now));
            assert!(!session.core.poll_over(0, true, Waker::noop(), session.now));
        }
        if taken == Taken::All {
            break;
        }
    }
    assert_eq!(chunks, 16);
    session.now += Duration::from_secs(30);
    assert_eq!(session.core.deadline(), Some(session.now), "now nothing leaves any more");
    session.core.on_deadline(session.now);
    assert_eq!(session.core.close_reason(), Some(CloseReason::Stalled));
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
