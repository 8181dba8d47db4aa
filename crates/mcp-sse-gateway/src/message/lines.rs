//! Messages that come one a line: on a child's stdout, and on our own stdin. Bytes stay as they are; a line is
//! never put together from pieces of text, so a character that is cut between two reads is whole again.
//!
//! Of a line over the limit no more is kept than what it was: it costs itself, not what comes after it.

use std::collections::VecDeque;

use bytes::{Buf as _, Bytes, BytesMut};
use mcp_sse::Message;
use serde_json::value::RawValue;
use tokio::io::{AsyncRead, AsyncReadExt as _};

use super::{
    garbage::Garbage,
    oversized::{self, Oversized, Scan},
};
use crate::clock;

/// How much is read at once.
const CHUNK: usize = 16 * 1024;
/// How much of a line that is not a message is shown.
const SHOWN: usize = 200;

pub(crate) struct Lines<R> {
    reader: R,
    buffer: BytesMut,
    /// How much of the buffer holds no line end.
    searched: usize,
    limit: usize,
    /// The line that is being read is over the limit.
    long: Option<Box<Scan>>,
    /// The rest of a batch.
    batch: VecDeque<Message>,
    skipped: u64,
    garbage: Garbage,
    /// Who writes them.
    who: &'static str,
}

/// What was on a line.
#[derive(Debug)]
pub(crate) enum Read {
    Message(Message),
    /// More than the limit; it was thrown away.
    Oversized(Oversized),
}

/// Why there is no further message.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The child closed its stdout.
    Closed,
    /// A line does not end.
    Endless,
    /// A flood of lines that are not messages.
    Flood,
}

enum Line {
    Bytes(Bytes),
    Long(Box<Scan>),
}

impl<R: AsyncRead + Unpin> Lines<R> {
    pub(crate) fn new(who: &'static str, reader: R, limit: usize) -> Self {
        Self {
            reader,
            buffer: BytesMut::new(),
            searched: 0,
            limit,
            long: None,
            batch: VecDeque::new(),
            skipped: 0,
            garbage: Garbage::default(),
            who,
        }
    }

    /// Lines that were no message so far.
    pub(crate) fn skipped(&self) -> u64 {
        self.skipped
    }

    /// What is read from; what was read already is dropped.
    pub(crate) fn into_reader(self) -> R {
        self.reader
    }

    /// The next message. Cancel safe.
    pub(crate) async fn next(&mut self) -> Result<Read, End> {
        loop {
            if let Some(message) = self.batch.pop_front() {
                return Ok(Read::Message(message));
            }
            match self.line().await? {
                Line::Bytes(line) => {
                    let skipped = self.skipped;
                    if let Some(message) = self.parse(&line) {
                        self.garbage.message();
                        return Ok(Read::Message(message));
                    }
                    if self.skipped > skipped {
                        self.bear(line.len() as u64)?;
                    }
                }
                Line::Long(scan) => {
                    let oversized = scan.finish();
                    if oversized.kinds.is_empty() {
                        self.skipped += 1;
                        self.bear(oversized.bytes)?;
                    }
                    return Ok(Read::Oversized(oversized));
                }
            }
        }
    }

    fn bear(&mut self, bytes: u64) -> Result<(), End> {
        if self.garbage.is_flood(clock::now(), bytes) { Err(End::Flood) } else { Ok(()) }
    }

    async fn line(&mut self) -> Result<Line, End> {
        loop {
            let new = memchr::memchr(b'\n', &self.buffer[self.searched..]).map(|at| self.searched + at);
            let end = new.unwrap_or(self.buffer.len());
            if self.long.is_some() || end > self.limit {
                let long = self.long.get_or_insert_with(|| Box::new(Scan::new()));
                long.push(&self.buffer[..end]);
                if long.bytes() > oversized::endless(self.limit) {
                    return Err(End::Endless);
                }
                self.searched = 0;
                // The room for it goes too.
                let rest = BytesMut::from(self.buffer.get(end + 1..).unwrap_or_default());
                self.buffer = rest;
                if let Some(long) = self.long.take_if(|_| new.is_some()) {
                    return Ok(Line::Long(long));
                }
            } else if new.is_some() {
                self.searched = 0;
                // A short line is copied: it may be kept for long, and must not keep the whole buffer.
                let line = if end < CHUNK / 2 {
                    let line = Bytes::copy_from_slice(&self.buffer[..end]);
                    self.buffer.advance(end + 1);
                    line
                } else {
                    self.buffer.split_to(end + 1).freeze().slice(..end)
                };
                return Ok(Line::Bytes(line));
            } else {
                self.searched = end;
            }
            self.buffer.reserve(CHUNK);
            // A child whose stdout cannot be read has closed it, as far as we can know.
            if self.reader.read_buf(&mut self.buffer).await.unwrap_or(0) == 0 {
                // A last line without an end is a line.
                let rest = self.buffer.split().freeze();
                self.searched = 0;
                return match self.long.take() {
                    Some(long) => Ok(Line::Long(long)),
                    None if rest.is_empty() => Err(End::Closed),
                    None => Ok(Line::Bytes(rest)),
                };
            }
        }
    }

