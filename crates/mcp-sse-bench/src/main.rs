//! Measures mcp-sse beside a floor and its peers: servers to start by hand, and a load generator.

// As in the program `mcp-sse`.
#[cfg(not(target_env = "msvc"))]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

mod args;
mod gateways;
mod load;
mod posts;
mod process;
mod replicas;
mod report;
mod run;
mod servers;

use std::{process::ExitCode, time::Duration};

use clap::Parser as _;

use crate::args::{Args, Command, Server};

fn rmcp_alone(seconds: f64, steps: u32, idle: usize) -> std::io::Result<()> {
    use servers::alone;
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
        println!("{}", alone::calls(Duration::from_secs_f64(seconds)).await?);
        println!("{}", alone::progress(steps).await?);
        println!("{}", alone::idle(idle).await?);
        Ok(())
    })
}

fn threads_post(threads: Option<usize>, time: Duration) -> std::io::Result<()> {
    use posts::{Post, posts};
    let threads = threads.map_or_else(std::thread::available_parallelism, |threads| {
        std::num::NonZero::new(threads).ok_or_else(|| std::io::Error::other("expected one thread or more"))
    })?;
    println!("{:.0}", posts(threads.get(), Post::Notification, time)?);
    println!("{:.0}", posts(threads.get(), Post::Request, time)?);
    Ok(())
}

fn main() -> ExitCode {
    let result = match Args::parse().command {
        Command::Serve { server: Server::Bare, port, resume_window } => {
            servers::run(servers::Ours::Bare, port, resume_window)
        }
        Command::Serve { server: Server::BareWithKeys, port, resume_window } => {
            servers::run(servers::Ours::BareWithKeys, port, resume_window)
        }
        Command::Serve { server: Server::BareWithTokens, port, resume_window } => {
            servers::run(servers::Ours::BareWithTokens, port, resume_window)
        }
        Command::Serve { server: Server::Rmcp, port, resume_window } => {
            servers::run(servers::Ours::Rmcp, port, resume_window)
        }
        Command::Serve { server, port, .. } => process::command(server, &args::Peers::default(), port)
            .and_then(|mut command| command.status())
            .map(drop),
        Command::RmcpAlone { seconds, steps, idle } => rmcp_alone(seconds, steps, idle),
        Command::Posts { threads, seconds } => threads_post(threads, Duration::from_secs_f64(seconds)),
        Command::Pipes { seconds } => {
            gateways::pipes(Duration::from_secs_f64(seconds)).map(|outcome| println!("{outcome}"))
        }
        Command::Run(options) => run::run(&options),
        Command::Replicas(options) => replicas::run(&options),
        Command::RoundTrips { address, sessions, in_flight, bytes, sends_to_all, seconds } => {
            let load = load::Load { sessions, in_flight, bytes, sends_to_all, ..load::Load::default() };
            load::round_trips(address, load, Duration::from_secs_f64(seconds))
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
