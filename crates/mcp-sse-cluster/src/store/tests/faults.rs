//! What becomes of records when the engine is not what it should be.

use super::{
    real::{Real, open},
    *,
};
use crate::{
    engines::Engine,
    store::{Entry, StoreError},
};

/// Each of these against each engine.
macro_rules! on_both {
    ($($name:ident,)*) => {
        #[cfg(feature = "nats")]
        mod on_nats {
            use super::*;

            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                super::$name(Real::new(Engine::nats(), HOUR).await).await;
            })*
        }

        #[cfg(feature = "redis")]
        mod on_redis {
            use super::*;

            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                super::$name(Real::new(Engine::redis(), HOUR).await).await;
            })*
        }
    };
}

on_both! {
    while_the_engine_is_dead_nothing_is_known_and_then_all_is_there_again,
    while_the_engine_is_frozen_nothing_is_known_and_then_the_record_says_what_was_done,
    an_engine_that_has_lost_all_keeps_records_again_and_no_old_revision_fits,
}

/// Nothing is waited for any longer.
const SOON: Duration = Duration::from_secs(3);

/// What all operations say, none of which takes long.
async fn all_are_unavailable(real: &Real, revision: u64) {
    let began = clock::now();
    let (store, other) = (&real.store, KEY.replace('0', "1"));
    let (got, made, changed, removed) = tokio::join!(
        store.get(KEY),
        store.create(KEY, value("no")),
        store.replace(KEY, revision, value("perhaps")),
        // Of another record: whether this one is changed is not known.
        store.remove(&other, revision),
    );
    let took = began.elapsed();
    assert_eq!(got, Err(StoreError::Unavailable));
    assert_eq!(made, Err(StoreError::Unavailable));
    assert_eq!(changed, Err(StoreError::Unavailable));
    assert_eq!(removed, Err(StoreError::Unavailable));
    assert!(took < SOON, "{took:?}");
}

/// The record, as soon as the engine answers again.
async fn again(real: &Real) -> Option<Entry> {
    until("it works again", async || match real.store.get(KEY).await {
        Ok(entry) => Some(entry),
        Err(StoreError::Unavailable) => None,
        Err(error) => panic!("{error}"),
    })
    .await
}

async fn while_the_engine_is_dead_nothing_is_known_and_then_all_is_there_again(mut real: Real) {
    let revision = real.store.create(KEY, value("one")).await.unwrap().unwrap();
    real.engine.kill();
    all_are_unavailable(&real, revision).await;
    // It is known to be gone by now.
    let began = clock::now();
    assert_eq!(real.store.get(KEY).await, Err(StoreError::Unavailable));
    assert!(began.elapsed() < Duration::from_millis(500), "{:?}", began.elapsed());
    real.engine.start();
    assert_eq!(again(&real).await, Some(Entry { value: value("one"), revision }));
    assert!(real.store.replace(KEY, revision, value("two")).await.unwrap().is_some());
}

async fn while_the_engine_is_frozen_nothing_is_known_and_then_the_record_says_what_was_done(real: Real) {
    let revision = real.store.create(KEY, value("one")).await.unwrap().unwrap();
    real.engine.freeze();
    all_are_unavailable(&real, revision).await;
    real.engine.thaw();
    let entry = again(&real).await.unwrap();
    // Either is right, and nothing else.
    assert!([value("one"), value("perhaps")].contains(&entry.value), "{entry:?}");
    assert_eq!(entry.value == value("one"), entry.revision == revision);
    // A change that is late finds another revision now, or this one does.
    let changed = real.store.replace(KEY, entry.revision, value("two")).await.unwrap();
    let last = real.store.get(KEY).await.unwrap().unwrap();
    assert_eq!(changed.is_some(), last.value == value("two"), "{last:?}");
}

async fn an_engine_that_has_lost_all_keeps_records_again_and_no_old_revision_fits(mut real: Real) {
    let mut old = vec![real.store.create(KEY, value("one")).await.unwrap().unwrap()];
    for _ in 0..3 {
        let last = old.last().copied().unwrap();
        old.push(real.store.replace(KEY, last, value("one")).await.unwrap().unwrap());
    }
    real.engine.restart_empty();
    assert_eq!(again(&real).await, None);
    let mut last = real.store.create(KEY, value("two")).await.unwrap().unwrap();
    for _ in 0..5 {
        assert!(!old.contains(&last));
        last = real.store.replace(KEY, last, value("two")).await.unwrap().unwrap();
    }
}

/// Why the records in the engine of this URL are refused.
async fn refused(url: &str) -> String {
    match open(url, HOUR).await {
        Err(StoreError::Refused(why)) => why,
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("not refused"),
    }
}

#[cfg(feature = "nats")]
mod nats {
    use std::{fs, path::Path};

