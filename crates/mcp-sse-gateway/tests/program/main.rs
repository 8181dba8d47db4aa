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
mod endings;
mod help;
mod isolation;
mod relay;
<<<<<<< HEAD
mod strangers;
=======
#[cfg(target_os = "linux")]
mod sandbox;
>>>>>>> h/apart
mod tls;
mod upstream;
#[cfg(target_os = "linux")]
mod users;
