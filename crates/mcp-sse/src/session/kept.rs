//! What is kept of a session that may be revived at another replica, as it is written.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::core::Remembered;
use crate::message::Message;

/// The most that an app may keep of a session, in bytes.
pub(crate) const STATE_BYTES: usize = 32 * 1024;
/// The most that a record has, in bytes: what all kinds of records take.
const RECORD_BYTES: usize = 96 * 1024;
/// The longest id of a request that is kept, as JSON, in bytes. Those of clients are much shorter.
const ID_BYTES: usize = 128;
/// The JSON-RPC error code that SDKs use for a closed connection.
const CONNECTION_CLOSED: i32 = -32000;

/// Where a session is, and what whoever revives it has to know.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Written {
    /// The replica that the session is at, or was.
    pub(crate) host: String,
    /// Whether that replica has let it go.
    pub(crate) left: bool,
    /// Whether it has the session for sure: it has claimed it at least, and may have failed then.
    pub(crate) settled: bool,
    /// The replica whose events have the numbers here.
    pub(crate) numbered: String,
    /// A client that has not this one lacks more than is known here.
    pub(crate) forgotten: u64,
    pub(crate) endpoint: String,
    pub(crate) principal: Option<String>,
    /// What its app wants to know.
    pub(crate) state: String,
    /// The ids of requests that have no answer, as JSON.
    asked: Vec<String>,
    /// Those whose answer the client may not have, by the sequence numbers of the events there.
    answered: Vec<(u64, String)>,
    /// The last events.
    tail: Vec<(u64, Box<RawValue>)>,
}

/// A session cannot be kept: its record would be too large.
#[derive(Debug)]
pub(crate) struct TooLarge;

impl Written {
    pub(crate) fn new(
        host: &str,
        endpoint: &str,
        principal: Option<&str>,
        state: &str,
        remembered: Remembered,
    ) -> Self {
        let raw = |json: Bytes| {
            String::from_utf8(json.into()).ok().and_then(|json| RawValue::from_string(json).ok())
        };
        let Remembered { asked, answered, forgotten, tail } = remembered;
        let left = tail.is_some();
        let tail = tail.unwrap_or_default().into_iter();
        Self {
            host: host.to_owned(),
            left,
            settled: true,
            numbered: host.to_owned(),
            forgotten,
            endpoint: endpoint.to_owned(),
            principal: principal.map(str::to_owned),
            state: state.to_owned(),
            asked: asked.iter().map(ToString::to_string).collect(),
            answered: answered.iter().map(|(sequence, id)| (*sequence, id.to_string())).collect(),
            tail: tail.filter_map(|(sequence, json)| Some((sequence, raw(json)?))).collect(),
        }
    }

    pub(crate) fn read(record: &[u8]) -> Option<Self> {
        serde_json::from_slice(record).ok()
    }

    /// As a record. If there is no room for the last events, their requests get errors.
    pub(crate) fn into_record(mut self) -> Result<Bytes, TooLarge> {
        self.as_record().or_else(|TooLarge| {
            self.tail.clear();
            self.as_record()
        })
    }

    pub(crate) fn as_record(&self) -> Result<Bytes, TooLarge> {
        let ids = self.asked.iter().chain(self.answered.iter().map(|(_, id)| id));
        if ids.into_iter().any(|id| id.len() > ID_BYTES) {
            return Err(TooLarge);
        }
        let record = serde_json::to_vec(&self).map_err(|_| TooLarge)?;
        if record.len() <= RECORD_BYTES { Ok(record.into()) } else { Err(TooLarge) }
    }

    /// What a client is told whose last event had this number: the events that it has missed, as far as they are there, and
    /// an error for each request whose answer it will not get.
    pub(crate) fn missed(&self, last: u64) -> Vec<Message> {
        let tail = self.tail.iter().filter(|(sequence, _)| *sequence > last);
        let is_there = |number: &u64| self.tail.iter().any(|(sequence, _)| sequence == number);
        let lost = self.answered.iter().filter(|(sequence, _)| *sequence > last && !is_there(sequence));
        let lost = lost.map(|(_, id)| id).chain(&self.asked);
        let error = |id: &String| {
            let text = "the server that worked on this is gone; ask again";
            Message::parse(format!(
                r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":{CONNECTION_CLOSED},"message":"{text}"}}}}"#
            ))
        };
        let tail = tail.map(|(_, json)| Message::parse(json.get().to_owned()));
        tail.chain(lost.map(error)).filter_map(Result::ok).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::RequestId;

    fn remembered(asked: &[i64], answered: &[(u64, i64)], tail: Option<&[u64]>) -> Remembered {
        let event = |sequence: &u64| {
            (*sequence, Bytes::from(format!(r#"{{"jsonrpc":"2.0","method":"event/{sequence}"}}"#)))
        };
        Remembered {
            asked: asked.iter().map(|id| RequestId::from(*id)).collect(),
            answered: answered.iter().map(|(at, id)| (*at, RequestId::from(*id))).collect(),
            forgotten: 0,
            tail: tail.map(|tail| tail.iter().map(event).collect()),
        }
    }

    fn written(remembered: Remembered) -> Written {
        let record =
            Written::new("a.1", "/m/", Some("alice"), "state \"1\"", remembered).into_record().unwrap();
        Written::read(&record).unwrap()
    }

    fn missed(written: &Written, last: u64) -> Vec<String> {
        let short = |message: &Message| match message.id() {
            Some(id) => format!("error for {id}"),
            None => message.method().unwrap().to_owned(),
        };
        written.missed(last).iter().map(short).collect()
    }

    #[test]
    fn what_has_no_answer_and_what_may_not_have_arrived_gets_an_error() {
        let written = written(remembered(&[7], &[(3, 1), (4, 2), (5, 3)], None));
        assert_eq!((&*written.host, written.left, &*written.state), ("a.1", false, "state \"1\""));
        assert_eq!(missed(&written, 3), ["error for 2", "error for 3", "error for 7"]);
        assert_eq!(missed(&written, 9), ["error for 7"]);
    }

    #[test]
    fn a_session_that_was_let_go_has_its_last_events_as_far_as_there_is_room() {
        let written = written(remembered(&[], &[(3, 1), (4, 2)], Some(&[4, 5])));
        assert!(written.left);
        assert_eq!(missed(&written, 2), ["event/4", "event/5", "error for 1"]);
        assert_eq!(missed(&written, 4), ["event/5"]);

        let mut large = remembered(&[], &[(1, 1)], Some(&[]));
        let text = "x".repeat(RECORD_BYTES);
        large.tail = Some(vec![(1, Bytes::from(format!(r#"{{"jsonrpc":"2.0","id":1,"result":"{text}"}}"#)))]);
        assert_eq!(missed(&self::written(large), 0), ["error for 1"]);
    }

    #[test]
    fn what_is_too_large_to_be_kept_is_not() {
        let state = "x".repeat(RECORD_BYTES);
        assert!(Written::new("a.1", "/m/", None, &state, Remembered::default()).into_record().is_err());
        let id = RequestId::from(&*"x".repeat(ID_BYTES));
        let remembered = Remembered { asked: vec![id], ..Remembered::default() };
        assert!(Written::new("a.1", "/m/", None, "", remembered).into_record().is_err());
    }
}
