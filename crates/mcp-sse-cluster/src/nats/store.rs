//! Records in a bucket of `JetStream`.
//!
//! `JetStream` is asked by plain messages and not by the client's own key-value store: that keeps every request that is not
//! answered, needs answers at `_INBOX.>`, and looks again by itself after a write whose answer was lost, so that its own
//! record looks like somebody else's. The client writes a message to one connection only, whatever becomes of it: an answer
//! is that to what was sent here.
//!
//! A record that is removed leaves a mark that it was, which has a revision and expires as a record does.

use std::{future::Future, sync::Arc, time::Duration};

use async_nats::{Client, HeaderMap, Message, StatusCode, Subscriber, connection::State};
use bytes::Bytes;
use futures_util::StreamExt as _;
use tokio::{sync::oneshot, time::timeout};

use super::{
    bucket::{Bucket, Last},
    connection::{Seen, lock},
    subjects::{number, reply_subject, store_subject},
};
use crate::{
    carrier::{BoxFuture, NoReply},
    replies::Replies,
    store::{DEADLINE, Entry, SHORTEST, Store, StoreError, check_size, random},
};

/// How often it is tried to come between the changes of others.
const TRIES: usize = 3;

/// The records of one cluster.
pub(super) struct NatsStore {
    client: Client,
    seen: Arc<Seen>,
    bucket: Bucket,
    expiry: Duration,
    /// What the subjects of answers begin with.
    answers: String,
    replies: Arc<Replies<Message>>,
    /// Answers are taken until this is dropped.
    _taking: oneshot::Sender<()>,
}

impl NatsStore {
    /// The records of a cluster with this name. The bucket is made if it is not there, and it is seen to work.
    pub(super) async fn open(
        client: Client,
        seen: Arc<Seen>,
        cluster: &str,
        expiry: Duration,
    ) -> Result<Self, StoreError> {
        let answers = store_subject(cluster, random());
        let subscribing = timeout(DEADLINE, client.subscribe(reply_subject(&answers, "*"))).await;
        let Ok(Ok(subscriber)) = subscribing else { return Err(StoreError::Unavailable) };
        let replies = Arc::new(Replies::default());
        let (taking, over) = oneshot::channel();
        tokio::spawn(take(subscriber, Arc::clone(&replies), over));
        let (bucket, expiry) = (Bucket::new(cluster), expiry.max(SHORTEST));
        let store = Self { client, seen, bucket, expiry, answers, replies, _taking: taking };
        store.in_time(store.prepare()).await?;
        store.in_time(store.prove()).await?;
        Ok(store)
    }

    /// An operation with its deadline. What the server forbids has no answer: it only complains.
    async fn in_time<T>(
        &self,
        operation: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        match timeout(DEADLINE, operation).await {
            Ok(Err(StoreError::Unavailable)) | Err(_) => {
                let mut complaint = lock(&self.seen.complaint);
                let forbidden = complaint.as_ref().and_then(|it| self.bucket.forbidden(it, &self.answers));
                if forbidden.is_some() {
                    *complaint = None;
                }
                Err(forbidden.unwrap_or(StoreError::Unavailable))
            }
            Ok(done) => done,
        }
    }

    /// Sees to it that the bucket is there.
    async fn prepare(&self) -> Result<(), StoreError> {
        let name = self.bucket.name();
        for _ in 0..TRIES {
            let info = self.ask(self.bucket.info_subject(), None, Bytes::new()).await?;
            if let Some(kept) = self.bucket.found(&info.ok_or_else(Bucket::off)?.payload)? {
                let (found, wanted) = (kept.max_age(), self.expiry);
                if found != wanted {
                    tracing::info!(
                        bucket = name,
                        ?found,
                        ?wanted,
                        "the records in NATS expire as the bucket says, which is not as this replica would have it"
                    );
                }
                return Ok(());
            }
            // No revision of a bucket that was there before it. 48 bits, which no reader of JSON rounds.
            let config = self.bucket.config(self.expiry, random() >> 16);
            let made = self.ask(self.bucket.create_subject(), None, config).await?;
            if self.bucket.is_made(&made.ok_or_else(Bucket::off)?.payload)? {
                tracing::info!(bucket = name, expiry = ?self.expiry, "made a bucket for records in NATS");
                return Ok(());
            }
        }
        Err(StoreError::Unavailable)
    }

    /// Reads and writes, as far as that can be without a trace.
    async fn prove(&self) -> Result<(), StoreError> {
        const NO_KEY: &str = "none";
        self.last(NO_KEY).await?;
        let answer = self.ask_bucket(self.bucket.subject(NO_KEY), Some(Bucket::never_done()), Bytes::new());
        self.bucket.proves(&answer.await?.payload)
    }

