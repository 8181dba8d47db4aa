//! A configuration as it was read, to be shown: with its variables resolved, and without what may be secret.

use std::{collections::BTreeMap, time::Duration};

use clap::ValueEnum as _;
use serde_json::{Map, Value, json};
use url::Url;

use super::{Auths, Configuration, Definition, RemoteServer, Server};
use crate::{
    access::Auth,
    backend::{child::Command, remote::Kind},
    revive::Keep,
};

/// What stands for a value that may be secret.
const SECRET: &str = "…";
/// The shortest value of a variable of the environment that is taken for a secret, in bytes.
const SHORTEST: usize = 4;
/// Words for secrets.
const WORDS: [&str; 8] = ["token", "key", "secret", "password", "passwd", "passphrase", "auth", "credential"];
/// Words for secrets that are a part of other words.
const SHORT_WORDS: [&str; 4] = ["pat", "pass", "pwd", "dsn"];

impl Configuration {
    /// All servers with what was read of them. What may be secret is left out: the values of variables and headers,
    /// whatever came from a variable of the environment, arguments that have a word for secrets before them, and
    /// what stands in a URL for a name, a password, a query and a fragment.
    pub(super) fn shown(&self, environment: &BTreeMap<String, String>) -> Value {
        let servers: BTreeMap<&str, Value> =
            self.servers.iter().map(|(name, defined)| (&**name, shown(defined, &self.auths, name))).collect();
        let mut value = json!({ "mcpServers": servers });
        let mut found: Vec<_> = environment.iter().filter(|(_, value)| value.len() >= SHORTEST).collect();
        // One value may be a part of another.
        found.sort_by_key(|(_, value)| std::cmp::Reverse(value.len()));
        put_names(&mut value, &found);
        value
    }
}

fn shown(defined: &Definition, auths: &Auths, name: &str) -> Value {
    let mut value = match &defined.server {
        Server::Command(command) => program(command),
        Server::Remote(remote) => of_remote(remote),
    };
    if let (Some(auth), Value::Object(members)) = (auths.of(name), &mut value) {
        members.insert("auth".to_owned(), of_auth(auth));
    }
    let Keep { restart, ping_interval, idle_stop, revive } = defined.keep;
    let restart = restart.and_then(|restart| restart.to_possible_value());
    let era = defined.era.and_then(|era| era.to_possible_value());
    let time = |time: Option<Duration>| time.map(|time| humantime::format_duration(time).to_string());
    for (key, set) in [
        ("restart", restart.map(|restart| restart.get_name().to_owned())),
        ("era", era.map(|era| era.get_name().to_owned())),
        ("pingInterval", time(ping_interval)),
        ("idleStop", time(idle_stop)),
    ] {
        if let Some(set) = set {
            value[key] = set.into();
        }
    }
    if let Some(revive) = revive {
        value["revive"] = revive.into();
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
        let names_one = WORDS.iter().any(|name| lower.contains(name))
            || lower.split(|at: char| !at.is_ascii_alphanumeric()).any(|part| SHORT_WORDS.contains(&part));
        match value {
            Some(_) if names_one => format!("{word}={SECRET}"),
            None if names_one && word.starts_with('-') => {
                is_next = true;
                arg
            }
            _ => without_credentials(&arg),
        }
    });
    shown.collect()
}

/// A text without what follows `Bearer` or `Basic`, and without the name and the password in a URL.
fn without_credentials(text: &str) -> String {
    let lower = text.to_ascii_lowercase();
    if let Some(end) =
        ["bearer ", "basic "].iter().filter_map(|word| Some(lower.find(word)? + word.len())).min()
    {
        return format!("{}{SECRET}", &text[..end]);
    }
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(begin) = rest.find("://").map(|at| at + 3) {
        shown.push_str(&rest[..begin]);
        rest = &rest[begin..];
        let authority = rest.find(['/', '?', '#', ' ']).unwrap_or(rest.len());
        if let Some(at) = rest[..authority].rfind('@') {
            shown.push_str(SECRET);
            rest = &rest[at..];
        }
    }
    shown + rest
}

/// Puts the names of variables where their values are.
fn put_names(value: &mut Value, found: &[(&String, &String)]) {
    match value {
        Value::String(text) => {
            for (name, value) in found {
                for value in [(*value).clone(), in_path(value)] {
                    *text = text.replace(&value, &format!("${{{name}}}"));
                }
            }
        }
        Value::Array(values) => values.iter_mut().for_each(|value| put_names(value, found)),
        Value::Object(members) => members.values_mut().for_each(|value| put_names(value, found)),
        _ => {}
    }
}

/// A text as it is in the path of a URL.
fn in_path(text: &str) -> String {
    let mut url = Url::parse("http://localhost/").ok();
    let path = url.as_mut().map(|url| {
        url.set_path(text);
        url.path().trim_start_matches('/').to_owned()
    });
    path.filter(|path| path.len() >= SHORTEST).unwrap_or_else(|| text.to_owned())
}

fn of_remote(remote: &RemoteServer) -> Value {
    let mut url = remote.url.clone();
    if url.password().is_some() {
        let _ = url.set_password(Some(SECRET));
    }
    if !url.username().is_empty() {
        let _ = url.set_username(SECRET);
    }
    if url.query().is_some() {
        url.set_query(Some(SECRET));
    }
    if url.fragment().is_some() {
        url.set_fragment(Some(SECRET));
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
            value.insert("jwks".to_owned(), without_credentials(&jwks.to_string()).into());
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
        let args = [
            "--path",
            "/srv",
            "--github-pat",
            "s3",
            "--header",
            "X: Bearer s3",
            "postgres://ada:s3@db/x?y",
            "a@b",
            "http://a/@b http://s3@c",
        ];
        let shown = without_secrets(args.map(str::to_owned).into_iter());
        let expected = [
            "--path",
            "/srv",
            "--github-pat",
            "…",
            "--header",
            "X: Bearer …",
            "postgres://…@db/x?y",
            "a@b",
            "http://a/@b http://…@c",
        ];
        assert_eq!(shown, expected);
    }

    #[test]
    fn values_of_variables_are_shown_by_their_names() {
        let mut value =
            json!({ "args": ["-x", "a-long s3cret", "long"], "url": "https://h/a-long%20s3cret/mcp" });
        let found = [("KEY".to_owned(), "a-long s3cret".to_owned()), ("PART".to_owned(), "long".to_owned())];
        let found: Vec<_> = found.iter().map(|(name, value)| (name, value)).collect();
        put_names(&mut value, &found);
        assert_eq!(value, json!({ "args": ["-x", "${KEY}", "${PART}"], "url": "https://h/${KEY}/mcp" }));
    }
}
