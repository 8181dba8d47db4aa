//! Messages that are too long to be kept. Their bytes are discarded as they arrive; only the envelope (kind, id) is
//! remembered, wherever its members are in the message, so that a pending request can be answered.
//!
//! Invariant: a [`Scan`] keeps a bounded number of bytes, whatever it is given.

use mcp_sse::{Message, MessageKind};

/// A key that is longer, including escapes, is not one of the envelope's.
const KEY_BYTES: usize = 64;
/// More than the maximum length of an id.
const VALUE_BYTES: usize = 1100;
/// How many messages of a batch are answered.
const BATCH_MESSAGES: usize = 64;
/// A message that is longer than this many times the limit is taken for one that never ends.
const ENDLESS_TIMES: u64 = 16;
/// A message of up to this length never is.
const ENDLESS_BYTES: u64 = 64 * 1024 * 1024;
/// JSON-RPC's "internal error".
pub(crate) const INTERNAL_ERROR: i32 = -32603;

/// Reads the top-level members of a JSON text that comes in pieces.
#[derive(Clone, Debug)]
pub(crate) struct Scan {
    bytes: u64,
    /// The nesting depth of the objects whose members are read: 1, or 2 in a batch; 0 before the first byte.
    level: u64,
    depth: u64,
    string: InString,
    expect: Expect,
    /// The bytes of the current key or value, and whether there were too many.
    taken: Vec<u8>,
    overflow: bool,
    key: Key,
    envelope: Envelope,
    found: Vec<MessageKind>,
    /// Whether it cannot be a message.
    broken: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum InString {
    No,
    Yes,
    Escaped,
}

/// What may come next in an object whose members are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expect {
    Key,
    Colon,
    Value,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Key {
    Id,
    Method,
    Result,
    Error,
    Other,
}

/// The members found of one message, as JSON text.
#[derive(Clone, Debug, Default)]
struct Envelope {
    id: Option<Vec<u8>>,
    method: Option<Vec<u8>>,
    result: bool,
    error: bool,
    /// Whether a member is repeated or too long.
    broken: bool,
}

/// What is known of a discarded message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Oversized {
    pub(crate) bytes: u64,
    /// Empty if it was not a message; several for a batch.
    pub(crate) kinds: Vec<MessageKind>,
}

/// What is sent in place of discarded messages.
#[derive(Debug, Default)]
pub(crate) struct Instead {
    /// For the receiver of the messages.
    pub(crate) forward: Vec<Message>,
    /// For their sender.
    pub(crate) back: Vec<Message>,
}

/// The length beyond which a message is taken for one that never ends.
pub(crate) fn endless(limit: usize) -> u64 {
    u64::try_from(limit).unwrap_or(u64::MAX).saturating_mul(ENDLESS_TIMES).max(ENDLESS_BYTES)
}

impl Scan {
    pub(crate) fn new() -> Self {
        Self {
            bytes: 0,
            level: 0,
            depth: 0,
            string: InString::No,
            expect: Expect::Key,
            taken: Vec::new(),
            overflow: false,
            key: Key::Other,
            envelope: Envelope::default(),
            found: Vec::new(),
            broken: false,
        }
    }

