use super::*;
use crate::message::modern::code;

fn meta(more: &str) -> String {
    format!(
        r#""_meta":{{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{{}}{more}}}"#
    )
}

fn read(method: &str, params: &str) -> Result<Asked, Fault> {
    let secret = RandomState::new();
    let json = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{{{params}}}}}"#);
    Asked::read(&Message::parse(json).unwrap(), &secret)
}

fn code_of(method: &str, params: &str) -> i32 {
    read(method, params).unwrap_err().code
}

#[test]
fn a_request_says_its_version_and_the_capabilities_of_its_client() {
    assert!(read("tools/list", &meta("")).is_ok());
    for params in [
        "",
        r#""_meta":null"#,
        r#""_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}"#,
        r#""_meta":{"io.modelcontextprotocol/clientCapabilities":{}}"#,
        r#""_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":[]}"#,
        r#""_meta":{"io.modelcontextprotocol/protocolVersion":1,"io.modelcontextprotocol/clientCapabilities":{}}"#,
        &meta(r#","io.modelcontextprotocol/clientInfo":"me""#),
        &meta(r#","io.modelcontextprotocol/logLevel":"loud""#),
        &meta(r#","progressToken":{}"#),
        &meta(r#","a":1,"a":2"#),
        &format!(r#"{},"a":1,"a":2"#, meta("")),
        &meta(&format!(r#","io.modelcontextprotocol/clientInfo":{{"name":"{}"}}"#, "x".repeat(ABOUT))),
    ] {
        assert_eq!(code_of("tools/list", params), code::INVALID_PARAMS, "{params:.200}");
    }
    let later = meta("").replace("2026-07-28", "2099-01-01");
    assert_eq!(code_of("tools/list", &later), code::UNSUPPORTED_PROTOCOL_VERSION);
}

#[test]
fn requests_of_eras_before_are_unknown() {
    for method in GONE {
        assert_eq!(code_of(method, &meta("")), code::METHOD_NOT_FOUND, "{method}");
    }
}

#[test]
fn what_is_repeated_has_the_same_print() {
    let secret = RandomState::new();
    let print = |params: &str| {
        let json =
            format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{{params},{}}}}}"#, meta(""));
        Asked::read(&Message::parse(json).unwrap(), &secret).unwrap().print
    };
    let first = print(r#""name":"a","arguments":{"x":1,"y":[2]}"#);
    assert_eq!(
        first,
        print(r#""arguments":{ "y":[2], "x":1 },"name":"a","requestState":"s","inputResponses":{}"#)
    );
    assert_ne!(first, print(r#""name":"a","arguments":{"x":1,"y":[3]}"#));
    assert_ne!(first, print(r#""name":"b","arguments":{"x":1,"y":[2]}"#));
    assert_eq!(print(r#""name":"a""#), print(r#""name":"a","arguments":{}"#));
}

#[test]
fn answers_that_are_no_results_are_left_out() {
    let asked = read(
        "tools/call",
        &format!(
            r#""name":"a","requestState":"s","inputResponses":{{"a":{{"x":1}},"b":null,"c":[1]}},{}"#,
            meta("")
        ),
    )
    .unwrap();
    assert_eq!(asked.responses.keys().collect::<Vec<_>>(), ["a"]);
    assert_eq!(asked.state(), Some(&State::new("s")));
    assert_eq!(code_of("tools/call", &format!(r#""inputResponses":[],{}"#, meta(""))), code::INVALID_PARAMS);
    assert_eq!(code_of("tools/call", &format!(r#""requestState":1,{}"#, meta(""))), code::INVALID_PARAMS);
}

#[test]
fn a_listener_says_what_it_wants_to_hear() {
    let listen = |notifications: &str| read("subscriptions/listen", &format!("{notifications}{}", meta("")));
    let asked =
        listen(r#""notifications":{"toolsListChanged":true,"resourceSubscriptions":["b","a","b"],"own":1},"#)
            .unwrap();
    let uris = vec!["a".into(), "b".into()];
    assert_eq!(asked.kind, Kind::Listen(Filter { tools: true, uris, ..Filter::default() }));
    let many = format!(
        r#""notifications":{{"resourceSubscriptions":[{}]}},"#,
        (0..=URIS).map(|n| format!(r#""{n}""#)).collect::<Vec<_>>().join(",")
    );
    for wrong in [
        "",
        r#""notifications":[],"#,
        r#""notifications":{"toolsListChanged":1},"#,
        r#""notifications":{"resourceSubscriptions":[1]},"#,
        &many,
    ] {
        assert_eq!(listen(wrong).unwrap_err().code, code::INVALID_PARAMS, "{wrong:.100}");
    }
}

#[test]
fn a_client_is_asked_only_what_it_declares() {
    let about = |capabilities: &str| {
        let params =
            meta("").replace(r#"clientCapabilities":{}"#, &format!(r#"clientCapabilities":{capabilities}"#));
        read("tools/list", &params).unwrap().about.clone()
    };
    let none = about("{}");
    assert!(!none.may_be_asked() && !none.takes("roots/list", None));
    let form = about(r#"{"elicitation":{}}"#);
    assert!(form.may_be_asked() && form.takes("elicitation/create", None));
    assert!(form.takes("elicitation/create", Some("form")) && !form.takes("elicitation/create", Some("url")));
    let url = about(r#"{"elicitation":{"url":{}}}"#);
    assert!(url.takes("elicitation/create", Some("url")) && !url.takes("elicitation/create", None));
    let all = about(r#"{"sampling":{},"roots":{"x":1}}"#);
    assert!(all.takes("sampling/createMessage", None) && all.takes("roots/list", None));
    assert!(!all.takes("tools/list", None));
    // The same client, in another order.
    assert_eq!(about(r#"{"roots":{},"sampling":{}}"#), about(r#"{ "sampling": {}, "roots": {} }"#));
}
