//! Clients that want to be others, and clients that do not wait.

use std::{fs, io::Write as _, net::TcpStream};

use crate::{
    fake::{answer, streamable_http},
    help::{Folder, INITIALIZE, PING, Program, count, refused, until},
};

const MCP: &str =
    "POST /mcp HTTP/1.1\r\naccept: application/json, text/event-stream\r\ncontent-type: application/json";

/// A server that writes who its user is into a file, before it answers what it is asked.
fn tells(file: &str) -> String {
    format!(
        r#"printf '%s\n' "${{WHO-nobody}}" >> {file}; while read -r line; do case $line in *initialize\"*) echo '{{"jsonrpc":"2.0","id":0,"result":{{"protocolVersion":"2025-06-18","capabilities":{{}},"serverInfo":{{"name":"x","version":"0"}}}}}}';; *'"id":9'*) echo '{{"jsonrpc":"2.0","id":9,"result":{{}}}}';; esac; done"#
    )
}

fn post(gateway: &Program, endpoint: &str, user: &str, message: &str) -> String {
    let user = if user.is_empty() { String::new() } else { format!("\r\nx-user: {user}") };
    let head = format!("POST {endpoint} HTTP/1.1\r\ncontent-type: application/json{user}");
    gateway.request(&head, message)
}

#[test]
fn who_opened_a_session_is_who_its_server_runs_for() {
    let folder = Folder::new();
    let file = folder.path("users");
    let gateway = Program::script(&["--env-from-header", "X-User=WHO"], &tells(&file));
    let users = || fs::read_to_string(&file).unwrap_or_default();

    // The stream's header decides.
    let mut client = gateway.connect_with("/sse", "x-user: alice\r\n");
    let endpoint = client.endpoint.clone();
    let refused = post(&gateway, &endpoint, "mallory", INITIALIZE);
    assert!(refused.starts_with("HTTP/1.1 403") && refused.contains("another value"), "{refused}");
    assert!(post(&gateway, &endpoint, "", INITIALIZE).starts_with("HTTP/1.1 202"));
    client.answer(0);
    assert_eq!(users(), "alice\n");
    assert!(post(&gateway, &endpoint, "mallory", PING).starts_with("HTTP/1.1 403"));
    assert!(post(&gateway, &endpoint, "alice", PING).starts_with("HTTP/1.1 202"));
    client.answer(9);

    // Without one, that of the first message that has it.
    let mut client = gateway.connect();
    let endpoint = client.endpoint.clone();
    assert!(post(&gateway, &endpoint, "bob", INITIALIZE).starts_with("HTTP/1.1 202"));
    client.answer(0);
    assert_eq!(users(), "alice\nbob\n");
    assert!(post(&gateway, &endpoint, "mallory", PING).starts_with("HTTP/1.1 403"));

    // On a connection that is kept, too.
    let mut stream = gateway
        .send(&format!("POST {endpoint} HTTP/1.1\r\ncontent-type: application/json\r\nx-user: bob"), PING);
    client.answer(9);
    let head = format!(
        "POST {endpoint} HTTP/1.1\r\nhost: {}\r\ncontent-type: application/json\r\nx-user: mall\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{PING}",
        gateway.address,
        PING.len()
    );
    stream.get_mut().write_all(head.as_bytes()).unwrap();
    let mut answers = String::new();
    std::io::Read::read_to_string(&mut stream, &mut answers).unwrap();
    assert!(answers.starts_with("HTTP/1.1 202") && answers.contains("HTTP/1.1 403"), "{answers}");

    // And a stream that is opened again.
    let id = client.last_id.clone();
    let again = |user: &str| {
        let mut line = String::new();
        let head = format!("GET /sse HTTP/1.1\r\nlast-event-id: {id}\r\nx-user: {user}");
        std::io::BufRead::read_line(&mut gateway.send(&head, ""), &mut line).unwrap();
        line
    };
    assert!(again("mallory").contains("403"));
    assert!(again("bob").contains("200"));
}

#[test]
fn who_opened_a_session_over_streamable_http_is_who_its_server_runs_for() {
    let folder = Folder::new();
    let file = folder.path("users");
    let gateway = Program::script(&["--env-from-header", "X-User=WHO"], &tells(&file));
    let opened = gateway.request(&format!("{MCP}\r\nx-user: alice"), INITIALIZE);
    let session = opened.lines().find(|line| line.starts_with("mcp-session-id:")).unwrap();
    assert_eq!(fs::read_to_string(&file).unwrap(), "alice\n");
    for (user, expected) in [("\r\nx-user: mallory", "403"), ("\r\nx-user: alice", "200"), ("", "200")] {
        let answer = gateway.request(&format!("{MCP}\r\n{session}{user}"), PING);
        assert_eq!(&answer[9..12], expected, "{user}: {answer}");
    }
    let deleted = gateway.request(&format!("DELETE /mcp HTTP/1.1\r\n{session}\r\nx-user: mallory"), "");
    assert!(deleted.starts_with("HTTP/1.1 403"), "{deleted}");
}

