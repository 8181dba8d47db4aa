//! Calls of other replicas, on their way from an engine to what takes them: so many at a time.

use std::{
    future::Future,
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use tokio::sync::Semaphore;

use crate::{carrier::Handler, streams::STREAMS, throttle::Throttle};

/// How many calls are taken at once, a place for each stream that is read elsewhere among them: who reads one waits for its
/// next chunk. Further ones are dropped, and whoever made them asks again.
pub(crate) const CALLS: usize = 4_096 + STREAMS;

/// Messages that were dropped, counted, and said once in a while.
#[derive(Debug, Default)]
pub(crate) struct Dropped {
    count: AtomicU64,
    lines: Throttle,
}

impl Dropped {
    pub(crate) fn one(&self, engine: &'static str, why: &str) {
        let so_far = self.count.fetch_add(1, Ordering::Relaxed) + 1;
        if self.lines.may_log() {
            tracing::warn!(engine, so_far, "a message of another replica is dropped: {why}");
        }
    }
}

pub(crate) struct Intake {
    engine: &'static str,
    handler: Weak<dyn Handler>,
    room: Arc<Semaphore>,
    dropped: Dropped,
}

impl Intake {
    pub(crate) fn new(engine: &'static str, handler: Weak<dyn Handler>) -> Self {
        Self { engine, handler, room: Arc::new(Semaphore::new(CALLS)), dropped: Dropped::default() }
    }

    /// Whether there is still somebody who takes calls.
    pub(crate) fn is_wanted(&self) -> bool {
        self.handler.strong_count() > 0
    }

    /// Has a call answered, in a task of its own, and its reply sent on its way.
    pub(crate) fn take<F, R>(&self, bytes: Bytes, reply: F)
    where
        F: FnOnce(Bytes) -> R + Send + 'static,
        R: Future<Output = ()> + Send + 'static,
    {
        let Some(handler) = self.handler.upgrade() else { return };
        let Ok(place) = Arc::clone(&self.room).try_acquire_owned() else {
            self.drops("too many are taken at once");
            return;
        };
        tokio::spawn(async move {
            let _place = place;
            if let Some(bytes) = handler.called(bytes).await {
                reply(bytes).await;
            }
        });
    }

    /// Something was announced to all.
    pub(crate) fn announced(&self, bytes: Bytes) {
        if let Some(handler) = self.handler.upgrade() {
            handler.announced(bytes);
        }
    }

    /// A message cannot be taken.
    pub(crate) fn drops(&self, why: &str) {
        self.dropped.one(self.engine, why);
    }

    /// Waits until all calls that were taken are replied to.
    pub(crate) async fn finish(&self) {
        let all = u32::try_from(CALLS).unwrap_or(u32::MAX);
        let _ = self.room.acquire_many(all).await;
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc;

    use super::*;
    use crate::carrier::BoxFuture;

    /// Answers what it is asked once it may.
    struct Slow(Arc<Semaphore>);

    impl Handler for Slow {
        fn called(self: Arc<Self>, bytes: Bytes) -> BoxFuture<'static, Option<Bytes>> {
            Box::pin(async move {
                let _turn = self.0.acquire().await;
                Some(bytes)
            })
        }

        fn announced(&self, _: Bytes) {}
    }

    #[tokio::test]
    async fn beyond_the_bound_calls_are_dropped_and_the_others_are_replied_to() {
        let turns = Arc::new(Semaphore::new(0));
        let handler: Arc<dyn Handler> = Arc::new(Slow(Arc::clone(&turns)));
        let intake = Intake::new("test", Arc::downgrade(&handler));
        let (sender, mut replies) = mpsc::channel(2 * CALLS);
        for _ in 0..CALLS + 3 {
            let sender = sender.clone();
            intake.take(Bytes::from_static(b"call"), move |reply| async move {
                sender.send(reply).await.unwrap();
            });
        }
        assert_eq!(intake.dropped.count.load(Ordering::Relaxed), 3);
        turns.add_permits(CALLS);
        intake.finish().await;
        drop(sender);
        let mut count = 0;
        while replies.recv().await.is_some() {
            count += 1;
        }
        assert_eq!(count, CALLS);
        drop(handler);
        assert!(!intake.is_wanted());
        intake.take(Bytes::new(), |_| async { unreachable!() });
    }
}
