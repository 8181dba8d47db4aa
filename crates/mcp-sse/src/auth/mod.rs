//! Who a request comes from: what an authenticator says of it, and how long that holds.
//!
//! | room | what lives there |
//! |---|---|
//! | here | the trait of authenticators, and what they answer |
//! | `grant` | that a request comes from a principal, until this is revoked or expires |
//! | `session_grant` | the grants that a session's client has shown, and when the session ends because of that |
//! | `denial` | why a request is not let in |
//! | `bearer` | the token that a request has |
//! | `tokens` | an authenticator by a list of keys (feature `auth`) |

mod bearer;
mod denial;
mod grant;
mod session_grant;
#[cfg(feature = "auth")]
mod tokens;

use std::{fmt, pin::Pin};

use http::request::Parts;

pub(crate) use self::grant::Holder;
#[cfg(feature = "auth")]
pub use self::tokens::{BearerTokens, ParseTokensError, ReplacedTokens};
pub use self::{
    bearer::BearerToken,
    denial::Denial,
    grant::{Grant, Revocation},
    session_grant::{GrantEnd, SessionGrant},
};

/// Decides who a request comes from, by its head; given to a transport with
/// [`Builder::authenticate`](crate::Builder::authenticate).
///
/// It is asked after `Host` and `Origin` were checked, and not for preflights, which have no credentials. Nothing
/// of a request's body is read before it has answered.
///
/// ```
/// use http::{HeaderValue, request::Parts};
/// use mcp_sse::{Authenticate, Authentication, Denial, Grant, Principal, SseServerTransport};
///
/// /// Trusts a header that only the proxy in front can set.
/// struct FromProxy;
///
/// impl Authenticate for FromProxy {
///     fn authenticate(&self, head: &Parts) -> Authentication {
///         let user = head.headers.get("x-user").and_then(|user| user.to_str().ok());
///         user.map(|user| Grant::new(Principal::new(user)))
///             .ok_or_else(|| Denial::unauthorized(HeaderValue::from_static("Bearer")))
///             .into()
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let sse = SseServerTransport::builder("/messages/").authenticate(FromProxy).build()?;
/// let stranger = http::Request::get("http://localhost/sse").body(())?;
/// assert_eq!(sse.connect(&stranger).await.0.status(), 401);
/// let alice = http::Request::get("http://localhost/sse").header("x-user", "alice").body(())?;
/// assert_eq!(sse.connect(&alice).await.0.status(), 200);
/// # Ok(())
/// # }
/// ```
pub trait Authenticate: Send + Sync + 'static {
    /// Says who a request comes from. Called for each request, except those on one connection whose heads are the
    /// same but for the length: for these, the [`Grant`] is kept for as long as it is valid.
    fn authenticate(&self, head: &Parts) -> Authentication;
}

/// The answer of an authenticator.
#[non_exhaustive]
pub enum Authentication {
    /// The answer is known.
    Done(Result<Grant, Denial>),
    /// The answer has to be asked for, from another server for example. The request waits for it; how long it may
    /// take is for the authenticator to bound.
    Pending(Pin<Box<dyn Future<Output = Result<Grant, Denial>> + Send>>),
}

impl From<Result<Grant, Denial>> for Authentication {
    fn from(result: Result<Grant, Denial>) -> Self {
        Self::Done(result)
    }
}

impl fmt::Debug for Authentication {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Done(result) => f.debug_tuple("Done").field(result).finish(),
            Self::Pending(_) => f.write_str("Pending"),
        }
    }
}
