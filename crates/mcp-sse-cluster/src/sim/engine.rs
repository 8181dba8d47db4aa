//! An engine that does what it must not.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, Weak},
    time::Duration,
};

use bytes::Bytes;
use mcp_sse::ReplicaId;
use tokio::{
    sync::oneshot,
    time::{Instant, sleep, sleep_until, timeout},
};

use super::Random;
use crate::{
    carrier::{BoxFuture, Carrier, Handler, Link, NoReply},
    clock,
};

#[derive(Clone, Debug)]
pub(super) struct Engine(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    random: Random,
    /// In percent.
    loss: u64,
    doubles: u64,
    /// How late something may be.
    late: Duration,
    frozen_until: Option<Instant>,
    ends: BTreeMap<String, End>,
}

struct End {
    handler: Weak<dyn Handler>,
    link: Wire,
    since: Instant,
}

impl std::fmt::Debug for End {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", self.link)
    }
}

/// The link of a replica to the engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wire {
    Good,
    /// Broken, and everybody knows.
    Cut,
    /// Nothing goes through, and nobody knows.
    Hole,
    /// Nothing comes in.
    Deaf,
    /// Nothing goes out.
    Mute,
}

impl Engine {
    pub(super) fn new(mut random: Random) -> Self {
        // Some seeds have a good engine, so that what else happens shows.
        let rough = random.chance(70);
        let loss = if rough { random.below(15) } else { 0 };
        let doubles = if rough { random.below(15) } else { 0 };
        let late = Duration::from_millis(if rough { 1 << random.below(12) } else { 1 });
        let state = State { random, loss, doubles, late, frozen_until: None, ends: BTreeMap::new() };
        Self(Arc::new(Mutex::new(state)))
    }

    /// One that does what it should.
    pub(super) fn good() -> Self {
        let engine = Self::new(Random::new(0));
        engine.heal();
        engine
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("no panic")
    }

    pub(super) fn carrier(&self, me: &ReplicaId) -> Arc<dyn Carrier> {
        Arc::new(At { engine: self.clone(), me: me.to_string() })
    }

    pub(super) fn freeze(&self, time: Duration) {
        self.lock().frozen_until = Some(clock::now() + time);
    }

    pub(super) fn set_link(&self, replica: &str, link: Wire) {
        if let Some(end) = self.lock().ends.get_mut(replica) {
            (end.link, end.since) = (link, clock::now());
        }
    }

    /// The replica is dead.
    pub(super) fn forget(&self, replica: &str) {
        self.lock().ends.remove(replica);
    }

    /// From now on nothing goes wrong.
    pub(super) fn heal(&self) {
        let mut state = self.lock();
        (state.loss, state.doubles, state.late, state.frozen_until) = (0, 0, Duration::from_millis(1), None);
        for end in state.ends.values_mut() {
            if end.link != Wire::Good {
                (end.link, end.since) = (Wire::Good, clock::now());
            }
        }
    }
}

impl State {
    /// When something arrives that is sent now; `None`: never.
    fn arrives(&mut self) -> Option<Instant> {
        let loss = self.loss;
        if self.random.chance(loss) {
            return None;
        }
        let late = self.random.below(self.late.as_micros() as u64 + 1);
        let now = clock::now();
        let from = self.frozen_until.map_or(now, |until| until.max(now));
        Some(from + Duration::from_micros(late + 100))
    }

    fn link(&self, replica: &str) -> Option<Wire> {
        self.ends.get(replica).map(|end| end.link)
    }
}

/// The engine as one replica has it.
struct At {
    engine: Engine,
    me: String,
}

