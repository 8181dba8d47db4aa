//! The program, a client of it on plain sockets, and what both need.

use std::{
    ffi::OsStr,
    fs,
    io::{self, BufRead, BufReader, Read, Write},
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_mcp-sse");
/// Nothing here takes that long, unless it is broken.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Runs it to its end.
pub(crate) fn run(arguments: &[&str]) -> Output {
    let mut command = Command::new(PROGRAM);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = Killed(command.spawn().unwrap());
    let stdout = Written::by(child.0.stdout.take().unwrap());
    let stderr = Written::by(child.0.stderr.take().unwrap());
    let (stdout, stderr) = (stdout.all().into_bytes(), stderr.all().into_bytes());
    Output { status: child.0.wait().unwrap(), stdout, stderr }
}

/// A process that does not outlive its test.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Exit code 2, nothing on stdout, and one line on stderr, which is returned.
pub(crate) fn refused(arguments: &[&str]) -> String {
    let output = run(arguments);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    assert!(output.stdout.is_empty());
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    stderr.trim_end().to_owned()
}

/// What a program writes, as it comes.
#[derive(Clone, Default)]
pub(crate) struct Written(Arc<(Mutex<(String, bool)>, Condvar)>);

impl Written {
    pub(crate) fn by(mut reader: impl Read + Send + 'static) -> Self {
        let written = Self::default();
        let this = written.clone();
        thread::spawn(move || {
            let mut chunk = [0; 4096];
            loop {
                let read = reader.read(&mut chunk).unwrap_or(0);
                let mut state = this.0.0.lock().unwrap();
                state.0.push_str(&String::from_utf8_lossy(&chunk[..read]));
                state.1 = read == 0;
                this.0.1.notify_all();
                if read == 0 {
                    return;
                }
            }
        });
        written
    }

    pub(crate) fn so_far(&self) -> String {
        self.0.0.lock().unwrap().0.clone()
    }

    /// Waits until it is enough.
    pub(crate) fn until(&self, what: &str, enough: impl Fn(&str) -> bool) -> String {
        let state = self.0.0.lock().unwrap();
        let waiting = |state: &mut (String, bool)| !enough(&state.0) && !state.1;
        let (state, _) = self.0.1.wait_timeout_while(state, PATIENCE, waiting).unwrap();
        assert!(enough(&state.0), "no {what} in:\n{}", state.0);
        state.0.clone()
    }

    pub(crate) fn until_says(&self, text: &str) -> String {
        self.until(text, |written| written.contains(text))
    }

    /// Waits for the end.
    pub(crate) fn all(&self) -> String {
        let state = self.0.0.lock().unwrap();
        let (state, timeout) = self.0.1.wait_timeout_while(state, PATIENCE, |state| !state.1).unwrap();
        assert!(!timeout.timed_out(), "it goes on writing:\n{}", state.0);
        state.0.clone()
    }
}

/// The program, running on a free port; killed at the end.
pub(crate) struct Program {
    child: Child,
    /// `HOST:PORT`.
    pub(crate) address: String,
    pub(crate) greeting: String,
    pub(crate) log: Written,
}

impl Program {
    /// Starts it with this command and options, and a free port.
    pub(crate) fn start<S: AsRef<OsStr>>(command: &str, arguments: &[S]) -> Self {
        Self::prepare(command, "0", arguments).piped()
    }

    pub(crate) fn demo(arguments: &[&str]) -> Self {
        Self::start("demo", arguments)
    }

    /// The gateway, in front of the demo server as a stdio server.
    pub(crate) fn gateway(options: &[&str]) -> Self {
        let mut arguments = options.to_vec();
        arguments.extend(["--", PROGRAM, "demo", "--stdio"]);
        Self::start("serve", &arguments)
    }

    /// The gateway, in front of a shell script.
    pub(crate) fn script(options: &[&str], script: &str) -> Self {
        let mut arguments = options.to_vec();
        arguments.extend(["--", "sh", "-c", script]);
        Self::start("serve", &arguments)
    }

    pub(crate) fn prepare<S: AsRef<OsStr>>(command: &str, port: &str, arguments: &[S]) -> Prepared {
        let mut prepared = Command::new(PROGRAM);
        prepared.args([command, "--port", port]).args(arguments).stdin(Stdio::null()).stdout(Stdio::piped());
        Prepared(prepared)
    }

    /// Starts it by a shell, with this script.
    pub(crate) fn prepare_shell(script: &str) -> Self {
        let mut prepared = Command::new("sh");
        prepared.args(["-c", script]).stdin(Stdio::null()).stdout(Stdio::piped());
        Prepared(prepared).piped()
    }

    /// Starts it as systemd does, with this socket passed on.
    pub(crate) fn prepare_socket(socket: impl Into<Stdio>, names: &str, arguments: &str) -> Self {
        let script = format!(
            "exec 3<&0 0</dev/null; LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES={names} exec {PROGRAM} {arguments}"
        );
        let mut prepared = Command::new("sh");
        prepared.args(["-c", &script]).stdin(socket).stdout(Stdio::piped());
        Prepared(prepared).piped()
    }

    /// Starts it with this word before a whole command line.
    pub(crate) fn prepare_as(word: &str, arguments: &[&str]) -> Self {
        let mut prepared = Command::new(PROGRAM);
        prepared.arg(word).args(arguments).stdin(Stdio::null()).stdout(Stdio::piped());
        Prepared(prepared).piped()
    }

    /// Starts it by a command that becomes it, whole but for the pipes.
    pub(crate) fn prepare_command(mut command: Command) -> Prepared {
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        Prepared(command)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn send(&self, head: &str, body: &str) -> BufReader<TcpStream> {
        send(&self.address, head, body)
    }

    /// An open stream.
    pub(crate) fn connect(&self) -> Client<'_> {
        self.connect_at("/sse")
    }

    pub(crate) fn connect_at(&self, path: &str) -> Client<'_> {
        self.connect_with(path, "")
    }

    /// An open stream; all requests bear these header lines.
    pub(crate) fn connect_with(&self, path: &str, headers: &str) -> Client<'_> {
        let stream = self.send(&format!("GET {path} HTTP/1.1\r\n{headers}x: y"), "");
        let mut client = Client {
            program: self,
            stream,
            endpoint: String::new(),
            last_id: String::new(),
            headers: headers.to_owned(),
        };
        client.endpoint = client.data();
        client
    }

    /// The status line and the rest of an answer that ends the connection.
    pub(crate) fn request(&self, head: &str, body: &str) -> String {
        let mut answer = String::new();
        self.send(&format!("{head}\r\nconnection: close"), body).read_to_string(&mut answer).unwrap();
        answer
    }

    pub(crate) fn get(&self, path: &str) -> String {
        self.request(&format!("GET {path} HTTP/1.1"), "")
    }

    /// Has it write so many times some dozens of lines, if it logs at trace: connections over HTTP/2.
    pub(crate) fn makes_lines(&self, times: u32) {
        for _ in 0..times {
            let mut stream = TcpStream::connect(&self.address).unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            // The preface, and a frame with no settings.
            stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").unwrap();
            stream.read_exact(&mut [0; 9]).unwrap();
        }
    }

    pub(crate) fn signal(&self, signal: &str) {
        signal_to(self.child.id(), signal);
    }

    /// Waits for the end, and returns whether it was a success.
    pub(crate) fn ends(mut self) -> bool {
        self.child.wait().unwrap().success()
    }

    /// Waits for the end, and returns whether it was a success, and the log.
    pub(crate) fn end(mut self) -> (bool, String) {
        let log = self.log.all();
        (self.child.wait().unwrap().success(), log)
    }
}

