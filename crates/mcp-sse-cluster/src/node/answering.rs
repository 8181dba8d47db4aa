//! Requests of other replicas.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use bytes::Bytes;
use http::{Response, StatusCode};
use http_body::Body as _;
use http_body_util::BodyExt as _;
use mcp_sse::ReplicaId;
use tokio::time::timeout;

use super::{ALL_ATTEMPTS, Node, lock};
use crate::{
    carrier::{BoxFuture, Handler},
    clock,
    core::{parts::Added, seen::Arrival},
    seal::Sent,
    wire::{self, Announcement, Answer, Ask, Head, Reply, Said, What},
};

/// How long whoever asks again waits for the answer, before it hears that there is none yet. Shorter than an attempt.
const WORKING: Duration = Duration::from_secs(1);
/// The largest answer that crosses whole, in bytes. A larger one is read like a stream.
const WHOLE_ANSWER: u64 = 64 * 1024;

impl Node {
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
            // Others may have been opened while the host has answered.
            if !self.streams.open(caller, call, body) {
                return Said::Unknown;
            }
            return Said::Answer(Answer::new(&parts, Bytes::new(), true));
        }
        match timeout(ALL_ATTEMPTS, body.collect()).await {
            Ok(Ok(body)) => Said::Answer(Answer::new(&parts, body.to_bytes(), false)),
            Ok(Err(_)) | Err(_) => Said::Unknown,
        }
    }
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
