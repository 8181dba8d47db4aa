//! The requests of other replicas that came, so that none is acted on twice: an engine may deliver late, and more than
//! once.
//!
//! Invariants:
//! - A request is new once at most, whatever is forgotten: below the floor of its caller, nothing is.
//! - What is answered is answered with the same bytes again, as long as they are kept.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use bytes::Bytes;
use mcp_sse::ReplicaId;
use tokio::{sync::oneshot, time::Instant};

/// How many callers are remembered.
const CALLERS: usize = 256;
/// How many requests of one caller are.
const CALLS: usize = 4_096;
/// How many bytes of answers, of all.
const BYTES: usize = 16 * 1024 * 1024;
/// How many copies of one request wait for its answer.
const WAITING: usize = 8;
/// How long an answer is kept. Its caller asks again within seconds.
const KEPT: Duration = Duration::from_secs(30);
/// How long the body of one may take that crosses in parts.
const BEGUN: Duration = Duration::from_secs(10);

#[derive(Debug, Default)]
pub(crate) struct Seen {
    callers: HashMap<ReplicaId, Caller>,
    bytes: usize,
}

#[derive(Debug)]
struct Caller {
    calls: BTreeMap<u64, Call>,
    /// Those up to here are not acted on any more.
    floor: u64,
    /// When it has asked last.
    last: Instant,
}

#[derive(Debug)]
enum Call {
    /// Its body is on its way.
    Begun {
        at: Instant,
    },
    Working(Vec<oneshot::Sender<Bytes>>),
    Answered {
        reply: Bytes,
        at: Instant,
    },
}

/// What is known of a request that has come.
#[derive(Debug)]
pub(crate) enum Arrival {
    /// It is to be acted on.
    New,
    /// It is acted on; the answer will be the same.
    Working(oneshot::Receiver<Bytes>),
    /// It was answered.
    Again(Bytes),
    /// It may have been acted on, and will not be any more.
    Old,
    /// It cannot be acted on now.
    Full,
}

impl Seen {
    pub(crate) fn arrives(&mut self, from: &ReplicaId, call: u64, now: Instant) -> Arrival {
        if !self.callers.contains_key(from) {
            self.forget_callers();
            if self.callers.len() >= CALLERS {
                return Arrival::Full;
            }
        }
        let caller = self.callers.entry(from.clone()).or_insert_with(|| Caller {
            calls: BTreeMap::new(),
            floor: 0,
            last: now,
        });
        caller.last = now;
        match caller.calls.get_mut(&call) {
            Some(begun @ Call::Begun { .. }) => {
                *begun = Call::Working(Vec::new());
                return Arrival::New;
            }
            Some(known) => return known.again(),
            None => {}
        }
        if call <= caller.floor {
            return Arrival::Old;
        }
        self.bytes -= caller.forget_oldest(now);
        if caller.calls.len() >= CALLS {
            self.bytes -= caller.forget(CALLS - 1, now);
        }
        if caller.calls.len() >= CALLS {
            return Arrival::Full;
        }
        // What was forgotten may have raised the floor.
        if call <= caller.floor {
            return Arrival::Old;
        }
        caller.calls.insert(call, Call::Working(Vec::new()));
        Arrival::New
    }

    /// The body of a request will come; until then it is not forgotten. `false`: it is known already, or cannot be taken.
    pub(crate) fn begins(&mut self, from: &ReplicaId, call: u64, now: Instant) -> bool {
        match self.known(from, call) {
            Arrival::Old => {}
            Arrival::New => return true,
            _ => return false,
        }
        if !matches!(self.arrives(from, call, now), Arrival::New) {
            return false;
        }
        let known = self.callers.get_mut(from).and_then(|caller| caller.calls.get_mut(&call));
        known.map(|known| *known = Call::Begun { at: now }).is_some()
    }

