//! How a child restricts itself before it becomes its program. The settings reach the child as a word on its command
//! line, and contain nothing secret.

use rustix::{
    fs::{Gid, Uid, fchown},
    process::{Resource, Rlimit, getrlimit, setrlimit},
    thread::{self, CapabilitySet},
};
use serde::{Deserialize, Serialize};

use super::{asked::Limits, domain, network, rules::Rules};

/// All restrictions of one child.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(in super::super) struct Confinement {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) user: Option<u32>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) own_domain: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) sandbox: Option<Rules>,
    #[serde(default)]
    pub(super) limits: Limits,
}

/// CPU seconds between SIGXCPU, which says that the limit is reached, and SIGKILL.
const LAST_SECONDS: u64 = 2;

impl Confinement {
    /// Encodes it as a word for the command line. Fails for paths that are not UTF-8.
    pub(in super::super) fn word(&self) -> Result<String, String> {
        serde_json::to_string(self).map_err(|error| error.to_string())
    }

    pub(in super::super) fn from_word(word: &std::ffi::OsStr) -> Option<Self> {
        serde_json::from_str(word.to_str()?).ok()
    }

    /// Becomes the user. To be called in a single-threaded process, before it requests the parent-death signal, which
    /// the system clears when the user changes.
    pub(in super::super) fn become_user(&self) -> Result<(), String> {
        let Some(user) = self.user else { return Ok(()) };
        // Otherwise the program could not open them by name, such as `/dev/stdout`.
        for pipe in [
            fchown(std::io::stdin(), Some(Uid::from_raw(user)), Some(Gid::from_raw(user))),
            fchown(std::io::stdout(), Some(Uid::from_raw(user)), Some(Gid::from_raw(user))),
            fchown(std::io::stderr(), Some(Uid::from_raw(user)), Some(Gid::from_raw(user))),
        ] {
            let _ = pipe;
        }
        become_user(user).map_err(|error| format!("cannot become user {user}: {error}"))
    }

    /// Drops the rights that the program must not have. The last step before the program is executed.
    pub(in super::super) fn enter(&self) -> Result<(), String> {
        if self.own_domain {
            thread::set_no_new_privs(true).map_err(|error| format!("no no_new_privs: {error}"))?;
            drop_capabilities().map_err(|error| format!("it keeps capabilities: {error}"))?;
            domain::enter(self.sandbox.as_ref())?;
            if let Some(rules) = &self.sandbox {
                network::restrict(!rules.connect.is_empty())
                    .map_err(|error| format!("no sandbox for the network: {error}"))?;
            }
        }
        self.limit().map_err(|error| format!("cannot set its limits: {error}"))
    }

    fn limit(&self) -> std::io::Result<()> {
        let Limits { memory, cpu, files, processes } = self.limits;
        for (resource, limit, room) in [
            (Resource::Data, memory, 0),
            (Resource::Cpu, cpu, LAST_SECONDS),
            (Resource::Nofile, files, 0),
            (Resource::Nproc, processes, 0),
        ] {
            let Some(limit) = limit else { continue };
            // A lower limit that is already in force stays.
            let hard = getrlimit(resource).maximum.unwrap_or(u64::MAX);
            let maximum = limit.saturating_add(room).min(hard);
            setrlimit(resource, Rlimit { current: Some(limit.min(maximum)), maximum: Some(maximum) })?;
        }
        Ok(())
    }
}

/// Drops the capabilities that let root look past a domain: with them the system shows the environment and the
/// memory layout of every process.
fn drop_capabilities() -> std::io::Result<()> {
    let dropped = CapabilitySet::SYS_ADMIN | CapabilitySet::PERFMON;
    let mut sets = thread::capabilities(None)?;
    if !sets.permitted.intersects(dropped) {
        return Ok(());
    }
    for capability in dropped.iter() {
        // A process that may not do this cannot gain them either, because of `no_new_privs`.
        let _ = thread::remove_capability_from_bounding_set(capability);
    }
    for set in [&mut sets.effective, &mut sets.permitted, &mut sets.inheritable] {
        set.remove(dropped);
    }
    thread::set_capabilities(None, sets)?;
    Ok(())
}

/// Becomes a user with a group of the same number and no other groups. This cannot be undone.
pub(super) fn become_user(user: u32) -> std::io::Result<()> {
    let (uid, gid) = (Uid::from_raw(user), Gid::from_raw(user));
    thread::set_thread_groups(&[])?;
    thread::set_thread_res_gid(gid, gid, gid)?;
    thread::set_thread_res_uid(uid, uid, uid)?;
    Ok(())
}
