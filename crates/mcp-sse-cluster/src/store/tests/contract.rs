//! What all stores promise.

use std::{collections::BTreeSet, sync::Arc};

use super::*;
use crate::{
    sim,
    store::{Entry, MAX_VALUE, Store, StoreError},
};

/// Each of these against each engine.
macro_rules! on_all {
    ($($name:ident($expiry:expr),)*) => {
        #[cfg(feature = "nats")]
        mod nats {
            use super::*;
            use crate::{engines::Engine, store::tests::real::Real};

            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                let real = Real::new(Engine::nats(), $expiry).await;
                super::$name(&real.store).await;
            })*
        }

        #[cfg(feature = "redis")]
        mod redis {
            use super::*;
            use crate::{engines::Engine, store::tests::real::Real};

            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                let real = Real::new(Engine::redis(), $expiry).await;
                super::$name(&real.store).await;
            })*
        }

        mod simulated {
            use super::*;

            $(#[tokio::test(start_paused = true)]
            async fn $name() {
                let records = sim::store::Records::new(sim::Random::new(7), $expiry);
                super::$name(&records.at("r0")).await;
            })*
        }
    };
}

on_all! {
    what_was_never_made_is_not_there(HOUR),
    a_record_is_made_once(HOUR),
    only_who_knows_the_revision_changes_or_removes_a_record(HOUR),
    no_revision_is_given_twice(HOUR),
    a_record_expires_so_long_after_it_was_written_last(SECOND),
    what_was_removed_is_made_again_after_its_mark_has_expired(SECOND),
    of_many_who_write_at_once_one_wins(HOUR),
    records_are_apart(HOUR),
    a_record_may_be_large_but_not_too_large(HOUR),
}

const SECOND: Duration = Duration::from_secs(1);

async fn what_was_never_made_is_not_there(store: &Arc<dyn Store>) {
    assert_eq!(store.get(KEY).await, Ok(None));
    assert_eq!(store.replace(KEY, 1, value("one")).await, Ok(None));
    assert_eq!(store.remove(KEY, 1).await, Ok(false));
    assert_eq!(store.get(KEY).await, Ok(None));
}

async fn a_record_is_made_once(store: &Arc<dyn Store>) {
    let revision = store.create(KEY, value("one")).await.unwrap().unwrap();
    assert_eq!(store.create(KEY, value("two")).await, Ok(None));
    assert_eq!(store.get(KEY).await, Ok(Some(Entry { value: value("one"), revision })));
}

async fn only_who_knows_the_revision_changes_or_removes_a_record(store: &Arc<dyn Store>) {
    let first = store.create(KEY, value("one")).await.unwrap().unwrap();
    assert_eq!(store.replace(KEY, first + 1, value("no")).await, Ok(None));
    assert_eq!(store.remove(KEY, first + 1).await, Ok(false));
    assert_eq!(store.get(KEY).await, Ok(Some(Entry { value: value("one"), revision: first })));
    let second = store.replace(KEY, first, value("two")).await.unwrap().unwrap();
    assert_ne!(first, second);
    assert_eq!(store.replace(KEY, first, value("no")).await, Ok(None));
    assert_eq!(store.remove(KEY, first).await, Ok(false));
    assert_eq!(store.get(KEY).await, Ok(Some(Entry { value: value("two"), revision: second })));
    assert_eq!(store.remove(KEY, second).await, Ok(true));
    assert_eq!(store.get(KEY).await, Ok(None));
    assert_eq!(store.remove(KEY, second).await, Ok(false));
    assert_eq!(store.replace(KEY, second, value("no")).await, Ok(None));
    assert_eq!(store.get(KEY).await, Ok(None));
}

async fn no_revision_is_given_twice(store: &Arc<dyn Store>) {
    let mut all = BTreeSet::new();
    for _ in 0..5 {
        let mut last = store.create(KEY, value("made")).await.unwrap().unwrap();
        for earlier in &all {
            assert_eq!(store.replace(KEY, *earlier, value("no")).await, Ok(None));
            assert_eq!(store.remove(KEY, *earlier).await, Ok(false));
        }
        assert!(all.insert(last));
        for _ in 0..3 {
            last = store.replace(KEY, last, value("changed")).await.unwrap().unwrap();
            assert!(all.insert(last));
        }
        assert_eq!(store.remove(KEY, last).await, Ok(true));
    }
}

