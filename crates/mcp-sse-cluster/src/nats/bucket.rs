//! The bucket of a cluster: what `JetStream` is asked for it, and what its answers mean.
//!
//! | subject | what is asked there |
//! |---|---|
//! | `$JS.API.STREAM.INFO.KV_BUCKET` | whether the bucket is there, and what it is like |
//! | `$JS.API.STREAM.CREATE.KV_BUCKET` | to make it |
//! | `$JS.API.DIRECT.GET.KV_BUCKET.$KV.BUCKET.KEY` | what was written last of a key: a record, or that it was removed |
//! | `$KV.BUCKET.KEY` | to write a record, or that it is removed |
//!
//! It is a bucket as all clients of NATS have them, so that its tools show what is in it.

use std::time::Duration;

use async_nats::{HeaderMap, HeaderValue, Message, StatusCode, header};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::json;

use crate::store::{Entry, StoreError};

/// Says what is done to a record, unless it is written.
const OPERATION: &str = "KV-Operation";
const REMOVED: &str = "DEL";
const WRITTEN: &str = "PUT";

/// The most that a message of the bucket may have, headers included: more than a record with those.
const MAX_MESSAGE: usize = 128 * 1024;
/// Within this time the server would know a message again by an id, which none here has.
const KNOWN: Duration = Duration::from_secs(120);

/// What an error of the server is, by its number.
mod code {
    pub(super) const NO_BUCKET: u16 = 10_059;
    pub(super) const OTHER_BUCKET: u16 = 10_058;
    pub(super) const OTHER_STREAM: u16 = 10_060;
    /// The second is said where several servers keep the bucket.
    pub(super) const OTHER_REVISION: [u16; 2] = [10_071, 10_164];
    pub(super) const NOT_ENABLED: [u16; 2] = [10_039, 10_076];
    /// No leader, not ready or too busy: nothing was done, and it passes.
    pub(super) const NOT_NOW: [u16; 6] = [10_006, 10_007, 10_008, 10_009, 10_163, 10_167];
}

pub(super) struct Bucket {
    name: String,
}

/// What the server says of a bucket that is there.
#[derive(Debug, Deserialize, PartialEq, Eq)]
pub(super) struct Kept {
    /// In nanoseconds; 0 is for ever.
    #[serde(default)]
    max_age: u64,
    #[serde(default)]
    allow_direct: bool,
}

/// What was written last of a key.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Last {
    Nothing,
    Record(Entry),
    /// That it is removed, which has a revision, too.
    Removal(u64),
}

/// An answer in JSON.
#[derive(Debug, Deserialize)]
struct Answer {
    error: Option<Fault>,
    config: Option<Kept>,
    #[serde(default)]
    seq: u64,
}

#[derive(Debug, Deserialize)]
struct Fault {
    #[serde(default)]
    err_code: u16,
    #[serde(default)]
    description: String,
}

impl Kept {
    pub(super) fn max_age(&self) -> Duration {
        Duration::from_nanos(self.max_age)
    }
}

impl Bucket {
    pub(super) fn new(cluster: &str) -> Self {
        Self { name: format!("mcp-sse-{cluster}") }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn info_subject(&self) -> String {
        format!("$JS.API.STREAM.INFO.KV_{}", self.name)
    }

    pub(super) fn create_subject(&self) -> String {
        format!("$JS.API.STREAM.CREATE.KV_{}", self.name)
    }

    pub(super) fn last_subject(&self, key: &str) -> String {
        format!("$JS.API.DIRECT.GET.KV_{}.{}", self.name, self.subject(key))
    }

    pub(super) fn subject(&self, key: &str) -> String {
        format!("$KV.{}.{key}", self.name)
    }

    /// A bucket whose records are kept for so long, and whose first one has this revision.
    pub(super) fn config(&self, max_age: Duration, first: u64) -> Bytes {
        let nanos = |time: Duration| i64::try_from(time.as_nanos()).unwrap_or(i64::MAX);
        let config = json!({
            "name": format!("KV_{}", self.name),
            "subjects": [self.subject(">")],
            "storage": "file",
            "num_replicas": 1,
            "retention": "limits",
            "discard": "new",
            "max_msgs_per_subject": 1,
            "max_msg_size": MAX_MESSAGE,
            // Of removals, too.
            "max_age": nanos(max_age),
            "duplicate_window": nanos(max_age.min(KNOWN)),
            "first_seq": first,
            "allow_direct": true,
            "allow_rollup_hdrs": true,
            "deny_delete": true,
        });
        Bytes::from(config.to_string())
    }

    /// The headers of a write that is done if what was written last has this revision; 0 is nothing.
    pub(super) fn written_over(revision: u64) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(header::NATS_EXPECTED_LAST_SUBJECT_SEQUENCE, HeaderValue::from(revision));
        headers
    }

