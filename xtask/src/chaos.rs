//! Chaos: replicas, engines, nginx and links, killed, frozen and cut while clients call; see `tests/chaos`.

use std::{path::Path, process::Command};

use crate::{
    engines,
    report::Report,
    tools::{self, apt_install, cargo, exists, output, root},
};

/// How long each engine's turn is in the tests, in minutes; by hand, it is said.
const SHORT: &str = "1";
const LONG: &str = "60";
/// Options of each turn.
const TURNS: [(&str, &[&str]); 2] =
    [("nats", &["--keys", "--seed", "1"]), ("redis", &["--keys", "--seed", "2"])];

/// The short form.
pub(crate) fn run(report: &mut Report) {
    let check = output(Command::new("python3").arg(root().join("tests/chaos/check_test.py")));
    let check = check.and_then(|(ok, _)| if ok { Ok("yes".to_owned()) } else { Err("see above".to_owned()) });
    report.part("chaos: the check finds what it looks for", check);
    if !exists("nginx") && apt_install("nginx").is_err() {
        return report.left_out("chaos", "nginx is not here and could not be installed by apt-get");
    }
    let ready = engines::install().and_then(|_| build());
    if let Err(why) = ready {
        return report.part("chaos", Err(why));
    }
    for (engine, options) in TURNS {
        report.part(&format!("chaos: three replicas, {engine}"), turn(engine, SHORT, options, None));
    }
}

/// By hand: `cargo xtask chaos [--minutes N]`, each engine's turn so long; its reports in `docs/chaos`.
pub(crate) fn by_hand(options: &[&str]) -> Result<(), String> {
    let minutes = match options {
        [] => LONG,
        ["--minutes", minutes] => minutes,
        _ => return Err("usage: cargo xtask chaos [--minutes N]".to_owned()),
    };
    engines::install()?;
    build()?;
    let folder = root().join("docs/chaos");
    std::fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    for engine in ["nats", "redis"] {
        let report = folder.join(format!("{engine}.md"));
        let said = turn(engine, minutes, &["--keys", "--pairs", "0.2"], Some(&report))?;
        println!("{engine}: {said}");
    }
    Ok(())
}

fn build() -> Result<(), String> {
    tools::run(cargo().args(["build", "--release", "-p", "mcp-sse-gateway"]))
}

/// Runs one engine's turn; the line that says how it went.
fn turn(engine: &str, minutes: &str, options: &[&str], report: Option<&Path>) -> Result<String, String> {
    let mut command = Command::new("python3");
    command.current_dir(root()).args(["tests/chaos/run.py", "--engine", engine, "--minutes", minutes]);
    command.args(options);
    if let Some(report) = report {
        command.arg("--report").arg(report);
    }
    let (ok, text) = output(&mut command)?;
    let last = text.lines().find(|line| line.contains("**")).unwrap_or("it says nothing").to_owned();
    if ok { Ok(last) } else { Err(last) }
}
