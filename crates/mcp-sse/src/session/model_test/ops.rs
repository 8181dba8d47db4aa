//! What may happen to a session, and how often.

use std::time::Duration;

use proptest::prelude::*;

use super::super::CloseReason;
use crate::limits::Limits;

#[derive(Clone, Copy, Debug)]
pub(super) enum Op {
    /// A POST arrives. `through`: nothing else happens between its steps.
    Post {
        what: What,
        size: usize,
        slack: usize,
        through: bool,
    },
    /// A POST that waits or reads its body continues.
    PostGoesOn(usize),
    /// A POST is abandoned: its client disconnected or it timed out.
    PostEnds(usize),
    /// A POST has waited for its turn for long enough.
    PostIsLate(usize),
    /// `works`: the app tells how long it works on what it gets.
    Recv {
        works: bool,
    },
    /// The app stops working on something.
    WorkEnds(usize),
    /// The app answers a request that it has received.
    Answer(usize, usize),
    AnswerInitialize(bool),
    /// `tries`: only if there is room.
    Notify {
        size: usize,
        tries: bool,
    },
    SendGoesOn(usize),
    SendEnds(usize),
    /// The server polls a stream and puts the bytes on the wire. `first`: it may be told `Soon`.
    Take {
        which: usize,
        first: bool,
    },
    /// A stream cannot write what it has taken, or not all of it.
    #[cfg_attr(not(feature = "server"), expect(dead_code, reason = "other servers do not say so"))]
    Blocked {
        which: usize,
        some_left: bool,
    },
    /// The client reads this many of the bytes on the wire.
    Read(usize),
    /// A stream breaks; what is on the wire is lost.
    Break(usize),
    /// The client resumes after the last event that it has.
    Resume,
    /// A client resumes after another event.
    ResumeAfter(u64),
    /// Time passes; `on_time`: timers fire when they are due.
    Pass {
        millis: u64,
        on_time: bool,
    },
    /// A timer fires late, or one that is not needed any more.
    Timer,
    /// The client shows a grant that expires after so many milliseconds, if at all.
    Authorize(Option<u64>),
    Drain,
    CloseIfDetached,
    Close(CloseReason),
}

#[derive(Clone, Copy, Debug)]
pub(super) enum What {
    Request,
    /// Has the id of a request that is or was in flight.
    SameId(usize),
    /// Comes with a protocol version in its header.
    RequestWithVersion,
    Notification,
    Response,
    /// Of a request in flight.
    Cancel(usize),
    Ping,
    Initialize,
    Stateless,
}

pub(super) fn what() -> impl Strategy<Value = What> {
    prop_oneof![
        10 => Just(What::Request),
        2 => any::<usize>().prop_map(What::SameId),
        1 => Just(What::RequestWithVersion),
        3 => Just(What::Notification),
        1 => Just(What::Response),
        3 => any::<usize>().prop_map(What::Cancel),
        1 => Just(What::Ping),
        1 => Just(What::Initialize),
        1 => Just(What::Stateless),
    ]
}

pub(super) fn size() -> impl Strategy<Value = usize> {
    prop_oneof![60 => 0..30usize, 12 => 30..300usize, 6 => 20_000..40_000usize, 1 => 60_000..200_000usize]
}

