//! The scenarios: each runs against every server in turn, several rounds in one go, so that the machine's
//! drift falls on all alike. What is reported are medians.

use std::{io, time::Duration};

use crate::{
    args::{Run, Server},
    gateways,
    load::{self, Credential, Load, hold, memory, progress::progress},
    process::{Process, name, wait},
    report::Figures,
};

/// Calls in flight in the session that floods: as many as a session of ours may have.
const FLOOD: usize = 256;
/// How often a scenario is tried with a server of others.
const TRIES: usize = 5;

/// Runs everything and writes the report.
pub(crate) fn run(options: &Run) -> io::Result<()> {
    if options.hold > 0.0 {
        hold::check_open_files(options.hold_http1, options.hold_http2)?;
    }
    let mut servers =
        vec![Server::Floor, Server::FloorCurrentThread, Server::Bare, Server::Rmcp, Server::Rmcp010];
    let mut left_out = Vec::new();
    for (server, given) in
        [(Server::TypeScript, options.peers.node.is_some()), (Server::Python, options.peers.python.is_some())]
    {
        if given { servers.push(server) } else { left_out.push(name(server)) }
    }
    let with_gateways = options.has("gateway");
    let (gateways, missing) = if with_gateways { gateways::find(options)? } else { Default::default() };
    left_out.extend(missing);
    let mut figures = Figures::default();
    for round in 1..=options.rounds {
        if with_gateways {
            eprintln!("round {round} of {}: gateways", options.rounds);
            gateways::round(&gateways, options, &mut figures)?;
        }
        for &server in &servers {
            eprintln!("round {round} of {}: {}", options.rounds, name(server));
            let mut scenarios = Scenarios { options, server, figures: &mut figures };
            for (name, scenario) in SCENARIOS {
                if options.has(name) {
                    scenarios.run(name, scenario)?;
                }
            }
        }
    }
    if options.only.is_empty() {
        for _ in 0..options.rounds {
            figures.add_alone(rmcp_alone(options)?);
        }
    }
    let mut intro = format!(
        "Medians of {} interleaved rounds of {} s each, server on one core, generator on another. Made by `cargo xtask bench`.",
        options.rounds, options.seconds
    );
    if !left_out.is_empty() {
        intro += &format!(" Left out, because it was not installed: {}.", left_out.join(", "));
    }
    let gateways: Vec<_> = gateways.into_iter().map(|gateway| gateway.name).collect();
    if options.hold > 0.0 {
        // What follows takes long, and needs more of the machine than all before.
        write(options, &figures.report(&servers, &gateways, &intro))?;
        // Beside each other: the server's processor time is what is measured.
        let loads = [("HTTP/1.1", options.hold_http1), ("HTTP/2", options.hold_http2)];
        let ends = loads.map(|(over, sessions)| {
            let options = options.clone();
            (over, sessions, std::thread::spawn(move || held(&options, over, sessions)))
        });
        for (over, sessions, end) in ends {
            let (held, percent) = end.join().map_err(|_| io::Error::other("a client panicked"))??;
            figures.add_held(over, sessions, held, percent);
        }
    }
    let report = figures.report(&servers, &gateways, &intro);
    print!("{report}");
    write(options, &report)?;
    if let Some(path) = &options.report {
        figures.plot(&servers, &path.with_file_name("requests.svg"))?;
    }
    Ok(())
}

fn write(options: &Run, report: &str) -> io::Result<()> {
    let Some(path) = &options.report else { return Ok(()) };
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    std::fs::write(path, report)
}

type Scenario = fn(&mut Scenarios<'_>) -> io::Result<()>;

const SCENARIOS: [(&str, Scenario); 9] = [
    ("round-trips", |scenarios| scenarios.round_trips()),
    ("keys", |scenarios| scenarios.keys()),
    ("metrics", |scenarios| scenarios.metrics()),
    ("eras", |scenarios| scenarios.eras()),
    ("idle", |scenarios| scenarios.idle()),
    ("open-and-close", |scenarios| scenarios.open_and_close()),
    ("slow-reader", |scenarios| scenarios.slow_reader()),
    ("flood", |scenarios| scenarios.flood()),
    ("progress", |scenarios| scenarios.progress()),
];

/// What one server has to go through.
struct Scenarios<'a> {
    options: &'a Run,
    server: Server,
    figures: &'a mut Figures,
}

