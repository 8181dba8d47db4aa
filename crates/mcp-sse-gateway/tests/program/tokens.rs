//! Tokens of an authorization server: who gets in, on every path, and what happens when they end. Flows with a real one
//! are in `tests/interop`.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    sync::{
        Arc, LazyLock, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use serde_json::{Value, json};

use crate::{
    fake::Fake,
    help::{Folder, INITIALIZE, PATIENCE, PING, PROGRAM, Program, count, echo, long_task, refused},
};

const ISSUER: &str = "https://login.example/realm/";
const MCP: &str =
    "POST /mcp HTTP/1.1\r\naccept: application/json, text/event-stream\r\ncontent-type: application/json";

static KEY: LazyLock<Ed25519KeyPair> = LazyLock::new(new_key);

fn new_key() -> Ed25519KeyPair {
    let pkcs8 = Ed25519KeyPair::generate_pkcs8(&ring::rand::SystemRandom::new()).unwrap();
    Ed25519KeyPair::from_pkcs8(pkcs8.as_ref()).unwrap()
}

fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Keys as a document, each with its place as its name.
fn jwks(keys: &[&Ed25519KeyPair]) -> String {
    let keys = keys.iter().enumerate().map(|(at, key)| {
        json!({"kty": "OKP", "crv": "Ed25519", "kid": at.to_string(), "x": encode(key.public_key())})
    });
    json!({"keys": keys.collect::<Vec<_>>()}).to_string()
}

#[allow(clippy::disallowed_methods, reason = "the time of day, which tokens speak of")]
fn now() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap()
}

/// A token for this subject and audience that is valid for so many seconds.
fn token(subject: &str, audience: &str, seconds: f64) -> String {
    signed(&KEY, "0", &claims(subject, audience, seconds))
}

fn claims(subject: &str, audience: &str, seconds: f64) -> Value {
    json!({
        "iss": ISSUER, "sub": subject, "client_id": "test", "aud": audience, "scope": "mcp",
        "exp": now().as_secs_f64() + seconds,
    })
}

fn signed(key: &Ed25519KeyPair, id: &str, claims: &Value) -> String {
    let header = json!({"alg": "EdDSA", "kid": id});
    let message = format!("{}.{}", encode(header.to_string()), encode(claims.to_string()));
    format!("{message}.{}", encode(key.sign(message.as_bytes())))
}

fn bearer(token: &str) -> String {
    format!("authorization: Bearer {token}\r\n")
}

fn with(head: &str, token: &str) -> String {
    format!("{head}\r\n{}", bearer(token).trim_end())
}

/// The challenge of a refusal.
fn challenge(answer: &str) -> (&str, &str) {
    let challenge = answer.lines().find_map(|line| line.strip_prefix("www-authenticate: "));
    (&answer[9..12], challenge.unwrap_or_default())
}

fn body(answer: &str) -> Value {
    serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap()
}

/// The gateway with tokens by a file of keys, and that file.
fn gateway(folder: &Folder, options: &[&str]) -> (Program, String) {
    let file = folder.write("jwks.json", &jwks(&[&KEY]));
    let mut all = vec!["--jwt-issuer", ISSUER, "--jwks", &file];
    all.extend(options);
    (Program::gateway(&all), file)
}

