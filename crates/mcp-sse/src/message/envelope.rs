//! The envelope of a message: its kind, its id, its method, and where its parameters are.

use std::{borrow::Cow, ops::Range};

use super::{
    error::{ParseError, ParseMessageError},
    id::RequestId,
    scan::{Malformed, Name, Scanner},
};

/// What a [`Message`](crate::Message) is, with the parts of its envelope. There are three kinds, and JSON-RPC
/// has no others, so a `match` may list them all.
///
/// ```
/// use mcp_sse::{Message, MessageKind, RequestId};
///
/// let message = Message::parse(r#"{"jsonrpc":"2.0","id":7,"result":{}}"#)?;
/// match message.kind() {
///     MessageKind::Request { id, method } => println!("{id} asks for {method}"),
///     MessageKind::Notification { method } => println!("tells of {method}"),
///     MessageKind::Response { id, is_error } => {
///         assert_eq!((id.as_ref(), *is_error), (Some(&RequestId::from(7)), false));
///     }
/// }
/// # assert!(matches!(message.kind(), MessageKind::Response { .. }));
/// # Ok::<(), mcp_sse::ParseMessageError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MessageKind {
    /// Wants a response that bears the same id.
    Request {
        /// The id that the response must bear.
        id: RequestId,
        /// The method, e.g. `tools/call`.
        method: Box<str>,
    },
    /// Wants no response.
    Notification {
        /// The method, e.g. `notifications/cancelled`.
        method: Box<str>,
    },
    /// Answers a request, with a result or an error.
    Response {
        /// The id of the request; `None` in an error about a request whose id could not be read.
        id: Option<RequestId>,
        /// Whether it is an error.
        is_error: bool,
    },
}

/// What is known of a message whose bytes were read.
pub(super) struct Envelope {
    pub(super) kind: MessageKind,
    /// Where the parameters of a request or a notification are, if it has any.
    pub(super) params: Option<Range<usize>>,
    /// It has no byte that the framing of events would have to change.
    pub(super) is_one_line: bool,
}

/// The values of the members of a message's object that JSON-RPC gives a meaning, as JSON text.
#[derive(Default)]
struct Members {
    jsonrpc: Option<Range<usize>>,
    id: Option<Range<usize>>,
    method: Option<Range<usize>>,
    params: Option<Range<usize>>,
    result: Option<Range<usize>>,
    error: Option<Range<usize>>,
}

impl Members {
    fn slot(&mut self, name: &[u8]) -> Option<&mut Option<Range<usize>>> {
        Some(match name {
            b"jsonrpc" => &mut self.jsonrpc,
            b"id" => &mut self.id,
            b"method" => &mut self.method,
            b"params" => &mut self.params,
            b"result" => &mut self.result,
            b"error" => &mut self.error,
            _ => return None,
        })
    }
}

/// Reads a message. Its bytes are checked whole.
pub(super) fn read(json: &[u8]) -> Result<Envelope, ParseMessageError> {
    let mut scanner = Scanner::new(json);
    let members = members(json, &mut scanner);
    // Outside strings there is nothing but ASCII in what the scanner passes.
    let is_ascii = members.is_ok() && scanner.is_ascii();
    if !is_ascii && let Err(error) = simdutf8::compat::from_utf8(json) {
        return Err(ParseError::NotUtf8 { at: error.valid_up_to() }.into());
    }
    let members = members?;
    let params = members.params.clone().filter(|params| json.get(params.clone()) != Some(b"null"));
    let kind = kind(json, members)?;
    let params = params.filter(|_| !matches!(kind, MessageKind::Response { .. }));
    Ok(Envelope { kind, params, is_one_line: is_ascii && !scanner.has_line_ends() })
}

/// Finds the members of the one object that `json` must be.
fn members(json: &[u8], scanner: &mut Scanner<'_>) -> Result<Members, ParseMessageError> {
    let mut members = Members::default();
    match scanner.peek() {
        Some(b'{') => scanner.take(b'{'),
        Some(b'[') => {
            return Err(scanner.expected("a brace; batches are not part of this protocol").into());
        }
        _ => return Err(scanner.expected("a brace").into()),
    };
    if !scanner.take(b'}') {
        loop {
            let name = scanner.name()?;
            let value = scanner.value()?;
            let Some(name) = name_bytes(json, &name) else {
                let expected = "whole characters in the escapes of a name";
                return Err(Malformed { at: name.range.start, expected }.into());
            };
            if let Some(slot) = members.slot(&name)
                && slot.replace(value).is_some()
            {
                return Err(not_json_rpc("a member is given twice"));
            }
            if scanner.take(b'}') {
                break;
            }
            if !scanner.take(b',') {
                return Err(scanner.expected("a comma or the end of the object").into());
            }
        }
    }
    if scanner.peek().is_some() {
        Err(scanner.expected("nothing behind the object").into())
    } else {
        Ok(members)
    }
}

