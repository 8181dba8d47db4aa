//! One HTTP/1.1 request at the start of some bytes, and the bytes of a response.
//!
//! Only plain requests are read here: GET, or POST with a declared length, nothing that asks for more.
//! All else is [`Read::Other`], for hyper to read or refuse. So nothing here guesses.

use std::{cell::RefCell, io::Write as _, time::SystemTime};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, header, request::Parts};

/// The longest request that is read here, head and body.
pub(crate) const MAX_REQUEST: usize = 64 * 1024;
const MAX_HEADERS: usize = 64;
const MAX_HEAD: usize = 16 * 1024;
/// The longest head that is kept, for as long as its connection.
const MAX_KNOWN_HEAD: usize = 4 * 1024;

/// What stands at the start of some bytes.
#[allow(clippy::large_enum_variant, reason = "taken apart at once")]
pub(crate) enum Read {
    /// The beginning of a request, so far a plain one.
    Partial,
    Request(Plain),
    /// Something else.
    Other,
}

/// A plain request.
pub(crate) struct Plain {
    pub(crate) parts: Parts,
    pub(crate) body: Bytes,
    /// How many bytes it takes.
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

impl Known {
    /// A request with this head at the start of `bytes`: its body, its length if that is another one than
    /// the first, and how many bytes it takes. `None` if it is another head, or not there whole.
    pub(crate) fn read(&self, bytes: &[u8]) -> Option<(Bytes, Option<usize>, usize)> {
        let rest = bytes.strip_prefix(&*self.before_length)?;
        let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let length = content_length(&rest[..digits])?;
        let rest = rest[digits..].strip_prefix(&*self.after_length)?;
        let body = rest.get(..length)?;
        let taken = bytes.len() - rest.len() + length;
        let other = (length != self.length).then_some(length);
        (taken <= MAX_REQUEST).then(|| (Bytes::copy_from_slice(body), other, taken))
    }
}

/// Reads a request.
pub(crate) fn read(bytes: &[u8]) -> Read {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut head = httparse::Request::new(&mut headers);
    let head_length = match head.parse(bytes) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) if bytes.len() <= MAX_HEAD => return Read::Partial,
        Ok(httparse::Status::Partial) | Err(_) => return Read::Other,
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
    if length > MAX_REQUEST || !path.starts_with('/') {
        return Read::Other;
    }
    let Some(request) = bytes.get(..length) else { return Read::Partial };
    // One copy of the head; the parts share it.
    let owned = Bytes::copy_from_slice(&request[..head_length]);
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
        before_length: request[..digits.start].into(),
        after_length: request[digits.end..head_length].into(),
        length: body_length,
    });
    // A copy of its own: the head may be kept for longer than the message.
    let body = Bytes::copy_from_slice(&request[head_length..]);
    Read::Request(Plain { parts, body, length, known })
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
    #[allow(clippy::disallowed_methods, reason = "the wall clock, for the Date header")]
    fn get(&mut self) -> &[u8] {
        let now = SystemTime::now();
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
        assert_eq!((&body[..], length), (&b"{}"[..], POST.len()));
        let Read::Request(Plain { parts, body, known, .. }) = read(&text.as_bytes()[length..]) else {
            panic!("not read")
        };
        assert_eq!((parts.method, body.len(), known.is_none()), (Method::GET, 0, true));
    }

    #[test]
    fn a_known_head_is_read_with_any_length_and_nothing_else_is() {
        let Read::Request(Plain { known: Some(known), .. }) = read(POST.as_bytes()) else {
            panic!("not read")
        };
        let other = |from: &str, to: &str| known.read(POST.replace(from, to).as_bytes());
        assert_eq!(known.read(POST.as_bytes()), Some((Bytes::from("{}"), None, POST.len())));
        let longer = other("2\r\n\r\n{}", "10\r\n\r\n0123456789next");
        assert_eq!(longer, Some((Bytes::from("0123456789"), Some(10), POST.len() + 9)));
        for (from, to) in [
            ("2\r\n\r\n{}", "3\r\n\r\n{}"),
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
        for end in 0..POST.len() {
            assert_eq!(known.read(&POST.as_bytes()[..end]), None, "{end}");
        }
        let long = format!("{MAX_REQUEST}\r\n\r\n{}", "x".repeat(MAX_REQUEST));
        assert_eq!(other("2\r\n\r\n{}", &long), None);
    }

    #[test]
    fn every_beginning_of_a_plain_request_is_partial() {
        for end in 0..POST.len() {
            assert!(matches!(read(&POST.as_bytes()[..end]), Read::Partial), "{end}");
        }
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
            ("Content-Length: 2", "Content-Length: 70000"),
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
        assert!(is_other("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"));
        assert!(is_other(&format!("GET / HTTP/1.1\r\n{}", "a: b\r\n".repeat(MAX_HEADERS + 1))));
        assert!(is_other(&format!("GET /{}", "a".repeat(MAX_HEAD))));
    }
}
