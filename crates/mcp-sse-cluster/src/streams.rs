//! Streams that other replicas read, chunk by chunk: at the host.
//!
//! A chunk is taken from the body when it is asked for, and kept until the next one is: asked for again, it is the same.
//! So nothing is lost or doubled on the way, and a reader that stops makes its host stop too.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use bytes::Bytes;
use http_body_util::BodyExt as _;
use mcp_sse::{Body, ReplicaId};
use tokio::{
    sync::{mpsc, oneshot},
    task::AbortHandle,
    time::{sleep, timeout},
};

use crate::wire::Said;

/// How many streams are read elsewhere at once.
pub(crate) const STREAMS: usize = if cfg!(test) { 64 } else { 4_096 };
/// How long a reader may say nothing, whose client may be slow. Then that counts as gone. Before the first chunk, nobody can
/// be slow yet.
const PATIENCE: Duration = Duration::from_secs(30);
const FIRST: Duration = Duration::from_secs(6);
/// How long a reader waits for a chunk before it hears that there is none.
pub(crate) const WAIT: Duration = Duration::from_millis(2_500);
/// The largest chunk.
const CHUNK: usize = if cfg!(test) { 100 } else { 64 * 1024 };
/// How often it is looked whether there are any left.
const LOOK: Duration = Duration::from_millis(100);
/// How many questions wait. A reader has one, and copies of it.
const ASKED: usize = 8;

type Key = (ReplicaId, u64);

#[derive(Debug, Default)]
pub(crate) struct Streams(Arc<Mutex<HashMap<Key, Reading>>>);

/// A stream that is read elsewhere.
#[derive(Debug)]
struct Reading {
    ask: mpsc::Sender<Pull>,
    task: AbortHandle,
}

#[derive(Debug)]
struct Pull {
    chunk: u64,
    reply: oneshot::Sender<Said>,
}

impl Streams {
    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Reading>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until all have been read, or nobody reads them any more.
    pub(crate) async fn emptied(&self) {
        while !self.lock().is_empty() {
            sleep(LOOK).await;
        }
    }

    /// Whether there is room for another one.
    pub(crate) fn has_room(&self) -> bool {
        self.lock().len() < STREAMS
    }

    /// Lets a replica read a body; whether there was room for it.
    pub(crate) fn open(&self, reader: &ReplicaId, call: u64, body: Body) -> bool {
        let key = (reader.clone(), call);
        let (ask, asked) = mpsc::channel(ASKED);
        let open = Open { streams: Arc::downgrade(&self.0), key: key.clone() };
        // The lock is held until the task is known, so that its end comes later.
        let mut streams = self.lock();
        if streams.len() >= STREAMS {
            return false;
        }
        let task = tokio::spawn(async move {
            run(body, asked).await;
            drop(open);
        });
        streams.insert(key, Reading { ask, task: task.abort_handle() });
        true
    }

    /// A chunk of a stream; the first one has the number 1.
    pub(crate) async fn pull(&self, reader: &ReplicaId, call: u64, chunk: u64) -> Said {
        let ask = self.lock().get(&(reader.clone(), call)).map(|reading| reading.ask.clone());
        let Some(ask) = ask else { return Said::Unknown };
        let (reply, said) = oneshot::channel();
        // It is asked again if there is no reply.
        if ask.try_send(Pull { chunk, reply }).is_err() {
            return Said::Nothing;
        }
        said.await.unwrap_or(Said::Unknown)
    }

    /// Nobody reads it any more.
    pub(crate) fn close(&self, reader: &ReplicaId, call: u64) {
        let reading = self.lock().remove(&(reader.clone(), call));
        if let Some(reading) = reading {
            reading.task.abort();
        }
    }
}

/// A stream that is open. Dropping it forgets it.
struct Open {
    streams: Weak<Mutex<HashMap<Key, Reading>>>,
    key: Key,
}

impl Drop for Open {
    fn drop(&mut self) {
        if let Some(streams) = self.streams.upgrade() {
            streams.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
        }
    }
}

