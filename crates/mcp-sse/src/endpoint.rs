//! Where clients post to: the configured endpoint path, the prefix that it is mounted under, and the URI in
//! the `endpoint` event, which consists of both.

use http::{HeaderMap, request::Parts};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::{error::ConfigError, forwarded::Forwarded, id::SessionId, replica::ReplicaId};

const FORWARDED_PREFIX: &str = "x-forwarded-prefix";
/// What is percent-encoded in a path that is given as plain text.
const OF_TEXT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'/');
/// What is percent-encoded in a path that comes from a URI: what a URI must not contain. "%" is handled
/// apart.
const OF_URI: &AsciiSet = &OF_TEXT
    .remove(b'!')
    .remove(b'$')
    .remove(b'&')
    .remove(b'\'')
    .remove(b'(')
    .remove(b')')
    .remove(b'*')
    .remove(b'+')
    .remove(b',')
    .remove(b';')
    .remove(b'=')
    .remove(b':')
    .remove(b'@');

/// The path of the endpoint: relative, percent-encoded, with a leading slash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct EndpointPath(String);

impl EndpointPath {
    /// Refuses a full URL, a network-path reference, a query and a fragment, so that a client only ever posts
    /// to the origin that it opened the stream on, and the server can be mounted anywhere.
    pub(crate) fn parse(endpoint: &str) -> Result<Self, ConfigError> {
        let refuse = |why| ConfigError::Endpoint { endpoint: endpoint.to_owned(), why };
        if endpoint.contains("://") {
            return Err(refuse("a full URL"));
        }
        if endpoint.starts_with("//") || endpoint.starts_with("/\\") || endpoint.starts_with('\\') {
            return Err(refuse("a network-path reference"));
        }
        if endpoint.contains('?') {
            return Err(refuse("a path with a query"));
        }
        if endpoint.contains('#') {
            return Err(refuse("a path with a fragment"));
        }
        if endpoint.chars().any(char::is_control) {
            return Err(refuse("a path with control characters"));
        }
        // Clients resolve dot segments and would post to another path.
        if endpoint.split('/').any(|segment| segment == "." || segment == "..") {
            return Err(refuse("a path with dot segments"));
        }
        let slash = if endpoint.starts_with('/') { "" } else { "/" };
        Ok(Self(format!("{slash}{}", encode(endpoint, false))))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// The URI that a session's client posts to.
    pub(crate) fn uri(&self, prefix: &str, session: SessionId, at: Option<&ReplicaId>) -> String {
        let (name, at) = at.map_or(("", ""), |at| ("&at=", at.as_str()));
        format!("{prefix}{}?session_id={}{name}{at}", self.0, session.expose_hex())
    }
}

/// Where the transport is mounted.
#[derive(Clone, Debug, Default)]
pub(crate) struct Mount {
    /// Configured by the user; takes precedence over what the request shows.
    prefix: Option<String>,
    trust_forwarded: bool,
}

impl Mount {
    pub(crate) fn new(prefix: Option<&str>, trust_forwarded: bool) -> Result<Self, ConfigError> {
        let prefix = prefix.map(|prefix| {
            normalize(prefix, false).ok_or_else(|| ConfigError::MountPrefix(prefix.to_owned()))
        });
        Ok(Self { prefix: prefix.transpose()?, trust_forwarded })
    }