fn kind(json: &[u8], members: Members) -> Result<MessageKind, ParseMessageError> {
    let Members { jsonrpc, id, method, params, result, error } = members;
    let starts_with = |value: &Range<usize>, starts: &[u8]| {
        json.get(value.start).is_some_and(|first| starts.contains(first))
    };
    let is_null = |value: &Range<usize>| starts_with(value, b"n");
    let is_version = |version: Range<usize>| {
        json.get(version.clone()) == Some(br#""2.0""#)
            || string(json, version).is_some_and(|text| text == "2.0")
    };
    if !jsonrpc.is_some_and(is_version) {
        return Err(not_json_rpc(r#"the member "jsonrpc" must be "2.0""#));
    }
    let method = match method.filter(|method| !is_null(method)) {
        Some(method) => {
            Some(string(json, method).ok_or(not_json_rpc(r#"the member "method" must be a valid string"#))?)
        }
        None => None,
    };
    let read_id = |id: Range<usize>| {
        let text = json.get(id).and_then(|id| std::str::from_utf8(id).ok());
        RequestId::read(text.unwrap_or_default()).map_err(not_json_rpc)
    };
    match (method, id, result, error) {
        (Some(_), _, None, None) if !params.is_none_or(|params| starts_with(&params, b"{[n")) => {
            Err(not_json_rpc(r#"the member "params" must be an object or an array"#))
        }
        (Some(method), Some(id), None, None) => {
            Ok(MessageKind::Request { id: read_id(id)?, method: method.into() })
        }
        (Some(method), None, None, None) => Ok(MessageKind::Notification { method: method.into() }),
        (None, Some(id), Some(_), None) => {
            Ok(MessageKind::Response { id: Some(read_id(id)?), is_error: false })
        }
        (None, id, None, Some(error)) => {
            if !starts_with(&error, b"{") {
                return Err(not_json_rpc(r#"the member "error" must be an object"#));
            }
            let id = id.filter(|id| !is_null(id)).map(read_id).transpose()?;
            Ok(MessageKind::Response { id, is_error: true })
        }
        (None, None, Some(_), None) => Err(not_json_rpc(r#"a response needs the member "id""#)),
        (None, _, None, None) => Err(not_json_rpc(r#"it has neither "method" nor "result" nor "error""#)),
        _ => Err(not_json_rpc(r#"only one of "method", "result" and "error" may be there"#)),
    }
}

/// The name of a member, decoded; `None` if it is no text. Without escapes, whether it is UTF-8 is still to be
/// checked, with all of the message.
pub(super) fn name_bytes<'a>(json: &'a [u8], name: &Name) -> Option<Cow<'a, [u8]>> {
    let Range { start, end } = name.range;
    if !name.has_escapes {
        return json.get(start..end).map(Cow::Borrowed);
    }
    string(json, start.checked_sub(1)?..end + 1).map(|name| name.into_owned().into_bytes().into())
}

/// The text of a value, if it is a string, and one that is text: halves of surrogates alone are not.
fn string(json: &[u8], value: Range<usize>) -> Option<Cow<'_, str>> {
    let quoted = std::str::from_utf8(json.get(value)?).ok()?;
    let inner = quoted.strip_prefix('"')?.strip_suffix('"')?;
    if inner.contains('\\') {
        serde_json::from_str(quoted).ok().map(Cow::Owned)
    } else {
        Some(Cow::Borrowed(inner))
    }
}

fn not_json_rpc(reason: &'static str) -> ParseMessageError {
    ParseError::NotJsonRpc { reason }.into()
}

impl From<Malformed> for ParseMessageError {
    fn from(Malformed { at, expected }: Malformed) -> Self {
        ParseError::NotJson { at, expected }.into()
    }
}
