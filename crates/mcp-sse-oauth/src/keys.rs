//! The keys of an authorization server over time: fetched in the background, kept while they cannot be fetched.
//!
//! Invariants:
//! - One task fetches keys: every five minutes, and when somebody asks for one, but for that at most once in ten seconds.
//! - The grants of a key that is gone are suspended at once, and revoked when its sessions have had time to show others.

use std::{
    collections::{HashMap, VecDeque},
    net::IpAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use tokio::{
    runtime::Handle,
    sync::{Notify, Semaphore, watch},
    task::JoinHandle,
    time::{Instant, sleep_until, timeout},
};

use crate::{
    clock,
    key::{Algorithm, Key},
    key_set::{Found, KeySet},
    schedule::{COOLDOWN, Schedule},
    source::{self, Fetched, Source},
};

/// How many requests may wait for keys at once, and how many of one address.
const WAITING: usize = 1024;
const WAITING_OF_ADDRESS: usize = 32;
/// How long a request waits for keys: for the next attempt, or for as long as that may take.
const PATIENCE: Duration = Duration::from_secs(15);
/// How many ids are remembered that were not in the set when it was fetched.
const ABSENT: usize = 64;
/// How long metadata that names the place of the keys is used again.
const FRESH: Duration = Duration::from_secs(60);
/// How many keys are remembered that are gone; more are revoked before their time.
const WITHDRAWN: usize = 256;

pub(crate) struct Keys {
    issuer: String,
    source: Option<Source>,
    /// Whether somebody wants the issuer's metadata.
    metadata_wanted: AtomicBool,
    /// How long sessions go on whose tokens were signed by a key that is gone.
    grace: Duration,
    state: Mutex<State>,
    /// The task has something to do.
    wake: Arc<Notify>,
    /// When the last attempt that is over began.
    attempted: watch::Sender<Option<Instant>>,
    waiting: Arc<Semaphore>,
    /// How many of each address wait. There is an entry only for those of which some do.
    waiting_of: Mutex<HashMap<IpAddr, usize>>,
    task: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Default)]
struct State {
    keys: Option<KeySet>,
    /// Those that do not count any more because they could not be fetched again.
    stale: Vec<Arc<Key>>,
    /// The issuer's metadata, and when it was fetched.
    found: Option<(Instant, source::Found)>,
    /// That there is none was said.
    missed: bool,
    schedule: Schedule,
    /// The last attempt failed.
    failing: bool,
    absent: VecDeque<(Option<String>, Algorithm)>,
    /// Keys that are gone, and when their grants are revoked.
    withdrawn: VecDeque<(Instant, Arc<Key>)>,
}

/// What is known of a key.
pub(crate) enum Lookup {
    /// It is one of these, of which there are few.
    Known(Vec<Arc<Key>>),
    /// There is none with this id.
    Unknown,
    /// The token names none, and too many could be meant.
    Ambiguous,
    /// It is not known now; it may be after so long.
    Unavailable(Duration),
    /// The keys are about to be fetched.
    Wait,
}

impl Keys {
    /// Keys that are fetched.
    pub(crate) fn fetched(issuer: &str, source: Source, grace: Duration) -> Arc<Self> {
        Arc::new(Self::new(issuer, Some(source), State::default(), grace))
    }

    /// Keys that are given.
    pub(crate) fn given(issuer: &str, keys: KeySet, grace: Duration) -> Arc<Self> {
        let state = State { keys: Some(keys), ..State::default() };
        Arc::new(Self::new(issuer, None, state, grace))
    }

