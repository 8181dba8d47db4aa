//! The program under test, and a client against it.

use std::{
    ffi::OsString,
    io::{BufRead, BufReader, Write as _},
    path::Path,
    process::{Child, Command, Stdio},
};

use crate::tools::{self, output, root};

/// The key that the clients send, with a name before it.
const KEY: &str = "interop interop-secret-0123456789\n";

/// Starts the program, runs one client against it, and stops it again.
pub(super) fn client(interpreter: &Path, script: &Path) -> Result<String, String> {
    client_of(&["demo".into()], interpreter, script)
}

/// The same with a program that lets nobody in without a key.
pub(super) fn client_with_key(interpreter: &Path, script: &Path) -> Result<String, String> {
    let keys = root().join("target/interop/keys");
    write_private(&keys, KEY).map_err(|error| format!("{}: {error}", keys.display()))?;
    client_of(&["demo".into(), "--bearer-token-file".into(), keys.into()], interpreter, script)
}

/// Writes a file that only its owner may read.
fn write_private(path: &Path, text: &str) -> std::io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt as _;
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600).open(path)?.write_all(text.as_bytes())
}

fn client_of(arguments: &[OsString], interpreter: &Path, script: &Path) -> Result<String, String> {
    let mut program = Program::start(arguments)?;
    let mut command = Command::new(interpreter);
    command.arg(script).args(["--url", &program.url]);
    checks(&mut program, &mut command)
}

/// Runs a client against the program, stops both, and returns the client's last line if nothing failed.
pub(super) fn checks(program: &mut Program, command: &mut Command) -> Result<String, String> {
    let (ok, text) = output(command)?;
    let stopped = program.stop();
    let closes = |line: &&str| line.contains(" passed, ") || line.contains(" left out: ");
    let last = text.lines().rev().find(closes).unwrap_or("no closing line").to_owned();
    let failed: Vec<_> = text.lines().filter(|line| line.starts_with("FAIL ")).collect();
    match (ok && failed.is_empty() && last.contains(" 0 failed"), stopped) {
        (true, Ok(())) => Ok(last),
        (true, Err(error)) => Err(error),
        (false, _) => Err(format!("{last}; {}", failed.join("; "))),
    }
}

/// The program under test, on a free port.
pub(super) struct Program {
    child: Child,
    pub(super) url: String,
}

impl Program {
    /// With this command and what stands behind it.
    pub(super) fn start(arguments: &[OsString]) -> Result<Self, String> {
        let (command, others) = arguments.split_first().ok_or("no command")?;
        let mut child = Command::new(root().join("target/release/mcp-sse"))
            .arg(command)
            .args(["--port", "0", "--log-level", "warn,mcp_sse=info"])
            .args(others)
            .current_dir(root())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| format!("mcp-sse: {error}"))?;
        let stdout = child.stdout.take().ok_or("mcp-sse has no stdout")?;
        let mut lines = BufReader::new(stdout).lines();
        let url = lines.find_map(|line| {
            let line = line.ok()?;
            line.split_whitespace().find(|word| word.starts_with("http://")).map(str::to_owned)
        });
        // What it says later must not fill the pipe.
        std::thread::spawn(move || lines.for_each(drop));
        let mut program = Self { child, url: String::new() };
        program.url =
            url.ok_or_else(|| format!("mcp-sse did not say where it listens: {:?}", program.child.wait()))?;
        Ok(program)
    }

    /// SIGTERM; the program must end by itself, with success.
    fn stop(&mut self) -> Result<(), String> {
        tools::run(Command::new("kill").args(["-TERM", &self.child.id().to_string()]))?;
        let status = self.child.wait().map_err(|error| error.to_string())?;
        if status.success() { Ok(()) } else { Err(format!("mcp-sse ended with {status} after SIGTERM")) }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
