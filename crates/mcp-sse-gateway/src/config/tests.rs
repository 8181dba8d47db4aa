use super::*;

fn read(text: &str) -> Result<Servers, String> {
    parse("mcp.json", text, |name| (name == "TOKEN").then(|| "s3".to_owned())).map(|read| read.servers)
}

fn mistake(text: &str) -> String {
    read(text).unwrap_err()
}

#[test]
fn what_clients_write_is_read() {
    let servers = read(
        r#"{
  // A comment.
  "mcpServers": {
    "git": { "command": "uvx", "args": ["mcp-server-git", "--token=${TOKEN}"], "env": { "A": "${TOKEN}" },
             "cwd": "/", "timeout": 60, "autoApprove": [], "type": "stdio", "id": 1, "tags": [], "ui": 1, "dev": {} },
    "remote": { "type": "http", "url": "https://example.com/mcp", "headers": { "X-Key": "${TOKEN}" } },
    "off": { "command": "x", "disabled": true },
    "off-too": { "url": "not read", "enabled": false },
  },
  "other": 1
}"#,
    )
    .unwrap();
    assert_eq!(servers.len(), 2);
    let Server::Command(git) = &servers["git"].server else { panic!("a command") };
    assert_eq!(git.program, "uvx");
    assert_eq!(git.args, ["mcp-server-git", "--token=s3"]);
    assert_eq!(git.env["A"], "s3");
    assert_eq!(git.cwd.as_deref(), Some(Path::new("/")));
    let Server::Remote(remote) = &servers["remote"].server else { panic!("a url") };
    assert_eq!((remote.url.as_str(), remote.kind), ("https://example.com/mcp", Kind::Http));
    assert_eq!(remote.headers["x-key"], "s3");
}

#[test]
fn our_own_keys_say_what_is_passed_on() {
    let servers = read(
        r#"{"servers": {"a": {"command": "x", "cleanEnv": true, "envFromHeader": {"X-User": "MCP_USER"}},
            "b": {"url": "http://h/sse", "type": "sse", "headersFromClient": ["Authorization"]}}}"#,
    )
    .unwrap();
    let Server::Command(a) = &servers["a"].server else { panic!("a command") };
    assert!(a.clean_env);
    assert_eq!(a.env_from_header, [(HeaderName::from_static("x-user"), "MCP_USER".to_owned())]);
    let Server::Remote(b) = &servers["b"].server else { panic!("a url") };
    assert_eq!(b.headers_from_client, [http::header::AUTHORIZATION]);
}

