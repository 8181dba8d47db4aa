//! Bodies of requests over Streamable HTTP: who may have one read, how much of it, and for how long.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    sync::mpsc,
    thread,
};

use crate::help::{Folder, INITIALIZE, PATIENCE, PING, Program, echo, until};

const MCP: &str =
    "POST /mcp HTTP/1.1\r\naccept: application/json, text/event-stream\r\ncontent-type: application/json";

fn open(gateway: &Program) -> String {
    let answer = gateway.request(MCP, INITIALIZE);
    let line = answer.lines().find(|line| line.starts_with("mcp-session-id:")).unwrap().to_owned();
    gateway.request(&format!("{MCP}\r\n{line}"), r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#);
    line
}

/// The head of a request that promises this much, and what comes of it.
fn begin(gateway: &Program, head: &str, length: usize, begun: &[u8]) -> BufReader<TcpStream> {
    let mut stream = TcpStream::connect(&gateway.address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let head = format!("{head}\r\nhost: {}\r\ncontent-length: {length}\r\n\r\n", gateway.address);
    stream.write_all(head.as_bytes()).unwrap();
    // It may have been refused already.
    let _ = stream.write_all(begun);
    BufReader::new(stream)
}

fn status(mut stream: BufReader<TcpStream>) -> (String, BufReader<TcpStream>) {
    let mut line = String::new();
    stream.read_line(&mut line).unwrap();
    (line.split(' ').nth(1).unwrap_or_default().to_owned(), stream)
}

#[test]
fn nothing_is_read_for_a_session_that_is_not_there() {
    let gateway = Program::gateway(&[]);
    let unknown = "mcp-session-id: nobody";
    let (answer, _) = status(begin(&gateway, &format!("{MCP}\r\n{unknown}"), 4_000_000, b""));
    assert_eq!(answer, "404");
    for method in ["GET", "DELETE"] {
        let head = format!("{method} /mcp HTTP/1.1\r\naccept: text/event-stream\r\n{unknown}");
        assert!(gateway.request(&head, "").starts_with("HTTP/1.1 404"), "{method}");
    }
    // What stands in the head comes first, too.
    let session = open(&gateway);
    let head =
        format!("{}\r\n{session}", MCP.replace("content-type: application/json", "content-type: text/plain"));
    assert_eq!(status(begin(&gateway, &head, 100_000, b"")).0, "415");
    let head = format!("POST /mcp HTTP/1.1\r\ncontent-type: application/json\r\n{session}");
    assert_eq!(status(begin(&gateway, &head, 100_000, b"")).0, "406");
}

#[test]
fn without_a_session_a_body_is_short() {
    let gateway = Program::gateway(&[]);
    let (answer, mut rest) = status(begin(&gateway, MCP, 100_000, b""));
    assert_eq!(answer, "413");
    let mut text = String::new();
    let _ = rest.read_to_string(&mut text);
    assert!(text.contains("open a session with initialize"), "{text}");
    let session = open(&gateway);
    let long =
        format!(r#"{{"jsonrpc":"2.0","id":1,"method":"ping","params":{{"x":"{}"}}}}"#, "x".repeat(100_000));
    let answer = gateway.request(&format!("{MCP}\r\n{session}"), &long);
    assert!(answer.contains(r#""id":1"#), "{answer}");
    let (answer, _) = status(begin(&gateway, &format!("{MCP}\r\n{session}"), 5_000_000, b""));
    assert_eq!(answer, "413");
}

#[test]
fn a_body_that_does_not_come_is_given_up() {
    let gateway = Program::gateway(&[]);
    let session = open(&gateway);
    let declared = begin(&gateway, &format!("{MCP}\r\n{session}"), 100_000, b"{");
    let mut chunked = TcpStream::connect(&gateway.address).unwrap();
    chunked.set_read_timeout(Some(PATIENCE)).unwrap();
    let head = format!("{MCP}\r\nhost: {}\r\ntransfer-encoding: chunked\r\n\r\n1\r\n{{\r\n", gateway.address);
    chunked.write_all(head.as_bytes()).unwrap();
    for stream in [declared, BufReader::new(chunked)] {
        assert_eq!(status(stream).0, "408");
    }
}

#[test]
fn a_client_that_holds_many_bodies_is_refused_and_the_others_are_not() {
    let gateway = Program::gateway(&[]);
    let (greedy, other) = (open(&gateway), open(&gateway));
    let (refused, refusals) = mpsc::channel();
    // Each but for its last byte.
    let held: Vec<_> = (0..8)
        .map(|_| begin(&gateway, &format!("{MCP}\r\n{greedy}"), 4_000_000, &vec![b' '; 3_999_999]))
        .collect();
    for stream in held {
        let refused = refused.clone();
        thread::spawn(move || {
            let mut line = String::new();
            let mut stream = stream;
            let _ = stream.read_line(&mut line);
            let _ = refused.send((line, stream));
        });
    }
    // Four find room.
    let mut kept = Vec::new();
    for _ in 0..4 {
        let (line, stream) = refusals.recv_timeout(PATIENCE).unwrap();
        assert!(line.contains("503"), "{line}");
        kept.push(stream);
    }
    for session in [&greedy, &other] {
        let answer = gateway.request(&format!("{MCP}\r\n{session}"), PING);
        assert!(answer.contains(r#""result":{}"#), "{answer}");
    }
    let long =
        format!(r#"{{"jsonrpc":"2.0","id":1,"method":"ping","params":{{"x":"{}"}}}}"#, "x".repeat(900_000));
    let answer = gateway.request(&format!("{MCP}\r\n{other}"), &long);
    assert!(answer.contains(r#""id":1"#), "{answer}");
}

#[test]
fn what_is_no_message_is_said() {
    let gateway = Program::gateway(&[]);
    let session = open(&gateway);
    for body in ["", "hello", "[]", r#"{"jsonrpc":"1.0"}"#] {
        for head in [MCP.to_owned(), format!("{MCP}\r\n{session}")] {
            let answer = gateway.request(&head, body);
            assert!(answer.starts_with("HTTP/1.1 400") && answer.contains("-32700"), "{body}: {answer}");
        }
    }
}

#[test]
fn a_message_reaches_its_server_as_it_was_posted() {
    let folder = Folder::new();
    let file = folder.path("lines");
    let script = format!(
        r#"while read -r line; do printf '%s\n' "$line" >> {file}; case $line in *'"id":'*) echo '{{"jsonrpc":"2.0","id":0,"result":{{"protocolVersion":"2025-06-18","capabilities":{{}},"serverInfo":{{"name":"x","version":"0"}}}}}}';; esac; done"#
    );
    let gateway = Program::script(&[], &script);
    let initialize = INITIALIZE.replace(r#""version":"0""#, r#""version":"0","own":[1.0]"#);
    let answer = gateway.request(MCP, &initialize);
    let session = answer.lines().find(|line| line.starts_with("mcp-session-id:")).unwrap();
    let posted = [
        r#"{"jsonrpc":"2.0","method":"notifications/initialized","own":1}"#,
        r#"{"jsonrpc":"2.0","id":0,"method":"own/method"}"#,
        r#"{"jsonrpc": "2.0","method":"own/note","params":{"x":1e5},"own":null}"#,
        r#"{"jsonrpc":"2.0","id":7,"result":{"roots":[{"uri":"file:///","own":1}],"own":1.0}}"#,
        r#"{"jsonrpc":"2.0","id":8,"error":{"code":-1,"message":"m","own":1}}"#,
    ];
    for message in posted {
        let answer = gateway.request(&format!("{MCP}\r\n{session}"), message);
        assert!(answer.starts_with("HTTP/1.1 20"), "{answer}");
    }
    until("all of it has come", || fs::read_to_string(&file).is_ok_and(|lines| lines.lines().count() == 6));
    let lines = fs::read_to_string(&file).unwrap();
    let mut lines: Vec<_> = lines.lines().collect();
    let mut expected = vec![&*initialize];
    expected.extend(posted);
    lines.sort_unstable();
    expected.sort_unstable();
    assert_eq!(lines, expected);
}

#[test]
fn large_calls_at_once_wait_for_their_server_and_are_all_answered() {
    const CALLS: u32 = 24;
    let gateway = Program::gateway(&[]);
    let session = open(&gateway);
    let text = "x".repeat(200_000);
    let call = |id| {
        let (gateway, session, text) = (&gateway, &session, &text);
        move || {
            let head = format!("{MCP}\r\n{session}");
            gateway.request(&head, &echo(id, text))
        }
    };
    let answers: Vec<String> = thread::scope(|scope| {
        let calls: Vec<_> = (0..CALLS).map(|id| scope.spawn(call(id))).collect();
        calls.into_iter().map(|call| call.join().unwrap()).collect()
    });
    for answer in answers {
        let end = &answer[answer.len().saturating_sub(300)..];
        assert!(answer.contains("HTTP/1.1 200") && answer.len() > text.len(), "{end}");
    }
}
