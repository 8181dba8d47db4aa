//! The checks that a request must pass before it reaches a session. Their order and the answers are fixed by
//! the wire contract: existing clients and tests match on the texts.
//!
//! | room | what lives there |
//! |---|---|
//! | here | the checks, in order → [`Admitted`] |
//! | `gate` | the first of them, if there is an authenticator: names, then who the request comes from |
//! | `rejection` | why a request is refused, as data |
//! | `security`, `authority` | `Host` and `Origin` against the lists; the parser for both |
//! | `cors` | the headers that pages of other origins need |
//!
//! A request that passes becomes [`Admitted`], which owns the head that was checked. The next step takes only
//! that, so no code path can skip the checks or act on a head that did not pass them.

mod authority;
mod cors;
mod gate;
mod rejection;
mod security;

use http::{HeaderMap, Method, header, request::Parts};

#[cfg(fuzzing)]
pub(crate) use self::authority::{Authority, Origin, Pattern};
pub use self::security::TransportSecuritySettings;
pub(crate) use self::{
    cors::{CorsHeaders, preflight},
    gate::{Entered, Entry, Gate},
    rejection::Rejection,
    security::Names,
};
use crate::{auth::Grant, id::SessionId};

/// The head of a request that passed the checks of its method, content type, host and origin.
#[derive(Debug)]
pub(crate) struct Admitted(Entered);

impl Admitted {
    pub(crate) fn parts(&self) -> &Parts {
        &self.0.parts
    }

    pub(crate) fn into_parts(self) -> Parts {
        self.0.parts
    }

    /// That the request comes from its principal, if an authenticator said so.
    pub(crate) fn grant(&self) -> Option<&Grant> {
        self.0.grant.as_ref()
    }

    /// The `at` in the query, if there is one: the replica that the session is at.
    pub(crate) fn at(&self) -> Option<&str> {
        let mut pairs = self.0.parts.uri.query()?.split('&').filter_map(|pair| pair.split_once('='));
        pairs.find(|(name, _)| *name == "at").map(|(_, at)| at)
    }

    /// The `session_id` in the query.
    pub(crate) fn session_id(&self) -> Result<SessionId, Rejection> {
        session_id(self.0.parts.uri.query())
    }
}

/// Checks the head of a GET, which asks for a stream.
pub(crate) fn get(entered: Entered, names: &Names) -> Result<Admitted, Rejection> {
    check_method(&entered.parts.method, &Method::GET, "GET")?;
    entered.check_names(names)?;
    Ok(Admitted(entered))
}

/// Checks the head of a POST, which brings a message.
pub(crate) fn post(entered: Entered, names: &Names) -> Result<Admitted, Rejection> {
    check_method(&entered.parts.method, &Method::POST, "POST")?;
    check_content_type(&entered.parts.headers)?;
    entered.check_names(names)?;
    Ok(Admitted(entered))
}

fn check_method(method: &Method, expected: &Method, allow: &'static str) -> Result<(), Rejection> {
    if method == expected { Ok(()) } else { Err(Rejection::MethodNotAllowed { allow }) }
}

fn check_content_type(headers: &HeaderMap) -> Result<(), Rejection> {
    let mut values = headers.get_all(header::CONTENT_TYPE).iter();
    let is_json = values.next().and_then(|value| value.to_str().ok()).is_some_and(|value| {
        let essence = value.split_once(';').map_or(value, |(essence, _)| essence);
        essence.trim_matches([' ', '\t']).eq_ignore_ascii_case("application/json")
    });
    if is_json && values.next().is_none() { Ok(()) } else { Err(Rejection::InvalidContentType) }
}

/// The `session_id` in a query.
pub(crate) fn session_id(query: Option<&str>) -> Result<SessionId, Rejection> {
    let mut values = query
        .unwrap_or_default()
        .split('&')
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .filter(|(name, _)| *name == "session_id")
        .map(|(_, value)| value);
    match (values.next(), values.next()) {
        (None | Some(""), _) => Err(Rejection::SessionIdRequired),
        // With two of them, a proxy in front might act on a different session than the server.
        (Some(_), Some(_)) => Err(Rejection::InvalidSessionId),
        (Some(value), None) => value.parse().map_err(|_| Rejection::InvalidSessionId),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_content_type_is_json_in_any_case_with_any_parameters() {
        let passes = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::CONTENT_TYPE, value.parse().unwrap());
            check_content_type(&headers).is_ok()
        };
        assert!(passes("application/json") && passes("Application/JSON; charset=utf-8"));
        assert!(passes("application/json ;x") && passes(" application/json"));
        for bad in
            ["application/jsonseq", "application/json-rpc", "text/plain", "", "json", "application/json,"]
        {
            assert!(!passes(bad), "{bad}");
        }
        assert!(check_content_type(&HeaderMap::new()).is_err());
    }

    #[test]
    fn the_session_id_is_one_parameter_of_the_query() {
        const HEX: &str = "0123456789abcdef0123456789abcdef";
        let id = HEX.parse().unwrap();
        assert_eq!(session_id(Some(&format!("session_id={HEX}"))), Ok(id));
        assert_eq!(session_id(Some(&format!("a=b&session_id={HEX}&c"))), Ok(id));
        assert_eq!(session_id(None), Err(Rejection::SessionIdRequired));
        for missing in ["", "session_id", "session_id=", "Session_id=1", "a=session_id"] {
            assert_eq!(session_id(Some(missing)), Err(Rejection::SessionIdRequired), "{missing}");
        }
        for bad in ["session_id=1", "session_id=%30", &format!("session_id={HEX}&session_id={HEX}")] {
            assert_eq!(session_id(Some(bad)), Err(Rejection::InvalidSessionId), "{bad}");
        }
    }
}
