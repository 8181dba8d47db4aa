//! The gateway's page in a real browser, and the lines that it gives for clients, run.

use std::process::Command;

use super::{
    install::{install_packages, interop, node, python},
    servers,
};
use crate::{
    report::Report,
    tools::{output, root},
};

const NAME: &str = "the page in Chromium, and the lines that it gives for clients";

pub(super) fn run(report: &mut Report) {
    match checks() {
        Ok((line, left_out)) => {
            report.part(NAME, Ok(line));
            for (what, why) in left_out {
                report.left_out(&what, &why);
            }
        }
        Err(error) => report.part(NAME, Err(error)),
    }
}

/// The closing line, and what was left out and why.
fn checks() -> Result<(String, Vec<(String, String)>), String> {
    let node = node()?;
    let servers = servers::install()?;
    // Claude Code and mcp-remote.
    let clients = root().join("target/interop/oauth");
    install_packages(&clients, &interop("oauth"))?;
    let python = python("2x")?;
    let mut command = Command::new("node");
    command.arg(node.join("gateway-page.mjs")).current_dir(&node);
    command.env("MCP_SSE", root().join("target/release/mcp-sse"));
    command.env("SERVERS", servers).env("PYTHON", python);
    command.env("CLAUDE", clients.join("node_modules/@anthropic-ai/claude-code/cli-wrapper.cjs"));
    command.env("MCP_REMOTE", clients.join("node_modules/mcp-remote/dist/proxy.js"));
    let (ok, text) = output(&mut command)?;
    let failed: Vec<_> = text.lines().filter(|line| line.starts_with("FAIL ")).collect();
    let last = text.lines().rev().find(|line| line.contains(" passed, ")).unwrap_or("no closing line");
    if !ok || !failed.is_empty() || !last.contains(" 0 failed") {
        return Err(format!("{last}; {}", failed.join("; ")));
    }
    let left_out = text.lines().filter_map(|line| line.split_once(" left out: "));
    Ok((last.to_owned(), left_out.map(|(what, why)| (what.to_owned(), why.to_owned())).collect()))
}
