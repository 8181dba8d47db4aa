//! A stranger's side of a connection, to the byte; and a clock that moves by steps.

use std::{net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

use crate::help::Server;

pub(crate) const PREFACE: &str = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
pub(crate) const SECOND: Duration = Duration::from_secs(1);

/// Serves both endpoints and `/health`.
pub(crate) async fn serve(server: &Server) -> SocketAddr {
    serve_as(server, |server| server).await
}

pub(crate) async fn serve_as(
    server: &Server,
    set: impl FnOnce(mcp_sse::Server<axum::Router>) -> mcp_sse::Server<axum::Router>,
) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let http =
        server.http().fallback(axum::Router::new().route("/health", axum::routing::get(|| async { "ok" })));
    tokio::spawn(set(http).serve(listener, std::future::pending(), Duration::ZERO));
    address
}

/// Time that moves only when it is told to. What waits for a socket then waits for as long as it takes.
pub(crate) struct Clock {
    address: SocketAddr,
    /// While a blocking task runs, tokio's clock does not move by itself.
    _held: std::sync::mpsc::Sender<()>,
}

impl Clock {
    /// Stops the clock. Whatever the server was told before, it has read.
    pub(crate) async fn stop(address: SocketAddr) -> Self {
        let (held, release) = std::sync::mpsc::channel();
        tokio::task::spawn_blocking(move || release.recv());
        let clock = Self { address, _held: held };
        clock.settle().await;
        tokio::time::pause();
        clock
    }

    /// A few requests of somebody else: what was sent before them has arrived and was looked at.
    pub(crate) async fn settle(&self) {
        for _ in 0..3 {
            let mut socket = TcpStream::connect(self.address).await.unwrap();
            socket.write_all(b"GET /health HTTP/1.0\r\n\r\n").await.unwrap();
            let mut answer = String::new();
            socket.read_to_string(&mut answer).await.unwrap();
            assert!(answer.ends_with("ok"), "{answer}");
        }
    }

    pub(crate) async fn step(&self) {
        tokio::time::advance(SECOND).await;
        self.settle().await;
    }

    pub(crate) async fn pass(&self, seconds: u32) {
        for _ in 0..seconds {
            self.step().await;
        }
    }

    /// How many seconds it takes until the server closes this connection, and what it says meanwhile.
    /// `each` is what the stranger does in every second.
    pub(crate) async fn until_closed(
        &self,
        raw: &mut Raw,
        mut each: impl AsyncFnMut(&mut Raw, u32),
    ) -> (u32, Vec<u8>) {
        let mut heard = Vec::new();
        for second in 0..400 {
            if raw.is_closed(&mut heard) {
                return (second, heard);
            }
            each(raw, second).await;
            self.step().await;
        }
        panic!("it is still open; it said {:?}", String::from_utf8_lossy(&heard));
    }

    pub(crate) async fn until_silent_one_is_closed(&self, raw: &mut Raw) -> (u32, String) {
        let (seconds, heard) = self.until_closed(raw, async |_, _| ()).await;
        (seconds, String::from_utf8(heard).unwrap())
    }
}

pub(crate) struct Raw(pub(crate) TcpStream);

impl Raw {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        Self(TcpStream::connect(address).await.unwrap())
    }

    /// The same, and what the server sends stays with the server until it is read: the kernel would keep up to six
    /// megabytes here, and the server be done long before.
    pub(crate) async fn connect_narrow(address: SocketAddr) -> Self {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(64 * 1024).unwrap();
        Self(socket.connect(address).await.unwrap())
    }

    pub(crate) async fn say(&mut self, bytes: impl AsRef<[u8]>) {
        self.0.write_all(bytes.as_ref()).await.unwrap();
    }

    /// What comes, up to and with this text.
    pub(crate) async fn hear(&mut self, until: &str) -> String {
        let mut heard = Vec::new();
        while !heard.ends_with(until.as_bytes()) {
            heard.push(self.0.read_u8().await.unwrap());
        }
        String::from_utf8(heard).unwrap()
    }

    /// Whether the server has closed it; what it said before is `heard`.
    pub(crate) fn is_closed(&self, heard: &mut Vec<u8>) -> bool {
        loop {
            let mut room = [0; 4096];
            match self.0.try_read(&mut room) {
                Ok(0) => return true,
                Ok(length) => heard.extend_from_slice(&room[..length]),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return false,
                Err(_) => return true,
            }
        }
    }
}

