//! One replica among others: it has its own requests answered elsewhere, and answers those of others.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures_util::future::try_join_all;
use http::{Request, Response, StatusCode};
use http_body::Body as _;
use http_body_util::BodyExt as _;
use mcp_sse::{Host, NotForwarded, ReplicaId};
use tokio::{
    sync::{Notify, Semaphore},
    time::{Instant, sleep, timeout},
};

use crate::{
    carrier::{BoxFuture, Carrier, Handler, Link, NoReply},
    clock,
    core::{
        others::{ANNOUNCED_EVERY, GONE_AFTER, Others},
        parts::{Added, Parts},
        seen::{Arrival, Seen},
    },
    figures::Figures,
    seal::{Seals, Sent, Unread},
    streams::Streams,
    throttle::Throttle,
    wire::{self, Announcement, Answer, Ask, Head, Reply, Said, What},
};

/// How long one attempt may take, how many there are, and how long all of them.
pub(crate) const ATTEMPT: Duration = Duration::from_millis(1_500);
const ATTEMPTS: u32 = 3;
pub(crate) const ALL_ATTEMPTS: Duration = Duration::from_secs(5);
/// After the link is back, the others may still be on their way back.
const RETURNING: Duration = Duration::from_secs(2);
/// How long whoever asks again waits for the answer, before it hears that there is none yet. Shorter than an attempt.
const WORKING: Duration = Duration::from_secs(1);
/// The pause before something is sent again that was not lost in silence.
const PAUSE: Duration = Duration::from_millis(100);
/// What is larger crosses in parts of this size, so many at a time.
const PART: usize = if cfg!(test) { 1024 } else { 256 * 1024 };
const WINDOW: usize = 4;
/// The largest answer that crosses whole, in bytes. A larger one is read like a stream.
const WHOLE_ANSWER: u64 = 64 * 1024;

pub(crate) struct Node {
    me: ReplicaId,
    carrier: Arc<dyn Carrier>,
    seals: Seals,
    hosts: Mutex<HashMap<&'static str, Weak<dyn Host>>>,
    seen: Mutex<Seen>,
    parts: Mutex<Parts>,
    others: Mutex<Others>,
    streams: Streams,
    next: AtomicU64,
    /// Another replica has come.
    news: Arc<Notify>,
    left: AtomicBool,
    /// How many answers of others are read.
    pub(crate) reading: AtomicUsize,
    /// Whether streams of events among them are to end.
    ending: AtomicBool,
    ends: Notify,
    pub(crate) figures: Figures,
    unread: Throttle,
}

/// Why an [`Ask`] has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failed {
    Gone,
    /// It was not sent.
    Unavailable,
    /// It may have been.
    Unknown,
    /// The same, and nothing at all was heard.
    Silent,
}

impl Node {
    pub(crate) fn new(me: ReplicaId, carrier: Arc<dyn Carrier>, seals: Seals) -> Self {
        Self {
            me,
            carrier,
            seals,
            hosts: Mutex::default(),
            seen: Mutex::default(),
            parts: Mutex::default(),
            others: Mutex::default(),
            streams: Streams::default(),
            next: AtomicU64::new(1),
            news: Arc::default(),
            left: AtomicBool::new(false),
            reading: AtomicUsize::new(0),
            ending: AtomicBool::new(false),
            ends: Notify::new(),
            figures: Figures::default(),
            unread: Throttle::default(),
        }
    }

    pub(crate) fn me(&self) -> &ReplicaId {
        &self.me
    }

    pub(crate) fn link(&self) -> Link {
        self.carrier.link()
    }

    pub(crate) fn bind(&self, service: &'static str, host: Weak<dyn Host>) {
        lock(&self.hosts).insert(service, host);
    }

    pub(crate) fn replicas(&self) -> Vec<ReplicaId> {
        let known = lock(&self.others).known(clock::now());
        known.into_iter().filter(|replica| *replica != self.me).collect()
    }

    /// Says that it is there, for as long as it is: at times, and when there is somebody who has not heard it.
    pub(crate) async fn announces(this: Weak<Self>) {
        while let Some(node) = this.upgrade() {
            node.announce(false).await;
            let news = Arc::clone(&node.news);
            drop(node);
            let _ = timeout(ANNOUNCED_EVERY, news.notified()).await;
            // Many may come at once.
            sleep(PAUSE).await;
        }
    }

