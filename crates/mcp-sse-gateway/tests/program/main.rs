//! The program from outside: what it prints, how it exits, what it serves, and that it leaves nothing behind.

#![allow(clippy::unwrap_used, reason = "a test says what went wrong by failing")]

#[cfg(target_os = "linux")]
mod apart;
#[cfg(target_os = "linux")]
mod attacker;
mod beside;
mod check;
mod cli;
mod config;
mod connect;
mod continuity;
mod demo;
mod deploy;
mod descendants;
mod endings;
#[path = "../../../mcp-sse-cluster/tests/engines/mod.rs"]
mod engines;
mod fake;
mod floods;
mod help;
mod isolation;
mod keys;
mod large;
mod mcp_bodies;
mod modern;
mod observed;
mod page;
mod places;
mod relay;
mod replicas;
mod revived;
#[cfg(target_os = "linux")]
mod sandbox;
mod serve_tls;
mod strangers;
mod strangers_http;
mod tls;
mod tokens;
mod traces;
mod upstream;
mod upstream_bytes;
#[cfg(target_os = "linux")]
mod users;
