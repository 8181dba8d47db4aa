//! Server transport for MCP (the Model Context Protocol) over HTTP+SSE, the transport of revision
//! 2024-11-05, which many clients still use and some cannot do without.
//!
//! ```no_run
//! # #[cfg(all(feature = "axum", feature = "rmcp-3"))]
//! # #[allow(dead_code)]
//! # mod example {
//! use mcp_sse::SseServerTransport;
//! use rmcp::{ServerHandler, ServiceExt};
//!
//! #[derive(Clone)]
//! struct Counter;
//! impl ServerHandler for Counter {}
//!
//! # pub async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! let sse = SseServerTransport::new("/messages/")?;
//! let router = sse.router("/sse", |session| async move {
//!     if let Ok(server) = Counter.serve(session).await {
//!         let _ = server.waiting().await;
//!     }
//! });
//! let listener = tokio::net::TcpListener::bind("127.0.0.1:8000").await?;
//! axum::serve(listener, router).await?;
//! # Ok(())
//! # }
//! # }
//! ```
//!
//! # What it is made of
//!
//! [`SseServerTransport::connect_sse`] (GET: opens a stream) and
//! [`SseServerTransport::handle_post_message`] (POST: accepts messages) make `tower` services over the
//! `http` crate's types, for axum, plain hyper and any other framework. They are built on
//! [`SseServerTransport::connect`] and [`SseServerTransport::post`], which you can call yourself where a
//! service or a closure does not fit.
//!
//! A [`Session`] is a pair of bounded queues that outlives its connections. It is a `Stream` and a `Sink`,
//! and with the feature `rmcp-3` also rmcp's `Transport<RoleServer>`.
//!
//! # What it promises
//!
//! 1. **202 means** that the message is in its session's inbound queue, in order: the app will read it, or
//!    the client will see its stream end. No message is ever lost while its session goes on.
//! 2. **Every accepted request** gets its response on the stream, or the stream ends, unless its client
//!    cancels it. When an app dies, its pending requests are answered with a JSON-RPC error first.
//! 3. **Nothing is unbounded**; see [`Builder`] for the bounds. At a bound a POST waits a little, then gets
//!    503 with `Retry-After`; [`SessionHandle::send`] waits, then fails; a session whose client does not
//!    read ends, with the reason in the log.
//! 4. **One client cannot hurt another**: a slow reader, a crash or a flood affects only its own session.
//!    At the [cap on sessions](Builder::max_sessions) a session is evicted only if its client is away or has
//!    sent no message for a while.
//! 5. **Sessions end cleanly**: a disconnect ends the session after its resume window at the latest, and the
//!    app sees the end of its input; a [shutdown](SseServerTransport::shutdown) lets requests in flight
//!    finish.
//!
//! What it does not promise: that a response reached the client (SSE has no acknowledgement; a client
//! that resumes gets what it missed), or anything about a message that a client could not post.
//!
//! # Security
//!
//! Only loopback names are allowed until you list the hosts that you serve: [`TransportSecuritySettings`].
//! Session ids are capabilities; with a [`Principal`] on the request, a session is bound to that principal. It comes
//! from an authenticator ([`Builder::authenticate`]), or from a layer in front.
//!
//! # Features
//!
//! | feature | default | what it adds |
//! |---|---|---|
//! | `rmcp-3` | yes | a session is `Transport<RoleServer>` of rmcp 3; a later rmcp gets a feature of its own |
//! | `axum` | no | finds the mount prefix under `Router::nest`; [`SseServerTransport`]`::router` |
//! | `auth` | no | `BearerTokens`, which lets in the clients that have one of a list of keys |
//! | `server` | no | `Server`, an HTTP server in which an open stream costs next to nothing |

#![doc(test(attr(deny(warnings))))]

mod admission;
mod auth;
mod backplane;
mod body;
mod bound_headers;
mod builder;
mod client_ip;
mod clock;
mod endpoint;
mod error;
mod event;
mod forwarded;
mod future;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzz;
mod id;
mod limits;
mod message;
mod output;
mod principal;
mod records;
mod replica;
#[cfg(feature = "rmcp-3")]
mod rmcp;
#[cfg(feature = "server")]
mod server;
mod service;
mod session;
mod throttle;
mod transport;

pub use self::{
    admission::TransportSecuritySettings,
    auth::{Authenticate, Authentication, BearerToken, Denial, Grant, GrantEnd, Revocation, SessionGrant},
    backplane::{Backplane, Host, NotForwarded},
    body::Body,
    bound_headers::{BoundHeaders, OtherIdentity},
    builder::Builder,
    client_ip::ClientIp,
    error::ConfigError,
    forwarded::Forwarded,
    future::ResponseFuture,
    id::{ParseSessionIdError, SessionId},
    message::{Message, MessageKind, ParseMessageError, RequestId, WriteMessageError},
    principal::Principal,
    records::{Record, Records, RecordsError, RecordsFuture},
    replica::{ReplicaId, ReplicaIdError},
    service::{ConnectSse, HandlePostMessage},
    session::{
        CloseReason, Incoming, NotKept, ObservedSession, Observer, Refusal, Revived, SendError, Session,
        SessionFact, SessionFigures, SessionHandle, SessionInfo, SessionReceiver,
    },
    transport::{Guard, GuardLayer, SessionCounts, SessionPermit, ShutdownReport, SseServerTransport},
};

#[cfg(feature = "auth")]
pub use self::auth::{BearerTokens, ParseTokensError, ReplacedTokens};
#[cfg(feature = "server")]
pub use self::server::{Endpoints, Listener, NotFound, RequestBody, Routes, Server, Socket};

// The README's code is compiled with the examples of the docs.
#[cfg(all(doctest, feature = "rmcp-3", feature = "axum", feature = "server"))]
#[doc = include_str!("../../../README.md")]
struct Readme;
