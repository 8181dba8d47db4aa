//! Three replicas, the clients, and what goes wrong.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use mcp_sse::{Message, MessageKind, ReplicaId, Session, SseServerTransport};
use tokio::{
    sync::Notify,
    time::{Instant, sleep},
};

use super::{
    Random,
    client::Client,
    engine::{Engine, Wire},
};
use crate::{clock, cluster::Cluster};

const REPLICAS: usize = 3;
const CLIENTS: u64 = 4;

#[derive(Clone)]
pub(super) struct World(Arc<Inner>);

struct Inner {
    began: Instant,
    seed: u64,
    engine: Engine,
    random: Mutex<Random>,
    replicas: Mutex<Vec<Option<Replica>>>,
    /// What each app has seen, by the text that its client sends along.
    seen: Mutex<BTreeMap<String, Vec<u64>>>,
    trace: Mutex<Vec<String>>,
}

#[derive(Clone)]
pub(super) struct Replica {
    pub(super) number: usize,
    id: String,
    pub(super) transport: SseServerTransport,
    pub(super) dead: Death,
}

/// Whether a replica is dead. Those who wait are woken in order, as they are not by tokio's `watch`.
#[derive(Clone, Default)]
pub(super) struct Death(Arc<(AtomicBool, Notify)>);

impl Death {
    fn comes(&self) {
        self.0.0.store(true, Ordering::Relaxed);
        self.0.1.notify_waiters();
    }

    pub(super) async fn waits(&self) {
        let (has_come, comes) = &*self.0;
        let comes = comes.notified();
        if !has_come.load(Ordering::Relaxed) {
            comes.await;
        }
    }
}

