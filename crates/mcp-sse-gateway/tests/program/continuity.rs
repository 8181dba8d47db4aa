//! Servers that end before their sessions: another one takes their place, and the session goes on.

use serde_json::{Value, json};

use crate::help::{
    Client, Folder, INITIALIZE, PING, PROGRAM, Program, count, echo, long_task, pids, signal_to,
};

/// The gateway in front of a demo server, whose input is written to a file: first comes what a script does on the first
/// start, then on the second, and so on.
fn flaky(folder: &Folder, options: &[&str], starts: &[&str]) -> Program {
    let mut script = format!(
        "n=$(cat {0} 2>/dev/null || echo 0); echo $((n + 1)) > {0}; case $n in ",
        folder.path("starts")
    );
    for (number, does) in starts.iter().enumerate() {
        script.push_str(&format!("{number}) {does};; "));
    }
    script.push_str(&format!("esac; tee -a {} | exec {PROGRAM} demo --stdio", folder.path("input")));
    let mut options = options.to_vec();
    options.push("--no-isolation");
    Program::script(&options, &script)
}

fn input(folder: &Folder) -> Vec<Value> {
    let text = std::fs::read_to_string(folder.path("input")).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The process of the demo server that was started last.
fn kill(gateway: &Program, signal: &str) {
    signal_to(*pids(&gateway.log.so_far()).last().unwrap(), signal);
}

fn begun<'a>(gateway: &'a Program) -> Client<'a> {
    let mut client = gateway.connect();
    client.initialize();
    client.echo(1, "before");
    client
}

#[test]
fn a_server_that_is_killed_between_requests_is_back_for_the_next() {
    let gateway = Program::gateway(&["--admin", "127.0.0.1:0", "--metrics"]);
    let mut client = begun(&gateway);
    for id in 2..5 {
        kill(&gateway, "-KILL");
        gateway
            .log
            .until("it is back", |log| count(log, "the server has died and is back") == id as usize - 1);
        client.echo(id, "after");
    }
    let log = gateway.log.so_far();
    let line = log.lines().find(|line| line.contains("is back")).unwrap();
    for word in ["signal: 9 (SIGKILL)", "seconds=", "attempts=1", "errors=0", "dropped=0"] {
        assert!(line.contains(word), "{word}: {line}");
    }
    let admin = gateway.greeting.lines().find(|line| line.starts_with("Metrics ")).unwrap();
    let admin = admin.split("://").nth(1).unwrap().split('/').next().unwrap();
    let metrics = crate::page::get(admin, "/metrics", "").1;
    assert!(metrics.contains("mcp_sse_server_restarts_total{server=\"/\"} 3"), "{metrics}");
    let status: Value = serde_json::from_str(&crate::page::get(admin, "/status", "").1).unwrap();
    assert_eq!(status["servers"]["/"]["restarts"], 3);
    assert!(status["servers"]["/"]["last_error"]["text"].as_str().unwrap().contains("SIGKILL"));
}

