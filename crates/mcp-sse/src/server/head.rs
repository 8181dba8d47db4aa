//! One HTTP/1.1 request at the start of some bytes, and the bytes of a response.
//!
//! Only plain requests are read here: GET, or POST with a declared length, nothing that asks for more.
//! All else is [`Read::Other`], for hyper to read or refuse. So nothing here guesses; but whether a connection
//! is HTTP/2 is decided here, so that hyper never has to find out.

use std::{cell::RefCell, io::Write as _, time::SystemTime};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, header, request::Parts};

use crate::clock;

/// How much of a connection is read at once.
pub(crate) const MAX_AT_ONCE: usize = 64 * 1024;
const MAX_HEADERS: usize = 64;
/// The longest head, here and behind the handover.
pub(crate) const MAX_HEAD: usize = 16 * 1024;
/// The longest head that is kept, for as long as its connection.
const MAX_KNOWN_HEAD: usize = 4 * 1024;

/// What a client says first on HTTP/2 (RFC 9113, section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What stands at the start of some bytes.
#[allow(clippy::large_enum_variant, reason = "taken apart at once")]
pub(crate) enum Read {
    /// The beginning of a head, so far a plain one, or of HTTP/2.
    Partial,
    Request(Plain),
    /// The whole beginning of HTTP/2.
    Http2,
    /// Something else.
    Other,
}

/// A plain request.
pub(crate) struct Plain {
    pub(crate) parts: Parts,
    /// `None`: it is not there whole.
    pub(crate) body: Option<Bytes>,
    pub(crate) body_length: usize,
    /// How many bytes it takes, with its body.
    pub(crate) length: usize,
    /// What later requests on the connection are compared with.
    pub(crate) known: Option<Known>,
}

/// A head that was read before: most clients send the same one each time, but for the length.
pub(crate) struct Known {
    before_length: Box<[u8]>,
    after_length: Box<[u8]>,
    length: usize,
}

/// A request whose head is known.
#[derive(Debug, PartialEq)]
pub(crate) struct Again {
    /// `None`: it is not there whole.
    pub(crate) body: Option<Bytes>,
    /// The body's length, if it is another one than the first's.
    pub(crate) other_length: Option<usize>,
    pub(crate) body_length: usize,
    /// How many bytes it takes, with its body.
    pub(crate) length: usize,
}

impl Known {
    /// A request with this head at the start of `bytes`. `None` if it is another head, or not there whole.
    pub(crate) fn read(&self, bytes: &[u8]) -> Option<Again> {
        let rest = bytes.strip_prefix(&*self.before_length)?;
        let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let length = content_length(&rest[..digits])?;
        let rest = rest[digits..].strip_prefix(&*self.after_length)?;
        Some(Again {
            body: rest.get(..length).map(Bytes::copy_from_slice),
            other_length: (length != self.length).then_some(length),
            body_length: length,
            length: bytes.len() - rest.len() + length,
        })
    }
}

/// Reads a request.
pub(crate) fn read(bytes: &[u8]) -> Read {
    if bytes.starts_with(PREFACE) {
        return Read::Http2;
    }
    if PREFACE.starts_with(bytes) {
        return Read::Partial;
    }
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut head = httparse::Request::new(&mut headers);
    let head_length = match head.parse(bytes) {
        Ok(httparse::Status::Complete(length)) if length <= MAX_HEAD => length,
        Ok(httparse::Status::Partial) if bytes.len() <= MAX_HEAD => return Read::Partial,
        Ok(_) | Err(_) => return Read::Other,
    };
    let (Some(method), Some(path), Some(1)) = (head.method, head.path, head.version) else {
        return Read::Other;
    };
    let method = match method {
        "GET" => Method::GET,
        "POST" => Method::POST,
        _ => return Read::Other,
    };
    let Some((body_length, digits)) = body_length(&method, head.headers) else { return Read::Other };
    let length = head_length + body_length;
    if !path.starts_with('/') {
        return Read::Other;
    }
    // One copy of the head; the parts share it.
    let owned = Bytes::copy_from_slice(&bytes[..head_length]);
    let place = |part: &[u8]| {
        let start = part.as_ptr().addr() - bytes.as_ptr().addr();
        start..start + part.len()
    };
    let share = |part: &[u8]| owned.slice(place(part));
    let Ok(uri) = Uri::from_maybe_shared(share(path.as_bytes())) else { return Read::Other };
    let mut map = HeaderMap::with_capacity(head.headers.len());
    for header in head.headers.iter() {
        let name = HeaderName::from_bytes(header.name.as_bytes());
        let value = HeaderValue::from_maybe_shared(share(header.value));
        let (Ok(name), Ok(value)) = (name, value) else { return Read::Other };
        map.append(name, value);
    }
    let (mut parts, ()) = Request::new(()).into_parts();
    (parts.method, parts.uri, parts.headers) = (method, uri, map);
    let digits = digits.filter(|_| head_length <= MAX_KNOWN_HEAD);
    let known = digits.map(place).map(|digits| Known {
        before_length: bytes[..digits.start].into(),
        after_length: bytes[digits.end..head_length].into(),
        length: body_length,
    });
    // A copy of its own: the head may be kept for longer than the message.
    let body = bytes.get(head_length..length).map(Bytes::copy_from_slice);
    Read::Request(Plain { parts, body, body_length, length, known })
}

