//! Where the keys of an authorization server come from, over HTTP.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use reqwest::Client;
use serde::Deserialize;
use url::Url;

use crate::{key_set::KeySet, urls};

/// How long one answer may take, with its body. Four of them take less than a request waits for.
const PATIENCE: Duration = Duration::from_secs(3);
/// The largest document, in bytes.
const LARGEST: usize = 512 * 1024;

/// Where keys are fetched.
#[derive(Clone, Debug)]
pub(crate) enum Source {
    /// Where the issuer's metadata says (RFC 8414).
    Discovery(Client),
    Url(Client, String),
}

/// What was fetched.
#[derive(Debug)]
pub(crate) struct Fetched {
    pub(crate) keys: KeySet,
    /// The authorization server's metadata, if it was fetched.
    pub(crate) found: Option<Found>,
}

/// The authorization server's metadata.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    /// As it came.
    pub(crate) document: Bytes,
    jwks_uri: String,
}

/// What is looked at of the metadata.
#[derive(Deserialize)]
struct Metadata {
    issuer: String,
    jwks_uri: String,
}

impl Source {
    /// Fetches the keys; an error says what went wrong, and where. `known` is metadata that is recent enough to be used
    /// once more.
    pub(crate) async fn fetch(&self, issuer: &str, known: Option<Found>) -> Result<Fetched, String> {
        let (client, url, found) = match (self, known) {
            (Self::Discovery(client), Some(known)) => (client, known.jwks_uri, None),
            (Self::Discovery(client), None) => {
                let found = discover(client, issuer).await?;
                (client, found.jwks_uri.clone(), Some(found))
            }
            (Self::Url(client, url), _) => (client, url.clone(), None),
        };
        let document = get(client, &url).await?;
        let keys = KeySet::parse(&document).map_err(|why| format!("{}: {why}", urls::shown(&url)))?;
        Ok(Fetched { keys, found })
    }

    /// Fetches the metadata where it is not needed for the keys.
    pub(crate) async fn metadata(&self, issuer: &str) -> Result<Found, String> {
        let (Self::Discovery(client) | Self::Url(client, _)) = self;
        discover(client, issuer).await
    }

    pub(crate) fn discovers(&self) -> bool {
        matches!(self, Self::Discovery(_))
    }
}

/// Finds the metadata of an issuer, in the order of the MCP authorization specification.
async fn discover(client: &Client, issuer: &str) -> Result<Found, String> {
    let mut places = vec![
        urls::well_known(issuer, "oauth-authorization-server"),
        urls::well_known(issuer, "openid-configuration"),
    ];
    let of_openid = format!("{}/.well-known/openid-configuration", issuer.trim_end_matches('/'));
    if !places.contains(&of_openid) {
        places.push(of_openid);
    }
    let mut failures = Vec::new();
    for place in places {
        match at(client, &place, issuer).await {
            Ok(found) => return Ok(found),
            Err(why) => failures.push(why),
        }
    }
    Err(failures.join("; "))
}

async fn at(client: &Client, place: &str, issuer: &str) -> Result<Found, String> {
    let document = get(client, place).await?;
    let metadata: Metadata = serde_json::from_slice(&document)
        .map_err(|_| format!("{place}: expected metadata with \"issuer\" and \"jwks_uri\""))?;
    // Else it may be somebody else's (RFC 8414, section 3.3).
    if metadata.issuer != issuer {
        return Err(format!("{place}: its issuer is {:?}, expected {issuer:?}", metadata.issuer));
    }
    // On this machine only if the issuer is, so that nobody has us ask what listens here.
    let issuer_is_here = Url::parse(issuer).is_ok_and(|url| urls::is_loopback(&url));
    let is_safe = |url: &Url| urls::is_safe(url) && (issuer_is_here || !urls::is_loopback(url));
    if !Url::parse(&metadata.jwks_uri).is_ok_and(|url| is_safe(&url)) {
        return Err(format!(
            "{place}: its jwks_uri {:?} is not a URL of https, nor of http on this machine for an issuer on this machine",
            urls::shown(&metadata.jwks_uri)
        ));
    }
    Ok(Found { document, jwks_uri: metadata.jwks_uri })
}

async fn get(client: &Client, url: &str) -> Result<Bytes, String> {
    let shown = urls::shown(url);
    let failed = |error: reqwest::Error| format!("{shown}: {}", chain(&error.without_url()));
    let request = client.get(url).header("accept", "application/json").timeout(PATIENCE);
    let mut response = request.send().await.map_err(failed)?;
    if response.status() != http::StatusCode::OK {
        return Err(format!("{shown}: it answered {}", response.status()));
    }
    let mut document = BytesMut::new();
    while let Some(chunk) = response.chunk().await.map_err(failed)? {
        if document.len() + chunk.len() > LARGEST {
            return Err(format!("{shown}: the answer is larger than {LARGEST} bytes"));
        }
        document.extend_from_slice(&chunk);
    }
    Ok(document.freeze())
}

/// An error with its causes, without the URL, which stands before it.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut texts = Vec::new();
    let mut next = Some(error);
    while let Some(error) = next {
        let text = match error.downcast_ref::<reqwest::Error>() {
            Some(error) if error.is_timeout() => "no answer in time".to_owned(),
            Some(error) if error.is_connect() => "cannot connect".to_owned(),
            _ => error.to_string(),
        };
        texts.push(text);
        next = error.source();
    }
    texts.dedup();
    texts.join(": ")
}
