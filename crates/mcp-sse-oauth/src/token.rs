//! A token: a JWS in its compact form (RFC 7515), whose claims are those of an access token (RFC 9068).
//!
//! The rules are strict: what is not exactly as the specifications say is refused, also where it could be guessed.

use serde::{Deserialize, Deserializer, de::IgnoredAny};

use crate::key::{Algorithm, decode};

/// The longest token, in bytes; the head of a request is not longer either.
const LONGEST: usize = 16 * 1024;

/// A token whose header was read and whose signature was not checked.
pub(crate) struct Unverified<'a> {
    pub(crate) algorithm: Algorithm,
    pub(crate) key_id: Option<String>,
    /// What the signature is of.
    pub(crate) message: &'a [u8],
    pub(crate) signature: Vec<u8>,
    claims: &'a str,
}

/// What is checked of a header. Keys and addresses of keys in it (`jwk`, `jku`, `x5c`, …) are never looked at: they come
/// from whoever made the token.
#[derive(Deserialize)]
struct Header {
    alg: String,
    #[serde(default, deserialize_with = "present")]
    kid: Option<String>,
    #[serde(default, deserialize_with = "present")]
    typ: Option<String>,
    #[serde(default, deserialize_with = "present")]
    crit: Option<IgnoredAny>,
    #[serde(default, deserialize_with = "present")]
    b64: Option<IgnoredAny>,
}

/// Why a token is not valid, as its client is told.
pub(crate) type Why = &'static str;

const MALFORMED: Why = "it is not a signed JWT";

impl<'a> Unverified<'a> {
    pub(crate) fn read(token: &'a [u8]) -> Result<Self, Why> {
        if token.len() > LONGEST {
            return Err("it is longer than 16 KiB");
        }
        let token = std::str::from_utf8(token).map_err(|_| MALFORMED)?;
        let mut parts = token.split('.');
        let (Some(header), Some(claims), Some(signature), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(MALFORMED);
        };
        let message = &token.as_bytes()[..header.len() + 1 + claims.len()];
        let header = decode(header).ok_or(MALFORMED)?;
        let header: Header =
            serde_json::from_slice(&header).map_err(|_| "its header is not that of a JWT")?;
        let algorithm = Algorithm::named(&header.alg)
            .ok_or("its algorithm is not one of RS256, PS256, ES256 and EdDSA")?;
        if header.crit.is_some() || header.b64.is_some() {
            return Err("its header demands an extension that is not supported");
        }
        let is_access_token = header.typ.as_deref().is_none_or(|typ| {
            let typ = typ.to_ascii_lowercase();
            matches!(typ.strip_prefix("application/").unwrap_or(&typ), "jwt" | "at+jwt")
        });
        if !is_access_token {
            return Err("its type is not that of an access token");
        }
        let signature = decode(signature).ok_or(MALFORMED)?;
        Ok(Self { algorithm, key_id: header.kid, message, signature, claims })
    }

    /// Its claims, which mean something only once the signature was checked.
    pub(crate) fn claims(&self) -> Result<Claims, Why> {
        let json = decode(self.claims).ok_or(MALFORMED)?;
        serde_json::from_slice(&json).map_err(|_| {
            "its claims are not those of an access token: iss, sub, aud and exp are required, each of its own type"
        })
    }
}

/// The claims that are looked at.
#[derive(Deserialize)]
pub(crate) struct Claims {
    pub(crate) iss: String,
    pub(crate) sub: String,
    pub(crate) aud: Texts,
    pub(crate) exp: f64,
    #[serde(default, deserialize_with = "present")]
    pub(crate) nbf: Option<f64>,
    #[serde(default, deserialize_with = "present")]
    scope: Option<Texts>,
    /// Where Microsoft and Okta have the scope.
    #[serde(default, deserialize_with = "present")]
    scp: Option<Texts>,
    #[serde(default, deserialize_with = "present")]
    client_id: Option<String>,
    /// Where OpenID Connect, Microsoft and Okta have the client.
    #[serde(default, deserialize_with = "present")]
    azp: Option<String>,
    #[serde(default, deserialize_with = "present")]
    appid: Option<String>,
    #[serde(default, deserialize_with = "present")]
    cid: Option<String>,
    /// Whose key the sender has to prove (RFC 7800).
    #[serde(default, deserialize_with = "present")]
    pub(crate) cnf: Option<IgnoredAny>,
    /// Only in tokens that say who logged in (OpenID Connect Core, section 3.1.3.6).
    #[serde(default, deserialize_with = "present")]
    at_hash: Option<IgnoredAny>,
    /// Only in security event tokens, such as those of a logout (RFC 8417).
    #[serde(default, deserialize_with = "present")]
    events: Option<IgnoredAny>,
}

/// One text or several.
#[derive(Deserialize)]
#[serde(untagged)]
pub(crate) enum Texts {
    One(String),
    Several(Vec<String>),
}

impl Texts {
    pub(crate) fn into_list(self) -> Vec<String> {
        match self {
            Self::One(text) => vec![text],
            Self::Several(texts) => texts,
        }
    }
}

impl Claims {
    /// Whether it is a token for another purpose, which issuers sign with the same keys.
    pub(crate) fn is_of_another_kind(&self) -> bool {
        self.at_hash.is_some() || self.events.is_some()
    }

    /// The client that the token was given to; empty if the token does not say.
    pub(crate) fn client(&self) -> &str {
        let named = [&self.client_id, &self.azp, &self.appid, &self.cid];
        named.into_iter().flatten().next().map_or("", String::as_str)
    }

    /// The scopes that it has.
    pub(crate) fn scopes(&mut self) -> Vec<String> {
        let texts = [self.scope.take(), self.scp.take()].into_iter().flatten().flat_map(Texts::into_list);
        texts
            .flat_map(|text| text.split(' ').map(str::to_owned).collect::<Vec<_>>())
            .filter(|scope| !scope.is_empty())
            .collect()
    }
}

/// A member that may be absent, but not `null`.
fn present<'de, T: Deserialize<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}
