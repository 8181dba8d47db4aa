//! The process that clears up after a session: kills everything that its user runs, and empties its folder. It is a
//! separate process because it walks through files that a stranger made: if something goes wrong there, the gateway is
//! not affected.

use std::{
    ffi::OsString,
    fs, io,
    path::Path,
    process::{ExitCode, ExitStatus, Stdio},
};

use rustix::process::{Pid, Signal, geteuid, getuid, kill_process_group};

use super::{super::strays::Strays, confine::become_user, domain};

/// The word on the command line that selects this process.
pub(crate) const WORD: &str = "__clear";

fn command(user: Option<u32>, folder: Option<&Path>) -> std::process::Command {
    let mut command = std::process::Command::new("/proc/self/exe");
    let user = user.map(|user| user.to_string()).unwrap_or_default();
    command.args([WORD, "clear", &user]).arg(folder.unwrap_or(Path::new("")));
    command.env_clear().current_dir("/").stdin(Stdio::null()).stdout(Stdio::null());
    command
}

/// Runs the process; an error is what it wrote to stderr.
pub(super) async fn run_for(strays: &Strays, user: Option<u32>, folder: Option<&Path>) -> Result<(), String> {
    let mut command = tokio::process::Command::from(command(user, folder));
    command.kill_on_drop(true).stderr(Stdio::piped());
    let child = strays.start(command).map_err(|error| error.to_string())?;
    let pid = child.id();
    let output = child.wait_with_output().await;
    if let Some(pid) = pid {
        strays.forget(pid);
    }
    let output = output.map_err(|error| error.to_string())?;
    if output.status.success() {
        Ok(())
    } else {
        let said: String = String::from_utf8_lossy(&output.stderr).trim().chars().take(300).collect();
        Err(format!("{} {}", output.status, said.escape_debug()))
    }
}

/// Empties a folder that belongs to the gateway's own user, and waits for that.
pub(super) fn empty_and_wait(path: &Path, strays: &Strays) -> io::Result<ExitStatus> {
    let mut child = strays.start_std(command(None, Some(path)))?;
    let status = child.wait();
    strays.forget(child.id());
    status
}

/// Whether a process can become this user.
pub(super) fn try_user(user: u32) -> Result<(), String> {
    let tried = std::process::Command::new("/proc/self/exe")
        .args([WORD, "try", &user.to_string(), ""])
        .env_clear()
        .output();
    let tried = tried.map_err(|error| format!("cannot try it: {error}"))?;
    if tried.status.success() {
        Ok(())
    } else {
        Err(String::from_utf8_lossy(&tried.stderr).trim().escape_debug().to_string())
    }
}

/// The process: becomes the user, ends all of the user's processes, empties the folder.
pub(crate) fn run(mut args: impl Iterator<Item = OsString>) -> ExitCode {
    let (what, user, folder) =
        (args.next(), args.next().unwrap_or_default(), args.next().unwrap_or_default());
    let user = match user.to_str().map(|user| (user, user.parse::<u32>())) {
        Some(("", _)) => None,
        Some((_, Ok(user))) if user > 0 => Some(user),
        _ => return ExitCode::from(2),
    };
    if let Some(user) = user {
        if let Err(error) = become_user(user) {
            eprintln!("cannot become user {user}: {error}");
            return ExitCode::FAILURE;
        }
        // As another user it would kill processes that are not the session's.
        if getuid().as_raw() != user || geteuid().as_raw() != user {
            return ExitCode::FAILURE;
        }
    }
    if what.is_some_and(|what| what == "try") {
        return ExitCode::SUCCESS;
    }
    if user.is_some() {
        // `kill(-1)`: all processes that this user may signal, except the caller.
        let _ = kill_process_group(Pid::INIT, Signal::KILL);
    }
    if !folder.is_empty()
        && let Err(error) = empty(folder.as_ref())
    {
        eprintln!("cannot empty {}: {error}", folder.to_string_lossy().escape_debug());
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

/// Empties a folder, however deeply nested it is: subfolders of subfolders are moved up to it rather than descended
/// into.
fn empty(top: &Path) -> io::Result<()> {
    // A process that is still running could swap in a symlink; what it points to must not be removed.
    domain::enter_only(top);
    let mut moved: u64 = 0;
    loop {
        let mut was_empty = true;
        for entry in fs::read_dir(top)? {
            was_empty = false;
            let entry = entry?;
            if !entry.file_type()?.is_dir() {
                fs::remove_file(entry.path())?;
                continue;
            }
            open_up(&entry.path())?;
            for inner in fs::read_dir(entry.path())? {
                let inner = inner?;
                if inner.file_type()?.is_dir() {
                    open_up(&inner.path())?;
                    moved += 1;
                    fs::rename(inner.path(), top.join(format!(".{}-{moved}", std::process::id())))?;
                } else {
                    fs::remove_file(inner.path())?;
                }
            }
            fs::remove_dir(entry.path())?;
        }
        if was_empty {
            return Ok(());
        }
    }
}

/// Makes a folder readable and writable for us, if we own it.
fn open_up(folder: &Path) -> io::Result<()> {
    fs::set_permissions(folder, std::os::unix::fs::PermissionsExt::from_mode(0o700))
}