    /// Asks the server. `None`: nobody takes it, for sure.
    async fn ask(
        &self,
        subject: String,
        headers: Option<HeaderMap>,
        payload: Bytes,
    ) -> Result<Option<Message>, StoreError> {
        if self.client.connection_state() != State::Connected {
            return Err(StoreError::Unavailable);
        }
        // Too much is under way.
        let Some(mut expected) = self.replies.expect() else { return Err(StoreError::Unavailable) };
        let answer = reply_subject(&self.answers, expected.number());
        let sent = match headers {
            Some(headers) => {
                self.client.publish_with_reply_and_headers(subject, answer, headers, payload).await
            }
            None => self.client.publish_with_reply(subject, answer, payload).await,
        };
        sent.map_err(|_| StoreError::Unavailable)?;
        match expected.reply().await {
            Ok(message) => Ok(Some(message)),
            Err(NoReply::Nobody) => Ok(None),
            Err(NoReply::NotSent | NoReply::Silence) => Err(StoreError::Unavailable),
        }
    }

    /// Asks the bucket, which is made again if it is gone: a server may have lost all that it had.
    async fn ask_bucket(
        &self,
        subject: String,
        headers: Option<HeaderMap>,
        payload: Bytes,
    ) -> Result<Message, StoreError> {
        if let Some(message) = self.ask(subject.clone(), headers.clone(), payload.clone()).await? {
            return Ok(message);
        }
        self.prepare().await?;
        self.ask(subject, headers, payload).await?.ok_or(StoreError::Unavailable)
    }

    /// What was written last of this key.
    async fn last(&self, key: &str) -> Result<Last, StoreError> {
        let subject = self.bucket.last_subject(key);
        Bucket::last(self.ask_bucket(subject, None, Bytes::new()).await?)
    }

    async fn write(&self, key: &str, headers: HeaderMap, value: Bytes) -> Result<Option<u64>, StoreError> {
        let answer = self.ask_bucket(self.bucket.subject(key), Some(headers), value).await?;
        self.bucket.revision(&answer.payload)
    }

    async fn make(&self, key: &str, value: Bytes) -> Result<Option<u64>, StoreError> {
        let mut over = 0;
        for _ in 0..TRIES {
            let written = self.write(key, Bucket::written_over(over), value.clone()).await?;
            if written.is_some() {
                return Ok(written);
            }
            // The server says that nothing was written.
            over = match self.last(key).await? {
                Last::Record(_) => return Ok(None),
                Last::Removal(revision) => revision,
                Last::Nothing => 0,
            };
        }
        Err(StoreError::Unavailable)
    }
}

impl Store for NatsStore {
    fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<Entry>, StoreError>> {
        Box::pin(self.in_time(async move {
            // If several servers keep the bucket, one may be a little behind. Whoever changes what it has said is told.
            Ok(match self.last(key).await? {
                Last::Record(entry) => Some(entry),
                Last::Removal(_) | Last::Nothing => None,
            })
        }))
    }

    fn create<'a>(&'a self, key: &'a str, value: Bytes) -> BoxFuture<'a, Result<Option<u64>, StoreError>> {
        Box::pin(self.in_time(async move {
            check_size(&value)?;
            self.make(key, value).await
        }))
    }

    fn replace<'a>(
        &'a self,
        key: &'a str,
        revision: u64,
        value: Bytes,
    ) -> BoxFuture<'a, Result<Option<u64>, StoreError>> {
        Box::pin(self.in_time(async move {
            check_size(&value)?;
            self.write(key, Bucket::written_over(revision), value).await
        }))
    }

    fn remove<'a>(&'a self, key: &'a str, revision: u64) -> BoxFuture<'a, Result<bool, StoreError>> {
        Box::pin(self.in_time(async move {
            let removed = self.write(key, Bucket::removed(revision), Bytes::new()).await?;
            Ok(removed.is_some())
        }))
    }
}

/// Gives answers to whoever waits for them. The client subscribes again after each break.
async fn take(mut answers: Subscriber, replies: Arc<Replies<Message>>, mut over: oneshot::Receiver<()>) {
    loop {
        let answer = tokio::select! {
            answer = answers.next() => answer,
            _ = &mut over => return,
        };
        let Some(answer) = answer else { return };
        let Some(number) = number(&answer.subject) else { continue };
        // Said by the server, in the place of an answer.
        let is_nobody = answer.status == Some(StatusCode::NO_RESPONDERS);
        replies.give(number, if is_nobody { Err(NoReply::Nobody) } else { Ok(answer) });
    }
}
