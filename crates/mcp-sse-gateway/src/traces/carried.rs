//! What continues a trace (W3C Trace Context): as headers, and as members of `params._meta`, where the conventions for
//! MCP have it.

use std::ops::Range;

use http::{HeaderMap, HeaderName, HeaderValue};
use mcp_sse::{Incoming, Message};

use crate::place::place;

const PARENT: &str = "traceparent";
const STATE: &str = "tracestate";
/// The longest that are read, in bytes. What is longer is not one that others would take either.
const LONGEST: usize = 512;

/// A place in a trace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Carried {
    pub(crate) parent: String,
    pub(crate) state: String,
}

/// What is known of a call when its span begins.
#[derive(Debug)]
#[cfg_attr(not(feature = "otlp"), expect(dead_code, reason = "there are no spans"))]
pub(crate) struct Asked<'a> {
    pub(crate) method: &'a str,
    pub(crate) tool: Option<&'a str>,
    pub(crate) id: Option<String>,
    pub(crate) server: &'a str,
    pub(crate) transport: &'static str,
    /// Where the message says that its trace is.
    pub(crate) in_message: Option<Carried>,
    /// Where the request that brought it does.
    pub(crate) in_headers: Option<Carried>,
}

impl Carried {
    /// As the message has it.
    pub(crate) fn in_message(message: &Message) -> Option<Self> {
        let text = |name| {
            let json = message.param(&["_meta", name])?;
            let text = if json.len() > LONGEST { None } else { serde_json::from_str::<String>(json).ok() };
            // Others read it from a header.
            text.filter(|text| text.bytes().all(|byte| matches!(byte, b' '..=b'~')))
        };
        Some(Self { parent: text(PARENT)?, state: text(STATE).unwrap_or_default() })
    }

    /// As headers have it.
    pub(crate) fn in_headers(headers: &HeaderMap) -> Option<Self> {
        let text = |name| {
            let value = headers.get(name)?.to_str().ok()?;
            (value.len() <= LONGEST).then(|| value.to_owned())
        };
        Some(Self { parent: text(PARENT)?, state: text(STATE).unwrap_or_default() })
    }

    /// The headers for a server behind.
    pub(crate) fn headers(&self) -> impl Iterator<Item = (HeaderName, HeaderValue)> + '_ {
        let header =
            |name, value: &str| Some((HeaderName::from_static(name), HeaderValue::from_str(value).ok()?));
        let state = (!self.state.is_empty()).then(|| header(STATE, &self.state)).flatten();
        header(PARENT, &self.parent).into_iter().chain(state)
    }

    /// Lets the message continue the trace here, and whoever passes on headers find it. A message that has no place for
    /// it stays as it is.
    pub(crate) fn put(self, incoming: &mut Incoming) {
        let message = self.with(&incoming.message).unwrap_or_else(|| incoming.message.clone());
        let mut parts = incoming.parts().clone();
        parts.extensions.insert(self);
        *incoming = Incoming::new(message, parts);
    }

    /// The message with this in it, and all its other bytes as they were.
    fn with(&self, message: &Message) -> Option<Message> {
        let json = message.as_bytes();
        let quoted = |text: &str| serde_json::Value::from(text).to_string();
        let mut members = vec![(PARENT, quoted(&self.parent))];
        if !self.state.is_empty() {
            members.push((STATE, quoted(&self.state)));
        }
        let mut edits: Vec<(Range<usize>, String)> = Vec::new();
        let added = |members: &[(&str, String)]| {
            let members: Vec<_> = members.iter().map(|(name, value)| format!("\"{name}\":{value}")).collect();
            members.join(",")
        };
        match (message.params(), message.param(&["_meta"])) {
            (Some(_), Some(meta)) => {
                let meta_at = place(json, meta)?;
                if json.get(meta_at.start) != Some(&b'{') {
                    return None;
                }
                let mut new = Vec::new();
                for (name, value) in members {
                    match message.param(&["_meta", name]) {
                        Some(old) => edits.push((place(json, old)?, value)),
                        None => new.push((name, value)),
                    }
                }
                // One that belongs to another parent would be wrong.
                if self.state.is_empty()
                    && let Some(old) = message.param(&["_meta", STATE])
                {
                    edits.push((place(json, old)?, "\"\"".to_owned()));
                }
                if !new.is_empty() {
                    edits.push(first_in(json, &meta_at, &added(&new)));
                }
            }
            (Some(params), None) => {
                // It may be there twice, or be written in another way; another one would make it worse.
                if memchr::memmem::find(params.as_bytes(), b"\"_meta\"").is_some() && named_twice(params) {
                    return None;
                }
                let params_at = place(json, params)?;
                if json.get(params_at.start) != Some(&b'{') {
                    return None;
                }
                edits.push(first_in(json, &params_at, &format!("\"_meta\":{{{}}}", added(&members))));
            }
            (None, _) => {
                // With `null`, there are some.
                if memchr::memmem::find(json, b"\"params\"").is_some() {
                    return None;
                }
                let end = json.iter().rposition(|&byte| byte == b'}')?;
                edits.push((end..end, format!(",\"params\":{{\"_meta\":{{{}}}}}", added(&members))));
            }
        }
        edits.sort_by_key(|(at, _)| at.start);
        let mut bytes = Vec::with_capacity(json.len() + 256);
        let mut from = 0;
        for (at, text) in edits {
            bytes.extend_from_slice(json.get(from..at.start)?);
            bytes.extend_from_slice(text.as_bytes());
            from = at.end;
        }
        bytes.extend_from_slice(json.get(from..)?);
        Message::parse(bytes).ok()
    }
}

