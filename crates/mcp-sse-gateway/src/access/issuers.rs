//! Authorization servers whose tokens are accepted. Each is there once, whichever servers need it.

use std::{
    collections::BTreeMap,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use mcp_sse_oauth::{AuthorizationServer, reqwest};

use url::{Host, Url};

use super::auth::{Jwks, Tokens};
use crate::watched::{self, Failure, Watched};

/// The largest file of keys, in bytes.
const LARGEST: u64 = 512 * 1024;
/// The permission bits that it must not have: whoever can write it can sign tokens.
const TOO_OPEN: u32 = 0o022;

/// How exact time is taken.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    /// How far clocks may differ.
    pub(crate) leeway: Duration,
    /// How long sessions go on after their tokens have expired.
    pub(crate) grace: Duration,
}

#[derive(Debug)]
pub(crate) struct Issuer {
    pub(crate) server: AuthorizationServer,
    /// The file that its keys are in.
    file: Option<(PathBuf, Watched)>,
}

/// By their names, and where their keys are.
type All = BTreeMap<(String, Option<Jwks>), Arc<Issuer>>;

/// The HTTP clients for documents of issuers.
#[derive(Clone, Debug)]
pub(crate) struct Clients {
    pub(crate) elsewhere: reqwest::Client,
    /// For this machine, without a proxy in between.
    pub(crate) here: reqwest::Client,
    /// No certificate is checked.
    pub(crate) insecure: bool,
}

#[derive(Debug)]
pub(super) struct Issuers {
    clients: Clients,
    patience: Patience,
    /// Whether an issuer's metadata is served here too.
    with_metadata: bool,
    all: Mutex<All>,
}

impl Issuers {
    pub(super) fn new(clients: Clients, patience: Patience, with_metadata: bool) -> Self {
        Self { clients, patience, with_metadata, all: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, All> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The issuer of these tokens; it is kept for as long as somebody holds what this returns.
    pub(super) fn get(&self, tokens: &Tokens) -> Result<Arc<Issuer>, String> {
        let mut all = self.lock();
        let key = (tokens.issuer.clone(), tokens.jwks.clone());
        if let Some(issuer) = all.get(&key) {
            return Ok(Arc::clone(issuer));
        }
        let builder = AuthorizationServer::builder(&tokens.issuer)
            .leeway(self.patience.leeway)
            .grace(self.patience.grace);
        let (builder, file) = match &tokens.jwks {
            None => (builder.discover(self.clients.of(&tokens.issuer)), None),
            Some(Jwks::Url(url)) => (builder.jwks_url(self.clients.of(url), url), None),
            Some(Jwks::File(_)) if self.with_metadata => {
                return Err(
                    "--serve-issuer-metadata fetches the issuer's metadata, but with a file of keys nothing is fetched; name the URL of the keys, or none"
                        .to_owned(),
                );
            }
            Some(Jwks::File(path)) => {
                let watched = Watched::new(vec![path.clone()]);
                let text = read(path).map_err(Failure::into_text)?;
                (builder.jwks(text), Some((path.clone(), watched)))
            }
        };
        let server = builder.build().map_err(|error| match &file {
            Some((path, _)) => format!("{}: {error}", path.display()),
            None => error.to_string(),
        })?;
        if let Some(Jwks::Url(url)) = &tokens.jwks
            && url.starts_with("http://")
            && !is_here(url)
        {
            tracing::warn!(
                issuer = tokens.issuer,
                "the keys come without encryption: whoever is between can let anybody in"
            );
        }
        if file.is_none() && self.clients.insecure {
            tracing::warn!(
                issuer = tokens.issuer,
                "--insecure holds for the keys too: whoever is between can let anybody in"
            );
        }
        if self.with_metadata {
            server.fetch_metadata();
        }
        if file.is_none() {
            server.start();
        }
        let issuer = Arc::new(Issuer { server, file });
        all.insert(key, Arc::clone(&issuer));
        Ok(issuer)
    }

    /// Those that some server needs and whose keys are not there.
    pub(super) fn unready(&self) -> Vec<String> {
        let all = self.lock();
        let needed = all.values().filter(|issuer| Arc::strong_count(issuer) > 1);
        let unready = needed.filter(|issuer| !issuer.server.is_ready());
        unready.map(|issuer| issuer.server.issuer().to_owned()).collect()
    }

    /// The only issuer's metadata, if it is to be served here.
    pub(super) fn metadata(&self) -> Option<Bytes> {
        let all = self.lock();
        let mut servers = all.values().filter(|_| self.with_metadata).map(|issuer| &issuer.server);
        let first = servers.next()?;
        servers.all(|other| other.issuer() == first.issuer()).then(|| first.metadata())?
    }

    /// Whether there are files to look at.
    pub(super) fn has_files(&self) -> bool {
        self.lock().values().any(|issuer| issuer.file.is_some())
    }

    /// Reads the files that have changed, or all of them. Blocks. Issuers that no server has any more are forgotten.
    pub(super) fn look(&self, at_once: bool) {
        let issuers: Vec<_> = {
            let mut all = self.lock();
            all.retain(|_, issuer| Arc::strong_count(issuer) > 1);
            all.values().cloned().collect()
        };
        issuers.iter().for_each(|issuer| issuer.look(at_once));
    }
}

/// Whether the issuer and its keys are such that they could be used. Nothing is fetched.
pub(super) fn check(tokens: &Tokens) -> Result<(), String> {
    let builder = AuthorizationServer::builder(&tokens.issuer);
    // Keys that stand for those that would be fetched.
    const ANY: &str =
        r#"{"keys":[{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#;
    let document = match &tokens.jwks {
        Some(Jwks::File(path)) => read(path).map_err(Failure::into_text)?,
        Some(Jwks::Url(_)) | None => ANY.to_owned(),
    };
    builder.jwks(document).build().map(drop).map_err(|error| error.to_string())
}

impl Clients {
    /// The one for a URL.
    fn of(&self, url: &str) -> reqwest::Client {
        if is_here(url) { self.here.clone() } else { self.elsewhere.clone() }
    }
}

/// Whether a URL is on this machine.
fn is_here(url: &str) -> bool {
    let url = Url::parse(url);
    url.is_ok_and(|url| match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    })
}

impl Issuer {
    fn look(&self, at_once: bool) {
        let Some((path, watched)) = &self.file else { return };
        let looked = watched.look(at_once, || {
            let replaced = self.server.replace_jwks(&read(path)?);
            let gone = replaced.map_err(|error| Failure::Wrong(format!("{}: {error}", path.display())))?;
            tracing::info!(file = %path.display(), issuer = self.server.issuer(), gone, "keys of the issuer read");
            Ok(())
        });
        if let Err(error) = looked {
            tracing::error!("the keys of the issuer were not changed: {error}");
        }
    }
}

fn read(path: &Path) -> Result<String, Failure> {
    let shown = path.display();
    let bytes = watched::read(path, LARGEST, |metadata| {
        let mode = metadata.mode() & 0o777;
        if mode & TOO_OPEN == 0 {
            return Ok(());
        }
        Err(format!(
            "{shown} has mode {mode:03o}, so that others than its owner may change the keys; expected 644 or less (chmod 644 {shown})"
        ))
    })?;
    String::from_utf8(bytes).map_err(|_| Failure::Wrong(format!("{shown} is not UTF-8; expected a JWK set")))
}
