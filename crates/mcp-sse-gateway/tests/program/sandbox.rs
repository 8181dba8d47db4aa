//! What a program in a sandbox, or with limits, can and cannot do.

use std::{fs, net::TcpListener};

use crate::{
    attacker::{Attacker, gateway, has_landlock, is_root, left_out, python},
    help::{Folder, refused, until},
};

#[test]
fn a_sandbox_has_its_working_directory_its_own_files_and_no_others() {
    const NAME: &str = "files of a sandbox";
    let Some(python) = python(NAME) else { return };
    if !has_landlock(3, NAME) {
        return;
    }
    let folder = Folder::new();
    for name in ["cwd", "outside", "read", "write"] {
        fs::create_dir(folder.path(name)).unwrap();
        folder.write(&format!("{name}/file"), name);
    }
    let (cwd, outside) = (folder.path("cwd"), folder.path("outside"));
    let (read, write) = (folder.path("read"), folder.path("write"));
    let options = ["--sandbox", "--cwd", &cwd, "--allow-path", &read, "--allow-path", &format!("{write}:rw")];
    let gateway = gateway(python, &options);
    let mut a = Attacker::new(&gateway);
    for code in [
        format!("read('{outside}/file')"),
        format!("read('{cwd}/../outside/file')"),
        format!("os.listdir('{outside}')"),
        format!("write('{outside}/new', 'x')"),
        format!("os.truncate('{outside}/file', 0)"),
        format!("os.unlink('{outside}/file')"),
        format!("os.rename('{outside}/file', '{cwd}/stolen')"),
        format!("os.link('{outside}/file', '{cwd}/linked')"),
        format!("os.symlink('{outside}/file', '{cwd}/link'); read('{cwd}/link')"),
        format!("write('{read}/file', 'x')"),
        format!("os.unlink('{read}/file')"),
        "read('/etc/passwd')".to_owned(),
        "read('/etc/shadow')".to_owned(),
        "os.listdir('/root' if os.getuid() == 0 else '/home')".to_owned(),
        "os.listdir('/tmp')".to_owned(),
        "write('/tmp/mcp-sse-test-outside', 'x')".to_owned(),
        "write('/dev/shm/mcp-sse-test-outside', 'x')".to_owned(),
        "write('/usr/mcp-sse-test-outside', 'x')".to_owned(),
        "open('/dev/tty')".to_owned(),
        format!("read('/proc/{}/cmdline')", gateway.pid()),
        "open('/proc/sys/kernel/core_pattern', 'r+')".to_owned(),
    ] {
        a.is_refused(&code);
    }
    for code in [
        format!("write('{cwd}/new', 'x'); write('file', 'x'); read('file'); os.mkdir('d'); os.rename('new', 'd/new')"),
        format!("write('{write}/file', 'x'); read('{write}/file')"),
        format!("read('{read}/file'); os.listdir('{read}')"),
        "write(os.environ['TMPDIR'] + '/x', 'x'); import tempfile; tempfile.NamedTemporaryFile().close()".to_owned(),
        "subprocess.run(['sh', '-c', 'ls /usr >/dev/null && cat /proc/self/status >/dev/null || exit 0'], check=True)".to_owned(),
        "import ssl, sqlite3, json.tool; open('/dev/urandom', 'rb').read(1); read('/proc/meminfo')".to_owned(),
        "socket.socketpair(); os.pipe(); socket.getaddrinfo('localhost', 80)".to_owned(),
    ] {
        a.does(&code);
    }
    assert_eq!(fs::read_to_string(folder.path("outside/file")).unwrap(), "outside");
}

#[test]
fn without_a_working_directory_a_sandbox_has_only_its_temporary_folder() {
    const NAME: &str = "a sandbox without a working directory";
    let Some(python) = python(NAME) else { return };
    if !has_landlock(3, NAME) {
        return;
    }
    let gateway = gateway(python, &["--sandbox", "--resume-window", "0s"]);
    let mut a = Attacker::new(&gateway);
    let mut b = Attacker::new(&gateway);
    a.is_refused("read('Cargo.toml')");
    a.is_refused("write('mcp-sse-test', 'x')");
    let folders = [a.runs("r = os.environ['TMPDIR']"), b.runs("r = os.environ['TMPDIR']")];
    assert_ne!(folders[0], folders[1]);
    b.does("write(os.environ['TMPDIR'] + '/mine', 'x')");
    a.is_refused(&format!("read('{}/mine')", folders[1]));
    a.is_refused(&format!("os.listdir('{}')", folders[1]));
    // However deep, and closed.
    a.does("os.chdir(os.environ['TMPDIR'])\nfor n in range(1500):\n    os.mkdir('d'); os.chdir('d')\nwrite('f', 'x'); os.chmod('.', 0)");
    drop(a);
    drop(b);
    for folder in &folders {
        until("it is removed", || !std::path::Path::new(folder).exists());
    }
    let base = std::path::Path::new(&folders[0]).parent().unwrap().to_owned();
    assert!(base.exists());
    gateway.signal("-TERM");
    let (_, log) = gateway.end();
    assert!(!base.exists() && !log.contains("stays"), "{log}");
}