/// The number; each has one way to be written.
fn content_length(digits: &[u8]) -> Option<usize> {
    let no_zeros_before = digits.len() == 1 || !digits.starts_with(b"0");
    let plain = (1..=9).contains(&digits.len()) && no_zeros_before && digits.iter().all(u8::is_ascii_digit);
    plain.then(|| digits.iter().fold(0, |length, digit| length * 10 + usize::from(digit - b'0')))
}

/// The length of the body of a plain request, and its digits; `None` if it is not plain.
fn body_length<'a>(method: &Method, headers: &[httparse::Header<'a>]) -> Option<(usize, Option<&'a [u8]>)> {
    let mut length = None;
    for header in headers {
        let is = |name: HeaderName| header.name.eq_ignore_ascii_case(name.as_str());
        if is(header::CONTENT_LENGTH) {
            if length.is_some() {
                return None;
            }
            length = Some((content_length(header.value)?, header.value));
        } else if is(header::TRANSFER_ENCODING)
            || is(header::EXPECT)
            || is(header::UPGRADE)
            || (is(header::CONNECTION) && !header.value.eq_ignore_ascii_case(b"keep-alive"))
        {
            return None;
        }
    }
    match (method, length) {
        (&Method::GET, None | Some((0, _))) => Some((0, None)),
        (&Method::POST, Some((length, digits))) => Some((length, Some(digits))),
        _ => None,
    }
}

