//! Calls that wait for their replies, by number.
//!
//! Invariant: one that nobody waits for any more is not here.

use std::{
    collections::HashMap,
    hash::{BuildHasher as _, RandomState},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use tokio::sync::oneshot;

use crate::carrier::NoReply;

/// How many calls may wait at once.
const WAITING: usize = if cfg!(test) { 100 } else { 32_768 };

type Outcome<T> = Result<T, NoReply>;

#[derive(Debug)]
pub(crate) struct Replies<T = Bytes> {
    // Never held across an await.
    waiting: Mutex<HashMap<u64, oneshot::Sender<Outcome<T>>>>,
    next: AtomicU64,
    /// Numbers that nobody can guess, so that nobody replies who has not been asked.
    secret: RandomState,
}

/// The reply to one call, which is waited for until this is dropped.
#[derive(Debug)]
pub(crate) struct Expected<T = Bytes> {
    number: u64,
    outcome: oneshot::Receiver<Outcome<T>>,
    replies: Arc<Replies<T>>,
}

impl<T> Replies<T> {
    /// A reply to wait for. `None`: too many are waited for.
    pub(crate) fn expect(self: &Arc<Self>) -> Option<Expected<T>> {
        let mut waiting = self.lock();
        if waiting.len() >= WAITING {
            return None;
        }
        let number = self.secret.hash_one(self.next.fetch_add(1, Ordering::Relaxed));
        let (sender, outcome) = oneshot::channel();
        waiting.insert(number, sender);
        Some(Expected { number, outcome, replies: Arc::clone(self) })
    }

    /// A reply has come. One that is late, or comes a second time, is nobody's.
    pub(crate) fn give(&self, number: u64, outcome: Outcome<T>) {
        let waiting = self.lock().remove(&number);
        if let Some(waiting) = waiting {
            let _ = waiting.send(outcome);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, oneshot::Sender<Outcome<T>>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Default for Replies<T> {
    fn default() -> Self {
        Self { waiting: Mutex::default(), next: AtomicU64::default(), secret: RandomState::default() }
    }
}

impl<T> Expected<T> {
    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// Waits for it, as long as it takes. Dropping the future loses nothing.
    pub(crate) async fn reply(&mut self) -> Outcome<T> {
        (&mut self.outcome).await.unwrap_or(Err(NoReply::Silence))
    }
}

impl<T> Drop for Expected<T> {
    fn drop(&mut self) {
        self.replies.lock().remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_reply_reaches_the_call_with_its_number_once() {
        let replies = Arc::new(Replies::<Bytes>::default());
        let (mut one, mut two) = (replies.expect().unwrap(), replies.expect().unwrap());
        replies.give(two.number(), Ok(Bytes::from_static(b"two")));
        replies.give(two.number(), Ok(Bytes::from_static(b"again")));
        replies.give(one.number(), Err(NoReply::Nobody));
        replies.give(one.number() ^ 1, Ok(Bytes::new()));
        assert_eq!(one.reply().await, Err(NoReply::Nobody));
        assert_eq!(two.reply().await, Ok(Bytes::from_static(b"two")));
    }

    #[test]
    fn there_is_a_bound_and_what_is_dropped_makes_room() {
        let replies = Arc::new(Replies::<Bytes>::default());
        let mut all: Vec<_> = (0..WAITING).map(|_| replies.expect().unwrap()).collect();
        assert!(replies.expect().is_none());
        all.pop();
        let last = replies.expect().unwrap();
        assert!(replies.expect().is_none());
        drop((all, last));
        assert!(replies.lock().is_empty());
    }
}
