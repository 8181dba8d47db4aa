//! Keys: who gets in, on every path, and what happens when the file changes.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    os::unix::fs::{PermissionsExt as _, symlink},
};

use crate::help::{Folder, INITIALIZE, PATIENCE, PING, PROGRAM, Program, count, refused};

const ALICE: &str = "alice-5c8zLq0vTnW4xYbK";
const BOB: &str = "bob-j2Rr7dMhUe9sPfGa";
const MCP: &str =
    "POST /mcp HTTP/1.1\r\naccept: application/json, text/event-stream\r\ncontent-type: application/json";

/// A file of keys that only its owner may read.
fn key_file(folder: &Folder, name: &str, text: &str) -> String {
    let path = folder.path(&format!("{name}.new"));
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    fs::rename(&path, folder.path(name)).unwrap();
    folder.path(name)
}

fn both() -> String {
    format!("# the team\nalice {ALICE}\nbob {BOB}\n")
}

fn bearer(key: &str) -> String {
    format!("authorization: Bearer {key}\r\n")
}

fn with(head: &str, key: &str) -> String {
    format!("{head}\r\n{}", bearer(key).trim_end())
}

fn is_unauthorized(answer: &str) -> bool {
    answer.starts_with("HTTP/1.1 401") && answer.to_lowercase().contains("\r\nwww-authenticate: bearer")
}

#[test]
fn without_a_key_nobody_gets_in_and_with_one_nobody_gets_at_anothers_session() {
    let folder = Folder::new();
    let file = key_file(&folder, "keys", &both());
    let gateway = Program::gateway(&["--bearer-token-file", &file, "--log-level", "trace"]);
    assert!(gateway.greeting.contains("Access           2 keys in "), "{}", gateway.greeting);
    for key in [
        "",
        "authorization: Bearer wrong-5c8zLq0vTnW4xYbK\r\n",
        "x-api-key: \r\n",
        &format!("x: {ALICE}\r\n"),
    ] {
        let key = if key.is_empty() { String::new() } else { format!("\r\n{}", key.trim_end()) };
        for head in [
            "GET /sse HTTP/1.1",
            "POST /messages/ HTTP/1.1",
            MCP,
            "GET /mcp HTTP/1.1",
            "DELETE /mcp HTTP/1.1",
        ] {
            let answer = gateway.request(&format!("{head}{key}"), "");
            assert!(is_unauthorized(&answer), "{head}{key}: {answer}");
        }
    }
    for open in ["/healthz", "/readyz"] {
        assert!(gateway.get(open).starts_with("HTTP/1.1 200"));
    }
    let mut alice = gateway.connect_with("/sse", &bearer(ALICE));
    alice.initialize();
    alice.echo(1, "hello");
    let mut by_key = gateway.connect_with("/sse", &format!("x-api-key: {BOB}\r\n"));
    by_key.initialize();
    let post = format!("POST {} HTTP/1.1\r\ncontent-type: application/json", alice.endpoint);
    assert!(gateway.request(&with(&post, BOB), PING).starts_with("HTTP/1.1 404"));
    assert!(is_unauthorized(&gateway.request(&post, PING)));
    let resume = format!("GET /sse HTTP/1.1\r\nlast-event-id: {}", alice.last_id);
    assert!(gateway.request(&with(&resume, BOB), "").starts_with("HTTP/1.1 404"));
    // The same over Streamable HTTP.
    let answer = gateway.request(&with(MCP, ALICE), INITIALIZE);
    let session = answer.lines().find(|line| line.starts_with("mcp-session-id:")).unwrap();
    let head = format!("{MCP}\r\n{session}");
    assert!(gateway.request(&with(&head, ALICE), PING).starts_with("HTTP/1.1 200"));
    assert!(gateway.request(&with(&head, BOB), PING).starts_with("HTTP/1.1 404"));
    assert!(is_unauthorized(&gateway.request(&head, PING)));
    for method in ["GET", "DELETE"] {
        let head = format!("{method} /mcp HTTP/1.1\r\naccept: text/event-stream\r\n{session}");
        assert!(gateway.request(&with(&head, BOB), "").starts_with("HTTP/1.1 404"));
    }
    assert!(gateway.request(&with(&head, ALICE), PING).starts_with("HTTP/1.1 200"));
    alice.echo(2, "still here");
    // Over HTTP/2 too, which logs more at trace.
    gateway.makes_lines(3);
    gateway.signal("-TERM");
    let log = gateway.log.until_says("shut down");
    assert!(!log.contains(&ALICE[6..]) && !log.contains(&BOB[4..]), "a key in the log");
}

