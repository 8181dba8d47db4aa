//! A modern client's request, read and found to be well-formed.

use std::{
    collections::BTreeMap,
    hash::{BuildHasher as _, RandomState},
};

use mcp_sse::{Message, MessageKind, RequestId};
use serde_json::{Value, value::RawValue};

use super::{canonical::canonical, fault::Fault, state::State};
use crate::message::{
    members::Members,
    modern::{self, LOG_LEVELS, VERSION, code, meta},
};

/// The most that a client may say of itself, in bytes. It is kept as long as its session.
const ABOUT: usize = 32 * 1024;
/// The most resources that one listener may subscribe to, and the bytes of one URI.
const URIS: usize = 256;
const URI: usize = 2 * 1024;
/// Requests of eras before that no modern server knows.
const GONE: [&str; 5] =
    ["initialize", "ping", "logging/setLevel", "resources/subscribe", "resources/unsubscribe"];

/// A request, and what was read of it.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(super) message: Message,
    pub(super) id: RequestId,
    pub(super) kind: Kind,
    about: About,
    /// Its token for progress, as JSON.
    pub(super) token: Option<Box<str>>,
    /// The least severe level of the log messages that it wants, by its place in the list of all.
    pub(super) level: Option<usize>,
    /// The state of the request that it continues, and the answers to what its client was asked, as JSON, by their keys.
    state: Option<State>,
    pub(super) responses: BTreeMap<String, Box<RawValue>>,
    /// Of the method and the parameters, in so far as they must not change when the request is sent again.
    pub(crate) print: u64,
}

/// What kind of a request it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Its server may ask the client before it answers.
    MayAsk,
    Discover,
    Listen(Filter),
    Other,
}

/// What a client says of itself with each request, as canonical JSON.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct About {
    pub(super) info: Option<Box<str>>,
    pub(super) capabilities: Box<str>,
}

/// Which changes a client wants to hear of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Filter {
    pub(super) tools: bool,
    pub(super) prompts: bool,
    pub(super) resources: bool,
    pub(super) uris: Vec<Box<str>>,
}

impl Asked {
    /// Reads a request. The secret is for its print.
    pub(crate) fn read(message: &Message, secret: &RandomState) -> Result<Self, Fault> {
        let MessageKind::Request { id, method } = message.kind() else {
            return Err(Fault::new(code::INVALID_REQUEST, "this is no request"));
        };
        let params = message.params().unwrap_or("{}");
        let params = Members::read(params)
            .ok_or_else(|| Fault::params("params must be an object in which no name is given twice"))?;
        let meta = params.get("_meta").unwrap_or("{}");
        let meta = Members::read(meta)
            .ok_or_else(|| Fault::params("params._meta must be an object in which no name is given twice"))?;
        let version = required::<String>(&meta, meta::PROTOCOL_VERSION)?;
        let capabilities = required::<Value>(&meta, meta::CLIENT_CAPABILITIES)?;
        if !capabilities.is_object() {
            return Err(Fault::params(format!(
                "params._meta: {} must be an object",
                meta::CLIENT_CAPABILITIES
            )));
        }
        if version != VERSION {
            return Err(Fault::version(&version.chars().take(100).collect::<String>()));
        }
        if GONE.contains(&&**method) {
            return Err(Fault::new(
                code::METHOD_NOT_FOUND,
                format!("Method not found: revision {VERSION} has no {method}"),
            ));
        }
        let about = About::read(&meta, &capabilities)?;
        let level = match meta.get(meta::LOG_LEVEL) {
            None => None,
            Some(json) => Some(level(json).ok_or_else(|| {
                Fault::params(format!(
                    "params._meta: {} must be one of {}",
                    meta::LOG_LEVEL,
                    LOG_LEVELS.join(", ")
                ))
            })?),
        };
        let token = match meta.get("progressToken") {
            Some(token)
                if !matches!(token.as_bytes().first(), Some(b'"' | b'-' | b'0'..=b'9'))
                    || token.len() > URI =>
            {
                return Err(Fault::params("params._meta: progressToken must be a string or a number"));
            }
            token => token.map(Box::from),
        };
        let kind = match &**method {
            "server/discover" => Kind::Discover,
            "subscriptions/listen" => Kind::Listen(Filter::read(&params)?),
            method if modern::name_parameter(method).is_some() => Kind::MayAsk,
            _ => Kind::Other,
        };
        let state = match params.get("requestState") {
            None => None,
            Some(json) => Some(State::new(serde_json::from_str::<String>(json).map_err(|_| Fault::state())?)),
        };
        let responses = match params.get("inputResponses") {
            None => BTreeMap::new(),
            Some(json) => responses(json)?,
        };
        let print = if kind == Kind::MayAsk { secret.hash_one(salient(method, &params)) } else { 0 };
        Ok(Self {
            message: message.clone(),
            id: id.clone(),
            kind,
            about,
            token,
            level,
            state,
            responses,
            print,
        })
    }

    pub(crate) fn about(&self) -> &About {
        &self.about
    }

    pub(crate) fn id(&self) -> &RequestId {
        &self.id
    }

    pub(crate) fn message(&self) -> &Message {
        &self.message
    }

    /// The state of the request that it continues.
    pub(crate) fn state(&self) -> Option<&State> {
        self.state.as_ref()
    }

