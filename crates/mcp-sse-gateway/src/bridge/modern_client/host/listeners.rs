//! Clients that listen to changes.

use mcp_sse::{Message, RequestId};
use serde_json::{Value, json};

use super::{Host, stage::Stage};
use crate::{
    bridge::modern_client::{
        asked::{Filter, Kind},
        calls::{Answer, Call, How},
        words,
    },
    message::modern::meta,
};

impl Call {
    /// The end of a listener's stream: the result of its request.
    pub(super) fn last_words(&self, info: Option<&str>) -> Option<Message> {
        let id: Value = serde_json::from_str(&self.id.to_string()).ok()?;
        let result = json!({ "_meta": { (meta::SUBSCRIPTION_ID): id } }).to_string();
        words::result_of(&result, &self.id, &self.method, info)
    }

    fn with_subscription(&self, message: &Message) -> Option<Message> {
        words::with_meta(message, |meta| meta.set_json(meta::SUBSCRIPTION_ID, &self.id.to_string()))
    }

    /// Too slow a listener, or one to whom too much happens, has to ask anew.
    fn hears(&mut self, message: &Message) {
        let Some(message) = self.with_subscription(message).filter(|_| self.done.is_none()) else { return };
        if !self.tell_change(message)
            && let Some(message) = self.last_words(None)
        {
            self.done = Some(Answer { message, id: self.id.clone(), how: How::Ready });
        }
    }
}

impl<A> Host<A> {
    /// A client begins to listen to a legacy server.
    pub(super) fn listens(&mut self, key: i64) {
        let Stage::Legacy(greeted) = &self.stage else { return };
        let Some(call) = self.calls.get_mut(&key) else { return };
        let Kind::Listen(wanted) = &call.kind else { return };
        let [tools, prompts, resources] = greeted.changes;
        let honoured = Filter {
            tools: wanted.tools && tools,
            prompts: wanted.prompts && prompts,
            resources: wanted.resources && resources,
            uris: if greeted.subscribes { wanted.uris.clone() } else { Vec::new() },
        };
        let mut notifications = serde_json::Map::new();
        for (name, is_on) in [
            ("toolsListChanged", honoured.tools),
            ("promptsListChanged", honoured.prompts),
            ("resourcesListChanged", honoured.resources),
        ] {
            if is_on {
                notifications.insert(name.to_owned(), true.into());
            }
        }
        if !honoured.uris.is_empty() {
            notifications.insert("resourceSubscriptions".to_owned(), json!(honoured.uris));
        }
        let params = json!({ "notifications": notifications });
        if let Ok(message) = Message::notification("notifications/subscriptions/acknowledged", &params)
            && let Some(message) = call.with_subscription(&message)
        {
            call.tell_change(message);
        }
        let uris = honoured.uris.clone();
        (call.honoured, call.sent) = (honoured, true);
        for uri in uris {
            let count = self.subscriptions.entry(uri.clone()).or_default();
            *count += 1;
            if *count == 1 {
                self.subscribe("resources/subscribe", &uri);
            }
        }
    }

    /// One does not listen any more.
    pub(super) fn leaves(&mut self, honoured: &Filter) {
        for uri in &honoured.uris {
            if let Some(count) = self.subscriptions.get_mut(uri) {
                *count -= 1;
                if *count == 0 {
                    self.subscriptions.remove(uri);
                    self.subscribe("resources/unsubscribe", uri);
                }
            }
        }
    }

    fn subscribe(&mut self, method: &str, uri: &str) {
        let id = RequestId::from(self.next_id());
        if let Ok(message) = Message::request(id, method, &json!({ "uri": uri })) {
            self.send(message);
        }
    }

    /// A notification of the server's, which may be for listeners.
    pub(super) fn changes(&mut self, method: &str, message: &Message) {
        if matches!(self.stage, Stage::Modern) {
            let call = Self::of_subscription(message).and_then(|key| self.calls.get_mut(&key));
            if let Some(call) = call.filter(|call| call.is_listener()) {
                call.hears(message);
            }
            return;
        }
        let uri: Option<String> = match method {
            "notifications/resources/updated" => {
                message.param(&["uri"]).and_then(|uri| serde_json::from_str(uri).ok())
            }
            _ => None,
        };
        let is_for = |filter: &Filter| match method {
            "notifications/tools/list_changed" => filter.tools,
            "notifications/prompts/list_changed" => filter.prompts,
            "notifications/resources/list_changed" => filter.resources,
            _ => uri.as_ref().is_some_and(|uri| filter.uris.iter().any(|of| is_within(uri, of))),
        };
        for call in self.calls.values_mut().filter(|call| call.is_listener() && is_for(&call.honoured)) {
            call.hears(message);
        }
    }
}

/// Whether a resource is the one that was subscribed to, or a part of it.
fn is_within(uri: &str, subscribed: &str) -> bool {
    uri.strip_prefix(subscribed)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', '#', '?']) || subscribed.ends_with('/'))
}
