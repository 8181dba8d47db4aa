//! The load generator: one thread, no runtime, requests prepared beforehand.
//!
//! Every call has a slot; a slot posts on a connection of its own, and posts again when it has both the
//! 202 and the answer on the stream. An answer that nobody waits for is an error: nothing may be lost,
//! doubled or mixed up. Every session has ids of its own, so that an answer to another session's call is known
//! as such.

pub(crate) mod hold;
mod http;
pub(crate) mod memory;
pub(crate) mod pipe;
pub(crate) mod progress;

use std::{
    fmt,
    io::{self, Write},
    net::SocketAddr,
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;
use memchr::memmem;
use mio::{Events, Interest, Poll, Token, net::TcpStream};

/// Ids have ten digits, all of them.
const FIRST_ID: u64 = 1_000_000_000;
const IDS: u64 = 9 * FIRST_ID;
/// Nothing may take longer than this.
const PATIENCE: Duration = Duration::from_secs(30);

/// What round trips came to.
#[derive(Debug)]
pub(crate) struct RoundTrips {
    pub(crate) calls: u64,
    pub(crate) seconds: f64,
    /// Microseconds from the POST to the answer on the stream.
    pub(crate) latency: Histogram<u64>,
}

impl fmt::Display for RoundTrips {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = |quantile| self.latency.value_at_quantile(quantile);
        let rate = self.calls as f64 / self.seconds;
        write!(
            f,
            "{rate:.0} requests/s, p50 {} µs, p99 {} µs, max {} µs",
            at(0.5),
            at(0.99),
            self.latency.max()
        )
    }
}

struct Connection {
    socket: TcpStream,
    buffer: Vec<u8>,
    /// What is still to be written.
    unsent: Vec<u8>,
}

struct Session {
    stream: Connection,
    /// Events, out of their chunks.
    events: Vec<u8>,
    /// So many bytes of them were searched for a line end: a large event comes in many chunks.
    searched: usize,
    slots: Vec<Slot>,
    first_id: u64,
}

struct Slot {
    connection: Connection,
    /// Up to the id, and behind it.
    before: Vec<u8>,
    after: Vec<u8>,
    id: u64,
    posted: Instant,
    accepted: bool,
    answered: bool,
}

/// What round trips are to be made.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Load {
    pub(crate) sessions: usize,
    /// Calls in flight in each session, each on a connection of its own.
    pub(crate) in_flight: usize,
    /// Bytes of the message that is echoed.
    pub(crate) bytes: usize,
    /// Calls in flight in one session more, which is not measured; 0 for none.
    pub(crate) flood: usize,
    /// The server sends answers to all its clients. Those to others are passed over; without this, one is an error.
    pub(crate) sends_to_all: bool,
    /// What requests have.
    pub(crate) credential: Credential,
}

/// What a request has to show who it is from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Credential {
    #[default]
    Nothing,
    Key,
    Token,
}

/// The key of a client, and the line of a file for it.
pub(crate) const KEY: &str = "bench 0f1e2d3c4b5a69788796a5b4c3d2e1f0";
/// A token by RS256 until the year 2100, and the public key for it; nobody has the private one any more.
const TOKEN: &str = include_str!("token.txt");
pub(crate) const JWKS: &str = include_str!("jwks.json");

impl Credential {
    /// A header line more.
    fn line(self) -> String {
        let credential = match self {
            Self::Nothing => return String::new(),
            Self::Key => KEY.split_once(' ').map_or(KEY, |(_, key)| key),
            Self::Token => TOKEN,
        };
        format!("authorization: Bearer {credential}\r\n")
    }
}

struct Generator {
    /// A header line more.
    credential: String,
    poll: Poll,
    sessions: Vec<Session>,
    /// The session of each token, and its slot; the stream is `usize::MAX`.
    tokens: Vec<(usize, usize)>,
    /// How many ids each session has.
    ids: u64,
    sends_to_all: bool,
    /// Sessions that are measured.
    measured: usize,
    histogram: Histogram<u64>,
    calls: u64,
    /// Slots that were answered in this turn.
    answered: Vec<usize>,
    /// Slots post again while this is set.
    running: bool,
    busy: usize,
}

#[allow(clippy::disallowed_methods, reason = "the generator measures time")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// Opens the sessions, initializes them, and lets every slot call `echo` for the time given.
pub(crate) fn round_trips(address: SocketAddr, load: Load, time: Duration) -> io::Result<RoundTrips> {
    let mut generator = Generator {
        credential: load.credential.line(),
        poll: Poll::new()?,
        sessions: Vec::with_capacity(load.sessions + 1),
        tokens: Vec::new(),
        ids: IDS / (load.sessions as u64 + 1),
        sends_to_all: load.sends_to_all,
        measured: load.sessions,
        histogram: Histogram::new(3).map_err(io::Error::other)?,
        calls: 0,
        answered: Vec::new(),
        running: true,
        busy: 0,
    };
    let message = "x".repeat(load.bytes);
    for _ in 0..load.sessions {
        generator.open(address, load.in_flight, &message)?;
    }
    if load.flood > 0 {
        generator.open(address, load.flood, &message)?;
    }
    generator.start()?;
    generator.run_until(now() + time / 10)?;
    generator.histogram.reset();
    generator.calls = 0;
    let start = now();
    generator.run_until(start + time)?;
    let (calls, seconds) = (generator.calls, start.elapsed().as_secs_f64());
    generator.finish()?;
    Ok(RoundTrips { calls, seconds, latency: generator.histogram })
}