    /// Says that it is there, or that it leaves.
    pub(crate) async fn announce(&self, leaves: bool) {
        if self.left.fetch_or(leaves, Ordering::AcqRel) && !leaves {
            return;
        }
        let announcement = Announcement { replica: self.me.to_string(), leaves };
        let sealed = self.seals.seal(Sent::Announcement, &wire::write(&announcement));
        // An engine that is frozen takes nothing.
        let _ = timeout(ATTEMPT, self.carrier.announce(sealed)).await;
    }

    /// Waits until nothing that others have answered is read here any more: streams of events end, as their clients go on
    /// elsewhere, and all else at its own pace.
    pub(crate) async fn relayed(&self) {
        self.ending.store(true, Ordering::Release);
        self.ends.notify_waiters();
        while self.reading.load(Ordering::Acquire) > 0 {
            sleep(PAUSE).await;
        }
    }

    /// Resolves when streams of events that are read here are to end.
    pub(crate) async fn is_ending(&self) {
        let ends = self.ends.notified();
        if !self.ending.load(Ordering::Acquire) {
            ends.await;
        }
    }

    /// Takes no more requests of others, and says so. What they still read is read to its end.
    pub(crate) async fn leave(&self) {
        self.announce(true).await;
        let _ = timeout(ALL_ATTEMPTS, self.streams.emptied()).await;
        let _ = timeout(ATTEMPT, self.carrier.leave()).await;
    }

    // ---- requests of ours ------------------------------------------------------------------------------

