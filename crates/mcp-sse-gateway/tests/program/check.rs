//! `mcp-sse check`: a file before it is served.

use serde_json::{Value, json};

use crate::help::{Folder, PROGRAM, refused, run};

fn shown(arguments: &[&str]) -> Value {
    let output = run(&[&["check"][..], arguments].concat());
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{stderr}");
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn it_shows_what_was_read_and_no_secret() {
    let folder = Folder::new();
    let config = json!({
        "auth": {"jwtIssuer": "https://login.example", "requiredScope": "mcp"},
        "mcpServers": {
            "git": {
                "command": PROGRAM, "args": ["--token", "s3cret", "${NOWHERE:-here}"], "env": {"TOKEN": "s3cret"}, "cwd": "/",
            },
            "search": {
                "url": "https://s3cret:s3cret@example.com/mcp?key=s3cret#s3cret", "headers": {"Authorization": "Bearer s3cret"},
                "type": "http",
            },
            "off": {"command": "x", "disabled": true},
        },
    });
    let file = folder.write("mcp.json", &config.to_string());
    let shown = shown(&["--config", &file]);
    assert!(!shown.to_string().contains("s3cret"), "{shown}");
    let servers = &shown["mcpServers"];
    assert_eq!(servers.as_object().unwrap().len(), 2);
    assert_eq!(servers["git"]["args"], json!(["--token", "…", "here"]));
    assert_eq!(servers["git"]["env"], json!({"TOKEN": "…"}));
    assert_eq!(servers["search"]["headers"], json!({"authorization": "…"}));
    assert_eq!(servers["search"]["type"], "http");
    assert_eq!(
        servers["git"]["auth"],
        json!({"jwtIssuer": "https://login.example", "requiredScope": ["mcp"]})
    );
}

#[test]
fn a_mistake_has_its_place() {
    let folder = Folder::new();
    let wrong = |config: Value| {
        let file = folder.write("mcp.json", &format!("{config:#}"));
        refused(&["check", "--config", &file])
    };
    let why = wrong(json!({"mcpServers": {"a": {"command": PROGRAM, "arg": []}}}));
    assert!(
        why.contains("mcp.json:4: mcpServers.a.arg: there is no such key; did you mean \"args\"?"),
        "{why}"
    );
    let why = wrong(json!({"mcpServers": {"a": {"command": "/nowhere/at/all"}}}));
    assert!(why.contains("mcpServers.a: cannot find the program"), "{why}");
    let passes_on = json!({"mcpServers": {"a": {
        "url": "https://example.com", "headersFromClient": ["Authorization"], "auth": {"jwtIssuer": "https://login.example"},
    }}});
    let why = wrong(passes_on);
    assert!(
        why.contains("mcpServers.a: the header authorization of the client cannot be passed on"),
        "{why}"
    );
    let why =
        wrong(json!({"mcpServers": {"a": {"command": PROGRAM, "auth": {"bearerTokenFile": "/nowhere"}}}}));
    assert!(why.contains("mcpServers.a: cannot read /nowhere"), "{why}");
    let why = wrong(json!({"mcpServers": {"a": {"command": PROGRAM, "auth": {"jwtIssuer": "http:/x"}}}}));
    assert!(why.contains("has no host"), "{why}");
    assert!(wrong(json!({"mcpServers": {}})).contains("there is no server in it"));
    assert!(refused(&["check"]).contains("--config"));
}

/// Whether a value fits a schema, as far as ours use them.
fn fits(schema: &Value, value: &Value, root: &Value) -> bool {
    let of = |name: &str| schema.get(name);
    let all = |schemas: &Value| schemas.as_array().unwrap().clone();
    let is_kind = match of("type").and_then(Value::as_str) {
        None => true,
        Some("object") => value.is_object(),
        Some("array") => value.is_array(),
        Some("string") => value.is_string(),
        Some("boolean") => value.is_boolean(),
        Some("integer") => value.is_u64(),
        Some(_) => false,
    };
    let members = value.as_object();
    let has = |name: &Value| members.is_some_and(|members| members.contains_key(name.as_str().unwrap()));
    let properties = of("properties").and_then(Value::as_object);
    let fit = |(name, member): (&String, &Value)| match properties.and_then(|properties| properties.get(name))
    {
        Some(schema) => fits(schema, member, root),
        None => match of("additionalProperties") {
            None => true,
            Some(Value::Bool(allowed)) => *allowed,
            Some(schema) => fits(schema, member, root),
        },
    };
    is_kind
        && members.is_none_or(|members| members.iter().all(fit))
        && of("required").is_none_or(|names| all(names).iter().all(has))
        && of("items").is_none_or(|schema| {
            value.as_array().is_none_or(|items| items.iter().all(|item| fits(schema, item, root)))
        })
        && of("minimum").is_none_or(|least| value.as_u64() >= least.as_u64())
        && of("maximum").is_none_or(|most| value.as_u64() <= most.as_u64())
        && of("enum").is_none_or(|values| all(values).contains(value))
        && of("const").is_none_or(|only| only == value)
        && of("anyOf").is_none_or(|schemas| all(schemas).iter().any(|schema| fits(schema, value, root)))
        && of("not").is_none_or(|schema| schema.get("pattern").is_some() || !fits(schema, value, root))
        && of("$ref").is_none_or(|path| {
            fits(root.pointer(path.as_str().unwrap().trim_start_matches('#')).unwrap(), value, root)
        })
}

#[test]
fn the_schema_accepts_what_is_read_and_refuses_what_is_not() {
    let schema = shown(&["--schema"]);
    assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
    let server = |server: Value| json!({"mcpServers": {"a": server}});
    let folder = Folder::new();
    for (config, expected) in [
        (
            server(
                json!({"command": PROGRAM, "args": ["x"], "env": {"A": "b"}, "timeout": 60, "type": "stdio"}),
            ),
            true,
        ),
        (server(json!({"url": "https://example.com", "type": "sse", "headersFromClient": ["X-A"]})), true),
        (json!({"servers": {"a": {"command": PROGRAM}}}), true),
        (server(json!({"url": "not read", "enabled": false})), true),
        (
            server(
                json!({"command": PROGRAM, "auth": {"jwtIssuer": "https://l.example", "jwtAudience": ["a"]}}),
            ),
            true,
        ),
        (server(json!({"command": PROGRAM, "limits": {"memory": "512MiB", "files": 9}})), true),
        (json!({}), false),
        (server(json!({})), false),
        (server(json!({"command": PROGRAM, "url": "https://example.com"})), false),
        (server(json!({"command": PROGRAM, "headers": {}})), false),
        (server(json!({"url": "https://example.com", "args": []})), false),
        (server(json!({"command": 1})), false),
        (server(json!({"command": PROGRAM, "args": "x"})), false),
        (server(json!({"command": PROGRAM, "sandbox": true, "allowConnect": [70000]})), false),
        (server(json!({"url": "https://example.com", "type": "websocket"})), false),
        (server(json!({"command": PROGRAM, "auth": {"jwtIsuer": "x"}})), false),
        (server(json!({"command": PROGRAM, "limits": {"files": 0}})), false),
    ] {
        assert_eq!(fits(&schema, &config, &schema), expected, "{config}");
        // The reader says the same.
        let file = folder.write("mcp.json", &config.to_string());
        let output = run(&["check", "--config", &file]);
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        let accepts = output.status.success() || stderr.contains("there is no server in it");
        assert_eq!(accepts, expected, "{config}: {stderr}");
    }
}
