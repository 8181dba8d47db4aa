//! Messages over the limit: each costs itself, and whoever waits for it is told; what comes after it passes.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
};

use crate::help::{Folder, INITIALIZE, PING, PROGRAM, Program, echo, until};

const LIMIT: [&str; 2] = ["--max-message-bytes", "100000"];
const OVER: &str = "over the limit of 100000; raise --max-message-bytes";

fn text() -> String {
    "é\\\"}{".repeat(50_000)
}

#[test]
fn an_answer_over_the_limit_costs_that_call_and_the_session_goes_on() {
    let folder = Folder::new();
    let text = text();
    // The id comes first, or last.
    let first = folder
        .write("first", &format!("{{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{{\"it\":\"{text}\"}}}}\n"));
    let last =
        folder.write("last", &format!("{{\"jsonrpc\":\"2.0\",\"result\":{{\"it\":\"{text}\"}},\"id\":2}}\n"));
    let note =
        folder.write("note", &format!("{{\"jsonrpc\":\"2.0\",\"method\":\"n\",\"params\":[\"{text}\"]}}\n"));
    let garbage = folder.write("garbage", &format!("{text}\n"));
    let script = format!(
        "read -r a; echo '{{\"jsonrpc\":\"2.0\",\"id\":0,\"result\":{{}}}}'; read -r a; cat {first}; cat {note} {garbage}; read -r a; cat {last}; exec cat"
    );
    let gateway = Program::script(&LIMIT, &script);
    let mut client = gateway.connect();
    client.accepted(INITIALIZE);
    client.answer(0);
    for id in [1, 2] {
        client.accepted(&format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"big"}}"#));
        let answer = client.answer(id);
        assert!(answer.contains(r#""error":{"code":-32603"#) && answer.contains(OVER), "{answer}");
    }
    client.accepted(PING);
    assert_eq!(client.data(), PING, "the session goes on");
    let log = gateway.log.until_says("a notification of the server");
    assert!(log.contains("it was skipped") && !log.contains("session closed"), "{log}");
}

#[test]
fn a_request_of_the_server_over_the_limit_is_answered_with_an_error() {
    let folder = Folder::new();
    let request = folder.write(
        "request",
        &format!("{{\"jsonrpc\":\"2.0\",\"params\":[\"{}\"],\"method\":\"m\",\"id\":\"s1\"}}\n", text()),
    );
    let taken = folder.path("taken");
    let script = format!("read -r a; cat {request}; head -n 1 > {taken}; exec cat");
    let gateway = Program::script(&LIMIT, &script);
    let mut client = gateway.connect();
    client.accepted(INITIALIZE);
    until("the server has its answer", || {
        std::fs::read_to_string(&taken).is_ok_and(|taken| taken.ends_with('\n'))
    });
    let answer = std::fs::read_to_string(&taken).unwrap();
    assert!(answer.contains(r#""id":"s1","error":{"code":-32603"#) && answer.contains(OVER), "{answer}");
    client.accepted(PING);
    assert_eq!(client.data(), PING);
}

#[test]
fn a_line_without_an_end_ends_its_session_and_nothing_else() {
    let gateway = Program::script(&LIMIT, "read -r a; exec tr '\\0' x < /dev/zero");
    let mut client = gateway.connect();
    client.accepted(INITIALIZE);
    let answer = client.answer(0);
    assert!(answer.contains("without the end of a line"), "{answer}");
    client.rest();
    gateway.log.until_says("server ended");
    assert!(gateway.get("/healthz").contains("200 OK"));
    let status = std::fs::read_to_string(format!("/proc/{}/status", gateway.pid())).unwrap_or_default();
    let peak =
        status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().split(' ').next()?.parse().ok());
    assert!(peak.is_none_or(|kib: u64| kib < 60_000), "{status}");
}

/// A server of others that answers each request with what `answer` gives for its body: an HTTP response.
fn http_server(answer: impl Fn(&str) -> String + Send + Sync + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let answer = Arc::new(answer);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (stream, answer) = (stream.unwrap(), Arc::clone(&answer));
            thread::spawn(move || while serve(&stream, &*answer).is_some() {});
        }
    });
    format!("http://{address}")
}

fn serve(stream: &TcpStream, answer: &dyn Fn(&str) -> String) -> Option<()> {
    let mut reader = BufReader::new(stream);
    let (mut head, mut length) = (String::new(), 0);
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head).ok()? == 0 {
            return None;
        }
    }
    for line in head.lines() {
        if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let request = format!("{head}{}", String::from_utf8(body).unwrap());
    let answer = answer(&request);
    (&*stream).write_all(answer.as_bytes()).ok()
}

