//! Other gateways, pinned, beside ours: what each does with what happens to gateways.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use super::{
    install::{install_packages, install_venv, interop},
    servers,
};
use crate::tools::{self, root};

/// Installs the others: the folder that they are in.
pub(crate) fn install() -> Result<PathBuf, String> {
    let folder = root().join("target/interop/gateways");
    let from = interop("gateways");
    install_packages(&folder, &from)?;
    install_venv(&folder.join("venv"), &from.join("requirements.txt"))?;
    Ok(folder)
}

/// Runs the comparison; `scenarios` are some of them, all if there are none.
pub(crate) fn compare(scenarios: &[&str]) -> Result<(), String> {
    tools::run(tools::cargo().args(["build", "--release", "-p", "mcp-sse-gateway"]))?;
    let server = servers::install()?.join("node_modules/.bin/mcp-server-everything");
    let server = std::fs::canonicalize(&server).map_err(|error| format!("{}: {error}", server.display()))?;
    let folder = install()?;
    let quoted = |path: &Path| format!("'{}'", path.display());
    let server = format!("node {} stdio", quoted(&server));
    let gateways = [
        ("mcp-sse", root().join("target/release/mcp-sse"), format!("serve --port {{port}} -- {server}")),
        (
            "supergateway 4.0.0",
            folder.join("node_modules/.bin/supergateway"),
            format!("--port {{port}} --logLevel none --stdio \"{server}\""),
        ),
        (
            "mcp-proxy 0.13.0",
            folder.join("venv/bin/mcp-proxy"),
            format!("--port {{port}} --pass-environment -- {server}"),
        ),
    ];
    let mut command = Command::new(folder.join("venv/bin/python"));
    command.arg(interop("gateways").join("compare.py")).current_dir(root());
    for (name, program, arguments) in gateways {
        command.args(["--gateway", name, &format!("{} {arguments}", quoted(&program))]);
    }
    if scenarios.is_empty() {
        command.args(["--report", "docs/gateways.md"]);
    }
    tools::run(command.args(scenarios))
}
