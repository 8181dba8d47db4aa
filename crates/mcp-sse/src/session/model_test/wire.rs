//! A client of one session: it parses the bytes as they arrive and keeps the id of the last event.

use super::HEX;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Block {
    Endpoint { id: Option<u64> },
    Message { id: Option<u64>, data: String },
    Comment,
}

/// Parses whole blocks strictly: a wrong byte panics.
pub(super) fn parse(bytes: &[u8]) -> Vec<Block> {
    let text = std::str::from_utf8(bytes).unwrap();
    assert!(text.is_empty() || text.ends_with("\n\n"), "an event is written whole: {text:?}");
    text.split_terminator("\n\n").map(block).collect()
}

/// The length of the whole blocks.
pub(super) fn whole_blocks(bytes: &[u8]) -> usize {
    bytes.windows(2).rposition(|pair| pair == b"\n\n").map_or(0, |at| at + 2)
}

fn block(text: &str) -> Block {
    if text == ": keep-alive" {
        return Block::Comment;
    }
    let mut lines = text.split('\n').peekable();
    let name = lines.next().and_then(|line| line.strip_prefix("event: ")).expect("the event's name");
    let id = lines
        .next_if(|line| line.starts_with("id: "))
        .map(|line| line.strip_prefix(&format!("id: {HEX}:")).expect("the id").parse().unwrap());
    let retry = lines.next_if(|line| line.starts_with("retry: "));
    let data = lines.next().and_then(|line| line.strip_prefix("data: ")).expect("one line of data");
    assert_eq!(lines.next(), None, "nothing after the data: {text:?}");
    match name {
        "endpoint" => Block::Endpoint { id },
        "message" => {
            assert_eq!(retry, None);
            Block::Message { id, data: data.to_owned() }
        }
        _ => panic!("no such event: {text:?}"),
    }
}

#[derive(Debug)]
pub(super) struct Client {
    names: bool,
    /// The stream that it reads.
    pub(super) generation: u64,
    /// Bytes that are on their way to it.
    pub(super) wire: Vec<u8>,
    /// The beginning of a block.
    partial: Vec<u8>,
    /// The last event that it has; `None` before the first.
    pub(super) last: Option<u64>,
}

impl Client {
    /// `names`: the events of this session have ids.
    pub(super) fn new(names: bool) -> Self {
        Self { names, generation: 0, wire: Vec::new(), partial: Vec::new(), last: None }
    }

    pub(super) fn read(&mut self, bytes: usize) {
        let bytes = bytes.min(self.wire.len());
        self.partial.extend(self.wire.drain(..bytes));
        let whole = whole_blocks(&self.partial);
        for block in parse(&self.partial.drain(..whole).collect::<Vec<_>>()) {
            match block {
                Block::Endpoint { id } => {
                    assert_eq!(id.is_some(), self.names && self.generation == 0);
                    self.last = self.last.or(id);
                }
                Block::Message { id: Some(id), .. } => {
                    assert_eq!(Some(id), self.last.map(|last| last + 1), "no gap and nothing twice");
                    self.last = Some(id);
                }
                Block::Message { id: None, .. } => assert!(!self.names),
                Block::Comment => {}
            }
        }
    }

    /// The connection broke.
    pub(super) fn lose_the_wire(&mut self) {
        self.wire.clear();
        self.partial.clear();
    }

    /// A new stream, after the event `last`.
    pub(super) fn resumed(&mut self, generation: u64, last: u64) {
        self.lose_the_wire();
        self.generation = generation;
        self.last = Some(last);
    }

    pub(super) fn unread(&self) -> usize {
        self.wire.len() + self.partial.len()
    }
}
