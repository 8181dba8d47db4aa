//! A resource that needs tokens: which ones, and what clients are told that have none.

use std::{fmt, sync::Arc};

use http::{HeaderMap, HeaderValue, header, request::Parts};
use mcp_sse::{Authenticate, Authentication, BearerToken, ClientIp, Denial, Grant};

use crate::{
    cache::Verified,
    error::OAuthConfigError,
    server::{Answer, AuthorizationServer, Refusal},
    urls,
};

/// An endpoint that needs a token of an [`AuthorizationServer`], for this endpoint. Clones are the same resource.
///
/// It is an authenticator: give it to [`Builder::authenticate`](mcp_sse::Builder::authenticate), or make it a tower layer
/// with [`GuardLayer::authenticate`](mcp_sse::GuardLayer::authenticate). What passes has its
/// [`Principal`](mcp_sse::Principal) and its [`Grant`] in its extensions. A request
///
/// - without a token gets 401 with `WWW-Authenticate: Bearer resource_metadata="…", scope="…"`, by which MCP clients find
///   the authorization server (RFC 9728, section 5.1);
/// - with a token that is not valid, or not for this resource, gets 401 with `error="invalid_token"`;
/// - with one that has not all scopes gets 403 with `error="insufficient_scope"`;
/// - whose token cannot be checked now gets 503 with `Retry-After`.
///
/// The document that the first answer names is served by [`metadata`](Self::metadata).
///
/// ```
/// use mcp_sse::SseServerTransport;
/// use mcp_sse_oauth::{AuthorizationServer, ProtectedResource};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let keys = r#"{"keys": [{"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#;
/// let login = AuthorizationServer::builder("https://login.example.com").jwks(keys).build()?;
/// let resource = ProtectedResource::new(&login, "https://mcp.example.com/sse")?.require_scopes(["mcp"])?;
/// let sse = SseServerTransport::builder("/messages/").authenticate(resource).build()?;
///
/// let stranger = http::Request::get("http://localhost/sse").body(())?;
/// let (response, _) = sse.connect(&stranger).await;
/// assert_eq!(response.status(), 401);
/// assert_eq!(
///     response.headers()["www-authenticate"],
///     "Bearer resource_metadata=\"https://mcp.example.com/.well-known/oauth-protected-resource/sse\", scope=\"mcp\""
/// );
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct ProtectedResource(pub(crate) Arc<Inner>);

#[derive(Clone)]
pub(crate) struct Inner {
    pub(crate) server: AuthorizationServer,
    /// The first one is meant if a request does not name one of the hosts.
    pub(crate) places: Vec<Place>,
    /// Tokens for these are accepted beside those for the URLs; the URLs do not count if it is `only`.
    audiences: Vec<String>,
    only: bool,
    pub(crate) scopes: Vec<String>,
}

/// A URL under which clients know the resource.
#[derive(Clone)]
pub(crate) struct Place {
    pub(crate) url: String,
    metadata: String,
}

impl ProtectedResource {
    /// A resource at this URL, exactly as people give it to their clients: clients compare it with what they were given,
    /// and ask for tokens that have it as `aud`.
    ///
    /// # Errors
    ///
    /// [`OAuthConfigError::Resource`]: it is not an absolute URL of http or https without a query, or is not written as
    /// clients write it: with a host in small letters, and without a port that its scheme has anyway.
    pub fn new(server: &AuthorizationServer, url: impl Into<String>) -> Result<Self, OAuthConfigError> {
        let inner = Inner {
            server: server.clone(),
            places: vec![Place::new(url.into())?],
            audiences: Vec::new(),
            only: false,
            scopes: Vec::new(),
        };
        Ok(Self(Arc::new(inner)))
    }

    /// Another URL under which clients know it, such as one with `localhost` for one with `127.0.0.1`. A request is told
    /// of the one whose host it names.
    ///
    /// # Errors
    ///
    /// [`OAuthConfigError::Resource`], as with [`new`](Self::new).
    pub fn or_at(mut self, url: impl Into<String>) -> Result<Self, OAuthConfigError> {
        let place = Place::new(url.into())?;
        self.inner().places.push(place);
        Ok(self)
    }

    /// Names the URL of the metadata of the URL that was given last, for a proxy in front that routes one path only.
    /// Default: the well-known one, `/.well-known/oauth-protected-resource` before the path.
    ///
    /// # Errors
    ///
    /// [`OAuthConfigError::Resource`], as with [`new`](Self::new).
    pub fn metadata_at(mut self, url: impl Into<String>) -> Result<Self, OAuthConfigError> {
        let url = url.into();
        urls::parse(&url).map_err(|why| OAuthConfigError::Resource { given: url.clone(), why })?;
        if let Some(place) = self.inner().places.last_mut() {
            place.metadata = url;
        }
        Ok(self)
    }

    /// Also accepts tokens for this audience, such as another URL of the same server.
    ///
    /// # Errors
    ///
    /// [`OAuthConfigError::Audience`]: it is empty.
    pub fn accept_audience(mut self, audience: impl Into<String>) -> Result<Self, OAuthConfigError> {
        let audience = audience.into();
        if audience.is_empty() {
            return Err(OAuthConfigError::Audience);
        }
        self.inner().audiences.push(audience);
        Ok(self)
    }

    /// Accepts tokens for these audiences instead of those for its URLs, where the authorization server has other names
    /// for it.
    ///
    /// # Errors
    ///
    /// [`OAuthConfigError::Audience`]: one is empty, or there is none.
    pub fn audiences<T: Into<String>>(
        mut self,
        audiences: impl IntoIterator<Item = T>,
    ) -> Result<Self, OAuthConfigError> {
        let audiences: Vec<String> = audiences.into_iter().map(Into::into).collect();
        if audiences.is_empty() || audiences.iter().any(String::is_empty) {
            return Err(OAuthConfigError::Audience);
        }
        let inner = self.inner();
        inner.audiences = audiences;
        inner.only = true;
        Ok(self)
    }

