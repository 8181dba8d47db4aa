//! The scenarios: each runs against every server in turn, several rounds in one go, so that the machine's
//! drift falls on all alike. What is reported are medians, and ratios to the floor.

use std::{collections::BTreeMap, fmt::Write as _, io, path::Path, time::Duration};

use clap::ValueEnum as _;

use crate::{
    args::{Run, Server},
    load,
    process::Process,
};

const SERVERS: [Server; 4] = [Server::Floor, Server::Bare, Server::Rmcp, Server::Rmcp010];

/// One figure of a scenario: what it is, and the values of each server, a round each.
struct Figure {
    name: String,
    unit: &'static str,
    values: BTreeMap<usize, Vec<f64>>,
}

#[derive(Default)]
struct Figures(Vec<Figure>);

impl Figures {
    fn add(&mut self, name: &str, unit: &'static str, server: usize, value: f64) {
        let figure = match self.0.iter_mut().find(|figure| figure.name == name) {
            Some(figure) => figure,
            None => {
                self.0.push(Figure { name: name.to_owned(), unit, values: BTreeMap::new() });
                let last = self.0.len() - 1;
                &mut self.0[last]
            }
        };
        figure.values.entry(server).or_default().push(value);
    }
}

/// Runs everything and writes the report.
pub(crate) fn run(options: &Run) -> io::Result<()> {
    let mut figures = Figures::default();
    for round in 1..=options.rounds {
        for (number, server) in SERVERS.into_iter().enumerate() {
            eprintln!("round {round} of {}: {}", options.rounds, name(server));
            round_trips(options, number, server, &mut figures)?;
            connections(options, number, server, &mut figures)?;
        }
    }
    let report = report(options, &figures);
    print!("{report}");
    if let Some(path) = &options.report {
        if let Some(folder) = Path::new(path).parent() {
            std::fs::create_dir_all(folder)?;
        }
        std::fs::write(path, report)?;
    }
    Ok(())
}

fn round_trips(options: &Run, number: usize, server: Server, figures: &mut Figures) -> io::Result<()> {
    let time = Duration::from_secs_f64(options.seconds);
    for (sessions, in_flight) in [(1, 1), (50, 1), (50, 16), (options.many, 1)] {
        let process = Process::start(server)?;
        let outcome = load::round_trips(process.address, sessions, in_flight, 16, time)?;
        let title = format!("{sessions}×{in_flight}");
        let at = |quantile| outcome.latency.value_at_quantile(quantile) as f64;
        figures.add(&format!("{title} requests"), "/s", number, outcome.calls as f64 / outcome.seconds);
        figures.add(&format!("{title} p50"), "µs", number, at(0.5));
        figures.add(&format!("{title} p99"), "µs", number, at(0.99));
    }
    Ok(())
}

fn connections(options: &Run, number: usize, server: Server, figures: &mut Figures) -> io::Result<()> {
    for (title, initialize) in [("idle", false), ("idle after initialize", true)] {
        if initialize && server == Server::Floor {
            continue; // it knows no `initialize`
        }
        let process = Process::start(server)?;
        let before = process.resident()?;
        let sessions = load::memory::idle(process.address, options.idle, initialize)?;
        let grown = process.resident()?.saturating_sub(before) as f64;
        figures.add(&format!("{title}, a session"), "KiB", number, grown / sessions.len() as f64);
    }

    let process = Process::start(server)?;
    let rate = load::memory::storm(process.address, options.storm)?;
    figures.add("open and close", "/s", number, rate);

    let process = Process::start(server)?;
    let before = process.resident()?;
    let limit = Duration::from_secs_f64(options.seconds * 4.0);
    let (answers, session) = load::memory::slow_reader(process.address, 400, limit)?;
    let grown = process.resident()?.saturating_sub(before) as f64 / 1024.0;
    drop(session);
    eprintln!("  slow reader: {answers:?}");
    figures.add("slow reader, growth", "MiB", number, grown);
    Ok(())
}

fn report(options: &Run, figures: &Figures) -> String {
    let mut out = String::new();
    let rounds = options.rounds;
    let _ = writeln!(out, "# Benchmarks\n");
    let _ = writeln!(
        out,
        "Medians of {rounds} interleaved rounds of {} s each; in brackets the ratio to the floor. Server on one core, generator on another. Made by `cargo xtask bench`.\n",
        options.seconds
    );
    let heads: Vec<_> = SERVERS.into_iter().map(name).collect();
    let _ = writeln!(out, "| | {} |", heads.join(" | "));
    let _ = writeln!(out, "|---|{}", "---|".repeat(heads.len()));
    for figure in &figures.0 {
        let floor = figure.values.get(&0).map(|values| median(values));
        let cells: Vec<_> = (0..SERVERS.len())
            .map(|number| match (figure.values.get(&number).map(|values| median(values)), floor) {
                (None, _) => String::new(),
                (Some(value), Some(floor)) if number > 0 && floor > 0.0 => {
                    format!("{} ({:.2})", show(value), value / floor)
                }
                (Some(value), _) => show(value),
            })
            .collect();
        let _ = writeln!(out, "| {}, {} | {} |", figure.name, figure.unit, cells.join(" | "));
    }
    out
}

fn name(server: Server) -> String {
    server.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
}

fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

fn show(value: f64) -> String {
    if value >= 100.0 { format!("{value:.0}") } else { format!("{value:.1}") }
}
