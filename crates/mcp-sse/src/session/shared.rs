//! The driver of one session: the core behind a lock, and what the core cannot do itself (wake, set
//! timers, keep the registry in step, log, start the app).
//!
//! The lock is synchronous, held for short sections, and never across an await. Lock order: session,
//! then timers or registry; those never take a session's lock.

use std::{
    future::poll_fn,
    sync::{Arc, Mutex, PoisonError, Weak},
    task::{Context, Poll},
    time::{Duration, Instant},
};

use bytes::BytesMut;
use http::request::Parts;
use tokio::sync::Notify;

use super::{
    CloseReason, Incoming, SendError, Session,
    core::{Core, Outgoing, Refusal, Taken},
    gate::Ticket,
    id::SessionId,
};
use crate::{Principal, clock, limits::Limits, message::Message, sessions::Registry};

/// Starts the app of a session; called once, at the session's first message.
pub(crate) type StartApp = Arc<dyn Fn(Session) + Send + Sync>;

pub(crate) struct Shared {
    pub(crate) id: SessionId,
    pub(crate) principal: Option<Principal>,
    pub(crate) opened: Instant,
    pub(crate) limits: Arc<Limits>,
    this: Weak<Shared>,
    core: Mutex<Core>,
    closed: Notify,
    start_app: Mutex<Option<StartApp>>,
    registry: Arc<Registry>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Shared {
    pub(crate) fn new(
        id: SessionId,
        principal: Option<Principal>,
        limits: &Arc<Limits>,
        registry: &Arc<Registry>,
        start_app: Option<StartApp>,
    ) -> Arc<Self> {
        let opened = clock::now();
        Arc::new_cyclic(|this| Self {
            id,
            principal,
            opened,
            limits: Arc::clone(limits),
            this: this.clone(),
            core: Mutex::new(Core::new(id, Arc::clone(limits), opened)),
            closed: Notify::new(),
            start_app: Mutex::new(start_app),
            registry: Arc::clone(registry),
        })
    }

    /// Runs one operation on the core, then does what it asks for.
    pub(crate) fn with<R>(&self, operation: impl FnOnce(&mut Core, Instant) -> R) -> R {
        let now = clock::now();
        self.run(|core| operation(core, now))
    }

    /// The same for an operation that does not ask for the time; reading the clock is not for free.
    fn run<R>(&self, operation: impl FnOnce(&mut Core) -> R) -> R {
        let (result, actions, closed) = {
            let mut core = self.core.lock().unwrap_or_else(PoisonError::into_inner);
            let result = operation(&mut core);
            let actions = core.take_actions();
            if let Some(detached) = actions.detached {
                self.registry.set_detached(self.id, self.principal.as_ref(), detached);
            }
            self.reschedule(&mut core);
            let closed = actions.closed.map(|reason| (reason, core.figures));
            (result, actions, closed)
        };
        if let Some((reason, figures)) = closed {
            self.registry.remove(self.id, self.principal.as_ref());
            self.closed.notify_waiters();
            tracing::info!(
                session = %self.id,
                %reason,
                seconds = clock::now().saturating_duration_since(self.opened).as_secs_f64(),
                messages_in = figures.messages_in,
                bytes_in = figures.bytes_in,
                messages_out = figures.messages_out,
                bytes_out = figures.bytes_out,
                refused = figures.refused,
                resumed = figures.resumed,
                "session closed"
            );
        }
        actions.wake();
        result
    }

    /// Keeps this session's entry among the timers no later than its next deadline.
    fn reschedule(&self, core: &mut Core) {
        let next = core.deadline();
        let too_late = match (core.scheduled, next) {
            (None, None) => false,
            (Some(scheduled), Some(next)) => next < scheduled,
            _ => true,
        };
        if too_late {
            self.registry.timers.schedule(&self.this, self.id, core.scheduled, next);
            core.scheduled = next;
        }
    }

    /// Puts the first entry among the timers; called when the session is in the registry.
    pub(crate) fn opened(&self) {
        self.with(|_, _| ());
    }

    /// The timer set for `at` went off.
    pub(crate) fn on_timer(&self, at: Instant) {
        self.with(|core, now| {
            if core.scheduled == Some(at) {
                core.scheduled = None;
                if core.deadline().is_some_and(|deadline| deadline <= now) {
                    core.on_deadline(now);
                }
            }
        });
    }

    // ---- POST ---------------------------------------------------------------------------------------

    /// Waits for room in the inbound queue, at most `wait`.
    pub(crate) async fn reserve(
        self: &Arc<Self>,
        bytes: usize,
        wait: &mut Duration,
    ) -> Result<Reservation, Refusal> {
        let mut reservation = Reservation { session: Arc::clone(self), reserved: None, ticket: None };
        let this = &mut reservation;
        let reserved = poll_fn(|cx| {
            let session = Arc::clone(&this.session);
            session.run(|core| core.poll_reserve(bytes, &mut this.ticket, cx.waker()))
        });
        clock::within(wait, reserved).await.unwrap_or(Err(Refusal::Busy))?;
        reservation.reserved = Some(bytes);
        Ok(reservation)
    }

    fn start_app_if_due(&self) {
        let start = self.start_app.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let (Some(start), Some(this)) = (start, self.this.upgrade()) {
            start(Session::new(this));
        }
    }

    // ---- the app ------------------------------------------------------------------------------------

    pub(crate) fn poll_recv(&self, cx: &Context<'_>) -> Poll<Option<Incoming>> {
        self.run(|core| core.poll_recv(cx.waker()))
    }

    /// Sends; the message has its place in the order when this returns, and is in the log when the
    /// future ends.
    pub(crate) fn send(
        self: &Arc<Self>,
        message: Message,
    ) -> impl Future<Output = Result<(), SendError>> + Send + use<> {
        // Not made inside of the future: one that is dropped before its first poll gives up its place too.
        let pending = PendingSend::start(self, message);
        async move {
            let Some(mut pending) = pending? else { return Ok(()) };
            poll_fn(|cx| pending.poll(cx)).await
        }
    }

    pub(crate) fn close(&self, reason: CloseReason) {
        self.with(|core, now| core.close(reason, now));
    }

    pub(crate) fn close_reason(&self) -> Option<CloseReason> {
        self.run(|core| core.close_reason())
    }

    /// Resolves when the session is closed.
    pub(crate) async fn closed(&self) -> CloseReason {
        loop {
            // Registered before the check, so that no notification falls between.
            let notified = self.closed.notified();
            tokio::pin!(notified);
            notified.as_mut().enable();
            if let Some(reason) = self.close_reason() {
                return reason;
            }
            notified.await;
        }
    }

    // ---- the stream ---------------------------------------------------------------------------------

    pub(crate) fn poll_take(&self, generation: u64, out: &mut BytesMut, cx: &Context<'_>) -> Taken {
        self.with(|core, now| core.poll_take(generation, out, cx.waker(), now))
    }

    pub(crate) fn detach(&self, generation: u64) {
        self.with(|core, now| core.detach(generation, now));
    }
}

/// Room in the inbound queue of a session. Dropping it gives the room back.
pub(crate) struct Reservation {
    session: Arc<Shared>,
    reserved: Option<usize>,
    ticket: Option<Ticket>,
}

impl Reservation {
    /// Queues a message, waiting at most `wait` for its place among the requests in flight.
    pub(crate) async fn accept(
        mut self,
        message: Message,
        parts: Parts,
        cost: usize,
        wait: &mut Duration,
    ) -> Result<(), Refusal> {
        let mut admission = Admission { session: Arc::clone(&self.session), ticket: None };
        let mut content = Some((message, parts));
        let accepted = poll_fn(|cx| {
            let session = Arc::clone(&admission.session);
            // One section from the admission to the queue: a session that closes between would lose it.
            session.with(|core, now| {
                let Some((message, _)) = &content else { return Poll::Ready(Ok(())) };
                let polled = core.poll_admit(message, cost, &mut admission.ticket, cx.waker());
                if polled == Poll::Ready(Ok(()))
                    && let Some((message, parts)) = content.take()
                {
                    core.accept(message, parts, self.reserved.take().unwrap_or(0), cost, now);
                }
                polled
            })
        });
        clock::within(wait, accepted).await.unwrap_or(Err(Refusal::Busy))?;
        self.session.start_app_if_due();
        Ok(())
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let (reserved, ticket) = (self.reserved.take(), self.ticket.take());
        if reserved.is_some() || ticket.is_some() {
            self.session.with(|core, _| core.cancel_reserve(reserved, ticket));
        }
    }
}

/// A place in the queue for the requests in flight. Dropping it gives the place up.
struct Admission {
    session: Arc<Shared>,
    ticket: Option<Ticket>,
}

impl Drop for Admission {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket.take() {
            self.session.with(|core, _| core.cancel_admit(ticket));
        }
    }
}

/// A message that waits for room in the log. Dropping it gives the message up.
#[derive(Debug)]
pub(crate) struct PendingSend {
    session: Arc<Shared>,
    outgoing: Option<Outgoing>,
}

impl PendingSend {
    /// Sends at once, or returns what has to wait.
    pub(crate) fn start(session: &Arc<Shared>, message: Message) -> Result<Option<Self>, SendError> {
        let outgoing = session.with(|core, now| core.send(message, now))?;
        Ok(outgoing.map(|outgoing| Self { session: Arc::clone(session), outgoing: Some(outgoing) }))
    }

    pub(crate) fn poll(&mut self, cx: &Context<'_>) -> Poll<Result<(), SendError>> {
        let Self { session, outgoing } = self;
        session.with(|core, now| core.poll_send(outgoing, cx.waker(), now))
    }
}

impl Drop for PendingSend {
    fn drop(&mut self) {
        if let Some(outgoing) = self.outgoing.take() {
            self.session.with(|core, now| core.cancel_send(&outgoing, now));
        }
    }
}