pub(crate) struct Prepared(Command);

impl Prepared {
    pub(crate) fn piped(mut self) -> Program {
        self.0.stderr(Stdio::piped());
        self.with_log(None)
    }

    /// Its log goes into a pipe that nobody reads, until the last of what is returned is dropped.
    pub(crate) fn unread(mut self) -> (Program, std::io::PipeReader) {
        let (reader, writer) = std::io::pipe().unwrap();
        self.0.stderr(writer);
        let Self(command) = self;
        (Self(command).with_log(Some(Written::default())), reader)
    }

    pub(crate) fn with_stderr(mut self, file: fs::File) -> Program {
        self.0.stderr(file);
        self.with_log(Some(Written::default()))
    }

    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.0.env(name, value);
        self
    }

    fn with_log(mut self, log: Option<Written>) -> Program {
        let mut child = self.0.spawn().unwrap();
        let log = log.unwrap_or_else(|| Written::by(child.stderr.take().unwrap()));
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut greeting = String::new();
        while !greeting.contains("Ctrl-C") {
            let read = stdout.read_line(&mut greeting).unwrap();
            assert_ne!(read, 0, "it did not start: {greeting}{}", log.so_far());
        }
        thread::spawn(move || stdout.read_to_end(&mut Vec::new()));
        // A remote server's URL may stand before ours, and ours may be where a proxy is.
        let listening = greeting.lines().find(|line| line.starts_with("Listening on http"));
        let line = greeting.lines().find(|line| line.contains("SSE  ") || line.contains("demo server"));
        let line = listening.or(line);
        let url = line.unwrap().split("://").nth(1).unwrap();
        let address = url.split('/').next().unwrap().to_owned();
        Program { child, address, greeting, log }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // Its servers should end too, so it is asked first.
        if matches!(self.child.try_wait(), Ok(None)) {
            signal_to(self.child.id(), "-TERM");
            signal_to(self.child.id(), "-TERM");
        }
        let _ = self.child.wait();
    }
}

