//! Programs of different sessions are kept apart from each other and from the gateway.

use std::{fs, process::Command};

use crate::{
    attacker::{Attacker, arguments, for_everybody, gateway, has_landlock, is_root, left_out, python},
    help::{Folder, PROGRAM, Program, until},
};

/// What one process may try against another, `PID`.
const ATTACKS: [&str; 9] = [
    r#"write("/proc/PID/fd/1", '{"jsonrpc":"2.0","method":"notifications/forged"}\n')"#,
    r#"read("/proc/PID/environ")"#,
    r#"os.kill(PID, signal.SIGURG)"#,
    // PTRACE_SEIZE, PTRACE_DETACH.
    "check(libc.ptrace(0x4206, PID, 0, 0)); libc.ptrace(17, PID, 0, 0)",
    r#"open("/proc/PID/mem", "rb").close()"#,
    // pidfd_open, pidfd_getfd.
    "os.close(check(libc.syscall(438, check(libc.syscall(434, PID, 0)), 1, 0)))",
    r#"os.listdir("/proc/PID/cwd")"#,
    r#"os.readlink("/proc/PID/fd/0")"#,
    r#"read("/proc/PID/maps")"#,
];

fn against(attack: &str, pid: impl std::fmt::Display) -> String {
    attack.replace("PID", &pid.to_string())
}

#[test]
fn a_program_can_do_nothing_to_another_session_s_program_or_to_the_gateway() {
    const NAME: &str = "a program against another session's";
    let Some(python) = python(NAME) else { return };
    if !has_landlock(6, NAME) {
        return;
    }
    let gateway = gateway(python, &["--env", "TOKEN=s3cret"]);
    let (mut a, mut b) = (Attacker::new(&gateway), Attacker::new(&gateway));
    assert_eq!(a.runs("r = read('/proc/self/environ').count('TOKEN=s3cret')"), "1");
    for victim in [b.pid.clone(), gateway.pid().to_string()] {
        for attack in ATTACKS {
            a.is_refused(&against(attack, &victim));
        }
    }
    a.is_refused(&against("os.kill(PID, signal.SIGKILL)", &b.pid));
    assert_eq!(b.runs("r = 'I am well'"), "I am well");
    // What it starts is no better, and what it starts in another session of the system neither.
    let inside =
        format!("subprocess.run(['cat', '/proc/{}/environ'], stderr=subprocess.DEVNULL, check=True)", b.pid);
    let answer = a.runs(&inside);
    assert!(answer.contains("CalledProcessError"), "{answer}");
    assert!(!gateway.log.so_far().contains("kept apart"), "nothing is missing here");
}

/// The other side of the test before: without, the attacks reach their aim.
#[test]
fn without_isolation_programs_of_one_user_can_do_everything_to_each_other() {
    let Some(python) = python("a program without isolation") else { return };
    let gateway = gateway(python, &["--no-isolation"]);
    let (mut a, mut b) = (Attacker::new(&gateway), Attacker::new(&gateway));
    for attack in &ATTACKS[..3] {
        a.does(&against(attack, &b.pid));
    }
    let forged = b.event();
    assert!(forged.contains("notifications/forged"), "{forged}");
    assert_eq!(b.runs("r = 'I am well'"), "I am well");
    assert_eq!(
        a.runs("r = [l for l in read('/proc/self/status').splitlines() if 'NoNewPrivs' in l][0]"),
        "NoNewPrivs:\t0"
    );
}

#[test]
fn a_program_can_do_to_its_own_processes_what_it_always_could() {
    let Some(python) = python("a program and its own processes") else { return };
    let gateway = gateway(python, &[]);
    let mut a = Attacker::new(&gateway);
    a.does("p = subprocess.Popen(['sleep', '1000']); read(f'/proc/{p.pid}/environ'); os.kill(p.pid, signal.SIGTERM); p.wait()");
    a.does("p = subprocess.Popen(['sleep', '1000'], start_new_session=True); os.killpg(p.pid, signal.SIGKILL); p.wait()");
    // Nothing else has changed: files, and the network.
    a.does("read('/etc/passwd')");
    a.does(&format!("connect({})", gateway.address.rsplit(':').next().unwrap()));
    assert_eq!(
        a.runs("r = [l for l in read('/proc/self/status').splitlines() if 'NoNewPrivs' in l][0]"),
        "NoNewPrivs:\t1"
    );
}

/// The gateway's environment holds what `--clean-env` keeps from programs.
#[test]
fn the_gateway_and_its_keepers_are_closed_to_programs_of_the_same_user() {
    const NAME: &str = "the gateway's environment against its own user";
    let Some(python) = python(NAME) else { return };
    let folder = Folder::new();
    let program = for_everybody(&folder);
    let mut command = Command::new(program);
    command.env("SECRET", "s3cret").current_dir("/");
    // Root may read everything.
    if is_root() {
        std::os::unix::process::CommandExt::uid(&mut command, 54_321);
    }
    command.args(["serve", "--port", "0"]).args(arguments(python, &["--no-isolation", "--clean-env"]));
    let gateway = Program::prepare_command(command).piped();
    let mut a = Attacker::new(&gateway);
    assert_eq!(a.runs("r = 'SECRET' in os.environ"), "False");
    a.is_refused(&format!("read('/proc/{}/environ')", gateway.pid()));
    a.is_refused(&format!("open('/proc/{}/mem')", gateway.pid()));
    a.is_refused(&format!("os.listdir('/proc/{}/fd')", gateway.pid()));
    // A signal is not: that is what the domain is for.
    let others = format!(
        "r = [open('/proc/%s/cmdline' % p).read() for t in os.listdir('/proc/{0}/task') for p in open('/proc/{0}/task/%s/children' % t).read().split()]",
        gateway.pid()
    );
    assert!(a.runs(&others).contains("__keep"));
    a.is_refused(
        &others
            .replace("cmdline", "environ")
            .replace("for p in", "for p in sorted(")
            .replace("split()]", "split())]"),
    );
}

