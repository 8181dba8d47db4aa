//! Several gateways behind one load balancer.

use std::path::PathBuf;

use mcp_sse::ReplicaId;
use mcp_sse_cluster::{ClusterKey, ConnectOptions};

use crate::{config::expand, replicas::Joins, secret_file};

/// How much of a host's name is the name of a replica.
const LONGEST_NAME: usize = 63;
/// The largest file of a key, in bytes.
const LARGEST_KEY_FILE: u64 = 1024;

#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Several replicas")]
pub(crate) struct ClusterOptions {
    /// Be one of several gateways with the same options behind any load balancer: each takes requests for the sessions of
    /// all, over this NATS or Redis server (nats://, tls://, redis://, rediss://). `${NAME}` is the value of an
    /// environment variable. Whoever has access to that server can read every message unless there is a
    /// --cluster-key-file
    #[arg(long, value_name = "URL")]
    cluster: Option<String>,

    /// Name of the gateways' cluster, for several clusters at one server
    #[arg(long, value_name = "NAME", default_value = "default", requires = "cluster")]
    cluster_name: String,

    /// Name of this gateway, which clients and logs see; letters, digits, - and _ [default: the host's name]
    #[arg(long, value_name = "NAME", requires = "cluster")]
    replica_name: Option<String>,

    /// File with a key that all the gateways share, 64 hex digits (`openssl rand -hex 32`): what crosses is encrypted and
    /// authenticated. Nobody but its owner may change it, nor others than its group read it
    #[arg(long, value_name = "FILE", requires = "cluster")]
    cluster_key_file: Option<PathBuf>,

    /// Credentials file for a NATS server (.creds). A user and a password go into the URL
    #[arg(long, value_name = "FILE", requires = "cluster")]
    cluster_credentials_file: Option<PathBuf>,

    /// PEM file of certificates to trust for that server, in addition to the system's
    #[arg(long, value_name = "FILE", requires = "cluster")]
    cluster_ca_file: Option<PathBuf>,
}

impl ClusterOptions {
    /// What is needed to join, if this is one of several.
    pub(crate) fn joins(&self) -> Result<Option<Joins>, String> {
        let Some(url) = &self.cluster else { return Ok(None) };
        let url = expand::from_environment(url).map_err(|why| format!("--cluster: {why}"))?;
        let key = self.cluster_key_file.as_ref().map(|file| {
            let text = secret_file::read(file, LARGEST_KEY_FILE, "the key")
                .map_err(|why| format!("--cluster-key-file: {}", why.into_text()))?;
            ClusterKey::parse(&text)
                .map_err(|error| format!("--cluster-key-file {}: {error}", file.display()))
        });
        let mut options = ConnectOptions::new();
        if let Some(file) = &self.cluster_credentials_file {
            options = options.credentials_file(file);
        }
        if let Some(file) = &self.cluster_ca_file {
            options = options.ca_file(file);
        }
        let replica = self.replica_name.clone().unwrap_or_else(host_name);
        for (option, name) in [("--replica-name", &replica), ("--cluster-name", &self.cluster_name)] {
            ReplicaId::new(name).map_err(|error| format!("{option}: {error}"))?;
        }
        Ok(Some(Joins { url, options, cluster: self.cluster_name.clone(), replica, key: key.transpose()? }))
    }
}

/// The host's name, as far as it can be that of a replica.
fn host_name() -> String {
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let name: String = host
        .chars()
        .map(|char| if char.is_ascii_alphanumeric() || char == '-' { char } else { '_' })
        .take(LONGEST_NAME)
        .collect();
    if name.is_empty() { "replica".to_owned() } else { name }
}