    /// Bytes so far.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(crate) fn push(&mut self, piece: &[u8]) {
        self.bytes = self.bytes.saturating_add(piece.len() as u64);
        let mut rest = piece;
        while let Some((&byte, after)) = rest.split_first() {
            if self.broken {
                return;
            }
            // Fast path: most of a long message is strings that are not kept.
            if self.string == InString::Yes && !self.takes() {
                let Some(at) = memchr::memchr2(b'"', b'\\', rest) else { return };
                self.string = if rest[at] == b'"' { InString::No } else { InString::Escaped };
                rest = &rest[at + 1..];
                continue;
            }
            rest = after;
            match self.string {
                InString::Escaped => {
                    self.take(byte);
                    self.string = InString::Yes;
                }
                InString::Yes => {
                    self.take(byte);
                    match byte {
                        b'\\' => self.string = InString::Escaped,
                        b'"' => {
                            self.string = InString::No;
                            if self.is_at_members() && self.expect == Expect::Key {
                                self.end_key();
                            }
                        }
                        _ => {}
                    }
                }
                InString::No => self.token(byte),
            }
        }
    }

    fn is_at_members(&self) -> bool {
        self.depth == self.level && self.level > 0
    }

    /// Whether the current position is in a key, or in the value of a member that is remembered.
    fn takes(&self) -> bool {
        self.is_at_members()
            && match self.expect {
                Expect::Key => true,
                Expect::Value => matches!(self.key, Key::Id | Key::Method),
                Expect::Colon => false,
            }
    }

    fn take(&mut self, byte: u8) {
        if !self.takes() {
            return;
        }
        let room = if self.expect == Expect::Key { KEY_BYTES } else { VALUE_BYTES };
        if self.taken.len() < room {
            self.taken.push(byte);
        } else {
            self.overflow = true;
        }
    }

    fn token(&mut self, byte: u8) {
        match byte {
            b' ' | b'\t' | b'\n' | b'\r' => self.take(byte),
            b'{' | b'[' if self.level == 0 => {
                (self.level, self.depth) = (if byte == b'{' { 1 } else { 2 }, 1);
            }
            _ if self.depth == 0 => self.broken = true,
            b'{' | b'[' => {
                // An id or a method cannot be an object or an array.
                self.overflow |= self.takes();
                self.depth = self.depth.saturating_add(1);
                if self.depth == self.level {
                    self.broken |= byte == b'[';
                    self.begin();
                }
            }
            b'}' | b']' => {
                if self.is_at_members() {
                    self.end_value();
                    self.end_message();
                }
                self.depth -= 1;
            }
            b'"' => {
                if self.is_at_members() && self.expect == Expect::Key {
                    self.taken.clear();
                    self.overflow = false;
                }
                self.take(byte);
                self.string = InString::Yes;
            }
            b':' if self.is_at_members() && self.expect == Expect::Colon => {
                self.expect = Expect::Value;
                self.taken.clear();
                self.overflow = false;
            }
            b',' if self.is_at_members() => {
                self.end_value();
                self.expect = Expect::Key;
            }
            _ => self.take(byte),
        }
    }

    fn begin(&mut self) {
        self.envelope = Envelope::default();
        self.expect = Expect::Key;
        self.key = Key::Other;
        self.taken.clear();
    }

    fn end_key(&mut self) {
        let key = serde_json::from_slice::<String>(&self.taken).ok().filter(|_| !self.overflow);
        self.key = match key.as_deref() {
            Some("id") => Key::Id,
            Some("method") => Key::Method,
            Some("result") => Key::Result,
            Some("error") => Key::Error,
            _ => Key::Other,
        };
        self.expect = Expect::Colon;
    }

    fn end_value(&mut self) {
        if self.expect != Expect::Value {
            return;
        }
        let envelope = &mut self.envelope;
        let twice = match self.key {
            Key::Id => envelope.id.replace(std::mem::take(&mut self.taken)).is_some(),
            Key::Method => envelope.method.replace(std::mem::take(&mut self.taken)).is_some(),
            Key::Result => std::mem::replace(&mut envelope.result, true),
            Key::Error => std::mem::replace(&mut envelope.error, true),
            Key::Other => false,
        };
        let too_long = self.overflow && self.key == Key::Id;
        if self.overflow && self.key == Key::Method {
            // All that matters is that there is one.
            envelope.method = Some(br#""?""#.to_vec());
        }
        envelope.broken |= twice || too_long;
        self.expect = Expect::Key;
        self.key = Key::Other;
        self.overflow = false;
    }

    fn end_message(&mut self) {
        let envelope = std::mem::take(&mut self.envelope);
        self.expect = Expect::Key;
        if self.found.len() < BATCH_MESSAGES
            && let Some(kind) = envelope.kind()
        {
            self.found.push(kind);
        }
    }

    /// The result, once the whole message has been pushed.
    pub(crate) fn finish(self) -> Oversized {
        let whole = !self.broken && self.depth == 0;
        Oversized { bytes: self.bytes, kinds: if whole { self.found } else { Vec::new() } }
    }
}

impl Envelope {
    /// Parses a short message with the same envelope, so that the rules are the same as for other messages.
    fn kind(self) -> Option<MessageKind> {
        if self.broken {
            return None;
        }
        let mut json = br#"{"jsonrpc":"2.0""#.to_vec();
        let mut member = |name: &str, value: &[u8]| {
            json.extend_from_slice(format!(",\"{name}\":").as_bytes());
            json.extend_from_slice(value);
        };
        if let Some(id) = &self.id {
            member("id", id);
        }
        if let Some(method) = &self.method {
            member("method", method);
        }
        if self.result {
            member("result", b"null");
        }
        if self.error {
            member("error", b"{}");
        }
        json.push(b'}');
        Message::parse(json).ok().map(|message| message.kind().clone())
    }
}