    /// What is known of a request that was taken before, if it was.
    pub(crate) fn known(&mut self, from: &ReplicaId, call: u64) -> Arrival {
        let known = self.callers.get_mut(from).and_then(|caller| caller.calls.get_mut(&call));
        known.map_or(Arrival::Old, Call::again)
    }

    /// A request that was new has its answer.
    pub(crate) fn answered(&mut self, from: &ReplicaId, call: u64, reply: &Bytes, now: Instant) {
        let Some(caller) = self.callers.get_mut(from) else { return };
        if let Some(known) = caller.calls.get_mut(&call)
            && let Call::Working(waiting) = known
        {
            for waiting in std::mem::take(waiting) {
                let _ = waiting.send(reply.clone());
            }
            *known = Call::Answered { reply: reply.clone(), at: now };
            self.bytes += reply.len();
        }
        if self.bytes > BYTES {
            for caller in self.callers.values_mut() {
                // The oldest half of each.
                self.bytes -= caller.forget(caller.calls.len() / 2, now);
            }
        }
    }

    /// Makes room for another caller: that of one that works on nothing, and has asked longest ago.
    fn forget_callers(&mut self) {
        while self.callers.len() >= CALLERS {
            let idle = self.callers.iter().filter(|(_, caller)| caller.is_idle());
            let Some(oldest) = idle.min_by_key(|(_, caller)| caller.last).map(|(id, _)| id.clone()) else {
                return;
            };
            if let Some(caller) = self.callers.remove(&oldest) {
                self.bytes -= caller.bytes();
            }
        }
    }
}

impl Call {
    /// Another copy of it has come.
    fn again(&mut self) -> Arrival {
        match self {
            Self::Begun { .. } => Arrival::New,
            Self::Answered { reply, .. } => Arrival::Again(reply.clone()),
            Self::Working(waiting) => {
                waiting.retain(|waiting| !waiting.is_closed());
                if waiting.len() >= WAITING {
                    // It is taken, so this is no refusal.
                    return Arrival::Old;
                }
                let (tell, told) = oneshot::channel();
                waiting.push(tell);
                Arrival::Working(told)
            }
        }
    }
}

impl Caller {
    fn is_idle(&self) -> bool {
        !self.calls.values().any(|call| matches!(call, Call::Working(_)))
    }

    fn bytes(&self) -> usize {
        let bytes = |call: &Call| if let Call::Answered { reply, .. } = call { reply.len() } else { 0 };
        self.calls.values().map(bytes).sum()
    }

    /// Forgets those answers that are too old, or too many, up to the first that is neither. Returns how many bytes that were.
    fn forget_oldest(&mut self, now: Instant) -> usize {
        let mut bytes = 0;
        let mut len = self.calls.len();
        while let Some(oldest) = self.calls.first_entry() {
            let is_young = |at: &Instant, time| now.saturating_duration_since(*at) < time;
            match oldest.get() {
                Call::Working(_) => break,
                Call::Begun { at } if is_young(at, BEGUN) => break,
                Call::Answered { at, .. } if len < CALLS && is_young(at, KEPT) => break,
                Call::Begun { .. } => {}
                Call::Answered { reply, .. } => bytes += reply.len(),
            }
            len -= 1;
            self.floor = self.floor.max(*oldest.key());
            oldest.remove();
        }
        bytes
    }

