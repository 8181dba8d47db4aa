//! What is served beside SSE: Streamable HTTP, and the health checks.

use std::io::BufRead as _;

use crate::help::{INITIALIZE, PING, Program, count, echo, long_task, until};

const MCP: &str =
    "POST /mcp HTTP/1.1\r\naccept: application/json, text/event-stream\r\ncontent-type: application/json";

/// Opens a session; its header line.
fn open(gateway: &Program) -> String {
    let answer = gateway.request(MCP, INITIALIZE);
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("mcp-sse demo"), "{answer}");
    let line = answer.lines().find(|line| line.starts_with("mcp-session-id:")).unwrap().to_owned();
    let initialized = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;
    let answer = gateway.request(&format!("{MCP}\r\n{line}"), initialized);
    assert!(answer.starts_with("HTTP/1.1 202"), "{answer}");
    line
}

#[test]
fn the_same_server_is_there_over_streamable_http_a_child_for_each_session() {
    let gateway = Program::gateway(&["--log-level", "trace"]);
    let (a, b) = (open(&gateway), open(&gateway));
    for (session, text) in [(&a, "for a"), (&b, "for b")] {
        let answer = gateway.request(&format!("{MCP}\r\n{session}"), &echo(7, text));
        assert!(answer.contains(text), "{answer}");
    }
    gateway.log.until("two starts", |log| count(log, "server started") == 2);
    let ready = gateway.get("/readyz");
    assert!(ready.contains(r#""streamable_http":2"#), "{ready}");
    let deleted = gateway.request(&format!("DELETE /mcp HTTP/1.1\r\n{a}"), "");
    assert!(deleted.starts_with("HTTP/1.1 204"), "{deleted}");
    gateway.log.until_says("reason=\"ended_by_client\"");
    let log = gateway.log.until_says("server ended");
    assert!(gateway.request(&format!("{MCP}\r\n{a}"), PING).starts_with("HTTP/1.1 404"));
    assert!(gateway.request(&format!("{MCP}\r\n{b}"), PING).contains(r#""result":{}"#));
    for session in [a, b] {
        let id = session.split(": ").nth(1).unwrap();
        assert!(!log.contains(id), "a whole session id in the log");
    }
}

#[test]
fn a_child_that_dies_fails_what_is_pending_there_too() {
    let script = r#"read -r first; printf '{"jsonrpc":"2.0","id":0,"result":{"protocolVersion":"2025-06-18","capabilities":{},"serverInfo":{"name":"mcp-sse demo","version":"0"}}}\n'
        read -r initialized; read -r call; echo bye >&2; exit 4"#;
    let gateway = Program::script(&["--restart", "never"], script);
    let session = open(&gateway);
    let answer = gateway.request(&format!("{MCP}\r\n{session}"), PING);
    assert!(answer.contains("the server ended (exit status: 4); its stderr ends: bye"), "{answer}");
    gateway.log.until_says("session over Streamable HTTP closed");
    assert!(gateway.request(&format!("{MCP}\r\n{session}"), PING).starts_with("HTTP/1.1 404"));

    let gateway = Program::script(&[], "echo no >&2; exit 1");
    let answer = gateway.request(MCP, INITIALIZE);
    assert!(answer.contains("the server ended (exit status: 1); its stderr ends: no"), "{answer}");
}

#[test]
fn a_shutdown_lets_its_calls_finish_and_ends_its_children() {
    let gateway = Program::gateway(&[]);
    let session = open(&gateway);
    let answer = std::thread::scope(|scope| {
        let call = scope.spawn(|| gateway.request(&format!("{MCP}\r\n{session}"), &long_task(1, 20, 20)));
        until("running", || {
            gateway.request(&format!("{MCP}\r\n{session}"), &stats(2)).contains(r#"\"running\":1"#)
        });
        gateway.signal("-TERM");
        call.join().unwrap()
    });
    assert!(answer.contains("done 20 steps"), "{answer}");
    let (success, log) = gateway.end();
    assert!(success && log.contains("server ended"), "{log}");
}

fn stats(id: u32) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"resources/read","params":{{"uri":"demo://stats"}}}}"#)
}

#[test]
fn it_is_guarded_and_bounded_like_sse() {
    let gateway = Program::gateway(&["--max-sessions", "1", "--cors", "--start-timeout", "2s"]);
    let evil = gateway.request(&format!("{MCP}\r\nhost: evil.example"), INITIALIZE);
    assert!(evil.starts_with("HTTP/1.1 421"), "{evil}");
    let evil = gateway.request(&format!("{MCP}\r\norigin: https://evil.example"), INITIALIZE);
    assert!(evil.starts_with("HTTP/1.1 403"), "{evil}");
    let preflight =
        "OPTIONS /mcp HTTP/1.1\r\norigin: http://localhost:5173\r\naccess-control-request-method: POST";
    let answer = gateway.request(preflight, "");
    assert!(answer.starts_with("HTTP/1.1 204"), "{answer}");
    assert!(answer.contains("access-control-allow-origin: http://localhost:5173"), "{answer}");
    open(&gateway);
    let full = gateway.request(MCP, INITIALIZE);
    assert!(full.starts_with("HTTP/1.1 503") && full.contains("retry-after: 1"), "{full}");
    assert!(gateway.get("/readyz").contains(r#""ready":false"#));
    // The place is the other transport's.
    let full = gateway.get("/sse");
    assert!(full.starts_with("HTTP/1.1 503"), "{full}");
}

#[test]
fn a_session_that_is_in_use_is_not_idle() {
    let gateway = Program::gateway(&["--mcp-idle-timeout", "1500ms"]);
    let (calls, listens) = (open(&gateway), open(&gateway));
    let mut stream =
        gateway.send(&format!("GET /mcp HTTP/1.1\r\naccept: text/event-stream\r\n{listens}"), "");
    let mut line = String::new();
    stream.read_line(&mut line).unwrap();
    assert!(line.starts_with("HTTP/1.1 200"), "{line}");
    let answer = gateway.request(&format!("{MCP}\r\n{calls}"), &long_task(1, 1, 3000));
    assert!(answer.contains("done 1 steps"), "{answer}");
    let answer = gateway.request(&format!("{MCP}\r\n{listens}"), PING);
    assert!(answer.contains(r#""result":{}"#), "{answer}");
    drop(stream);
    gateway.log.until("both are idle", |log| count(log, "reason=\"idle\"") == 2);
    let answer = gateway.request(&format!("{MCP}\r\n{listens}"), PING);
    assert!(answer.starts_with("HTTP/1.1 404"), "{answer}");
}

#[test]
fn hosts_are_allowed_on_any_port_with_their_own_pages() {
    let gateway = Program::gateway(&["--allowed-host", "a.example", "--allowed-host", "b.example:81"]);
    let status =
        |headers: &str| gateway.request(&format!("{MCP}\r\n{headers}"), INITIALIZE)[9..12].to_owned();
    for (headers, expected) in [
        ("host: a.example", "200"),
        ("host: a.example:8000\r\norigin: https://a.example", "200"),
        ("host: b.example:81\r\norigin: http://b.example:81", "200"),
        ("host: b.example:82", "421"),
        ("host: c.example", "421"),
        ("host: a.example\r\norigin: https://c.example", "403"),
    ] {
        assert_eq!(status(headers), expected, "{headers}");
    }
    let gateway = Program::gateway(&["--allowed-host", "*"]);
    let answer =
        gateway.request(&format!("{MCP}\r\nhost: c.example\r\norigin: https://d.example"), INITIALIZE);
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

#[test]
fn health_checks_come_under_any_name_and_tell_a_drain() {
    let gateway = Program::gateway(&["--health-endpoint", "/alive", "--shutdown-timeout", "1h"]);
    for path in ["/healthz", "/alive"] {
        let answer = gateway.request(&format!("GET {path} HTTP/1.1\r\nhost: 10.0.0.7:8000"), "");
        assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("ok\n"), "{answer}");
    }
    assert!(gateway.request("POST /healthz HTTP/1.1", "").starts_with("HTTP/1.1 405"));
    assert!(gateway.get("/readyz").contains(r#""ready":true"#));
    let mut client = gateway.connect();
    client.initialize();
    client.accepted(&long_task(1, 60, 60_000));
    client.accepted(PING);
    client.answer(9);
    gateway.signal("-TERM");
    gateway.log.until_says("shutting down");
    let ready = gateway.get("/readyz");
    assert!(ready.starts_with("HTTP/1.1 503") && ready.contains(r#""draining":true"#), "{ready}");
    assert!(gateway.get("/healthz").starts_with("HTTP/1.1 200"));
    assert!(gateway.request(MCP, INITIALIZE).starts_with("HTTP/1.1 503"));
}

#[test]
fn a_second_signal_ends_it_whatever_its_children_do() {
    let script = r#"read -r first; printf '{"jsonrpc":"2.0","id":0,"result":{"protocolVersion":"2025-06-18","capabilities":{},"serverInfo":{"name":"mcp-sse demo","version":"0"}}}\n'
        read -r initialized; read -r call; echo "has the call" >&2; trap "" TERM; while :; do read -r line; done"#;
    let gateway = Program::script(&["--shutdown-timeout", "1h", "--stop-timeout", "1h"], script);
    let session = open(&gateway);
    std::thread::scope(|scope| {
        let hanging = scope.spawn(|| gateway.request(&format!("{MCP}\r\n{session}"), PING));
        gateway.log.until_says("has the call");
        gateway.signal("-TERM");
        gateway.log.until_says("shutting down");
        gateway.signal("-TERM");
        let answer = hanging.join().unwrap();
        assert!(answer.contains("the session ended before the answer"), "{answer}");
    });
    let (success, log) = gateway.end();
    assert!(success && log.contains("second signal"), "{log}");
}

/// A server that does one thing at a time, with more in both directions than any buffer on the way holds.
#[test]
fn both_directions_do_not_wait_for_each_other() {
    let script = r#"big=$(head -c 200000 /dev/zero | tr '\0' x)
        read -r first; printf '{"jsonrpc":"2.0","id":0,"result":{"protocolVersion":"2025-06-18","capabilities":{},"serverInfo":{"name":"mcp-sse demo","version":"0"}}}\n'
        read -r initialized
        while read -r line; do
            id=${line#*'"id":'}
            printf '{"jsonrpc":"2.0","id":%s,"result":{"big":"%s"}}\n' "${id%%,*}" "$big"
        done"#;
    let gateway = Program::script(&[], script);
    let session = open(&gateway);
    let argument = "y".repeat(8_000);
    std::thread::scope(|scope| {
        let calls: Vec<_> = (1..=100)
            .map(|id| {
                let (gateway, session, call) = (&gateway, &session, echo(id, &argument));
                scope.spawn(move || gateway.request(&format!("{MCP}\r\n{session}"), &call))
            })
            .collect();
        for (call, id) in calls.into_iter().zip(1..) {
            let answer = call.join().unwrap();
            assert!(
                answer.contains(&format!(r#""id":{id},"#)) && answer.len() > 200_000,
                "{id}: {answer:.300}"
            );
        }
    });
}

#[test]
fn what_was_cancelled_is_not_in_flight_any_more() {
    let gateway = Program::gateway(&["--max-requests-in-flight", "2"]);
    let session = open(&gateway);
    let head = format!("{MCP}\r\n{session}");
    for id in 1..10 {
        std::thread::scope(|scope| {
            let call = scope.spawn(|| gateway.request(&head, &long_task(id, 60, 60_000)));
            until("running", || gateway.request(&head, &stats(100 + id)).contains(r#"\"running\":1"#));
            let cancel = format!(
                r#"{{"jsonrpc":"2.0","method":"notifications/cancelled","params":{{"requestId":{id}}}}}"#
            );
            assert!(gateway.request(&head, &cancel).starts_with("HTTP/1.1 202"));
            call.join().unwrap();
        });
        until("cancelled", || gateway.request(&head, &stats(200 + id)).contains(r#"\"running\":0"#));
    }
}
