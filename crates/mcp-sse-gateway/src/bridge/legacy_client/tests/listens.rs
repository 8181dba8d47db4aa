//! What a client is told of changes, to the byte.

use std::time::Duration;

use super::*;

fn listen(id: &str, filter: &str) -> String {
    request(id, "subscriptions/listen", &format!(r#"{{"notifications":{filter},"_meta":{{{SAID}}}}}"#))
}

fn acknowledged(id: &str, filter: &str) -> String {
    notification(
        "notifications/subscriptions/acknowledged",
        &format!(r#"{{"notifications":{filter},"_meta":{{"io.modelcontextprotocol/subscriptionId":{id}}}}}"#),
    )
}

fn changed(id: &str, method: &str) -> String {
    notification(method, &format!(r#"{{"_meta":{{"io.modelcontextprotocol/subscriptionId":{id}}}}}"#))
}

fn subscribe(id: u32, uri: &str) -> String {
    request(id, "resources/subscribe", &format!(r#"{{"uri":"{uri}"}}"#))
}

fn unsubscribe(id: u32, uri: &str) -> String {
    request(id, "resources/unsubscribe", &format!(r#"{{"uri":"{uri}"}}"#))
}

fn ready() -> String {
    r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#.to_owned()
}

const TOOLS_CHANGED: &str = "notifications/tools/list_changed";
const LISTS: &str = r#"{"toolsListChanged":true}"#;

fn told(method: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","method":"{method}"}}"#)
}

fn granted(id: u32) -> String {
    result(id, "{}")
}

/// Of a client that is ready, at a server that tells of tools and resources; `own-1` is heard.
fn heard() -> Pair {
    let mut pair = Pair::new(&all(), false);
    assert_eq!(pair.client(ready()), for_server([listen("\"own-1\"", LISTS)]));
    assert_eq!(pair.server(acknowledged("\"own-1\"", LISTS)), nothing());
    pair
}

#[test]
fn a_client_that_is_ready_hears_of_lists_that_change() {
    let mut pair = heard();
    assert_eq!(pair.client(ready()), nothing(), "once");
    assert_eq!(pair.server(changed("\"own-1\"", TOOLS_CHANGED)), for_client([told(TOOLS_CHANGED)]));
    for other in ["\"own-2\"", "\"own-11\"", "7", "null", "\"\""] {
        assert_eq!(pair.server(changed(other, TOOLS_CHANGED)), nothing(), "{other}");
    }
    // A server need not say for whom; and what else stands there stays.
    assert_eq!(pair.server(told(TOOLS_CHANGED)), for_client([told(TOOLS_CHANGED)]));
    let more = r#"{"uri":"a:b","_meta":{"x": 1.0,"io.modelcontextprotocol/subscriptionId":"own-1"}}"#;
    assert_eq!(
        pair.server(notification("notifications/resources/updated", more)),
        for_client([notification("notifications/resources/updated", r#"{"uri":"a:b","_meta":{"x":1.0}}"#)])
    );
    // One that has nothing to tell of is not listened to.
    let mut pair = Pair::new(&json!({ "tools": {}, "logging": {} }), false);
    assert_eq!(pair.client(ready()), nothing());
    // One that asks is ready.
    let mut pair = Pair::new(&all(), false);
    let (to_server, _) = pair.client(request(1, "tools/list", "{}"));
    assert_eq!(to_server[0], listen("\"own-1\"", LISTS));
}

#[test]
fn a_subscription_is_granted_when_its_server_says_so() {
    let mut pair = heard();
    let both = r#"{"resourceSubscriptions":["a:b"],"toolsListChanged":true}"#;
    assert_eq!(pair.client(subscribe(5, "a:b")), for_server([listen("\"own-2\"", both)]));
    // Until then the one before is heard, and the new one is not.
    assert_eq!(pair.server(changed("\"own-1\"", TOOLS_CHANGED)), for_client([told(TOOLS_CHANGED)]));
    assert_eq!(pair.server(changed("\"own-2\"", TOOLS_CHANGED)), nothing());
    assert_eq!(
        pair.server(acknowledged("\"own-2\"", both)),
        (vec![cancelled("\"own-1\"")], vec![granted(5)])
    );
    assert_eq!(pair.server(changed("\"own-1\"", TOOLS_CHANGED)), nothing());
    assert_eq!(pair.server(changed("\"own-2\"", TOOLS_CHANGED)), for_client([told(TOOLS_CHANGED)]));
    // An answer to the one that was ended is late, and ends nothing.
    assert_eq!(pair.server(result("\"own-1\"", "{}")), nothing());
    // The rest of the filter is not what was wanted: that one is not asked for again.
    let three = r#"{"resourceSubscriptions":["a:b","a:c"],"toolsListChanged":true}"#;
    assert_eq!(pair.client(subscribe(6, "a:c")), for_server([listen("\"own-3\"", three)]));
    let refused =
        error(6, r#"{"code":-32602,"message":"the server does not tell of changes of this resource"}"#);
    assert_eq!(
        pair.server(acknowledged("\"own-3\"", both)),
        (vec![cancelled("\"own-2\""), listen("\"own-4\"", both)], vec![refused])
    );
    assert_eq!(pair.server(acknowledged("\"own-4\"", both)), for_server([cancelled("\"own-3\"")]));
    // And one that is given up is not asked for any more.
    assert_eq!(pair.client(unsubscribe(7, "a:b")), for_server([listen("\"own-5\"", LISTS)]));
    assert_eq!(
        pair.server(acknowledged("\"own-5\"", LISTS)),
        (vec![cancelled("\"own-4\"")], vec![granted(7)])
    );
    assert_eq!(pair.client(unsubscribe(8, "a:b")), for_client([granted(8)]));
    assert!(pair.is_quiet());
}

#[test]
fn wishes_that_come_while_one_is_opened_are_opened_together() {
    let mut pair = Pair::new(&json!({ "resources": { "subscribe": true } }), false);
    let filter = |uris: &str| format!(r#"{{"resourceSubscriptions":[{uris}]}}"#);
    let first = filter("\"a:a\"");
    assert_eq!(pair.client(subscribe(1, "a:a")), for_server([listen("\"own-1\"", &first)]));
    assert_eq!(pair.client(subscribe(2, "a:b")), nothing());
    assert_eq!(pair.client(subscribe(3, "a:c")), nothing());
    // The client has given this one up.
    assert_eq!(pair.client(cancelled(2)), nothing());
    let second = filter(r#""a:a","a:b","a:c""#);
    assert_eq!(
        pair.server(acknowledged("\"own-1\"", &first)),
        (vec![listen("\"own-2\"", &second)], vec![granted(1)])
    );
    assert_eq!(
        pair.server(acknowledged("\"own-2\"", &second)),
        (vec![cancelled("\"own-1\"")], vec![granted(3)])
    );
    // What is granted already is granted again.
    assert_eq!(pair.client(subscribe(4, "a:c")), for_client([granted(4)]));
    for (id, uri) in [(5, "a:b"), (6, "a:c")] {
        let (listens, _) = pair.client(unsubscribe(id, uri));
        let listen = parse(&*listens[0]).id().unwrap().to_string();
        let (_, to_client) = pair.server(acknowledged(&listen, &first));
        assert_eq!(to_client, [granted(id)]);
    }
    // Nothing is wanted, and nothing is open.
    let (to_server, to_client) = pair.client(unsubscribe(7, "a:a"));
    assert_eq!((to_server, to_client), (vec![cancelled("\"own-4\"")], vec![granted(7)]));
    assert!(pair.core.at_server.is_empty(), "{}", pair.core.at_server.len());
}

#[test]
fn one_who_hears_nothing_need_not_wait_to_be_rid_of_it() {
    let mut pair = heard();
    let both = r#"{"resourceSubscriptions":["a:b"],"toolsListChanged":true}"#;
    pair.client(subscribe(5, "a:b"));
    pair.server(acknowledged("\"own-2\"", both));
    pair.server(result("\"own-2\"", "{}"));
    assert_eq!(pair.client(unsubscribe(6, "a:b")), for_client([granted(6)]));
    pair.now = pair.core.deadline().unwrap();
    pair.core.due(pair.now);
    assert_eq!(pair.said(), for_server([listen("\"own-3\"", LISTS)]));
}

#[test]
fn what_was_missed_is_told_when_it_is_heard_again() {
    let mut pair = heard();
    let both = r#"{"resourceSubscriptions":["a:b"],"toolsListChanged":true}"#;
    pair.client(subscribe(5, "a:b"));
    pair.server(acknowledged("\"own-2\"", both));
    assert_eq!(pair.server(result("\"own-2\"", r#"{"resultType":"complete"}"#)), nothing());
    let deadline = pair.core.deadline().unwrap();
    assert_eq!(deadline, pair.now + Duration::from_secs(1));
    pair.core.due(deadline - Duration::from_millis(1));
    assert_eq!(pair.said(), nothing());
    pair.now = deadline;
    pair.core.due(deadline);
    assert_eq!(pair.said(), for_server([listen("\"own-3\"", both)]));
    assert_eq!(
        pair.server(acknowledged("\"own-3\"", both)),
        for_client([
            told(TOOLS_CHANGED),
            notification("notifications/resources/updated", r#"{"uri":"a:b"}"#),
        ])
    );
    assert_eq!(pair.core.deadline(), None);
}

#[test]
fn one_that_is_not_acknowledged_in_time_is_given_up_and_tried_again() {
    let mut pair = Pair::new(&json!({ "resources": { "subscribe": true } }), false);
    pair.client(subscribe(5, "a:b"));
    let deadline = pair.now + Duration::from_secs(30);
    assert_eq!(pair.core.deadline(), Some(deadline));
    pair.now = deadline;
    pair.core.due(deadline);
    let why = r#"{"code":-32603,"message":"the server does not say whether it will tell of changes"}"#;
    assert_eq!(pair.said(), (vec![cancelled("\"own-1\"")], vec![error(5, why)]));
    let filter = r#"{"resourceSubscriptions":["a:b"]}"#;
    assert_eq!(pair.server(acknowledged("\"own-1\"", filter)), nothing(), "too late");
    pair.now += Duration::from_secs(1);
    assert_eq!(pair.client(subscribe(6, "a:b")), for_server([listen("\"own-2\"", filter)]));
}

#[test]
fn a_subscription_fails_with_the_error_of_its_server() {
    let mut pair = Pair::new(&json!({ "resources": { "subscribe": true } }), false);
    pair.client(subscribe(1, "a:a"));
    let full = r#"{"code": -32603,"message":"Subscription limit reached"}"#;
    assert_eq!(pair.server(error("\"own-1\"", full)), for_client([error(1, full)]));
    assert_eq!(pair.core.deadline(), None, "nothing is wanted any more");
    // A server that ends it before it has begun has not said why.
    pair.now += Duration::from_secs(60);
    pair.client(subscribe(2, "a:a"));
    let ended = r#"{"code":-32603,"message":"the server does not tell of changes"}"#;
    assert_eq!(pair.server(result("\"own-2\"", "{}")), for_client([error(2, ended)]));
    assert!(pair.is_quiet());
}

#[test]
fn a_subscription_needs_a_uri() {
    let mut pair = Pair::new(&all(), false);
    for params in ["{}", r#"{"uri":7}"#, r#"{"uri":"a","uri":"b"}"#] {
        for method in ["resources/subscribe", "resources/unsubscribe"] {
            let refused = error(1, r#"{"code":-32602,"message":"uri must be the URI of a resource"}"#);
            assert_eq!(pair.client(request(1, method, params)), for_client([refused]));
        }
    }
}
