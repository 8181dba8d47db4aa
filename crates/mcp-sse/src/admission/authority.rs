//! A strict parser for the values of `Host` and `Origin`.
//!
//! Names are parsed, never compared by prefix: `localhost:evil` is not a valid authority, and `[::1]:8080` is
//! one with a port.

use std::net::Ipv6Addr;

/// A host and, if given, a port. Names are lowercased; IPv6 addresses are compared by value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Authority {
    host: Host,
    port: Option<u16>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Host {
    Name(String),
    V6(Ipv6Addr),
}

/// A scheme and an authority, or the opaque origin `null`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    Null,
    Tuple { scheme: String, authority: Authority },
}

/// An entry of an allow list: a value with exactly its port (or none), or with any port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pattern<T> {
    value: T,
    any_port: bool,
}

impl Authority {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (host, port) = if let Some(rest) = text.strip_prefix('[') {
            let (address, rest) = rest.split_once(']')?;
            // `Ipv6Addr` accepts no zone, no brackets and no spaces.
            let host = Host::V6(address.parse().ok()?);
            match rest {
                "" => (host, None),
                _ => (host, Some(rest.strip_prefix(':')?)),
            }
        } else {
            let (host, port) = match text.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (text, None),
            };
            let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_');
            if host.is_empty() || host.len() > 253 || !host.bytes().all(allowed) {
                return None;
            }
            (Host::Name(host.to_ascii_lowercase()), port)
        };
        let port = match port {
            None => None,
            Some(digits) if (1..=5).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit()) => {
                Some(digits.parse().ok()?)
            }
            Some(_) => return None,
        };
        Some(Self { host, port })
    }
}

impl Origin {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        if text == "null" {
            return Some(Self::Null);
        }
        let (scheme, authority) = text.split_once("://")?;
        let mut bytes = scheme.bytes();
        let starts_well = bytes.next().is_some_and(|b| b.is_ascii_alphabetic());
        if !starts_well || !bytes.all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.')) {
            return None;
        }
        Some(Self::Tuple { scheme: scheme.to_ascii_lowercase(), authority: Authority::parse(authority)? })
    }
}

impl Pattern<Authority> {
    pub(crate) fn parse(entry: &str) -> Option<Self> {
        match entry.strip_suffix(":*") {
            Some(host) => {
                let value = Authority::parse(host).filter(|a| a.port.is_none())?;
                Some(Self { value, any_port: true })
            }
            None => Some(Self { value: Authority::parse(entry)?, any_port: false }),
        }
    }

    pub(crate) fn matches(&self, authority: &Authority) -> bool {
        self.value.host == authority.host && (self.any_port || self.value.port == authority.port)
    }
}

impl Pattern<Origin> {
    pub(crate) fn parse(entry: &str) -> Option<Self> {
        match entry.strip_suffix(":*") {
            Some(origin) => match Origin::parse(origin)? {
                Origin::Tuple { authority: Authority { port: Some(_), .. }, .. } | Origin::Null => None,
                value @ Origin::Tuple { .. } => Some(Self { value, any_port: true }),
            },
            None => Some(Self { value: Origin::parse(entry)?, any_port: false }),
        }
    }

    pub(crate) fn matches(&self, origin: &Origin) -> bool {
        match (&self.value, origin) {
            (Origin::Null, Origin::Null) => true,
            (
                Origin::Tuple { scheme, authority },
                Origin::Tuple { scheme: other_scheme, authority: other },
            ) => {
                scheme == other_scheme
                    && authority.host == other.host
                    && (self.any_port || authority.port == other.port)
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host_passes(entry: &str, host: &str) -> bool {
        let pattern = Pattern::<Authority>::parse(entry).unwrap();
        Authority::parse(host).is_some_and(|authority| pattern.matches(&authority))
    }

    fn origin_passes(entry: &str, origin: &str) -> bool {
        let pattern = Pattern::<Origin>::parse(entry).unwrap();
        Origin::parse(origin).is_some_and(|origin| pattern.matches(&origin))
    }

    #[test]
    fn an_entry_matches_exactly_or_with_any_port() {
        assert!(host_passes("localhost", "localhost") && host_passes("localhost", "LocalHost"));
        assert!(!host_passes("localhost", "localhost:80") && !host_passes("localhost:80", "localhost"));
        assert!(host_passes("localhost:80", "localhost:80") && !host_passes("localhost:80", "localhost:81"));
        assert!(host_passes("localhost:*", "localhost:81") && host_passes("localhost:*", "localhost"));
        assert!(host_passes("[::1]:*", "[::1]:8080") && host_passes("[::1]:*", "[0:0::1]:8080"));
    }

    #[test]
    fn what_only_looks_like_an_allowed_host_does_not_pass() {
        for host in [
            "localhost:evil",
            "localhost:",
            "localhost:80:80",
            "localhost:123456",
            "localhost:99999",
            "localhost:+80",
            "localhost:8０",
            "localhost.",
            "localhost.evil.com",
            "evil-localhost",
            "localhost@evil.com",
            "user@localhost",
            "localhost/",
            "localhost evil",
            " localhost",
            "",
            "localhost\u{0}",
            "[::1]:80",
            "[localhost]",
            "::1",
            "ｌocalhost",
        ] {
            assert!(!host_passes("localhost:*", host), "{host:?}");
        }
        for host in ["[::1]8080", "[::1", "::1", "[::1]:", "[::1%25lo]", "[::2]:1", "[::1]]:1", "[]"] {
            assert!(!host_passes("[::1]:*", host), "{host:?}");
        }
    }

    #[test]
    fn an_origin_is_a_scheme_and_an_authority_and_nothing_else() {
        assert!(origin_passes("http://localhost:*", "http://localhost:3000"));
        assert!(origin_passes("http://localhost:*", "HTTP://localhost"));
        assert!(origin_passes("chrome-extension://abc", "chrome-extension://abc"));
        assert!(origin_passes("null", "null"));
        for origin in [
            "https://localhost:3000",
            "http://localhost:3000/",
            "http://localhost:evil",
            "http://evil.com",
            "null",
            "",
            "localhost",
            "http//localhost",
            "://localhost",
            "http://",
            "http://a@localhost",
            "http://localhost http://evil.com",
        ] {
            assert!(!origin_passes("http://localhost:*", origin), "{origin:?}");
        }
    }

    #[test]
    fn a_wrong_entry_is_no_pattern() {
        for entry in ["", "*", "*:*", "localhost:80:*", "http://localhost", "local host", "*.example.com"] {
            assert_eq!(Pattern::<Authority>::parse(entry), None, "{entry:?}");
        }
        for entry in ["", "*", "localhost:*", "http://localhost/", "null:*", "http://a:1:*"] {
            assert_eq!(Pattern::<Origin>::parse(entry), None, "{entry:?}");
        }
    }
}
