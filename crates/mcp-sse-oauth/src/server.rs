//! An authorization server, as one that trusts its tokens sees it.

use std::{
    fmt,
    net::IpAddr,
    pin::Pin,
    sync::Arc,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use mcp_sse::{Grant, Principal};

use crate::{
    cache::{self, Cache, Verified},
    clock,
    error::OAuthConfigError,
    key::Key,
    key_set::KeySet,
    keys::{Keys, Lookup},
    source::Source,
    token::{Claims, Unverified, Why},
    urls,
};

/// How far the clocks of the two servers may differ, if nothing else is set.
const LEEWAY: Duration = Duration::from_secs(1);
const MOST_LEEWAY: Duration = Duration::from_secs(60);
/// How long sessions go on after their clients' tokens have expired, if nothing else is set.
const GRACE: Duration = Duration::from_secs(5 * 60);

/// An authorization server whose tokens are accepted. Clones are the same one, with the same keys.
///
/// A token is a JWT that it has signed with RS256, PS256, ES256 or EdDSA. Its `iss` is the issuer, byte for byte, and it
/// has `sub`, `aud` and `exp`; `exp` and, if it is there, `nbf` are checked. For whom it is (`aud`) and what it allows
/// (`scope`) is for the [`ProtectedResource`](crate::ProtectedResource). The [`Principal`] is the issuer, the client and
/// the subject, as a JSON array of three strings.
///
/// Keys are fetched by one task, which starts with the first token or with [`start`](Self::start): every five minutes,
/// and for a key that is not known or has not made a signature, at most once in ten seconds. Up to 1,024 requests wait for an
/// unknown key, 32 of one address that is not loopback, and 15 seconds at most.
/// While they cannot be fetched, those that are there count for an hour. After that, and before they could be fetched for
/// the first time, tokens get 503 with `Retry-After`. When a key is gone, requests with tokens that it has signed are
/// refused at once; their sessions go on for the grace time.
///
/// Up to 4,096 tokens that were verified are kept, by their hashes, so that a signature is checked once for each token.
///
/// ```
/// use mcp_sse_oauth::AuthorizationServer;
///
/// let keys = r#"{"keys": [{"kty": "OKP", "crv": "Ed25519", "kid": "1",
///     "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#;
/// let server = AuthorizationServer::builder("https://login.example.com").jwks(keys).build()?;
/// assert!(server.is_ready());
/// # Ok::<(), mcp_sse_oauth::OAuthConfigError>(())
/// ```
#[derive(Clone)]
pub struct AuthorizationServer(Arc<Inner>);

struct Inner {
    issuer: String,
    keys: Arc<Keys>,
    cache: Cache,
    leeway: Duration,
    grace: Duration,
}

/// Settings of an [`AuthorizationServer`].
#[derive(Clone, Debug)]
pub struct AuthorizationServerBuilder {
    issuer: String,
    origin: Option<Origin>,
    leeway: Duration,
    grace: Duration,
}

#[derive(Clone, Debug)]
enum Origin {
    Discovery(reqwest::Client),
    Url(reqwest::Client, String),
    Document(String),
}

/// Why a token is not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    Invalid(Why),
    /// It cannot be checked now; it may be after so long.
    Unavailable(Duration),
}

/// The answer about a token.
pub(crate) enum Answer {
    Known(Result<Arc<Verified>, Refusal>),
    Pending(Pin<Box<dyn Future<Output = Result<Arc<Verified>, Refusal>> + Send>>),
}

impl AuthorizationServerBuilder {
    /// Finds the keys by the issuer's metadata (RFC 8414, and where OpenID Connect has it). The client decides
    /// about TLS, proxies and redirects; better follow none.
    #[must_use]
    pub fn discover(mut self, client: reqwest::Client) -> Self {
        self.origin = Some(Origin::Discovery(client));
        self
    }

    /// Fetches the keys from this URL.
    #[must_use]
    pub fn jwks_url(mut self, client: reqwest::Client, url: impl Into<String>) -> Self {
        self.origin = Some(Origin::Url(client, url.into()));
        self
    }

    /// Takes the keys from this document, a JWK set (RFC 7517). [`AuthorizationServer::replace_jwks`] changes them.
    #[must_use]
    pub fn jwks(mut self, document: impl Into<String>) -> Self {
        self.origin = Some(Origin::Document(document.into()));
        self
    }

    /// How far the clocks of the two servers may differ. Default: 1 s; range: 0 to 60 s.
    #[must_use]
    pub fn leeway(mut self, leeway: Duration) -> Self {
        self.leeway = leeway;
        self
    }

