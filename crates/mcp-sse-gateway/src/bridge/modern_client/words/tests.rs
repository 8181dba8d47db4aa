use std::hash::RandomState;

use super::*;

const META: &str = r#""io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{},"io.modelcontextprotocol/clientInfo":{"name":"c","version":"1"},"io.modelcontextprotocol/logLevel":"info""#;

fn asked(params: &str) -> Asked {
    let json = format!(r#"{{"jsonrpc":"2.0","id":"mine","method":"tools/call","params":{params}}}"#);
    Asked::read(&Message::parse(json).unwrap(), &RandomState::new()).unwrap()
}

fn message(json: &str) -> Message {
    Message::parse(json.to_owned()).unwrap()
}

#[test]
fn a_legacy_server_gets_what_it_knows() {
    let legacy = |params: &str| for_legacy(&asked(params), &RequestId::from(7), "t-7").unwrap();
    assert_eq!(
        legacy(&format!(r#"{{"name":"a","arguments":{{"x": 1.0e2}},"requestState":"s","inputResponses":{{}},"_meta":{{{META}}}}}"#)).as_str(),
        r#"{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"a","arguments":{"x": 1.0e2}}}"#
    );
    assert_eq!(
        legacy(&format!(
            r#"{{"name":"a","_meta":{{{META},"progressToken":3,"traceparent":"00-1","own/key":[1]}}}}"#
        ))
        .as_str(),
        r#"{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"a","_meta":{"progressToken":"t-7","traceparent":"00-1","own/key":[1]}}}"#
    );
}

#[test]
fn a_modern_server_gets_what_came_but_for_id_and_token() {
    let params = format!(r#"{{"name":"a","requestState":"s","_meta":{{{META},"progressToken":3}}}}"#);
    let modern = for_modern(&asked(&params), &RequestId::from(7), "t-7").unwrap();
    let expected = params.replace(r#""progressToken":3"#, r#""progressToken":"t-7""#);
    assert_eq!(
        modern.as_str(),
        format!(r#"{{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{expected}}}"#)
    );
}

#[test]
fn a_client_gets_what_it_expects_of_a_result() {
    let result = |method: &str, json: &str, info: Option<&str>| {
        let answer = message(&format!(r#"{{"jsonrpc":"2.0","id":7,"result":{json}}}"#));
        for_client(&answer, &RequestId::from("mine"), method, info).as_str().to_owned()
    };
    assert_eq!(
        result("tools/call", r#"{"content":[],"own":1.0}"#, None),
        r#"{"jsonrpc":"2.0","id":"mine","result":{"content":[],"own":1.0,"resultType":"complete"}}"#
    );
    assert_eq!(
        result("tools/list", r#"{"tools":[],"_meta":{"a":1}}"#, Some(r#"{"name":"s"}"#)),
        r#"{"jsonrpc":"2.0","id":"mine","result":{"tools":[],"_meta":{"a":1,"io.modelcontextprotocol/serverInfo":{"name":"s"}},"resultType":"complete","ttlMs":0,"cacheScope":"private"}}"#
    );
    // What is no object, or two things at once, is not guessed.
    assert!(result("tools/call", "[]", None).contains("-32603"));
    assert!(result("tools/call", r#"{"a":1,"a":2}"#, None).contains("-32603"));
}

#[test]
fn a_client_gets_errors_that_it_knows() {
    let error = |json: &str| {
        let answer = message(&format!(r#"{{"jsonrpc":"2.0","id":7,"error":{json}}}"#));
        for_client(&answer, &RequestId::from(1), "resources/read", None).as_str().to_owned()
    };
    assert_eq!(
        error(r#"{"code":-32002,"message":"not found","data":{"uri":"x"}}"#),
        r#"{"jsonrpc":"2.0","id":1,"error":{"code":-32602,"message":"not found","data":{"uri":"x"}}}"#
    );
    assert_eq!(
        error(r#"{"code":-32050,"message":"m"}"#),
        r#"{"jsonrpc":"2.0","id":1,"error":{"code":-32050,"message":"m"}}"#
    );
}

#[test]
fn what_a_server_says_of_itself_is_what_it_is_found_to_be() {
    let answer = message(
        r#"{"jsonrpc":"2.0","id":0,"result":{"protocolVersion":"2025-11-25","serverInfo":{"name":"s","version":"1"},"instructions":"i","capabilities":{"logging":{},"tools":{"listChanged":true},"resources":{"subscribe":true}}}}"#,
    );
    let greeted = greeted(&answer).unwrap();
    assert_eq!(greeted.changes, [true, false, false]);
    assert!(greeted.logs && greeted.subscribes);
    assert_eq!(greeted.info.as_deref(), Some(r#"{"name":"s","version":"1"}"#));
    let discovered: Value = serde_json::from_str(&greeted.discovered).unwrap();
    assert_eq!(discovered["supportedVersions"], json!(["2026-07-28"]));
    assert_eq!((&discovered["instructions"], discovered.get("serverInfo")), (&json!("i"), None));
    assert!(super::greeted(&message(r#"{"jsonrpc":"2.0","id":0,"result":[]}"#)).is_none());
}

#[test]
fn a_client_is_greeted_for_with_all_that_it_says_of_itself() {
    let about = asked(&format!(r#"{{"_meta":{{{META}}}}}"#)).about().clone();
    assert_eq!(
        initialize(&RequestId::from("i"), &about).unwrap().as_str(),
        r#"{"jsonrpc":"2.0","id":"i","method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"c","version":"1"}}}"#
    );
    let nameless = About { info: None, capabilities: r#"{"roots":{}}"#.into() };
    let greeting = initialize(&RequestId::from("i"), &nameless).unwrap();
    assert!(
        greeting
            .as_str()
            .contains(r#""capabilities":{"roots":{}},"clientInfo":{"name":"unknown","version":"0"}"#)
    );
    assert!(discover(&RequestId::from("d"), &nameless).unwrap().as_str().ends_with(
        r#"{"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{"roots":{}}}}}"#
    ));
}

#[test]
fn a_question_loses_what_nobody_can_answer() {
    let entry = |params: &str| {
        entry(&message(&format!(r#"{{"jsonrpc":"2.0","id":1,"method":"elicitation/create"{params}}}"#)))
            .unwrap()
    };
    assert_eq!(
        entry(r#","params":{"message":"m","elicitationId":"x","_meta":{"progressToken":0}}"#),
        r#"{"method":"elicitation/create","params":{"message":"m"}}"#
    );
    assert_eq!(
        entry(r#","params":{"_meta":{"progressToken":0,"a":1}}"#),
        r#"{"method":"elicitation/create","params":{"_meta":{"a":1}}}"#
    );
    assert_eq!(entry(""), r#"{"method":"elicitation/create"}"#);
}
