//! The keys of the file: what the reader knows, and what the JSON Schema for editors says, from one table.

use serde_json::{Map, Value, json};

/// A key.
#[derive(Debug)]
pub(super) struct Field {
    pub(super) name: &'static str,
    of: Of,
    kind: Kind,
    about: &'static str,
}

/// Which kind of server has the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Of {
    Any,
    Program,
    Remote,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Flag,
    Text,
    Texts,
    TextOrTexts,
    /// Texts by name.
    Named,
    Ports,
    /// A whole number, 1 or more.
    Number,
    NumberOrText,
    OneOf(&'static [&'static str]),
    Object(&'static [Field]),
}

const fn field(name: &'static str, of: Of, kind: Kind, about: &'static str) -> Field {
    Field { name, of, kind, about }
}

/// The kinds of remote servers, as clients write them.
pub(super) const TYPES: [&str; 6] =
    ["http", "sse", "stdio", "streamable-http", "streamableHttp", "streamable_http"];

const ERA: [&str; 3] = ["auto", "legacy", "modern"];
const RESTART: [&str; 3] = ["never", "on-failure", "always"];

/// What clients need.
pub(super) const AUTH: [Field; 5] = [
    field("bearerTokenFile", Of::Any, Kind::Text, "File of keys, a line NAME TOKEN for each client"),
    field("jwtIssuer", Of::Any, Kind::Text, "URL of the authorization server whose tokens are accepted"),
    field(
        "jwks",
        Of::Any,
        Kind::Text,
        "URL or file of its keys; by default, its metadata says where they are",
    ),
    field(
        "jwtAudience",
        Of::Any,
        Kind::TextOrTexts,
        "What tokens must be for, instead of the URLs of the server",
    ),
    field("requiredScope", Of::Any, Kind::TextOrTexts, "What tokens must allow"),
];

/// Limits of each process of a program.
pub(super) const LIMITS: [Field; 4] = [
    field("memory", Of::Program, Kind::NumberOrText, "Private memory, in bytes or as in \"512MiB\""),
    field("cpu", Of::Program, Kind::Text, "Processor time, as in \"60s\""),
    field("files", Of::Program, Kind::Number, "Open files"),
    field("processes", Of::Program, Kind::Number, "Processes; needs --user-range"),
];

/// The keys of a server. Others are left alone, since clients have their own.
pub(super) const SERVER: [Field; 24] = [
    field("command", Of::Program, Kind::Text, "The program to start for each session"),
    field("args", Of::Program, Kind::Texts, "Its arguments"),
    field("env", Of::Program, Kind::Named, "Environment variables to set"),
    field("cleanEnv", Of::Program, Kind::Flag, "Pass on only HOME, LOGNAME, PATH, SHELL, TERM and USER"),
    field("cwd", Of::Program, Kind::Text, "Its working directory"),
    field(
        "envFromHeader",
        Of::Program,
        Kind::Named,
        "Environment variables from request headers: header to variable",
    ),
    field("isolation", Of::Program, Kind::Flag, "Keep it apart from other sessions' programs; default: true"),
    field(
        "sandbox",
        Of::Program,
        Kind::Flag,
        "It may use its own files, those below cwd and a temporary folder; no network",
    ),
    field("allowPath", Of::Program, Kind::Texts, "What a sandbox leaves open: PATH or PATH:rw"),
    field("allowConnect", Of::Program, Kind::Ports, "Ports that a sandboxed program may connect to"),
    field("limits", Of::Program, Kind::Object(&LIMITS), "Limits of each of its processes"),
    field("url", Of::Remote, Kind::Text, "URL of a remote server"),
    field("type", Of::Any, Kind::OneOf(&TYPES), "What a remote server speaks; by default it is asked"),
    field("transport", Of::Any, Kind::OneOf(&TYPES), "Another word for type"),
    field("headers", Of::Remote, Kind::Named, "Headers for requests to it"),
    field("headersFromClient", Of::Remote, Kind::Texts, "Headers of clients' requests to pass on to it"),
    field(
        "auth",
        Of::Any,
        Kind::Object(&AUTH),
        "What clients of this server need, instead of what stands at the top",
    ),
    field(
        "restart",
        Of::Any,
        Kind::OneOf(&RESTART),
        "When another one takes the place of one that has ended; default: on-failure",
    ),
    field(
        "era",
        Of::Any,
        Kind::OneOf(&ERA),
        "Which protocol it speaks: legacy, with a handshake; or modern, without one; default: found out",
    ),
    field(
        "pingInterval",
        Of::Any,
        Kind::Text,
        "How long it may say nothing before it is pinged, as in \"30s\"",
    ),
    field(
        "idleStop",
        Of::Any,
        Kind::Text,
        "After how long without a message of its client it is ended until there is one",
    ),
    field(
        "revive",
        Of::Any,
        Kind::Flag,
        "Another gateway of the cluster may revive its sessions, with a new server",
    ),
    field("disabled", Of::Any, Kind::Flag, "Do not serve it"),
    field("enabled", Of::Any, Kind::Flag, "Serve it; default: true"),
];

