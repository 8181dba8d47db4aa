//! The library's public API: its listing, `public-api.txt`, is what it was, and what was there can be used as before.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    thread::JoinHandle,
};

use crate::{
    report::Report,
    tools::{Tool, has_nightly, output, root, run},
};

/// Of the version that reads the JSON of the nightly from 2026-05.
const PUBLIC_API: Tool = Tool { name: "cargo-public-api", version: "0.52.0", wheel: None };
/// The format of that JSON.
const FORMAT: u32 = 57;
const SEMVER_CHECKS: Tool = Tool { name: "cargo-semver-checks", version: "0.51.0", wheel: None };

/// What the nightly builds.
const TARGET: &str = "target/api";
const LISTING: &str = "crates/mcp-sse/public-api.txt";

/// Compiles the tools beside everything else, which leaves a part of the processor unused. To be joined before the
/// checks.
pub(crate) fn prepare() -> Option<JoinHandle<()>> {
    has_nightly().then(|| Tool::install_beside(vec![&PUBLIC_API, &SEMVER_CHECKS]))
}

pub(crate) fn check(report: &mut Report) {
    match listed() {
        Ok(Some(listed)) => report.part("public API: its listing", compare(&listed)),
        Ok(None) => report.left_out("public API: its listing", &no_nightly()),
        Err(error) => report.part("public API: its listing", Err(error)),
    }
}

/// What was public at the baseline can be used as it was then.
pub(crate) fn breaks(report: &mut Report) {
    const BREAKS: &str = "public API: nothing breaks";
    if !has_nightly() {
        return report.left_out(BREAKS, &no_nightly());
    }
    match baseline() {
        Ok(Ok(baseline)) => report.part(BREAKS, compatible(&baseline)),
        Ok(Err(why)) => report.left_out(BREAKS, &why),
        Err(error) => report.part(BREAKS, Err(error)),
    }
}

/// Writes the listing anew.
pub(crate) fn write() -> Result<(), String> {
    let listed = listed()?.ok_or_else(no_nightly)?;
    fs::write(root().join(LISTING), listed).map_err(|error| format!("{LISTING}: {error}"))
}

fn no_nightly() -> String {
    format!(
        "no nightly toolchain here that writes rustdoc's JSON in format {FORMAT}, which {} {} reads; rustup toolchain \
         install nightly",
        PUBLIC_API.name, PUBLIC_API.version
    )
}

/// All that is public with all features, without what the compiler adds of itself. `None`: there is no nightly for it.
fn listed() -> Result<Option<String>, String> {
    if !has_nightly() {
        return Ok(None);
    }
    let program = PUBLIC_API.install()?;
    let mut command = Command::new(program);
    command.args(["public-api", "-p", "mcp-sse", "--all-features", "-sss", "--color", "never"]);
    command.arg("--target-dir").arg(root().join(TARGET));
    command.current_dir(root()).env("RUSTUP_TOOLCHAIN", "nightly").env_remove("CARGO").env_remove("RUSTC");
    let done = command.output().map_err(|error| format!("{}: {error}", PUBLIC_API.name))?;
    if done.status.success() {
        return Ok(Some(String::from_utf8_lossy(&done.stdout).into_owned()));
    }
    let json = fs::read_to_string(root().join(TARGET).join("doc/mcp_sse.json")).unwrap_or_default();
    let said = String::from_utf8_lossy(&done.stderr);
    if said.contains("rustdoc JSON")
        && !json.is_empty()
        && !json.contains(&format!("\"format_version\":{FORMAT}"))
    {
        return Ok(None);
    }
    Err(format!("{}: {}", PUBLIC_API.name, said.trim()))
}

fn compare(listed: &str) -> Result<String, String> {
    let committed = fs::read_to_string(root().join(LISTING)).unwrap_or_default();
    if committed == listed {
        return Ok(format!("{} items, as in {LISTING}", listed.lines().count()));
    }
    let changes = difference(&committed, listed);
    Err(format!(
        "it is not what {LISTING} says; if it is meant, cargo xtask api --write, and commit it\n{changes}"
    ))
}

