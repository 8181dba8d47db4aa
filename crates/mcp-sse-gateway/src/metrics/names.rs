//! The names of methods and tools in labels. Clients make some up, so only those that are known, or that a server has
//! answered, have a label of their own.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, PoisonError, RwLock},
};

/// How many tools have a name of their own in labels, of all servers together.
const TOOLS: usize = 200;
/// The longest of these names, in bytes.
const LONGEST: usize = 128;
/// What stands for all others.
pub(crate) const OTHER: &str = "_OTHER";

/// The requests of clients in all revisions of MCP.
const METHODS: [&str; 24] = [
    "completion/complete",
    "initialize",
    "logging/setLevel",
    "ping",
    "prompts/get",
    "prompts/list",
    "resources/list",
    "resources/read",
    "resources/subscribe",
    "resources/templates/list",
    "resources/unsubscribe",
    "server/discover",
    "subscriptions/listen",
    "tasks/cancel",
    "tasks/get",
    "tasks/list",
    "tasks/result",
    "tasks/update",
    "tools/call",
    "tools/list",
    "roots/list",
    "sampling/createMessage",
    "elicitation/create",
    "messages/listen",
];

/// The name of a method in labels.
pub(crate) fn method(name: &str) -> &'static str {
    METHODS.into_iter().find(|known| *known == name).unwrap_or(OTHER)
}

/// The tools that have a name of their own, by the name of their server.
#[derive(Debug, Default)]
pub(crate) struct Names(RwLock<HashMap<Arc<str>, HashSet<Arc<str>>>>);

impl Names {
    /// The name of a tool in labels; `is_real` if the server has answered a call of it with a result.
    pub(crate) fn tool(&self, server: &Arc<str>, name: &str, is_real: bool) -> Arc<str> {
        {
            let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
            if let Some(name) = known.get(server).and_then(|tools| tools.get(name)) {
                return Arc::clone(name);
            }
            if !is_real || name.len() > LONGEST || is_full(&known) {
                return OTHER.into();
            }
        }
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if is_full(&known) {
            return OTHER.into();
        }
        let name: Arc<str> = name.into();
        known.entry(Arc::clone(server)).or_default().insert(Arc::clone(&name));
        name
    }
}

fn is_full(known: &HashMap<Arc<str>, HashSet<Arc<str>>>) -> bool {
    known.values().map(HashSet::len).sum::<usize>() >= TOOLS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_made_up_has_no_name() {
        let (names, server) = (Names::default(), Arc::from("files"));
        assert_eq!((method("tools/call"), method("tools/call2"), method("")), ("tools/call", OTHER, OTHER));
        assert_eq!(&*names.tool(&server, "echo", false), OTHER);
        assert_eq!(
            (&*names.tool(&server, "echo", true), &*names.tool(&server, "echo", false)),
            ("echo", "echo")
        );
        assert_eq!(&*names.tool(&"mail".into(), "echo", false), OTHER);
        assert_eq!(&*names.tool(&server, &"x".repeat(LONGEST + 1), true), OTHER);
        for number in 0..10_000 {
            names.tool(&server, &format!("tool {number}"), true);
        }
        assert_eq!(names.0.read().unwrap()[&server].len(), TOOLS);
        assert_eq!(
            (&*names.tool(&server, "echo", false), &*names.tool(&server, "another", true)),
            ("echo", OTHER)
        );
    }
}
