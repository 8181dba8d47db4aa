//! Gateways in front of the echo server, ours beside others, and the echo server over its bare pipes: what a
//! gateway adds. All of it is on the first core, the server too.

use std::{
    io,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use crate::{
    args::{Run, Server},
    load::{self, Load, memory},
    process::Process,
    report::{Figures, HTTP, OURS, PIPES},
};

/// Sessions that begin one after the other; as many may begin at once by default in ours.
const BEGUN: usize = 40;
/// Sessions, and calls in flight in each.
const LOADS: [(usize, usize); 3] = [(1, 1), (10, 1), (10, 16)];

/// A gateway that is measured.
pub(crate) struct Gateway {
    pub(crate) name: String,
    program: PathBuf,
    /// Before the server's command.
    arguments: &'static [&'static str],
    sends_to_all: bool,
}

/// Those that are here, and the names of those that are not.
pub(crate) fn find(options: &Run) -> io::Result<(Vec<Gateway>, Vec<String>)> {
    let program = std::env::current_exe()?;
    let others = options.peers.gateways.as_deref();
    let (mut found, mut missing) = (Vec::new(), Vec::new());
    let ours = Gateway {
        name: OURS.to_owned(),
        program: program.with_file_name("mcp-sse"),
        arguments: &["serve", "--port", "{port}", "--log-level", "warn", "--"],
        sends_to_all: false,
    };
    let supergateway = others.map(|folder| Gateway {
        name: format!("supergateway {}", node_version(&folder.join("node_modules/supergateway"))),
        program: folder.join("node_modules/.bin/supergateway"),
        arguments: &["--port", "{port}", "--logLevel", "none", "--stdio"],
        sends_to_all: true,
    });
    let mcp_proxy = others.map(|folder| Gateway {
        name: python_version(&folder.join("venv/bin/mcp-proxy")),
        program: folder.join("venv/bin/mcp-proxy"),
        arguments: &["--port", "{port}", "--log-level", "ERROR", "--"],
        sends_to_all: false,
    });
    for (name, gateway) in [(OURS, Some(ours)), ("supergateway", supergateway), ("mcp-proxy", mcp_proxy)] {
        match gateway.filter(|gateway| gateway.program.exists()) {
            Some(gateway) => found.push(gateway),
            None => missing.push(name.to_owned()),
        }
    }
    Ok((found, missing))
}

fn node_version(package: &Path) -> String {
    let version = || {
        let package: serde_json::Value =
            serde_json::from_slice(&std::fs::read(package.join("package.json")).ok()?).ok()?;
        Some(package.get("version")?.as_str()?.to_owned())
    };
    version().unwrap_or_default()
}

/// The name is in what it says.
fn python_version(program: &Path) -> String {
    let output = Command::new(program).arg("--version").output();
    output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default()
}

fn echo() -> io::Result<PathBuf> {
    Ok(std::env::current_exe()?.with_file_name("mcp-sse-bench-echo"))
}

/// Round trips over the bare pipes.
pub(crate) fn pipes(time: Duration) -> io::Result<load::RoundTrips> {
    load::pipe::round_trips(Process::pinned(echo()?.as_os_str()), time)
}

/// One turn of all.
pub(crate) fn round(gateways: &[Gateway], options: &Run, figures: &mut Figures) -> io::Result<()> {
    let time = Duration::from_secs_f64(options.seconds);
    add(figures, PIPES, "1×1", &pipes(time)?);
    for (sessions, in_flight) in LOADS {
        let server = Process::start(Server::Bare, &options.peers, &[])?;
        let load = Load { sessions, in_flight, bytes: 16, ..Load::default() };
        let outcome = load::round_trips(server.address, load, time)?;
        add(figures, HTTP, &format!("{sessions}×{in_flight}"), &outcome);
    }
    for gateway in gateways {
        eprintln!("  {}", gateway.name);
        if gateway.name == OURS {
            gateway.measure(time, figures)?;
            continue;
        }
        // A gateway of others may break: that is said, and tried again once; then the round goes on without it.
        for _ in 0..2 {
            match gateway.measure(time, figures) {
                Ok(()) => break,
                Err(error) => eprintln!("  {} broke: {error}", gateway.name),
            }
        }
    }
    Ok(())
}

