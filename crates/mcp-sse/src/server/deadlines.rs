//! The deadlines of connections that hyper serves.
//!
//! hyper has no timer for most of what a client can fail to do: it waits without a limit for the next request
//! of a connection, for a flow-control window to open, for the rest of a response to be read. So a connection
//! is watched from the outside: the socket reports when bytes arrive, the service when a request begins, the
//! body of the response when more of it is asked for.

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

/// The largest piece of a response that hyper is given at once. It asks for the next one when it has room,
/// which shows progress.
const PIECE: usize = 16 * 1024;

/// What a connection is doing; shared by its socket, its service and its response bodies.
pub(super) struct Activity {
    state: Mutex<State>,
    /// How long it may have no open request.
    idle_timeout: Duration,
}

struct State {
    /// The number of requests whose responses are not complete.
    open: usize,
    /// Since when there is none.
    quiet_since: Instant,
    /// Since when the rest of a request's head is awaited.
    head_since: Option<Instant>,
    /// Whether bytes that arrive while no request is open begin a head. On HTTP/2 most do not.
    bytes_are_heads: bool,
    /// The response to the last request, until someone asks for it to enforce its deadline.
    last: Option<Arc<Taking>>,
}

impl Activity {
    /// For a connection on which the first part of a head arrived at `head_since`.
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

    /// Bytes have arrived.
    pub(super) fn read(&self) {
        let mut state = self.state();
        if state.bytes_are_heads && state.open == 0 && state.head_since.is_none() {
            state.head_since = Some(clock::now());
        }
    }

    /// The head of a request is complete.
    pub(super) fn begin(self: &Arc<Self>) -> Open {
        let taking = Arc::<Taking>::default();
        let mut state = self.state();
        state.open += 1;
        state.head_since = None;
        state.last = Some(Arc::clone(&taking));
        Open { activity: Arc::clone(self), taking }
    }

    /// Takes the response of the request that began last.
    pub(super) fn last(&self) -> Option<Arc<Taking>> {
        self.state().last.take()
    }

    /// When the connection is to end if nothing more happens; `None` while a request is open.
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

/// Counts a request as open until it is dropped.
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

    /// Ready when the connection is to end. Must be polled after the connection that it watches.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            let due = self.activity.due(self.header_timeout);
            // A later deadline is only noticed when the timer fires, which saves a reset for each request.
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

/// How far a response is taken by its client.
#[derive(Default)]
pub(super) struct Taking(Mutex<Held>);

#[derive(Default)]
struct Held {
    /// Since when hyper has a piece and has not asked for another one.
    since: Option<Instant>,
    /// The session, if the response is a stream.
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

/// Ends a response whose client does not read it: no piece for `stall`, or not all of it that long after its
/// session was found closed.
pub(super) struct Deadline {
    taking: Arc<Taking>,
    stall: Duration,
    /// Only while a piece waits to be taken.
    timer: Option<Pin<Box<Sleep>>>,
    closed_since: Option<Instant>,
}

impl Deadline {
    pub(super) fn new(taking: Arc<Taking>, stall: Duration) -> Self {
        Self { taking, stall, timer: None, closed_since: None }
    }

    /// Ready when the response is to end. Must be polled after what asks for the pieces.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            let (since, session) = {
                let held = self.taking.held();
                (held.since, held.session.clone())
            };
            let Some(since) = since else {
                // All of its pieces are taken; hyper waits for more.
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
    /// `None`: the answer is without one.
    body: Option<Pin<Box<B>>>,
    /// The rest of the body's last frame.
    rest: Bytes,
    open: Open,
}

impl<B> Pieces<B> {
    pub(super) fn new(body: Option<B>, session: Option<StreamOf>, open: Open) -> Self {
        open.taking.held().session = session;
        Self { body: body.map(Box::pin), rest: Bytes::new(), open }
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
        let Some(body) = &mut self.body else { return Poll::Ready(None) };
        match body.as_mut().poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                Ok(data) => self.piece(data),
                Err(frame) => Poll::Ready(Some(Ok(frame))),
            },
            polled => polled,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        // Not of zero bytes, which would be said of the answer to a GET.
        let Some(body) = &self.body else { return SizeHint::default() };
        let mut hint = body.size_hint();
        let rest = self.rest.len() as u64;
        if let Some(upper) = hint.upper() {
            hint.set_upper(upper.saturating_add(rest));
        }
        hint.set_lower(hint.lower().saturating_add(rest));
        hint
    }
}
