//! Measures mcp-sse beside a floor and its peers: servers to start by hand, and a load generator.

mod args;
mod load;
mod process;
mod run;
mod servers;

use std::{process::ExitCode, time::Duration};

use clap::Parser as _;

use crate::args::{Args, Command};

fn main() -> ExitCode {
    let result = match Args::parse().command {
        Command::Serve { server, port, single_thread } => servers::run(server, port, single_thread),
        Command::Run(options) => run::run(&options),
        Command::RoundTrips { address, sessions, in_flight, bytes, seconds } => {
            let seconds = Duration::from_secs_f64(seconds);
            load::round_trips(address, sessions, in_flight, bytes, seconds)
                .map(|outcome| println!("{outcome}"))
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