#[test]
fn strangers_are_told_where_to_ask_and_nobody_gets_at_anothers_session() {
    let folder = Folder::new();
    let (gateway, _) = gateway(&folder, &["--required-scope", "mcp", "--log-level", "trace"]);
    assert!(gateway.greeting.contains("Access           a token of https://login.example/realm/, scope mcp"));
    let base = format!("http://{}", gateway.address);
    let (sse, mcp) = (format!("{base}/sse"), format!("{base}/mcp"));
    let says = |path: &str| {
        format!("resource_metadata=\"{base}/.well-known/oauth-protected-resource{path}\", scope=\"mcp\"")
    };
    let (alice, bob) = (token("alice", &sse, 600.0), token("bob", &sse, 600.0));
    for (head, path) in [
        ("GET /sse HTTP/1.1", "/sse"),
        // A client that posts is told of its stream.
        ("POST /messages/ HTTP/1.1\r\ncontent-type: application/json", "/sse"),
        (MCP, "/mcp"),
        ("GET /mcp HTTP/1.1", "/mcp"),
        ("DELETE /mcp HTTP/1.1", "/mcp"),
    ] {
        let head = format!("{head}\r\nhost: {}", gateway.address);
        let answer = gateway.request(&head, PING);
        assert_eq!(challenge(&answer), ("401", &*format!("Bearer {}", says(path))), "{head}");
        for (bad, why) in [
            (token("alice", &sse, -2.0), "it has expired"),
            (token("alice", &format!("{base}/other/sse"), 60.0), "it is for another audience"),
            (signed(&new_key(), "0", &claims("alice", &sse, 60.0)), "its signature is wrong"),
        ] {
            let answer = gateway.request(&with(&head, &bad), PING);
            let expected =
                format!("Bearer error=\"invalid_token\", error_description=\"{why}\", {}", says(path));
            assert_eq!(challenge(&answer), ("401", &*expected), "{head}");
        }
        let mut without = claims("alice", &sse, 60.0);
        without["scope"] = json!("other");
        let answer = gateway.request(&with(&head, &signed(&KEY, "0", &without)), PING);
        let expected = format!("Bearer error=\"insufficient_scope\", {}", says(path));
        assert_eq!(challenge(&answer), ("403", &*expected), "{head}");
    }
    // What it leads to.
    for (path, resource) in [("/sse", &sse), ("/mcp", &mcp), ("", &sse), ("/", &sse)] {
        let answer = gateway.request(
            &format!("GET /.well-known/oauth-protected-resource{path} HTTP/1.1\r\nhost: {}", gateway.address),
            "",
        );
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        let document = body(&answer);
        assert_eq!(
            (&document["resource"], &document["authorization_servers"]),
            (&json!(resource), &json!([ISSUER]))
        );
        assert_eq!(document["scopes_supported"], json!(["mcp"]));
    }
    for path in ["/messages/", "/other", "/sse/x"] {
        let answer = gateway.get(&format!("/.well-known/oauth-protected-resource{path}"));
        assert!(answer.starts_with("HTTP/1.1 404"), "{path}");
    }
    assert!(gateway.get("/.well-known/oauth-authorization-server").starts_with("HTTP/1.1 404"));
    let rebound = "GET /.well-known/oauth-protected-resource/sse HTTP/1.1\r\nhost: evil.example";
    assert!(gateway.request(rebound, "").starts_with("HTTP/1.1 421"));

    let mut session = gateway.connect_with("/sse", &bearer(&alice));
    session.initialize();
    session.echo(1, "hello");
    let post = format!("POST {} HTTP/1.1\r\ncontent-type: application/json", session.endpoint);
    assert!(gateway.request(&with(&post, &bob), PING).starts_with("HTTP/1.1 404"));
    let resume = format!("GET /sse HTTP/1.1\r\nlast-event-id: {}", session.last_id);
    assert!(gateway.request(&with(&resume, &bob), "").starts_with("HTTP/1.1 404"));
    // Another client of hers is somebody else.
    let mut other = claims("alice", &sse, 60.0);
    other["client_id"] = json!("other");
    assert!(gateway.request(&with(&post, &signed(&KEY, "0", &other)), PING).starts_with("HTTP/1.1 404"));
    // A renewed token is hers, and one for the other endpoint of the server too.
    for renewed in [token("alice", &sse, 700.0), token("alice", &mcp, 700.0)] {
        assert!(gateway.request(&with(&post, &renewed), &echo(2, "renewed")).starts_with("HTTP/1.1 202"));
        assert!(session.answer(2).contains("renewed"));
    }
    let answer = gateway.request(&with(MCP, &alice), INITIALIZE);
    let id = answer.lines().find(|line| line.starts_with("mcp-session-id:")).unwrap();
    let head = format!("{MCP}\r\n{id}");
    assert!(gateway.request(&with(&head, &alice), PING).starts_with("HTTP/1.1 200"));
    assert!(gateway.request(&with(&head, &bob), PING).starts_with("HTTP/1.1 404"));
    for method in ["GET", "DELETE"] {
        let head = format!("{method} /mcp HTTP/1.1\r\naccept: text/event-stream\r\n{id}");
        assert!(gateway.request(&with(&head, &bob), "").starts_with("HTTP/1.1 404"));
    }
    session.echo(3, "still here");
    gateway.makes_lines(3);
    gateway.signal("-TERM");
    let log = gateway.log.until_says("shut down");
    for secret in [&alice, &bob] {
        let parts: Vec<_> = secret.split('.').collect();
        assert!(parts[1..].iter().all(|part| !log.contains(part)), "a token in the log");
    }
}