impl Scenarios<'_> {
    /// A server of others may break a few times (rmcp 0.10 resets a connection now and then): that is said, and
    /// tried again; then the scenario goes on without it in this round. Ours may not.
    fn run(&mut self, name: &str, scenario: Scenario) -> io::Result<()> {
        if matches!(self.server, Server::Bare | Server::Rmcp) {
            return scenario(self);
        }
        for _ in 0..TRIES {
            match scenario(self) {
                Err(error) => eprintln!("  {name} broke: {error}"),
                Ok(()) => return Ok(()),
            }
        }
        eprintln!("  {name} is left out in this round");
        Ok(())
    }

    fn add(&mut self, name: &str, unit: &'static str, value: f64) {
        self.figures.add(name, unit, self.server, value);
    }

    fn start(&self, more: &[&str]) -> io::Result<Process> {
        Process::start(self.server, &self.options.peers, more)
    }

    fn time(&self) -> Duration {
        Duration::from_secs_f64(self.options.seconds)
    }

    fn is_floor(&self) -> bool {
        matches!(self.server, Server::Floor | Server::FloorCurrentThread)
    }

    /// The SDKs are slower by one or two orders of magnitude.
    fn count(&self, count: usize) -> usize {
        if matches!(self.server, Server::Python | Server::TypeScript) { count.min(1_000) } else { count }
    }

    fn round_trips(&mut self) -> io::Result<()> {
        let many = self.options.many;
        for (sessions, in_flight, bytes, size) in [
            (1, 1, 16, ""),
            (50, 1, 16, ""),
            (50, 16, 16, ""),
            (many, 1, 16, ""),
            (8, 1, 64 << 10, " of 64 KiB"),
            (4, 1, 1 << 20, " of 1 MiB"),
        ] {
            let process = self.start(&[])?;
            let load = Load { sessions, in_flight, bytes, ..Load::default() };
            let outcome = load::round_trips(process.address, load, self.time())?;
            let title = format!("{sessions}×{in_flight}{size}");
            let at = |quantile| outcome.latency.value_at_quantile(quantile) as f64;
            self.add(&format!("{title} requests"), "/s", outcome.calls as f64 / outcome.seconds);
            self.add(&format!("{title} p50"), "µs", at(0.5));
            self.add(&format!("{title} p99"), "µs", at(0.99));
        }
        Ok(())
    }

    /// The transport behind keys and behind tokens, right after the transport without.
    fn keys(&mut self) -> io::Result<()> {
        if self.server != Server::Bare {
            return Ok(());
        }
        for in_flight in [1, 16] {
            let load = Load { sessions: 50, in_flight, bytes: 16, ..Load::default() };
            let mut rates = Vec::new();
            for (server, credential) in [
                (Server::Bare, Credential::Nothing),
                (Server::BareWithKeys, Credential::Key),
                (Server::BareWithTokens, Credential::Token),
            ] {
                let process = Process::start(server, &self.options.peers, &[])?;
                let outcome = load::round_trips(process.address, Load { credential, ..load }, self.time())?;
                rates.push(outcome.calls as f64 / outcome.seconds);
            }
            if let [without, keys, tokens] = rates[..] {
                let title = |what: &str| format!("50×{in_flight} requests, with {what} against without");
                self.add(&title("keys"), "×", keys / without);
                self.add(&title("tokens"), "×", tokens / without);
            }
        }
        Ok(())
    }

    /// Our gateway with metrics, and with the audit log as well, right after it without.
    fn metrics(&mut self) -> io::Result<()> {
        if self.server != Server::Bare {
            return Ok(());
        }
        for in_flight in [1, 16] {
            let load = Load { sessions: 10, in_flight, bytes: 16, ..Load::default() };
            let [without, metrics, audit] = gateways::watched(load, self.time())?;
            let title = |what: &str| format!("gateway, 10×{in_flight} requests, with {what} against without");
            self.add(&title("metrics"), "×", metrics / without);
            self.add(&title("metrics and the audit log"), "×", audit / without);
        }
        Ok(())
    }

    /// Our gateway in front of a server of the other era, right after one of the client's own.
    fn eras(&mut self) -> io::Result<()> {
        if self.server != Server::Bare {
            return Ok(());
        }
        for (sessions, in_flight) in [(1, 1), (10, 1), (10, 16)] {
            let load = Load { sessions, in_flight, bytes: 16, ..Load::default() };
            let [direct, translated] = gateways::translated(load, self.time())?;
            self.add(
                &format!("gateway, {sessions}×{in_flight}, a translated call"),
                "×",
                direct / translated,
            );
        }
        Ok(())
    }

    fn idle(&mut self) -> io::Result<()> {
        for (title, initialize) in [("idle", false), ("idle after initialize", true)] {
            if initialize && self.is_floor() {
                continue; // it knows no `initialize`
            }
            let process = self.start(&[])?;
            let before = process.resident()?;
            let sessions = memory::idle(process.address, self.count(self.options.idle), initialize)?;
            let grown = process.resident()?.saturating_sub(before) as f64;
            self.add(&format!("{title}, a session"), "KiB", grown / sessions.len() as f64);
        }
        Ok(())
    }

    fn open_and_close(&mut self) -> io::Result<()> {
        let process = self.start(&[])?;
        let rate = memory::storm(process.address, self.count(self.options.storm))?;
        self.add("open and close", "/s", rate);
        if self.server != Server::Bare {
            return Ok(());
        }
        // The clients of a wave are forgotten before the next.
        let process = self.start(&["--resume-window", "0.2"])?;
        let mut resident = Vec::new();
        memory::waves(process.address, self.options.storm, 5, |_| {
            wait(Duration::from_secs(1));
            resident.push(process.resident()? as f64);
            Ok(())
        })?;
        if let (Some(first), Some(last)) = (resident.first(), resident.last()) {
            self.add("memory after five waves against after one", "×", last / first);
            self.add("memory after five waves", "MiB", last / 1024.0);
        }
        Ok(())
    }

    /// One client posts and never reads, another goes on beside it.
    fn slow_reader(&mut self) -> io::Result<()> {
        let process = self.start(&[])?;
        let one = Load { sessions: 1, in_flight: 1, bytes: 16, ..Load::default() };
        let alone = load::round_trips(process.address, one, self.time())?;
        let before = process.resident()?;
        let address = process.address;
        // Longer than the stall timeout of our servers, 3 s here.
        let limit = Duration::from_secs_f64(5.0);
        let slow = std::thread::spawn(move || memory::slow_reader(address, 400, limit));
        let beside = load::round_trips(process.address, one, self.time())?;
        let (answers, most) = loop {
            let most = process.resident()?;
            if slow.is_finished() {
                let (answers, session) = slow.join().map_err(|_| io::Error::other("a client panicked"))??;
                let most = most.max(process.resident()?);
                drop(session);
                break (answers, most);
            }
            wait(Duration::from_millis(50));
        };
        eprintln!("  slow reader: {answers:?}");
        let refused = |status| answers.get(&status).copied().unwrap_or(0);
        if matches!(self.server, Server::Bare | Server::Rmcp) && (refused(503) == 0 || refused(404) == 0) {
            return Err(io::Error::other(format!("it should be refused and then ended: {answers:?}")));
        }
        self.add("slow reader, growth", "MiB", most.saturating_sub(before) as f64 / 1024.0);
        let p99 = |outcome: &load::RoundTrips| outcome.latency.value_at_quantile(0.99) as f64;
        self.add("bystander of the slow reader, p99 against alone", "×", p99(&beside) / p99(&alone));
        Ok(())
    }

    fn flood(&mut self) -> io::Result<()> {
        let process = self.start(&[])?;
        let polite = Load { sessions: 49, in_flight: 1, bytes: 16, ..Load::default() };
        let alone = load::round_trips(process.address, polite, self.time())?;
        let beside = load::round_trips(process.address, Load { flood: FLOOD, ..polite }, self.time())?;
        let p99 = |outcome: &load::RoundTrips| outcome.latency.value_at_quantile(0.99) as f64;
        let title = format!("49 polite beside a flood of {FLOOD}, p99 against alone");
        self.add(&title, "×", p99(&beside) / p99(&alone));
        Ok(())
    }

    fn progress(&mut self) -> io::Result<()> {
        if self.is_floor() {
            return Ok(()); // it knows no tools
        }
        let process = self.start(&[])?;
        let rate = progress(process.address, self.options.steps)?;
        self.add("progress notifications", "/s", rate);
        Ok(())
    }
}

