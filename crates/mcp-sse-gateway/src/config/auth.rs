//! `auth`, at the top of the file and at a server: which keys clients need.

use std::path::PathBuf;

use super::{document::Object, expand, slip::is_slip};

const AUTH: &str = "auth";
const FILE: &str = "bearerTokenFile";

/// The file of keys. What is misspelled here is an error, as nobody would notice that it is not in force.
pub(super) fn read(
    object: &Object<'_>,
    lookup: &impl Fn(&str) -> Option<String>,
) -> Result<Option<PathBuf>, String> {
    for (key, node) in object.entries() {
        let lower = key.to_ascii_lowercase();
        // Clients have a key "oauth".
        let is_auth = lower == "authentication" || (lower != "oauth" && is_slip(&lower, AUTH));
        if key != AUTH && is_auth {
            return Err(node.wrong("it is not a key; did you mean \"auth\"?"));
        }
        if is_slip(&lower, &FILE.to_ascii_lowercase()) {
            return Err(node.wrong("it belongs into \"auth\": { \"bearerTokenFile\": \"FILE\" }"));
        }
    }
    let Some(auth) = object.get(AUTH) else { return Ok(None) };
    let auth = auth.object()?;
    if let Some((_, node)) = auth.entries().find(|(key, _)| *key != FILE) {
        return Err(node.wrong("it is not a key of \"auth\"; expected \"bearerTokenFile\""));
    }
    let file = auth.get(FILE).ok_or_else(|| auth.node().wrong("expected \"bearerTokenFile\": \"FILE\""))?;
    let text = expand::expand(file.string()?, lookup).map_err(|why| file.wrong(&why))?;
    if text.is_empty() {
        return Err(file.wrong("expected the path of a file"));
    }
    Ok(Some(text.into()))
}
