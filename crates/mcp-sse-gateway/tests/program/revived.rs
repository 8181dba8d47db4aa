//! Sessions that go on at another gateway when theirs is gone, over real engines.

use std::{
    io::{BufRead as _, BufReader},
    net::TcpStream,
};

use serde_json::{Value, json};

use crate::{
    engines::Engine,
    help::{Folder, Program, echo, long_task, until},
    replicas::{accepted, admin, begin, engines, replica, three},
};

fn cluster(replica: &Program) -> Value {
    let status: Value = serde_json::from_str(&crate::page::get(&admin(replica), "/status", "").1).unwrap();
    status["cluster"].clone()
}

/// Waits until all that has changed is written. What comes within a tenth of a second is written together.
fn written(replica: &Program, records: u64) {
    until("it is written", || cluster(replica)["kept"].as_u64() >= Some(records));
}

/// A stream that a client has come back for.
struct Back(BufReader<TcpStream>);

impl Back {
    /// Comes back to a replica, until it is told something else than to wait.
    fn at(replica: &Program, last: &str) -> Self {
        Self::at_path(replica, "/sse", last)
    }

    fn at_path(replica: &Program, path: &str, last: &str) -> Self {
        let mut back = None;
        until("the session is revived", || {
            let head = format!("GET {path} HTTP/1.1\r\nconnection: close\r\nlast-event-id: {last}");
            let mut stream = Self(replica.send(&head, ""));
            let status = stream.line().unwrap();
            assert!(status.contains(" 200 "), "{status}");
            let endpoint = stream.data();
            back = endpoint.map(|endpoint| (stream, endpoint));
            back.is_some()
        });
        let (stream, endpoint) = back.unwrap();
        assert!(endpoint.contains("&at="), "{endpoint}");
        stream
    }

    fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        (self.0.read_line(&mut line).unwrap() > 0).then_some(line)
    }

    /// The next event; `None` at the end.
    fn data(&mut self) -> Option<String> {
        loop {
            let line = self.line()?;
            if let Some(data) = line.strip_prefix("data: ") {
                return Some(data.trim_end().to_owned());
            }
        }
    }

    fn answer(&mut self, id: u32) -> Value {
        loop {
            let data: Value = serde_json::from_str(&self.data().unwrap()).unwrap();
            if data["id"] == id {
                return data;
            }
        }
    }
}

#[test]
fn a_session_outlives_the_gateway_that_was_killed() {
    for engine in engines() {
        let [a, b, c] = three(&engine, &["--revive"]);
        let mut client = a.connect();
        begin(&mut client, &b);
        written(&a, 1);
        accepted(&c, &client, &long_task(1, 1_000, 1_000));
        // What its client has asked for is known to the others by then.
        let before = cluster(&a)["kept"].as_u64().unwrap();
        accepted(&c, &client, &echo(2, "hello"));
        client.answer(2);
        written(&a, before + 1);
        a.signal("-KILL");
        client.rest();
        let (last, endpoint) = (client.last_id.clone(), client.endpoint.clone());
        drop(client);
        // The others know that it is gone, when there is another one by its name.
        let _again = replica(&engine, "a", &["--revive"]);
        let mut back = Back::at(&b, &last);
        let error = back.answer(1);
        assert_eq!(error["error"]["code"], -32_000, "{error}");
        b.log.until_says("a session of a replica that is gone was revived");
        // Its client need not say `initialize` again, nor know where it is.
        for (id, at) in [(3, &b), (4, &c)] {
            let head = format!("POST {endpoint} HTTP/1.1\r\ncontent-type: application/json");
            let answer = at.request(&head, &echo(id, "again"));
            assert!(answer.contains(" 202 "), "{answer}");
            assert!(back.answer(id).to_string().contains("again"));
        }
    }
}

#[test]
fn and_one_that_has_ended() {
    let engine = Engine::nats();
    let folder = Folder::new();
    let demo = json!({ "command": crate::help::PROGRAM, "args": ["demo", "--stdio"] });
    let mut revived = demo.clone();
    revived["revive"] = true.into();
    let config =
        folder.write("mcp.json", &json!({ "mcpServers": { "able": revived, "other": demo } }).to_string());
    let start = |name: &str| {
        let cluster =
            ["--cluster", &engine.url(), "--replica-name", name, "--admin", "127.0.0.1:0", "--metrics"];
        Program::start("serve", &[&cluster[..], &["--config", &config]].concat())
    };
    let [a, b] = ["a", "b"].map(start);
    for one in [&a, &b] {
        until("they know of each other", || {
            cluster(one)["others"].as_array().is_some_and(|all| all.len() == 1)
        });
    }
    let [mut able, mut other] = ["/able/sse", "/other/sse"].map(|path| a.connect_at(path));
    begin(&mut able, &b);
    begin(&mut other, &b);
    written(&a, 1);
    a.signal("-TERM");
    able.rest();
    other.rest();
    let [able_id, other_id] = [&able, &other].map(|client| client.last_id.clone());
    let endpoint = able.endpoint.clone();
    drop((able, other));
    let mut back = Back::at_path(&b, "/able/sse", &able_id);
    let answer =
        b.request(&format!("POST {endpoint} HTTP/1.1\r\ncontent-type: application/json"), &echo(3, "again"));
    assert!(answer.contains(" 202 "), "{answer}");
    assert!(back.answer(3).to_string().contains("again"));
    // One that is not declared able ends with its gateway.
    assert!(a.ends());
    until("it is gone", || {
        let head = format!("GET /other/sse HTTP/1.1\r\nlast-event-id: {other_id}");
        b.request(&format!("{head}\r\nconnection: close"), "").contains(" 404 ")
    });
}

#[test]
fn what_cannot_be_revived_says_why() {
    let refused = |options: &[&str]| {
        crate::help::refused(&[&["serve", "--port", "0", "--log-level", "error"], options].concat())
    };
    let said = refused(&["--revive", "--", "true"]);
    assert!(said.contains("--cluster"), "{said}");
    let folder = Folder::new();
    let config =
        |server: Value| folder.write("mcp.json", &json!({ "mcpServers": { "a": server } }).to_string());
    let file = config(json!({ "command": "true", "revive": true }));
    let said = refused(&["--config", &file]);
    assert!(said.contains("revive needs --cluster"), "{said}");
    let engine = Engine::plain_nats();
    let said = refused(&["--config", &file, "--cluster", &engine.url()]);
    assert!(said.contains("--jetstream"), "{said}");
    let file = config(json!({ "command": "true", "revive": true, "restart": "never" }));
    let said = refused(&["--config", &file, "--cluster", &engine.url()]);
    assert!(said.contains("never started again"), "{said}");
    let engine = Engine::redis();
    let file =
        config(json!({ "command": "true", "revive": true, "envFromHeader": { "x-tenant": "TENANT" } }));
    let said = refused(&["--config", &file, "--cluster", &engine.url()]);
    assert!(said.contains("headers"), "{said}");
}
