//! What was measured: the figures of each server, what they come to against the aims, and the report.

use std::{collections::BTreeMap, fmt::Write as _, io, path::Path};

use plotters::prelude::*;

use crate::{args::Server, load::hold::Held, process::name};

/// The column of the bare pipes.
pub(crate) const PIPES: &str = "bare pipes";
/// The column of the transport by itself, whose app echoes: HTTP without a gateway.
pub(crate) const HTTP: &str = "bare HTTP";
/// The column of ours.
pub(crate) const OURS: &str = "mcp-sse";

/// One figure of a scenario: what it is, and the values of each server, a round each.
struct Figure {
    name: String,
    unit: &'static str,
    values: BTreeMap<String, Vec<f64>>,
}

#[derive(Default)]
pub(crate) struct Figures {
    figures: Vec<Figure>,
    /// Those of the gateways.
    gateways: Vec<Figure>,
    held: Vec<(&'static str, usize, Held, f64)>,
    /// rmcp without a transport: calls a second, notifications a second, KiB a session.
    alone: [Vec<f64>; 3],
}

/// What is to be reached.
enum Aim {
    AtLeast(f64),
    AtMost(f64),
}

impl Figures {
    pub(crate) fn add(&mut self, name: &str, unit: &'static str, server: Server, value: f64) {
        add(&mut self.figures, name, unit, crate::process::name(server), value);
    }

    pub(crate) fn add_gateway(&mut self, name: &str, unit: &'static str, gateway: &str, value: f64) {
        add(&mut self.gateways, name, unit, gateway.to_owned(), value);
    }

    /// Sessions that were held: over what, how many, how it went, and the processor's share in percent.
    pub(crate) fn add_held(&mut self, over: &'static str, sessions: usize, held: Held, percent: f64) {
        self.held.push((over, sessions, held, percent));
    }

    pub(crate) fn add_alone(&mut self, values: [f64; 3]) {
        for (all, value) in self.alone.iter_mut().zip(values) {
            all.push(value);
        }
    }

    fn median(&self, figure: &str, server: &str) -> Option<f64> {
        median_of(&self.figures, figure, server)
    }

    /// The figure of one server over that of another.
    fn ratio(&self, figure: &str, of: &str, to: &str) -> Option<f64> {
        Some(self.median(figure, of)? / self.median(figure, to)?)
    }

