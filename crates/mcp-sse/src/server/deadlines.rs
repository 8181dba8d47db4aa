//! What a connection that hyper serves may wait for, and how long.
//!
//! hyper has no timer for most of what a client can leave undone: it waits for ever for a connection's next
//! request, for a window to open, for the rest of an answer to be taken. So the connection is watched from
//! around it: the socket says when bytes came, the service when a request began, the body of the response when
//! more of it is asked for.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Sleep, sleep_until};

use super::layers::StreamOf;
use crate::clock;

/// What is handed to hyper at once of a response. The next piece is asked for when there is room for it, which
/// is how progress shows.
const PIECE: usize = 16 * 1024;

/// What a connection is doing; shared by its parts.
pub(super) struct Activity {
    state: Mutex<State>,
    /// How long it may have no request open.
    idle_timeout: Duration,
}

struct State {
    /// Requests that are not answered whole.
    open: usize,
    /// Since when there is none.
    quiet_since: Instant,
    /// Since when the head of a request is awaited.
    head_since: Option<Instant>,
    /// Whether bytes that come while no request is open begin a head. On HTTP/2 most do not.
    bytes_are_heads: bool,
    /// The last request's response, for who sees to its deadline.
    last: Option<Arc<Taking>>,
}

impl Activity {
    /// Of a connection on which part of a head has come by `head_since`.
    pub(super) fn new(head_since: Instant, bytes_are_heads: bool, idle_timeout: Duration) -> Arc<Self> {
        let state = Mutex::new(State {
            open: 0,
            quiet_since: head_since,
            head_since: Some(head_since),
            bytes_are_heads,
            last: None,
        });
        Arc::new(Self { state, idle_timeout })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes have come.
    pub(super) fn read(&self) {
        let mut state = self.state();
        if state.bytes_are_heads && state.open == 0 && state.head_since.is_none() {
            state.head_since = Some(clock::now());
        }
    }

    /// A request's head is there.
    pub(super) fn begin(self: &Arc<Self>) -> Open {
        let taking = Arc::<Taking>::default();
        let mut state = self.state();
        state.open += 1;
        state.head_since = None;
        state.last = Some(Arc::clone(&taking));
        Open { activity: Arc::clone(self), taking }
    }

    /// The response of the request that began last, once.
    pub(super) fn last(&self) -> Option<Arc<Taking>> {
        self.state().last.take()
    }

    /// When the connection is over if nothing more happens; `None` while a request is open.
    fn due(&self, header_timeout: Duration) -> Option<Instant> {
        let state = self.state();
        if state.open > 0 {
            return None;
        }
        Some(match state.head_since {
            Some(since) => clock::after(since, header_timeout),
            None => clock::after(state.quiet_since, self.idle_timeout),
        })
    }
}

/// A request that is being answered, until it is dropped.
pub(super) struct Open {
    activity: Arc<Activity>,
    taking: Arc<Taking>,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.taking.set(None);
        let mut state = self.activity.state();
        state.open -= 1;
        if state.open == 0 {
            state.quiet_since = clock::now();
        }
    }
}

/// Ends a connection on which nothing happens.
pub(super) struct Watch {
    activity: Arc<Activity>,
    header_timeout: Duration,
    timer: Pin<Box<Sleep>>,
}

impl Watch {
    pub(super) fn new(activity: Arc<Activity>, header_timeout: Duration) -> Self {
        let due = activity.due(header_timeout).unwrap_or_else(clock::now);
        Self { activity, header_timeout, timer: Box::pin(sleep_until(due.into())) }
    }

    /// Whether no request is open.
    pub(super) fn is_quiet(&self) -> bool {
        self.activity.state().open == 0
    }

    /// Ready when the connection is over. It is to be polled after what it watches.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            let due = self.activity.due(self.header_timeout);
            // Later is found when the timer fires: nobody pays for it with each request.
            if let Some(due) = due
                && self.timer.deadline().into_std() > due
            {
                self.timer.as_mut().reset(due.into());
            }
            if self.timer.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            let now = clock::now();
            if due.is_some_and(|due| due <= now) {
                return Poll::Ready(());
            }
            let next = due.unwrap_or_else(|| clock::after(now, self.activity.idle_timeout));
            self.timer.as_mut().reset(next.into());
        }
    }
}

/// How a response is being taken.
#[derive(Default)]
pub(super) struct Taking(Mutex<Held>);

#[derive(Default)]
struct Held {
    /// Since when a piece is with hyper and no other was asked for.
    since: Option<Instant>,
    /// The session of a stream.
    session: Option<StreamOf>,
}

impl Taking {
    fn held(&self) -> MutexGuard<'_, Held> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, since: Option<Instant>) {
        self.held().since = since;
    }
}

/// Ends a response that is not taken: no piece of it for `stall`, or not all of it that long after its session
/// was found closed.
pub(super) struct Deadline {
    taking: Arc<Taking>,
    stall: Duration,
    /// Only there while something is not taken.
    timer: Option<Pin<Box<Sleep>>>,
    closed_since: Option<Instant>,
}

impl Deadline {
    pub(super) fn new(taking: Arc<Taking>, stall: Duration) -> Self {
        Self { taking, stall, timer: None, closed_since: None }
    }

    /// Ready when the response is over. It is to be polled after what asks for the pieces.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            let (since, session) = {
                let held = self.taking.held();
                (held.since, held.session.clone())
            };
            let Some(since) = since else {
                // It is asked for more than there is.
                self.timer = None;
                return Poll::Pending;
            };
            let due = clock::after(since, self.stall);
            let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(due.into())));
            if timer.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            let now = clock::now();
            if self.closed_since.is_none()
                && session
                    .is_some_and(|StreamOf(session)| session.with(|core, _| core.close_reason()).is_some())
            {
                self.closed_since = Some(now);
            }
            let closed_due = self.closed_since.map(|since| clock::after(since, self.stall));
            let due = closed_due.map_or(due, |closed| closed.min(due));
            if due <= now {
                return Poll::Ready(());
            }
            timer.as_mut().reset(due.into());
        }
    }
}

/// A response's body, in pieces.
pub(super) struct Pieces<B> {
    body: Pin<Box<B>>,
    /// What is left of the body's last frame.
    rest: Bytes,
    open: Open,
}

impl<B> Pieces<B> {
    pub(super) fn new(body: B, session: Option<StreamOf>, open: Open) -> Self {
        open.taking.held().session = session;
        Self { body: Box::pin(body), rest: Bytes::new(), open }
    }

    fn piece(&mut self, mut data: Bytes) -> Poll<Option<Result<Frame<Bytes>, B::Error>>>
    where
        B: Body,
    {
        if data.len() > PIECE {
            self.rest = data.split_off(PIECE);
        }
        self.open.taking.set(Some(clock::now()));
        Poll::Ready(Some(Ok(Frame::data(data))))
    }
}

impl<B> Body for Pieces<B>
where
    B: Body<Data = Bytes>,
{
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        self.open.taking.set(None);
        if !self.rest.is_empty() {
            let rest = std::mem::take(&mut self.rest);
            return self.piece(rest);
        }
        match self.body.as_mut().poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                Ok(data) => self.piece(data),
                Err(frame) => Poll::Ready(Some(Ok(frame))),
            },
            polled => polled,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let mut hint = self.body.size_hint();
        let rest = self.rest.len() as u64;
        if let Some(upper) = hint.upper() {
            hint.set_upper(upper.saturating_add(rest));
        }
        hint.set_lower(hint.lower().saturating_add(rest));
        hint
    }
}