impl Oversized {
    /// Makes what is sent in place of the messages, and logs it. `who` is their sender.
    pub(crate) fn instead(self, who: &str, limit: usize) -> Instead {
        let Self { bytes, kinds } = self;
        let mut instead = Instead::default();
        let over = format!("of {bytes} bytes is over the limit of {limit}; raise --max-message-bytes");
        if kinds.is_empty() {
            tracing::warn!("what the {who} wrote {over} if it was a message; it was skipped");
        }
        for kind in kinds {
            match kind {
                MessageKind::Response { id: Some(id), .. } => {
                    tracing::warn!(
                        "an answer of the {who} {over} if it should pass; an error is sent instead"
                    );
                    let text = format!("the {who}'s answer {over} if it should pass");
                    instead.forward.push(Message::error(&id, INTERNAL_ERROR, &text));
                }
                MessageKind::Request { id, .. } => {
                    tracing::warn!("a request of the {who} {over} if it should pass; it was refused");
                    let text = format!("the request {over} if it should pass");
                    instead.back.push(Message::error(&id, INTERNAL_ERROR, &text));
                }
                MessageKind::Notification { .. } | MessageKind::Response { id: None, .. } => {
                    tracing::warn!("a notification of the {who} {over} if it should pass; it was dropped");
                }
            }
        }
        instead
    }
}

#[cfg(test)]
mod tests {
    use mcp_sse::RequestId;

    use super::*;

    fn kinds(json: &[u8], step: usize) -> Vec<MessageKind> {
        let mut scan = Scan::new();
        for piece in json.chunks(step) {
            scan.push(piece);
            assert!(scan.taken.len() <= VALUE_BYTES && scan.found.len() <= BATCH_MESSAGES);
        }
        assert_eq!(scan.bytes(), json.len() as u64);
        scan.finish().kinds
    }

    fn one(json: &str) -> Option<MessageKind> {
        let found = kinds(json.as_bytes(), json.len().max(1));
        for step in [1, 2, 3, 7] {
            assert_eq!(kinds(json.as_bytes(), step), found, "{json} in pieces of {step}");
        }
        assert!(found.len() < 2);
        found.into_iter().next()
    }

