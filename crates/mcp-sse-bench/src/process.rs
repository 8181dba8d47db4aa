//! A server in a process of its own, on the first core where `taskset` is there to pin it.

use std::{
    ffi::OsStr,
    io::{self, BufRead, BufReader},
    net::SocketAddr,
    process::{Child, Command, Stdio},
    time::Duration,
};

use clap::ValueEnum as _;

use crate::args::{Peers, Server};

/// What a program gets to listen.
const START_PATIENCE: Duration = Duration::from_secs(30);

pub(crate) struct Process {
    child: Child,
    pub(crate) address: SocketAddr,
}

/// What starts a server.
pub(crate) fn command(server: Server, peers: &Peers, port: u16) -> io::Result<Command> {
    let program = std::env::current_exe()?;
    let missing = |what| io::Error::other(format!("this server needs {what}"));
    let mut command = match server {
        Server::Bare | Server::BareWithKeys | Server::BareWithTokens | Server::Rmcp => {
            let mut command = Command::new(program);
            command.args(["serve", &name(server)]);
            command
        }
        Server::Floor | Server::FloorCurrentThread | Server::Rmcp010 => {
            let mut command = Command::new(program.with_file_name("mcp-sse-bench-peers"));
            command.arg(name(server));
            command
        }
        Server::Python => {
            let python = peers.python.as_ref().ok_or_else(|| missing("--python"))?;
            let mut command = Command::new(python);
            command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/peers/python_sdk.py"));
            command
        }
        Server::TypeScript => {
            let folder = peers.node.as_ref().ok_or_else(|| missing("--node"))?;
            let mut command = Command::new("node");
            command.arg(folder.join("typescript_sdk.mjs"));
            command
        }
    };
    command.args(["--port", &port.to_string()]);
    Ok(command)
}

pub(crate) fn name(server: Server) -> String {
    server.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
}

impl Process {
    /// Being pinned also tells a server how many cores it has.
    pub(crate) fn start(server: Server, peers: &Peers, more: &[&str]) -> io::Result<Self> {
        let mut plain = command(server, peers, 0)?;
        plain.args(more);
        let mut command = Self::pinned(plain.get_program());
        command.args(plain.get_args());
        let mut child = command.stdout(Stdio::piped()).spawn()?;
        let mut line = String::new();
        if let Some(stdout) = child.stdout.take() {
            BufReader::new(stdout).read_line(&mut line)?;
        }
        let port = line.trim().strip_suffix("/sse").and_then(|url| url.rsplit(':').next()?.parse().ok());
        let process = Self { child, address: SocketAddr::from(([127, 0, 0, 1], port.unwrap_or(0))) };
        if port.is_none() {
            return Err(io::Error::other(format!("{} said {line:?}", name(server))));
        }
        // Some bind after they have said so.
        for _ in 0..100_000 {
            if std::net::TcpStream::connect(process.address).is_ok() {
                return Ok(process);
            }
            std::thread::yield_now();
        }
        Err(io::Error::other("the server does not listen"))
    }

    /// A program that is told its port, as `{port}`, and says nothing when it listens.
    pub(crate) fn start_at_port(program: &OsStr, arguments: &[&str]) -> io::Result<Self> {
        // Free a moment ago.
        let address = std::net::TcpListener::bind(("127.0.0.1", 0))?.local_addr()?;
        let port = address.port().to_string();
        let mut command = Self::pinned(program);
        command.args(arguments.iter().map(|argument| argument.replace("{port}", &port)));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut process = Self { child: command.spawn()?, address };
        let end = crate::load::now() + START_PATIENCE;
        while std::net::TcpStream::connect(address).is_err() {
            if let Some(status) = process.child.try_wait()? {
                return Err(io::Error::other(format!("{} ended: {status}", program.to_string_lossy())));
            }
            if crate::load::now() > end {
                return Err(io::Error::other(format!("{} does not listen", program.to_string_lossy())));
            }
            wait(Duration::from_millis(5));
        }
        Ok(process)
    }

    /// Memory that it and all its descendants have for themselves (what is mapped from files, they may share), in
    /// KiB.
    pub(crate) fn anonymous_of_all(&self) -> io::Result<u64> {
        let mut parents = Vec::new();
        for entry in std::fs::read_dir("/proc")? {
            let Some(process) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) else {
                continue;
            };
            // It may have ended since.
            if let Ok(parent) = status(process, "PPid:") {
                parents.push((process, parent as u32));
            }
        }
        let (mut family, mut at) = (vec![self.child.id()], 0);
        while at < family.len() {
            let children = parents.iter().filter(|(_, parent)| *parent == family[at]);
            family.extend(children.map(|(process, _)| *process).collect::<Vec<u32>>());
            at += 1;
        }
        family.into_iter().map(|process| status(process, "RssAnon:")).sum()
    }

    /// A program on the first core, where `taskset` is there.
    pub(crate) fn pinned(program: &OsStr) -> Command {
        let taskset = Command::new("taskset").arg("--version").stdout(Stdio::null()).status();
        if taskset.is_ok_and(|status| status.success()) {
            let mut command = Command::new("taskset");
            command.args(["-c", "0"]).arg(program);
            command
        } else {
            Command::new(program)
        }
    }

    /// Resident memory, in KiB.
    pub(crate) fn resident(&self) -> io::Result<u64> {
        resident(self.child.id())
    }

    /// Processor time so far, in seconds.
    pub(crate) fn processor_seconds(&self) -> io::Result<f64> {
        // In ticks, which are hundredths on Linux: user and system, the 14th and 15th field.
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace().skip(11).take(2);
        let ticks: Vec<f64> = fields.filter_map(|field| field.parse().ok()).collect();
        if ticks.len() == 2 { Ok(ticks.iter().sum::<f64>() / 100.0) } else { Err(io::Error::other(stat)) }
    }
}

/// Resident memory of a process, in KiB.
pub(crate) fn resident(process: u32) -> io::Result<u64> {
    status(process, "VmRSS:")
}

/// A number from the status of a process.
fn status(process: u32, field: &str) -> io::Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(field));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok())
        .ok_or_else(|| io::Error::other(format!("no {field} in the status of process {process}")))
}

#[allow(clippy::disallowed_methods, reason = "time has to pass in what is measured")]
pub(crate) fn wait(time: Duration) {
    std::thread::sleep(time);
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