    /// What it is about, if its server may ask its client: the method, and what is called, got or read.
    pub(crate) fn subject(&self) -> Option<Box<str>> {
        let method = self.message.method()?;
        let name = self.message.param(&[modern::name_parameter(method)?])?;
        (name.len() <= URI).then(|| format!("{method} {name}").into())
    }

    /// Whether its response is a stream that stays open.
    pub(crate) fn is_listener(&self) -> bool {
        matches!(self.kind, Kind::Listen(_))
    }
}

fn required<T: serde::de::DeserializeOwned>(meta: &Members<'_>, key: &str) -> Result<T, Fault> {
    let json = meta
        .get(key)
        .ok_or_else(|| Fault::params(format!("params._meta is missing {key}, which every request needs")))?;
    serde_json::from_str(json).map_err(|_| Fault::params(format!("params._meta: {key} has the wrong type")))
}

fn level(json: &str) -> Option<usize> {
    let level: String = serde_json::from_str(json).ok()?;
    LOG_LEVELS.iter().position(|known| *known == level)
}

fn responses(json: &str) -> Result<BTreeMap<String, Box<RawValue>>, Fault> {
    let members = Members::read(json)
        .ok_or_else(|| Fault::params("inputResponses must be an object in which no name is given twice"))?;
    // What is no object is no result; its client is asked again.
    let results = members.iter().filter(|(_, json)| json.starts_with('{'));
    let owned = results
        .filter_map(|(key, json)| Some((key.to_owned(), RawValue::from_string(json.to_owned()).ok()?)));
    Ok(owned.collect())
}

/// What must be the same when a request is sent again. No arguments are the same as empty ones.
fn salient(method: &str, params: &Members<'_>) -> String {
    let mut kept = BTreeMap::new();
    for (name, json) in params.iter() {
        if matches!(name, "_meta" | "inputResponses" | "requestState") {
            continue;
        }
        let value: Value = serde_json::from_str(json).unwrap_or_default();
        let is_empty = name == "arguments"
            && (value.is_null() || value.as_object().is_some_and(serde_json::Map::is_empty));
        if !is_empty {
            kept.insert(name, canonical(&value));
        }
    }
    format!("{method} {kept:?}")
}

impl About {
    fn read(meta: &Members<'_>, capabilities: &Value) -> Result<Self, Fault> {
        let info = match meta.get(meta::CLIENT_INFO) {
            None => None,
            Some(json) => match serde_json::from_str::<Value>(json) {
                Ok(info) if info.is_object() => Some(canonical(&info)),
                _ => {
                    return Err(Fault::params(format!(
                        "params._meta: {} must be an object",
                        meta::CLIENT_INFO
                    )));
                }
            },
        };
        let capabilities = canonical(capabilities);
        if info.as_ref().map_or(0, String::len) + capabilities.len() > ABOUT {
            return Err(Fault::params(format!(
                "params._meta: {} and {} have more than {ABOUT} bytes",
                meta::CLIENT_INFO,
                meta::CLIENT_CAPABILITIES
            )));
        }
        Ok(Self { info: info.map(Into::into), capabilities: capabilities.into() })
    }

    fn capability(&self, path: &[&str]) -> bool {
        let capabilities: Value = serde_json::from_str(&self.capabilities).unwrap_or_default();
        path.iter()
            .try_fold(&capabilities, |value, name| value.get(name))
            .is_some_and(|value| !value.is_null())
    }

    /// Whether it may be asked anything.
    pub(crate) fn may_be_asked(&self) -> bool {
        ["sampling", "elicitation", "roots"].iter().any(|name| self.capability(&[name]))
    }

    /// Whether it may be asked this. A client that says no more of elicitation can show forms.
    pub(super) fn takes(&self, method: &str, mode: Option<&str>) -> bool {
        match (method, mode) {
            ("sampling/createMessage", _) => self.capability(&["sampling"]),
            ("roots/list", _) => self.capability(&["roots"]),
            ("elicitation/create", Some("url")) => self.capability(&["elicitation", "url"]),
            ("elicitation/create", _) => {
                self.capability(&["elicitation"])
                    && (self.capability(&["elicitation", "form"])
                        || !self.capability(&["elicitation", "url"]))
            }
            _ => false,
        }
    }
}

impl Filter {
    fn read(params: &Members<'_>) -> Result<Self, Fault> {
        let wrong = || {
            Fault::params(format!(
                "params.notifications must be an object of toolsListChanged, promptsListChanged, resourcesListChanged (true or false), and resourceSubscriptions (at most {URIS} URIs)"
            ))
        };
        let filter = params.get("notifications").and_then(Members::read).ok_or_else(wrong)?;
        let flag = |name: &str| match filter.get(name) {
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(_) => Err(wrong()),
        };
        let mut uris: Vec<Box<str>> = match filter.get("resourceSubscriptions") {
            None => Vec::new(),
            Some(json) => serde_json::from_str(json).map_err(|_| wrong())?,
        };
        uris.sort_unstable();
        uris.dedup();
        if uris.len() > URIS || uris.iter().any(|uri| uri.len() > URI) {
            return Err(wrong());
        }
        Ok(Self {
            tools: flag("toolsListChanged")?,
            prompts: flag("promptsListChanged")?,
            resources: flag("resourcesListChanged")?,
            uris,
        })
    }
}

#[cfg(test)]
mod tests;