    fn aims(&self) -> Vec<(String, Option<f64>, Aim)> {
        use Aim::{AtLeast, AtMost};
        let mut aims = Vec::new();
        for load in ["50×1", "50×16"] {
            let figure = format!("{load} requests");
            aims.push((
                format!("bare against the floor, requests/s, {load}"),
                self.ratio(&figure, "bare", "floor"),
                AtLeast(1.0),
            ));
            aims.push((
                format!("with rmcp against rmcp 0.10, requests/s, {load}"),
                self.ratio(&figure, "rmcp", "rmcp-0.10"),
                AtLeast(1.6),
            ));
        }
        for load in ["50×1", "50×16"] {
            for what in ["keys", "tokens"] {
                aims.push((
                    format!("bare with {what} against without, requests/s, {load}"),
                    self.median(&format!("{load} requests, with {what} against without"), "bare"),
                    AtLeast(0.9),
                ));
            }
        }
        for load in ["10×1", "10×16"] {
            for what in ["metrics", "metrics and the audit log"] {
                let figure = format!("gateway, {load} requests, with {what} against without");
                aims.push((figure.clone(), self.median(&figure, "bare"), AtLeast(0.97)));
            }
        }
        for load in ["1×1", "10×1", "10×16"] {
            let figure = format!("gateway, {load}, a translated call");
            aims.push((figure.clone(), self.median(&figure, "bare"), AtMost(1.3)));
        }
        for load in ["8×1 of 64 KiB", "4×1 of 1 MiB"] {
            aims.push((
                format!("bare against the floor, requests/s, {load}"),
                self.ratio(&format!("{load} requests"), "bare", "floor"),
                AtLeast(0.8),
            ));
        }
        aims.extend([
            (
                "p99 at 50×16, bare against the floor".into(),
                self.ratio("50×16 p99", "bare", "floor"),
                AtMost(0.25),
            ),
            (
                "p50 at 1×1, bare against the floor".into(),
                self.ratio("1×1 p50", "bare", "floor"),
                AtMost(1.1),
            ),
            ("idle session, bare, KiB".into(), self.median("idle, a session", "bare"), AtMost(6.0)),
            (
                "idle session after `initialize`, with rmcp, KiB".into(),
                self.median("idle after initialize, a session", "rmcp"),
                AtMost(20.0),
            ),
            (
                "slow reader, growth, bare, MiB".into(),
                self.median("slow reader, growth", "bare"),
                AtMost(4.0),
            ),
            (
                "slow reader, growth, with rmcp, MiB".into(),
                self.median("slow reader, growth", "rmcp"),
                AtMost(4.0),
            ),
            (
                "a bystander's p99 beside the slow reader against without, bare".into(),
                self.median("bystander of the slow reader, p99 against alone", "bare"),
                AtMost(1.1),
            ),
            (
                "49 polite sessions' p99 beside a flood against without, bare".into(),
                self.median("49 polite beside a flood of 256, p99 against alone", "bare"),
                AtMost(2.0),
            ),
            (
                "the same with rmcp".into(),
                self.median("49 polite beside a flood of 256, p99 against alone", "rmcp"),
                AtMost(2.0),
            ),
            (
                "progress notifications/s, with rmcp against rmcp 0.10".into(),
                self.ratio("progress notifications", "rmcp", "rmcp-0.10"),
                AtLeast(3.0),
            ),
            (
                "opening and closing, bare against the floor".into(),
                self.ratio("open and close", "bare", "floor"),
                AtLeast(0.7),
            ),
            (
                "memory after five waves against after the first, bare".into(),
                self.median("memory after five waves against after one", "bare"),
                AtMost(1.1),
            ),
        ]);
        let p50 = |column| median_of(&self.gateways, "1×1 p50", column);
        aims.push((
            "the gateway's p50 at 1×1 against the bare pipes".into(),
            p50(OURS).zip(p50(PIPES)).map(|(gateway, pipes)| gateway / pipes),
            AtMost(1.5),
        ));
        aims.push((
            "the same against the bare pipes and bare HTTP together".into(),
            p50(OURS).zip(p50(PIPES).zip(p50(HTTP))).map(|(gateway, (pipes, http))| gateway / (pipes + http)),
            AtMost(1.5),
        ));
        for (over, sessions, held, percent) in &self.held {
            aims.push((
                format!("{sessions} idle sessions over {over}: share that stayed"),
                Some(held.alive as f64 / *sessions as f64),
                AtLeast(1.0),
            ));
            aims.push(("the same: processor, percent of a core".to_owned(), Some(*percent), AtMost(10.0)));
        }
        aims
    }

    /// The report, as Markdown.
    pub(crate) fn report(&self, servers: &[Server], measured: &[String], intro: &str) -> String {
        let mut out = format!("# Benchmarks\n\n{intro}\n\n![requests a second](requests.svg)\n\n");
        out += "## Against the aims\n\n| what | reached | aim | |\n|---|---|---|---|\n";
        for (what, reached, aim) in self.aims() {
            let Some(reached) = reached else { continue };
            let (word, met, bound) = match aim {
                Aim::AtLeast(bound) => ("at least", reached >= bound, bound),
                Aim::AtMost(bound) => ("at most", reached <= bound, bound),
            };
            let met = if met { "yes" } else { "**no**" };
            let _ = writeln!(out, "| {what} | {reached:.2} | {word} {bound} | {met} |");
        }
        if !self.figures.is_empty() {
            out += "\n## All figures\n\nIn brackets the ratio to the floor.\n\n";
            let names: Vec<_> = servers.iter().map(|server| name(*server)).collect();
            table(&mut out, &self.figures, &names, "floor");
        }
        if !self.gateways.is_empty() {
            let _ = writeln!(
                out,
                "\n## Gateways\n\nIn front of a quick echo server over stdio (`mcp-sse-bench-echo`), on one core with it; the first column is that server over its pipes, without a gateway, the second the transport with an echo app of its own, without pipes. Ours starts a server for each session, the others share one. In brackets the ratio to ours.\n"
            );
            let names: Vec<_> = [PIPES, HTTP, OURS]
                .map(str::to_owned)
                .into_iter()
                .chain(measured.iter().filter(|name| *name != OURS).cloned())
                .collect();
            table(&mut out, &self.gateways, &names, OURS);
        }
        if let [Some(calls), Some(notifications), Some(idle)] = self.alone.each_ref().map(|v| median(v)) {
            let _ = writeln!(
                out,
                "\nrmcp by itself, messages handed over in memory, ready made (`mcp-sse-bench rmcp-alone`): {} calls of `echo` a second, {} progress notifications a second, {} KiB an idle session after `initialize`.",
                show(calls),
                show(notifications),
                show(idle)
            );
        }
        for (over, sessions, held, percent) in &self.held {
            let Held { alive, keep_alives } = held;
            let _ = writeln!(
                out,
                "\n{sessions} idle sessions over {over}, bare: {alive} open at the end, {keep_alives} keep-alives came, {percent:.1} % of a core."
            );
        }
        out
    }

