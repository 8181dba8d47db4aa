//! A replica's membership in its cluster, as users hold it.

use std::{fmt, pin::Pin, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Method, Request, Response};
use mcp_sse::{Backplane, Body, Host, NotForwarded, RecordsError, ReplicaId, ReplicaIdError};

use crate::{
    carrier::{Carrier, Handler, Link},
    connect_error::ConnectError,
    connect_options::ConnectOptions,
    engine::Engine,
    figures::ClusterFigures,
    node::Node,
    records::{self, SessionRecords},
    relayed::Puller,
    seal::{ClusterKey, Seals},
    store::Store,
};

/// The name of a cluster that has none.
const DEFAULT: &str = "default";

/// A replica of a cluster: a [`Backplane`], for [`Builder::backplane`](mcp_sse::Builder::backplane).
///
/// It leaves the cluster when it is dropped, or, without losing what is under way, by [`leave`](Self::leave).
pub struct Cluster {
    node: Arc<Node>,
    sealed: bool,
    name: String,
    engine: Option<Engine>,
}

/// The settings of a [`Cluster`]; created by [`Cluster::builder`].
#[derive(Debug)]
#[must_use = "a builder does nothing until `join` is called"]
pub struct ClusterBuilder {
    engine: Engine,
    replica: String,
    cluster: String,
    key: Option<ClusterKey>,
}

/// Why a replica could not join a cluster.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JoinError {
    /// The name of the replica is not valid.
    #[error(transparent)]
    Replica(#[from] ReplicaIdError),
    /// The name of the cluster is not valid.
    #[error("the cluster name {0:?} is not valid; expected 1 to 63 of a-z, A-Z, 0-9, - and _")]
    Cluster(String),
    /// The engine does not give what is sent to this replica.
    #[error("{engine} does not take a subscription: {why}; it has to be allowed to publish and to subscribe")]
    Subscription {
        /// Which engine.
        engine: &'static str,
        /// What it says.
        why: String,
    },
}

impl Engine {
    /// Connects to the engine of this URL: `nats://` or `tls://` for NATS, `redis://` or `rediss://` for Redis (`valkey://` and
    /// `valkeys://` are the same), as far as the features are on.
    ///
    /// # Errors
    ///
    /// [`ConnectError`], as [`Nats::connect_with`](crate::Nats::connect_with) and
    /// [`Redis::connect_with`](crate::Redis::connect_with); [`ConnectError::Url`] for any other scheme.
    pub async fn connect(url: &str, options: &ConnectOptions) -> Result<Self, ConnectError> {
        #[cfg(not(any(feature = "nats", feature = "redis")))]
        let _ = options;
        match url.split_once("://").map(|(scheme, _)| scheme) {
            #[cfg(feature = "nats")]
            Some("nats" | "tls") => Ok(crate::nats::Nats::connect_with(url, options).await?.into()),
            #[cfg(feature = "redis")]
            Some("redis" | "rediss" | "valkey" | "valkeys") => {
                Ok(crate::redis::Redis::connect_with(url, options).await?.into())
            }
            _ => Err(ConnectError::Url {
                engine: "the engine",
                why: "has another scheme".to_owned(),
                expected: "nats://, tls://, redis:// or rediss://",
            }),
        }
    }
}

impl Cluster {
    /// Joins the cluster `default` under this name, of which nothing crosses sealed. Short for
    /// [`builder`](Self::builder).
    ///
    /// The name shows in endpoints and logs: 1 to 63 letters, digits, `-` and `_` of ASCII, such as a host's name. Two
    /// replicas should not have the same, though nothing breaks if they do.
    ///
    /// # Errors
    ///
    /// [`JoinError`], as [`ClusterBuilder::join`].
    pub async fn new(engine: impl Into<Engine>, replica: &str) -> Result<Self, JoinError> {
        Self::builder(engine, replica).join().await
    }

    /// Settings for a replica with this name; see [`new`](Self::new).
    pub fn builder(engine: impl Into<Engine>, replica: &str) -> ClusterBuilder {
        ClusterBuilder {
            engine: engine.into(),
            replica: replica.to_owned(),
            cluster: DEFAULT.to_owned(),
            key: None,
        }
    }

    /// Whether the engine can be reached, as far as is known. While it cannot, sessions of this replica go on, and messages
    /// for others get 503.
    pub fn is_connected(&self) -> bool {
        matches!(self.node.link(), Link::Up(_))
    }

    /// Whether what crosses is sealed with a [`ClusterKey`].
    pub fn is_sealed(&self) -> bool {
        self.sealed
    }

    /// What was done for other replicas, and by them, so far.
    pub fn figures(&self) -> ClusterFigures {
        self.node.figures.now()
    }

    /// Where sessions can be kept for other replicas to revive, for [`Builder::revive`](mcp_sse::Builder::revive): in the
    /// engine, for this time after a record was written last; 1 s at least, some minutes or an hour are usual. NATS has to run with
    /// `JetStream`: it keeps them in the key-value bucket `mcp-sse-NAME`, with the cluster's name, on disk. Redis keeps them as
    /// keys that begin with `mcp-sse:NAME:session:`. What is lost there cannot be revived, and nothing else happens.
    ///
    /// # Errors
    ///
    /// [`RecordsError`]: the engine cannot be reached, or refuses it; the text says why, and what to do.
    pub async fn records(&self, expiry: Duration) -> Result<SessionRecords, RecordsError> {
        let Some(engine) = &self.engine else { return Err(RecordsError::Unavailable) };
        let store = engine.0.store(&self.name, expiry).await.map_err(records::error)?;
        Ok(self.records_in(store, expiry))
    }

