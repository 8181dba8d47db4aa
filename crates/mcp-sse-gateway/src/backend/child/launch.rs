//! The launch step, which runs in the child before the program: it ties the child's life to the keeper's, confines
//! the child, and executes the program.
//!
//! The parent-death signal has to be requested by the child itself, and survives `exec`. So a child of the keeper
//! is first this binary, with the word [`WORD`]. It requests the signal, drops the rights that the program must not
//! have ([`Confinement`](super::isolation)), and then executes the program. On systems without this signal, the
//! keeper starts programs directly.

use std::{ffi::OsString, process::ExitCode};

use super::{isolation::Lease, keeper};

pub(crate) const WORD: &str = "__launch";
/// The exit code that shells use for a command that cannot be executed.
pub(super) const CANNOT_START: i32 = 127;
/// The start of the line on stderr that says why.
pub(super) const CANNOT_START_TEXT: &str = "mcp-sse: cannot start ";

/// The command line that starts a keeper, which starts a program with its arguments.
pub(super) fn command(
    program: &OsString,
    args: &[OsString],
    lease: &Lease,
) -> Result<tokio::process::Command, String> {
    // Not by path where possible: the file may have been replaced since this process was started.
    let exe = if cfg!(target_os = "linux") { Ok("/proc/self/exe".into()) } else { std::env::current_exe() };
    let mut command = tokio::process::Command::new(exe.map_err(|error| error.to_string())?);
    let (files, confinement) = (crate::limits::before(), lease.confinement.word()?);
    command.arg0("mcp-keeper").args([keeper::WORD, &files, &confinement]).arg(program).args(args);
    Ok(command)
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
    // The keeper may have died before the signal was requested.
    if getppid().map(rustix::process::Pid::as_raw_nonzero).map(std::num::NonZero::get) != Some(parent) {
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
