//! Several gateways as one server, over real engines.

use std::{
    io::{BufRead, BufReader, Read},
    net::TcpStream,
};

use serde_json::Value;

use crate::{
    engines::Engine,
    help::{Client, Folder, INITIALIZE, Program, echo, until},
    tls::Authority,
};

/// A gateway of a cluster.
pub(crate) fn replica(engine: &Engine, name: &str, options: &[&str]) -> Program {
    replica_at(&engine.url(), name, options)
}

fn replica_at(url: &str, name: &str, options: &[&str]) -> Program {
    let mut all = vec!["--cluster", url, "--replica-name", name, "--admin", "127.0.0.1:0", "--metrics"];
    all.extend(options);
    Program::gateway(&all)
}

/// Three of them, which know of each other.
pub(crate) fn three(engine: &Engine, options: &[&str]) -> [Program; 3] {
    let all = ["a", "b", "c"].map(|name| replica(engine, name, options));
    for one in &all {
        until("they know of each other", || ready(one).1["cluster"]["others"] == 2);
    }
    all
}

pub(crate) fn engines() -> [Engine; 2] {
    [Engine::nats(), Engine::redis()]
}

fn ready(replica: &Program) -> (u16, Value) {
    let answer = replica.get("/readyz");
    let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
    (status, serde_json::from_str(answer.split("\r\n\r\n").nth(1).unwrap()).unwrap())
}

pub(crate) fn admin(replica: &Program) -> String {
    let line = replica.greeting.lines().find(|line| line.starts_with("Metrics ")).unwrap();
    line.split("://").nth(1).unwrap().split('/').next().unwrap().to_owned()
}

/// Posts for a client at another replica; the whole answer.
fn post(replica: &Program, client: &Client<'_>, headers: &str, message: &str) -> String {
    let head = format!("POST {} HTTP/1.1\r\n{headers}content-type: application/json", client.endpoint);
    replica.request(&head, message)
}

pub(crate) fn accepted(replica: &Program, client: &Client<'_>, message: &str) {
    let answer = post(replica, client, "", message);
    assert!(answer.starts_with("HTTP/1.1 202 "), "{answer}");
}

