//! Records that a simulated engine keeps, and sometimes does not say that it has.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use bytes::Bytes;
use tokio::time::{Instant, sleep};

use super::Random;
use crate::{
    carrier::BoxFuture,
    clock,
    store::{Entry, Store, StoreError, check_size},
};

/// The records of a cluster, as all replicas have them.
#[derive(Clone, Debug)]
pub(crate) struct Records(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    random: Random,
    expiry: Duration,
    kept: BTreeMap<String, Kept>,
    /// The last one that was given.
    revision: u64,
    /// Replicas that cannot reach the engine.
    cut: BTreeSet<String>,
    /// How often nothing is said of what was done, in percent.
    silence: u64,
}

#[derive(Debug)]
struct Kept {
    entry: Entry,
    until: Instant,
}

impl Records {
    pub(crate) fn new(random: Random, expiry: Duration) -> Self {
        let (kept, cut) = (BTreeMap::new(), BTreeSet::new());
        Self(Arc::new(Mutex::new(State { random, expiry, kept, revision: 0, cut, silence: 0 })))
    }

    /// The records as a replica has them.
    pub(crate) fn at(&self, replica: &str) -> Arc<dyn Store> {
        Arc::new(At { records: self.clone(), me: replica.to_owned() })
    }

    /// Whether this replica cannot reach the engine.
    pub(crate) fn set_cut(&self, replica: &str, is_cut: bool) {
        let mut state = self.lock();
        if is_cut {
            state.cut.insert(replica.to_owned());
        } else {
            state.cut.remove(replica);
        }
    }

    /// How often an operation is done or not, and nothing is said of it, in percent.
    pub(crate) fn set_silence(&self, percent: u64) {
        self.lock().silence = percent;
    }

    /// From now on nothing goes wrong.
    pub(crate) fn heal(&self) {
        let mut state = self.lock();
        (state.cut, state.silence) = (BTreeSet::new(), 0);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("no panic")
    }
}

impl State {
    fn found(&mut self, key: &str) -> Option<&Entry> {
        if self.kept.get(key).is_some_and(|kept| kept.until <= clock::now()) {
            self.kept.remove(key);
        }
        self.kept.get(key).map(|kept| &kept.entry)
    }

    fn has(&mut self, key: &str, revision: u64) -> bool {
        self.found(key).is_some_and(|entry| entry.revision == revision)
    }

    fn write(&mut self, key: &str, value: Bytes) -> u64 {
        self.revision += 1;
        let (revision, until) = (self.revision, clock::now() + self.expiry);
        self.kept.insert(key.to_owned(), Kept { entry: Entry { value, revision }, until });
        revision
    }
}

/// The records as one replica has them.
struct At {
    records: Records,
    me: String,
}

impl At {
    /// Does something, after some time and before some more, in which the replica may be cut off.
    async fn done<T>(&self, operation: impl FnOnce(&mut State) -> T) -> Result<T, StoreError> {
        self.passes().await?;
        let done = {
            let mut state = self.records.lock();
            let silence = state.silence;
            if state.random.chance(silence) {
                // Whether it is done is nobody's to know.
                if state.random.chance(50) {
                    operation(&mut state);
                }
                None
            } else {
                Some(operation(&mut state))
            }
        };
        self.passes().await?;
        done.ok_or(StoreError::Unavailable)
    }

    async fn passes(&self) -> Result<(), StoreError> {
        if self.records.lock().cut.contains(&self.me) {
            return Err(StoreError::Unavailable);
        }
        sleep(Duration::from_millis(1)).await;
        if self.records.lock().cut.contains(&self.me) {
            return Err(StoreError::Unavailable);
        }
        Ok(())
    }
}

impl Store for At {
    fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<Entry>, StoreError>> {
        Box::pin(self.done(move |state| state.found(key).cloned()))
    }

    fn create<'a>(&'a self, key: &'a str, value: Bytes) -> BoxFuture<'a, Result<Option<u64>, StoreError>> {
        Box::pin(async move {
            check_size(&value)?;
            self.done(|state| state.found(key).is_none().then(|| state.write(key, value))).await
        })
    }

    fn replace<'a>(
        &'a self,
        key: &'a str,
        revision: u64,
        value: Bytes,
    ) -> BoxFuture<'a, Result<Option<u64>, StoreError>> {
        Box::pin(async move {
            check_size(&value)?;
            self.done(|state| state.has(key, revision).then(|| state.write(key, value))).await
        })
    }

    fn remove<'a>(&'a self, key: &'a str, revision: u64) -> BoxFuture<'a, Result<bool, StoreError>> {
        Box::pin(self.done(move |state| {
            let is_it = state.has(key, revision);
            if is_it {
                state.kept.remove(key);
            }
            is_it
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3_600);

    fn value(text: &'static str) -> Bytes {
        Bytes::from_static(text.as_bytes())
    }

    #[tokio::test(start_paused = true)]
    async fn a_replica_that_is_cut_off_reaches_nothing_and_the_others_go_on() {
        let records = Records::new(Random::new(1), HOUR);
        let (one, two) = (records.at("one"), records.at("two"));
        let revision = one.create("k", value("1")).await.unwrap().unwrap();
        records.set_cut("one", true);
        assert_eq!(one.get("k").await, Err(StoreError::Unavailable));
        assert_eq!(one.replace("k", revision, value("2")).await, Err(StoreError::Unavailable));
        assert_eq!(one.remove("k", revision).await, Err(StoreError::Unavailable));
        assert_eq!(two.get("k").await, Ok(Some(Entry { value: value("1"), revision })));
        records.set_cut("one", false);
        assert_eq!(one.get("k").await, two.get("k").await);
    }

    #[tokio::test(start_paused = true)]
    async fn some_of_what_nothing_is_said_of_is_done_and_the_same_each_time() {
        let run = async |seed| {
            let records = Records::new(Random::new(seed), HOUR);
            records.set_silence(100);
            let store = records.at("one");
            let keys: Vec<String> = (0..100).map(|number| number.to_string()).collect();
            for key in &keys {
                assert_eq!(store.create(key, value("1")).await, Err(StoreError::Unavailable));
            }
            records.heal();
            let mut done = Vec::new();
            for key in &keys {
                done.push(store.get(key).await.unwrap().is_some());
            }
            done
        };
        let done = run(1).await;
        assert!(done.contains(&true) && done.contains(&false));
        assert_eq!(done, run(1).await);
    }
}
