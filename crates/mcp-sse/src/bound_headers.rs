//! Headers that say who a session's client is.

use std::{
    fmt,
    sync::{Mutex, MutexGuard, PoisonError},
};

use http::{HeaderMap, HeaderName};

/// Headers that say who the client of a session is, set by a proxy in front, say. The first request of the
/// session that bears one decides its value; a later request with another value is another client's.
///
/// [`ConnectSse::bind_headers`](crate::ConnectSse::bind_headers) checks them for sessions over SSE; this is for
/// those who serve other transports beside.
///
/// ```
/// use http::{HeaderMap, HeaderName};
/// use mcp_sse::BoundHeaders;
///
/// let request = |user: Option<&str>| -> HeaderMap {
///     user.map(|user| (HeaderName::from_static("x-user"), user.parse().unwrap())).into_iter().collect()
/// };
/// let bound = BoundHeaders::new([HeaderName::from_static("x-user")]);
/// assert!(bound.check(&request(None)).is_ok());
/// assert!(bound.check(&request(Some("alice"))).is_ok());
/// assert!(bound.check(&request(Some("mallory"))).is_err());
///
/// // One without it is taken for alice's.
/// let mut later = request(None);
/// assert!(bound.check(&later).is_ok());
/// bound.add_to(&mut later);
/// assert_eq!(later["x-user"], "alice");
/// ```
#[derive(Default)]
pub struct BoundHeaders {
    names: Vec<HeaderName>,
    values: Mutex<HeaderMap>,
}

/// A request bears a header with another value than the session's first one that bore it.
///
/// ```
/// use mcp_sse::OtherIdentity;
///
/// let refused = OtherIdentity { header: http::HeaderName::from_static("x-user") };
/// assert_eq!(
///     refused.to_string(),
///     "the header x-user has another value than before in this session; open a session of your own",
/// );
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the header {header} has another value than before in this session; open a session of your own")]
pub struct OtherIdentity {
    /// Which header. Its values are not told.
    pub header: HeaderName,
}

impl BoundHeaders {
    /// Nothing is decided yet.
    ///
    /// ```
    /// # use mcp_sse::BoundHeaders;
    /// assert!(BoundHeaders::new([]).check(&http::HeaderMap::new()).is_ok());
    /// ```
    pub fn new(names: impl IntoIterator<Item = HeaderName>) -> Self {
        Self { names: names.into_iter().collect(), values: Mutex::default() }
    }

    /// Checks the headers of a request, and keeps those that are the first of their name. A header that comes
    /// several times must do so each time, with the same values.
    ///
    /// # Errors
    ///
    /// [`OtherIdentity`] if one has another value than before; then none is kept.
    ///
    /// ```
    /// # use mcp_sse::BoundHeaders;
    /// let bound = BoundHeaders::new([http::HeaderName::from_static("x-user")]);
    /// let (parts, ()) = http::Request::get("/sse").header("x-user", "alice").body(())?.into_parts();
    /// assert!(bound.check(&parts.headers).is_ok());
    /// # Ok::<(), http::Error>(())
    /// ```
    pub fn check(&self, headers: &HeaderMap) -> Result<(), OtherIdentity> {
        if self.names.is_empty() {
            return Ok(());
        }
        let mut values = self.values();
        for header in self.names.iter().filter(|name| headers.contains_key(*name)) {
            if values.contains_key(header) && !values.get_all(header).iter().eq(headers.get_all(header)) {
                return Err(OtherIdentity { header: header.clone() });
            }
        }
        for header in &self.names {
            if !values.contains_key(header) {
                for value in headers.get_all(header) {
                    values.append(header, value.clone());
                }
            }
        }
        Ok(())
    }

    /// Gives a request the headers that it lacks and another one had.
    ///
    /// ```
    /// # use mcp_sse::BoundHeaders;
    /// let mut headers = http::HeaderMap::new();
    /// BoundHeaders::new([]).add_to(&mut headers);
    /// assert!(headers.is_empty());
    /// ```
    pub fn add_to(&self, headers: &mut HeaderMap) {
        if self.names.is_empty() {
            return;
        }
        let values = self.values();
        for header in values.keys() {
            if !headers.contains_key(header) {
                for value in values.get_all(header) {
                    headers.append(header, value.clone());
                }
            }
        }
    }

    /// Whether all have their values: then no later request changes what another one lacks.
    pub(crate) fn are_decided(&self) -> bool {
        let values = self.values();
        self.names.iter().all(|name| values.contains_key(name))
    }

    fn values(&self) -> MutexGuard<'_, HeaderMap> {
        self.values.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Without the values, which may be secret.
impl fmt::Debug for BoundHeaders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BoundHeaders").field("names", &self.names).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(HeaderName::from_static(name), value.parse().unwrap());
        }
        headers
    }

    #[test]
    fn a_refused_request_decides_nothing_and_several_values_are_one() {
        let bound = BoundHeaders::new(["a", "b"].map(HeaderName::from_static));
        bound.check(&headers(&[("a", "1"), ("a", "2")])).unwrap();
        for other in [&[("a", "1")][..], &[("a", "2"), ("a", "1")], &[("a", "1"), ("a", "2"), ("a", "3")]] {
            assert!(bound.check(&headers(other)).is_err(), "{other:?}");
        }
        assert!(bound.check(&headers(&[("a", "0"), ("b", "mallory")])).is_err());
        bound.check(&headers(&[("b", "alice")])).unwrap();
        let mut lacks = headers(&[("b", "alice")]);
        bound.add_to(&mut lacks);
        assert_eq!(lacks, headers(&[("a", "1"), ("a", "2"), ("b", "alice")]));
        assert!(!format!("{bound:?}").contains("alice"));
    }
}