#[test]
fn a_key_that_is_taken_out_is_refused_at_once_and_its_streams_end() {
    let folder = Folder::new();
    let file = key_file(&folder, "keys", &both());
    let gateway = Program::gateway(&["--bearer-token-file", &file]);
    let mut alice = gateway.connect_with("/sse", &bearer(ALICE));
    let mut bob = gateway.connect_with("/sse", &bearer(BOB));
    alice.initialize();
    bob.initialize();
    let answer = gateway.request(&with(MCP, BOB), INITIALIZE);
    let session = answer.lines().find(|line| line.starts_with("mcp-session-id:")).unwrap().to_owned();
    // A connection that stays, with the same head for each message.
    let mut kept = BufReader::new(TcpStream::connect(&gateway.address).unwrap());
    kept.get_ref().set_read_timeout(Some(PATIENCE)).unwrap();
    let endpoint = bob.endpoint.clone();
    let post = |kept: &mut BufReader<TcpStream>| {
        let (key, length) = (bearer(BOB), PING.len());
        let head =
            format!("POST {endpoint} HTTP/1.1\r\nhost: localhost\r\n{key}content-type: application/json");
        write!(kept.get_mut(), "{head}\r\ncontent-length: {length}\r\n\r\n{PING}").unwrap();
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert_ne!(kept.read_line(&mut head).unwrap(), 0);
        }
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
        kept.read_exact(&mut vec![0; length.parse().unwrap()]).unwrap();
        head[9..12].to_owned()
    };
    assert_eq!((post(&mut kept), post(&mut kept)), ("202".into(), "202".into()));
    key_file(&folder, "keys", &format!("alice {ALICE}\neve eve-0123456789abcdef\n"));
    // No signal: it is seen.
    bob.rest();
    // The line about the file may come after those about the sessions.
    gateway.log.until("both ends", |log| {
        count(log, "reason=\"unauthorized\"") == 2 && log.contains("keys read") && log.contains("revoked=1")
    });
    assert_eq!(post(&mut kept), "401");
    assert!(is_unauthorized(&gateway.request(&with(&format!("{MCP}\r\n{session}"), BOB), PING)));
    alice.echo(1, "untouched");
    gateway.connect_with("/sse", &bearer("eve-0123456789abcdef")).initialize();
}

#[test]
fn a_file_that_is_wrong_changes_nothing_and_says_so() {
    let folder = Folder::new();
    let file = key_file(&folder, "keys", &both());
    let gateway = Program::gateway(&["--bearer-token-file", &file]);
    let mut bob = gateway.connect_with("/sse", &bearer(BOB));
    bob.initialize();
    for (times, wrong) in ["", "alice short\n", "alice\n"].into_iter().enumerate() {
        key_file(&folder, "keys", &format!("{wrong}# {times}\n"));
        gateway.log.until("the mistake", |log| count(log, "the keys were not changed") == times + 1);
    }
    fs::remove_file(&file).unwrap();
    gateway.signal("-HUP");
    gateway.log.until("the loss", |log| count(log, "the keys were not changed") >= 4);
    bob.echo(1, "still here");
    key_file(&folder, "keys", &format!("bob {BOB}\n"));
    gateway.log.until_says("revoked=1");
    bob.echo(2, "still here");
}

