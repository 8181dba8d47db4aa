//! How a request reaches the replica that holds its session: what a transport asks of whatever connects several
//! replicas, and what it offers.

use std::{pin::Pin, sync::Weak};

use bytes::Bytes;
use http::{Request, Response};

use crate::{body::Body, replica::ReplicaId};

/// Connects the replicas of one server, so that each of them answers requests for the sessions of all; given to a
/// transport with [`Builder::backplane`](crate::Builder::backplane). The crate `mcp-sse-cluster` has two, for NATS and
/// for Redis.
///
/// A replica that gets a POST for a session of another one forwards it, and answers what the other one answers. The
/// endpoint that a client is told bears the [`ReplicaId`] of its session's host, so nobody keeps a list of sessions.
pub trait Backplane: Send + Sync + 'static {
    /// This replica.
    fn id(&self) -> &ReplicaId;

    /// The others that are known now, for what goes to all. A new one may be missing for a while.
    fn replicas(&self) -> Vec<ReplicaId>;

    /// Whether the others can be reached, as far as is known. Default: they can.
    fn is_connected(&self) -> bool {
        true
    }

    /// Gives requests for this service of this replica to `host`, until that is dropped. A service is a short name; each
    /// has one host, and a later one takes the place of one before.
    fn bind(&self, service: &'static str, host: Weak<dyn Host>);

    /// The answer of another replica to a request whose body, of this length in bytes, is still to come, if that is refused
    /// without it. Default: nothing is known.
    #[allow(clippy::type_complexity, reason = "written out, as futures of a trait are")]
    fn check(
        &self,
        to: &ReplicaId,
        service: &'static str,
        request: Request<()>,
        length: u64,
    ) -> Pin<Box<dyn Future<Output = Result<Option<Response<Body>>, NotForwarded>> + Send + '_>> {
        let _ = (to, service, request, length);
        Box::pin(std::future::ready(Ok(None)))
    }

    /// Has a request answered by a service of another replica. The request has [`Forwarded`](crate::Forwarded) in its extensions; nothing
    /// else of those crosses. The host gets it once at most, even if the answer is an error.
    fn forward(
        &self,
        to: &ReplicaId,
        service: &'static str,
        request: Request<Bytes>,
    ) -> Pin<Box<dyn Future<Output = Result<Response<Body>, NotForwarded>> + Send + '_>>;
}

/// What answers requests that other replicas forward.
pub trait Host: Send + Sync + 'static {
    /// Answers a request that has [`Forwarded`](crate::Forwarded) in its extensions.
    fn answer(&self, request: Request<Bytes>) -> Pin<Box<dyn Future<Output = Response<Body>> + Send + '_>>;

    /// Whether the answer may be a stream, for which there has to be room where it is read elsewhere. Default: it may.
    fn may_stream(&self, request: &Request<Bytes>) -> bool {
        let _ = request;
        true
    }

    /// The answer to a request whose body, of this length in bytes, has not come yet, if it can be refused without it. So a
    /// host that has no room hears no large body. Default: it cannot.
    fn refuses(
        &self,
        request: Request<()>,
        length: u64,
    ) -> Pin<Box<dyn Future<Output = Option<Response<Body>>> + Send + '_>> {
        let _ = (request, length);
        Box::pin(std::future::ready(None))
    }
}

/// Why another replica has not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotForwarded {
    /// There is no such replica any more, nor are its sessions.
    #[error("there is no such replica any more")]
    Gone,
    /// It has not got the request, and may get it later.
    #[error("the replica cannot be reached now")]
    Unavailable,
    /// It may have got the request, and acted on it once.
    #[error("the replica does not answer")]
    Unknown,
}
