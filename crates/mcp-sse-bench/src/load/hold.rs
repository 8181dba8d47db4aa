//! Many idle sessions, held for a while: all must stay, and hear from the server.

use std::{
    convert::Infallible,
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt as _, Empty};
use hyper::{body::Incoming, client::conn::http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpSocket;

/// Streams of one HTTP/2 connection; what the server allows.
const STREAMS: usize = 100;

/// How it went.
#[derive(Debug)]
pub(crate) struct Held {
    /// Streams that were open at the end.
    pub(crate) alive: usize,
    /// Comments that came in the time.
    pub(crate) keep_alives: u64,
}

#[derive(Default)]
struct Counts {
    alive: AtomicUsize,
    keep_alives: AtomicU64,
}

/// Files that may be open besides the sockets of the sessions.
const OTHER_FILES: usize = 150;

/// Fails if this process may not open as many files as both holds together need, so that this is known before all
/// else is measured. Each server has a process of its own, which needs fewer.
pub(crate) fn check_open_files(http1: usize, http2: usize) -> io::Result<()> {
    let needed = http1 + http2.div_ceil(STREAMS) + OTHER_FILES;
    let limits = std::fs::read_to_string("/proc/self/limits")?;
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
    let soft = line.and_then(|line| line.split_whitespace().next()?.parse::<usize>().ok());
    match soft {
        Some(limit) if limit < needed => Err(io::Error::other(format!(
            "a process may open {limit} files here, and the sessions that are held need {needed}: raise the limit \
             (ulimit -n {needed}), hold fewer (--hold-http1, now {http1}), or none (--hold 0)"
        ))),
        _ => Ok(()),
    }
}

/// Opens sessions, calls `opened`, and holds them for a time.
pub(crate) fn hold(
    address: SocketAddr,
    sessions: usize,
    http2: bool,
    time: Duration,
    opened: impl FnOnce() -> io::Result<()>,
) -> io::Result<Held> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let counts = Arc::new(Counts::default());
        if http2 {
            let mut left = sessions;
            while left > 0 {
                let streams = left.min(STREAMS);
                over_http2(address, streams, &counts).await?;
                left -= streams;
            }
        } else {
            for number in 0..sessions {
                over_http1(address, number / 10_000, &counts).await?;
            }
        }
        opened()?;
        counts.keep_alives.store(0, Ordering::Relaxed);
        tokio::time::sleep(time).await;
        Ok(Held {
            alive: counts.alive.load(Ordering::Relaxed),
            keep_alives: counts.keep_alives.load(Ordering::Relaxed),
        })
    })
}

/// A connection of its own, from loopback address number `source`.
async fn over_http1(address: SocketAddr, source: usize, counts: &Arc<Counts>) -> io::Result<()> {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::from((Ipv4Addr::new(127, 0, 0, 2 + source as u8), 0)))?;
    let mut stream = socket.connect(address).await?;
    stream.write_all(super::get(address).as_bytes()).await?;
    let mut text = [0; 1024];
    let mut read = 0;
    while !text[..read].windows(6).any(|window| window == b"data: ") {
        read += match stream.read(&mut text[read..]).await? {
            0 => return Err(io::Error::other("a stream ended before its endpoint event")),
            length => length,
        };
    }
    let counts = Arc::clone(counts);
    counts.alive.fetch_add(1, Ordering::Relaxed);
    tokio::spawn(async move {
        // A chunk with a comment is short and comes in one read.
        let mut part = [0; 64];
        while let Ok(length @ 1..) = stream.read(&mut part).await {
            let colons = part[..length].iter().filter(|byte| **byte == b':').count();
            counts.keep_alives.fetch_add(colons as u64, Ordering::Relaxed);
        }
        counts.alive.fetch_sub(1, Ordering::Relaxed);
    });
    Ok(())
}

async fn over_http2(address: SocketAddr, streams: usize, counts: &Arc<Counts>) -> io::Result<()> {
    let stream = tokio::net::TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let builder = http2::Builder::new(TokioExecutor::new());
    let (mut sender, connection) =
        builder.handshake::<_, Empty<Bytes>>(TokioIo::new(stream)).await.map_err(io::Error::other)?;
    tokio::spawn(connection);
    let uri = format!("http://127.0.0.1:{}/sse", address.port());
    for _ in 0..streams {
        let get = Request::get(&uri).body(Empty::new()).map_err(io::Error::other)?;
        sender.ready().await.map_err(io::Error::other)?;
        let response = sender.send_request(get).await.map_err(io::Error::other)?;
        if !response.status().is_success() {
            return Err(io::Error::other(format!("a stream was answered {}", response.status())));
        }
        let counts = Arc::clone(counts);
        let sender = sender.clone();
        tokio::spawn(async move {
            counts.alive.fetch_add(1, Ordering::Relaxed);
            let _ = read(response.into_body(), &counts).await;
            counts.alive.fetch_sub(1, Ordering::Relaxed);
            drop(sender);
        });
    }
    Ok(())
}

async fn read(mut body: Incoming, counts: &Counts) -> Result<Infallible, ()> {
    loop {
        let frame = body.frame().await.ok_or(())?.map_err(drop)?;
        let data = frame.into_data().map_err(drop)?;
        if data.starts_with(b":") {
            counts.keep_alives.fetch_add(1, Ordering::Relaxed);
        }
    }
}
