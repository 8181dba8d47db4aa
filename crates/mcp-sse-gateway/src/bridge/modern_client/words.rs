//! Messages in the words of the other era.
//!
//! A large message is read once and written once; nothing of it is decoded but what is changed.

use mcp_sse::{Message, MessageKind, RequestId};
use serde::Deserialize;
use serde_json::{Value, json, value::RawValue};

use super::{
    asked::{About, Asked},
    fault::Fault,
};
use crate::message::{
    members::{Members, with_id},
    modern::{LEGACY_VERSIONS, VERSION, code, meta},
};

/// Members of `_meta` that a legacy server does not know.
const MODERN_META: [&str; 4] =
    [meta::PROTOCOL_VERSION, meta::CLIENT_CAPABILITIES, meta::CLIENT_INFO, meta::LOG_LEVEL];
/// Results that clients may keep, and have to be told for how long.
const KEPT: [&str; 6] = [
    "server/discover",
    "tools/list",
    "prompts/list",
    "resources/list",
    "resources/templates/list",
    "resources/read",
];

pub(super) fn initialize(id: &RequestId, about: &About) -> Option<Message> {
    let version = LEGACY_VERSIONS.last()?;
    let info: Value =
        about.info.as_ref().and_then(|info| serde_json::from_str(info).ok()).unwrap_or_default();
    let mut info = info.as_object().cloned().unwrap_or_default();
    for (name, otherwise) in [("name", "unknown"), ("version", "0")] {
        if !info.get(name).is_some_and(Value::is_string) {
            info.insert(name.to_owned(), otherwise.into());
        }
    }
    let capabilities: &RawValue = serde_json::from_str(&about.capabilities).ok()?;
    let info = serde_json::value::to_raw_value(&info).ok()?;
    let params = std::collections::BTreeMap::from([("capabilities", capabilities), ("clientInfo", &*info)]);
    let params = serde_json::to_string(&params).ok()?;
    let rest = params.strip_prefix('{')?;
    parsed(format!(
        r#"{{"jsonrpc":"2.0","id":{id},"method":"initialize","params":{{"protocolVersion":"{version}",{rest}}}"#
    ))
}

