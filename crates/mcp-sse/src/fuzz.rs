//! What the fuzz targets need to reach. Only there when fuzzing.

#![allow(missing_docs, reason = "not part of the crate's interface")]

use bytes::{Bytes, BytesMut};

use crate::{
    SessionId,
    admission::{self, Authority, Origin, Pattern},
    event,
    session::id::EventId,
};

pub fn host_passes(entry: &str, host: &str) -> bool {
    let pattern = Pattern::<Authority>::parse(entry);
    pattern.is_some_and(|pattern| Authority::parse(host).is_some_and(|host| pattern.matches(&host)))
}

pub fn is_host_entry(entry: &str) -> bool {
    Pattern::<Authority>::parse(entry).is_some()
}

pub fn origin_passes(entry: &str, origin: &str) -> bool {
    let pattern = Pattern::<Origin>::parse(entry);
    pattern.is_some_and(|pattern| Origin::parse(origin).is_some_and(|origin| pattern.matches(&origin)))
}

pub fn is_origin_entry(entry: &str) -> bool {
    Pattern::<Origin>::parse(entry).is_some()
}

pub fn session_id(query: &str) -> Option<SessionId> {
    admission::session_id(Some(query)).ok()
}

pub fn event_id(text: &str) -> Option<(SessionId, u64)> {
    EventId::parse(text).map(|id| (id.session, id.sequence))
}

pub fn message_event(json: impl Into<Bytes>) -> Bytes {
    let mut out = BytesMut::new();
    event::message(&mut out, None, &event::single_line(json.into()));
    out.freeze()
}
