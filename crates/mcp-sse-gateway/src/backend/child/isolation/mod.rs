//! Children are kept apart: from each other, from us, and, where that is asked for, from the machine.
//!
//! | room | what lives there |
//! |---|---|
//! | here | whether the system has what is asked for |
//! | `asked` | what is asked for, for one program |
//! | `apart` | what all children have in common: their users and folders; what one start takes of them |
//! | `confine` | what a child does to itself before it becomes its program |
//! | `rules` | what a sandbox lets through, as the child is told |
//! | `domain` | Landlock: signals and ptrace, files, ports |
//! | `network` | which sockets a sandboxed program may make |
//! | `paths` | which files a program needs |
//! | `users` | a user for each session |
//! | `folder` | a temporary folder for each session |
//! | `clear` | the process that ends what a session has left |
//! | `parse` | settings as text |
//!
//! Invariant: what was asked for is in force when the program starts, or the program does not start. What
//! is only there by default may be missing; the log says so once.

#[cfg(target_os = "linux")]
mod apart;
mod asked;
#[cfg(target_os = "linux")]
pub(crate) mod clear;
#[cfg(target_os = "linux")]
mod confine;
#[cfg(target_os = "linux")]
mod domain;
#[cfg(not(target_os = "linux"))]
mod elsewhere;
#[cfg(target_os = "linux")]
mod folder;
#[cfg(target_os = "linux")]
mod network;
pub(crate) mod parse;
#[cfg(target_os = "linux")]
mod paths;
#[cfg(target_os = "linux")]
mod rules;
#[cfg(target_os = "linux")]
mod users;

use std::sync::Once;

#[cfg(not(target_os = "linux"))]
pub(super) use self::elsewhere::{Apart, Lease};
#[cfg(target_os = "linux")]
pub(super) use self::{
    apart::{Apart, Lease},
    confine::Confinement,
};
pub(crate) use self::{
    asked::{Allowed, Isolation, Limits, Sandbox},
    parse::Range,
};

/// Why nothing here is there on another system.
#[cfg(not(target_os = "linux"))]
const ELSEWHERE: &str = "this system does not have it; it needs Linux";

/// Makes this process one that others of the same user cannot trace, nor read the environment of. The price:
/// it leaves no core dump, and only root can attach a debugger.
pub(crate) fn close_to_others() {
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)
    {
        eprintln!("mcp-sse: its servers may read its environment: {error}");
    }
}

/// Says what is missing of what children get where the system has it; once, whatever is asked later.
pub(crate) fn warn_of_missing(isolation: &Isolation) {
    static SAID: Once = Once::new();
    #[cfg(target_os = "linux")]
    let missing = !domain::has_scopes();
    #[cfg(not(target_os = "linux"))]
    let missing = true;
    if isolation.own_domain && missing {
        SAID.call_once(|| {
            tracing::warn!(
                "children are not kept apart: this system has no Landlock scopes (Linux 6.12 or later, with \"landlock\" among its security modules); a program can signal other sessions' programs, read their environment and write into their output, where they run as the same user (see docs/security.md)"
            );
        });
    }
}

/// Whether this system has a sandbox for files.
pub(crate) fn check_sandbox() -> Result<(), String> {
    #[cfg(target_os = "linux")]
    {
        if !domain::has_files() {
            return Err("this kernel has no Landlock rules for files; expected Linux 6.2 or later, with \"landlock\" among its security modules".to_owned());
        }
        if !network::is_known() {
            return Err(format!("it is not known for processors of the kind {}", std::env::consts::ARCH));
        }
        Ok(())
    }
    #[cfg(not(target_os = "linux"))]
    Err(ELSEWHERE.to_owned())
}

/// Whether this system has rules for TCP ports.
pub(crate) fn check_ports() -> Result<(), String> {
    #[cfg(target_os = "linux")]
    return domain::has_ports().then_some(()).ok_or_else(|| {
        "this kernel has no Landlock rules for TCP ports; expected Linux 6.7 or later, with \"landlock\" among its security modules".to_owned()
    });
    #[cfg(not(target_os = "linux"))]
    Err(ELSEWHERE.to_owned())
}

/// Whether this system has limits for each child.
pub(crate) fn check_limits() -> Result<(), String> {
    #[cfg(target_os = "linux")]
    return Ok(());
    #[cfg(not(target_os = "linux"))]
    Err(ELSEWHERE.to_owned())
}

/// Whether each of so many sessions can have a user of its own.
pub(crate) fn check_users(range: Range, sessions: usize) -> Result<(), String> {
    #[cfg(target_os = "linux")]
    return users::check(range, sessions);
    #[cfg(not(target_os = "linux"))]
    {
        let _ = (range, sessions);
        Err(ELSEWHERE.to_owned())
    }
}

/// Whether a limit on processes means anything: the system counts those of a user, and does not bind root.
pub(crate) fn check_processes(users: Option<Range>) -> Result<(), String> {
    users.map(|_| ()).ok_or_else(|| {
        "the system counts the processes of a user, so this needs --user-range, which gives each session a user of its own"
            .to_owned()
    })
}
