//! A session that outlives its server: when the program or the remote server behind it ends, another one is started, told
//! what the client has said, and takes its place.
//!
//! | room | what lives there |
//! |---|---|
//! | here | starting servers, one after another, for a client that stays |
//! | `policy` | when, and how often |
//! | `core` | what becomes of each message, without IO |
//! | `kept` | what a new server has to know |
//! | `upstream` | a remote server as what stands behind a session |

mod core;
mod kept;
mod policy;
mod upstream;

use std::{
    collections::VecDeque,
    pin::pin,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures_util::FutureExt as _;
use http::request::Parts;
use mcp_sse::{Incoming, Message, MessageKind};
use tokio::{
    sync::Notify,
    time::{Instant, sleep, sleep_until, timeout, timeout_at},
};

use self::core::{Core, Said, Verdict};
pub(crate) use self::{
    policy::{Keep, Policy, Restart},
    upstream::Upstream,
};
use crate::{
    backend::{Backend, Failure, How, Sink, Source, greeting::Greeted},
    clock,
    front::{Receive, Reply},
    message::modern::names_its_version,
    relay::{End, relay},
};

/// How many messages are held while there is no server, and, but for the last of them, how many bytes. Others wait in
/// the client's queue.
const HELD: usize = 256;
const HELD_BYTES: usize = 1024 * 1024;

/// What happens to the server of a session, for those who want to know.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Event<'a> {
    /// It is started.
    Starts,
    /// It has ended, or could not be started.
    Dies(&'a Failure),
    /// Another one has taken its place.
    Revived,
}

/// How a session begins here.
pub(crate) enum Begin {
    /// With its client's first message.
    First(Box<Incoming>),
    /// At another replica, from where it was revived with this state by a request with this head.
    Revived(Box<(String, Parts)>),
    /// Again, by a message of its client, after it has rested with this state.
    Woken(Box<(String, Incoming)>),
}

/// How a session has ended here, with no server that has failed.
pub(crate) enum Over {
    /// Its client is gone.
    Gone,
    /// Its server was ended until it is needed, and this is all that has to be known then.
    Resting(String),
}

impl Begin {
    /// Whether its client speaks the stateless revision.
    pub(crate) fn is_modern(&self) -> bool {
        match self {
            Self::First(first) => names_its_version(&first.message),
            Self::Revived(revived) => kept::is_stateless(&revived.0),
            Self::Woken(woken) => kept::is_stateless(&woken.0),
        }
    }

    pub(crate) fn parts(&self) -> &Parts {
        match self {
            Self::First(first) => first.parts(),
            Self::Revived(revived) => &revived.1,
            Self::Woken(woken) => woken.1.parts(),
        }
    }
}

/// Runs a session until its client is gone, or until its server has ended for good; why it has.
pub(crate) async fn run<B: Backend>(
    backend: &mut B,
    policy: Policy,
    begin: Begin,
    receiver: &mut impl Receive,
    reply: &impl Reply,
    tell: impl Fn(Event<'_>) + Send + Sync,
    may_rest: bool,
) -> Result<Over, Failure> {
    let first_head = Box::new(kept::lean(begin.parts(), policy.keeps_heads));
    let keep = |state| reply.keep(state);
    let core = Shared { core: Mutex::new(Core::new(policy, clock::now())), keep: &keep };
    let mut held = VecDeque::new();
    match begin {
        Begin::First(first) => held.push_back(Held::new(*first, &policy)),
        Begin::Revived(revived) => {
            let (state, _) = *revived;
            if !core.lock().goes_on(&state, &first_head) {
                let failure = Failure::of(How::Impossible, "what was kept of the session cannot be read");
                tracing::warn!("the session ends: {failure}");
                reply.fail(&failure.text).await;
                return Err(failure);
            }
        }
        Begin::Woken(woken) => {
            let (state, said) = *woken;
            // It was written here.
            let _ = core.lock().goes_on(&state, &first_head);
            core.lock().has_head(said.parts());
            held.push_back(Held::new(said, &policy));
        }
    }
    let pings = Pings::default();
    let woken = Notify::new();
    let times = Times::of(&policy);
    let client =
        Client { receiver, core: &core, times, pings: &pings, told: VecDeque::new(), held, woken: &woken };
    let mut session = Session {
        backend,
        policy,
        client,
        reply,
        tell,
        core: &core,
        first_head,
        pause: Duration::ZERO,
        wakes: true,
        away: None,
    };
    loop {
        // What serves the client is large. A session whose server is ended until it is needed does without.
        match Box::pin(session.serve()).await {
            Step::Again => {}
            Step::Asleep { is_idle } => {
                let client = &session.client;
                let may_rest = may_rest && is_idle && client.held.is_empty() && client.receiver.is_clear();
                if let Some(state) = core.lock().rest().filter(|_| may_rest) {
                    return Ok(Over::Resting(state));
                }
                if !session.sleep().await {
                    return gone(reply).await;
                }
            }
            Step::Gone => return gone(reply).await,
            Step::End(failure) => return Err(failure),
        }
    }
}

/// A session, and what stands behind it.
struct Session<'a, B, R, P, T> {
    backend: &'a mut B,
    policy: Policy,
    client: Client<'a, R>,
    reply: &'a P,
    tell: T,
    core: &'a Shared<'a>,
    first_head: Box<Parts>,
    /// The pause before the next attempt, and whether the client ends it.
    pause: Duration,
    wakes: bool,
    away: Option<Away>,
}

/// What follows when a server has served a session.
enum Step {
    /// The next one.
    Again,
    /// The next one, when the client asks for something.
    Asleep { is_idle: bool },
    /// Nothing: the client is gone.
    Gone,
    /// Nothing: it was the last server.
    End(Failure),
}

impl<B, R, P, T> Session<'_, B, R, P, T>
where
    B: Backend,
    R: Receive,
    P: Reply,
    T: Fn(Event<'_>) + Send + Sync,
{
    /// Starts a server, and has it serve the client until one of them is gone.
    async fn serve(&mut self) -> Step {
        // What came while the last attempt was made wakes nobody any more.
        let _ = self.client.woken.notified().now_or_never();
        let begun = self.core.lock().has_begun();
        let Some(opened) = self.start(begun).await else { return Step::Gone };
        let Ended { failure, halves } = match opened {
            Ok(started) => match self.relay(started, begun).await {
                Some(ended) => ended,
                None => return Step::Gone,
            },
            Err(failure) => Ended::<B> { failure, halves: None },
        };
        self.ends(failure, halves).await
    }

    /// The next server; `None` if the client is gone.
    async fn start(&mut self, begun: bool) -> Option<Result<Started<B>, Failure>> {
        let Self { backend, client, reply, tell, core, first_head, pause, wakes, away, .. } = self;
        let (woken, reply, core) = (client.woken, *reply, *core);
        let attempt = async {
            tokio::select! {
                () = sleep(*pause) => {}
                // The client wants something now.
                () = woken.notified(), if *wakes => {}
            }
            let head = core.lock().head().unwrap_or_else(|| (**first_head).clone());
            tell(Event::Starts);
            core.lock().starts(clock::now());
            start(*backend, core, head, reply).await
        };
        let mut attempt = pin!(attempt);
        loop {
            let late = tokio::select! {
                opened = &mut attempt => return Some(opened),
                // Until a client has begun, its first message waits for as long as the start takes.
                late = client.holds(), if begun => late,
                () = reply.closed() => None,
            };
            let Held { incoming, since, .. } = late?;
            // Sent here, where nothing takes its place meanwhile: an answer that is half sent may be lost.
            if let MessageKind::Request { id, .. } = incoming.message.kind() {
                core.lock().is_over(id);
                let waited = clock::now().saturating_duration_since(since);
                let why = away.as_ref().map(|away| &away.last);
                let _ = reply.send(Core::in_vain(id, waited, why)).await;
            } else {
                tracing::debug!("a message for a server that is not back was dropped");
            }
        }
    }

    /// Carries messages until the server has ended; `None` if the client is gone, and so the server.
    async fn relay(&mut self, started: Started<B>, begun: bool) -> Option<Ended<B>> {
        let Self { backend, policy, client, reply, tell, core, first_head, away, .. } = self;
        let Started { mut sink, mut source, rest } = started;
        client.told = rest.into();
        core.lock().is_ready(clock::now());
        // Of one that has not answered yet nobody knows whether it is back.
        if begun && let Some(away) = away.take() {
            away.back(core.lock().take_dropped());
            tell(Event::Revived);
        }
        let until = core.lock().started() + policy.start_timeout;
        let said = client.held.front().filter(|_| !begun).map(|held| held.incoming.message.clone());
        let mut server = Server { source: &mut source, core, times: client.times, pings: client.pings };
        let mut greeted = Greeted::new(&mut server, said.as_ref(), until, policy.start_timeout);
        match relay(None, client, *reply, &mut sink, &mut greeted).await {
            End::Client => {
                backend.close(sink, source, How::Idle).await;
                None
            }
            End::Server(failure) => {
                let untaken = backend.untaken(&mut sink, &mut source).await;
                let head = core.lock().head().unwrap_or_else(|| (**first_head).clone());
                client.takes_back(untaken, &head, policy);
                Some(Ended { failure, halves: Some((sink, source)) })
            }
        }
    }

    /// The server has ended, or could not be started: the client is told, and the next step is decided.
    async fn ends(&mut self, failure: Failure, halves: Option<(B::Sink, B::Source)>) -> Step {
        let Self { backend, policy, client, reply, tell, core, pause, wakes, away, .. } = self;
        let (messages, verdict) = core.lock().dies(&failure, clock::now());
        let errors =
            messages.iter().filter(|message| matches!(message.kind(), MessageKind::Response { .. })).count();
        for message in messages {
            // Its client is gone if it takes none, which is seen soon.
            let _ = reply.send(message).await;
        }
        // What was asked has its error by now: the end may take a while.
        if let Some((sink, source)) = halves {
            backend.close(sink, source, failure.how).await;
        }
        match verdict {
            Verdict::End => {
                tell(Event::Dies(&failure));
                tracing::warn!("the session ends: {failure}");
                reply.fail(&failure.text).await;
                Step::End(failure)
            }
            Verdict::Again { pause: next, wakes: may_wake, first } => {
                let is_other_era = failure.how == How::OtherEra && next.is_zero();
                if is_other_era {
                    tracing::info!("{failure}; it is asked which revision it speaks");
                } else {
                    tell(Event::Dies(&failure));
                    tracing::warn!("{failure}; trying again in {next:?}");
                }
                (*pause, *wakes) = (next, may_wake);
                if let Some(first) = first {
                    let initialized = core.lock().initialized(first.parts());
                    client.held.extend(initialized.map(|initialized| Held::new(initialized, policy)));
                    client.held.push_front(Held::new(*first, policy));
                }
                if !is_other_era {
                    away.get_or_insert_with(|| Away::new(failure.clone())).again(failure, errors);
                }
                Step::Again
            }
            Verdict::Asleep => {
                if failure.how == How::Idle {
                    tracing::info!("the server is ended until it is needed: {failure}");
                } else {
                    tell(Event::Dies(&failure));
                    tracing::warn!("{failure}; trying again when the client asks for something");
                }
                *pause = Duration::ZERO;
                Step::Asleep { is_idle: failure.how == How::Idle }
            }
        }
    }

    /// Waits until the client says something, if it has said nothing that waits; `false` if it is gone.
    async fn sleep(&mut self) -> bool {
        let Self { client, reply, core, policy, .. } = self;
        if !client.held.is_empty() {
            return true;
        }
        // It may be for long.
        (client.held, client.told) = (VecDeque::new(), VecDeque::new());
        core.lock().rests();
        let said = tokio::select! {
            said = client.receiver.recv() => said,
            () = reply.closed() => None,
        };
        let Some(said) = said else { return false };
        core.lock().has_head(said.parts());
        client.held.push_back(Held::new(said, policy));
        true
    }
}

/// The client is gone. If the gateway has ended the session, it may still read this.
async fn gone(reply: &impl Reply) -> Result<Over, Failure> {
    reply.fail("the session ended before the answer").await;
    Ok(Over::Gone)
}

/// How an attempt has ended, and the server that has still to be closed.
struct Ended<B: Backend> {
    failure: Failure,
    halves: Option<(B::Sink, B::Source)>,
}

/// A server that was started.
struct Started<B: Backend> {
    sink: B::Sink,
    source: B::Source,
    /// What it has to be told before anything else.
    rest: Vec<Incoming>,
}

/// Starts a server; for a client that has begun, with its `initialize`.
async fn start<B: Backend>(
    backend: &mut B,
    core: &Shared<'_>,
    head: Parts,
    reply: &impl Reply,
) -> Result<Started<B>, Failure> {
    let (mut sink, mut source) = backend.open(&head).await?;
    if !core.lock().has_begun() {
        return Ok(Started { sink, source, rest: Vec::new() });
    }
    let time = core.lock().policy().start_timeout;
    // It may read nothing, or say nothing.
    let greeted = timeout(time, greet(core, &head, &mut sink, &mut source, reply)).await;
    match greeted.unwrap_or_else(|_| Err(source.silent(time))) {
        Ok(rest) => {
            source.greeted(true);
            let rest = rest.into_iter().map(|message| Incoming::new(message, head.clone())).collect();
            Ok(Started { sink, source, rest })
        }
        Err(failure) => {
            source.greeted(false);
            backend.close(sink, source, failure.how).await;
            Err(failure)
        }
    }
}

/// Repeats the client's `initialize`, and tells the client what may be new. Returns what else the server has to be told.
async fn greet(
    core: &Shared<'_>,
    head: &Parts,
    sink: &mut impl Sink,
    source: &mut impl Source,
    reply: &impl Reply,
) -> Result<Vec<Message>, Failure> {
    let greet = core.lock().greet();
    let Some(greet) = greet else { return Ok(Vec::new()) };
    sink.send(Incoming::new(greet, head.clone())).await?;
    let answer = loop {
        let heard = source.recv().await?;
        // It may ask this before it answers; the client's answer would wait for it.
        if let Some(answer) = Core::answers_itself(&heard) {
            sink.send(Incoming::new(answer, head.clone())).await?;
            continue;
        }
        let said = core.lock().says(heard, clock::now());
        match said {
            Said::Greeting(answer) => break answer,
            Said::ToClient(message) => drop(reply.send(message).await),
            Said::Nothing => {}
        }
    };
    let (rest, changed) = core.with(|core| core.greeted(&answer, clock::now()))?;
    for message in changed {
        let _ = reply.send(message).await;
    }
    Ok(rest)
}

/// The core, shared by both directions. Its lock is never held across an await.
struct Shared<'a> {
    core: Mutex<Core>,
    /// Keeps what another replica needs to know.
    keep: &'a (dyn Fn(String) + Send + Sync),
}

impl Shared<'_> {
    fn lock(&self) -> MutexGuard<'_, Core> {
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does something with the core, and keeps what has changed for other replicas.
    fn with<R>(&self, operation: impl FnOnce(&mut Core) -> R) -> R {
        let (result, changed) = {
            let mut core = self.lock();
            (operation(&mut core), core.take_changed())
        };
        if let Some(state) = changed {
            (self.keep)(state);
        }
        result
    }
}

