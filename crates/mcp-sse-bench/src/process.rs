//! A server in a process of its own, on the first core where `taskset` is there to pin it.

use std::{
    io::{self, BufRead, BufReader},
    net::SocketAddr,
    process::{Child, Command, Stdio},
};

use clap::ValueEnum as _;

use crate::args::Server;

pub(crate) struct Process {
    child: Child,
    pub(crate) address: SocketAddr,
}

impl Process {
    /// Being pinned also tells a server how many cores it has.
    pub(crate) fn start(server: Server) -> io::Result<Self> {
        let name = server.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default();
        let program = std::env::current_exe()?;
        let taskset = Command::new("taskset").arg("--version").stdout(Stdio::null()).status();
        let mut command = if taskset.is_ok_and(|status| status.success()) {
            let mut command = Command::new("taskset");
            command.args(["-c", "0"]).arg(program);
            command
        } else {
            Command::new(program)
        };
        let mut child = command.args(["serve", &name, "--port", "0"]).stdout(Stdio::piped()).spawn()?;
        let mut line = String::new();
        if let Some(stdout) = child.stdout.take() {
            BufReader::new(stdout).read_line(&mut line)?;
        }
        let port = line.trim().strip_suffix("/sse").and_then(|url| url.rsplit(':').next()?.parse().ok());
        let port: u16 = port.ok_or_else(|| io::Error::other(format!("the server said {line:?}")))?;
        let process = Self { child, address: SocketAddr::from(([127, 0, 0, 1], port)) };
        // rmcp 0.10 binds after it has said so.
        for _ in 0..10_000 {
            if std::net::TcpStream::connect(process.address).is_ok() {
                return Ok(process);
            }
            std::thread::yield_now();
        }
        Err(io::Error::other("the server does not listen"))
    }

    /// Resident memory, in KiB.
    pub(crate) fn resident(&self) -> io::Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        line.and_then(|line| line.split_whitespace().next()?.parse().ok())
            .ok_or_else(|| io::Error::other("no VmRSS in the server's status"))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