    /// Requests a second of all servers, as a plot.
    pub(crate) fn plot(&self, servers: &[Server], path: &Path) -> io::Result<()> {
        let loads = ["50×1 requests", "50×16 requests"];
        let value = |server: &Server, load| self.median(load, &name(*server)).unwrap_or(0.0);
        let most =
            servers.iter().flat_map(|server| loads.map(|load| value(server, load))).fold(1.0, f64::max);
        let draw = || -> Result<(), Box<dyn std::error::Error>> {
            let area = SVGBackend::new(path, (960, 420)).into_drawing_area();
            area.fill(&WHITE)?;
            let count = servers.len() as f64;
            let mut chart = ChartBuilder::on(&area)
                .caption(
                    "echo calls a second: 50 sessions, 1 (dark) and 16 (light) in flight each",
                    ("sans-serif", 18),
                )
                .margin(12)
                .x_label_area_size(36)
                .y_label_area_size(64)
                .build_cartesian_2d(0.0..count, 0.0..most * 1.1)?;
            chart
                .configure_mesh()
                .disable_x_mesh()
                .x_labels(0)
                .y_label_formatter(&|value| format!("{value:.0}"))
                .draw()?;
            for (at, server) in servers.iter().enumerate() {
                for (which, load) in loads.into_iter().enumerate() {
                    let left = at as f64 + 0.15 + 0.35 * which as f64;
                    let bar = [(left, 0.0), (left + 0.35, value(server, load))];
                    let color = if which == 0 { RGBColor(40, 90, 160) } else { RGBColor(150, 190, 230) };
                    chart.draw_series([Rectangle::new(bar, color.filled())])?;
                }
                let (x, y) = chart.backend_coord(&(at as f64 + 0.15, 0.0));
                area.draw(&Text::new(name(*server), (x, y + 10), ("sans-serif", 14)))?;
            }
            area.present()?;
            Ok(())
        };
        draw().map_err(|error| io::Error::other(error.to_string()))
    }
}

/// Adds a value to a figure, which is made if it is new.
fn add(figures: &mut Vec<Figure>, name: &str, unit: &'static str, column: String, value: f64) {
    let at = figures.iter().position(|figure| figure.name == name).unwrap_or_else(|| {
        figures.push(Figure { name: name.to_owned(), unit, values: BTreeMap::new() });
        figures.len() - 1
    });
    figures[at].values.entry(column).or_default().push(value);
}

fn table(out: &mut String, figures: &[Figure], columns: &[String], reference: &str) {
    let _ = writeln!(out, "| | {} |\n|---|{}", columns.join(" | "), "---|".repeat(columns.len()));
    for figure in figures {
        let of = |column: &str| figure.values.get(column).and_then(|values| median(values));
        let to = of(reference);
        let cells: Vec<_> = columns
            .iter()
            .map(|column| match (of(column), to) {
                (None, _) => String::new(),
                (Some(value), Some(to)) if column != reference && to > 0.0 && figure.unit != "×" => {
                    format!("{} ({:.2})", show(value), value / to)
                }
                (Some(value), _) => show(value),
            })
            .collect();
        let _ = writeln!(out, "| {}, {} | {} |", figure.name, figure.unit, cells.join(" | "));
    }
}

fn median_of(figures: &[Figure], figure: &str, column: &str) -> Option<f64> {
    median(figures.iter().find(|f| f.name == figure)?.values.get(column)?)
}

fn median(values: &[f64]) -> Option<f64> {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

fn show(value: f64) -> String {
    if value >= 100.0 { format!("{value:.0}") } else { format!("{value:.1}") }
}
