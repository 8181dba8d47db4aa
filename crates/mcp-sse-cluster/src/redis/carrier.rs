//! Redis for one cluster: calls, their replies, and announcements.

use std::{
    sync::{Arc, OnceLock, Weak},
    time::Duration,
};

use ::redis::RedisError;
use bytes::Bytes;
use mcp_sse::ReplicaId;
use tokio::time::timeout;

use super::{
    connection::{Connected, Line, Route, Shared, What, lock},
    sent::{announcements_channel, call, calls_channel, replies_channel},
    server::{NAME, is_refusal, publish},
};
use crate::{
    carrier::{BoxFuture, Carrier, Handler, Link, NoReply},
    intake::Intake,
    replies::Replies,
    throttle::Throttle,
};

/// How long leaving may take.
const LEAVE: Duration = Duration::from_secs(3);

/// Redis for one cluster.
pub(crate) struct RedisCarrier {
    connected: Arc<Connected>,
    cluster: String,
    replies: Arc<Replies>,
    serving: OnceLock<Serving>,
    full: Throttle,
}

/// The replica that this is the carrier of.
struct Serving {
    calls: String,
    replies: String,
    intake: Arc<Intake>,
}

impl RedisCarrier {
    pub(super) fn new(connected: Arc<Connected>, cluster: &str) -> Self {
        Self {
            connected,
            cluster: cluster.to_owned(),
            replies: Arc::default(),
            serving: OnceLock::new(),
            full: Throttle::default(),
        }
    }

    fn shared(&self) -> &Arc<Shared> {
        &self.connected.shared
    }

    async fn begin(&self, calls: String, replies: String, handler: Weak<dyn Handler>) -> Result<(), String> {
        let intake = Arc::new(Intake::new(NAME, handler));
        let all = [calls.clone(), replies.clone(), announcements_channel(&self.cluster)];
        if self.serving.set(Serving { calls, replies, intake: Arc::clone(&intake) }).is_err() {
            return Err("it is in use already".to_owned());
        }
        {
            let mut channels = lock(&self.shared().channels);
            let what = [What::Calls, What::Replies(Arc::clone(&self.replies)), What::Announcements];
            for (name, what) in all.iter().zip(what) {
                let intake = Arc::clone(&intake);
                channels.entry(name.clone()).or_default().routes.push(Route { intake, what });
            }
        }
        self.shared().subscribe(&all).await
    }

    async fn ask(&self, to: &ReplicaId, bytes: Bytes, within: Duration) -> Result<Bytes, NoReply> {
        let Some(serving) = self.serving.get() else { return Err(NoReply::NotSent) };
        let Line { number, connection: Some(mut connection), up: Some(_) } = self.shared().line() else {
            return Err(NoReply::NotSent);
        };
        let expected = self.replies.expect();
        let payload =
            expected.as_ref().and_then(|expected| call(expected.number(), &serving.replies, &bytes));
        let (Some(mut expected), Some(payload)) = (expected, payload) else {
            if self.full.may_log() {
                tracing::warn!(
                    engine = NAME,
                    "a call to another replica is not made: too many are under way"
                );
            }
            return Err(NoReply::NotSent);
        };
        let channel = calls_channel(&self.cluster, to);
        let mut is_published = false;
        let asking = async {
            let receivers = publish(&mut connection, &channel, &payload).await?;
            is_published = true;
            Ok::<_, RedisError>(if receivers == 0 { Err(NoReply::Nobody) } else { expected.reply().await })
        };
        let asked = timeout(within, asking).await;
        match asked {
            Ok(Ok(reply)) => reply,
            Ok(Err(error)) if is_refusal(&error) => {
                self.shared().refuses(&error);
                Err(NoReply::NotSent)
            }
            Err(_) if is_published => Err(NoReply::Silence),
            // Whether the server has got it is not known.
            Ok(Err(_)) | Err(_) => {
                self.shared().doubt(number);
                Err(NoReply::Silence)
            }
        }
    }
}

impl Carrier for RedisCarrier {
    fn name(&self) -> &'static str {
        NAME
    }

    fn link(&self) -> Link {
        let up = self.shared().line.borrow().up;
        up.map_or(Link::Down, Link::Up)
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
            if let Line { connection: Some(mut connection), up: Some(_), .. } = self.shared().line() {
                let published = publish(&mut connection, &announcements_channel(&self.cluster), &bytes).await;
                if let Err(error) = published {
                    self.shared().refuses(&error);
                }
            }
        })
    }

    fn serve(&self, me: &ReplicaId, handler: Weak<dyn Handler>) -> BoxFuture<'_, Result<(), String>> {
        let (calls, replies) = (calls_channel(&self.cluster, me), replies_channel(&self.cluster, me));
        Box::pin(self.begin(calls, replies, handler))
    }

    fn leave(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            let Some(serving) = self.serving.get() else { return };
            if let Some(channel) = lock(&self.shared().channels).get_mut(&serving.calls) {
                channel.is_left = true;
            }
            let leaving = async {
                if let Some(mut connection) = self.shared().line().connection {
                    let _ = connection.unsubscribe(&serving.calls).await;
                }
                serving.intake.finish().await;
            };
            let _ = timeout(LEAVE, leaving).await;
        })
    }
}