fn response(kind: &str, body: &str) -> String {
    format!(
        "HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\nmcp-session-id: 1\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// What a Streamable HTTP server says: JSON bodies, or streams of events.
fn says(request: &str, events: bool) -> String {
    if !request.starts_with("POST") {
        return "HTTP/1.1 405 Method Not Allowed\r\ncontent-length: 0\r\n\r\n".to_owned();
    }
    let message = if request.contains("\"initialize\"") {
        r#"{"jsonrpc":"2.0","id":0,"result":{"protocolVersion":"2025-06-18","capabilities":{},"serverInfo":{"name":"x","version":"0"}}}"#
            .to_owned()
    } else if request.contains("\"id\":1,") {
        format!(
            r#"{{"jsonrpc":"2.0","result":{{"content":[{{"type":"text","text":"{}"}}]}},"id":1}}"#,
            text()
        )
    } else if request.contains("\"id\":2,") {
        r#"{"jsonrpc":"2.0","result":{"content":[{"type":"text","text":"small"}]},"id":2}"#.to_owned()
    } else {
        return "HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n".to_owned();
    };
    if events {
        response("text/event-stream", &format!("data: {message}\n\n"))
    } else {
        response("application/json", &message)
    }
}

#[test]
fn an_answer_of_a_streamable_http_server_over_the_limit_costs_that_call() {
    for events in [false, true] {
        let url = http_server(move |request| says(request, events));
        let mut arguments = vec!["--upstream", &url, "--transport", "http"];
        arguments.extend(LIMIT);
        let gateway = Program::start("serve", &arguments);
        let mut client = gateway.connect();
        client.initialize();
        client.accepted(&echo(1, "big"));
        let answer = client.answer(1);
        assert!(
            answer.contains("\"error\"")
                && answer.contains("more than 100000 bytes") != events
                && answer.contains(OVER) == events,
            "events {events}: {answer}"
        );
        client.accepted(&echo(2, "small"));
        let answer = client.answer(2);
        assert!(answer.contains("small"), "events {events}: {answer}");
    }
}

#[test]
fn an_answer_of_an_sse_server_over_the_limit_costs_that_call() {
    let streams: Arc<Mutex<Vec<TcpStream>>> = Arc::default();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/sse", listener.local_addr().unwrap());
    let heard: Arc<Mutex<String>> = Arc::default();
    let (all, hears) = (Arc::clone(&streams), Arc::clone(&heard));
    thread::spawn(move || {
        for stream in listener.incoming() {
            let stream = stream.unwrap();
            let (all, hears) = (Arc::clone(&all), Arc::clone(&hears));
            thread::spawn(move || {
                let answer = |request: &str| {
                    if request.starts_with("GET") {
                        all.lock().unwrap().push(stream.try_clone().unwrap());
                        return "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\nevent: endpoint\ndata: /m\n\n"
                            .to_owned();
                    }
                    hears.lock().unwrap().push_str(request);
                    let id = |id: u32| request.contains(&format!("\"id\":{id},"));
                    let event = if id(0) {
                        r#"{"jsonrpc":"2.0","id":0,"result":{}}"#.to_owned()
                    } else if id(1) {
                        format!(
                            "{{\"jsonrpc\":\"2.0\",\"result\":{{\"it\":\"{}\"}},\ndata: \"id\":1}}\n\ndata: {{\"jsonrpc\":\"2.0\",\"method\":\"m\",\"params\":[\"{}\"],\"id\":\"s1\"}}",
                            text(),
                            text()
                        )
                    } else if id(2) {
                        r#"{"jsonrpc":"2.0","id":2,"result":{"it":"small"}}"#.to_owned()
                    } else {
                        String::new()
                    };
                    if !event.is_empty() {
                        let mut stream = &all.lock().unwrap()[0];
                        stream.write_all(format!("data: {event}\n\n").as_bytes()).unwrap();
                    }
                    "HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n".to_owned()
                };
                while serve(&stream, &answer).is_some() {}
            });
        }
    });
    let mut arguments = vec!["--upstream", &url, "--transport", "sse"];
    arguments.extend(LIMIT);
    let gateway = Program::start("serve", &arguments);
    let mut client = gateway.connect();
    client.initialize();
    client.accepted(&echo(1, "big"));
    let answer = client.answer(1);
    assert!(answer.contains("\"error\"") && answer.contains(OVER), "{answer}");
    client.accepted(&echo(2, "small"));
    assert!(client.answer(2).contains("small"));
    until("the server has its answer", || {
        let heard = heard.lock().unwrap();
        heard.contains(r#""id":"s1","error":{"code":-32603"#) && heard.contains(OVER)
    });
}

#[test]
fn a_message_of_the_client_on_stdin_over_the_limit_costs_itself() {
    let remote = Program::gateway(&[]);
    let url = format!("http://{}/sse", remote.address);
    let mut bridge = std::process::Command::new(PROGRAM)
        .args(["connect", &url, "--max-message-bytes", "100000"])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let mut stdin = bridge.stdin.take().unwrap();
    let out = crate::help::Written::by(bridge.stdout.take().unwrap());
    writeln!(stdin, "{INITIALIZE}").unwrap();
    out.until_says("serverInfo");
    writeln!(stdin, "{}", echo(1, &"x".repeat(100_000))).unwrap();
    let said = out.until_says("\"id\":1");
    assert!(said.contains(r#""id":1,"error":{"code":-32603"#) && said.contains(OVER), "{said}");
    writeln!(stdin, "{}", echo(2, "small")).unwrap();
    out.until_says("small");
    drop(stdin);
    assert!(bridge.wait().unwrap().success());
}
