//! Landlock, the Linux security module with which a process drops rights for itself and all its descendants.
//!
//! A process in a domain cannot signal, trace or read (`/proc/PID/environ`, `/proc/PID/fd`, memory) processes
//! outside of it. Those outside, such as the gateway and the keeper, can still do all of that to it. Each child has
//! a domain of its own, so other children are outside of it.

use landlock::{
    ABI, Access as _, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible as _, NetPort, PathBeneath,
    PathFd, Ruleset, RulesetAttr as _, RulesetCreated, RulesetCreatedAttr as _, RulesetError, Scope,
    path_beneath_rules,
};

use super::{paths, rules::Rules};

/// The oldest version that is good enough: before it, a file that may not be written can still be truncated.
const FLOOR: ABI = ABI::V3;
/// The newest version whose file rights were reviewed; those that the kernel does not know are left out.
const KNOWN: ABI = ABI::V9;

fn strict() -> Ruleset {
    Ruleset::default().set_compatibility(CompatLevel::HardRequirement)
}

/// Whether the kernel can confine signals to a domain.
pub(super) fn has_scopes() -> bool {
    strict().scope(Scope::Signal).and_then(Ruleset::create).is_ok()
}

pub(super) fn has_files() -> bool {
    strict().handle_access(AccessFs::from_all(FLOOR)).and_then(Ruleset::create).is_ok()
}

pub(super) fn has_ports() -> bool {
    strict().handle_access(AccessNet::ConnectTcp).and_then(Ruleset::create).is_ok()
}

/// Enters a new domain. Without rules, this does nothing on a kernel that is too old.
pub(super) fn enter(rules: Option<&Rules>) -> Result<(), String> {
    let Some(rules) = rules else {
        let entered = Ruleset::default().scope(Scope::Signal).and_then(Ruleset::create);
        return entered.and_then(RulesetCreated::restrict_self).map(drop).map_err(|error| error.to_string());
    };
    let mut named = Vec::new();
    for (paths, rights) in
        [(&rules.read, AccessFs::from_read(KNOWN)), (&rules.write, AccessFs::from_all(KNOWN))]
    {
        for path in paths {
            let cannot = |error: &dyn std::fmt::Display| format!("{path:?} cannot be used: {error}");
            let file = PathFd::new(path).map_err(|error| cannot(&error))?;
            let is_folder = std::fs::metadata(path).map_err(|error| cannot(&error))?.is_dir();
            let rights = if is_folder { rights } else { rights & AccessFs::from_file(KNOWN) };
            named.push(Ok::<_, RulesetError>(PathBeneath::new(file, rights)));
        }
    }
    restrict(rules, named).map_err(|error| format!("no sandbox: {error}"))
}

/// Enters a domain in which only the contents of this folder can be changed, if the kernel supports that.
pub(super) fn enter_only(folder: &std::path::Path) {
    let entered = || -> Result<(), RulesetError> {
        let created = Ruleset::default().handle_access(AccessFs::from_write(FLOOR))?.create()?;
        let rules = path_beneath_rules([folder], AccessFs::from_write(FLOOR));
        created.add_rules(rules)?.restrict_self().map(drop)
    };
    // Without it the caller can do no more than its user could anyway.
    let _ = entered();
}

fn restrict(
    rules: &Rules,
    named: Vec<Result<PathBeneath<PathFd>, RulesetError>>,
) -> Result<(), RulesetError> {
    let ruleset = Ruleset::default().scope(Scope::Signal)?;
    let tcp = AccessNet::BindTcp | AccessNet::ConnectTcp;
    let ruleset = ruleset
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessFs::from_all(FLOOR))?
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(KNOWN))?
        .handle_access(tcp)?
        .scope(Scope::AbstractUnixSocket)?;
    let created = ruleset
        .create()?
        .add_rules(path_beneath_rules(paths::SYSTEM, AccessFs::from_read(KNOWN)))?
        .add_rules(path_beneath_rules(paths::SYSTEM_DATA, data(false)))?
        .add_rules(path_beneath_rules(paths::DEVICES, data(true)))?
        .add_rules(path_beneath_rules(&rules.program, AccessFs::from_read(KNOWN)))?
        .add_rules(named)?;
    let ports =
        rules.connect.iter().map(|&port| Ok::<_, RulesetError>(NetPort::new(port, AccessNet::ConnectTcp)));
    created.add_rules(ports)?.restrict_self()?;
    Ok(())
}

/// Rights to files that are only data: read, or read and write, but never execute.
fn data(write: bool) -> BitFlags<AccessFs> {
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    if write { read | AccessFs::WriteFile | AccessFs::Truncate | AccessFs::IoctlDev } else { read }
}
