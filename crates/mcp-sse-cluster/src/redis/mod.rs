//! A Redis server as the carrier: its channels, what is sent there, and the connection.
//!
//! One connection of RESP3 does it all. It is kept here and not by the client's connection manager, because that takes
//! commands while it is not connected and sends them later, does not say whether it has subscribed again, and passes
//! messages through a queue without a bound.
//!
//! Invariants: the link is up only while a connection is there that has subscribed to everything and has answered what it
//! was asked last; nothing is handed to a connection that is not up.
//!
//! | room | what lives there |
//! |---|---|
//! | here | `Redis`, as users see it |
//! | `server` | what the server is asked, and what it says |
//! | `settings` | what the URL and the files say: who we are, and TLS |
//! | `sent` | the names of channels, and what is sent there; the keys of records |
//! | `connection` | what is known of the connection, and whom its messages are for |
//! | `connecting` | a new connection, for the first time and again |
//! | `keeping` | looking whether the connection is there, and making another when it is not |
//! | `bringing` | bringing what comes to whom it is for, and replies on their way |
//! | `carrier` | Redis for one cluster |
//! | `store` | records under keys |

mod bringing;
mod carrier;
mod connecting;
mod connection;
mod keeping;
mod sent;
mod server;
mod settings;
mod store;

use std::{
    fmt,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::sync::{Notify, mpsc, watch};

use self::{
    bringing::bring,
    carrier::RedisCarrier,
    connection::{Connected, Line, Shared, Task},
    keeping::keep,
    server::NAME,
    settings::{SCHEMES, connector, login, wrong_url},
    store::RedisStore,
};
use crate::{
    address::Address,
    carrier::{BoxFuture, Carrier},
    connect_error::ConnectError,
    connect_options::ConnectOptions,
    engine::{Engine, EngineOf},
    store::{Store, StoreError},
    throttle::Throttle,
};

/// How many messages wait to be taken.
const TO_TAKE: usize = 1_024;

/// A connection to a Redis server, or to one that speaks the same: an [`Engine`] for a [`Cluster`](crate::Cluster).
///
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use mcp_sse_cluster::{Cluster, Redis};
///
/// let redis = Redis::connect("redis://127.0.0.1:6379").await?;
/// let cluster = Cluster::new(redis, "web-1").await?;
/// # let _ = cluster;
/// # Ok(())
/// # }
/// ```
///
/// It needs Redis 6 or later, or Valkey, as one server: not a Redis Cluster, which does not say whether anybody got a
/// message, and not the address of a Sentinel. All replicas have to be at the same server, its master; one that becomes a
/// replica of another Redis is left. Only its publish/subscribe is used, and nothing is stored, but for
/// [`Cluster::records`](crate::Cluster::records). A user needs the commands `HELLO`, `PUBLISH`, `SUBSCRIBE` and
/// `UNSUBSCRIBE`, and the channels `mcp-sse:*`, and no keys:
///
/// ```text
/// ACL SETUSER mcp-sse on >PASSWORD resetchannels &mcp-sse:* -@all +hello +publish +subscribe +unsubscribe
/// ```
///
/// Records need the keys `mcp-sse:CLUSTER:session:*`, too, and the commands `GET`, `SET`, `DEL` and `EVAL`:
///
/// ```text
/// ACL SETUSER mcp-sse ~mcp-sse:CLUSTER:session:* +get +set +del +eval
/// ```
///
/// Nobody else should listen to these channels, not even to look on: a message for a replica that is gone then looks as if
/// it was delivered, and is waited for.
///
/// It connects again by itself whenever the connection is lost, for ever, at least every 250 ms. A server that says nothing
/// when it is asked something is given up after 4 s. The connection is closed when the last clone and the last cluster of
/// it are dropped.
#[derive(Clone)]
pub struct Redis(Arc<Connected>);

impl Redis {
    /// Connects to `redis://HOST:PORT`, or with TLS to `rediss://HOST:PORT`; the port is 6379 unless it is given. A
    /// password, `:PASSWORD@`, or a user with one, `USER:PASSWORD@`, stand before the host. `valkey://` and `valkeys://` are
    /// the same.
    ///
    /// Needs a tokio runtime. It tries for 5 s.
    ///
    /// # Errors
    ///
    /// [`ConnectError`]: the URL is not one of Redis, the server cannot be reached, does not let this client in, or is one
    /// that cannot connect replicas.
    pub async fn connect(url: &str) -> Result<Self, ConnectError> {
        Self::connect_with(url, &ConnectOptions::new()).await
    }

    /// Connects as [`connect`](Self::connect) does, with files for TLS.
    ///
    /// # Errors
    ///
    /// [`ConnectError`], also if a file cannot be used, or has no use with this URL.
    pub async fn connect_with(url: &str, options: &ConnectOptions) -> Result<Self, ConnectError> {
        let address = Address::parse(url, &SCHEMES).map_err(wrong_url)?;
        let login = login(&address)?;
        let tls = connector(&address, options).await?;
        let (messages, received) = mpsc::channel(TO_TAKE);
        let shared = Arc::new(Shared {
            address,
            login,
            tls,
            messages,
            dropped: Arc::default(),
            line: watch::Sender::new(Line::default()),
            doubts: Notify::new(),
            channels: Mutex::default(),
            failures: Throttle::default(),
            refusals: Throttle::default(),
        });
        let open = shared.start().await?;
        shared.is_up(&open);
        tracing::info!(address = %shared.address, "connected to Redis");
        let keeping = tokio::spawn(keep(Arc::clone(&shared), open));
        let bringing = tokio::spawn(bring(Arc::clone(&shared), received));
        Ok(Self(Arc::new(Connected { shared, _tasks: [Task(keeping), Task(bringing)] })))
    }

    /// The carrier of a cluster with this name, which has only letters, digits, `-` and `_`.
    pub(crate) fn in_cluster(&self, cluster: &str) -> RedisCarrier {
        RedisCarrier::new(Arc::clone(&self.0), cluster)
    }
}

impl EngineOf for Redis {
    fn carrier(&self, cluster: &str) -> Arc<dyn Carrier> {
        Arc::new(self.in_cluster(cluster))
    }

    fn store(&self, cluster: &str, expiry: Duration) -> BoxFuture<'_, Result<Arc<dyn Store>, StoreError>> {
        let cluster = cluster.to_owned();
        Box::pin(async move {
            let store = RedisStore::open(Arc::clone(&self.0), &cluster, expiry).await?;
            Ok(Arc::new(store) as Arc<dyn Store>)
        })
    }

    fn name(&self) -> &'static str {
        NAME
    }
}

impl From<Redis> for Engine {
    fn from(redis: Redis) -> Self {
        Self(Arc::new(redis))
    }
}

impl fmt::Debug for Redis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let address = self.0.shared.address.to_string();
        f.debug_struct("Redis").field("address", &address).finish_non_exhaustive()
    }
}
