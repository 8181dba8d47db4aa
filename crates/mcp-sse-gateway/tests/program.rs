//! The program from outside: what it prints, how it exits, and how it ends with streams open.

#![allow(clippy::unwrap_used, reason = "a test says what went wrong by failing")]

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    process::{Child, ChildStdout, Command, Output, Stdio},
    time::Duration,
};

use snapbox::{assert_data_eq, file, str};

const PROGRAM: &str = env!("CARGO_BIN_EXE_mcp-sse");

fn run(arguments: &[&str]) -> Output {
    Command::new(PROGRAM).args(arguments).output().unwrap()
}

/// Exit code 2, nothing on stdout, and one line on stderr, which is returned.
fn refused(arguments: &[&str]) -> String {
    let output = run(arguments);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    assert!(output.stdout.is_empty());
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    stderr.trim_end().to_owned()
}

#[test]
fn help_and_version_go_to_stdout() {
    let help = run(&["--help"]);
    assert!(help.status.success() && help.stderr.is_empty());
    assert_data_eq!(String::from_utf8(help.stdout).unwrap(), file!["help.txt"]);
    let version = run(&["--version"]);
    assert!(version.status.success());
    assert_data_eq!(String::from_utf8(version.stdout).unwrap(), str!["mcp-sse [..]\n"]);
}

#[test]
fn a_mistake_is_one_line_and_exit_code_2() {
    for (arguments, expected) in [
        (&["--frobnicate"][..], str!["error: unexpected argument '--frobnicate' found; see --help"]),
        (
            &["--prot", "1"],
            str![
                "error: unexpected argument '--prot' found; tip: a similar argument exists: '--port'; see --help"
            ],
        ),
        (
            &["--port", "99999"],
            str!["error: invalid value '99999' for '--port <PORT>': 99999 is not in 0..=65535; see --help"],
        ),
        (
            &["--host", "localhost"],
            str![
                "error: invalid value 'localhost' for '--host <ADDRESS>': invalid IP address syntax; see --help"
            ],
        ),
        (
            &["--keep-alive", "soon"],
            str![
                "error: invalid value 'soon' for '--keep-alive <TIME>': expected a time such as 500ms, 15s or 2m; see --help"
            ],
        ),
        (
            &["--max-sessions", "0"],
            str![
                "error: invalid value '0' for '--max-sessions <N>': expected a whole number, 1 or more; see --help"
            ],
        ),
        (&["--stall-timeout", "0s"], str!["error: stall_timeout must be more than zero"]),
        (
            &["--log-format", "xml"],
            str![
                "error: invalid value 'xml' for '--log-format <LOG_FORMAT>'; [possible values: text, json]; see --help"
            ],
        ),
        (&["--log-level", "a=b=c"], str!["error: --log-level a=b=c: [..]"]),
        (&["--sse-path", "sse"], str!["error: --sse-path \"sse\" is not a path; expected one such as /sse"]),
        (
            &["--sse-path", "/messages"],
            str!["error: --sse-path and --message-path are both \"/messages\"; they must differ"],
        ),
        (
            &["--message-path", "https://example.com/m"],
            str!["error: the endpoint \"https://example.com/m\" is a full URL; [..]"],
        ),
        (
            &["--mount-prefix", "api"],
            str!["error: the mount prefix \"api\" is not a path; expected one such as \"/api\""],
        ),
        (&["--allowed-host", "http://a"], str!["error: the allowed host \"http://a\" is not a host; [..]"]),
        (&["--allowed-origin", "a"], str!["error: the allowed origin \"a\" is not an origin; [..]"]),
        (
            &["--host", "0.0.0.0", "--port", "0"],
            str![
                "error: --host 0.0.0.0 is not a loopback address: name the hosts that clients use, with --allowed-host NAME [..]\n"
            ],
        ),
    ] {
        assert_data_eq!(refused(arguments), expected);
    }
}

#[test]
fn a_busy_port_is_one_line_and_exit_code_2() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let expected = str![
        "error: cannot listen on 127.0.0.1:[..]: Address already in use (os error [..]); choose another with --host or --port\n"
    ];
    assert_data_eq!(refused(&["--port", &port]), expected);
}

/// The program, running on a free port; killed at the end.
struct Program {
    child: Child,
    address: String,
    _stdout: BufReader<ChildStdout>,
}

impl Program {
    fn start(arguments: &[&str]) -> Self {
        Self::start_with(arguments, Stdio::piped())
    }

    fn start_with(arguments: &[&str], stderr: Stdio) -> Self {
        let mut child = Command::new(PROGRAM)
            .args(["--port", "0"])
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(stderr)
            .spawn()
            .unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        let address = line.split("http://").nth(1).unwrap().trim().strip_suffix("/sse").unwrap().to_owned();
        Self { child, address, _stdout: stdout }
    }

    fn send(&self, head: &str, body: &str) -> BufReader<TcpStream> {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let length = body.len();
        let request = format!("{head}\r\nhost: {}\r\ncontent-length: {length}\r\n\r\n{body}", self.address);
        stream.write_all(request.as_bytes()).unwrap();
        BufReader::new(stream)
    }

    /// An open stream, and where to post.
    fn connect(&self) -> (BufReader<TcpStream>, String) {
        let mut stream = self.send("GET /sse HTTP/1.1", "");
        let endpoint = data(&mut stream);
        (stream, endpoint)
    }