pub(crate) fn signal_to(pid: u32, signal: &str) {
    let id = pid.to_string();
    assert!(Command::new("kill").args([signal, &id]).status().unwrap().success());
    if signal == "-STOP" {
        until_it_stands(pid);
    }
}

/// Each thread of a process stops by itself, and one that runs may still do something.
#[allow(clippy::disallowed_methods, reason = "the system does not say when a thread has stopped")]
fn until_it_stands(pid: u32) {
    let stands = |thread: io::Result<fs::DirEntry>| {
        let stat = fs::read_to_string(thread.unwrap().path().join("stat")).unwrap_or_default();
        stat.rsplit_once(") ").is_none_or(|(_, state)| state.starts_with('T'))
    };
    let until = Instant::now() + PATIENCE;
    while !fs::read_dir(format!("/proc/{pid}/task")).unwrap().all(stands) {
        assert!(Instant::now() < until, "{pid} does not stop");
        thread::sleep(Duration::from_millis(1));
    }
}

fn send(address: &str, head: &str, body: &str) -> BufReader<TcpStream> {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let length = body.len();
    let host = if head.to_ascii_lowercase().contains("\r\nhost:") {
        String::new()
    } else {
        format!("host: {address}\r\n")
    };
    let request = format!("{head}\r\n{host}content-length: {length}\r\n\r\n{body}");
    stream.write_all(request.as_bytes()).unwrap();
    BufReader::new(stream)
}

/// A client: its stream, and where it posts.
pub(crate) struct Client<'a> {
    program: &'a Program,
    pub(crate) stream: BufReader<TcpStream>,
    pub(crate) endpoint: String,
    /// Of the last event that had one.
    pub(crate) last_id: String,
    headers: String,
}

