//! Session ids and event ids, as types that hold only valid ones.
//!
//! A session id is a capability. Its `Debug` and `Display` show the first eight digits only, so that no log
//! line can contain a whole one by accident; only [`SessionId::expose_hex`] gives all of it.

use std::{fmt, str::FromStr};

/// The id of a session: 128 bits from the system's CSPRNG.
///
/// Whoever has it can post to the session (unless the session is bound to a [`Principal`](crate::Principal)),
/// so `Debug` and `Display` show only a part; see [`expose_hex`](SessionId::expose_hex).
///
/// `FromStr` reads a UUID in hex: 32 digits of either case, with or without hyphens at the usual places.
///
/// ```
/// use mcp_sse::SessionId;
///
/// let id: SessionId = "01234567-89AB-CDEF-0123-456789abcdef".parse()?;
/// assert_eq!(id.to_string(), "01234567…");
/// assert_eq!(id.expose_hex(), "0123456789abcdef0123456789abcdef");
/// # Ok::<(), mcp_sse::ParseSessionIdError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionId([u8; 16]);

/// The error of parsing a [`SessionId`]. It does not repeat the text, which may be most of a real id.
///
/// ```
/// use mcp_sse::{ParseSessionIdError, SseServerTransport};
///
/// /// Closes the session that an administrator names.
/// fn close(sse: &SseServerTransport, id: &str) -> Result<bool, ParseSessionIdError> {
///     let session = sse.session(id.parse()?);
///     Ok(session.map(|session| session.close()).is_some())
/// }
/// # let sse = SseServerTransport::new("/messages/").unwrap();
/// # assert!(close(&sse, "0123").is_err());
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a session id; expected 32 hex digits, with or without the hyphens of a UUID")]
#[non_exhaustive]
pub struct ParseSessionIdError;

impl SessionId {
    pub(crate) fn generate() -> Result<Self, getrandom::Error> {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes)?;
        Ok(Self(bytes))
    }

    /// The whole id as 32 lower-case hex digits, as in the `endpoint` event. It is a secret: do not log it.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let sse = mcp_sse::SseServerTransport::new("/messages/")?;
    /// # let get = http::Request::get("http://localhost/sse").body(())?;
    /// # let (_stream, Some(session)) = sse.connect(&get).await else { panic!("refused") };
    /// // Where the client of this session posts to.
    /// let uri = format!("http://localhost:8000/messages/?session_id={}", session.handle().id().expose_hex());
    /// # assert_eq!(uri.len(), 43 + 32);
    /// # Ok(())
    /// # }
    /// ```
    pub fn expose_hex(&self) -> String {
        hex::encode(self.0)
    }

    /// The 32 digits of [`expose_hex`](Self::expose_hex) without an allocation.
    pub(crate) fn expose_digits(&self) -> [u8; 32] {
        let mut digits = [0; 32];
        // It fails only on the wrong length, and 16 bytes are 32 digits.
        let _ = hex::encode_to_slice(self.0, &mut digits);
        digits
    }

    /// Which of so many shards the session belongs to; ids are random, so shards fill evenly.
    pub(crate) fn shard(&self, shards: usize) -> usize {
        usize::from(self.0[15]) % shards
    }
}

impl FromStr for SessionId {
    type Err = ParseSessionIdError;

    fn from_str(text: &str) -> Result<Self, ParseSessionIdError> {
        let text = text.as_bytes();
        let mut digits = [0u8; 32];
        match text.len() {
            32 => digits.copy_from_slice(text),
            36 => {
                let mut to = 0;
                for (at, &byte) in text.iter().enumerate() {
                    if matches!(at, 8 | 13 | 18 | 23) {
                        if byte != b'-' {
                            return Err(ParseSessionIdError);
                        }
                    } else {
                        digits[to] = byte;
                        to += 1;
                    }
                }
            }
            _ => return Err(ParseSessionIdError),
        }
        let mut bytes = [0; 16];
        hex::decode_to_slice(digits, &mut bytes).map_err(|_| ParseSessionIdError)?;
        Ok(Self(bytes))
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = self.expose_digits();
        write!(f, "{}…", std::str::from_utf8(&digits[..8]).unwrap_or_default())
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SessionId({self})")
    }
}

/// The id of one event of one session, which a client sends back as `Last-Event-ID`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct EventId<'a> {
    pub(crate) session: SessionId,
    /// 0 is the `endpoint` event, 1 the first `message`.
    pub(crate) sequence: u64,
    /// The replica that the session is at, if there are several.
    pub(crate) at: Option<&'a str>,
}

impl<'a> EventId<'a> {
    /// Parses `SESSION:SEQUENCE` or `SESSION:SEQUENCE:AT`: 32 hex digits, a decimal number without leading zeros, and the
    /// text of a replica, which is not looked at here.
    pub(crate) fn parse(text: &'a str) -> Option<Self> {
        let (session, rest) = text.split_once(':')?;
        let (sequence, at) = rest.split_once(':').map_or((rest, None), |(sequence, at)| (sequence, Some(at)));
        if session.len() != 32 || sequence.is_empty() || sequence.len() > 20 {
            return None;
        }
        if !sequence.bytes().all(|b| b.is_ascii_digit()) || (sequence.len() > 1 && sequence.starts_with('0'))
        {
            return None;
        }
        Some(Self { session: session.parse().ok()?, sequence: sequence.parse().ok()?, at })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "0123456789abcdef0123456789abcdef";

    #[test]
    fn a_session_id_is_a_uuid_in_hex_of_either_case_with_or_without_hyphens() {
        let parse = str::parse::<SessionId>;
        let id = parse(HEX).unwrap();
        assert_eq!(parse(&HEX.to_uppercase()), Ok(id));
        assert_eq!(parse("01234567-89ab-cdef-0123-456789abcdef"), Ok(id));
        for bad in ["", "0", &HEX[1..], &format!("{HEX}0"), "g123456789abcdef0123456789abcdef"] {
            assert_eq!(parse(bad), Err(ParseSessionIdError), "{bad}");
        }
        assert!(parse("0123456-789ab-cdef-0123-456789abcdef").is_err());
        assert!(parse("0123456789abcdef0123456789abcd\u{e9}").is_err());
    }

    #[test]
    fn a_session_id_is_never_shown_whole() {
        let id = SessionId::generate().unwrap();
        assert!(!format!("{id} {id:?}").contains(&id.expose_hex()));
        assert_eq!(id.expose_hex().parse(), Ok(id));
    }

    #[test]
    fn an_event_id_is_a_session_and_a_sequence_number() {
        let text = format!("{HEX}:17");
        let id = EventId::parse(&text).unwrap();
        assert_eq!((id.session.expose_hex().as_str(), id.sequence, id.at), (HEX, 17, None));
        let id = format!("{HEX}:17:a.b:c");
        assert_eq!(EventId::parse(&id).unwrap().at, Some("a.b:c"));
        assert_eq!(EventId::parse(&format!("{HEX}:0")).unwrap().sequence, 0);
        for bad in ["", "7", ":7", &format!("{HEX}:"), &format!("{HEX}:-1"), &format!("{HEX}:+1")] {
            assert_eq!(EventId::parse(bad), None, "{bad}");
        }
        assert_eq!(EventId::parse(&format!("{HEX}:07")), None);
        assert_eq!(EventId::parse(&format!("{HEX}:99999999999999999999")), None);
    }
}
