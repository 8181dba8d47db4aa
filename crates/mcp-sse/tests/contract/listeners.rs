//! Where connections come from: whose they are, what one address may have of them, Unix sockets.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use http::{Request, Response};
use http_body_util::Full;
use hyper_util::rt::{TokioExecutor, TokioIo};
use mcp_sse::{Builder, ClientIp, Listener, Socket};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

use crate::help::{Server, builder, message, notification, request, result, soon};

/// A listener whose connections come from these addresses, the last one again and again.
struct From(TcpListener, Vec<IpAddr>);

impl From {
    async fn new(addresses: &[&str]) -> (Self, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        (Self(listener, addresses.iter().map(|text| text.parse().unwrap()).collect()), address)
    }
}

impl Listener for From {
    async fn accept(&mut self) -> io::Result<Socket> {
        let (stream, peer) = self.0.accept().await?;
        let ip = if self.1.len() > 1 { self.1.remove(0) } else { self.1[0] };
        Ok((stream, SocketAddr::new(ip, peer.port())).into())
    }
}

/// What it says about who asks.
async fn whoami(request: axum::extract::Request) -> String {
    request.extensions().get().map_or("nobody".to_owned(), |ClientIp(ip)| ip.to_string())
}

fn serve(
    server: &Server,
    listener: impl Listener + 'static,
    settings: impl FnOnce(mcp_sse::Server) -> mcp_sse::Server,
) -> JoinHandle<()> {
    let http =
        settings(server.http()).fallback(axum::Router::new().route("/whoami", axum::routing::any(whoami)));
    tokio::spawn(http.serve(listener, std::future::pending(), Duration::ZERO))
}

/// A client that says exactly this.
struct Raw<S = TcpStream>(S);

impl Raw {
    async fn connect(address: SocketAddr) -> Self {
        Self(TcpStream::connect(address).await.unwrap())
    }

