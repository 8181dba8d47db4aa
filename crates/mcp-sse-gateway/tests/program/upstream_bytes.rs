//! What goes to a remote server and what comes from it: bytes as they are, in bounds, and to nobody else.

use crate::{
    fake::{Fake, INITIALIZED, answer, begin_events, last, sse, streamable_http, write},
    help::{INITIALIZE, Program, count},
};

fn upstream(url: &str, options: &[&str]) -> Program {
    let mut arguments = vec!["--upstream", url];
    arguments.extend(options);
    Program::start("serve", &arguments)
}

const JSON: &str = "content-type: application/json\r\n";

#[test]
fn what_a_client_posts_arrives_as_it_is_over_streamable_http_and_what_a_server_says_comes_so() {
    const UNKNOWN: &str =
        r#"{"jsonrpc":"2.0", "id":4, "error":{"code":-32601,"message":"no such method","own":1}}"#;
    let remote = streamable_http(|asked, stream| match &*asked.method {
        "POST" if asked.body.contains("own/method") => answer(stream, "200 OK", JSON, UNKNOWN),
        "POST" if asked.body.contains("tools/call") => {
            begin_events(stream)
                && write(stream, "id: a\ndata:\n\n")
                && write(
                    stream,
                    "data: {\"jsonrpc\":\"2.0\",\"id\":8,\"method\":\"roots/list\",\"own\":1}\n\n",
                )
                && write(stream, "event: message\ndata: {\"jsonrpc\":\"2.0\",\"method\":\"own\"}\n\n")
                && last(
                    stream,
                    "data: {\"jsonrpc\":\"2.0\",\"id\":\"b\",\"result\":{\"content\":7,\"own\":1e2}}\n\n",
                )
        }
        "POST" => answer(stream, "202 Accepted", "", ""),
        _ => answer(stream, "405 Method Not Allowed", "", ""),
    });
    for transport in ["sse", "mcp"] {
        let gateway = upstream(&remote.url("/"), &["--transport", "http"]);
        let before = remote.so_far().len();
        let initialize = INITIALIZE.replace(r#""version":"0""#, r#""version":"0","own":[1.0]"#);
        let initialized = r#"{"jsonrpc":"2.0","method":"notifications/initialized","own":1}"#;
        let posted = [
            r#"{"jsonrpc":"2.0","id":4,"method":"own/method"}"#,
            r#"{"jsonrpc":"2.0","method":"own/note","params":{"x":1e5}}"#,
            r#"{"jsonrpc": "2.0","method":"notifications/roots/list_changed"}"#,
            r#"{"jsonrpc":"2.0","id":"b","method":"tools/call","params":{"name":"x","own":null},"own":1}"#,
            r#"{"jsonrpc":"2.0","id":8,"result":{"roots":[{"uri":"file:///","own":1}],"own":1.0}}"#,
            r#"{"jsonrpc":"2.0","id":9,"error":{"code":-1,"message":"m","own":1}}"#,
        ];
        let mut answers = String::new();
        if transport == "sse" {
            let mut client = gateway.connect();
            client.accepted(&initialize);
            assert_eq!(client.data(), INITIALIZED);
            client.accepted(initialized);
            for (message, expected) in posted.iter().zip([1, 0, 0, 3, 0, 0]) {
                client.accepted(message);
                for _ in 0..expected {
                    answers.push_str(&client.data());
                    answers.push('\n');
                }
            }
        } else {
            let mcp = "POST /mcp HTTP/1.1\r\naccept: application/json, text/event-stream\r\ncontent-type: application/json";
            let answer = gateway.request(mcp, &initialize);
            let session = answer.lines().find(|line| line.starts_with("mcp-session-id:")).unwrap();
            let mcp = format!("{mcp}\r\n{session}");
            gateway.request(&mcp, initialized);
            for message in posted {
                let answer = gateway.request(&mcp, message);
                let status = &answer[9..12];
                assert_eq!(
                    status,
                    if message.contains(r#""method":"#) && message.contains(r#""id""#) {
                        "200"
                    } else {
                        "202"
                    },
                    "{answer}"
                );
                answers.push_str(&answer);
            }
            assert!(answers.contains(r#""code":-32601"#) && answers.contains(r#""own":100"#), "{answers}");
        }
        let all = remote.until("all of it", |asked| {
            asked[before..].iter().filter(|asked| asked.method == "POST").count() == posted.len() + 2
        });
        let mut seen: Vec<_> =
            all[before..].iter().filter(|asked| asked.method == "POST").map(|asked| &*asked.body).collect();
        let mut expected = vec![&*initialize, initialized];
        expected.extend(posted);
        seen.sort_unstable();
        expected.sort_unstable();
        assert_eq!(seen, expected, "{transport}");
        if transport == "sse" {
            let expected = [
                UNKNOWN,
                r#"{"jsonrpc":"2.0","id":8,"method":"roots/list","own":1}"#,
                r#"{"jsonrpc":"2.0","method":"own"}"#,
                r#"{"jsonrpc":"2.0","id":"b","result":{"content":7,"own":1e2}}"#,
            ];
            assert_eq!(answers.lines().collect::<Vec<_>>(), expected);
        }
    }
}

#[test]
fn an_answer_over_the_limit_costs_that_call() {
    let remote = streamable_http(|asked, stream| {
        let long = "x".repeat(100_000);
        match &*asked.method {
            "POST" if asked.body.contains("as/json") => {
                answer(stream, "200 OK", JSON, &format!(r#"{{"jsonrpc":"2.0","id":1,"result":"{long}"}}"#))
            }
            "POST" if asked.body.contains("as/event") => {
                begin_events(stream)
                    && last(
                        stream,
                        &format!("data: {{\"jsonrpc\":\"2.0\",\"id\":2,\"result\":\"{long}\"}}\n\n"),
                    )
            }
            "POST" => answer(stream, "200 OK", JSON, r#"{"jsonrpc":"2.0","id":3,"result":{}}"#),
            _ => answer(stream, "405 Method Not Allowed", "", ""),
        }
    });
    let gateway = upstream(&remote.url("/"), &["--transport", "http", "--max-message-bytes", "10000"]);
    let mut client = gateway.connect();
    client.initialize();
    for (id, method) in [(1, "as/json"), (2, "as/event")] {
        client.accepted(&format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"{method}"}}"#));
        let answer = client.answer(id);
        assert!(answer.contains("10000") && answer.contains("raise --max-message-bytes"), "{answer}");
    }
    client.accepted(r#"{"jsonrpc":"2.0","id":3,"method":"short"}"#);
    assert_eq!(client.answer(3), r#"{"jsonrpc":"2.0","id":3,"result":{}}"#);
}

#[test]
fn a_server_that_does_not_answer_initialize_is_given_up() {
    let log = "data: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/message\",\"params\":{}}\n\n";
    // Nothing at all; or a stream on which something comes, but never the answer.
    let silent = Fake::start(|_, _| true);
    let talks =
        Fake::start(
            move |asked, stream| {
                if asked.method == "POST" { begin_events(stream) && write(stream, log) } else { true }
            },
        );
    let talks_sse = Fake::start(move |asked, stream| match &*asked.method {
        "GET" => {
            begin_events(stream) && write(stream, "event: endpoint\ndata: /post\n\n") && write(stream, log)
        }
        _ => answer(stream, "202 Accepted", "", ""),
    });
    for (remote, kind) in [(&silent, "http"), (&silent, "sse"), (&talks, "http"), (&talks_sse, "sse")] {
        let gateway = upstream(&remote.url("/"), &["--transport", kind, "--start-timeout", "300ms"]);
        let mut client = gateway.connect();
        client.accepted(INITIALIZE);
        let answer = client.answer(0);
        assert!(answer.contains("did not answer within 300ms"), "{kind}: {answer}");
        client.rest();
    }
    let script = format!("while read -r x; do echo '{}'; done", log.trim().trim_start_matches("data: "));
    let gateway = Program::script(&["--start-timeout", "300ms"], &script);
    let mut client = gateway.connect();
    client.accepted(INITIALIZE);
    assert!(client.answer(0).contains("no answer within 300ms"));
}

#[test]
fn what_a_server_speaks_is_what_an_initialize_has_shown() {
    let remote = sse(String::new(), false);
    let gateway = upstream(&remote.url("/"), &["--transport", "auto", "--header-from-client", "x-bad"]);
    for _ in 0..2 {
        // To this one it does not look like SSE, and is not Streamable HTTP.
        let mut bad = gateway.connect_with("/sse", "x-bad: yes\r\n");
        bad.accepted(INITIALIZE);
        assert!(bad.answer(0).contains(r#""error""#));
    }
    let mut good = gateway.connect();
    good.accepted(INITIALIZE);
    assert_eq!(good.answer(0), INITIALIZED);
    gateway.log.until_says("upstream server found");
    let mut again = gateway.connect();
    again.accepted(INITIALIZE);
    assert_eq!(again.answer(0), INITIALIZED);
    assert_eq!(count(&gateway.log.so_far(), "upstream server found"), 1);
}

#[test]
fn a_redirect_to_another_origin_is_not_followed() {
    let elsewhere = Fake::start(|_, stream| answer(stream, "200 OK", JSON, INITIALIZED));
    let there = elsewhere.url("/mcp");
    let remote = Fake::start(move |_, stream| {
        answer(stream, "307 Temporary Redirect", &format!("location: {there}\r\n"), "")
    });
    for kind in ["http", "sse", "auto"] {
        let options = ["--transport", kind, "--header", "x-key: secret"];
        let gateway = upstream(&remote.url("/mcp"), &options);
        let mut client = gateway.connect();
        client.accepted(INITIALIZE);
        let answer = client.answer(0);
        let said = format!("http://{} redirects to http://{}", remote.address, elsewhere.address);
        assert!(answer.contains(&said), "{kind}: {answer}");
    }
    assert!(elsewhere.so_far().is_empty(), "{:?}", elsewhere.so_far());
    // Within an origin it is.
    let remote = Fake::start(|asked, stream| match (&*asked.method, &*asked.path) {
        ("POST", "/old") => answer(stream, "307 Temporary Redirect", "location: /new\r\n", ""),
        ("POST", "/new") => answer(stream, "200 OK", JSON, INITIALIZED),
        _ => answer(stream, "405 Method Not Allowed", "", ""),
    });
    let gateway = upstream(&remote.url("/old"), &["--transport", "http"]);
    let mut client = gateway.connect();
    client.accepted(INITIALIZE);
    assert_eq!(client.answer(0), INITIALIZED);
}

#[test]
fn an_id_of_an_event_that_is_too_long_is_none() {
    let long = "x".repeat(1_000_000);
    let note = r#"data: {"jsonrpc":"2.0","method":"own"}"#;
    let remote = sse(format!("id: {long}\n{note}\n\n"), true);
    let gateway = upstream(&remote.url("/"), &["--transport", "sse"]);
    let mut client = gateway.connect();
    client.accepted(INITIALIZE);
    client.answer(0);
    assert!(client.data().contains("own"));
    let asked = remote
        .until("a stream again", |asked| asked.iter().filter(|asked| asked.method == "GET").count() == 2);
    let again = asked.iter().rfind(|asked| asked.method == "GET").unwrap();
    assert_eq!(again.header("last-event-id"), Some("5"));
    assert_eq!(count(&gateway.log.until_says("such ids are ignored"), "such ids are ignored"), 1);

    let remote =
        streamable_http(move |asked, stream| match (&*asked.method, asked.header("last-event-id")) {
            ("POST", _) => {
                begin_events(stream) && last(stream, &format!("id: 5\n{note}\n\nid: {long}\n{note}\n\n"))
            }
            ("GET", Some(_)) => {
                begin_events(stream) && last(stream, "data: {\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{}}\n\n")
            }
            _ => answer(stream, "405 Method Not Allowed", "", ""),
        });
    let gateway = upstream(&remote.url("/"), &["--transport", "http"]);
    let mut client = gateway.connect();
    client.initialize();
    client.accepted(r#"{"jsonrpc":"2.0","id":1,"method":"call"}"#);
    client.answer(1);
    let asked = remote.so_far();
    let again = asked.iter().find_map(|asked| asked.header("last-event-id"));
    assert_eq!(again, Some("5"));
}