    /// The same of a removal.
    pub(super) fn removed(revision: u64) -> HeaderMap {
        let mut headers = Self::written_over(revision);
        headers.insert(OPERATION, REMOVED);
        headers
    }

    /// The headers of a write that is never done.
    pub(super) fn never_done() -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(header::NATS_EXPECTED_STREAM, "none");
        headers
    }

    /// The bucket, if it is there.
    pub(super) fn found(&self, answer: &[u8]) -> Result<Option<Kept>, StoreError> {
        let Answer { error, config, .. } = read(answer)?;
        match (error, config) {
            (Some(Fault { err_code: code::NO_BUCKET, .. }), _) => Ok(None),
            (Some(fault), _) => Err(self.refused(fault)),
            (None, Some(Kept { allow_direct: false, .. })) => Err(StoreError::Refused(format!(
                "the bucket {0} of NATS does not allow direct access; allow it (nats stream edit KV_{0} --allow-direct), or remove the bucket",
                self.name
            ))),
            (None, Some(kept)) => Ok(Some(kept)),
            (None, None) => Err(no_answer()),
        }
    }

    /// Whether the bucket was made. Otherwise somebody else has made it meanwhile.
    pub(super) fn is_made(&self, answer: &[u8]) -> Result<bool, StoreError> {
        match read(answer)?.error {
            None => Ok(true),
            Some(Fault { err_code: code::OTHER_BUCKET, .. }) => Ok(false),
            Some(fault) => Err(self.refused(fault)),
        }
    }

    /// The revision that was written. `None`: nothing was, as what was written last has another one.
    pub(super) fn revision(&self, answer: &[u8]) -> Result<Option<u64>, StoreError> {
        let Answer { error, seq, .. } = read(answer)?;
        match error {
            None if seq == 0 => Err(no_answer()),
            None => Ok(Some(seq)),
            Some(fault) if code::OTHER_REVISION.contains(&fault.err_code) => Ok(None),
            Some(fault) => Err(self.refused(fault)),
        }
    }

    /// Whether a write that is never done got as far as it can.
    pub(super) fn proves(&self, answer: &[u8]) -> Result<(), StoreError> {
        match read(answer)?.error {
            Some(Fault { err_code: code::OTHER_STREAM, .. }) => Ok(()),
            Some(fault) => Err(self.refused(fault)),
            None => Err(no_answer()),
        }
    }

    /// What was written last.
    pub(super) fn last(message: Message) -> Result<Last, StoreError> {
        match message.status {
            None => {}
            Some(StatusCode::NOT_FOUND) => return Ok(Last::Nothing),
            Some(status) => {
                let why = message.description.unwrap_or_default();
                return Err(StoreError::Refused(format!("JetStream does not give a record: {status} {why}")));
            }
        }
        let headers = message.headers.unwrap_or_default();
        let revision = headers.get(header::NATS_SEQUENCE).and_then(|revision| revision.as_str().parse().ok());
        let revision = revision.ok_or_else(no_answer)?;
        let is_record = headers.get(OPERATION).is_none_or(|operation| operation.as_str() == WRITTEN)
            && headers.get(header::NATS_MARKER_REASON).is_none();
        Ok(if is_record {
            Last::Record(Entry { value: message.payload, revision })
        } else {
            Last::Removal(revision)
        })
    }

    /// What it means that nobody takes what is asked.
    pub(super) fn off() -> StoreError {
        let why = "JetStream is off, and records cannot be kept; start nats-server with --jetstream";
        StoreError::Refused(why.to_owned())
    }

    /// What this complaint of the server means, if it is about the bucket, or about the subject of its answers.
    pub(super) fn forbidden(&self, complaint: &str, answers: &str) -> Option<StoreError> {
        let Self { name } = self;
        let is_ours = [&format!("$KV.{name}."), &format!("KV_{name}\""), answers]
            .into_iter()
            .any(|ours| complaint.contains(ours));
        is_ours.then(|| {
            StoreError::Refused(format!(
                "NATS does not let records be kept: {complaint}; the user needs permission to subscribe to mcp-sse.>, and to publish to $KV.{name}.> and $JS.API.> (of which $JS.API.STREAM.INFO.KV_{name}, $JS.API.STREAM.CREATE.KV_{name} and $JS.API.DIRECT.GET.KV_{name}.> will do)"
            ))
        })
    }

    fn refused(&self, fault: Fault) -> StoreError {
        let Fault { err_code, description } = fault;
        let name = &self.name;
        StoreError::Refused(if code::NOT_NOW.contains(&err_code) {
            return StoreError::Unavailable;
        } else if code::NOT_ENABLED.contains(&err_code) {
            format!("NATS keeps no records: {description}; enable JetStream for the account of this user")
        } else {
            format!("JetStream refuses what is asked for the bucket {name}: {description} ({err_code})")
        })
    }
}

