//! The page, from outside a browser: who is shown what, and what an operator can do.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpStream,
    os::unix::fs::PermissionsExt as _,
    process::Command,
    time::Duration,
};

use serde_json::{Value, json};

use crate::help::{Folder, INITIALIZE, PROGRAM, Program};

const KEY: &str = "alice-5c8zLq0vTnW4xYbK";
const OTHER: &str = "bob-j2Rr7dMhUe9sPfGa";

/// Sends a request of a head and returns status and body.
pub(crate) fn ask(address: &str, head: &str) -> (String, String) {
    let mut socket = TcpStream::connect(address).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    write!(socket, "{head}\r\nconnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head[9..12].to_owned(), body.to_owned())
}

pub(crate) fn get(address: &str, path: &str, more: &str) -> (String, String) {
    ask(address, &format!("GET {path} HTTP/1.1\r\nhost: localhost{more}"))
}

/// The address of the admin place.
pub(crate) fn admin(gateway: &Program) -> String {
    let line = gateway.greeting.lines().find(|line| line.starts_with("Sessions ")).unwrap();
    line.split("://").nth(1).unwrap().split('/').next().unwrap().to_owned()
}

pub(crate) fn keys(folder: &Folder, name: &str, text: &str) -> String {
    let file = folder.write(name, text);
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    file
}

#[test]
fn a_visitor_sees_the_servers_that_he_may_use() {
    let folder = Folder::new();
    let demo = |more: Value| {
        let mut server = json!({ "command": PROGRAM, "args": ["demo", "--stdio"] });
        server.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        server
    };
    let config = json!({ "mcpServers": {
        "open": demo(json!({})),
        "hers": demo(json!({ "auth": { "bearerTokenFile": keys(&folder, "hers", &format!("alice {KEY}\n")) } })),
        "his": demo(json!({ "auth": { "bearerTokenFile": keys(&folder, "his", &format!("bob {OTHER}\n")) } })),
    }});
    let gateway = Program::start("serve", &["--config", &folder.write("mcp.json", &config.to_string())]);
    assert!(gateway.greeting.contains("\nThe page           http://127.0.0.1:"), "{}", gateway.greeting);
    let seen = |key: &str| {
        let (code, body) = get(&gateway.address, "/_page/servers.json", key);
        assert_eq!(code, "200");
        let seen: Value = serde_json::from_str(&body).unwrap();
        let names: Vec<_> = seen["servers"]
            .as_array()
            .unwrap()
            .iter()
            .map(|one| one["name"].as_str().unwrap().to_owned())
            .collect();
        (names, seen["locked"].as_bool().unwrap(), seen)
    };
    let (names, locked, all) = seen("");
    assert_eq!((&names[..], locked), (&["open".to_owned()][..], true));
    assert_eq!(
        all["servers"][0],
        json!({ "name": "open", "sse": "/open/sse", "messages": "/open/messages/", "mcp": "/open/mcp", "needs": null })
    );
    let (names, locked, all) = seen(&format!("\r\nauthorization: Bearer {KEY}"));
    assert_eq!((&names[..], locked), (&["hers".to_owned(), "open".to_owned()][..], true));
    assert_eq!(all["servers"][0]["needs"], "key");
    assert_eq!(seen("\r\nauthorization: Bearer wrong-5c8zLq0vTnW4xYbK").0, ["open"]);
    // What runs behind is nobody's business.
    assert!(!all.to_string().contains("demo"), "{all}");

    for path in ["/", "/_page/app.js", "/_page/servers.json", "/_page/style.css"] {
        assert_eq!(get(&gateway.address, path, "").0, "200", "{path}");
        let evil = ask(&gateway.address, &format!("GET {path} HTTP/1.1\r\nhost: evil.example"));
        assert_eq!(evil.0, "421", "{path}");
    }
    assert_eq!(get(&gateway.address, "/_page/../Cargo.toml", "").0, "404");
    assert_eq!(get(&gateway.address, "/sessions", "").0, "404");
}

#[test]
fn the_page_is_there_only_for_this_machine_unless_it_is_asked_for() {
    for (options, there) in [
        (&["--listen", "0.0.0.0:0", "--allowed-host", "localhost"][..], false),
        (&["--listen", "0.0.0.0:0", "--allowed-host", "localhost", "--page"], true),
        (&["--trust-forwarded-for", "1"], false),
        (&["--page=off"], false),
    ] {
        let mut arguments = options.to_vec();
        arguments.extend(["--", PROGRAM, "demo", "--stdio"]);
        let mut command = Command::new(PROGRAM);
        command.arg("serve").args(if options[0] == "--listen" { &[][..] } else { &["--port", "0"] });
        command.args(&arguments);
        let gateway = Program::prepare_command(command).piped();
        let address = gateway.address.replace("0.0.0.0", "127.0.0.1");
        let code = get(&address, "/", "").0;
        assert_eq!(code, if there { "200" } else { "404" }, "{options:?}");
        assert_eq!(get(&address, "/_page/servers.json", "").0, code);
    }
}

#[test]
fn the_demo_has_it_too() {
    let folder = Folder::new();
    let file = keys(&folder, "keys", &format!("alice {KEY}\n"));
    let open = Program::demo(&[]);
    assert!(open.greeting.contains("In a browser: http://127.0.0.1:"), "{}", open.greeting);
    assert_eq!(get(&open.address, "/", "").0, "200");
    let seen: Value = serde_json::from_str(&get(&open.address, "/_page/servers.json", "").1).unwrap();
    let expected = json!({ "name": "", "sse": "/sse", "messages": "/messages/", "mcp": null, "needs": null });
    assert_eq!(seen["servers"], json!([expected]));
    let locked = Program::demo(&["--bearer-token-file", &file]);
    let seen: Value = serde_json::from_str(&get(&locked.address, "/_page/servers.json", "").1).unwrap();
    assert_eq!((&seen["servers"], &seen["locked"]), (&json!([]), &json!(true)));
    assert_eq!(ask(&locked.address, "GET / HTTP/1.1\r\nhost: evil.example").0, "421");
}

#[test]
fn an_operator_sees_each_session_and_can_end_it() {
    let gateway = Program::gateway(&["--admin", "127.0.0.1:0"]);
    let admin = admin(&gateway);
    let sessions = || serde_json::from_str::<Value>(&get(&admin, "/sessions", "").1).unwrap();
    assert_eq!(sessions(), json!({ "total": 0, "sessions": [] }));
    let mut session = gateway.connect();
    session.initialize();
    session.echo(1, "hello");
    session.accepted(r#"{"jsonrpc":"2.0","id":2,"method":"nothing/like/this"}"#);
    session.answer(2);
    session.accepted(&crate::help::long_task(3, 1000, 100));
    let mcp =
        "POST /mcp HTTP/1.1\r\naccept: application/json, text/event-stream\r\ncontent-type: application/json";
    gateway.request(mcp, INITIALIZE);
    crate::help::until("all of it is seen", || {
        let now = sessions();
        now["total"] == 2 && now["sessions"].as_array().unwrap().iter().any(|one| one["calls"] == 4)
    });
    let now = sessions();
    let all = now["sessions"].as_array().unwrap();
    let sse = all.iter().find(|one| one["transport"] == "sse").unwrap();
    for (key, value) in [
        ("server", json!("/")),
        ("principal", Value::Null),
        ("address", json!("127.0.0.1")),
        ("in_flight", json!(1)),
        ("errors", json!(1)),
        ("last_call", json!("tools/call long_task")),
    ] {
        assert_eq!(sse[key], value, "{key}: {sse}");
    }
    // Enough to find it in the log, too little to use it.
    let id = sse["id"].as_str().unwrap();
    assert!(session.id().starts_with(id) && id.len() == 8, "{id}");
    let status: Value = serde_json::from_str(&get(&admin, "/status", "").1).unwrap();
    assert_eq!((&status["totals"]["calls"], &status["totals"]["sessions"]), (&json!(5), &json!(2)));
    assert_eq!(status["servers"]["/"]["programs"], 2);
    assert!(status["servers"]["/"]["memory_bytes"].as_u64().unwrap() > 1_000_000, "{status}");

    // A page of another origin cannot.
    let end = |more: &str| ask(&admin, &format!("DELETE /sessions/{id} HTTP/1.1\r\nhost: {admin}{more}")).0;
    assert_eq!(end("\r\norigin: http://evil.example"), "403");
    assert_eq!(end(&format!("\r\norigin: http://{admin}\r\nsec-fetch-site: cross-site")), "403");
    assert_eq!(end(&format!("\r\norigin: http://{admin}\r\nsec-fetch-site: same-origin")), "204");
    let rest = session.rest();
    assert!(rest.contains(r#""id":3"#) && rest.contains("error"), "{rest}");
    gateway.log.until_says("a session is closed by its operator");
    crate::help::until("it is gone", || sessions()["total"] == 1);
    assert_eq!(end(""), "404");
    // What it did still counts.
    let status: Value = serde_json::from_str(&get(&admin, "/status", "").1).unwrap();
    assert_eq!(status["totals"]["calls"], 5);
    // Of the other kind too.
    let id = sessions()["sessions"][0]["id"].as_str().unwrap().to_owned();
    assert_eq!(ask(&admin, &format!("DELETE /sessions/{id} HTTP/1.1\r\nhost: localhost")).0, "204");
    gateway.log.until_says("reason=\"closed_by_operator\"");
    assert_eq!(ask(&admin, "POST /sessions/x HTTP/1.1\r\nhost: localhost\r\ncontent-length: 0").0, "405");
}

#[test]
fn with_a_key_of_its_own_the_admin_place_shows_the_page_and_nothing_in_it() {
    let folder = Folder::new();
    let file = keys(&folder, "admin", &format!("ops {KEY}\n"));
    let gateway = Program::gateway(&["--admin", "127.0.0.1:0", "--admin-token-file", &file]);
    let admin = admin(&gateway);
    for path in ["/", "/_page/admin.js"] {
        assert_eq!(get(&admin, path, "").0, "200", "{path}");
    }
    for path in ["/status", "/sessions", "/other"] {
        assert_eq!(get(&admin, path, "").0, "401", "{path}");
    }
    let key = format!("\r\nauthorization: Bearer {KEY}");
    assert_eq!(get(&admin, "/sessions", &key).0, "200");
    assert_eq!(ask(&admin, "DELETE /sessions/x HTTP/1.1\r\nhost: localhost").0, "401");
    assert_eq!(ask(&admin, &format!("DELETE /sessions/x HTTP/1.1\r\nhost: localhost{key}")).0, "404");
    // Clients' paths show nothing of it.
    assert_eq!(get(&gateway.address, "/status", "").0, "404");
}

#[test]
fn nobody_keeps_a_connection_to_the_admin_place() {
    let gateway = Program::gateway(&["--admin", "127.0.0.1:0"]);
    let admin = admin(&gateway);
    // Over HTTP/2 an answer cannot end its connection.
    let mut socket = TcpStream::connect(&admin).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    socket.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").unwrap();
    let mut answer = Vec::new();
    let _ = socket.read_to_end(&mut answer);
    assert!(answer.is_empty(), "{answer:?}");
    let mut socket = TcpStream::connect(&admin).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    socket.write_all(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n").unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}
