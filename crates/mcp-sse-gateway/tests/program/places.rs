//! Where it listens beside a port: Unix sockets, sockets of systemd, a place for health checks.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    os::{
        fd::OwnedFd,
        unix::{
            fs::{FileTypeExt as _, PermissionsExt as _},
            net::{UnixListener, UnixStream},
        },
    },
    path::Path,
};

use crate::help::{Folder, INITIALIZE, PATIENCE, PROGRAM, Program, refused};

const MCP: &str =
    "POST /mcp HTTP/1.1\r\naccept: application/json, text/event-stream\r\ncontent-type: application/json";

/// The gateway in front of the demo server, listening where these options say.
fn gateway(options: &[&str]) -> Program {
    let mut arguments = options.to_vec();
    arguments.extend(["--", PROGRAM, "demo", "--stdio"]);
    Program::prepare_as("serve", &arguments)
}

/// The whole answer over a Unix socket.
fn request(path: &str, head: &str, body: &str) -> String {
    let mut stream = UnixStream::connect(path).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let length = body.len();
    let head = format!("{head}\r\nhost: localhost\r\nconnection: close\r\ncontent-length: {length}");
    stream.write_all(format!("{head}\r\n\r\n{body}").as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn a_unix_socket_is_served_and_its_file_removed_at_the_end() {
    let folder = Folder::new();
    let path = folder.path("mcp.sock");
    let gateway = gateway(&["--listen", &format!("unix:{path}"), "--listen", "127.0.0.1:0"]);
    assert!(
        gateway.greeting.contains(&format!("Listening on unix:{path}, http://127")),
        "{}",
        gateway.greeting
    );
    let file = fs::metadata(&path).unwrap();
    assert!(file.file_type().is_socket());
    assert_eq!(file.permissions().mode() & 0o777, 0o660);
    assert!(request(&path, MCP, INITIALIZE).contains("mcp-sse demo"));
    assert!(gateway.get("/healthz").starts_with("HTTP/1.1 200"), "the port is there too");
    gateway.signal("-TERM");
    assert!(gateway.ends());
    assert!(!Path::new(&path).exists());
}

#[test]
fn a_socket_that_nobody_listens_on_is_replaced_and_any_other_file_is_not() {
    let folder = Folder::new();
    let path = folder.path("mcp.sock");
    drop(UnixListener::bind(&path).unwrap());
    let place = format!("unix:{path}");
    let running = gateway(&["--listen", &place]);
    assert!(request(&path, "GET /healthz HTTP/1.1", "").starts_with("HTTP/1.1 200"));
    let why = refused(&["serve", "--listen", &place, "--", "cat"]);
    assert!(why.contains("another process listens there already"), "{why}");
    assert!(request(&path, "GET /healthz HTTP/1.1", "").starts_with("HTTP/1.1 200"));

    // Its place was taken by another: that one's file stays.
    fs::remove_file(&path).unwrap();
    let _other = UnixListener::bind(&path).unwrap();
    running.signal("-TERM");
    assert!(running.ends());
    assert!(Path::new(&path).exists());

    let file = folder.write("file", "precious");
    let why = refused(&["serve", "--listen", &format!("unix:{file}"), "--", "cat"]);
    assert!(why.contains("not a socket"), "{why}");
    assert_eq!(fs::read_to_string(file).unwrap(), "precious");
}

#[test]
fn sockets_of_systemd_are_served() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let arguments = format!("serve --listen systemd:web -- {PROGRAM} demo --stdio");
    let gateway = Program::prepare_socket(OwnedFd::from(listener), "web", &arguments);
    assert_eq!(gateway.address, address.to_string());
    gateway.connect().initialize();

    let folder = Folder::new();
    let path = folder.path("systemd.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let gateway =
        Program::prepare_socket(OwnedFd::from(listener), "a", &arguments.replace("systemd:web", "systemd"));
    assert!(gateway.greeting.contains(&format!("Listening on unix:{path}")), "{}", gateway.greeting);
    assert!(request(&path, MCP, INITIALIZE).contains("mcp-sse demo"));
    gateway.signal("-TERM");
    assert!(gateway.ends());
    assert!(Path::new(&path).exists(), "the file is systemd's");
}

#[test]
fn where_systemd_has_passed_nothing_on_it_does_not_start() {
    let why = refused(&["serve", "--listen", "systemd", "--", "cat"]);
    assert!(why.contains("systemd has passed no sockets"), "{why}");
}

#[test]
fn a_place_that_a_network_reaches_needs_the_names() {
    let why = refused(&["serve", "--listen", "127.0.0.1:0", "--listen", "0.0.0.0:0", "--", "cat"]);
    assert!(why.contains("--listen 0.0.0.0 is not a loopback address"), "{why}");
    let why = refused(&["serve", "--listen", "/run/mcp.sock", "--", "cat"]);
    assert!(why.contains("unix:PATH"), "{why}");
    let why = refused(&["serve", "--listen", "unix:/run/mcp.sock", "--port", "1", "--", "cat"]);
    assert!(why.contains("cannot be used with"), "{why}");
}

#[test]
fn a_gateway_that_is_full_answers_its_probes_at_the_admin_place() {
    let folder = Folder::new();
    let path = folder.path("admin.sock");
    let gateway = gateway(&[
        "--listen",
        "127.0.0.1:0",
        "--admin",
        &format!("unix:{path}"),
        "--max-connections",
        "1",
        "--max-sessions",
        "1",
    ]);
    assert!(
        gateway.greeting.contains("Health checks      http://localhost/healthz on unix:"),
        "{}",
        gateway.greeting
    );
    let full = gateway.connect();
    // It waits behind the one that is open.
    let mut waiting = TcpStream::connect(&gateway.address).unwrap();
    waiting.write_all(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n").unwrap();
    for _ in 0..100 {
        assert!(request(&path, "GET /healthz HTTP/1.1", "").ends_with("ok\n"));
    }
    let ready = request(&path, "GET /readyz HTTP/1.1", "");
    assert!(ready.contains(r#""ready":true"#), "{ready}");
    for head in ["GET /sse HTTP/1.1", MCP, "POST /messages/?session_id=1 HTTP/1.1"] {
        let answer = request(&path, head, INITIALIZE);
        assert!(answer.starts_with("HTTP/1.1 404"), "{answer}");
    }
    drop(full);
    gateway.signal("-TERM");
    assert!(gateway.ends());
    assert!(!Path::new(&path).exists());
}

#[test]
fn probes_at_the_admin_place_leave_after_their_answer() {
    let gateway = gateway(&["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]);
    let line = gateway.greeting.lines().find(|line| line.starts_with("Health checks")).unwrap();
    let admin = line.split("http://").nth(1).unwrap().strip_suffix("/healthz").unwrap();
    // More than it has places for.
    let connections: Vec<_> = (0..100).map(|_| TcpStream::connect(admin).unwrap()).collect();
    for mut connection in connections {
        connection.set_read_timeout(Some(PATIENCE)).unwrap();
        connection.write_all(b"GET /readyz HTTP/1.1\r\nhost: localhost\r\n\r\n").unwrap();
        let mut answer = String::new();
        connection.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
}

#[test]
fn systemd_is_told_when_it_is_ready_and_when_it_ends() {
    let folder = Folder::new();
    let path = folder.path("notify");
    let socket = std::os::unix::net::UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let heard = || {
        let mut text = [0; 256];
        let length = socket.recv(&mut text).unwrap();
        String::from_utf8(text[..length].to_vec()).unwrap()
    };
    // The variable is not for programs.
    let script = "test -z \"$NOTIFY_SOCKET\" && echo it has none >&2; cat >/dev/null";
    let gateway =
        Program::prepare("serve", "0", &["--", "sh", "-c", script]).env("NOTIFY_SOCKET", &path).piped();
    assert_eq!(heard().trim(), "READY=1");
    gateway.connect().accepted(INITIALIZE);
    gateway.log.until_says("it has none");
    gateway.signal("-TERM");
    assert_eq!(heard().trim(), "STOPPING=1");
    assert!(gateway.ends());
}

#[test]
fn the_units_are_such_that_systemd_takes_them() {
    let units = concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy/systemd");
    let service = fs::read_to_string(format!("{units}/mcp-sse.service")).unwrap();
    let line =
        service.lines().find_map(|line| line.strip_prefix("ExecStart=/usr/local/bin/mcp-sse ")).unwrap();
    // Its command line is right, up to the file that is not there.
    let why = refused(&line.split(' ').collect::<Vec<_>>());
    assert!(why.contains("cannot read /etc/mcp-sse/mcp.json"), "{why}");
    let verify = std::process::Command::new("systemd-analyze")
        .args(["verify", "--man=no", "--recursive-errors=no"])
        .args(["mcp-sse.service", "mcp-sse.socket"].map(|unit| format!("{units}/{unit}")))
        .output();
    let Ok(verify) = verify else {
        eprintln!("left out: there is no systemd-analyze here");
        return;
    };
    let said = String::from_utf8_lossy(&verify.stderr).into_owned();
    let about_ours =
        said.lines().filter(|line| line.contains("mcp-sse.s") && !line.contains("is not executable"));
    let wrong: Vec<_> = about_ours.collect();
    assert!(wrong.is_empty(), "{wrong:?}");
}
