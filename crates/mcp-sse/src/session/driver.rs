//! The driver of one session: the core behind a lock, and what the core cannot do itself (wake tasks, set
//! timers, keep the registry up to date, tell the observers, start the app).
//!
//! The lock is synchronous, held for short sections, and never across an await. Lock order: session,
//! then timers or registry; those never take a session's lock.

use std::{
    collections::HashSet,
    future::poll_fn,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::{Duration, Instant},
};

use http::request::Parts;
use tokio::sync::Notify;

use super::{
    core::{Core, Refusal, Sent, Ticket},
    error::{CloseReason, SendError},
    facts::{ObservedSession, Observers, SessionFact},
    head::Head,
    incoming::Incoming,
    marks::Marks,
    registry::{AppRuns, Registry},
    timers::Due,
};
#[cfg(feature = "rmcp-3")]
use crate::message::RequestId;
use crate::{
    auth::{Grant, Holder},
    bound_headers::BoundHeaders,
    clock,
    endpoint::EndpointPath,
    id::SessionId,
    limits::Limits,
    message::Message,
    principal::Principal,
    records::Records,
    replica::ReplicaId,
};

/// Starts the app of a session; called once, at its first message.
pub(crate) type StartApp = Arc<dyn Fn(Arc<Driver>) + Send + Sync>;

/// What is started at the next message.
enum Start {
    App(StartApp),
    /// An app that has let go of the session until then.
    Parked(Box<dyn FnOnce() + Send>),
}

/// What the sessions of a transport share.
#[derive(Debug)]
pub(crate) struct Common {
    pub(crate) limits: Arc<Limits>,
    pub(crate) registry: Arc<Registry<Driver>>,
    pub(crate) observers: Observers,
    /// Where the sessions are, if there are several replicas.
    pub(crate) replica: Option<ReplicaId>,
    /// Where those are kept that may be revived at another one.
    pub(crate) keeping: Option<Keeping>,
}

/// Where sessions are kept that may be revived at another replica.
pub(crate) struct Keeping {
    pub(crate) records: Arc<dyn Records>,
    /// Those that have changed since they were written.
    pub(crate) marks: Marks<Driver>,
    /// Whether somebody writes them.
    pub(crate) is_written: AtomicBool,
    /// Those that requests are about to revive here.
    pub(crate) reviving: Mutex<HashSet<SessionId>>,
}

impl Keeping {
    pub(crate) fn new(records: Arc<dyn Records>) -> Self {
        let is_written = AtomicBool::new(false);
        Self { records, marks: Marks::default(), is_written, reviving: Mutex::default() }
    }
}

/// A session as it is kept.
#[derive(Debug)]
pub(crate) struct Kept {
    /// What the app wants to know of it; `None`: it cannot be kept any more, and its record has to go.
    pub(crate) state: Option<Arc<str>>,
    /// Of its record, as far as it is known; `None`: there is none yet.
    pub(crate) revision: Option<u64>,
}

/// What a session was revived with.
#[derive(Debug)]
pub(crate) struct Origin {
    pub(crate) state: Arc<str>,
    pub(crate) parts: Parts,
}

pub(crate) struct Driver {
    pub(crate) id: SessionId,
    pub(crate) principal: Option<Principal>,
    /// The endpoint that it was opened for.
    pub(crate) endpoint: Arc<EndpointPath>,
    pub(crate) opened: Instant,
    /// Headers that identify its client; set before the client learns of the session.
    pub(crate) bound: OnceLock<BoundHeaders>,
    /// What its client has shown, if there is an authenticator. Locked after the core, if both are.
    grant: Mutex<Option<Grant>>,
    pub(crate) common: Arc<Common>,
    this: Weak<Driver>,
    core: Mutex<Core>,
    closed: Notify,
    start_app: Mutex<Option<Start>>,
    /// Whether `start_app` may still hold something; saves taking its lock for each message.
    app_is_due: AtomicBool,
    /// For a session that may be revived elsewhere. Never locked together with the core.
    kept: Mutex<Option<Box<Kept>>>,
    is_kept: AtomicBool,
    /// Set before anybody has the session.
    pub(crate) origin: OnceLock<Box<Origin>>,
    /// Whether its client has posted a message; saves taking the registry's lock for each message.
    spoken: AtomicBool,
}

