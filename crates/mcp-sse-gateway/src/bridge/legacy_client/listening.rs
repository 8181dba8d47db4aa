//! What a legacy client is told of changes: one `subscriptions/listen` at the server, whose filter follows what the client wants.
//!
//! A filter cannot be changed: another request takes the place of the one before. It is acknowledged before anything
//! is said on it, and only then the one before is ended, so that nothing is missed. Until then the one before is heard, and
//! from then on the new one, so that over one pipe nothing is heard twice.

use std::{collections::BTreeSet, time::Duration};

use mcp_sse::RequestId;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::super::discovered::Lists;

/// The most resources that a client may subscribe to, and their bytes.
const URIS: usize = 1_000;
const URI_BYTES: usize = 256 * 1024;
/// The pause before it is listened again to a server that has ended it; doubled each time.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// How long a server may take to acknowledge one.
const ACKNOWLEDGED: Duration = Duration::from_secs(30);

/// What is listened to.
#[derive(Debug)]
pub(super) struct Listening {
    lists: Lists,
    uris: BTreeSet<String>,
    bytes: usize,
    /// The client is ready to hear.
    has_begun: bool,
    current: Option<Current>,
    opening: Option<Opening>,
    /// What is wanted is not what the newest request asks for.
    is_behind: bool,
    /// The client's requests that wait for what is not asked for yet.
    waiting: Vec<Waiting>,
    /// How often in a row it has ended by itself soon, and when it is tried again.
    ended: u32,
    again: Option<Instant>,
    /// Nothing was heard for a while.
    has_missed: bool,
}

/// The request that is heard.
#[derive(Debug)]
struct Current {
    id: RequestId,
    since: Instant,
    /// The resources that the server has agreed to tell of.
    granted: BTreeSet<String>,
}

/// A request that is not acknowledged yet.
#[derive(Debug)]
struct Opening {
    id: RequestId,
    until: Instant,
    waiting: Vec<Waiting>,
}

/// A request to subscribe, or, without a URI, not to be subscribed any more.
#[derive(Debug)]
struct Waiting {
    id: RequestId,
    uri: Option<String>,
}

/// What follows.
#[derive(Debug, Default)]
pub(super) struct Follows {
    /// Requests of the client that are answered now; whether what they ask for is granted.
    pub(super) answered: Vec<(RequestId, bool)>,
    /// The server's answer to what they were waiting for was an error.
    pub(super) failed: Vec<RequestId>,
    /// A request of ours that is not needed any more.
    pub(super) ended: Option<RequestId>,
    /// The client may have missed changes of these.
    pub(super) missed: Option<(Lists, Vec<String>)>,
}

impl Listening {
    pub(super) fn new(lists: Lists) -> Self {
        Self {
            lists,
            uris: BTreeSet::new(),
            bytes: 0,
            has_begun: false,
            current: None,
            opening: None,
            is_behind: false,
            waiting: Vec::new(),
            ended: 0,
            again: None,
            has_missed: false,
        }
    }

    /// The client is ready to hear.
    pub(super) fn begins(&mut self) {
        self.is_behind |= !self.has_begun && self.lists.any();
        self.has_begun = true;
    }

    /// The client subscribes; if it has too many subscriptions, the request is given back.
    pub(super) fn subscribe(&mut self, id: RequestId, uri: String) -> Option<RequestId> {
        if !self.uris.contains(&uri) {
            if self.uris.len() >= URIS || self.bytes + uri.len() > URI_BYTES {
                return Some(id);
            }
            self.bytes += uri.len();
            self.uris.insert(uri.clone());
            self.is_behind = true;
        }
        self.has_begun = true;
        self.waiting.push(Waiting { id, uri: Some(uri) });
        None
    }

    /// The client does not want to hear of a resource any more; where nothing is heard at all, the request is given back.
    pub(super) fn unsubscribe(&mut self, id: RequestId, uri: &str) -> Option<RequestId> {
        self.drop_uri(uri);
        if self.current.is_none() && self.opening.is_none() {
            return Some(id);
        }
        self.waiting.push(Waiting { id, uri: None });
        None
    }

    fn drop_uri(&mut self, uri: &str) {
        if self.uris.remove(uri) {
            self.bytes -= uri.len();
            self.is_behind = true;
        }
    }