    /// Whether it was closed from the other side, with a reset or without.
    async fn is_closed(&mut self) -> bool {
        matches!(soon(self.0.read(&mut [0])).await, Ok(0) | Err(_))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Raw<S> {
    async fn say(&mut self, bytes: impl AsRef<[u8]>) {
        self.0.write_all(bytes.as_ref()).await.unwrap();
    }

    async fn hear(&mut self, until: &str) -> String {
        let mut heard = Vec::new();
        while !heard.ends_with(until.as_bytes()) {
            heard.push(soon(self.0.read_u8()).await.unwrap());
        }
        String::from_utf8(heard).unwrap()
    }

    /// Opens a stream, and gives where to post.
    async fn open(&mut self, headers: &str) -> String {
        self.say(format!("GET /sse HTTP/1.1\r\nhost: localhost\r\n{headers}\r\n")).await;
        let heard = self.hear("\n\n").await;
        heard.lines().find_map(|line| line.strip_prefix("data: ")).expect("an endpoint").to_owned()
    }

    async fn post(&mut self, uri: &str, headers: &str, json: &str) {
        let head = "host: localhost\r\ncontent-type: application/json\r\n";
        let length = json.len();
        self.say(format!("POST {uri} HTTP/1.1\r\n{head}{headers}content-length: {length}\r\n\r\n{json}"))
            .await;
        let answer = self.hear("\r\n\r\nAccepted").await;
        assert!(answer.starts_with("HTTP/1.1 202"), "{answer}");
    }

    async fn whoami(&mut self, headers: &str) -> String {
        self.say(format!("GET /whoami HTTP/1.1\r\nhost: localhost\r\n{headers}\r\n")).await;
        let head = self.hear("\r\n\r\n").await;
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).expect("a length");
        let mut body = vec![0; length.parse().unwrap()];
        soon(self.0.read_exact(&mut body)).await.unwrap();
        String::from_utf8(body).unwrap()
    }
}

/// Whom the app sees behind its next message.
async fn sender(session: &mut mcp_sse::Session) -> String {
    let incoming = soon(session.recv()).await.unwrap();
    incoming.parts().extensions.get().map_or("nobody".to_owned(), |ClientIp(ip)| ip.to_string())
}

fn no_more() -> Builder {
    builder().max_sessions_per_address(1)
}

// ---- the peer ---------------------------------------------------------------------------------------------

#[tokio::test]
async fn the_address_of_the_peer_reaches_every_request() {
    let server = Server::new(no_more());
    let (listener, address) = From::new(&["192.0.2.1", "192.0.2.1", "192.0.2.2"]).await;
    serve(&server, listener, |http| http);
    let (mut stream, mut posts) = (Raw::connect(address).await, Raw::connect(address).await);
    let uri = stream.open("").await;
    for id in 1..=3 {
        posts.post(&uri, "", &request(id)).await;
    }
    // What is not plain is hyper's, and the rest of its connection.
    let chunked = format!(
        "POST {uri} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n{:x}\r\n{}\r\n0\r\n\r\n",
        request(4).len(),
        request(4)
    );
    posts.say(chunked).await;
    posts.hear("\r\n\r\nAccepted").await;
    let mut session = server.session().await;
    for _ in 1..=4 {
        assert_eq!(sender(&mut session).await, "192.0.2.1");
    }
    assert_eq!(posts.whoami("").await, "192.0.2.1");
    // Nobody is asked who they are.
    assert_eq!(posts.whoami("x-forwarded-for: 198.51.100.1\r\n").await, "192.0.2.1");

    posts.say("GET /sse HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
    assert!(posts.hear("\r\n\r\n").await.starts_with("HTTP/1.1 503"), "the bound of one address");
    Raw::connect(address).await.open("").await;

    let socket = TcpStream::connect(address).await.unwrap();
    let (mut http2, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(socket)).await.unwrap();
    tokio::spawn(connection);
    let request = Request::get("http://localhost/whoami").body(Full::<bytes::Bytes>::default()).unwrap();
    let answer: Response<_> = soon(http2.send_request(request)).await.unwrap();
    assert_eq!(crate::help::Answer::read(answer).await.body, "192.0.2.2");
}

#[tokio::test]
async fn behind_trusted_proxies_the_head_says_who_the_client_is() {
    let server = Server::new(no_more());
    let (listener, address) = From::new(&["10.0.0.1"]).await;
    serve(&server, listener, |http| http.trust_forwarded_for(1).max_connections_per_address(1));
    // All connections are the proxy's, so they are not bounded.
    let (mut one, mut two) = (Raw::connect(address).await, Raw::connect(address).await);
    let uri = one.open("x-forwarded-for: 198.51.100.9, 192.0.2.1\r\n").await;
    for client in ["192.0.2.1", "192.0.2.1", "192.0.2.2", "192.0.2.1"] {
        two.post(&uri, &format!("x-forwarded-for: {client}\r\n"), &notification("m")).await;
    }
    two.post(&uri, "x-forwarded-for: me\r\n", &notification("m")).await;
    let mut session = server.session().await;
    for client in ["192.0.2.1", "192.0.2.1", "192.0.2.2", "192.0.2.1", "10.0.0.1"] {
        assert_eq!(sender(&mut session).await, client);
    }
    assert_eq!(two.whoami("x-forwarded-for: 192.0.2.7\r\n").await, "192.0.2.7");
    assert_eq!(two.whoami("").await, "10.0.0.1");
    two.say("GET /sse HTTP/1.1\r\nhost: localhost\r\nx-forwarded-for: 192.0.2.1\r\n\r\n").await;
    assert!(two.hear("\r\n\r\n").await.starts_with("HTTP/1.1 503"), "sessions are bounded");
    Raw::connect(address).await.open("x-forwarded-for: 192.0.2.2\r\n").await;
}

// ---- one address ------------------------------------------------------------------------------------------

#[tokio::test]
async fn one_address_has_so_many_connections_and_the_next_is_closed_at_once() {
    let server = Server::new(builder());
    let from = ["192.0.2.1", "2001:db8::1", "192.0.2.1", "192.0.2.1", "2001:db8::2", "2001:db8::3"];
    let (listener, address) = From::new(&[&from[..], &["192.0.2.1"]].concat()).await;
    serve(&server, listener, |http| http.max_connections_per_address(2));
    let mut connections = Vec::new();
    for _ in 0..6 {
        connections.push(Raw::connect(address).await);
    }
    for at in [3, 5] {
        assert!(connections[at].is_closed().await, "{at}");
    }
    for at in [0, 1, 2, 4] {
        assert_eq!(connections[at].whoami("").await, from[at]);
    }
    // A stream counts too; one that is closed does not.
    connections[0].0.shutdown().await.unwrap();
    assert!(connections[0].is_closed().await);
    let mut stream = Raw::connect(address).await;
    stream.open("").await;
    assert!(Raw::connect(address).await.is_closed().await);
}

#[tokio::test]
async fn loopback_has_no_bound_on_connections() {
    let server = Server::new(builder());
    let (listener, address) = From::new(&["127.0.0.1"]).await;
    serve(&server, listener, |http| http.max_connections_per_address(1));
    let mut connections = Vec::new();
    for _ in 0..5 {
        let mut connection = Raw::connect(address).await;
        assert_eq!(connection.whoami("").await, "127.0.0.1");
        connections.push(connection);
    }
}

#[tokio::test]
async fn a_connection_without_a_request_is_closed_after_the_idle_timeout() {
    let server = Server::new(builder());
    let (listener, address) = From::new(&["127.0.0.1"]).await;
    // One second is the least.
    serve(&server, listener, |http| http.idle_timeout(Duration::ZERO));
    let mut silent = Raw::connect(address).await;
    assert!(silent.is_closed().await);
}

// ---- the PROXY protocol -----------------------------------------------------------------------------------

const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

fn proxied(address: [u8; 4]) -> Vec<u8> {
    [SIGNATURE, &[0x21, 0x11, 0, 12], &address, &[127, 0, 0, 1, 0, 1, 0, 2]].concat()
}

#[tokio::test]
async fn the_header_of_a_proxy_says_where_a_connection_comes_from() {
    let server = Server::new(builder());
    let (listener, address) = From::new(&["10.0.0.1"]).await;
    serve(&server, listener, |http| http.proxy_protocol(true).max_connections_per_address(1));
    let (mut one, mut two) = (Raw::connect(address).await, Raw::connect(address).await);
    let uri = {
        one.say(proxied([192, 0, 2, 1])).await;
        one.open("").await
    };
    // In pieces, and with the first request behind it.
    let header = proxied([192, 0, 2, 2]);
    two.say(&header[..5]).await;
    tokio::task::yield_now().await;
    two.say(&header[5..]).await;
    two.post(&uri, "", &notification("m")).await;
    let mut session = server.session().await;
    assert_eq!(sender(&mut session).await, "192.0.2.2");
    let mut again = Raw::connect(address).await;
    again.say(proxied([192, 0, 2, 1])).await;
    assert!(again.is_closed().await, "that address has a connection");
    // The proxy's own checks come from its address, and are not bounded.
    let mut checks = Vec::new();
    for _ in 0..3 {
        let mut check = Raw::connect(address).await;
        check.say([SIGNATURE, &[0x20, 0, 0, 0]].concat()).await;
        assert_eq!(check.whoami("").await, "10.0.0.1");
        checks.push(check);
    }
}

#[tokio::test]
async fn a_connection_without_that_header_is_closed() {
    let server = Server::new(builder());
    let (listener, address) = From::new(&["10.0.0.1"]).await;
    serve(&server, listener, |http| http.proxy_protocol(true));
    for said in [
        "GET /whoami HTTP/1.1\r\nhost: localhost\r\n\r\n",
        "PROXY TCP4 192.0.2.1 127.0.0.1 1 2\r\nGET /whoami HTTP/1.1\r\n\r\n",
        "\r\n\r\nno",
    ] {
        let mut connection = Raw::connect(address).await;
        connection.say(said).await;
        assert!(connection.is_closed().await, "{said}");
    }
}

// ---- Unix sockets -----------------------------------------------------------------------------------------

#[cfg(unix)]
#[tokio::test]
async fn a_unix_socket_serves_streams_messages_and_the_rest() {
    let path = std::env::temp_dir().join(format!("mcp-sse-contract-{}.sock", std::process::id()));
    let listener = tokio::net::UnixListener::bind(&path).unwrap();
    let server = Server::new(builder());
    serve(&server, listener, |http| http.max_connections_per_address(1).trust_forwarded_for(1));
    let connect = || async { Raw(tokio::net::UnixStream::connect(&path).await.unwrap()) };
    let (mut stream, mut posts) = (connect().await, connect().await);
    let uri = stream.open("").await;
    let mut session = None;
    for id in 1..=3 {
        posts.post(&uri, "", &request(id)).await;
        let session = match &mut session {
            Some(session) => session,
            none => none.insert(server.session().await),
        };
        assert_eq!(sender(session).await, "nobody");
        session.handle().send(message(result(id))).await.unwrap();
        let event = stream.hear("\n\n\r\n").await;
        assert!(event.contains(&result(id)), "{event}");
    }
    assert_eq!(posts.whoami("").await, "nobody");
    assert_eq!(posts.whoami("x-forwarded-for: 192.0.2.1\r\n").await, "192.0.2.1");
    std::fs::remove_file(&path).unwrap();
}