impl Carrier for At {
    fn name(&self) -> &'static str {
        "simulation"
    }

    fn link(&self) -> Link {
        let state = self.engine.lock();
        match state.ends.get(&self.me) {
            Some(End { link: Wire::Good | Wire::Hole | Wire::Deaf | Wire::Mute, since, .. }) => {
                Link::Up(*since)
            }
            _ => Link::Down,
        }
    }

    fn call<'a>(
        &'a self,
        to: &'a ReplicaId,
        bytes: Bytes,
        within: Duration,
    ) -> BoxFuture<'a, Result<Bytes, NoReply>> {
        let (reply, replied) = oneshot::channel();
        let reply = Arc::new(Mutex::new(Some(reply)));
        {
            let mut state = self.engine.lock();
            match state.link(&self.me) {
                Some(Wire::Good | Wire::Deaf) => {}
                Some(Wire::Hole | Wire::Mute) => {
                    drop(state);
                    return Box::pin(async move {
                        let _reply = reply;
                        sleep(within).await;
                        Err(NoReply::Silence)
                    });
                }
                Some(Wire::Cut) | None => return Box::pin(async { Err(NoReply::NotSent) }),
            }
            let is_frozen = state.frozen_until.is_some_and(|until| clock::now() < until);
            let is_there = state.link(to.as_str()).is_some_and(|link| link != Wire::Cut);
            if !is_there && !is_frozen {
                return Box::pin(async {
                    sleep(Duration::from_millis(1)).await;
                    Err(NoReply::Nobody)
                });
            }
            let doubles = state.doubles;
            let copies = if state.random.chance(doubles) { 2 } else { 1 };
            for _ in 0..copies {
                let Some(at) = state.arrives() else { continue };
                let (engine, me, to) = (self.engine.clone(), self.me.clone(), to.to_string());
                let (bytes, reply) = (bytes.clone(), Arc::clone(&reply));
                tokio::spawn(async move {
                    sleep_until(at).await;
                    let handler = match engine.lock().ends.get(&to) {
                        Some(End { link: Wire::Good | Wire::Mute, handler, .. }) => handler.upgrade(),
                        _ => None,
                    };
                    let Some(handler) = handler else { return };
                    let Some(said) = handler.called(bytes).await else { return };
                    let back = {
                        let mut state = engine.lock();
                        // Its link may be broken by now.
                        let is_sent = matches!(state.link(&to), Some(Wire::Good | Wire::Deaf));
                        state.arrives().filter(|_| is_sent)
                    };
                    let Some(back) = back else { return };
                    sleep_until(back).await;
                    if engine.lock().link(&me) == Some(Wire::Good)
                        && let Some(reply) = reply.lock().expect("no panic").take()
                    {
                        let _ = reply.send(said);
                    }
                });
            }
        }
        Box::pin(async move {
            let _reply = reply;
            match timeout(within, replied).await {
                Ok(Ok(said)) => Ok(said),
                Ok(Err(_)) | Err(_) => Err(NoReply::Silence),
            }
        })
    }

    fn announce(&self, bytes: Bytes) -> BoxFuture<'_, ()> {
        let mut state = self.engine.lock();
        if matches!(state.link(&self.me), Some(Wire::Good | Wire::Deaf)) {
            let all: Vec<String> = state.ends.keys().cloned().collect();
            for to in all {
                let Some(at) = state.arrives() else { continue };
                let (engine, bytes) = (self.engine.clone(), bytes.clone());
                tokio::spawn(async move {
                    sleep_until(at).await;
                    let handler = match engine.lock().ends.get(&to) {
                        Some(End { link: Wire::Good | Wire::Mute, handler, .. }) => handler.upgrade(),
                        _ => None,
                    };
                    if let Some(handler) = handler {
                        handler.announced(bytes);
                    }
                });
            }
        }
        Box::pin(async {})
    }

    fn serve(&self, me: &ReplicaId, handler: Weak<dyn Handler>) -> BoxFuture<'_, Result<(), String>> {
        let end = End { handler, link: Wire::Good, since: clock::now() };
        self.engine.lock().ends.insert(me.to_string(), end);
        Box::pin(async { Ok(()) })
    }

    fn leave(&self) -> BoxFuture<'_, ()> {
        self.engine.forget(&self.me);
        Box::pin(async {})
    }
}