    /// The number of a request to another replica, by which an answer is read that streams.
    pub(crate) fn number(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// Has a request answered by another replica.
    pub(crate) async fn forward(
        &self,
        to: &ReplicaId,
        call: u64,
        service: &str,
        request: Request<Bytes>,
    ) -> Result<Answer, NotForwarded> {
        if !lock(&self.others).may_be_asked(to, clock::now()) {
            self.figures.unavailable.add();
            return Err(NotForwarded::Unavailable);
        }
        // Whoever asked may go away meanwhile.
        let probe = Probe { node: self, to, heard: false };
        let answered = self.answer_of(to, call, service, request).await;
        probe.ends(&answered);
        match answered {
            Ok(answer) => {
                self.figures.forwarded.add();
                Ok(answer)
            }
            Err(Failed::Gone) => {
                self.figures.gone.add();
                Err(NotForwarded::Gone)
            }
            Err(Failed::Unavailable) => {
                self.figures.unavailable.add();
                Err(NotForwarded::Unavailable)
            }
            Err(Failed::Unknown | Failed::Silent) => {
                self.figures.unknown.add();
                Err(NotForwarded::Unknown)
            }
        }
    }

    /// The answer of another replica to a request whose body, of this length, is still to come, if it is refused without it.
    pub(crate) async fn check(
        &self,
        to: &ReplicaId,
        service: &str,
        request: Request<()>,
        length: u64,
    ) -> Result<Option<Answer>, NotForwarded> {
        if !lock(&self.others).may_be_asked(to, clock::now()) {
            return Err(NotForwarded::Unavailable);
        }
        let probe = Probe { node: self, to, heard: false };
        let head = Head::of(service, &request.map(|()| Bytes::new()));
        let until = clock::now() + ALL_ATTEMPTS;
        let said = self.ask(to, self.number(), What::Check { head, length }, ATTEMPT, until).await;
        probe.ends(&said);
        match said {
            Ok(Said::Answer(answer)) => Ok(Some(answer)),
            Ok(_) => Ok(None),
            Err(Failed::Gone) => Err(NotForwarded::Gone),
            // Nothing of the message was sent.
            Err(Failed::Unavailable | Failed::Unknown | Failed::Silent) => Err(NotForwarded::Unavailable),
        }
    }

    async fn answer_of(
        &self,
        to: &ReplicaId,
        call: u64,
        service: &str,
        request: Request<Bytes>,
    ) -> Result<Answer, Failed> {
        let until = clock::now() + ALL_ATTEMPTS;
        let head = Head::of(service, &request);
        let body = request.into_body();
        if body.len() <= PART {
            return match self.ask(to, call, What::Request(head, body), ATTEMPT, until).await? {
                Said::Answer(answer) => Ok(answer),
                Said::Busy => Err(Failed::Unavailable),
                _ => Err(Failed::Unknown),
            };
        }
        let parts = body.len().div_ceil(PART);
        let begin = What::Begin { head, length: body.len() as u64, parts: parts as u32 };
        match self.ask(to, call, begin, ATTEMPT, until).await {
            Ok(Said::Go) => {}
            Ok(Said::Answer(answer)) => return Ok(answer),
            // Nothing of the body was sent, so nothing can have been taken.
            Ok(_) | Err(Failed::Unknown | Failed::Silent) => return Err(Failed::Unavailable),
            Err(failed) => return Err(failed),
        }
        let window = Semaphore::new(WINDOW);
        let all = (0..parts).map(|index| {
            let (window, body) = (&window, &body);
            async move {
                let _turn = window.acquire().await;
                let bytes = body.slice(index * PART..body.len().min((index + 1) * PART));
                self.ask(to, call, What::Part { index: index as u32, bytes }, ATTEMPT, until).await
            }
        });
        // Whatever has become of this part: others were sent, and the host may have all of them.
        let said = try_join_all(all).await.map_err(|_| Failed::Unknown)?;
        let answer = said.into_iter().find_map(|said| match said {
            Said::Answer(answer) => Some(answer),
            _ => None,
        });
        answer.ok_or(Failed::Unknown)
    }

    /// Asks a replica for something, again if there is no reply within the time of an attempt.
    pub(crate) async fn ask(
        &self,
        to: &ReplicaId,
        call: u64,
        what: What,
        attempt: Duration,
        until: Instant,
    ) -> Result<Said, Failed> {
        let ask = wire::write(&Ask { caller: self.me.to_string(), call, what });
        let (mut sent, mut heard) = (false, false);
        let is_lost = self.is_lost(to);
        let attempts = if is_lost { 1 } else { ATTEMPTS };
        for _ in 0..attempts {
            let within = attempt.min(until.saturating_duration_since(clock::now()));
            if within.is_zero() {
                break;
            }
            if self.carrier.link() == Link::Down {
                if !sent {
                    return Err(Failed::Unavailable);
                }
                sleep(PAUSE).await;
                continue;
            }
            // Each copy has a number of its own, so that none looks like another.
            let sealed = self.seals.seal(Sent::Ask { to }, &ask);
            match self.carrier.call(to, sealed, within).await {
                Ok(bytes) => match self.read_reply(&bytes, call) {
                    // An earlier copy may still arrive.
                    Some(Said::Busy) if sent => return Err(Failed::Unknown),
                    // The answer will come to another copy.
                    Some(Said::Working) => (sent, heard) = (true, true),
                    Some(said) => return Ok(said),
                    None => {
                        sent = true;
                        sleep(PAUSE).await;
                    }
                },
                Err(NoReply::Silence) => sent = true,
                Err(NoReply::NotSent) if !sent => return Err(Failed::Unavailable),
                Err(NoReply::NotSent) => sleep(PAUSE).await,
                Err(NoReply::Nobody) if self.may_come_back(to) => {
                    if !sent {
                        return Err(Failed::Unavailable);
                    }
                    sleep(PAUSE).await;
                }
                // One that is cut off has its sessions still, and may have got it before.
                Err(NoReply::Nobody) if sent => return Err(Failed::Unknown),
                Err(NoReply::Nobody) => return Err(Failed::Gone),
            }
        }
        // Some engines deliver for many minutes to a machine that is gone.
        Err(match (is_lost, heard) {
            (true, false) => Failed::Gone,
            (false, false) => Failed::Silent,
            (_, true) => Failed::Unknown,
        })
    }

    /// Whether nothing was heard of a replica for as long as it could have been cut off, though our own link was there all the
    /// time.
    fn is_lost(&self, replica: &ReplicaId) -> bool {
        let now = clock::now();
        let Link::Up(since) = self.carrier.link() else { return false };
        now.saturating_duration_since(since) >= GONE_AFTER && !lock(&self.others).may_be_there(replica, now)
    }

    fn read_reply(&self, bytes: &Bytes, call: u64) -> Option<Said> {
        let opened = self.opened(Sent::Reply { to: &self.me }, bytes)?;
        let reply: Reply = wire::read(&opened)?;
        (reply.call == call).then_some(reply.what)
    }

    /// Whether one that nobody can reach may be on its way back: our own link is new, or the other has said lately that it
    /// is there, so that its own link may be cut.
    fn may_come_back(&self, replica: &ReplicaId) -> bool {
        let now = clock::now();
        let is_new = match self.carrier.link() {
            Link::Up(since) => now.saturating_duration_since(since) < RETURNING,
            Link::Down => true,
        };
        is_new || lock(&self.others).may_be_there(replica, now)
    }

    // ---- requests of others ----------------------------------------------------------------------------

    /// What was sent to this replica, opened.
    fn opened(&self, what: Sent<'_>, bytes: &Bytes) -> Option<Bytes> {
        let why = match self.seals.open(what, bytes) {
            Ok(opened) => return Some(opened),
            Err(why) => why,
        };
        self.figures.unread.add();
        if self.unread.may_log() {
            let text = match why {
                Unread::Version => "it comes from another version, or is none",
                Unread::NotSealed => "it is not sealed: a replica has no cluster key",
                Unread::NoKey => "it is sealed: this replica needs the cluster key",
                Unread::Forged => "it was not sealed with this cluster key, or was changed",
            };
            tracing::warn!(engine = self.carrier.name(), "a message of another replica is not read: {text}");
        }
        None
    }

    async fn answer(self: Arc<Self>, bytes: Bytes) -> Option<Bytes> {
        let opened = self.opened(Sent::Ask { to: &self.me }, &bytes)?;
        let ask: Ask = wire::read(&opened)?;
        let (caller, call) = (ask.caller()?, ask.call);
        let reply = match ask.what {
            What::Request(head, body) => self.take(&caller, call, head, body).await,
            What::Begin { head, length, parts } => match self.refuses(&head, length).await {
                Some(answer) => write(call, Said::Answer(answer)),
                None if !lock(&self.seen).begins(&caller, call, clock::now()) => {
                    self.again(&caller, call).await
                }
                None => {
                    let begins = lock(&self.parts).begins(&caller, call, head, length, parts, clock::now());
                    write(call, if begins { Said::Go } else { Said::Busy })
                }
            },
            What::Check { head, length } => match self.refuses(&head, length).await {
                Some(answer) => write(call, Said::Answer(answer)),
                None => write(call, Said::Go),
            },
            What::Part { index, bytes } => {
                let added = lock(&self.parts).add(&caller, call, index, bytes, clock::now());
                match added {
                    Added::More => write(call, Said::Go),
                    Added::Whole(head, body) => self.take(&caller, call, head, body).await,
                    // It was the last one, and this is a copy of it.
                    Added::Unknown => self.again(&caller, call).await,
                }
            }
            What::Pull { chunk } => write(call, self.streams.pull(&caller, call, chunk).await),
            What::End => {
                self.streams.close(&caller, call);
                write(call, Said::Go)
            }
        };
        Some(self.seals.seal(Sent::Reply { to: &caller }, &reply))
    }

    /// The reply to a request that was taken already.
    async fn again(&self, caller: &ReplicaId, call: u64) -> Bytes {
        let arrival = lock(&self.seen).known(caller, call);
        self.known(arrival, call).await
    }

    /// The reply to a request, which is acted on once.
    async fn take(&self, caller: &ReplicaId, call: u64, head: Head, body: Bytes) -> Bytes {
        let arrival = lock(&self.seen).arrives(caller, call, clock::now());
        if !matches!(arrival, Arrival::New) {
            self.figures.doubled.add();
            return self.known(arrival, call).await;
        }
        self.figures.answered.add();
        let taken = Taken { node: self, caller, call };
        let said = self.host(caller, call, head, body).await;
        taken.answered(said)
    }

    async fn known(&self, arrival: Arrival, call: u64) -> Bytes {
        match arrival {
            Arrival::Again(reply) => reply,
            Arrival::Working(told) => match timeout(WORKING, told).await {
                Ok(told) => told.unwrap_or_else(|_| write(call, Said::Unknown)),
                Err(_) => write(call, Said::Working),
            },
            Arrival::Full => write(call, Said::Busy),
            Arrival::New | Arrival::Old => write(call, Said::Unknown),
        }
    }

    /// The answer to a request that is refused before its body has come.
    async fn refuses(&self, head: &Head, length: u64) -> Option<Answer> {
        let host = lock(&self.hosts).get(&*head.service).and_then(Weak::upgrade)?;
        let request = head.clone().request(Bytes::new())?.map(drop);
        let (parts, body) = host.refuses(request, length).await?.into_parts();
        let body = timeout(ALL_ATTEMPTS, body.collect()).await.ok()?.ok()?;
        Some(Answer::new(&parts, body.to_bytes(), false))
    }

    /// Has the host answer a request.
    async fn host(&self, caller: &ReplicaId, call: u64, head: Head, body: Bytes) -> Said {
        let host = lock(&self.hosts).get(&*head.service).and_then(Weak::upgrade);
        let (Some(host), Some(request)) = (host, head.request(body)) else {
            return Said::Answer(not_found());
        };
        if host.may_stream(&request) && !self.streams.has_room() {
            return Said::Busy;
        }
        let (parts, body) = host.answer(request).await.into_parts();
        let is_short = body.size_hint().exact().is_some_and(|length| length <= WHOLE_ANSWER);
        if !is_short && parts.status == StatusCode::OK {
            self.streams.open(caller, call, body);
            return Said::Answer(Answer::new(&parts, Bytes::new(), true));
        }
        match timeout(ALL_ATTEMPTS, body.collect()).await {
            Ok(Ok(body)) => Said::Answer(Answer::new(&parts, body.to_bytes(), false)),
            Ok(Err(_)) | Err(_) => Said::Unknown,
        }
    }
}

fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn write(call: u64, what: Said) -> Bytes {
    wire::write(&Reply { call, what })
}

/// A request that this replica acts on. Whatever happens to it, those who wait for its answer get one.
struct Taken<'a> {
    node: &'a Node,
    caller: &'a ReplicaId,
    call: u64,
}

