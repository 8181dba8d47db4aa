//! Real servers, pinned, behind the gateway, each driven by every client over both transports.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    process::Command,
};

use super::{
    install::{install_packages, install_venv, interop, python},
    program::{Program, checks},
};
use crate::{
    report::Report,
    tools::{self, exists, root},
};

const SERVERS: [&str; 5] = ["everything", "filesystem", "git", "time", "crashing"];
const NODE_CLIENTS: [&str; 4] = ["sdk-1x", "client-2x", "inspector", "chromium"];
const PYTHON_CLIENTS: [&str; 2] = ["1x", "2x"];

pub(super) fn run(report: &mut Report, node: &Path, chromium: bool) {
    let name = |server: &str| format!("interop: {server} server behind the gateway");
    if !exists("python3") || !exists("git") {
        return report.left_out(&name("each"), "no python3 and git here");
    }
    let servers = match install() {
        Ok(servers) => servers,
        Err(error) => return report.part(&name("each"), Err(error)),
    };
    for server in SERVERS {
        let (mut runs, mut passed, mut failures) = (0, 0, Vec::new());
        for (client, transport) in clients(chromium) {
            match one(&servers, node, server, client, transport) {
                Ok(line) => {
                    runs += 1;
                    passed += number_before(&line, " passed");
                }
                Err(error) => failures.push(format!("{client} over {transport}: {error}")),
            }
        }
        let result = if failures.is_empty() {
            Ok(format!("{runs} runs (6 clients; SSE and Streamable HTTP), {passed} checks passed"))
        } else {
            Err(failures.join("; "))
        };
        report.part(&name(server), result);
    }
    if !chromium {
        report.left_out(&name("each"), "no Chromium here, for the runs with it");
    }
}

fn number_before(line: &str, word: &str) -> u64 {
    let before = line.split(word).next().unwrap_or_default();
    before.rsplit(' ').next().and_then(|number| number.parse().ok()).unwrap_or(0)
}

/// Chromium's `EventSource` is for SSE only.
fn clients(chromium: bool) -> impl Iterator<Item = (&'static str, &'static str)> {
    let all = NODE_CLIENTS
        .into_iter()
        .chain(PYTHON_CLIENTS)
        .filter(move |client| chromium || *client != "chromium");
    let both = all.flat_map(|client| [(client, "sse"), (client, "http")]);
    both.filter(|(client, transport)| (*client, *transport) != ("chromium", "http"))
}

/// The pinned servers: the folder that they are in.
pub(super) fn install() -> Result<PathBuf, String> {
    let folder = root().join("target/interop/servers");
    let from = interop("servers");
    install_packages(&folder, &from)?;
    install_venv(&folder.join("venv"), &from.join("requirements.txt"))?;
    Ok(folder)
}

fn one(servers: &Path, node: &Path, server: &str, client: &str, transport: &str) -> Result<String, String> {
    // What the server may write in.
    let data = root().join(format!("target/interop/data/{server}-{client}-{transport}"));
    if data.exists() {
        std::fs::remove_dir_all(&data).map_err(|error| format!("{}: {error}", data.display()))?;
    }
    std::fs::create_dir_all(&data).map_err(|error| format!("{}: {error}", data.display()))?;
    if server == "git" {
        tools::run(Command::new("git").args(["init", "-q"]).arg(&data))?;
    }
    let mut arguments: Vec<OsString> = vec!["serve".into(), "--".into()];
    match server {
        "crashing" => {
            arguments.push("python3".into());
            arguments.push(interop("servers/crashing.py").into());
            arguments.push(root().join("target/release/mcp-sse").into());
            arguments.extend(["demo", "--stdio"].map(OsString::from));
        }
        "everything" | "filesystem" => {
            arguments.push(servers.join(format!("node_modules/.bin/mcp-server-{server}")).into());
        }
        _ => arguments.push(servers.join(format!("venv/bin/mcp-server-{server}")).into()),
    }
    if server == "filesystem" {
        arguments.push(data.clone().into());
    }
    let mut program = Program::start(&arguments)?;
    let url = match transport {
        "http" => program.url.replace("/sse", "/mcp"),
        _ => program.url.clone(),
    };
    let mut command = if PYTHON_CLIENTS.contains(&client) {
        let mut command = Command::new(python(client)?);
        command.arg(interop("python/servers.py"));
        command
    } else {
        let mut command = Command::new("node");
        command.arg(node.join("servers.mjs")).args(["--client", client]);
        command
    };
    command.args(["--url", &url, "--transport", transport, "--server", server, "--root"]).arg(&data);
    checks(&mut program, &mut command)
}
