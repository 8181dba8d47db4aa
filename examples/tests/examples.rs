//! Each example is started as a program, on a free port, and a client calls its tool.

#![allow(clippy::unwrap_used, reason = "a test says what went wrong by failing")]

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    process::{Child, Command, Stdio},
    time::Duration,
};

const INITIALIZE: &str = r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2024-11-05","capabilities":{},"clientInfo":{"name":"test","version":"1"}}}"#;
const INITIALIZED: &str = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;
const GREET: &str =
    r#"{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"greet","arguments":{}}}"#;

/// A running example; killed at the end.
struct Example {
    child: Child,
    address: String,
}

impl Example {
    fn start(program: &str) -> Self {
        let mut child = Command::new(program).arg("127.0.0.1:0").stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("listening on http://").unwrap().to_owned();
        Self { child, address }
    }

    /// Sends a request and returns the head of the response, and the rest of the connection.
    fn request(&self, head: &str, body: &str) -> (String, BufReader<TcpStream>) {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let length = body.len();
        let request = format!("{head}\r\nhost: {}\r\ncontent-length: {length}\r\n\r\n{body}", self.address);
        stream.write_all(request.as_bytes()).unwrap();
        let mut reader = BufReader::new(stream);
        let mut response = String::new();
        while !response.ends_with("\r\n\r\n") {
            assert_ne!(reader.read_line(&mut response).unwrap(), 0, "the connection ended: {response}");
        }
        (response, reader)
    }

    /// Connects at `path`, initializes, calls `greet`, and returns where it posted and the answer.
    fn greet(&self, path: &str, headers: &str) -> (String, String) {
        let (head, mut stream) = self.request(&format!("GET {path} HTTP/1.1{headers}"), "");
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        let endpoint = data(&mut stream);
        for message in [INITIALIZE, INITIALIZED, GREET] {
            let (head, _) = self.post(&endpoint, headers, message);
            assert!(head.starts_with("HTTP/1.1 202"), "{head}");
        }
        assert!(data(&mut stream).contains(r#""id":1"#));
        (endpoint, data(&mut stream))
    }

    fn post(&self, endpoint: &str, headers: &str, message: &str) -> (String, BufReader<TcpStream>) {
        self.request(&format!("POST {endpoint} HTTP/1.1\r\ncontent-type: application/json{headers}"), message)
    }
}

impl Drop for Example {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The data of the next event.
fn data(stream: &mut BufReader<TcpStream>) -> String {
    loop {
        let mut line = String::new();
        assert_ne!(stream.read_line(&mut line).unwrap(), 0, "the stream ended");
        if let Some(data) = line.strip_prefix("data: ") {
            return data.trim_end().to_owned();
        }
    }
}

#[test]
fn on_axum() {
    let example = Example::start(env!("CARGO_BIN_EXE_axum"));
    let (endpoint, answer) = example.greet("/sse", "");
    assert!(endpoint.starts_with("/messages/?session_id="), "{endpoint}");
    assert!(answer.contains("Hello, world!"), "{answer}");
}

#[cfg(unix)]
#[test]
fn on_axum_a_shutdown_ends_the_streams_and_then_the_server() {
    let mut example = Example::start(env!("CARGO_BIN_EXE_axum"));
    let (_, mut stream) = example.request("GET /sse HTTP/1.1", "");
    data(&mut stream);
    let id = example.child.id().to_string();
    assert!(Command::new("kill").args(["-INT", &id]).status().unwrap().success());
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).unwrap();
    assert!(rest.ends_with(b"0\r\n\r\n"), "a clean end");
    assert!(example.child.wait().unwrap().success());
}

#[test]
fn on_plain_hyper() {
    let example = Example::start(env!("CARGO_BIN_EXE_plain_hyper"));
    assert!(example.greet("/sse", "").1.contains("Hello, world!"));
    assert!(example.request("GET /nowhere HTTP/1.1", "").0.starts_with("HTTP/1.1 404"));
}

#[test]
fn beside_streamable_http() {
    let example = Example::start(env!("CARGO_BIN_EXE_beside_streamable_http"));
    assert!(example.greet("/sse", "").1.contains("Hello, world!"));
    let (head, _) = example.post("/mcp", "\r\naccept: application/json, text/event-stream", INITIALIZE);
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    // A new client tries Streamable HTTP first and must be told to fall back.
    assert!(example.post("/sse", "", INITIALIZE).0.starts_with("HTTP/1.1 405"));
}

#[test]
fn behind_a_prefix() {
    let example = Example::start(env!("CARGO_BIN_EXE_behind_a_prefix"));
    let (endpoint, answer) = example.greet("/tools/sse", "");
    assert!(endpoint.starts_with("/tools/messages/?session_id="), "{endpoint}");
    assert!(answer.contains("Hello, world!"), "{answer}");
    let (_, mut stream) = example.request("GET /tools/sse HTTP/1.1\r\nx-forwarded-prefix: /outer", "");
    assert!(data(&mut stream).starts_with("/outer/tools/messages/?session_id="));
}

#[test]
fn with_oauth() {
    // With a real authorization server it runs in tests/interop; here, nobody has a token.
    let example = Example::start(env!("CARGO_BIN_EXE_oauth"));
    let (refused, _) = example.request("GET /sse HTTP/1.1", "");
    let metadata = format!("http://{}/.well-known/oauth-protected-resource/sse", example.address);
    assert!(refused.starts_with("HTTP/1.1 401"), "{refused}");
    let challenge = format!("www-authenticate: Bearer resource_metadata=\"{metadata}\", scope=\"mcp\"");
    assert!(refused.contains(&challenge), "{refused}");
    let (head, mut body) =
        example.request("GET /.well-known/oauth-protected-resource/sse HTTP/1.1\r\nconnection: close", "");
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    let mut document = String::new();
    body.read_to_string(&mut document).unwrap();
    assert!(document.contains(r#""authorization_servers":["http://127.0.0.1:9000"]"#), "{document}");
    // It cannot be reached, and that is said: the token may be good.
    let token = "\r\nauthorization: Bearer eyJhbGciOiJFUzI1NiJ9.e30.AA";
    assert!(example.request(&format!("GET /sse HTTP/1.1{token}"), "").0.starts_with("HTTP/1.1 503"));
}

#[test]
fn with_bearer_authentication() {
    let example = Example::start(env!("CARGO_BIN_EXE_bearer_auth"));
    let (alice, bob) = (
        "\r\nauthorization: Bearer alices-secret-5c8zLq0v",
        "\r\nauthorization: Bearer bobs-secret-j2Rr7dMhU",
    );
    assert!(example.request("GET /sse HTTP/1.1", "").0.starts_with("HTTP/1.1 401"));
    assert!(example.greet("/sse", alice).1.contains("Hello, alice!"));
    let (_, mut stream) = example.request(&format!("GET /sse HTTP/1.1{bob}"), "");
    let endpoint = data(&mut stream);
    assert!(example.post(&endpoint, alice, GREET).0.starts_with("HTTP/1.1 404"), "not alice's session");
    assert!(example.post(&endpoint, "", GREET).0.starts_with("HTTP/1.1 401"));
    assert!(example.post(&endpoint, bob, GREET).0.starts_with("HTTP/1.1 202"));
}
