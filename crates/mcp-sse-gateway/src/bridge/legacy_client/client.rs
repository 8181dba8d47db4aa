//! What a legacy client has said of itself, which a modern server hears with each request.

use mcp_sse::Message;
use serde_json::{Value, value::RawValue};

use crate::message::{
    members::Members,
    modern::{VERSION, meta},
};

/// The most that a client may say of itself, in bytes.
const SAID_BYTES: usize = 16 * 1024;

/// What is said of a client.
#[derive(Debug)]
pub(super) struct Client {
    /// As JSON, with what belongs around it.
    info: Option<Box<RawValue>>,
    capabilities: Option<Box<RawValue>>,
    known: Value,
    level: Option<&'static str>,
    /// The members of `_meta` that stand for all this.
    said: String,
}

impl Client {
    /// One that has said nothing of itself.
    pub(super) fn unknown() -> Self {
        Self::of(None, None)
    }

    /// One that has sent this `initialize`; `None` if it says more of itself than is repeated with each request.
    pub(super) fn read(initialize: &Message) -> Option<Self> {
        let json = |name| initialize.param(&[name]).filter(|json| json.starts_with('{'));
        let (info, capabilities) = (json("clientInfo"), json("capabilities"));
        let bytes: usize = [info, capabilities].into_iter().flatten().map(str::len).sum();
        let raw = |json: &str| RawValue::from_string(json.to_owned()).ok();
        (bytes <= SAID_BYTES).then(|| Self::of(info.and_then(raw), capabilities.and_then(raw)))
    }

    fn of(info: Option<Box<RawValue>>, capabilities: Option<Box<RawValue>>) -> Self {
        let capabilities = capabilities.or_else(|| RawValue::from_string("{}".to_owned()).ok());
        let known = capabilities.as_ref().and_then(|json| serde_json::from_str(json.get()).ok());
        let known = known.unwrap_or_default();
        let mut client = Self { info, capabilities, known, level: None, said: String::new() };
        client.say();
        client
    }

    fn say(&mut self) {
        let mut members = Members::default();
        self.put(&mut members);
        let written = members.write();
        let inner = written.strip_prefix('{').and_then(|rest| rest.strip_suffix('}'));
        self.said = inner.unwrap_or_default().to_owned();
    }

    fn put(&self, members: &mut Members<'_>) {
        members.set(meta::PROTOCOL_VERSION, VERSION);
        members.set(meta::CLIENT_CAPABILITIES, &self.capabilities);
        if let Some(info) = &self.info {
            members.set(meta::CLIENT_INFO, info);
        }
        if let Some(level) = self.level {
            members.set(meta::LOG_LEVEL, level);
        }
    }

    /// From now on it wants log messages of this level.
    pub(super) fn set_level(&mut self, level: &'static str) {
        self.level = Some(level);
        self.say();
    }

    /// Whether a server may ask it for this, with these parameters.
    pub(super) fn can(&self, method: &str, params: Option<&Value>) -> bool {
        match method {
            "sampling/createMessage" => self.known["sampling"].is_object(),
            "roots/list" => self.known["roots"].is_object(),
            "elicitation/create" => {
                let is_url = params.is_some_and(|params| params["mode"] == "url");
                let elicitation = &self.known["elicitation"];
                elicitation.is_object() && (!is_url || elicitation["url"].is_object())
            }
            _ => false,
        }
    }

