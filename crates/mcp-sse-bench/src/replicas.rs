//! Two replicas of the program: what a POST costs at the replica that holds the session, and at the other one. Engine and
//! replicas are on the first core.

use std::{
    fmt::Write as _,
    io::{self, BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use hdrhistogram::Histogram;

use crate::{args::Replicas, load::now, process::Process};

/// POSTs one after the other, local and foreign in turn.
const POSTS: usize = 5_000;
/// How many of them warm up.
const FIRST: usize = 500;
/// Connections that post at once, each for a session of its own.
const AT_ONCE: usize = 16;
/// Streams that are held, to see what one takes.
const IDLE: usize = 2_000;
const INITIALIZE: &str = r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2024-11-05","capabilities":{},"clientInfo":{"name":"bench","version":"1"}}}"#;
const INITIALIZED: &str = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;
const MESSAGE: &str =
    r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":1,"progress":1}}"#;

/// What was measured of one engine in one round.
struct Round {
    /// Microseconds of a POST until its answer: p50 and p99, local and foreign.
    local: (f64, f64),
    foreign: (f64, f64),
    /// POSTs a second, 16 at once.
    local_rate: f64,
    foreign_rate: f64,
    /// Microseconds of processor time a POST: of the host; of the other replica, the host and the engine.
    local_processor: f64,
    foreign_processor: [f64; 3],
    /// KiB of an idle session, without a backplane and with one.
    alone: f64,
    with_backplane: f64,
}

/// Prints a table.
pub(crate) fn run(options: &Replicas) -> io::Result<()> {
    let mut table = String::from(
        "| | POST p50, p99 (µs) | ratio | 16 at once (a second) | processor time (µs a POST) | KiB a session |\n|---|---|---|---|---|---|\n",
    );
    let engines = [
        ("NATS", &options.nats, ["-a", "127.0.0.1", "-p", "{port}"].as_slice(), "nats"),
        ("Redis", &options.redis, &["--bind", "127.0.0.1", "--port", "{port}", "--save", ""], "redis"),
    ];
    for (name, program, arguments, scheme) in engines {
        let Some(program) = program else {
            eprintln!("left out: {name}, whose server was not given");
            continue;
        };
        let mut rounds = Vec::new();
        for round in 1..=options.rounds {
            eprintln!("{name}: round {round} of {}", options.rounds);
            let engine = Process::start_at_port(program.as_os_str(), arguments)?;
            let url = format!("{scheme}://{}", engine.address);
            rounds.push(measure(&engine, &url, Duration::from_secs_f64(options.seconds))?);
        }
        let median = |of: &dyn Fn(&Round) -> f64| {
            let mut all: Vec<f64> = rounds.iter().map(of).collect();
            all.sort_by(f64::total_cmp);
            all[all.len() / 2]
        };
        let local = (median(&|round| round.local.0), median(&|round| round.local.1));
        let foreign = (median(&|round| round.foreign.0), median(&|round| round.foreign.1));
        let foreign_processor = [0, 1, 2].map(|at| median(&|round| round.foreign_processor[at]));
        let _ = writeln!(
            table,
            "| {name}: local | {:.0}, {:.0} | | {:.0} | {:.1} | {:.1} without a backplane |",
            local.0,
            local.1,
            median(&|round| round.local_rate),
            median(&|round| round.local_processor),
            median(&|round| round.alone),
        );
        let [other, host, engine] = foreign_processor;
        let _ = writeln!(
            table,
            "| {name}: foreign | {:.0}, {:.0} | {:.2}, {:.2} | {:.0} | {other:.1} + host {host:.1} + engine {engine:.1} | {:.1} |",
            foreign.0,
            foreign.1,
            foreign.0 / local.0,
            foreign.1 / local.1,
            median(&|round| round.foreign_rate),
            median(&|round| round.with_backplane),
        );
    }
    print!("{table}");
    Ok(())
}

fn replica(cluster: Option<(&str, &str)>) -> io::Result<Process> {
    let folder = std::env::current_exe()?;
    let echo = folder.with_file_name("mcp-sse-bench-echo");
    let echo = echo.to_str().ok_or_else(|| io::Error::other("the folder's path is not UTF-8"))?;
    let mut arguments = vec!["serve", "--port", "{port}", "--log-level", "warn", "--max-sessions", "10000"];
    if let Some((url, name)) = cluster {
        arguments.extend(["--cluster", url, "--replica-name", name]);
    }
    arguments.extend(["--", echo]);
    Process::start_at_port(folder.with_file_name("mcp-sse").as_os_str(), &arguments)
}

fn measure(engine: &Process, url: &str, time: Duration) -> io::Result<Round> {
    let (host, other) = (replica(Some((url, "a")))?, replica(Some((url, "b")))?);
    let session = Session::open(host.address)?;
    let (mut here, mut there) = (Poster::new(host.address)?, Poster::new(other.address)?);
    // Until the other one has heard of the first, which takes no longer than its link is new.
    here.post(&session.endpoint, INITIALIZE)?;
    here.post(&session.endpoint, INITIALIZED)?;
    let histogram = || Histogram::<u64>::new(3).map_err(io::Error::other);
    let (mut local, mut foreign) = (histogram()?, histogram()?);
    for at in 0..POSTS {
        for (poster, histogram) in [(&mut here, &mut local), (&mut there, &mut foreign)] {
            let start = now();
            poster.post(&session.endpoint, MESSAGE)?;
            if at >= FIRST {
                histogram.record(start.elapsed().as_nanos() as u64).map_err(io::Error::other)?;
            }
        }
    }
    let micros = |histogram: &Histogram<u64>| {
        (histogram.value_at_quantile(0.5) as f64 / 1e3, histogram.value_at_quantile(0.99) as f64 / 1e3)
    };
    let processes = [&other, &host, engine];
    let processor = || -> io::Result<[f64; 3]> {
        let [a, b, c] = processes.map(Process::processor_seconds);
        Ok([a?, b?, c?])
    };
    let at_once = |address| -> io::Result<(f64, [f64; 3])> {
        let before = processor()?;
        let (posts, rate) = posts_at_once(host.address, address, time)?;
        let after = processor()?;
        Ok((rate, [0, 1, 2].map(|at| (after[at] - before[at]) * 1e6 / posts as f64)))
    };
    let (local_rate, [_, local_processor, _]) = at_once(host.address)?;
    let (foreign_rate, foreign_processor) = at_once(other.address)?;
    drop((here, there, session));
    let alone = idle(&replica(None)?)?;
    let with_backplane = idle(&replica(Some((url, "c")))?)?;
    Ok(Round {
        local: micros(&local),
        foreign: micros(&foreign),
        local_rate,
        foreign_rate,
        local_processor,
        foreign_processor,
        alone,
        with_backplane,
    })
}

/// POSTs for sessions of the host at this address; how many, and how many a second.
fn posts_at_once(host: SocketAddr, address: SocketAddr, time: Duration) -> io::Result<(u64, f64)> {
    let mut sessions = Vec::new();
    for _ in 0..AT_ONCE {
        let session = Session::open(host)?;
        let mut poster = Poster::new(host)?;
        poster.post(&session.endpoint, INITIALIZE)?;
        poster.post(&session.endpoint, INITIALIZED)?;
        sessions.push((session, Poster::new(address)?));
    }
    let start = now();
    let posts = std::thread::scope(|scope| {
        let all: Vec<_> = sessions
            .iter_mut()
            .map(|(session, poster)| {
                scope.spawn(|| -> io::Result<u64> {
                    let mut posts = 0;
                    while start.elapsed() < time {
                        poster.post(&session.endpoint, MESSAGE)?;
                        posts += 1;
                    }
                    Ok(posts)
                })
            })
            .collect();
        let joined = all
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|_| Err(io::Error::other("a thread panicked"))));
        joined.sum::<io::Result<u64>>()
    })?;
    Ok((posts, posts as f64 / start.elapsed().as_secs_f64()))
}

