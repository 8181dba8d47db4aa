//! What a modern server says of itself (`server/discover`), and the answer to `initialize` that is made of it.

use mcp_sse::{Message, MessageKind, RequestId};
use serde_json::{Value, json, value::RawValue};

use super::eras::refusal;
use crate::message::{
    members::Members,
    modern::{LEGACY_VERSIONS, VERSION, code, meta},
};

/// What of a server's error is repeated, in characters.
const SHOWN: usize = 300;

/// What a modern server says of itself.
#[derive(Clone, Debug)]
pub(crate) struct Discovered {
    capabilities: Box<RawValue>,
    info: Option<Box<RawValue>>,
    instructions: Option<Box<RawValue>>,
    /// What it can tell of changes.
    pub(super) lists: Lists,
    pub(super) subscribes: bool,
    pub(super) logs: bool,
}

/// Why a server cannot be spoken to in this revision.
#[derive(Debug)]
pub(crate) struct Unlike {
    pub(crate) why: String,
    /// It says that it does not know this revision, and nothing else.
    pub(crate) is_certain: bool,
}

/// The lists of which a server says when they have changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Lists {
    pub(super) tools: bool,
    pub(super) prompts: bool,
    pub(super) resources: bool,
}

impl Lists {
    pub(super) fn any(self) -> bool {
        self.tools || self.prompts || self.resources
    }
}

impl Discovered {
    /// Of the answer to `server/discover`; or why its server cannot be spoken to in this revision.
    pub(crate) fn read(answer: &Message) -> Result<Self, Unlike> {
        let doubt = |why: String| Unlike { why, is_certain: false };
        let unlike =
            || doubt("its answer to server/discover is not as revision 2026-07-28 has it".to_owned());
        let members = Members::read(answer.as_str()).ok_or_else(unlike)?;
        if matches!(answer.kind(), MessageKind::Response { is_error: true, .. }) {
            let error: String = members.get("error").unwrap_or_default().chars().take(SHOWN).collect();
            let (code, supported) = refusal(answer);
            let is_certain = code == Some(code::METHOD_NOT_FOUND)
                || (code == Some(code::UNSUPPORTED_PROTOCOL_VERSION) && supported == Some(false));
            return Err(Unlike {
                why: format!("it answers server/discover with the error {error}"),
                is_certain,
            });
        }
        let result = members.get("result").and_then(Members::read).ok_or_else(unlike)?;
        let versions: Vec<String> = result
            .get("supportedVersions")
            .and_then(|json| serde_json::from_str(json).ok())
            .ok_or_else(unlike)?;
        if !versions.iter().any(|version| version == VERSION) {
            let versions: String = versions.join(", ").chars().take(SHOWN).collect();
            let why = format!("it does not speak revision {VERSION}, but only {versions}");
            return Err(Unlike { why, is_certain: true });
        }
        let raw = |json: &str| RawValue::from_string(json.to_owned()).ok();
        let capabilities = result.get("capabilities").filter(|json| json.starts_with('{')).unwrap_or("{}");
        let known: Value = serde_json::from_str(capabilities).map_err(|_| unlike())?;
        let is = |of: &str, what: &str| known[of][what] == Value::Bool(true);
        let meta = result.get("_meta").and_then(Members::read).unwrap_or_default();
        let info = meta.get(meta::SERVER_INFO).or(result.get("serverInfo"));
        Ok(Self {
            capabilities: raw(capabilities).ok_or_else(unlike)?,
            info: info.filter(|json| json.starts_with('{')).and_then(raw),
            instructions: result.get("instructions").filter(|json| json.starts_with('"')).and_then(raw),
            lists: Lists {
                tools: is("tools", "listChanged"),
                prompts: is("prompts", "listChanged"),
                resources: is("resources", "listChanged"),
            },
            subscribes: is("resources", "subscribe"),
            logs: known["logging"].is_object(),
        })
    }

    /// The answer to an `initialize` with this id, for a client that asks for this version.
    pub(super) fn initialized(&self, id: &RequestId, version: Option<&str>) -> Message {
        let latest = LEGACY_VERSIONS[LEGACY_VERSIONS.len() - 1];
        let version = version.filter(|version| LEGACY_VERSIONS.contains(version)).unwrap_or(latest);
        let mut result = Members::default();
        result.set("protocolVersion", version);
        result.set("capabilities", &self.capabilities);
        match &self.info {
            Some(info) => result.set("serverInfo", info),
            // Clients of these revisions need one.
            None => result.set("serverInfo", &json!({ "name": "unnamed", "version": "0" })),
        }
        if let Some(instructions) = &self.instructions {
            result.set("instructions", instructions);
        }
        // It is made of JSON.
        Message::result(id, &result).unwrap_or_else(|_| Message::error(id, -32603, "cannot be written"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(result: &Value) -> Message {
        Message::parse(json!({ "jsonrpc": "2.0", "id": 1, "result": result }).to_string()).unwrap()
    }

    #[test]
    fn initialize_is_answered_with_what_was_discovered() {
        let discovered = Discovered::read(&answer(&json!({
            "supportedVersions": ["2026-07-28", "2027-01-01"],
            "capabilities": { "tools": { "listChanged": true }, "resources": { "subscribe": true }, "logging": {} },
            "instructions": "Do.",
            "resultType": "complete", "ttlMs": 0, "cacheScope": "private",
            "_meta": { "io.modelcontextprotocol/serverInfo": { "name": "s", "version": "1" } },
        })))
        .unwrap();
        assert_eq!(discovered.lists, Lists { tools: true, ..Lists::default() });
        assert!(discovered.subscribes && discovered.logs);
        let answer = |version| discovered.initialized(&RequestId::from(7), version).as_str().to_owned();
        assert_eq!(
            answer(Some("2024-11-05")),
            concat!(
                r#"{"jsonrpc":"2.0","id":7,"result":{"protocolVersion":"2024-11-05","#,
                r#""capabilities":{"logging":{},"resources":{"subscribe":true},"tools":{"listChanged":true}},"#,
                r#""serverInfo":{"name":"s","version":"1"},"instructions":"Do."}}"#
            )
        );
        for unknown in [None, Some("2026-07-28"), Some("2020-01-01")] {
            assert!(answer(unknown).contains(r#""protocolVersion":"2025-11-25""#));
        }
    }

    #[test]
    fn a_server_of_another_revision_is_none() {
        let later = answer(&json!({ "supportedVersions": ["2027-01-01"], "capabilities": {} }));
        assert!(Discovered::read(&later).unwrap_err().why.contains("only 2027-01-01"));
        assert!(Discovered::read(&answer(&json!({}))).unwrap_err().why.contains("not as revision"));
        let error = Message::error(&RequestId::from(1), -32601, "Method not found");
        assert!(Discovered::read(&error).unwrap_err().why.contains("-32601"));
        let bare = Discovered::read(&answer(&json!({ "supportedVersions": ["2026-07-28"] }))).unwrap();
        assert!(bare.initialized(&RequestId::from(1), None).as_str().contains(r#""name":"unnamed""#));
    }
}
