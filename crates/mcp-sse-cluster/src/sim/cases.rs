//! Single cases: two replicas, and one thing that goes wrong.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use mcp_sse::{Backplane as _, Body, Forwarded, Host, NotForwarded, ReplicaId};
use tokio::time::sleep;

use super::engine::{Engine, Wire};
use crate::{carrier::BoxFuture, clock, cluster::Cluster, core::others::GONE_AFTER};

/// A replica that counts what it is asked.
struct Replica {
    id: ReplicaId,
    cluster: Cluster,
    counts: Arc<Counts>,
}

#[derive(Default)]
struct Counts(AtomicUsize);

impl Host for Counts {
    fn answer(&self, _: Request<Bytes>) -> BoxFuture<'_, Response<Body>> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Box::pin(std::future::ready(Response::new(Body::from("taken"))))
    }
}

async fn replica(engine: &Engine, name: &str) -> Replica {
    let id = ReplicaId::new(name).unwrap();
    let cluster = Cluster::join(id.clone(), "cases", engine.carrier(&id), None).await.unwrap();
    let counts = Arc::new(Counts::default());
    let host: Arc<dyn Host> = Arc::clone(&counts) as Arc<dyn Host>;
    cluster.bind("counts", Arc::downgrade(&host));
    Replica { id, cluster, counts }
}

impl Replica {
    /// Asks another one, and how long that has taken.
    async fn asks(&self, other: &Self) -> (Result<(), NotForwarded>, Duration) {
        let mut request = Request::post("/").body(Bytes::from_static(b"message")).unwrap();
        request.extensions_mut().insert(Forwarded::default());
        let began = clock::now();
        let answered = self.cluster.forward(&other.id, "counts", request).await;
        (answered.map(drop), began.elapsed())
    }

    fn taken(&self) -> usize {
        self.counts.0.load(Ordering::Relaxed)
    }
}

const BRIEF: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn a_message_waits_for_a_link_that_is_back_soon() {
    let engine = Engine::good();
    let [a, b] = [replica(&engine, "a").await, replica(&engine, "b").await];
    // The one's own link, and the other's.
    for cut in [&a, &b] {
        sleep(Duration::from_secs(10)).await;
        let before = b.taken();
        engine.set_link(cut.id.as_str(), Wire::Cut);
        let (answered, ()) = tokio::join!(a.asks(&b), async {
            sleep(BRIEF).await;
            engine.set_link(cut.id.as_str(), Wire::Good);
        });
        assert_eq!(answered.0, Ok(()));
        assert!(answered.1 >= BRIEF && answered.1 < 2 * BRIEF, "{:?}", answered.1);
        assert_eq!(b.taken() - before, 1);
    }
}

#[tokio::test(start_paused = true)]
async fn and_not_for_one_that_is_down_for_long() {
    let engine = Engine::good();
    let [a, b] = [replica(&engine, "a").await, replica(&engine, "b").await];
    sleep(Duration::from_secs(10)).await;
    engine.set_link(a.id.as_str(), Wire::Cut);
    let (answered, took) = a.asks(&b).await;
    assert_eq!(answered, Err(NotForwarded::Unavailable));
    assert!(took >= 3 * BRIEF && took < 4 * BRIEF, "{took:?}");
    let (answered, took) = a.asks(&b).await;
    assert_eq!((answered, took), (Err(NotForwarded::Unavailable), Duration::ZERO));
    // A short time up is enough for another wait.
    engine.set_link(a.id.as_str(), Wire::Good);
    sleep(Duration::from_secs(5)).await;
    engine.set_link(a.id.as_str(), Wire::Cut);
    assert!(a.asks(&b).await.1 >= 3 * BRIEF);
    assert_eq!(b.taken(), 0);
}

#[tokio::test(start_paused = true)]
async fn nothing_of_a_message_is_sent_to_one_that_counts_as_lost() {
    let engine = Engine::good();
    let [a, b] = [replica(&engine, "a").await, replica(&engine, "b").await];
    sleep(Duration::from_secs(10)).await;
    // What it hears it takes; nobody hears it.
    engine.set_link(b.id.as_str(), Wire::Mute);
    sleep(GONE_AFTER + Duration::from_secs(5)).await;
    let (answered, took) = a.asks(&b).await;
    assert_eq!(answered, Err(NotForwarded::Gone));
    assert!(took < 2 * BRIEF, "{took:?}");
    sleep(Duration::from_secs(10)).await;
    assert_eq!(b.taken(), 0, "404 says that it has not got it");
    // It lives after all.
    engine.set_link(b.id.as_str(), Wire::Good);
    sleep(Duration::from_secs(5)).await;
    assert_eq!(a.asks(&b).await.0, Ok(()));
    assert_eq!(b.taken(), 1);
}
