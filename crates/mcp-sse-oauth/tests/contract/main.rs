//! What is promised of tokens, keys and resources.
#![allow(missing_docs, reason = "the names of the tests are sentences")]
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a helper that fails is a test that fails"
)]

mod fetching;
mod help;
mod resources;
mod tokens;
