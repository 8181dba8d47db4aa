//! Errors in settings.

/// Why an authorization server or a resource was not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OAuthConfigError {
    /// Not the URL of an authorization server.
    #[error("the issuer {given:?} {why}")]
    Issuer {
        /// What was given.
        given: String,
        /// What is wrong with it, and what was expected.
        why: String,
    },
    /// Not a URL where keys can be fetched.
    #[error("the JWKS URL {given:?} {why}")]
    JwksUrl {
        /// What was given.
        given: String,
        /// What is wrong with it, and what was expected.
        why: String,
    },
    /// Not a usable set of keys.
    #[error("not a usable JWK set: {0}")]
    Jwks(String),
    /// It was not said where the keys come from.
    #[error("there are no keys for the issuer; call one of discover, jwks_url and jwks")]
    NoKeys,
    /// Not the URL of a resource.
    #[error("the resource {given:?} {why}")]
    Resource {
        /// What was given.
        given: String,
        /// What is wrong with it, and what was expected.
        why: String,
    },
    /// Not an audience.
    #[error("an audience is empty; expected the URL or the name that tokens for this server have as \"aud\"")]
    Audience,
    /// Not a scope.
    #[error(
        "the scope {0:?} has a character that scopes cannot have; expected printable ASCII without spaces, quotes and backslashes (RFC 6749, section 3.3)"
    )]
    Scope(String),
    /// The time is too long.
    #[error("a leeway of {given} s is too long; expected at most {most} s")]
    Leeway {
        /// What was given, in seconds.
        given: u64,
        /// The most, in seconds.
        most: u64,
    },
}
