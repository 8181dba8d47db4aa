//! The program from outside: what it prints, how it exits, what it serves, and that it leaves nothing behind.

#![allow(clippy::unwrap_used, reason = "a test says what went wrong by failing")]

#[cfg(target_os = "linux")]
mod apart;
#[cfg(target_os = "linux")]
mod attacker;
mod beside;
mod cli;
mod config;
mod connect;
mod demo;
mod descendants;
mod endings;
mod floods;
mod help;
mod isolation;
mod large;
mod places;
mod relay;
#[cfg(target_os = "linux")]
mod sandbox;
mod strangers;
mod tls;
mod upstream;
#[cfg(target_os = "linux")]
mod users;
