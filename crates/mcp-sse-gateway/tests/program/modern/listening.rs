//! Clients that listen to changes.

use super::*;

fn listen(gateway: &Program) -> BufReader<TcpStream> {
    let wanted = json!({ "notifications": { "toolsListChanged": true, "promptsListChanged": true, "resourceSubscriptions": ["a:/b"] } });
    let mut stream = open(gateway, "subscriptions/listen", &wanted, &json!({}));
    let acknowledged = event(&mut stream);
    assert_eq!(acknowledged["method"], "notifications/subscriptions/acknowledged");
    assert_eq!(
        acknowledged["params"],
        json!({
            "notifications": { "toolsListChanged": true, "resourceSubscriptions": ["a:/b"] },
            "_meta": { "io.modelcontextprotocol/subscriptionId": "L" },
        })
    );
    stream
}

#[test]
fn they_hear_what_the_server_tells_of() {
    let legacy = Legacy::start(&[]);
    let mut stream = listen(&legacy.gateway);
    let updated = event(&mut stream);
    assert_eq!(
        updated["params"],
        json!({ "uri": "a:/b", "_meta": { "io.modelcontextprotocol/subscriptionId": "L" } })
    );
    assert_eq!(call(&legacy.gateway, "changes").json()["id"], 1);
    assert_eq!(event(&mut stream)["method"], "notifications/tools/list_changed");
    drop(stream);
    legacy.until_told("resources/unsubscribe");
}

#[test]
fn they_are_told_when_the_session_ends() {
    let legacy = Legacy::start(&[]);
    let stream = listen(&legacy.gateway);
    legacy.gateway.signal("-TERM");
    let rest = rest(stream);
    let last = rest.lines().filter_map(|line| line.strip_prefix("data: ")).next_back().unwrap();
    let last: Value = serde_json::from_str(last).unwrap();
    assert_eq!((&last["id"], &last["result"]["resultType"]), (&json!("L"), &json!("complete")), "{rest}");
}

#[test]
fn those_at_a_server_of_their_own_era_hear_it_itself() {
    let gateway = Program::gateway(&[]);
    let wanted = json!({ "notifications": { "resourceSubscriptions": ["x:/y"] } });
    let mut stream = open(&gateway, "subscriptions/listen", &wanted, &json!({}));
    let acknowledged = event(&mut stream);
    assert_eq!(
        acknowledged["params"]["_meta"]["io.modelcontextprotocol/subscriptionId"], "L",
        "{acknowledged}"
    );
    assert_eq!(call(&gateway, "nothing").json()["id"], 1);
}
