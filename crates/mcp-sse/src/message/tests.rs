mod same_as_serde_json;

use super::*;

fn kind(json: &str) -> Result<MessageKind, String> {
    Message::parse(json.to_owned()).map(|m| m.kind).map_err(|e| e.to_string())
}

#[test]
fn the_envelope_tells_requests_notifications_and_responses_apart() {
    let request = |id: RequestId| Ok(MessageKind::Request { id, method: "m".into() });
    assert_eq!(kind(r#"{"jsonrpc":"2.0","id":1,"method":"m"}"#), request(1.into()));
    assert_eq!(kind(r#" {"method":"m","id":"a\u0062","jsonrpc":"2.0"} "#), request("ab".into()));
    assert_eq!(
        kind(r#"{"jsonrpc":"2.0","method":"m","params":{"id":3}}"#),
        Ok(MessageKind::Notification { method: "m".into() })
    );
    assert_eq!(
        kind(r#"{"jsonrpc":"2.0","id":1,"result":null}"#),
        Ok(MessageKind::Response { id: Some(1.into()), is_error: false })
    );
    assert_eq!(
        kind(r#"{"jsonrpc":"2.0","id":null,"error":{"code":1,"message":""}}"#),
        Ok(MessageKind::Response { id: None, is_error: true })
    );
}

#[test]
fn what_is_not_one_json_rpc_message_is_refused() {
    for bad in [
        "",
        "{",
        "null",
        "7",
        r#""a""#,
        "[]",
        r#"["2.0",1,"m"]"#,
        "{}",
        "\u{feff}{}",
        r#"[{"jsonrpc":"2.0","id":1,"method":"m"}]"#,
        r#"{"jsonrpc":"1.0","id":1,"method":"m"}"#,
        r#"{"id":1,"method":"m"}"#,
        r#"{"jsonrpc":"2.0","id":null,"method":"m"}"#,
        r#"{"jsonrpc":"2.0","id":{},"method":"m"}"#,
        r#"{"jsonrpc":"2.0","id":true,"method":"m"}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":7}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"m","params":"x"}"#,
        r#"{"jsonrpc":"2.0","id":1,"id":2,"method":"m"}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"m","result":1}"#,
        r#"{"jsonrpc":"2.0","id":1,"result":1,"error":{}}"#,
        r#"{"jsonrpc":"2.0","result":1}"#,
        r#"{"jsonrpc":"2.0","id":1,"error":"x"}"#,
        r#"{"jsonrpc":"2.0","id":1}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"m"}{}"#,
    ] {
        assert!(kind(bad).is_err(), "{bad}");
    }
    assert!(Message::parse(&b"{\"jsonrpc\":\"2.0\",\"method\":\"\xff\"}"[..]).is_err());
    let long = format!(r#"{{"jsonrpc":"2.0","id":"{}","method":"m"}}"#, "x".repeat(1100));
    assert!(kind(&long).unwrap_err().contains("1024"));
}

#[test]
fn ids_are_compared_by_value_and_written_back_with_it() {
    let id = |json: &str| {
        Message::parse(format!(r#"{{"jsonrpc":"2.0","id":{json},"method":"m"}}"#)).unwrap().id().cloned()
    };
    for text in ["7", "7.0", "70e-1"] {
        assert_eq!(id(text), Some(7.into()), "{text}");
    }
    assert_ne!(id("7"), id(r#""7""#));
    for text in ["1.5", "18446744073709551616", "-3", r#""a\"b""#] {
        assert_eq!(id(text).unwrap().to_string(), text);
    }
}

#[test]
fn a_cancellation_names_a_request() {
    let cancelled = |params: &str| {
        let json = format!(r#"{{"jsonrpc":"2.0","method":"notifications/cancelled","params":{params}}}"#);
        Message::parse(json).unwrap().cancelled_id()
    };
    assert_eq!(cancelled(r#"{"requestId":4,"reason":"x"}"#), Some(4.into()));
    assert_eq!(cancelled("{}"), None);
    assert_eq!(cancelled("[]"), None);
}

#[test]
fn a_stateless_message_names_its_protocol_version() {
    let named = |params: &str| {
        let json = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{params}}}"#);
        Message::parse(json).unwrap().names_its_protocol_version()
    };
    assert!(named(r#"{"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}}"#));
    assert!(!named(r#"{"_meta":{"io.modelcontextprotocol/protocolVersion":7}}"#));
    assert!(!named(r#"{"_meta":{}}"#));
    assert!(!named("{}"));
}

#[test]
fn the_parameters_are_the_bytes_between_their_neighbours() {
    let params = |json: &str| Message::parse(json.to_owned()).unwrap().params().map(str::to_owned);
    let spaced = "{ \"params\" :\n [1, {\"a\": \"é\"}] , \"jsonrpc\":\"2.0\",\"method\":\"m\"}";
    assert_eq!(params(spaced).as_deref(), Some("[1, {\"a\": \"é\"}]"));
    for none in [
        r#"{"jsonrpc":"2.0","id":1,"method":"m"}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"m","params":null}"#,
        r#"{"jsonrpc":"2.0","id":1,"result":{"params":{}},"params":{}}"#,
    ] {
        assert_eq!(params(none), None, "{none}");
    }
}

#[test]
fn a_message_that_was_written_is_the_one_that_is_read() {
    let params = serde_json::json!({ "a": ["\u{2028}\n\"", 1.5, null] });
    let empty: [u8; 0] = [];
    let messages = [
        Message::request(1, "m", &params),
        Message::request("a\"b", "é\n", &()),
        Message::notification("m", &params),
        Message::notification("m", &empty),
        Message::notification("m", &serde_json::Value::Null),
        Message::result(&RequestId::from("x"), &params),
        Ok(Message::error(&RequestId::from(1), -1, "\"text\"\n")),
    ];
    for message in messages {
        let message = message.unwrap();
        let read = Message::parse(message.as_bytes().to_vec()).unwrap();
        assert_eq!((read.kind(), read.params()), (message.kind(), message.params()), "{message:?}");
    }
}

#[test]
fn what_is_no_json_or_no_parameters_is_not_written() {
    let error = |written: Result<Message, WriteMessageError>| written.unwrap_err().to_string();
    for value in [serde_json::json!(7), serde_json::json!("text"), serde_json::json!(true)] {
        assert!(error(Message::notification("m", &value)).contains("object or an array"));
        assert!(error(Message::request(1, "m", &value)).contains("object or an array"));
    }
    let keys = std::collections::HashMap::from([((1, 2), 3)]);
    assert!(error(Message::result(&RequestId::from(1), &keys)).contains("key must be a string"));
    assert!(error(Message::request("x".repeat(1100).as_str(), "m", &())).contains("1024"));
}

#[test]
fn values_may_be_nested_as_deeply_as_a_message_has_bytes() {
    for depth in [1, 63, 64, 65, 127, 128, 129, 1_000_000] {
        let nested = format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        let json = format!(r#"{{"jsonrpc":"2.0","method":"m","params":{nested}}}"#);
        assert_eq!(Message::parse(json).unwrap().params().map(str::len), Some(2 * depth));
    }
    // Each level ends as what it began as.
    let wrong = format!("{}{}", "[{\"a\":".repeat(40), "]".repeat(80));
    assert!(kind(&format!(r#"{{"jsonrpc":"2.0","method":"m","params":{wrong}}}"#)).is_err());
}

#[test]
fn an_error_says_where_the_message_is_wrong_and_quotes_nothing_of_it() {
    let error = |json: &str| kind(json).unwrap_err();
    assert!(
        error(r#"{"jsonrpc":"2.0","method":"secret",}"#).contains("at byte 35 it needs the name of a member")
    );
    assert!(error("[]").contains("batches are not part of this protocol"));
    assert!(error(r#"{"jsonrpc":"2.0","secret":1"#).contains("the end of the object"));
}

#[test]
fn a_parameter_is_found_by_its_path_and_only_if_it_is_there_once() {
    let json = r#" {"a": {"b" : [1, 2], "\u0063": {"d":"}{"}}, "b": 3, "e": 1, "e": 2, "f": 0}"#;
    let json = format!(r#"{{"jsonrpc":"2.0","method":"m","params":{json}}}"#);
    let message = Message::parse(json).unwrap();
    for (path, value) in [
        (&["a", "b"][..], Some("[1, 2]")),
        (&["a", "c", "d"], Some("\"}{\"")),
        (&["b"], Some("3")),
        (&["f"], Some("0")),
        (&["e"], None),
        (&["x"], None),
        (&["a", "x"], None),
        (&["b", "a"], None),
        (&["a", "b", "0"], None),
    ] {
        assert_eq!(message.param(path), value, "{path:?}");
    }
    assert_eq!(message.param(&[]), message.params());
    let list = Message::parse(r#"{"jsonrpc":"2.0","method":"m","params":[{"a":1}]}"#).unwrap();
    assert_eq!(list.param(&["a"]), None);
}