/// Serves the chunks of a body until it has ended and nobody asks any more. Dropping the body detaches its session.
async fn run(mut body: Body, mut asked: mpsc::Receiver<Pull>) {
    let mut next = 1;
    let mut last: Option<Said> = None;
    let mut rest = Bytes::new();
    let mut patience = FIRST;
    while let Ok(Some(Pull { chunk, reply })) = timeout(patience, asked.recv()).await {
        patience = PATIENCE;
        if chunk.checked_add(1) == Some(next)
            && let Some(last) = &last
        {
            let _ = reply.send(last.again());
            continue;
        }
        if chunk != next {
            let _ = reply.send(Said::Unknown);
            continue;
        }
        if rest.is_empty() {
            match timeout(WAIT, data(&mut body)).await {
                Err(_) => {
                    let _ = reply.send(Said::Nothing);
                    continue;
                }
                Ok(Ok(Some(data))) => rest = data,
                Ok(ended) => {
                    next += 1;
                    let over = Said::Over { broken: ended.is_err() };
                    let _ = reply.send(over.again());
                    last = Some(over);
                    continue;
                }
            }
        }
        let said = Said::Chunk { number: chunk, bytes: rest.split_to(rest.len().min(CHUNK)) };
        next += 1;
        let _ = reply.send(said.again());
        last = Some(said);
    }
}

/// The next bytes of a body; `None` at its end.
async fn data(body: &mut Body) -> Result<Option<Bytes>, ()> {
    loop {
        match body.frame().await {
            None => return Ok(None),
            Some(Err(_)) => return Err(()),
            Some(Ok(frame)) => {
                if let Ok(data) = frame.into_data()
                    && !data.is_empty()
                {
                    return Ok(Some(data));
                }
            }
        }
    }
}

impl Said {
    /// The same once more.
    fn again(&self) -> Self {
        match self {
            Self::Chunk { number, bytes } => Self::Chunk { number: *number, bytes: bytes.clone() },
            Self::Over { broken } => Self::Over { broken: *broken },
            _ => Self::Nothing,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn so_many_are_read_and_no_more_until_one_has_ended() {
        let (streams, reader) = (Streams::default(), ReplicaId::new("a").unwrap());
        let open = |call| streams.open(&reader, call, Body::from("some text"));
        assert!((0..STREAMS as u64).all(open));
        assert!(!streams.has_room() && !open(9_999));
        assert!(matches!(streams.pull(&reader, 9_999, 1).await, Said::Unknown));
        streams.close(&reader, 7);
        assert!(matches!(streams.pull(&reader, 7, 1).await, Said::Unknown), "its reader has ended it");
        assert!(open(9_999) && !open(10_000));
    }

    #[tokio::test]
    async fn a_chunk_is_the_same_when_it_is_asked_for_again_and_one_before_it_is_gone() {
        let (streams, reader) = (Streams::default(), ReplicaId::new("a").unwrap());
        let text = "x".repeat(CHUNK + 1);
        assert!(streams.open(&reader, 1, Body::from(text)));
        let length = |said: &Said| match said {
            Said::Chunk { bytes, .. } => Some(bytes.len()),
            _ => None,
        };
        for _ in 0..3 {
            assert_eq!(length(&streams.pull(&reader, 1, 1).await), Some(CHUNK));
        }
        for _ in 0..3 {
            assert_eq!(length(&streams.pull(&reader, 1, 2).await), Some(1));
        }
        assert!(matches!(streams.pull(&reader, 1, 1).await, Said::Unknown));
        assert!(matches!(streams.pull(&reader, 1, 4).await, Said::Unknown), "nor one that is too far ahead");
        for _ in 0..2 {
            assert!(matches!(streams.pull(&reader, 1, 3).await, Said::Over { broken: false }));
        }
        let other = ReplicaId::new("b").unwrap();
        assert!(matches!(streams.pull(&other, 1, 3).await, Said::Unknown), "it is another's");
    }
}
