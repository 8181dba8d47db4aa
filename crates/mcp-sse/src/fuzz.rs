//! What the fuzz targets need to reach. Compiled only for fuzzing.

#![allow(missing_docs, reason = "not part of the crate's interface")]

use bytes::{Bytes, BytesMut};

use crate::{
    admission::{self, Authority, Origin, Pattern},
    event,
    id::{EventId, SessionId},
    replica::ReplicaId,
    server::head,
    session::head::Head,
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

pub fn event_id(text: &str) -> Option<(SessionId, u64, Option<&str>)> {
    EventId::parse(text).map(|id| (id.session, id.sequence, id.at))
}

pub fn replica_id(text: &str) -> Option<ReplicaId> {
    text.parse().ok()
}

pub fn message_event(json: impl Into<Bytes>) -> Bytes {
    let mut out = BytesMut::new();
    event::message_start(&mut out, None);
    out.extend_from_slice(&event::single_line(json.into()));
    out.extend_from_slice(event::END);
    out.freeze()
}

/// What the server makes of the first bytes of a connection.
#[derive(Debug, PartialEq, Eq)]
pub enum Plain {
    Partial,
    Request { head: Vec<String>, body: Bytes, length: usize },
    Other,
}

fn describe(parts: &http::request::Parts) -> Vec<String> {
    let mut head = vec![format!("{} {}", parts.method, parts.uri)];
    head.extend(parts.headers.iter().map(|(name, value)| format!("{name}: {value:?}")));
    head
}

pub fn plain(bytes: &[u8]) -> Plain {
    match head::read(bytes) {
        head::Read::Partial => Plain::Partial,
        head::Read::Other | head::Read::Http2 => Plain::Other,
        head::Read::Request(head::Plain { parts, body: Some(body), length, .. }) => {
            Plain::Request { head: describe(&parts), body, length }
        }
        // Its body is not complete.
        head::Read::Request(_) => Plain::Partial,
    }
}

/// What the server makes of `second` after the request `first`, if both have the same head.
pub fn plain_after(first: &[u8], second: &[u8]) -> Option<Plain> {
    let head::Read::Request(request) = head::read(first) else { return None };
    let head::Again { body, other_length, length, .. } = request.known?.read(second)?;
    let Some(body) = body else { return Some(Plain::Partial) };
    let head = Head::new(request.parts);
    let head = other_length.map_or_else(|| head.clone(), |length| head.with_length(length));
    Some(Plain::Request { head: describe(head.parts()), body, length })
}
