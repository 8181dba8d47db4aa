//! What a hostile client or server can do to a translator: nothing that others notice.

use std::time::Duration;

use super::{super::ROUNDS, *};

fn needs(id: impl std::fmt::Display, inner: &str) -> String {
    result(id, &format!(r#"{{"resultType":"input_required",{inner}}}"#))
}

fn acknowledged(id: &str, filter: &str) -> String {
    notification(
        "notifications/subscriptions/acknowledged",
        &format!(r#"{{"notifications":{filter},"_meta":{{"io.modelcontextprotocol/subscriptionId":{id}}}}}"#),
    )
}

fn subscribe(id: u32, uri: &str) -> String {
    request(id, "resources/subscribe", &format!(r#"{{"uri":"{uri}"}}"#))
}

/// The client gets one answer to the request with this id.
fn is_answered(pair: &Pair, to_client: &[String], id: u32) {
    let answers = to_client.iter().filter(|json| {
        let message = parse(json.as_str());
        matches!(message.kind(), MessageKind::Response { id: Some(of), .. } if *of == RequestId::from(i64::from(id)))
    });
    assert_eq!(answers.count(), 1, "{to_client:?}");
    assert!(pair.is_quiet());
}

// ---- the server -----------------------------------------------------------------------------------

#[test]
fn a_server_that_asks_for_ever_is_not_answered_for_ever() {
    for over_http in [false, true] {
        let mut pair = Pair::new(&json!({}), over_http);
        for id in 0..10_000 {
            pair.core.server(parse(request(id, "ping", "{}")), pair.now);
        }
        let (for_server, for_client) = pair.core.waiting();
        assert!(for_server <= 64, "{for_server} answers wait");
        assert_eq!(for_client, 0);
        // No response may be posted.
        assert!(!over_http || for_server == 0);
    }
}

#[test]
fn a_server_that_needs_what_cannot_be_asked_ends_its_call() {
    for ask in [
        r#"{"method":"sampling/createMessage","params":[1]}"#,
        r#"{"method":"sampling/createMessage","params":7}"#,
        r#"{"method":"sampling/createMessage","params":{"a":1,"a":2}}"#,
        r#"{"method":7}"#,
        "{}",
        "[]",
        "null",
    ] {
        let mut pair = Pair::new(&json!({}), false);
        pair.calls(1);
        let (_, to_client) = pair.server(needs(1, &format!(r#""inputRequests":{{"a":{ask}}}"#)));
        is_answered(&pair, &to_client, 1);
        pair.calls(2);
        let good = r#""b":{"method":"roots/list"}"#;
        let (_, to_client) = pair.server(needs(2, &format!(r#""inputRequests":{{{good},"a":{ask}}}"#)));
        is_answered(&pair, &to_client, 2);
        assert_eq!(to_client.len(), 1, "and nothing is asked");
    }
    let mut pair = Pair::new(&json!({}), false);
    for requests in ["[]", "null", "7", r#"{"a":{"method":"roots/list"},"a":{"method":"roots/list"}}"#] {
        pair.calls(1);
        let (_, to_client) = pair.server(needs(1, &format!(r#""inputRequests":{requests}"#)));
        is_answered(&pair, &to_client, 1);
    }
}

#[test]
fn a_server_that_needs_something_where_it_may_not_asks_nobody() {
    let mut pair = Pair::new(&json!({}), false);
    for inner in [r#""inputRequests":{"a":{"method":"roots/list"}}"#, r#""requestState":"s""#] {
        for method in ["tools/list", "completion/complete", "x/y"] {
            pair.client(request(1, method, "{}"));
            let (to_server, to_client) = pair.server(needs(1, inner));
            assert_eq!((to_server.len(), to_client.len()), (0, 1), "{to_client:?}");
            is_answered(&pair, &to_client, 1);
        }
    }
}

#[test]
fn parameters_that_are_null_are_none() {
    let mut pair = Pair::new(&json!({}), false);
    pair.calls(1);
    let (_, asked) = pair.server(needs(1, r#""inputRequests":{"a":{"method":"roots/list","params":null}}"#));
    assert_eq!(asked, [r#"{"jsonrpc":"2.0","id":"own-1","method":"roots/list"}"#]);
}

#[test]
fn a_server_that_needs_too_much_at_once_ends_its_call() {
    let mut pair = Pair::new(&json!({}), false);
    let requests = |count: usize| {
        let all: Vec<String> =
            (0..count).map(|key| format!(r#""{key}":{{"method":"roots/list"}}"#)).collect();
        needs(1, &format!(r#""inputRequests":{{{}}}"#, all.join(",")))
    };
    pair.calls(1);
    assert_eq!(pair.server(requests(64)).1.len(), 64);
    assert_eq!(pair.client(cancelled(1)).1.len(), 64);
    pair.calls(1);
    let (_, to_client) = pair.server(requests(65));
    is_answered(&pair, &to_client, 1);
    assert_eq!(to_client.len(), 1);
}

#[test]
fn a_server_that_needs_something_for_ever_does_not_get_it() {
    for (inner, answers) in
        [(r#""requestState":"s""#, false), (r#""inputRequests":{"a":{"method":"roots/list"}}"#, true)]
    {
        let mut pair = Pair::new(&json!({}), false);
        pair.calls(1);
        let mut id = "1".to_owned();
        let rounds = (0..10_000).position(|_| {
            let (mut to_server, mut to_client) = pair.server(needs(&id, inner));
            if answers && to_client.len() == 1 && parse(&*to_client[0]).method().is_some() {
                let asked = parse(&*to_client[0]).id().unwrap().to_string();
                (to_server, to_client) = pair.client(result(asked, r#"{"roots":[]}"#));
            }
            match to_server.first() {
                Some(next) => id = parse(&**next).id().unwrap().to_string(),
                None => is_answered(&pair, &to_client, 1),
            }
            to_server.is_empty()
        });
        assert!(rounds.is_some_and(|rounds| rounds <= ROUNDS as usize), "{rounds:?}");
    }
}

#[test]
fn a_server_that_cannot_be_listened_to_leaves_no_subscription_without_an_answer() {
    let cannot = r#"{"code":-32601,"message":"Method not found"}"#;
    let mut pair = Pair::new(&all(), false);
    // `own-1` is for the lists; this one waits until it is acknowledged.
    pair.client(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#);
    pair.client(subscribe(5, "a:b"));
    let (_, mut to_client) = pair.server(error("\"own-1\"", cannot));
    for _ in 0..10 {
        pair.now += Duration::from_secs(100);
        pair.core.due(pair.now);
        let (to_server, more) = pair.said();
        to_client.extend(more);
        for listen in to_server {
            to_client.extend(pair.server(error(parse(listen).id().unwrap(), cannot)).1);
        }
    }
    is_answered(&pair, &to_client, 5);
    // The same when one that was heard ends so while another is opened.
    let mut pair = Pair::new(&all(), false);
    pair.client(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#);
    pair.server(acknowledged("\"own-1\"", "{}"));
    pair.client(subscribe(5, "a:b"));
    pair.client(subscribe(6, "a:c"));
    let mut to_client = pair.server(error("\"own-1\"", cannot)).1;
    let (to_server, more) = pair.server(acknowledged("\"own-2\"", r#"{"resourceSubscriptions":["a:b"]}"#));
    to_client.extend(more);
    for listen in to_server.iter().filter(|json| json.contains("subscriptions/listen")) {
        let id = parse(&**listen).id().unwrap().to_string();
        to_client.extend(pair.server(acknowledged(&id, r#"{"resourceSubscriptions":["a:b","a:c"]}"#)).1);
    }
    is_answered(&pair, &to_client, 5);
    is_answered(&pair, &to_client, 6);
}

#[test]
fn a_server_that_ends_what_it_has_acknowledged_is_asked_less_and_less_often() {
    let mut pair = Pair::new(&all(), false);
    pair.client(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#);
    let began = pair.now;
    let (mut listens, mut told) = (1, 0);
    let mut open = Some("\"own-1\"".to_owned());
    while pair.now < began + Duration::from_secs(3_600) {
        if let Some(id) = open.take() {
            told += pair.server(acknowledged(&id, r#"{"toolsListChanged":true}"#)).1.len();
            pair.server(result(&id, "{}"));
        }
        pair.now = pair.core.deadline().expect("it is asked again");
        pair.core.due(pair.now);
        for listen in pair.said().0 {
            listens += 1;
            open = Some(parse(listen).id().unwrap().to_string());
        }
    }
    // A minute apart, in the end.
    assert!(
        listens <= 80 && told <= 80,
        "in an hour it was asked {listens} times, and the client told {told} times"
    );
}

#[test]
fn a_server_that_never_acknowledges_is_not_waited_for() {
    let mut pair = Pair::new(&all(), false);
    let mut to_client = pair.client(subscribe(5, "a:b")).1;
    for _ in 0..100 {
        pair.now += Duration::from_secs(6);
        if pair.core.deadline().is_some_and(|deadline| deadline <= pair.now) {
            pair.core.due(pair.now);
        }
        to_client.extend(pair.said().1);
    }
    is_answered(&pair, &to_client, 5);
}

#[test]
fn an_acknowledgement_of_what_nobody_has_asked_for_is_not_told() {
    let mut pair = Pair::new(&all(), false);
    pair.client(subscribe(5, "a:b"));
    let uris: Vec<String> = (0..10_000).map(|uri| format!("a:{uri}")).collect();
    let more = json!({ "resourceSubscriptions": uris }).to_string();
    pair.server(acknowledged("\"own-1\"", r#"{"resourceSubscriptions":["a:b"]}"#));
    pair.server(result("\"own-1\"", "{}"));
    pair.now = pair.core.deadline().unwrap();
    pair.core.due(pair.now);
    pair.said();
    // The lists that it tells of, and the resource that the client has named.
    let (_, told) = pair.server(acknowledged("\"own-2\"", &more));
    assert!(told.len() <= 2, "the client is told of {} changes", told.len());
}

#[test]
fn progress_is_always_a_number() {
    let mut pair = Pair::new(&json!({}), false);
    pair.client(request(1, "tools/call", r#"{"_meta":{"progressToken":"p"}}"#));
    let progress =
        |inner: &str| notification("notifications/progress", &format!(r#"{{"progressToken":"p",{inner}}}"#));
    let mut last = f64::NEG_INFINITY;
    let mut hears = |told: Vec<String>| {
        for told in told {
            let value: Value = serde_json::from_str(&told).unwrap();
            let number = value["params"]["progress"].as_f64().expect("a number");
            assert!(number > last && number.is_finite() && !value["params"]["total"].is_null());
            last = number;
        }
    };
    hears(pair.server(progress(r#""progress":1.7e308,"total":1e308"#)).1);
    pair.server(needs(1, r#""requestState":"s""#));
    for inner in [
        r#""progress":1.7e308,"total":1.7e308"#,
        r#""progress":1e999,"total":1"#,
        r#""progress":null,"total":1"#,
    ] {
        hears(pair.server(progress(inner)).1);
    }
}

#[test]
fn a_tool_is_left_out_for_its_headers_only() {
    let mut schema = json!({ "type": "string", "description": "two\nlines" });
    for _ in 0..20 {
        schema = json!({ "type": "object", "properties": { "p": { "anyOf": [schema] } } });
    }
    let tools = json!({ "tools": [{ "name": "deep", "inputSchema": schema }] }).to_string();
    let mut pair = Pair::new(&json!({}), true);
    pair.client(request(1, "tools/list", "{}"));
    assert!(pair.server(result(1, &tools)).1[0].contains("deep"));
}

#[test]
fn headers_that_are_wrong_on_a_later_round_do_not_begin_the_call_again() {
    let mut pair = Pair::new(&json!({}), true);
    pair.calls(1);
    pair.server(needs(1, r#""inputRequests":{"a":{"method":"roots/list"}},"requestState":"s""#));
    let (round, _) = pair.client(result("\"own-1\"", r#"{"roots":[]}"#));
    pair.server(error("\"own-2\"", r#"{"code":-32020,"message":"m"}"#));
    let (again, _) = pair.server(result("\"own-3\"", r#"{"tools":[]}"#));
    assert_eq!(again, [round[0].replace("own-2", "own-4")]);
}

// ---- the client -----------------------------------------------------------------------------------

#[test]
fn ids_that_look_like_ours_are_the_clients() {
    let mut pair = Pair::new(&json!({}), false);
    pair.calls(1);
    let (_, asked) = pair.server(needs(1, r#""inputRequests":{"a":{"method":"roots/list"}}"#));
    let shown = pair.unnamed(&parse(&*asked[0]).id().unwrap().to_string(), Side::Client);
    // Whatever of it can be seen, the next numbers are used by the client.
    let (stem, number) = shown.trim_matches('"').rsplit_once('-').unwrap();
    let number: u32 = number.parse().unwrap();
    let mut ids = Vec::new();
    for next in number + 1..number + 4 {
        let id = format!("\"{stem}-{next}\"");
        pair.client(request(&id, "tools/call", "{}"));
        ids.push(id);
    }
    let (round, _) = pair.client(result(&shown, r#"{"roots":[]}"#));
    let round = pair.unnamed(&parse(&*round[0]).id().unwrap().to_string(), Side::Server);
    assert!(!ids.contains(&round), "two requests by one id");
    ids.push(round);
    let mut answers = 0;
    for id in ids {
        answers += pair.server(result(id, "{}")).1.len();
    }
    assert_eq!(answers, 4);
    assert!(pair.is_quiet());
}

#[test]
fn a_request_that_was_cancelled_leaves_nothing() {
    for method in ["ping", "tools/call", "resources/read", "x/y"] {
        let mut pair = Pair::new(&json!({}), false);
        for id in 0..1_000 {
            pair.client(request(id, method, "{}"));
            pair.client(cancelled(id));
        }
        assert!(pair.is_quiet() && pair.core.at_server.is_empty(), "{method}");
        pair.client(request(7, method, "{}"));
        assert_eq!(pair.client(cancelled(7)).1, Vec::<String>::new());
    }
}

#[test]
fn what_a_call_is_repeated_with_is_the_servers() {
    let mut pair = Pair::new(&json!({}), false);
    let params = r#"{"name":"t","requestState":"forged","inputResponses":{"x":1}}"#;
    pair.client(request(1, "tools/call", params));
    pair.server(needs(1, r#""inputRequests":{"a":{"method":"roots/list"}}"#));
    let (round, _) = pair.client(result("\"own-1\"", r#"{"roots":[]}"#));
    assert!(!round[0].contains("forged") && !round[0].contains(r#""x""#), "{round:?}");
    assert!(round[0].contains(r#""inputResponses":{"a":{"roots":[]}}"#), "{round:?}");
}

#[test]
fn a_token_is_the_same_however_it_is_written() {
    for (asked, told) in [("\"\u{fc}\"", r#""\u00fc""#), ("1.0", "1"), ("7", "7.0"), (r#""\/""#, "\"/\"")] {
        let mut pair = Pair::new(&json!({}), false);
        let params = format!(r#"{{"_meta":{{"progressToken":{asked}}}}}"#);
        pair.client(request(1, "tools/call", &params));
        let progress = format!(r#"{{"progressToken":{told},"progress":1}}"#);
        let (_, to_client) = pair.server(notification("notifications/progress", &progress));
        assert_eq!(to_client.len(), 1, "{asked}");
    }
    // But a text is no number.
    let mut pair = Pair::new(&json!({}), false);
    pair.client(request(1, "tools/call", r#"{"_meta":{"progressToken":"1"}}"#));
    let progress = |token: &str| {
        notification("notifications/progress", &format!(r#"{{"progressToken":{token},"progress":1}}"#))
    };
    assert_eq!(pair.server(progress("1")).1.len(), 0);
    assert_eq!(pair.server(progress("\"1\"")).1.len(), 1);
}

#[test]
fn a_client_that_has_a_name_twice_still_gets_an_answer() {
    let mut pair = Pair::new(&json!({}), true);
    let call =
        r#"{"jsonrpc":"2.0","id":1,"x":1,"x":2,"method":"tools/call","params":{"name":"t","arguments":{}}}"#;
    let (to_server, mut to_client) = pair.client(call);
    if !to_server.is_empty() {
        let (list, _) = pair.server(error(1, r#"{"code":-32020,"message":"m"}"#));
        let list = parse(&*list[0]).id().unwrap().to_string();
        let (again, more) = pair.server(result(list, r#"{"tools":[]}"#));
        to_client.extend(more);
        for again in again {
            to_client.extend(pair.server(result(parse(again).id().unwrap(), "{}")).1);
        }
    }
    is_answered(&pair, &to_client, 1);
    // And in what a later round repeats.
    let mut pair = Pair::new(&json!({}), false);
    let (to_server, mut to_client) = pair.client(request(1, "tools/call", r#"{"a":1,"a":2}"#));
    if !to_server.is_empty() {
        to_client.extend(pair.server(needs(1, r#""requestState":"s""#)).1);
    }
    is_answered(&pair, &to_client, 1);
}

#[test]
fn names_that_are_too_long_for_a_header_are_refused() {
    let mut pair = Pair::new(&json!({}), true);
    let long = "x".repeat(100_000);
    for (method, name) in [("tools/call", "name"), ("prompts/get", "name"), ("resources/read", "uri")] {
        let (to_server, to_client) = pair.client(request(1, method, &format!(r#"{{"{name}":"{long}"}}"#)));
        assert!(to_server.is_empty(), "{} bytes of a header", to_server[0].len());
        is_answered(&pair, &to_client, 1);
    }
}

#[test]
fn a_client_that_subscribes_to_the_same_again_is_granted_it() {
    let mut pair = Pair::new(&json!({ "resources": { "subscribe": true } }), false);
    pair.client(subscribe(1, "a:b"));
    pair.server(acknowledged("\"own-1\"", r#"{"resourceSubscriptions":["a:b"]}"#));
    let mut to_client = Vec::new();
    let (to_server, more) = pair.client(subscribe(2, "a:b"));
    to_client.extend(more);
    for listen in to_server {
        // What a second request comes to does not take what was granted.
        let full = r#"{"code":-32603,"message":"Subscription limit reached"}"#;
        to_client.extend(pair.server(error(parse(listen).id().unwrap(), full)).1);
    }
    is_answered(&pair, &to_client, 2);
    assert!(pair.core.listening.filter().is_some(), "the first one is still wanted");
}
