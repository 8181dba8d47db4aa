//! The demo server: how it ends with streams open, and its bounds.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
};

use crate::help::{PING, Program, long_task, until};

#[test]
fn sigterm_lets_a_request_finish_and_ends_open_streams() {
    let program = Program::demo(&[]);
    let mut idle = program.connect();
    let mut busy = program.connect();
    busy.accepted(&long_task(1, 50, 20));
    assert!(busy.data().contains("notifications/progress"));
    program.signal("-TERM");
    let rest = busy.rest();
    assert!(rest.contains("done 50 steps"), "{rest}");
    assert!(idle.rest().ends_with("0\r\n\r\n"), "a clean end");
    let (success, log) = program.end();
    assert!(success && log.contains("drained=2") && log.contains("cut=0"), "{log}");
}

#[test]
fn at_the_deadline_what_is_left_is_answered_with_an_error() {
    let program = Program::demo(&["--shutdown-timeout", "100ms"]);
    let mut busy = program.connect();
    busy.accepted(&long_task(7, 1, 60_000));
    // A later message is answered, so the call has begun.
    busy.accepted(PING);
    busy.answer(9);
    program.signal("-INT");
    let answer = busy.data();
    assert!(answer.contains(r#""id":7"#) && answer.contains("shutting down"), "{answer}");
    let (success, log) = program.end();
    assert!(success && log.contains("cut=1"), "{log}");
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let program = Program::demo(&["--shutdown-timeout", "1h"]);
    let mut busy = program.connect();
    busy.accepted(&long_task(7, 60, 60_000));
    busy.accepted(PING);
    busy.answer(9);
    program.signal("-INT");
    // New requests are refused from the moment the signal was seen.
    until("new requests are refused", || busy.post(PING).contains("503"));
    program.signal("-INT");
    assert!(program.end().0);
}

#[cfg(target_os = "linux")]
#[test]
fn a_log_that_cannot_be_written_stops_nothing() {
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let program = Program::prepare::<&str>("demo", "0", &[]).with_stderr(full);
    let mut client = program.connect();
    client.accepted(PING);
    client.answer(9);
}

#[test]
fn a_log_that_nobody_reads_stops_nothing() {
    let (program, unread) = Program::prepare("demo", "0", &["--log-level", "trace"]).unread();
    let mut client = program.connect();
    // A pipe takes some hundred lines.
    program.makes_lines(500);
    client.accepted(PING);
    client.answer(9);
    drop(client);
    program.signal("-TERM");
    assert!(program.ends());
    drop(unread);
}

#[test]
fn connections_over_the_bound_wait_until_another_ends() {
    let program = Program::demo(&["--max-connections", "2"]);
    let mut client = program.connect();
    let head = "content-type: application/json\r\nhost: localhost";
    let path = client.endpoint.clone();
    let mut second = TcpStream::connect(&program.address).unwrap();
    let mut third = TcpStream::connect(&program.address).unwrap();
    write!(third, "GET /sse HTTP/1.1\r\nhost: localhost\r\n\r\n").unwrap();
    third.set_nonblocking(true).unwrap();
    // The server is busy with the second for many turns, in any of which it could take the third.
    for _ in 0..50 {
        write!(second, "POST {path} HTTP/1.1\r\n{head}\r\ncontent-length: {}\r\n\r\n{PING}", PING.len())
            .unwrap();
        client.answer(9);
    }
    assert_eq!(third.read(&mut [0; 16]).unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
    drop(second);
    third.set_nonblocking(false).unwrap();
    let mut line = String::new();
    BufReader::new(third).read_line(&mut line).unwrap();
    assert!(line.contains("200"), "{line}");
}

#[test]
fn the_log_can_be_json_and_holds_no_whole_session_id() {
    let program = Program::demo(&["--log-format", "json", "--log-level", "debug"]);
    let client = program.connect();
    client.accepted(PING);
    assert!(client.post("rubbish").contains("400"));
    let id = client.id();
    drop(client);
    program.signal("-TERM");
    let (_, log) = program.end();
    assert!(!log.contains(&id), "{log}");
    assert!(log.lines().all(|line| line.starts_with('{') && line.ends_with('}')), "{log}");
    assert!(log.contains("session closed"), "{log}");
}

#[test]
fn an_address_that_is_not_loopback_serves_the_names_it_is_told_and_loopback_ones() {
    let program = Program::demo(&["--host", "0.0.0.0", "--allowed-host", "mcp.example.com"]);
    let status = |host: &str| {
        let port = program.address.split(':').nth(1).unwrap();
        let mut stream = TcpStream::connect(format!("127.0.0.1:{port}")).unwrap();
        write!(stream, "GET /sse HTTP/1.1\r\nhost: {host}\r\n\r\n").unwrap();
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).unwrap();
        line
    };
    assert!(status("mcp.example.com").contains("200"));
    assert!(status("localhost:1").contains("200"));
    assert!(status("evil.example.com").contains("421"));
}

#[test]
fn strangers_who_say_half_of_something_give_their_places_back() {
    let program = Program::demo(&["--max-connections", "8", "--header-timeout", "1s"]);
    let strangers: Vec<_> = (0..8)
        .map(|number| {
            let mut stream = TcpStream::connect(&program.address).unwrap();
            // Of HTTP/2's beginning and of HTTP/1.1's; or the whole of HTTP/2's, and nothing more.
            let half =
                ["PRI * HTTP/2.0\r\n", "GET /sse HTTP/1.1\r\nhost: lo", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"];
            stream.write_all(half[number % 3].as_bytes()).unwrap();
            stream
        })
        .collect();
    // It waits, and is served.
    let client = program.connect();
    client.accepted(PING);
    drop(strangers);
}
