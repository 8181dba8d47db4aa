//! Records under keys of Redis.
//!
//! A record is one string: its revision, which are 8 bytes, and then the value. Each write sets the time until it expires.
//! What depends on the revision is done by a script, so that nothing comes in between.
//!
//! Invariant: each write brings a revision of its own, 64 bits of chance. A count would not do: it had to be kept for longer
//! than the record, or to begin anew with a record that is made again, whose revisions would then fit what was seen before.

use std::{sync::Arc, time::Duration};

use ::redis::{Cmd, FromRedisValue, RedisError, Value, cmd};
use bytes::Bytes;
use tokio::time::timeout;

use super::{
    connection::{Connected, Line},
    sent::record_key,
    server::{is_refusal, said},
};
use crate::{
    carrier::BoxFuture,
    store::{DEADLINE, Entry, SHORTEST, Store, StoreError, check_size, random},
};

const REVISION: usize = size_of::<u64>();

/// The key, the revision that it must have, what is written, and for how long.
const REPLACE: &str = "\
local kept = redis.call('GET', KEYS[1])
if not kept or string.sub(kept, 1, 8) ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
return 1";

/// The key, and the revision that it must have.
const REMOVE: &str = "\
local kept = redis.call('GET', KEYS[1])
if not kept or string.sub(kept, 1, 8) ~= ARGV[1] then return 0 end
redis.call('DEL', KEYS[1])
return 1";

/// Does with a key that no record has what the others do with theirs.
const PROVE: &str = "\
redis.call('GET', KEYS[1])
redis.call('SET', KEYS[1], '', 'PX', 1)
redis.call('DEL', KEYS[1])
return 1";

/// What is said of a script that uses a command which the user may not use.
const FORBIDDEN: &str = "can't run this command";

/// The records of one cluster.
pub(super) struct RedisStore {
    connected: Arc<Connected>,
    cluster: String,
    /// In milliseconds.
    expiry: u64,
}

impl RedisStore {
    /// The records of a cluster with this name, which are seen to work.
    pub(super) async fn open(
        connected: Arc<Connected>,
        cluster: &str,
        expiry: Duration,
    ) -> Result<Self, StoreError> {
        let expiry = u64::try_from(expiry.max(SHORTEST).as_millis()).unwrap_or(u64::MAX);
        let store = Self { connected, cluster: cluster.to_owned(), expiry };
        let mut prove = store.script(PROVE, "none");
        store.ask::<Value>(&mut prove).await?;
        Ok(store)
    }

    fn key(&self, key: &str) -> String {
        record_key(&self.cluster, key)
    }

    /// A script for one key. It is sent whole, as a server may have forgotten what it knew.
    fn script(&self, script: &str, key: &str) -> Cmd {
        let mut eval = cmd("EVAL");
        eval.arg(script).arg(1).arg(self.key(key));
        eval
    }

    /// Asks the server once.
    async fn ask<T: FromRedisValue>(&self, command: &mut Cmd) -> Result<T, StoreError> {
        let shared = &self.connected.shared;
        let Line { number, connection: Some(mut connection), up: Some(_) } = shared.line() else {
            return Err(StoreError::Unavailable);
        };
        let answer = timeout(DEADLINE, command.query_async::<Value>(&mut connection)).await;
        match answer {
            Ok(Ok(answer)) => T::from_redis_value(answer).map_err(|_| no_record()),
            Ok(Err(error)) if is_refusal(&error) => Err(self.refused(&error)),
            // Whether the server has got it is not known.
            Ok(Err(_)) | Err(_) => {
                shared.doubt(number);
                Err(StoreError::Unavailable)
            }
        }
    }

    fn refused(&self, error: &RedisError) -> StoreError {
        let why = said(error);
        let is_forbidden = error.code() == Some("NOPERM") || why.contains(FORBIDDEN);
        match error.code() {
            // It passes, or the connection is given up for it.
            Some("LOADING" | "BUSY" | "TRYAGAIN" | "MASTERDOWN" | "CLUSTERDOWN" | "READONLY") => {
                StoreError::Unavailable
            }
            _ if is_forbidden => StoreError::Refused(format!(
                "Redis does not let records be kept: {why}; allow it: ACL SETUSER NAME ~{} +get +set +del +eval",
                self.key("*"),
            )),
            code => {
                let code = code.unwrap_or_default();
                StoreError::Refused(format!("Redis refuses what is asked for a record: {code} {why}"))
            }
        }
    }
}

impl Store for RedisStore {
    fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<Entry>, StoreError>> {
        Box::pin(async move {
            let kept: Option<Vec<u8>> = self.ask(cmd("GET").arg(self.key(key))).await?;
            kept.map(read).transpose()
        })
    }

    fn create<'a>(&'a self, key: &'a str, value: Bytes) -> BoxFuture<'a, Result<Option<u64>, StoreError>> {
        Box::pin(async move {
            check_size(&value)?;
            let (revision, record) = record(&value);
            let mut set = cmd("SET");
            set.arg(self.key(key)).arg(&record[..]).arg("NX").arg("PX").arg(self.expiry);
            let is_set: Value = self.ask(&mut set).await?;
            Ok((is_set != Value::Nil).then_some(revision))
        })
    }

    fn replace<'a>(
        &'a self,
        key: &'a str,
        revision: u64,
        value: Bytes,
    ) -> BoxFuture<'a, Result<Option<u64>, StoreError>> {
        Box::pin(async move {
            check_size(&value)?;
            let (next, record) = record(&value);
            let mut replace = self.script(REPLACE, key);
            replace.arg(&revision.to_be_bytes()).arg(&record[..]).arg(self.expiry);
            let is_replaced: bool = self.ask(&mut replace).await?;
            Ok(is_replaced.then_some(next))
        })
    }

    fn remove<'a>(&'a self, key: &'a str, revision: u64) -> BoxFuture<'a, Result<bool, StoreError>> {
        Box::pin(async move {
            let mut remove = self.script(REMOVE, key);
            self.ask(remove.arg(&revision.to_be_bytes())).await
        })
    }
}

/// A record with this value, and its revision.
fn record(value: &[u8]) -> (u64, Vec<u8>) {
    let revision = random();
    let mut record = Vec::with_capacity(REVISION + value.len());
    record.extend_from_slice(&revision.to_be_bytes());
    record.extend_from_slice(value);
    (revision, record)
}

fn read(record: Vec<u8>) -> Result<Entry, StoreError> {
    let mut value = Bytes::from(record);
    if value.len() < REVISION {
        return Err(no_record());
    }
    let revision = value.split_to(REVISION);
    let revision = <[u8; REVISION]>::try_from(&revision[..]).map_err(|_| no_record())?;
    Ok(Entry { value, revision: u64::from_be_bytes(revision) })
}

fn no_record() -> StoreError {
    StoreError::Refused("Redis has something else than a record under the key of one; expected that nobody else uses keys of mcp-sse".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_read_as_it_was_written_and_no_two_have_one_revision() {
        let (revision, written) = record(b"\0value");
        assert_eq!(&written[..8], revision.to_be_bytes());
        assert_eq!(read(written), Ok(Entry { value: Bytes::from_static(b"\0value"), revision }));
        assert_eq!(read(record(b"").1).map(|entry| entry.value), Ok(Bytes::new()));
        for length in 0..8 {
            assert!(read(vec![0; length]).is_err());
        }
        let revisions: std::collections::HashSet<_> = (0..1_000).map(|_| record(b"").0).collect();
        assert_eq!(revisions.len(), 1_000);
    }
}
