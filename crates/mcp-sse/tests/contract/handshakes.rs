//! What comes before the first request of a connection, and connections that are no sockets.

use std::{io, net::SocketAddr, time::Duration};

use mcp_sse::{Principal, Socket};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, BufWriter},
    net::{TcpListener, TcpStream},
};

use crate::help::{Server, builder, message, notification, soon};

async fn serve(server: &Server, set: impl FnOnce(mcp_sse::Server) -> mcp_sse::Server) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(set(server.http()).serve(listener, std::future::pending(), Duration::ZERO));
    address
}

/// What comes, up to and with this text.
async fn hear(socket: &mut TcpStream, until: &str) -> String {
    let mut heard = String::new();
    while !heard.ends_with(until) {
        heard.push(char::from(soon(socket.read_u8()).await.unwrap()));
    }
    heard
}

fn raw_post(uri: &str, json: &str) -> String {
    let length = json.len();
    format!(
        "POST {uri} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{json}"
    )
}

#[tokio::test]
async fn what_a_connection_buffers_is_flushed() {
    let server = Server::new(builder().keep_alive(Duration::from_millis(300)));
    // Nothing leaves it without a flush.
    let buffered =
        |socket: Socket| async move { Ok(Socket::over(BufWriter::with_capacity(1 << 20, socket))) };
    let address = serve(&server, |http| http.handshake(buffered)).await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"GET /sse HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    let head = hear(&mut stream, "\n\n\r\n").await;
    let uri = head.lines().find_map(|line| line.strip_prefix("data: ")).unwrap();
    let mut posts = TcpStream::connect(address).await.unwrap();
    for _ in 0..3 {
        posts.write_all(raw_post(uri, &notification("m")).as_bytes()).await.unwrap();
        hear(&mut posts, "\r\n\r\nAccepted").await;
    }
    let mut session = server.session().await;
    for length in [10, 100_000, 3_000_000] {
        let method = "m".repeat(length);
        session.handle().send(message(notification(&method))).await.unwrap();
        let mut heard = 0;
        let mut room = vec![0; 1 << 16];
        while heard < length {
            let read = soon(stream.read(&mut room)).await.unwrap();
            assert_ne!(read, 0);
            heard += room[..read].iter().filter(|byte| **byte == b'm').count();
        }
        hear(&mut stream, "\n\n\r\n").await;
    }
    // A keep-alive, and what hyper answers.
    assert!(hear(&mut stream, "\n\n\r\n").await.contains("\r\n:"));
    posts.write_all(b"GET /nowhere HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    assert!(hear(&mut posts, "\r\n\r\n").await.starts_with("HTTP/1.1 404"));
    assert!(session.recv().await.is_some());
}

#[tokio::test]
async fn a_handshake_may_say_who_the_client_is_or_refuse_it() {
    let server = Server::new(builder());
    let handshake = |mut socket: Socket| async move {
        match socket.read_u8().await? {
            b'a' => Ok(socket.with_principal(Principal::new("alice"))),
            b'b' => Ok(socket.with_principal(Principal::new("bob"))),
            _ => Err(io::ErrorKind::InvalidData.into()),
        }
    };
    let address = serve(&server, |http| http.handshake(handshake)).await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"aGET /sse HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    let head = hear(&mut stream, "\n\n\r\n").await;
    let uri = head.lines().find_map(|line| line.strip_prefix("data: ")).unwrap();
    for (who, expected) in [("b", "404"), ("a", "202")] {
        let mut socket = TcpStream::connect(address).await.unwrap();
        socket.write_all(format!("{who}{}", raw_post(uri, &notification("m"))).as_bytes()).await.unwrap();
        let head = hear(&mut socket, "\r\n\r\n").await;
        assert_eq!(&head[9..12], expected, "{who}");
    }
    let mut session = server.session().await;
    let incoming = soon(session.recv()).await.unwrap();
    assert_eq!(incoming.parts().extensions.get(), Some(&Principal::new("alice")));
    let mut stranger = TcpStream::connect(address).await.unwrap();
    stranger.write_all(b"x").await.unwrap();
    assert_eq!(soon(stranger.read(&mut [0; 10])).await.unwrap_or(0), 0);
}

#[tokio::test]
async fn a_handshake_that_is_not_made_is_not_waited_for() {
    let server = Server::new(builder());
    let handshake = |mut socket: Socket| async move { socket.read_u8().await.map(|_| socket) };
    let set = |http: mcp_sse::Server| http.handshake(handshake).header_timeout(Duration::from_secs(1));
    let address = serve(&server, set).await;
    let mut silent = TcpStream::connect(address).await.unwrap();
    assert_eq!(soon(silent.read(&mut [0; 10])).await.unwrap(), 0);
}