/// What rmcp costs without any transport: calls a second, notifications a second, KiB a session.
fn rmcp_alone(options: &Run) -> io::Result<[f64; 3]> {
    let (seconds, steps, idle) =
        (options.seconds.to_string(), options.steps.to_string(), options.idle.to_string());
    let mut command = Process::pinned(std::env::current_exe()?.as_os_str());
    command.args(["rmcp-alone", "--seconds", &seconds, "--steps", &steps, "--idle", &idle]);
    let output = command.output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let numbers: Vec<f64> = text.lines().filter_map(|line| line.parse().ok()).collect();
    numbers.try_into().map_err(|_| io::Error::other(format!("rmcp-alone said {text:?}")))
}

fn held(options: &Run, over: &str, sessions: usize) -> io::Result<(hold::Held, f64)> {
    eprintln!("{sessions} sessions over {over} for {} s", options.hold);
    let process = Process::start(Server::Bare, &options.peers, &[])?;
    let mut before = 0.0;
    let time = Duration::from_secs_f64(options.hold);
    let held = hold::hold(process.address, sessions, over == "HTTP/2", time, || {
        before = process.processor_seconds()?;
        Ok(())
    })?;
    let percent = (process.processor_seconds()? - before) / options.hold * 100.0;
    Ok((held, percent))
}
