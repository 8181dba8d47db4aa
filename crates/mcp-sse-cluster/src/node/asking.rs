//! Requests of ours, for other replicas.

use std::{sync::atomic::Ordering, time::Duration};

use bytes::Bytes;
use futures_util::future::try_join_all;
use http::Request;
use mcp_sse::{NotForwarded, ReplicaId};
use tokio::{
    sync::Semaphore,
    time::{Instant, sleep},
};

use super::{ALL_ATTEMPTS, ATTEMPT, Node, PAUSE, lock};
use crate::{
    carrier::{Link, NoReply},
    clock,
    core::others::GONE_AFTER,
    seal::Sent,
    wire::{self, Answer, Ask, Head, Reply, Said, What},
};

/// How many attempts there are.
const ATTEMPTS: u32 = 3;
/// After the link is back, the others may still be on their way back.
const RETURNING: Duration = Duration::from_secs(2);
/// How long a request waits for a link that is down, or for a replica that is cut off: many clients take one 503 for the end.
/// Nothing of it was sent yet.
const HOLD: Duration = Duration::from_secs(3);
/// What is larger crosses in parts of this size, so many at a time.
const PART: usize = if cfg!(test) { 1024 } else { 256 * 1024 };
const WINDOW: usize = 4;
/// Why an [`Ask`] has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failed {
    Gone,
    /// It was not sent, as the replica cannot be reached now.
    Away,
    /// The replica has no room for it.
    Busy,
    /// It may have been.
    Unknown,
    /// The same, and nothing at all was heard.
    Silent,
}

impl Node {
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
        let until = clock::now() + ALL_ATTEMPTS;
        let answered = self.held(|| self.answer_of(to, call, service, &request, until)).await;
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
            Err(Failed::Away | Failed::Busy) => {
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
        let (call, until) = (self.number(), clock::now() + ALL_ATTEMPTS);
        let check = || self.ask(to, call, What::Check { head: head.clone(), length }, ATTEMPT, until);
        let said = self.held(check).await;
        probe.ends(&said);
        match said {
            Ok(Said::Answer(answer)) => Ok(Some(answer)),
            Ok(_) => Ok(None),
            Err(Failed::Gone) => Err(NotForwarded::Gone),
            // Nothing of the message was sent.
            Err(Failed::Away | Failed::Busy | Failed::Unknown | Failed::Silent) => {
                Err(NotForwarded::Unavailable)
            }
        }
    }

    /// Tries something again for a while, as long as nothing of it can be sent and that is not so for long already.
    async fn held<T, F: Future<Output = Result<T, Failed>>>(&self, ask: impl Fn() -> F) -> Result<T, Failed> {
        let since = clock::now();
        loop {
            let answered = ask().await;
            let is_over = || {
                let waited = clock::now().saturating_duration_since(since);
                waited >= HOLD || self.down_for().is_some_and(|down| down >= HOLD)
            };
            if !matches!(answered, Err(Failed::Away)) || is_over() {
                return answered;
            }
            sleep(PAUSE).await;
        }
    }

    async fn answer_of(
        &self,
        to: &ReplicaId,
        call: u64,
        service: &str,
        request: &Request<Bytes>,
        until: Instant,
    ) -> Result<Answer, Failed> {
        let head = Head::of(service, request);
        let body = request.body().clone();
        if body.len() <= PART {
            return match self.ask(to, call, What::Request(head, body), ATTEMPT, until).await? {
                Said::Answer(answer) => Ok(answer),
                Said::Busy => Err(Failed::Busy),
                _ => Err(Failed::Unknown),
            };
        }
        let parts = body.len().div_ceil(PART);
        let begin = What::Begin { head, length: body.len() as u64, parts: parts as u32 };
        match self.ask(to, call, begin, ATTEMPT, until).await {
            Ok(Said::Go) => {}
            Ok(Said::Answer(answer)) => return Ok(answer),
            // Nothing of the body was sent, so nothing can have been taken.
            Ok(_) | Err(Failed::Unknown | Failed::Silent) => return Err(Failed::Busy),
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
        if self.is_lost(to) {
            self.seek(to, attempt.min(until.saturating_duration_since(clock::now()))).await?;
        }
        let ask = wire::write(&Ask { caller: self.me.to_string(), call, what });
        let (mut sent, mut was_cut, mut heard) = (false, false, false);
        let mut attempts = ATTEMPTS;
        loop {
            let within = attempt.min(until.saturating_duration_since(clock::now()));
            if within.is_zero() || attempts == 0 {
                // What a link that was cut has lost says nothing of the replica.
                return Err(if heard || was_cut { Failed::Unknown } else { Failed::Silent });
            }
            if self.carrier.link() == Link::Down {
                if !sent {
                    return Err(Failed::Away);
                }
                was_cut = true;
                sleep(PAUSE.min(within)).await;
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
                Err(NoReply::NotSent) if !sent => return Err(Failed::Away),
                Err(NoReply::NotSent) => {
                    was_cut = true;
                    sleep(PAUSE.min(within)).await;
                    continue;
                }
                Err(NoReply::Nobody) if self.may_come_back(to) => {
                    if !sent {
                        return Err(Failed::Away);
                    }
                    sleep(PAUSE).await;
                }
                // One that is cut off has its sessions still, and may have got it before.
                Err(NoReply::Nobody) if sent => return Err(Failed::Unknown),
                Err(NoReply::Nobody) => return Err(Failed::Gone),
            }
            attempts -= 1;
        }
    }

    /// Looks for a replica that was not heard for long, with a question that does nothing: some engines deliver for many minutes
    /// to a machine that is gone, and what that machine might have taken after all cannot be answered by a 404.
    async fn seek(&self, to: &ReplicaId, within: Duration) -> Result<(), Failed> {
        let ask = wire::write(&Ask { caller: self.me.to_string(), call: self.number(), what: What::End });
        let sealed = self.seals.seal(Sent::Ask { to }, &ask);
        match self.carrier.call(to, sealed, within).await {
            Ok(_) => Ok(()),
            Err(NoReply::NotSent) => Err(Failed::Away),
            Err(NoReply::Silence | NoReply::Nobody) => Err(Failed::Gone),
        }
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
            Err(Failed::Gone | Failed::Away | Failed::Busy) => others.was_not_asked(self.to),
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
