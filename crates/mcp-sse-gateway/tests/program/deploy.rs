//! The files of `deploy/` for containers: the program takes each of their command lines, and answers where they ask it.
//!
//! They are read by their lines, as far as that goes. Whether container engines and clusters take them is not seen here.

use std::{
    fs,
    io::{Read as _, Write as _},
    iter,
    net::TcpStream,
    os::unix::fs::{PermissionsExt, symlink},
    process::Command,
};

use crate::{
    engines::Engine,
    help::{Folder, PATIENCE, PROGRAM, Program, refused, run},
};

/// A pod's name, as a Deployment makes it.
const POD: &str = "mcp-sse-7d4b9c8f6d-x2x4z";
/// What a Secret has for an engine.
const PASSWORD: &str = "0123456789abcdef";
/// How long leaving the other replicas may take, in seconds.
const LEAVING: u64 = 8;

fn file(name: &str) -> String {
    fs::read_to_string(format!("{}/../../{name}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

/// The list after these words: one of JSON, as Dockerfiles have it, and YAML if one likes.
fn list(text: &str, words: &str) -> Vec<String> {
    let (_, rest) = text.split_once(words).unwrap();
    serde_json::Deserializer::from_str(rest).into_iter().next().unwrap().unwrap()
}

/// What stands in the first line that has these words, between them and what ends it.
fn between<'a>(text: &'a str, words: &str, end: char) -> &'a str {
    let (_, rest) = text.split_once(words).unwrap();
    rest.split([end, '\n']).next().unwrap().trim()
}

/// A word as Compose reads it, with variables as they are by default.
fn by_default(word: &str) -> String {
    let variable = word.strip_prefix("${").and_then(|word| word.strip_suffix('}'));
    variable.map_or(word, |variable| variable.split_once(":-").unwrap().1).to_owned()
}

/// How a container is started.
struct Start {
    file: &'static str,
    text: String,
    line: Vec<String>,
}

impl Start {
    /// With what the image says, and these arguments after it.
    fn of(file_name: &'static str, image: &str, arguments: &[String]) -> Self {
        let mut line = list(image, "\nENTRYPOINT ");
        assert!(line.remove(0).ends_with("/mcp-sse"), "{file_name}");
        line.extend(arguments.iter().map(|word| by_default(word)));
        Self { file: file_name, text: file(file_name), line }
    }

    fn all() -> [Self; 6] {
        let [remote, programs] = ["deploy/docker/Dockerfile", "deploy/docker/Dockerfile.programs"];
        let [compose, kubernetes] = ["deploy/compose.yaml", "deploy/kubernetes/mcp-sse.yaml"];
        let [several, replicas] = ["deploy/compose-replicas.yaml", "deploy/kubernetes/replicas.yaml"];
        let image = file(programs);
        let upstream = ["--upstream", "http://127.0.0.1:9/mcp"].map(str::to_owned);
        assert!(list(&file(remote), "\nCMD ").is_empty());
        [
            Self::of(remote, &file(remote), &upstream),
            Self::of(programs, &image, &list(&image, "\nCMD ")),
            Self::of(compose, &image, &list(&file(compose), "\n    command: ")),
            Self::of(kubernetes, &image, &list(&file(kubernetes), "\n          args: ")),
            Self::of(several, &image, &list(&file(several), "\n    command: ")),
            Self::of(replicas, &image, &list(&file(replicas), "\n          args: ")),
        ]
    }

    /// The value of an option.
    fn value(&self, option: &str) -> Option<&str> {
        let at = self.line.iter().position(|word| word == option)?;
        Some(&self.line[at + 1])
    }

    /// The port of a place.
    fn port(&self, option: &str) -> &str {
        self.value(option).unwrap().strip_prefix("0.0.0.0:").unwrap()
    }

    /// The servers that it is for.
    fn servers(&self) -> String {
        let indented = self.text.split_once("\n  mcp.json: |\n").map(|(_, text)| text);
        let Some(indented) = indented else {
            return r#"{"mcpServers": {"everything": {"command": "npx"}}}"#.to_owned();
        };
        indented.lines().take_while(|line| line.starts_with("    ")).collect()
    }

    /// What connects it with others, if it is one of several.
    fn engine(&self) -> Option<Engine> {
        self.value("--cluster").map(|_| Engine::nats())
    }

    /// The gateway, started so, but with files and ports of its own, and with the engine at this URL.
    fn gateway(&self, folder: &Folder, cluster: &str) -> Program {
        crate::page::keys(folder, "cluster-key", &"5a".repeat(32));
        let keys = folder.write("keys", "test 0123456789abcdef\n");
        fs::set_permissions(&keys, PermissionsExt::from_mode(0o600)).unwrap();
        folder.write("mcp.json", &self.servers());
        // They have to be there. None is started.
        fs::create_dir(folder.path("bin")).unwrap();
        for name in ["bin/npx", "bin/uvx"] {
            symlink(PROGRAM, folder.path(name)).unwrap();
        }
        let before = iter::once("").chain(self.line.iter().map(String::as_str));
        let line =
            before.zip(&self.line).map(|(before, word)| match (before, word.strip_prefix("0.0.0.0:")) {
                ("--cluster", _) => cluster.to_owned(),
                (_, Some(_)) => "0.0.0.0:0".to_owned(),
                (_, None) => word.replace("/etc/mcp-sse/", &folder.path("")).replace("$(POD_NAME)", POD),
            });
        let mut command = Command::new(PROGRAM);
        command.args(line);
        let path = format!("{}:{}", folder.path("bin"), std::env::var("PATH").unwrap());
        Program::prepare_command(command).env("PATH", &path).env("CLUSTER_PASSWORD", PASSWORD).piped()
    }

    /// How long it may take to end, in seconds.
    fn ending(&self) -> u64 {
        let help = String::from_utf8(run(&["serve", "--help"]).stdout).unwrap();
        let time = |option: &str| {
            let default = || {
                let (_, about) = help.split_once(&format!("{option} <TIME>")).unwrap();
                between(about, "[default: ", ']')
            };
            seconds(self.value(option).unwrap_or_else(default))
        };
        time("--shutdown-timeout") + 2 * time("--stop-timeout")
    }
}

fn seconds(time: &str) -> u64 {
    time.strip_suffix('s').unwrap_or(time).parse().unwrap()
}

/// The status of the answer from there.
fn status(address: &str, path: &str) -> String {
    let mut socket = TcpStream::connect(address).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(socket, "GET {path} HTTP/1.1\r\nhost: {address}\r\n\r\n").unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).unwrap();
    answer[9..12].to_owned()
}