#[test]
fn each_server_takes_its_own_tokens_only() {
    let folder = Folder::new();
    let keys = folder.write("jwks.json", &jwks(&[&KEY]));
    let secret = folder.write("keys", "carol carol-0123456789abcdef");
    fs::set_permissions(&secret, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let config = json!({
        "auth": {"jwtIssuer": ISSUER, "jwks": keys},
        "mcpServers": {
            "a": {"command": PROGRAM, "args": ["demo", "--stdio"]},
            "b": {"command": PROGRAM, "args": ["demo", "--stdio"], "auth": {
                "bearerTokenFile": secret, "jwtIssuer": ISSUER, "jwks": keys, "jwtAudience": ["api://b"],
                "requiredScope": "b",
            }},
            "@x/c": {"command": PROGRAM, "args": ["demo", "--stdio"]},
        },
    });
    let config = folder.write("mcp.json", &config.to_string());
    let gateway = Program::start(
        "serve",
        &["--config", &config, "--public-url", "https://mcp.example/tools/", "--allowed-host", "mcp.example"],
    );
    for line in [
        "SSE              https://mcp.example/tools/a/sse",
        "Streamable HTTP  https://mcp.example/tools/@x/c/mcp",
        "Access           1 key in ",
        "Listening on http://127.0.0.1:",
    ] {
        assert!(gateway.greeting.contains(line), "{line}: {}", gateway.greeting);
    }
    let gets_in = |path: &str, credential: &str| {
        let head = format!(
            "POST {path} HTTP/1.1\r\naccept: application/json, text/event-stream\r\ncontent-type: application/json\r\n{credential}"
        );
        let answer = gateway.request(&head, INITIALIZE);
        (answer[9..12].to_owned(), challenge(&answer).1.to_owned())
    };
    let with_token = |path: &str, token: &str| gets_in(path, bearer(token).trim_end()).0;
    let a = token("alice", "https://mcp.example/tools/a/mcp", 60.0);
    assert_eq!((with_token("/a/mcp", &a), with_token("/%40x/c/mcp", &a)), ("200".into(), "401".into()));
    // However its name is written.
    for path in ["@x/c/sse", "%40x/c/mcp"] {
        let c = token("alice", &format!("https://mcp.example/tools/{path}"), 60.0);
        assert_eq!((with_token("/%40x/c/mcp", &c), with_token("/a/mcp", &c)), ("200".into(), "401".into()));
    }
    let mut for_b = claims("alice", "api://b", 60.0);
    assert_eq!(with_token("/b/mcp", &signed(&KEY, "0", &for_b)), "403");
    for_b["scope"] = json!("a b");
    let for_b = signed(&KEY, "0", &for_b);
    assert_eq!((with_token("/b/mcp", &for_b), with_token("/a/mcp", &for_b)), ("200".into(), "401".into()));
    // A key is as good there, and nowhere else; both at once are one too many.
    let key = "x-api-key: carol-0123456789abcdef";
    assert_eq!((gets_in("/b/mcp", key).0, gets_in("/a/mcp", key).0), ("200".into(), "401".into()));
    assert_eq!(with_token("/b/mcp", "carol-0123456789abcdef"), "200");
    let (status, challenge) = gets_in("/b/mcp", &format!("{key}\r\n{}", bearer(&for_b).trim_end()));
    assert!(status == "401" && challenge.starts_with("Bearer error=\"invalid_request\", resource_metadata="));
    let (status, challenge) = gets_in("/b/mcp", "x-api-key: wrong-0123456789abcdef");
    let metadata = "https://mcp.example/tools/.well-known/oauth-protected-resource/b/mcp";
    assert_eq!(
        (&*status, challenge),
        ("401", format!("Bearer resource_metadata=\"{metadata}\", scope=\"b\""))
    );
    // With the prefix that the proxy in front strips, or without it, and however names are written.
    for path in ["/tools/@x/c/sse", "/%40x/c/sse", "/@x/c/sse", "/tools/%40x/c/sse/"] {
        let answer = gateway.get(&format!("/.well-known/oauth-protected-resource{path}"));
        assert!(answer.starts_with("HTTP/1.1 200"), "{path}: {answer}");
        assert_eq!(body(&answer)["resource"], "https://mcp.example/tools/@x/c/sse");
    }
    // There is no one server that the root could mean.
    assert!(gateway.get("/.well-known/oauth-protected-resource").starts_with("HTTP/1.1 404"));
}

/// Posts on a connection that stays.
struct Kept(BufReader<TcpStream>);

impl Kept {
    fn to(address: &str) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Self(BufReader::new(stream))
    }

    fn post(&mut self, endpoint: &str, token: &str) -> String {
        let (bearer, length) = (bearer(token), PING.len());
        let head =
            format!("POST {endpoint} HTTP/1.1\r\nhost: localhost\r\n{bearer}content-type: application/json");
        write!(self.0.get_mut(), "{head}\r\ncontent-length: {length}\r\n\r\n{PING}").unwrap();
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert_ne!(self.0.read_line(&mut head).unwrap(), 0);
        }
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
        self.0.read_exact(&mut vec![0; length.parse().unwrap()]).unwrap();
        head[9..12].to_owned()
    }
}

