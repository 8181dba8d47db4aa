//! As much of HTTP/1.1 as a client needs to count responses and read a stream: heads, content lengths and
//! chunks. Written for speed: the generator must not be what limits a measurement.

use std::io::{self, Read};

use memchr::memmem;
use mio::net::TcpStream;

/// Reads what is there into `buffer`; `false` at the end of the connection.
pub(super) fn fill(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> io::Result<bool> {
    let mut part = [0; 64 * 1024];
    loop {
        match stream.read(&mut part) {
            Ok(0) => return Ok(false),
            Ok(length) => {
                buffer.extend_from_slice(&part[..length]);
                // A short read has emptied the socket; the next event will tell of more.
                if length < part.len() {
                    return Ok(true);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(true),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// The head of a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) status: u16,
    /// Where the body begins.
    pub(super) body: usize,
    /// The length of the body; `None` if it is chunked.
    pub(super) length: Option<usize>,
}

/// The head at the start of `buffer`, if it is there whole.
pub(super) fn head(buffer: &[u8]) -> Option<Head> {
    let body = memmem::find(buffer, b"\r\n\r\n")? + 4;
    let text = std::str::from_utf8(&buffer[..body]).ok()?;
    let status = text.get(9..12)?.parse().ok()?;
    let length = text.split("\r\n").find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok())?
    });
    Some(Head { status, body, length })
}

/// Takes a whole response off the start of `buffer` and returns its status.
pub(super) fn take_response(buffer: &mut Vec<u8>) -> Option<u16> {
    let head = head(buffer)?;
    let end = match head.length {
        Some(length) => head.body + length,
        None => head.body + memmem::find(&buffer[head.body..], b"0\r\n\r\n")? + 5,
    };
    if buffer.len() < end {
        return None;
    }
    buffer.drain(..end);
    Some(head.status)
}

/// Takes the whole chunks off the start of `buffer` and appends what is in them to `out`; `true` when the
/// last chunk was among them.
pub(super) fn take_chunks(buffer: &mut Vec<u8>, out: &mut Vec<u8>) -> bool {
    let mut at = 0;
    let ended = loop {
        let Some(line) = memmem::find(&buffer[at..], b"\r\n") else { break false };
        let size = std::str::from_utf8(&buffer[at..at + line]).ok();
        let Some(size) = size.and_then(|size| usize::from_str_radix(size.trim(), 16).ok()) else {
            break true;
        };
        let start = at + line + 2;
        if buffer.len() < start + size + 2 {
            break false;
        }
        out.extend_from_slice(&buffer[start..start + size]);
        at = start + size + 2;
        if size == 0 {
            break true;
        }
    };
    buffer.drain(..at);
    ended
}
