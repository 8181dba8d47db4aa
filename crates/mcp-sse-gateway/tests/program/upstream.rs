//! Remote servers: the gateway as a client of another one, over both transports.

use std::net::TcpListener;

use crate::help::{INITIALIZE, PING, Program, count, echo, long_task};

fn upstream(url: &str, options: &[&str]) -> Program {
    let mut arguments = vec!["--upstream", url];
    arguments.extend(options);
    Program::start("serve", &arguments)
}

#[test]
fn sse_clients_reach_a_remote_server_whatever_it_speaks() {
    let remote = Program::gateway(&["--resume-window", "0s"]);
    for (path, kind) in [("/mcp", "auto"), ("/sse", "auto"), ("/mcp", "http"), ("/sse", "sse")] {
        let url = format!("http://{}{path}", remote.address);
        let gateway = upstream(&url, &["--transport", kind, "--resume-window", "0s"]);
        let (mut a, mut b) = (gateway.connect(), gateway.connect());
        a.initialize();
        b.initialize();
        for id in 1..10 {
            a.accepted(&echo(id, "for a"));
            b.accepted(&echo(id, "for b"));
            assert!(a.answer(id).contains("for a"));
            assert!(b.answer(id).contains("for b"));
        }
        a.accepted(&long_task(20, 3, 5));
        for step in 1..=3 {
            let progress = a.data();
            assert!(
                progress.contains("notifications/progress")
                    && progress.contains(&format!(r#""progress":{step}"#)),
                "{progress}"
            );
        }
        assert!(a.data().contains("done 3 steps"));
        // The session there ends with the session here.
        let before = count(&remote.log.so_far(), "server ended");
        drop(a);
        drop(b);
        remote.log.until("two ends", |log| count(log, "server ended") == before + 2);
        gateway.signal("-TERM");
        let (success, log) = gateway.end();
        assert!(success, "{log}");
        if kind == "auto" {
            assert_eq!(count(&log, "upstream server found"), 1, "asked once: {log}");
        }
    }
}

#[test]
fn headers_are_set_and_passed_on_by_name() {
    let remote = Program::demo(&[]);
    let url = format!("http://{}/sse", remote.address);
    let options = ["--header", "User-Agent: gateway ${MARK}", "--header-from-client", "accept-language"];
    let mut arguments = vec!["--upstream", &url];
    arguments.extend(options);
    let gateway = Program::prepare("serve", "0", &arguments).env("MARK", "seven").piped();
    let mut client = gateway.connect_with("/sse", "accept-language: eo\r\norigin: http://localhost\r\n");
    client.initialize();
    client.accepted(r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"request_headers","arguments":{}}}"#);
    let answer = client.answer(1);
    assert!(answer.contains(r#"\"accept-language\":\"eo\""#), "{answer}");
    assert!(answer.contains(r#"\"user-agent\":\"gateway seven\""#), "{answer}");
    assert!(!answer.contains("origin"), "only what is named: {answer}");
}

#[test]
fn a_server_that_cannot_be_reached_is_named_in_the_answer() {
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for kind in ["auto", "http", "sse"] {
        let gateway =
            upstream(&format!("http://user:secret@{nobody}/mcp?key=secret"), &["--transport", kind]);
        let mut client = gateway.connect();
        client.accepted(INITIALIZE);
        let answer = client.answer(0);
        assert!(answer.contains(&format!("http://{nobody}/mcp")), "{kind}: {answer}");
        assert!(answer.contains("Connection refused"), "{kind}: {answer}");
        client.rest();
        let log = gateway.log.so_far();
        assert!(!answer.contains("secret") && !log.contains("secret"), "{kind}: {answer}\n{log}");
    }
}

#[test]
fn a_path_that_is_not_there_is_said() {
    let remote = Program::gateway(&[]);
    let url = format!("http://{}/nothing", remote.address);
    for kind in ["auto", "http", "sse"] {
        let gateway = upstream(&url, &["--transport", kind]);
        for _ in 0..10 {
            let mut client = gateway.connect();
            client.accepted(INITIALIZE);
            let answer = client.answer(0);
            assert!(answer.contains("404"), "{kind}: {answer}");
        }
        assert!(!gateway.log.so_far().contains("upstream server found"), "{kind}");
    }
}

#[test]
fn a_server_that_dies_fails_what_is_pending() {
    for path in ["/sse", "/mcp"] {
        let remote = Program::gateway(&["--shutdown-timeout", "0s"]);
        let gateway = upstream(&format!("http://{}{path}", remote.address), &[]);
        let mut client = gateway.connect();
        client.initialize();
        client.accepted(&long_task(1, 60, 60_000));
        client.accepted(PING);
        client.answer(9);
        remote.signal("-KILL");
        let answer = client.answer(1);
        assert!(answer.contains(r#""error""#), "{answer}");
    }
}

#[test]
fn a_busy_server_is_not_taken_for_another_kind_for_ever() {
    let remote = Program::gateway(&["--max-sessions", "1", "--resume-window", "0s"]);
    let gateway = upstream(&format!("http://{}/sse", remote.address), &[]);
    let mut place = remote.connect();
    place.initialize();
    let mut client = gateway.connect();
    client.accepted(INITIALIZE);
    assert!(client.answer(0).contains(r#""error""#));
    drop(place);
    remote.log.until_says("session closed");
    gateway.connect().initialize();
}

#[test]
fn a_ping_may_come_before_the_client_is_initialized() {
    let remote = Program::gateway(&[]);
    let gateway = upstream(&format!("http://{}/mcp", remote.address), &[]);
    let mut client = gateway.connect();
    client.accepted(INITIALIZE);
    client.answer(0);
    client.accepted(PING);
    client.answer(9);
    client.accepted(&echo(1, "waits"));
    client.accepted(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#);
    assert!(client.answer(1).contains("waits"));
}
