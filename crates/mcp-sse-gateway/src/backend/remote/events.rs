//! Reads server-sent events from bytes that come in pieces. Source: the WHATWG HTML standard, "Server-sent
//! events".

/// The longest id that is kept: it goes back to the server when a stream is opened again.
const ID_BYTES: usize = 1024;
/// A line is not kept beyond this, unless it is data.
const LINE_BYTES: usize = 2 * ID_BYTES;

/// One event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Event {
    /// Empty: the default, which is `message`.
    pub(super) name: String,
    pub(super) data: String,
    /// Whether there is data, be it empty. Without, the event is none to its reader, but has an id or a time.
    pub(super) has_data: bool,
    /// The data was over the limit, and is not there.
    pub(super) too_long: bool,
    pub(super) id: Option<String>,
    /// How long to wait before the stream is opened again, in milliseconds.
    pub(super) retry: Option<u64>,
}

/// What has come of the stream.
#[derive(Debug)]
pub(super) struct Events {
    limit: usize,
    line: Vec<u8>,
    /// The rest of this line is not kept.
    skips: bool,
    /// The last byte was CR; an LF behind it belongs to it.
    after_cr: bool,
    begun: bool,
    event: Event,
    /// The id that the stream named last.
    pub(super) last_id: Option<String>,
    /// An id that was too long has been logged.
    warned: bool,
}

impl Events {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            limit,
            line: Vec::new(),
            skips: false,
            after_cr: false,
            begun: false,
            event: Event::default(),
            last_id: None,
            warned: false,
        }
    }

    /// Takes a piece; `each` gets the events that it completes.
    pub(super) fn push(&mut self, piece: &[u8], mut each: impl FnMut(Event)) {
        for &byte in piece {
            let after_cr = std::mem::replace(&mut self.after_cr, byte == b'\r');
            match byte {
                b'\n' if after_cr => {}
                b'\n' | b'\r' => {
                    if let Some(event) = self.end_line() {
                        each(event);
                    }
                }
                _ if self.skips => {}
                _ => {
                    self.line.push(byte);
                    if self.line.len() > LINE_BYTES || self.line.len() + self.event.data.len() > self.limit {
                        self.check_length();
                    }
                }
            }
        }
    }

    /// Gives up what of a line is more than is kept.
    fn check_length(&mut self) {
        let line = self.line.strip_prefix("\u{feff}".as_bytes()).unwrap_or(&self.line);
        let is_data = line.starts_with(b"data:");
        if is_data && line.len() - "data:".len() + self.event.data.len() > self.limit {
            self.event.too_long = true;
            self.event.data = String::new();
        } else if is_data || line.len() <= LINE_BYTES {
            return;
        } else if line.starts_with(b"id:") {
            self.ignore_id();
        }
        self.line = Vec::new();
        self.skips = true;
    }

    fn ignore_id(&mut self) {
        if !std::mem::replace(&mut self.warned, true) {
            tracing::warn!(
                "an event of the upstream server has an id of more than {ID_BYTES} bytes; such ids are ignored"
            );
        }
    }

    fn end_line(&mut self) -> Option<Event> {
        let begun = std::mem::replace(&mut self.begun, true);
        if std::mem::replace(&mut self.skips, false) {
            return None;
        }
        // A long line gives its memory back.
        let line = std::mem::take(&mut self.line);
        let text = String::from_utf8_lossy(&line);
        let text = if begun { &*text } else { text.strip_prefix('\u{feff}').unwrap_or(&text) };
        let event = if text.is_empty() {
            let event = std::mem::take(&mut self.event);
            let is_event = event.has_data || event.too_long || event.id.is_some() || event.retry.is_some();
            is_event.then_some(event)
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
        let event = &mut self.event;
        match field {
            "event" => value.clone_into(&mut event.name),
            "data" if event.too_long => {}
            "data" => {
                if std::mem::replace(&mut event.has_data, true) {
                    event.data.push('\n');
                }
                event.data.push_str(value);
            }
            "id" if value.len() > ID_BYTES => self.ignore_id(),
            "id" if !value.contains('\0') => {
                event.id = Some(value.to_owned());
                self.last_id = Some(value.to_owned());
            }
            "retry" if value.bytes().all(|byte| byte.is_ascii_digit()) => event.retry = value.parse().ok(),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(stream: &str, step: usize) -> (Vec<(String, String)>, Option<String>) {
        let mut events = Events::new(100);
        let mut seen = Vec::new();
        for piece in stream.as_bytes().chunks(step) {
            events.push(piece, |event| {
                if event.has_data {
                    seen.push((event.name, event.data));
                }
            });
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
        pieces.iter().for_each(|piece| events.push(piece.as_bytes(), |event| seen.push(event)));
        seen
    }

    #[test]
    fn an_event_over_the_limit_is_passed_over_in_little_memory() {
        for lines in ["data: 1234567890\n".repeat(11), format!("data:{}\n", "x".repeat(1_000_000))] {
            let mut events = Events::new(100);
            let seen = all(&mut events, &["event: e\nid: 7\n", &lines, "\ndata: next\n\n"]);
            assert!(seen[0].too_long && seen[0].data.is_empty() && seen[0].id.as_deref() == Some("7"));
            assert_eq!((&*seen[1].data, seen[1].too_long, seen.len()), ("next", false, 2));
            assert!(events.line.capacity() <= LINE_BYTES);
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