    /// Forgets what was answered: what is too old, and the oldest until no more than `most` are left. Returns how many
    /// bytes that were.
    fn forget(&mut self, most: usize, now: Instant) -> usize {
        let mut bytes = 0;
        let mut left = self.calls.len();
        let mut floor = self.floor;
        self.calls.retain(|number, call| {
            if let Call::Begun { at } = call
                && now.saturating_duration_since(*at) >= BEGUN
            {
                (left, floor) = (left - 1, floor.max(*number));
                return false;
            }
            let Call::Answered { reply, at } = call else { return true };
            if left <= most && now.saturating_duration_since(*at) < KEPT {
                return true;
            }
            left -= 1;
            bytes += reply.len();
            floor = floor.max(*number);
            false
        });
        self.floor = floor;
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    fn replica(name: &str) -> ReplicaId {
        ReplicaId::new(name).unwrap()
    }

    fn is_new(seen: &mut Seen, from: &ReplicaId, call: u64, now: Instant) -> bool {
        matches!(seen.arrives(from, call, now), Arrival::New)
    }

    #[test]
    fn a_request_is_new_once_and_has_one_answer() {
        let (mut seen, a, now) = (Seen::default(), replica("a"), clock::now());
        assert!(is_new(&mut seen, &a, 1, now));
        let Arrival::Working(mut told) = seen.arrives(&a, 1, now) else { panic!("it is not answered yet") };
        assert!(is_new(&mut seen, &replica("a"), 1, now), "another run");
        seen.answered(&a, 1, &"x".into(), now);
        assert_eq!(told.try_recv().unwrap(), "x");
        assert!(matches!(seen.arrives(&a, 1, now), Arrival::Again(reply) if reply == "x"));
    }

    #[test]
    fn what_is_forgotten_is_never_new_again() {
        let (mut seen, a, now) = (Seen::default(), replica("a"), clock::now());
        for call in 1..=10_000 {
            assert!(is_new(&mut seen, &a, call, now));
            seen.answered(&a, call, &Bytes::from(vec![0; 10_000]), now);
        }
        assert!(seen.bytes <= BYTES);
        assert!((1..=10_000).all(|call| !is_new(&mut seen, &a, call, now)));
        // Long after: those that came late, and later ones.
        let now = now + KEPT;
        assert!(is_new(&mut seen, &a, 10_001, now));
        assert!((1..=10_001).all(|call| !is_new(&mut seen, &a, call, now)));
        assert_eq!(seen.bytes, 0);
    }

    #[test]
    fn a_request_whose_body_is_on_its_way_stays_new_whatever_comes_meanwhile() {
        let (mut seen, a, now) = (Seen::default(), replica("a"), clock::now());
        assert!(seen.begins(&a, 1, now) && seen.begins(&a, 1, now));
        for call in 2..3 * CALLS as u64 {
            assert!(is_new(&mut seen, &a, call, now));
            seen.answered(&a, call, &"x".into(), now);
        }
        assert!(is_new(&mut seen, &a, 1, now) && !is_new(&mut seen, &a, 1, now));
        assert!(
            !seen.begins(&a, 1, now) && !seen.begins(&a, 2, now),
            "one that was taken does not begin again"
        );
        // One that never comes is forgotten.
        assert!(seen.begins(&a, 100_000, now));
        let now = now + KEPT;
        assert!(is_new(&mut seen, &a, 100_001, now));
        seen.answered(&a, 1, &"x".into(), now);
        assert!(is_new(&mut seen, &a, 100_002, now + KEPT) && !is_new(&mut seen, &a, 100_000, now));
    }

    #[test]
    fn what_is_worked_on_is_never_forgotten() {
        let (mut seen, a, now) = (Seen::default(), replica("a"), clock::now());
        for call in 1..=CALLS as u64 {
            assert!(is_new(&mut seen, &a, call, now));
        }
        assert!(matches!(seen.arrives(&a, 9_999, now), Arrival::Full));
        for _ in 0..WAITING {
            let arrival = seen.arrives(&a, 1, now);
            std::mem::forget(arrival);
        }
        assert!(matches!(seen.arrives(&a, 1, now), Arrival::Old), "it is taken, and that is no refusal");
        for _ in 1..CALLERS {
            assert!(is_new(&mut seen, &replica("b"), 1, now));
        }
        assert!(matches!(seen.arrives(&replica("c"), 1, now), Arrival::Full), "all are at work");
        seen.answered(&a, 9, &"x".into(), now);
        assert!(is_new(&mut seen, &a, 9_999, now));
    }
}