impl std::fmt::Debug for Driver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").field("id", &self.id).finish_non_exhaustive()
    }
}

/// How long a message waits for its turn before it joins the session's queue anyway.
const TURN_WAIT: Duration = Duration::from_millis(100);

impl Driver {
    pub(crate) fn new(
        id: SessionId,
        principal: Option<Principal>,
        endpoint: Arc<EndpointPath>,
        common: Arc<Common>,
        start_app: Option<StartApp>,
    ) -> Arc<Self> {
        let opened = clock::now();
        Arc::new_cyclic(|this| Self {
            id,
            principal,
            endpoint,
            opened,
            bound: OnceLock::new(),
            grant: Mutex::default(),
            this: this.clone(),
            core: Mutex::new(Core::new(id, Arc::clone(&common.limits), opened).at(common.replica.clone())),
            closed: Notify::new(),
            app_is_due: AtomicBool::new(start_app.is_some()),
            kept: Mutex::default(),
            is_kept: AtomicBool::new(false),
            origin: OnceLock::new(),
            spoken: AtomicBool::new(false),
            start_app: Mutex::new(start_app.map(Start::App)),
            common,
        })
    }

    /// Runs one operation on the core, then carries out its actions.
    pub(crate) fn with<R>(&self, operation: impl FnOnce(&mut Core, Instant) -> R) -> R {
        let now = clock::now();
        self.run(|core| operation(core, now))
    }

    /// The same for an operation that does not need the time, since reading the clock has a cost.
    fn run<R>(&self, operation: impl FnOnce(&mut Core) -> R) -> R {
        let (result, actions, closed, waits) = {
            let mut core = self.lock();
            let result = operation(&mut core);
            let actions = core.take_actions();
            if let Some(detached) = actions.detached {
                self.common.registry.set_away(self.id, detached);
            }
            self.reschedule(&mut core);
            let closed = actions.closed.map(|reason| (reason, core.figures));
            (result, actions, closed, core.has_inbound())
        };
        if matches!(actions.detached, Some(Some(_))) {
            self.tell(SessionFact::Left);
        }
        if let Some((reason, figures)) = closed {
            // First, so that whoever does not find it any more knows that it is to be written.
            self.changed(false);
            self.common.registry.remove(self.id);
            self.closed.notify_waiters();
            let age = clock::now().saturating_duration_since(self.opened);
            self.tell(SessionFact::Closed { reason, age, figures });
            self.unpark(waits);
        } else if actions.journaled {
            self.changed(true);
        }
        actions.wake();
        result
    }

    /// Reports a fact to the observers. Must not be called with a lock held.
    pub(crate) fn tell(&self, fact: SessionFact) {
        let session = ObservedSession {
            id: self.id,
            principal: self.principal.as_ref(),
            endpoint: self.endpoint.as_str(),
        };
        self.common.observers.session(&session, &fact);
    }

    fn lock(&self) -> MutexGuard<'_, Core> {
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes sure that this session's timer fires no later than its next deadline.
    fn reschedule(&self, core: &mut Core) {
        let next = core.deadline();
        let too_late = match (core.scheduled, next) {
            (None, None) => false,
            (Some(scheduled), Some(next)) => next < scheduled,
            _ => true,
        };
        if too_late {
            self.common.registry.timers.schedule(&self.this, self.id, core.scheduled, next);
            core.scheduled = next;
        }
    }

    /// Sets the first timer; called when the session is in the registry.
    pub(crate) fn set_first_timer(&self) {
        self.with(|_, _| ());
    }

