//! The wire contract: what a client can see of the transport, and what an app can.
//!
//! Most tests call the two services directly and let time pass on tokio's paused clock; `sockets` has
//! those that need a connection.
#![allow(missing_docs, reason = "the names of the tests are sentences")]

mod help;

mod admission;