#[test]
fn a_token_that_ends_is_refused_at_once_and_its_sessions_end_a_while_later() {
    let folder = Folder::new();
    let (gateway, _) = gateway(&folder, &["--token-grace", "2s", "--jwt-leeway", "0s"]);
    let sse = format!("http://{}/sse", gateway.address);
    let short = token("alice", &sse, 3.0);
    let mut renews = gateway.connect_with("/sse", &bearer(&short));
    let mut leaves = gateway.connect_with("/sse", &bearer(&short));
    renews.initialize();
    leaves.initialize();
    let mcp = |token: &str, more: &str| gateway.request(&with(&format!("{MCP}{more}"), token), INITIALIZE);
    let id = |answer: &str| {
        format!("\r\n{}", answer.lines().find(|line| line.starts_with("mcp-session-id:")).unwrap())
    };
    let (first, second) = (id(&mcp(&short, "")), id(&mcp(&short, "")));
    let ping = |token: &str, session: &str| {
        gateway.request(&with(&format!("{MCP}{session}"), token), PING)[9..12].to_owned()
    };
    let mut kept = Kept::to(&gateway.address);
    assert_eq!(
        (kept.post(&renews.endpoint, &short), kept.post(&renews.endpoint, &short)),
        ("202".into(), "202".into())
    );
    assert_eq!((ping(&short, &first), ping(&short, &second)), ("200".into(), "200".into()));
    // Until it is refused, on the connection whose head is known and over Streamable HTTP.
    crate::help::until("it is refused", || kept.post(&renews.endpoint, &short) == "401");
    assert_eq!((ping(&short, &first), &*kept.post(&leaves.endpoint, &short)), ("401".into(), "401"));
    let long = token("alice", &sse, 600.0);
    assert_eq!((&*kept.post(&renews.endpoint, &long), ping(&long, &first)), ("202", "200".into()));
    // The others end by themselves.
    leaves.rest();
    gateway.log.until("both have ended", |log| count(log, "reason=\"expired\"") == 2);
    assert_eq!((ping(&long, &second), ping(&long, &first)), ("404".into(), "200".into()));
    assert_eq!(kept.post(&renews.endpoint, &long), "202");
    renews.answer(9);
}

