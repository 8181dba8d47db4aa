//! A server that does what its client tells it to, as a malicious one might, and what such tests need of the machine.

use std::{
    fs,
    io::Write as _,
    path::Path,
    process::{Command, Stdio},
};

use serde_json::{Value, json};

use crate::help::{Client, Folder, INITIALIZE, Program};

/// It runs the code that it gets, and answers with what that leaves in `r`, or with the error's name.
const SERVER: &str = r#"
import ctypes, errno, json, os, signal, socket, subprocess, sys
libc = ctypes.CDLL(None, use_errno=True)
def check(result):
    if result == -1:
        raise OSError(ctypes.get_errno(), "")
    return result
def read(path):
    with open(path, "rb") as file:
        return file.read().decode(errors="replace")
def write(path, text):
    with open(path, "w") as file:
        file.write(text)
def connect(port, protocol=0):
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, protocol) as s:
        s.connect(("127.0.0.1", port))
for line in sys.stdin:
    message = json.loads(line)
    if "id" not in message:
        continue
    here = dict(globals())
    here["r"] = "done"
    try:
        exec(message.get("params", {}).get("code", ""), here)
        r = str(here["r"])
    except OSError as error:
        r = "refused " + errno.errorcode.get(error.errno, str(error.errno))
    except Exception as error:
        r = "error " + repr(error)
    print(json.dumps({"jsonrpc": "2.0", "id": message["id"], "result": {"r": r}}, separators=(",", ":")), flush=True)
"#;

/// Python of the system: it can be used by every user and in a sandbox. Without it there is a line in the test's
/// output.
pub(crate) fn python(test: &str) -> Option<&'static str> {
    let found = ["/usr/bin/python3", "/usr/local/bin/python3", "/bin/python3"]
        .into_iter()
        .find(|path| Path::new(path).exists());
    if found.is_none() {
        left_out(test, "no python3 in /usr/bin or /usr/local/bin");
    }
    found
}

pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Says in the output of the test run, where nothing captures it, what was not tested.
pub(crate) fn left_out(test: &str, why: &str) {
    let line = format!("LEFT OUT  {test}: {why}\n");
    let _ = std::io::stderr().lock().write_all(line.as_bytes());
}

/// The version of Landlock that the kernel has; 0 without.
pub(crate) fn landlock() -> i32 {
    let ask = "import ctypes; print(max(0, ctypes.CDLL(None).syscall(444, None, 0, 1)))";
    let output = Command::new("python3").args(["-c", ask]).stderr(Stdio::null()).output();
    output.ok().and_then(|output| String::from_utf8_lossy(&output.stdout).trim().parse().ok()).unwrap_or(0)
}

/// Whether the kernel has this version; if not, there is a line in the test's output.
pub(crate) fn has_landlock(version: i32, test: &str) -> bool {
    let has = landlock();
    if has < version {
        left_out(test, &format!("this kernel has version {has} of Landlock, not {version}"));
    }
    has >= version
}

/// The gateway in front of the attacker, by a command line that ends before its options.
pub(crate) fn arguments(python: &str, options: &[&str]) -> Vec<String> {
    let mut arguments: Vec<String> = options.iter().map(|&option| option.to_owned()).collect();
    arguments.extend(["--", python, "-c", SERVER].map(str::to_owned));
    arguments
}

pub(crate) fn gateway(python: &str, options: &[&str]) -> Program {
    Program::start("serve", &arguments(python, options))
}

/// A client whose server does its bidding.
pub(crate) struct Attacker<'a> {
    client: Client<'a>,
    next: u32,
    pub(crate) pid: String,
}

impl<'a> Attacker<'a> {
    pub(crate) fn new(gateway: &'a Program) -> Self {
        Self::new_at(gateway, "/sse")
    }

    pub(crate) fn new_at(gateway: &'a Program, path: &str) -> Self {
        let mut client = gateway.connect_at(path);
        client.accepted(INITIALIZE);
        let answer = client.answer(0);
        assert!(answer.contains("result"), "{answer}\n{}", gateway.log.so_far());
        let mut attacker = Self { client, next: 1_000, pid: String::new() };
        attacker.pid = attacker.runs("r = os.getpid()");
        attacker
    }

    /// What the code leaves in `r`, or how it was refused.
    pub(crate) fn runs(&mut self, code: &str) -> String {
        let id = self.begins(code);
        let answer = self.client.answer(id);
        let value: Value = serde_json::from_str(&answer).unwrap();
        value["result"]["r"].as_str().unwrap_or(&answer).to_owned()
    }

    /// Does not wait for the answer, whose id is returned.
    pub(crate) fn begins(&mut self, code: &str) -> u32 {
        self.next += 1;
        let message = json!({"jsonrpc": "2.0", "id": self.next, "method": "run", "params": {"code": code}});
        self.client.accepted(&message.to_string());
        self.next
    }

    pub(crate) fn answer(&mut self, id: u32) -> String {
        self.client.answer(id)
    }

    /// The next event.
    pub(crate) fn event(&mut self) -> String {
        self.client.data()
    }

    pub(crate) fn is_refused(&mut self, code: &str) {
        let answer = self.runs(code);
        assert!(answer.starts_with("refused E"), "{code}\n{answer}");
    }

    pub(crate) fn does(&mut self, code: &str) {
        let answer = self.runs(code);
        assert_eq!(answer, "done", "{code}");
    }
}

/// The program in a folder that every user may enter, as a build folder below a home may not be.
pub(crate) fn for_everybody(folder: &Folder) -> String {
    let path = folder.path("mcp-sse");
    if fs::hard_link(crate::help::PROGRAM, &path).is_err() {
        fs::copy(crate::help::PROGRAM, &path).unwrap();
    }
    path
}