    /// How long sessions go on after the newest token that their clients have shown in them has expired. Default: 5
    /// minutes; a year at most; with zero they end with it.
    #[must_use]
    pub fn grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }

    /// # Errors
    ///
    /// [`OAuthConfigError`]: the issuer is not a URL of https (or of http on this machine, or any of http if its keys
    /// are given otherwise), the keys cannot be used, or there are none.
    pub fn build(self) -> Result<AuthorizationServer, OAuthConfigError> {
        let Self { issuer, origin, leeway, grace } = self;
        let wrong = |why: String| OAuthConfigError::Issuer { given: issuer.clone(), why };
        let url = urls::parse(&issuer).map_err(wrong)?;
        if leeway > MOST_LEEWAY {
            return Err(OAuthConfigError::Leeway { given: leeway.as_secs(), most: MOST_LEEWAY.as_secs() });
        }
        let keys = match origin {
            None => return Err(OAuthConfigError::NoKeys),
            Some(Origin::Document(document)) => {
                let keys = KeySet::parse(document.as_bytes()).map_err(OAuthConfigError::Jwks)?;
                Keys::given(&issuer, keys, grace)
            }
            Some(Origin::Url(client, url)) => {
                if let Err(why) =
                    url::Url::parse(&url).map_err(|error| error.to_string()).and_then(|parsed| {
                        let is_http = matches!(parsed.scheme(), "http" | "https");
                        if is_http { Ok(()) } else { Err("its scheme is neither https nor http".to_owned()) }
                    })
                {
                    let why = format!("is not a URL ({why}); expected one such as https://example.com/jwks");
                    return Err(OAuthConfigError::JwksUrl { given: url, why });
                }
                if let Some(why) = has_secret(&url) {
                    return Err(OAuthConfigError::JwksUrl {
                        given: urls::shown(&why).to_owned(),
                        why: "has a user name or a password in it, which the log would show".to_owned(),
                    });
                }
                Keys::fetched(&issuer, Source::Url(client, url), grace)
            }
            Some(Origin::Discovery(client)) => {
                if !urls::is_safe(&url) {
                    return Err(wrong(
                        "would send its keys unencrypted over a network, where they can be changed; expected https, or the URL of its keys given apart"
                            .to_owned(),
                    ));
                }
                Keys::fetched(&issuer, Source::Discovery(client), grace)
            }
        };
        Ok(AuthorizationServer(Arc::new(Inner { issuer, keys, cache: Cache::default(), leeway, grace })))
    }
}

impl AuthorizationServer {
    /// Begins with the issuer, exactly as its tokens have it in `iss`. Where its keys come from has to be said too, by
    /// one of `discover`, `jwks_url` and `jwks`.
    pub fn builder(issuer: impl Into<String>) -> AuthorizationServerBuilder {
        AuthorizationServerBuilder { issuer: issuer.into(), origin: None, leeway: LEEWAY, grace: GRACE }
    }

    /// The issuer, as it was given.
    pub fn issuer(&self) -> &str {
        &self.0.issuer
    }

    /// Begins to fetch the keys, rather than with the first token. Needs a tokio runtime with time enabled.
    pub fn start(&self) {
        self.0.keys.start();
    }

    /// Whether there are keys, so that tokens can be checked.
    pub fn is_ready(&self) -> bool {
        self.0.keys.is_ready()
    }

    /// Replaces the keys that were given as a document; returns how many are gone.
    ///
    /// # Errors
    ///
    /// [`OAuthConfigError::Jwks`]; the keys stay as they were.
    pub fn replace_jwks(&self, document: &str) -> Result<usize, OAuthConfigError> {
        let keys = KeySet::parse(document.as_bytes()).map_err(OAuthConfigError::Jwks)?;
        Ok(self.0.keys.replace(keys))
    }

    /// From now on fetches the issuer's metadata with the keys, for [`metadata`](Self::metadata). With
    /// [`discover`](AuthorizationServerBuilder::discover) it is fetched anyway; with
    /// [`jwks`](AuthorizationServerBuilder::jwks) nothing is.
    pub fn fetch_metadata(&self) {
        self.0.keys.want_metadata();
    }

    /// The issuer's metadata (RFC 8414), as it came; `None` as long as it was not fetched.
    pub fn metadata(&self) -> Option<Bytes> {
        self.0.keys.metadata()
    }