#[test]
fn each_container_starts_answers_its_probes_and_ends() {
    for start in Start::all() {
        let folder = Folder::new();
        let engine = start.engine();
        let cluster = engine.as_ref().map(Engine::url).unwrap_or_default();
        let gateway = start.gateway(&folder, &cluster);
        let admin = gateway.greeting.lines().find(|line| line.starts_with("Health checks ")).unwrap();
        let admin = between(admin, "http://", '/');
        for path in ["/healthz", "/readyz"] {
            assert_eq!(status(admin, path), "200", "{}: {path}", start.file);
        }
        gateway.signal("-TERM");
        let (is_success, log) = gateway.end();
        assert!(is_success, "{}: {log}", start.file);
        // Each line of it is JSON.
        for line in log.lines() {
            assert!(serde_json::from_str::<serde_json::Value>(line).is_ok(), "{}: {line}", start.file);
        }
    }
}

#[test]
fn probes_and_ports_are_where_the_container_listens() {
    let [remote, programs, compose, kubernetes, several, replicas] = Start::all();
    for image in [&remote, &programs] {
        let ports = format!("\nEXPOSE {} {}\n", image.port("--listen"), image.port("--admin"));
        assert!(image.text.contains(&ports), "{}: no {ports}", image.file);
    }
    let probe = format!("fetch('http://127.0.0.1:{}/healthz')", programs.port("--admin"));
    let health_check = list(&programs.text, "\n    CMD ");
    assert!(health_check.iter().any(|word| word.contains(&probe)), "{health_check:?}");

    let port = compose.port("--listen");
    assert!(compose.text.contains(&format!("\"127.0.0.1:{port}:{port}\"")));
    assert!(compose.text.contains(&format!("\"gateway:{port}\"")));
    let server = format!("server gateway:{} ", several.port("--listen"));
    assert!(file("deploy/proxies/nginx-compose.conf").contains(&server), "no {server}");

    for (name, option) in [("http", "--listen"), ("admin", "--admin")] {
        for kubernetes in [&kubernetes, &replicas] {
            let port = format!("{{name: {name}, containerPort: {}}}", kubernetes.port(option));
            assert!(kubernetes.text.contains(&port), "{}: no {port}", kubernetes.file);
        }
    }
    for (kubernetes, probe, path) in [
        (&kubernetes, "livenessProbe:", "/healthz"),
        (&kubernetes, "readinessProbe:", "/readyz"),
        (&replicas, "startupProbe:", "/readyz"),
        (&replicas, "livenessProbe:", "/healthz"),
        (&replicas, "readinessProbe:", "/healthz"),
    ] {
        let (_, rest) = kubernetes.text.split_once(probe).unwrap();
        let asked = between(rest, "httpGet: {path: ", '}');
        assert_eq!(asked, format!("{path}, port: admin"), "{}: {probe}", kubernetes.file);
    }
}