impl Generator {
    /// One session, connected and initialized; blocking, one after the other.
    fn open(&mut self, address: SocketAddr, in_flight: usize, message: &str) -> io::Result<()> {
        let host = format!("127.0.0.1:{}", address.port());
        let key = &self.credential;
        let mut stream = std::net::TcpStream::connect(address)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(get(address).replacen("\r\n", &format!("\r\n{key}"), 1).as_bytes())?;
        let mut reader = Blocking { stream, text: Vec::new() };
        let endpoint = reader.wait_for("data: ", "\n")?.trim().to_owned();
        let head = format!(
            "POST {endpoint} HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/json\r\naccept: */*\r\nuser-agent: bench\r\n{key}content-length: "
        );
        let mut post = std::net::TcpStream::connect(address)?;
        post.set_nodelay(true)?;
        for (body, answer) in [
            (
                r#"{"jsonrpc":"2.0","id":"i","method":"initialize","params":{"protocolVersion":"2024-11-05","capabilities":{},"clientInfo":{"name":"bench","version":"1"}}}"#,
                true,
            ),
            (r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#, false),
        ] {
            write!(post, "{head}{}\r\n\r\n{body}", body.len())?;
            let mut response = Blocking { stream: post.try_clone()?, text: Vec::new() };
            while http::take_response(&mut response.text).is_none() {
                response.more()?;
            }
            if answer {
                reader.wait_for("\"i\"", "\n")?;
            }
        }
        // The floor echoes notifications too.
        let mut events = std::mem::take(&mut reader.text);
        events.clear();
        let session = self.sessions.len();
        let mut slots = Vec::with_capacity(in_flight);
        for slot in 0..in_flight {
            let socket = if slot == 0 { post.try_clone()? } else { std::net::TcpStream::connect(address)? };
            let connection = self.register(socket, (session, slot))?;
            let before = r#"{"jsonrpc":"2.0","id":"#;
            let after = format!(
                r#","method":"tools/call","params":{{"name":"echo","arguments":{{"message":"{message}"}}}}}}"#
            );
            // Ids have ten digits, so the length is always the same.
            let length = before.len() + 10 + after.len();
            slots.push(Slot {
                connection,
                before: format!("{head}{length}\r\n\r\n{before}").into_bytes(),
                after: after.into_bytes(),
                id: 0,
                posted: now(),
                accepted: true,
                answered: true,
            });
        }
        let stream = self.register(reader.stream, (session, usize::MAX))?;
        let first_id = FIRST_ID + session as u64 * self.ids;
        self.sessions.push(Session { stream, events, searched: 0, slots, first_id });
        Ok(())
    }

    fn register(&mut self, socket: std::net::TcpStream, of: (usize, usize)) -> io::Result<Connection> {
        let token = self.tokens.len();
        self.tokens.push(of);
        socket.set_nodelay(true)?;
        socket.set_nonblocking(true)?;
        let mut socket = TcpStream::from_std(socket);
        self.poll.registry().register(&mut socket, Token(token), Interest::READABLE | Interest::WRITABLE)?;
        Ok(Connection { socket, buffer: Vec::new(), unsent: Vec::new() })
    }

    fn start(&mut self) -> io::Result<()> {
        for session in 0..self.sessions.len() {
            for slot in 0..self.sessions[session].slots.len() {
                self.busy += 1;
                let id = self.sessions[session].first_id + slot as u64;
                self.sessions[session].slots[slot].post(id)?;
            }
        }
        Ok(())
    }

    /// Lets the slots that are busy finish.
    fn finish(&mut self) -> io::Result<()> {
        self.running = false;
        let deadline = now() + PATIENCE;
        while self.busy > 0 {
            self.turn(deadline)?;
        }
        Ok(())
    }

    fn run_until(&mut self, end: Instant) -> io::Result<()> {
        while now() < end {
            self.turn(end + PATIENCE)?;
        }
        Ok(())
    }

    fn turn(&mut self, deadline: Instant) -> io::Result<()> {
        let mut events = Events::with_capacity(1024);
        let wait = deadline.saturating_duration_since(now()).min(PATIENCE);
        self.poll.poll(&mut events, Some(wait))?;
        if events.is_empty() && now() >= deadline {
            return Err(io::Error::new(
                io::ErrorKind::TimedOut,
                format!("{} calls were never answered", self.busy),
            ));
        }
        for event in &events {
            let (session, index) = self.tokens[event.token().0];
            if index == usize::MAX {
                if event.is_readable() {
                    self.read_stream(session)?;
                }
                continue;
            }
            let slot = &mut self.sessions[session].slots[index];
            if event.is_writable() {
                slot.connection.flush()?;
            }
            if event.is_readable() {
                self.read_post(session, index)?;
            }
        }
        Ok(())
    }

    fn read_post(&mut self, session: usize, index: usize) -> io::Result<()> {
        let slot = &mut self.sessions[session].slots[index];
        let Connection { socket, buffer, .. } = &mut slot.connection;
        if !http::fill(socket, buffer)? {
            return Err(io::Error::other("the server closed a connection"));
        }
        while let Some(status) = http::take_response(&mut slot.connection.buffer) {
            if status != 202 {
                return Err(io::Error::other(format!("a POST was answered {status}")));
            }
            slot.accepted = true;
        }
        self.next(session, index)
    }

    fn read_stream(&mut self, session: usize) -> io::Result<()> {
        let Session { stream, events, searched, slots, first_id } = &mut self.sessions[session];
        let open = http::fill(&mut stream.socket, &mut stream.buffer)?;
        let ended = http::take_chunks(&mut stream.buffer, events);
        if !open || ended {
            return Err(io::Error::other("a stream ended"));
        }
        let mut at = 0;
        let mut from = *searched;
        while let Some(length) = memchr::memchr(b'\n', &events[from..]) {
            let end = from + length;
            let id = events[at..end].strip_prefix(b"data: ").and_then(id_of);
            at = end + 1;
            from = at;
            let Some(id) = id else { continue };
            let is_own = (*first_id..*first_id + self.ids).contains(&id);
            if self.sends_to_all && !is_own {
                continue;
            }
            let index = (id.wrapping_sub(*first_id) % slots.len() as u64) as usize;
            let slot = &mut slots[index];
            if slot.id != id || slot.answered {
                return Err(io::Error::other(format!("an answer to {id}, which nobody waits for")));
            }
            slot.answered = true;
            if session < self.measured {
                let _ = self.histogram.record(slot.posted.elapsed().as_micros() as u64);
                self.calls += 1;
            }
            self.answered.push(index);
        }
        events.drain(..at);
        *searched = events.len();
        for index in std::mem::take(&mut self.answered) {
            self.next(session, index)?;
        }
        Ok(())
    }

    /// Posts again when both answers are there.
    fn next(&mut self, session: usize, index: usize) -> io::Result<()> {
        let step = self.sessions[session].slots.len() as u64;
        let slot = &mut self.sessions[session].slots[index];
        if !(slot.accepted && slot.answered) || slot.id == 0 {
            return Ok(());
        }
        if self.running {
            slot.post(slot.id + step)
        } else {
            slot.id = 0;
            self.busy -= 1;
            Ok(())
        }
    }
}

impl Slot {
    fn post(&mut self, id: u64) -> io::Result<()> {
        (self.id, self.accepted, self.answered) = (id, false, false);
        let unsent = &mut self.connection.unsent;
        unsent.extend_from_slice(&self.before);
        write!(unsent, "{id}")?;
        unsent.extend_from_slice(&self.after);
        self.posted = now();
        self.connection.flush()
    }
}

impl Connection {
    fn flush(&mut self) -> io::Result<()> {
        while !self.unsent.is_empty() {
            match self.socket.write(&self.unsent) {
                Ok(written) => drop(self.unsent.drain(..written)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// A request for a stream.
fn get(address: SocketAddr) -> String {
    format!("GET /sse HTTP/1.1\r\nhost: 127.0.0.1:{}\r\naccept: text/event-stream\r\n\r\n", address.port())
}

/// The id of a message; always early in it.
fn id_of(data: &[u8]) -> Option<u64> {
    let at = memmem::find(data, b"\"id\":")? + 5;
    let digits = data[at..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    std::str::from_utf8(&data[at..at + digits]).ok()?.parse().ok()
}

/// A connection that is read until something is there.
struct Blocking {
    stream: std::net::TcpStream,
    text: Vec<u8>,
}

impl Blocking {
    fn more(&mut self) -> io::Result<()> {
        let mut part = [0; 4096];
        match io::Read::read(&mut self.stream, &mut part)? {
            0 => Err(io::Error::other("the server closed a connection")),
            length => {
                self.text.extend_from_slice(&part[..length]);
                Ok(())
            }
        }
    }

    /// What stands between two texts; all up to there is dropped.
    fn wait_for(&mut self, before: &str, after: &str) -> io::Result<String> {
        loop {
            let found = memmem::find(&self.text, before.as_bytes()).and_then(|start| {
                let start = start + before.len();
                let length = memmem::find(&self.text[start..], after.as_bytes())?;
                Some((start, start + length))
            });
            if let Some((start, end)) = found {
                let between = String::from_utf8_lossy(&self.text[start..end]).into_owned();
                self.text.drain(..end);
                return Ok(between);
            }
            self.more()?;
        }
    }
}
