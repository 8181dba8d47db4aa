//! `auth`, at the top of the file and at a server: what clients need.

use super::{
    document::{Node, Object},
    expand, fields,
    slip::is_slip,
};
use crate::access::{Auth, Jwks, Tokens};

const AUTH: &str = "auth";
/// The keys of the object, named as the options are.
const KEYS: [&str; fields::AUTH.len()] = {
    let mut names = [""; fields::AUTH.len()];
    let mut at = 0;
    while at < names.len() {
        names[at] = fields::AUTH[at].name;
        at += 1;
    }
    names
};

/// What clients need. What is misspelled here is an error, as nobody would notice that it is not in force.
pub(super) fn read(
    object: &Object<'_>,
    lookup: &impl Fn(&str) -> Option<String>,
) -> Result<Option<Auth>, String> {
    for (key, node) in object.entries() {
        let lower = key.to_ascii_lowercase();
        // Clients have a key "oauth".
        let is_auth = lower == "authentication" || (lower != "oauth" && is_slip(&lower, AUTH));
        if key != AUTH && is_auth {
            return Err(node.wrong("it is not a key; did you mean \"auth\"?"));
        }
        if let Some(meant) = KEYS.iter().find(|meant| is_slip(&lower, &meant.to_ascii_lowercase())) {
            return Err(node.wrong(&format!("it belongs into \"auth\": {{ {meant:?}: … }}")));
        }
    }
    let Some(auth) = object.get(AUTH) else { return Ok(None) };
    let auth = auth.object()?;
    if let Some((_, node)) = auth.entries().find(|(key, _)| !KEYS.contains(key)) {
        let keys = KEYS.map(|key| format!("{key:?}")).join(", ");
        return Err(node.wrong(&format!("it is not a key of \"auth\"; expected one of {keys}")));
    }
    let text = |node: &Node<'_>, what: &str| {
        let text = expand::expand(node.string()?, lookup).map_err(|why| node.wrong(&why))?;
        if text.is_empty() { Err(node.wrong(&format!("expected {what}"))) } else { Ok(text) }
    };
    let one = |key: &str, what: &str| auth.get(key).map(|node| text(&node, what)).transpose();
    let several = |key: &str, what: &str| match auth.get(key) {
        None => Ok(Vec::new()),
        Some(node) if node.is_string() => Ok(vec![text(&node, what)?]),
        Some(node) => node.array()?.iter().map(|node| text(node, what)).collect::<Result<Vec<_>, _>>(),
    };
    let key_file = one("bearerTokenFile", "the path of a file")?;
    let issuer = one("jwtIssuer", "the URL of an authorization server")?;
    let jwks = one("jwks", "a URL or the path of a file")?;
    let audiences = several("jwtAudience", "an audience")?;
    let scopes = several("requiredScope", "a scope")?;
    let tokens = match issuer {
        Some(issuer) => Some(Tokens { issuer, jwks: jwks.as_deref().map(Jwks::parse), audiences, scopes }),
        None => {
            if let Some((_, node)) = auth.entries().find(|(key, _)| *key != "bearerTokenFile") {
                return Err(node.wrong("it needs \"jwtIssuer\" beside it"));
            }
            None
        }
    };
    let read = Auth { key_file: key_file.map(Into::into), tokens };
    if read.is_empty() {
        return Err(auth.node().wrong("expected \"bearerTokenFile\": \"FILE\", or \"jwtIssuer\": \"URL\""));
    }
    Ok(Some(read))
}