/// The question whether a server speaks the modern era.
pub(crate) fn discover(id: &RequestId, about: &About) -> Option<Message> {
    let info =
        about.info.as_ref().map(|info| format!(r#","{}":{info}"#, meta::CLIENT_INFO)).unwrap_or_default();
    parsed(format!(
        r#"{{"jsonrpc":"2.0","id":{id},"method":"server/discover","params":{{"_meta":{{"{}":"{VERSION}","{}":{}{info}}}}}}}"#,
        meta::PROTOCOL_VERSION,
        meta::CLIENT_CAPABILITIES,
        about.capabilities,
    ))
}

/// The answer to it that says: it does.
pub(crate) fn is_modern(answer: &Message) -> bool {
    match answer.kind() {
        MessageKind::Response { is_error: false, .. } => true,
        MessageKind::Response { is_error: true, .. } => error_code(answer).is_some_and(|code| {
            [code::UNSUPPORTED_PROTOCOL_VERSION, code::HEADER_MISMATCH, code::MISSING_CLIENT_CAPABILITY]
                .contains(&code)
        }),
        _ => false,
    }
}

/// What an error says.
#[derive(Debug, Deserialize)]
pub(super) struct Error {
    pub(super) code: i64,
    #[serde(default)]
    pub(super) message: String,
}

pub(super) fn error(message: &Message) -> Option<Error> {
    #[derive(Deserialize)]
    struct Answer {
        error: Error,
    }
    let Answer { error } = serde_json::from_slice(message.as_bytes()).ok()?;
    Some(error)
}

/// The code of an error.
pub(crate) fn error_code(answer: &Message) -> Option<i32> {
    error(answer).and_then(|error| i32::try_from(error.code).ok())
}

/// A client's request as a legacy server understands it, with an id and a token of ours.
pub(super) fn for_legacy(asked: &Asked, id: &RequestId, token: &str) -> Option<Message> {
    let mut params = Members::read(asked.message.params().unwrap_or("{}"))?;
    params.remove("inputResponses");
    params.remove("requestState");
    let written = {
        let mut meta = Members::read(params.get("_meta").unwrap_or("{}"))?;
        for key in MODERN_META {
            meta.remove(key);
        }
        if asked.token.is_some() {
            meta.set("progressToken", token);
        }
        if meta.is_empty() { None } else { Some(meta.write()) }
    };
    match written {
        Some(meta) => params.set_json("_meta", &meta),
        None => drop(params.remove("_meta")),
    }
    let method = Value::from(asked.message.method()?);
    parsed(format!(r#"{{"jsonrpc":"2.0","id":{id},"method":{method},"params":{}}}"#, params.write()))
}

/// The same for a modern server: all else stays as it came.
pub(super) fn for_modern(asked: &Asked, id: &RequestId, token: &str) -> Option<Message> {
    let message = with_id(&asked.message, id)?;
    if asked.token.is_none() {
        return Some(message);
    }
    with_meta(&message, |meta| meta.set("progressToken", token))
}

/// The message with its `_meta` changed.
pub(super) fn with_meta(message: &Message, change: impl FnOnce(&mut Members<'_>)) -> Option<Message> {
    let mut all = Members::read(message.as_str())?;
    let params = {
        let mut params = Members::read(message.params().unwrap_or("{}"))?;
        let meta = {
            let mut meta = Members::read(params.get("_meta").unwrap_or("{}"))?;
            change(&mut meta);
            meta.write()
        };
        params.set_json("_meta", &meta);
        params.write()
    };
    all.set_json("params", &params);
    all.message()
}

/// The same for a member of its parameters, which is set to this JSON.
pub(super) fn with_param(message: &Message, name: &str, json: &str) -> Option<Message> {
    let mut all = Members::read(message.as_str())?;
    let params = {
        let mut params = Members::read(message.params().unwrap_or("{}"))?;
        params.set_json(name, json);
        params.write()
    };
    all.set_json("params", &params);
    all.message()
}

/// A legacy server's answer as a modern client understands it. `info` is what the server says of itself.
pub(super) fn for_client(answer: &Message, id: &RequestId, method: &str, info: Option<&str>) -> Message {
    let translated = match answer.kind() {
        MessageKind::Response { is_error: true, .. } => error_for_client(answer, id),
        _ => result_for_client(answer, id, method, info),
    };
    translated.unwrap_or_else(|| {
        tracing::warn!("an answer of the server cannot be read, or has a name twice in an object");
        Fault::new(code::INTERNAL_ERROR, "the server's answer cannot be read").message(id)
    })
}

fn result_for_client(answer: &Message, id: &RequestId, method: &str, info: Option<&str>) -> Option<Message> {
    #[derive(Deserialize)]
    struct Answer<'a> {
        #[serde(borrow)]
        result: &'a RawValue,
    }
    let Answer { result } = serde_json::from_str(answer.as_str()).ok()?;
    result_of(result.get(), id, method, info)
}

/// A result, as JSON, as a modern client understands it.
pub(super) fn result_of(result: &str, id: &RequestId, method: &str, info: Option<&str>) -> Option<Message> {
    let mut result = Members::read(result)?;
    if result.get("resultType").is_none() {
        result.set("resultType", "complete");
    }
    if KEPT.contains(&method) {
        if result.get("ttlMs").is_none() {
            result.set("ttlMs", &0);
        }
        if result.get("cacheScope").is_none() {
            result.set("cacheScope", "private");
        }
    }
    if let Some(info) = info {
        let meta = Members::read(result.get("_meta").unwrap_or("{}")).map(|mut meta| {
            if meta.get(meta::SERVER_INFO).is_none() {
                meta.set_json(meta::SERVER_INFO, info);
            }
            meta.write()
        });
        if let Some(meta) = meta {
            result.set_json("_meta", &meta);
        }
    }
    parsed(format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{}}}"#, result.write()))
}

fn error_for_client(answer: &Message, id: &RequestId) -> Option<Message> {
    let mut all = Members::read(answer.as_str())?;
    all.set_json("id", &id.to_string());
    if error_code(answer) == Some(code::RESOURCE_NOT_FOUND) {
        let error = {
            let mut error = Members::read(all.get("error")?)?;
            error.set("code", &code::INVALID_PARAMS);
            error.write()
        };
        all.set_json("error", &error);
    }
    all.message()
}

/// What a server has said of itself in its answer to `initialize`.
#[derive(Clone, Debug, Default)]
pub(super) struct Greeted {
    /// As JSON.
    pub(super) info: Option<Box<str>>,
    /// The result of `server/discover`, as JSON.
    pub(super) discovered: Box<str>,
    pub(super) logs: bool,
    pub(super) subscribes: bool,
    /// Whether it tells of changed lists: of tools, prompts, resources.
    pub(super) changes: [bool; 3],
}

pub(super) fn greeted(answer: &Message) -> Option<Greeted> {
    #[derive(Deserialize)]
    struct Answer {
        result: Value,
    }
    let Answer { result } = serde_json::from_slice(answer.as_bytes()).ok()?;
    let result = result.as_object()?;
    let capabilities =
        result.get("capabilities").cloned().filter(Value::is_object).unwrap_or_else(|| json!({}));
    let says = |path: [&str; 2]| capabilities[path[0]][path[1]] == Value::Bool(true);
    let mut discovered = json!({ "supportedVersions": [VERSION], "capabilities": capabilities });
    if let Some(instructions) = result.get("instructions").filter(|instructions| instructions.is_string()) {
        discovered["instructions"] = instructions.clone();
    }
    let info = result.get("serverInfo").filter(|info| info.is_object());
    Some(Greeted {
        info: info.map(|info| info.to_string().into()),
        logs: capabilities["logging"].is_object(),
        subscribes: says(["resources", "subscribe"]),
        changes: ["tools", "prompts", "resources"].map(|list| says([list, "listChanged"])),
        discovered: discovered.to_string().into(),
    })
}

/// A server's request to its client as an entry of `inputRequests`, as JSON.
pub(super) fn entry(message: &Message) -> Option<String> {
    let method = Value::from(message.method()?);
    let mut params = Members::read(message.params().unwrap_or("{}"))?;
    // Nobody can tell the server of progress, or that what it waits for is done.
    params.remove("elicitationId");
    let meta = match params.get("_meta").and_then(Members::read) {
        Some(mut meta) => {
            meta.remove("progressToken");
            if meta.is_empty() { None } else { Some(meta.write()) }
        }
        None => None,
    };
    match meta {
        Some(meta) => params.set_json("_meta", &meta),
        None => drop(params.remove("_meta")),
    }
    if params.is_empty() {
        return Some(format!(r#"{{"method":{method}}}"#));
    }
    Some(format!(r#"{{"method":{method},"params":{}}}"#, params.write()))
}

fn parsed(json: String) -> Option<Message> {
    Message::parse(json).ok()
}

#[cfg(test)]
mod tests;