#[test]
fn folders_that_a_killed_gateway_left_are_removed_by_the_next() {
    const NAME: &str = "folders of a killed gateway";
    let Some(python) = python(NAME) else { return };
    if !has_landlock(3, NAME) {
        return;
    }
    let killed = gateway(python, &["--sandbox"]);
    let mut a = Attacker::new(&killed);
    let left = a.runs("r = os.environ['TMPDIR']");
    let living = gateway(python, &["--sandbox"]);
    let mut b = Attacker::new(&living);
    let kept = b.runs("r = os.environ['TMPDIR']");
    killed.signal("-KILL");
    drop(a);
    killed.ends();
    assert!(std::path::Path::new(&left).exists());
    let next = gateway(python, &["--sandbox"]);
    let c = Attacker::new(&next);
    until("it is removed", || !std::path::Path::new(&left).exists());
    assert!(std::path::Path::new(&kept).exists(), "the other gateway's stays");
    drop((b, c));
}

#[test]
fn a_sandbox_connects_only_to_the_ports_it_may() {
    const NAME: &str = "the network of a sandbox";
    let Some(python) = python(NAME) else { return };
    if !has_landlock(4, NAME) {
        return;
    }
    let (open, closed) =
        (TcpListener::bind("127.0.0.1:0").unwrap(), TcpListener::bind("127.0.0.1:0").unwrap());
    let port = |listener: &TcpListener| listener.local_addr().unwrap().port();
    let alone = gateway(python, &["--sandbox"]);
    let mut a = Attacker::new(&alone);
    a.is_refused(&format!("connect({})", port(&open)));
    a.is_refused("socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)");
    a.does("socket.socketpair(); socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)");
    let some = gateway(python, &["--sandbox", "--allow-connect", &port(&open).to_string()]);
    let mut b = Attacker::new(&some);
    b.does(&format!("connect({})", port(&open)));
    b.is_refused(&format!("connect({})", port(&closed)));
    b.is_refused(&format!("connect({})", some.address.rsplit(':').next().unwrap()));
    b.is_refused("s = socket.socket(); s.bind(('127.0.0.1', 0)); s.listen()");
    // The rules for ports know plain TCP only.
    for others in [
        // MPTCP, SCTP, ICMP, a raw one, one of packets, one to the host of a virtual machine.
        "socket.AF_INET, socket.SOCK_STREAM, 262",
        "socket.AF_INET6, socket.SOCK_STREAM | socket.SOCK_CLOEXEC, 262",
        "socket.AF_INET, socket.SOCK_SEQPACKET, 132",
        "socket.AF_INET, socket.SOCK_DGRAM, 1",
        "socket.AF_INET, socket.SOCK_RAW, 255",
        "socket.AF_PACKET, socket.SOCK_RAW, 0",
        "40, socket.SOCK_STREAM, 0",
    ] {
        assert_eq!(b.runs(&format!("socket.socket({others})")), "refused EACCES", "{others}");
    }
    // io_uring_setup, by which a socket could be made without asking.
    assert_eq!(b.runs("check(libc.syscall(425, 1, ctypes.create_string_buffer(120)))"), "refused EACCES");
    // The second numbers of x86-64's system calls; that for sockets.
    let second = "check(libc.syscall(0x40000029, 2, 3, 255))";
    if cfg!(target_arch = "x86_64") {
        assert_eq!(b.runs(second), "refused EACCES");
    }
    // For names.
    b.does("socket.socket(socket.AF_INET, socket.SOCK_DGRAM); socket.socket(socket.AF_INET6, socket.SOCK_STREAM, 6)");
}

#[test]
fn a_limit_on_memory_a_limit_on_files_and_a_limit_on_time_hold() {
    const NAME: &str = "limits";
    let Some(python) = python(NAME) else { return };
    let options = ["--limit-memory", "300MiB", "--limit-files", "40", "--limit-cpu", "2s"];
    let gateway = gateway(python, &options);
    let mut a = Attacker::new(&gateway);
    a.does("bytearray(100 << 20)");
    assert_eq!(a.runs("bytearray(400 << 20)"), "error MemoryError()");
    assert_eq!(a.runs("files = [os.pipe() for _ in range(40)]"), "refused EMFILE");
    if !is_root() {
        a.is_refused("import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (1000, 1000))");
    }
    let mut b = Attacker::new(&gateway);
    let id = a.begins("while True: pass");
    let answer = a.answer(id);
    assert!(answer.contains("the server ended (signal: 24 (SIGXCPU)"), "{answer}");
    assert_eq!(b.runs("r = 'I am well'"), "I am well");
}

