//! Takes what comes for a replica: calls, replies to its own, and announcements.

use std::{sync::Arc, time::Duration};

use async_nats::{Client, Message, StatusCode, Subscriber};
use futures_util::StreamExt as _;
use tokio::{
    sync::{mpsc, oneshot},
    time::{interval, timeout},
};

use super::subjects::number;
use crate::{carrier::NoReply, intake::Intake, replies::Replies};

/// How long a reply may wait to be sent. Nobody waits for it any longer.
const REPLY: Duration = Duration::from_secs(5);
/// How often it is looked whether somebody still takes calls.
const LOOK: Duration = Duration::from_secs(1);

/// Takes what comes for a replica, until nobody wants it any more. The client subscribes again after each break.
pub(super) struct Taking {
    pub(super) client: Client,
    pub(super) calls: Subscriber,
    pub(super) replies: Subscriber,
    pub(super) announcements: Subscriber,
    pub(super) intake: Arc<Intake>,
    pub(super) expected: Arc<Replies>,
    /// What subjects of the cluster begin with.
    pub(super) prefix: String,
}

impl Taking {
    pub(super) async fn run(mut self, mut leaving: mpsc::Receiver<oneshot::Sender<()>>) {
        let mut look = interval(LOOK);
        let mut takes_calls = true;
        let mut left: Option<oneshot::Sender<()>> = None;
        while self.intake.is_wanted() {
            tokio::select! {
                call = self.calls.next(), if takes_calls => match call {
                    Some(call) => self.call(call),
                    // Those that were on their way have come.
                    None => {
                        takes_calls = false;
                        left = None;
                    }
                },
                reply = self.replies.next() => {
                    let Some(reply) = reply else { break };
                    self.reply(reply);
                }
                announcement = self.announcements.next() => {
                    let Some(announcement) = announcement else { break };
                    self.intake.announced(announcement.payload);
                }
                Some(done) = leaving.recv() => {
                    // Dropped when no more calls come.
                    if takes_calls {
                        let _ = timeout(LOOK, self.calls.drain()).await;
                        left = Some(done);
                    }
                }
                _ = look.tick() => {}
            }
        }
        drop(left);
    }

    fn call(&self, call: Message) {
        let Some(to) = call.reply else {
            self.intake.drops("it does not say where its reply belongs");
            return;
        };
        if !to.as_str().starts_with(&self.prefix) {
            self.intake.drops("its reply belongs to nobody of this cluster");
            return;
        }
        let client = self.client.clone();
        self.intake.take(call.payload, move |reply| async move {
            // What cannot be sent in time is lost, and asked for again.
            let _ = timeout(REPLY, client.publish(to, reply)).await;
        });
    }

    fn reply(&self, reply: Message) {
        let Some(number) = number(&reply.subject) else { return };
        // Said by the server, in the place of a reply.
        let is_nobody = reply.status == Some(StatusCode::NO_RESPONDERS);
        self.expected.give(number, if is_nobody { Err(NoReply::Nobody) } else { Ok(reply.payload) });
    }
}
