//! URLs of issuers, keys and resources. What is compared or passed on stays as it was given, byte for byte: a parser
//! adds a slash here and there, and clients compare strings.

use url::{Host, Url};

/// Whether keys may come from there: encrypted, or within this machine.
pub(crate) fn is_safe(url: &Url) -> bool {
    url.scheme() == "https" || (url.scheme() == "http" && is_loopback(url))
}

/// A URL for the log and for errors: a query may be secret.
pub(crate) fn shown(url: &str) -> &str {
    url.split(['?', '#']).next().unwrap_or_default()
}

/// Whether it is on this machine.
pub(crate) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

/// An absolute HTTP URL that is written as it is meant; an error says why it is none.
pub(crate) fn parse(text: &str) -> Result<Url, String> {
    let url = Url::parse(text)
        .map_err(|error| format!("is not a URL ({error}); expected one such as https://example.com/path"))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err("is not a URL of http or https".to_owned());
    }
    // A parser guesses what is meant by fewer or more slashes.
    let rest = text.split_once("://").map(|(_, rest)| rest).unwrap_or_default();
    if rest.is_empty() || rest.starts_with(['/', ':']) {
        return Err("has no host after \"://\"; expected one such as https://example.com/path".to_owned());
    }
    if !text.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\')) {
        return Err("has a character that URLs cannot have; percent-encode it".to_owned());
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("has a user name or a password in it, which clients would see".to_owned());
    }
    if url.fragment().is_some() || url.query().is_some() {
        return Err("has a query or a fragment; expected none".to_owned());
    }
    Ok(url)
}

/// A URL that clients have, which they compare as their parsers write it.
pub(crate) fn parse_as_clients_do(text: &str) -> Result<Url, String> {
    let url = parse(text)?;
    let written = url.as_str();
    if text == written || (url.path() == "/" && Some(text) == written.strip_suffix('/')) {
        return Ok(url);
    }
    Err(format!("is written {written:?} by clients, which compare it; expected it like that"))
}

/// The URL of a well-known document, which stands between the host and the path (RFC 8615; RFC 8414, section 3.1; RFC
/// 9728, section 3.1).
pub(crate) fn well_known(text: &str, name: &str) -> String {
    let (origin, path) = split(text);
    format!("{origin}/.well-known/{name}{}", path.trim_end_matches('/'))
}

/// A URL as its origin and the rest.
pub(crate) fn split(text: &str) -> (&str, &str) {
    let after_scheme = text.find("://").map_or(0, |at| at + 3);
    let path = text[after_scheme..].find('/').map_or(text.len(), |at| after_scheme + at);
    text.split_at(path)
}

/// The host and port of a URL, as clients write them into `Host`.
pub(crate) fn authority(text: &str) -> &str {
    let (origin, _) = split(text);
    origin.split_once("://").map_or(origin, |(_, authority)| authority)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_absolute_and_has_neither_secrets_nor_a_query() {
        for good in ["https://a.example", "http://127.0.0.1:9000/", "https://a.example/realms/x"] {
            assert!(parse(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "a.example",
            "/sse",
            "ftp://a.example",
            "https://u:p@a.example",
            "https://u@a.example",
            "https://a.example/?x",
            "https://a.example/#x",
            "https://a.example/\"",
            "https://a.example/ x",
            "https://a.example/\u{e9}",
            "https://",
            "https:/a.example",
            "https:///a.example",
            "https:a.example",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_clients_compare_is_written_as_they_write_it() {
        for good in
            ["https://a.example", "https://a.example/", "https://a.example:8/@x/(y)", "http://[::1]:8/a%40b"]
        {
            assert!(parse_as_clients_do(good).is_ok(), "{good}");
        }
        for (bad, expected) in [
            ("https://A.example", "\"https://a.example/\""),
            ("https://a.example:443/sse", "\"https://a.example/sse\""),
            ("http://a.example:80", "\"http://a.example/\""),
            ("https://a.example/a/../b", "\"https://a.example/b\""),
            ("http://127.1/x", "\"http://127.0.0.1/x\""),
        ] {
            assert!(parse_as_clients_do(bad).unwrap_err().contains(expected), "{bad}");
        }
    }

    #[test]
    fn keys_come_encrypted_or_from_this_machine() {
        let safe = |text: &str| is_safe(&Url::parse(text).unwrap());
        for good in ["https://a.example", "http://localhost:1", "http://127.9.9.9", "http://[::1]:8"] {
            assert!(safe(good), "{good}");
        }
        for bad in ["http://a.example", "http://localhost.example", "http://10.0.0.1", "http://[::2]"] {
            assert!(!safe(bad), "{bad}");
        }
    }

    #[test]
    fn a_well_known_document_stands_between_the_host_and_the_path() {
        let at = |text: &str| well_known(text, "x");
        assert_eq!(at("https://a.example"), "https://a.example/.well-known/x");
        assert_eq!(at("https://a.example/"), "https://a.example/.well-known/x");
        assert_eq!(at("https://a.example:8/sse"), "https://a.example:8/.well-known/x/sse");
        assert_eq!(at("http://[::1]:8/a/b/"), "http://[::1]:8/.well-known/x/a/b");
        assert_eq!(authority("http://[::1]:8/a"), "[::1]:8");
        assert_eq!(authority("https://a.example"), "a.example");
    }
}
