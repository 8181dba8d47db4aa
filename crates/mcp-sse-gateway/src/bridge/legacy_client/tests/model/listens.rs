//! What the client is told of changes, as the model has it. When another request to listen is sent is the translator's
//! affair; what it asks for is not, and in the end it has to be what the client wants.

use std::time::Duration;

use super::*;

const LISTS: [(&str, &str); 3] = [
    ("toolsListChanged", "notifications/tools/list_changed"),
    ("promptsListChanged", "notifications/prompts/list_changed"),
    ("resourcesListChanged", "notifications/resources/list_changed"),
];

/// A request to subscribe, or not to be subscribed any more, that is not answered.
pub(super) struct Waiting {
    pub(super) id: RequestId,
    uri: Option<String>,
    /// What is being opened asks for it.
    is_asked: bool,
    is_cancelled: bool,
}

pub(super) struct Listens {
    lists: [bool; 3],
    pub(super) subscribes: bool,
    wanted: BTreeSet<String>,
    waiting: Vec<Waiting>,
    pub(super) current: Option<RequestId>,
    pub(super) opening: Option<Opening>,
    /// What the current one asks for, and what of it was granted.
    heard: Value,
    granted: BTreeSet<String>,
    pub(super) old: Vec<RequestId>,
    has_missed: bool,
    /// The server was last heard to know nothing of all this.
    cannot: bool,
}

pub(super) struct Opening {
    pub(super) id: RequestId,
    pub(super) filter: Value,
    until: Instant,
}

impl Listens {
    pub(super) fn new(lists: [bool; 3], subscribes: bool) -> Self {
        Self {
            lists,
            subscribes,
            wanted: BTreeSet::new(),
            waiting: Vec::new(),
            current: None,
            opening: None,
            heard: Value::Null,
            granted: BTreeSet::new(),
            old: Vec::new(),
            has_missed: false,
            cannot: false,
        }
    }

    /// What a request has to ask for now.
    fn filter(&self) -> Value {
        let lists =
            LISTS.iter().zip(self.lists).filter(|(_, is)| *is).map(|((name, _), _)| (*name, json!(true)));
        let uris = (!self.wanted.is_empty()).then(|| ("resourceSubscriptions", json!(self.wanted)));
        lists
            .chain(uris)
            .map(|(name, value)| (name.to_owned(), value))
            .collect::<serde_json::Map<_, _>>()
            .into()
    }

    pub(super) fn open(&self) -> usize {
        usize::from(self.current.is_some()) + usize::from(self.opening.is_some())
    }

    pub(super) fn opens(&mut self, id: &RequestId, filter: Value, now: Instant) -> Result<(), String> {
        if self.opening.is_some() {
            return Err("two are opened at once".to_owned());
        }
        if filter != self.filter() || filter == json!({}) {
            return Err(format!("{} is wanted", self.filter()));
        }
        self.opening = Some(Opening { id: id.clone(), filter, until: now + Duration::from_secs(30) });
        self.cannot = false;
        for waiting in &mut self.waiting {
            waiting.is_asked = true;
        }
        Ok(())
    }

    pub(super) fn subscribe(&mut self, id: RequestId, uri: &str) {
        self.wanted.insert(uri.to_owned());
        self.waiting.push(Waiting { id, uri: Some(uri.to_owned()), is_asked: false, is_cancelled: false });
    }

    pub(super) fn unsubscribe(&mut self, id: RequestId, uri: &str) {
        self.wanted.remove(uri);
        self.waiting.push(Waiting { id, uri: None, is_asked: false, is_cancelled: false });
    }

    pub(super) fn waiting(&self) -> impl Iterator<Item = &Waiting> {
        self.waiting.iter().filter(|waiting| !waiting.is_cancelled)
    }

    pub(super) fn cancel(&mut self, id: &RequestId) {
        for waiting in self.waiting.iter_mut().filter(|waiting| waiting.id == *id) {
            waiting.is_cancelled = true;
        }
    }

    fn takes(&mut self, is: impl Fn(&Waiting) -> bool) -> bool {
        let before = self.waiting.len();
        self.waiting.retain(|waiting| waiting.is_cancelled || !is(waiting));
        self.waiting.len() < before
    }

    /// A subscription that the client has taken back before its server was asked.
    pub(super) fn may_refuse(&mut self, id: &RequestId) -> bool {
        let wanted = self.wanted.clone();
        self.takes(|waiting| {
            waiting.id == *id
                && !waiting.is_asked
                && waiting.uri.as_ref().is_some_and(|uri| !wanted.contains(uri))
        })
    }