impl Taken<'_> {
    fn answered(self, said: Said) -> Bytes {
        let reply = write(self.call, said);
        lock(&self.node.seen).answered(self.caller, self.call, &reply, clock::now());
        reply
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        let reply = write(self.call, Said::Unknown);
        lock(&self.node.seen).answered(self.caller, self.call, &reply, clock::now());
    }
}

/// A request that is under way to a replica that may be silent.
struct Probe<'a> {
    node: &'a Node,
    to: &'a ReplicaId,
    heard: bool,
}

impl Probe<'_> {
    fn ends<T>(mut self, answered: &Result<T, Failed>) {
        self.heard = true;
        let mut others = lock(&self.node.others);
        match answered {
            Ok(_) | Err(Failed::Unknown) => others.spoke(self.to),
            Err(Failed::Silent) => others.was_silent(self.to, clock::now()),
            Err(Failed::Gone | Failed::Unavailable) => others.was_not_asked(self.to),
        }
    }
}

impl Drop for Probe<'_> {
    fn drop(&mut self) {
        if !self.heard {
            lock(&self.node.others).was_not_asked(self.to);
        }
    }
}

fn not_found() -> Answer {
    let (mut parts, ()) = Response::new(()).into_parts();
    parts.status = StatusCode::NOT_FOUND;
    Answer::new(&parts, Bytes::new(), false)
}

impl Handler for Node {
    fn called(self: Arc<Self>, bytes: Bytes) -> BoxFuture<'static, Option<Bytes>> {
        Box::pin(self.answer(bytes))
    }

    fn announced(&self, bytes: Bytes) {
        let Some(opened) = self.opened(Sent::Announcement, &bytes) else { return };
        let Some(Announcement { replica, leaves }) = wire::read(&opened) else { return };
        let Ok(replica) = replica.parse::<ReplicaId>() else { return };
        if replica == self.me {
            return;
        }
        if lock(&self.others).announced(replica.clone(), leaves, clock::now()) {
            if !leaves {
                self.news.notify_one();
            }
            tracing::info!(%replica, "another replica {}", if leaves { "leaves" } else { "is there" });
        }
    }
}
