//! The project's own commands.
//!
//! `cargo xtask test` installs what the tests need into `target/` (and Chromium by the system's package
//! manager), runs everything, and ends with one line a part.
//!
//! `cargo xtask house` checks how the files of each crate hang together.
//!
//! `cargo xtask api --write` writes the listing of the library's public API anew.
//!
//! `cargo xtask bench` installs the peers, runs the benchmarks and writes `docs/benchmarks/report.md` with its
//! plot; options after it go to `mcp-sse-bench run`.
//!
//! `cargo xtask compare` installs other gateways, does to each what happens to gateways, and writes
//! `docs/gateways.md`.
//!
//! `cargo xtask compatibility` installs clients and servers of both eras, runs each client at each server, and writes
//! `docs/compatibility.md`.

mod api;
mod chaos;
mod engines;
mod house;
mod interop;
mod report;
mod rust;
mod supply;
mod tools;

use std::process::{Command, ExitCode};

use report::Report;

const USAGE: &str = "usage: cargo xtask test [PART…] | cargo xtask house | cargo xtask api --write |
       cargo xtask bench [OPTION…] | cargo xtask compare [SCENARIO…] |
       cargo xtask chaos [--minutes N] | cargo xtask replicas | cargo xtask engines |
       cargo xtask compatibility
parts: house, dependencies, features, rust, package, model, fuzz, interop, oauth, proxies, page, chaos, api, semver (all of them if none is named), replicas";

/// The cheap ones first, and last those whose tools take long to compile.
const PARTS: [&str; 14] = [
    "house",
    "dependencies",
    "features",
    "rust",
    "package",
    "model",
    "fuzz",
    "interop",
    "oauth",
    "proxies",
    "page",
    "chaos",
    "api",
    "semver",
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    if let ["bench", options @ ..] = arguments.as_slice() {
        return bench(options);
    }
    if let ["compare", scenarios @ ..] = arguments.as_slice() {
        return exit(interop::gateways::compare(scenarios));
    }
    if let ["chaos", options @ ..] = arguments.as_slice() {
        return exit(chaos::by_hand(options));
    }
    if let ["replicas"] = arguments.as_slice() {
        return exit(interop::with_replicas_by_hand());
    }
    if let ["compatibility"] = arguments.as_slice() {
        return exit(interop::compatibility());
    }
    if let ["engines"] = arguments.as_slice() {
        return exit(engines::install().map(drop));
    }
    if let ["api", "--write"] = arguments.as_slice() {
        return exit(api::write());
    }
    let parts: &[&str] = match arguments.as_slice() {
        ["test"] => &PARTS,
        ["test", parts @ ..] => parts,
        ["house"] => &["house"],
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    let mut report = Report::default();
    let mut tools = if parts == PARTS { api::prepare() } else { None };
    for part in parts {
        if matches!(*part, "api" | "semver")
            && let Some(installing) = tools.take()
        {
            // Whether it went well is seen when they are used.
            let _ = installing.join();
        }
        match *part {
            "house" => house::run(&mut report),
            "dependencies" => supply::dependencies(&mut report),
            "package" => supply::packages(&mut report),
            "api" => api::check(&mut report),
            "semver" => api::breaks(&mut report),
            "rust" => match engines::install() {
                Ok(_) => rust::tests(&mut report),
                Err(why) => report.part("engines for the rust tests", Err(why)),
            },
            "model" => rust::model(&mut report),
            "features" => rust::features(&mut report),
            "fuzz" => rust::fuzz(&mut report),
            "interop" => interop::run(&mut report),
            "oauth" => interop::with_oauth(&mut report),
            "proxies" => interop::behind_proxies(&mut report),
            "page" => interop::with_page(&mut report),
            "replicas" => interop::with_replicas(&mut report),
            "chaos" => chaos::run(&mut report),
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