    /// The members of `params` with what is said of the client; `params` is that of a request, if it has any.
    pub(super) fn stamp<'a>(&self, params: Option<&'a str>) -> Option<Members<'a>> {
        let mut members = params.map_or_else(|| Some(Members::default()), Members::read)?;
        let stamped = {
            let mut meta = match members.get("_meta") {
                Some(json) => Members::read(json)?,
                None => Members::default(),
            };
            // A client of this era has no word of its own in these.
            meta.remove(meta::CLIENT_INFO);
            meta.remove(meta::LOG_LEVEL);
            self.put(&mut meta);
            meta.write()
        };
        members.set_json("_meta", &stamped);
        Some(members)
    }

    /// A request with what is said of the client; `None` if its parameters are no object, or have a name twice.
    pub(super) fn stamped(&self, request: &Message) -> Option<Message> {
        let whole = request.as_str();
        if let Some(params) = request.params()
            && let Some(inner) = params.strip_prefix('{')
            // No `_meta`, however it is written.
            && memchr::memmem::find(inner.as_bytes(), b"_meta").is_none()
            && memchr::memmem::find(inner.as_bytes(), b"\\u").is_none()
        {
            let at = params.as_ptr() as usize - whole.as_ptr() as usize + 1;
            let (before, after) = (whole.get(..at)?, whole.get(at..)?);
            let comma = if inner.trim_start().starts_with('}') { "" } else { "," };
            let said = &self.said;
            return Message::parse(format!(r#"{before}"_meta":{{{said}}}{comma}{after}"#)).ok();
        }
        let stamped = self.stamp(request.params())?.write();
        let mut members = Members::read(whole)?;
        members.set_json("params", &stamped);
        members.message()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const INITIALIZE: &str = r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-06-18",
        "capabilities":{"sampling":{},"elicitation":{}},"clientInfo":{"name":"c","version":"1"}}}"#;
    const SAID: &str = concat!(
        r#""io.modelcontextprotocol/protocolVersion":"2026-07-28","#,
        r#""io.modelcontextprotocol/clientCapabilities":{"sampling":{},"elicitation":{}},"#,
        r#""io.modelcontextprotocol/clientInfo":{"name":"c","version":"1"}"#
    );

    fn stamped(client: &Client, rest: &str) -> Option<String> {
        let request = Message::parse(format!(r#"{{"jsonrpc":"2.0","id":1,"method":"m"{rest}}}"#)).unwrap();
        client.stamped(&request).map(|stamped| stamped.as_str().to_owned())
    }

    #[test]
    fn each_request_says_who_its_client_is() {
        let mut client = Client::read(&Message::parse(INITIALIZE).unwrap()).unwrap();
        for (rest, expected) in [
            ("", format!(r#","params":{{"_meta":{{{SAID}}}}}"#)),
            (r#","params":{ }"#, format!(r#","params":{{"_meta":{{{SAID}}} }}"#)),
            (r#","params":{"a": 1.0}"#, format!(r#","params":{{"_meta":{{{SAID}}},"a": 1.0}}"#)),
            (
                r#","params":{"a": 1.0,"_meta":{"progressToken":7,"io.modelcontextprotocol/logLevel":"debug","x":[ ]}}"#,
                format!(r#","params":{{"a":1.0,"_meta":{{"progressToken":7,"x":[ ],{SAID}}}}}"#),
            ),
        ] {
            let expected = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"m"{expected}}}"#);
            assert_eq!(stamped(&client, rest), Some(expected));
        }
        client.set_level("info");
        assert!(stamped(&client, "").unwrap().contains(r#""io.modelcontextprotocol/logLevel":"info""#));
        assert!(stamped(&client, r#","params":{"a":1}"#).unwrap().contains(r#"logLevel":"info"}"#));
        for bad in
            [r#","params":[1]"#, r#","params":{"_meta":1}"#, r#","params":{"_meta":{},"\u005fmeta":{}}"#]
        {
            assert_eq!(stamped(&client, bad), None, "{bad}");
        }
    }

    #[test]
    fn a_client_is_asked_only_for_what_it_has_said_it_can() {
        let client = Client::read(&Message::parse(INITIALIZE).unwrap()).unwrap();
        assert!(client.can("sampling/createMessage", None));
        assert!(!client.can("roots/list", None));
        assert!(!client.can("tools/call", None));
        assert!(client.can("elicitation/create", Some(&json!({ "mode": "form" }))));
        assert!(!client.can("elicitation/create", Some(&json!({ "mode": "url" }))));
        assert!(!Client::unknown().can("sampling/createMessage", None));
    }
}