#[test]
fn what_waits_for_an_answer_gets_an_error_when_the_time_is_over() {
    let folder = Folder::new();
    let (gateway, _) = gateway(&folder, &["--token-grace", "0s", "--jwt-leeway", "0s"]);
    let sse = format!("http://{}/sse", gateway.address);
    let token = token("alice", &sse, 3.0);
    let mut session = gateway.connect_with("/sse", &bearer(&token));
    session.initialize();
    session.accepted(&long_task(7, 1000, 100));
    let answer = gateway.request(&with(MCP, &token), INITIALIZE);
    let id = answer.lines().find(|line| line.starts_with("mcp-session-id:")).unwrap();
    let head = format!("{MCP}\r\n{id}");
    let note = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;
    assert!(gateway.request(&with(&head, &token), note).starts_with("HTTP/1.1 202"));
    let over_http = gateway.request(&with(&head, &token), &long_task(7, 1000, 100));
    for answered in [over_http, session.rest()] {
        assert!(answered.contains(r#""id":7,"error""#) && answered.contains("the answer"), "{answered}");
    }
}

#[test]
fn without_grace_a_stream_ends_with_its_token() {
    let folder = Folder::new();
    let (gateway, _) = gateway(&folder, &["--token-grace", "0s", "--jwt-leeway", "0s"]);
    let sse = format!("http://{}/sse", gateway.address);
    let mut session = gateway.connect_with("/sse", &bearer(&token("alice", &sse, 2.0)));
    session.initialize();
    let before = now();
    session.rest();
    assert!(now() - before < Duration::from_secs(60));
    gateway.log.until_says("reason=\"expired\"");
}

#[test]
fn the_file_of_keys_is_read_again() {
    let folder = Folder::new();
    let (gateway, file) = gateway(&folder, &[]);
    let (sse, other) = (format!("http://{}/sse", gateway.address), new_key());
    let status = |token: &str| gateway.request(&with(MCP, token), INITIALIZE)[9..12].to_owned();
    let (old, new) = (token("alice", &sse, 60.0), signed(&other, "1", &claims("alice", &sse, 60.0)));
    assert_eq!((status(&old), status(&new)), ("200".into(), "401".into()));
    fs::write(&file, "{").unwrap();
    gateway.log.until_says("the keys of the issuer were not changed");
    assert_eq!(status(&old), "200");
    // No signal: it is seen.
    fs::write(&file, jwks(&[&KEY, &other])).unwrap();
    gateway.log.until_says("keys of the issuer read");
    assert_eq!((status(&old), status(&new)), ("200".into(), "200".into()));
    // What is no file does not hold up the others, even if it was one a moment ago.
    fs::remove_file(&file).unwrap();
    assert!(std::process::Command::new("mkfifo").arg(&file).status().unwrap().success());
    gateway.signal("-HUP");
    gateway.log.until_says("is not a regular file");
    fs::remove_file(&file).unwrap();
    fs::write(&file, jwks(&[&other])).unwrap();
    gateway.signal("-HUP");
    gateway.log.until_says("gone=2");
    assert_eq!((status(&old), status(&new)), ("401".into(), "401".into()));
}

#[test]
fn an_authorization_server_may_be_down() {
    let is_up = Arc::new(AtomicBool::new(false));
    let issuer = Arc::new(Mutex::new(String::new()));
    let (up, name) = (Arc::clone(&is_up), Arc::clone(&issuer));
    let login = Fake::start(move |asked, stream| {
        let issuer = name.lock().unwrap().clone();
        let document = match &*asked.path {
            _ if !up.load(Ordering::Acquire) => None,
            "/.well-known/oauth-authorization-server" => {
                Some(json!({"issuer": issuer, "jwks_uri": format!("{issuer}/keys"), "x": "y"}).to_string())
            }
            "/keys" => Some(jwks(&[&KEY])),
            _ => None,
        };
        let (status, text) = document.map_or((503, String::new()), |document| (200, document));
        write!(stream, "HTTP/1.1 {status} X\r\ncontent-length: {}\r\n\r\n{text}", text.len()).is_ok()
    });
    *issuer.lock().unwrap() = login.url("");
    let gateway = Program::gateway(&["--jwt-issuer", &login.url(""), "--serve-issuer-metadata"]);
    let mut good = claims("alice", &format!("http://{}/sse", gateway.address), 600.0);
    good["iss"] = json!(login.url(""));
    let good = signed(&KEY, "0", &good);
    gateway.log.until_says("the keys cannot be fetched");
    let answer = gateway.request(&with(MCP, &good), INITIALIZE);
    assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("\r\nretry-after: "), "{answer}");
    let ready = gateway.get("/readyz");
    assert!(ready.starts_with("HTTP/1.1 503") && ready.contains(&login.url("")), "{ready}");
    assert!(gateway.get("/healthz").starts_with("HTTP/1.1 200"));
    // Strangers learn where to ask all the same.
    assert!(gateway.request(MCP, INITIALIZE).starts_with("HTTP/1.1 401"));
    assert!(gateway.get("/.well-known/oauth-authorization-server").starts_with("HTTP/1.1 404"));
    let asked = login.so_far().len();
    for _ in 0..20 {
        gateway.request(&with(MCP, &good), INITIALIZE);
    }
    assert!(login.so_far().len() <= asked + 3, "strangers cannot have it ask more often");
    is_up.store(true, Ordering::Release);
    gateway.log.until_says("keys fetched");
    assert!(gateway.request(&with(MCP, &good), INITIALIZE).starts_with("HTTP/1.1 200"));
    assert!(gateway.get("/readyz").starts_with("HTTP/1.1 200"));
    // Byte for byte, for clients that look for it here.
    let copy = gateway.get("/.well-known/oauth-authorization-server");
    assert_eq!(body(&copy), json!({"issuer": login.url(""), "jwks_uri": login.url("/keys"), "x": "y"}));
}

#[test]
fn what_cannot_be_meant_is_refused_at_the_start() {
    let folder = Folder::new();
    let keys = folder.write("jwks.json", &jwks(&[&KEY]));
    let empty = folder.write("empty.json", "{\"keys\":[]}");
    let open = folder.write("open.json", &jwks(&[&KEY]));
    fs::set_permissions(&open, std::os::unix::fs::PermissionsExt::from_mode(0o666)).unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    drop(taken);
    let serve = |options: &[&str]| {
        let all = [&["serve", "--port", "0"][..], options, &["--", PROGRAM, "demo", "--stdio"]].concat();
        refused(&all)
    };
    let with_keys =
        |options: &[&str]| serve(&[&["--jwt-issuer", ISSUER, "--jwks", &keys][..], options].concat());
    for (options, expected) in [
        (&["--jwks", "x"][..], "--jwt-issuer"),
        (&["--required-scope", "x"], "--jwt-issuer"),
        (&["--jwt-audience", "x"], "--jwt-issuer"),
        (&["--jwt-issuer", "login.example"], "is not a URL"),
        (&["--jwt-issuer", "http://login.example"], "unencrypted"),
        (&["--jwt-issuer", "https://u:p@login.example"], "user name or a password"),
        (&["--jwt-issuer", ISSUER, "--jwks", "/nowhere"], "cannot read /nowhere"),
        (&["--jwt-issuer", ISSUER, "--jwks", &empty], "none of its 0 keys"),
        (&["--jwt-issuer", ISSUER, "--jwks", &open], "has mode 666"),
        (&["--jwt-issuer", ISSUER, "--jwks", "file:///x"], "neither https nor http"),
        (&["--jwt-issuer", ISSUER, "--jwks", "https://u:p@keys.example/"], "user name or a password"),
        (&["--jwt-issuer", "https:///login.example"], "has no host"),
    ] {
        let why = serve(options);
        assert!(why.contains(expected), "{why}");
    }
    for (options, expected) in [
        (&["--host", "0.0.0.0", "--allowed-host", "mcp.example"][..], "tokens need --public-url URL"),
        (&["--allowed-host", "mcp.example"], "tokens need --public-url URL"),
        (&["--trust-forwarded-for", "1"], "tokens need --public-url URL"),
        (&["--mount-prefix", "/x"], "tokens need --public-url URL"),
        (&["--public-url", "mcp.example"], "is not a URL"),
        (&["--public-url", "https://mcp.example/?x"], "has a query"),
        (&["--public-url", "https://MCP.example"], "is written \"https://mcp.example/sse\" by clients"),
        (&["--public-url", "https://mcp.example:443"], "is written \"https://mcp.example/sse\" by clients"),
        (&["--serve-issuer-metadata"], "with a file of keys nothing is fetched"),
        (&["--required-scope", "a b"], "a character that scopes cannot have"),
        (&["--jwt-audience", ""], "an audience is empty"),
        (&["--jwt-leeway", "61s"], "at most 60 s"),
        (&["--env-from-header", "Authorization=TOKEN"], "cannot be passed on"),
    ] {
        let why = with_keys(options);
        assert!(why.contains(expected), "{why}");
    }
    let passes = [
        "serve",
        "--port",
        "0",
        "--upstream",
        "https://mcp.example/mcp",
        "--jwt-issuer",
        ISSUER,
        "--jwks",
        &keys,
    ];
    let why = refused(&[&passes[..], &["--header-from-client", "Authorization"]].concat());
    assert!(why.contains("authorization of the client cannot be passed on"), "{why}");
    // In the file, with its line.
    for (auth, expected) in [
        (json!({"jwtIssuer": ISSUER, "jwtAudence": "x"}), "it is not a key of \"auth\""),
        (json!({"jwks": "x"}), "it needs \"jwtIssuer\" beside it"),
        (json!({"jwtIssuer": ""}), "expected the URL of an authorization server"),
        (json!({"jwtIssuer": ISSUER, "requiredScope": [1]}), "expected a string"),
        (json!({}), "expected \"bearerTokenFile\""),
    ] {
        let config = json!({"auth": auth, "mcpServers": {"a": {"command": PROGRAM}}});
        let file = folder.write("mcp.json", &config.to_string());
        let why = refused(&["serve", "--port", "0", "--config", &file]);
        assert!(why.contains(expected) && why.contains("mcp.json:1: "), "{why}");
    }
    let config = json!({"mcpServers": {"a": {"command": PROGRAM, "jwtIsuer": ISSUER}}});
    let file = folder.write("mcp.json", &config.to_string());
    let why = refused(&["serve", "--port", "0", "--config", &file]);
    assert!(why.contains("it belongs into \"auth\": { \"jwtIssuer\": … }"), "{why}");
}
