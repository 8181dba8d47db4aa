//! What strangers can hold, and what they cannot.

use super::*;

/// A request of a client that says to be this one.
fn ask_by(gateway: &Program, name: &str, tool: &str) -> Answer {
    let params = json!({ "name": tool });
    let body = body(&json!(1), "tools/call", &params, &json!({}))
        .replace(r#""name":"test""#, &format!(r#""name":"{name}""#));
    Answer::read(&gateway.request(&head("tools/call", &params), &body))
}

#[test]
fn invented_names_take_no_more_places_than_there_are() {
    let legacy = Legacy::start(&["--max-sessions", "2", "--resume-window", "0s"]);
    for name in 0..20 {
        assert_eq!(
            ask_by(&legacy.gateway, &name.to_string(), "echo").status,
            200,
            "those that are idle make room"
        );
    }
    // But not those that are in use.
    let held: Vec<_> = (0..2)
        .map(|name| {
            let params = json!({ "name": "slow", "arguments": { "n": name } });
            let body = body(&json!(1), "tools/call", &params, &json!({}))
                .replace(r#""name":"test""#, &format!(r#""name":"held{name}""#));
            let stream = legacy.gateway.send(&head("tools/call", &params), &body);
            legacy.until_told(&format!(r#""arguments":{{"n":{name}}}"#));
            stream
        })
        .collect();
    let refused = ask_by(&legacy.gateway, "one more", "echo");
    assert_eq!((refused.status, refused.head.contains("retry-after: 1")), (503, true));
    drop(held);
    until("there is room again", || ask_by(&legacy.gateway, "one more", "echo").status == 200);
}

#[test]
fn clients_that_have_to_come_back_and_do_not_make_room_for_others() {
    let legacy = Legacy::start(&["--max-sessions", "1", "--resume-window", "0s"]);
    let capabilities = json!({ "elicitation": {} });
    let asked = ask_as(&legacy.gateway, "", &capabilities, "tools/call", &json!({ "name": "ask" }));
    assert_eq!(asked.json()["result"]["resultType"], "input_required");
    assert_eq!(call(&legacy.gateway, "echo").status, 200);
    let params = json!({ "name": "ask", "requestState": asked.json()["result"]["requestState"] });
    let gone = ask_as(&legacy.gateway, "", &capabilities, "tools/call", &params);
    assert_eq!(gone.code(), -32602, "{gone:?}");
}

#[test]
fn a_session_that_nobody_uses_ends() {
    let legacy = Legacy::start(&["--mcp-idle-timeout", "1s"]);
    assert_eq!(call(&legacy.gateway, "echo").status, 200);
    legacy.gateway.log.until_says(r#"reason="idle""#);
    assert_eq!(call(&legacy.gateway, "echo").status, 200);
    assert_eq!(legacy.told().matches(r#""initialize""#).count(), 2);
}

#[test]
fn too_many_requests_at_once_are_refused() {
    let legacy = Legacy::start(&["--max-requests-in-flight", "2"]);
    let held: Vec<_> = (0..2)
        .map(|n| {
            let stream = open(
                &legacy.gateway,
                "tools/call",
                &json!({ "name": "slow", "arguments": { "n": n } }),
                &json!({}),
            );
            legacy.until_told(&format!(r#""arguments":{{"n":{n}}}"#));
            stream
        })
        .collect();
    assert_eq!(call(&legacy.gateway, "echo").status, 503);
    drop(held);
    until("there is room again", || call(&legacy.gateway, "echo").status == 200);
}

#[test]
fn a_body_larger_than_the_limit_is_refused() {
    let legacy = Legacy::start(&["--max-body-bytes", "100000"]);
    let params = json!({ "name": "echo", "arguments": { "x": "x".repeat(100_000) } });
    let refused = ask(&legacy.gateway, "tools/call", &params);
    assert_eq!((refused.status, refused.code()), (413, -32600));
    let params = json!({ "name": "echo", "arguments": { "x": "x".repeat(90_000) } });
    assert_eq!(ask(&legacy.gateway, "tools/call", &params).status, 200);
}
