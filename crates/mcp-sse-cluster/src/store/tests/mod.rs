//! What all stores promise (`contract`), each of them against its real engine, and the simulated one; and what becomes of
//! them when the engine is not what it should be (`faults`).

#![allow(clippy::panic, reason = "a helper that fails is a test that fails")]

mod contract;
#[cfg(any(feature = "nats", feature = "redis"))]
mod faults;

use std::time::Duration;

use bytes::Bytes;
use tokio::time::sleep;

use crate::clock;

const KEY: &str = "0f1e2d3c4b5a69788796a5b4c3d2e1f00123456789abcdef0123456789abcdef";
const HOUR: Duration = Duration::from_secs(3_600);

fn value(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

/// Looks again and again until there is something; for 10 s.
async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = clock::now() + Duration::from_secs(10);
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(clock::now() < deadline, "{what}: not within 10 s");
        sleep(Duration::from_millis(20)).await;
    }
}

/// A real engine, and the records there.
#[cfg(any(feature = "nats", feature = "redis"))]
mod real {
    use std::{sync::Arc, time::Duration};

    use crate::{
        connect_options::ConnectOptions,
        engine::Engine,
        engines,
        store::{Store, StoreError},
    };

    pub(super) struct Real {
        pub(super) engine: engines::Engine,
        pub(super) store: Arc<dyn Store>,
    }

    impl Real {
        pub(super) async fn new(engine: engines::Engine, expiry: Duration) -> Self {
            let store = open(&engine.url(), expiry).await.unwrap();
            Self { engine, store }
        }
    }

    /// The records in the engine of this URL.
    pub(super) async fn open(url: &str, expiry: Duration) -> Result<Arc<dyn Store>, StoreError> {
        let engine = Engine::connect(url, &ConnectOptions::new()).await.unwrap();
        engine.0.store("test", expiry).await
    }
}