    /// Accepts only tokens that have all of these scopes, in `scope` (RFC 9068) or `scp`.
    ///
    /// # Errors
    ///
    /// [`OAuthConfigError::Scope`]: one has a character that scopes cannot have.
    pub fn require_scopes<T: Into<String>>(
        mut self,
        scopes: impl IntoIterator<Item = T>,
    ) -> Result<Self, OAuthConfigError> {
        let scopes: Vec<String> = scopes.into_iter().map(Into::into).collect();
        let is_scope = |scope: &String| {
            let allowed = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\');
            !scope.is_empty() && scope.bytes().all(allowed)
        };
        if let Some(wrong) = scopes.iter().find(|scope| !is_scope(scope)) {
            return Err(OAuthConfigError::Scope(wrong.clone()));
        }
        self.inner().scopes = scopes;
        Ok(self)
    }

    /// The answer to a request with several tokens, of which something in front might have acted on another one; for an
    /// authenticator that knows further credentials.
    pub fn several_tokens(&self, head: &Parts) -> Denial {
        let place = self.0.place(&head.headers, &head.uri);
        Denial::unauthorized(self.0.challenge(place, "error=\"invalid_request\", "))
            .with_text("Unauthorized: there are several tokens; expected one")
    }

    fn inner(&mut self) -> &mut Inner {
        Arc::make_mut(&mut self.0)
    }
}

impl Inner {
    /// The URL that a request means.
    pub(crate) fn place(&self, headers: &HeaderMap, uri: &http::Uri) -> &Place {
        let named = headers.get(header::HOST).and_then(|host| host.to_str().ok());
        let named = named.or_else(|| uri.authority().map(http::uri::Authority::as_str));
        let means = |place: &&Place| {
            named.is_some_and(|named| urls::authority(&place.url).eq_ignore_ascii_case(named))
        };
        self.places.iter().find(means).unwrap_or(&self.places[0])
    }

    fn judge(&self, place: &Place, verified: &Verified) -> Result<Grant, Denial> {
        let is_ours = verified.audiences.iter().any(|audience| {
            self.audiences.contains(audience)
                || (!self.only && self.places.iter().any(|place| place.url == *audience))
        });
        if !is_ours {
            return Err(self.invalid(place, "it is for another audience"));
        }
        if !self.scopes.iter().all(|scope| verified.scopes.contains(scope)) {
            let challenge = self.challenge(place, "error=\"insufficient_scope\", ");
            return Err(Denial::forbidden(challenge)
                .with_text("Forbidden: the token has not all the scopes that the server requires"));
        }
        Ok(verified.grant.clone())
    }

    fn settle(&self, place: &Place, answer: Result<Arc<Verified>, Refusal>) -> Result<Grant, Denial> {
        match answer {
            Ok(verified) => self.judge(place, &verified),
            Err(Refusal::Invalid(why)) => Err(self.invalid(place, why)),
            Err(Refusal::Unavailable(time)) => Err(Denial::unavailable(time).with_text(
                "Service Unavailable: the keys of the authorization server cannot be fetched now",
            )),
        }
    }

    fn invalid(&self, place: &Place, why: &'static str) -> Denial {
        tracing::debug!(issuer = self.server.issuer(), why, "a token was refused");
        let before = format!("error=\"invalid_token\", error_description=\"{why}\", ");
        Denial::unauthorized(self.challenge(place, &before))
            .with_text("Unauthorized: the token is not valid; WWW-Authenticate says why")
    }

    /// `Bearer` comes first, and the URL is absolute: clients ignore the header otherwise.
    fn challenge(&self, place: &Place, before: &str) -> HeaderValue {
        let mut text = format!("Bearer {before}resource_metadata=\"{}\"", place.metadata);
        if !self.scopes.is_empty() {
            text.push_str(", scope=\"");
            text.push_str(&self.scopes.join(" "));
            text.push('"');
        }
        // It has only characters that were checked.
        HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static("Bearer"))
    }
}

impl Authenticate for ProtectedResource {
    fn authenticate(&self, head: &Parts) -> Authentication {
        let place = self.0.place(&head.headers, &head.uri);
        let token = match BearerToken::of(&head.headers) {
            BearerToken::One(token) => token,
            BearerToken::None => {
                let denial = Denial::unauthorized(self.0.challenge(place, ""))
                    .with_text("Unauthorized: expected a token, as in `Authorization: Bearer TOKEN`");
                return Err(denial).into();
            }
            _ => return Err(self.several_tokens(head)).into(),
        };
        let address = ClientIp::of(&head.extensions).filter(|client| !client.is_loopback());
        match self.0.server.ask(token, address.map(ClientIp::network)) {
            Answer::Known(answer) => self.0.settle(place, answer).into(),
            Answer::Pending(answer) => {
                let (inner, place) = (Arc::clone(&self.0), place.clone());
                Authentication::Pending(Box::pin(async move { inner.settle(&place, answer.await) }))
            }
        }
    }
}

impl Place {
    fn new(url: String) -> Result<Self, OAuthConfigError> {
        urls::parse_as_clients_do(&url)
            .map_err(|why| OAuthConfigError::Resource { given: url.clone(), why })?;
        let metadata = urls::well_known(&url, "oauth-protected-resource");
        Ok(Self { url, metadata })
    }
}

impl fmt::Debug for ProtectedResource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let urls: Vec<_> = self.0.places.iter().map(|place| &*place.url).collect();
        f.debug_struct("ProtectedResource").field("urls", &urls).finish_non_exhaustive()
    }
}
