//! What a session asks for again and again: its methods and tools, and where each is counted.

use std::sync::{Arc, LazyLock, OnceLock};

use mcp_sse::Message;
use memchr::memmem;
use prometheus_client::metrics::histogram::Histogram;

use super::Outcome;
use crate::{
    audit,
    metrics::{self, Metrics},
};

/// How many a session remembers. Most use fewer.
const KEPT: usize = 64;
/// How much of a method and of the name of a tool is kept, in bytes.
const LONGEST: usize = 256;
const CALL: &str = "tools/call";
/// Stands for the name of a tool that is none, or that is there twice.
const UNREADABLE: &str = "(unreadable)";

/// A method, or a tool that is called.
#[derive(Debug)]
pub(crate) struct Kind {
    pub(crate) method: Box<str>,
    /// The tool, if it is a call of one.
    pub(crate) tool: Option<Box<str>>,
    /// The name of the tool as it came, as JSON.
    raw: Box<str>,
    /// As a line of the audit log has it.
    pub(super) audited: String,
    /// Where each outcome is counted, once that cannot change any more.
    counted: [OnceLock<Histogram>; Outcome::ALL],
}

impl Kind {
    fn new(method: &str, raw: &str) -> Self {
        let name = || match serde_json::from_str::<String>(raw) {
            Ok(name) => short(&name),
            // Readers of JSON differ about it, so it may be any.
            Err(_) => UNREADABLE.into(),
        };
        // What is cut is not looked for again.
        let kept = if raw.len() <= LONGEST { raw } else { "" };
        let (method, tool) = (short(method), (method == CALL).then(name));
        let audited = audit::what(&method, tool.as_deref());
        Self { method, tool, raw: kept.into(), audited, counted: Default::default() }
    }

    /// Counts one that took so long.
    pub(super) fn count(&self, metrics: &Metrics, server: &Arc<str>, outcome: Outcome, seconds: f64) {
        let slot = &self.counted[outcome as usize];
        if let Some(histogram) = slot.get() {
            histogram.observe(seconds);
            return;
        }
        // A server may answer a call of a tool that it does not have with `isError`.
        let is_real = outcome == Outcome::Ok;
        let tool = self.tool.as_deref().map(|name| metrics.names.tool(server, name, is_real));
        // One without a name of its own may have one later.
        let is_final = is_real || tool.as_deref() != Some(metrics::OTHER);
        let method = metrics::method(&self.method);
        let histogram = metrics.operation(method, tool, server, outcome.error_type());
        histogram.observe(seconds);
        if is_final {
            let _ = slot.set(histogram);
        }
    }

    /// In words, for its operator.
    pub(super) fn shown(&self) -> String {
        match &self.tool {
            Some(tool) => format!("{} {tool}", self.method),
            None => self.method.to_string(),
        }
    }
}

/// Those of one session.
#[derive(Debug, Default)]
pub(super) struct Kinds {
    kept: Vec<Arc<Kind>>,
    next: usize,
}

impl Kinds {
    pub(super) fn of(&mut self, message: &Message, method: &str) -> Arc<Kind> {
        if method == CALL
            && let Some(kind) = message.params().and_then(|params| self.quickly(params.as_bytes()))
        {
            return Arc::clone(kind);
        }
        let raw = if method == CALL { message.param(&["name"]).unwrap_or_default() } else { "" };
        let same = |kind: &&Arc<Kind>| *kind.raw == *raw && *kind.method == *method;
        if let Some(kind) = self.kept.iter().find(same) {
            return Arc::clone(kind);
        }
        let kind = Arc::new(Kind::new(method, raw));
        if raw.len() <= LONGEST && method.len() <= LONGEST {
            match self.kept.get_mut(self.next) {
                Some(oldest) => *oldest = Arc::clone(&kind),
                None => self.kept.push(Arc::clone(&kind)),
            }
            self.next = (self.next + 1) % KEPT;
        }
        kind
    }

    /// A tool that was called before, by parameters as most clients write them: the name comes first, and what follows can
    /// have no other one. So most are not read twice.
    fn quickly(&self, params: &[u8]) -> Option<&Arc<Kind>> {
        static NAME: LazyLock<memmem::Finder<'static>> = LazyLock::new(|| memmem::Finder::new(b"\"name\""));
        let named = params.strip_prefix(b"{\"name\":")?;
        let is_it = |kind: &&Arc<Kind>| {
            let raw = kind.raw.as_bytes();
            !raw.is_empty() && named.starts_with(raw) && matches!(named.get(raw.len()), Some(b',' | b'}'))
        };
        let kind = self.kept.iter().find(is_it)?;
        let rest = named.get(kind.raw.len()..)?;
        // With an escape, a name may look different.
        (memchr::memchr(b'\\', rest).is_none() && NAME.find(rest).is_none()).then_some(kind)
    }
}

/// The beginning of a name that a client has made up.
fn short(name: &str) -> Box<str> {
    let end = (0..=LONGEST.min(name.len())).rev().find(|&end| name.is_char_boundary(end));
    name[..end.unwrap_or(0)].into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_remembers_so_many_and_finds_them_again() {
        let mut kinds = Kinds::default();
        let message = |name: &str| {
            let json =
                format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"{name}"}}}}"#);
            Message::parse(json).unwrap()
        };
        let first = kinds.of(&message("echo"), "tools/call");
        assert!(Arc::ptr_eq(&first, &kinds.of(&message("echo"), "tools/call")));
        for number in 0..10 * KEPT {
            kinds.of(&message(&format!("tool {number}")), "tools/call");
        }
        kinds.of(&message(&"x".repeat(10_000)), "tools/call");
        assert_eq!((kinds.kept.len(), first.tool.as_deref()), (KEPT, Some("echo")));
        let another = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo","x":"","NAME":"other"}}"#;
        for (written, is_twice) in [("name", true), (r"n\u0061me", true), ("Name", false)] {
            let message = Message::parse(another.replace("NAME", written)).unwrap();
            let tool = kinds.of(&message, "tools/call").tool.clone();
            assert_eq!(tool.as_deref(), Some(if is_twice { UNREADABLE } else { "echo" }), "{written}");
        }
        let cut = kinds.of(&message(&"é".repeat(1_000)), "tools/call");
        assert_eq!(cut.tool.as_deref(), Some(&*"é".repeat(LONGEST / 2)));
    }
}
