//! Parameters of tools that are repeated in headers: a property of a tool's schema names its header by `x-mcp-header`.
//! Source: revision 2026-07-28, Streamable HTTP, "Custom Headers from Tool Parameters".

use std::collections::{HashMap, HashSet};

use http::{HeaderMap, HeaderName, HeaderValue};
use mcp_sse::Message;
use serde::Deserialize;
use serde_json::{Value, value::RawValue};

use crate::message::{members::Members, modern};

const ANNOTATION: &str = "x-mcp-header";
/// The most tools of which headers are remembered, and the most headers of one.
const TOOLS: usize = 4_096;
const HEADERS: usize = 64;
/// The most that headers may repeat of a message, in bytes. Servers and proxies take little more.
const HEADER_BYTES: usize = 8 * 1024;
/// How deep schemas are read.
const DEPTH: usize = 32;

/// What is known of a server's tools.
#[derive(Debug, Default)]
pub(super) struct ToolHeaders(HashMap<String, Vec<Repeated>>);

/// A parameter that is repeated in a header.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Repeated {
    /// The names of the properties that lead to it.
    path: Vec<String>,
    header: HeaderName,
}

#[derive(Deserialize)]
struct Tool {
    name: String,
    #[serde(rename = "inputSchema", default)]
    schema: Value,
}

impl ToolHeaders {
    /// Reads a result of `tools/list`. Tools whose headers cannot be sent are left out of it, as clients have to do: the result
    /// without them, if there are any.
    pub(super) fn learn(&mut self, result: &Members<'_>) -> Option<String> {
        let tools: Vec<&RawValue> = serde_json::from_str(result.get("tools")?).ok()?;
        let mut kept = Vec::with_capacity(tools.len());
        for raw in &tools {
            // What has no such annotation is as it always was.
            if !is_annotated(raw.get()) {
                if let Ok(Tool { name, .. }) = serde_json::from_str(raw.get()) {
                    self.0.remove(&name);
                }
                kept.push(*raw);
                continue;
            }
            let Ok(Tool { name, schema }) = serde_json::from_str(raw.get()) else {
                kept.push(*raw);
                continue;
            };
            match repeated(&schema) {
                Ok(repeated) if repeated.is_empty() => drop(self.0.remove(&name)),
                Ok(repeated) => {
                    if self.0.len() < TOOLS || self.0.contains_key(&name) {
                        self.0.insert(name, repeated);
                    }
                }
                Err(why) => {
                    let name: String = name.chars().take(100).collect();
                    tracing::warn!(tool = ?name, "a tool is left out of the server's list: {why}");
                    continue;
                }
            }
            kept.push(*raw);
        }
        (kept.len() < tools.len()).then(|| serde_json::to_string(&kept).ok()).flatten()
    }

    /// The headers that say again what a message says; or why it cannot be sent with them: a head that is too long would end the
    /// connection, which other sessions share.
    pub(super) fn headers(&self, message: &Message) -> Result<HeaderMap, String> {
        let mut headers = modern::headers_of(message);
        if message.method() == Some("tools/call")
            && let Some(tool) =
                message.param(&["name"]).and_then(|json| serde_json::from_str::<String>(json).ok())
        {
            self.of(&tool, message.param(&["arguments"]), &mut headers);
        }
        let bytes: usize = headers.values().map(HeaderValue::len).sum();
        if bytes > HEADER_BYTES {
            return Err(format!(
                "this server gets the name, and some of the arguments, as headers: they have {bytes} bytes and may have {HEADER_BYTES}"
            ));
        }
        Ok(headers)
    }

