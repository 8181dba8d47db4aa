//! What all servers share to find out who a client is, and what stands before one of them.

use std::{path::Path, sync::Arc};

use bytes::Bytes;
use mcp_sse_oauth::ProtectedResource;

use super::{
    auth::{Auth, Tokens},
    authenticator::Authenticator,
    issuers::{self, Clients, Issuer, Issuers, Patience},
    key_file::{KeyFile, KeyFiles},
};
use crate::encoded::{encoded, in_url};

/// Everything that servers need to know their clients.
#[derive(Debug)]
pub(crate) struct Guards {
    key_files: KeyFiles,
    issuers: Issuers,
    /// What stands before the paths in the URLs that clients are given, or why that is not known.
    bases: Result<Vec<String>, String>,
}

/// What stands before one server.
#[derive(Debug)]
pub(crate) struct Protection {
    pub(crate) auth: Auth,
    pub(crate) sse: Authenticator,
    pub(crate) mcp: Authenticator,
    key_file: Option<Arc<KeyFile>>,
    /// Its endpoints, by their paths: its stream, and Streamable HTTP.
    resources: Vec<(String, ProtectedResource)>,
    // Held so that its keys are looked at.
    _issuer: Option<Arc<Issuer>>,
}

impl Guards {
    pub(crate) fn new(
        clients: Clients,
        patience: Patience,
        with_metadata: bool,
        bases: Result<Vec<String>, String>,
    ) -> Self {
        Self {
            key_files: KeyFiles::default(),
            issuers: Issuers::new(clients, patience, with_metadata),
            bases,
        }
    }

    /// What stands before a server with these paths.
    pub(crate) fn protect(&self, auth: &Auth, sse: &str, mcp: Option<&str>) -> Result<Protection, String> {
        let key_file = auth.key_file.as_deref().map(|file| self.key_files.get(file)).transpose()?;
        let keys = key_file.as_ref().map(|file| file.tokens.clone());
        let (mut resources, mut issuer) = (Vec::new(), None);
        if let Some(tokens) = &auth.tokens {
            let bases = self.bases.as_ref().map_err(Clone::clone)?;
            let of = issuer.insert(self.issuers.get(tokens)?);
            for path in [Some(sse), mcp].into_iter().flatten() {
                let others = [Some(sse), mcp].into_iter().flatten().filter(|other| *other != path);
                resources.push((encoded(path), resource(of, tokens, bases, path, others)?));
            }
        }
        let before = |resource: Option<&(String, ProtectedResource)>| match (
            keys.clone(),
            resource.map(|(_, resource)| resource.clone()),
        ) {
            (Some(keys), None) => Ok(Authenticator::Keys(keys)),
            (None, Some(resource)) => Ok(Authenticator::Tokens(resource)),
            (Some(keys), Some(resource)) => Ok(Authenticator::Both(keys, resource)),
            (None, None) => Err("it was not said what clients need".to_owned()),
        };
        Ok(Protection {
            auth: auth.clone(),
            sse: before(resources.first())?,
            mcp: before(resources.last())?,
            key_file,
            resources,
            _issuer: issuer,
        })
    }

    /// The keys of a file, for something else than a server.
    pub(crate) fn keys(&self, file: &Path) -> Result<Arc<KeyFile>, String> {
        self.key_files.get(file)
    }

    /// Whether there are files to look at.
    pub(crate) fn has_files(&self) -> bool {
        !self.key_files.is_empty() || self.issuers.has_files()
    }

    /// Reads the files that have changed, or all of them. Blocks: files may be on a network.
    pub(crate) fn look(&self, all: bool) {
        self.key_files.look(all);
        self.issuers.look(all);
    }

    /// The authorization servers whose keys are not there, so that none of their tokens can be checked.
    pub(crate) fn unready(&self) -> Vec<String> {
        self.issuers.unready()
    }

    /// The authorization server's metadata, if it is to be served here.
    pub(crate) fn issuer_metadata(&self) -> Option<Bytes> {
        self.issuers.metadata()
    }
}

/// Whether what clients need can be had: that the files are right. Nothing is fetched.
pub(crate) fn check(auth: &Auth) -> Result<(), String> {
    if let Some(file) = &auth.key_file {
        KeyFiles::default().get(file)?;
    }
    match &auth.tokens {
        Some(tokens) => issuers::check(tokens),
        None => Ok(()),
    }
}

/// The endpoint at a path; `others` are the paths of the same server, for whose URLs tokens are accepted too.
fn resource<'a>(
    issuer: &Issuer,
    tokens: &Tokens,
    bases: &[String],
    path: &str,
    others: impl Iterator<Item = &'a str>,
) -> Result<ProtectedResource, String> {
    let text = |error: mcp_sse_oauth::OAuthConfigError| error.to_string();
    let (first, more) = bases.split_first().ok_or("there is no URL under which clients know the server")?;
    let typed = in_url(path);
    // Before the path and behind its prefix, where a proxy that strips the prefix routes it.
    let metadata = |base: &String| format!("{base}/.well-known/oauth-protected-resource{typed}");
    let mut resource = ProtectedResource::new(&issuer.server, format!("{first}{typed}"))
        .and_then(|resource| resource.metadata_at(metadata(first)))
        .map_err(text)?;
    for base in more {
        resource = resource
            .or_at(format!("{base}{typed}"))
            .and_then(|resource| resource.metadata_at(metadata(base)))
            .map_err(text)?;
    }
    let others: Vec<String> = others.flat_map(|other| [in_url(other), encoded(other)]).collect();
    for base in bases {
        for other in others.iter().chain([&encoded(path)]) {
            resource = resource.accept_audience(format!("{base}{other}")).map_err(text)?;
        }
    }
    if !tokens.audiences.is_empty() {
        resource = resource.audiences(tokens.audiences.clone()).map_err(text)?;
    }
    resource.require_scopes(tokens.scopes.clone()).map_err(text)
}

impl Protection {
    /// The endpoints that need tokens, by their paths: the stream first.
    pub(super) fn resources(&self) -> impl Iterator<Item = &(String, ProtectedResource)> {
        self.resources.iter()
    }

    /// What clients need, for display.
    pub(crate) fn shown(&self) -> String {
        let keys = self.key_file.as_ref().map(|file| {
            let count = file.tokens.len();
            let keys = if count == 1 { "1 key".to_owned() } else { format!("{count} keys") };
            format!("{keys} in {}", file.path().display())
        });
        let tokens = self.auth.tokens.as_ref().map(Tokens::to_string);
        keys.into_iter().chain(tokens).collect::<Vec<_>>().join(", or ")
    }
}
