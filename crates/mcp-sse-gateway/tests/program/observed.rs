//! What an operator sees: metrics and the audit log.

use std::{collections::BTreeMap, fs, time::Duration};

use serde_json::Value;

use crate::help::{Folder, INITIALIZE, PING, PROGRAM, Program, echo, long_task, refused};

/// The gateway with metrics, and the address that they are at.
fn measured(options: &[&str]) -> (Program, String) {
    let gateway = Program::gateway(&[&["--admin", "127.0.0.1:0", "--metrics"][..], options].concat());
    let line = gateway.greeting.lines().find(|line| line.starts_with("Metrics ")).unwrap();
    let address = line.split("://").nth(1).unwrap().split('/').next().unwrap().to_owned();
    (gateway, address)
}

fn scrape(address: &str, accept: &str) -> String {
    use std::io::{Read as _, Write as _};
    let mut socket = std::net::TcpStream::connect(address).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    write!(socket, "GET /metrics HTTP/1.1\r\nhost: localhost\r\naccept: {accept}\r\n\r\n").unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    answer
}

/// The values by their names and labels.
fn values(address: &str) -> BTreeMap<String, f64> {
    let text = scrape(address, "text/plain");
    let lines = text.split_once("\r\n\r\n").unwrap().1.lines().filter(|line| !line.starts_with('#'));
    let values = lines.filter_map(|line| {
        let (name, value) = line.rsplit_once(' ')?;
        Some((name.to_owned(), value.parse().ok()?))
    });
    values.collect()
}

fn until(address: &str, what: &str, is_so: impl Fn(&BTreeMap<String, f64>) -> bool) -> BTreeMap<String, f64> {
    let mut last = values(address);
    crate::help::until(what, || {
        last = values(address);
        is_so(&last)
    });
    last
}

fn count(values: &BTreeMap<String, f64>, name: &str, labels: &[&str]) -> f64 {
    let fits =
        |key: &str| key.split('{').next() == Some(name) && labels.iter().all(|label| key.contains(label));
    values.iter().filter(|(key, _)| fits(key)).map(|(_, value)| value).sum()
}

const CALLS: &str = "mcp_server_operation_duration_seconds_count";