/// Both words of a process before the gateway itself: the one that starts it again as the second process of a container.
#[test]
fn the_first_process_of_a_container_is_closed_too() {
    let folder = Folder::new();
    let program = for_everybody(&folder);
    let mut command = Command::new(program);
    command.args(["__init", "demo", "--port", "0"]).current_dir("/");
    if is_root() {
        std::os::unix::process::CommandExt::uid(&mut command, 54_322);
    }
    let init = Program::prepare_command(command).piped();
    // Files of a process that is not dumpable belong to root.
    let owner = |pid: u32| {
        std::os::unix::fs::MetadataExt::uid(&fs::metadata(format!("/proc/{pid}/environ")).unwrap())
    };
    assert_eq!(owner(init.pid()), 0);
}

/// As on an older kernel: whoever asks for Landlock is told that there is none.
const WITHOUT_LANDLOCK: &str = r#"
import ctypes, os, struct, sys
program = b"".join(struct.pack("HBBI", *i) for i in [
    (0x20, 0, 0, 0), (0x35, 0, 2, 444), (0x25, 1, 0, 446), (0x06, 0, 0, 0x00050026), (0x06, 0, 0, 0x7fff0000)])
buffer = ctypes.create_string_buffer(program)
class Filter(ctypes.Structure):
    _fields_ = [("len", ctypes.c_ushort), ("filter", ctypes.c_void_p)]
libc = ctypes.CDLL(None)
assert libc.prctl(38, 1, 0, 0, 0) == 0
assert libc.prctl(22, 2, ctypes.byref(Filter(5, ctypes.addressof(buffer)))) == 0
os.execv(sys.argv[1], sys.argv[1:])
"#;

#[test]
fn what_is_missing_by_default_is_one_line_and_what_was_asked_for_an_error() {
    let Some(python) = python("a kernel without Landlock") else { return };
    let with = |options: &[&str]| {
        let mut command = Command::new(python);
        command.args(["-c", WITHOUT_LANDLOCK, PROGRAM, "serve", "--port", "0"]);
        command.args(arguments(python, options));
        command
    };
    let gateway = Program::prepare_command(with(&[])).piped();
    let (mut a, b) = (Attacker::new(&gateway), Attacker::new(&gateway));
    a.does(&format!("os.kill({}, signal.SIGURG)", b.pid));
    let log = gateway.log.so_far();
    assert_eq!(
        log.matches("children are not kept apart: this system has no Landlock scopes").count(),
        1,
        "{log}"
    );
    for (options, expected) in [
        (
            &["--sandbox"][..],
            "error: --sandbox: this kernel has no Landlock rules for files; expected Linux 6.2",
        ),
        (&["--sandbox", "--allow-connect", "443"], "error: --sandbox: this kernel has no Landlock"),
    ] {
        let output = with(options).output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{stderr}");
        assert!(stderr.starts_with(expected) && stderr.lines().count() == 1, "{stderr}");
    }
    // Who does not want it is not told.
    let gateway = Program::prepare_command(with(&["--no-isolation"])).piped();
    drop(Attacker::new(&gateway));
    assert!(!gateway.log.so_far().contains("kept apart"));
}

/// A setuid program of our own, to see whether it gains what it was given.
#[test]
fn a_program_gains_no_privileges_unless_it_may() {
    const NAME: &str = "setuid programs";
    let Some(python) = python(NAME) else { return };
    if !is_root() {
        return left_out(NAME, "only root can make one");
    }
    let folder = Folder::new();
    let program = for_everybody(&folder);
    let cat = folder.path("cat");
    fs::copy("/bin/cat", &cat).unwrap();
    fs::set_permissions(&cat, std::os::unix::fs::PermissionsExt::from_mode(0o4755)).unwrap();
    let secret = folder.write("secret", "s3cret");
    fs::set_permissions(&secret, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    for (options, expected) in [(&[][..], ""), (&["--no-isolation"][..], "s3cret")] {
        let mut command = Command::new(&program);
        std::os::unix::process::CommandExt::uid(&mut command, 54_323);
        command.args(["serve", "--port", "0"]).args(arguments(python, options)).current_dir("/");
        let gateway = Program::prepare_command(command).piped();
        let mut a = Attacker::new(&gateway);
        let said = a.runs(&format!(
            "r = subprocess.run(['{cat}', '{secret}'], capture_output=True, text=True).stdout"
        ));
        assert_eq!(said, expected, "{options:?}");
    }
}

/// The domain is the program's, not that of those who have to end it.
#[test]
fn whoever_ends_a_program_still_can() {
    let stubborn = "trap '' TERM; echo up >&2; while :; do sleep 1000; done";
    let gateway = Program::script(&["--resume-window", "0s", "--stop-timeout", "50ms"], stubborn);
    let client = gateway.connect();
    client.accepted(crate::help::INITIALIZE);
    gateway.log.until_says("stderr: up");
    drop(client);
    let log = gateway.log.until_says("server ended");
    assert!(log.contains("forced=\"SIGKILL\""), "{log}");
    let pid = crate::help::pids(&log)[0];
    until("it is gone", || !std::path::Path::new(&format!("/proc/{pid}")).exists());
}
