//! Keys, tokens or both before one endpoint.

use http::{header::AUTHORIZATION, request::Parts};
use mcp_sse::{Authenticate, Authentication, BearerTokens};
use mcp_sse_oauth::ProtectedResource;

/// What stands before an endpoint.
#[derive(Clone, Debug)]
pub(crate) enum Authenticator {
    Keys(BearerTokens),
    Tokens(ProtectedResource),
    Both(BearerTokens, ProtectedResource),
}

impl Authenticate for Authenticator {
    fn authenticate(&self, head: &Parts) -> Authentication {
        match self {
            Self::Keys(keys) => keys.authenticate(head),
            Self::Tokens(resource) => resource.authenticate(head),
            Self::Both(keys, resource) => match keys.authenticate(head) {
                // With a token in either header, something in front may have acted on the other one.
                Authentication::Done(Err(_)) if has_both(head) => Err(resource.several_tokens(head)).into(),
                // What a stranger is told leads to a token; a key is known to those who have one.
                Authentication::Done(Err(_)) => resource.authenticate(head),
                granted => granted,
            },
        }
    }
}

fn has_both(head: &Parts) -> bool {
    head.headers.contains_key(AUTHORIZATION) && head.headers.contains_key("x-api-key")
}
