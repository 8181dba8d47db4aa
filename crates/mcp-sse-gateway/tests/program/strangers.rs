//! What strangers try: to take all there is, and to hold it.

use std::io::Read as _;

use crate::help::{INITIALIZE, PING, Program, count, until};

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
    gateway.log.until_says("evicted for another session");
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
    let log = gateway.log.until_says("reason=\"evicted for another session\"");
    assert!(gateway.request(&format!("{MCP}\r\n{first}"), PING).starts_with("HTTP/1.1 404"));
    gateway.log.until("its program ended", |log| count(log, "server ended") == 1);
    drop(log);
}