    pub(crate) fn records_in(&self, store: Arc<dyn Store>, expiry: Duration) -> SessionRecords {
        SessionRecords { node: Arc::clone(&self.node), store, expiry }
    }

    /// Waits until nothing is read through this replica any more that others answer: streams of events that it relays end,
    /// spread over a second, so that their clients go on elsewhere; answers to calls end by themselves. For a graceful
    /// shutdown, with a time limit of your own, when no new requests come.
    pub async fn drained(&self) {
        self.node.relayed().await;
    }

    /// Leaves the cluster: tells the others, and takes no more of their requests. What was taken is finished. To be called
    /// when the sessions have ended; requests for them would get 404 from now on.
    ///
    /// What others still read of streams that have ended here is read to its end, for at most 5 s. It takes at most 3 s more if
    /// the engine does not answer.
    pub async fn leave(&self) {
        self.node.leave().await;
    }
}

impl ClusterBuilder {
    /// The name of the cluster, for several of them at one engine: 1 to 63 letters, digits, `-` and `_` of ASCII. Default:
    /// `default`.
    pub fn cluster(mut self, name: &str) -> Self {
        name.clone_into(&mut self.cluster);
        self
    }

    /// Seals what crosses with this key, which all replicas need. Default: nothing is sealed, and whoever has access to
    /// the engine can read every message and speak for every client.
    pub fn key(mut self, key: ClusterKey) -> Self {
        self.key = Some(key);
        self
    }

    /// Joins the cluster. Needs a tokio runtime.
    ///
    /// # Errors
    ///
    /// [`JoinError`]: a name is not valid, or the engine does not take a subscription.
    pub async fn join(self) -> Result<Cluster, JoinError> {
        let Self { engine, replica, cluster, key } = self;
        if ReplicaId::new(&cluster).is_err() {
            return Err(JoinError::Cluster(cluster));
        }
        let me = ReplicaId::new(&replica)?;
        let carrier = engine.0.carrier(&cluster);
        let mut joined = Cluster::join(me, &cluster, carrier, key.as_ref()).await?;
        joined.engine = Some(engine);
        Ok(joined)
    }
}

impl Cluster {
    pub(crate) async fn join(
        me: ReplicaId,
        cluster: &str,
        carrier: Arc<dyn Carrier>,
        key: Option<&ClusterKey>,
    ) -> Result<Self, JoinError> {
        let seals = Seals::new(cluster, &me, key);
        let sealed = seals.is_on();
        let engine = carrier.name();
        let node = Arc::new(Node::new(me.clone(), Arc::clone(&carrier), seals));
        let handler = Arc::clone(&node) as Arc<dyn Handler>;
        let served = carrier.serve(&me, Arc::downgrade(&handler)).await;
        served.map_err(|why| JoinError::Subscription { engine, why })?;
        tokio::spawn(Node::announces(Arc::downgrade(&node)));
        tracing::info!(replica = %me, cluster, engine, sealed, "joined the cluster");
        Ok(Self { node, sealed, name: cluster.to_owned(), engine: None })
    }
}

impl Backplane for Cluster {
    fn id(&self) -> &ReplicaId {
        self.node.me()
    }

    fn replicas(&self) -> Vec<ReplicaId> {
        self.node.replicas()
    }

    fn is_connected(&self) -> bool {
        Self::is_connected(self)
    }

    fn bind(&self, service: &'static str, host: std::sync::Weak<dyn Host>) {
        self.node.bind(service, host);
    }

    fn forward(
        &self,
        to: &ReplicaId,
        service: &'static str,
        request: Request<Bytes>,
    ) -> Pin<Box<dyn Future<Output = Result<Response<Body>, NotForwarded>> + Send + '_>> {
        let (node, to) = (Arc::clone(&self.node), to.clone());
        Box::pin(async move {
            let (call, is_events) = (node.number(), request.method() == Method::GET);
            // Whoever asked may go away before there is an answer, which the host may want to have read.
            let puller = Puller::new(Arc::clone(&node), to.clone(), call, is_events);
            match node.forward(&to, call, service, request).await {
                Ok(answer) => puller.response(answer).ok_or(NotForwarded::Unknown),
                Err(why) => {
                    puller.ends();
                    Err(why)
                }
            }
        })
    }

    fn check(
        &self,
        to: &ReplicaId,
        service: &'static str,
        request: Request<()>,
        length: u64,
    ) -> Pin<Box<dyn Future<Output = Result<Option<Response<Body>>, NotForwarded>> + Send + '_>> {
        let (node, to) = (Arc::clone(&self.node), to.clone());
        Box::pin(async move {
            let Some(answer) = node.check(&to, service, request, length).await? else { return Ok(None) };
            let body = Body::from(answer.body.clone());
            Ok(answer.response(body))
        })
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let node = Arc::clone(&self.node);
        runtime.spawn(async move { tokio::time::timeout(Duration::from_secs(3), node.leave()).await });
    }
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cluster").field("replica", self.node.me()).finish_non_exhaustive()
    }
}