#[test]
fn a_file_that_cannot_be_taken_is_refused_at_the_start() {
    let folder = Folder::new();
    let refused_with =
        |file: &str| refused(&["serve", "--bearer-token-file", file, "--", PROGRAM, "demo", "--stdio"]);
    for (text, expected) in [
        ("", "there is no token in it"),
        ("# nobody\n", "there is no token in it"),
        ("alice", "line 1: expected two words"),
        (&format!("alice {ALICE}\nalice {BOB}"), "line 2: this name stands"),
        (&format!("alice {ALICE}\nbob {ALICE}"), "line 2: the token is the same as that of line 1"),
        ("# x\nalice 012345678901234", "line 2: the token has 15 characters"),
    ] {
        let error = refused_with(&key_file(&folder, "keys", text));
        assert!(error.contains(expected), "{error}");
        assert!(!error.contains(ALICE) && !error.contains("01234567890"), "{error}");
    }
    for mode in [0o644, 0o604, 0o620, 0o660, 0o666, 0o602] {
        let file = key_file(&folder, "open", &both());
        fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
        let error = refused_with(&file);
        assert!(error.contains(&format!("mode {mode:03o}")) && error.contains("chmod 600"), "{error}");
    }
    for mode in [0o400, 0o440, 0o640] {
        let file = key_file(&folder, "closed", &both());
        fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
        Program::gateway(&["--bearer-token-file", &file]);
    }
    assert!(refused_with(&folder.path("none")).contains("cannot read"));
    assert!(refused_with(&folder.path("")).contains("is not a regular file"));
    let pipe = folder.path("pipe");
    make_pipe(&pipe);
    assert!(refused_with(&pipe).contains("is not a regular file"));
    let large = format!("alice {ALICE}\n{}", "# x\n".repeat(300_000));
    assert!(refused_with(&key_file(&folder, "large", &large)).contains("larger than 1 MiB"));
    // A link, as secrets are mounted.
    key_file(&folder, "real", &both());
    symlink(folder.path("real"), folder.path("link")).unwrap();
    Program::gateway(&["--bearer-token-file", &folder.path("link")]);
}

fn make_pipe(path: &str) {
    assert!(std::process::Command::new("mkfifo").arg(path).status().unwrap().success());
}

#[test]
fn each_server_of_a_configuration_may_have_keys_of_its_own() {
    let folder = Folder::new();
    key_file(&folder, "all", &format!("alice {ALICE}\n"));
    key_file(&folder, "own", &format!("bob {BOB}\n"));
    let config = |own: &str| {
        format!(
            r#"{{"auth": {{"bearerTokenFile": "{all}"}}, "mcpServers": {{
              "one": {{"command": "{PROGRAM}", "args": ["demo", "--stdio"]}},
              "two": {{"command": "{PROGRAM}", "args": ["demo", "--stdio"]{own}}}}}}}"#,
            all = folder.path("all")
        )
    };
    let own = format!(r#", "auth": {{"bearerTokenFile": "{}"}}"#, folder.path("own"));
    let file = folder.write("mcp.json", &config(&own));
    let gateway = Program::start("serve", &["--config", &file]);
    gateway.connect_with("/one/sse", &bearer(ALICE)).initialize();
    gateway.connect_with("/two/sse", &bearer(BOB)).initialize();
    for (path, key) in [("/one/sse", BOB), ("/two/sse", ALICE), ("/one/mcp", BOB), ("/two/mcp", ALICE)] {
        assert!(is_unauthorized(&gateway.request(&with(&format!("GET {path} HTTP/1.1"), key), "")), "{path}");
    }
    // Taking the lock off is no reload.
    folder.write("mcp.json", &config(""));
    gateway.signal("-HUP");
    let log = gateway.log.until_says("the configuration was not changed");
    assert!(
        log.contains("the clients of mcpServers.two, which is there, would need something else than before"),
        "{log}"
    );
    assert!(is_unauthorized(&gateway.get("/two/sse")));
    let both_say = refused(&["serve", "--config", &file, "--bearer-token-file", &folder.path("own")]);
    assert!(both_say.contains("both say what clients need"), "{both_say}");
}