    fn post(&self, endpoint: &str, message: &str) -> String {
        let mut stream =
            self.send(&format!("POST {endpoint} HTTP/1.1\r\ncontent-type: application/json"), message);
        let mut line = String::new();
        stream.read_line(&mut line).unwrap();
        line
    }

    fn signal(&self, signal: &str) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args([signal, &id]).status().unwrap().success());
    }

    /// Waits for the end, and returns whether it was a success, and the log.
    fn end(mut self) -> (bool, String) {
        let mut log = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut log).unwrap();
        (self.child.wait().unwrap().success(), log)
    }
}

impl Drop for Program {
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

fn call(id: u32, steps: u32, step_ms: u32) -> String {
    format!(
        r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{{"name":"long_task","arguments":{{"steps":{steps},"step_ms":{step_ms}}},"_meta":{{"progressToken":1}}}}}}"#
    )
}

#[cfg(unix)]
#[test]
fn sigterm_lets_a_request_finish_and_ends_open_streams() {
    let program = Program::start(&[]);
    let (mut idle, _) = program.connect();
    let (mut busy, endpoint) = program.connect();
    assert!(program.post(&endpoint, &call(1, 50, 20)).contains("202"));
    assert!(data(&mut busy).contains("notifications/progress"));
    program.signal("-TERM");
    let mut rest = String::new();
    busy.read_to_string(&mut rest).unwrap();
    assert!(rest.contains("done 50 steps"), "{rest}");
    let mut end = Vec::new();
    idle.read_to_end(&mut end).unwrap();
    assert!(end.ends_with(b"0\r\n\r\n"), "a clean end");
    let (success, log) = program.end();
    assert!(success && log.contains("drained=2") && log.contains("cut=0"), "{log}");
}

#[cfg(unix)]
#[test]
fn at_the_deadline_what_is_left_is_answered_with_an_error() {
    let program = Program::start(&["--shutdown-timeout", "100ms"]);
    let (mut busy, endpoint) = program.connect();
    assert!(program.post(&endpoint, &call(7, 1, 60_000)).contains("202"));
    // A later message is answered, so the call has begun.
    assert!(program.post(&endpoint, r#"{"jsonrpc":"2.0","id":8,"method":"ping"}"#).contains("202"));
    assert!(data(&mut busy).contains(r#""id":8"#));
    program.signal("-INT");
    let answer = data(&mut busy);
    assert!(answer.contains(r#""id":7"#) && answer.contains("shutting down"), "{answer}");
    let (success, log) = program.end();
    assert!(success && log.contains("cut=1"), "{log}");
}

#[cfg(unix)]
#[test]
fn a_second_signal_ends_it_at_once() {
    let program = Program::start(&["--shutdown-timeout", "1h"]);
    let (mut busy, endpoint) = program.connect();
    assert!(program.post(&endpoint, &call(7, 60, 60_000)).contains("202"));
    assert!(program.post(&endpoint, r#"{"jsonrpc":"2.0","id":8,"method":"ping"}"#).contains("202"));
    assert!(data(&mut busy).contains(r#""id":8"#));
    program.signal("-INT");
    // New requests are refused from the moment the signal was seen.
    while !program.post(&endpoint, r#"{"jsonrpc":"2.0","id":9,"method":"ping"}"#).contains("503") {}
    program.signal("-INT");
    assert!(program.end().0);
}

#[cfg(target_os = "linux")]
#[test]
fn a_log_that_cannot_be_written_stops_nothing() {
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let program = Program::start_with(&[], full.into());
    let (mut stream, endpoint) = program.connect();
    assert!(program.post(&endpoint, r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#).contains("202"));
    assert!(data(&mut stream).contains(r#""id":1"#));
}

#[test]
fn connections_over_the_bound_wait_until_another_ends() {
    let program = Program::start(&["--max-connections", "2"]);
    let (mut stream, endpoint) = program.connect();
    let (head, path) = ("content-type: application/json\r\nhost: localhost", endpoint);
    let ping = r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;
    let mut second = TcpStream::connect(&program.address).unwrap();
    let mut third = TcpStream::connect(&program.address).unwrap();
    write!(third, "GET /sse HTTP/1.1\r\nhost: localhost\r\n\r\n").unwrap();
    third.set_nonblocking(true).unwrap();
    // The server is busy with the second for many turns, in any of which it could take the third.
    for _ in 0..50 {
        write!(second, "POST {path} HTTP/1.1\r\n{head}\r\ncontent-length: {}\r\n\r\n{ping}", ping.len())
            .unwrap();
        assert!(data(&mut stream).contains(r#""id":1"#));
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
    let program = Program::start(&["--log-format", "json", "--log-level", "debug"]);
    let (stream, endpoint) = program.connect();
    assert!(program.post(&endpoint, r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#).contains("202"));
    assert!(program.post(&endpoint, "rubbish").contains("400"));
    drop(stream);
    program.signal("-TERM");
    let id = endpoint.split('=').nth(1).unwrap().to_owned();
    let (_, log) = program.end();
    assert!(!log.contains(&id), "{log}");
    assert!(log.lines().all(|line| line.starts_with('{') && line.ends_with('}')), "{log}");
    assert!(log.contains("session closed"), "{log}");
}

#[test]
fn an_address_that_is_not_loopback_serves_the_names_it_is_told_and_loopback_ones() {
    let program = Program::start(&["--host", "0.0.0.0", "--allowed-host", "mcp.example.com"]);
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
