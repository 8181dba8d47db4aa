//! A server that asks its client before it answers.

use std::{fs, os::unix::fs::PermissionsExt as _};

use super::*;
use crate::help::{pids, signal_to};

fn capabilities() -> Value {
    json!({ "elicitation": {} })
}

fn asks(gateway: &Program) -> Value {
    let answer = ask_as(gateway, "", &capabilities(), "tools/call", &json!({ "name": "ask" }));
    let json = answer.json();
    assert_eq!(json["result"]["resultType"], "input_required", "{answer:?}");
    json["result"].clone()
}

fn again(result: &Value) -> Value {
    let key = result["inputRequests"].as_object().unwrap().keys().next().unwrap().clone();
    json!({
        "name": "ask", "requestState": result["requestState"],
        "inputResponses": { key: { "action": "accept", "content": {} } },
    })
}

fn resume(gateway: &Program, params: &Value) -> Answer {
    ask_as(gateway, "", &capabilities(), "tools/call", params)
}

fn is_invalid(answer: &Answer) {
    assert_eq!(answer.status, 200, "{answer:?}");
    let error = &answer.json()["error"];
    assert_eq!((&error["code"], &error["data"]["reason"]), (&json!(-32602), &json!("invalid_request_state")));
}

#[test]
fn its_question_is_the_answer_and_is_answered_by_the_same_request() {
    let legacy = Legacy::start(&[]);
    let asked = asks(&legacy.gateway);
    let questions: Vec<_> = asked["inputRequests"].as_object().unwrap().values().cloned().collect();
    assert_eq!(
        questions,
        [
            json!({ "method": "elicitation/create", "params": { "message": "Who?", "requestedSchema": { "type": "object" } } })
        ]
    );
    assert!(asked["requestState"].as_str().unwrap().len() >= 32);
    // Two at once: one continues the request.
    let params = again(&asked);
    let mut answers: Vec<Answer> = std::thread::scope(|scope| {
        let both = [(); 2].map(|()| scope.spawn(|| resume(&legacy.gateway, &params)));
        both.map(|answer| answer.join().unwrap()).into()
    });
    answers.sort_by_key(|answer| answer.json().get("error").is_some());
    assert_eq!(answers[0].json()["result"]["content"][0]["text"], "thanks", "{answers:?}");
    is_invalid(&answers[1]);
    assert_eq!(
        legacy
            .told()
            .matches(r#"{"jsonrpc":"2.0","id":"q1","result":{"action":"accept","content":{}}}"#)
            .count(),
        1
    );
    // And it is over.
    is_invalid(&resume(&legacy.gateway, &params));
}

#[test]
fn only_the_same_request_of_the_same_client_continues_it() {
    let folder = Folder::new();
    let keys = folder.write("keys", "alice alices-key-0123456789\nbob bobs-key-0123456789abc\n");
    fs::set_permissions(&keys, fs::Permissions::from_mode(0o600)).unwrap();
    let legacy = Legacy::start(&["--bearer-token-file", &keys]);
    let key = |name: &str| format!("\r\nauthorization: Bearer {name}");
    let (alice, bob) = (key("alices-key-0123456789"), key("bobs-key-0123456789abc"));
    let asked = ask_as(&legacy.gateway, &alice, &capabilities(), "tools/call", &json!({ "name": "ask" }));
    let params = again(&asked.json()["result"]);
    is_invalid(&ask_as(&legacy.gateway, &bob, &capabilities(), "tools/call", &params));
    let mut other = params.clone();
    other["arguments"] = json!({ "a": 1 });
    is_invalid(&ask_as(&legacy.gateway, &alice, &capabilities(), "tools/call", &other));
    let mut unknown = params.clone();
    unknown["requestState"] = json!("00000000000000000000000000000000");
    is_invalid(&ask_as(&legacy.gateway, &alice, &capabilities(), "tools/call", &unknown));
    // None of which has harmed it.
    let answer = ask_as(&legacy.gateway, &alice, &capabilities(), "tools/call", &params);
    assert_eq!(answer.json()["result"]["content"][0]["text"], "thanks");
    // Whose sessions are two.
    assert_eq!(
        ask_as(&legacy.gateway, &bob, &json!({}), "tools/call", &json!({ "name": "echo" })).status,
        200
    );
    assert_eq!(legacy.told().matches(r#""initialize""#).count(), 2);
}

#[test]
fn a_client_that_cannot_be_asked_is_not() {
    let legacy = Legacy::start(&[]);
    assert_eq!(call(&legacy.gateway, "ask").json()["result"]["content"][0]["text"], "thanks");
    assert!(legacy.told().contains(r#""id":"q1","error":{"code":-32601"#), "{}", legacy.told());
}

#[test]
fn calls_at_once_that_may_ask_have_sessions_of_their_own() {
    let legacy = Legacy::start(&[]);
    let (first, second) = (asks(&legacy.gateway), asks(&legacy.gateway));
    assert_eq!(legacy.told().matches(r#""initialize""#).count(), 2);
    for asked in [&second, &first] {
        assert_eq!(resume(&legacy.gateway, &again(asked)).json()["result"]["content"][0]["text"], "thanks");
    }
    // But no more than they need.
    asks(&legacy.gateway);
    assert_eq!(legacy.told().matches(r#""initialize""#).count(), 2);
}

#[test]
fn a_client_with_too_many_questions_open_loses_the_first_of_them() {
    let legacy = Legacy::start(&[]);
    let first = asks(&legacy.gateway);
    let others: Vec<Value> = (0..8).map(|_| asks(&legacy.gateway)).collect();
    assert_eq!(legacy.told().matches(r#""initialize""#).count(), 8);
    legacy.until_told("notifications/cancelled");
    is_invalid(&resume(&legacy.gateway, &again(&first)));
    for asked in &others {
        assert_eq!(resume(&legacy.gateway, &again(asked)).status, 200);
    }
}

#[test]
fn a_server_that_dies_meanwhile_has_answered_with_an_error() {
    let legacy = Legacy::start(&[]);
    let asked = asks(&legacy.gateway);
    let pid = *pids(&legacy.gateway.log.so_far()).first().unwrap();
    // The program's group is its keeper's business; the shell itself is what dies here.
    signal_to(pid, "-KILL");
    until("it is gone", || fs::metadata(format!("/proc/{pid}")).is_err());
    legacy.gateway.log.until_says("trying again");
    let answer = resume(&legacy.gateway, &again(&asked));
    let text = answer.json()["error"]["message"].as_str().unwrap().to_owned();
    assert!(text.contains("signal: 9"), "{answer:?}");
}
