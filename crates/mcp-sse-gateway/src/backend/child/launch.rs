//! The step between us and a child: it ties the child's life to ours, and becomes the child.
//!
//! The parent-death signal has to be asked for by the child itself, and it stays through `exec`. So a child
//! is first this program, with the word [`WORD`], which asks for the signal, waits until the guard knows of it
//! ([`go`]), gives up what the program is not to have ([`Confinement`](super::isolation)), and then executes what was asked for. Where there is no such signal, children are started directly.

use std::{ffi::OsString, io, process::ExitCode};

use tokio::process::ChildStdin;

use super::isolation::Lease;

#[cfg(target_os = "linux")]
pub(crate) const WORD: &str = "__launch";
/// What the shells say for a command that cannot be executed.
pub(super) const CANNOT_START: i32 = 127;
/// How the line on stderr begins that says why.
pub(super) const CANNOT_START_TEXT: &str = "mcp-sse: cannot start ";

/// The command line that starts a program with its arguments.
#[cfg(target_os = "linux")]
pub(super) fn command(
    program: &OsString,
    args: &[OsString],
    lease: &Lease,
) -> Result<tokio::process::Command, String> {
    let confinement = lease.confinement.word()?;
    // Not by path: the file may have been replaced since we were started.
    let mut command = tokio::process::Command::new("/proc/self/exe");
    let (own, files) = (std::process::id().to_string(), crate::limits::before());
    command.arg0("mcp-sse").args([WORD, &own, &files, &confinement]).arg(program).args(args);
    Ok(command)
}

#[cfg(not(target_os = "linux"))]
pub(super) fn command(
    program: &OsString,
    args: &[OsString],
    _: &Lease,
) -> Result<tokio::process::Command, String> {
    let mut command = tokio::process::Command::new(program);
    command.args(args);
    Ok(command)
}

/// Lets the child become the program that was asked for.
#[cfg(target_os = "linux")]
pub(super) async fn go(stdin: &mut ChildStdin) -> io::Result<()> {
    tokio::io::AsyncWriteExt::write_all(stdin, b"\n").await
}

#[cfg(not(target_os = "linux"))]
pub(super) async fn go(_: &mut ChildStdin) -> io::Result<()> {
    Ok(())
}

/// Becomes the program that the arguments name; returns only if that fails.
#[cfg(target_os = "linux")]
pub(crate) fn run(mut args: impl Iterator<Item = OsString>) -> ExitCode {
    use std::os::unix::process::CommandExt as _;

    use super::isolation::Confinement;
    use crate::limits;
    use rustix::process::{Signal, getppid, set_parent_process_death_signal};

    let parent = args.next().and_then(|parent| parent.to_str()?.parse::<i32>().ok());
    let (Some(parent), Some(files)) = (parent, args.next()) else { return ExitCode::from(2) };
    let confinement = args.next().and_then(|word| Confinement::from_word(&word));
    let (Some(confinement), Some(program)) = (confinement, args.next()) else { return ExitCode::from(2) };
    if let Err(why) = confinement.become_user() {
        return cannot_start(&program, &why);
    }
    if let Err(error) = set_parent_process_death_signal(Some(Signal::KILL)) {
        eprintln!("mcp-sse: no parent-death signal: {error}");
    }
    // It may have died before the signal was asked for.
    if getppid().map(rustix::process::Pid::as_raw_nonzero).map(std::num::NonZero::get) != Some(parent) {
        return ExitCode::FAILURE;
    }
    // One byte and no more: the rest of its input is for the program. At its end nobody wants the program.
    if !matches!(rustix::io::retry_on_intr(|| rustix::io::read(io::stdin(), &mut [0; 1])), Ok(1)) {
        return ExitCode::FAILURE;
    }
    limits::set(&files);
    if let Err(why) = confinement.enter() {
        return cannot_start(&program, &why);
    }
    let error = std::process::Command::new(&program).args(args).exec();
    cannot_start(&program, &error)
}

#[cfg(target_os = "linux")]
fn cannot_start(program: &std::ffi::OsStr, why: &dyn std::fmt::Display) -> ExitCode {
    eprintln!("{CANNOT_START_TEXT}{}: {why}", program.to_string_lossy().escape_debug());
    ExitCode::from(CANNOT_START as u8)
}