// ---- HTTP/2 ---------------------------------------------------------------------------------------------

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const CONTINUATION: u8 = 9;
pub(crate) const ACK: u8 = 1;
pub(crate) const END_STREAM: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;

pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut frame = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    frame.extend_from_slice(&[kind, flags]);
    frame.extend_from_slice(&stream.to_be_bytes());
    frame.extend_from_slice(payload);
    frame
}

/// `INITIAL_WINDOW_SIZE`: what the server may send on a stream unasked.
pub(crate) fn settings_with_window(window: u32) -> Vec<u8> {
    let mut payload = vec![0, 4];
    payload.extend_from_slice(&window.to_be_bytes());
    frame(SETTINGS, 0, 0, &payload)
}

/// The head of a GET, as HPACK.
pub(crate) fn get_block(path: &str) -> Vec<u8> {
    let mut block = vec![0x82, 0x86, 0x04, path.len() as u8];
    block.extend_from_slice(path.as_bytes());
    block.extend_from_slice(&[0x01, 9]);
    block.extend_from_slice(b"localhost");
    block
}

pub(crate) fn get(stream: u32, path: &str) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | END_STREAM, stream, &get_block(path))
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
    pub(crate) payload: Vec<u8>,
}

/// A client that answers pings and takes the server's settings, and else says only what it is told to.
pub(crate) struct Http2 {
    pub(crate) write: tokio::sync::mpsc::Sender<Vec<u8>>,
    frames: tokio::sync::mpsc::Receiver<Frame>,
    reading: JoinHandle<()>,
}

impl Http2 {
    pub(crate) async fn connect(address: SocketAddr, window: u32) -> Self {
        let socket = TcpStream::connect(address).await.unwrap();
        let (mut read, mut socket) = socket.into_split();
        let (write, mut to_write) = tokio::sync::mpsc::channel::<Vec<u8>>(1000);
        tokio::spawn(async move {
            while let Some(bytes) = to_write.recv().await {
                if socket.write_all(&bytes).await.is_err() {
                    return;
                }
            }
        });
        let (found, frames) = tokio::sync::mpsc::channel(10_000);
        let answers = write.clone();
        let reading = tokio::spawn(async move {
            let mut head = [0; 9];
            while read.read_exact(&mut head).await.is_ok() {
                let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
                let mut payload = vec![0; length as usize];
                if read.read_exact(&mut payload).await.is_err() {
                    return;
                }
                let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
                let (kind, flags) = (head[3], head[4]);
                match (kind, flags & ACK) {
                    (PING, 0) => drop(answers.send(frame(PING, ACK, 0, &payload)).await),
                    (SETTINGS, 0) => drop(answers.send(frame(SETTINGS, ACK, 0, &[])).await),
                    _ => drop(found.send(Frame { kind, flags, stream, payload }).await),
                }
            }
        });
        let this = Self { write, frames, reading };
        this.say(PREFACE).await;
        this.say(settings_with_window(window)).await;
        this
    }

    pub(crate) async fn say(&self, bytes: impl AsRef<[u8]>) {
        self.write.send(bytes.as_ref().to_vec()).await.unwrap();
    }

    /// The next frame of this kind on this stream.
    pub(crate) async fn frame(&mut self, kind: u8, stream: u32) -> Frame {
        loop {
            let frame = self.frames.recv().await.expect("an open connection");
            if (frame.kind, frame.stream) == (kind, stream) {
                return frame;
            }
        }
    }

    /// What has come by now.
    pub(crate) fn heard(&mut self) -> Vec<Frame> {
        std::iter::from_fn(|| self.frames.try_recv().ok()).collect()
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.reading.is_finished()
    }

    /// How many seconds it takes until the server closes the connection.
    pub(crate) async fn until_closed(&mut self, clock: &Clock, mut each: impl AsyncFnMut(&Self)) -> u32 {
        for second in 0..400 {
            if self.is_closed() {
                return second;
            }
            each(self).await;
            clock.step().await;
        }
        panic!("it is still open");
    }
}