/// The keys of a server that only this kind may have.
pub(super) fn only_of(kind: Of) -> impl Iterator<Item = &'static str> {
    SERVER.iter().filter(move |field| field.of == kind).map(|field| field.name)
}

/// The schema of the file (JSON Schema, draft 2020-12).
pub(crate) fn schema() -> Value {
    let only = |kind: Of, needed: &str| {
        let others = SERVER.iter().filter(|field| field.of != Of::Any && field.of != kind);
        json!({
            "required": [needed],
            "not": { "anyOf": others.map(|field| json!({ "required": [field.name] })).collect::<Vec<_>>() },
        })
    };
    let mut server = object(&SERVER);
    // What a server is: one of the two, or switched off.
    server["anyOf"] = json!([
        only(Of::Program, "command"),
        only(Of::Remote, "url"),
        { "properties": { "disabled": { "const": true } }, "required": ["disabled"] },
        { "properties": { "enabled": { "const": false } }, "required": ["enabled"] },
    ]);
    let servers = json!({
        "type": "object",
        "description": "The servers by name; each is served under /NAME/sse",
        "propertyNames": { "not": { "pattern": "[%?#\\\\]" } },
        "additionalProperties": server,
    });
    let mut auth = object(&AUTH);
    auth["additionalProperties"] = false.into();
    auth["description"] = "What clients of all servers need that say nothing of their own".into();
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "The configuration file of mcp-sse serve",
        "type": "object",
        "properties": { "auth": auth, "mcpServers": servers, "servers": { "$ref": "#/properties/mcpServers" } },
        "anyOf": [{ "required": ["mcpServers"] }, { "required": ["servers"] }],
    })
}

fn object(fields: &[Field]) -> Value {
    let mut properties = Map::new();
    for Field { name, kind, about, .. } in fields {
        let mut value = kind.schema();
        value["description"] = (*about).into();
        properties.insert((*name).to_owned(), value);
    }
    json!({ "type": "object", "properties": properties })
}

impl Kind {
    fn schema(self) -> Value {
        let texts = || json!({ "type": "array", "items": { "type": "string" } });
        match self {
            Self::Flag => json!({ "type": "boolean" }),
            Self::Text => json!({ "type": "string" }),
            Self::Texts => texts(),
            Self::TextOrTexts => json!({ "anyOf": [{ "type": "string" }, texts()] }),
            Self::Named => json!({ "type": "object", "additionalProperties": { "type": "string" } }),
            Self::Ports => json!({
                "type": "array",
                "items": { "type": "integer", "minimum": 1, "maximum": 65535 },
            }),
            Self::Number => json!({ "type": "integer", "minimum": 1 }),
            Self::NumberOrText => {
                json!({ "anyOf": [{ "type": "integer", "minimum": 1 }, { "type": "string" }] })
            }
            Self::OneOf(values) => json!({ "enum": values }),
            Self::Object(fields) => {
                let mut object = object(fields);
                object["additionalProperties"] = false.into();
                object
            }
        }
    }
}
