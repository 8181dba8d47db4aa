//! A minimal init, for when the program is process 1 of a container. Orphans are reparented to process 1, and only it
//! can reap them. So as process 1 this program starts itself once more to do the actual work, forwards signals to that
//! process, and reaps everything.

use std::{ffi::OsString, process::ExitCode};

use rustix::process::{Pid, Signal, WaitOptions, kill_process, wait};
use tokio::signal::unix::{SignalKind, signal};

/// The word that asks for this when the program is not process 1.
pub(crate) const WORD: &str = "__init";

pub(crate) fn is_first() -> bool {
    std::process::id() == 1
}

/// Runs the program with these arguments until it exits, and returns its exit code.
pub(crate) fn run(args: impl Iterator<Item = OsString>) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let code = runtime.and_then(|runtime| runtime.block_on(start(args)));
    code.unwrap_or_else(|error| {
        eprintln!("error: cannot start: {error}");
        ExitCode::FAILURE
    })
}

async fn start(args: impl Iterator<Item = OsString>) -> std::io::Result<ExitCode> {
    // Needed unless this is process 1, which orphans are reparented to anyway.
    #[cfg(target_os = "linux")]
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
    let mut ended = signal(SignalKind::child())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hangup = signal(SignalKind::hangup())?;
    // Not tokio's `Command`, which would reap the child itself.
    let child = std::process::Command::new(std::env::current_exe()?).arg(SECOND).args(args).spawn()?;
    let pid = Pid::from_child(&child);
    loop {
        tokio::select! {
            _ = ended.recv() => {
                while let Ok(Some((gone, status))) = wait(WaitOptions::NOHANG) {
                    if gone == pid {
                        return Ok(code(status));
                    }
                }
            }
            _ = interrupt.recv() => pass_on(pid, Signal::INT),
            _ = terminate.recv() => pass_on(pid, Signal::TERM),
            _ = hangup.recv() => pass_on(pid, Signal::HUP),
        }
    }
}

/// The word before the arguments of the process that `run` starts, so that it does not start another.
pub(crate) const SECOND: &str = "__second";

fn pass_on(pid: Pid, signal: Signal) {
    let _ = kill_process(pid, signal);
}

fn code(status: rustix::process::WaitStatus) -> ExitCode {
    let code = status.exit_status().or_else(|| status.terminating_signal().map(|signal| 128 + signal));
    ExitCode::from(code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1))
}
