//! Several gateways as one: what is for another replica, and what comes from one.
//!
//! | room | what lives there |
//! |---|---|
//! | here | joining and leaving, and what is known of the others |
//! | `others` | asking all others |
//! | `named` | ids of sessions over Streamable HTTP, which say where the session is |

mod named;
pub(crate) mod others;

use std::{sync::Arc, time::Duration};

use mcp_sse::{Backplane as _, Records, ReplicaId};
use mcp_sse_cluster::{Cluster, ClusterFigures, ClusterKey, ConnectOptions, Engine};
use serde_json::{Value, json};

pub(crate) use self::named::At;

/// The service that answers requests over Streamable HTTP.
pub(crate) const HTTP: &str = "http";
/// The one that answers operators.
pub(crate) const ADMIN: &str = "admin";

/// How long a session is kept whose replica does not write it any more.
const KEPT: Duration = Duration::from_secs(60 * 60);

/// What is needed to be a replica.
#[derive(Debug)]
pub(crate) struct Joins {
    pub(crate) url: String,
    pub(crate) options: ConnectOptions,
    pub(crate) cluster: String,
    pub(crate) replica: String,
    pub(crate) key: Option<ClusterKey>,
}

/// The other replicas, as a gateway has them. Clones are the same.
#[derive(Clone, Debug)]
pub(crate) struct Replicas(Arc<Cluster>);

impl Joins {
    pub(crate) async fn join(self) -> Result<Replicas, String> {
        let Self { url, options, cluster, replica, key } = self;
        let engine = Engine::connect(&url, &options).await.map_err(|error| format!("--cluster: {error}"))?;
        let mut builder = Cluster::builder(engine, &replica).cluster(&cluster);
        let sealed = key.is_some();
        if let Some(key) = key {
            builder = builder.key(key);
        }
        let cluster = builder.join().await.map_err(|error| format!("--cluster: {error}"))?;
        if !sealed {
            tracing::warn!(
                "without --cluster-key-file, whoever has access to the server of --cluster can read and forge messages"
            );
        }
        Ok(Replicas(Arc::new(cluster)))
    }
}

impl Replicas {
    pub(crate) fn backplane(&self) -> Arc<Cluster> {
        Arc::clone(&self.0)
    }

    /// Where sessions are kept for the others.
    pub(crate) async fn records(&self) -> Result<Arc<dyn Records>, String> {
        let records = self.0.records(KEPT).await;
        let records =
            records.map_err(|error| format!("revive: --cluster does not keep sessions: {error}"))?;
        Ok(Arc::new(records))
    }

    /// This replica.
    pub(crate) fn id(&self) -> &ReplicaId {
        self.0.id()
    }

    /// The others that are known now.
    pub(crate) fn others(&self) -> Vec<ReplicaId> {
        self.0.replicas()
    }

    pub(crate) fn is_connected(&self) -> bool {
        self.0.is_connected()
    }

    /// Whether there are others that take requests for the sessions here.
    pub(crate) fn have_another(&self) -> bool {
        self.is_connected() && !self.others().is_empty()
    }

    pub(crate) fn figures(&self) -> ClusterFigures {
        self.0.figures()
    }

    /// Waits until nothing is read through this replica that others answer.
    pub(crate) async fn drained(&self) {
        self.0.drained().await;
    }

    pub(crate) async fn leave(&self) {
        self.0.leave().await;
    }

    /// What operators see.
    pub(crate) fn status(&self) -> Value {
        let figures = self.figures();
        json!({
            "replica": self.id().name(),
            "connected": self.is_connected(),
            "sealed": self.0.is_sealed(),
            "others": self.others().iter().map(ReplicaId::name).collect::<Vec<_>>(),
            "forwarded": figures.forwarded,
            "gone": figures.gone,
            "unavailable": figures.unavailable,
            "unknown": figures.unknown,
            "answered": figures.answered,
            "doubled": figures.doubled,
            "unread": figures.unread,
            "kept": figures.kept,
            "not_kept": figures.not_kept,
        })
    }
}
