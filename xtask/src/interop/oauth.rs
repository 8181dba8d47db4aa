//! Real clients that get their tokens from a real authorization server.

use std::{
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
};

use super::{
    install::{install_packages, interop, python},
    program::{Program, checks},
};
use crate::{
    report::Report,
    tools::{copy_files, exists, root},
};

/// How many run at once. Most of the time they wait: for the end of a token, or for keys to be fetched.
const AT_ONCE: usize = 4;

#[derive(Clone, Copy)]
struct Run {
    client: &'static str,
    what: What,
    /// What tokens are signed with.
    algorithm: &'static str,
}

#[derive(Clone, Copy, PartialEq)]
enum What {
    /// From 401 to a session.
    Login,
    /// Sessions outlive tokens.
    Expiry,
    /// The authorization server has new keys, and is down.
    Rotation,
}

/// How one of them went.
enum Went {
    Well(String),
    Badly(String),
    LeftOut(String),
}

const RUNS: [Run; 16] = {
    const fn run(client: &'static str, what: What, algorithm: &'static str) -> Run {
        Run { client, what, algorithm }
    }
    [
        run("TypeScript SDK 1.x", What::Login, "RS256"),
        run("TypeScript client 2.x", What::Login, "RS256"),
        run("Python mcp 1x", What::Login, "RS256"),
        run("Python mcp 2x", What::Login, "RS256"),
        run("mcp-remote", What::Login, "RS256"),
        run("Claude Code", What::Login, "RS256"),
        run("TypeScript SDK 1.x", What::Expiry, "ES256"),
        run("TypeScript client 2.x", What::Expiry, "PS256"),
        run("Python mcp 1x", What::Expiry, "EdDSA"),
        run("Python mcp 2x", What::Expiry, "RS256"),
        run("mcp-remote", What::Expiry, "ES256"),
        run("Claude Code", What::Expiry, "EdDSA"),
        run("TypeScript SDK 1.x", What::Rotation, "PS256"),
        run("TypeScript client 2.x", What::Rotation, "ES256"),
        run("Python mcp 1x", What::Rotation, "EdDSA"),
        run("Python mcp 2x", What::Rotation, "RS256"),
    ]
};

pub(super) fn run(report: &mut Report) {
    const ALL: &str = "OAuth";
    if !exists("python3") || !exists("node") || !exists("npm") {
        return report.left_out(ALL, "no python3, node and npm here");
    }
    let folder = match install() {
        Ok(folder) => folder,
        Err(error) => return report.part(ALL, Err(error)),
    };
    for runs in RUNS.chunks(AT_ONCE) {
        let went: Vec<_> = thread::scope(|scope| {
            let running: Vec<_> = runs.iter().map(|run| scope.spawn(|| run.go(&folder))).collect();
            running
                .into_iter()
                .map(|run| run.join().unwrap_or_else(|_| Went::Badly("it panicked".into())))
                .collect()
        });
        for (run, went) in runs.iter().zip(went) {
            let name = format!("{ALL}, {}, {} ({})", run.what.name(), run.client, run.algorithm);
            match went {
                Went::Well(line) => report.part(&name, Ok(line)),
                Went::Badly(why) => report.part(&name, Err(why)),
                Went::LeftOut(why) => report.left_out(&name, &why),
            }
        }
    }
}

/// The clients and the authorization server: the folder that they are in, beside those without OAuth.
fn install() -> Result<PathBuf, String> {
    let folder = root().join("target/interop/oauth");
    let from = interop("oauth");
    install_packages(&folder, &from)?;
    // The scripts may have changed since.
    copy_files(&from, &folder)?;
    super::install::node()?;
    python("1x")?;
    python("2x")?;
    Ok(folder)
}

impl What {
    fn name(self) -> &'static str {
        match self {
            Self::Login => "login",
            Self::Expiry => "tokens that end",
            Self::Rotation => "new keys",
        }
    }
}

impl Run {
    fn go(self, folder: &Path) -> Went {
        match self.checks(folder) {
            Ok(line) => Went::Well(line),
            Err(why) => match why.split_once(" left out: ") {
                Some((_, why)) => Went::LeftOut(why.to_owned()),
                None => Went::Badly(why),
            },
        }
    }

    fn checks(self, folder: &Path) -> Result<String, String> {
        let login = AuthorizationServer::start(folder, self)?;
        let program = root().join("target/release/mcp-sse");
        let mut arguments = vec!["demo".into()];
        if self.what == What::Login {
            arguments = vec!["serve".into()];
        }
        arguments.extend(
            ["--jwt-issuer", &login.issuer, "--required-scope", "mcp", "--jwt-leeway", "0s"].map(Into::into),
        );
        if self.what == What::Login {
            arguments.extend(["--".into(), program.into(), "demo".into(), "--stdio".into()]);
        }
        let mut program = Program::start(&arguments)?;
        let mut command = self.command(folder)?;
        command.args(["--url", &program.url]);
        match self.what {
            What::Login => {}
            What::Expiry => drop(command.arg("--expiry")),
            What::Rotation => drop(command.args(["--rotate", "--as", &login.issuer])),
        }
        checks(&mut program, &mut command)
    }

    fn command(self, folder: &Path) -> Result<Command, String> {
        if let Some(version) = self.client.strip_prefix("Python mcp ") {
            let mut command = Command::new(python(version)?);
            command.arg(interop("oauth/client.py"));
            return Ok(command);
        }
        let mut command = Command::new("node");
        match self.client {
            "TypeScript SDK 1.x" => command.arg(folder.join("sdk.mjs")).args(["--client", "1x"]),
            "TypeScript client 2.x" => command.arg(folder.join("sdk.mjs")).args(["--client", "2x"]),
            "mcp-remote" => command.arg(folder.join("mcp-remote.mjs")),
            _ => command.arg(folder.join("claude-code.mjs")),
        };
        Ok(command)
    }
}

/// The authorization server, until it is dropped.
struct AuthorizationServer {
    child: Child,
    issuer: String,
}

impl AuthorizationServer {
    fn start(folder: &Path, run: Run) -> Result<Self, String> {
        let seconds = if run.what == What::Expiry { "4" } else { "3600" };
        let child = Command::new("node")
            .arg(folder.join("authorization-server.mjs"))
            .args(["--access-token-seconds", seconds, "--alg", run.algorithm])
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| format!("the authorization server: {error}"))?;
        let mut server = Self { issuer: String::new(), child };
        let stdout = server.child.stdout.take().ok_or("the authorization server has no stdout")?;
        let mut lines = BufReader::new(stdout).lines();
        server.issuer = lines
            .find_map(|line| line.ok().filter(|line| line.starts_with("http://")))
            .ok_or_else(|| format!("the authorization server did not start: {:?}", server.child.wait()))?;
        thread::spawn(move || lines.for_each(drop));
        Ok(server)
    }
}

impl Drop for AuthorizationServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
