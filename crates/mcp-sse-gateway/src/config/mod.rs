//! The configuration file: the `mcpServers` object that MCP clients use; comments and trailing commas are allowed.
//! An error names the file, the line and the key.

mod auth;
mod document;
pub(crate) mod expand;
mod fields;
mod isolation;
mod shown;
mod slip;

use std::{cell::RefCell, collections::BTreeMap, path::Path};

use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{AUTHORIZATION, COOKIE, PROXY_AUTHORIZATION},
};
use serde_json::Value;
use url::Url;

pub(crate) use self::fields::schema;
use self::{
    document::{Document, Node, Object},
    fields::Of,
    slip::is_slip,
};
use crate::{
    access::Auth,
    backend::{
        child::Command,
        remote::{self, Kind},
    },
    bridge::Era,
    revive::{Keep, Restart},
};

/// The servers by name.
pub(crate) type Servers = BTreeMap<String, Definition>;

/// A server, how it is kept alive for its sessions, and which era is spoken to it, if that is set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Definition {
    pub(crate) server: Server,
    pub(crate) keep: Keep,
    pub(crate) era: Option<Era>,
}

/// What a file says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Configuration {
    pub(crate) servers: Servers,
    pub(crate) auths: Auths,
}

/// What the clients of each server need.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Auths {
    /// Of the servers that have nothing of their own.
    pub(crate) all: Option<Auth>,
    pub(crate) by_server: BTreeMap<String, Auth>,
}

impl Auths {
    /// What the clients of a server need; `None`: nothing.
    pub(crate) fn of(&self, server: &str) -> Option<&Auth> {
        self.by_server.get(server).or(self.all.as_ref())
    }
}

/// A server, as defined in the file or on the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Server {
    /// A program to start for each session.
    Command(Command),
    /// A remote server.
    Remote(RemoteServer),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RemoteServer {
    pub(crate) url: Url,
    pub(crate) kind: Kind,
    pub(crate) headers: HeaderMap,
    pub(crate) headers_from_client: Vec<HeaderName>,
}

impl Server {
    /// The headers of clients that its program or the remote server gets.
    pub(crate) fn headers_from_client(&self) -> impl Iterator<Item = &HeaderName> {
        let (variables, passed) = match self {
            Self::Command(command) => (command.env_from_header.as_slice(), [].as_slice()),
            Self::Remote(remote) => ([].as_slice(), remote.headers_from_client.as_slice()),
        };
        variables.iter().map(|(header, _)| header).chain(passed)
    }

    /// Fails if the server would get what its clients show to the gateway. The MCP authorization specification forbids
    /// passing it on.
    pub(crate) fn check_auth(&self, auth: Option<&Auth>) -> Result<(), String> {
        let Some(auth) = auth else { return Ok(()) };
        let is_for_us = |header: &&HeaderName| match header.as_str() {
            "authorization" => true,
            "x-api-key" => auth.key_file.is_some(),
            _ => false,
        };
        match self.headers_from_client().find(is_for_us) {
            Some(header) => Err(format!(
                "the header {header} of the client cannot be passed on to the server while it has the key or the token for the gateway; give the server a credential of its own, or turn authentication off"
            )),
            None => Ok(()),
        }
    }

    /// The headers that identify clients to this server: those that its program gets as variables, or those that are
    /// passed to a remote server. Not credentials that clients may renew during a session, which the remote server
    /// checks with each request.
    pub(crate) fn identity(&self) -> Vec<HeaderName> {
        match self {
            Self::Command(command) => {
                command.env_from_header.iter().map(|(header, _)| header.clone()).collect()
            }
            Self::Remote(remote) => {
                let renewed = [AUTHORIZATION, COOKIE, PROXY_AUTHORIZATION];
                let names = remote.headers_from_client.iter();
                names.filter(|name| !renewed.contains(name)).cloned().collect()
            }
        }
    }
}

/// Names that would collide with the gateway's own paths.
const OUR_PATHS: [&str; 5] = ["healthz", "mcp", "messages", "readyz", "sse"];

/// Reads the file. An error is a single line.
pub(crate) fn read(file: &Path) -> Result<Configuration, String> {
    read_with(file, |name| std::env::var(name).ok())
}

/// Reads the file with other variables.
fn read_with(file: &Path, lookup: impl Fn(&str) -> Option<String>) -> Result<Configuration, String> {
    let shown = file.display();
    let text = std::fs::read_to_string(file).map_err(|error| format!("cannot read {shown}: {error}"))?;
    parse(&shown.to_string(), &text, lookup)
}