    /// The prefix for the request that opens a stream: what a trusted proxy stripped from the path, followed
    /// by the configured prefix or, without one, what the router stripped.
    ///
    /// For a request that another replica has forwarded, it is the one there.
    pub(crate) fn prefix(&self, parts: &Parts) -> String {
        if let Some(forwarded) = parts.extensions.get::<Forwarded>() {
            return forwarded.mount_prefix.clone();
        }
        let forwarded = if self.trust_forwarded { forwarded(&parts.headers) } else { None };
        let own = self.prefix.clone().or_else(|| nested(parts));
        format!("{}{}", forwarded.unwrap_or_default(), own.unwrap_or_default())
    }
}

fn forwarded(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(FORWARDED_PREFIX)?;
    // Each proxy on the way may add a prefix; the first is the outermost one's.
    let first = value.to_str().ok().and_then(|value| value.split(',').next()).map(str::trim);
    let prefix = first.and_then(|first| normalize(first, true));
    if prefix.is_none() {
        tracing::warn!("X-Forwarded-Prefix is not a path and was ignored; expected one like /api");
    }
    prefix
}

/// The prefix that a router stripped: the part of the original path before the remaining path.
#[cfg(feature = "axum")]
fn nested(parts: &Parts) -> Option<String> {
    let original = parts.extensions.get::<axum::extract::OriginalUri>()?.0.path();
    let prefix = original.strip_suffix(parts.uri.path())?;
    normalize(prefix, true)
}

#[cfg(not(feature = "axum"))]
fn nested(_: &Parts) -> Option<String> {
    None
}

/// Brings a prefix into its normal form: a leading slash and no trailing one, or empty for no prefix. `None`
/// if it is not a path or would make the URI a network-path reference.
fn normalize(prefix: &str, already_encoded: bool) -> Option<String> {
    let prefix = prefix.trim_end_matches('/');
    if prefix.is_empty() {
        return Some(String::new());
    }
    let is_path = prefix.starts_with('/') && !prefix.starts_with("//") && !prefix.starts_with("/\\");
    let clean = !prefix.contains(['?', '#']) && !prefix.chars().any(char::is_control);
    let dots = prefix.split('/').any(|segment| segment == "." || segment == "..");
    (is_path && clean && !dots).then(|| encode(prefix, already_encoded))
}

/// The form in which paths of requests are compared: clients differ in what they percent-encode.
#[cfg(feature = "server")]
pub(crate) fn canonical(path: &str) -> String {
    encode_but_escapes(path, OF_TEXT)
}

fn encode(path: &str, already_encoded: bool) -> String {
    if already_encoded {
        encode_but_escapes(path, OF_URI)
    } else {
        utf8_percent_encode(path, OF_TEXT).to_string()
    }
}

/// Percent-encodes what is in the set, and keeps existing escapes.
fn encode_but_escapes(path: &str, set: &'static AsciiSet) -> String {
    let mut parts = path.split('%');
    let mut out = String::with_capacity(path.len());
    out.extend(utf8_percent_encode(parts.next().unwrap_or_default(), set));
    for part in parts {
        let is_escape =
            matches!(part.as_bytes(), [a, b, ..] if a.is_ascii_hexdigit() && b.is_ascii_hexdigit());
        out.push_str(if is_escape { "%" } else { "%25" });
        out.extend(utf8_percent_encode(part, set));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_relative_path_gets_a_leading_slash_and_is_percent_encoded() {
        for (endpoint, expected) in [
            ("/messages/", "/messages/"),
            ("messages", "/messages"),
            ("", "/"),
            ("/a b/ü", "/a%20b/%C3%BC"),
            ("/50%", "/50%25"),
            ("/a\\b", "/a%5Cb"),
        ] {
            assert_eq!(EndpointPath::parse(endpoint).unwrap().0, expected);
        }
    }

    #[test]
    fn what_is_not_a_relative_path_is_refused_with_what_came_and_what_is_expected() {
        for endpoint in [
            "https://example.com/messages/",
            "//example.com/messages/",
            "/messages?x=1",
            "/messages#x",
            "\\\\example.com",
            "/\\example.com",
            "/a/../b",
            "./a",
            "/a\nb",
        ] {
            let error = EndpointPath::parse(endpoint).unwrap_err().to_string();
            assert!(error.contains(&format!("{endpoint:?}")) && error.contains("/messages/"), "{error}");
        }
    }

    #[test]
    fn a_prefix_is_a_path_that_cannot_leave_the_origin() {
        assert_eq!(normalize("/api/", false).unwrap(), "/api");
        assert_eq!(normalize("", false).unwrap(), "");
        assert_eq!(normalize("/", false).unwrap(), "");
        assert_eq!(normalize("/a%20b:c", true).unwrap(), "/a%20b:c");
        assert_eq!(normalize("/50%/%zz%é%2", true).unwrap(), "/50%25/%25zz%25%C3%A9%252");
        for bad in ["api", "//evil.com", "/\\evil.com", "/a?b", "/a#b", "/a\r\nb", "/..", "https://evil.com"]
        {
            assert_eq!(normalize(bad, true), None, "{bad}");
        }
    }
}