#[test]
fn the_same_is_asked_for_in_a_file() {
    const NAME: &str = "isolation from a file";
    let Some(python) = python(NAME) else { return };
    if !has_landlock(6, NAME) {
        return;
    }
    let folder = Folder::new();
    let script = crate::attacker::arguments(python, &[]).pop().unwrap();
    let cwd = folder.path("");
    let config = serde_json::json!({"mcpServers": {
        "box": {"command": python, "args": ["-c", script], "cwd": cwd, "sandbox": true, "allowPath": ["/etc/passwd:ro"],
                "limits": {"files": 40, "memory": "300MiB", "cpu": "60s"}},
        "free": {"command": python, "args": ["-c", script], "isolation": false},
    }});
    let file = folder.write("mcp.json", &config.to_string());
    let gateway = crate::help::Program::start("serve", &["--config", &file]);
    let (mut confined, mut free) =
        (Attacker::new_at(&gateway, "/box/sse"), Attacker::new_at(&gateway, "/free/sse"));
    confined.is_refused("read('/etc/hostname')");
    confined.does("read('/etc/passwd'); read('mcp.json')");
    assert_eq!(confined.runs("files = [os.pipe() for _ in range(40)]"), "refused EMFILE");
    confined.is_refused(&format!("os.kill({}, 0)", free.pid));
    free.does(&format!("os.kill({}, 0); read('/etc/passwd')", confined.pid));
}

#[test]
fn what_cannot_be_done_is_an_error_at_the_start() {
    let folder = Folder::new();
    let limited = folder
        .write("limited.json", r#"{"mcpServers": {"a": {"command": "cat", "limits": {"processes": 10}}}}"#);
    let without = folder.write("no.json", r#"{"mcpServers": {"a": {"command": "cat", "allowPath": ["/"]}}}"#);
    let both = folder.write(
        "both.json",
        r#"{"mcpServers": {"a": {"command": "cat", "isolation": false, "sandbox": true}}}"#,
    );
    let slip = folder.write("slip.json", r#"{"mcpServers": {"a": {"command": "cat", "sanbox": true}}}"#);
    let wrong =
        folder.write("wrong.json", r#"{"mcpServers": {"a": {"command": "cat", "limits": {"memory": "x"}}}}"#);
    for (arguments, expected) in [
        (
            &["--limit-processes", "9", "--", "cat"][..],
            "error: --limit-processes: the system counts the processes of a user, so this needs --user-range",
        ),
        (
            &["--allow-path", "/", "--", "cat"],
            "error: the following required arguments were not provided:; --sandbox",
        ),
        (
            &["--sandbox", "--no-isolation", "--", "cat"],
            "error: the argument '--sandbox' cannot be used with '--no-isolation'",
        ),
        (
            &["--sandbox", "--allow-path", "/no such", "--", "cat"],
            "error: invalid value '/no such' for '--allow-path <PATH[:ro|:rw]>': \"/no such\" cannot be used: No such file",
        ),
        (&["--limit-cpu", "100ms", "--", "cat"], "error: --limit-cpu: expected whole seconds, 1s or more"),
        (
            &["--limit-memory", "1MB", "--", "cat"],
            "error: invalid value '1MB' for '--limit-memory <SIZE>': expected a number of bytes",
        ),
        (
            &["--sandbox", "--upstream", "http://h"],
            "error: --no-isolation, --sandbox and the limits are for a program",
        ),
        (
            &["--user-range", "9-8", "--", "cat"],
            "error: invalid value '9-8' for '--user-range <FROM-TO>': expected FROM-TO",
        ),
        (&["--port", "0", "--config", &limited], "error: mcpServers.a.limits.processes: the system counts"),
        (
            &["--port", "0", "--config", &without],
            "allowPath: only a server with \"sandbox\": true can have this",
        ),
        (
            &["--port", "0", "--config", &both],
            "sandbox: \"sandbox\" cannot be combined with \"isolation\": false",
        ),
        (&["--port", "0", "--config", &slip], "did you mean \"sandbox\"?"),
        (&["--port", "0", "--config", &wrong], "limits.memory: expected a number of bytes"),
    ] {
        let mut all = vec!["serve"];
        all.extend(arguments);
        let error = refused(&all);
        assert!(error.contains(expected), "{arguments:?}\n{error}");
    }
    if is_root() {
        for (range, expected) in [
            (
                "20000-20010",
                "these are 11 users for up to 256 sessions; give more, or a smaller --max-sessions",
            ),
            ("1-5000", "of /etc/passwd; expected numbers that nobody has"),
        ] {
            let error = refused(&["serve", "--user-range", range, "--", "cat"]);
            assert!(error.contains(expected), "{error}");
        }
    } else {
        let error = refused(&["serve", "--user-range", "20000-21000", "--", "cat"]);
        assert!(error.contains("only root can start programs as other users"), "{error}");
        left_out("errors of --user-range as root", "not run as root");
    }
}
