//! The program from outside: what it prints, how it exits, what it serves, and that it leaves nothing behind.

#![allow(clippy::unwrap_used, reason = "a test says what went wrong by failing")]

mod beside;
mod cli;
mod config;
mod connect;
mod demo;
mod endings;
mod fake;
mod help;
mod isolation;
mod mcp_bodies;
mod relay;
mod strangers_http;
mod tls;
mod upstream;
mod upstream_bytes;