    fn parse(&mut self, line: &Bytes) -> Option<Message> {
        let text = line.trim_ascii();
        if text.is_empty() {
            return None;
        }
        let json = line.slice_ref(text);
        // Revision 2025-03-26 had batches, and JSON-RPC has; the transport has none.
        if json.starts_with(b"[")
            && let Ok(batch) = serde_json::from_slice::<Vec<&RawValue>>(&json)
        {
            let messages: Result<VecDeque<_>, _> =
                batch.iter().map(|raw| Message::parse(json.slice_ref(raw.get().as_bytes()))).collect();
            if let Ok(messages) = messages {
                self.batch = messages;
                return self.batch.pop_front();
            }
        }
        match Message::parse(json.clone()) {
            Ok(message) => Some(message),
            Err(error) => {
                self.skip(&json, &error);
                None
            }
        }
    }

    fn skip(&mut self, line: &[u8], error: &mcp_sse::ParseMessageError) {
        self.skipped += 1;
        tracing::warn!(
            line = %shorten(line),
            %error,
            "the {} wrote a line that is not a message; it was skipped", self.who
        );
    }
}

/// What a child wrote, fit for a log line.
fn shorten(line: &[u8]) -> String {
    let shown = String::from_utf8_lossy(&line[..line.len().min(SHOWN)]);
    let dots = if line.len() > SHOWN { "…" } else { "" };
    format!("{}{dots}", shown.escape_debug())
}

#[cfg(test)]
mod tests {
    use mcp_sse::{MessageKind, RequestId};

    use super::*;

    async fn all(input: &[u8], limit: usize) -> (Vec<String>, End, u64) {
        // One byte at a time: every place is a place where a read may end.
        let (mut writer, reader) = tokio::io::duplex(1);
        let input = input.to_vec();
        let writing = tokio::spawn(async move {
            let _ = tokio::io::AsyncWriteExt::write_all(&mut writer, &input).await;
        });
        let mut lines = Lines::new("server", reader, limit);
        let mut messages = Vec::new();
        let end = loop {
            match lines.next().await {
                Ok(Read::Message(message)) => messages.push(message.as_str().to_owned()),
                Ok(Read::Oversized(long)) => messages.push(format!("{} bytes, {:?}", long.bytes, long.kinds)),
                Err(end) => break end,
            }
        };
        let skipped = lines.skipped();
        drop(lines);
        writing.await.unwrap();
        (messages, end, skipped)
    }

    const NOTE: &str = r#"{"jsonrpc":"2.0","method":"é漢😀"}"#;

    #[tokio::test]
    async fn each_line_is_a_message_whatever_its_end_and_wherever_reads_end() {
        let input = format!("{NOTE}\n{NOTE}\r\n\n  {NOTE}\t\n{NOTE}");
        let (messages, end, skipped) = all(input.as_bytes(), 1000).await;
        assert_eq!(messages, [NOTE; 4]);
        assert_eq!((end, skipped), (End::Closed, 0));
    }

    #[tokio::test]
    async fn what_is_no_message_is_counted_and_skipped() {
        let input = format!("hello\n{{}}\n\u{7}\n{NOTE}\n[1]\n");
        let (messages, end, skipped) = all(input.as_bytes(), 1000).await;
        assert_eq!((messages.len(), end, skipped), (1, End::Closed, 4));
        let (_, end, skipped) = all(b"\xff\xfe\n", 1000).await;
        assert_eq!((end, skipped), (End::Closed, 1));
    }

    #[tokio::test]
    async fn a_batch_is_its_messages() {
        let (messages, _, skipped) = all(format!("[{NOTE}, {NOTE}]\n{NOTE}\n").as_bytes(), 1000).await;
        assert_eq!((messages, skipped), (vec![NOTE.to_owned(); 3], 0));
    }

    #[tokio::test]
    async fn a_line_over_the_limit_costs_itself() {
        let fits = format!("{NOTE}\n");
        assert_eq!(all(fits.as_bytes(), NOTE.len()).await.0, [NOTE]);
        let text = "x".repeat(60_000);
        let answer = format!(r#"{{"jsonrpc":"2.0","result":"{text}","id":7}}"#);
        let input = format!("{NOTE}\n{answer}\n{NOTE}\n{text}\n{NOTE}\n{answer}");
        let (messages, end, skipped) = all(input.as_bytes(), 500).await;
        let kind = MessageKind::Response { id: Some(RequestId::from(7)), is_error: false };
        let long = format!("{} bytes, [{kind:?}]", answer.len());
        assert_eq!(messages, [NOTE, &long, NOTE, "60000 bytes, []", NOTE, &long]);
        assert_eq!((end, skipped), (End::Closed, 1));
    }

    #[tokio::test]
    async fn a_line_without_an_end_is_read_in_bounded_memory_and_not_for_ever() {
        let mut lines = Lines::new("server", tokio::io::repeat(b'x'), 50);
        assert!(matches!(lines.next().await, Err(End::Endless)));
        assert!(lines.buffer.capacity() <= 4 * CHUNK);
    }
}