/// Our own ping, on its way to the server. There is one at most.
#[derive(Default)]
struct Pings(Mutex<Option<Message>>, Notify);

impl Pings {
    fn lock(&self) -> MutexGuard<'_, Option<Message>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, ping: Message) {
        self.lock().get_or_insert(ping);
        self.1.notify_one();
    }

    /// Cancel safe.
    async fn next(&self) -> Message {
        loop {
            let ping = self.lock().take();
            if let Some(ping) = ping {
                return ping;
            }
            self.1.notified().await;
        }
    }
}

/// Whether it matters when a message comes. The clock is not read for nothing.
#[derive(Clone, Copy)]
struct Times {
    matter: bool,
    otherwise: Instant,
}

impl Times {
    fn of(policy: &Policy) -> Self {
        let matter = policy.ping_interval.is_some() || policy.idle_stop.is_some();
        Self { matter, otherwise: clock::now() }
    }

    fn now(self) -> Instant {
        if self.matter { clock::now() } else { self.otherwise }
    }
}

/// A server that is away.
struct Away {
    since: Instant,
    /// Why it went, and why it has not come back yet.
    why: Failure,
    last: Failure,
    attempts: u32,
    errors: usize,
}

impl Away {
    fn new(why: Failure) -> Self {
        Self { since: clock::now(), last: why.clone(), why, attempts: 0, errors: 0 }
    }

