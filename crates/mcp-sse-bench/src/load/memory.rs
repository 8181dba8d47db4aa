//! Scenarios that measure memory and connections rather than round trips.

use std::{
    collections::BTreeMap,
    io::{self, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use memchr::memmem;

use super::now;

/// A session on blocking sockets.
pub(crate) struct Opened {
    pub(super) stream: TcpStream,
    endpoint: String,
    host: String,
}

impl Opened {
    /// Opens a stream from loopback address number `source`, and reads its `endpoint` event. One address
    /// has some 28,000 ports.
    pub(crate) fn new(address: SocketAddr, source: usize) -> io::Result<Self> {
        let host = format!("127.0.0.1:{}", address.port());
        let to = SocketAddr::from((Ipv4Addr::new(127, 0, 0, 1 + (source % 200) as u8), address.port()));
        let mut stream = TcpStream::connect(to)?;
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        stream.write_all(super::get(address).as_bytes())?;
        let mut text = Vec::new();
        let mut part = [0; 2048];
        loop {
            let length = stream.read(&mut part)?;
            if length == 0 {
                return Err(io::Error::other("the stream ended before its endpoint event"));
            }
            text.extend_from_slice(&part[..length]);
            if let Some(at) = memmem::find(&text, b"data: ")
                && let Some(end) = memmem::find(&text[at..], b"\n")
            {
                let endpoint = String::from_utf8_lossy(&text[at + 6..at + end]).trim().to_owned();
                return Ok(Self { stream, endpoint, host });
            }
        }
    }

    /// Posts on a connection of its own, and returns the status.
    pub(super) fn post(&self, address: SocketAddr, body: &str) -> io::Result<u16> {
        let mut post = TcpStream::connect(address)?;
        post.set_read_timeout(Some(Duration::from_secs(30)))?;
        let (endpoint, host, length) = (&self.endpoint, &self.host, body.len());
        write!(
            post,
            "POST {endpoint} HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}"
        )?;
        let mut response = Vec::new();
        post.read_to_end(&mut response)?;
        super::http::head(&response)
            .map(|head| head.status)
            .ok_or_else(|| io::Error::other("a POST was not answered"))
    }

    pub(super) fn initialize(&self, address: SocketAddr) -> io::Result<()> {
        for body in [
            r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2024-11-05","capabilities":{},"clientInfo":{"name":"bench","version":"1"}}}"#,
            r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#,
        ] {
            let status = self.post(address, body)?;
            if status != 202 {
                return Err(io::Error::other(format!("a POST was answered {status}")));
            }
        }
        Ok(())
    }
}

/// Opens a session and waits for the answer to `initialize`, which takes the time that is returned.
pub(crate) fn begin(address: SocketAddr) -> io::Result<(Duration, Opened)> {
    let start = now();
    let mut session = Opened::new(address, 0)?;
    session.initialize(address)?;
    let (mut text, mut part) = (Vec::new(), [0; 4096]);
    while memmem::find(&text, b"\"result\"").is_none() {
        match session.stream.read(&mut part)? {
            0 => return Err(io::Error::other("the stream ended before the answer to initialize")),
            length => text.extend_from_slice(&part[..length]),
        }
    }
    Ok((start.elapsed(), session))
}

/// Opens sessions and keeps them.
pub(crate) fn idle(address: SocketAddr, sessions: usize, initialize: bool) -> io::Result<Vec<Opened>> {
    let mut opened = Vec::with_capacity(sessions);
    for number in 0..sessions {
        let session = Opened::new(address, number / 20_000)?;
        if initialize {
            session.initialize(address)?;
        }
        opened.push(session);
    }
    Ok(opened)
}

/// Opens and closes sessions one after the other; sessions a second.
pub(crate) fn storm(address: SocketAddr, sessions: usize) -> io::Result<f64> {
    let start = now();
    for number in 0..sessions {
        drop(Opened::new(address, number / 20_000)?);
    }
    Ok(sessions as f64 / start.elapsed().as_secs_f64())
}

/// Opens this many sessions at once and closes them all, several times over.
pub(crate) fn waves(
    address: SocketAddr,
    sessions: usize,
    waves: usize,
    mut after: impl FnMut(usize) -> io::Result<()>,
) -> io::Result<()> {
    for wave in 1..=waves {
        drop(idle(address, sessions, false)?);
        after(wave)?;
    }
    Ok(())
}

/// One client posts calls of 256 KiB and never reads: how the POSTs were answered.
pub(crate) fn slow_reader(
    address: SocketAddr,
    calls: usize,
    limit: Duration,
) -> io::Result<(BTreeMap<u16, usize>, Opened)> {
    let session = Opened::new(address, 0)?;
    session.initialize(address)?;
    let message = "x".repeat(256 * 1024);
    let end: Instant = now() + limit;
    let mut answers = BTreeMap::new();
    for id in 0..calls {
        let body = format!(
            r#"{{"jsonrpc":"2.0","id":{},"method":"tools/call","params":{{"name":"echo","arguments":{{"message":"{message}"}}}}}}"#,
            id + 2
        );
        // Servers that hold a POST back until the client reads do not answer at all.
        let status = session.post(address, &body).unwrap_or(0);
        *answers.entry(status).or_insert(0) += 1;
        if now() >= end {
            break;
        }
    }
    // Kept open: what the server holds for it is what is measured.
    let _ = session.stream.peer_addr();
    Ok((answers, session))
}
