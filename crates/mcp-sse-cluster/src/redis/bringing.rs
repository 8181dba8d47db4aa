//! Brings what comes to whom it is for, and sends replies on their way.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::{sync::mpsc, time::timeout};

use super::{
    connection::{Route, Shared, What},
    sent::{Call, read_call, read_reply, reply},
    server::{Received, publish},
};

/// How long a reply may wait to be sent. Nobody waits for it any longer.
const REPLY: Duration = Duration::from_secs(5);

/// Brings what comes to whom it is for.
pub(super) async fn bring(shared: Arc<Shared>, mut messages: mpsc::Receiver<Received>) {
    while let Some(Received { channel, payload }) = messages.recv().await {
        let payload = Bytes::from(payload);
        for Route { intake, what } in shared.routes(&channel) {
            match what {
                What::Announcements => intake.announced(payload.clone()),
                What::Replies(replies) => match read_reply(payload.clone()) {
                    Some((number, bytes)) => replies.give(number, Ok(bytes)),
                    None => intake.drops("it is no reply"),
                },
                What::Calls => match read_call(payload.clone()) {
                    Some(Call { number, reply_to, bytes }) => {
                        let shared = Arc::clone(&shared);
                        intake.take(bytes, move |bytes| async move {
                            shared.reply(&reply_to, number, &bytes).await;
                        });
                    }
                    None => intake.drops("it is no call"),
                },
            }
        }
    }
}

impl Shared {
    /// Sends a reply on its way. One that cannot be sent is lost, and asked for again.
    async fn reply(&self, channel: &str, number: u64, bytes: &[u8]) {
        let Some(mut connection) = self.line().connection else { return };
        let payload = reply(number, bytes);
        let sent = timeout(REPLY, publish(&mut connection, channel, &payload)).await;
        if let Ok(Err(error)) = sent {
            self.refuses(&error);
        }
    }
}
