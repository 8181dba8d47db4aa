//! `Server` against strangers: those who say half and stop, take nothing, or send what nobody asked for.
//! Whatever they do, their connection ends, and everybody else is served.
//!
//! The clock stands still and moves by steps (`help`), since a connection's deadlines are minutes.

mod bodies;
mod heads;
pub(crate) mod help;
mod http2;
mod settings;
mod slow;