    /// The headers of a call with these arguments.
    pub(super) fn of(&self, tool: &str, arguments: Option<&str>, headers: &mut HeaderMap) {
        let Some(repeated) = self.0.get(tool) else { return };
        let arguments: Value = arguments.and_then(|json| serde_json::from_str(json).ok()).unwrap_or_default();
        for Repeated { path, header } in repeated {
            let value = path.iter().try_fold(&arguments, |value, name| value.get(name));
            let text = match value {
                Some(Value::String(text)) => text.clone(),
                Some(Value::Bool(bool)) => bool.to_string(),
                Some(Value::Number(number)) => shortest(number),
                // The server says what is wrong with anything else.
                _ => continue,
            };
            if let Ok(value) = HeaderValue::from_str(&modern::encoded(&text)) {
                headers.insert(header.clone(), value);
            }
        }
    }
}

/// Whether the annotation is somewhere in this JSON, however it is written.
fn is_annotated(json: &str) -> bool {
    let unescaped =
        || serde_json::from_str::<Value>(json).is_ok_and(|value| value.to_string().contains(ANNOTATION));
    json.contains(ANNOTATION) || (json.contains("\\u") && unescaped())
}

/// A number as JavaScript writes it, which is what servers compare it with: an integer without a fraction.
fn shortest(number: &serde_json::Number) -> String {
    match number.as_f64() {
        Some(float) if !number.is_i64() && !number.is_u64() && float.fract() == 0.0 && float.abs() < 1e21 => {
            format!("{float:.0}")
        }
        _ => number.to_string(),
    }
}

/// The parameters that are repeated, by their tool's schema; or why it cannot be used.
fn repeated(schema: &Value) -> Result<Vec<Repeated>, String> {
    let mut found = Vec::new();
    walk(schema, Some(&mut Vec::new()), 0, &mut found)?;
    let mut names = HashSet::new();
    match found.iter().find(|repeated| !names.insert(repeated.header.clone())) {
        Some(Repeated { header, .. }) => Err(format!("two of its parameters have the header {header}")),
        None => Ok(found),
    }
}

/// `path` leads here by properties alone; it is `None` in any other part of a schema.
fn walk(
    schema: &Value,
    mut path: Option<&mut Vec<String>>,
    depth: usize,
    found: &mut Vec<Repeated>,
) -> Result<(), String> {
    if depth > DEPTH || found.len() > HEADERS {
        return Err("its schema is too deep, or has too many headers".to_owned());
    }
    let Value::Object(members) = schema else {
        if let Value::Array(schemas) = schema {
            for schema in schemas {
                walk(schema, None, depth + 1, found)?;
            }
        }
        return Ok(());
    };
    if let Some(name) = members.get(ANNOTATION) {
        found.push(annotated(name, members.get("type"), path.as_deref())?);
    }
    for (keyword, value) in members {
        match keyword.as_str() {
            "properties" => {
                for (name, schema) in value.as_object().into_iter().flatten() {
                    match path.as_deref_mut() {
                        Some(path) => {
                            path.push(name.clone());
                            walk(schema, Some(path), depth + 1, found)?;
                            path.pop();
                        }
                        None => walk(schema, None, depth + 1, found)?,
                    }
                }
            }
            // Values, not schemas.
            ANNOTATION | "const" | "default" | "enum" | "examples" => {}
            _ => walk(value, None, depth + 1, found)?,
        }
    }
    Ok(())
}

