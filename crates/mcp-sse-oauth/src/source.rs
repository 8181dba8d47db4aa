//! Where the keys of an authorization server come from, over HTTP.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use reqwest::Client;
use serde::Deserialize;
use url::Url;

use crate::{key_set::KeySet, urls};

/// How long one answer may take, with its body.
const PATIENCE: Duration = Duration::from_secs(4);
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
    /// The authorization server's metadata, as it came.
    pub(crate) metadata: Option<Bytes>,
}

/// What is looked at of the metadata.
#[derive(Deserialize)]
struct Metadata {
    issuer: String,
    jwks_uri: String,
}

impl Source {
    /// Fetches the keys; an error says what went wrong, and where. `with_metadata`: also the issuer's metadata where
    /// it is not needed for the keys; then it may be missing.
    pub(crate) async fn fetch(&self, issuer: &str, with_metadata: bool) -> Result<Fetched, String> {
        let (client, url, metadata) = match self {
            Self::Discovery(client) => {
                let (url, metadata) = discover(client, issuer).await?;
                (client, url, Some(metadata))
            }
            Self::Url(client, url) => {
                let metadata = if with_metadata { discover(client, issuer).await.ok() } else { None };
                (client, url.clone(), metadata.map(|(_, metadata)| metadata))
            }
        };
        let document = get(client, &url).await?;
        let keys = KeySet::parse(&document).map_err(|why| format!("{url}: {why}"))?;
        Ok(Fetched { keys, metadata })
    }
}

/// Finds the metadata of an issuer, in the order of the MCP authorization specification, and where its keys are.
async fn discover(client: &Client, issuer: &str) -> Result<(String, Bytes), String> {
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

async fn at(client: &Client, place: &str, issuer: &str) -> Result<(String, Bytes), String> {
    let document = get(client, place).await?;
    let metadata: Metadata = serde_json::from_slice(&document)
        .map_err(|_| format!("{place}: expected metadata with \"issuer\" and \"jwks_uri\""))?;
    // Else it may be somebody else's (RFC 8414, section 3.3).
    if metadata.issuer != issuer {
        return Err(format!("{place}: its issuer is {:?}, expected {issuer:?}", metadata.issuer));
    }
    let url = Url::parse(&metadata.jwks_uri).ok().filter(urls::is_safe);
    if url.is_none() {
        return Err(format!(
            "{place}: its jwks_uri {:?} is not a URL of https, nor of http on this machine",
            metadata.jwks_uri
        ));
    }
    Ok((metadata.jwks_uri, document))
}

async fn get(client: &Client, url: &str) -> Result<Bytes, String> {
    let failed = |error: reqwest::Error| format!("{url}: {}", chain(&error.without_url()));
    let request = client.get(url).header("accept", "application/json").timeout(PATIENCE);
    let mut response = request.send().await.map_err(failed)?;
    if response.status() != http::StatusCode::OK {
        return Err(format!("{url}: it answered {}", response.status()));
    }
    let mut document = BytesMut::new();
    while let Some(chunk) = response.chunk().await.map_err(failed)? {
        if document.len() + chunk.len() > LARGEST {
            return Err(format!("{url}: the answer is larger than {LARGEST} bytes"));
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
