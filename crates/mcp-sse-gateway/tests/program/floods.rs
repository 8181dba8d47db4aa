//! What floods the log: each flood is some lines and then counts, and who does nothing else ends.

use std::{
    io::{Read as _, Write as _},
    net::TcpListener,
    thread,
};

use crate::help::{Folder, INITIALIZE, PING, PROGRAM, Program, count};

/// More than all bursts of a session together, and far less than a flood.
const SMALL: usize = 100_000;
const NOTE: &str = r#"{"jsonrpc":"2.0","method":"note"}"#;

fn is_small(log: &str) {
    assert!(log.len() < SMALL, "{} bytes, that begin: {}", log.len(), &log[..2_000]);
}

#[test]
fn a_program_that_only_floods_its_stdout_ends() {
    let gateway = Program::script(&[], "read -r x; exec yes garbage");
    let mut client = gateway.connect();
    client.accepted(INITIALIZE);
    let answer = client.answer(0);
    assert!(answer.contains("lines that are not messages to stdout"), "{answer}");
    client.rest();
    gateway.log.until_says("server ended");
    let log = gateway.log.until_says("lines were left out, because they came too often");
    let line = log.lines().find(|line| line.contains("too often")).unwrap();
    assert!(
        line.contains("like=\"the server wrote a line that is not a message") && line.contains("id="),
        "{line}"
    );
    is_small(&log);
    // All are counted.
    let lines = log.split("were no messages lines=").nth(1).unwrap();
    assert!(lines.split_whitespace().next().unwrap().parse::<u64>().unwrap() > 100_000, "{log}");
}

#[test]
fn garbage_between_messages_ends_nothing() {
    let script = "while read -r x; do yes garbage | head -n 60000; printf '%s\\n' \"$x\"; done";
    let gateway = Program::script(&[], script);
    let mut client = gateway.connect();
    client.accepted(INITIALIZE);
    assert_eq!(client.data(), INITIALIZE);
    for _ in 0..3 {
        client.accepted(NOTE);
        assert_eq!(client.data(), NOTE);
    }
    is_small(&gateway.log.so_far());
}

#[test]
fn a_flood_on_stderr_is_some_lines_and_a_count_and_the_session_goes_on() {
    for level in ["info", "debug", "trace"] {
        let script = format!("yes noise | head -c 5000000 >&2; exec {PROGRAM} demo --stdio --log-level off");
        let gateway = Program::script(&["--log-level", level], &script);
        let mut client = gateway.connect();
        client.initialize();
        client.echo(1, "hello");
        let log = gateway
            .log
            .until("the count", |log| log.contains("lines were left out, because they came too often"));
        assert!(count(&log, "mcp_sse::stderr") < 500, "{level}");
        if level == "info" {
            is_small(&log);
        }
    }
}

#[test]
fn an_upstream_that_only_sends_garbage_ends_its_session() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/sse", listener.local_addr().unwrap());
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            thread::spawn(move || {
                let mut begin = [0; 3];
                stream.read_exact(&mut begin).unwrap();
                if begin == *b"GET" {
                    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\nevent: endpoint\ndata: /m\n\n";
                    let mut sent = stream.write_all(head.as_bytes());
                    while sent.is_ok() {
                        sent = stream.write_all("data: garbage\n\n".repeat(1000).as_bytes());
                    }
                } else {
                    let _ = stream.write_all(
                        b"HTTP/1.1 202 Accepted\r\nconnection: close\r\ncontent-length: 0\r\n\r\n",
                    );
                    let _ = stream.read_to_end(&mut Vec::new());
                }
            });
        }
    });
    let gateway = Program::start("serve", &["--upstream", &url, "--transport", "sse"]);
    let mut client = gateway.connect();
    client.accepted(INITIALIZE);
    let answer = client.answer(0);
    assert!(answer.contains("sends nothing but events that are not messages"), "{answer}");
    is_small(&gateway.log.until_says("lines were left out"));
}

#[test]
fn strangers_do_not_fill_the_log() {
    let gateway = Program::gateway(&[]);
    let mut client = gateway.connect();
    client.initialize();
    for _ in 0..500 {
        for (head, body) in [
            ("GET /sse HTTP/1.1\r\nhost: evil.example", ""),
            ("POST /messages/?session_id=00000000000000000000000000000000 HTTP/1.1", PING),
            ("POST /mcp HTTP/1.1\r\ncontent-type: application/json\r\nhost: evil.example", PING),
            ("GET /nothing HTTP/1.1", ""),
            ("rubbish", ""),
        ] {
            let answer = gateway.request(head, body);
            assert!(answer.starts_with("HTTP/1.1 4"), "{head}: {answer}");
        }
        assert!(client.post("rubbish").contains("400"));
    }
    client.echo(1, "still here");
    is_small(&gateway.log.so_far());
}

#[test]
fn lines_that_nobody_read_are_said_before_the_end() {
    let (program, unread) = Program::prepare("demo", "0", &["--log-level", "trace"]).unread();
    program.makes_lines(500);
    let log = crate::help::Written::by(unread);
    log.until_says("were dropped, because nobody read them");
    assert!(program.get("/healthz").contains("HTTP/1.1"), "the program is there");
}

#[test]
fn json_lines_are_whole_whatever_comes() {
    let folder = Folder::new();
    let noise = folder.write("noise", &format!("{}\n", "\\\u{1}\"".repeat(5_000)));
    let script = format!(
        "read -r x; for i in 1 2 3 4 5 6; do cat {noise} {noise} {noise} {noise} {noise} >&2; done; printf '%s\\n' \"$x\"; cat"
    );
    let gateway = Program::script(&["--log-format", "json"], &script);
    let mut client = gateway.connect();
    client.accepted(INITIALIZE);
    assert_eq!(client.data(), INITIALIZE);
    let log = gateway.log.until_says("mcp_sse::stderr");
    assert!(log.lines().all(|line| line.starts_with('{') && line.ends_with('}')), "{log}");
}
