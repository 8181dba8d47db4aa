//! The names of channels, and what is sent there; the keys of records.
//!
//! | channel | what is sent there |
//! |---|---|
//! | `mcp-sse:CLUSTER:NAME.RUN` | calls of a replica: `1`, a number of 8 bytes, the length of a channel in 1 byte, the channel for the reply, the call |
//! | `mcp-sse:CLUSTER:NAME.RUN:replies` | replies to calls of this replica: `2`, the number, the reply |
//! | `mcp-sse:CLUSTER:all` | announcements |
//!
//! A record has the key `mcp-sse:CLUSTER:session:KEY`.

use bytes::Bytes;
use mcp_sse::ReplicaId;

const CALL: u8 = b'1';
const REPLIED: u8 = b'2';
/// Before the names of all channels, and before all keys.
const PREFIX: &str = "mcp-sse:";

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Call {
    pub(super) number: u64,
    pub(super) reply_to: String,
    pub(super) bytes: Bytes,
}

/// `None`: the name of the channel is too long.
pub(super) fn call(number: u64, reply_to: &str, bytes: &[u8]) -> Option<Vec<u8>> {
    let length = u8::try_from(reply_to.len()).ok()?;
    let mut payload = Vec::with_capacity(1 + 8 + 1 + reply_to.len() + bytes.len());
    payload.push(CALL);
    payload.extend_from_slice(&number.to_be_bytes());
    payload.push(length);
    payload.extend_from_slice(reply_to.as_bytes());
    payload.extend_from_slice(bytes);
    Some(payload)
}

pub(super) fn read_call(mut payload: Bytes) -> Option<Call> {
    if cut(&mut payload, 1)?[0] != CALL {
        return None;
    }
    let number = read_number(&mut payload)?;
    let length = cut(&mut payload, 1)?[0];
    let reply_to = cut(&mut payload, usize::from(length))?;
    let reply_to = str::from_utf8(&reply_to).ok()?;
    // A reply is sent to a replica and nowhere else.
    reply_to.starts_with(PREFIX).then(|| Call { number, reply_to: reply_to.to_owned(), bytes: payload })
}

pub(super) fn reply(number: u64, bytes: &[u8]) -> Vec<u8> {
    let mut payload = Vec::with_capacity(1 + 8 + bytes.len());
    payload.push(REPLIED);
    payload.extend_from_slice(&number.to_be_bytes());
    payload.extend_from_slice(bytes);
    payload
}

pub(super) fn read_reply(mut payload: Bytes) -> Option<(u64, Bytes)> {
    if cut(&mut payload, 1)?[0] != REPLIED {
        return None;
    }
    let number = read_number(&mut payload)?;
    Some((number, payload))
}

fn read_number(payload: &mut Bytes) -> Option<u64> {
    let bytes = cut(payload, 8)?;
    <[u8; 8]>::try_from(&bytes[..]).ok().map(u64::from_be_bytes)
}

/// The first so many bytes, which are taken away.
fn cut(payload: &mut Bytes, length: usize) -> Option<Bytes> {
    (payload.len() >= length).then(|| payload.split_to(length))
}

pub(super) fn calls_channel(cluster: &str, replica: &ReplicaId) -> String {
    format!("{PREFIX}{cluster}:{replica}")
}

pub(super) fn replies_channel(cluster: &str, replica: &ReplicaId) -> String {
    format!("{PREFIX}{cluster}:{replica}:replies")
}

/// No replica's: those have a dot.
pub(super) fn announcements_channel(cluster: &str) -> String {
    format!("{PREFIX}{cluster}:all")
}

pub(super) fn record_key(cluster: &str, key: &str) -> String {
    format!("{PREFIX}{cluster}:session:{key}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channels_name_the_cluster_and_the_replica() {
        let replica: ReplicaId = "web-1.0123456789abcdef".parse().unwrap();
        assert_eq!(calls_channel("main", &replica), "mcp-sse:main:web-1.0123456789abcdef");
        assert_eq!(replies_channel("main", &replica), "mcp-sse:main:web-1.0123456789abcdef:replies");
        assert_eq!(announcements_channel("main"), "mcp-sse:main:all");
        assert_eq!(record_key("main", "k"), "mcp-sse:main:session:k");
    }

    #[test]
    fn a_call_is_read_as_it_was_written() {
        let payload = call(258, "mcp-sse:a", b"\0call").unwrap();
        assert_eq!(payload, b"1\0\0\0\0\0\0\x01\x02\x09mcp-sse:a\0call");
        let expected =
            Call { number: 258, reply_to: "mcp-sse:a".to_owned(), bytes: Bytes::from_static(b"\0call") };
        assert_eq!(read_call(Bytes::from(payload.clone())), Some(expected));
        // The call itself may be empty.
        let head = payload.len() - b"\0call".len();
        for length in 0..head {
            assert_eq!(read_call(Bytes::copy_from_slice(&payload[..length])), None);
        }
        assert!(read_call(Bytes::copy_from_slice(&payload[..head])).is_some());
        assert_eq!(call(0, &"x".repeat(256), b""), None);
    }

    #[test]
    fn a_reply_goes_to_no_other_channel() {
        for channel in ["other", "", "mcp-ss"] {
            assert_eq!(read_call(Bytes::from(call(1, channel, b"call").unwrap())), None);
        }
    }

    #[test]
    fn a_reply_is_read_as_it_was_written() {
        let payload = reply(u64::MAX, b"reply");
        assert_eq!(read_reply(Bytes::from(payload.clone())), Some((u64::MAX, Bytes::from_static(b"reply"))));
        for length in 0..9 {
            assert_eq!(read_reply(Bytes::copy_from_slice(&payload[..length])), None);
        }
        assert_eq!(read_reply(Bytes::from(call(1, "mcp-sse:a", b"").unwrap())), None);
        assert_eq!(read_call(Bytes::from(payload)), None);
    }
}
