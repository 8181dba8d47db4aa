//! `mcp-sse connect`: a stdio server in front of a remote one.

use std::{
    io::Write,
    process::{Child, ChildStdin, Command, Stdio},
};

use crate::help::{INITIALIZE, PING, PROGRAM, Program, Written, count, echo, long_task};

struct Bridge {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: Written,
    log: Written,
}

impl Bridge {
    fn to(url: &str, options: &[&str]) -> Self {
        let mut child = Command::new(PROGRAM)
            .args(["connect", url])
            .args(options)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stdout = Written::by(child.stdout.take().unwrap());
        let log = Written::by(child.stderr.take().unwrap());
        Self { stdin: child.stdin.take(), child, stdout, log }
    }

    fn say(&mut self, line: &str) {
        writeln!(self.stdin.as_mut().unwrap(), "{line}").unwrap();
    }

    fn hear(&self, text: &str) -> String {
        let written = self.stdout.until_says(text);
        written.lines().find(|line| line.contains(text)).unwrap().to_owned()
    }

    fn initialize(&mut self) {
        self.say(INITIALIZE);
        assert!(self.hear(r#""id":0"#).contains("mcp-sse demo"));
        self.say(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#);
    }

    fn end(mut self) -> (bool, String, String) {
        drop(self.stdin.take());
        let (out, log) = (self.stdout.all(), self.log.all());
        (self.child.wait().unwrap().success(), out, log)
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_stdio_client_reaches_a_remote_server_whatever_it_speaks() {
    let remote = Program::gateway(&["--resume-window", "0s"]);
    for path in ["/sse", "/mcp"] {
        let mut bridge = Bridge::to(&format!("http://{}{path}", remote.address), &[]);
        bridge.initialize();
        bridge.say("rubbish");
        bridge.say(&echo(1, "hello"));
        assert!(bridge.hear(r#""id":1"#).contains("hello"));
        bridge.say(&long_task(2, 3, 5));
        assert!(bridge.hear(r#""id":2"#).contains("done 3 steps"));
        let before = count(&remote.log.so_far(), "server ended");
        let (success, out, log) = bridge.end();
        assert!(success && log.contains("is not a message"), "{log}");
        assert_eq!(count(&out, "notifications/progress"), 3);
        assert!(out.lines().all(|line| line.starts_with('{')), "{out}");
        remote.log.until("its end", |log| count(log, "server ended") > before);
    }
}

#[test]
fn a_broken_session_is_made_again_and_the_client_goes_on() {
    for path in ["/sse", "/mcp"] {
        let remote = Program::gateway(&["--shutdown-timeout", "0s"]);
        let port = remote.address.split(':').nth(1).unwrap().to_owned();
        let mut bridge = Bridge::to(&format!("http://{}{path}", remote.address), &[]);
        bridge.initialize();
        bridge.say(&long_task(1, 60, 60_000));
        bridge.say(PING);
        bridge.hear(r#""id":9"#);
        remote.signal("-KILL");
        // What was pending is answered, and stderr says what went wrong.
        assert!(bridge.hear(r#""id":1"#).contains(r#""error""#));
        drop(remote);
        let remote = Program::prepare("serve", &port, &["--", PROGRAM, "demo", "--stdio"]).piped();
        if path == "/sse" {
            // Without being asked, for what the server has to say.
            bridge.log.until_says("is back");
        }
        bridge.say(&echo(2, "after"));
        assert!(bridge.hear(r#""id":2"#).contains("after"));
        let (success, out, log) = bridge.end();
        assert!(success && log.contains("WARN"), "{log}");
        assert_eq!(count(&out, "serverInfo"), 1, "the client never hears of the second initialize: {out}");
        drop(remote);
    }
}

#[test]
fn a_call_in_a_session_that_was_made_again_may_take_longer_than_a_start() {
    let remote = Program::gateway(&["--shutdown-timeout", "0s"]);
    let port = remote.address.split(':').nth(1).unwrap().to_owned();
    let mut bridge = Bridge::to(&format!("http://{}/sse", remote.address), &["--start-timeout", "3s"]);
    bridge.initialize();
    bridge.say(PING);
    bridge.hear(r#""id":9"#);
    remote.signal("-KILL");
    drop(remote);
    // By now it waits for a while before it tries again, unless it is asked to.
    bridge.log.until("a longer pause", |log| count(log, "trying again") >= 4);
    let remote = Program::prepare("serve", &port, &["--", PROGRAM, "demo", "--stdio"]).piped();
    bridge.say(&long_task(2, 1, 4_000));
    let answer = bridge.hear(r#""id":2"#);
    assert!(answer.contains("done 1 steps"), "{answer}");
    drop(remote);
}

#[test]
fn a_server_that_is_not_there_is_said_and_tried_again() {
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = nobody.local_addr().unwrap();
    drop(nobody);
    let mut bridge = Bridge::to(&format!("http://{address}/sse"), &[]);
    bridge.say(INITIALIZE);
    assert!(bridge.hear(r#""id":0"#).contains("Connection refused"));
    let remote =
        Program::prepare("serve", &address.port().to_string(), &["--", PROGRAM, "demo", "--stdio"]).piped();
    bridge.say(&INITIALIZE.replace(r#""id":0"#, r#""id":5"#));
    assert!(bridge.hear(r#""id":5"#).contains("mcp-sse demo"));
    let (success, _, log) = bridge.end();
    assert!(success && log.contains("Connection refused"), "{log}");
    drop(remote);
}

#[test]
fn a_client_that_closes_its_side_at_once_still_gets_its_answers() {
    let remote = Program::gateway(&["--resume-window", "0s"]);
    for path in ["/sse", "/mcp"] {
        let mut bridge = Bridge::to(&format!("http://{}{path}", remote.address), &[]);
        bridge.say(INITIALIZE);
        bridge.say(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#);
        bridge.say(&echo(1, "hello"));
        let before = count(&remote.log.so_far(), "server ended");
        let (success, out, log) = bridge.end();
        assert!(success && out.contains("serverInfo") && out.contains("hello"), "{out}\n{log}");
        remote.log.until("its end", |log| count(log, "server ended") > before);
    }
}

#[test]
fn a_line_without_an_end_ends_it_with_an_error() {
    let remote = Program::gateway(&[]);
    let mut bridge =
        Bridge::to(&format!("http://{}/sse", remote.address), &["--max-message-bytes", "100000"]);
    bridge.initialize();
    // It may be gone before it has it all.
    let stdin = bridge.stdin.as_mut().unwrap();
    while stdin.write_all(&[b'x'; 100_000]).is_ok() {}
    let (success, _, log) = bridge.end();
    assert!(!success && log.contains("a line on stdin does not end"), "{log}");
}

#[test]
fn a_signal_ends_the_session_there() {
    let remote = Program::gateway(&["--resume-window", "0s"]);
    for path in ["/sse", "/mcp"] {
        let mut bridge = Bridge::to(&format!("http://{}{path}", remote.address), &[]);
        bridge.initialize();
        let before = count(&remote.log.so_far(), "server ended");
        crate::help::signal_to(bridge.child.id(), "-TERM");
        let (success, _, log) = bridge.end();
        assert!(success, "{log}");
        remote.log.until("its end", |log| count(log, "server ended") > before);
    }
}
