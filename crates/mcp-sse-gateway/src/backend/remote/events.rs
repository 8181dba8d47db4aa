//! Parses server-sent events incrementally. Source: the WHATWG HTML standard, "Server-sent events".
//!
//! Of an oversized event, only the envelope of its message is kept.

use crate::message::oversized::{self, Oversized, Scan};

/// The longest id that is kept: it is sent back to the server when the stream is resumed.
const ID_BYTES: usize = 1024;
/// How much of a line is kept, unless it is data.
const LINE_BYTES: usize = 2 * ID_BYTES;
const DATA: &[u8] = b"data:";
const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

/// One event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Event {
    /// Empty stands for the default, `message`.
    pub(super) name: String,
    pub(super) data: String,
    /// Whether there is a `data` field, even an empty one. Without one, the event is not dispatched, but may have an id
    /// or a retry time.
    pub(super) has_data: bool,
    /// Its data was over the limit, and was discarded.
    pub(super) oversized: Option<Oversized>,
    pub(super) id: Option<String>,
    /// How long to wait before reconnecting, in milliseconds.
    pub(super) retry: Option<u64>,
}

/// The parser of one stream.
#[derive(Debug)]
pub(super) struct Events {
    /// Maximum size of an event's data, in bytes.
    limit: usize,
    line: Vec<u8>,
    after_cr: bool,
    begun: bool,
    event: Event,
    /// There if the event's data is over the limit.
    long: Option<Box<Scan>>,
    /// What happens to the rest of the current line.
    rest: Rest,
    /// The last event id of the stream.
    pub(super) last_id: Option<String>,
    /// Whether an id that was too long has been logged.
    warned: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rest {
    /// It is kept.
    Kept,
    /// Data of an oversized event: only scanned for the envelope.
    Scanned,
    /// An unused field or a comment: skipped.
    Skipped,
}

/// An event is so long that it is taken for one that never ends.
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
            long: None,
            rest: Rest::Kept,
            last_id: None,
            warned: false,
        }
    }

    /// Parses the next piece; `each` is called with every event that it completes.
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
                    self.check_end()?;
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

    /// Takes a part of a line.
    fn take(&mut self, mut part: &[u8]) -> Result<(), Endless> {
        while !part.is_empty() {
            match self.rest {
                Rest::Skipped => return Ok(()),
                Rest::Scanned => {
                    if let Some(long) = &mut self.long {
                        long.push(part);
                    }
                    return self.check_end();
                }
                Rest::Kept => match self.room() {
                    0 => self.overflow(),
                    room => {
                        let (now, later) = part.split_at(part.len().min(room));
                        self.line.extend_from_slice(now);
                        part = later;
                    }
                },
            }
        }
        Ok(())
    }

    fn check_end(&self) -> Result<(), Endless> {
        let is_endless = self.long.as_ref().is_some_and(|long| long.bytes() > oversized::endless(self.limit));
        if is_endless { Err(Endless) } else { Ok(()) }
    }

    /// The line, without a byte order mark at the start of the stream.
    fn line(&self) -> &[u8] {
        let mark = if self.begun { &[][..] } else { BYTE_ORDER_MARK };
        self.line.strip_prefix(mark).unwrap_or(&self.line)
    }

    /// How many more bytes of the line may be kept, as far as is known now.
    fn room(&self) -> usize {
        let line = self.line();
        if line.len() < DATA.len() {
            DATA.len() - line.len()
        } else if line.starts_with(DATA) {
            // One more for the space after the colon, which is not part of the data.
            (self.limit + DATA.len() + 1).saturating_sub(line.len() + self.event.data.len())
        } else {
            LINE_BYTES.saturating_sub(line.len())
        }
    }

    /// The line is longer than what is kept.
    fn overflow(&mut self) {
        let line = self.line().to_vec();
        self.line = Vec::new();
        if let Some(value) = line.strip_prefix(DATA) {
            self.discard(value.strip_prefix(b" ").unwrap_or(value));
            self.rest = Rest::Scanned;
        } else {
            if line.starts_with(b"id:") {
                self.ignore_id();
            }
            self.rest = Rest::Skipped;
        }
    }

    /// Scans a line of data of an oversized event, after any data that was kept so far.
    fn discard(&mut self, value: &[u8]) {
        let data = std::mem::take(&mut self.event.data);
        let long = self.long.get_or_insert_with(|| Box::new(Scan::new()));
        long.push(data.as_bytes());
        if std::mem::replace(&mut self.event.has_data, true) {
            long.push(b"\n");
        }
        long.push(value);
    }

    fn ignore_id(&mut self) {
        if !std::mem::replace(&mut self.warned, true) {
            tracing::warn!(
                "an event from the upstream server has an id of more than {ID_BYTES} bytes; such ids are ignored"
            );
        }
    }

    fn end_line(&mut self) -> Option<Event> {
        let begun = std::mem::replace(&mut self.begun, true);
        if std::mem::replace(&mut self.rest, Rest::Kept) != Rest::Kept {
            return None;
        }
        // Frees the memory of a long line.
        let line = std::mem::take(&mut self.line);
        let text = String::from_utf8_lossy(&line);
        let text = if begun { &*text } else { text.strip_prefix('\u{feff}').unwrap_or(&text) };
        let event = if text.is_empty() {
            let mut event = std::mem::take(&mut self.event);
            event.oversized = self.long.take().map(|long| long.finish());
            (event.has_data || event.id.is_some() || event.retry.is_some()).then_some(event)
        } else {
            let (field, value) = text.split_once(':').unwrap_or((text, ""));
            self.field(field, value.strip_prefix(' ').unwrap_or(value));
            None
        };
        if line.capacity() <= LINE_BYTES {
            self.line = line;
            self.line.clear();
        }
        event
    }

    fn field(&mut self, field: &str, value: &str) {
        match field {
            "event" => value.clone_into(&mut self.event.name),
            "data" if self.long.is_some() || self.event.data.len() + value.len() > self.limit => {
                self.discard(value.as_bytes());
            }
            "data" => {
                if std::mem::replace(&mut self.event.has_data, true) {
                    self.event.data.push('\n');
                }
                self.event.data.push_str(value);
            }
            "id" if value.len() > ID_BYTES => self.ignore_id(),
            "id" if !value.contains('\0') => {
                self.event.id = Some(value.to_owned());
                self.last_id = Some(value.to_owned());
            }
            "retry" if value.bytes().all(|byte| byte.is_ascii_digit()) => {
                self.event.retry = value.parse().ok();
            }
            _ => {}
        }
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
            let each = |event: Event| {
                if event.has_data {
                    seen.push((event.name, event.data));
                }
            };
            events.push(piece, each).unwrap();
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

    fn all(events: &mut Events, pieces: &[&str]) -> Vec<Event> {
        let mut seen = Vec::new();
        for piece in pieces {
            events.push(piece.as_bytes(), |event| seen.push(event)).unwrap();
        }
        seen
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
                assert!(events.event.data.len() <= 100 && events.line.len() <= LINE_BYTES);
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
    fn data_of_exactly_the_limit_pass_and_a_byte_more_does_not() {
        for (before, bytes) in [("data:", 100), ("data: ", 100), ("data:", 101), ("data: ", 101)] {
            let mut events = Events::new(100);
            let seen = all(&mut events, &[before, &"x".repeat(bytes), "\n\n"]);
            assert_eq!(seen[0].oversized.is_some(), bytes > 100, "{before:?} {bytes}");
        }
    }

    #[test]
    fn an_event_that_does_not_end_is_an_error_and_kept_in_bounded_memory() {
        for line in [format!("data: {}\n", "x".repeat(1_000_000)), "data: x\n".repeat(100_000)] {
            let mut events = Events::new(100);
            let mut pushed = 0;
            while events.push(line.as_bytes(), |_| ()).is_ok() {
                assert!(events.line.capacity() + events.event.data.capacity() < 10_000);
                pushed += line.len() as u64;
                assert!(pushed < 8 * oversized::endless(100));
            }
        }
    }

    #[test]
    fn lines_that_are_no_data_are_bounded_and_a_long_id_is_none() {
        let mut events = Events::new(100_000);
        let long = "x".repeat(1_000_000);
        let seen = all(
            &mut events,
            &["id: 7\ndata: a\n\n", "id: ", &long, "\nevent: ", &long, "\n:", &long, "\ndata: b\n\n"],
        );
        let expected = Event { data: "b".into(), has_data: true, ..Event::default() };
        assert_eq!(seen[1..], [expected]);
        assert_eq!(events.last_id.as_deref(), Some("7"));
        assert!(events.line.capacity() <= 2 * LINE_BYTES);
        let seen = all(&mut events, &["id: ", &long[..ID_BYTES + 1], "\ndata\n\nretry: 10\n\nretry: -1\n\n"]);
        assert_eq!((seen.len(), &seen[0].id, seen[1].retry), (2, &None, Some(10)));
    }
}