    fn again(&mut self, failure: Failure, errors: usize) {
        self.last = failure;
        self.attempts += 1;
        self.errors += errors;
    }

    /// It is back. `dropped` messages belonged to the one before.
    fn back(&self, dropped: u64) {
        let seconds = clock::now().saturating_duration_since(self.since).as_secs_f64();
        let Self { why, attempts, errors, .. } = self;
        tracing::warn!(seconds, attempts, errors, dropped, "the server has died and is back: {why}");
    }
}

/// A message that waits for a server, and until when.
struct Held {
    incoming: Incoming,
    since: Instant,
    until: Instant,
}

impl Held {
    fn new(incoming: Incoming, policy: &Policy) -> Self {
        let since = clock::now();
        Self { incoming, since, until: since + policy.start_timeout }
    }
}

/// The client's messages, as they are for the server.
struct Client<'a, R> {
    receiver: &'a mut R,
    core: &'a Shared<'a>,
    times: Times,
    /// Our own, for the server.
    pings: &'a Pings,
    /// What a new server has to be told before anything else. It is sent while the server's answers are read.
    told: VecDeque<Incoming>,
    /// Those that come before all others.
    held: VecDeque<Held>,
    /// Is told when one is held that was not held before.
    woken: &'a Notify,
}

impl<R: Receive> Client<'_, R> {
    /// Takes the client's messages and holds them while there is no server, until one has waited too long, which is
    /// returned; `None` when the client is gone. Cancel safe.
    async fn holds(&mut self) -> Option<Held> {
        let policy = *self.core.lock().policy();
        loop {
            let until = self.held.front().map(|held| held.until);
            let bytes: usize = self.held.iter().map(|held| held.incoming.message.as_bytes().len()).sum();
            let has_room = self.held.len() < HELD && bytes < HELD_BYTES;
            tokio::select! {
                incoming = self.receiver.recv(), if has_room => self.hold(incoming?, &policy),
                () = sleep_until(until.unwrap_or_else(clock::now)), if until.is_some() => {
                    return self.held.pop_front();
                }
            }
        }
    }

    fn hold(&mut self, incoming: Incoming, policy: &Policy) {
        self.core.lock().has_head(incoming.parts());
        if let Some(id) = incoming.message.cancelled_id() {
            let before = self.held.len();
            self.held.retain(|held| held.incoming.message.id() != Some(&id));
            if self.held.len() < before {
                // No server has seen the request.
                self.core.lock().is_over(&id);
                return;
            }
        }
        self.held.push_back(Held::new(incoming, policy));
        self.woken.notify_one();
    }

    /// Messages that the server has not taken are for the next one.
    fn takes_back(&mut self, untaken: Vec<Message>, head: &Parts, policy: &Policy) {
        for message in untaken {
            if self.core.lock().untaken(&message) {
                self.held.push_back(Held::new(Incoming::new(message, head.clone()), policy));
            }
        }
    }
}