impl World {
    pub(super) fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let engine = Engine::new(Random::new(random.below(u64::MAX)));
        Self(Arc::new(Inner {
            began: clock::now(),
            seed,
            engine,
            random: Mutex::new(random),
            replicas: Mutex::new(vec![None; REPLICAS]),
            seen: Mutex::default(),
            trace: Mutex::default(),
        }))
    }

    pub(super) fn below(&self, bound: u64) -> u64 {
        self.0.random.lock().expect("no panic").below(bound)
    }

    pub(super) fn chance(&self, percent: u64) -> bool {
        self.below(100) < percent
    }

    pub(super) fn note(&self, line: &str) {
        let at = self.0.began.elapsed().as_millis();
        self.0.trace.lock().expect("no panic").push(format!("{at:>7} {line}"));
    }

    pub(super) fn seen(&self) -> MutexGuard<'_, BTreeMap<String, Vec<u64>>> {
        self.0.seen.lock().expect("no panic")
    }

    /// Fails, with all that has happened.
    pub(super) fn fail(&self, what: &str) -> ! {
        for line in self.0.trace.lock().expect("no panic").iter() {
            println!("{line}");
        }
        panic!("seed {}: {what}", self.0.seed)
    }

    pub(super) fn check(&self, holds: bool, what: impl FnOnce() -> String) {
        if !holds {
            self.fail(&what());
        }
    }

    /// A replica that lives.
    pub(super) fn any(&self) -> Replica {
        let replicas = self.0.replicas.lock().expect("no panic");
        let alive: Vec<&Replica> = replicas.iter().flatten().collect();
        let at = self.below(alive.len() as u64) as usize;
        alive[at].clone()
    }

    async fn start(&self, number: usize) {
        let me = ReplicaId::new(&format!("r{number}")).expect("a name");
        let carrier = self.0.engine.carrier(&me);
        let id = me.to_string();
        let cluster = Cluster::join(me, "sim", carrier, None).await.expect("it serves");
        let transport = SseServerTransport::builder("/messages/")
            .backplane(Arc::new(cluster))
            .build()
            .expect("good settings");
        let replica = Replica { number, id, transport, dead: Death::default() };
        self.0.replicas.lock().expect("no panic")[number] = Some(replica);
        self.note(&format!("r{number} is there"));
    }

    /// What answers the clients of a replica.
    pub(super) async fn app(self, mut session: Session, dead: Death) {
        loop {
            let incoming = tokio::select! {
                biased;
                () = dead.waits() => return,
                incoming = session.recv() => incoming,
            };
            let Some(incoming) = incoming else { return };
            let message = &incoming.message;
            if let MessageKind::Request { id, method } = message.kind()
                && &**method == "initialize"
            {
                let answer =
                    Message::parse(format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{}}}}"#)).expect("JSON");
                let _ = session.handle().send(answer).await;
                continue;
            }
            let text = |name| message.param(&[name]).map(|text| text.trim_matches('"').to_owned());
            let (Some(whose), Some(number)) = (text("whose"), text("number")) else { continue };
            self.seen().entry(whose.clone()).or_default().push(number.parse().expect("a number"));
            if let MessageKind::Request { id, .. } = message.kind() {
                let json = format!(
                    r#"{{"jsonrpc":"2.0","id":{id},"result":{{"whose":"{whose}","number":{number}}}}}"#
                );
                let answer = Message::parse(json).expect("JSON");
                let (handle, late) = (session.handle().clone(), self.below(300));
                tokio::spawn(async move {
                    sleep(Duration::from_millis(late)).await;
                    let _ = handle.send(answer).await;
                });
            }
        }
    }

    /// Something goes wrong, for a while.
    async fn mishap(&self) {
        let number = self.below(REPLICAS as u64) as usize;
        let replica = self.0.replicas.lock().expect("no panic")[number].clone();
        let time = Duration::from_millis(1 << self.below(15));
        let Some(replica) = replica else { return };
        match self.below(6) {
            0 => {
                self.note(&format!("the engine freezes for {time:?}"));
                self.0.engine.freeze(time);
            }
            wire @ 1..=3 => {
                let wire = [Wire::Cut, Wire::Hole, Wire::Deaf][wire as usize - 1];
                self.note(&format!("the link of r{number}: {wire:?} for {time:?}"));
                self.0.engine.set_link(&replica.id, wire);
                let world = self.clone();
                tokio::spawn(async move {
                    sleep(time).await;
                    world.0.engine.set_link(&replica.id, Wire::Good);
                });
            }
            _ => {
                let is_last = self.0.replicas.lock().expect("no panic").iter().flatten().count() < 2;
                if is_last {
                    return;
                }
                self.note(&format!("r{number} dies for {time:?}"));
                self.0.replicas.lock().expect("no panic")[number] = None;
                self.0.engine.forget(&replica.id);
                replica.dead.comes();
                drop(replica);
                sleep(time.min(Duration::from_secs(3))).await;
                self.start(number).await;
            }
        }
    }

    pub(super) async fn run(self) -> Vec<String> {
        for number in 0..REPLICAS {
            self.start(number).await;
        }
        // They have heard of each other, or not.
        sleep(Duration::from_millis(self.below(5_000))).await;
        let mut clients = Vec::new();
        for number in 0..CLIENTS {
            let world = self.clone();
            clients.push(tokio::spawn(async move {
                let mut client = Client::open(&world, number).await;
                for _ in 0..4 + world.below(8) {
                    client.step().await;
                }
                client
            }));
        }
        for _ in 0..self.below(5) {
            sleep(Duration::from_millis(self.below(4_000))).await;
            self.mishap().await;
        }
        let mut done = Vec::new();
        for client in clients {
            done.push(client.await.expect("no panic"));
        }
        self.0.engine.heal();
        self.note("all is well again");
        // What is late arrives, what is cut comes back, and what waits is over.
        sleep(Duration::from_secs(60)).await;
        for client in done {
            client.ends().await;
        }
        self.0.replicas.lock().expect("no panic").clear();
        std::mem::take(&mut self.0.trace.lock().expect("no panic"))
    }
}