    #[test]
    fn the_envelope_is_found_wherever_it_stands() {
        let response =
            |id: &str| Some(MessageKind::Response { id: Some(RequestId::from(id)), is_error: false });
        let seven = Some(MessageKind::Response { id: Some(RequestId::from(7)), is_error: false });
        let big = format!(r#"{{"content":[{{"id":1,"text":"{}\\"}},"\"}}"]}}"#, "x".repeat(5000));
        assert_eq!(one(&format!(r#"{{"jsonrpc":"2.0","id":7,"result":{big}}}"#)), seven);
        assert_eq!(one(&format!(r#" {{ "jsonrpc" : "2.0" , "result" : {big} , "id" : 7 }} "#)), seven);
        assert_eq!(one(&format!(r#"{{"result":{big},"\u0069d":"a\"}}b"}}"#)), response("a\"}b"));
        assert_eq!(
            one(&format!(r#"{{"error":{big},"id":null}}"#)),
            Some(MessageKind::Response { id: None, is_error: true })
        );
        assert_eq!(
            one(&format!(r#"{{"params":{big},"method":"x","id":"y"}}"#)),
            Some(MessageKind::Request { id: RequestId::from("y"), method: "x".into() })
        );
        assert_eq!(
            one(&format!(r#"{{"params":{big},"method":"x"}}"#)),
            Some(MessageKind::Notification { method: "x".into() })
        );
        let long = format!(r#"{{"method":"{}","id":1}}"#, "x".repeat(5000));
        assert!(matches!(one(&long), Some(MessageKind::Request { .. })));
    }

    #[test]
    fn what_is_no_message_has_no_envelope() {
        let long_id = format!(r#"{{"result":1,"id":"{}"}}"#, "x".repeat(2000));
        for json in [
            "",
            "xxxx",
            r#""a string""#,
            "7",
            "]}",
            r#"{"result":1,"id":{"id":7}}"#,
            r#"{"result":1,"id":7,"id":8}"#,
            r#"{"result":1,"error":{},"id":7}"#,
            r#"{"result":1,"id":7"#,
            r#"{"result":1,"id":7}}"#,
            r#"{"result":1,"id":7}x"#,
            r#"{"result":1}"#,
            r#"{"id":7}"#,
            long_id.as_str(),
            "[[7]]",
            "{}",
        ] {
            assert_eq!(one(json), None, "{json}");
        }
    }

    #[test]
    fn a_batch_is_its_messages_as_many_as_are_kept() {
        let batch = r#"[{"id":1,"result":{"a":[{"id":9}]}}, {"method":"m"},7,{"result":[],"id":"b"}]"#;
        let found = kinds(batch.as_bytes(), 5);
        assert_eq!(found.len(), 3);
        assert_eq!(found[2], MessageKind::Response { id: Some(RequestId::from("b")), is_error: false });
        let many = format!("[{}]", vec![r#"{"method":"m"}"#; 1000].join(","));
        assert_eq!(kinds(many.as_bytes(), 100).len(), BATCH_MESSAGES);
    }

    /// A small generator of its own: the same numbers each time.
    struct Random(u64);

    impl Random {
        fn below(&mut self, bound: u64) -> u64 {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            self.0 % bound
        }

        fn of<'a>(&mut self, of: &[&'a str]) -> &'a str {
            of[self.below(of.len() as u64) as usize]
        }

        fn json(&mut self, depth: u64) -> String {
            const SCALARS: [&str; 10] = [
                "1",
                "-2.5e3",
                "\"\"",
                "\"a\\\"}{\"",
                "\"\\\\\"",
                "null",
                "true",
                "\"é漢\\u00e9\"",
                "{}",
                "[ ]",
            ];
            match self.below(if depth == 0 { 1 } else { 3 }) {
                0 => self.of(&SCALARS).to_owned(),
                1 => {
                    let items: Vec<_> = (0..self.below(4)).map(|_| self.json(depth - 1)).collect();
                    format!("[{}]", items.join(self.of(&[",", " ,\n", ", "])))
                }
                _ => {
                    let items: Vec<_> = (0..self.below(4))
                        .map(|_| {
                            format!(
                                "{}:{}",
                                self.of(&["\"id\"", "\"x\"", "\"method\""]),
                                self.json(depth - 1)
                            )
                        })
                        .collect();
                    format!("{{{}}}", items.join(","))
                }
            }
        }

        fn message(&mut self) -> String {
            let mut members = vec![r#""jsonrpc":"2.0""#.to_owned()];
            for _ in 0..self.below(5) {
                let key = self.of(&[
                    "id",
                    "method",
                    "result",
                    "error",
                    "other",
                    "\\u0069d",
                    "re\\u0073ult",
                    "i\\\\d",
                ]);
                let value = match (key, self.below(3)) {
                    ("error", 0) => "{}".to_owned(),
                    ("id" | "method", 0) => self.of(&["7", "\"a\"", "7.0", "\"\\n\""]).to_owned(),
                    _ => self.json(3),
                };
                let space = self.of(&["", " ", "\r\n"]);
                members.insert(
                    self.below(members.len() as u64 + 1) as usize,
                    format!("{space}\"{key}\"{space}:{space}{value}{space}"),
                );
            }
            format!("{{{}}}", members.join(","))
        }
    }

    #[test]
    fn random_messages_have_the_envelope_that_serde_finds() {
        let mut random = Random(0x9e37_79b9_7f4a_7c15);
        let (mut messages, mut others) = (0, 0);
        for _ in 0..50_000 {
            let json = random.message();
            let step = 1 + random.below(20) as usize;
            let found = kinds(json.as_bytes(), step).into_iter().next();
            match Message::parse(json.clone()) {
                Ok(message) => {
                    messages += 1;
                    assert_eq!(found.as_ref(), Some(message.kind()), "{json}");
                }
                // The contents of an error and of other members are not checked.
                Err(_) => others += 1,
            }
        }
        assert!(messages > 1000 && others > 1000, "{messages} {others}");
    }

    #[test]
    fn random_bytes_do_no_harm() {
        const BYTES: &[u8] = b"{}[]\":,\\ \n1ae\xffidresult";
        let mut random = Random(7);
        for _ in 0..50_000 {
            let bytes: Vec<u8> =
                (0..random.below(60)).map(|_| BYTES[random.below(BYTES.len() as u64) as usize]).collect();
            kinds(&bytes, 1 + random.below(10) as usize);
        }
    }
}
