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