#[test]
fn the_cluster_s_clients_need_a_key_and_come_by_the_ingress_s_name() {
    let [_, _, _, kubernetes, _, replicas] = Start::all();
    for start in [kubernetes, replicas] {
        let folder = Folder::new();
        let engine = start.engine();
        let cluster = engine.as_ref().map(Engine::url).unwrap_or_default();
        let gateway = start.gateway(&folder, &cluster);
        let host = between(&start.text, "    - host: ", '\n');
        for (host, expected) in [(host, "401"), ("localhost", "401"), ("elsewhere.example", "421")] {
            let answer = gateway.request(&format!("GET /everything/sse HTTP/1.1\r\nhost: {host}"), "");
            assert_eq!(&answer[9..12], expected, "{host}: {answer}");
        }
        let key = "x-api-key: 0123456789abcdef\r\nhost: localhost\r\n";
        let endpoint = gateway.connect_with("/time/sse", key).endpoint;
        assert!(endpoint.starts_with("/time/messages/"), "{endpoint}");
        assert_eq!(endpoint.contains(&format!("&at={POD}.")), engine.is_some(), "{endpoint}");
    }
}

#[test]
fn the_cluster_s_engines_let_its_replicas_in_and_nobody_else() {
    let [.., replicas] = Start::all();
    let folder = Folder::new();
    let nats = file("deploy/kubernetes/nats.yaml");
    let (_, rest) = nats.split_once("\n  nats.conf: |\n").unwrap();
    // One server, with one port.
    let (settings, _) = rest.split_once("    cluster {").unwrap();
    let settings = settings.replace("    http: 8222\n", "").replace("$POD_NAME", POD);
    let settings = folder.write("nats.conf", &settings.replace("$CLUSTER_PASSWORD", PASSWORD));
    let redis = file("deploy/kubernetes/redis.yaml");
    let words = list(&redis, "\n          command: ");
    let words: Vec<_> = words.iter().map(|word| word.replace("$(CLUSTER_PASSWORD)", PASSWORD)).collect();
    let words: Vec<_> = words.iter().skip(1).map(String::as_str).collect();
    let engines = [Engine::nats_with(&["--config", &settings]), Engine::redis_with(&words)];
    for (text, engine) in [&nats, &redis].into_iter().zip(&engines) {
        // The gateway puts the password in.
        let user = between(text, "\n  url: ", '@').split_once("://").unwrap().1;
        assert!(user.ends_with(":${CLUSTER_PASSWORD}"), "{user}");
        let folder = Folder::new();
        let gateway = replicas.gateway(&folder, &engine.url_with(&format!("{user}@")));
        assert!(gateway.get("/readyz").contains(r#""connected":true"#));
        let said = refused(&["serve", "--port", "0", "--cluster", &engine.url(), "--", "true"]);
        assert!(said.contains("refuses"), "{said}");
    }
}

#[test]
fn what_waits_for_its_end_waits_longer_than_that_takes() {
    let [remote, programs, compose, kubernetes, several, replicas] = Start::all();
    for image in [&remote, &programs] {
        let patience = seconds(between(&image.text, "--stop-timeout ", ' '));
        assert!(patience > image.ending(), "{}: {patience} s", image.file);
    }
    for (compose, leaving) in [(&compose, 0), (&several, LEAVING)] {
        let patience = seconds(between(&compose.text, "    stop_grace_period: ", '\n'));
        assert!(patience > compose.ending() + leaving, "{}: {patience} s", compose.file);
    }
    // What a preStop takes is part of it.
    let patience = seconds(between(&kubernetes.text, "\n      terminationGracePeriodSeconds: ", '\n'));
    assert!(!kubernetes.text.contains("\n            preStop:"), "count it");
    assert!(patience > kubernetes.ending(), "{patience} s");
    let patience = seconds(between(&replicas.text, "\n      terminationGracePeriodSeconds: ", '\n'));
    let pause = seconds(between(&replicas.text, "\n              sleep: {seconds: ", '}'));
    assert!(patience > pause + replicas.ending() + LEAVING, "{patience} s");
    let service = file("deploy/systemd/mcp-sse.service");
    let patience = seconds(between(&service, "\nTimeoutStopSec=", '\n'));
    assert!(patience > remote.ending(), "{patience} s");
}

#[test]
fn both_images_are_built_alike_from_all_that_the_workspace_has() {
    let stage = |name: &str| {
        let text = file(name);
        let (_, rest) = text.split_once("\nFROM rust:").unwrap();
        rest.split_once("\n\n").unwrap().0.to_owned()
    };
    assert_eq!(stage("deploy/docker/Dockerfile"), stage("deploy/docker/Dockerfile.programs"));
    let left = file(".dockerignore");
    for member in list(&file("Cargo.toml"), "\nmembers = ") {
        let folder = format!("!{}", member.trim_end_matches("/*"));
        assert!(left.lines().any(|line| line == folder), "{folder} is not in .dockerignore");
    }
}