pub(crate) fn begin(client: &mut Client<'_>, at: &Program) {
    accepted(at, client, INITIALIZE);
    client.answer(0);
    accepted(at, client, r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#);
}

#[test]
fn any_replica_takes_messages_for_the_sessions_of_all() {
    for engine in engines() {
        let [a, b, c] = three(&engine, &[]);
        let mut client = a.connect();
        assert!(client.endpoint.contains("&at=a."), "{}", client.endpoint);
        assert!(client.last_id.contains(":0:a."), "{}", client.last_id);
        begin(&mut client, &b);
        for (id, at) in (1..10).zip([&a, &b, &c].into_iter().cycle()) {
            accepted(at, &client, &echo(id, "hello"));
            assert!(client.answer(id).contains("hello"));
        }
        // One that crosses in parts.
        let large = "x".repeat(1_000_000);
        let ping =
            format!(r#"{{"jsonrpc":"2.0","id":10,"method":"ping","params":{{"_meta":{{"x":"{large}"}}}}}}"#);
        accepted(&b, &client, &ping);
        client.answer(10);
        // What is refused there is refused here, with the same words.
        for (message, status) in [("{", "400 "), (r#"{"jsonrpc":"2.0","id":[],"method":"x"}"#, "400 ")] {
            let [here, there] = [&a, &b].map(|replica| post(replica, &client, "", message));
            assert!(here.contains(status), "{here}");
            let text = |answer: &str| answer.split("\r\n\r\n").nth(1).unwrap().to_owned();
            assert_eq!(text(&here), text(&there));
        }
        for garbage in ["x.y", "%2a", "", "a.0000000000000000"] {
            let (uri, _) = client.endpoint.split_once("&at=").unwrap();
            let head = format!("POST {uri}&at={garbage} HTTP/1.1\r\ncontent-type: application/json");
            let answer = b.request(&head, &echo(11, "never"));
            // One that may exist may also be on its way back, as long as this replica is new.
            let may_wait = garbage.starts_with("a.") && answer.contains(" 503 ");
            assert!(answer.contains(" 404 ") || may_wait, "{garbage}: {answer}");
        }
        let status: Value = serde_json::from_str(&crate::page::get(&admin(&b), "/status", "").1).unwrap();
        assert_eq!(status["cluster"]["others"], serde_json::json!(["a", "c"]));
        assert_eq!(status["cluster"]["forwarded"], 8);
        let metrics = crate::page::get(&admin(&b), "/metrics", "").1;
        assert!(metrics.contains(r#"mcp_sse_cluster_requests_total{outcome="forwarded"} 8"#), "{metrics}");
        assert!(metrics.contains(r#"mcp_sse_cluster_connected{replica="b"} 1"#), "{metrics}");
    }
}

#[test]
fn a_stream_is_resumed_at_any_replica() {
    for engine in engines() {
        let [a, b, c] = three(&engine, &[]);
        let mut client = a.connect();
        begin(&mut client, &b);
        accepted(&c, &client, &echo(1, "first"));
        client.answer(1);
        let (id, endpoint) = (client.last_id.clone(), client.endpoint.clone());
        drop(client);
        let resumed = |at: &Program, id: &str| {
            let head = format!("GET /sse HTTP/1.1\r\nconnection: close\r\nlast-event-id: {id}");
            let mut stream = at.send(&head, "");
            let mut line = String::new();
            stream.read_line(&mut line).unwrap();
            assert!(line.contains("200"), "{line}");
            stream
        };
        // It is read elsewhere, and the session does not know the difference.
        let mut stream = resumed(&b, &id);
        let next = |stream: &mut BufReader<TcpStream>, what: &str| {
            let mut line = String::new();
            while !line.contains(what) {
                line.clear();
                assert_ne!(stream.read_line(&mut line).unwrap(), 0, "the stream ended");
            }
            line
        };
        assert!(next(&mut stream, "data: ").contains(&endpoint));
        let post = |at: &Program, message: &str| {
            let head = format!("POST {endpoint} HTTP/1.1\r\ncontent-type: application/json");
            assert!(at.request(&head, message).contains(" 202 "));
        };
        // It comes in many chunks of HTTP, whose sizes stand between.
        let large = |stream: &mut BufReader<TcpStream>| {
            let mut all = next(stream, r#""id":2"#);
            while !all.contains("isError") {
                assert_ne!(stream.read_line(&mut all).unwrap(), 0, "the stream ended");
            }
            all.matches('w').count()
        };
        post(&c, &echo(2, &"w".repeat(200_000)));
        assert_eq!(large(&mut stream), 200_000);
        // What was said while nobody read comes too, from the place where the client was.
        drop(stream);
        post(&b, &echo(3, "meanwhile"));
        let mut stream = resumed(&c, &id);
        assert_eq!(large(&mut stream), 200_000);
        assert!(next(&mut stream, r#""id":3"#).contains("meanwhile"));
        // Its end is an end.
        a.signal("-TERM");
        let mut rest = String::new();
        stream.read_to_string(&mut rest).unwrap();
        assert!(a.ends());
        until("it is gone", || {
            let head = format!("GET /sse HTTP/1.1\r\nlast-event-id: {id}");
            let answer = b.request(&head, "");
            // Until it knows, it says when to come again.
            assert!(answer.contains(" 404 ") || answer.contains("\r\n\r\nretry: 1000\n\n"), "{answer}");
            answer.contains(" 404 ")
        });
    }
}

#[test]
fn a_session_belongs_to_its_principal_at_every_replica() {
    let folder = Folder::new();
    let keys = "alice alice-key-0123456789abcdef\nmallory mallory-key-0123456789abcdef\n";
    let keys = crate::page::keys(&folder, "keys", keys);
    let secret = crate::page::keys(&folder, "secret", &"5a".repeat(32));
    let engine = Engine::nats();
    let options = ["--bearer-token-file", &keys, "--cluster-key-file", &secret];
    let [a, b, _c] = three(&engine, &options);
    let key = |name: &str| format!("authorization: Bearer {name}-key-0123456789abcdef\r\n");
    let mut client = a.connect_with("/sse", &key("alice"));
    let initialized = post(&b, &client, &key("alice"), INITIALIZE);
    assert!(initialized.contains(" 202 "), "{initialized}");
    client.answer(0);
    let stranger = post(&b, &client, "", &echo(1, "never"));
    assert!(stranger.contains(" 401 "), "{stranger}");
    let other = post(&b, &client, &key("mallory"), &echo(1, "never"));
    assert!(other.contains(" 404 "), "{other}");
    let resumed = format!("GET /sse HTTP/1.1\r\n{}last-event-id: {}", key("mallory"), client.last_id);
    let resumed = b.request(&resumed, "");
    assert!(resumed.contains(" 404 "), "{resumed}");
    let status: Value = serde_json::from_str(&crate::page::get(&admin(&b), "/status", "").1).unwrap();
    assert_eq!(status["cluster"]["sealed"], true);

    // One without the key is no replica, whatever it says.
    let without = replica(&engine, "d", &["--bearer-token-file", &keys]);
    without.log.until_says("without --cluster-key-file");
    a.log.until_says("a message of another replica is not read");
    assert_eq!(ready(&without).1["cluster"]["others"], 0);
    assert_eq!(ready(&a).1["cluster"]["others"], 2);
}

#[test]
fn without_the_engine_sessions_go_on_and_it_is_back_when_the_engine_is() {
    for mut engine in engines() {
        let [a, b, _c] = three(&engine, &[]);
        let mut client = a.connect();
        begin(&mut client, &b);
        engine.kill();
        until("it is noticed", || {
            ready(&a).1["cluster"]["connected"] == false && ready(&b).1["cluster"]["connected"] == false
        });
        assert_eq!(ready(&a).0, 200);
        client.echo(1, "local");
        let other = post(&b, &client, "", &echo(2, "never"));
        assert!(other.contains(" 503 ") && other.contains("retry-after: "), "{other}");
        engine.restart_empty();
        until("it is back", || post(&b, &client, "", &echo(3, "again")).contains(" 202 "));
        assert!(client.answer(3).contains("again"));
    }
}

#[test]
fn a_replica_that_leaves_is_gone_at_once_and_one_that_is_killed_when_it_is_back() {
    let engine = Engine::nats();
    let [a, b, c] = three(&engine, &[]);
    let mut client = a.connect();
    begin(&mut client, &b);
    // What is asked is answered before it goes. Meanwhile new clients go elsewhere, and the others reach it through them.
    accepted(&b, &client, &crate::help::long_task(1, 30, 50));
    a.signal("-TERM");
    until("nothing listens there", || TcpStream::connect(&a.address).is_err());
    accepted(&b, &client, r#"{"jsonrpc":"2.0","method":"notifications/roots/list_changed"}"#);
    assert!(client.answer(1).contains("result"));
    client.rest();
    let (endpoint, id) = (client.endpoint.clone(), client.last_id.clone());
    drop(client);
    assert!(a.ends());
    b.log.until_says("another replica leaves replica=a.");
    let head = format!("POST {endpoint} HTTP/1.1\r\ncontent-type: application/json");
    // A replica that has come lately may not know yet who is there.
    until("it is gone", || b.request(&head, &echo(2, "never")).contains(" 404 "));
    let gone = b.request(&format!("GET /sse HTTP/1.1\r\nlast-event-id: {id}"), "");
    assert!(gone.contains(" 404 "), "{gone}");

    let mut client = c.connect();
    begin(&mut client, &b);
    c.signal("-KILL");
    client.rest();
    let endpoint = client.endpoint.clone();
    drop(client);
    let head = format!("POST {endpoint} HTTP/1.1\r\ncontent-type: application/json");
    let cut_off = b.request(&head, &echo(2, "never"));
    assert!(cut_off.contains(" 503 ") || cut_off.contains(" 504 "), "{cut_off}");
    // It may only be cut off, until there is another one by its name, or it has said nothing for half a minute.
    let _again = replica(&engine, "c", &[]);
    until("it is gone", || {
        let answer = b.request(&head, &echo(2, "never"));
        assert!(answer.contains(" 404 ") || answer.contains(" 503 ") || answer.contains(" 504 "), "{answer}");
        answer.contains(" 404 ")
    });
}

#[test]
fn sessions_over_streamable_http_are_everywhere_too() {
    for engine in engines() {
        let [a, b, c] = three(&engine, &[]);
        let accept = "accept: application/json, text/event-stream\r\ncontent-type: application/json\r\n";
        let ask = |at: &Program, session: &str, message: &str| {
            at.request(&format!("POST /mcp HTTP/1.1\r\n{accept}{session}x: y"), message)
        };
        let answer = ask(&a, "", INITIALIZE);
        let id = answer.lines().find_map(|line| line.strip_prefix("mcp-session-id: ")).unwrap().to_owned();
        assert!(id.contains(".a."), "{id}");
        let session = format!("mcp-session-id: {id}\r\n");
        let initialized = ask(&b, &session, r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#);
        assert!(initialized.contains(" 202 "), "{initialized}");
        for (number, at) in (1..7).zip([&a, &b, &c].into_iter().cycle()) {
            let answer = ask(at, &session, &echo(number, "hello"));
            assert!(answer.contains(" 200 ") && answer.contains(r#""text":"hello""#), "{answer}");
        }
        let deleted = c.request(&format!("DELETE /mcp HTTP/1.1\r\n{session}x: y"), "");
        assert!(deleted.contains(" 204 "), "{deleted}");
        for at in [&a, &b] {
            let gone = ask(at, &session, &echo(9, "never"));
            assert!(gone.contains(" 404 "), "{gone}");
        }
    }
}

#[test]
fn an_operator_sees_and_ends_sessions_of_all_replicas_at_any() {
    let engine = Engine::redis();
    let [a, b, c] = three(&engine, &[]);
    let (mut one, mut two) = (a.connect(), b.connect());
    begin(&mut one, &c);
    begin(&mut two, &c);
    let listed: Value = serde_json::from_str(&crate::page::get(&admin(&c), "/sessions", "").1).unwrap();
    assert_eq!(listed["total"], 2, "{listed}");
    let at = |name: &str| {
        let all = listed["sessions"].as_array().unwrap();
        all.iter().find(|session| session["replica"] == name).unwrap()["id"].as_str().unwrap().to_owned()
    };
    let close = |id: &str| {
        crate::page::ask(&admin(&c), &format!("DELETE /sessions/{id} HTTP/1.1\r\nhost: localhost")).0
    };
    assert_eq!(close(&at("a")), "204");
    one.rest();
    assert_eq!(close(&at("a")), "404");
    two.echo(1, "it goes on");
}

#[test]
fn what_cannot_be_a_replica_says_why() {
    let refused = |options: &[&str]| {
        let mut all = vec!["serve", "--port", "0"];
        all.extend(options);
        all.extend(["--", "true"]);
        crate::help::refused(&all)
    };
    let said = refused(&["--cluster", "http://127.0.0.1:1"]);
    assert!(said.contains("nats://"), "{said}");
    let said = refused(&["--cluster", "nats://user:geheim@127.0.0.1:1"]);
    assert!(said.contains("127.0.0.1:1") && !said.contains("geheim"), "{said}");
    let said = refused(&["--cluster", "redis://:geheim@127.0.0.1:1"]);
    assert!(said.contains("127.0.0.1:1") && !said.contains("geheim"), "{said}");
    let folder = Folder::new();
    let key = crate::page::keys(&folder, "key", "short");
    let said = refused(&["--cluster", "nats://127.0.0.1:1", "--cluster-key-file", &key]);
    assert!(said.contains("64 hex digits"), "{said}");
    std::fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    let said = refused(&["--cluster", "nats://127.0.0.1:1", "--cluster-key-file", &key]);
    assert!(said.contains("mode 644") && said.contains("chmod 600"), "{said}");
    let engine = Engine::nats();
    let said = refused(&["--cluster", &engine.url(), "--replica-name", "a.b"]);
    assert!(said.contains("a.b"), "{said}");
}

#[test]
fn the_engine_may_want_tls_and_a_password() {
    let folder = Folder::new();
    let authority = Authority::new("test");
    let [certificate, key] = authority.files(&folder, "localhost");
    let ca = authority.file(&folder);
    let nats = ["--tls", "--tlscert", &certificate, "--tlskey", &key, "--user", "mcp", "--pass", "geheim"];
    let nats = Engine::nats_with(&nats);
    let redis = Engine::redis_with(&["--requirepass", "geheim"]);
    let front = authority.front("localhost", &format!("127.0.0.1:{}", redis.port()));
    for (scheme, user, port) in [("tls", "mcp", nats.port()), ("rediss", "", front.port())] {
        let url = |password: &str| format!("{scheme}://{user}:{password}@localhost:{port}");
        let [a, b] = ["a", "b"].map(|name| replica_at(&url("geheim"), name, &["--cluster-ca-file", &ca]));
        let mut client = a.connect();
        begin(&mut client, &b);
        client.echo(1, "hello");
        for replica in [&a, &b] {
            assert!(!replica.log.so_far().contains("geheim"), "{}", replica.log.so_far());
        }
        let refused = |url: &str, options: &[&str]| {
            let mut all = vec!["serve", "--port", "0", "--cluster", url];
            all.extend(options);
            all.extend(["--", "true"]);
            crate::help::refused(&all)
        };
        let said = refused(&url("falsch"), &["--cluster-ca-file", &ca]);
        assert!(said.contains("refuses") && !said.contains("falsch"), "{said}");
        let said = refused(&url("geheim"), &[]);
        assert!(said.contains("no TLS") && !said.contains("geheim"), "{said}");
    }
}