#[test]
fn a_mistake_names_the_file_the_line_and_the_key() {
    for (text, expected) in [
        ("", "mcp.json:1: the file is empty; expected an object \"mcpServers\""),
        ("[]", "mcp.json:1: expected an object, found a list"),
        ("{}", "mcp.json:1: expected an object \"mcpServers\" with a server for each name"),
        ("{\"mcpServers\":\n\n3}", "mcp.json:1: mcpServers: expected an object, found a number"),
        (
            "{\"mcpServers\": {\n\"a\": {}}}",
            "mcp.json:2: mcpServers.a: expected \"command\" (a program to start) or \"url\" (a remote server)",
        ),
        (
            "{\"mcpServers\": {\n\"a\": {\n\"comand\": \"x\"}}}",
            "mcp.json:3: mcpServers.a.comand: there is no such key; did you mean \"command\"?",
        ),
        (
            "{\"mcpServers\": {\n\"a\": {\"command\": 3}}}",
            "mcp.json:2: mcpServers.a.command: expected a string, found a number",
        ),
        (
            "{\"mcpServers\": {\"a\": {\"command\": \"x\",\n\"args\": [\"b\",\n false]}}}",
            "mcp.json:3: mcpServers.a.args[1]: expected a string, found true or false",
        ),
        (
            "{\"mcpServers\": {\"a\": {\"command\": \"x\", \"args\": \"b\"}}}",
            "mcp.json:1: mcpServers.a.args: expected a list, found a string",
        ),
        (
            "{\"mcpServers\": {\"a\": {\"command\": \"x\",\n\"url\": \"y\"}}}",
            "mcp.json:2: mcpServers.a.url: a server has either \"command\" or \"url\", not both",
        ),
        (
            "{\"mcpServers\": {\"a\": {\"command\": \"x\",\n\"cwd\": \"/no such\"}}}",
            "mcp.json:2: mcpServers.a.cwd: \"/no such\" is not a directory",
        ),
        (
            "{\"mcpServers\": {\"a\": {\"command\": \"${NOT}\"}}}",
            "mcp.json:1: mcpServers.a.command: the environment variable NOT is not set",
        ),
        (
            "{\"mcpServers\": {\"a\": {\"command\": \"\"}}}",
            "mcp.json:1: mcpServers.a.command: expected a program to start",
        ),
        (
            "{\"mcpServers\": {\"a\": {\"command\": \"x\", \"env\": {\"A\": 1}}}}",
            "mcp.json:1: mcpServers.a.env.A: expected a string, found a number",
        ),
        (
            "{\"mcpServers\": {\"a\": {\"command\": \"x\", \"headers\": {}}}}",
            "mcp.json:1: mcpServers.a.headers: only a server with \"url\" can have this",
        ),
        (
            "{\"mcpServers\": {\"a\": {\"url\": \"http://h\", \"args\": []}}}",
            "mcp.json:1: mcpServers.a.args: only a server with \"command\" can have this",
        ),
        (
            "{\"mcpServers\": {\"a\": {\"url\": \"h\"}}}",
            "mcp.json:1: mcpServers.a.url: \"h\" is not a URL: relative URL without a base",
        ),
        (
            "{\"mcpServers\": {\"a\": {\"url\": \"ftp://h\"}}}",
            "mcp.json:1: mcpServers.a.url: \"ftp://h\" is not the URL of a server; expected http:// or https://",
        ),
        (
            "{\"mcpServers\": {\"a\": {\"url\": \"http://h\", \"type\": \"ws\"}}}",
            "mcp.json:1: mcpServers.a.type: \"ws\" is not a type for a url; expected \"http\" or \"sse\"",
        ),
        (
            "{\"mcpServers\": {\"a\": {\"url\": \"http://h\", \"headers\": {\"Host\": \"x\"}}}}",
            "mcp.json:1: mcpServers.a.headers.Host: the header host belongs to the connection; it cannot be set or passed on",
        ),
        (
            "{\"mcpServers\": {\"a\": {\"url\": \"http://h\", \"headers\": {\"X\": \"a\\nb\"}}}}",
            "mcp.json:1: mcpServers.a.headers.X: the value of the header x has characters that a header cannot have",
        ),
        (
            "{\"mcpServers\": {\n\"a//b\": {\"command\": \"x\"}}}",
            "mcp.json:2: mcpServers.a//b: the name \"a//b\" becomes part of URLs; expected one without \"%\", \"?\", \"#\", \"\\\" and control characters, with no segment that is empty, \".\" or \"..\"",
        ),
        (
            "{\"mcpServers\": {\"sse\": {\"command\": \"x\"}}}",
            "mcp.json:1: mcpServers.sse: the name \"sse\" is a path of the gateway itself; choose another",
        ),
        (
            "{\"mcpServers\": {\"a\": {\"command\": \"x\"},\n\"a\": {\"command\": \"y\"}}}",
            "mcp.json:2: mcpServers.a: this key appears twice",
        ),
        ("{\"mcpServers\": {\n\"a\": {\"command\": \"x\" \"b\"}}}", "mcp.json:2: not JSON: "),
        ("{\"mcpServers\": {\n", "mcp.json:1: not JSON: "),
    ] {
        let error = mistake(text);
        assert!(error.starts_with(expected), "{text}\n{error}");
        assert!(expected.ends_with(": ") || error == expected, "{text}\n{error}");
    }
}
