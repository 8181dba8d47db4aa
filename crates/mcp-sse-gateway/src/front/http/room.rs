//! Room for the bytes of a session's messages while they wait for its server.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

/// Bytes for all waiting messages of a session together; a larger message passes alone.
const BYTES: u32 = 1024 * 1024;
/// How long a message waits for room.
const PATIENCE: Duration = Duration::from_secs(5);

#[derive(Clone, Debug)]
pub(in crate::front) struct Room(Arc<Semaphore>);

impl Default for Room {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(BYTES as usize)))
    }
}

impl Room {
    /// Waits for room for this many bytes, in the order of the calls; `None` if there is none in time.
    pub(in crate::front) async fn take(self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX).min(BYTES);
        timeout(PATIENCE, self.0.acquire_many_owned(bytes)).await.ok()?.ok()
    }
}