#[test]
fn a_session_at_a_remote_server_is_of_one_client_and_tokens_may_be_renewed() {
    let remote = streamable_http(|asked, stream| match &*asked.method {
        "POST" => answer(
            stream,
            "200 OK",
            "content-type: application/json\r\n",
            r#"{"jsonrpc":"2.0","id":9,"result":{}}"#,
        ),
        _ => answer(stream, "405 Method Not Allowed", "", ""),
    });
    let url = remote.url("/");
    let options = [
        "--upstream",
        &url,
        "--transport",
        "http",
        "--header-from-client",
        "x-user",
        "--header-from-client",
        "authorization",
    ];
    let gateway = Program::start("serve", &options);
    let mut client = gateway.connect_with("/sse", "x-user: alice\r\nauthorization: Bearer one\r\n");
    client.initialize();
    let endpoint = client.endpoint.clone();
    assert!(post(&gateway, &endpoint, "mallory", PING).starts_with("HTTP/1.1 403"));
    assert!(
        post(&gateway, &endpoint, "alice\r\nauthorization: Bearer two", PING).starts_with("HTTP/1.1 202")
    );
    client.answer(9);
    let asked = remote.until("the ping", |asked| asked.iter().any(|asked| asked.body == PING));
    let ping = asked.iter().find(|asked| asked.body == PING).unwrap();
    assert_eq!((ping.header("x-user"), ping.header("authorization")), (Some("alice"), Some("Bearer two")));
    assert!(asked.iter().all(|asked| asked.header("x-user") != Some("mallory")));
}

#[test]
fn clients_that_hang_up_take_no_turns() {
    let gateway = Program::gateway(&["--start-rate", "1", "--start-timeout", "1h"]);
    let initialize = || {
        let mut stream = TcpStream::connect(&gateway.address).unwrap();
        let (host, length) = (&gateway.address, INITIALIZE.len());
        let request = format!("{MCP}\r\nhost: {host}\r\ncontent-length: {length}\r\n\r\n{INITIALIZE}");
        stream.write_all(request.as_bytes()).unwrap();
        stream
    };
    // They would have their turns for minutes.
    for wave in 1..=10 {
        let waiting: Vec<_> = (0..15).map(|_| initialize()).collect();
        let opened = |log: &str| count(log, "session opened over Streamable HTTP") == 15 * wave;
        gateway.log.until("all of them", opened);
        drop(waiting);
    }
    gateway.log.until("all of them", |log| count(log, "session over Streamable HTTP closed") == 150);
    let answer = gateway.request(MCP, INITIALIZE);
    assert!(answer.contains("mcp-sse demo"), "{answer}");
}

#[test]
fn no_path_is_two_things() {
    let folder = Folder::new();
    let file = folder.path("servers.json");
    let write = |names: &[&str]| {
        let servers: Vec<_> = names.iter().map(|name| format!(r#""{name}":{{"command":"cat"}}"#)).collect();
        fs::write(&file, format!(r#"{{"mcpServers":{{{}}}}}"#, servers.join(","))).unwrap();
    };
    write(&["a"]);
    for (options, path, first, second) in [
        (&["--health-endpoint", "/a/sse"][..], "/a/sse", "a health check", "the stream of the server \"a\""),
        (
            &["--base-path", "/sse", "--sse-path", "/sse/a/mcp", "--", "cat"],
            "/sse/a/mcp",
            "the stream of the server at the root",
            "Streamable HTTP of the server \"a\"",
        ),
    ] {
        let mut arguments = vec!["serve", "--port", "0", "--config", &file];
        arguments.extend(options);
        let error = refused(&arguments);
        assert!(error.contains(path) && error.contains(first) && error.contains(second), "{error}");
    }
    // The same when the file is read again.
    let gateway = Program::start("serve", &["--config", &file, "--sse-path", "/x/sse", "--mcp-path", "/sse"]);
    write(&["a", "a/x"]);
    gateway.signal("-HUP");
    let log = gateway.log.until_says("the configuration was not changed");
    assert!(log.contains(r#"the path /a/x/sse would be both the stream of the server "a" and"#), "{log}");
}

#[test]
fn a_hangup_without_a_file_ends_nothing() {
    let gateway = Program::gateway(&[]);
    gateway.signal("-HUP");
    gateway.log.until_says("SIGHUP ignored: there is no --config");
    gateway.connect().initialize();
    until("it is there", || gateway.get("/healthz").starts_with("HTTP/1.1 200"));
}
