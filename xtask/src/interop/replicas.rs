//! Real clients through three replicas behind nginx, with NATS and with Redis; see `tests/interop/replicas`.

use std::process::{Command, Stdio};

use super::{
    install::{interop, python},
    servers,
};
use crate::{
    engines,
    report::Report,
    tools::{apt_install, output, root},
};

/// The parts of the script, what they are called here, and what is run of them in the tests; all of it takes twenty minutes.
const PARTS: [(&str, &str, &[&str]); 2] = [
    ("existing", "replicas: checks of all clients", &["--only", "^redis, .*sse, everything"]),
    (
        "lives",
        "replicas: what the clients live through",
        &["--engine", "nats", "--only", "^(killed|left).*, sse"],
    ),
];
/// What is written of the second one.
const TABLE: &str = "docs/replicas-clients.md";

/// Runs the short form of both parts; the clients of Node are there. `chromium` says why that one is not.
pub(super) fn run(report: &mut Report, chromium: &Result<(), String>) {
    const ALL: &str = "replicas";
    if !has_nginx() && apt_install("nginx").is_err() {
        return report.left_out(ALL, "nginx is not here and could not be installed by apt-get");
    }
    if let Err(error) = install() {
        return report.part(ALL, Err(error));
    }
    if let Err(why) = chromium {
        report.left_out("replicas: Chromium", why);
    }
    for (part, name, options) in PARTS {
        report.part(name, one(part, options, chromium.is_ok()));
    }
}

/// By hand: all of both, and what is written of it.
pub(super) fn by_hand() -> Result<(), String> {
    install()?;
    one("existing", &[], true)?;
    one("lives", &["--report", TABLE], true).map(drop)
}

/// Where the system's programs are, it may be out of a user's way.
fn has_nginx() -> bool {
    ["nginx", "/usr/sbin/nginx"].into_iter().any(|nginx| {
        let version = Command::new(nginx).arg("-v").stderr(Stdio::null()).status();
        version.is_ok_and(|status| status.success())
    })
}

fn install() -> Result<(), String> {
    engines::install()?;
    servers::install()?;
    python("1x")?;
    python("2x")?;
    Ok(())
}

/// Runs one part; its last line.
fn one(part: &str, options: &[&str], chromium: bool) -> Result<String, String> {
    let mut command = Command::new("python3");
    command.arg(interop("replicas/run.py")).arg(part).args(options).current_dir(root());
    if !chromium {
        command.arg("--no-chromium");
    }
    let (ok, text) = output(&mut command)?;
    let last = text.lines().rev().find(|line| line.contains(" passed, ")).unwrap_or("no closing line");
    let failed: Vec<_> = text.lines().filter(|line| line.starts_with("FAIL ")).collect();
    if ok && failed.is_empty() { Ok(last.to_owned()) } else { Err(format!("{last}; {}", failed.join("; "))) }
}
