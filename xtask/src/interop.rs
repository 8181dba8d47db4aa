//! Real clients, pinned, against the program: its own demo server here, and real servers behind the gateway in
//! `servers`.

pub(crate) mod gateways;
mod servers;

use std::{
    ffi::OsString,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use crate::{
    report::Report,
    tools::{self, cargo, copy_files, exists, install_once, output, root},
};

pub(crate) fn run(report: &mut Report) {
    let mut build = cargo();
    build.args(["build", "--release", "-p", "mcp-sse-gateway"]);
    if let Err(error) = tools::run(&mut build) {
        return report.part("interop: the program", Err(error));
    }
    for version in ["1x", "2x"] {
        let name = format!("interop: Python mcp {version}");
        if !exists("python3") {
            report.left_out(&name, "no python3 here");
            continue;
        }
        let result = python(version).and_then(|python| client(&python, &interop("python/client.py")));
        report.part(&name, result);
    }
    if !exists("node") || !exists("npm") {
        return report.left_out("interop: Node clients", "no node and npm here");
    }
    let node = match node() {
        Ok(node) => node,
        Err(error) => return report.part("interop: Node clients", Err(error)),
    };
    for (name, script) in [
        ("interop: TypeScript SDK 1.x", "sdk-1x.mjs"),
        ("interop: TypeScript client 2.x", "sdk-2x.mjs"),
        ("interop: Inspector CLI", "inspector.mjs"),
    ] {
        report.part(name, client(Path::new("node"), &node.join(script)));
    }
    const CHROMIUM: &str = "interop: Chromium EventSource";
    let chromium = chromium();
    match &chromium {
        Ok(()) => report.part(CHROMIUM, client(Path::new("node"), &node.join("chromium.mjs"))),
        Err(why) => report.left_out(CHROMIUM, why),
    }
    servers::run(report, &node, chromium.is_ok());
}

fn interop(path: &str) -> PathBuf {
    root().join("tests/interop").join(path)
}

/// A venv with one of the pinned versions: its interpreter.
fn python(version: &str) -> Result<PathBuf, String> {
    let venv = root().join(format!("target/interop/python-{version}"));
    install_venv(&venv, &interop(&format!("python/requirements-{version}.txt")))
}

/// A copy of the Node clients with their packages beside them.
fn node() -> Result<PathBuf, String> {
    let folder = root().join("target/interop/node");
    let from = interop("node");
    install_packages(&folder, &from)?;
    // The scripts may have changed since.
    copy_files(&from, &folder)?;
    Ok(folder)
}

/// A venv with what is pinned there: its interpreter.
fn install_venv(venv: &Path, pins: &Path) -> Result<PathBuf, String> {
    let python = venv.join("bin/python");
    install_once(venv, pins, || {
        tools::run(Command::new("python3").args(["-m", "venv"]).arg(venv))?;
        let mut pip = Command::new(&python);
        pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r"]).arg(pins);
        tools::run(&mut pip)
    })?;
    Ok(python)
}

/// A copy of a folder with the packages that its lock file pins.
fn install_packages(folder: &Path, from: &Path) -> Result<(), String> {
    install_once(folder, &from.join("package-lock.json"), || {
        copy_files(from, folder)?;
        let mut npm = Command::new("npm");
        npm.args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"]).current_dir(folder);
        tools::run(&mut npm)
    })
}

/// The options that say where the peers of the benchmarks are, those that can be installed here.
pub(crate) fn peers() -> Vec<OsString> {
    let mut options = Vec::new();
    let script = root().join("crates/mcp-sse-bench/peers/typescript_sdk.mjs");
    let node = node().and_then(|folder| {
        let to = folder.join("typescript_sdk.mjs");
        std::fs::copy(&script, &to).map_err(|error| format!("{}: {error}", to.display()))?;
        Ok(folder)
    });
    for (option, peer) in [("--python", python("2x")), ("--node", node), ("--gateways", gateways::install())]
    {
        match peer {
            Ok(path) => options.extend([option.into(), path.into()]),
            Err(error) => eprintln!("left out: {option}: {error}"),
        }
    }
    options
}

/// Debian's Chromium, installed if this user may.
fn chromium() -> Result<(), String> {
    if std::env::var_os("CHROMIUM").is_some() || Path::new("/usr/bin/chromium").exists() {
        return Ok(());
    }
    let why = "no Chromium here and it could not be installed by apt-get; set CHROMIUM to its path";
    let apt = |arguments: &[&str]| {
        let mut command = Command::new("apt-get");
        tools::run(command.args(arguments).env("DEBIAN_FRONTEND", "noninteractive").stdout(Stdio::null()))
    };
    // As root; a plain user is told what is missing.
    apt(&["update", "-qq"]).map_err(|_| why.to_owned())?;
    apt(&["install", "-y", "-qq", "--no-install-recommends", "chromium"]).map_err(|_| why.to_owned())
}

/// Starts the program, runs one client against it, and stops it again.
fn client(interpreter: &Path, script: &Path) -> Result<String, String> {
    let mut program = Program::start(&["demo".into()])?;
    let mut command = Command::new(interpreter);
    command.arg(script).args(["--url", &program.url]);
    checks(&mut program, &mut command)
}

/// Runs a client against the program, stops both, and returns the client's last line if nothing failed.
fn checks(program: &mut Program, command: &mut Command) -> Result<String, String> {
    let (ok, text) = output(command)?;
    let stopped = program.stop();
    let last =
        text.lines().rev().find(|line| line.contains(" passed, ")).unwrap_or("no closing line").to_owned();
    let failed: Vec<_> = text.lines().filter(|line| line.starts_with("FAIL ")).collect();
    match (ok && failed.is_empty() && last.contains(" 0 failed"), stopped) {
        (true, Ok(())) => Ok(last),
        (true, Err(error)) => Err(error),
        (false, _) => Err(format!("{last}; {}", failed.join("; "))),
    }
}

/// The program under test, on a free port.
struct Program {
    child: Child,
    url: String,
}

impl Program {
    /// With this command and what stands behind it.
    fn start(arguments: &[OsString]) -> Result<Self, String> {
        let (command, others) = arguments.split_first().ok_or("no command")?;
        let mut child = Command::new(root().join("target/release/mcp-sse"))
            .arg(command)
            .args(["--port", "0", "--log-level", "warn,mcp_sse=info"])
            .args(others)
            .current_dir(root())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| format!("mcp-sse: {error}"))?;
        let stdout = child.stdout.take().ok_or("mcp-sse has no stdout")?;
        let mut lines = BufReader::new(stdout).lines();
        let url = lines.find_map(|line| {
            let line = line.ok()?;
            line.split_whitespace().find(|word| word.starts_with("http://")).map(str::to_owned)
        });
        // What it says later must not fill the pipe.
        std::thread::spawn(move || lines.for_each(drop));
        let mut program = Self { child, url: String::new() };
        program.url =
            url.ok_or_else(|| format!("mcp-sse did not say where it listens: {:?}", program.child.wait()))?;
        Ok(program)
    }

    /// SIGTERM; the program must end by itself, with success.
    fn stop(&mut self) -> Result<(), String> {
        tools::run(Command::new("kill").args(["-TERM", &self.child.id().to_string()]))?;
        let status = self.child.wait().map_err(|error| error.to_string())?;
        if status.success() { Ok(()) } else { Err(format!("mcp-sse ended with {status} after SIGTERM")) }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
