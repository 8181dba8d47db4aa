//! Who a session belongs to.

use std::{fmt, sync::Arc};

/// The authenticated client that a request comes from: a user name, the subject of a token, a tenant and a
/// user in one string.
///
/// An authentication layer in front of the transport puts it into the request's extensions. The session that
/// a `GET` opens belongs to its principal for its whole life: every POST and every reconnect is checked, and
/// for any other principal, and for a request without one, the session does not exist.
///
/// It is text, compared byte by byte, so that two layers that name the same client agree. `Debug` does not
/// show it, because it may be a secret.
///
/// ```
/// use mcp_sse::Principal;
///
/// // In an authentication layer:
/// let mut request = http::Request::new(());
/// request.extensions_mut().insert(Principal::new("alice"));
///
/// // In a tool, with `Incoming::parts` or rmcp's `Parts`:
/// let principal: Option<&Principal> = request.extensions().get();
/// assert_eq!(principal.map(Principal::as_str), Some("alice"));
/// ```
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Principal(Arc<str>);

impl Principal {
    /// The principal with this name.
    ///
    /// ```
    /// use mcp_sse::Principal;
    ///
    /// let (tenant, user) = ("seven", "alice");
    /// let principal = Principal::new(format!("{tenant}/{user}"));
    /// assert_eq!(principal, Principal::new("seven/alice"));
    /// ```
    pub fn new(name: impl Into<Arc<str>>) -> Self {
        Self(name.into())
    }

    /// The name, as it was given to [`new`](Self::new).
    ///
    /// ```
    /// # use mcp_sse::Principal;
    /// # let principal = Principal::new("seven/alice");
    /// let tenant = principal.as_str().split_once('/').map(|(tenant, _)| tenant);
    /// assert_eq!(tenant, Some("seven"));
    /// ```
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Principal(…)")
    }
}
