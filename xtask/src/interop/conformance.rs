//! The conformance suite of MCP, pinned: what passes without the gateway passes through it.

use std::process::Command;

use super::install::{install_packages, interop};
use crate::{
    report::Report,
    tools::{copy_files, exists, output, root},
};

/// Each part of the report, and the options that it is run with.
const RUNS: [(&str, &[&str]); 1] = [("2025-11-25", &["--revision", "2025-11-25"])];

/// Runs it with the program that was built for release.
pub(super) fn run(report: &mut Report) {
    for (run, options) in RUNS {
        let name = format!("conformance: {run}");
        if !exists("node") || !exists("npm") {
            report.left_out(&name, "no node and npm here");
            continue;
        }
        report.part(&name, compared(options));
    }
}

fn compared(options: &[&str]) -> Result<String, String> {
    let folder = root().join("target/interop/conformance");
    let from = interop("conformance");
    install_packages(&folder, &from)?;
    // The scripts may have changed since.
    copy_files(&from, &folder)?;
    let mut command = Command::new("node");
    command.arg("conformance.mjs").args(options).arg("--program").arg(root().join("target/release/mcp-sse"));
    let (ok, text) = output(command.current_dir(&folder))?;
    let closes = |line: &&str| line.starts_with("conformance ") && line.contains(" passed, ");
    let last = text.lines().find(closes).unwrap_or("no closing line").to_owned();
    let failed: Vec<_> = text.lines().filter(|line| line.starts_with("FAIL ")).collect();
    if ok && failed.is_empty() && last.ends_with(" 0 failed") {
        Ok(last)
    } else {
        Err(format!("{last}; {}", failed.join("; ")))
    }
}