#[test]
fn after_a_run_the_counts_are_exact() {
    let (gateway, metrics) = measured(&["--resume-window", "1s"]);
    let mut session = gateway.connect();
    session.initialize();
    for id in 1..=3 {
        session.echo(id, "hello");
    }
    session.accepted(
        r#"{"jsonrpc":"2.0","id":4,"method":"tools/call","params":{"name":"invented","arguments":{}}}"#,
    );
    session.answer(4);
    session.accepted(r#"{"jsonrpc":"2.0","id":5,"method":"invented/method"}"#);
    session.answer(5);
    session.accepted(&long_task(6, 1000, 100));
    session.accepted(r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":6}}"#);
    // The same over Streamable HTTP.
    let head =
        "POST /mcp HTTP/1.1\r\naccept: application/json, text/event-stream\r\ncontent-type: application/json";
    let answer = gateway.request(head, INITIALIZE);
    let id = answer.lines().find(|line| line.starts_with("mcp-session-id:")).unwrap();
    assert!(gateway.request(&format!("{head}\r\n{id}"), PING).starts_with("HTTP/1.1 200"));
    // And what is refused.
    for _ in 0..2 {
        assert!(gateway.request("GET /sse HTTP/1.1\r\nhost: evil.example", "").contains("421"));
    }
    assert!(
        gateway.request("POST /messages/ HTTP/1.1\r\ncontent-type: application/json", PING).contains("400")
    );
    assert!(gateway.request(&format!("{head}\r\nmcp-session-id: none"), PING).contains("404"));
    let now = until(&metrics, "the cancelled call", |now| count(now, CALLS, &["cancelled"]) == 1.0);
    for (labels, expected) in [
        (&["\"tools/call\"", "gen_ai_tool_name=\"echo\"", "error_type=\"\"", "server=\"/\""][..], 3.0),
        (&["\"tools/call\"", "gen_ai_tool_name=\"_OTHER\"", "error_type=\"error\""], 1.0),
        (&["mcp_method_name=\"_OTHER\"", "error_type=\"error\""], 1.0),
        (&["\"initialize\"", "error_type=\"\""], 2.0),
        (&["\"ping\""], 1.0),
        (&[], 9.0),
    ] {
        assert_eq!(count(&now, CALLS, labels), expected, "{labels:?}: {now:#?}");
    }
    for (name, labels, expected) in [
        ("mcp_sse_sessions", &["\"sse\""][..], 1.0),
        ("mcp_sse_sessions", &["\"streamable_http\""], 1.0),
        ("mcp_sse_sessions_opened_total", &["\"sse\""], 1.0),
        ("mcp_sse_sessions_opened_total", &["\"streamable_http\""], 1.0),
        ("mcp_sse_programs", &["running"], 2.0),
        ("mcp_sse_silent_sessions", &[], 0.0),
        ("mcp_sse_messages_total", &["from_client", "\"sse\""], 9.0),
        ("mcp_sse_messages_total", &["from_client", "\"streamable_http\""], 2.0),
        ("mcp_sse_refusals_total", &["invalid_host"], 2.0),
        ("mcp_sse_refusals_total", &["session_id_required"], 1.0),
        ("mcp_sse_refusals_total", &["session_not_found"], 1.0),
        ("mcp_sse_refusals_total", &[], 4.0),
    ] {
        assert_eq!(count(&now, name, labels), expected, "{name} {labels:?}: {now:#?}");
    }
    assert!(count(&now, "mcp_sse_program_memory_bytes", &[]) > 1e6);
    let secret = session.id();
    drop(session);
    let now = until(&metrics, "its end", |now| count(now, "mcp_sse_sessions", &["\"sse\""]) == 0.0);
    assert_eq!(count(&now, "mcp_sse_sessions_closed_total", &["client_gone"]), 1.0);
    assert_eq!(count(&now, "mcp_server_session_duration_seconds_count", &["\"sse\""]), 1.0);
    let text = scrape(&metrics, "application/openmetrics-text; version=1.0.0, text/plain;q=0.5");
    assert!(text.contains("application/openmetrics-text") && text.ends_with("# EOF\n"));
    assert!(!text.contains(&secret) && !text.contains("invented"), "{text}");
}

#[test]
fn what_a_client_makes_up_adds_next_to_nothing() {
    let (gateway, metrics) = measured(&[]);
    let mut session = gateway.connect();
    session.initialize();
    session.echo(1, "hello");
    let before = values(&metrics).len();
    for number in 2..500 {
        let invented = if number % 2 == 0 {
            format!(r#"{{"jsonrpc":"2.0","id":{number},"method":"invented/{number}"}}"#)
        } else {
            let name = format!(r#"{{"name":"invented {number}","arguments":{{}}}}"#);
            format!(r#"{{"jsonrpc":"2.0","id":{number},"method":"tools/call","params":{name}}}"#)
        };
        session.accepted(&invented);
        session.answer(number);
    }
    let now = values(&metrics);
    assert_eq!(count(&now, CALLS, &["_OTHER"]), 498.0);
    assert!(now.len() <= before + 50, "{before} {}", now.len());
}

/// The names of metrics in a text.
fn names_in(text: &str) -> Vec<String> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter(|word| word.starts_with("mcp_s") && word.contains("_s")).map(str::to_owned).collect()
}

#[test]
fn the_dashboard_and_the_alerts_ask_for_metrics_that_there_are() {
    // One of several, so that what is measured of replicas is there.
    let engine = crate::engines::Engine::nats();
    let url = engine.url();
    let (gateway, metrics) = measured(&["--cluster", &url, "--replica-name", "a"]);
    gateway.connect().initialize();
    assert!(gateway.request("GET /sse HTTP/1.1\r\nhost: evil.example", "").contains("421"));
    let head =
        "POST /mcp HTTP/1.1\r\naccept: application/json, text/event-stream\r\ncontent-type: application/json";
    let answer = gateway.request(head, INITIALIZE);
    let id = answer.lines().find(|line| line.starts_with("mcp-session-id:")).unwrap();
    gateway.request(&format!("DELETE /mcp HTTP/1.1\r\naccept: text/event-stream\r\n{id}"), "");
    let now = until(&metrics, "an end", |now| count(now, "mcp_sse_sessions_closed_total", &[]) == 1.0);
    let there: Vec<&str> = now.keys().map(|key| key.split('{').next().unwrap()).collect();
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../../");
    let dashboard: Value =
        serde_json::from_str(&fs::read_to_string(format!("{root}deploy/grafana/mcp-sse.json")).unwrap())
            .unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let queries = panels.iter().flat_map(|panel| panel["targets"].as_array().unwrap());
    let mut asked: Vec<String> =
        queries.flat_map(|query| names_in(query["expr"].as_str().unwrap())).collect();
    assert!(asked.len() >= 15, "{asked:?}");
    let manual = fs::read_to_string(format!("{root}docs/operating.md")).unwrap();
    let (_, alerts) = manual.split_once("```yaml\ngroups:").unwrap();
    asked.extend(names_in(alerts.split_once("```").unwrap().0));
    for name in asked {
        assert!(there.contains(&&*name), "{name} is not one of {there:?}");
    }
}

#[test]
fn the_admin_place_shows_no_more_than_health_to_who_has_no_key() {
    let folder = Folder::new();
    let keys = folder.write("keys", "prometheus scrape-0123456789abcdef\n");
    fs::set_permissions(&keys, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let (_gateway, metrics) = measured(&["--admin-token-file", &keys]);
    let status = |path: &str, key: &str| {
        use std::io::{Read as _, Write as _};
        let mut socket = std::net::TcpStream::connect(&metrics).unwrap();
        write!(socket, "GET {path} HTTP/1.1\r\nhost: x\r\n{key}\r\n").unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).unwrap();
        answer[9..12].to_owned()
    };
    let key = "authorization: Bearer scrape-0123456789abcdef\r\n";
    assert_eq!(
        (&*status("/metrics", ""), &*status("/metrics", "authorization: Bearer x\r\n")),
        ("401", "401")
    );
    assert_eq!((&*status("/elsewhere", ""), &*status("/healthz", "")), ("401", "200"));
    assert_eq!((&*status("/metrics", key), &*status("/elsewhere", key)), ("200", "404"));
    // A name that means this machine may be that of a web page (DNS rebinding).
    let (_gateway, metrics) = measured(&[]);
    let status = |host: &str| {
        use std::io::{Read as _, Write as _};
        let mut socket = std::net::TcpStream::connect(&metrics).unwrap();
        write!(socket, "GET /metrics HTTP/1.1\r\nhost: {host}\r\n\r\n").unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).unwrap();
        answer[9..12].to_owned()
    };
    let found =
        ["evil.example", "localhost.evil.example:1", "localhost:1", "127.0.0.1", "[::1]:80"].map(status);
    assert_eq!(found, ["421", "421", "200", "200", "200"]);
    // A page of another origin may not have anything done.
    let found = ["cross-site", "same-site", "same-origin", "none"]
        .map(|site| status(&format!("localhost\r\nsec-fetch-site: {site}")));
    assert_eq!(found, ["403", "403", "200", "200"]);
    assert_eq!(status("localhost\r\norigin: http://evil.example"), "403");
    let open =
        ["serve", "--port", "0", "--admin", "0.0.0.0:0", "--metrics", "--", PROGRAM, "demo", "--stdio"];
    let why = refused(&open);
    assert!(why.contains("--metrics needs --admin-token-file"), "{why}");
}

fn lines(file: &str) -> Vec<Value> {
    let text = fs::read_to_string(file).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn each_call_has_a_line_in_the_audit_log_and_no_argument_is_in_it() {
    let folder = Folder::new();
    let file = folder.path("audit");
    let keys = folder.write("keys", "alice alice-0123456789abcdef\n");
    fs::set_permissions(&keys, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let gateway =
        Program::gateway(&["--audit-log", &file, "--bearer-token-file", &keys, "--shutdown-timeout", "1s"]);
    let mut session = gateway.connect_with("/sse", "authorization: Bearer alice-0123456789abcdef\r\n");
    session.initialize();
    session.echo(1, "a secret argument");
    crate::help::until("two lines", || lines(&file).len() == 2);
    // It is rotated.
    fs::rename(&file, folder.path("audit.1")).unwrap();
    crate::help::until("it follows", || {
        session.echo(2, "again");
        !lines(&file).is_empty()
    });
    // Without an id, and with two names.
    session.accepted(r#"{"jsonrpc":"2.0","method":"tools/call","params":{"name":"echo","arguments":{}}}"#);
    session.accepted(
        r#"{"jsonrpc":"2.0","id":3,"method":"tools/call","params":{"name":"echo","name":"add","arguments":{}}}"#,
    );
    session.answer(3);
    session.accepted(&format!(r#"{{"jsonrpc":"2.0","id":4,"method":"{}"}}"#, "é".repeat(1000)));
    session.answer(4);
    session.accepted(&long_task(7, 1000, 100));
    drop(session);
    gateway.signal("-TERM");
    assert!(gateway.ends());
    let first = lines(&folder.path("audit.1"));
    let [initialize, called, ..] = &first[..] else { panic!("{first:?}") };
    assert_eq!((initialize["method"].as_str(), &initialize["tool"]), (Some("initialize"), &Value::Null));
    assert_eq!((called["tool"].as_str(), called["outcome"].as_str()), (Some("echo"), Some("ok")));
    assert_eq!((called["principal"].as_str(), called["server"].as_str()), (Some("alice"), Some("/")));
    assert_eq!((called["address"].as_str(), called["transport"].as_str()), (Some("127.0.0.1"), Some("sse")));
    assert!(called["milliseconds"].as_f64().unwrap() > 0.0 && called["bytes_in"].as_u64().unwrap() > 80);
    let mut after = lines(&file);
    let last = after.pop().unwrap();
    let cut = after.pop().unwrap();
    assert_eq!((cut["method"].as_str(), cut["outcome"].as_str()), (Some(&*"é".repeat(128)), Some("error")));
    let [.., told, twice] = &after[..] else { panic!("{after:?}") };
    assert_eq!((told["tool"].as_str(), told["outcome"].as_str()), (Some("echo"), Some("notification")));
    assert_eq!(
        (twice["tool"].as_str(), twice["method"].as_str()),
        (Some("(unreadable)"), Some("tools/call"))
    );
    assert_eq!((last["tool"].as_str(), last["outcome"].as_str()), (Some("long_task"), Some("session_ended")));
    let text = fs::read_to_string(folder.path("audit.1")).unwrap();
    assert!(!text.contains("secret") && !text.contains("0123456789abcdef"));
}

#[test]
fn without_its_line_no_call_is_taken_unless_lines_may_be_lost() {
    let gateway = Program::gateway(&["--audit-log", "/dev/full", "--shutdown-timeout", "1s"]);
    let mut session = gateway.connect();
    // Its line has a place, and cannot be written.
    session.accepted(INITIALIZE);
    session.answer(0);
    gateway.log.until_says("the audit log cannot be written; no call is taken until it can be");
    session.accepted(&echo(1, "not answered"));
    assert!(gateway.get("/healthz").starts_with("HTTP/1.1 200"));
    gateway.signal("-TERM");
    assert!(!session.rest().contains("not answered"));

    let lossy = Program::gateway(&["--audit-log", "/dev/full", "--audit-lossy"]);
    let mut session = lossy.connect();
    session.initialize();
    session.echo(1, "answered");
    lossy.log.until_says("lines of the audit log were lost");

    let why = refused(&["serve", "--audit-log", "/nowhere/audit", "--", PROGRAM, "demo", "--stdio"]);
    assert!(why.contains("--audit-log /nowhere/audit"), "{why}");
    let why = refused(&["serve", "--metrics", "--", PROGRAM, "demo", "--stdio"]);
    assert!(why.contains("--admin"), "{why}");
}

#[test]
fn the_status_tells_which_server_is_ill_and_why() {
    let folder = Folder::new();
    let config = serde_json::json!({ "mcpServers": {
        "well": { "command": PROGRAM, "args": ["demo", "--stdio"] },
        "dies": { "command": "sh", "args": ["-c", "echo broken >&2; exit 3"] },
        "header": { "command": PROGRAM, "args": ["demo", "--stdio"], "envFromHeader": { "x-key": "KEY" } },
    }});
    let file = folder.write("mcp.json", &config.to_string());
    let socket = folder.path("admin");
    let place = format!("unix:{socket}");
    let gateway =
        Program::start("serve", &["--config", &file, "--admin", &place, "--health-check", "server"]);
    let get = |path: &str| {
        use std::io::{Read as _, Write as _};
        let mut socket = std::os::unix::net::UnixStream::connect(&socket).unwrap();
        write!(socket, "GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n").unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head[9..12].to_owned(), serde_json::from_str::<Value>(body).unwrap_or_default())
    };
    let (code, status) = get("/status?probe");
    assert_eq!(code, "200");
    let servers = &status["servers"];
    assert_eq!(
        (&servers["well"]["probe"]["ok"], &servers["well"]["last_error"]),
        (&true.into(), &Value::Null)
    );
    assert!(servers["well"]["probe"]["milliseconds"].as_f64().unwrap() > 0.0);
    assert_eq!(servers["dies"]["probe"]["ok"], false);
    assert!(servers["dies"]["probe"]["error"].as_str().unwrap().contains("broken"), "{status}");
    assert_eq!(servers["dies"]["last_error"]["text"], servers["dies"]["probe"]["error"]);
    assert_eq!((&servers["header"]["probe"], &servers["header"]["last_start"]), (&Value::Null, &Value::Null));
    // They are not started again for the next.
    let (_, again) = get("/status?probe");
    assert_eq!(again["servers"]["well"]["last_start"], servers["well"]["last_start"]);
    // Strangers see how many are ill, not which.
    let ready = gateway.get("/readyz");
    assert!(ready.starts_with("HTTP/1.1 503") && ready.contains("\"servers_not_ready\":1"), "{ready}");
    assert!(!ready.contains("dies"), "{ready}");
    assert!(gateway.get("/status").starts_with("HTTP/1.1 404"));
    // A session counts until it ends.
    let mut session = gateway.connect_at("/well/sse");
    session.initialize();
    assert_eq!(get("/status").1["servers"]["well"]["sessions"], 1);
}
