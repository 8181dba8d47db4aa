//! The wire contract: what a client can see of the transport, and what an app can.
//!
//! Most tests call the two services directly and let time pass on tokio's paused clock; `sockets` has
//! those that need a connection.
#![allow(missing_docs, reason = "the names of the tests are sentences")]
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a helper that fails is a test that fails"
)]

mod help;

mod access;
mod addresses;
mod admission;
mod bounds;
mod endings;
mod handles;
#[cfg(feature = "server")]
mod handshakes;
mod identity;
#[cfg(feature = "server")]
mod layers;
#[cfg(feature = "server")]
mod listeners;
mod logs;
mod mount;
mod observers;
mod pages;
mod progress;
mod replicas;
mod resume;
#[cfg(feature = "rmcp-3")]
mod rmcp;
#[cfg(feature = "server")]
mod server;
mod shutdown;
mod sockets;
#[cfg(feature = "server")]
mod strangers;
mod stream;
