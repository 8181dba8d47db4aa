//! Headers that say who a session's client is.

use http::HeaderName;
use mcp_sse::Session;

use crate::help::{Answer, Events, Server, builder, empty, full, get, notification, post, soon};

const OTHER: &str = "A header that says who the client is has another value than before in this session; open a session of your own";

fn bound(mut server: Server) -> Server {
    server.connect = server.connect.bind_headers([HeaderName::from_static("x-user")]);
    server
}

/// A POST with this header, if there is one.
async fn post_as(server: &Server, events: &Events, user: &str, json: &str) -> Answer {
    let post = post(&events.uri);
    let post = if user.is_empty() { post } else { post.header("x-user", user) };
    server.send(full(post, json.to_owned())).await
}

async fn user(session: &mut Session) -> Option<String> {
    let incoming = soon(session.recv()).await.unwrap();
    incoming.parts().headers.get("x-user").map(|user| user.to_str().unwrap().to_owned())
}

#[tokio::test(start_paused = true)]
async fn the_request_that_opens_a_session_says_whose_it_is() {
    let server = bound(Server::new(builder()));
    let events = server.try_open(empty(get().header("x-user", "alice"))).await.unwrap();
    let refused = post_as(&server, &events, "mallory", &notification("m")).await;
    assert_eq!(refused.short(), (403, OTHER));
    server.assert_no_app_was_started();
    post_as(&server, &events, "", &notification("m")).await.assert_accepted();
    post_as(&server, &events, "alice", &notification("m")).await.assert_accepted();
    let mut session = server.session().await;
    for _ in 0..2 {
        assert_eq!(user(&mut session).await.as_deref(), Some("alice"));
    }
    let again = |user| empty(get().header("last-event-id", events.position(0)).header("x-user", user));
    assert_eq!(server.try_open(again("mallory")).await.err().unwrap().short(), (403, OTHER));
    assert!(server.try_open(again("alice")).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn or_else_the_first_message_that_does() {
    let server = bound(Server::new(builder()));
    let events = server.open().await;
    for user in ["", "bob", ""] {
        post_as(&server, &events, user, &notification("m")).await.assert_accepted();
    }
    assert_eq!(post_as(&server, &events, "mallory", &notification("m")).await.short(), (403, OTHER));
    let mut session = server.session().await;
    for expected in [None, Some("bob"), Some("bob")] {
        assert_eq!(user(&mut session).await.as_deref(), expected);
    }
}

#[tokio::test(start_paused = true)]
async fn without_such_headers_anything_goes() {
    let server = Server::new(builder());
    let events = server.open().await;
    for user in ["alice", "mallory"] {
        post_as(&server, &events, user, &notification("m")).await.assert_accepted();
    }
}
