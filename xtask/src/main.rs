//! The project's own commands.
//!
//! `cargo xtask test` installs what the tests need into `target/` (and Chromium by the system's package
//! manager), runs everything, and ends with one line a part.
//!
//! `cargo xtask bench` installs the peers, runs the benchmarks and writes `docs/benchmarks/report.md` with its
//! plot; options after it go to `mcp-sse-bench run`.
//!
//! `cargo xtask compare` installs other gateways, does to each what happens to gateways, and writes
//! `docs/gateways.md`.

mod interop;
mod report;
mod rust;
mod tools;

use std::process::{Command, ExitCode};

use report::Report;

const USAGE: &str =
    "usage: cargo xtask test [PART…] | cargo xtask bench [OPTION…] | cargo xtask compare [SCENARIO…]
parts: features, rust, model, fuzz, interop (all of them if none is named)";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    if let ["bench", options @ ..] = arguments.as_slice() {
        return bench(options);
    }
    if let ["compare", scenarios @ ..] = arguments.as_slice() {
        return exit(interop::gateways::compare(scenarios));
    }
    let parts: &[&str] = match arguments.as_slice() {
        ["test"] => &["features", "rust", "model", "fuzz", "interop"],
        ["test", parts @ ..] => parts,
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    let mut report = Report::default();
    for part in parts {
        match *part {
            "rust" => rust::tests(&mut report),
            "model" => rust::model(&mut report),
            "features" => rust::features(&mut report),
            "fuzz" => rust::fuzz(&mut report),
            "interop" => interop::run(&mut report),
            other => {
                eprintln!("there is no part {other:?}\n{USAGE}");
                return ExitCode::from(2);
            }
        }
    }
    report.finish()
}

/// The generator on the second core; it puts each server on the first.
fn bench(options: &[&str]) -> ExitCode {
    let mut build = tools::cargo();
    build.args(["build", "--release", "-p", "mcp-sse-bench", "-p", "mcp-sse-gateway"]);
    let peers = interop::peers();
    let program = tools::root().join("target/release/mcp-sse-bench");
    let mut command = if tools::exists("taskset") {
        let mut command = Command::new("taskset");
        command.args(["-c", "1"]).arg(program);
        command
    } else {
        Command::new(program)
    };
    command.current_dir(tools::root()).args(["run", "--report", "docs/benchmarks/report.md"]);
    // Options given later win.
    command.args(["--seconds", "2", "--hold", "300"]).args(peers).args(options);
    exit(tools::run(&mut build).and_then(|()| tools::run(&mut command)))
}

fn exit(result: Result<(), String>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
