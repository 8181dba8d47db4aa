//! The heads of requests: which of them are of the stateless era, what they admit, and whether they say the same as their bodies.

use http::{
    HeaderMap, HeaderName,
    header::{ACCEPT, CONTENT_TYPE},
    request::Parts,
};
use mcp_sse::{Message, MessageKind};

use crate::{
    bridge::modern_client::Fault,
    message::modern::{self, VERSION, code, header, meta},
};

/// Whether a request is of the stateless era: it belongs to no session, and names a revision that has none.
pub(crate) fn is_modern(parts: &Parts) -> bool {
    let version = parts.headers.get(header::PROTOCOL_VERSION).and_then(|version| version.to_str().ok());
    !parts.headers.contains_key("mcp-session-id")
        && version.is_some_and(|version| is_date(version) && version >= VERSION)
}

/// Revisions are named by dates, which are in order as texts.
fn is_date(version: &str) -> bool {
    version.len() == 10
        && version.bytes().enumerate().all(|(at, byte)| match at {
            4 | 7 => byte == b'-',
            _ => byte.is_ascii_digit(),
        })
}

/// Which types of answers a client reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Admits {
    pub(super) json: bool,
    pub(super) stream: bool,
}

impl Admits {
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let mut all = headers.get_all(ACCEPT).iter().peekable();
        if all.peek().is_none() {
            return Self { json: true, stream: true };
        }
        let mut admits = Self { json: false, stream: false };
        for range in all.filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(',')) {
            let mut parts = range.split(';').map(str::trim);
            let range = parts.next().unwrap_or_default().to_ascii_lowercase();
            let is_refused = parts.filter_map(|part| part.split_once('=')).any(|(name, value)| {
                name.trim().eq_ignore_ascii_case("q") && value.trim().parse::<f32>().is_ok_and(|q| q <= 0.0)
            });
            if !is_refused {
                admits.json |= matches!(&*range, "*/*" | "application/*" | "application/json");
                admits.stream |= matches!(&*range, "*/*" | "text/*" | "text/event-stream");
            }
        }
        admits
    }
}

pub(super) fn is_json(headers: &HeaderMap) -> bool {
    let value = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    value.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json"))
}

/// Whether the head says the same as the body: of two that differ, those on the way may have believed the other one.
pub(super) fn check(headers: &HeaderMap, message: &Message) -> Result<(), Fault> {
    let text = |json: &str| serde_json::from_str::<String>(json).ok();
    let version = message.param(&["_meta", meta::PROTOCOL_VERSION]).and_then(text);
    if let Some(version) = version {
        same(headers, &header::PROTOCOL_VERSION, &version)?;
    }
    same(headers, &header::METHOD, message.method().unwrap_or_default())?;
    let MessageKind::Request { method, .. } = message.kind() else { return Ok(()) };
    let name = modern::name_parameter(method).and_then(|name| message.param(&[name]));
    match name.and_then(text) {
        Some(name) => same(headers, &header::NAME, &name),
        None => Ok(()),
    }
}

fn same(headers: &HeaderMap, name: &HeaderName, body: &str) -> Result<(), Fault> {
    let mut values = headers.get_all(name).iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return Err(mismatch(name, "is missing, or is there several times"));
    };
    let value = value.to_str().ok().and_then(modern::decoded);
    match value {
        Some(value) if value == body => Ok(()),
        Some(_) => Err(mismatch(name, "says something else than the body")),
        None => Err(mismatch(name, "is neither plain ASCII nor text in base64")),
    }
}

fn mismatch(name: &HeaderName, why: &str) -> Fault {
    let name = match name.as_str() {
        "mcp-protocol-version" => "MCP-Protocol-Version",
        "mcp-method" => "Mcp-Method",
        _ => "Mcp-Name",
    };
    Fault::new(code::HEADER_MISMATCH, format!("Header mismatch: {name} {why}"))
}

/// The headers with these names, as one text.
pub(super) fn values(headers: &HeaderMap, names: &[HeaderName]) -> Box<[u8]> {
    let mut all = Vec::new();
    for name in names {
        for value in headers.get_all(name) {
            let entry = [name.as_str().as_bytes(), b":", value.as_bytes(), b"\n"].concat();
            all.extend_from_slice(&entry);
        }
    }
    all.into()
}

/// The least that a head has to be for a message that no client's head came with.
pub(super) fn lean(parts: &Parts) -> Parts {
    let mut parts = parts.clone();
    for name in [CONTENT_TYPE, ACCEPT, header::METHOD, header::NAME] {
        parts.headers.remove(name);
    }
    parts
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn head(headers: &[(&str, &str)]) -> Parts {
        let mut request = Request::post("/mcp");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    #[test]
    fn a_request_is_of_the_stateless_era_by_its_head() {
        for (version, is_it) in [
            ("2026-07-28", true),
            ("2099-01-01", true),
            ("2025-11-25", false),
            ("2026-07-2x", false),
            ("zzzz", false),
            ("DRAFT-2026-v1", false),
        ] {
            assert_eq!(is_modern(&head(&[("MCP-Protocol-Version", version)])), is_it, "{version}");
        }
        assert!(!is_modern(&head(&[])));
        assert!(!is_modern(&head(&[("MCP-Protocol-Version", "2026-07-28"), ("Mcp-Session-Id", "x")])));
    }

    #[test]
    fn what_a_client_reads_stands_in_accept() {
        let admits = |accept: &[&str]| {
            let headers: Vec<_> = accept.iter().map(|accept| ("accept", *accept)).collect();
            let Admits { json, stream } = Admits::of(&head(&headers).headers);
            (json, stream)
        };
        assert_eq!(admits(&[]), (true, true));
        assert_eq!(admits(&["application/json, text/event-stream"]), (true, true));
        assert_eq!(admits(&["Application/JSON;q=0.5"]), (true, false));
        assert_eq!(admits(&["text/event-stream", "application/json;q=0"]), (false, true));
        assert_eq!(admits(&["*/*"]), (true, true));
        assert_eq!(admits(&["text/html"]), (false, false));
    }

    #[test]
    fn a_head_that_says_something_else_than_its_body_is_refused() {
        let call = Message::parse(
            r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"grüße","_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}}}"#,
        )
        .unwrap();
        let version = ("MCP-Protocol-Version", "2026-07-28");
        let method = ("Mcp-Method", "tools/call");
        let name = ("Mcp-Name", "=?base64?Z3LDvMOfZQ==?=");
        let checked = |headers: &[(&str, &str)]| check(&head(headers).headers, &call);
        assert_eq!(checked(&[version, method, name]), Ok(()));
        for wrong in [
            &[method, name][..],
            &[("MCP-Protocol-Version", "2026-07-29"), method, name],
            &[version, name],
            &[version, ("Mcp-Method", "Tools/call"), name],
            &[version, method],
            &[version, method, ("Mcp-Name", "other")],
            &[version, method, ("Mcp-Name", "=?base64?%?=")],
            &[version, method, name, name],
        ] {
            assert_eq!(checked(wrong).unwrap_err().code, code::HEADER_MISMATCH, "{wrong:?}");
        }
        let other = Message::parse(r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#).unwrap();
        assert_eq!(check(&head(&[("Mcp-Method", "tools/list"), ("Mcp-Name", "x")]).headers, &other), Ok(()));
    }
}
