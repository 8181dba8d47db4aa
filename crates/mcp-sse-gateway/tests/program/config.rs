//! `--config`: named servers, and a file that changes.

use crate::help::{Folder, INITIALIZE, PING, PROGRAM, Program, count, until};

fn demo(name: &str) -> String {
    format!(r#""{name}": {{"command": "{PROGRAM}", "args": ["demo", "--stdio"]}}"#)
}

fn file(servers: &[String]) -> String {
    format!("{{\n  \"mcpServers\": {{\n{}\n  }}\n}}", servers.join(",\n"))
}

#[test]
fn each_named_server_stands_under_its_name_beside_the_one_without() {
    let folder = Folder::new();
    let missing = r#""missing": {"command": "no-such-program-at-all"}"#.to_owned();
    let config = folder.write("mcp.json", &file(&[demo("one"), demo("two"), missing]));
    let gateway = Program::start("serve", &["--config", &config, "--", "sh", "-c", "exit 7"]);
    for name in ["one", "two"] {
        let mut client = gateway.connect_at(&format!("/{name}/sse"));
        assert!(
            client.endpoint.starts_with(&format!("/{name}/messages/?session_id=")),
            "{}",
            client.endpoint
        );
        client.initialize();
        client.echo(1, name);
        // A session of one is none of the other's.
        client.endpoint = client.endpoint.replace(name, if name == "one" { "two" } else { "one" });
        assert!(client.post(PING).contains("404"));
    }
    let mut client = gateway.connect_at("/missing/sse");
    client.accepted(INITIALIZE);
    let answer = client.data();
    assert!(answer.contains("cannot start no-such-program-at-all: No such file"), "{answer}");
    let mut client = gateway.connect();
    client.accepted(INITIALIZE);
    assert!(client.data().contains("exit status: 7"));
    assert!(gateway.get("/three/sse").starts_with("HTTP/1.1 404"));
    assert!(gateway.greeting.contains("/one/sse") && gateway.greeting.contains("/two/mcp"));
}

#[test]
fn names_that_clients_know_stand_in_paths() {
    let folder = Folder::new();
    let config = folder.write("mcp.json", &file(&[demo("@scope/server"), demo("my server")]));
    let gateway = Program::start("serve", &["--config", &config]);
    for shown in ["/@scope/server/sse", "/my%20server/mcp"] {
        assert!(gateway.greeting.contains(shown), "{}", gateway.greeting);
    }
    // Clients encode what a path may also have as it is, or do not.
    for path in ["/@scope/server", "/%40scope/server", "/my%20server"] {
        let mut client = gateway.connect_at(&format!("{path}/sse"));
        client.initialize();
        client.echo(1, path);
        client.endpoint = client.endpoint.replace("%40", "@");
        client.echo(2, path);
        let head = format!(
            "POST {path}/mcp HTTP/1.1\r\naccept: application/json, text/event-stream\r\ncontent-type: application/json"
        );
        let answer = gateway.request(&head, INITIALIZE);
        assert!(answer.contains("mcp-sse demo"), "{path}: {answer}");
    }
    for path in ["/@scope%2Fserver/sse", "/scope/server/sse", "/my+server/sse"] {
        assert!(gateway.get(path).starts_with("HTTP/1.1 404"), "{path}");
    }
}

#[test]
fn paths_can_be_those_of_another_gateway() {
    let folder = Folder::new();
    let config = folder.write("mcp.json", &file(&[demo("one")]));
    let options = [
        "--config",
        &config,
        "--base-path",
        "/servers",
        "--sse-path",
        "/events",
        "--message-path",
        "/in",
        "--mcp-path",
        "/http",
    ];
    let gateway = Program::start("serve", &options);
    let mut client = gateway.connect_at("/servers/one/events");
    assert!(client.endpoint.starts_with("/servers/one/in?session_id="), "{}", client.endpoint);
    client.initialize();
    assert!(gateway.greeting.contains("/servers/one/http"), "{}", gateway.greeting);
}

#[test]
fn sighup_reads_the_file_again_and_keeps_sessions() {
    let folder = Folder::new();
    let config = folder.write("mcp.json", &file(&[demo("goes"), demo("stays"), demo("changes")]));
    let gateway = Program::start("serve", &["--config", &config, "--resume-window", "0s"]);
    let mut clients = ["goes", "stays", "changes"].map(|name| gateway.connect_at(&format!("/{name}/sse")));
    for client in &mut clients {
        client.initialize();
    }
    let changed = r#""changes": {"command": "sh", "args": ["-c", "exit 5"]}"#.to_owned();
    folder.write("mcp.json", &file(&[demo("stays"), demo("comes"), changed]));
    gateway.signal("-HUP");
    gateway.log.until_says("configuration read added=1 changed=1 removed=1");
    for client in &mut clients {
        client.echo(1, "still here");
    }
    assert!(gateway.get("/goes/sse").starts_with("HTTP/1.1 404"));
    gateway.connect_at("/comes/sse").initialize();
    let mut client = gateway.connect_at("/changes/sse");
    client.accepted(INITIALIZE);
    assert!(client.data().contains("exit status: 5"));

    // A mistake changes nothing.
    folder.write("mcp.json", &file(&[r#""stays": {"comand": "x"}"#.to_owned()]));
    gateway.signal("-HUP");
    let log = gateway.log.until_says("the configuration was not changed: ");
    assert!(log.contains("mcp.json:3: mcpServers.stays.comand: there is no such key"), "{log}");
    clients[1].echo(2, "still here");
    gateway.connect_at("/comes/sse").initialize();

    // It may come back, with the sessions that it still has.
    folder.write("mcp.json", &file(&[demo("goes"), demo("stays")]));
    gateway.signal("-HUP");
    gateway.log.until_says("configuration read added=1 changed=0 removed=2");
    clients[0].echo(3, "still here");
    gateway.connect_at("/goes/sse").initialize();

    // With its last session a server that was taken out is gone.
    let (uri, before) = (clients[2].endpoint.clone(), count(&gateway.log.so_far(), "server ended"));
    let [.., last] = clients;
    drop(last);
    gateway.log.until("its server's end", |log| count(log, "server ended") > before);
    let head = format!("POST {uri} HTTP/1.1\r\ncontent-type: text/plain");
    until("it is gone", || gateway.request(&head, "").starts_with("HTTP/1.1 404"));
}

#[test]
fn a_session_that_has_said_nothing_yet_survives_a_reload_too() {
    let folder = Folder::new();
    let config = folder.write("mcp.json", &file(&[demo("goes"), demo("stays")]));
    let gateway = Program::start("serve", &["--config", &config]);
    let mut early = gateway.connect_at("/goes/sse");
    folder.write("mcp.json", &file(&[demo("stays")]));
    gateway.signal("-HUP");
    gateway.log.until_says("removed=1");
    early.initialize();
    early.echo(1, "still here");
    // Nor does it need its connection.
    let (uri, id) = (early.endpoint.clone(), early.last_id.clone());
    drop(early);
    let mut again = gateway.connect_with("/goes/sse", &format!("last-event-id: {id}\r\n"));
    assert_eq!(again.endpoint, uri);
    again.echo(2, "still here");
    assert!(gateway.get("/goes/sse").starts_with("HTTP/1.1 404"));
}