/// Reads the file, and what of it can be shown.
pub(crate) fn read_to_show(file: &Path) -> Result<(Configuration, Value), String> {
    let found = RefCell::new(BTreeMap::new());
    let configuration = read_with(file, |name| {
        let value = std::env::var(name).ok()?;
        found.borrow_mut().insert(name.to_owned(), value.clone());
        Some(value)
    })?;
    let shown = configuration.shown(&found.into_inner());
    Ok((configuration, shown))
}

fn parse(file: &str, text: &str, lookup: impl Fn(&str) -> Option<String>) -> Result<Configuration, String> {
    let document = Document::parse(file, text)?;
    let root = document.root()?.object()?;
    // One editor calls it "servers".
    let servers = match (root.get("mcpServers"), root.get("servers")) {
        (Some(servers), _) | (None, Some(servers)) => servers.object()?,
        (None, None) => {
            return Err(root.node().wrong("expected an object \"mcpServers\" with a server for each name"));
        }
    };
    let mut read = Configuration::default();
    read.auths.all = auth::read(&root, &lookup)?;
    for (name, node) in servers.entries() {
        check_name(name).map_err(|why| node.wrong(&why))?;
        let object = node.object()?;
        if let Some(server) = entry(&object, &lookup)? {
            if let Some(auth) = auth::read(&object, &lookup)? {
                read.auths.by_server.insert(name.to_owned(), auth);
            }
            let keep = keep(&object)?;
            let era = era(&object)?;
            read.servers.insert(name.to_owned(), Definition { server, keep, era });
        }
    }
    Ok(read)
}

/// Checks a name, which becomes one segment of a path or, with slashes, several: `@scope/server` is common.
fn check_name(name: &str) -> Result<(), String> {
    let never = |c: char| c.is_control() || "%?#\\".contains(c);
    if name.contains(never) || name.split('/').any(|part| matches!(part, "" | "." | "..")) {
        return Err(format!(
            "the name {name:?} becomes part of URLs; expected one without \"%\", \"?\", \"#\", \"\\\" and control characters, with no segment that is empty, \".\" or \"..\""
        ));
    }
    if OUR_PATHS.contains(&name) {
        return Err(format!("the name {name:?} is a path of the gateway itself; choose another"));
    }
    Ok(())
}

/// Which era is spoken to a server.
fn era(object: &Object<'_>) -> Result<Option<Era>, String> {
    let Some(node) = object.get("era") else { return Ok(None) };
    Ok(Some(match node.string()? {
        "auto" => Era::Auto,
        "legacy" => Era::Legacy,
        "modern" => Era::Modern,
        other => {
            return Err(node.wrong(&format!("{other:?}; expected \"auto\", \"legacy\" or \"modern\"")));
        }
    }))
}

/// How a server is kept alive for its sessions.
fn keep(object: &Object<'_>) -> Result<Keep, String> {
    let restart = match object.get("restart") {
        None => None,
        Some(node) => Some(match node.string()? {
            "never" => Restart::Never,
            "on-failure" => Restart::OnFailure,
            "always" => Restart::Always,
            other => {
                return Err(
                    node.wrong(&format!("{other:?}; expected \"never\", \"on-failure\" or \"always\""))
                );
            }
        }),
    };
    let time = |key: &str| {
        let Some(node) = object.get(key) else { return Ok(None) };
        let time = humantime::parse_duration(node.string()?);
        time.map(Some).map_err(|error| node.wrong(&format!("expected a time such as \"30s\": {error}")))
    };
    let revive = object.get("revive").map(|node| node.boolean()).transpose()?;
    let keep = Keep { restart, ping_interval: time("pingInterval")?, idle_stop: time("idleStop")?, revive };
    // The rest is checked with what is set for all servers.
    let node = object.get("idleStop").or_else(|| object.get("revive"));
    if let (Some(node), Err(why)) = (node, keep.policy(std::time::Duration::MAX, false)) {
        return Err(node.wrong(&why));
    }
    Ok(keep)
}

