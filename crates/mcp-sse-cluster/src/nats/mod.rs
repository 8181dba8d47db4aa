//! A NATS server as the carrier: its subjects, and what its client says of the connection.
//!
//! Invariants: nothing is handed to the client while it is not connected, as it would send that later; and it waits for no
//! reply itself, as it would keep every one that does not come.
//!
//! | room | what lives there |
//! |---|---|
//! | here | `Nats`, as users see it |
//! | `subjects` | the names of subjects |
//! | `connection` | what has been seen of the connection |
//! | `settings` | what the URL and the files say, as settings of the client |
//! | `connecting` | connecting for the first time |
//! | `taking` | taking what comes for a replica |
//! | `carrier` | NATS for one cluster |
//! | `bucket` | what `JetStream` is asked for the bucket of a cluster, and what its answers mean |
//! | `store` | records in the bucket |

mod bucket;
mod carrier;
mod connecting;
mod connection;
mod settings;
mod store;
mod subjects;
mod taking;

use std::{fmt, sync::Arc, time::Duration};

use async_nats::{Client, ServerAddr};

use self::{
    carrier::NatsCarrier,
    connecting::start,
    connection::{NAME, Seen},
    settings::{addresses, settings, wrong_url},
    store::NatsStore,
};
use crate::{
    address::Address,
    carrier::{BoxFuture, Carrier, MAX_BYTES},
    connect_error::ConnectError,
    connect_options::ConnectOptions,
    engine::{Engine, EngineOf},
    store::{Store, StoreError},
};

/// A connection to a NATS server, or to a cluster of them: an [`Engine`] for a [`Cluster`](crate::Cluster).
///
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use mcp_sse_cluster::{Cluster, Nats};
///
/// let nats = Nats::connect("nats://127.0.0.1:4222").await?;
/// let cluster = Cluster::new(nats, "web-1").await?;
/// # let _ = cluster;
/// # Ok(())
/// # }
/// ```
///
/// Plain NATS is enough, since 2.2: nothing is stored, but for [`Cluster::records`](crate::Cluster::records). A user needs
/// permission to publish and to subscribe to `mcp-sse.>`, or to `mcp-sse.CLUSTER.>`, and to nothing else. The server has to
/// take messages of 512 KiB, which is half of its default (`max_payload`).
///
/// Records need `JetStream`, of 2.10 or later, for the account of the user, and permission to publish to these, too:
///
/// | subject | what for |
/// |---|---|
/// | `$KV.mcp-sse-CLUSTER.>` | to write and to remove records |
/// | `$JS.API.DIRECT.GET.KV_mcp-sse-CLUSTER.>` | to read them |
/// | `$JS.API.STREAM.INFO.KV_mcp-sse-CLUSTER` | to look whether the bucket is there |
/// | `$JS.API.STREAM.CREATE.KV_mcp-sse-CLUSTER` | to make it: with file storage, a history of 1 and one stream replica |
///
/// It connects again by itself whenever the connection is lost, for ever, at least every 250 ms. A server that says
/// nothing is given up after 6 s. The connection is closed when the last clone and the last cluster of it are dropped.
#[derive(Clone)]
pub struct Nats {
    client: Client,
    seen: Arc<Seen>,
}

impl Nats {
    /// Connects to `nats://HOST:PORT`, or with TLS to `tls://HOST:PORT`; the port is 4222 unless it is given. A user and a
    /// password, `USER:PASSWORD@`, or a token, `TOKEN@`, stand before the host. Several servers of one NATS cluster have
    /// commas between them; the user of the first is that of all, and TLS for one is TLS for all.
    ///
    /// Needs a tokio runtime. It tries for 5 s.
    ///
    /// # Errors
    ///
    /// [`ConnectError`]: the URL is not one of NATS, the server cannot be reached, or does not let this client in.
    pub async fn connect(url: &str) -> Result<Self, ConnectError> {
        Self::connect_with(url, &ConnectOptions::new()).await
    }

    /// Connects as [`connect`](Self::connect) does, with files. They count for `nats://` too, where the server asks for TLS.
    ///
    /// # Errors
    ///
    /// [`ConnectError`], also if a file cannot be used.
    pub async fn connect_with(url: &str, options: &ConnectOptions) -> Result<Self, ConnectError> {
        let addresses = addresses(url)?;
        let shown = addresses.iter().map(Address::to_string).collect::<Vec<_>>().join(",");
        let servers: Result<Vec<ServerAddr>, _> =
            addresses.iter().map(|address| address.to_string().parse::<ServerAddr>()).collect();
        let servers = servers.map_err(|error| wrong_url(format!("cannot be used: {error}")))?;
        let seen = Arc::new(Seen::new(shown));
        let settings = settings(&addresses, options, &seen).await?;
        let client = start(&servers, &settings, &seen.address).await?;
        let _ = seen.statistics.set(client.statistics());
        let most = client.max_payload();
        if most < MAX_BYTES {
            return Err(ConnectError::Unsuitable {
                engine: NAME,
                address: seen.address.clone(),
                why: format!(
                    "it takes messages of {most} bytes; expected a max_payload of at least {MAX_BYTES}"
                ),
            });
        }
        Ok(Self { client, seen })
    }

    /// The carrier of a cluster with this name, which has only letters, digits, `-` and `_`.
    pub(crate) fn in_cluster(&self, cluster: &str) -> NatsCarrier {
        NatsCarrier::new(self.client.clone(), Arc::clone(&self.seen), cluster)
    }
}

impl EngineOf for Nats {
    fn carrier(&self, cluster: &str) -> Arc<dyn Carrier> {
        Arc::new(self.in_cluster(cluster))
    }

    fn store(&self, cluster: &str, expiry: Duration) -> BoxFuture<'_, Result<Arc<dyn Store>, StoreError>> {
        let cluster = cluster.to_owned();
        Box::pin(async move {
            let (client, seen) = (self.client.clone(), Arc::clone(&self.seen));
            let store = NatsStore::open(client, seen, &cluster, expiry).await?;
            Ok(Arc::new(store) as Arc<dyn Store>)
        })
    }

    fn name(&self) -> &'static str {
        NAME
    }
}

impl From<Nats> for Engine {
    fn from(nats: Nats) -> Self {
        Self(Arc::new(nats))
    }
}

impl fmt::Debug for Nats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Nats").field("address", &self.seen.address).finish_non_exhaustive()
    }
}
