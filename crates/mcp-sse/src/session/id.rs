//! Ids that cannot be wrong: a session's, and an event's within it.
//!
//! A session id is a capability. Its `Debug` and `Display` show the first eight digits only, so that no
//! log line can hold a whole one by accident; [`SessionId::expose_hex`] is the one way out.

use std::fmt;

/// Names one session: 128 bits from the system's CSPRNG.
///
/// Whoever holds it can post to the session (unless a [`Principal`](crate::Principal) binds it), so
/// `Debug` and `Display` are shortened; see [`expose_hex`](SessionId::expose_hex).
///
/// ```
/// let id = mcp_sse::SessionId::parse("0123456789abcdef0123456789abcdef").unwrap();
/// assert_eq!(id.to_string(), "01234567…");
/// assert_eq!(id.expose_hex(), "0123456789abcdef0123456789abcdef");
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionId([u8; 16]);

impl SessionId {
    pub(crate) fn generate() -> Result<Self, getrandom::Error> {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes)?;
        Ok(Self(bytes))
    }

    /// Reads a UUID in hex: 32 digits of either case, with or without hyphens at the usual places.
    /// `None` for anything else.
    ///
    /// ```
    /// use mcp_sse::SessionId;
    ///
    /// let id = SessionId::parse("01234567-89AB-CDEF-0123-456789abcdef");
    /// assert_eq!(id, SessionId::parse("0123456789abcdef0123456789abcdef"));
    /// assert_eq!(SessionId::parse("0123"), None);
    /// ```
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.as_bytes();
        let mut digits = [0u8; 32];
        match text.len() {
            32 => digits.copy_from_slice(text),
            36 => {
                let mut to = 0;
                for (at, &byte) in text.iter().enumerate() {
                    if matches!(at, 8 | 13 | 18 | 23) {
                        if byte != b'-' {
                            return None;
                        }
                    } else {
                        digits[to] = byte;
                        to += 1;
                    }
                }
            }
            _ => return None,
        }
        let mut bytes = [0; 16];
        let mut seen = 0;
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            let (high, low) = (HEX_DIGITS[usize::from(pair[0])], HEX_DIGITS[usize::from(pair[1])]);
            seen |= high | low;
            *byte = high << 4 | low & 15;
        }
        (seen < 16).then_some(Self(bytes))
    }

    /// The whole id, 32 lower-case hex digits, as it stands in the `endpoint` event. A secret: do not
    /// log it.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let sse = mcp_sse::SseServerTransport::new("/messages/")?;
    /// # let get = http::Request::get("http://localhost/sse").body(())?;
    /// # let (_stream, Some(session)) = sse.connect(&get) else { panic!("refused") };
    /// let hex = session.id().expose_hex();
    /// assert_eq!(hex.len(), 32);
    /// assert_eq!(mcp_sse::SessionId::parse(&hex), Some(session.id()));
    /// # Ok(())
    /// # }
    /// ```
    pub fn expose_hex(&self) -> String {
        let mut text = String::with_capacity(32);
        self.write_hex(&mut text, 16);
        text
    }

    /// The 32 digits of [`expose_hex`](Self::expose_hex), for what is written often.
    pub(crate) fn expose_digits(&self) -> [u8; 32] {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut digits = [0; 32];
        for (pair, byte) in digits.chunks_exact_mut(2).zip(self.0) {
            pair[0] = DIGITS[usize::from(byte >> 4)];
            pair[1] = DIGITS[usize::from(byte & 15)];
        }
        digits
    }

    fn write_hex(&self, out: &mut String, bytes: usize) {
        out.extend(self.expose_digits()[..bytes * 2].iter().map(|&digit| char::from(digit)));
    }
}

/// What each byte is as a hex digit; 255 if it is none.
const HEX_DIGITS: [u8; 256] = {
    let mut digits = [255; 256];
    let mut value = 0;
    while value < 16 {
        let lower = b"0123456789abcdef"[value];
        digits[lower as usize] = value as u8;
        digits[lower.to_ascii_uppercase() as usize] = value as u8;
        value += 1;
    }
    digits
};

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = String::with_capacity(11);
        self.write_hex(&mut text, 4);
        f.write_str(&text)?;
        f.write_str("…")
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SessionId({self})")
    }
}

/// Names one event of one session; what a client sends back as `Last-Event-ID`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct EventId {
    pub(crate) session: SessionId,
    /// 0 is the `endpoint` event, 1 the first `message`.
    pub(crate) sequence: u64,
}

impl EventId {
    /// Reads `SESSION:SEQUENCE`, digits only, no leading zeros.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (session, sequence) = text.split_once(':')?;
        if session.len() != 32 || sequence.is_empty() || sequence.len() > 20 {
            return None;
        }
        if !sequence.bytes().all(|b| b.is_ascii_digit()) || (sequence.len() > 1 && sequence.starts_with('0'))
        {
            return None;
        }
        Some(Self { session: SessionId::parse(session)?, sequence: sequence.parse().ok()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "0123456789abcdef0123456789abcdef";

    #[test]
    fn a_session_id_is_a_uuid_in_hex_of_either_case_with_or_without_hyphens() {
        let id = SessionId::parse(HEX).unwrap();
        assert_eq!(SessionId::parse(&HEX.to_uppercase()), Some(id));
        assert_eq!(SessionId::parse("01234567-89ab-cdef-0123-456789abcdef"), Some(id));
        for bad in ["", "0", &HEX[1..], &format!("{HEX}0"), "g123456789abcdef0123456789abcdef"] {
            assert_eq!(SessionId::parse(bad), None, "{bad}");
        }
        assert_eq!(SessionId::parse("0123456-789ab-cdef-0123-456789abcdef"), None);
        assert_eq!(SessionId::parse("0123456789abcdef0123456789abcd\u{e9}"), None);
    }

    #[test]
    fn a_session_id_is_never_shown_whole() {
        let id = SessionId::generate().unwrap();
        assert!(!format!("{id} {id:?}").contains(&id.expose_hex()));
        assert_eq!(SessionId::parse(&id.expose_hex()), Some(id));
    }

    #[test]
    fn an_event_id_is_a_session_and_a_sequence_number() {
        let id = EventId::parse(&format!("{HEX}:17")).unwrap();
        assert_eq!((id.session.expose_hex().as_str(), id.sequence), (HEX, 17));
        assert_eq!(EventId::parse(&format!("{HEX}:0")).unwrap().sequence, 0);
        for bad in ["", "7", ":7", &format!("{HEX}:"), &format!("{HEX}:-1"), &format!("{HEX}:+1")] {
            assert_eq!(EventId::parse(bad), None, "{bad}");
        }
        assert_eq!(EventId::parse(&format!("{HEX}:07")), None);
        assert_eq!(EventId::parse(&format!("{HEX}:99999999999999999999")), None);
    }
}
