//! What is checked of a new configuration before anything of it is applied.

use std::collections::{BTreeMap, BTreeSet, btree_map::Entry};

use super::Table;
use crate::{
    access::Auth,
    config::{Auths, Servers},
    encoded::encoded,
};

impl Table {
    /// Checks that the clients of no server that is there would need something else than before.
    pub(super) fn check_auths(&self, servers: &Servers, auths: &Auths) -> Result<(), String> {
        let table = self.lock();
        let stays = table.values().filter(|named| named.name.is_empty() || servers.contains_key(&named.name));
        for named in stays {
            let (before, now) = (named.auth(), auths.of(&named.name));
            if before != now {
                let name = if named.name.is_empty() {
                    "the server at the root".to_owned()
                } else {
                    format!("mcpServers.{}", named.name)
                };
                let why = if named.is_retired() {
                    "which was removed and still has open sessions"
                } else {
                    "which is there"
                };
                return Err(format!(
                    "the clients of {name}, {why}, would need something else than before ({}, now {}); that needs a restart (what is in a file of keys can be changed at any time)",
                    shown(before),
                    shown(now),
                ));
            }
        }
        Ok(())
    }

    /// Checks that no path is used twice: by these servers, by those that stay (at the root, or removed but still in
    /// use) and by the health checks.
    pub(super) fn check_paths(&self, servers: &Servers) -> Result<(), String> {
        let mut taken: BTreeMap<String, String> = BTreeMap::new();
        let mut take = |path: &str, what: String| {
            let key = encoded(path.trim_end_matches('/'));
            match taken.entry(key) {
                Entry::Vacant(vacant) => {
                    vacant.insert(what);
                    Ok(())
                }
                Entry::Occupied(other) => Err(format!(
                    "the path {path} would be both {other} and {what}; choose another name or another path",
                    other = other.get()
                )),
            }
        };
        for path in &self.settings.layout.health {
            take(path, "a health check".to_owned())?;
        }
        let mut names: BTreeSet<String> = servers.keys().cloned().collect();
        names.extend(self.lock().keys().cloned());
        for name in names {
            let paths = self.settings.layout.paths(&name);
            self.transport.with_endpoint(&paths.messages).map_err(|error| error.to_string())?;
            let of = match (&*name, servers.contains_key(&name)) {
                ("", _) => "the server at the root".to_owned(),
                (_, true) => format!("the server {name:?}"),
                (_, false) => format!("the server {name:?}, which is gone but has sessions"),
            };
            take(&paths.sse, format!("the stream of {of}"))?;
            take(&paths.messages, format!("the messages of {of}"))?;
            if !self.settings.no_mcp {
                take(&paths.mcp, format!("Streamable HTTP of {of}"))?;
            }
        }
        Ok(())
    }
}

fn shown(auth: Option<&Auth>) -> String {
    auth.map_or_else(|| "nothing".to_owned(), Auth::to_string)
}