fn entry(object: &Object<'_>, lookup: &impl Fn(&str) -> Option<String>) -> Result<Option<Server>, String> {
    let known = || fields::SERVER.iter().map(|field| field.name).filter(|name| *name != "auth");
    for (key, node) in object.entries() {
        if !known().any(|known| known == key)
            && let Some(meant) = known().find(|known| is_slip(key, known))
        {
            return Err(node.wrong(&format!("there is no such key; did you mean {meant:?}?")));
        }
    }
    let flag = |key: &str| object.get(key).map(|node| node.boolean()).transpose();
    if flag("disabled")? == Some(true) || flag("enabled")? == Some(false) {
        return Ok(None);
    }
    let text = |node: &Node<'_>| expand::expand(node.string()?, lookup).map_err(|error| node.wrong(&error));
    match (object.get("command"), object.get("url")) {
        (Some(command), None) => {
            for key in fields::only_of(Of::Remote).filter(|key| *key != "url") {
                if let Some(node) = object.get(key) {
                    return Err(node.wrong("only a server with \"url\" can have this"));
                }
            }
            let mut server = Command::new(text(&command)?);
            if text(&command)?.is_empty() {
                return Err(command.wrong("expected a program to start"));
            }
            for node in object.get("args").map(|node| node.array()).transpose()?.unwrap_or_default() {
                server.args.push(text(&node)?.into());
            }
            if let Some(env) = object.get("env") {
                for (name, node) in env.object()?.entries() {
                    check_variable(name).map_err(|why| node.wrong(&why))?;
                    server.env.insert(name.to_owned(), text(node)?.into());
                }
            }
            server.clean_env = flag("cleanEnv")?.unwrap_or(false);
            if let Some(node) = object.get("envFromHeader") {
                for (header, node) in node.object()?.entries() {
                    let header = header_name(header).map_err(|why| node.wrong(&why))?;
                    let variable = node.string()?;
                    check_variable(variable).map_err(|why| node.wrong(&why))?;
                    server.env_from_header.push((header, variable.to_owned()));
                }
            }
            if let Some(node) = object.get("cwd") {
                let cwd = std::path::PathBuf::from(text(&node)?);
                if !cwd.is_dir() {
                    return Err(node.wrong(&format!("{cwd:?} is not a directory")));
                }
                server.cwd = Some(cwd);
            }
            server.isolation = isolation::read(object, &text)?;
            Ok(Some(Server::Command(server)))
        }
        (None, Some(url)) => {
            for key in fields::only_of(Of::Program).filter(|key| *key != "command") {
                if let Some(node) = object.get(key) {
                    return Err(node.wrong("only a server with \"command\" can have this"));
                }
            }
            let mut server = RemoteServer {
                url: remote_url(&text(&url)?).map_err(|why| url.wrong(&why))?,
                kind: Kind::Auto,
                headers: HeaderMap::new(),
                headers_from_client: Vec::new(),
            };
            if let Some(node) = object.get("type").or_else(|| object.get("transport")) {
                server.kind = match node.string()? {
                    "sse" => Kind::Sse,
                    "http" | "streamable-http" | "streamableHttp" | "streamable_http" => Kind::Http,
                    other => {
                        return Err(node.wrong(&format!(
                            "{other:?} is not a type for a url; expected \"http\" or \"sse\""
                        )));
                    }
                };
            }
            if let Some(node) = object.get("headers") {
                for (name, node) in node.object()?.entries() {
                    let (name, value) = header(name, &text(node)?).map_err(|why| node.wrong(&why))?;
                    server.headers.insert(name, value);
                }
            }
            for node in
                object.get("headersFromClient").map(|node| node.array()).transpose()?.unwrap_or_default()
            {
                let name = passed_header(node.string()?).map_err(|why| node.wrong(&why))?;
                server.headers_from_client.push(name);
            }
            Ok(Some(Server::Remote(server)))
        }
        (Some(_), Some(url)) => Err(url.wrong("a server has either \"command\" or \"url\", not both")),
        (None, None) => {
            Err(object.node().wrong("expected \"command\" (a program to start) or \"url\" (a remote server)"))
        }
    }
}

/// Checks the name of an environment variable.
pub(crate) fn check_variable(name: &str) -> Result<(), String> {
    if name.is_empty() || name.contains(['=', '\0']) {
        return Err(format!("{name:?} is not a name for an environment variable"));
    }
    Ok(())
}

/// Parses the URL of a remote server.
pub(crate) fn remote_url(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|error| format!("{text:?} is not a URL: {error}"))?;
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
        return Err(format!("{text:?} is not the URL of a server; expected http:// or https://"));
    }
    Ok(url)
}

pub(crate) fn header_name(name: &str) -> Result<HeaderName, String> {
    HeaderName::try_from(name).map_err(|_| format!("{name:?} is not a header name"))
}

/// Parses the name of a header that may be set or passed on.
pub(crate) fn passed_header(name: &str) -> Result<HeaderName, String> {
    let name = header_name(name)?;
    if remote::may_pass(&name) {
        Ok(name)
    } else {
        Err(format!("the header {name} belongs to the connection; it cannot be set or passed on"))
    }
}

pub(crate) fn header(name: &str, value: &str) -> Result<(HeaderName, HeaderValue), String> {
    let name = passed_header(name)?;
    // The error does not quote the value, which may be secret.
    let mut value = HeaderValue::try_from(value)
        .map_err(|_| format!("the value of the header {name} has characters that a header cannot have"))?;
    value.set_sensitive(true);
    Ok((name, value))
}

#[cfg(test)]
mod tests;