pub(super) fn op() -> impl Strategy<Value = Op> {
    let reason = prop_oneof![
        Just(CloseReason::AppEnded),
        Just(CloseReason::ClosedByServer),
        Just(CloseReason::Shutdown),
        Just(CloseReason::Evicted),
        Just(CloseReason::Unauthorized),
    ];
    prop_oneof![
        300 => (what(), size(), 0..60usize, prop::bool::weighted(0.7))
            .prop_map(|(what, size, slack, through)| Op::Post { what, size, slack, through }),
        300 => any::<usize>().prop_map(Op::PostGoesOn),
        30 => any::<usize>().prop_map(Op::PostEnds),
        60 => any::<usize>().prop_map(Op::PostIsLate),
        350 => any::<bool>().prop_map(|works| Op::Recv { works }),
        100 => any::<usize>().prop_map(Op::WorkEnds),
        250 => (any::<usize>(), size()).prop_map(|(which, size)| Op::Answer(which, size)),
        80 => prop::bool::weighted(0.9).prop_map(Op::AnswerInitialize),
        100 => (size(), prop::bool::weighted(0.2)).prop_map(|(size, tries)| Op::Notify { size, tries }),
        250 => any::<usize>().prop_map(Op::SendGoesOn),
        30 => any::<usize>().prop_map(Op::SendEnds),
        500 => (prop_oneof![9 => Just(0), 1 => any::<usize>()], any::<bool>())
            .prop_map(|(which, first)| Op::Take { which, first }),
        60 => (prop_oneof![9 => Just(0), 1 => any::<usize>()], any::<bool>())
            .prop_map(|(which, some_left)| Op::Blocked { which, some_left }),
        300 => prop_oneof![0..200usize, Just(usize::MAX)].prop_map(Op::Read),
        30 => prop_oneof![3 => Just(0), 1 => any::<usize>()].prop_map(Op::Break),
        100 => Just(Op::Resume),
        20 => prop_oneof![0..30u64, Just(u64::MAX)].prop_map(Op::ResumeAfter),
        150 => (prop_oneof![12 => 0..300u64, 1 => 0..8_000u64], prop::bool::weighted(0.8))
            .prop_map(|(millis, on_time)| Op::Pass { millis, on_time }),
        30 => Just(Op::Timer),
        5 => prop::option::weighted(0.7, 0..20_000u64).prop_map(Op::Authorize),
        2 => Just(Op::Drain),
        3 => Just(Op::CloseIfDetached),
        3 => reason.prop_map(Op::Close),
    ]
}

/// Limits so small that each is reached all the time; now and then one is so large that the size of a chunk
/// is reached.
pub(super) fn limits() -> impl Strategy<Value = Limits> {
    let millis = |range: std::ops::Range<u64>| range.prop_map(Duration::from_millis);
    let large = 200_000usize;
    let inbound = (1..5usize, 100..900usize, 1..5usize, 60..600usize, 1..5usize);
    let outbound = (1..5usize, 60..500usize, prop_oneof![4 => 90..400usize, 1 => Just(large)]);
    let backlog = (1..6usize, prop_oneof![2 => 60..900usize, 1 => Just(large)]);
    let replay = (0..6usize, prop_oneof![4 => 0..600usize, 1 => Just(large)]);
    let times = (
        prop_oneof![1 => Just(Duration::ZERO), 9 => millis(1_000..9_000)],
        prop::option::weighted(0.8, millis(1..4_000)),
        prop_oneof![1 => millis(1..1_000), 5 => millis(1_000..20_000)],
    );
    (inbound, outbound, backlog, replay, times, any::<bool>(), prop::bool::weighted(0.15)).prop_map(
        move |(inbound, outbound, backlog, replay, times, synthesize_initialize, wide)| Limits {
            inbound_messages: inbound.0,
            inbound_turn: inbound.4,
            inbound_bytes: inbound.1,
            in_flight_requests: inbound.2,
            cancelled_requests: inbound.2 + 1,
            in_flight_bytes: inbound.3,
            outbound_messages: if wide { 30 } else { outbound.0 },
            outbound_bytes: if wide { large } else { outbound.1 },
            outbound_message_bytes: if wide { large } else { outbound.2 },
            backlog_messages: backlog.0,
            backlog_bytes: backlog.1,
            replay_events: replay.0,
            replay_bytes: replay.1,
            resume_window: times.0,
            keep_alive: times.1,
            stall_timeout: times.2,
            synthesize_initialize,
            ..Limits::default()
        },
    )
}
