//! Words of the stateless revision of MCP, 2026-07-28, which the specification calls *modern*: what stands in messages
//! and in the headers beside them. Sources: the specification's pages on versioning, Streamable HTTP and multi-round-trip
//! requests.

use std::borrow::Cow;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use http::{HeaderMap, HeaderValue};
use mcp_sse::Message;

/// The revision that is spoken to modern servers, and understood of modern clients.
pub(crate) const VERSION: &str = "2026-07-28";
/// The revisions with a handshake, the oldest first.
pub(crate) const LEGACY_VERSIONS: [&str; 4] = ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"];

/// Members of `_meta`.
pub(crate) mod meta {
    pub(crate) const PROTOCOL_VERSION: &str = "io.modelcontextprotocol/protocolVersion";
    pub(crate) const CLIENT_CAPABILITIES: &str = "io.modelcontextprotocol/clientCapabilities";
    pub(crate) const CLIENT_INFO: &str = "io.modelcontextprotocol/clientInfo";
    pub(crate) const LOG_LEVEL: &str = "io.modelcontextprotocol/logLevel";
    pub(crate) const SERVER_INFO: &str = "io.modelcontextprotocol/serverInfo";
    pub(crate) const SUBSCRIPTION_ID: &str = "io.modelcontextprotocol/subscriptionId";
}

/// Codes of errors.
pub(crate) mod code {
    pub(crate) const INVALID_REQUEST: i32 = -32600;
    pub(crate) const METHOD_NOT_FOUND: i32 = -32601;
    pub(crate) const INVALID_PARAMS: i32 = -32602;
    pub(crate) const INTERNAL_ERROR: i32 = -32603;
    /// In revisions with a handshake only.
    pub(crate) const RESOURCE_NOT_FOUND: i32 = -32002;
    pub(crate) const HEADER_MISMATCH: i32 = -32020;
    pub(crate) const MISSING_CLIENT_CAPABILITY: i32 = -32021;
    pub(crate) const UNSUPPORTED_PROTOCOL_VERSION: i32 = -32022;
}

/// Names of headers.
pub(crate) mod header {
    use http::HeaderName;

    pub(crate) const PROTOCOL_VERSION: HeaderName = HeaderName::from_static("mcp-protocol-version");
    pub(crate) const METHOD: HeaderName = HeaderName::from_static("mcp-method");
    pub(crate) const NAME: HeaderName = HeaderName::from_static("mcp-name");
    /// What the names of headers begin with that repeat a parameter of a tool.
    pub(crate) const PARAM_PREFIX: &str = "mcp-param-";
}

/// The levels of log messages, the least severe first.
pub(crate) const LOG_LEVELS: [&str; 8] =
    ["debug", "info", "notice", "warning", "error", "critical", "alert", "emergency"];

/// The parameter whose value is repeated in `Mcp-Name`, for requests with this method.
pub(crate) fn name_parameter(method: &str) -> Option<&'static str> {
    match method {
        "tools/call" | "prompts/get" => Some("name"),
        "resources/read" => Some("uri"),
        _ => None,
    }
}

/// The headers of a message for a server of this revision, beside its body: among the extensions of its head.
#[derive(Clone, Debug, Default)]
pub(crate) struct Headers(pub(crate) HeaderMap);

/// The headers that say again what a request says, beside the parameters of tools.
pub(crate) fn headers_of(message: &Message) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let method = message.method().unwrap_or_default();
    headers.extend(HeaderValue::from_str(method).ok().map(|value| (header::METHOD, value)));
    let text = |name: &str| -> Option<String> { serde_json::from_str(message.param(&[name])?).ok() };
    if let Some(name) = name_parameter(method).and_then(text) {
        headers.extend(HeaderValue::from_str(&encoded(&name)).ok().map(|value| (header::NAME, value)));
    }
    headers
}

/// Whether a message carries its protocol version, as each request of this revision does.
pub(crate) fn names_its_version(message: &Message) -> bool {
    message.param(&["_meta", meta::PROTOCOL_VERSION]).is_some_and(|version| version.starts_with('"'))
}

const SENTINEL: (&str, &str) = ("=?base64?", "?=");

/// A value as a header has it: as it is, or in base64 where it has other characters than visible ASCII, spaces and tabs, has
/// spaces at its ends, or looks like one in base64.
pub(crate) fn encoded(value: &str) -> Cow<'_, str> {
    let is_plain = value.bytes().all(|byte| matches!(byte, b' '..=b'~' | b'\t'));
    let has_ends = value.starts_with([' ', '\t']) || value.ends_with([' ', '\t']);
    let looks_encoded = value.starts_with(SENTINEL.0) && value.ends_with(SENTINEL.1);
    if is_plain && !has_ends && !looks_encoded {
        return Cow::Borrowed(value);
    }
    Cow::Owned(format!("{}{}{}", SENTINEL.0, BASE64_STANDARD.encode(value), SENTINEL.1))
}

/// A value that a header has; `None` if it is no text.
pub(crate) fn decoded(value: &str) -> Option<Cow<'_, str>> {
    let inner = value.strip_prefix(SENTINEL.0).and_then(|rest| rest.strip_suffix(SENTINEL.1));
    let Some(inner) = inner else { return Some(Cow::Borrowed(value)) };
    let bytes = BASE64_STANDARD.decode(inner).ok()?;
    String::from_utf8(bytes).ok().map(Cow::Owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_that_no_header_may_have_is_in_base64() {
        for (value, header) in [
            ("echo", "echo"),
            ("", ""),
            ("two words\tand", "two words\tand"),
            (" echo", "=?base64?IGVjaG8=?="),
            ("echo\t", "=?base64?ZWNobwk=?="),
            ("grüße", "=?base64?Z3LDvMOfZQ==?="),
            ("a\nb", "=?base64?YQpi?="),
            ("=?base64?x?=", "=?base64?PT9iYXNlNjQ/eD89?="),
            ("=?base64?", "=?base64?"),
        ] {
            assert_eq!(encoded(value), header);
            assert_eq!(decoded(header).as_deref(), Some(value));
        }
        assert_eq!(decoded("=?base64?%?="), None);
        assert_eq!(decoded("=?base64?/w==?="), None, "not UTF-8");
    }
}