    /// Notes what its client has shown now. The session depends on the grant that lasts longest. Must not be called
    /// with a lock held.
    pub(crate) fn show(&self, shown: Option<&Grant>) {
        let Some(shown) = shown else { return };
        let is_held = {
            let mut grant = self.shown();
            if grant.as_ref().is_some_and(|grant| !shown.replaces(grant)) {
                return;
            }
            let before = grant.replace(shown.clone());
            before.is_some_and(|before| before.is_revoked_with(shown))
        };
        // What was shown last, as several requests may come at once.
        self.run(|core| core.authorize_until(self.shown().as_ref().and_then(Grant::session_until)));
        if !is_held {
            let this: Weak<dyn Holder> = Weak::clone(&self.this) as Weak<dyn Holder>;
            shown.hold(&this);
        }
        // It may have been revoked before it was held.
        if shown.is_revoked() {
            self.revoked();
        }
    }

    fn shown(&self) -> MutexGuard<'_, Option<Grant>> {
        self.grant.lock().unwrap_or_else(PoisonError::into_inner)
    }

    // ---- what is kept of it -------------------------------------------------------------------------

    /// From now on the session may be revived elsewhere, with this state; `false` if sessions are not kept.
    pub(crate) fn keep(&self, state: Arc<str>) -> bool {
        // Who may go on with it is told by the values of headers, which are not kept.
        if self.common.keeping.is_none() || self.bound.get().is_some() {
            return false;
        }
        {
            let mut kept = self.kept();
            let revision = kept.as_ref().and_then(|kept| kept.revision);
            *kept = Some(Box::new(Kept { state: Some(state), revision }));
        }
        if !self.is_kept.swap(true, Ordering::AcqRel) {
            self.run(Core::remember);
        }
        self.changed(true);
        true
    }

    /// The session was revived with this state, and its record has this revision.
    pub(crate) fn adopt(&self, state: Arc<str>, revision: u64) {
        *self.kept() = Some(Box::new(Kept { state: Some(state), revision: Some(revision) }));
        self.is_kept.store(true, Ordering::Release);
        self.run(|core| {
            core.remember();
            core.shook_hands();
        });
    }

    /// The session cannot be kept any more.
    pub(crate) fn unkeep(&self) {
        if let Some(kept) = &mut *self.kept() {
            kept.state = None;
        }
        self.changed(self.close_reason().is_none());
    }

    /// Nothing is kept of it any more.
    pub(crate) fn forget(&self) {
        self.is_kept.store(false, Ordering::Release);
        *self.kept() = None;
        self.run(Core::remember_nothing);
    }

    pub(crate) fn is_kept(&self) -> bool {
        self.is_kept.load(Ordering::Acquire)
    }

    pub(crate) fn kept(&self) -> MutexGuard<'_, Option<Box<Kept>>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is kept of it has changed.
    pub(crate) fn changed(&self, is_open: bool) {
        if self.is_kept()
            && let (Some(keeping), Some(this)) = (&self.common.keeping, self.this.upgrade())
        {
            keeping.marks.mark(self.id, &this, is_open);
        }
    }

    /// Whether it has ended as its replica does, and goes on elsewhere.
    pub(crate) fn has_left(&self) -> bool {
        self.is_kept() && self.close_reason() == Some(CloseReason::Shutdown)
    }

    /// Whether it may have been revived elsewhere: its client is away, or says that it is elsewhere. While there is a stream that
    /// lives, nobody else has it.
    pub(crate) fn may_have_moved(&self, is_elsewhere: bool) -> bool {
        self.is_kept() && (is_elsewhere || !self.run(|core| core.is_attached()))
    }

    /// Closes the session to make room for another one, if it is silent or its client is away.
    pub(crate) fn give_way(&self) {
        self.with(|core, now| {
            if self.has_spoken() {
                core.close_if_detached(CloseReason::Evicted, now);
            } else {
                core.close(CloseReason::Evicted, now);
            }
        });
    }

    // ---- POST ---------------------------------------------------------------------------------------

    /// Whether its client has posted a message, so that it does not count as silent any more.
    pub(crate) fn has_spoken(&self) -> bool {
        self.spoken.load(Ordering::Acquire)
    }

    /// Notes that the registry does not count it as silent any more.
    pub(crate) fn set_spoken(&self) {
        self.spoken.store(true, Ordering::Release);
    }

    /// Waits for room in the inbound queue for at most `wait`, which it reduces by the time that it took.
    pub(crate) async fn reserve(
        self: &Arc<Self>,
        bytes: usize,
        wait: &mut Duration,
    ) -> Result<Reservation, Refusal> {
        let mut reservation = Reservation { session: Arc::clone(self), reserved: None, ticket: None };
        loop {
            let this = &mut reservation;
            let reserved = poll_fn(|cx| {
                let session = Arc::clone(&this.session);
                session.run(|core| core.poll_reserve(bytes, &mut this.ticket, cx.waker()))
            });
            let mut turn = TURN_WAIT.min(*wait);
            let before = turn;
            let reserved = clock::within(&mut turn, reserved).await;
            *wait = wait.saturating_sub(before - turn);
            match reserved {
                Some(reserved) => reserved?,
                None if self.run(|core| core.reserve_late(&mut this.ticket)) => {}
                None if wait.is_zero() => return Err(Refusal::Busy),
                None => continue,
            }
            reservation.reserved = Some(bytes);
            return Ok(reservation);
        }
    }

    /// Queues a message that has arrived whole, if it does not have to wait; else `None`, and the content
    /// stays.
    pub(crate) fn accept_at_once(
        &self,
        content: &mut Option<(Message, Head)>,
        cost: usize,
    ) -> Option<Result<(), Refusal>> {
        let accepted = self.with(|core, now| core.accept_at_once(content, cost, now));
        if accepted == Some(Ok(())) {
            self.start_app_if_due();
        }
        accepted
    }

    pub(crate) fn start_app_if_due(&self) {
        if !self.app_is_due.load(Ordering::Acquire) {
            return;
        }
        self.app_is_due.store(false, Ordering::Release);
        let start = self.start().take();
        match (start, self.this.upgrade()) {
            (Some(Start::App(start)), Some(this)) => start(this),
            (Some(Start::Parked(start)), _) => start(),
            (Some(Start::App(_)) | None, _) => {}
        }
    }

    fn start(&self) -> MutexGuard<'_, Option<Start>> {
        self.start_app.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs this at the next message, which may have come already. It is dropped if the session closes before.
    pub(crate) fn park(&self, start: Box<dyn FnOnce() + Send>) {
        *self.start() = Some(Start::Parked(start));
        self.app_is_due.store(true, Ordering::Release);
        let (waits, closed) = self.run(|core| (core.has_inbound(), core.close_reason().is_some()));
        if closed {
            self.unpark(waits);
        } else if waits {
            self.start_app_if_due();
        }
    }

    /// The session has closed: what is parked is not needed any more, unless a message waits for it.
    fn unpark(&self, waits: bool) {
        let parked = self.start().take_if(|start| matches!(start, Start::Parked(_)));
        if let Some(Start::Parked(start)) = parked
            && waits
            && tokio::runtime::Handle::try_current().is_ok()
        {
            start();
        }
    }

    /// Counts the app as running until the returned value is dropped, by the task that runs it.
    pub(crate) fn app_runs(&self) -> AppRuns<Self> {
        self.common.registry.app_runs(self.id)
    }

    // ---- the app ------------------------------------------------------------------------------------

    pub(crate) fn poll_recv(&self, cx: &Context<'_>) -> Poll<Option<Incoming>> {
        // The short way when there is no message: rmcp polls several times for each one.
        if self.lock().waits_for_client(cx.waker()) {
            return Poll::Pending;
        }
        self.run(|core| core.poll_recv(cx.waker()))
    }

    /// The app is working on this request for as long as the returned value is alive.
    #[cfg(feature = "rmcp-3")]
    pub(crate) fn work_on(&self, id: &RequestId) -> Arc<()> {
        self.with(|core, now| core.work_on(id, now))
    }

    /// Sends a message. It is sent when this returns, and is in the log when the future completes.
    pub(crate) fn send(self: &Arc<Self>, message: Message) -> Sending {
        match PendingSend::start(self, message) {
            Ok(None) => Sending::Done(Ok(())),
            Ok(Some(pending)) => Sending::Waits(pending),
            Err(error) => Sending::Done(Err(error)),
        }
    }

    pub(crate) fn try_send(&self, message: Message) -> Result<(), SendError> {
        self.with(|core, now| core.try_send(message, now))
    }

    pub(crate) fn close(&self, reason: CloseReason) {
        self.with(|core, now| core.close(reason, now));
    }

    pub(crate) fn close_with_error(&self, text: &str) {
        self.with(|core, now| core.close_saying(CloseReason::AppEnded, text, now));
    }

    pub(crate) fn close_reason(&self) -> Option<CloseReason> {
        self.run(|core| core.close_reason())
    }

    /// Resolves when the session is closed.
    pub(crate) async fn closed(&self) -> CloseReason {
        loop {
            // Registered before the check, so that no notification is missed in between.
            let notified = self.closed.notified();
            tokio::pin!(notified);
            notified.as_mut().enable();
            if let Some(reason) = self.close_reason() {
                return reason;
            }
            notified.await;
        }
    }
}

