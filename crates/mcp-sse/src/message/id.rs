//! The ids of requests, compared by value.

use std::fmt;

/// The longest id that is accepted, in bytes of its JSON text. Ids are kept while a request is in
/// flight, so they must be bounded; real clients use numbers and UUIDs.
pub(super) const MAX_ID_BYTES: usize = 1024;

/// The id of a JSON-RPC request: a string or a number.
///
/// `Display` writes it as JSON (`7`, `"a"`).
///
/// ```
/// use mcp_sse::{Message, RequestId};
///
/// assert_eq!(RequestId::from(7).to_string(), "7");
/// assert_eq!(RequestId::from("7").to_string(), r#""7""#);
/// assert_ne!(RequestId::from(7), RequestId::from("7"));
///
/// // The same number, written otherwise, is the same id.
/// let message = Message::parse(r#"{"jsonrpc":"2.0","id":7.0,"method":"ping"}"#)?;
/// assert_eq!(message.id(), Some(&RequestId::from(7)));
/// # Ok::<(), mcp_sse::ParseMessageError>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct RequestId(IdRepr);

#[derive(Clone, PartialEq, Eq, Hash)]
enum IdRepr {
    Integer(i64),
    /// A number that is no `i64`, as it was written.
    Number(Box<str>),
    String(Box<str>),
}

impl RequestId {
    /// The number, if it is an integer that fits.
    ///
    /// `None` for a string, and for the few numbers that clients might use and that do not fit (`1.5`, 2⁶⁴):
    /// these can be compared, and `Display` writes them as they came.
    ///
    /// ```
    /// use mcp_sse::{Message, RequestId};
    ///
    /// // An app that numbers its requests finds the one that a response is for.
    /// let asked = ["roots/list", "sampling/createMessage"];
    /// let response = Message::parse(r#"{"jsonrpc":"2.0","id":1,"result":{}}"#)?;
    /// let index = response.id().and_then(RequestId::as_integer).and_then(|id| usize::try_from(id).ok());
    /// assert_eq!(index.and_then(|index| asked.get(index)), Some(&"sampling/createMessage"));
    /// # Ok::<(), mcp_sse::ParseMessageError>(())
    /// ```
    pub fn as_integer(&self) -> Option<i64> {
        if let IdRepr::Integer(number) = self.0 { Some(number) } else { None }
    }

    /// The text of an id that is a string, without quotes or escapes.
    ///
    /// ```
    /// use mcp_sse::{Message, RequestId};
    ///
    /// // A proxy that marked the ids of its requests takes the mark off those of the responses.
    /// let response = Message::parse(r#"{"jsonrpc":"2.0","id":"proxy-7","result":{}}"#)?;
    /// let own = response.id().and_then(RequestId::as_str).and_then(|id| id.strip_prefix("proxy-"));
    /// assert_eq!(own, Some("7"));
    /// # Ok::<(), mcp_sse::ParseMessageError>(())
    /// ```
    pub fn as_str(&self) -> Option<&str> {
        if let IdRepr::String(text) = &self.0 { Some(text) } else { None }
    }

    /// Reads the text of a JSON value.
    pub(super) fn read(text: &str) -> Result<Self, &'static str> {
        if text.len() > MAX_ID_BYTES {
            return Err(r#"the member "id" is longer than 1024 bytes"#);
        }
        match text.as_bytes().first() {
            Some(b'"') => serde_json::from_str::<Box<str>>(text)
                .map(|id| Self(IdRepr::String(id)))
                .map_err(|_| r#"the member "id" is no valid string"#),
            Some(b'-' | b'0'..=b'9') => {
                Ok(Self(integer(text).map_or_else(|| IdRepr::Number(text.into()), IdRepr::Integer)))
            }
            _ => Err(r#"the member "id" must be a string or a number"#),
        }
    }
}

/// The integer that a number is, also where it is written as `1.0` or `1e2`: an app that reads JSON numbers
/// answers these with the integer.
fn integer(text: &str) -> Option<i64> {
    /// Up to here a float is exact.
    const EXACT: f64 = (1_u64 << 53) as f64;
    text.parse().ok().or_else(|| {
        let float = text.parse::<f64>().ok()?;
        (float.fract() == 0.0 && float.abs() < EXACT).then_some(float as i64)
    })
}

impl From<i64> for RequestId {
    fn from(id: i64) -> Self {
        Self(IdRepr::Integer(id))
    }
}

impl From<&str> for RequestId {
    fn from(id: &str) -> Self {
        Self(IdRepr::String(id.into()))
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            IdRepr::Integer(id) => id.fmt(f),
            IdRepr::Number(text) => f.write_str(text),
            IdRepr::String(text) => serde_json::Value::from(&**text).fmt(f),
        }
    }
}

impl fmt::Debug for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