#[test]
fn no_reload_opens_or_closes_a_server_that_is_there() {
    let folder = Folder::new();
    key_file(&folder, "keys", &both());
    let with = |auth: &str| format!(r#"{{{auth} "mcpServers": {{}}}}"#);
    let auth = format!(r#""auth": {{"bearerTokenFile": "{}"}},"#, folder.path("keys"));
    let file = folder.write("mcp.json", &with(""));
    let gateway = Program::gateway(&["--config", &file]);
    folder.write("mcp.json", &with(&auth));
    gateway.signal("-HUP");
    let log = gateway.log.until_says("the configuration was not changed");
    assert!(
        log.contains("the clients of the server at the root, which is there, would need something else"),
        "{log}"
    );
    let gateway = Program::gateway(&["--config", &file]);
    folder.write("mcp.json", &with(""));
    gateway.signal("-HUP");
    gateway.log.until_says("the configuration was not changed");
    assert!(is_unauthorized(&gateway.get("/sse")));
}

#[test]
fn the_file_of_a_server_that_is_gone_is_not_looked_at_any_more() {
    let folder = Folder::new();
    let config = |servers: &str| format!(r#"{{"mcpServers": {{{servers}}}}}"#);
    let server = |name: &str| {
        let file = key_file(&folder, name, &both());
        format!(
            r#""{name}": {{"command": "{PROGRAM}", "args": ["demo", "--stdio"], "auth": {{"bearerTokenFile": "{file}"}}}}"#
        )
    };
    let (one, two) = (server("one"), server("two"));
    let file = folder.write("mcp.json", &config(&format!("{one}, {two}")));
    let gateway = Program::start("serve", &["--config", &file]);
    folder.write("mcp.json", &config(&one));
    gateway.signal("-HUP");
    gateway.log.until_says("server removed");
    fs::remove_file(folder.path("two")).unwrap();
    // Both would be read now.
    gateway.signal("-HUP");
    let log = gateway.log.until("the reload", |log| count(log, "configuration read") == 3);
    assert_eq!((count(&log, "keys read"), count(&log, "the keys were not changed")), (3, 0), "{log}");
}

#[test]
fn the_demo_has_them_too() {
    let folder = Folder::new();
    let file = key_file(&folder, "keys", &both());
    let demo = Program::demo(&["--bearer-token-file", &file]);
    assert!(demo.greeting.contains("Clients need a key from "), "{}", demo.greeting);
    assert!(is_unauthorized(&demo.get("/sse")));
    demo.connect_with("/sse", &bearer(BOB)).initialize();
    key_file(&folder, "keys", &format!("alice {ALICE}\n"));
    demo.log.until_says("revoked=1");
    demo.signal("-HUP");
    demo.log.until("the signal", |log| count(log, "keys read") == 2);
    assert!(is_unauthorized(&demo.request(&with("GET /sse HTTP/1.1", BOB), "")));
}

#[test]
fn what_is_misspelled_there_is_an_error_and_not_an_open_door() {
    let folder = Folder::new();
    let refused_with = |top: &str, server: &str| {
        let text = format!(r#"{{{top} "mcpServers": {{"one": {{"command": "sh"{server}}}}}}}"#);
        refused(&["serve", "--config", &folder.write("mcp.json", &text)])
    };
    for (top, server, expected) in [
        (r#""Auth": {},"#, "", "did you mean \"auth\"?"),
        (r#""bearerTokenFile": "x","#, "", "it belongs into \"auth\""),
        (r#""auth": {"bearertokenfile": "x"},"#, "", "is not a key of \"auth\""),
        (r#""auht": {"bearerTokenFile": "x"},"#, "", "did you mean \"auth\"?"),
        (r#""authentication": {"bearerTokenFile": "x"},"#, "", "did you mean \"auth\"?"),
        ("", r#", "auths": {"bearerTokenFile": "x"}"#, "did you mean \"auth\"?"),
        ("", r#", "bearerTokensFile": "x""#, "it belongs into \"auth\""),
        (r#""auth": {},"#, "", "expected \"bearerTokenFile\""),
        (r#""auth": "keys","#, "", "expected an object"),
        ("", r#", "auth": {"bearerTokenFile": ""}"#, "expected the path of a file"),
        ("", r#", "AUTH": {"bearerTokenFile": "x"}"#, "did you mean \"auth\"?"),
        ("", r#", "auth": {"bearerTokenFile": "/none"}"#, "cannot read /none"),
    ] {
        let error = refused_with(top, server);
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn a_key_is_for_the_gateway_and_never_passed_on() {
    let folder = Folder::new();
    let file = key_file(&folder, "keys", &both());
    let keys = ["serve", "--bearer-token-file", &file];
    for more in [
        &["--upstream", "http://localhost:1/mcp", "--header-from-client", "Authorization"][..],
        &["--upstream", "http://localhost:1/mcp", "--header-from-client", "x-api-key"],
        &["--env-from-header", "Authorization=TOKEN", "--", "sh"],
    ] {
        let error = refused(&[&keys[..], more].concat());
        assert!(error.contains("cannot be passed on to the server"), "{error}");
    }
    // The variable stands for the option.
    let gateway = Program::prepare("serve", "0", &["--", PROGRAM, "demo", "--stdio"])
        .env("MCP_SSE_TOKENS_FILE", &file)
        .piped();
    assert!(is_unauthorized(&gateway.get("/sse")));
    gateway.connect_with("/sse", &bearer(ALICE)).initialize();
}