impl std::fmt::Debug for Keeping {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keeping").finish_non_exhaustive()
    }
}

impl Holder for Driver {
    fn revoked(&self) {
        let is_over = self.shown().as_ref().is_some_and(Grant::is_revoked);
        if is_over {
            self.close(CloseReason::Unauthorized);
        }
    }
}

impl Due for Driver {
    fn on_timer(&self, at: Instant) {
        self.with(|core, now| {
            if core.scheduled == Some(at) {
                core.scheduled = None;
                if core.deadline().is_some_and(|deadline| deadline <= now) {
                    core.on_deadline(now);
                }
            }
        });
    }
}

/// Room in the inbound queue of a session. Dropping it gives the room back.
pub(crate) struct Reservation {
    session: Arc<Driver>,
    reserved: Option<usize>,
    ticket: Option<Ticket>,
}

impl Reservation {
    /// Queues a message, waiting for at most `wait` for its place among the requests in flight.
    pub(crate) async fn accept(
        mut self,
        message: Message,
        head: Head,
        cost: usize,
        wait: &mut Duration,
    ) -> Result<(), Refusal> {
        let mut admission = Admission { session: Arc::clone(&self.session), ticket: None };
        let mut content = Some((message, head));
        let accepted = poll_fn(|cx| {
            let session = Arc::clone(&admission.session);
            // Admitted and queued under one lock: the session must not close in between and lose the message.
            session.with(|core, now| {
                let Some((message, _)) = &content else { return Poll::Ready(Ok(())) };
                let polled = core.poll_admit(message, cost, &mut admission.ticket, cx.waker(), now);
                if polled == Poll::Ready(Ok(()))
                    && let Some((message, head)) = content.take()
                {
                    core.accept(message, head, self.reserved.take().unwrap_or(0), cost, now);
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
    session: Arc<Driver>,
    ticket: Option<Ticket>,
}

impl Drop for Admission {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket.take() {
            self.session.with(|core, _| core.cancel_admit(ticket));
        }
    }
}

/// The future of a message that was sent; completes when it is in the log. Dropping it does not unsend the
/// message. It is small because rmcp spawns one for each message.
#[derive(Debug)]
pub(crate) enum Sending {
    Waits(PendingSend),
    Done(Result<(), SendError>),
}

impl Future for Sending {
    type Output = Result<(), SendError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut *self {
            Self::Waits(pending) => pending.poll(cx),
            Self::Done(result) => Poll::Ready(std::mem::replace(result, Ok(()))),
        }
    }
}

/// A message that waits in the backlog for room in the log. It moves up without being polled.
#[derive(Debug)]
pub(crate) struct PendingSend {
    session: Arc<Driver>,
    ticket: u64,
}

impl PendingSend {
    /// Sends a message; `Some` if it has to wait for room in the log.
    pub(crate) fn start(session: &Arc<Driver>, message: Message) -> Result<Option<Self>, SendError> {
        match session.with(|core, now| core.send(message, now))? {
            Sent::InLog => Ok(None),
            Sent::Waits(ticket) => Ok(Some(Self { session: Arc::clone(session), ticket })),
        }
    }

    pub(crate) fn poll(&mut self, cx: &Context<'_>) -> Poll<Result<(), SendError>> {
        self.session.run(|core| core.poll_sent(self.ticket, cx.waker()))
    }
}