fn read(answer: &[u8]) -> Result<Answer, StoreError> {
    serde_json::from_slice(answer).map_err(|_| no_answer())
}

fn no_answer() -> StoreError {
    StoreError::Refused(
        "what JetStream answers is not what it should; expected nats-server 2.10 or later".to_owned(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bucket() -> Bucket {
        Bucket::new("main")
    }

    fn fault(code: u16) -> String {
        format!(r#"{{"error":{{"code":400,"err_code":{code},"description":"why"}},"stream":"KV_x","seq":0}}"#)
    }

    #[test]
    fn subjects_name_the_bucket_and_the_key() {
        let bucket = bucket();
        assert_eq!(bucket.info_subject(), "$JS.API.STREAM.INFO.KV_mcp-sse-main");
        assert_eq!(bucket.create_subject(), "$JS.API.STREAM.CREATE.KV_mcp-sse-main");
        assert_eq!(bucket.last_subject("k"), "$JS.API.DIRECT.GET.KV_mcp-sse-main.$KV.mcp-sse-main.k");
        assert_eq!(bucket.subject("k"), "$KV.mcp-sse-main.k");
    }

    #[test]
    fn a_bucket_knows_no_message_for_longer_than_it_keeps_it() {
        let config = |secs| {
            let config = bucket().config(Duration::from_secs(secs), 7);
            let config: serde_json::Value = serde_json::from_slice(&config).unwrap();
            (config["max_age"].as_u64(), config["duplicate_window"].as_u64())
        };
        let secs = |secs: u64| Some(secs * 1_000_000_000);
        assert_eq!(config(1), (secs(1), secs(1)));
        assert_eq!(config(3_600), (secs(3_600), secs(120)));
        assert_eq!(config(u64::MAX).0, Some(i64::MAX as u64));
    }

    #[test]
    fn an_answer_means_a_revision_another_one_or_why_not() {
        let revision = |answer: &str| bucket().revision(answer.as_bytes());
        assert_eq!(revision(r#"{"stream":"KV_x","seq":7}"#), Ok(Some(7)));
        for code in [10_071, 10_164] {
            assert_eq!(revision(&fault(code)), Ok(None));
        }
        for code in code::NOT_NOW {
            assert_eq!(revision(&fault(code)), Err(StoreError::Unavailable));
        }
        for answer in [&fault(10_054), &fault(10_077), &fault(10_039), "{}", "", "+OK", r#"{"error":{}}"#] {
            assert!(matches!(revision(answer), Err(StoreError::Refused(_))), "{answer}");
        }
        let StoreError::Refused(why) = revision(&fault(10_039)).unwrap_err() else { panic!() };
        assert!(why.contains("why") && why.contains("enable JetStream"), "{why}");
    }

    #[test]
    fn a_bucket_is_found_made_or_made_by_somebody_else() {
        let bucket = bucket();
        let info = br#"{"config":{"name":"KV_x","max_age":2000000000,"allow_direct":true},"state":{}}"#;
        let kept = bucket.found(info).unwrap().unwrap();
        assert_eq!(kept.max_age(), Duration::from_secs(2));
        assert_eq!(bucket.found(fault(10_059).as_bytes()), Ok(None));
        let StoreError::Refused(why) = bucket.found(br#"{"config":{}}"#).unwrap_err() else { panic!() };
        assert!(why.contains("--allow-direct"), "{why}");
        assert!(bucket.found(b"{}").is_err());
        assert_eq!(bucket.is_made(info), Ok(true));
        assert_eq!(bucket.is_made(fault(10_058).as_bytes()), Ok(false));
        assert!(bucket.is_made(fault(10_047).as_bytes()).is_err());
        assert_eq!(bucket.proves(fault(10_060).as_bytes()), Ok(()));
        assert!(bucket.proves(br#"{"stream":"KV_x","seq":7}"#).is_err());
    }

    #[test]
    fn what_was_written_last_is_a_record_a_removal_or_nothing() {
        let last = |status: Option<StatusCode>, headers: &[(&str, &str)]| {
            let headers: HeaderMap =
                headers.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect();
            Bucket::last(Message {
                subject: "reply".into(),
                reply: None,
                payload: Bytes::from_static(b"value"),
                headers: Some(headers),
                status,
                description: None,
                length: 0,
            })
        };
        let record = Last::Record(Entry { value: Bytes::from_static(b"value"), revision: 7 });
        assert_eq!(last(None, &[("Nats-Sequence", "7")]), Ok(record));
        let record = last(None, &[("Nats-Sequence", "7"), ("KV-Operation", "PUT")]);
        assert!(matches!(record, Ok(Last::Record(_))));
        for (name, value) in
            [("KV-Operation", "DEL"), ("KV-Operation", "PURGE"), ("Nats-Marker-Reason", "MaxAge")]
        {
            assert_eq!(last(None, &[("Nats-Sequence", "7"), (name, value)]), Ok(Last::Removal(7)));
        }
        assert_eq!(last(Some(StatusCode::NOT_FOUND), &[]), Ok(Last::Nothing));
        assert!(last(Some(StatusCode::TIMEOUT), &[("Nats-Sequence", "7")]).is_err());
        assert!(last(None, &[]).is_err());
    }

    #[test]
    fn a_complaint_is_taken_for_ones_own_only_if_it_is() {
        let forbidden = |subject: &str| {
            let complaint = format!(r#"Permissions Violation for Publish to "{subject}""#);
            bucket().forbidden(&complaint, "mcp-sse.main.store.1.")
        };
        let ours = [
            "$JS.API.STREAM.INFO.KV_mcp-sse-main",
            "$JS.API.DIRECT.GET.KV_mcp-sse-main.$KV.mcp-sse-main.k",
            "$KV.mcp-sse-main.k",
            "mcp-sse.main.store.1.*",
        ];
        for subject in ours {
            let Some(StoreError::Refused(why)) = forbidden(subject) else { panic!("{subject}") };
            assert!(why.contains("$JS.API.>") && why.contains("$KV.mcp-sse-main.>"), "{why}");
        }
        for subject in ["$KV.mcp-sse-main2.k", "$JS.API.STREAM.INFO.KV_mcp-sse-main2", "mcp-sse.main.all"] {
            assert_eq!(forbidden(subject), None, "{subject}");
        }
    }
}
