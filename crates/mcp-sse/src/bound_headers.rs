//! Headers that identify the client of a session.

use std::{
    fmt,
    sync::{Mutex, MutexGuard, PoisonError},
};

use http::{HeaderMap, HeaderName};

/// Headers that identify the client of a session, such as `X-User` from a proxy in front.
///
/// The first request of the session that has one of them sets its value. A later request with another value
/// is taken to be from another client and is refused; one without the header is given it.
///
/// [`ConnectSse::bind_headers`](crate::ConnectSse::bind_headers) does this for sessions over SSE; use this
/// type for sessions over another transport on the same port.
///
/// ```
/// use http::{HeaderName, Request};
/// use mcp_sse::{BoundHeaders, OtherIdentity};
///
/// /// A session over another transport.
/// struct OtherSession {
///     bound: BoundHeaders,
/// }
///
/// impl OtherSession {
///     fn admit<B>(&self, request: &mut Request<B>) -> Result<(), OtherIdentity> {
///         self.bound.check(request.headers())?;
///         self.bound.add_to(request.headers_mut());
///         Ok(())
///     }
/// }
///
/// let session = OtherSession { bound: BoundHeaders::new([HeaderName::from_static("x-user")]) };
/// session.admit(&mut Request::post("/mcp").header("x-user", "alice").body(())?)?;
/// let mut later = Request::post("/mcp").body(())?;
/// session.admit(&mut later)?;
/// assert_eq!(later.headers()["x-user"], "alice");
///
/// let mut other = Request::post("/mcp").header("x-user", "mallory").body(())?;
/// assert!(session.admit(&mut other).is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Default)]
pub struct BoundHeaders {
    names: Vec<HeaderName>,
    values: Mutex<HeaderMap>,
}

/// The error of [`BoundHeaders::check`]: a header has another value than the session's first request with it.
///
/// ```
/// use http::{Response, StatusCode};
/// use mcp_sse::OtherIdentity;
///
/// fn refusal(error: &OtherIdentity) -> Response<String> {
///     let mut response = Response::new(error.to_string());
///     *response.status_mut() = StatusCode::FORBIDDEN;
///     response
/// }
/// # let bound = mcp_sse::BoundHeaders::new([http::HeaderName::from_static("x-user")]);
/// # let user = |name: &str| http::Request::get("/").header("x-user", name).body(()).unwrap().into_parts().0.headers;
/// # bound.check(&user("alice")).unwrap();
/// # let error = bound.check(&user("mallory")).unwrap_err();
/// # assert!(refusal(&error).body().starts_with("the header x-user has another value than before"));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the header {header} has another value than before in this session; open a session of your own")]
#[non_exhaustive]
pub struct OtherIdentity {
    /// The name of the header. Its values are left out, since they may be secret.
    pub header: HeaderName,
}

impl BoundHeaders {
    /// The headers with these names, none of which has a value yet.
    ///
    /// ```
    /// use http::HeaderName;
    /// use mcp_sse::BoundHeaders;
    ///
    /// let bound = BoundHeaders::new(["x-tenant", "x-user"].map(HeaderName::from_static));
    /// # drop(bound);
    /// ```
    pub fn new(names: impl IntoIterator<Item = HeaderName>) -> Self {
        Self { names: names.into_iter().collect(), values: Mutex::default() }
    }

    /// Checks the headers of a request, and stores the values of those that had none yet. A header that
    /// appears several times in one request must appear as often, with the same values, in all of them.
    ///
    /// # Errors
    ///
    /// [`OtherIdentity`] if one has another value than before; then nothing of the request is stored.
    ///
    /// ```
    /// # use mcp_sse::BoundHeaders;
    /// let bound = BoundHeaders::new([http::HeaderName::from_static("x-user")]);
    /// let first = http::Request::get("/mcp").header("x-user", "alice").body(())?;
    /// bound.check(first.headers())?; // from now on, only alice
    /// # Ok::<(), Box<dyn std::error::Error>>(())
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

    /// Adds to a request the headers that it lacks and an earlier request of the session had.
    ///
    /// ```
    /// # use mcp_sse::BoundHeaders;
    /// # let bound = BoundHeaders::new([http::HeaderName::from_static("x-user")]);
    /// # bound.check(http::Request::get("/mcp").header("x-user", "alice").body(())?.headers())?;
    /// // An earlier request had `x-user: alice`.
    /// let mut later = http::Request::post("/mcp").body("{}")?;
    /// bound.add_to(later.headers_mut());
    /// assert_eq!(later.headers()["x-user"], "alice");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
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

    /// Whether every header has its value: then no later request can change what `add_to` adds.
    pub(crate) fn are_decided(&self) -> bool {
        let values = self.values();
        self.names.iter().all(|name| values.contains_key(name))
    }

    fn values(&self) -> MutexGuard<'_, HeaderMap> {
        self.values.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Leaves out the values, which may be secret.
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
