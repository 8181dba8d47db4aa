//! Several replicas of an MCP server behind any load balancer, as one server: [`mcp_sse`]'s transports over NATS or Redis.
//!
//! A session lives in one process, and a load balancer may send a message for it to another one. With a [`Cluster`] as
//! its [backplane](mcp_sse::Builder::backplane), each replica takes messages for the sessions of all: it has them answered
//! by the replica that holds the session, over an engine that the replicas share. No sticky sessions are needed, and no
//! list of sessions to find one: the URI that a client posts to says where its session is.
//!
//! ```no_run
//! # #[cfg(feature = "nats")]
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use std::sync::Arc;
//!
//! use mcp_sse::SseServerTransport;
//! use mcp_sse_cluster::{Cluster, ClusterKey, Nats};
//!
//! let nats = Nats::connect("nats://replica:password@nats.internal:4222").await?;
//! let key = ClusterKey::from_file("/etc/mcp/cluster.key")?;
//! // A name of its own for each replica, such as the host's.
//! let cluster = Arc::new(Cluster::builder(nats, "web-1").cluster("shop").key(key).join().await?);
//!
//! let sse = SseServerTransport::builder("/messages/").backplane(cluster.clone()).build()?;
//! // … mount it, and serve. At the end:
//! sse.shutdown(std::time::Duration::from_secs(30)).await;
//! cluster.leave().await;
//! # Ok(())
//! # }
//! ```
//!
//! # What it promises
//!
//! Of a message that is posted to a replica which does not hold its session:
//!
//! | answer | what it means |
//! |---|---|
//! | the host's own (202, 400, 404, 503 …) | the host has got it, and says this |
//! | 404 | the session's replica is gone, and the session with it |
//! | 503 with `Retry-After` | the host has not got it, nor will it. As long as nothing of it can be sent, it waits for up to 3 s |
//! | 504 | the host does not answer; it may have got it, and acts on it once at most |
//!
//! It takes at most 5 s. Whatever the engine loses, doubles, delays or reorders: a request is acted on once at most, and
//! none reaches another session. While the engine is away, sessions go on at their own replicas.
//!
//! A replica that nobody can reach counts as gone when it says that it leaves, when another run of it has come, or when
//! nothing was heard of it for 30 s. A session ends with its replica, unless it is kept: see [`Cluster::records`]. Only that
//! stores something in the engine.
//!
//! # Trust
//!
//! Requests cross with all their headers. Whoever can use the engine can read them and speak for every client, unless there
//! is a [`ClusterKey`]. The same is true of what is kept of sessions.

#[cfg(any(feature = "nats", feature = "redis"))]
mod address;
mod carrier;
mod clock;
mod cluster;
mod connect_error;
mod connect_options;
mod core;
mod engine;
#[cfg(all(test, any(feature = "nats", feature = "redis")))]
#[path = "../tests/engines/mod.rs"]
mod engines;
mod figures;
#[cfg(any(feature = "nats", feature = "redis"))]
mod intake;
#[cfg(feature = "nats")]
mod nats;
mod node;
mod records;
#[cfg(feature = "redis")]
mod redis;
mod relayed;
#[cfg(any(feature = "nats", feature = "redis"))]
mod replies;
mod seal;
#[cfg(test)]
mod sim;
mod store;
mod streams;
mod throttle;
#[cfg(any(feature = "nats", feature = "redis"))]
mod tls;
mod wire;

pub use self::{
    cluster::{Cluster, ClusterBuilder, JoinError},
    connect_error::ConnectError,
    connect_options::ConnectOptions,
    engine::Engine,
    figures::ClusterFigures,
    records::SessionRecords,
    seal::{ClusterKey, ClusterKeyError},
};

#[cfg(feature = "nats")]
pub use self::nats::Nats;
#[cfg(feature = "redis")]
pub use self::redis::Redis;