/// Calls a second through ours: alone, with metrics, and with the audit log as well.
pub(crate) fn watched(load: Load, time: Duration) -> io::Result<[f64; 3]> {
    let path = std::env::temp_dir().join(format!("mcp-sse-bench-audit-{}", std::process::id()));
    let file = path.to_str().ok_or_else(|| io::Error::other("the folder's path is not UTF-8"))?;
    let program = std::env::current_exe()?.with_file_name("mcp-sse");
    let echo = echo()?;
    let echo = echo.to_str().ok_or_else(|| io::Error::other("the path to here is not UTF-8"))?;
    let metrics = ["--admin", "127.0.0.1:0", "--metrics"];
    let audit = ["--audit-log", file];
    let mut rates = [0.0; 3];
    for (rate, more) in rates.iter_mut().zip([&[][..], &metrics, &[&metrics[..], &audit].concat()]) {
        let arguments = [&["serve", "--port", "{port}", "--log-level", "warn"], more, &["--", echo]].concat();
        let gateway = Process::start_at_port(program.as_os_str(), &arguments)?;
        let outcome = load::round_trips(gateway.address, load, time)?;
        *rate = outcome.calls as f64 / outcome.seconds;
    }
    std::fs::remove_file(&path)?;
    Ok(rates)
}

/// Calls a second through ours: to a server that speaks as its client does, and to one of the other era.
pub(crate) fn translated(load: Load, time: Duration) -> io::Result<[f64; 2]> {
    let program = std::env::current_exe()?.with_file_name("mcp-sse");
    let echo = echo()?;
    let echo = echo.to_str().ok_or_else(|| io::Error::other("the path to here is not UTF-8"))?;
    let mut rates = [0.0; 2];
    for (rate, more) in rates.iter_mut().zip([&[][..], &["--modern"]]) {
        let arguments = [&["serve", "--port", "{port}", "--log-level", "warn", "--", echo], more].concat();
        let gateway = Process::start_at_port(program.as_os_str(), &arguments)?;
        let outcome = load::round_trips(gateway.address, load, time)?;
        *rate = outcome.calls as f64 / outcome.seconds;
    }
    Ok(rates)
}

fn add(figures: &mut Figures, name: &str, title: &str, outcome: &load::RoundTrips) {
    let at = |quantile| outcome.latency.value_at_quantile(quantile) as f64;
    figures.add_gateway(&format!("{title} requests"), "/s", name, outcome.calls as f64 / outcome.seconds);
    figures.add_gateway(&format!("{title} p50"), "µs", name, at(0.5));
    figures.add_gateway(&format!("{title} p99"), "µs", name, at(0.99));
}

impl Gateway {
    fn start(&self) -> io::Result<Process> {
        let echo = echo()?;
        let mut arguments = self.arguments.to_vec();
        let echo = echo.to_str().ok_or_else(|| io::Error::other("the path to here is not UTF-8"))?;
        arguments.push(echo);
        Process::start_at_port(self.program.as_os_str(), &arguments)
    }

    fn measure(&self, time: Duration, figures: &mut Figures) -> io::Result<()> {
        let mut outcomes = Vec::new();
        for (sessions, in_flight) in LOADS {
            let gateway = self.start()?;
            let load =
                Load { sessions, in_flight, bytes: 16, sends_to_all: self.sends_to_all, ..Load::default() };
            let outcome = load::round_trips(gateway.address, load, time)?;
            outcomes.push((format!("{sessions}×{in_flight}"), outcome));
        }
        let gateway = self.start()?;
        // What is made once is there then.
        let mut sessions = vec![memory::begin(gateway.address)?.1];
        let (own, all) = (gateway.resident()?, gateway.anonymous_of_all()?);
        let mut times = Vec::new();
        for _ in 0..BEGUN {
            let (time, session) = memory::begin(gateway.address)?;
            times.push(time);
            sessions.push(session);
        }
        let a_session = |before: u64, after: u64| after.saturating_sub(before) as f64 / BEGUN as f64;
        let own = a_session(own, gateway.resident()?);
        let all = a_session(all, gateway.anonymous_of_all()?);
        times.sort();
        let begun = times[times.len() / 2].as_secs_f64() * 1000.0;
        // Only what went through to its end counts.
        for (title, outcome) in outcomes {
            add(figures, &self.name, &title, &outcome);
        }
        figures.add_gateway("a session begins, p50", "ms", &self.name, begun);
        figures.add_gateway("a session, the gateway's own memory", "KiB", &self.name, own);
        figures.add_gateway("a session, with the server's and all between", "KiB", &self.name, all);
        Ok(())
    }
}