    fn new(issuer: &str, source: Option<Source>, state: State, grace: Duration) -> Self {
        Self {
            issuer: issuer.to_owned(),
            source,
            metadata_wanted: AtomicBool::new(false),
            grace: grace.min(clock::FAR),
            state: Mutex::new(state),
            wake: Arc::default(),
            attempted: watch::Sender::new(None),
            waiting: Arc::new(Semaphore::new(WAITING)),
            waiting_of: Mutex::default(),
            task: Mutex::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn is_ready(&self) -> bool {
        self.lock().keys.is_some()
    }

    pub(crate) fn metadata(&self) -> Option<Bytes> {
        self.lock().found.as_ref().map(|(_, found)| found.document.clone())
    }

    pub(crate) fn want_metadata(&self) {
        self.metadata_wanted.store(true, Ordering::Release);
    }

    /// Starts the task, if there is one to start and a runtime to run it: the first time, or after its runtime has
    /// gone.
    pub(crate) fn start(self: &Arc<Self>) {
        let mut task = self.task.lock().unwrap_or_else(PoisonError::into_inner);
        if task.as_ref().is_none_or(JoinHandle::is_finished)
            && let Ok(runtime) = Handle::try_current()
        {
            *task = Some(runtime.spawn(run(Arc::downgrade(self))));
        }
    }

    /// Replaces the keys; returns how many are gone.
    pub(crate) fn replace(self: &Arc<Self>, keys: KeySet) -> usize {
        // For what is revoked later.
        self.start();
        self.adopt(self.lock(), keys)
    }

    /// Takes new keys. The grants of those that are gone are suspended, and revoked later; those of keys that have come
    /// back are resumed.
    fn adopt(&self, mut state: MutexGuard<'_, State>, mut keys: KeySet) -> usize {
        let stale = std::mem::take(&mut state.stale);
        let before = state.keys.take().map_or(stale, |keys| keys.keys().to_vec());
        let gone = keys.keep_from(&before);
        let withdrawn: Vec<_> = state.withdrawn.iter().map(|(_, key)| Arc::clone(key)).collect();
        keys.keep_from(&withdrawn);
        state.withdrawn.retain(|(_, key)| !keys.has(key));
        let at = clock::now() + self.grace;
        state.withdrawn.extend(gone.iter().map(|key| (at, Arc::clone(key))));
        let over = state.withdrawn.len().saturating_sub(WITHDRAWN);
        let too_many: Vec<_> = state.withdrawn.drain(..over).collect();
        let back = keys.keys().to_vec();
        state.keys = Some(keys);
        drop(state);
        // Without the lock: sessions end meanwhile.
        back.iter().for_each(|key| key.revocation.resume());
        gone.iter().for_each(|key| key.revocation.suspend());
        too_many.iter().for_each(|(_, key)| key.revocation.revoke());
        if !gone.is_empty() {
            self.wake.notify_one();
        }
        gone.len()
    }

    /// Somebody has a token that these keys have not signed: they may have changed. Nobody waits for that.
    pub(crate) fn doubt(&self) {
        if self.source.is_some() {
            self.lock().schedule.want();
            self.wake.notify_one();
        }
    }

    /// Looks for the key of a token.
    pub(crate) fn find(self: &Arc<Self>, id: Option<&str>, algorithm: Algorithm) -> Lookup {
        if self.source.is_some() {
            self.start();
        }
        self.look(id, algorithm, clock::now())
    }

    fn look(&self, id: Option<&str>, algorithm: Algorithm, now: Instant) -> Lookup {
        let mut state = self.lock();
        match state.keys.as_ref().map(|keys| keys.find(id, algorithm)) {
            Some(Found::Keys(keys)) => return Lookup::Known(keys),
            Some(Found::Ambiguous) => {
                state.schedule.want();
                self.wake.notify_one();
                return Lookup::Ambiguous;
            }
            Some(Found::Unknown) | None => {}
        }
        if self.source.is_none() {
            return Lookup::Unknown;
        }
        state.schedule.want();
        self.wake.notify_one();
        if state.failing {
            return Lookup::Unavailable(state.schedule.next(now).saturating_duration_since(now));
        }
        let is_absent = state.absent.iter().any(|(absent, of)| (absent.as_deref(), *of) == (id, algorithm));
        if is_absent && state.keys.is_some() { Lookup::Unknown } else { Lookup::Wait }
    }

    /// Waits until the keys were fetched, and looks again.
    pub(crate) async fn wait(
        self: Arc<Self>,
        id: Option<String>,
        algorithm: Algorithm,
        address: Option<IpAddr>,
    ) -> Lookup {
        let place = Arc::clone(&self.waiting).try_acquire_owned();
        let (Ok(_place), Some(_counted)) = (place, Waits::of(&self, address)) else {
            return Lookup::Unavailable(Duration::from_secs(1));
        };
        let asked = clock::now();
        let mut attempted = self.attempted.subscribe();
        let looked = timeout(PATIENCE, async {
            loop {
                // Before the look: what arrives in between is looked at.
                let last = *attempted.borrow_and_update();
                match self.find(id.as_deref(), algorithm) {
                    Lookup::Wait => {}
                    looked => return looked,
                }
                // An attempt that began before may have come too early for a new key.
                if last.is_some_and(|began| began >= asked) {
                    self.note_absent(id.clone(), algorithm);
                    return Lookup::Unknown;
                }
                if attempted.changed().await.is_err() {
                    return Lookup::Unavailable(COOLDOWN);
                }
            }
        });
        looked.await.unwrap_or(Lookup::Unavailable(COOLDOWN))
    }

    /// The next request for this key does not wait.
    fn note_absent(&self, id: Option<String>, algorithm: Algorithm) {
        const LONGEST: usize = 256;
        let absent = (id, algorithm);
        if absent.0.as_ref().is_some_and(|id| id.len() > LONGEST) {
            return;
        }
        let mut state = self.lock();
        if !state.absent.contains(&absent) {
            if state.absent.len() >= ABSENT {
                state.absent.pop_front();
            }
            state.absent.push_back(absent);
        }
    }

    /// Does what is due, and says when something is due next.
    fn on_time(&self, now: Instant) -> (bool, Instant) {
        let mut state = self.lock();
        let mut over = Vec::new();
        while let Some((at, _)) = state.withdrawn.front()
            && *at <= now
        {
            over.extend(state.withdrawn.pop_front().map(|(_, key)| key));
        }
        let stale_at = state.schedule.stale_at().filter(|_| state.keys.is_some());
        let mut stale = Vec::new();
        if stale_at.is_some_and(|at| at <= now)
            && let Some(keys) = state.keys.take()
        {
            stale = keys.keys().to_vec();
            state.stale.clone_from(&stale);
            tracing::error!(
                issuer = self.issuer,
                "the keys could not be fetched for an hour; requests are refused until they are"
            );
        }
        let fetches = self.source.as_ref().map(|_| state.schedule.next(now));
        let is_due = fetches.is_some_and(|at| at <= now);
        let next = fetches
            .into_iter()
            .chain(stale_at.filter(|at| *at > now))
            .chain(state.withdrawn.front().map(|(at, _)| *at))
            .min();
        drop(state);
        // Their sessions go on until their own time.
        stale.iter().for_each(|key| key.revocation.suspend());
        over.iter().for_each(|key| key.revocation.revoke());
        (is_due, next.unwrap_or(now + clock::FAR))
    }

    async fn fetch(&self, source: &Source) {
        let began = clock::now();
        let known = {
            let mut state = self.lock();
            state.schedule.begin(began);
            let is_fresh = |(at, _): &&(Instant, source::Found)| *at + FRESH > began;
            state.found.as_ref().filter(is_fresh).filter(|_| !state.failing).map(|(_, found)| found.clone())
        };
        let fetched = source.fetch(&self.issuer, known).await;
        self.arrived(fetched);
        self.attempted.send_replace(Some(began));
        // After the keys, which nobody should wait for because of this.
        if !source.discovers() && self.metadata_wanted.load(Ordering::Acquire) {
            let found = source.metadata(&self.issuer).await;
            let mut state = self.lock();
            match found {
                Ok(found) => state.found = Some((clock::now(), found)),
                Err(error) if !state.missed && state.found.is_none() => {
                    tracing::error!(
                        issuer = self.issuer,
                        "the metadata cannot be fetched, so it is not served: {error}"
                    );
                    state.missed = true;
                }
                Err(_) => {}
            }
        }
    }

    fn arrived(&self, fetched: Result<Fetched, String>) {
        let mut state = self.lock();
        let (was_failing, is_first) = (state.failing, state.keys.is_none());
        state.failing = fetched.is_err();
        match fetched {
            Ok(Fetched { keys, found }) => {
                let count = keys.len();
                state
                    .absent
                    .retain(|(id, algorithm)| matches!(keys.find(id.as_deref(), *algorithm), Found::Unknown));
                if let Some(found) = found {
                    state.found = Some((clock::now(), found));
                }
                state.schedule.succeeded();
                let gone = self.adopt(state, keys);
                if was_failing || is_first || gone > 0 {
                    tracing::info!(issuer = self.issuer, keys = count, gone, "keys fetched");
                }
            }
            // Said once, until it works again.
            Err(error) if !was_failing => {
                let until =
                    if is_first { "no token is accepted" } else { "those that are there count for an hour" };
                tracing::error!(
                    issuer = self.issuer,
                    "the keys cannot be fetched, which is tried again every 10 s; until then {until}: {error}"
                );
            }
            Err(error) => tracing::debug!(issuer = self.issuer, "the keys cannot be fetched: {error}"),
        }
    }
}

/// One request that waits, of those of its address.
struct Waits {
    keys: Arc<Keys>,
    address: Option<IpAddr>,
}

impl Waits {
    /// `None` if too many of the address wait already.
    fn of(keys: &Arc<Keys>, address: Option<IpAddr>) -> Option<Self> {
        if let Some(address) = address {
            let mut waiting = keys.waiting_of();
            let count = waiting.entry(address).or_default();
            if *count >= WAITING_OF_ADDRESS {
                return None;
            }
            *count += 1;
        }
        Some(Self { keys: Arc::clone(keys), address })
    }
}

impl Drop for Waits {
    fn drop(&mut self) {
        let Some(address) = self.address else { return };
        let mut waiting = self.keys.waiting_of();
        if let Some(count) = waiting.get_mut(&address) {
            *count -= 1;
            if *count == 0 {
                waiting.remove(&address);
            }
        }
    }
}

impl Keys {
    fn waiting_of(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.waiting_of.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        let task = self.task.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some(task) = task.take() {
            task.abort();
        }
    }
}

/// Fetches keys when that is due, for as long as somebody needs them.
async fn run(keys: Weak<Keys>) {
    loop {
        let Some(this) = keys.upgrade() else { return };
        let (is_due, next) = this.on_time(clock::now());
        match &this.source {
            Some(source) if is_due => this.fetch(source).await,
            _ => {
                // Nothing is held meanwhile, so that the last one who needs the keys ends this.
                let wake = Arc::clone(&this.wake);
                drop(this);
                tokio::select! {
                    () = sleep_until(next) => {}
                    () = wake.notified() => {}
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use mcp_sse::{Grant, Principal};

    use super::*;

    const ED: Algorithm = Algorithm::EdDsa;

    fn set(ids: &[&str]) -> KeySet {
        let keys: Vec<_> = ids
            .iter()
            .map(|id| {
                let x = crate::cache::hash(id.as_bytes());
                let x = base64::Engine::encode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, x);
                serde_json::json!({"kty": "OKP", "crv": "Ed25519", "kid": id, "x": x})
            })
            .collect();
        KeySet::parse(serde_json::json!({ "keys": keys }).to_string().as_bytes()).unwrap()
    }

    /// Keys whose attempts the test makes itself.
    fn keys() -> Arc<Keys> {
        // Fails if it is there already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let source = Source::Url(reqwest::Client::new(), "http://127.0.0.1:9/".to_owned());
        let keys = Keys::fetched("https://login.example", source, Duration::from_secs(300));
        // Instead of the task.
        *keys.task.lock().unwrap() = Some(tokio::spawn(std::future::pending()));
        keys
    }

    impl Keys {
        /// What the task does when an attempt is due; whether it was.
        fn attempt(&self, answer: Result<KeySet, &str>) -> bool {
            let began = clock::now();
            let (is_due, _) = self.on_time(began);
            if is_due {
                self.lock().schedule.begin(began);
                self.arrived(answer.map(|keys| Fetched { keys, found: None }).map_err(str::to_owned));
                self.attempted.send_replace(Some(began));
            }
            is_due
        }

        fn says(&self, id: &str) -> String {
            match self.look(Some(id), ED, clock::now()) {
                Lookup::Known(_) => "known".to_owned(),
                Lookup::Unknown => "unknown".to_owned(),
                Lookup::Ambiguous => "ambiguous".to_owned(),
                Lookup::Wait => "wait".to_owned(),
                Lookup::Unavailable(time) => format!("unavailable for {} s", time.as_secs()),
            }
        }
    }

    async fn pass(seconds: u64) {
        tokio::time::advance(Duration::from_secs(seconds)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_is_down_at_the_start_is_waited_for_once() {
        let keys = keys();
        assert!(!keys.is_ready());
        assert_eq!(keys.says("1"), "wait");
        assert!(keys.attempt(Err("down")));
        assert_eq!(keys.says("1"), "unavailable for 10 s");
        pass(9).await;
        assert!(!keys.attempt(Ok(set(&["1"]))), "too early");
        assert_eq!(keys.says("1"), "unavailable for 1 s");
        pass(1).await;
        assert!(keys.attempt(Ok(set(&["1"]))) && keys.is_ready());
        assert_eq!(keys.says("1"), "known");
    }

    #[tokio::test(start_paused = true)]
    async fn a_new_key_is_found_within_the_time_and_strangers_cannot_make_it_more_often() {
        let keys = keys();
        assert!(keys.attempt(Ok(set(&["1"]))));
        // The first to be asked for does not wait.
        assert_eq!(keys.says("0"), "wait");
        assert!(keys.attempt(Ok(set(&["0", "1"]))) && keys.says("0") == "known");
        pass(4).await;
        let ask = |id: &'static str| {
            let keys = Arc::clone(&keys);
            tokio::spawn(async move {
                let start = clock::now();
                let looked = keys.wait(Some(id.to_owned()), ED, None).await;
                (matches!(looked, Lookup::Known(_)), (clock::now() - start).as_secs())
            })
        };
        let (new, stranger) = (ask("2"), ask("junk"));
        tokio::task::yield_now().await;
        for _ in 0..100 {
            assert_eq!(keys.says("more junk"), "wait");
            assert!(!keys.attempt(Ok(set(&["1", "2"]))));
        }
        pass(6).await;
        assert!(keys.attempt(Ok(set(&["1", "2"]))));
        assert_eq!(new.await.unwrap(), (true, 6));
        assert_eq!(stranger.await.unwrap(), (false, 6));
        // It was looked for, so nobody waits for it again.
        assert_eq!((&*keys.says("junk"), &*keys.says("other junk")), ("unknown", "wait"));
        // But it is looked for.
        pass(10).await;
        assert!(keys.attempt(Ok(set(&["1", "junk"]))));
        assert_eq!((&*keys.says("junk"), &*keys.says("2")), ("known", "wait"));
    }

    #[tokio::test(start_paused = true)]
    async fn an_attempt_that_began_before_may_have_come_too_early() {
        let keys = keys();
        assert!(keys.on_time(clock::now()).0);
        keys.lock().schedule.begin(clock::now());
        let began = clock::now();
        pass(1).await;
        let waits = tokio::spawn(Arc::clone(&keys).wait(Some("2".to_owned()), ED, None));
        tokio::task::yield_now().await;
        keys.arrived(Ok(Fetched { keys: set(&["1"]), found: None }));
        keys.attempted.send_replace(Some(began));
        tokio::task::yield_now().await;
        pass(9).await;
        assert!(!waits.is_finished());
        assert!(keys.attempt(Ok(set(&["1", "2"]))));
        assert!(matches!(waits.await.unwrap(), Lookup::Known(_)));
    }

    #[tokio::test(start_paused = true)]
    async fn only_so_many_wait() {
        let keys = keys();
        let ask = || tokio::spawn(Arc::clone(&keys).wait(Some("1".to_owned()), ED, None));
        let waiting: Vec<_> = (0..WAITING).map(|_| ask()).collect();
        tokio::task::yield_now().await;
        assert!(matches!(ask().await.unwrap(), Lookup::Unavailable(_)));
        assert!(keys.attempt(Ok(set(&["1"]))));
        for waits in waiting {
            assert!(matches!(waits.await.unwrap(), Lookup::Known(_)));
        }
        pass(1).await;
        // Nobody waits for ever.
        let late = Arc::clone(&keys).wait(Some("2".to_owned()), ED, None).await;
        assert!(matches!(late, Lookup::Unavailable(_)));
    }

    #[tokio::test(start_paused = true)]
    async fn one_address_cannot_take_all_places() {
        let keys = keys();
        let ask = |last: u8| {
            let address = IpAddr::from([192, 0, 2, last]);
            tokio::spawn(Arc::clone(&keys).wait(Some("1".to_owned()), ED, Some(address)))
        };
        let waiting: Vec<_> = (0..WAITING_OF_ADDRESS).map(|_| ask(1)).collect();
        tokio::task::yield_now().await;
        assert!(matches!(ask(1).await.unwrap(), Lookup::Unavailable(_)));
        let other = ask(2);
        tokio::task::yield_now().await;
        assert!(keys.attempt(Ok(set(&["1"]))));
        for waits in waiting {
            assert!(matches!(waits.await.unwrap(), Lookup::Known(_)));
        }
        assert!(matches!(other.await.unwrap(), Lookup::Known(_)));
        assert!(keys.waiting_of().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_that_was_missing_once_comes_back_with_its_grants() {
        let keys = keys();
        assert!(keys.attempt(Ok(set(&["1", "2"]))));
        let Lookup::Known(found) = keys.look(Some("1"), ED, clock::now()) else { panic!("it is there") };
        let grant = Grant::new(Principal::new("alice")).revocable(&found[0].revocation);
        pass(300).await;
        assert!(keys.attempt(Ok(set(&["2"]))) && !grant.is_valid());
        keys.doubt();
        assert!(keys.attempt(Ok(set(&["1", "2"]))) && grant.is_valid());
        // What was to be revoked is not.
        pass(300).await;
        assert!(keys.attempt(Ok(set(&["1", "2"]))) && grant.is_valid());
    }

    #[tokio::test(start_paused = true)]
    async fn a_signature_that_does_not_fit_has_the_keys_fetched_and_nobody_waits() {
        let keys = keys();
        assert!(keys.attempt(Ok(set(&["1"]))));
        pass(1).await;
        assert!(!keys.attempt(Ok(set(&["1"]))));
        keys.doubt();
        assert!(keys.attempt(Ok(set(&["1"]))));
        for _ in 0..100 {
            keys.doubt();
            assert!(!keys.attempt(Ok(set(&["1"]))));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn keys_count_for_an_hour_while_they_cannot_be_fetched() {
        let keys = keys();
        assert!(keys.attempt(Ok(set(&["1"]))));
        let Lookup::Known(found) = keys.look(Some("1"), ED, clock::now()) else { panic!("it is there") };
        let key = Arc::clone(&found[0]);
        let grant = Grant::new(Principal::new("alice")).revocable(&key.revocation);
        for _ in 0..6 {
            pass(599).await;
            assert!(keys.attempt(Err("down")));
            assert!(keys.is_ready() && grant.is_valid());
            assert_eq!((&*keys.says("1"), &*keys.says("2")), ("known", "unavailable for 10 s"));
        }
        pass(10).await;
        assert!(keys.attempt(Err("down")));
        assert!(!keys.is_ready() && !grant.is_valid() && !key.revocation.is_revoked());
        assert_eq!(keys.says("1"), "unavailable for 10 s");
        pass(10).await;
        assert!(keys.attempt(Ok(set(&["1"]))) && keys.is_ready());
        assert_eq!(keys.says("1"), "known");
        assert!(grant.is_valid(), "it is the same key");
        // One that is missing after such a time is gone like any other.
        pass(300).await;
        for _ in 0..7 {
            pass(599).await;
            keys.attempt(Err("down"));
        }
        assert!(!keys.is_ready());
        assert!(
            keys.attempt(Ok(set(&["2"]))) || {
                pass(10).await;
                keys.attempt(Ok(set(&["2"])))
            }
        );
        pass(300).await;
        keys.on_time(clock::now());
        assert!(key.revocation.is_revoked());
    }

    #[tokio::test(start_paused = true)]
    async fn sessions_outlive_a_key_that_is_gone_by_the_grace_time() {
        let keys = keys();
        assert!(keys.attempt(Ok(set(&["1", "2"]))));
        let Lookup::Known(found) = keys.look(Some("1"), ED, clock::now()) else { panic!("it is there") };
        let key = Arc::clone(&found[0]);
        pass(300).await;
        assert!(keys.attempt(Ok(set(&["2"]))));
        let grant = Grant::new(Principal::new("alice")).revocable(&key.revocation);
        assert!(!grant.is_valid() && !key.revocation.is_revoked());
        // That is when the task has to look again.
        let (_, next) = keys.on_time(clock::now());
        assert!(next <= clock::now() + Duration::from_secs(300));
        pass(299).await;
        keys.on_time(clock::now());
        assert!(!key.revocation.is_revoked());
        pass(1).await;
        keys.on_time(clock::now());
        assert!(key.revocation.is_revoked());
    }

    #[tokio::test(start_paused = true)]
    async fn the_task_ends_with_the_last_who_needs_the_keys() {
        let keys = Keys::given("https://login.example", set(&["1"]), Duration::ZERO);
        assert!(matches!(keys.find(Some("1"), ED), Lookup::Known(_)));
        keys.start();
        tokio::task::yield_now().await;
        let alive = tokio::runtime::Handle::current().metrics().num_alive_tasks();
        drop(keys);
        tokio::task::yield_now().await;
        assert_eq!(tokio::runtime::Handle::current().metrics().num_alive_tasks(), alive - 1);
    }
}
