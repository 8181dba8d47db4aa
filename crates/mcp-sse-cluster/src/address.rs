//! Where an engine is, as its URL says. What is shown of it has no user, no password and no token.

use std::fmt;

use percent_encoding::percent_decode_str;
use url::{Host, Url};

/// The URLs of one kind of engine.
pub(crate) struct Schemes {
    /// The schemes, and whether they are with TLS.
    pub(crate) names: &'static [(&'static str, bool)],
    /// The port of a URL without one.
    pub(crate) port: u16,
    /// Parameters of the query that are read over.
    pub(crate) ignored: &'static [&'static str],
}

#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Address {
    scheme: &'static str,
    pub(crate) is_tls: bool,
    /// Without brackets, if it is an address of IPv6.
    pub(crate) host: String,
    pub(crate) port: u16,
    /// As they are meant: not percent-encoded, and never empty.
    pub(crate) user: Option<String>,
    pub(crate) password: Option<String>,
    /// Without slashes around it.
    pub(crate) path: String,
}

const ENCODED: &str =
    "; in a user or a password, other characters than letters and digits are percent-encoded";

impl Address {
    /// Reads a URL, or says what is wrong with it, after "the URL", without repeating it.
    pub(crate) fn parse(text: &str, schemes: &Schemes) -> Result<Self, String> {
        // Without the slashes, a user would be read as the scheme.
        if !text.contains("://") {
            return Err("has no scheme".to_owned());
        }
        let url = Url::parse(text).map_err(|error| format!("cannot be read: {error}{ENCODED}"))?;
        let known = schemes.names.iter().find(|(name, _)| *name == url.scheme());
        let Some(&(scheme, is_tls)) = known else {
            return Err(format!("has the scheme {:?}", url.scheme()));
        };
        if url.fragment().is_some() {
            return Err(format!("has a part after #, which means nothing here{ENCODED}"));
        }
        if url.query_pairs().any(|(name, _)| !schemes.ignored.contains(&&*name)) {
            return Err(format!("has a query, which means nothing here{ENCODED}"));
        }
        let host = match url.host() {
            Some(Host::Domain(name)) if !name.is_empty() => name.to_owned(),
            Some(Host::Ipv4(ip)) => ip.to_string(),
            Some(Host::Ipv6(ip)) => ip.to_string(),
            Some(Host::Domain(_)) | None => return Err("has no host".to_owned()),
        };
        Ok(Self {
            scheme,
            is_tls,
            host,
            port: url.port().unwrap_or(schemes.port),
            user: decoded(Some(url.username()))?,
            password: decoded(url.password())?,
            path: url.path().trim_matches('/').to_owned(),
        })
    }
}

fn decoded(text: Option<&str>) -> Result<Option<String>, String> {
    let Some(text) = text.filter(|text| !text.is_empty()) else { return Ok(None) };
    match percent_decode_str(text).decode_utf8() {
        Ok(text) => Ok(Some(text.into_owned())),
        Err(_) => Err("has a user or a password that is not UTF-8".to_owned()),
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { scheme, host, port, .. } = self;
        if host.contains(':') {
            write!(f, "{scheme}://[{host}]:{port}")
        } else {
            write!(f, "{scheme}://{host}:{port}")
        }
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Address({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCHEMES: Schemes =
        Schemes { names: &[("redis", false), ("rediss", true)], port: 6379, ignored: &["protocol"] };

    fn parse(text: &str) -> Address {
        Address::parse(text, &SCHEMES).unwrap()
    }

    #[test]
    fn what_is_shown_of_an_address_has_no_secret() {
        for (url, shown) in [
            ("redis://host", "redis://host:6379"),
            ("rediss://host:7000/", "rediss://host:7000"),
            ("redis://:geheim@host/3", "redis://host:6379"),
            ("redis://user:geheim@127.0.0.1:1?protocol=resp2", "redis://127.0.0.1:1"),
            ("redis://geheim@[::1]:1", "redis://[::1]:1"),
        ] {
            let address = parse(url);
            assert_eq!(address.to_string(), shown);
            assert_eq!(format!("{address:?}"), format!("Address({shown})"));
        }
    }

    #[test]
    fn a_user_and_a_password_are_decoded() {
        let address = parse("redis://us%40er:p%2F%23%C3%BC@host");
        assert_eq!((address.user.as_deref(), address.password.as_deref()), (Some("us@er"), Some("p/#ü")));
        let address = parse("redis://:pw@host/3");
        assert_eq!((address.user.as_deref(), address.password.as_deref()), (None, Some("pw")));
        assert_eq!(address.path, "3");
        let address = parse("redis://user:@host");
        assert_eq!((address.user.as_deref(), address.password.as_deref()), (Some("user"), None));
        assert_eq!(parse("redis://[::1]").host, "::1");
    }

    #[test]
    fn what_is_wrong_is_said_without_the_secret() {
        for url in [
            "geheim@host",
            "user:geheim@host:1",
            "http://user:geheim@host",
            "redis://:geheim#1@host",
            "redis://:geheim/1@host",
            "redis://:geheim?1@host",
            "redis://user:geheim@host:99999",
            "redis://user:geheim@",
            "redis://user:geheim@host?geheim=1",
            "redis://user:geheim@host#geheim",
            "redis://user:geheim%FF@host",
            "redis:///geheim",
            "",
        ] {
            let why = Address::parse(url, &SCHEMES).unwrap_err();
            assert!(!why.contains("geheim"), "{url}: {why}");
        }
    }
}
