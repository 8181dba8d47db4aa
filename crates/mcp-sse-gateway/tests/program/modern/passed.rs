//! Servers that speak the same era: requests are passed on to them.

use std::io::Write as _;

use super::*;
use crate::fake::{Asked, Fake};

fn answer(stream: &mut TcpStream, status: &str, kind: &str, text: &str) -> bool {
    write!(
        stream,
        "HTTP/1.1 {status}\r\ncontent-type: {kind}\r\ncontent-length: {}\r\n\r\n{text}",
        text.len()
    )
    .is_ok()
}

const DISCOVERED: &str = r#"{"jsonrpc":"2.0","id":0,"result":{"supportedVersions":["2026-07-28"],"capabilities":{},"resultType":"complete"}}"#;

#[test]
fn a_program_gets_them_with_ids_and_tokens_of_its_own() {
    let gateway = Program::gateway(&["--era", "modern"]);
    let discovered = ask(&gateway, "server/discover", &json!({})).json();
    assert!(
        discovered["result"]["supportedVersions"].as_array().unwrap().contains(&json!("2025-11-25")),
        "{discovered}"
    );
    let params = json!({ "name": "long_task", "arguments": { "steps": 2, "step_ms": 1 }, "_meta": { "progressToken": 7 } });
    let events = ask(&gateway, "tools/call", &params).events();
    assert_eq!((&events[0]["params"]["progressToken"], &events[2]["id"]), (&json!(7), &json!(1)));
    // Two with the same id and the same token are two.
    let both: Vec<Answer> = std::thread::scope(|scope| {
        let asks = [(); 2].map(|()| scope.spawn(|| ask(&gateway, "tools/call", &params)));
        asks.map(|ask| ask.join().unwrap()).into()
    });
    assert!(both.iter().all(|answer| answer.events().len() == 3), "{both:?}");
    let unknown = ask(&gateway, "own/method", &json!({}));
    assert_eq!((unknown.status, unknown.code()), (404, -32601));
}

#[test]
fn a_remote_server_gets_them_as_they_came_and_its_answers_go_back_so() {
    let fake = Fake::start(|asked: &Asked, stream| {
        let stream_of = "event: message\ndata: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/progress\",\"params\":{\"progressToken\":1,\"progress\":1}}\n\ndata: {\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{\"own\":1.0}}\n\n";
        match asked.header("mcp-method") {
            Some("server/discover") => answer(stream, "200 OK", "application/json", DISCOVERED),
            Some("tools/list") => answer(stream, "200 OK", "text/event-stream", stream_of),
            Some("tools/call") => answer(
                stream,
                "400 Bad Request",
                "application/json",
                r#"{"jsonrpc":"2.0","id":1,"error":{"code":-32021,"message":"m","data":{"own":[1]}}}"#,
            ),
            _ => answer(stream, "500 Internal Server Error", "text/plain", "broken"),
        }
    });
    let gateway = Program::start("serve", &["--upstream", &fake.url("/mcp")]);
    let params = json!({ "name": "t", "arguments": { "x": 1.5 } });
    let refused = ask_as(&gateway, "\r\nmcp-param-x: 1.5", &json!({}), "tools/call", &params);
    assert_eq!(
        (refused.status, refused.code(), refused.json()["error"]["data"].clone()),
        (400, -32021, json!({ "own": [1] }))
    );
    let listed = ask(&gateway, "tools/list", &json!({}));
    assert_eq!(listed.events()[1], json!({ "jsonrpc": "2.0", "id": 1, "result": { "own": 1.0 } }));
    let broken = ask(&gateway, "prompts/list", &json!({}));
    assert_eq!((broken.status, broken.code()), (200, -32603), "{broken:?}");
    let asked = fake.so_far();
    let methods: Vec<_> = asked.iter().map(|asked| asked.header("mcp-method").unwrap_or_default()).collect();
    assert_eq!(
        methods,
        ["server/discover", "tools/call", "tools/list", "prompts/list"],
        "the era is found out once"
    );
    assert_eq!(asked[1].body, body(&json!(1), "tools/call", &params, &json!({})));
    for (name, value) in [("mcp-protocol-version", "2026-07-28"), ("mcp-name", "t"), ("mcp-param-x", "1.5")] {
        assert_eq!(asked[1].header(name), Some(value));
    }
    assert_eq!(asked[1].header("mcp-session-id"), None);
}

#[test]
fn a_remote_server_of_the_other_era_gets_a_session() {
    let fake = Fake::start(|asked: &Asked, stream| {
        let id = asked
            .body
            .split(r#""id":"#)
            .nth(1)
            .and_then(|rest| rest.split([',', '}']).next())
            .unwrap_or("null");
        let json = |result: &str| format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{result}}}"#);
        if asked.method == "GET" {
            return answer(stream, "405 Method Not Allowed", "text/plain", "");
        }
        if asked.body.contains(r#""initialize""#) {
            let text = json(
                r#"{"protocolVersion":"2025-11-25","capabilities":{},"serverInfo":{"name":"s","version":"1"}}"#,
            );
            let head = "HTTP/1.1 200 OK\r\nmcp-session-id: s1\r\ncontent-type: application/json";
            return write!(stream, "{head}\r\ncontent-length: {}\r\n\r\n{text}", text.len()).is_ok();
        }
        if asked.header("mcp-session-id").is_none() {
            let text = r#"{"jsonrpc":"2.0","error":{"code":-32000,"message":"Bad Request: Server not initialized"},"id":null}"#;
            return answer(stream, "400 Bad Request", "application/json", text);
        }
        if asked.body.contains(r#""id""#) {
            return answer(stream, "200 OK", "application/json", &json(r#"{"tools":[]}"#));
        }
        write!(stream, "HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n").is_ok()
    });
    let gateway = Program::start("serve", &["--upstream", &fake.url("/mcp")]);
    for _ in 0..2 {
        let listed = ask(&gateway, "tools/list", &json!({})).json();
        assert_eq!((&listed["id"], &listed["result"]["resultType"]), (&json!(1), &json!("complete")));
    }
    let asked = fake.so_far();
    assert_eq!(asked.iter().filter(|asked| asked.body.contains("server/discover")).count(), 1);
    assert_eq!(asked.iter().filter(|asked| asked.body.contains(r#""initialize""#)).count(), 1);
}

#[test]
fn what_is_passed_on_is_seen_by_those_who_watch() {
    let folder = Folder::new();
    let file = folder.path("audit");
    let fake = Fake::start(|asked: &Asked, stream| match asked.header("mcp-method") {
        Some("server/discover") => answer(stream, "200 OK", "application/json", DISCOVERED),
        _ => answer(
            stream,
            "200 OK",
            "application/json",
            r#"{"jsonrpc":"2.0","id":1,"result":{"content":[]}}"#,
        ),
    });
    let gateway = Program::start("serve", &["--upstream", &fake.url("/mcp"), "--audit-log", &file]);
    assert_eq!(call(&gateway, "seen").status, 200);
    until("the line is there", || std::fs::read_to_string(&file).is_ok_and(|lines| lines.contains("seen")));
    let lines = std::fs::read_to_string(&file).unwrap();
    assert!(lines.contains("tools/call") && lines.contains("ok"), "{lines}");
}
