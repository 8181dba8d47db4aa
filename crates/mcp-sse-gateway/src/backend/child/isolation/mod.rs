//! Isolation of children: from each other, from the gateway and, on request, from the machine.
//!
//! | room | what lives there |
//! |---|---|
//! | here | whether the system supports what is requested |
//! | `asked` | the settings of one program |
//! | `apart` | the users and folders that all children share, and the lease that one child has on them |
//! | `confine` | how a child restricts itself before it becomes its program |
//! | `rules` | what a sandbox allows, in the form that is passed to the child |
//! | `domain` | Landlock: signals and ptrace, files, ports |
//! | `network` | the sockets that a sandboxed program may create |
//! | `paths` | the files that every program needs |
//! | `users` | a user for each session |
//! | `folder` | a temporary folder for each session |
//! | `clear` | the process that clears up after a session |
//! | `parse` | parsers for the settings |
//!
//! Invariant: what was requested is in force when the program starts, or the program does not start. What is only
//! on by default may be missing; the log says so once.

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

/// The error on other systems.
#[cfg(not(target_os = "linux"))]
const ELSEWHERE: &str = "this needs Linux";

/// Keeps other processes of the same user from tracing this one and reading its environment. In exchange, it leaves
/// no core dump, and only root can attach a debugger.
pub(crate) fn close_to_others() {
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)
    {
        eprintln!("mcp-sse: cannot hide its environment from its servers: {error}");
    }
}

/// Logs, once, if the system does not support the isolation that is on by default.
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

/// Whether this system supports the sandbox.
pub(crate) fn check_sandbox() -> Result<(), String> {
    #[cfg(target_os = "linux")]
    {
        if !domain::has_files() {
            return Err("this kernel has no Landlock rules for files; expected Linux 6.2 or later, with \"landlock\" among its security modules".to_owned());
        }
        if !network::is_known() {
            return Err(format!("the sandbox does not support {} processors", std::env::consts::ARCH));
        }
        Ok(())
    }
    #[cfg(not(target_os = "linux"))]
    Err(ELSEWHERE.to_owned())
}

/// Whether this system supports rules for TCP ports.
pub(crate) fn check_ports() -> Result<(), String> {
    #[cfg(target_os = "linux")]
    return domain::has_ports().then_some(()).ok_or_else(|| {
        "this kernel has no Landlock rules for TCP ports; expected Linux 6.7 or later, with \"landlock\" among its security modules".to_owned()
    });
    #[cfg(not(target_os = "linux"))]
    Err(ELSEWHERE.to_owned())
}

/// Whether this system supports limits for each child.
pub(crate) fn check_limits() -> Result<(), String> {
    #[cfg(target_os = "linux")]
    return Ok(());
    #[cfg(not(target_os = "linux"))]
    Err(ELSEWHERE.to_owned())
}

/// Whether each of this many sessions can have a user of its own.
pub(crate) fn check_users(range: Range, sessions: usize) -> Result<(), String> {
    #[cfg(target_os = "linux")]
    return users::check(range, sessions);
    #[cfg(not(target_os = "linux"))]
    {
        let _ = (range, sessions);
        Err(ELSEWHERE.to_owned())
    }
}

/// Whether a limit on processes works: the system counts the processes of a user, and does not limit root.
pub(crate) fn check_processes(users: Option<Range>) -> Result<(), String> {
    users.map(|_| ()).ok_or_else(|| {
        "the system counts the processes of a user, so this needs --user-range, which gives each session a user of its own"
            .to_owned()
    })
}
