//! Over real sockets: what only shows where there is a connection. Time is real here, and nothing sleeps.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt as _, Empty, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use mcp_sse::CloseReason;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::help::{
    Answer, Events, Http, Server, builder, full, get, message, notification, post, received, request, result,
    serve, serve_http2, soon,
};

#[tokio::test]
async fn plain_hyper_serves_stream_and_posts_on_two_connections() {
    let server = Server::new(builder());
    let address = serve(&server).await;
    let mut events = Http::open(address).await;
    let mut http = Http::connect(address).await;
    for id in 1..=20 {
        let answer = Answer::read(http.send(full(post(&events.uri), request(id))).await).await;
        answer.assert_accepted();
        assert_eq!(answer.header("content-length"), Some("8"));
    }
    let mut session = server.session().await;
    for id in 1..=20 {
        assert_eq!(received(&mut session).await, request(id));
        session.handle().send(message(result(id))).await.unwrap();
        assert_eq!(soon(events.message()).await, result(id));
    }
    session.handle().close();
    soon(events.assert_ends()).await;
}

#[tokio::test]
async fn a_stream_over_http1_has_no_length_and_no_connection_header() {
    let server = Server::new(builder());
    let address = serve(&server).await;
    let mut events = Http::open(address).await;
    let mut names: Vec<_> = events.headers.keys().map(http::HeaderName::as_str).collect();
    names.sort_unstable();
    let expected = ["cache-control", "content-type", "date", "transfer-encoding", "x-accel-buffering"];
    assert_eq!(names, expected);
    server.handle(&events).close();
    soon(events.assert_ends()).await;
}

#[tokio::test]
async fn a_bad_post_leaves_its_connection_usable() {
    let server = Server::new(builder());
    let address = serve(&server).await;
    let events = Http::open(address).await;
    let mut http = Http::connect(address).await;
    for (uri, body, status) in [
        ("/messages/", notification("m"), 400),
        (&*events.uri, "{".to_owned(), 400),
        ("/messages/?session_id=0123456789abcdef0123456789abcdef", "x".repeat(100_000), 404),
        ("/.well-known/oauth-protected-resource", String::new(), 404),
        ("/sse", notification("m"), 405),
        (&*events.uri, notification("m"), 202),
    ] {
        assert_eq!(Answer::read(http.send(full(post(uri), body)).await).await.status, status, "{uri}");
    }
}

#[tokio::test]
async fn a_declared_length_over_the_limit_is_refused_before_the_body_is_sent() {
    let server = Server::new(builder().max_body_bytes(1000));
    let address = serve(&server).await;
    let mut socket = TcpStream::connect(address).await.unwrap();
    let head = "POST /messages/ HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
                Content-Length: 1001\r\n\r\n";
    socket.write_all(head.as_bytes()).await.unwrap();
    let mut answer = [0; 12];
    soon(socket.read_exact(&mut answer)).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 413");
}

#[tokio::test]
async fn a_client_that_hangs_up_detaches_its_stream() {
    let server = Server::new(builder().resume_window(Duration::ZERO));
    let address = serve(&server).await;
    let events = Http::open(address).await;
    let handle = server.handle(&events);
    drop(events);
    assert_eq!(soon(handle.closed()).await, CloseReason::ClientGone);
}

#[tokio::test]
async fn over_http2_stream_and_posts_share_one_connection() {
    let server = Server::new(builder());
    let address = serve_http2(&server).await;
    let socket = TokioIo::new(TcpStream::connect(address).await.unwrap());
    let (mut http, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), socket).await.unwrap();
    tokio::spawn(connection);

    let uri = |path: &str| format!("http://{address}{path}");
    let get = Request::get(uri("/sse")).body(Full::new(Bytes::new())).unwrap();
    let mut events = Events::begin(http.send_request(get).await.unwrap()).await;
    assert_eq!(events.headers.get("connection"), None);
    let post = Request::post(uri(&events.uri)).header("content-type", "application/json");
    let post = post.body(Full::new(Bytes::from(request(1)))).unwrap();
    Answer::read(http.send_request(post).await.unwrap()).await.assert_accepted();
    let mut session = server.session().await;
    assert_eq!(received(&mut session).await, request(1));
    session.handle().send(message(result(1))).await.unwrap();
    assert_eq!(soon(events.message()).await, result(1));

    let evil = Request::get("http://evil.com/sse").body(Full::new(Bytes::new())).unwrap();
    assert_eq!(Answer::read(http.send_request(evil).await.unwrap()).await.status, 421);
}

#[tokio::test]
async fn an_axum_server_with_open_streams_ends_by_itself() {
    let server = Server::new(builder());
    let router = axum::Router::new()
        .route_service("/sse", server.connect.clone())
        .route_service("/messages/", server.post.clone());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let sse = server.sse.clone();
    let down = async move {
        stopped.await.unwrap();
        sse.shutdown(Duration::from_secs(10)).await;
    };
    let running = tokio::spawn(axum::serve(listener, router).with_graceful_shutdown(down).into_future());

    let mut idle = Http::open(address).await;
    let mut busy = Http::open(address).await;
    let mut http = Http::connect(address).await;
    Answer::read(http.send(full(post(&busy.uri), request(1))).await).await.assert_accepted();
    let mut session = server.session().await;
    received(&mut session).await;
    stop.send(()).unwrap();
    soon(idle.assert_ends()).await;
    let refused = Answer::read(http.send(full(get(), "")).await).await;
    assert_eq!(refused.status, 503);
    session.handle().send(message(result(1))).await.unwrap();
    assert_eq!(soon(busy.message()).await, result(1));
    soon(busy.assert_ends()).await;
    drop(http);
    soon(running).await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_clients_at_once_are_each_answered_in_full() {
    let server = Server::with_app(builder().outbound_queue(4, 10_000), |mut session| async move {
        while let Some(incoming) = session.recv().await {
            let id = incoming.message.id().expect("a request");
            let answer = message(format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{}}}}"#));
            session.handle().send(answer).await.expect("an open session");
        }
    });
    let server = Arc::new(server);
    let mut clients = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let mut events = server.open().await;
        let (server, uri) = (Arc::clone(&server), events.uri.clone());
        clients.spawn(async move {
            let posting = tokio::spawn(async move {
                for id in 0..200 {
                    server.send(full(post(&uri), request(id))).await.assert_accepted();
                }
            });
            for id in 0..200 {
                assert_eq!(events.message().await, result(id));
            }
            posting.await.expect("all accepted");
        });
    }
    soon(clients.join_all()).await;
}

#[test]
fn a_transport_outlives_the_runtime_that_it_was_first_used_on() {
    let server = Server::new(builder().keep_alive(Duration::from_millis(1)));
    for _ in 0..2 {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut events = server.open().await;
            assert_eq!(soon(events.block()).await.unwrap(), ": keep-alive\n\n");
        });
    }
}

#[tokio::test]
async fn a_body_of_no_answer_is_empty() {
    let body = mcp_sse::Body::default().collect().await.unwrap().to_bytes();
    assert_eq!(body, Empty::<Bytes>::new().collect().await.unwrap().to_bytes());
}
