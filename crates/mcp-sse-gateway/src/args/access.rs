//! Who may use the servers.

use std::{path::PathBuf, time::Duration};

use super::{listen::Listen, values::duration};
use crate::{
    access::{Auth, Jwks, Patience, Tokens},
    listening::Listening,
};

/// The environment variable that stands for `--bearer-token-file`.
const FILE: &str = "MCP_SSE_TOKENS_FILE";

#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Access")]
#[allow(clippy::doc_markdown, reason = "the help has no backticks around variables")]
pub(crate) struct Access {
    /// File with the keys of clients, a line `NAME TOKEN` for each. Clients send theirs as `Authorization: Bearer
    /// TOKEN` or `X-API-Key: TOKEN`; without one they get 401. A session is open only to the name that opened it. The
    /// file is read again on SIGHUP and when it changes. Also MCP_SSE_TOKENS_FILE in the environment
    #[arg(long, value_name = "FILE")]
    bearer_token_file: Option<PathBuf>,

    /// Let in clients with a token of this OAuth authorization server: a JWT signed with RS256, PS256, ES256 or EdDSA,
    /// for the URL of the server. Clients without one are told where to get it. A session is open only to the client
    /// and subject that opened it. With --bearer-token-file, either is enough
    #[arg(long, value_name = "URL")]
    jwt_issuer: Option<String>,

    /// Where the keys of --jwt-issuer are: a URL, or a file, which is read again on SIGHUP and when it changes
    /// [default: where the issuer's metadata says]
    #[arg(long, value_name = "URL|FILE", requires = "jwt_issuer")]
    jwks: Option<String>,

    /// Audience that tokens must be for, instead of the URLs of the server. Repeatable
    #[arg(long, value_name = "AUDIENCE", requires = "jwt_issuer")]
    jwt_audience: Vec<String>,

    /// Scope that tokens must have. Repeatable
    #[arg(long, value_name = "SCOPE", requires = "jwt_issuer")]
    required_scope: Vec<String>,

    /// How far the clocks of --jwt-issuer and this machine may differ; at most 60s
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = duration)]
    jwt_leeway: Duration,

    /// How long a session goes on after the newest token that its client has shown has expired; 0s ends it with the
    /// token. Requests need a valid token in any case
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = duration)]
    token_grace: Duration,

    /// URL under which clients reach this program, without the path of a server. Tokens are for it, and clients
    /// compare it with what they were given. Needed with tokens, unless only loopback addresses and names are served
    #[arg(long, value_name = "URL")]
    public_url: Option<String>,

    /// Also serve the authorization server's metadata here, at /.well-known/oauth-authorization-server: older clients
    /// look for it nowhere else
    #[arg(long)]
    serve_issuer_metadata: bool,
}

impl Access {
    /// What the clients of servers need that say nothing of their own, and what named it.
    pub(crate) fn auth(&self) -> Option<(Auth, String)> {
        let (mut auth, mut named) = (Auth::default(), Vec::new());
        if let Some(file) = &self.bearer_token_file {
            auth.key_file = Some(file.clone());
            named.push("--bearer-token-file");
        } else if let Some(file) = std::env::var_os(FILE).filter(|file| !file.is_empty()) {
            auth.key_file = Some(file.into());
            named.push(FILE);
        }
        if let Some(issuer) = &self.jwt_issuer {
            auth.tokens = Some(Tokens {
                issuer: issuer.clone(),
                jwks: self.jwks.as_deref().map(Jwks::parse),
                audiences: self.jwt_audience.clone(),
                scopes: self.required_scope.clone(),
            });
            named.push("--jwt-issuer");
        }
        (!auth.is_empty()).then(|| (auth, named.join(" and ")))
    }

    pub(crate) fn patience(&self) -> Patience {
        Patience { leeway: self.jwt_leeway, grace: self.token_grace }
    }

    pub(crate) fn serves_issuer_metadata(&self) -> bool {
        self.serve_issuer_metadata
    }

    /// Whether tokens are accepted, as far as the command line says.
    pub(crate) fn has_issuer(&self) -> bool {
        self.jwt_issuer.is_some()
    }

    /// Where clients reach this program, if that was said.
    pub(crate) fn public_url(&self) -> Option<&str> {
        self.public_url.as_deref().map(|url| url.trim_end_matches('/'))
    }

    /// What stands before the paths in the URLs that clients are given; an error says why that is not known.
    pub(crate) fn bases(
        &self,
        listener: &Listening,
        listen: &Listen,
        tls: bool,
    ) -> Result<Vec<String>, String> {
        if let Some(url) = self.public_url() {
            return Ok(vec![url.to_owned()]);
        }
        let why = if !listener.is_loopback() {
            "this program does not listen on loopback addresses only"
        } else if listen.has_other_names() {
            "clients may use other names than those of loopback"
        } else if listen.trusts_proxies() {
            "there is a proxy in front"
        } else {
            return Ok(listener.loopback_bases(tls));
        };
        Err(format!(
            "tokens need --public-url URL, as {why}: tokens are for the URL that clients are given, such as https://mcp.example.com for https://mcp.example.com/sse"
        ))
    }
}