/// KiB of an idle session.
fn idle(program: &Process) -> io::Result<f64> {
    let hold = |sessions: usize| {
        (0..sessions).map(|_| Session::open(program.address)).collect::<io::Result<Vec<_>>>()
    };
    // What is allocated once.
    let first = hold(100)?;
    let before = program.resident()?;
    let held = hold(IDLE)?;
    let after = program.resident()?;
    drop((first, held));
    Ok((after.saturating_sub(before)) as f64 / IDLE as f64)
}

/// A session with its stream, which nobody reads after the first event.
struct Session {
    _stream: BufReader<TcpStream>,
    endpoint: String,
}

impl Session {
    fn open(address: SocketAddr) -> io::Result<Self> {
        let mut socket = TcpStream::connect(address)?;
        write!(socket, "GET /sse HTTP/1.1\r\nhost: localhost\r\n\r\n")?;
        let mut stream = BufReader::new(socket);
        let mut line = String::new();
        loop {
            line.clear();
            if stream.read_line(&mut line)? == 0 {
                return Err(io::Error::other("no stream was opened"));
            }
            if let Some(endpoint) = line.strip_prefix("data: ") {
                let endpoint = endpoint.trim_end().to_owned();
                return Ok(Self { _stream: stream, endpoint });
            }
        }
    }
}

/// A connection that posts.
struct Poster(BufReader<TcpStream>);

impl Poster {
    fn new(address: SocketAddr) -> io::Result<Self> {
        let socket = TcpStream::connect(address)?;
        socket.set_nodelay(true)?;
        Ok(Self(BufReader::new(socket)))
    }

    /// Posts, and waits for 202.
    fn post(&mut self, endpoint: &str, json: &str) -> io::Result<()> {
        let head = format!(
            "POST {endpoint} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{json}",
            json.len()
        );
        self.0.get_mut().write_all(head.as_bytes())?;
        let (mut status, mut length, mut line) = (String::new(), 0, String::new());
        loop {
            line.clear();
            if self.0.read_line(&mut line)? == 0 {
                return Err(io::Error::other("the connection was closed"));
            }
            if status.is_empty() {
                status.clone_from(&line);
            }
            let lower = line.to_ascii_lowercase();
            if let Some(value) = lower.strip_prefix("content-length:") {
                length = value.trim().parse().unwrap_or(0);
            }
            if line == "\r\n" {
                break;
            }
        }
        self.0.read_exact(&mut vec![0; length])?;
        if status.contains(" 202 ") {
            Ok(())
        } else {
            Err(io::Error::other(format!("a POST was answered {status:?}")))
        }
    }
}