/// Writes the head of a response, but for the date and what frames the body.
pub(crate) fn write_head(out: &mut Vec<u8>, head: &http::response::Parts) {
    let reason = head.status.canonical_reason().unwrap_or_default();
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(head.status.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(reason.as_bytes());
    out.extend_from_slice(b"\r\n");
    for (name, value) in &head.headers {
        write_header(out, name.as_str(), value.as_bytes());
    }
}

pub(crate) fn write_date(out: &mut Vec<u8>) {
    NOW.with_borrow_mut(|date| write_header(out, "date", date.get()));
}

pub(crate) fn write_header(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

thread_local! {
    static NOW: RefCell<Date> = RefCell::default();
}

/// The date as HTTP writes it; written anew once a second.
#[derive(Default)]
struct Date {
    second: u64,
    text: Vec<u8>,
}

impl Date {
    fn get(&mut self) -> &[u8] {
        let now = clock::wall();
        let second = now.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
        if second != self.second || self.text.is_empty() {
            self.second = second;
            self.text.clear();
            // Writing to a vector does not fail.
            let _ = write!(self.text, "{}", httpdate::HttpDate::from(now));
        }
        &self.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POST: &str = "POST /messages/?session_id=1 HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{}";

    fn is_other(text: &str) -> bool {
        matches!(read(text.as_bytes()), Read::Other)
    }

    #[test]
    fn a_plain_request_is_read_and_what_follows_is_left() {
        let text = format!("{POST}GET /sse HTTP/1.1\r\n\r\n");
        let Read::Request(Plain { parts, body, length, .. }) = read(text.as_bytes()) else {
            panic!("not read")
        };
        assert_eq!((parts.method, parts.uri.to_string()), (Method::POST, "/messages/?session_id=1".into()));
        assert_eq!((parts.headers["host"].as_bytes(), parts.headers.len()), (&b"a"[..], 2));
        assert_eq!((body, length), (Some(Bytes::from("{}")), POST.len()));
        let Read::Request(Plain { parts, body, known, .. }) = read(&text.as_bytes()[length..]) else {
            panic!("not read")
        };
        assert_eq!((parts.method, body, known.is_none()), (Method::GET, Some(Bytes::new()), true));
    }

    #[test]
    fn a_known_head_is_read_with_any_length_and_nothing_else_is() {
        let Read::Request(Plain { known: Some(known), .. }) = read(POST.as_bytes()) else {
            panic!("not read")
        };
        let other = |from: &str, to: &str| known.read(POST.replace(from, to).as_bytes());
        let again = |body: Option<&'static str>, other_length: Option<usize>, length| {
            let body_length = other_length.unwrap_or(2);
            Some(Again { body: body.map(Bytes::from), other_length, body_length, length })
        };
        assert_eq!(known.read(POST.as_bytes()), again(Some("{}"), None, POST.len()));
        let longer = other("2\r\n\r\n{}", "10\r\n\r\n0123456789next");
        assert_eq!(longer, again(Some("0123456789"), Some(10), POST.len() + 9));
        let not_whole = other("2\r\n\r\n{}", "3\r\n\r\n{}");
        assert_eq!(not_whole, again(None, Some(3), POST.len() + 1));
        for (from, to) in [
            ("Length: 2", "Length: "),
            ("Length: 2", "Length: +2"),
            ("Length: 2", "Length: 2 "),
            ("Length: 2", "Length: 2, 2"),
            ("Length: 2", "Length: 02"),
            ("Host: a", "Host: b"),
            ("POST", "GET"),
            ("\r\n\r\n", "\r\nX: y\r\n\r\n"),
        ] {
            assert!(POST.contains(from));
            assert_eq!(other(from, to), None, "{to}");
        }
        for end in 0..POST.len() - 2 {
            assert_eq!(known.read(&POST.as_bytes()[..end]), None, "{end}");
        }
        let long = other("2\r\n\r\n{}", "1000000\r\n\r\n{}");
        assert_eq!(long, again(None, Some(1_000_000), POST.len() + 1_000_004));
    }

    #[test]
    fn every_beginning_of_a_plain_head_is_partial() {
        let head = POST.len() - 2;
        for end in 0..head {
            assert!(matches!(read(&POST.as_bytes()[..end]), Read::Partial), "{end}");
        }
        for end in head..POST.len() {
            let Read::Request(request) = read(&POST.as_bytes()[..end]) else { panic!("not read") };
            assert_eq!((request.body, request.body_length, request.length), (None, 2, POST.len()));
        }
    }

    #[test]
    fn every_beginning_of_http2_is_partial_and_the_whole_is_told_apart() {
        for end in 0..PREFACE.len() {
            assert!(matches!(read(&PREFACE[..end]), Read::Partial), "{end}");
        }
        assert!(matches!(read(&[PREFACE, b"more"].concat()), Read::Http2));
        assert!(is_other("PRI * HTTP/2.0\r\n\r\nSX"));
    }

    #[test]
    fn a_request_that_asks_for_more_is_not_read_here() {
        for (from, to) in [
            ("HTTP/1.1", "HTTP/1.0"),
            ("POST", "PUT"),
            ("POST", "HEAD"),
            ("POST", "get"),
            (" /messages/", " http://a/"),
            (" /messages/?session_id=1", " *"),
            ("Content-Length: 2", "Content-Length: +2"),
            ("Content-Length: 2", "Content-Length: 2, 2"),
            ("Content-Length: 2", "Content-Length: "),
            ("Content-Length: 2", "Content-Length: 02"),
            ("Content-Length: 2", "Content-Length: 2\r\ncontent-length: 2"),
            ("Content-Length: 2", "Content-Length: 99999999999999999999"),
            ("Content-Length: 2", "X: y"),
            ("Content-Length: 2", "Content-Length: 2\r\nTransfer-Encoding: chunked"),
            ("Content-Length: 2", "Content-Length: 2\r\nExpect: 100-continue"),
            ("Content-Length: 2", "Content-Length: 2\r\nConnection: close"),
            ("Content-Length: 2", "Content-Length: 2\r\nConnection: keep-alive, upgrade"),
            ("Content-Length: 2", "Content-Length: 2\r\nUpgrade: h2c"),
            ("Content-Length: 2", "Content-Length : 2"),
            ("Content-Length: 2", "Content-Length: 2\r\n folded: x"),
            ("POST", "GET"),
        ] {
            assert!(POST.contains(from));
            assert!(is_other(&POST.replace(from, to)), "{to}");
        }
        assert!(is_other(&format!("GET / HTTP/1.1\r\n{}", "a: b\r\n".repeat(MAX_HEADERS + 1))));
        assert!(is_other(&format!("GET /{}", "a".repeat(MAX_HEAD))));
        assert!(is_other(&format!("GET /{} HTTP/1.1\r\n\r\n", "a".repeat(MAX_HEAD))));
    }
}
