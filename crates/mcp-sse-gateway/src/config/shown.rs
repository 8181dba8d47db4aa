//! A configuration as it was read, to be shown: with its variables resolved, and without what may be secret.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::{Auths, Configuration, RemoteServer, Server};
use crate::{
    access::Auth,
    backend::{child::Command, remote::Kind},
};

/// What stands for a value that may be secret.
const SECRET: &str = "…";

impl Configuration {
    /// All servers with what was read of them. The values of variables and headers are left out, as they may be secret;
    /// so are those of arguments that have a word for secrets before them.
    pub(crate) fn shown(&self) -> Value {
        let servers: BTreeMap<&str, Value> =
            self.servers.iter().map(|(name, server)| (&**name, shown(server, &self.auths, name))).collect();
        json!({ "mcpServers": servers })
    }
}

fn shown(server: &Server, auths: &Auths, name: &str) -> Value {
    let mut value = match server {
        Server::Command(command) => program(command),
        Server::Remote(remote) => of_remote(remote),
    };
    if let (Some(auth), Value::Object(members)) = (auths.of(name), &mut value) {
        members.insert("auth".to_owned(), of_auth(auth));
    }
    value
}

fn program(command: &Command) -> Value {
    let mut value = Map::new();
    let text = |text: &std::ffi::OsStr| Value::from(text.to_string_lossy());
    value.insert("command".to_owned(), text(&command.program));
    let args: Vec<_> = without_secrets(command.args.iter().map(|arg| arg.to_string_lossy().into_owned()));
    value.insert("args".to_owned(), args.into());
    let env: BTreeMap<_, _> = command.env.keys().map(|name| (name.clone(), SECRET)).collect();
    value.insert("env".to_owned(), json!(env));
    value.insert("cleanEnv".to_owned(), command.clean_env.into());
    if let Some(cwd) = &command.cwd {
        value.insert("cwd".to_owned(), text(cwd.as_os_str()));
    }
    let from: BTreeMap<_, _> =
        command.env_from_header.iter().map(|(header, to)| (header.as_str(), to)).collect();
    value.insert("envFromHeader".to_owned(), json!(from));
    value.insert("isolation".to_owned(), command.isolation.own_domain.into());
    value.insert("sandbox".to_owned(), command.isolation.sandbox.is_some().into());
    Value::Object(value)
}

/// Arguments, without those that follow a word such as `--token`, and without what stands behind one and a `=`.
fn without_secrets(args: impl Iterator<Item = String>) -> Vec<String> {
    let mut is_next = false;
    let shown = args.map(|arg| {
        if std::mem::take(&mut is_next) {
            return SECRET.to_owned();
        }
        let (word, value) = arg.split_once('=').map_or((&*arg, None), |(word, value)| (word, Some(value)));
        let lower = word.to_ascii_lowercase();
        let names_one =
            ["token", "key", "secret", "password", "passwd", "auth"].iter().any(|name| lower.contains(name));
        match value {
            Some(_) if names_one => format!("{word}={SECRET}"),
            None if names_one && word.starts_with('-') => {
                is_next = true;
                arg
            }
            _ => arg,
        }
    });
    shown.collect()
}

fn of_remote(remote: &RemoteServer) -> Value {
    let mut url = remote.url.clone();
    if url.password().is_some() {
        let _ = url.set_password(Some(SECRET));
    }
    if url.query().is_some() {
        url.set_query(Some(SECRET));
    }
    let headers: BTreeMap<_, _> = remote.headers.keys().map(|name| (name.as_str(), SECRET)).collect();
    let from_client: Vec<_> = remote.headers_from_client.iter().map(http::HeaderName::as_str).collect();
    let mut value = json!({ "url": url.as_str(), "headers": headers, "headersFromClient": from_client });
    let kind = match remote.kind {
        Kind::Auto => None,
        Kind::Http => Some("http"),
        Kind::Sse => Some("sse"),
    };
    if let Some(kind) = kind {
        value["type"] = kind.into();
    }
    value
}

fn of_auth(auth: &Auth) -> Value {
    let mut value = Map::new();
    if let Some(file) = &auth.key_file {
        value.insert("bearerTokenFile".to_owned(), file.to_string_lossy().into());
    }
    if let Some(tokens) = &auth.tokens {
        value.insert("jwtIssuer".to_owned(), tokens.issuer.clone().into());
        if let Some(jwks) = &tokens.jwks {
            value.insert("jwks".to_owned(), jwks.to_string().into());
        }
        if !tokens.audiences.is_empty() {
            value.insert("jwtAudience".to_owned(), tokens.audiences.clone().into());
        }
        if !tokens.scopes.is_empty() {
            value.insert("requiredScope".to_owned(), tokens.scopes.clone().into());
        }
    }
    Value::Object(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_in_arguments_are_not_shown() {
        let args = ["serve", "--api-key", "s3", "--token=s3", "--user", "ada", "PASSWORD=s3", "--keys"];
        let shown = without_secrets(args.map(str::to_owned).into_iter());
        assert_eq!(shown, ["serve", "--api-key", "…", "--token=…", "--user", "ada", "PASSWORD=…", "--keys"]);
    }
}
