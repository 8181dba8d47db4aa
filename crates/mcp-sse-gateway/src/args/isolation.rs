//! Options for what a program may access on the machine.

use std::time::Duration;

use super::values::{at_least_one, duration};
use crate::backend::child::isolation::{self, Allowed, Isolation, Limits, Range, Sandbox, parse};

#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Isolation of programs (see docs/security.md)")]
pub(super) struct IsolationOptions {
    /// Let COMMAND gain privileges and access other sessions' programs: for one that uses sudo, other setuid
    /// programs or a debugger
    #[arg(long, conflicts_with = "sandbox")]
    no_isolation: bool,

    /// Restrict COMMAND to its own files, the system's programs and libraries, everything below --cwd, and a
    /// temporary folder for its session, without network access
    #[arg(long)]
    sandbox: bool,

    /// File or folder that COMMAND may read and execute despite --sandbox; with `:rw` also write. Repeatable
    #[arg(long, value_name = "PATH[:ro|:rw]", requires = "sandbox", value_parser = parse::allowed_path)]
    allow_path: Vec<Allowed>,

    /// TCP port that COMMAND may connect to despite --sandbox, on any host; it may then also use UDP, to resolve
    /// names. Repeatable
    #[arg(long, value_name = "PORT", requires = "sandbox", value_parser = clap::value_parser!(u16).range(1..))]
    allow_connect: Vec<u16>,

    /// Private writable memory that each process of COMMAND may map, as in `512MiB`
    #[arg(long, value_name = "SIZE", value_parser = parse::bytes)]
    limit_memory: Option<u64>,

    /// Total CPU time of each process of COMMAND, in whole seconds
    #[arg(long, value_name = "TIME", value_parser = duration)]
    limit_cpu: Option<Duration>,

    /// Files that each process of COMMAND may have open at once
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    limit_files: Option<usize>,

    /// Processes and threads that a session may have at once; needs --user-range
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    limit_processes: Option<usize>,

    /// As root: run each session's program as its own user and group, with ids from this range, as in
    /// `20000-20999`
    #[arg(long, value_name = "FROM-TO", value_parser = parse::range)]
    user_range: Option<Range>,
}

impl IsolationOptions {
    /// The settings for COMMAND, checked against what the system supports.
    pub(super) fn isolation(&self) -> Result<Isolation, String> {
        let to_u64 = |number: Option<usize>| number.map(|number| u64::try_from(number).unwrap_or(u64::MAX));
        let cpu = |time| parse::seconds(time).map_err(|why| format!("--limit-cpu: {why}"));
        let limits = Limits {
            memory: self.limit_memory,
            cpu: self.limit_cpu.map(cpu).transpose()?,
            files: to_u64(self.limit_files),
            processes: to_u64(self.limit_processes),
        };
        if limits != Limits::default() {
            isolation::check_limits().map_err(|why| format!("--limit-…: {why}"))?;
        }
        if limits.processes.is_some() {
            isolation::check_processes(self.user_range).map_err(|why| format!("--limit-processes: {why}"))?;
        }
        if self.sandbox {
            isolation::check_sandbox().map_err(|why| format!("--sandbox: {why}"))?;
        }
        if !self.allow_connect.is_empty() {
            isolation::check_ports().map_err(|why| format!("--allow-connect: {why}"))?;
        }
        let sandbox = || Sandbox { paths: self.allow_path.clone(), connect: self.allow_connect.clone() };
        Ok(Isolation { own_domain: !self.no_isolation, sandbox: self.sandbox.then(sandbox), limits })
    }

    /// Whether any option is given that applies to COMMAND.
    pub(super) fn is_asked_for(&self) -> bool {
        let Self { limit_memory, limit_cpu, limit_files, limit_processes, .. } = self;
        self.no_isolation
            || self.sandbox
            || limit_memory.is_some()
            || limit_cpu.is_some()
            || limit_files.is_some()
            || limit_processes.is_some()
    }

    pub(super) fn users(&self, sessions: usize, programs: bool) -> Result<Option<Range>, String> {
        let Some(range) = self.user_range else { return Ok(None) };
        if !programs {
            return Err("--user-range is for programs: give one, or a configuration file".to_owned());
        }
        let Range { from, to } = range;
        isolation::check_users(range, sessions).map_err(|why| format!("--user-range {from}-{to}: {why}"))?;
        Ok(Some(range))
    }
}