/// Whether the object has several members `_meta`.
fn named_twice(object: &str) -> bool {
    #[derive(serde::Deserialize)]
    struct Once {
        #[serde(rename = "_meta")]
        _meta: Option<serde::de::IgnoredAny>,
    }
    // Of a member that is there twice, serde says so.
    serde_json::from_str::<Once>(object).is_err()
}

/// Members at the beginning of an object.
fn first_in(json: &[u8], object: &Range<usize>, members: &str) -> (Range<usize>, String) {
    let at = object.start + 1;
    let rest = json.get(at..object.end).unwrap_or_default();
    let is_empty = rest.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'}');
    (at..at, if is_empty { members.to_owned() } else { format!("{members},") })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn with(json: &str, state: &str) -> Option<String> {
        let carried = Carried { parent: HERE.to_owned(), state: state.to_owned() };
        let message = carried.with(&Message::parse(json.to_owned()).unwrap())?;
        Some(message.as_str().to_owned())
    }

    #[test]
    fn a_message_carries_it_in_its_meta_and_is_the_same_otherwise() {
        for (json, expected) in [
            (
                r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#,
                r#"{"jsonrpc":"2.0","id":1,"method":"ping","params":{"_meta":{"traceparent":"HERE"}}}"#,
            ),
            (
                r#"{ "jsonrpc":"2.0", "params" : { "name": "a" , "b":1e400 }, "id":1,"method":"m"}"#,
                r#"{ "jsonrpc":"2.0", "params" : {"_meta":{"traceparent":"HERE"}, "name": "a" , "b":1e400 }, "id":1,"method":"m"}"#,
            ),
            (
                r#"{"jsonrpc":"2.0","id":1,"method":"m","params":{ }}"#,
                r#"{"jsonrpc":"2.0","id":1,"method":"m","params":{"_meta":{"traceparent":"HERE"} }}"#,
            ),
            (
                r#"{"jsonrpc":"2.0","id":1,"method":"m","params":{"x":{"_meta":1},"_meta":{"progressToken":7}}}"#,
                r#"{"jsonrpc":"2.0","id":1,"method":"m","params":{"x":{"_meta":1},"_meta":{"traceparent":"HERE","progressToken":7}}}"#,
            ),
            (
                r#"{"jsonrpc":"2.0","id":1,"method":"m","params":{"_meta":{"traceparent":"old","tracestate":"a=b","k":"v"}}}"#,
                r#"{"jsonrpc":"2.0","id":1,"method":"m","params":{"_meta":{"traceparent":"HERE","tracestate":"","k":"v"}}}"#,
            ),
        ] {
            assert_eq!(with(json, "").as_deref(), Some(&*expected.replace("HERE", HERE)), "{json}");
        }
        let json = r#"{"jsonrpc":"2.0","id":1,"method":"m","params":{"_meta":{"tracestate":"a=b","traceparent":"x"}}}"#;
        let expected = json.replace("\"a=b\"", "\"c=d\"").replace("\"x\"", &format!("\"{HERE}\""));
        assert_eq!(with(json, "c=d"), Some(expected));
    }

    #[test]
    fn one_without_a_place_for_it_stays_as_it_is() {
        for json in [
            r#"{"jsonrpc":"2.0","id":1,"method":"m","params":[1]}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":"m","params":null}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":"m","params":{"_meta":null}}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":"m","params":{"_meta":{"a":1},"_meta":{"b":2}}}"#,
        ] {
            assert_eq!(with(json, ""), None, "{json}");
        }
    }

    #[test]
    fn what_is_too_long_or_no_text_is_not_read() {
        let read = |value: &str| {
            let json = format!(
                r#"{{"jsonrpc":"2.0","id":1,"method":"m","params":{{"_meta":{{"traceparent":{value}}}}}}}"#
            );
            Carried::in_message(&Message::parse(json).unwrap())
        };
        assert_eq!(read("\"x\"").unwrap().parent, "x");
        assert_eq!((read("7"), read(&format!("\"{}\"", "x".repeat(LONGEST)))), (None, None));
    }
}