fn annotated(name: &Value, kind: Option<&Value>, path: Option<&Vec<String>>) -> Result<Repeated, String> {
    let Some(path) = path.filter(|path| !path.is_empty()) else {
        return Err(format!("{ANNOTATION} stands where it is not allowed: not at a property of an object"));
    };
    let at = path.join(".");
    let name = name.as_str().filter(|name| !name.is_empty());
    let name = name.ok_or_else(|| format!("{at}: {ANNOTATION} must be the name of a header"))?;
    if !matches!(kind.and_then(Value::as_str), Some("string" | "integer" | "boolean")) {
        return Err(format!("{at}: only a string, an integer or a boolean can be repeated in a header"));
    }
    let header = HeaderName::from_bytes(format!("{}{name}", modern::header::PARAM_PREFIX).as_bytes());
    let header = header.map_err(|_| format!("{at}: {ANNOTATION} is no name of a header"))?;
    Ok(Repeated { path: path.clone(), header })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn learned(tools: &Value) -> (ToolHeaders, Option<String>) {
        let result = json!({ "tools": tools }).to_string();
        let mut headers = ToolHeaders::default();
        let changed = headers.learn(&Members::read(&result).unwrap());
        (headers, changed)
    }

    #[test]
    fn parameters_are_repeated_in_headers() {
        let tool = json!({ "name": "t", "inputSchema": { "type": "object", "properties": {
            "region": { "type": "string", "x-mcp-header": "Region" },
            "deep": { "type": "object", "properties": { "n": { "type": "integer", "x-mcp-header": "N" } } },
            "yes": { "type": "boolean", "x-mcp-header": "Yes" },
            "absent": { "type": "string", "x-mcp-header": "Absent" },
            "plain": { "type": "string", "default": "x-mcp-header" },
        } } });
        let (known, changed) = learned(&json!([tool]));
        assert_eq!(changed, None);
        let mut headers = HeaderMap::new();
        known.of("t", Some(r#"{"region":"grüße","deep":{"n":1.0},"yes":true,"absent":null}"#), &mut headers);
        let mut all: Vec<_> =
            headers.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
        all.sort_unstable();
        assert_eq!(
            all,
            [
                ("mcp-param-n", "1"),
                ("mcp-param-region", "=?base64?Z3LDvMOfZQ==?="),
                ("mcp-param-yes", "true")
            ]
        );
        let mut none = HeaderMap::new();
        known.of("other", Some("{}"), &mut none);
        known.of("t", None, &mut none);
        assert!(none.is_empty());
    }

    #[test]
    fn a_tool_whose_headers_cannot_be_sent_is_left_out() {
        let property =
            |property: Value| json!({ "name": "bad", "inputSchema": { "properties": { "p": property } } });
        let good = json!({ "name": "good", "inputSchema": {} });
        for bad in [
            property(json!({ "type": "string", "x-mcp-header": "" })),
            property(json!({ "type": "string", "x-mcp-header": 1 })),
            property(json!({ "type": "string", "x-mcp-header": "a b" })),
            property(json!({ "type": "object", "x-mcp-header": "A" })),
            property(json!({ "type": "number", "x-mcp-header": "A" })),
            property(json!({ "x-mcp-header": "A" })),
            property(json!({ "type": "array", "items": { "type": "string", "x-mcp-header": "A" } })),
            property(json!({ "anyOf": [{ "type": "string", "x-mcp-header": "A" }] })),
            json!({ "name": "bad", "inputSchema": { "type": "string", "x-mcp-header": "A" } }),
            json!({ "name": "bad", "inputSchema": { "properties": {
                "a": { "type": "string", "x-mcp-header": "A" }, "b": { "type": "string", "x-mcp-header": "a" } } } }),
        ] {
            let (_, changed) = learned(&json!([bad, good]));
            assert_eq!(changed.as_deref(), Some(json!([good]).to_string().as_str()), "{bad}");
        }
    }

    #[test]
    fn a_schema_that_is_too_deep_is_not_read() {
        let mut schema = json!({ "type": "string", "x-mcp-header": "A" });
        for _ in 0..40 {
            schema = json!({ "type": "object", "properties": { "p": schema } });
        }
        let (_, changed) = learned(&json!([{ "name": "deep", "inputSchema": schema }]));
        assert_eq!(changed.as_deref(), Some("[]"));
        let plain = schema.to_string().replace("x-mcp-header", "description\\n\\u0041");
        let plain: Value = serde_json::from_str(&plain).unwrap();
        assert_eq!(
            learned(&json!([{ "name": "deep", "inputSchema": plain }])).1,
            None,
            "without one it may be"
        );
    }
}
