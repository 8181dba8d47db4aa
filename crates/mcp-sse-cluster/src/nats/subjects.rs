//! The names of subjects.
//!
//! | subject | what is sent there |
//! |---|---|
//! | `mcp-sse.CLUSTER.NAME.RUN` | calls of a replica |
//! | `mcp-sse.CLUSTER.NAME.RUN.NUMBER` | the reply to a call that this replica has made, or that nobody takes it |
//! | `mcp-sse.CLUSTER.all` | announcements |
//! | `mcp-sse.CLUSTER.store.ID.NUMBER` | what `JetStream` answers, for one replica's view of the records |

use std::fmt::Display;

use mcp_sse::ReplicaId;

/// The subject of calls of a replica.
pub(super) fn subject(cluster: &str, replica: &ReplicaId) -> String {
    format!("mcp-sse.{cluster}.{}.{}", replica.name(), replica.run())
}

/// What subjects of answers about records begin with.
pub(super) fn store_subject(cluster: &str, id: u64) -> String {
    format!("mcp-sse.{cluster}.store.{id:016x}")
}

/// The subject of a reply; with a `*` that of all.
pub(super) fn reply_subject(caller: &str, number: impl Display) -> String {
    format!("{caller}.{number}")
}

/// The number of the call that a reply is for.
pub(super) fn number(subject: &str) -> Option<u64> {
    subject.rsplit_once('.')?.1.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subjects_name_the_cluster_the_replica_and_the_call() {
        let replica: ReplicaId = "web-1.0123456789abcdef".parse().unwrap();
        let subject = subject("main", &replica);
        assert_eq!(subject, "mcp-sse.main.web-1.0123456789abcdef");
        let reply = reply_subject(&subject, 7);
        assert_eq!(reply, "mcp-sse.main.web-1.0123456789abcdef.7");
        assert_eq!(number(&reply), Some(7));
        assert_eq!(number(&format!("{subject}.x")), None);
        assert_eq!(store_subject("main", 7), "mcp-sse.main.store.0000000000000007");
    }
}
