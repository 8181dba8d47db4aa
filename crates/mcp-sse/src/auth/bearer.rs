//! The token that a request has.

use http::{HeaderMap, header};

/// The token of a request, as in `Authorization: Bearer TOKEN` (RFC 6750, section 2.1). `Authorization` of another
/// scheme is not for us, such as that of a proxy.
///
/// ```
/// use http::{HeaderMap, HeaderValue, header::AUTHORIZATION};
/// use mcp_sse::BearerToken;
///
/// let mut headers = HeaderMap::new();
/// assert_eq!(BearerToken::of(&headers), BearerToken::None);
/// headers.append(AUTHORIZATION, HeaderValue::from_static("bearer abc"));
/// assert_eq!(BearerToken::of(&headers), BearerToken::One(b"abc"));
/// headers.append(AUTHORIZATION, HeaderValue::from_static("Bearer abc"));
/// assert_eq!(BearerToken::of(&headers), BearerToken::Several);
/// ```
#[derive(Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum BearerToken<'a> {
    /// There is none.
    None,
    /// There is one.
    One(&'a [u8]),
    /// There are several: something in front might have acted on another one than we would.
    Several,
}

impl<'a> BearerToken<'a> {
    /// The token of a request with these headers.
    pub fn of(headers: &'a HeaderMap) -> Self {
        Self::only(all(headers))
    }

    pub(super) fn only(mut tokens: impl Iterator<Item = &'a [u8]>) -> Self {
        match (tokens.next(), tokens.next()) {
            (None, _) => Self::None,
            (Some(token), None) => Self::One(token),
            (Some(_), Some(_)) => Self::Several,
        }
    }
}

impl std::fmt::Debug for BearerToken<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::None => "None",
            Self::One(_) => "One(…)",
            Self::Several => "Several",
        })
    }
}

pub(super) fn all(headers: &HeaderMap) -> impl Iterator<Item = &[u8]> {
    headers.get_all(header::AUTHORIZATION).iter().filter_map(|value| bearer(value.as_bytes()))
}

/// The token of `Bearer TOKEN`; the scheme is not case sensitive.
fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = value.split_at_checked(6)?;
    (scheme.eq_ignore_ascii_case(b"bearer") && token.starts_with(b" ")).then(|| token.trim_ascii())
}
