//! `--user-range`: each session's program is a user of its own.

use std::{fs, path::Path};

use crate::{
    attacker::{Attacker, gateway, is_root, left_out, python},
    help::{count, until},
};

/// A user that this test alone has on this machine, and the nine after it.
fn first(test: u32) -> u32 {
    1_000_000_000 + std::process::id() % 1_000_000 * 1_000 + test * 10
}

fn options(test: u32) -> [String; 6] {
    let from = first(test);
    let range = format!("{from}-{}", from + 9);
    ["--user-range", &range, "--max-sessions", "10", "--resume-window", "0s"].map(str::to_owned)
}

fn ready(name: &str) -> Option<&'static str> {
    if !is_root() {
        left_out(name, "only root can start programs as other users");
        return None;
    }
    python(name)
}

#[test]
fn each_session_is_a_user_of_its_own_and_sees_nothing_of_another_s() {
    let Some(python) = ready("users of sessions") else { return };
    let options = options(0);
    // Not by Landlock.
    let mut options: Vec<&str> = options.iter().map(String::as_str).collect();
    options.push("--no-isolation");
    let gateway = gateway(python, &options);
    let (mut a, mut b) = (Attacker::new(&gateway), Attacker::new(&gateway));
    let ids = "r = [os.getresuid(), os.getresgid(), os.getgroups()]";
    let (of_a, of_b) = (a.runs(ids), b.runs(ids));
    assert_ne!(of_a, of_b);
    for ids in [&of_a, &of_b] {
        let user = (first(0)..first(0) + 10).find(|user| ids.contains(&format!("({user}, ")));
        let user = user.unwrap_or_else(|| panic!("{ids}"));
        assert_eq!(*ids, format!("[({user}, {user}, {user}), ({user}, {user}, {user}), []]"));
    }
    let folder = b.runs("r = os.environ['TMPDIR']");
    assert_eq!(b.runs("r = os.environ['HOME']"), folder);
    b.does("write(os.environ['TMPDIR'] + '/mine', 'x'); os.chmod(os.environ['TMPDIR'] + '/mine', 0o666)");
    for code in [
        format!("os.listdir('{folder}')"),
        format!("read('{folder}/mine')"),
        format!("write('/proc/{}/fd/1', 'x')", b.pid),
        format!("read('/proc/{}/environ')", b.pid),
        format!("os.kill({}, 0)", b.pid),
        format!("import resource; resource.prlimit({}, resource.RLIMIT_CPU, (1, 1))", b.pid),
        format!("read('/proc/{}/environ')", gateway.pid()),
        format!("os.kill({}, 0)", gateway.pid()),
        "os.setuid(0)".to_owned(),
        "read('/etc/shadow')".to_owned(),
    ] {
        a.is_refused(&code);
    }
    // What a program may always do.
    a.does("write('/dev/stderr', 'hello\\n'); read('/etc/passwd')");
    gateway.log.until_says("hello");
}

#[test]
fn a_user_is_given_to_another_only_when_its_last_process_is_gone() {
    let Some(python) = ready("users given back") else { return };
    let options = options(1);
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    let gateway = gateway(python, &options);
    let mut users = Vec::new();
    for _ in 0..12 {
        let mut a = Attacker::new(&gateway);
        users.push(a.runs("r = os.getuid()"));
        // In a session and a group of its own, and nobody's child.
        let pid = a.runs(
            "r = subprocess.run(['sh', '-c', 'setsid sleep 1000 >/dev/null 2>&1 & echo $!'], capture_output=True, text=True).stdout.strip()",
        );
        assert!(Path::new(&format!("/proc/{pid}")).exists());
        drop(a);
        until("what it left behind is ended", || {
            !fs::read_to_string(format!("/proc/{pid}/status"))
                .is_ok_and(|status| !status.contains("State:\tZ"))
        });
    }
    let log = gateway.log.until("twelve ends", |log| count(log, "server ended") == 12);
    assert!(!log.contains("stays"), "{log}");
    // In turns.
    let mut first = users[..10].to_vec();
    first.sort();
    first.dedup();
    assert_eq!(first.len(), 10, "{users:?}");
    assert!(users[10..].iter().all(|user| first.contains(user)), "{users:?}");
}

#[test]
fn a_user_with_a_process_of_others_is_left_alone() {
    let Some(python) = ready("users that live already") else { return };
    let mut other = std::process::Command::new("sleep");
    std::os::unix::process::CommandExt::uid(&mut other, first(2));
    let mut other = other.arg("1000").spawn().unwrap();
    let options = options(2);
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    let gateway = gateway(python, &options);
    let mut sessions: Vec<_> = (0..9).map(|_| Attacker::new(&gateway)).collect();
    for session in &mut sessions {
        assert_ne!(session.runs("r = os.getuid()"), first(2).to_string());
    }
    assert!(matches!(other.try_wait(), Ok(None)), "and it lives");
    other.kill().unwrap();
    other.wait().unwrap();
}

#[test]
fn a_user_cannot_have_more_processes_than_the_limit() {
    let Some(python) = ready("the limit on processes") else { return };
    let options = options(3);
    let mut options: Vec<&str> = options.iter().map(String::as_str).collect();
    options.extend(["--limit-processes", "5"]);
    let gateway = gateway(python, &options);
    let (mut a, mut b) = (Attacker::new(&gateway), Attacker::new(&gateway));
    let forks = "children = []\nfor _ in range(20):\n    pid = os.fork()\n    if pid == 0:\n        signal.pause()\n    children.append(pid)";
    assert_eq!(a.runs(forks), "refused EAGAIN");
    b.does("subprocess.run(['true'], check=True)");
}

#[test]
fn a_user_s_program_dies_with_the_gateway() {
    let Some(python) = ready("users and the gateway's death") else { return };
    let options = options(4);
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    let gateway = gateway(python, &options);
    let a = Attacker::new(&gateway);
    let pid = a.pid.clone();
    gateway.signal("-KILL");
    until("it is gone", || {
        !fs::read_to_string(format!("/proc/{pid}/status")).is_ok_and(|status| !status.contains("State:\tZ"))
    });
    drop(a);
}

#[test]
fn users_and_a_sandbox_go_together() {
    const NAME: &str = "users in a sandbox";
    let Some(python) = ready(NAME) else { return };
    if !crate::attacker::has_landlock(6, NAME) {
        return;
    }
    let options = options(5);
    let mut options: Vec<&str> = options.iter().map(String::as_str).collect();
    options.push("--sandbox");
    let gateway = gateway(python, &options);
    let mut a = Attacker::new(&gateway);
    let folder = a.runs("r = os.environ['TMPDIR']");
    a.does("write(os.environ['TMPDIR'] + '/x', 'x'); os.mkdir(os.environ['TMPDIR'] + '/d')");
    a.is_refused("write('/tmp/mcp-sse-test-users', 'x')");
    a.is_refused("read('/etc/passwd')");
    drop(a);
    until("it is removed", || !Path::new(&folder).exists());
    gateway.log.until_says("server ended");
}
