//! What strangers try: to take all there is, and to hold it.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
};

use crate::help::{INITIALIZE, PATIENCE, PING, Program, count, until};

const MCP: &str =
    "POST /mcp HTTP/1.1\r\naccept: application/json, text/event-stream\r\ncontent-type: application/json";

/// Opens a session over Streamable HTTP; its header line, or the status line.
fn open(gateway: &Program, headers: &str) -> Result<String, String> {
    let answer = gateway.request(&format!("{MCP}{headers}"), INITIALIZE);
    let line = answer.lines().find(|line| line.starts_with("mcp-session-id:"));
    line.map(str::to_owned).ok_or_else(|| answer.lines().next().unwrap_or_default().to_owned())
}

#[test]
fn idle_streams_do_not_keep_a_client_with_a_request_out() {
    let gateway = Program::gateway(&["--max-sessions", "2", "--max-silent-sessions", "9"]);
    let idle: Vec<_> = (0..7).map(|_| gateway.connect()).collect();
    let mut clients = [gateway.connect(), gateway.connect()];
    // Each is let in, since those before it had something to say.
    clients[0].initialize();
    let ready = gateway.get("/readyz");
    assert!(ready.contains(r#""ready":true"#) && ready.contains(r#""silent":8"#), "{ready}");
    clients[1].initialize();
    let ready = gateway.get("/readyz");
    assert!(ready.contains(r#""ready":false"#) && ready.contains(r#""silent":7"#), "{ready}");
    assert!(gateway.get("/sse").starts_with("HTTP/1.1 503"));
    assert!(idle[0].post(PING).contains("503"));
    drop(idle);
}

#[test]
fn the_oldest_idle_streams_make_room_for_new_ones() {
    let gateway = Program::gateway(&["--max-silent-sessions", "4"]);
    let mut idle: Vec<_> = (0..4).map(|_| gateway.connect()).collect();
    assert!(gateway.get("/sse").starts_with("HTTP/1.1 503"));
    until("ready", || gateway.get("/readyz").contains(r#""ready":true"#));
    gateway.connect().initialize();
    let mut rest = String::new();
    idle[0].stream.read_to_string(&mut rest).unwrap();
    gateway.log.until_says("reason=\"evicted\"");
}

#[test]
fn a_session_over_streamable_http_that_is_out_of_use_makes_room() {
    let gateway = Program::gateway(&["--max-sessions", "1", "--resume-window", "1s"]);
    let first = open(&gateway, "").unwrap();
    assert!(open(&gateway, "").unwrap_err().contains("503"));
    // A client that listens is there.
    let listening = gateway.send(&format!("GET /mcp HTTP/1.1\r\naccept: text/event-stream\r\n{first}"), "");
    assert!(gateway.request(&format!("{MCP}\r\n{first}"), PING).contains(r#""result":{}"#));
    assert!(gateway.get("/readyz").contains(r#""ready":false"#));
    drop(listening);
    until("ready", || gateway.get("/readyz").contains(r#""ready":true"#));
    let mut client = gateway.connect();
    client.initialize();
    let log = gateway.log.until_says("reason=\"evicted\"");
    assert!(gateway.request(&format!("{MCP}\r\n{first}"), PING).starts_with("HTTP/1.1 404"));
    gateway.log.until("its program ended", |log| count(log, "server ended") == 1);
    drop(log);
}

#[test]
fn one_address_does_not_take_all_sessions() {
    let gateway = Program::gateway(&["--trust-forwarded-for", "1", "--max-sessions-per-address", "2"]);
    let (one, two) = ("x-forwarded-for: 192.0.2.1\r\n", "x-forwarded-for: 192.0.2.2\r\n");
    let _stream = gateway.connect_with("/sse", one);
    // Sessions of both kinds count together.
    open(&gateway, "\r\nx-forwarded-for: 1.1.1.1, 192.0.2.1").unwrap();
    assert!(open(&gateway, "\r\nx-forwarded-for: 192.0.2.1").unwrap_err().contains("503"));
    let refused = gateway.request(&format!("GET /sse HTTP/1.1\r\n{one}x: y"), "");
    assert!(refused.starts_with("HTTP/1.1 503") && refused.contains("retry-after: 1"), "{refused}");
    let log = gateway.log.until_says("max_sessions_per_address");
    assert!(log.contains("address=192.0.2.1"), "{log}");
    gateway.connect_with("/sse", two).initialize();
    assert!(gateway.get("/readyz").contains(r#""ready":true"#), "there is room for others");
}

#[test]
fn one_address_does_not_open_sessions_without_end() {
    let gateway = Program::gateway(&["--trust-forwarded-for", "1", "--sessions-per-second-per-address", "1"]);
    let get = |address: &str| {
        let mut status = [0; 12];
        let head = format!("GET /sse HTTP/1.1\r\nx-forwarded-for: {address}\r\nx: y");
        gateway.send(&head, "").read_exact(&mut status).unwrap();
        String::from_utf8(status.to_vec()).unwrap()
    };
    let refused = (0..100).filter(|_| get("192.0.2.1") == "HTTP/1.1 503").count();
    assert!(refused >= 50, "{refused} refused");
    assert_eq!(get("192.0.2.2"), "HTTP/1.1 200");
    assert!(count(&gateway.log.so_far(), "sessions_per_second_per_address") <= 20, "a line for each");
}

#[test]
fn one_address_does_not_take_all_connections() {
    let gateway = Program::gateway(&["--proxy-protocol", "--max-connections-per-address", "2"]);
    let connect = |last: u8, first: &[u8]| {
        let header =
            [b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02", &[last][..], &[127, 0, 0, 1, 0, 1, 0, 2]];
        let mut stream = TcpStream::connect(&gateway.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(&[&header.concat(), first].concat()).unwrap();
        stream
    };
    let get = b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n";
    let answered = |mut stream: &TcpStream| {
        let mut status = [0; 12];
        stream.read_exact(&mut status).is_ok_and(|()| &status == b"HTTP/1.1 200")
    };
    let held = [connect(1, get), connect(1, get)];
    assert!(held.iter().all(answered));
    assert!(!answered(&connect(1, get)));
    assert!(answered(&connect(2, get)));
    let log = gateway.log.until_says("max_connections_per_address");
    assert!(log.contains("address=192.0.2.1"), "{log}");
    // Without the header nobody says anything.
    let mut stream = TcpStream::connect(&gateway.address).unwrap();
    stream.write_all(get).unwrap();
    assert!(!answered(&stream));
    gateway.log.until_says("what came is not a PROXY header");
}