#[test]
fn what_was_asked_gets_an_error_and_what_comes_then_waits_for_the_next_server() {
    let folder = Folder::new();
    let gateway = flaky(&folder, &[], &["true", "exit 1", "exit 3"]);
    let mut client = begun(&gateway);
    client.accepted(&long_task(2, 1000, 10));
    assert!(client.data().contains("notifications/progress"));
    kill(&gateway, "-KILL");
    loop {
        let heard = client.data();
        if heard.contains(r#""id":2"#) {
            assert!(heard.contains(r#""code":-32000"#) && heard.contains("the server ended"), "{heard}");
            break;
        }
    }
    // It dies twice more while this waits. The cancellation is for nobody any more.
    client.accepted(r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":2}}"#);
    client.accepted(&echo(3, "after"));
    assert!(client.answer(3).contains("after"));
    let log = gateway.log.until_says("the server has died and is back");
    assert!(log.contains("attempts=3 errors=1"), "{log}");
    let input = input(&folder);
    assert!(!input.iter().any(|line| line["method"] == "notifications/cancelled"), "{input:#?}");
    assert_eq!(input.iter().filter(|line| line["method"] == "initialize").count(), 2);
}

#[test]
fn a_client_that_has_not_begun_waits_through_a_crash_or_two() {
    for crash in ["exit 1", "read -r initialize; exit 1", "kill -9 $$"] {
        let folder = Folder::new();
        let gateway = flaky(&folder, &[], &[crash, crash]);
        let mut client = begun(&gateway);
        client.echo(2, "hello");
        // A server that never starts is said soon.
        let gateway = flaky(&Folder::new(), &[], &[crash, crash, crash]);
        let mut client = gateway.connect();
        client.accepted(INITIALIZE);
        assert!(client.answer(0).contains("the server ended"));
        client.rest();
    }
}

#[test]
fn a_server_that_dies_again_and_again_ends_its_session() {
    let folder = Folder::new();
    let gateway = flaky(&folder, &[], &["true", "exit 7", "exit 7", "exit 7", "exit 7", "exit 7", "exit 7"]);
    let mut client = begun(&gateway);
    kill(&gateway, "-KILL");
    client.rest();
    let log = gateway.log.until_says("the session ends: the server ended (exit status: 7)");
    assert_eq!(count(&log, "server started"), 6, "{log}");
}

#[test]
fn what_ends_by_itself_is_started_again_only_if_that_is_wanted() {
    let ends = r#"read -r a; printf '{"jsonrpc":"2.0","id":0,"result":{"protocolVersion":"2025-06-18","capabilities":{},"serverInfo":{"name":"mcp-sse demo","version":"0"}}}\n'
        read -r b; read -r c; printf '{"jsonrpc":"2.0","id":1,"result":{"content":[{"type":"text","text":"before"}]}}\n'; exit 0"#;
    for (restart, goes_on) in [("on-failure", false), ("always", true), ("never", false)] {
        let folder = Folder::new();
        let gateway = flaky(&folder, &["--restart", restart], &[ends]);
        let mut client = begun(&gateway);
        if goes_on {
            gateway.log.until_says("is back");
            client.echo(2, "after");
        } else {
            client.rest();
        }
    }
}

#[test]
fn a_new_server_knows_the_log_level_and_the_subscriptions_and_the_client_hears_of_lists() {
    let folder = Folder::new();
    let gateway = flaky(&folder, &[], &[]);
    let mut client = begun(&gateway);
    let request = |id: u32, method: &str, params: Value| {
        json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params }).to_string()
    };
    client.accepted(&request(2, "logging/setLevel", json!({ "level": "warning" })));
    client.answer(2);
    for (id, method, uri) in [
        (3, "resources/subscribe", "demo://stats"),
        (4, "resources/subscribe", "demo://x"),
        (5, "resources/unsubscribe", "demo://x"),
    ] {
        client.accepted(&request(id, method, json!({ "uri": uri })));
        client.answer(id);
    }
    let before = input(&folder).len();
    kill(&gateway, "-KILL");
    gateway.log.until_says("is back");
    client.echo(6, "after");
    let told: Vec<_> = input(&folder).drain(before..).collect();
    let methods: Vec<_> = told.iter().map(|line| line["method"].as_str().unwrap()).collect();
    let mut expected = vec!["initialize", "notifications/initialized"];
    if methods.contains(&"logging/setLevel") {
        expected.push("logging/setLevel");
    }
    expected.extend(["resources/subscribe", "tools/call"]);
    assert_eq!(methods, expected);
    assert_eq!(told[0]["params"], input(&folder)[0]["params"], "the client's own");
    assert!(told[0]["id"].as_str().unwrap().starts_with("mcp-sse-"), "{told:?}");
    assert_eq!(told[expected.len() - 2]["params"]["uri"], "demo://stats");
}

#[test]
fn a_server_that_is_stuck_counts_as_dead() {
    let gateway = Program::gateway(&["--ping-interval", "400ms", "--stop-timeout", "100ms"]);
    let mut client = begun(&gateway);
    kill(&gateway, "-STOP");
    client.accepted(&echo(2, "stuck"));
    assert!(client.answer(2).contains("did not answer a ping within 400ms"));
    client.echo(3, "after");
}

#[test]
fn an_idle_program_is_ended_until_it_is_needed() {
    let gateway = Program::gateway(&["--idle-stop", "300ms"]);
    let mut client = begun(&gateway);
    for id in 2..4 {
        let log = gateway.log.until("it is ended", |log| count(log, "server ended") == id as usize - 1);
        assert!(log.contains("the server is ended until it is needed"), "{log}");
        client.echo(id, "again");
    }
    // Not in the middle of a call, nor while it has a subscription.
    client.accepted(&long_task(4, 1, 700));
    assert!(client.answer(4).contains("done 1 steps"));
    client.accepted(
        r#"{"jsonrpc":"2.0","id":5,"method":"resources/subscribe","params":{"uri":"demo://stats"}}"#,
    );
    client.answer(5);
    let ended = count(&gateway.log.so_far(), "server ended");
    client.accepted(&long_task(6, 1, 700));
    client.answer(6);
    client.accepted(PING);
    client.answer(9);
    assert_eq!(count(&gateway.log.so_far(), "server ended"), ended);
    let why = crate::help::refused(&[
        "serve",
        "--idle-stop",
        "1m",
        "--restart",
        "never",
        "--",
        PROGRAM,
        "demo",
        "--stdio",
    ]);
    assert!(why.contains("idle"), "{why}");
}

#[test]
fn a_session_that_rests_is_still_one_and_can_be_ended() {
    let gateway = Program::gateway(&["--idle-stop", "300ms", "--admin", "127.0.0.1:0"]);
    let admin = crate::page::admin(&gateway);
    let (mut one, mut two) = (begun(&gateway), begun(&gateway));
    gateway.log.until("they rest", |log| count(log, "server ended") == 2);
    let listed = || -> Value { serde_json::from_str(&crate::page::get(&admin, "/sessions", "").1).unwrap() };
    let ids: Vec<String> = [&one, &two].map(Client::id).map(|id| id[..8].to_owned()).to_vec();
    let all = listed();
    assert_eq!(all["total"], 2, "{all}");
    let calls = |id: &str| {
        let all = listed();
        let all = all["sessions"].as_array().unwrap();
        all.iter().find(|session| session["id"] == id).unwrap()["calls"].clone()
    };
    let before = calls(&ids[1]);
    let end =
        |id: &str| crate::page::ask(&admin, &format!("DELETE /sessions/{id} HTTP/1.1\r\nhost: localhost")).0;
    assert_eq!(end(&ids[0]), "204");
    one.rest();
    crate::help::until("it is gone", || listed()["total"] == 1);
    // The other one goes on, and what it does is counted with what it did.
    two.echo(2, "awake");
    assert_eq!(calls(&ids[1]).as_u64(), before.as_u64().map(|calls| calls + 1));
    gateway.log.until("it rests", |log| count(log, "server ended") == 3);
    drop(two);
    gateway.signal("-TERM");
    assert!(gateway.ends(), "one that rests holds nothing up");
}

#[test]
fn a_session_outlives_its_remote_server_over_every_transport() {
    for path in ["/sse", "/mcp"] {
        let remote = Program::gateway(&["--shutdown-timeout", "0s"]);
        let port = remote.address.split(':').nth(1).unwrap().to_owned();
        let gateway = Program::start("serve", &["--upstream", &format!("http://{}{path}", remote.address)]);
        let mut client = begun(&gateway);
        let mcp = "POST /mcp HTTP/1.1\r\naccept: application/json, text/event-stream\r\ncontent-type: application/json";
        let answer = gateway.request(mcp, INITIALIZE);
        let session = answer.lines().find(|line| line.starts_with("mcp-session-id:")).unwrap().to_owned();
        let mcp = format!("{mcp}\r\n{session}");
        gateway.request(&mcp, r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#);
        remote.signal("-KILL");
        drop(remote);
        let remote = Program::prepare("serve", &port, &["--", PROGRAM, "demo", "--stdio"]).piped();
        // No client notices more than that it takes a moment.
        client.accepted(&echo(2, "after"));
        assert!(client.answer(2).contains("after"), "{path}");
        assert!(gateway.request(&mcp, &echo(3, "too")).contains("too"), "{path}");
        gateway.log.until("both are back", |log| count(log, "is back") == 2);
        drop(remote);
    }
}

#[test]
fn many_crashes_leave_nothing_behind() {
    let gateway = Program::gateway(&["--start-rate", "1000"]);
    let mut client = begun(&gateway);
    let files = |gateway: &Program| std::fs::read_dir(format!("/proc/{}/fd", gateway.pid())).unwrap().count();
    let before = files(&gateway);
    // The log has room for so many lines of a kind at once.
    for crash in 1..=15 {
        kill(&gateway, "-KILL");
        gateway.log.until("it is back", |log| count(log, "server started") > crash);
        client.accepted(&echo(crash as u32 + 1, "again"));
        let answer = client.answer(crash as u32 + 1);
        assert!(answer.contains("again"), "{answer}");
    }
    crate::help::until("no more files than before", || files(&gateway) <= before + 2);
}
