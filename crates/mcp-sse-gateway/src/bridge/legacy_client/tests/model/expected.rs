//! What the translator has to say next, and what it may.

use super::*;

/// A message that is due. Within a step the order is free.
#[derive(Debug)]
pub(super) enum Expected {
    /// The client gets exactly this.
    Client(String),
    /// The client's request is answered with an error with this code.
    Refusal(RequestId, i32),
    /// The client is asked this for a call, with an id of ours.
    Ask { of: String, key: String, method: String, params: Option<Value> },
    /// The server gets exactly this.
    Server(String),
    /// The server may get exactly this.
    MaybeServer(String),
    /// The server gets this request.
    Request(Sent),
    /// It need not answer this any more.
    GivenUp(RequestId),
}

/// A request to the server.
#[derive(Debug)]
pub(super) struct Sent {
    /// That of the client; or one of ours, for one of its calls or for a ping.
    pub(super) id: Option<RequestId>,
    pub(super) of: Option<String>,
    pub(super) method: String,
    pub(super) members: Vec<(String, String)>,
    pub(super) meta: serde_json::Map<String, Value>,
}

impl Expected {
    pub(super) fn may_be_missing(&self) -> bool {
        matches!(self, Self::MaybeServer(_))
    }
}

/// What no client of a handshake knows.
const UNSEEN: [&str; 6] = [
    "requestState",
    "resultType",
    "subscriptionId",
    "server/discover",
    "subscriptions/",
    "clientCapabilities",
];

impl World {
    fn take(&mut self, is: impl Fn(&Expected) -> bool) -> Option<Expected> {
        let at = self.expected.iter().position(is)?;
        Some(self.expected.remove(at))
    }

    pub(super) fn reaches_client(&mut self, message: &Message) {
        let json = message.as_str();
        if let Some(unseen) = UNSEEN.iter().find(|unseen| json.contains(**unseen)) {
            self.fails(format!("the client sees {unseen}"));
        }
        if self.take(|expected| matches!(expected, Expected::Client(exactly) if exactly == json)).is_some() {
            return;
        }
        match message.kind() {
            MessageKind::Response { id: Some(id), is_error: true } => {
                let value: Value = serde_json::from_str(json).unwrap();
                let code = value["error"]["code"].as_i64().unwrap();
                let is = |expected: &Expected| matches!(expected, Expected::Refusal(of, with) if of == id && i64::from(*with) == code);
                if self.take(is).is_none() && !self.listens.may_refuse(id) {
                    self.fails("nobody waits for this error");
                }
            }
            MessageKind::Request { id, method } => {
                self.is_new(id);
                let params: Option<Value> = message.params().map(|json| serde_json::from_str(json).unwrap());
                let is = |expected: &Expected| {
                    let Expected::Ask { method: of, params: with, .. } = expected else { return false };
                    **of == **method && without_id(with.as_ref()) == without_id(params.as_ref())
                };
                let Some(Expected::Ask { of, key, .. }) = self.take(is) else {
                    self.fails("nobody has asked the client this")
                };
                if let Some(Call { place: Place::Client { asks, .. }, .. }) = self.calls.get_mut(&of) {
                    asks.push(Ask { id: id.clone(), key, answer: None });
                }
            }
            MessageKind::Response { id: Some(id), is_error: false } if self.listens.may_grant(id) => {
                assert_eq!(json, result(id, "{}"));
            }
            _ => self.fails("the client was not to get this"),
        }
    }

    pub(super) fn reaches_server(&mut self, incoming: &Incoming) {
        let message = &incoming.message;
        self.has_its_headers(incoming);
        match message.kind() {
            MessageKind::Request { id, method } if &**method == "subscriptions/listen" => {
                self.is_new(id);
                if meta_of(message) != Value::Object(self.said.clone()) {
                    self.fails("it does not say who listens");
                }
                let filter =
                    message.param(&["notifications"]).map(|json| serde_json::from_str(json).unwrap());
                if let Err(why) = self.listens.opens(id, filter.unwrap_or_default(), self.pair.now) {
                    self.fails(why);
                }
            }
            MessageKind::Request { id, .. } => {
                let is = |expected: &Expected| {
                    matches!(expected, Expected::Request(sent) if sent.is(message)
                        && sent.id.as_ref().is_none_or(|sent| sent == id))
                };
                let Some(Expected::Request(sent)) = self.take(is) else {
                    self.fails("it was not to be asked this")
                };
                if sent.id.is_none() {
                    self.is_new(id);
                }
                match sent.of.and_then(|of| self.calls.get_mut(&of)) {
                    Some(call) if sent.method != call.method => call.place = Place::Tools(id.clone()),
                    Some(call) => call.place = Place::Server(id.clone()),
                    None => {
                        if let Some(ping) = self.pings.remove("next") {
                            self.pings.insert(id.to_string(), ping);
                        }
                    }
                }
            }
            _ => {
                let json = message.as_str();
                let is = |expected: &Expected| match expected {
                    Expected::Server(exactly) | Expected::MaybeServer(exactly) => exactly == json,
                    Expected::GivenUp(id) => message.cancelled_id().as_ref() == Some(id),
                    _ => false,
                };
                let is_end = message.cancelled_id().is_some_and(|id| self.listens.may_be_given_up(&id));
                if self.take(is).is_none() && !is_end {
                    self.fails("it was not to be told this");
                }
            }
        }
    }

    /// An id of ours that nobody has used before.
    fn is_new(&mut self, id: &RequestId) {
        if self.client_ids.contains(id) || !self.own_ids.insert(id.clone()) {
            self.fails(format!("{id} was used before"));
        }
    }

    fn has_its_headers(&self, incoming: &Incoming) {
        let message = &incoming.message;
        let headers = incoming.parts().extensions.get::<Headers>().map(|headers| &headers.0);
        let method = headers.and_then(|headers| headers.get("mcp-method")?.to_str().ok());
        let MessageKind::Request { method: asked, .. } = message.kind() else { return };
        if method != Some(&**asked).filter(|_| self.pair.over_http) {
            self.fails(format!("its header says {method:?}"));
        }
    }
}

impl Sent {
    /// Whether this is the request, with all that was given byte for byte.
    fn is(&self, message: &Message) -> bool {
        let members = crate::message::members::Members::read(message.params().unwrap_or("{}")).unwrap();
        let got: BTreeMap<&str, &str> = members.iter().filter(|(name, _)| *name != "_meta").collect();
        let wanted: BTreeMap<&str, &str> =
            self.members.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        message.method() == Some(&self.method)
            && got == wanted
            && meta_of(message) == Value::Object(self.meta.clone())
    }
}

fn meta_of(message: &Message) -> Value {
    serde_json::from_str(message.param(&["_meta"]).unwrap_or("null")).unwrap()
}

/// But for the id that a URL gets here.
fn without_id(params: Option<&Value>) -> Option<Value> {
    let mut params = params?.clone();
    params.as_object_mut()?.remove("elicitationId");
    Some(params)
}