    /// What is known of a token.
    pub(crate) fn ask(&self, token: &[u8], address: Option<IpAddr>) -> Answer {
        let hash = cache::hash(token);
        if let Some(verified) = self.0.cache.get(&hash) {
            return Answer::Known(Ok(verified));
        }
        let unverified = match Unverified::read(token) {
            Ok(unverified) => unverified,
            Err(why) => return Answer::Known(Err(Refusal::Invalid(why))),
        };
        let keys = &self.0.keys;
        match keys.find(unverified.key_id.as_deref(), unverified.algorithm) {
            Lookup::Known(keys) => Answer::Known(self.0.verify(&unverified, hash, &keys)),
            Lookup::Wait => {
                let waits = Arc::clone(keys).wait(unverified.key_id, unverified.algorithm, address);
                let (this, token) = (Arc::clone(&self.0), token.to_vec());
                Answer::Pending(Box::pin(async move {
                    let keys = known(waits.await)?;
                    let unverified = Unverified::read(&token).map_err(Refusal::Invalid)?;
                    this.verify(&unverified, hash, &keys)
                }))
            }
            other => Answer::Known(known(other).and_then(|keys| self.0.verify(&unverified, hash, &keys))),
        }
    }
}

fn known(lookup: Lookup) -> Result<Vec<Arc<Key>>, Refusal> {
    match lookup {
        Lookup::Known(keys) => Ok(keys),
        Lookup::Unknown => Err(Refusal::Invalid("it was signed with a key that is not known")),
        Lookup::Ambiguous => {
            Err(Refusal::Invalid("its header does not say by which of several keys it was signed"))
        }
        Lookup::Unavailable(time) => Err(Refusal::Unavailable(time)),
        // It was waited for already.
        Lookup::Wait => Err(Refusal::Unavailable(Duration::from_secs(1))),
    }
}

impl Inner {
    fn verify(
        &self,
        token: &Unverified<'_>,
        hash: cache::Hash,
        keys: &[Arc<Key>],
    ) -> Result<Arc<Verified>, Refusal> {
        let signed = keys.iter().find(|key| key.verifies(token.algorithm, token.message, &token.signature));
        let Some(key) = signed else {
            // There may be a new key by the same name.
            self.keys.doubt();
            return Err(Refusal::Invalid("its signature is wrong"));
        };
        let verified = self.check(token, key, clock::wall()).map_err(Refusal::Invalid)?;
        let verified = Arc::new(verified);
        self.cache.put(hash, Arc::clone(&verified));
        Ok(verified)
    }

    fn check(&self, token: &Unverified<'_>, key: &Key, now: SystemTime) -> Result<Verified, Why> {
        let mut claims = token.claims()?;
        if claims.iss != self.issuer {
            return Err("it is from another issuer");
        }
        if claims.is_of_another_kind() {
            return Err("it is a token for another purpose than access");
        }
        if claims.cnf.is_some() {
            return Err("its sender would have to prove a key, which is not supported");
        }
        if claims.sub.is_empty() {
            return Err("its subject is empty");
        }
        let expires = date(claims.exp) + self.leeway;
        if expires <= now {
            return Err("it has expired");
        }
        if claims.nbf.is_some_and(|nbf| date(nbf) > now + self.leeway) {
            return Err("it is not valid yet");
        }
        let principal = principal(&claims)?;
        let grant = Grant::new(principal).revocable(&key.revocation).expires(expires).with_grace(self.grace);
        let scopes = claims.scopes();
        let audiences = claims.aud.into_list();
        Ok(Verified { grant, audiences, scopes })
    }
}

/// The URL without its user, if it has one.
fn has_secret(url: &str) -> Option<String> {
    let mut url = url::Url::parse(url).ok()?;
    let has_one = !url.username().is_empty() || url.password().is_some();
    has_one.then(|| {
        let _ = (url.set_username(""), url.set_password(None));
        url.to_string()
    })
}

/// Who a token is for: a text that no other issuer, client and subject have.
fn principal(claims: &Claims) -> Result<Principal, Why> {
    let text = serde_json::to_string(&[&claims.iss, claims.client(), &claims.sub]);
    text.map(Principal::new).map_err(|_| "its subject cannot be written as JSON")
}

/// A date of a token, in seconds since 1970, of which a fraction counts; as late as the year 9999.
fn date(seconds: f64) -> SystemTime {
    const LATEST: f64 = 253_402_300_799.0;
    SystemTime::UNIX_EPOCH + Duration::from_secs_f64(seconds.clamp(0.0, LATEST))
}

impl fmt::Debug for AuthorizationServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthorizationServer").field("issuer", &self.0.issuer).finish_non_exhaustive()
    }
}