impl Client<'_> {
    /// The status line of the answer.
    pub(crate) fn post(&self, message: &str) -> String {
        let headers = &self.headers;
        let head = format!(
            "POST {} HTTP/1.1\r\n{headers}connection: close\r\ncontent-type: application/json",
            self.endpoint
        );
        let mut line = String::new();
        self.program.send(&head, message).read_line(&mut line).unwrap();
        line
    }

    pub(crate) fn accepted(&self, message: &str) {
        let status = self.post(message);
        assert!(status.contains("202"), "{status}");
    }

    /// The data of the next event.
    pub(crate) fn data(&mut self) -> String {
        loop {
            let mut line = String::new();
            assert_ne!(self.stream.read_line(&mut line).unwrap(), 0, "the stream ended");
            if let Some(id) = line.strip_prefix("id: ") {
                self.last_id = id.trim_end().to_owned();
            }
            if let Some(data) = line.strip_prefix("data: ") {
                return data.trim_end_matches(['\r', '\n']).to_owned();
            }
        }
    }

    /// The next event that answers this id.
    pub(crate) fn answer(&mut self, id: u32) -> String {
        let id = format!(r#""id":{id}"#);
        loop {
            let data = self.data();
            if data.contains(&id) && !data.contains(r#""method""#) {
                return data;
            }
        }
    }

    pub(crate) fn initialize(&mut self) -> String {
        self.accepted(INITIALIZE);
        let answer = self.answer(0);
        self.accepted(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#);
        answer
    }

    pub(crate) fn echo(&mut self, id: u32, text: &str) {
        self.accepted(&echo(id, text));
        let answer = self.answer(id);
        assert!(answer.contains(&format!(r#""text":"{text}""#)), "{answer}");
    }

    /// What comes until the stream ends.
    pub(crate) fn rest(&mut self) -> String {
        let mut rest = String::new();
        self.stream.read_to_string(&mut rest).unwrap();
        rest
    }

    /// The id of the session; secret.
    pub(crate) fn id(&self) -> String {
        self.endpoint.split('=').nth(1).unwrap().to_owned()
    }
}

pub(crate) const INITIALIZE: &str = r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-06-18","capabilities":{},"clientInfo":{"name":"test","version":"0"}}}"#;
pub(crate) const PING: &str = r#"{"jsonrpc":"2.0","id":9,"method":"ping"}"#;

pub(crate) fn echo(id: u32, text: &str) -> String {
    format!(
        r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{{"name":"echo","arguments":{{"message":"{text}"}}}}}}"#
    )
}

pub(crate) fn long_task(id: u32, steps: u32, step_ms: u32) -> String {
    format!(
        r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{{"name":"long_task","arguments":{{"steps":{steps},"step_ms":{step_ms}}},"_meta":{{"progressToken":1}}}}}}"#
    )
}

/// The process ids of the servers that the log names, in the order of their starts.
pub(crate) fn pids(log: &str) -> Vec<u32> {
    let started = log.lines().filter(|line| line.contains("server started"));
    started.filter_map(|line| line.split("pid=").nth(1)?.split(' ').next()?.parse().ok()).collect()
}

pub(crate) fn count(log: &str, text: &str) -> usize {
    log.matches(text).count()
}

/// Asks until it is so.
#[allow(clippy::disallowed_methods, reason = "a test that asks for ever would not say what is wrong")]
pub(crate) fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = std::time::Instant::now();
    while !is_so() {
        assert!(start.elapsed() < PATIENCE, "never: {what}");
        thread::yield_now();
    }
}

/// A folder of a test's own, removed at the end.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("mcp-sse-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_owned()
    }

    pub(crate) fn write(&self, name: &str, text: &str) -> String {
        fs::write(self.0.join(name), text).unwrap();
        self.path(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Tells when every process is gone that has it open: a pipe with a name, whose writers they are.
pub(crate) struct Witness {
    said: Written,
    /// One writer more, so that it does not end before we ask.
    own: fs::File,
}

impl Witness {
    /// The path, for a script to open with `exec 9>PATH`, and the witness.
    pub(crate) fn new(folder: &Folder, name: &str) -> (String, Self) {
        let path = folder.path(name);
        assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
        let said = Written::by(Opens(Path::new(&path).to_owned(), None));
        // Each side's opening waits for the other's.
        let own = fs::OpenOptions::new().write(true).open(&path).unwrap();
        (path, Self { said, own })
    }

    /// Waits until all of them are gone; they must have said this.
    pub(crate) fn gone(self, said: &str) {
        drop(self.own);
        assert_eq!(self.said.all().trim_end(), said);
    }

    /// Waits until all of them are gone; what they said.
    pub(crate) fn rest(self) -> String {
        drop(self.own);
        self.said.all()
    }

    pub(crate) fn until_says(&self, text: &str) {
        self.said.until_says(text);
    }

    pub(crate) fn until(&self, what: &str, enough: impl Fn(&str) -> bool) {
        self.said.until(what, enough);
    }
}

struct Opens(PathBuf, Option<fs::File>);

impl Read for Opens {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if self.1.is_none() {
            self.1 = Some(fs::File::open(&self.0)?);
        }
        self.1.as_mut().unwrap().read(buffer)
    }
}