    /// Requests for what is so already: they are answered at once.
    pub(super) fn settled(&mut self) -> Vec<RequestId> {
        if self.is_behind || self.opening.is_some() {
            return Vec::new();
        }
        let granted = self.current.as_ref().map(|current| &current.granted);
        let is_so = |waiting: &mut Waiting| {
            waiting.uri.as_ref().is_none_or(|uri| granted.is_some_and(|granted| granted.contains(uri)))
        };
        let settled = self.waiting.extract_if(.., is_so).map(|waiting| waiting.id).collect();
        // What is wanted and was never granted is asked for.
        self.is_behind = !self.waiting.is_empty();
        settled
    }

    /// Whether another request is due; what it is to ask for is [`filter`](Self::filter).
    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.is_behind && self.opening.is_none() && self.again.is_none_or(|again| again <= now)
    }

    /// When something is due, if nothing else comes before.
    pub(super) fn deadline(&self) -> Option<Instant> {
        match &self.opening {
            Some(opening) => Some(opening.until),
            None => self.again.filter(|_| self.is_behind),
        }
    }

    /// The request that was not acknowledged in time.
    pub(super) fn is_late(&self, now: Instant) -> Option<RequestId> {
        self.opening.as_ref().filter(|opening| opening.until <= now).map(|opening| opening.id.clone())
    }

    /// What is asked for; `None` if that is nothing.
    pub(super) fn filter(&self) -> Option<Value> {
        let mut filter = serde_json::Map::new();
        let Lists { tools, prompts, resources } = self.lists;
        for (name, wanted) in [
            ("toolsListChanged", tools),
            ("promptsListChanged", prompts),
            ("resourcesListChanged", resources),
        ] {
            if wanted {
                filter.insert(name.to_owned(), Value::Bool(true));
            }
        }
        if !self.uris.is_empty() {
            filter.insert("resourceSubscriptions".to_owned(), json!(self.uris));
        }
        (!filter.is_empty()).then(|| json!({ "notifications": filter }))
    }

    /// A request with this id asks for what is wanted; with `None`, nothing is.
    pub(super) fn opens(&mut self, id: Option<RequestId>, now: Instant) -> Follows {
        self.is_behind = false;
        self.again = None;
        let waiting = std::mem::take(&mut self.waiting);
        if let Some(id) = id {
            self.opening = Some(Opening { id, until: now + ACKNOWLEDGED, waiting });
            return Follows::default();
        }
        let answered = waiting.into_iter().map(|waiting| (waiting.id, waiting.uri.is_none())).collect();
        Follows { answered, ended: self.current.take().map(|current| current.id), ..Follows::default() }
    }

    /// Whether what the server says on it is passed on.
    pub(super) fn is_heard(&self, id: &RequestId) -> bool {
        self.current.as_ref().is_some_and(|current| current.id == *id)
    }

    /// The server has acknowledged a request, with this filter.
    pub(super) fn acknowledged(&mut self, id: &RequestId, honoured: &Value, now: Instant) -> Follows {
        let Some(Opening { id, waiting, .. }) = self.opening.take_if(|opening| opening.id == *id) else {
            return Follows::default();
        };
        let honoured = honoured["resourceSubscriptions"].as_array();
        let granted: BTreeSet<String> = honoured
            .into_iter()
            .flatten()
            .filter_map(|uri| uri.as_str().filter(|uri| self.uris.contains(*uri)).map(str::to_owned))
            .collect();
        let mut answered = Vec::new();
        for Waiting { id, uri } in waiting {
            let is_granted = uri.as_ref().is_none_or(|uri| granted.contains(uri));
            if !is_granted && let Some(uri) = uri {
                self.drop_uri(&uri);
            }
            answered.push((id, is_granted));
        }
        let missed =
            std::mem::take(&mut self.has_missed).then(|| (self.lists, granted.iter().cloned().collect()));
        let ended = self.current.replace(Current { id, since: now, granted }).map(|before| before.id);
        Follows { answered, ended, missed, ..Follows::default() }
    }

    /// A request has ended, with a result or an error; `for_good` if it makes no sense to try again.
    pub(super) fn ends(&mut self, id: &RequestId, for_good: bool, now: Instant) -> Follows {
        let mut waiting = Vec::new();
        if let Some(opening) = self.opening.take_if(|opening| opening.id == *id) {
            waiting = opening.waiting;
        } else if let Some(Current { since, .. }) = self.current.take_if(|current| current.id == *id) {
            self.has_missed = true;
            if now.saturating_duration_since(since) >= LONGEST_PAUSE {
                self.ended = 0;
            }
            if self.opening.is_some() {
                return Follows::default();
            }
        } else {
            return Follows::default();
        }
        if for_good {
            waiting.append(&mut self.waiting);
        }
        let mut follows = Follows::default();
        for Waiting { id, uri } in waiting {
            match uri {
                None => follows.answered.push((id, true)),
                Some(uri) => {
                    let is_granted =
                        self.current.as_ref().is_some_and(|current| current.granted.contains(&uri));
                    if is_granted {
                        follows.answered.push((id, true));
                    } else {
                        self.drop_uri(&uri);
                        follows.failed.push(id);
                    }
                }
            }
        }
        // What is still wanted is asked for again, but for those whose requests have failed.
        self.is_behind = !for_good && (self.filter().is_some() || !self.waiting.is_empty());
        let pause = FIRST_PAUSE.saturating_mul(2_u32.saturating_pow(self.ended.min(16))).min(LONGEST_PAUSE);
        self.ended = self.ended.saturating_add(1);
        self.again = Some(now + pause);
        follows
    }

    /// The client has given up a request of its own.
    pub(super) fn cancelled(&mut self, id: &RequestId) {
        self.waiting.retain(|waiting| waiting.id != *id);
        if let Some(opening) = &mut self.opening {
            opening.waiting.retain(|waiting| waiting.id != *id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    fn id(number: i64) -> RequestId {
        RequestId::from(number)
    }

    #[test]
    fn another_request_takes_the_place_of_the_one_before_once_it_is_acknowledged() {
        let now = clock::now();
        let mut listening = Listening::new(Lists { tools: true, ..Lists::default() });
        assert!(!listening.is_due(now));
        listening.begins();
        assert!(listening.is_due(now));
        assert_eq!(listening.filter(), Some(json!({ "notifications": { "toolsListChanged": true } })));
        listening.opens(Some(id(1)), now);
        assert!(!listening.is_due(now) && !listening.is_heard(&id(1)));
        assert_eq!(listening.subscribe(id(70), "a:b".to_owned()), None);
        assert_eq!(listening.subscribe(id(71), "a:c".to_owned()), None);
        assert!(!listening.is_due(now), "one at a time");
        assert_eq!(listening.acknowledged(&id(1), &json!({}), now).ended, None);
        assert!(listening.is_heard(&id(1)) && listening.is_due(now));
        listening.opens(Some(id(2)), now);
        assert!(listening.is_heard(&id(1)), "until the other is acknowledged");
        let follows = listening.acknowledged(&id(2), &json!({ "resourceSubscriptions": ["a:b"] }), now);
        assert_eq!(follows.answered, [(id(70), true), (id(71), false)]);
        assert_eq!(follows.ended, Some(id(1)));
        assert!(listening.is_heard(&id(2)) && !listening.is_heard(&id(1)));
        assert!(follows.missed.is_none());
        // The refused one is not asked for again.
        assert!(listening.is_due(now));
        assert_eq!(listening.filter().unwrap()["notifications"]["resourceSubscriptions"], json!(["a:b"]));
    }

    #[test]
    fn a_server_that_ends_it_is_asked_again_after_a_while() {
        let now = clock::now();
        let mut listening = Listening::new(Lists { tools: true, ..Lists::default() });
        listening.begins();
        for pause in [1, 2, 4, 8, 16, 32, 60, 60] {
            listening.opens(Some(id(1)), now);
            listening.ends(&id(1), false, now);
            assert!(!listening.is_due(now));
            assert_eq!(listening.deadline(), Some(now + Duration::from_secs(pause)));
            assert!(listening.is_due(now + Duration::from_secs(pause)));
        }
        listening.opens(Some(id(2)), now);
        assert!(listening.acknowledged(&id(2), &json!({}), now).missed.is_none(), "nothing was heard before");
        listening.ends(&id(2), false, now);
        listening.opens(Some(id(3)), now);
        let missed = listening.acknowledged(&id(3), &json!({ "resourceSubscriptions": ["a:b"] }), now).missed;
        assert_eq!(missed, Some((Lists { tools: true, ..Lists::default() }, Vec::new())));
        assert_eq!(listening.deadline(), None);
        listening.ends(&id(3), true, now);
        assert!(!listening.is_due(now + LONGEST_PAUSE), "a server that cannot is not asked again");
    }

    #[test]
    fn a_request_that_fails_takes_its_wishes_with_it() {
        let now = clock::now();
        let mut listening = Listening::new(Lists::default());
        listening.begins();
        assert!(!listening.is_due(now));
        assert_eq!(listening.subscribe(id(70), "a:b".to_owned()), None);
        listening.opens(Some(id(1)), now);
        assert_eq!(listening.ends(&id(1), false, now).failed, [id(70)]);
        assert_eq!(listening.filter(), None);
        assert!(!listening.is_due(now + Duration::from_secs(100)));
    }

    #[test]
    fn with_nothing_wanted_nothing_is_open() {
        let now = clock::now();
        let mut listening = Listening::new(Lists::default());
        assert_eq!(listening.subscribe(id(70), "a:b".to_owned()), None);
        listening.opens(Some(id(1)), now);
        listening.acknowledged(&id(1), &json!({ "resourceSubscriptions": ["a:b"] }), now);
        assert_eq!(listening.subscribe(id(71), "a:b".to_owned()), None);
        assert_eq!(listening.settled(), [id(71)]);
        assert_eq!(listening.unsubscribe(id(72), "a:b"), None);
        assert!(listening.settled().is_empty() && listening.is_due(now));
        assert_eq!(listening.filter(), None);
        let follows = listening.opens(None, now);
        assert_eq!((follows.ended, follows.answered), (Some(id(1)), vec![(id(72), true)]));
        assert!(!listening.is_heard(&id(1)));
        assert_eq!(listening.unsubscribe(id(73), "a:c"), Some(id(73)));
    }

    #[test]
    fn a_server_that_cannot_leaves_nobody_waiting() {
        let now = clock::now();
        let mut listening = Listening::new(Lists { tools: true, ..Lists::default() });
        listening.begins();
        listening.opens(Some(id(1)), now);
        assert_eq!(listening.subscribe(id(70), "a:b".to_owned()), None);
        assert_eq!(listening.ends(&id(1), true, now).failed, [id(70)]);
        assert!(!listening.is_due(now + LONGEST_PAUSE));
    }

    #[test]
    fn a_server_that_does_not_acknowledge_is_late() {
        let now = clock::now();
        let mut listening = Listening::new(Lists::default());
        assert_eq!(listening.subscribe(id(70), "a:b".to_owned()), None);
        listening.opens(Some(id(1)), now);
        assert_eq!(listening.deadline(), Some(now + ACKNOWLEDGED));
        assert_eq!(listening.is_late(now), None);
        assert_eq!(listening.is_late(now + ACKNOWLEDGED), Some(id(1)));
    }

    #[test]
    fn no_more_is_granted_than_was_asked_for() {
        let now = clock::now();
        let mut listening = Listening::new(Lists::default());
        assert_eq!(listening.subscribe(id(70), "a:b".to_owned()), None);
        listening.opens(Some(id(1)), now);
        let many = json!({ "resourceSubscriptions": ["a:b", "x:1", "x:2"] });
        listening.acknowledged(&id(1), &many, now);
        listening.ends(&id(1), false, now);
        listening.opens(Some(id(2)), now);
        let missed = listening.acknowledged(&id(2), &many, now).missed.unwrap();
        assert_eq!(missed.1, ["a:b"]);
    }

    #[test]
    fn subscriptions_are_bounded() {
        let mut listening = Listening::new(Lists::default());
        for number in 0..URIS {
            assert_eq!(listening.subscribe(id(1), format!("a:{number}")), None);
        }
        assert_eq!(listening.subscribe(id(2), "a:b".to_owned()), Some(id(2)));
        assert_eq!(listening.subscribe(id(1), "a:0".to_owned()), None, "it has that one already");
        assert_eq!(listening.unsubscribe(id(1), "a:0"), Some(id(1)));
        assert_eq!(listening.subscribe(id(1), "a:b".to_owned()), None);
        assert_eq!(listening.unsubscribe(id(1), "a:b"), Some(id(1)));
        assert_eq!(listening.subscribe(id(2), "x".repeat(URI_BYTES)), Some(id(2)));
    }
}
