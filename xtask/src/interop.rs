//! Real clients, pinned, against the program: its own demo server here, and real servers behind the gateway in
//! `servers`.

mod eras;
pub(crate) mod gateways;
mod install;
mod oauth;
mod page;
mod program;
mod proxies;
mod replicas;
mod servers;

use std::{ffi::OsString, path::Path};

use self::{
    install::{interop, node, python},
    program::{client, client_with_key},
};
use crate::{
    report::Report,
    tools::{self, cargo, exists, root},
};

/// Those that get their tokens from a real authorization server.
pub(crate) fn with_oauth(report: &mut Report) {
    match build() {
        Ok(()) => oauth::run(report),
        Err(error) => report.part("OAuth: the program", Err(error)),
    }
}

/// Clients behind real proxies.
pub(crate) fn behind_proxies(report: &mut Report) {
    const ALL: &str = "behind proxies";
    if !exists("python3") || !exists("node") || !exists("npm") {
        return report.left_out(ALL, "no python3, node and npm here");
    }
    match build().and_then(|()| node()) {
        Ok(node) => proxies::run(report, &node),
        Err(error) => report.part(ALL, Err(error)),
    }
}

/// Real clients through three replicas.
pub(crate) fn with_replicas(report: &mut Report) {
    const ALL: &str = "replicas";
    if !exists("python3") || !exists("node") || !exists("npm") {
        return report.left_out(ALL, "no python3, node and npm here");
    }
    match build().and_then(|()| node()) {
        Ok(_) => replicas::run(report, &chromium()),
        Err(error) => report.part(ALL, Err(error)),
    }
}

/// The same at length, by hand.
pub(crate) fn with_replicas_by_hand() -> Result<(), String> {
    build()?;
    node()?;
    chromium()?;
    replicas::by_hand()
}

/// All clients at all servers of both eras, by hand.
pub(crate) fn compatibility() -> Result<(), String> {
    build()?;
    chromium()?;
    eras::by_hand()
}

/// The gateway's page in a browser.
pub(crate) fn with_page(report: &mut Report) {
    const PAGE: &str = "the page";
    if !exists("python3") || !exists("node") || !exists("npm") {
        return report.left_out(PAGE, "no python3, node and npm here");
    }
    match (chromium(), build()) {
        (Ok(()), Ok(())) => page::run(report),
        (Err(why), _) => report.left_out(PAGE, &why),
        (_, Err(error)) => report.part(PAGE, Err(error)),
    }
}

fn build() -> Result<(), String> {
    tools::run(cargo().args(["build", "--release", "-p", "mcp-sse-gateway"]))
}

pub(crate) fn run(report: &mut Report) {
    if let Err(error) = build() {
        return report.part("interop: the program", Err(error));
    }
    for version in ["1x", "2x"] {
        let name = format!("interop: Python mcp {version}");
        if !exists("python3") {
            report.left_out(&name, "no python3 here");
            continue;
        }
        let python = python(version);
        let script = interop("python/client.py");
        report.part(&name, python.as_ref().map_err(Clone::clone).and_then(|python| client(python, &script)));
        let with_key = python.and_then(|python| client_with_key(&python, &script));
        report.part(&format!("{name}, with a key"), with_key);
    }
    if !exists("node") || !exists("npm") {
        return report.left_out("interop: Node clients", "no node and npm here");
    }
    let node = match node() {
        Ok(node) => node,
        Err(error) => return report.part("interop: Node clients", Err(error)),
    };
    for (name, script) in [
        ("interop: TypeScript SDK 1.x", "sdk-1x.mjs"),
        ("interop: TypeScript client 2.x", "sdk-2x.mjs"),
        ("interop: Inspector CLI", "inspector.mjs"),
    ] {
        report.part(name, client(Path::new("node"), &node.join(script)));
        let with_key = client_with_key(Path::new("node"), &node.join(script));
        report.part(&format!("{name}, with a key"), with_key);
    }
    const CHROMIUM: &str = "interop: Chromium EventSource";
    let chromium = chromium();
    match &chromium {
        Ok(()) => report.part(CHROMIUM, client(Path::new("node"), &node.join("chromium.mjs"))),
        Err(why) => report.left_out(CHROMIUM, why),
    }
    servers::run(report, &node, chromium.is_ok());
    eras::run(report);
}

/// The options that say where the peers of the benchmarks are, those that can be installed here.
pub(crate) fn peers() -> Vec<OsString> {
    let mut options = Vec::new();
    let script = root().join("crates/mcp-sse-bench/peers/typescript_sdk.mjs");
    let node = node().and_then(|folder| {
        let to = folder.join("typescript_sdk.mjs");
        std::fs::copy(&script, &to).map_err(|error| format!("{}: {error}", to.display()))?;
        Ok(folder)
    });
    for (option, peer) in [("--python", python("2x")), ("--node", node), ("--gateways", gateways::install())]
    {
        match peer {
            Ok(path) => options.extend([option.into(), path.into()]),
            Err(error) => eprintln!("left out: {option}: {error}"),
        }
    }
    options
}

/// Debian's Chromium, installed if this user may.
fn chromium() -> Result<(), String> {
    if std::env::var_os("CHROMIUM").is_some() || Path::new("/usr/bin/chromium").exists() {
        return Ok(());
    }
    let why = "no Chromium here and it could not be installed by apt-get; set CHROMIUM to its path";
    tools::apt_install("chromium").map_err(|()| why.to_owned())
}
