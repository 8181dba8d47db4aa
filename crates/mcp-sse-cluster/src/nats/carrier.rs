//! NATS for one cluster: calls, their replies, and announcements.

use std::{
    sync::{Arc, OnceLock, Weak},
    time::Duration,
};

use async_nats::{Client, Subscriber, connection::State};
use bytes::Bytes;
use mcp_sse::ReplicaId;
use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};

use super::{
    connection::{NAME, START, Seen, lock},
    subjects::{reply_subject, subject},
    taking::Taking,
};
use crate::{
    carrier::{BoxFuture, Carrier, Handler, Link, NoReply},
    intake::Intake,
    replies::Replies,
    throttle::Throttle,
};

/// How long leaving may take.
const LEAVE: Duration = Duration::from_secs(3);

/// NATS for one cluster.
pub(crate) struct NatsCarrier {
    client: Client,
    seen: Arc<Seen>,
    cluster: String,
    replies: Arc<Replies>,
    serving: OnceLock<Serving>,
    full: Throttle,
}

/// The replica that this is the carrier of.
struct Serving {
    subject: String,
    intake: Arc<Intake>,
    leave: mpsc::Sender<oneshot::Sender<()>>,
}

impl NatsCarrier {
    pub(super) fn new(client: Client, seen: Arc<Seen>, cluster: &str) -> Self {
        Self {
            client,
            seen,
            cluster: cluster.to_owned(),
            replies: Arc::default(),
            serving: OnceLock::new(),
            full: Throttle::default(),
        }
    }

    async fn subscribe(&self, subject: String) -> Result<Subscriber, String> {
        let subscribing = timeout(START, self.client.subscribe(subject)).await;
        subscribing.map_err(|_| "it is not connected".to_owned())?.map_err(|error| error.to_string())
    }

    async fn begin(&self, subject: String, handler: Weak<dyn Handler>) -> Result<(), String> {
        *lock(&self.seen.complaint) = None;
        let intake = Arc::new(Intake::new(NAME, handler));
        let (leave, leaving) = mpsc::channel(1);
        let serving = Serving { subject: subject.clone(), intake: Arc::clone(&intake), leave };
        if self.serving.set(serving).is_err() {
            return Err("it is in use already".to_owned());
        }
        let taking = Taking {
            client: self.client.clone(),
            calls: self.subscribe(subject.clone()).await?,
            replies: self.subscribe(format!("{subject}.*")).await?,
            announcements: self.subscribe(format!("mcp-sse.{}.all", self.cluster)).await?,
            intake,
            expected: Arc::clone(&self.replies),
            prefix: format!("mcp-sse.{}.", self.cluster),
        };
        tokio::spawn(taking.run(leaving));
        self.prove(&subject).await
    }

    /// Sends something to itself. When it is back, the server has all subscriptions that were made before.
    async fn prove(&self, subject: &str) -> Result<(), String> {
        let Some(mut expected) = self.replies.expect() else {
            return Err("too much is under way".to_owned());
        };
        let back = reply_subject(subject, expected.number());
        let came = timeout(START, async {
            self.client.publish(back, Bytes::new()).await.map_err(|error| error.to_string())?;
            expected.reply().await.map(drop).map_err(|_| "it is closed".to_owned())
        });
        came.await.unwrap_or_else(|_| {
            let complaint = lock(&self.seen.complaint).take();
            Err(match complaint {
                Some(complaint) => complaint,
                None => format!("what was sent to {subject} is not back within {} s", START.as_secs()),
            })
        })
    }

    async fn ask(&self, to: &ReplicaId, bytes: Bytes, within: Duration) -> Result<Bytes, NoReply> {
        let Some(serving) = self.serving.get() else { return Err(NoReply::NotSent) };
        if self.link() == Link::Down {
            return Err(NoReply::NotSent);
        }
        let Some(mut expected) = self.replies.expect() else {
            if self.full.may_log() {
                tracing::warn!(
                    engine = NAME,
                    "a call to another replica is not made: too many are under way"
                );
            }
            return Err(NoReply::NotSent);
        };
        let reply = reply_subject(&serving.subject, expected.number());
        let mut is_sent = false;
        let asking = async {
            // As long as this waits, nothing is handed over.
            let sending = self.client.publish_with_reply(subject(&self.cluster, to), reply, bytes);
            if let Err(error) = sending.await {
                // The client looks at the size, and at whether it is closed, before it takes anything.
                if self.full.may_log() {
                    tracing::warn!(engine = NAME, %error, "a call to another replica is not made");
                }
                return Err(NoReply::NotSent);
            }
            is_sent = true;
            expected.reply().await
        };
        let reply = timeout(within, asking).await;
        match reply {
            Ok(reply) => reply,
            Err(_) if is_sent => Err(NoReply::Silence),
            Err(_) => Err(NoReply::NotSent),
        }
    }
}

impl Carrier for NatsCarrier {
    fn name(&self) -> &'static str {
        NAME
    }

    fn link(&self) -> Link {
        // The client's own word, which it gives before it takes anything to send over a new connection.
        if self.client.connection_state() == State::Connected {
            Link::Up(self.seen.since())
        } else {
            Link::Down
        }
    }

    fn call<'a>(
        &'a self,
        to: &'a ReplicaId,
        bytes: Bytes,
        within: Duration,
    ) -> BoxFuture<'a, Result<Bytes, NoReply>> {
        Box::pin(self.ask(to, bytes, within))
    }

    fn announce(&self, bytes: Bytes) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            // It would be late after the connection is back.
            if self.link() != Link::Down {
                let _ = self.client.publish(format!("mcp-sse.{}.all", self.cluster), bytes).await;
            }
        })
    }

    fn serve(&self, me: &ReplicaId, handler: Weak<dyn Handler>) -> BoxFuture<'_, Result<(), String>> {
        let subject = subject(&self.cluster, me);
        Box::pin(self.begin(subject, handler))
    }

    fn leave(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            let Some(serving) = self.serving.get() else { return };
            let leaving = async {
                let (done, taken) = oneshot::channel();
                if serving.leave.send(done).await.is_ok() {
                    let _ = taken.await;
                }
                serving.intake.finish().await;
                // The replies are on their way when this is through.
                let _ = self.client.flush().await;
            };
            let _ = timeout(LEAVE, leaving).await;
        })
    }
}
