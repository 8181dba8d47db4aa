//! Reads server-sent events from bytes that come in pieces. Source: the WHATWG HTML standard, "Server-sent
//! events".
//!
//! Of an event over the limit no more is kept than what message it was.

use crate::oversized::{self, Oversized, Scan};

/// One event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Event {
    /// Empty: the default, which is `message`.
    pub(super) name: String,
    pub(super) data: String,
    /// Its data was over the limit, and thrown away.
    pub(super) oversized: Option<Oversized>,
}

/// What has come of the stream.
#[derive(Debug)]
pub(super) struct Events {
    limit: usize,
    line: Vec<u8>,
    /// The last byte was CR; an LF behind it belongs to it.
    after_cr: bool,
    begun: bool,
    event: Event,
    has_data: bool,
    /// The event's data are over the limit.
    long: Option<Box<Scan>>,
    /// The line that is being read: what of it is over the limit.
    long_line: LongLine,
    /// The id that the stream named last.
    pub(super) last_id: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LongLine {
    No,
    /// Data of an event that is over the limit.
    Data,
    /// A field of no use, or a comment.
    Other,
}

/// An event does not end.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Endless;

impl Events {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            limit,
            line: Vec::new(),
            after_cr: false,
            begun: false,
            event: Event::default(),
            has_data: false,
            long: None,
            long_line: LongLine::No,
            last_id: None,
        }
    }

    /// Takes a piece; `each` gets the events that it completes.
    pub(super) fn push(&mut self, piece: &[u8], mut each: impl FnMut(Event)) -> Result<(), Endless> {
        let mut rest = piece;
        while let Some(&byte) = rest.first() {
            let after_cr = std::mem::replace(&mut self.after_cr, byte == b'\r');
            match byte {
                b'\n' if after_cr => {}
                b'\n' | b'\r' => {
                    if let Some(event) = self.end_line() {
                        each(event);
                    }
                }
                _ => {
                    let end = memchr::memchr2(b'\n', b'\r', rest).unwrap_or(rest.len());
                    self.take(&rest[..end])?;
                    rest = &rest[end..];
                    continue;
                }
            }
            rest = &rest[1..];
        }
        Ok(())
    }

    /// A part of a line.
    fn take(&mut self, part: &[u8]) -> Result<(), Endless> {
        if self.long_line == LongLine::No {
            let room = self.limit.saturating_sub(self.line.len() + self.event.data.len());
            if part.len() <= room {
                self.line.extend_from_slice(part);
                return Ok(());
            }
            self.line.extend_from_slice(&part[..room]);
            self.overflow();
            return self.take(&part[room..]);
        }
        if self.long_line == LongLine::Data
            && let Some(long) = &mut self.long
        {
            long.push(part);
            if long.bytes() > oversized::endless(self.limit) {
                return Err(Endless);
            }
        }
        Ok(())
    }

    /// What has come of the line, and the event's data with it, is more than can be kept.
    fn overflow(&mut self) {
        let line = std::mem::take(&mut self.line);
        let colon = memchr::memchr(b':', &line);
        // With a limit of a few bytes, or after a mark of the byte order, it may be too early to tell.
        self.long_line = match colon {
            Some(at) if &line[..at] == b"data" => {
                let value = &line[at + 1..];
                self.discard(value.strip_prefix(b" ").unwrap_or(value));
                LongLine::Data
            }
            _ => LongLine::Other,
        };
    }

    /// Data of an event that is over the limit.
    fn discard(&mut self, value: &[u8]) {
        let data = std::mem::take(&mut self.event.data);
        let long = self.long.get_or_insert_with(|| Box::new(Scan::new()));
        long.push(data.as_bytes());
        if std::mem::replace(&mut self.has_data, true) {
            long.push(b"\n");
        }
        long.push(value);
    }

    fn end_line(&mut self) -> Option<Event> {
        if std::mem::replace(&mut self.long_line, LongLine::No) != LongLine::No {
            self.begun = true;
            return None;
        }
        let line = String::from_utf8_lossy(&self.line).into_owned();
        self.line.clear();
        let line = if std::mem::replace(&mut self.begun, true) {
            line.as_str()
        } else {
            line.strip_prefix('\u{feff}').unwrap_or(&line)
        };
        if line.is_empty() {
            let mut event = std::mem::take(&mut self.event);
            event.oversized = self.long.take().map(|long| long.finish());
            return std::mem::take(&mut self.has_data).then_some(event);
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => self.event.name = value.to_owned(),
            "data" if self.long.is_some() => self.discard(value.as_bytes()),
            "data" => {
                if std::mem::replace(&mut self.has_data, true) {
                    self.event.data.push('\n');
                }
                self.event.data.push_str(value);
            }
            "id" if !value.contains('\0') => self.last_id = Some(value.to_owned()),
            _ => {}
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use mcp_sse::{MessageKind, RequestId};

    use super::*;

    fn read(stream: &str, step: usize) -> (Vec<(String, String)>, Option<String>) {
        let mut events = Events::new(100);
        let mut seen = Vec::new();
        for piece in stream.as_bytes().chunks(step) {
            events.push(piece, |event| seen.push((event.name, event.data))).unwrap();
        }
        (seen, events.last_id)
    }

    #[test]
    fn events_are_the_same_wherever_the_pieces_end_and_whatever_ends_the_lines() {
        let stream = "\u{feff}event: endpoint\ndata: /m?é=1\n\n: comment\n\nid: 7\ndata:a\ndata: b\nretry: 1\n\nevent: x\n\ndata\n\n";
        let expected = [("endpoint", "/m?é=1"), ("", "a\nb"), ("", "")];
        for ends in ["\n", "\r\n", "\r"] {
            let stream = stream.replace('\n', ends);
            for step in 1..=stream.len() {
                let (seen, id) = read(&stream, step);
                let seen: Vec<_> = seen.iter().map(|(name, data)| (name.as_str(), data.as_str())).collect();
                assert_eq!(seen, expected, "{ends:?} {step}");
                assert_eq!(id.as_deref(), Some("7"));
            }
        }
    }

    #[test]
    fn an_event_over_the_limit_costs_itself() {
        let text = "x".repeat(300);
        let stream = format!(
            "data: {{\"result\":\"{text}\",\ndata: \"id\":7}}\nid: 8\n\n: {text}\ndata: a\n\n{text}: b\n\ndata: {}\ndata: {text}\n\ndata: c\n\n",
            "y".repeat(80)
        );
        for step in 1..=stream.len() {
            let mut events = Events::new(100);
            let mut seen = Vec::new();
            for piece in stream.as_bytes().chunks(step) {
                events.push(piece, |event| seen.push(event)).unwrap();
                assert!(events.line.len() + events.event.data.len() <= 100);
            }
            assert_eq!(seen.len(), 4, "{seen:?}");
            let long: Vec<_> = seen.iter().map(|event| event.oversized.clone()).collect();
            let kind = MessageKind::Response { id: Some(RequestId::from(7)), is_error: false };
            let first = Oversized { bytes: 321, kinds: vec![kind] };
            assert_eq!(long, [Some(first), None, Some(Oversized { bytes: 381, kinds: vec![] }), None]);
            assert_eq!((seen[1].data.as_str(), seen[3].data.as_str()), ("a", "c"));
            assert_eq!(events.last_id.as_deref(), Some("8"));
        }
    }

    #[test]
    fn an_event_that_does_not_end_is_an_error_and_kept_in_bounded_memory() {
        let mut events = Events::new(100);
        let line = format!("data: {}\n", "x".repeat(1_000_000));
        let mut pushed = 0;
        while events.push(line.as_bytes(), |_| ()).is_ok() {
            assert!(events.line.capacity() + events.event.data.capacity() < 10_000);
            pushed += line.len() as u64;
            assert!(pushed < 2 * oversized::endless(100));
        }
    }
}
