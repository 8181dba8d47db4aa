//! Several replicas of an MCP server behind any load balancer, as one server: [`mcp_sse`]'s transports over NATS or Redis.
//!
//! A session lives in one process, and a load balancer may send a message for it to another one. With a [`Cluster`] as
//! its [backplane](mcp_sse::Builder::backplane), each replica takes messages for the sessions of all: it has them answered
//! by the replica that holds the session, over an engine that the replicas share. No sticky sessions are needed, and no
//! list of sessions is kept anywhere: the URI that a client posts to says where its session is.

#[cfg(any(feature = "nats", feature = "redis"))]
mod address;
mod carrier;
mod clock;
mod cluster;
mod connect_error;
mod connect_options;
mod core;
mod engine;
mod figures;
#[cfg(any(feature = "nats", feature = "redis"))]
mod intake;
#[cfg(feature = "nats")]
mod nats;
mod node;
#[cfg(feature = "redis")]
mod redis;
mod relayed;
#[cfg(any(feature = "nats", feature = "redis"))]
mod replies;
mod seal;
#[cfg(test)]
mod sim;
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
    seal::{ClusterKey, ClusterKeyError},
};

#[cfg(feature = "nats")]
pub use self::nats::Nats;
#[cfg(feature = "redis")]
pub use self::redis::Redis;
