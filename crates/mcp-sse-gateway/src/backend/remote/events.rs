//! Reads server-sent events from bytes that come in pieces. Source: the WHATWG HTML standard, "Server-sent
//! events".

/// One event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Event {
    /// Empty: the default, which is `message`.
    pub(super) name: String,
    pub(super) data: String,
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
    /// The id that the stream named last.
    pub(super) last_id: Option<String>,
}

/// An event is over the limit.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooLong;

impl Events {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            limit,
            line: Vec::new(),
            after_cr: false,
            begun: false,
            event: Event::default(),
            has_data: false,
            last_id: None,
        }
    }

    /// Takes a piece; `each` gets the events that it completes.
    pub(super) fn push(&mut self, piece: &[u8], mut each: impl FnMut(Event)) -> Result<(), TooLong> {
        for &byte in piece {
            let after_cr = std::mem::replace(&mut self.after_cr, byte == b'\r');
            match byte {
                b'\n' if after_cr => {}
                b'\n' | b'\r' => {
                    if let Some(event) = self.end_line() {
                        each(event);
                    }
                }
                _ => {
                    self.line.push(byte);
                    if self.line.len() + self.event.data.len() > self.limit {
                        return Err(TooLong);
                    }
                }
            }
        }
        Ok(())
    }

    fn end_line(&mut self) -> Option<Event> {
        let line = String::from_utf8_lossy(&self.line).into_owned();
        self.line.clear();
        let line = if std::mem::replace(&mut self.begun, true) {
            line.as_str()
        } else {
            line.strip_prefix('\u{feff}').unwrap_or(&line)
        };
        if line.is_empty() {
            let event = std::mem::take(&mut self.event);
            return std::mem::take(&mut self.has_data).then_some(event);
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => self.event.name = value.to_owned(),
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
    fn an_event_over_the_limit_is_an_error_before_it_is_there_whole() {
        let mut events = Events::new(100);
        assert_eq!(events.push(&[b'x'; 101], |_| ()), Err(TooLong));
        let mut events = Events::new(100);
        assert_eq!(events.push("data: 1234567890\n".repeat(11).as_bytes(), |_| ()), Err(TooLong));
    }
}
