//! What is wrong with a request is said, and nothing else is disturbed by it.

use super::*;
use crate::help::INITIALIZE;

#[test]
fn a_request_that_is_not_well_formed_is_refused_with_the_reason() {
    let legacy = Legacy::start(&[]);
    let params = json!({ "name": "echo" });
    let (good, head) = (body(&json!(1), "tools/call", &params, &json!({})), head("tools/call", &params));
    let asked = |head: &str, body: &str| {
        let answer = Answer::read(&legacy.gateway.request(head, body));
        (answer.status, answer.code(), answer.json()["id"].clone())
    };
    let none = Value::Null;
    for (head, body, status, code, id) in [
        (
            head.replace("content-type: application/json", "content-type: text/plain"),
            good.clone(),
            415,
            -32600,
            &none,
        ),
        (
            head.replace("accept: application/json, text/event-stream", "accept: text/html"),
            good.clone(),
            406,
            -32600,
            &none,
        ),
        (head.clone(), "{".to_owned(), 400, -32700, &none),
        (head.clone(), format!("[{good}]"), 400, -32600, &none),
        (head.clone(), r#"{"jsonrpc":"2.0","id":1,"result":{}}"#.to_owned(), 400, -32600, &none),
        (head.clone(), good.replace(r#""id":1"#, r#""id":null"#), 400, -32700, &none),
        (head.replace("mcp-name: echo", "x: y"), good.clone(), 400, -32020, &json!(1)),
        (head.replace("mcp-name: echo", "mcp-name: other"), good.clone(), 400, -32020, &json!(1)),
        (head.replace("mcp-method: tools/call", "x: y"), good.clone(), 400, -32020, &json!(1)),
        (head.replace("version: 2026-07-28", "version: 2026-07-29"), good.clone(), 400, -32020, &json!(1)),
        (
            head.clone(),
            good.replace("io.modelcontextprotocol/clientCapabilities", "own"),
            400,
            -32602,
            &json!(1),
        ),
        (
            head.clone(),
            good.replace("io.modelcontextprotocol/protocolVersion", "own"),
            400,
            -32602,
            &json!(1),
        ),
        (
            head.replace("2026-07-28", "2099-01-01"),
            good.replace("2026-07-28", "2099-01-01"),
            400,
            -32022,
            &json!(1),
        ),
    ] {
        assert_eq!(asked(&head, &body), (status, code, id.clone()), "{head}\n{body}");
    }
    let later = Answer::read(
        &legacy
            .gateway
            .request(&head.replace("2026-07-28", "2099-01-01"), &good.replace("2026-07-28", "2099-01-01")),
    );
    assert_eq!(
        later.json()["error"]["data"],
        json!({ "supported": ["2026-07-28"], "requested": "2099-01-01" })
    );
    for method in ["initialize", "ping", "logging/setLevel", "resources/subscribe", "resources/unsubscribe"] {
        let answer = ask(&legacy.gateway, method, &json!({}));
        assert_eq!((answer.status, answer.code()), (404, -32601), "{method}");
    }
    // None of it has reached a server.
    assert_eq!(legacy.told(), "");
}

#[test]
fn other_requests_are_as_they_were() {
    let legacy = Legacy::start(&[]);
    for method in ["GET", "DELETE"] {
        let answer = legacy
            .gateway
            .request(&format!("{method} /mcp HTTP/1.1\r\nmcp-protocol-version: 2026-07-28"), "");
        assert!(
            answer.starts_with("HTTP/1.1 405") && answer.to_ascii_lowercase().contains("allow: post"),
            "{answer}"
        );
    }
    let plain =
        "POST /mcp HTTP/1.1\r\naccept: application/json, text/event-stream\r\ncontent-type: application/json";
    let opened = legacy.gateway.request(plain, INITIALIZE);
    assert!(opened.contains("mcp-session-id") && opened.contains(r#""name":"legacy""#), "{opened}");
    // What has no header that says so is not of this era, and says so itself.
    let good = body(&json!(5), "tools/list", &json!({}), &json!({}));
    for version in ["", "\r\nmcp-protocol-version: 2025-11-25"] {
        let answer = Answer::read(&legacy.gateway.request(&format!("{plain}{version}"), &good));
        assert_eq!((answer.status, answer.code(), &answer.json()["id"]), (400, -32020, &json!(5)));
    }
}
