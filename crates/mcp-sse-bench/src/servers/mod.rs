//! The servers that are measured. Each has the tools `echo` and `progress` at `/sse`. Those that are not
//! ours are programs of their own.

pub(crate) mod alone;
mod ours;

use std::net::SocketAddr;

use tokio::net::TcpListener;

use crate::load::Credential;

/// Which of ours.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Ours {
    Bare,
    BareWithKeys,
    BareWithTokens,
    Rmcp,
}

/// Runs a server until it is killed. Prints where it listens once it does.
pub(crate) fn run(server: Ours, port: u16, resume_window: f64) -> std::io::Result<()> {
    // As the program does it: one worker of the multi-thread runtime serves what is ready over and over
    // while others wait. The floor and the peers stay what their users would write.
    let one_core = std::thread::available_parallelism().is_ok_and(|cores| cores.get() == 1);
    let mut builder = if one_core {
        tokio::runtime::Builder::new_current_thread()
    } else {
        tokio::runtime::Builder::new_multi_thread()
    };
    builder.enable_all().build()?.block_on(async move {
        let listener = TcpListener::bind(SocketAddr::from(([0, 0, 0, 0], port))).await?;
        let port = listener.local_addr()?.port();
        println!("listening on http://127.0.0.1:{port}/sse");
        let resume_window = std::time::Duration::from_secs_f64(resume_window);
        match server {
            Ours::Bare => ours::run(listener, ours::Bare, resume_window, Credential::Nothing).await,
            Ours::BareWithKeys => ours::run(listener, ours::Bare, resume_window, Credential::Key).await,
            Ours::BareWithTokens => ours::run(listener, ours::Bare, resume_window, Credential::Token).await,
            Ours::Rmcp => ours::run(listener, ours::WithRmcp, resume_window, Credential::Nothing).await,
        }
    })
}