/// The lines that are only in one of two sorted listings.
fn difference(old: &str, new: &str) -> String {
    let only = |these: &str, those: &str, sign: &str| {
        let lines = these.lines().filter(|line| !those.lines().any(|other| other == *line));
        lines.map(|line| format!("{sign} {line}\n")).collect::<String>()
    };
    only(old, new, "-") + &only(new, old, "+")
}

/// The commit that the API is held to, or why there is none here.
fn baseline() -> Result<Result<String, String>, String> {
    let manifest =
        fs::read_to_string(root().join("Cargo.toml")).map_err(|error| format!("Cargo.toml: {error}"))?;
    let mut lines = manifest.lines().skip_while(|line| line.trim() != "[workspace.metadata.api]").skip(1);
    let line = lines.find(|line| line.starts_with("baseline = ")).ok_or(
        "Cargo.toml has no baseline under [workspace.metadata.api]: the commit that the API is held to",
    )?;
    let commit = line.trim_start_matches("baseline = ").trim().trim_matches('"').to_owned();
    let mut git = Command::new("git");
    git.args(["cat-file", "-e", &format!("{commit}^{{commit}}")]).current_dir(root());
    Ok(match git.output() {
        Ok(found) if found.status.success() => Ok(commit),
        _ => Err(format!("the commit {commit} is not in this clone")),
    })
}

/// Both sides are read by one nightly, from what it has built already: that is ten times quicker than what the tool
/// would do by itself.
fn compatible(baseline: &str) -> Result<String, String> {
    let program = SEMVER_CHECKS.install()?;
    let source = root().join(TARGET).join(format!("baseline-{baseline}"));
    let old = source.join("mcp_sse.json");
    if !old.exists() {
        extract(baseline, &source)?;
        fs::copy(json(&source)?, &old).map_err(|error| format!("{}: {error}", old.display()))?;
    }
    let new = json(&root())?;
    let mut command = Command::new(program);
    command.arg("semver-checks").arg("--current-rustdoc").arg(new).arg("--baseline-rustdoc").arg(old);
    // What is added is no break, even if the version is still the same.
    command.args(["--release-type", "minor", "--color", "never"]).current_dir(root());
    match output(&mut command)? {
        (true, text) => Ok(checks(&text).unwrap_or_else(|| "yes".to_owned())),
        (false, _) => Err(format!(
            "against {baseline}; if it is meant, say **breaking** in CHANGELOG.md, and name that commit in Cargo.toml, \
             baseline, in the next one"
        )),
    }
}

/// The files of a commit.
fn extract(commit: &str, folder: &Path) -> Result<(), String> {
    fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let archive = folder.join("files.tar");
    let mut git = Command::new("git");
    run(git.args(["archive", "--output"]).arg(&archive).arg(commit).current_dir(root()))?;
    run(Command::new("tar").arg("-xf").arg(&archive).current_dir(folder))
}

/// What rustdoc says of the library in this checkout, as the checks want it.
fn json(checkout: &Path) -> Result<PathBuf, String> {
    let target = root().join(TARGET);
    let mut rustdoc = Command::new("cargo");
    rustdoc
        .args(["+nightly", "rustdoc", "-p", "mcp-sse", "--lib", "--all-features", "--target-dir"])
        .arg(&target);
    rustdoc.args(["--", "-Z", "unstable-options", "--output-format", "json", "--cap-lints", "allow"]);
    rustdoc.args(["--document-private-items", "--document-hidden-items"]).current_dir(checkout);
    rustdoc.env_remove("CARGO").env_remove("RUSTC").env_remove("RUSTUP_TOOLCHAIN");
    run(&mut rustdoc)?;
    Ok(target.join("doc/mcp_sse.json"))
}

/// `Checked [   1.2s] 196 checks: 196 pass, 57 skip`.
fn checks(text: &str) -> Option<String> {
    let line = text.lines().find(|line| line.contains(" checks: "))?;
    Some(line.rsplit(']').next()?.trim().to_owned())
}
