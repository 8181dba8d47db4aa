//! Each client at each server of both eras, directly and by way of the gateway; see `tests/interop/eras`.

use std::process::Command;

use super::install::{install_packages, interop, node, python};
use crate::{
    report::Report,
    tools::{exists, output, root},
};

/// What is written of all of it, which takes half an hour.
const TABLE: &str = "docs/compatibility.md";

/// Two clients over SSE at the servers that know only the stateless revision.
pub(super) fn run(report: &mut Report) {
    const NAME: &str = "interop: servers of the stateless revision behind the gateway";
    if !exists("python3") {
        return report.left_out(NAME, "no python3 here");
    }
    report.part(NAME, install().and_then(|()| compare(&["--short"])));
}

/// By hand: all of them, and what is written of it.
pub(super) fn by_hand() -> Result<(), String> {
    install()?;
    // Two clients are among those that get tokens.
    packages("oauth")?;
    compare(&["--report", TABLE]).map(drop)
}

fn install() -> Result<(), String> {
    python("1x")?;
    python("2x")?;
    node()?;
    packages("eras")
}

fn packages(folder: &str) -> Result<(), String> {
    install_packages(&root().join("target/interop").join(folder), &interop(folder))
}

/// Runs the script; its last line.
fn compare(options: &[&str]) -> Result<String, String> {
    let mut command = Command::new("python3");
    command.arg(interop("eras/run.py")).args(options).current_dir(root());
    let (ok, text) = output(&mut command)?;
    let last =
        text.lines().rev().find(|line| line.starts_with("compatibility: ")).unwrap_or("no closing line");
    let failed: Vec<_> = text.lines().filter(|line| line.starts_with("FAIL ")).collect();
    if ok && failed.is_empty() { Ok(last.to_owned()) } else { Err(format!("{last}; {}", failed.join("; "))) }
}