    use super::*;

    /// What the server says of the bucket.
    async fn bucket(url: &str) -> serde_json::Value {
        let client = async_nats::connect(url).await.unwrap();
        let info = client.request("$JS.API.STREAM.INFO.KV_mcp-sse-test", "".into()).await.unwrap();
        serde_json::from_slice(&info.payload).unwrap()
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn without_jetstream_it_is_said_how_to_have_it() {
        let engine = Engine::plain_nats();
        let began = clock::now();
        let why = refused(&engine.url()).await;
        assert!(why.contains("JetStream is off") && why.contains("nats-server with --jetstream"), "{why}");
        assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn an_account_without_jetstream_is_told_so() {
        let file = Path::new(&std::env::temp_dir()).join(format!("mcp-sse-{}-accounts", std::process::id()));
        fs::write(&file, "accounts { B: { users: [ { user: b, password: b } ] } }").unwrap();
        let engine = Engine::nats_with(&["-c", file.to_str().unwrap()]);
        let why = refused(&engine.url_with("b:b@")).await;
        assert!(why.contains("enable JetStream for the account"), "{why}");
        fs::remove_file(file).unwrap();
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_user_without_permission_is_told_which_it_needs_and_those_will_do() {
        let file = Path::new(&std::env::temp_dir()).join(format!("mcp-sse-{}-users", std::process::id()));
        let (bucket, cluster) = ("mcp-sse-test", r#""mcp-sse.>""#);
        let reads = format!(
            r#""$JS.API.STREAM.INFO.KV_{bucket}", "$JS.API.STREAM.CREATE.KV_{bucket}", "$JS.API.DIRECT.GET.KV_{bucket}.>""#
        );
        let user = |name: &str, publish: &str, subscribe: &str| {
            format!(
                "{{ user: {name}, password: {name}, permissions: {{ publish: [{publish}], subscribe: [{subscribe}] }} }}\n"
            )
        };
        let users = [
            user("none", cluster, cluster),
            user("reads", &format!("{cluster}, {reads}"), cluster),
            user("deaf", &format!("{cluster}, {reads}"), r#""mcp-sse.other.>""#),
            user("enough", &format!(r#"{cluster}, {reads}, "$KV.{bucket}.>""#), cluster),
        ];
        fs::write(&file, format!("authorization {{ users: [\n{}] }}", users.concat())).unwrap();
        let engine = Engine::nats_with(&["-c", file.to_str().unwrap()]);
        for name in ["none", "reads", "deaf"] {
            let began = clock::now();
            let why = refused(&engine.url_with(&format!("{name}:{name}@"))).await;
            for subject in ["mcp-sse.>", "$JS.API.>", "$KV.mcp-sse-test.>", "Permissions Violation"] {
                assert!(why.contains(subject), "{name}: {why}");
            }
            assert!(began.elapsed() < SOON, "{name}: {:?}", began.elapsed());
        }
        let store = open(&engine.url_with("enough:enough@"), HOUR).await.unwrap();
        let revision = store.create(KEY, value("one")).await.unwrap().unwrap();
        let revision = store.replace(KEY, revision, value("two")).await.unwrap().unwrap();
        assert!(store.get(KEY).await.unwrap().is_some());
        assert!(store.remove(KEY, revision).await.unwrap());
        fs::remove_file(file).unwrap();
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_bucket_that_is_there_is_used_as_it_is() {
        let real = Real::new(Engine::nats(), HOUR).await;
        let revision = real.store.create(KEY, value("one")).await.unwrap().unwrap();
        let other = open(&real.engine.url(), HOUR * 2).await.unwrap();
        assert_eq!(other.get(KEY).await, Ok(Some(Entry { value: value("one"), revision })));
        let config = &bucket(&real.engine.url()).await["config"];
        assert_eq!(config["max_age"], 3_600_000_000_000_u64, "{config}");
        let limits = [("max_msgs_per_subject", 1), ("max_msg_size", 131_072), ("num_replicas", 1)];
        for (name, limit) in limits {
            assert_eq!(config[name], limit, "{config}");
        }
        assert_eq!(config["storage"], "file", "{config}");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn many_replicas_may_make_the_bucket_at_once() {
        let engine = Engine::nats();
        let url = engine.url();
        let all = futures_util::future::join_all((1..=8).map(|hours| open(&url, HOUR * hours))).await;
        let all: Vec<_> = all.into_iter().map(Result::unwrap).collect();
        let revision = all[0].create(KEY, value("one")).await.unwrap().unwrap();
        for store in all {
            assert_eq!(store.get(KEY).await.unwrap().unwrap().revision, revision);
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn of_what_was_removed_nothing_stays() {
        let real = Real::new(Engine::nats(), Duration::from_secs(1)).await;
        for number in 0..10 {
            let key = KEY.replace('0', &number.to_string());
            let revision = real.store.create(&key, value("one")).await.unwrap().unwrap();
            assert!(real.store.remove(&key, revision).await.unwrap());
        }
        let url = real.engine.url();
        until("all marks expire", async || (bucket(&url).await["state"]["messages"] == 0).then_some(()))
            .await;
    }
}

#[cfg(feature = "redis")]
mod redis {
    use std::sync::Arc;

    use ::redis::{Value, aio::MultiplexedConnection, cmd};

    use super::*;

    async fn connection(engine: &Engine) -> MultiplexedConnection {
        let client = ::redis::Client::open(engine.url()).unwrap();
        client.get_multiplexed_async_connection().await.unwrap()
    }

    /// Says something to the server, in words.
    async fn say(connection: &mut MultiplexedConnection, words: &str) -> Value {
        let mut words = words.split(' ');
        let mut command = cmd(words.next().unwrap());
        command.arg(words.collect::<Vec<_>>());
        command.query_async(connection).await.unwrap()
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_user_without_permission_is_told_which_it_needs_and_those_will_do() {
        const USER: &str = "on >p resetchannels &mcp-sse:* -@all +hello +publish +subscribe +unsubscribe";
        let engine = Engine::redis();
        let mut connection = connection(&engine).await;
        let users = [
            ("none", ""),
            ("keys", " ~mcp-sse:test:session:*"),
            ("commands", " ~other:* +get +set +del +eval"),
            ("less", " ~mcp-sse:test:session:* +get +set +eval"),
        ];
        for (name, more) in users {
            say(&mut connection, &format!("ACL SETUSER {name} {USER}{more}")).await;
            let why = refused(&engine.url_with(&format!("{name}:p@"))).await;
            let needed = "~mcp-sse:test:session:* +get +set +del +eval";
            assert!(why.contains(needed), "{name}: {why}");
            say(&mut connection, &format!("ACL SETUSER {name} {needed}")).await;
            let store = open(&engine.url_with(&format!("{name}:p@")), HOUR).await.unwrap();
            let revision = store.create(name, value("one")).await.unwrap().unwrap();
            let revision = store.replace(name, revision, value("two")).await.unwrap().unwrap();
            assert!(store.get(name).await.unwrap().is_some());
            assert!(store.remove(name, revision).await.unwrap());
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn every_write_sets_the_time_until_a_record_expires() {
        let real = Real::new(Engine::redis(), HOUR).await;
        let mut connection = connection(&real.engine).await;
        let key = format!("mcp-sse:test:session:{KEY}");
        let is_an_hour = |left: &Value| matches!(left, Value::Int(3_590_000..=3_600_000));
        let revision = real.store.create(KEY, value("one")).await.unwrap().unwrap();
        let left = say(&mut connection, &format!("PTTL {key}")).await;
        assert!(is_an_hour(&left), "{left:?}");
        say(&mut connection, &format!("PERSIST {key}")).await;
        real.store.replace(KEY, revision, value("two")).await.unwrap().unwrap();
        let left = say(&mut connection, &format!("PTTL {key}")).await;
        assert!(is_an_hour(&left), "{left:?}");
        // Nothing else is there.
        assert_eq!(say(&mut connection, "DBSIZE").await, Value::Int(1));
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_is_no_record_is_refused_and_left_alone() {
        let real = Real::new(Engine::redis(), HOUR).await;
        let mut connection = connection(&real.engine).await;
        let store = Arc::clone(&real.store);
        say(&mut connection, "SET mcp-sse:test:session:text short").await;
        say(&mut connection, "LPUSH mcp-sse:test:session:list x").await;
        for key in ["text", "list"] {
            assert!(matches!(store.get(key).await, Err(StoreError::Refused(_))), "{key}");
            assert_eq!(store.create(key, value("one")).await, Ok(None));
        }
        assert_eq!(store.remove("text", 1).await, Ok(false));
        let StoreError::Refused(why) = store.remove("list", 1).await.unwrap_err() else { panic!() };
        assert!(why.contains("WRONGTYPE"), "{why}");
        assert_eq!(say(&mut connection, "DBSIZE").await, Value::Int(2));
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_full_server_says_so() {
        let real = Real::new(Engine::redis(), HOUR).await;
        let mut connection = connection(&real.engine).await;
        let revision = real.store.create(KEY, value("one")).await.unwrap().unwrap();
        say(&mut connection, "CONFIG SET maxmemory 1").await;
        let StoreError::Refused(why) = real.store.replace(KEY, revision, value("two")).await.unwrap_err()
        else {
            panic!()
        };
        assert!(why.contains("OOM"), "{why}");
        assert_eq!(real.store.get(KEY).await, Ok(Some(Entry { value: value("one"), revision })));
    }
}
