//! What to start for a session, and with which environment.

use std::{collections::BTreeMap, ffi::OsString, path::PathBuf};

use http::{HeaderName, request::Parts};

use super::isolation::Isolation;

/// The variables of our environment that a child with a clean one still gets, since hardly any program runs
/// without them. The official SDKs pass the same ones.
const KEPT: [&str; 6] = ["HOME", "LOGNAME", "PATH", "SHELL", "TERM", "USER"];

/// Programs that start others, and the arguments that may come before the name of the program to start.
const LAUNCHERS: [&str; 11] =
    ["bun", "bunx", "deno", "node", "npx", "pipx", "pnpm", "python", "python3", "uv", "uvx"];
const BEFORE: [&str; 8] = ["-m", "-q", "-y", "--quiet", "--yes", "dlx", "run", "tool"];

/// A program and how to start it, without a shell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Command {
    pub(crate) program: OsString,
    pub(crate) args: Vec<OsString>,
    pub(crate) env: BTreeMap<String, OsString>,
    pub(crate) clean_env: bool,
    pub(crate) cwd: Option<PathBuf>,
    /// Headers of the client, each with the variable that its value goes to.
    pub(crate) env_from_header: Vec<(HeaderName, String)>,
    pub(crate) isolation: Isolation,
}

impl Command {
    pub(crate) fn new(program: impl Into<OsString>) -> Self {
        Self {
            program: program.into(),
            args: Vec::new(),
            env: BTreeMap::new(),
            clean_env: false,
            cwd: None,
            env_from_header: Vec::new(),
            isolation: Isolation::default(),
        }
    }

    /// Whether this command sets the variable, rather than inheriting it.
    pub(super) fn sets(&self, variable: &str) -> bool {
        self.env.contains_key(variable) || self.env_from_header.iter().any(|(_, name)| name == variable)
    }

    /// The program's name, for display.
    pub(crate) fn name(&self) -> String {
        self.program.to_string_lossy().into_owned()
    }

    /// The program's name for display; for a launcher, followed by what it launches. Other arguments may be secret.
    pub(crate) fn label(&self) -> String {
        let name = self.name();
        let launcher = std::path::Path::new(&self.program).file_stem().and_then(|stem| stem.to_str());
        let started = self.args.iter().map(|arg| arg.to_string_lossy()).find(|arg| !BEFORE.contains(&&**arg));
        match started.filter(|started| !started.starts_with('-')) {
            Some(started) if launcher.is_some_and(|launcher| LAUNCHERS.contains(&launcher)) => {
                format!("{name} {started}")
            }
            _ => name,
        }
    }

    /// Sets environment and working directory. A variable from a header is unset if the header is missing, even if
    /// it could be inherited: a client must not get a value that was meant for another.
    pub(super) fn apply(&self, command: &mut tokio::process::Command, parts: &Parts) {
        if self.clean_env {
            command.env_clear();
            for name in KEPT {
                if let Some(value) = std::env::var_os(name) {
                    command.env(name, value);
                }
            }
        }
        // What systemd has for us is not for them.
        for variable in ["NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC"] {
            command.env_remove(variable);
        }
        command.envs(&self.env);
        for (header, variable) in &self.env_from_header {
            let mut values = parts.headers.get_all(header).iter();
            let value = values.next();
            let text = value.and_then(|value| value.to_str().ok()).filter(|_| values.next().is_none());
            if value.is_some() && text.is_none() {
                tracing::warn!(%header, variable, "the header is repeated or not ASCII; its variable is not set");
            }
            match text {
                Some(text) => command.env(variable, text),
                None => command.env_remove(variable),
            };
        }
        if let Some(cwd) = &self.cwd {
            command.current_dir(cwd);
        }
    }

    /// Where the program is, if it exists now: as a path, or in the `PATH` that it will be started with.
    pub(crate) fn find(&self) -> Option<PathBuf> {
        use std::os::unix::fs::PermissionsExt as _;
        let runs = |path: &PathBuf| {
            path.metadata().is_ok_and(|data| data.is_file() && data.permissions().mode() & 0o111 != 0)
        };
        let base = self.cwd.clone().unwrap_or_default();
        if self.program.to_string_lossy().contains('/') {
            return Some(base.join(&self.program)).filter(runs);
        }
        let path = self.env.get("PATH").cloned().or_else(|| std::env::var_os("PATH"))?;
        std::env::split_paths(&path).map(|folder| base.join(folder).join(&self.program)).find(runs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_found_by_path_or_in_its_path() {
        assert!(Command::new("sh").find().is_some());
        assert!(Command::new("/bin/sh").find().is_some());
        assert_eq!(Command::new("/etc/passwd").find(), None);
        assert_eq!(Command::new("no such program").find(), None);
        let mut elsewhere = Command::new("sh");
        elsewhere.env.insert("PATH".into(), "/nowhere".into());
        assert_eq!(elsewhere.find(), None);
        let mut here = Command::new("./sh");
        here.cwd = Some("/bin".into());
        assert!(here.find().is_some());
    }
}