impl<R: Receive> Receive for Client<'_, R> {
    async fn recv(&mut self) -> Option<Incoming> {
        if let Some(told) = self.told.pop_front() {
            return Some(told);
        }
        loop {
            let incoming = match self.held.pop_front() {
                Some(held) => held.incoming,
                None if !self.times.matter => self.receiver.recv().await?,
                None => tokio::select! {
                    biased;
                    ping = self.pings.next() => {
                        let head = self.core.lock().head();
                        return Some(Incoming::new(ping, head.unwrap_or_else(no_head)));
                    }
                    incoming = self.receiver.recv() => incoming?,
                },
            };
            let asks = self.core.with(|core| core.asks(incoming, self.times.now()));
            if asks.is_some() {
                return asks;
            }
        }
    }
}

fn no_head() -> Parts {
    http::Request::new(()).into_parts().0
}

/// The server's messages, as they are for the client.
struct Server<'a, S> {
    source: &'a mut S,
    core: &'a Shared<'a>,
    times: Times,
    pings: &'a Pings,
}

impl<S: Source> Source for Server<'_, S> {
    async fn recv(&mut self) -> Result<Message, Failure> {
        loop {
            let deadline = if self.times.matter { self.core.lock().deadline(clock::now()) } else { None };
            let heard = match deadline {
                None => self.source.recv().await,
                Some(deadline) => match timeout_at(deadline, self.source.recv()).await {
                    Ok(heard) => heard,
                    Err(_) => {
                        if let Some(ping) = self.core.lock().due(clock::now())? {
                            // If the one before still waits, the server does not read.
                            self.pings.put(ping);
                        }
                        continue;
                    }
                },
            };
            let heard = heard?;
            let said = self.core.with(|core| core.says(heard, self.times.now()));
            if let Said::ToClient(message) = said {
                return Ok(message);
            }
        }
    }

    fn silent(&self, time: Duration) -> Failure {
        self.source.silent(time)
    }

    fn greeted(&mut self, successfully: bool) {
        self.source.greeted(successfully);
    }
}

#[cfg(test)]
mod tests;
