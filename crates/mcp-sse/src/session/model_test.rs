//! The session core under random sequences of operations, on virtual time, against a plain model.
//!
//! Everything that a driver, a client and an app may do to a session is an [`Op`]; the [`World`] does it
//! to the core and to the [`model`], and compares what comes out. After every operation it checks what
//! must hold at any time: limits, which tasks have been woken, deadlines, what the driver was told. The bytes
//! that a stream takes are parsed as a client parses them.
//!
//! `PROPTEST_CASES=100000 cargo test -p mcp-sse --lib model_test` runs more cases.

mod check;
mod examples;
mod model;
mod ops;
mod steps;
mod wire;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Poll, Wake, Waker},
    time::{Duration, Instant},
};

use bytes::BytesMut;
use proptest::prelude::*;

use self::{
    model::{ForApp, ForStream, Hand, Key, Kind, Model, Step},
    ops::{Op, What, limits, op},
    wire::{Block, Client},
};
use super::{
    CloseReason, Incoming, SendError,
    core::{Core, Refusal, Sent, Taken, Ticket},
    head::Head,
};
use crate::{clock, event, id::EventId, limits::Limits, message::Message};

const HEX: &str = "0123456789abcdef0123456789abcdef";
/// A chunk is this large at most (see `log`).
const CHUNK_BYTES: usize = 64 * 1024;

// ---- tasks that wait --------------------------------------------------------------------------------

#[derive(Debug, Default)]
struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A task that polls, and whether it was woken since it was told to wait.
#[derive(Debug, Default)]
struct Waiter {
    flag: Arc<Flag>,
    waits: bool,
}

impl Waiter {
    /// A waker for one poll.
    fn waker(&mut self) -> Waker {
        // A new one each time, so that a waker of an earlier poll does not count.
        self.flag = Arc::default();
        Waker::from(Arc::clone(&self.flag))
    }

    fn sleeps(&self) -> bool {
        self.waits && !self.flag.0.load(Ordering::Relaxed)
    }
}

#[derive(Debug)]
struct Post {
    key: Key,
    message: Message,
    kind: Kind,
    hand: Hand,
    /// How many bytes its head announced.
    bytes: usize,
    cost: usize,
    state: PostState,
    ticket: Option<Ticket>,
    waiter: Waiter,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PostState {
    Reserving,
    Reserved,
    Done,
}

#[derive(Debug)]
struct Sending {
    key: Key,
    ticket: u64,
    waiter: Waiter,
}

/// The response to one GET, as the server holds it.
#[derive(Debug)]
struct Response {
    generation: u64,
    preamble: BytesMut,
    /// The beginning of an event.
    partial: Vec<u8>,
    ended: bool,
    /// It waits for its socket.
    blocked: bool,
    waiter: Waiter,
}

impl Response {
    fn new(generation: u64) -> Self {
        Self {
            generation,
            preamble: BytesMut::new(),
            partial: Vec::new(),
            ended: false,
            blocked: false,
            waiter: Waiter::default(),
        }
    }
}

struct World {
    limits: Arc<Limits>,
    core: Core,
    model: Model,
    now: Instant,
    posts: Vec<Post>,
    receiver: Waiter,
    sends: Vec<Sending>,
    /// Newest first.
    responses: Vec<Response>,
    client: Client,
    /// Ids of requests that the app has received and not answered.
    unanswered: Vec<i64>,
    /// The work that the app does.
    works: Vec<(Key, Arc<()>)>,
    next: u64,
    /// What the driver was told.
    told_closed: Option<CloseReason>,
    told_detached: Option<Instant>,
}

fn head(version: Option<&'static str>) -> Head {
    let mut request = http::Request::new(());
    if let Some(version) = version {
        request.headers_mut().insert("mcp-protocol-version", http::HeaderValue::from_static(version));
    }
    Head::new(request.into_parts().0)
}

impl World {
    fn new(limits: Limits) -> Self {
        let (limits, now) = (Arc::new(limits), clock::now());
        let id = HEX.parse().unwrap();
        let mut preamble = BytesMut::new();
        let named = limits.resumes().then_some(EventId { session: id, sequence: 0, at: None });
        event::endpoint(&mut preamble, named, 1000, "/messages/");
        Self {
            core: Core::new(id, Arc::clone(&limits), now),
            model: Model::new(&limits, now),
            now,
            posts: Vec::new(),
            receiver: Waiter::default(),
            sends: Vec::new(),
            responses: vec![Response { preamble, ..Response::new(0) }],
            client: Client::new(limits.resumes()),
            unanswered: Vec::new(),
            works: Vec::new(),
            next: 0,
            told_closed: None,
            told_detached: None,
            limits,
        }
    }

    fn next(&mut self) -> u64 {
        self.next += 1;
        self.next
    }
}

proptest! {
    #[test]
    fn the_core_does_what_the_model_does(
        limits in limits(),
        ops in prop::collection::vec((op(), prop::bool::weighted(0.1)), 1..400),
        connects in prop::bool::weighted(0.9),
        settles: bool,
    ) {
        let mut world = World::new(limits);
        if connects {
            world.apply(Op::Take { which: 0, first: false });
            world.apply(Op::Read(usize::MAX));
        }
        for (op, ask) in ops {
            world.apply(op);
            if ask {
                world.ask_everybody();
            }
        }
        if settles {
            world.settle();
        } else {
            world.leave();
        }
        world.is_over();
    }
}
