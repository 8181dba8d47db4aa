//! Real engines, started by the tests on free ports, and what happens to them.

#![allow(dead_code, reason = "each test uses a part of it")]
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a helper that fails is a test that fails"
)]

use std::{
    env, fs,
    io::{self, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{self, Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

/// How long an engine may take until it answers.
const START: Duration = Duration::from_secs(10);

/// Where engines keep what they have. Cargo names a place to tests outside of the crate only.
const FOLDER: &str = match option_env!("CARGO_TARGET_TMPDIR") {
    Some(folder) => folder,
    None => concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/tmp"),
};

/// An engine that runs until it is dropped.
pub(crate) struct Engine {
    kind: Kind,
    program: PathBuf,
    arguments: Vec<String>,
    port: u16,
    /// All that it keeps.
    folder: PathBuf,
    child: Option<Child>,
}

#[derive(Clone, Copy)]
enum Kind {
    Nats,
    /// Without `JetStream`.
    PlainNats,
    Redis,
}

impl Engine {
    /// A NATS server with `JetStream`.
    pub(crate) fn nats() -> Self {
        Self::nats_with(&[])
    }

    /// A NATS server with more arguments, such as `--user` and `--pass`.
    pub(crate) fn nats_with(arguments: &[&str]) -> Self {
        Self::new(Kind::Nats, arguments)
    }

    /// A NATS server that keeps nothing: without `JetStream`.
    pub(crate) fn plain_nats() -> Self {
        Self::new(Kind::PlainNats, &[])
    }

    /// A Redis server that keeps what is written.
    pub(crate) fn redis() -> Self {
        Self::redis_with(&[])
    }

    /// A Redis server with more arguments, such as `--requirepass`.
    pub(crate) fn redis_with(arguments: &[&str]) -> Self {
        Self::new(Kind::Redis, arguments)
    }

    fn new(kind: Kind, arguments: &[&str]) -> Self {
        let name = match kind {
            Kind::Nats | Kind::PlainNats => "nats-server",
            Kind::Redis => "redis-server",
        };
        let program = program(name);
        let arguments: Vec<_> = arguments.iter().map(ToString::to_string).collect();
        let mut attempt = 0;
        loop {
            attempt += 1;
            let port = free_port();
            let folder = Path::new(FOLDER).join(format!("{name}-{}-{port}", process::id()));
            let (program, arguments) = (program.clone(), arguments.clone());
            let mut engine = Self { kind, program, arguments, port, folder, child: None };
            match engine.try_start() {
                Ok(()) => return engine,
                // Somebody else may have taken the port meanwhile.
                Err(why) if attempt == 3 => panic!("{name} does not start: {why}"),
                Err(_) => {}
            }
        }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Where it is: `nats://127.0.0.1:PORT` or `redis://127.0.0.1:PORT`.
    pub(crate) fn url(&self) -> String {
        self.url_with("")
    }

    /// The same, with a user and what belongs to it: `url_with("user:password@")`.
    pub(crate) fn url_with(&self, user: &str) -> String {
        let scheme = match self.kind {
            Kind::Nats | Kind::PlainNats => "nats",
            Kind::Redis => "redis",
        };
        format!("{scheme}://{user}127.0.0.1:{}", self.port)
    }

    /// Ends it at once, without a chance to say anything.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Starts it again where it was, with what it has kept.
    pub(crate) fn start(&mut self) {
        self.kill();
        if let Err(why) = self.try_start() {
            panic!("{} does not start again: {why}", self.program.display());
        }
    }

    /// Starts it again where it was, without anything that it had.
    pub(crate) fn restart_empty(&mut self) {
        self.kill();
        let _ = fs::remove_dir_all(&self.folder);
        self.start();
    }

    /// Stops it where it stands: its connections stay, and it says nothing.
    pub(crate) fn freeze(&self) {
        self.signal("STOP");
        self.until_it_stands();
    }

    /// Lets it go on.
    pub(crate) fn thaw(&self) {
        self.signal("CONT");
    }

    fn signal(&self, signal: &str) {
        let child = self.child.as_ref().expect("the engine runs");
        // The shell's own `kill` is everywhere.
        let sent = Command::new("sh").arg("-c").arg(format!("kill -{signal} {}", child.id())).status();
        assert!(sent.unwrap().success());
    }

    /// A signal to stop is seen by each thread for itself, and one that runs may still answer.
    #[allow(clippy::disallowed_methods, reason = "the system does not say when a thread has stopped")]
    fn until_it_stands(&self) {
        let threads = format!("/proc/{}/task", self.child.as_ref().expect("the engine runs").id());
        let stands = |thread: io::Result<fs::DirEntry>| {
            let stat = fs::read_to_string(thread.unwrap().path().join("stat")).unwrap_or_default();
            // PID (NAME) STATE, and a name may have anything in it.
            stat.rsplit_once(") ").is_none_or(|(_, state)| state.starts_with('T'))
        };
        let until = Instant::now() + START;
        while !fs::read_dir(&threads).unwrap().all(stands) {
            assert!(Instant::now() < until, "it does not stop");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn try_start(&mut self) -> Result<(), String> {
        fs::create_dir_all(&self.folder).unwrap();
        let log = fs::File::create(self.folder.join("log")).unwrap();
        let mut command = Command::new(&self.program);
        let port = self.port.to_string();
        match self.kind {
            Kind::Nats => {
                command
                    .args(["-a", "127.0.0.1", "-p", &port, "-js", "-sd"])
                    .arg(self.folder.join("jetstream"));
            }
            Kind::PlainNats => {
                command.args(["-a", "127.0.0.1", "-p", &port]);
            }
            Kind::Redis => {
                command.args(["--bind", "127.0.0.1", "--port", &port, "--daemonize", "no", "--save", ""]);
                command.args(["--appendonly", "yes", "--appendfsync", "always", "--dir"]).arg(&self.folder);
            }
        }
        command.args(&self.arguments).stdin(Stdio::null());
        command.stdout(log.try_clone().unwrap()).stderr(log);
        self.child = Some(command.spawn().map_err(|error| error.to_string())?);
        self.until_it_answers()
    }

    #[allow(clippy::disallowed_methods, reason = "an engine does not say when it answers")]
    fn until_it_answers(&mut self) -> Result<(), String> {
        let until = Instant::now() + START;
        loop {
            if self.answers() {
                return Ok(());
            }
            let status = self.child.as_mut().map(Child::try_wait);
            if let Some(Ok(Some(status))) = status {
                self.child = None;
                return Err(format!("it ended with {status}\n{}", self.log()));
            }
            if Instant::now() > until {
                self.kill();
                return Err(format!("it does not answer\n{}", self.log()));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Whether it does what it is there for.
    fn answers(&self) -> bool {
        let answer = || -> std::io::Result<bool> {
            let mut stream = TcpStream::connect(("127.0.0.1", self.port))?;
            stream.set_read_timeout(Some(Duration::from_secs(1)))?;
            let expected: &[&[u8]] = match self.kind {
                // It begins.
                Kind::Nats | Kind::PlainNats => &[b"INFO"],
                Kind::Redis => {
                    stream.write_all(b"PING\r\n")?;
                    // Without a password it answers too.
                    &[b"+PON", b"-NOA"]
                }
            };
            let mut begin = [0; 4];
            stream.read_exact(&mut begin)?;
            Ok(expected.contains(&&begin[..]))
        };
        answer().unwrap_or(false)
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.kill();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// A program that `cargo xtask engines` has installed, or one that is here.
fn program(name: &str) -> PathBuf {
    let installed = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/engines/bin").join(name);
    if installed.exists() {
        return installed;
    }
    let paths = env::var_os("PATH").unwrap_or_default();
    let found = env::split_paths(&paths).map(|folder| folder.join(name)).find(|file| file.is_file());
    found.unwrap_or_else(|| panic!("there is no {name}; run `cargo xtask engines` first"))
}

/// A port that nobody listens on: none of those that the system gives to connections, so that it is still free when an
/// engine is started again.
fn free_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    // Tests that run beside each other begin at different ones.
    let begin = process::id().wrapping_mul(97);
    for _ in 0..10_000 {
        let next = begin.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
        let port = 20_000 + u16::try_from(next % 10_000).unwrap();
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("no port is free")
}