async fn a_record_expires_so_long_after_it_was_written_last(store: &Arc<dyn Store>) {
    let first = store.create(KEY, value("one")).await.unwrap().unwrap();
    let half = clock::now() + SECOND / 2;
    until("half of its time", async || {
        assert!(store.get(KEY).await.unwrap().is_some());
        (clock::now() > half).then_some(())
    })
    .await;
    let written = clock::now();
    let second = store.replace(KEY, first, value("two")).await.unwrap().unwrap();
    until("a record expires", async || {
        let entry = store.get(KEY).await.unwrap();
        assert!(entry.as_ref().is_none_or(|entry| entry.revision == second));
        entry.is_none().then_some(())
    })
    .await;
    assert!(written.elapsed() > SECOND * 9 / 10, "{:?}", written.elapsed());
    assert_eq!(store.replace(KEY, second, value("no")).await, Ok(None));
    assert_eq!(store.remove(KEY, second).await, Ok(false));
    let third = store.create(KEY, value("three")).await.unwrap().unwrap();
    assert!(![first, second].contains(&third));
}

async fn what_was_removed_is_made_again_after_its_mark_has_expired(store: &Arc<dyn Store>) {
    let first = store.create(KEY, value("one")).await.unwrap().unwrap();
    assert_eq!(store.remove(KEY, first).await, Ok(true));
    let later = clock::now() + SECOND * 2;
    until("the mark expires", async || {
        assert_eq!(store.get(KEY).await, Ok(None));
        (clock::now() > later).then_some(())
    })
    .await;
    assert!(store.create(KEY, value("two")).await.unwrap().unwrap() != first);
}

async fn of_many_who_write_at_once_one_wins(store: &Arc<dyn Store>) {
    const MANY: usize = 16;
    // All at once, and the revision of the one who won, with what is there then.
    async fn one(store: &Arc<dyn Store>, over: Option<u64>) -> u64 {
        let tasks = (0..MANY).map(|number| {
            let (store, value) = (Arc::clone(store), value(&number.to_string()));
            tokio::spawn(async move {
                match over {
                    Some(revision) => store.replace(KEY, revision, value).await,
                    None => store.create(KEY, value).await,
                }
            })
        });
        let mut winners = Vec::new();
        for (number, task) in tasks.collect::<Vec<_>>().into_iter().enumerate() {
            winners.extend(task.await.unwrap().unwrap().map(|revision| (number, revision)));
        }
        let [(number, revision)] = winners[..] else { panic!("{winners:?}") };
        let entry = Entry { value: value(&number.to_string()), revision };
        assert_eq!(store.get(KEY).await, Ok(Some(entry)));
        revision
    }
    let mut revision = one(store, None).await;
    for _ in 0..5 {
        revision = one(store, Some(revision)).await;
    }
    let removals = (0..MANY).map(|_| {
        let store = Arc::clone(store);
        tokio::spawn(async move { store.remove(KEY, revision).await.unwrap() })
    });
    let mut removed = 0;
    for removal in removals.collect::<Vec<_>>() {
        removed += usize::from(removal.await.unwrap());
    }
    assert_eq!(removed, 1);
    // Where there was one.
    one(store, None).await;
}

async fn records_are_apart(store: &Arc<dyn Store>) {
    let other = KEY.replace('0', "1");
    let one = store.create(KEY, value("one")).await.unwrap().unwrap();
    let two = store.create(&other, value("two")).await.unwrap().unwrap();
    assert_eq!(store.replace(&other, one, value("no")).await, Ok(None));
    assert_eq!(store.remove(KEY, one).await, Ok(true));
    assert_eq!(store.get(&other).await, Ok(Some(Entry { value: value("two"), revision: two })));
}

async fn a_record_may_be_large_but_not_too_large(store: &Arc<dyn Store>) {
    // All bytes, line ends among them.
    let large: Bytes = (0..MAX_VALUE).map(|at| (at % 251) as u8).collect();
    let too_large: Bytes = [&large[..], b"x"].concat().into();
    let revision = store.create(KEY, large.clone()).await.unwrap().unwrap();
    assert_eq!(store.get(KEY).await, Ok(Some(Entry { value: large.clone(), revision })));
    for refused in
        [store.replace(KEY, revision, too_large.clone()).await, store.create("other", too_large).await]
    {
        let Err(StoreError::Refused(why)) = refused else { panic!("{refused:?}") };
        assert!(why.contains(&format!("{} bytes", MAX_VALUE + 1)), "{why}");
    }
    assert_eq!(store.get("other").await, Ok(None));
    let revision = store.replace(KEY, revision, Bytes::new()).await.unwrap().unwrap();
    assert_eq!(store.get(KEY).await, Ok(Some(Entry { value: Bytes::new(), revision })));
}