    /// What is so already, or is given up.
    pub(super) fn may_grant(&mut self, id: &RequestId) -> bool {
        let granted = self.granted.clone();
        self.takes(|waiting| {
            waiting.id == *id && waiting.uri.as_ref().is_none_or(|uri| granted.contains(uri))
        })
    }

    /// With nothing wanted, nothing is open.
    pub(super) fn may_be_given_up(&mut self, id: &RequestId) -> bool {
        let is_it = self.opening.is_none() && self.filter() == json!({}) && self.current.as_ref() == Some(id);
        if is_it {
            self.old.extend(self.current.take());
            self.granted.clear();
        }
        is_it
    }

    /// The server has acknowledged what is being opened, with these resources: what follows.
    pub(super) fn acknowledged(&mut self, honoured: &BTreeSet<String>) -> Vec<Expected> {
        let Some(Opening { id, filter, .. }) = self.opening.take() else { return Vec::new() };
        let granted: BTreeSet<String> = honoured.intersection(&self.wanted).cloned().collect();
        let mut expected = Vec::new();
        for Waiting { id, uri, is_cancelled, .. } in self.waiting.extract_if(.., |waiting| waiting.is_asked) {
            if is_cancelled {
                continue;
            }
            match uri {
                Some(uri) if !granted.contains(&uri) => {
                    self.wanted.remove(&uri);
                    expected.push(Expected::Refusal(id, -32602));
                }
                _ => expected.push(Expected::Client(result(&id, "{}"))),
            }
        }
        if let Some(old) = self.current.replace(id) {
            expected.push(Expected::GivenUp(old.clone()));
            self.old.push(old);
        }
        if std::mem::take(&mut self.has_missed) {
            for ((_, method), _) in LISTS.iter().zip(self.lists).filter(|(_, is)| *is) {
                expected.push(Expected::Client(format!(r#"{{"jsonrpc":"2.0","method":"{method}"}}"#)));
            }
            for uri in &granted {
                let params = format!(r#"{{"uri":"{uri}"}}"#);
                expected.push(Expected::Client(notification("notifications/resources/updated", &params)));
            }
        }
        (self.heard, self.granted) = (filter, granted);
        expected
    }

    /// One that is not acknowledged in time is given up.
    pub(super) fn is_late(&mut self, now: Instant) -> Vec<Expected> {
        let Some(id) =
            self.opening.as_ref().filter(|opening| opening.until <= now).map(|opening| opening.id.clone())
        else {
            return Vec::new();
        };
        let mut expected = self.ends(&id, None, false);
        expected.push(Expected::GivenUp(id));
        expected
    }

    /// The server has ended one, with this error if it is one.
    pub(super) fn ends(&mut self, id: &RequestId, error: Option<&str>, for_good: bool) -> Vec<Expected> {
        let is_opening = self.opening.take_if(|opening| opening.id == *id).is_some();
        if !is_opening {
            if self.current.take_if(|current| current == id).is_none() {
                return Vec::new();
            }
            self.has_missed = true;
            self.granted.clear();
        }
        self.old.push(id.clone());
        // What is opened already may tell more.
        if self.opening.is_some() {
            return Vec::new();
        }
        self.cannot = for_good;
        let mut expected = Vec::new();
        for Waiting { id, uri, is_cancelled, .. } in
            self.waiting.extract_if(.., |waiting| (is_opening && waiting.is_asked) || for_good)
        {
            if is_cancelled {
                continue;
            }
            match (uri, error) {
                (Some(uri), error) if !self.granted.contains(&uri) => {
                    self.wanted.remove(&uri);
                    expected.push(match error {
                        Some(text) => Expected::Client(super::error(&id, text)),
                        None => Expected::Refusal(id, -32603),
                    });
                }
                _ => expected.push(Expected::Client(result(&id, "{}"))),
            }
        }
        expected
    }

    /// Whether all is as it is wanted.
    pub(super) fn is_settled(&self) -> Result<(), String> {
        if let Some(waiting) = self.waiting().next() {
            return Err(format!("the subscription {} has no answer", waiting.id));
        }
        let filter = self.filter();
        let is_heard = self.current.is_some();
        if self.cannot || (filter == json!({}) && !is_heard) || (is_heard && filter == self.heard) {
            return Ok(());
        }
        Err(format!("{filter} is wanted, and {} is heard: {is_heard}", self.heard))
    }
}
