//! Each row of the table between the eras, to the byte.

use super::*;

/// As the server has a call of [`Pair::calls`].
fn sent(id: impl std::fmt::Display) -> String {
    request(id, "tools/call", &format!(r#"{{"_meta":{{{SAID}}},"name":"t","arguments":{{"a": 1.0}}}}"#))
}

/// Another round of it.
fn retried(id: impl std::fmt::Display, more: &str) -> String {
    request(
        id,
        "tools/call",
        &format!(r#"{{"name":"t","arguments":{{"a": 1.0}},"_meta":{{{SAID}}},{more}}}"#),
    )
}

const ASK: &str = r#"{"method":"elicitation/create","params":{"message":"Name?","mode":"form"}}"#;
const SAMPLE: &str = r#"{"method":"sampling/createMessage","params":{"maxTokens":1.0e2}}"#;
const ROOTS: &str = r#"{"method":"roots/list"}"#;

fn needs(id: impl std::fmt::Display, inner: &str) -> String {
    result(id, &format!(r#"{{"resultType":"input_required",{inner}}}"#))
}

#[test]
fn initialize_is_answered_here_with_what_was_discovered() {
    let mut pair = Pair::silent(&all(), false);
    let initialize = |id, version| {
        request(id, "initialize", &format!(r#"{{"protocolVersion":"{version}","capabilities":{{}}}}"#))
    };
    let answer = |id, version| {
        let answer = format!(
            r#"{{"protocolVersion":"{version}","capabilities":{},"serverInfo":{{"name":"s","version":"1"}}}}"#,
            all()
        );
        for_client([result(id, &answer)])
    };
    assert_eq!(pair.client(initialize(1, "2024-11-05")), answer(1, "2024-11-05"));
    assert_eq!(
        pair.client(initialize(2, "2026-07-28")),
        answer(2, "2025-11-25"),
        "the latest with a handshake"
    );
    // One that has not said that it is ready is told nothing; one that asks is.
    assert_eq!(pair.core.listening.deadline(), None);
    let large = format!(r#"{{"capabilities":{{"x":"{}"}}}}"#, "x".repeat(64 * 1024));
    let (_, refused) = pair.client(request(3, "initialize", &large));
    assert!(refused[0].contains("-32602") && refused[0].contains("16,384 bytes"), "{refused:?}");
}

#[test]
fn a_request_goes_on_with_what_its_client_has_said_and_its_answer_as_it_came() {
    for over_http in [false, true] {
        let mut pair = Pair::new(&json!({}), over_http);
        let call = request("\"é\"", "tools/call", r#"{"name":"t","arguments":{"a": 1.0}}"#);
        assert_eq!(pair.client(call), for_server([sent("\"é\"")]));
        let answer = r#"{"result": {"content":[ ]},"jsonrpc":"2.0", "id":"é"}"#;
        assert_eq!(pair.server(answer), for_client([answer.to_owned()]));
        assert_eq!(pair.server(answer), nothing(), "one is enough");
        assert!(pair.is_quiet());
        // Without parameters, and with `_meta` of its own.
        let (to_server, _) = pair.client(r#"{"jsonrpc":"2.0","id":2,"method":"x/y"}"#);
        assert_eq!(
            to_server,
            [format!(r#"{{"jsonrpc":"2.0","id":2,"method":"x/y","params":{{"_meta":{{{SAID}}}}}}}"#)]
        );
        let traced = r#"{"_meta":{"progressToken":"p","traceparent":"00-1"},"uri":"a:b"}"#;
        let expected =
            format!(r#"{{"_meta":{{"progressToken":"p","traceparent":"00-1",{SAID}}},"uri":"a:b"}}"#);
        let (to_server, _) = pair.client(request(3, "resources/read", traced));
        assert_eq!(to_server, [request(3, "resources/read", &expected)]);
    }
}

#[test]
fn what_only_modern_clients_know_is_taken_from_a_result() {
    let mut pair = Pair::new(&json!({}), false);
    for (came, goes) in [
        (r#"{"resultType":"complete","a": 1.0}"#, r#"{"a":1.0}"#),
        (r#"{"a":{"resultType":"complete"}}"#, r#"{"a":{"resultType":"complete"}}"#),
        (r#"{"result\u0054ype":"complete","b":"\u00e9"}"#, r#"{"b":"\u00e9"}"#),
        (r#"{"resultType":"complete"}"#, "{}"),
    ] {
        pair.calls(1);
        assert_eq!(pair.server(result(1, came)), for_client([result(1, goes)]));
    }
    pair.calls(1);
    let (_, refused) = pair.server(result(1, r#"{"resultType":"task","taskId":"7"}"#));
    assert_eq!(
        refused,
        [error(
            1,
            r#"{"code":-32603,"message":"the server's answer is of the type \"task\", which clients of this revision cannot read"}"#
        )]
    );
    assert!(pair.is_quiet());
}

#[test]
fn what_a_server_needs_is_asked_of_the_client_and_the_call_is_repeated_with_the_answers() {
    for over_http in [false, true] {
        let mut pair = Pair::new(&json!({}), over_http);
        pair.calls(7);
        let inner = format!(
            r#""inputRequests":{{"a":{ASK},"\u0062":{SAMPLE},"c":{ROOTS}}},"requestState":"v1.\u00e9/=="#
        );
        assert_eq!(
            pair.server(needs(7, &format!("{inner}\""))),
            for_client([
                request("\"own-1\"", "elicitation/create", r#"{"message":"Name?","mode":"form"}"#),
                request("\"own-2\"", "sampling/createMessage", r#"{"maxTokens":1.0e2}"#),
                r#"{"jsonrpc":"2.0","id":"own-3","method":"roots/list"}"#.to_owned(),
            ])
        );
        assert_eq!(pair.client(result("\"own-2\"", r#"{"model": "m"}"#)), nothing());
        assert_eq!(pair.client(result("\"own-2\"", r#"{"model":"again"}"#)), nothing(), "it has answered");
        assert_eq!(pair.client(result("\"own-3\"", r#"{"roots":[]}"#)), nothing());
        // A refusal is an answer as well.
        let more = concat!(
            r#""inputResponses":{"a":{"action":"decline"},"b":{"model": "m"},"c":{"roots":[]}},"#,
            r#""requestState":"v1.\u00e9/==""#
        );
        assert_eq!(
            pair.client(result("\"own-1\"", r#"{"action":"decline"}"#)),
            for_server([retried("\"own-4\"", more)])
        );
        // What it needs next has nothing of what it needed before.
        assert_eq!(
            pair.server(needs("\"own-4\"", &format!(r#""inputRequests":{{"d":{ROOTS}}}"#))),
            for_client([r#"{"jsonrpc":"2.0","id":"own-5","method":"roots/list"}"#.to_owned()])
        );
        let more = r#""inputResponses":{"d":{"roots":[1]}}"#;
        assert_eq!(
            pair.client(result("\"own-5\"", r#"{"roots":[1]}"#)),
            for_server([retried("\"own-6\"", more)])
        );
        let done = pair.server(result("\"own-6\"", r#"{"resultType":"complete","content":[]}"#));
        assert_eq!(done, for_client([result(7, r#"{"content":[]}"#)]));
        assert!(pair.is_quiet());
    }
}

#[test]
fn a_server_that_needs_nothing_of_the_client_gets_its_state_back_at_once() {
    let mut pair = Pair::new(&json!({}), false);
    for (came, goes) in [
        (r#""requestState":"s""#, r#""requestState":"s""#),
        (r#""inputRequests":{},"requestState":"s""#, r#""requestState":"s""#),
    ] {
        pair.calls(1);
        let (to_server, to_client) = pair.server(needs(1, came));
        assert!(to_client.is_empty());
        let id = parse(to_server[0].clone()).id().unwrap().to_string();
        assert_eq!(to_server, [retried(&id, goes)]);
        assert_eq!(pair.server(result(&id, "{}")), for_client([result(1, "{}")]));
    }
}

#[test]
fn a_client_of_a_handshake_gets_an_id_with_each_url() {
    let mut pair = Pair::new(&json!({}), false);
    pair.calls(1);
    let ask = r#"{"method":"elicitation/create","params":{"mode":"url","url":"https://a"}}"#;
    let (_, asked) = pair.server(needs(1, &format!(r#""inputRequests":{{"a":{ask}}}"#)));
    assert_eq!(
        asked,
        [request(
            "\"own-1\"",
            "elicitation/create",
            r#"{"mode":"url","url":"https://a","elicitationId":"own-1"}"#
        )]
    );
    pair.client(cancelled(1));
    pair.calls(2);
    let ask = r#"{"method":"elicitation/create","params":{"mode":"url","elicitationId":"mine"}}"#;
    let (_, asked) = pair.server(needs(2, &format!(r#""inputRequests":{{"a":{ask}}}"#)));
    assert_eq!(
        asked,
        [request("\"own-2\"", "elicitation/create", r#"{"mode":"url","elicitationId":"mine"}"#)]
    );
}

#[test]
fn a_client_is_not_asked_for_what_it_has_not_declared() {
    let mut pair = Pair::silent(&json!({}), false);
    let (_, answers) = pair.client(request(0, "initialize", r#"{"capabilities":{"roots":{}}}"#));
    assert_eq!(answers.len(), 1);
    for (ask, named) in [
        (ASK, "elicitation/create"),
        (SAMPLE, "sampling/createMessage"),
        (r#"{"method":"tools/call","params":{"name":"t"}}"#, "tools/call"),
    ] {
        pair.client(request(1, "tools/call", r#"{"name":"t"}"#));
        let (to_server, to_client) =
            pair.server(needs(1, &format!(r#""inputRequests":{{"c":{ROOTS},"a":{ask}}}"#)));
        let text =
            format!("the server needs an answer to \\\"{named}\\\", which this client has not declared");
        assert_eq!(to_client, [error(1, &format!(r#"{{"code":-32603,"message":"{text}"}}"#))]);
        assert!(to_server.is_empty() && pair.is_quiet(), "nothing is asked if not all can be");
    }
}

#[test]
fn an_error_of_the_client_is_that_of_its_call() {
    let mut pair = Pair::new(&json!({}), false);
    pair.calls(1);
    pair.server(needs(1, &format!(r#""inputRequests":{{"a":{ASK},"b":{ROOTS}}}"#)));
    assert_eq!(
        pair.client(error("\"own-2\"", r#"{"code": -1,"message":"rejected"}"#)),
        for_client([cancelled("\"own-1\""), error(1, r#"{"code": -1,"message":"rejected"}"#)])
    );
    assert_eq!(pair.client(result("\"own-1\"", "{}")), nothing());
    assert!(pair.is_quiet());
}

#[test]
fn a_call_is_cancelled_wherever_it_is() {
    for over_http in [false, true] {
        let mut pair = Pair::new(&json!({}), over_http);
        // At the server.
        pair.calls(1);
        let why = r#"{"requestId":1,"reason":"sl\u006fw"}"#;
        assert_eq!(
            pair.client(notification("notifications/cancelled", why)),
            for_server([notification("notifications/cancelled", why)])
        );
        assert_eq!(pair.server(result(1, "{}")), nothing());
        // At the client.
        pair.calls(2);
        pair.server(needs(2, &format!(r#""inputRequests":{{"a":{ASK}}}"#)));
        assert_eq!(pair.client(cancelled(2)), for_client([cancelled("\"own-1\"")]));
        assert_eq!(pair.client(result("\"own-1\"", "{}")), nothing());
        // At the server, again.
        pair.calls(3);
        pair.server(needs(3, &format!(r#""inputRequests":{{"a":{ASK}}}"#)));
        pair.client(result("\"own-2\"", "{}"));
        assert_eq!(pair.client(cancelled(3)), for_server([cancelled("\"own-3\"")]));
        assert_eq!(pair.server(result("\"own-3\"", "{}")), nothing());
        assert_eq!(pair.client(cancelled(3)), nothing());
        assert_eq!(pair.client(notification("notifications/cancelled", "{}")), nothing());
        assert!(pair.is_quiet());
    }
}

fn progress(inner: &str) -> String {
    notification("notifications/progress", &format!(r#"{{"progressToken":"p",{inner}}}"#))
}

#[test]
fn progress_of_all_rounds_is_that_of_one_call() {
    let mut pair = Pair::new(&json!({}), false);
    pair.client(request(1, "tools/call", r#"{"name":"t","_meta":{"progressToken":"p"}}"#));
    let first = progress(r#""progress": 1.0,"total":4,"message":"m""#);
    assert_eq!(pair.server(&first), for_client([first]));
    assert_eq!(pair.server(progress(r#""progress":1"#)), nothing(), "not backwards");
    assert_eq!(pair.server(progress(r#""progress":"2""#)), nothing());
    assert_eq!(pair.server(progress(r#""progress":2.5"#)), for_client([progress(r#""progress":2.5"#)]));
    pair.server(needs(1, r#""requestState":"s""#));
    assert_eq!(
        pair.server(progress(r#""progress":1.5,"total":4,"message":"m""#)),
        for_client([progress(r#""progress":4,"total":6.5,"message":"m""#)])
    );
    assert_eq!(pair.server(progress(r#""progress":0.25"#)), nothing());
    pair.server(needs("\"own-1\"", r#""requestState":"s""#));
    assert_eq!(pair.server(progress(r#""progress":1"#)), for_client([progress(r#""progress":5"#)]));
    pair.server(result("\"own-2\"", "{}"));
    assert_eq!(pair.server(progress(r#""progress":9"#)), nothing(), "it is over");
    let other = notification("notifications/progress", r#"{"progressToken":7,"progress":1}"#);
    assert_eq!(pair.server(other), nothing());
    assert!(pair.is_quiet());
}

#[test]
fn a_ping_is_a_question_that_each_server_answers() {
    let mut pair = Pair::new(&json!({}), false);
    let ping = r#"{"jsonrpc":"2.0","id":5,"method":"ping"}"#;
    let discover = request("\"own-1\"", "server/discover", &format!(r#"{{"_meta":{{{SAID}}}}}"#));
    assert_eq!(pair.client(ping), for_server([discover]));
    // Whatever it answers, it lives.
    assert_eq!(
        pair.server(error("\"own-1\"", r#"{"code":-32603,"message":"m"}"#)),
        for_client([result(5, "{}")])
    );
    assert!(pair.is_quiet());
    let mut pair = Pair::new(&json!({}), true);
    assert_eq!(pair.client(ping), for_client([result(5, "{}")]));
}

#[test]
fn a_log_level_goes_with_each_later_request() {
    let mut pair = Pair::new(&all(), false);
    let set = |level| request(1, "logging/setLevel", &format!(r#"{{"level":{level}}}"#));
    assert_eq!(pair.client(set(r#""warn\u0069ng""#)), for_client([result(1, "{}")]));
    pair.client(notification("notifications/initialized", "{}"));
    let (to_server, _) = pair.client(request(2, "tools/call", r#"{"name":"t"}"#));
    let level = r#""io.modelcontextprotocol/logLevel":"warning""#;
    assert_eq!(
        to_server,
        [request(2, "tools/call", &format!(r#"{{"_meta":{{{SAID},{level}}},"name":"t"}}"#))]
    );
    for bad in ["\"loud\"", "7", "null"] {
        let text = "level must be one of debug, info, notice, warning, error, critical, alert, emergency";
        let refused = error(1, &format!(r#"{{"code":-32602,"message":"{text}"}}"#));
        assert_eq!(pair.client(set(bad)), for_client([refused]));
    }
    let log = notification("notifications/message", r#"{"level":"error","data":1.0}"#);
    assert_eq!(pair.server(&log), for_client([log]));
    let mut pair = Pair::new(&json!({}), false);
    let refused = r#"{"code":-32601,"message":"the server does not declare this capability"}"#;
    for method in ["logging/setLevel", "resources/subscribe", "resources/unsubscribe"] {
        assert_eq!(pair.client(request(1, method, "{}")), for_client([error(1, refused)]));
    }
}

#[test]
fn errors_have_codes_that_legacy_clients_know() {
    let mut pair = Pair::new(&json!({}), false);
    for (came, goes) in [
        (r#"{"code": -1,"message":"m"}"#, r#"{"code": -1,"message":"m"}"#),
        (
            r#"{"code":-32021,"message":"m","data":{"a": 1}}"#,
            r#"{"code":-32600,"message":"m","data":{"a": 1}}"#,
        ),
        (r#"{"code":-32020,"message":"m"}"#, r#"{"code":-32603,"message":"m"}"#),
        (
            r#"{"code":-32602,"message":"m","data":{"uri":"a:b"}}"#,
            r#"{"code":-32602,"message":"m","data":{"uri":"a:b"}}"#,
        ),
    ] {
        pair.calls(1);
        assert_eq!(pair.server(error(1, came)), for_client([error(1, goes)]));
    }
    pair.client(request(2, "resources/read", r#"{"uri":"a:b"}"#));
    let missing = r#"{"code":-32602,"message":"m","data":{"uri":"a:b"}}"#;
    assert_eq!(
        pair.server(error(2, missing)),
        for_client([error(2, r#"{"code":-32002,"message":"m","data":{"uri":"a:b"}}"#)])
    );
    assert!(pair.is_quiet() && !pair.core.refuses_revision());
}

#[test]
fn what_has_no_counterpart_ends_here() {
    let mut pair = Pair::new(&all(), false);
    // Of the client.
    for note in ["notifications/progress", "notifications/roots/list_changed"] {
        assert_eq!(pair.client(notification(note, "{}")), nothing());
    }
    assert_eq!(pair.client(result(77, "{}")), nothing());
    assert_eq!(pair.client(r#"{"jsonrpc":"2.0","error":{"code":1,"message":"m"}}"#), nothing());
    let other = notification("notifications/x", r#"{"a": 1.0}"#);
    assert_eq!(pair.client(&other), for_server([other]));
    // Of the server.
    assert_eq!(pair.server(cancelled(1)), nothing());
    assert_eq!(pair.server(result(77, "{}")), nothing());
    assert_eq!(pair.server(r#"{"jsonrpc":"2.0","error":{"code":1,"message":"m"}}"#), nothing());
    let other = notification("notifications/x", r#"{"a": 1.0}"#);
    assert_eq!(pair.server(&other), for_client([other]));
}

#[test]
fn a_request_with_an_id_that_is_open_is_refused() {
    let mut pair = Pair::new(&json!({}), false);
    pair.calls(1);
    let refused = error(1, r#"{"code":-32600,"message":"another request with this id is not answered yet"}"#);
    assert_eq!(pair.client(request("1.0", "tools/call", "{}")), for_client([refused]));
    // A text is another id than a number.
    pair.calls("\"1\"");
    assert_eq!(pair.server(result("\"1\"", "{}")), for_client([result("\"1\"", "{}")]));
    assert_eq!(pair.server(result("1.0", "{}")), for_client([result("1.0", "{}")]));
    assert!(pair.is_quiet());
}

#[test]
fn parameters_that_cannot_be_stamped_are_refused() {
    let mut pair = Pair::new(&json!({}), false);
    let text = "params must be an object, and _meta in it as well, with each name once";
    for params in ["[1]", r#"{"_meta":7}"#, r#"{"_meta":{},"\u005fmeta":{}}"#, r#"{"_meta":{"a":1,"a":2}}"#] {
        let refused = error(1, &format!(r#"{{"code":-32602,"message":"{text}"}}"#));
        assert_eq!(pair.client(request(1, "tools/call", params)), for_client([refused]));
    }
    assert!(pair.is_quiet());
}

// ---- over HTTP ------------------------------------------------------------------------------------

impl Pair {
    /// The headers of what waits for the server.
    fn headers(&mut self) -> Vec<Vec<(String, String)>> {
        let mut all = Vec::new();
        while let Some(incoming) = self.core.poll_server() {
            let headers = incoming.parts().extensions.get::<Headers>().unwrap().0.clone();
            let text = |(name, value): (&http::HeaderName, &HeaderValue)| {
                (name.to_string(), value.to_str().unwrap().to_owned())
            };
            all.push(headers.iter().map(text).collect());
        }
        all
    }

    fn heads(&mut self, json: &str) -> Vec<(String, String)> {
        self.core.client(Incoming::new(parse(json), no_head()), self.now);
        self.headers().remove(0)
    }
}

const TOOLS: &str = r#"{"tools":[
    {"name":"t","inputSchema":{"properties":{"a":{"type":"integer","x-mcp-header":"A"}}}},
    {"name":"bad","inputSchema":{"properties":{"a":{"type":"string","x-mcp-header":"a b"}}}}
]}"#;

#[test]
fn what_a_request_is_about_stands_in_headers_as_well() {
    let mut pair = Pair::new(&json!({}), true);
    let named = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    for (id, method, params, name) in [
        (1, "tools/call", r#"{"name":"gr\u00fc\u00dfe"}"#, Some("=?base64?Z3LDvMOfZQ==?=")),
        (2, "prompts/get", r#"{"name":"p"}"#, Some("p")),
        (3, "resources/read", r#"{"uri":"a:b","name":"no"}"#, Some("a:b")),
        (4, "tools/list", r#"{"name":"no"}"#, None),
        (5, "tools/call", r#"{"name":7}"#, None),
    ] {
        let mut expected = vec![named("mcp-method", method)];
        expected.extend(name.map(|name| named("mcp-name", name)));
        assert_eq!(pair.heads(&request(id, method, params)), expected);
    }
    // A tool whose header cannot be sent is not listed.
    let (_, listed) = pair.server(result(4, TOOLS));
    assert!(listed[0].contains(r#""name":"t""#) && !listed[0].contains("bad"), "{listed:?}");
    assert_eq!(
        pair.heads(&request(6, "tools/call", r#"{"name":"t","arguments":{"a": 1.50}}"#)),
        [named("mcp-method", "tools/call"), named("mcp-name", "t"), named("mcp-param-a", "1.5")]
    );
}

#[test]
fn over_a_pipe_no_tool_is_left_out() {
    let mut pair = Pair::new(&json!({}), false);
    pair.client(request(1, "tools/list", "{}"));
    let tools = TOOLS.replace('\n', "");
    let (_, listed) = pair.server(result(1, &tools));
    assert!(listed[0].contains("bad"));
}

#[test]
fn a_call_whose_headers_are_wrong_is_repeated_once_the_tools_are_read() {
    let mut pair = Pair::new(&json!({}), true);
    let mismatch = r#"{"code":-32020,"message":"m"}"#;
    pair.calls(1);
    let list =
        |id: &str, params: &str| request(id, "tools/list", &format!(r#"{{{params}"_meta":{{{SAID}}}}}"#));
    assert_eq!(pair.server(error(1, mismatch)), for_server([list("\"own-1\"", "")]));
    let page = TOOLS.replace("]}", r#"],"nextCursor":"2"}"#);
    assert_eq!(pair.server(result("\"own-1\"", &page)), for_server([list("\"own-2\"", r#""cursor":"2","#)]));
    let page = pair.unnamed(&result("\"own-2\"", r#"{"tools":[]}"#), Side::Server);
    pair.core.server(parse(page), pair.now);
    let again = pair.core.to_server.front().unwrap();
    assert_eq!(again.parts().extensions.get::<Headers>().unwrap().0["mcp-param-a"], "1");
    assert_eq!(pair.said(), for_server([sent("\"own-3\"")]));
    // Not for ever.
    assert_eq!(
        pair.server(error("\"own-3\"", mismatch)),
        for_client([error(1, r#"{"code":-32603,"message":"m"}"#)])
    );
    assert!(pair.is_quiet());
    // What is no call is not repeated.
    pair.client(request(2, "prompts/get", r#"{"name":"p"}"#));
    assert_eq!(pair.server(error(2, mismatch)), for_client([error(2, r#"{"code":-32603,"message":"m"}"#)]));
    // A call may be cancelled meanwhile.
    pair.calls(3);
    pair.server(error(3, mismatch));
    assert_eq!(pair.client(cancelled(3)), for_server([cancelled("\"own-4\"")]));
    assert_eq!(pair.server(result("\"own-4\"", TOOLS)), nothing());
    assert!(pair.is_quiet());
}

#[test]
fn a_server_that_speaks_the_revision_no_more_is_noticed() {
    let mut pair = Pair::new(&json!({}), false);
    pair.calls(1);
    let refusal = r#"{"code":-32022,"message":"m","data":{"supported":["2027-01-01"]}}"#;
    let (_, told) = pair.server(error(1, refusal));
    assert_eq!(told, [error(1, &refusal.replace("-32022", "-32603"))]);
    assert!(pair.core.refuses_revision());
}
